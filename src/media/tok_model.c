/* tok_model.c - the vocabulary; WordLevel and WordPiece: a piece of text to ids. */
#include "base/num.h"
#include "media/tok_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool tok_list_add(struct tok_list *l, int32_t id, struct err *e)
{
    if (l->count >= 4 * (size_t)TOKENIZER_IDS_MAX)
        return err_set(e, ERR_TOO_LARGE, "text: more than %d tokens", 4 * TOKENIZER_IDS_MAX);
    if (l->count == l->capacity) {
        size_t capacity = l->capacity ? l->capacity * 2 : 64;
        int32_t *more = realloc(l->ids, capacity * sizeof(*more));
        if (!more)
            return err_set(e, ERR_MEMORY, "tokenizer: no memory");
        l->ids = more;
        l->capacity = capacity;
    }
    l->ids[l->count++] = id;
    return true;
}

/* ---- reading ------------------------------------------------------------------------------------- */

static bool read_vocabulary(struct tokenizer *t, const json_t *o, struct err *e)
{
    json_t *vocabulary;
    if (!json_need_object(o, "model", "vocab", &vocabulary, e))
        return false;
    for (void *i = json_object_iter(vocabulary); i; i = json_object_iter_next(vocabulary, i)) {
        const char *key = json_object_iter_key(i);
        const json_t *value = json_object_iter_value(i);
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= TOKENIZER_VOCABULARY_MAX)
            return err_set(e, ERR_INVALID, "vocabulary: id of '%.40s' should be from 0 to %d", key,
                           TOKENIZER_VOCABULARY_MAX - 1);
        if (!tok_map_add(&t->vocabulary, key, strlen(key), (int32_t)id, e))
            return false;
    }
    return true;
}

static bool index_ids(struct tokenizer *t, struct err *e)
{
    int32_t max = -1;
    for (uint32_t i = 0; i < t->vocabulary.count; i++)
        max = t->vocabulary.entries[i].id > max ? t->vocabulary.entries[i].id : max;
    t->id_count = max + 1;
    t->by_id = calloc((size_t)t->id_count + 1, sizeof(*t->by_id));
    if (!t->by_id)
        return err_set(e, ERR_MEMORY, "tokenizer: no memory");
    for (uint32_t i = 0; i < t->vocabulary.count; i++)
        t->by_id[t->vocabulary.entries[i].id] = i + 1;
    return true;
}

/* An empty prefix or suffix is none. */
static bool read_affix(const json_t *o, const char *key, char **ret, struct err *e)
{
    const char *text = NULL;
    if (!json_opt_str(o, "model", key, &text, e))
        return false;
    if (!text || !*text)
        return true;
    if (strlen(text) > TOK_AFFIX_MAX)
        return err_set(e, ERR_TOO_LARGE, "model: %s has more than %d bytes", key, TOK_AFFIX_MAX);
    return tok_read_text(o, "model", key, NULL, ret, e);
}

static bool read_affixes(struct tokenizer *t, const json_t *o, struct err *e)
{
    if (t->model == MODEL_WORDPIECE && !json_object_get(o, "continuing_subword_prefix")) {
        t->prefix = strdup("##");
        if (!t->prefix)
            return err_set(e, ERR_MEMORY, "tokenizer: no memory");
    }
    return (t->prefix || read_affix(o, "continuing_subword_prefix", &t->prefix, e)) &&
           read_affix(o, "end_of_word_suffix", &t->suffix, e);
}

static bool read_bpe(struct tokenizer *t, const json_t *o, struct err *e)
{
    double dropout = 0;
    if (!json_opt_num(o, "model", "dropout", 0, 1, &dropout, e) ||
        !json_opt_bool(o, "model", "ignore_merges", &t->ignore_merges, e) ||
        !json_opt_bool(o, "model", "fuse_unk", &t->fuse_unk, e) ||
        !json_opt_bool(o, "model", "byte_fallback", &t->byte_fallback, e))
        return false;
    if (dropout > 0)
        return err_set(e, ERR_UNSUPPORTED, "model: dropout %g is for training only", dropout);
    for (unsigned i = 0; i < 256; i++) {
        char name[16];
        int n = snprintf(name, sizeof(name), "<0x%02X>", i);
        t->byte_ids[i] = n > 0 ? tok_map_get(&t->vocabulary, name, (size_t)n) : -1;
    }
    return tok_read_merges(t, o, e);
}

