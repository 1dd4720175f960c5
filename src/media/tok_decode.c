/* tok_decode.c - ids back to text. */
#include "base/num.h"
#include "media/tok_internal.h"

#include <stdlib.h>
#include <string.h>

#define WHAT "decoder"
#define TEXT_MAX ((size_t)16 << 20)
#define STRIP_MAX 1000

/* ---- reading --------------------------------------------------------------------------------------- */

static bool read_wordpiece(struct tok_decoder *d, const json_t *o, struct err *e)
{
    d->cleanup = true;
    return tok_read_text(o, WHAT, "prefix", "##", &d->a, e) &&
           json_opt_bool(o, WHAT, "cleanup", &d->cleanup, e);
}

static bool read_suffix(struct tok_decoder *d, const json_t *o, struct err *e)
{
    return tok_read_text(o, WHAT, "suffix", "</w>", &d->a, e);
}

static bool read_replace(struct tok_decoder *d, const json_t *o, struct err *e)
{
    const json_t *pattern = json_object_get(o, "pattern");
    if (!json_is_string(json_object_get(pattern, "String")))
        return err_set(e, ERR_UNSUPPORTED, "decoder Replace: only a String pattern is known");
    return tok_read_text(pattern, WHAT, "String", NULL, &d->a, e) &&
           tok_read_text(o, WHAT, "content", "", &d->b, e);
}

static bool read_strip(struct tok_decoder *d, const json_t *o, struct err *e)
{
    uint64_t start = 0, stop = 0;
    if (!tok_read_text(o, WHAT, "content", " ", &d->a, e) ||
        !json_opt_u64(o, WHAT, "start", STRIP_MAX, &start, e) ||
        !json_opt_u64(o, WHAT, "stop", STRIP_MAX, &stop, e))
        return false;
    d->start = (int)start;
    d->stop = (int)stop;
    return true;
}

static bool read_metaspace(struct tok_decoder *d, const json_t *o, struct err *e)
{
    const char *scheme = NULL;
    d->drop_first = true;
    if (!tok_read_text(o, WHAT, "replacement", TOK_METASPACE, &d->a, e) ||
        !json_opt_str(o, WHAT, "prepend_scheme", &scheme, e) ||
        !json_opt_bool(o, WHAT, "add_prefix_space", &d->drop_first, e))
        return false;
    if (scheme)
        d->drop_first = strcmp(scheme, "never") != 0;
    return true;
}

static const struct decoder_row {
    const char *type;
    enum tok_decoder_kind kind;
    bool (*read)(struct tok_decoder *d, const json_t *o, struct err *e); /* NULL: no settings */
} rows[] = {
    {"ByteLevel", DECODE_BYTES, NULL},          {"Fuse", DECODE_FUSE, NULL},
    {"ByteFallback", DECODE_FALLBACK, NULL},    {"WordPiece", DECODE_WORDPIECE, read_wordpiece},
    {"BPEDecoder", DECODE_SUFFIX, read_suffix}, {"Replace", DECODE_REPLACE, read_replace},
    {"Strip", DECODE_STRIP, read_strip},        {"Metaspace", DECODE_METASPACE, read_metaspace},
};

static bool read_list(struct tokenizer *t, const json_t *o, struct err *e)
{
    json_t *list;
    if (!json_need_array(o, WHAT, "decoders", TOK_STEPS_MAX, &list, e))
        return false;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!tok_read_decoder(t, json_array_get(list, i), e))
            return false;
    return true;
}

/* A Sequence may hold Sequences: the depth of the file bounds the recursion. */
bool tok_read_decoder(struct tokenizer *t, const json_t *o, struct err *e)
{
    const char *type;
    if (!o || json_is_null(o))
        return true;
    t->has_decoder = true;
    if (!json_need_str(o, WHAT, "type", &type, e))
        return false;
    if (strcmp(type, "Sequence") == 0)
        return read_list(t, o, e);
    if (t->decoder_count >= TOK_STEPS_MAX)
        return err_set(e, ERR_TOO_LARGE, WHAT ": more than %d steps", TOK_STEPS_MAX);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct tok_decoder *d = &t->decoders[t->decoder_count];
        if (strcmp(rows[i].type, type) != 0)
            continue;
        t->decoder_count++;
        d->kind = rows[i].kind;
        return !rows[i].read || rows[i].read(d, o, e);
    }
    return err_set(e, ERR_UNSUPPORTED, WHAT " '%.60s' is not known", type);
}

