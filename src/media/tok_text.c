/* tok_text.c - normalizers. */
#include "base/num.h"
#include "media/tok_internal.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define WHAT "normalizer"
#define MARKS_MAX 1000 /* on one character */

/* ---- reading ---------------------------------------------------------------------------------- */

static bool read_strip(struct tok_norm *n, const json_t *o, struct err *e)
{
    n->left = n->right = true;
    return json_opt_bool(o, WHAT, "strip_left", &n->left, e) &&
           json_opt_bool(o, WHAT, "strip_right", &n->right, e);
}

static bool read_replace(struct tok_norm *n, const json_t *o, struct err *e)
{
    return tok_read_text(o, WHAT, "content", NULL, &n->content, e) &&
           tok_read_pattern(o, WHAT, &n->regex, e);
}

static bool read_prepend(struct tok_norm *n, const json_t *o, struct err *e)
{
    return tok_read_text(o, WHAT, "prepend", NULL, &n->content, e);
}

static bool read_bert(struct tok_norm *n, const json_t *o, struct err *e)
{
    n->clean = n->chinese = n->lower = true;
    bool accents_given = json_is_boolean(json_object_get(o, "strip_accents"));
    if (!json_opt_bool(o, WHAT, "clean_text", &n->clean, e) ||
        !json_opt_bool(o, WHAT, "handle_chinese_chars", &n->chinese, e) ||
        !json_opt_bool(o, WHAT, "lowercase", &n->lower, e) ||
        !json_opt_bool(o, WHAT, "strip_accents", &n->accents, e))
        return false;
    if (!accents_given)
        n->accents = n->lower;
    return true;
}

static const struct norm_row {
    const char *type;
    enum tok_norm_kind kind;
    int form;
    bool (*read)(struct tok_norm *n, const json_t *o, struct err *e); /* NULL: no settings */
} rows[] = {
    {"Lowercase", NORM_LOWER, 0, NULL},
    {"NFC", NORM_FORM, UTF8PROC_COMPOSE, NULL},
    {"NFD", NORM_FORM, UTF8PROC_DECOMPOSE, NULL},
    {"NFKC", NORM_FORM, UTF8PROC_COMPOSE | UTF8PROC_COMPAT, NULL},
    {"NFKD", NORM_FORM, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, NULL},
    {"Strip", NORM_STRIP, 0, read_strip},
    {"StripAccents", NORM_ACCENTS, 0, NULL},
    {"Replace", NORM_REPLACE, 0, read_replace},
    {"Prepend", NORM_PREPEND, 0, read_prepend},
    {"BertNormalizer", NORM_BERT, 0, read_bert},
};

static bool read_list(struct tokenizer *t, const json_t *o, struct err *e)
{
    json_t *list;
    if (!json_need_array(o, WHAT, "normalizers", TOK_STEPS_MAX, &list, e))
        return false;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!tok_read_normalizer(t, json_array_get(list, i), e))
            return false;
    return true;
}

/* A Sequence may hold Sequences: the depth of the file bounds the recursion. */
bool tok_read_normalizer(struct tokenizer *t, const json_t *o, struct err *e)
{
    const char *type;
    if (!o || json_is_null(o))
        return true;
    if (!json_need_str(o, WHAT, "type", &type, e))
        return false;
    if (strcmp(type, "Sequence") == 0)
        return read_list(t, o, e);
    if (t->norm_count >= TOK_STEPS_MAX)
        return err_set(e, ERR_TOO_LARGE, "normalizer: more than %d steps", TOK_STEPS_MAX);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct tok_norm *n = &t->norms[t->norm_count];
        if (strcmp(rows[i].type, type) != 0)
            continue;
        t->norm_count++;
        n->kind = rows[i].kind;
        n->form = rows[i].form | (rows[i].form ? UTF8PROC_STABLE : 0);
        return !rows[i].read || rows[i].read(n, o, e);
    }
    return err_set(e, ERR_UNSUPPORTED, "normalizer '%.60s' is not known", type);
}

void tok_norm_clear(struct tok_norm *n)
{
    free(n->content);
    pcre2_code_free(n->regex);
}

/* ---- steps ------------------------------------------------------------------------------------- */

/* Full lower case of one character: the only ones that grow are the dotted capital I and final
 * sigma's plain form, as in the Unicode data that the tokenizers library uses. */
static void lower_char(struct buf *b, int32_t c)
{
    if (c == 0x130) {
        tok_char_add(b, 'i');
        tok_char_add(b, 0x307);
    } else {
        tok_char_add(b, utf8proc_tolower(c));
    }
}

static void lower(const char *text, size_t size, struct buf *b)
{
    for (size_t i = 0; i < size;) {
        int32_t c;
        i += (size_t)tok_char(text + i, size - i, &c);
        lower_char(b, c);
    }
}

/* all: every mark, else only those that take no room of their own (Mn). */
static void drop_marks(const char *text, size_t size, bool all, struct buf *b)
{
    for (size_t i = 0; i < size;) {
        int32_t c;
        i += (size_t)tok_char(text + i, size - i, &c);
        utf8proc_category_t k = utf8proc_category(c);
        bool mark = k == UTF8PROC_CATEGORY_MN ||
                    (all && (k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_ME));
        if (!mark)
            tok_char_add(b, c);
    }
}

