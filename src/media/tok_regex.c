/* tok_regex.c - the regular expressions of tokenizer files, on PCRE2.
 *
 * The files are written for Oniguruma.  Where the two differ in what they match, the expression is
 * rewritten before it is compiled: \w, \s, \h, \b and scripts have Unicode's meaning, ^ and $ are
 * those of lines.  What can't be rewritten (classes in classes, {n,m}+) is refused, not guessed.
 *
 * Time is bounded: backtracking by TOK_MATCH_LIMIT, and because a search over a long text can be
 * slow without any backtracking, it goes through windows of start positions, with a look at the
 * clock between them that also says how long the next window may be. */
#include "base/num.h"
#include "media/tok_internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PATTERN_MAX 4096
#define WINDOW_MIN 256 /* start positions per call of the engine */
#define WINDOW_MS 20   /* a window that took less may be followed by one twice as long */
#define HEAP_KIB_MAX 65536
#define NS_PER_MS 1000000LL
#define LOOK_EVERY 64 /* matches between looks at the clock */

#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
/* Oniguruma counts six numbers of Latin-1 (superscripts, fractions) in \w, but not in [\w]. */
#define ALONE WORD "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"
#define BOUNDARY "(?:(?<=[" ALONE "])(?![" ALONE "])|(?<![" ALONE "])(?=[" ALONE "]))"
#define NO_BOUNDARY "(?:(?<=[" ALONE "])(?=[" ALONE "])|(?<![" ALONE "])(?![" ALONE "]))"

/* ---- rewriting -------------------------------------------------------------------------------- */

/* An escape, what it becomes, and what it becomes between [ and ] (NULL: can't be said there). */
static const struct {
    char letter;
    const char *plain, *in_class;
} escapes[] = {
    {'w', "[" ALONE "]", WORD},
    {'W', "[^" ALONE "]", NULL},
    {'s', "\\p{White_Space}", "\\p{White_Space}"},
    {'S', "\\P{White_Space}", "\\P{White_Space}"},
    {'h', "[0-9A-Fa-f]", "0-9A-Fa-f"},
    {'H', "[^0-9A-Fa-f]", NULL},
    {'b', BOUNDARY, "\\x08"},
    {'B', NO_BOUNDARY, NULL},
};

static bool compiles(const char *text)
{
    int code;
    PCRE2_SIZE at;
    pcre2_code *c =
        pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &at, NULL);
    pcre2_code_free(c);
    return c != NULL;
}

/* \p{Name}: long names of categories get their letter; a script is the script alone, without the
 * signs that are also used in it.  p: at the backslash; returns the bytes read, 0: as it is. */
static size_t rewrite_property(const char *p, struct buf *out)
{
    static const struct {
        const char *name, *category;
    } rows[] = {{"Letter", "L"}, {"Mark", "M"},   {"Number", "N"},   {"Punctuation", "P"},
                {"Punct", "P"},  {"Symbol", "S"}, {"Separator", "Z"}};
    const char *name = p + 3, *end = p[2] == '{' ? strchr(name, '}') : NULL;
    size_t n = end ? (size_t)(end - name) : 0;
    if (n < 3 || n > 40)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strlen(rows[i].name) == n && memcmp(rows[i].name, name, n) == 0) {
            buf_fmt(out, "\\%c{%s}", p[1], rows[i].category);
            return n + 4;
        }
    char script[64];
    struct buf b = BUF_INIT(sizeof(script));
    buf_fmt(&b, "\\%c{sc:%.*s}", p[1], (int)n, name);
    bool is_script = b.data && compiles(b.data);
    if (is_script)
        buf_add(out, b.data, b.size);
    buf_clear(&b);
    return is_script ? n + 4 : 0;
}

/* \uHHHH */
static size_t rewrite_unicode(const char *p, struct buf *out)
{
    if (strspn(p + 2, "0123456789abcdefABCDEF") < 4)
        return 0;
    buf_fmt(out, "\\x{%.4s}", p + 2);
    return 6;
}

/* One escape at p; returns the bytes read, 0 with e filled when it can't be said. */
static size_t rewrite_escape(const char *p, bool in_class, struct buf *out, struct err *e)
{
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(escapes); i++) {
        if (escapes[i].letter != p[1])
            continue;
        const char *text = in_class ? escapes[i].in_class : escapes[i].plain;
        if (!text) {
            err_set(e, ERR_UNSUPPORTED, "pattern: \\%c between [ and ] is not known", p[1]);
            return 0;
        }
        buf_str(out, text);
        return 2;
    }
    if (p[1] == 'p' || p[1] == 'P')
        n = rewrite_property(p, out);
    else if (p[1] == 'u')
        n = rewrite_unicode(p, out);
    if (n)
        return n;
    n = p[1] ? 2 : 1;
    buf_add(out, p, n);
    return n;
}

