/* tok_split.c - pre-tokenizers: where a text is cut.
 *
 * All of them are regular expressions with a behavior; ByteLevel then turns bytes into letters.
 * The expressions run in the engine without backtracking beyond TOK_MATCH_LIMIT. */
#include "base/num.h"
#include "media/tok_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GPT2_PATTERN                                                                               \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
/* What the tokenizers library means by \w; that of PCRE2 lacks marks and joiners, and has all numbers. */
#define WORD "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}]"
#define NO_WORD_OR_SPACE "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}\\s]"
#define ASCII_PUNCTUATION "[!-/:-@\\[-`{-~]"

bool tok_compile(const char *pattern, bool literal, pcre2_code **ret, struct err *e)
{
    int code;
    PCRE2_SIZE at;
    uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP);
    if (strlen(pattern) > 4096)
        return err_set(e, ERR_TOO_LARGE, "pattern: more than 4096 bytes");
    *ret = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &code, &at, NULL);
    if (*ret) {
        (void)pcre2_jit_compile(*ret, PCRE2_JIT_COMPLETE);
        return true;
    }
    PCRE2_UCHAR reason[120] = {0};
    (void)pcre2_get_error_message(code, reason, sizeof(reason));
    return err_set(e, ERR_UNSUPPORTED, "pattern '%.80s': %s at %zu", pattern, (const char *)reason,
                   at);
}

/* ---- reading ------------------------------------------------------------------------------------ */

static bool behavior_of(const char *name, enum tok_behavior *ret, struct err *e)
{
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i], name) == 0) {
            *ret = (enum tok_behavior)i;
            return true;
        }
    return err_set(e, ERR_UNSUPPORTED, "pre-tokenizer: behavior '%.40s' is not known", name);
}

static bool read_split(struct tok_split *s, const json_t *o, struct err *e)
{
    const json_t *pattern = json_object_get(o, "pattern");
    const char *plain = json_string_value(json_object_get(pattern, "String"));
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *behavior;
    if (!plain && !regex)
        return err_set(e, ERR_INVALID,
                       "pre-tokenizer Split: 'pattern' should hold String or Regex");
    return json_need_str(o, "pre-tokenizer", "behavior", &behavior, e) &&
           behavior_of(behavior, &s->behavior, e) &&
           json_opt_bool(o, "pre-tokenizer", "invert", &s->invert, e) &&
           tok_compile(plain ? plain : regex, plain != NULL, &s->regex, e);
}

static bool read_bytes(struct tok_split *s, const json_t *o, struct err *e)
{
    bool regex = true;
    s->bytes = s->prefix_space = true;
    s->behavior = SPLIT_ISOLATED;
    return json_opt_bool(o, "pre-tokenizer", "add_prefix_space", &s->prefix_space, e) &&
           json_opt_bool(o, "pre-tokenizer", "use_regex", &regex, e) &&
           (!regex || tok_compile(GPT2_PATTERN, false, &s->regex, e));
}

struct split_row {
    const char *type, *pattern;
    enum tok_behavior behavior;
    bool invert;
};

static const struct split_row split_rows[] = {
    {"Whitespace", WORD "+|" NO_WORD_OR_SPACE "+", SPLIT_REMOVED, true},
    {"WhitespaceSplit", "\\s+", SPLIT_REMOVED, false},
    {"Punctuation", ASCII_PUNCTUATION "|\\p{P}", SPLIT_ISOLATED, false},
};

static struct tok_split *next_split(struct tokenizer *t, struct err *e)
{
    if (t->split_count < TOK_STEPS_MAX)
        return &t->splits[t->split_count++];
    err_set(e, ERR_TOO_LARGE, "pre-tokenizer: more than %d steps", TOK_STEPS_MAX);
    return NULL;
}

static bool add_row(struct tokenizer *t, const char *pattern, enum tok_behavior behavior,
                    bool invert, struct err *e)
{
    struct tok_split *s = next_split(t, e);
    if (!s)
        return false;
    s->behavior = behavior;
    s->invert = invert;
    return tok_compile(pattern, false, &s->regex, e);
}

static bool read_known(struct tokenizer *t, const char *type, const json_t *o, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(split_rows); i++) {
        const struct split_row *row = &split_rows[i];
        enum tok_behavior behavior = row->behavior;
        const char *name = json_string_value(json_object_get(o, "behavior"));
        if (strcmp(row->type, type) != 0)
            continue;
        if (name && !behavior_of(name, &behavior, e))
            return false;
        return add_row(t, row->pattern, behavior, row->invert, e);
    }
    if (strcmp(type, "BertPreTokenizer") == 0)
        return add_row(t, "\\s+", SPLIT_REMOVED, false, e) &&
               add_row(t, ASCII_PUNCTUATION "|\\p{P}", SPLIT_ISOLATED, false, e);
    if (strcmp(type, "Digits") == 0) {
        bool individual = false;
        return json_opt_bool(o, "pre-tokenizer", "individual_digits", &individual, e) &&
               add_row(t, "\\p{N}", individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS, false, e);
    }
    return err_set(e, ERR_UNSUPPORTED, "pre-tokenizer '%.60s' is not known", type);
}

