/* tokenizer.c - a tokenizer's life, and encoding as a whole; the steps are in tok_*.c. */
#include "media/tokenizer.h"

#include "media/tok_internal.h"

#include <stdlib.h>
#include <string.h>

bool tok_read_text(const json_t *o, const char *what, const char *key, const char *def, char **ret,
                   struct err *e)
{
    const char *text = def;
    if (def ? !json_opt_str(o, what, key, &text, e) : !json_need_str(o, what, key, &text, e))
        return false;
    *ret = strdup(text);
    return *ret != NULL || err_set(e, ERR_MEMORY, "tokenizer: no memory");
}

static bool read_all(struct tokenizer *t, const json_t *root, struct err *e)
{
    return tok_read_model(t, json_object_get(root, "model"), e) &&
           tok_read_normalizer(t, json_object_get(root, "normalizer"), e) &&
           tok_read_added(t, root, e) &&
           tok_read_splits(t, json_object_get(root, "pre_tokenizer"), e) &&
           tok_read_decoder(t, json_object_get(root, "decoder"), e) && tok_read_frame(t, root, e);
}

bool tokenizer_create(const char *json, size_t size, struct tokenizer **ret, struct err *e)
{
    if (size > TOKENIZER_FILE_MAX)
        return err_set(e, ERR_TOO_LARGE, "tokenizer: %zu bytes, limit %zu", size,
                       TOKENIZER_FILE_MAX);
    json_t *root = json_parse("tokenizer", json, size, e);
    if (!root)
        return false;
    struct tokenizer *t = calloc(1, sizeof(*t));
    bool ok = t ? read_all(t, root, e) : err_set(e, ERR_MEMORY, "tokenizer: no memory");
    json_decref(root);
    if (!ok) {
        tokenizer_destroy(t);
        return false;
    }
    *ret = t;
    return true;
}

void tokenizer_destroy(struct tokenizer *t)
{
    if (!t)
        return;
    tok_map_clear(&t->vocabulary);
    tok_added_clear(t);
    for (int i = 0; i < t->norm_count; i++)
        tok_norm_clear(&t->norms[i]);
    for (int i = 0; i < t->split_count; i++)
        tok_split_clear(&t->splits[i]);
    for (int i = 0; i < t->decoder_count; i++)
        tok_decoder_clear(&t->decoders[i]);
    free(t->by_id);
    free(t->prefix);
    free(t->suffix);
    free(t->merges);
    free(t);
}

int64_t tokenizer_id(const struct tokenizer *t, const char *token)
{
    int32_t id = tok_map_get(&t->added_ids, token, strlen(token));
    return id >= 0 ? id : tok_map_get(&t->vocabulary, token, strlen(token));
}

void token_ids_clear(struct token_ids *t)
{
    free(t->ids);
    *t = (struct token_ids){0};
}

bool tokenizer_encode(const struct tokenizer *t, const char *text, const char *pair,
                      struct token_ids *ret, struct err *e)
{
    struct tok_list lists[2] = {{0}, {0}};
    bool ok = tok_text_ids(t, text, &lists[0], e) &&
              (!pair || tok_text_ids(t, pair, &lists[1], e)) &&
              tok_frame(t, lists, pair != NULL, ret, e);
    free(lists[0].ids);
    free(lists[1].ids);
    return ok;
}