/* Where a class starts, the brackets and the ^ and ] that may follow are taken at once. */
static size_t class_head(const char *p)
{
    size_t n = 1;
    n += p[n] == '^';
    n += p[n] == ']';
    return n;
}

/* "[:alpha:]" in a class: what it is for Oniguruma; the bytes read, 0: none, or e filled. */
static size_t rewrite_posix(const char *p, struct buf *out, struct err *e)
{
    static const char *const names[][2] = {
        {"[:alpha:]", "\\p{Alphabetic}"}, {"[:alnum:]", "\\p{Alphabetic}\\p{Nd}"},
        {"[:upper:]", "\\p{Uppercase}"},  {"[:lower:]", "\\p{Lowercase}"},
        {"[:digit:]", "\\p{Nd}"},         {"[:space:]", "\\p{White_Space}"},
        {"[:punct:]", "\\p{P}\\p{S}"},    {"[:word:]", WORD},
        {"[:xdigit:]", "0-9A-Fa-f"},
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        size_t n = strlen(names[i][0]);
        if (strncmp(p, names[i][0], n) == 0) {
            buf_str(out, names[i][1]);
            return n;
        }
    }
    err_set(e, ERR_UNSUPPORTED, "pattern: a class in a class is not known");
    return 0;
}

/* "{1,3}": its bytes, or 0. */
static size_t repeat_size(const char *p)
{
    size_t n = strspn(p + 1, "0123456789,");
    return p[0] == '{' && n && p[1 + n] == '}' ? n + 2 : 0;
}

/* Between [ and ]: one thing at p; the bytes read, 0: e filled. */
static size_t rewrite_in_class(const char *p, struct buf *out, struct err *e)
{
    if (*p == '\\')
        return rewrite_escape(p, true, out, e);
    if (*p == '[')
        return rewrite_posix(p, out, e);
    if (p[0] == '&' && p[1] == '&') {
        err_set(e, ERR_UNSUPPORTED, "pattern: && in a class is not known");
        return 0;
    }
    buf_add(out, p, 1);
    return 1;
}

static size_t rewrite_outside(const char *p, bool *in_class, struct buf *out, struct err *e)
{
    size_t n = 1, repeat = repeat_size(p);
    if (*p == '\\')
        return rewrite_escape(p, false, out, e);
    if (repeat && p[repeat] == '+') {
        err_set(e, ERR_UNSUPPORTED, "pattern: '%.*s+' is not known", (int)repeat, p);
        return 0;
    }
    if (*p == '[') {
        *in_class = true;
        n = class_head(p);
    }
    buf_add(out, p, n);
    return n;
}

static bool rewrite(const char *p, struct buf *out, struct err *e)
{
    bool in_class = false;
    while (*p) {
        bool ends = in_class && *p == ']';
        size_t n = in_class ? rewrite_in_class(p, out, e) : rewrite_outside(p, &in_class, out, e);
        if (n == 0)
            return false;
        if (ends)
            in_class = false;
        p += n;
    }
    return true;
}

bool tok_compile(const char *pattern, bool literal, pcre2_code **ret, struct err *e)
{
    int code;
    PCRE2_SIZE at;
    struct buf text = BUF_INIT((size_t)64 * PATTERN_MAX);
    uint32_t options = PCRE2_UTF | PCRE2_USE_OFFSET_LIMIT |
                       (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE);
    if (strlen(pattern) > PATTERN_MAX)
        return err_set(e, ERR_TOO_LARGE, "pattern: more than %d bytes", PATTERN_MAX);
    if (literal)
        buf_str(&text, pattern);
    else if (!rewrite(pattern, &text, e)) {
        buf_clear(&text);
        return err_prefix(e, "'%.80s'", pattern);
    }
    if (!buf_ok(&text, "pattern", e)) {
        buf_clear(&text);
        return false;
    }
    *ret = pcre2_compile((PCRE2_SPTR)(text.data ? text.data : ""), text.size, options, &code, &at,
                         NULL);
    buf_clear(&text);
    if (*ret) {
        (void)pcre2_jit_compile(*ret, PCRE2_JIT_COMPLETE); /* not on all machines: then slower */
        return true;
    }
    PCRE2_UCHAR reason[120] = {0};
    (void)pcre2_get_error_message(code, reason, sizeof(reason));
    return err_set(e, ERR_UNSUPPORTED, "pattern '%.80s': %s", pattern, (const char *)reason);
}