/* The library sorts the marks of a character in quadratic time. */
static bool few_marks(const char *text, size_t size, struct err *e)
{
    int run = 0;
    for (size_t i = 0; i < size;) {
        int32_t c;
        i += (size_t)tok_char(text + i, size - i, &c);
        run = utf8proc_get_property(c)->combining_class ? run + 1 : 0;
        if (run > MARKS_MAX)
            return err_set(e, ERR_TOO_LARGE, "text: more than %d marks on one character",
                           MARKS_MAX);
    }
    return true;
}

static bool to_form(const char *text, size_t size, int form, struct buf *b, struct err *e)
{
    utf8proc_uint8_t *out = NULL;
    if (!few_marks(text, size, e))
        return false;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, &out,
                                      (utf8proc_option_t)form);
    if (n < 0)
        return err_set(e, ERR_INVALID, "text: %s", utf8proc_errmsg(n));
    buf_add(b, out, (size_t)n);
    free(out);
    return true;
}

static void strip(const char *text, size_t size, bool left, bool right, struct buf *b)
{
    size_t from = 0, to = 0;
    bool inside = false;
    for (size_t i = 0; i < size;) {
        int32_t c;
        size_t n = (size_t)tok_char(text + i, size - i, &c);
        if (!tok_is_space(c)) {
            if (!inside)
                from = i;
            inside = true;
            to = i + n;
        }
        i += n;
    }
    from = left ? (inside ? from : size) : 0;
    to = right ? (inside ? to : from) : size;
    buf_add(b, text + from, to > from ? to - from : 0);
}

static bool replace(const struct tok_norm *n, const char *text, size_t size, struct buf *b,
                    struct err *e)
{
    struct tok_search s;
    size_t at = 0, start, end;
    int r = 0;
    if (!tok_search_open(n->regex, &s, e))
        return false;
    tok_search_text(&s, text, size);
    while (!b->failed && (r = tok_search_next(&s, &start, &end, e)) > 0) {
        buf_add(b, text + at, start - at);
        buf_str(b, n->content);
        at = end;
    }
    buf_add(b, text + at, size - at);
    tok_search_close(&s);
    return r >= 0;
}

static bool is_chinese(int32_t c)
{
    static const int32_t ranges[][2] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
                                        {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF},
                                        {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
        if (c >= ranges[i][0] && c <= ranges[i][1])
            return true;
    return false;
}

static bool is_control(int32_t c)
{
    if (c == '\t' || c == '\n' || c == '\r')
        return false;
    utf8proc_category_t k = utf8proc_category(c);
    return k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF ||
           k == UTF8PROC_CATEGORY_CO; /* unassigned stay */
}

static void bert_clean(const struct tok_norm *n, const char *text, size_t size, struct buf *b)
{
    for (size_t i = 0; i < size;) {
        int32_t c;
        i += (size_t)tok_char(text + i, size - i, &c);
        if (n->clean && (c == 0 || c == 0xFFFD || is_control(c)))
            continue;
        if (n->clean && tok_is_space(c))
            c = ' ';
        bool chinese = n->chinese && is_chinese(c);
        if (chinese)
            tok_char_add(b, ' ');
        tok_char_add(b, c);
        if (chinese)
            tok_char_add(b, ' ');
    }
}

static bool bert(const struct tok_norm *n, const char *text, size_t size, struct buf *b,
                 struct err *e)
{
    struct buf clean = BUF_INIT(TOK_NORMAL_MAX), plain = BUF_INIT(TOK_NORMAL_MAX);
    bert_clean(n, text, size, &clean);
    bool ok = buf_ok(&clean, "text", e);
    if (ok && n->accents) {
        struct buf apart = BUF_INIT(TOK_NORMAL_MAX);
        ok = to_form(clean.data ? clean.data : "", clean.size, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE,
                     &apart, e);
        drop_marks(apart.data, apart.size, false, &plain);
        buf_clear(&apart);
    } else {
        buf_add(&plain, clean.data, clean.size);
    }
    if (n->lower)
        lower(plain.data, plain.size, b);
    else
        buf_add(b, plain.data, plain.size);
    buf_clear(&clean);
    buf_clear(&plain);
    return ok;
}

static bool apply(const struct tok_norm *n, const char *text, size_t size, struct buf *b,
                  struct err *e)
{
    switch (n->kind) {
    case NORM_LOWER:
        lower(text, size, b);
        return true;
    case NORM_FORM:
        return to_form(text, size, n->form, b, e);
    case NORM_STRIP:
        strip(text, size, n->left, n->right, b);
        return true;
    case NORM_ACCENTS:
        drop_marks(text, size, true, b);
        return true;
    case NORM_REPLACE:
        return replace(n, text, size, b, e);
    case NORM_PREPEND:
        if (size)
            buf_str(b, n->content);
        buf_add(b, text, size);
        return true;
    case NORM_BERT:
        return bert(n, text, size, b, e);
    }
    return true;
}

bool tok_normalize(const struct tokenizer *t, char **text, size_t *size, struct err *e)
{
    for (int i = 0; i < t->norm_count; i++) {
        struct buf b = BUF_INIT(TOK_NORMAL_MAX);
        bool ok = apply(&t->norms[i], *text, *size, &b, e) && buf_ok(&b, "text", e);
        size_t n = b.size;
        char *fresh = ok ? (b.data ? buf_take(&b) : calloc(1, 1)) : NULL;
        buf_clear(&b);
        if (!fresh)
            return ok ? err_set(e, ERR_MEMORY, "tokenizer: no memory") : false;
        free(*text);
        *text = fresh;
        *size = n;
    }
    return true;
}