bool tok_read_splits(struct tokenizer *t, const json_t *o, struct err *e)
{
    const char *type;
    json_t *list;
    if (!o || json_is_null(o))
        return true;
    if (!json_need_str(o, "pre-tokenizer", "type", &type, e))
        return false;
    if (strcmp(type, "Sequence") == 0) {
        if (!json_need_array(o, "pre-tokenizer", "pretokenizers", TOK_STEPS_MAX, &list, e))
            return false;
        for (size_t i = 0; i < json_array_size(list); i++) {
            const char *inner = json_string_value(json_object_get(json_array_get(list, i), "type"));
            if (inner && strcmp(inner, "Sequence") == 0)
                return err_set(e, ERR_UNSUPPORTED, "pre-tokenizer: a Sequence in a Sequence");
            if (!tok_read_splits(t, json_array_get(list, i), e))
                return false;
        }
        return true;
    }
    bool split = strcmp(type, "Split") == 0;
    if (!split && strcmp(type, "ByteLevel") != 0)
        return read_known(t, type, o, e);
    struct tok_split *s = next_split(t, e);
    return s && (split ? read_split(s, o, e) : read_bytes(s, o, e));
}

/* ---- bytes as letters --------------------------------------------------------------------------- */

/* Bytes that are printable keep their letter; the others take those from 256 on, in order. */
static bool is_plain(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) ||
           (byte >= 0xAE && byte <= 0xFF);
}

static int letter_of(int byte)
{
    if (is_plain(byte))
        return byte;
    int n = 0;
    for (int i = 0; i < byte; i++)
        n += !is_plain(i);
    return 256 + n;
}

int tok_byte_letter(unsigned char byte, char *to)
{
    int c = letter_of(byte);
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    to[0] = (char)(0xC0 | c >> 6);
    to[1] = (char)(0x80 | (c & 63));
    return 2;
}

int tok_letter_byte(int32_t letter)
{
    if (letter >= 0 && letter < 256)
        return is_plain(letter) ? letter : -1;
    for (int b = 0, n = 256; b < 256 && letter < 512; b++)
        if (!is_plain(b) && n++ == letter)
            return b;
    return -1;
}

/* ---- cutting -------------------------------------------------------------------------------------- */

void tok_pieces_clear(struct tok_pieces *p)
{
    free(p->text);
    free(p->spans);
    *p = (struct tok_pieces){0};
}

static bool add_span(struct tok_pieces *p, size_t at, size_t size, struct err *e)
{
    if (size == 0)
        return true;
    if (p->count >= TOK_PIECES_MAX)
        return err_set(e, ERR_TOO_LARGE, "text: more than the limit of %u pieces", TOK_PIECES_MAX);
    if (p->count == p->capacity) {
        size_t capacity = p->capacity ? p->capacity * 2 : 64;
        void *more = realloc(p->spans, capacity * sizeof(*p->spans));
        if (!more)
            return err_set(e, ERR_MEMORY, "tokenizer: no memory");
        p->spans = more;
        p->capacity = capacity;
    }
    p->spans[p->count++] = (struct tok_span){at, size};
    return true;
}

/* State of cutting one piece: what comes out depends on the behavior. */
struct cutter {
    const struct tok_split *split;
    struct tok_pieces *out;
    size_t base;            /* of the piece in the text */
    size_t open, open_size; /* a piece that may still grow (merging behaviors) */
    bool open_delimiter;
    struct err *e;
};

static bool flush(struct cutter *c)
{
    size_t at = c->open, size = c->open_size;
    c->open_size = 0;
    return add_span(c->out, at, size, c->e);
}

/* One stretch, delimiter or not, in order. */
static bool stretch(struct cutter *c, size_t at, size_t size, bool delimiter)
{
    if (size == 0)
        return true;
    at += c->base;
    switch (c->split->behavior) {
    case SPLIT_REMOVED:
        return delimiter || add_span(c->out, at, size, c->e);
    case SPLIT_ISOLATED:
        return add_span(c->out, at, size, c->e);
    case SPLIT_CONTIGUOUS:
        if (c->open_size && c->open_delimiter != delimiter && !flush(c))
            return false;
        break;
    case SPLIT_PREVIOUS:
        if (c->open_size && (!delimiter || c->open_delimiter) && !flush(c))
            return false;
        break;
    case SPLIT_NEXT:
        if (c->open_size && (delimiter || !c->open_delimiter) && !flush(c))
            return false;
        break;
    }
    if (!c->open_size)
        c->open = at;
    c->open_size += size;
    c->open_delimiter = delimiter;
    return true;
}