bool tok_read_pattern(const json_t *o, const char *what, pcre2_code **ret, struct err *e)
{
    const json_t *pattern = json_object_get(o, "pattern");
    const char *plain = json_string_value(json_object_get(pattern, "String"));
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    if (!plain && !regex)
        return err_set(e, ERR_INVALID, "%s: 'pattern' should hold String or Regex", what);
    return tok_compile(plain ? plain : regex, plain != NULL, ret, e) || err_prefix(e, "%s", what);
}

/* ---- searching --------------------------------------------------------------------------------- */

/* Of this thread: a busy machine makes no text harder. */
static int64_t cpu_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000 * NS_PER_MS + t.tv_nsec;
}

bool tok_search_open(const pcre2_code *regex, struct tok_search *s, struct err *e)
{
    *s = (struct tok_search){.regex = regex,
                             .match = pcre2_match_data_create_from_pattern(regex, NULL),
                             .context = pcre2_match_context_create(NULL),
                             .deadline_ns = cpu_ns() + TOK_SEARCH_MS * NS_PER_MS};
    if (!s->match || !s->context) {
        tok_search_close(s);
        return err_set(e, ERR_MEMORY, "tokenizer: no memory");
    }
    (void)pcre2_set_match_limit(s->context, TOK_MATCH_LIMIT);
    (void)pcre2_set_heap_limit(s->context, HEAP_KIB_MAX);
    return true;
}

void tok_search_close(struct tok_search *s)
{
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->context);
    *s = (struct tok_search){0};
}

void tok_search_text(struct tok_search *s, const char *text, size_t size)
{
    s->text = text;
    s->size = size;
    s->from = 0;
    s->last_end = SIZE_MAX;
}

static int engine(struct tok_search *s, size_t from, size_t stop)
{
    PCRE2_SPTR text = (PCRE2_SPTR)s->text;
    (void)pcre2_set_offset_limit(s->context, stop);
    int r = pcre2_match(s->regex, text, s->size, from, PCRE2_NO_UTF_CHECK, s->match, s->context);
    if (r == PCRE2_ERROR_JIT_STACKLIMIT)
        r = pcre2_match(s->regex, text, s->size, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->match,
                        s->context);
    return r;
}

static bool too_hard(struct err *e)
{
    return err_set(e, ERR_INVALID, "text: too hard for the tokenizer's pattern (limit %d ms)",
                   TOK_SEARCH_MS);
}

/* One window from `from` on; *stop: where the next one begins.  1, 0: none in it, -1: e. */
static int find_in_window(struct tok_search *s, size_t from, size_t window, size_t *stop,
                          size_t *start, size_t *end, struct err *e)
{
    *stop = window < s->size - from ? from + window : s->size;
    while (*stop < s->size && ((unsigned char)s->text[*stop] & 0xC0) == 0x80)
        ++*stop;
    int r = engine(s, from, *stop);
    if (r == PCRE2_ERROR_NOMATCH)
        return 0;
    if (r < 0 || (++s->found % LOOK_EVERY == 0 && cpu_ns() > s->deadline_ns)) {
        (void)too_hard(e);
        return -1;
    }
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(s->match);
    *start = v[0];
    *end = v[1] > v[0] ? v[1] : v[0]; /* \K can put the start behind the end */
    return 1;
}

/* The first match that starts from s->from on: 1, 0: none, -1: e says why not. */
static int find(struct tok_search *s, size_t *start, size_t *end, struct err *e)
{
    size_t window = WINDOW_MIN, stop;
    int64_t before = 0; /* not looked yet */
    for (size_t from = s->from; from <= s->size; from = stop) {
        int r = find_in_window(s, from, window, &stop, start, end, e);
        if (r != 0 || stop == s->size)
            return r;
        int64_t now = cpu_ns();
        if (now > s->deadline_ns) {
            (void)too_hard(e);
            return -1;
        }
        window = now - before < WINDOW_MS * NS_PER_MS ? window * 2 : WINDOW_MIN;
        before = now;
    }
    return 0;
}

int tok_search_next(struct tok_search *s, size_t *start, size_t *end, struct err *e)
{
    for (;;) {
        int r = find(s, start, end, e);
        if (r <= 0)
            return r;
        if (*start != *end || *end != s->last_end)
            break;
        /* an empty match right behind the last one is none */
        int32_t ignored;
        s->from += s->from < s->size
                       ? (size_t)tok_char(s->text + s->from, s->size - s->from, &ignored)
                       : 1;
        if (s->from > s->size)
            return 0;
    }
    s->from = s->last_end = *end;
    return 1;
}
