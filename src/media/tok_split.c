/* tok_split.c - pre-tokenizers: where a text is cut.
 *
 * All of them are regular expressions with a behavior; ByteLevel then turns bytes into letters, and
 * Metaspace turns spaces into its sign before. */
#include "base/num.h"
#include "media/tok_internal.h"

#include <stdlib.h>
#include <string.h>

#define WHAT "pre-tokenizer"

/* The expression that GPT-2 was published with. */
#define GPT2_PATTERN                                                                               \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
/* What a word is for Whitespace: that of UTS 18, with joiners, unlike \w of a file's expressions. */
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}"
#define PUNCTUATION "[!-/:-@\\[-`{-~]|\\p{P}"

/* ---- reading ------------------------------------------------------------------------------------ */

static bool read_behavior(const json_t *o, enum tok_behavior *ret, struct err *e)
{
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *name = NULL;
    if (!json_opt_str(o, WHAT, "behavior", &name, e))
        return false;
    for (size_t i = 0; name && i < ARRAY_LEN(names); i++)
        if (strcmp(names[i], name) == 0) {
            *ret = (enum tok_behavior)i;
            return true;
        }
    return !name || err_set(e, ERR_UNSUPPORTED, WHAT ": behavior '%.40s' is not known", name);
}

static bool read_split(struct tok_split *s, const json_t *o, struct err *e)
{
    return read_behavior(o, &s->behavior, e) && json_opt_bool(o, WHAT, "invert", &s->invert, e) &&
           tok_read_pattern(o, WHAT, &s->regex, e);
}

static bool read_bytes(struct tok_split *s, const json_t *o, struct err *e)
{
    bool regex = true, prefix = true;
    s->kind = CUT_BYTES;
    if (!json_opt_bool(o, WHAT, "add_prefix_space", &prefix, e) ||
        !json_opt_bool(o, WHAT, "use_regex", &regex, e))
        return false;
    s->prefix = prefix ? PREFIX_ALWAYS : PREFIX_NEVER;
    return !regex || tok_compile(GPT2_PATTERN, false, &s->regex, e);
}

static bool read_prefix(const json_t *o, enum tok_prefix *ret, struct err *e)
{
    static const char *const names[] = {"never", "first", "always"};
    const char *name = NULL;
    bool older = true; /* what older files say instead */
    if (!json_opt_str(o, WHAT, "prepend_scheme", &name, e) ||
        !json_opt_bool(o, WHAT, "add_prefix_space", &older, e))
        return false;
    *ret = older ? PREFIX_ALWAYS : PREFIX_NEVER;
    for (size_t i = 0; name && i < ARRAY_LEN(names); i++)
        if (strcmp(names[i], name) == 0) {
            *ret = (enum tok_prefix)i;
            return true;
        }
    return !name || err_set(e, ERR_UNSUPPORTED, WHAT ": prepend_scheme '%.40s'", name);
}

static bool read_metaspace(struct tok_split *s, const json_t *o, struct err *e)
{
    bool cut = true;
    s->kind = CUT_METASPACE;
    s->behavior = SPLIT_NEXT;
    return tok_read_text(o, WHAT, "replacement", TOK_METASPACE, &s->space, e) &&
           read_prefix(o, &s->prefix, e) && json_opt_bool(o, WHAT, "split", &cut, e) &&
           (!cut || tok_compile(s->space, true, &s->regex, e));
}

static bool read_digits(struct tok_split *s, const json_t *o, struct err *e)
{
    bool each = false;
    if (!json_opt_bool(o, WHAT, "individual_digits", &each, e))
        return false;
    s->behavior = each ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
    return tok_compile("\\p{N}", false, &s->regex, e);
}

static bool read_delimiter(struct tok_split *s, const json_t *o, struct err *e)
{
    const char *delimiter;
    return json_need_str(o, WHAT, "delimiter", &delimiter, e) &&
           tok_compile(delimiter, true, &s->regex, e);
}

