/* tok_decode.c - ids back to text. */
#include "media/tok_internal.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_MAX ((size_t)16 << 20)

/* ---- reading --------------------------------------------------------------------------------------- */

static bool copy(const json_t *o, const char *key, const char *def, char **ret, struct err *e)
{
    const char *text = def;
    if (!json_opt_str(o, "decoder", key, &text, e))
        return false;
    *ret = strdup(text);
    return *ret != NULL || err_set(e, ERR_MEMORY, "tokenizer: no memory");
}

static bool read_one(struct tok_decoder *d, const char *type, const json_t *o, struct err *e)
{
    if (strcmp(type, "ByteLevel") == 0) {
        d->kind = DECODE_BYTES;
        return true;
    }
    if (strcmp(type, "Fuse") == 0) {
        d->kind = DECODE_FUSE;
        return true;
    }
    if (strcmp(type, "WordPiece") == 0) {
        d->kind = DECODE_WORDPIECE;
        d->cleanup = true;
        return copy(o, "prefix", "##", &d->a, e) &&
               json_opt_bool(o, "decoder", "cleanup", &d->cleanup, e);
    }
    if (strcmp(type, "BPEDecoder") == 0) {
        d->kind = DECODE_SUFFIX;
        return copy(o, "suffix", "</w>", &d->a, e);
    }
    if (strcmp(type, "Replace") == 0) {
        d->kind = DECODE_REPLACE;
        const json_t *pattern = json_object_get(o, "pattern");
        if (!json_is_string(json_object_get(pattern, "String")))
            return err_set(e, ERR_UNSUPPORTED, "decoder Replace: only a String pattern is known");
        return copy(pattern, "String", "", &d->a, e) && copy(o, "content", "", &d->b, e);
    }
    if (strcmp(type, "Strip") == 0) {
        uint64_t start = 0, stop = 0;
        d->kind = DECODE_STRIP;
        if (!copy(o, "content", " ", &d->a, e) ||
            !json_opt_u64(o, "decoder", "start", 1000, &start, e) ||
            !json_opt_u64(o, "decoder", "stop", 1000, &stop, e))
            return false;
        d->start = (int)start;
        d->stop = (int)stop;
        return true;
    }
    return err_set(e, ERR_UNSUPPORTED, "decoder '%.60s' is not known", type);
}

bool tok_read_decoder(struct tokenizer *t, const json_t *o, struct err *e)
{
    const char *type;
    json_t *list;
    if (!o || json_is_null(o))
        return true;
    t->has_decoder = true;
    if (!json_need_str(o, "decoder", "type", &type, e))
        return false;
    if (strcmp(type, "Sequence") == 0) {
        if (!json_need_array(o, "decoder", "decoders", TOK_STEPS_MAX, &list, e))
            return false;
        for (size_t i = 0; i < json_array_size(list); i++) {
            const char *inner = json_string_value(json_object_get(json_array_get(list, i), "type"));
            if (inner && strcmp(inner, "Sequence") == 0)
                return err_set(e, ERR_UNSUPPORTED, "decoder: a Sequence in a Sequence");
            if (!tok_read_decoder(t, json_array_get(list, i), e))
                return false;
        }
        return true;
    }
    if (t->decoder_count >= TOK_STEPS_MAX)
        return err_set(e, ERR_TOO_LARGE, "decoder: more than %d steps", TOK_STEPS_MAX);
    return read_one(&t->decoders[t->decoder_count++], type, o, e);
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
static char *clean_up(const char *text)
{
    static const char *const rows[][2] = {{" .", "."},     {" ?", "?"},           {" !", "!"},
                                          {" ,", ","},     {" ' ", "'"},          {" n't", "n't"},
                                          {" 'm", "'m"},   {" do not", " don't"}, {" 's", "'s"},
                                          {" 've", "'ve"}, {" 're", "'re"}};
    char *now = strdup(text);
    for (size_t i = 0; now && i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf b = BUF_INIT(TEXT_MAX);
        replace_all(&b, now, rows[i][0], rows[i][1]);
        free(now);
        now = buf_take(&b);
        if (!now)
            now = strdup("");
    }
    return now;
}

static char *wordpiece_text(const struct tok_decoder *d, const char *text, bool first)
{
    struct buf b = BUF_INIT(TEXT_MAX);
    size_t n = strlen(d->a);
    if (!first && n && strncmp(text, d->a, n) == 0)
        text += n;
    else if (!first)
        buf_str(&b, " ");
    buf_str(&b, text);
    char *joined = buf_take(&b);
    char *clean = joined && d->cleanup ? clean_up(joined) : NULL;
    if (clean) {
        free(joined);
        joined = clean;
    }
    return joined ? joined : strdup("");
}

static char *suffix_text(const struct tok_decoder *d, const char *text, bool last)
{
    struct buf b = BUF_INIT(TEXT_MAX);
    replace_all(&b, text, d->a, last ? "" : " ");
    char *out = buf_take(&b);
    return out ? out : strdup("");
}

static char *strip_text(const struct tok_decoder *d, const char *text)
{
    size_t n = strlen(text), c = strlen(d->a), from = 0;
    for (int i = 0; c && i < d->start && from + c <= n && strncmp(text + from, d->a, c) == 0; i++)
        from += c;
    for (int i = 0; c && i < d->stop && n >= from + c && strncmp(text + n - c, d->a, c) == 0; i++)
        n -= c;
    return strndup(text + from, n - from);
}

/* The bytes that the letters stand for; what is no UTF-8 becomes the replacement character. */
static void add_valid(struct buf *b, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size;) {
        int32_t c;
        int n = tok_char(bytes + i, size - i, &c);
        if (c >= 0) {
            buf_add(b, bytes + i, (size_t)n);
        } else {
            buf_str(b, "\xEF\xBF\xBD");
            /* the rest of a cut-off character is one replacement, not several */
            unsigned char lead = (unsigned char)bytes[i];
            int want = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 1;
            while (n < want && i + (size_t)n < size &&
                   ((unsigned char)bytes[i + (size_t)n] & 0xC0) == 0x80)
                n++;
        }
        i += (size_t)n;
    }
}