struct engine {
    pcre2_match_data *match;
    pcre2_match_context *context;
};

static bool cut_piece(const struct tok_split *s, const struct engine *en, const char *text,
                      struct tok_span span, struct tok_pieces *out, struct err *e)
{
    struct cutter c = {.split = s, .out = out, .base = span.at, .e = e};
    const char *p = text + span.at;
    size_t at = 0, from = 0;
    int r = 0;
    while (from <= span.size && (r = pcre2_match(s->regex, (PCRE2_SPTR)p, span.size, from,
                                                 PCRE2_NO_UTF_CHECK, en->match, en->context)) > 0) {
        const PCRE2_SIZE *v = pcre2_get_ovector_pointer(en->match);
        if (v[1] <= v[0]) {
            int32_t ignored;
            from = v[1] < span.size ? v[1] + (size_t)tok_char(p + v[1], span.size - v[1], &ignored)
                                    : span.size + 1;
            continue;
        }
        if (!stretch(&c, at, v[0] - at, s->invert) || !stretch(&c, v[0], v[1] - v[0], !s->invert))
            return false;
        at = from = v[1];
    }
    if (r < 0 && r != PCRE2_ERROR_NOMATCH)
        return err_set(e, ERR_INVALID, "text: too hard for the pre-tokenizer's pattern");
    return stretch(&c, at, span.size - at, s->invert) && flush(&c);
}

static bool cut_all(const struct tok_split *s, struct tok_pieces *p, struct err *e)
{
    struct engine en = {pcre2_match_data_create_from_pattern(s->regex, NULL),
                        pcre2_match_context_create(NULL)};
    struct tok_pieces out = {0};
    bool ok = (en.match && en.context) || err_set(e, ERR_MEMORY, "tokenizer: no memory");
    if (ok)
        (void)pcre2_set_match_limit(en.context, TOK_MATCH_LIMIT);
    for (size_t i = 0; ok && i < p->count; i++)
        ok = cut_piece(s, &en, p->text, p->spans[i], &out, e);
    pcre2_match_data_free(en.match);
    pcre2_match_context_free(en.context);
    free(p->spans);
    p->spans = out.spans;
    p->count = out.count;
    p->capacity = out.capacity;
    return ok;
}

static bool to_letters(struct tok_pieces *p, struct err *e)
{
    char *text = malloc(p->size * 2 + 1);
    size_t n = 0;
    if (!text)
        return err_set(e, ERR_MEMORY, "tokenizer: no memory");
    for (size_t i = 0; i < p->count; i++) {
        size_t from = p->spans[i].at, size = p->spans[i].size;
        p->spans[i].at = n;
        for (size_t k = 0; k < size; k++)
            n += (size_t)tok_byte_letter((unsigned char)p->text[from + k], text + n);
        p->spans[i].size = n - p->spans[i].at;
    }
    free(p->text);
    p->text = text;
    p->size = n;
    return true;
}

/* ByteLevel with add_prefix_space: a space before every piece that does not begin with one. */
static bool prefix_space(struct tok_pieces *p, struct err *e)
{
    char *text = malloc(p->size + p->count + 1);
    size_t n = 0;
    if (!text)
        return err_set(e, ERR_MEMORY, "tokenizer: no memory");
    for (size_t i = 0; i < p->count; i++) {
        struct tok_span *s = &p->spans[i];
        size_t start = n;
        if (p->text[s->at] != ' ')
            text[n++] = ' ';
        memcpy(text + n, p->text + s->at, s->size);
        n += s->size;
        *s = (struct tok_span){start, n - start};
    }
    text[n] = 0;
    free(p->text);
    p->text = text;
    p->size = n;
    return true;
}

bool tok_cut(const struct tokenizer *t, const char *text, size_t size, struct tok_pieces *ret,
             struct err *e)
{
    struct tok_pieces p = {.text = malloc(size + 1), .size = size};
    if (!p.text)
        return err_set(e, ERR_MEMORY, "tokenizer: no memory");
    memcpy(p.text, text, size);
    p.text[size] = 0;
    bool ok = add_span(&p, 0, size, e);
    for (int i = 0; ok && i < t->split_count; i++) {
        const struct tok_split *s = &t->splits[i];
        ok = (!s->prefix_space || prefix_space(&p, e)) && (!s->regex || cut_all(s, &p, e)) &&
             (!s->bytes || to_letters(&p, e));
    }
    if (!ok) {
        tok_pieces_clear(&p);
        return false;
    }
    *ret = p;
    return true;
}