/* A type can be more than one step: its rows follow one another. */
static const struct split_row {
    const char *type, *pattern; /* pattern NULL: read() makes the expression */
    enum tok_behavior behavior;
    bool invert;
    bool (*read)(struct tok_split *s, const json_t *o, struct err *e); /* NULL: no settings */
} rows[] = {
    {"Whitespace", "[" WORD "]+|[^" WORD "\\s]+", SPLIT_REMOVED, true, NULL},
    {"WhitespaceSplit", "\\s+", SPLIT_REMOVED, false, NULL},
    {"BertPreTokenizer", "\\s+", SPLIT_REMOVED, false, NULL},
    {"BertPreTokenizer", PUNCTUATION, SPLIT_ISOLATED, false, NULL},
    {"Punctuation", PUNCTUATION, SPLIT_ISOLATED, false, NULL},
    {"Digits", NULL, SPLIT_ISOLATED, false, read_digits},
    {"CharDelimiterSplit", NULL, SPLIT_REMOVED, false, read_delimiter},
    {"Split", NULL, SPLIT_ISOLATED, false, read_split},
    {"ByteLevel", NULL, SPLIT_ISOLATED, false, read_bytes},
    {"Metaspace", NULL, SPLIT_NEXT, false, read_metaspace},
};

static bool add_row(struct tokenizer *t, const struct split_row *row, const json_t *o,
                    struct err *e)
{
    if (t->split_count >= TOK_STEPS_MAX)
        return err_set(e, ERR_TOO_LARGE, WHAT ": more than %d steps", TOK_STEPS_MAX);
    struct tok_split *s = &t->splits[t->split_count++];
    s->behavior = row->behavior;
    s->invert = row->invert;
    if (row->read)
        return row->read(s, o, e);
    return (row->behavior != SPLIT_ISOLATED || read_behavior(o, &s->behavior, e)) &&
           tok_compile(row->pattern, false, &s->regex, e);
}

static bool read_list(struct tokenizer *t, const json_t *o, struct err *e)
{
    json_t *list;
    if (!json_need_array(o, WHAT, "pretokenizers", TOK_STEPS_MAX, &list, e))
        return false;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!tok_read_splits(t, json_array_get(list, i), e))
            return false;
    return true;
}

/* A Sequence may hold Sequences: the depth of the file bounds the recursion. */
bool tok_read_splits(struct tokenizer *t, const json_t *o, struct err *e)
{
    const char *type;
    bool known = false;
    if (!o || json_is_null(o))
        return true;
    if (!json_need_str(o, WHAT, "type", &type, e))
        return false;
    if (strcmp(type, "Sequence") == 0)
        return read_list(t, o, e);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (strcmp(rows[i].type, type) != 0)
            continue;
        known = true;
        if (!add_row(t, &rows[i], o, e))
            return false;
    }
    return known || err_set(e, ERR_UNSUPPORTED, WHAT " '%.60s' is not known", type);
}

void tok_split_clear(struct tok_split *s)
{
    pcre2_code_free(s->regex);
    free(s->space);
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
    size_t base; /* of the piece in the text */
    bool open;   /* a piece that may still grow (merging behaviors) */
    size_t open_at, open_size;
    bool open_delimiter;
    struct err *e;
};

static bool flush(struct cutter *c)
{
    bool open = c->open;
    c->open = false;
    return !open || add_span(c->out, c->open_at, c->open_size, c->e);
}

/* Does a stretch that is (not) a delimiter begin a new piece, given the open one? */
static bool begins(const struct cutter *c, bool delimiter)
{
    switch (c->split->behavior) {
    case SPLIT_CONTIGUOUS:
        return c->open_delimiter != delimiter;
    case SPLIT_PREVIOUS:
        return !delimiter || c->open_delimiter;
    case SPLIT_NEXT:
        return delimiter || !c->open_delimiter;
    case SPLIT_REMOVED:
    case SPLIT_ISOLATED:
        break;
    }
    return true;
}

/* One stretch, delimiter or not, in order.  A delimiter may be empty: the text is cut there. */
static bool stretch(struct cutter *c, size_t at, size_t size, bool delimiter)
{
    at += c->base;
    if (c->split->behavior == SPLIT_REMOVED)
        return delimiter || add_span(c->out, at, size, c->e);
    if (c->open && begins(c, delimiter) && !flush(c))
        return false;
    if (!c->open) {
        c->open = true;
        c->open_at = at;
        c->open_size = 0;
    }
    c->open_size += size;
    c->open_delimiter = delimiter;
    return true;
}

static bool cut_piece(const struct tok_split *s, struct tok_search *search, const char *text,
                      struct tok_span span, struct tok_pieces *out, struct err *e)
{
    struct cutter c = {.split = s, .out = out, .base = span.at, .e = e};
    size_t at = 0, start, end;
    int r;
    tok_search_text(search, text + span.at, span.size);
    while ((r = tok_search_next(search, &start, &end, e)) > 0) {
        if ((start > at && !stretch(&c, at, start - at, s->invert)) ||
            !stretch(&c, start, end - start, !s->invert))
            return false;
        at = end;
    }
    return r == 0 && (at == span.size || stretch(&c, at, span.size - at, s->invert)) && flush(&c);
}