void tok_decoder_clear(struct tok_decoder *d)
{
    free(d->a);
    free(d->b);
}

/* ---- steps: each takes a list of texts to a list of texts ------------------------------------------- */

struct texts {
    char **list;
    size_t count;
};

static void texts_clear(struct texts *t)
{
    for (size_t i = 0; i < t->count; i++)
        free(t->list[i]);
    free(t->list);
    *t = (struct texts){0};
}

static void replace_all(struct buf *b, const char *text, const char *from, const char *to)
{
    size_t n = strlen(from);
    const char *at;
    while (n && (at = strstr(text, from))) {
        buf_add(b, text, (size_t)(at - text));
        buf_str(b, to);
        text = at + n;
    }
    buf_str(b, text);
}

/* English spacing, as the WordPiece decoder of the tokenizers library does it. */
static void clean_up(struct buf *b)
{
    static const char *const pairs[][2] = {{" .", "."},     {" ?", "?"},           {" !", "!"},
                                           {" ,", ","},     {" ' ", "'"},          {" n't", "n't"},
                                           {" 'm", "'m"},   {" do not", " don't"}, {" 's", "'s"},
                                           {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; b->data && !b->failed && i < ARRAY_LEN(pairs); i++) {
        struct buf next = BUF_INIT(TEXT_MAX);
        replace_all(&next, b->data, pairs[i][0], pairs[i][1]);
        buf_clear(b);
        *b = next;
    }
}

static void wordpiece_text(const struct tok_decoder *d, const char *text, bool first, struct buf *b)
{
    size_t n = strlen(d->a);
    if (!first && strncmp(text, d->a, n) == 0)
        text += n;
    else if (!first)
        buf_str(b, " ");
    buf_str(b, text);
    if (d->cleanup)
        clean_up(b);
}

static void strip_text(const struct tok_decoder *d, const char *text, struct buf *b)
{
    size_t n = strlen(text), c = strlen(d->a), from = 0;
    for (int i = 0; c && i < d->start && from + c <= n && strncmp(text + from, d->a, c) == 0; i++)
        from += c;
    for (int i = 0; c && i < d->stop && n >= from + c && strncmp(text + n - c, d->a, c) == 0; i++)
        n -= c;
    buf_add(b, text + from, n - from);
}

static void metaspace_text(const struct tok_decoder *d, const char *text, bool first, struct buf *b)
{
    replace_all(b, text, d->a, first && d->drop_first ? "" : " ");
}

/* The bytes that the letters stand for; a token with anything else in it stands for itself. */
static void add_bytes(struct buf *b, const char *text)
{
    size_t size = strlen(text), before = b->size;
    for (size_t i = 0; i < size;) {
        int32_t c;
        i += (size_t)tok_char(text + i, size - i, &c);
        int byte = tok_letter_byte(c);
        char one = (char)byte;
        if (byte < 0) {
            b->size = before;
            buf_add(b, text, size);
            return;
        }
        buf_add(b, &one, 1);
    }
}

/* "<0x41>" */
static int byte_of(const char *text)
{
    static const char digits[] = "0123456789ABCDEF0123456789abcdef";
    const char *high, *low;
    if (strlen(text) != 6 || strncmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    high = strchr(digits, text[3]);
    low = strchr(digits, text[4]);
    return high && low ? (int)((high - digits) % 16 * 16 + (low - digits) % 16) : -1;
}

/* A run of byte tokens is text as a whole, or one replacement character for each. */
static size_t fallback_run(char *const *list, size_t count, struct buf *b)
{
    size_t n = 0, where, at = b->size;
    for (; n < count && byte_of(list[n]) >= 0; n++) {
        char one = (char)byte_of(list[n]);
        buf_add(b, &one, 1);
    }
    if (b->failed || n == 0 || tok_utf8_ok(b->data + at, n, &where))
        return n;
    b->size = at;
    for (size_t i = 0; i < n; i++)
        buf_str(b, TOK_REPLACEMENT);
    return n;
}

/* The first text becomes what b holds, the others are dropped. */
static bool keep_one(struct texts *t, struct buf *b, struct err *e)
{
    bool ok = buf_ok(b, "text", e);
    char *text = ok && b->data ? buf_take(b) : calloc(1, 1);
    buf_clear(b);
    texts_clear(t);
    t->list = text && ok ? malloc(sizeof(*t->list)) : NULL;
    if (!t->list) {
        free(text);
        return ok ? err_set(e, ERR_MEMORY, "tokenizer: no memory") : false;
    }
    t->list[0] = text;
    t->count = 1;
    return true;
}

static bool fuse(struct texts *t, bool bytes, struct err *e)
{
    struct buf raw = BUF_INIT(TEXT_MAX), out = BUF_INIT(TEXT_MAX * 3);
    for (size_t i = 0; i < t->count; i++) {
        if (bytes)
            add_bytes(&raw, t->list[i]);
        else
            buf_str(&raw, t->list[i]);
    }
    if (!bytes || raw.failed)
        return keep_one(t, &raw, e);
    tok_add_valid(&out, raw.data ? raw.data : "", raw.size);
    buf_clear(&raw);
    return keep_one(t, &out, e);
}

/* Runs of byte tokens become one text each; the other texts stay. */
static bool fall_back(struct texts *t, struct err *e)
{
    size_t to = 0;
    for (size_t i = 0; i < t->count;) {
        struct buf b = BUF_INIT(TEXT_MAX);
        size_t n = fallback_run(t->list + i, t->count - i, &b);
        char *text = n ? buf_take(&b) : t->list[i];
        buf_clear(&b);
        for (size_t k = 0; k < n; k++)
            free(t->list[i + k]);
        if (n == 0)
            t->list[i] = NULL;
        i += n ? n : 1;
        t->list[to++] = text;
        if (!text) {
            while (i < t->count)
                free(t->list[i++]);
            t->count = to;
            return err_set(e, ERR_MEMORY, "tokenizer: no memory");
        }
    }
    t->count = to;
    return true;
}

static bool each_text(const struct tok_decoder *d, struct texts *t, struct err *e)
{
    for (size_t i = 0; i < t->count; i++) {
        const char *text = t->list[i];
        struct buf b = BUF_INIT(TEXT_MAX);
        if (d->kind == DECODE_WORDPIECE)
            wordpiece_text(d, text, i == 0, &b);
        else if (d->kind == DECODE_SUFFIX)
            replace_all(&b, text, d->a, i + 1 == t->count ? "" : " ");
        else if (d->kind == DECODE_STRIP)
            strip_text(d, text, &b);
        else if (d->kind == DECODE_METASPACE)
            metaspace_text(d, text, i == 0, &b);
        else
            replace_all(&b, text, d->a, d->b);
        bool ok = buf_ok(&b, "text", e);
        char *out = ok && b.data ? buf_take(&b) : calloc(1, 1);
        buf_clear(&b);
        if (!ok || !out) {
            free(out);
            return ok ? err_set(e, ERR_MEMORY, "tokenizer: no memory") : false;
        }
        free(t->list[i]);
        t->list[i] = out;
    }
    return true;
}

static bool apply(const struct tok_decoder *d, struct texts *t, struct err *e)
{
    if (d->kind == DECODE_FUSE || d->kind == DECODE_BYTES)
        return fuse(t, d->kind == DECODE_BYTES, e);
    if (d->kind == DECODE_FALLBACK)
        return fall_back(t, e);
    return each_text(d, t, e);
}

/* ---- the whole ------------------------------------------------------------------------------------------ */

/* What a token is in the vocabulary, or NULL; not ended by 0. */
static const char *token_of(const struct tokenizer *t, int64_t id, size_t *size, bool *special)
{
    const struct tok_added *a = tok_added_of(t, id);
    *special = a && a->special;
    if (a) {
        *size = a->size;
        return a->text;
    }
    if (id < 0 || id >= t->id_count || !t->by_id[id])
        return NULL;
    const struct tok_entry *x = &t->vocabulary.entries[t->by_id[id] - 1];
    *size = x->size;
    return t->vocabulary.text + x->at;
}

/* Keys of the vocabulary stand one after the other, without a 0 between them. */
static char *copy_bytes(const char *from, size_t size)
{
    char *text = malloc(size + 1);
    if (!text)
        return NULL;
    memcpy(text, from, size);
    text[size] = 0;
    return text;
}

static bool token_texts(const struct tokenizer *t, const int64_t *ids, size_t n, bool skip_special,
                        struct texts *ret, struct err *e)
{
    ret->list = calloc(n + 1, sizeof(*ret->list));
    if (!ret->list)
        return err_set(e, ERR_MEMORY, "tokenizer: no memory");
    for (size_t i = 0; i < n; i++) {
        size_t size;
        bool special;
        const char *token = token_of(t, ids[i], &size, &special);
        if (!token || (special && skip_special))
            continue;
        ret->list[ret->count] = copy_bytes(token, size);
        if (!ret->list[ret->count])
            return err_set(e, ERR_MEMORY, "tokenizer: no memory");
        ret->count++;
    }
    return true;
}

static bool join(const struct texts *t, const char *between, char **ret, struct err *e)
{
    struct buf b = BUF_INIT(TEXT_MAX * 3);
    for (size_t i = 0; i < t->count; i++) {
        if (i)
            buf_str(&b, between);
        buf_str(&b, t->list[i]);
    }
    bool ok = buf_ok(&b, "text", e);
    *ret = ok ? (b.data ? buf_take(&b) : calloc(1, 1)) : NULL;
    buf_clear(&b);
    return ok && (*ret || err_set(e, ERR_MEMORY, "tokenizer: no memory"));
}

bool tokenizer_decode(const struct tokenizer *t, const int64_t *ids, size_t n, bool skip_special,
                      char **ret, struct err *e)
{
    struct texts texts = {0};
    if (n > TOKENIZER_IDS_MAX)
        return err_set(e, ERR_TOO_LARGE, "ids: %zu, limit %d", n, TOKENIZER_IDS_MAX);
    bool ok = token_texts(t, ids, n, skip_special, &texts, e);
    for (int i = 0; ok && i < t->decoder_count; i++)
        ok = apply(&t->decoders[i], &texts, e);
    ok = ok && join(&texts, t->has_decoder ? "" : " ", ret, e);
    texts_clear(&texts);
    return ok;
}

static bool falls_back(const struct tokenizer *t)
{
    for (int i = 0; i < t->decoder_count; i++)
        if (t->decoders[i].kind == DECODE_FALLBACK)
            return true;
    return false;
}

static bool is_byte(const struct tokenizer *t, int64_t id)
{
    char name[8];
    size_t size;
    bool special;
    const char *token = token_of(t, id, &size, &special);
    if (!token || size >= sizeof(name))
        return false;
    memcpy(name, token, size);
    name[size] = 0;
    return byte_of(name) >= 0;
}

/* What may still change is the end: a run of byte tokens, and bytes that are no character yet. */
bool tokenizer_stream_decode(const struct tokenizer *t, const int64_t *ids, size_t n,
                             bool skip_special, char **ret, struct err *e)
{
    static const char broken[] = TOK_REPLACEMENT;
    const size_t size = sizeof(broken) - 1;
    while (n > 0 && falls_back(t) && is_byte(t, ids[n - 1]))
        n--;
    if (!tokenizer_decode(t, ids, n, skip_special, ret, e))
        return false;
    size_t end = strlen(*ret);
    while (end >= size && memcmp(*ret + end - size, broken, size) == 0)
        end -= size;
    (*ret)[end] = 0;
    return true;
}