static void add_bytes(struct buf *b, const char *text)
{
    size_t size = strlen(text);
    for (size_t i = 0; i < size;) {
        int32_t c;
        int n = tok_char(text + i, size - i, &c);
        int byte = tok_letter_byte(c);
        if (byte >= 0) {
            char one = (char)byte;
            buf_add(b, &one, 1);
        } else {
            buf_add(b, text + i, (size_t)n);
        }
        i += (size_t)n;
    }
}

static bool one_text(struct texts *t, char *text, struct err *e)
{
    texts_clear(t);
    t->list = text ? malloc(sizeof(*t->list)) : NULL;
    if (!t->list) {
        free(text);
        return err_set(e, ERR_MEMORY, "tokenizer: no memory");
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
    if (bytes)
        add_valid(&out, raw.data ? raw.data : "", raw.size);
    else
        buf_add(&out, raw.data, raw.size);
    bool ok = buf_ok(&raw, "text", e) && buf_ok(&out, "text", e);
    char *text = out.data ? buf_take(&out) : strdup("");
    buf_clear(&raw);
    buf_clear(&out);
    if (!ok) {
        free(text);
        return false;
    }
    return one_text(t, text, e);
}

static bool apply(const struct tok_decoder *d, struct texts *t, struct err *e)
{
    if (d->kind == DECODE_FUSE || d->kind == DECODE_BYTES)
        return fuse(t, d->kind == DECODE_BYTES, e);
    for (size_t i = 0; i < t->count; i++) {
        const char *text = t->list[i];
        struct buf b = BUF_INIT(TEXT_MAX);
        char *out = NULL;
        if (d->kind == DECODE_WORDPIECE)
            out = wordpiece_text(d, text, i == 0);
        else if (d->kind == DECODE_SUFFIX)
            out = suffix_text(d, text, i + 1 == t->count);
        else if (d->kind == DECODE_STRIP)
            out = strip_text(d, text);
        else {
            replace_all(&b, text, d->a, d->b);
            out = b.data ? buf_take(&b) : strdup("");
        }
        buf_clear(&b);
        if (!out)
            return err_set(e, ERR_MEMORY, "tokenizer: no memory");
        free(t->list[i]);
        t->list[i] = out;
    }
    return true;
}

/* ---- the whole ------------------------------------------------------------------------------------------ */

static const struct tok_added *added_of(const struct tokenizer *t, int64_t id)
{
    for (int i = 0; i < t->added_count; i++)
        if (t->added[i].id == id)
            return &t->added[i];
    return NULL;
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
        const struct tok_added *a = added_of(t, ids[i]);
        char *text = NULL;
        if (a && a->special && skip_special)
            continue;
        if (a) {
            text = strdup(a->match);
        } else if (ids[i] >= 0 && ids[i] < t->id_count && t->by_id[ids[i]]) {
            const struct tok_entry *x = &t->vocabulary.entries[t->by_id[ids[i]] - 1];
            text = copy_bytes(t->vocabulary.text + x->at, x->size);
        } else {
            continue;
        }
        if (!text)
            return err_set(e, ERR_MEMORY, "tokenizer: no memory");
        ret->list[ret->count++] = text;
    }
    return true;
}

static bool join(const struct texts *t, const char *between, char **ret, struct err *e)
{
    struct buf b = BUF_INIT(TEXT_MAX);
    for (size_t i = 0; i < t->count; i++) {
        if (i)
            buf_str(&b, between);
        buf_str(&b, t->list[i]);
    }
    bool ok = buf_ok(&b, "text", e);
    *ret = ok ? (b.data ? buf_take(&b) : strdup("")) : NULL;
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