static bool cut_all(const struct tok_split *s, struct tok_pieces *p, struct err *e)
{
    struct tok_search search;
    struct tok_pieces out = {0};
    if (!tok_search_open(s->regex, &search, e))
        return false;
    bool ok = true;
    size_t first = p->count ? p->spans[0].at : 0;
    for (size_t i = 0; ok && i < p->count; i++)
        ok = cut_piece(s, &search, p->text, p->spans[i], &out, e);
    tok_search_close(&search);
    free(p->spans);
    p->spans = out.spans;
    p->count = out.count;
    p->capacity = out.capacity;
    p->from_start = p->from_start && p->count && p->spans[0].at == first;
    return ok;
}

/* ---- what changes the text of pieces --------------------------------------------------------------- */

/* Writes one piece anew; false: out of room (b->failed). */
typedef void write_piece(const struct tok_split *s, const char *text, size_t size, bool first,
                         struct buf *b);

static void write_letters(const struct tok_split *s, const char *text, size_t size, bool first,
                          struct buf *b)
{
    (void)s;
    (void)first;
    char *to = buf_reserve(b, 2 * size);
    for (size_t i = 0; to && i < size; i++) {
        int n = tok_byte_letter((unsigned char)text[i], to);
        to += n;
        b->size += (size_t)n;
    }
}

static void write_prefixed(const struct tok_split *s, const char *text, size_t size, bool first,
                           struct buf *b)
{
    if (text[0] != ' ' && (s->prefix == PREFIX_ALWAYS || first))
        buf_str(b, " ");
    buf_add(b, text, size);
}

static void write_metaspace(const struct tok_split *s, const char *text, size_t size, bool first,
                            struct buf *b)
{
    size_t n = strlen(s->space);
    bool has = text[0] == ' ' || (size >= n && memcmp(text, s->space, n) == 0);
    if (!has && (s->prefix == PREFIX_ALWAYS || (s->prefix == PREFIX_FIRST && first)))
        buf_add(b, s->space, n);
    for (size_t i = 0; i < size; i++)
        buf_add(b, text[i] == ' ' ? s->space : text + i, text[i] == ' ' ? n : 1);
}

static bool write_all(const struct tok_split *s, write_piece *write, struct tok_pieces *p,
                      struct err *e)
{
    struct buf b = BUF_INIT(4 * TOK_NORMAL_MAX);
    for (size_t i = 0; i < p->count; i++) {
        size_t at = b.size;
        write(s, p->text + p->spans[i].at, p->spans[i].size, p->from_start && i == 0, &b);
        p->spans[i] = (struct tok_span){at, b.size - at};
    }
    if (!buf_ok(&b, "text", e) || !b.data) {
        bool ok = !b.failed;
        buf_clear(&b);
        return ok; /* nothing in, nothing out */
    }
    free(p->text);
    p->size = b.size;
    p->text = buf_take(&b);
    return true;
}

static bool cut_step(const struct tok_split *s, struct tok_pieces *p, struct err *e)
{
    if (s->kind == CUT_METASPACE && !write_all(s, write_metaspace, p, e))
        return false;
    if (s->kind == CUT_BYTES && s->prefix != PREFIX_NEVER && !write_all(s, write_prefixed, p, e))
        return false;
    if (s->regex && !cut_all(s, p, e))
        return false;
    return s->kind != CUT_BYTES || write_all(s, write_letters, p, e);
}

bool tok_cut(const struct tokenizer *t, const char *text, size_t size, bool at_start,
             struct tok_pieces *ret, struct err *e)
{
    struct tok_pieces p = {.text = malloc(size + 1), .size = size, .from_start = at_start};
    if (!p.text)
        return err_set(e, ERR_MEMORY, "tokenizer: no memory");
    memcpy(p.text, text, size);
    p.text[size] = 0;
    bool ok = add_span(&p, 0, size, e);
    for (int i = 0; ok && i < t->split_count; i++)
        ok = cut_step(&t->splits[i], &p, e);
    if (!ok) {
        tok_pieces_clear(&p);
        return false;
    }
    *ret = p;
    return true;
}