static bool read_wordpiece(struct tokenizer *t, const json_t *o, struct err *e)
{
    uint64_t max = 100;
    if (!json_opt_u64(o, "model", "max_input_chars_per_word", TOK_WORD_MAX, &max, e))
        return false;
    t->max_word = (int)max;
    return true;
}

static const struct model_row {
    const char *type;
    enum tok_model_kind kind;
    bool needs_unk; /* its unknown token has to be in the vocabulary */
    bool (*read)(struct tokenizer *t, const json_t *o, struct err *e); /* NULL: no settings */
} rows[] = {
    {"WordLevel", MODEL_WORDLEVEL, true, NULL},
    {"WordPiece", MODEL_WORDPIECE, true, read_wordpiece},
    {"BPE", MODEL_BPE, false, read_bpe},
};

/* Older files leave the type out. */
static const char *guessed_type(const json_t *o)
{
    if (json_object_get(o, "merges"))
        return "BPE";
    return json_object_get(o, "max_input_chars_per_word") ? "WordPiece" : "WordLevel";
}

static bool read_known(struct tokenizer *t, const struct model_row *row, const json_t *o,
                       struct err *e)
{
    const char *unk = NULL;
    t->model = row->kind;
    if (!read_vocabulary(t, o, e) || !index_ids(t, e) ||
        !json_opt_str(o, "model", "unk_token", &unk, e) || !read_affixes(t, o, e))
        return false;
    t->unk = unk ? tok_map_get(&t->vocabulary, unk, strlen(unk)) : -1;
    if (row->needs_unk && unk && t->unk < 0)
        return err_set(e, ERR_INVALID, "model: unk_token '%.40s' is not in the vocabulary", unk);
    return !row->read || row->read(t, o, e);
}

bool tok_read_model(struct tokenizer *t, const json_t *o, struct err *e)
{
    const char *type = NULL;
    if (!json_is_object(o))
        return err_set(e, ERR_INVALID, "'model' is missing");
    if (!json_opt_str(o, "model", "type", &type, e))
        return false;
    if (!type)
        type = guessed_type(o);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strcmp(rows[i].type, type) == 0)
            return read_known(t, &rows[i], o, e);
    return err_set(e, ERR_UNSUPPORTED, "model '%.60s' is not known", type);
}

/* ---- words ---------------------------------------------------------------------------------------- */

static bool add_unknown(const struct tokenizer *t, struct tok_list *ids, struct err *e)
{
    if (t->unk < 0)
        return err_set(e, ERR_INVALID,
                       "text: has a word that the vocabulary lacks, and there is no unknown token");
    return tok_list_add(ids, t->unk, e);
}

static bool wordpiece(const struct tokenizer *t, const char *text, size_t size,
                      struct tok_list *ids, struct err *e)
{
    size_t start = ids->count;
    int characters = 0;
    for (size_t i = 0; i < size; i++)
        characters += ((unsigned char)text[i] & 0xC0) != 0x80;
    if (characters > t->max_word)
        return add_unknown(t, ids, e);
    for (size_t at = 0; at < size;) {
        int32_t id = -1;
        size_t n = tok_map_longest(&t->vocabulary, at > 0 && t->prefix ? t->prefix : "", text + at,
                                   size - at, &id);
        if (n == 0) {
            ids->count = start;
            return add_unknown(t, ids, e);
        }
        if (!tok_list_add(ids, id, e))
            return false;
        at += n;
    }
    return true;
}

bool tok_piece_ids(const struct tokenizer *t, const char *text, size_t size, struct tok_list *ids,
                   struct err *e)
{
    switch (t->model) {
    case MODEL_BPE:
        return tok_bpe(t, text, size, ids, e);
    case MODEL_WORDPIECE:
        return wordpiece(t, text, size, ids, e);
    case MODEL_WORDLEVEL:
        break;
    }
    int32_t id = tok_map_get(&t->vocabulary, text, size);
    return id >= 0 ? tok_list_add(ids, id, e) : add_unknown(t, ids, e);
}
