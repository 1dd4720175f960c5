/* tok_model.c - WordLevel, WordPiece, BPE: a piece of text to ids. */
#include "media/tok_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES_MAX 65536 /* of a BPE piece: its cost is n log n in memory and time */

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
    json_t *vocabulary, *value;
    const char *key;
    if (!json_need_object(o, "model", "vocab", &vocabulary, e))
        return false;
    json_object_foreach(vocabulary, key, value)
    {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= TOKENIZER_VOCABULARY_MAX)
            return err_set(e, ERR_INVALID, "vocabulary: id of '%.40s' should be from 0 to %d", key,
                           TOKENIZER_VOCABULARY_MAX - 1);
        if (!tok_map_add(&t->vocabulary, key, strlen(key), (int32_t)id, e))
            return false;
    }
    return true;
}

static struct tok_merge *merge_slot(const struct tokenizer *t, uint64_t pair)
{
    uint64_t h = pair * 0x9E3779B97F4A7C15u;
    uint32_t i = (uint32_t)(h >> 32) & (t->merge_slots - 1);
    while (t->merges[i].pair != UINT64_MAX && t->merges[i].pair != pair)
        i = (i + 1) & (t->merge_slots - 1);
    return &t->merges[i];
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* "a b" or ["a","b"]. */
static bool merge_sides(const json_t *v, const char **left, size_t *left_size, const char **right,
                        struct err *e)
{
    if (json_is_array(v) && json_array_size(v) == 2) {
        *left = json_string_value(json_array_get(v, 0));
        *right = json_string_value(json_array_get(v, 1));
        *left_size = *left ? strlen(*left) : 0;
        if (*left && *right)
            return true;
    }
    const char *text = json_string_value(v), *space = text ? strchr(text, ' ') : NULL;
    if (!space || space == text || !space[1])
        return err_set(e, ERR_INVALID, "merges: a row is not two tokens");
    *left = text;
    *left_size = (size_t)(space - text);
    *right = space + 1;
    return true;
}

static bool add_merge(struct tokenizer *t, const json_t *v, int32_t rank, struct err *e)
{
    const char *left, *right;
    size_t n;
    if (!merge_sides(v, &left, &n, &right, e))
        return false;
    const char *tail = right;
    size_t prefix = t->prefix ? strlen(t->prefix) : 0;
    if (prefix && strncmp(right, t->prefix, prefix) == 0)
        tail = right + prefix;
    int32_t a = tok_map_get(&t->vocabulary, left, n),
            b = tok_map_get(&t->vocabulary, right, strlen(right));
    struct buf whole = BUF_INIT(1 << 20);
    buf_add(&whole, left, n);
    buf_str(&whole, tail);
    int32_t id = whole.failed ? -1 : tok_map_get(&t->vocabulary, whole.data, whole.size);
    buf_clear(&whole);
    if (a < 0 || b < 0 || id < 0)
        return err_set(e, ERR_INVALID,
                       "merges: row %d joins '%.*s' and '%.40s', which the vocabulary lacks", rank,
                       n < 40 ? (int)n : 40, left, right);
    struct tok_merge *m = merge_slot(t, pair_of(a, b));
    if (m->pair == UINT64_MAX)
        *m = (struct tok_merge){pair_of(a, b), rank, id};
    return true;
}

static bool read_merges(struct tokenizer *t, const json_t *o, struct err *e)
{
    json_t *list;
    if (!json_need_array(o, "model", "merges", TOKENIZER_VOCABULARY_MAX, &list, e))
        return false;
    t->merge_slots = 64;
    while (t->merge_slots < 2 * json_array_size(list))
        t->merge_slots *= 2;
    t->merges = malloc(t->merge_slots * sizeof(*t->merges));
    if (!t->merges)
        return err_set(e, ERR_MEMORY, "tokenizer: no memory");
    for (uint32_t i = 0; i < t->merge_slots; i++)
        t->merges[i].pair = UINT64_MAX;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!add_merge(t, json_array_get(list, i), (int32_t)i, e))
            return false;
    return true;
}

static bool opt_copy(const json_t *o, const char *key, char **ret, struct err *e)
{
    const char *text = NULL;
    if (!json_opt_str(o, "model", key, &text, e))
        return false;
    if (!text || !*text)
        return true;
    *ret = strdup(text);
    return *ret != NULL || err_set(e, ERR_MEMORY, "tokenizer: no memory");
}

static bool model_kind(struct tokenizer *t, const json_t *o, struct err *e)
{
    const char *type = NULL;
    if (!json_opt_str(o, "model", "type", &type, e))
        return false;
    if (!type) /* older files leave it out */
        type = json_object_get(o, "merges")                     ? "BPE"
               : json_object_get(o, "max_input_chars_per_word") ? "WordPiece"
                                                                : "WordLevel";
    if (strcmp(type, "WordLevel") == 0)
        t->model = MODEL_WORDLEVEL;
    else if (strcmp(type, "WordPiece") == 0)
        t->model = MODEL_WORDPIECE;
    else if (strcmp(type, "BPE") == 0)
        t->model = MODEL_BPE;
    else
        return err_set(e, ERR_UNSUPPORTED, "model '%.60s' is not known", type);
    return true;
}

bool tok_read_model(struct tokenizer *t, const json_t *o, struct err *e)
{
    const char *unk = NULL;
    uint64_t max_word = 100;
    bool byte_fallback = false;
    if (!json_is_object(o))
        return err_set(e, ERR_INVALID, "'model' is missing");
    if (!model_kind(t, o, e) || !read_vocabulary(t, o, e) ||
        !json_opt_str(o, "model", "unk_token", &unk, e) ||
        !json_opt_u64(o, "model", "max_input_chars_per_word", 1000000, &max_word, e) ||
        !opt_copy(o, "continuing_subword_prefix", &t->prefix, e) ||
        !opt_copy(o, "end_of_word_suffix", &t->suffix, e) ||
        !json_opt_bool(o, "model", "ignore_merges", &t->ignore_merges, e) ||
        !json_opt_bool(o, "model", "fuse_unk", &t->fuse_unk, e) ||
        !json_opt_bool(o, "model", "byte_fallback", &byte_fallback, e))
        return false;
    if (byte_fallback)
        return err_set(e, ERR_UNSUPPORTED, "model: byte_fallback is not known");
    t->max_word = (int)max_word;
    t->unk = unk ? tok_map_get(&t->vocabulary, unk, strlen(unk)) : -1;
    if (t->model != MODEL_BPE && unk && t->unk < 0)
        return err_set(e, ERR_INVALID, "model: unk_token '%.40s' is not in the vocabulary", unk);
    return t->model != MODEL_BPE || read_merges(t, o, e);
}

bool tok_index_ids(struct tokenizer *t, struct err *e)
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

/* ---- WordPiece -------------------------------------------------------------------------------------- */

static bool add_unknown(const struct tokenizer *t, struct tok_list *ids, struct err *e)
{
    if (t->unk < 0)
        return err_set(e, ERR_INVALID,
                       "text: has a word that the vocabulary lacks, and there is no unknown token");
    return tok_list_add(ids, t->unk, e);
}

/* The longest token at the start of text; its bytes, or 0. */
static size_t longest(const struct tokenizer *t, const char *text, size_t size, bool inner,
                      int32_t *id)
{
    char key[4096];
    size_t prefix = inner && t->prefix ? strlen(t->prefix) : 0;
    if (prefix + size > sizeof(key))
        return 0;
    if (prefix)
        memcpy(key, t->prefix, prefix);
    memcpy(key + prefix, text, size);
    for (size_t n = size; n > 0; n--) {
        if (n < size && ((unsigned char)text[n] & 0xC0) == 0x80)
            continue; /* within a character */
        *id = tok_map_get(&t->vocabulary, key, prefix + n);
        if (*id >= 0)
            return n;
    }
    return 0;
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
        int32_t id;
        size_t n = longest(t, text + at, size - at, at > 0, &id);
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

/* ---- BPE ------------------------------------------------------------------------------------------------ */

/* A symbol of a piece; symbols form a list, merged ones keep the left place. */
struct symbol {
    int32_t id;
    int prev, next; /* -1: none */
    bool dead;
};

/* A pair that could be merged: the lowest rank first, then the leftmost. */
struct candidate_pair {
    int32_t rank, id;
    int left;
    uint64_t pair;
};

struct bpe {
    struct symbol *symbols;
    int count;
    struct candidate_pair *heap;
    int heap_count;
};

static bool before(const struct candidate_pair *a, const struct candidate_pair *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static void push(struct bpe *b, struct candidate_pair p)
{
    int i = b->heap_count++;
    while (i > 0 && before(&p, &b->heap[(i - 1) / 2])) {
        b->heap[i] = b->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    b->heap[i] = p;
}

static struct candidate_pair pop(struct bpe *b)
{
    struct candidate_pair top = b->heap[0], last = b->heap[--b->heap_count];
    int i = 0;
    for (;;) {
        int child = 2 * i + 1;
        if (child >= b->heap_count)
            break;
        if (child + 1 < b->heap_count && before(&b->heap[child + 1], &b->heap[child]))
            child++;
        if (!before(&b->heap[child], &last))
            break;
        b->heap[i] = b->heap[child];
        i = child;
    }
    b->heap[i] = last;
    return top;
}

static void offer(const struct tokenizer *t, struct bpe *b, int left)
{
    int right = left < 0 ? -1 : b->symbols[left].next;
    if (right < 0 || b->symbols[left].id < 0 || b->symbols[right].id < 0)
        return;
    uint64_t pair = pair_of(b->symbols[left].id, b->symbols[right].id);
    const struct tok_merge *m = merge_slot(t, pair);
    if (m->pair == pair)
        push(b, (struct candidate_pair){m->rank, m->id, left, pair});
}

/* Id of one character, with the prefix and suffix that its place asks for. */
static int32_t char_id(const struct tokenizer *t, const char *text, int size, bool first, bool last)
{
    char key[512];
    int n = snprintf(key, sizeof(key), "%s%.*s%s", !first && t->prefix ? t->prefix : "", size, text,
                     last && t->suffix ? t->suffix : "");
    return n > 0 && (size_t)n < sizeof(key) ? tok_map_get(&t->vocabulary, key, (size_t)n) : -1;
}

static void fill_symbols(const struct tokenizer *t, const char *text, size_t size, struct bpe *b)
{
    for (size_t at = 0; at < size;) {
        int32_t c;
        int n = tok_char(text + at, size - at, &c);
        bool last = at + (size_t)n >= size;
        int32_t id = char_id(t, text + at, n, at == 0, last);
        if (id < 0)
            id = t->unk;
        bool fused =
            id == t->unk && t->fuse_unk && b->count > 0 && b->symbols[b->count - 1].id == t->unk;
        if (id >= 0 && !fused) { /* without an unknown token, what is not known is left out */
            b->symbols[b->count] =
                (struct symbol){.id = id, .prev = b->count - 1, .next = b->count + 1};
            b->count++;
        }
        at += (size_t)n;
    }
    if (b->count)
        b->symbols[b->count - 1].next = -1;
}

static void merge_all(const struct tokenizer *t, struct bpe *b)
{
    for (int i = 0; i < b->count; i++)
        offer(t, b, i);
    while (b->heap_count > 0) {
        struct candidate_pair p = pop(b);
        struct symbol *left = &b->symbols[p.left];
        if (left->dead || left->next < 0)
            continue;
        struct symbol *right = &b->symbols[left->next];
        if (pair_of(left->id, right->id) != p.pair)
            continue; /* one of them has been merged meanwhile */
        left->id = p.id;
        right->dead = true;
        left->next = right->next;
        if (right->next >= 0)
            b->symbols[right->next].prev = p.left;
        offer(t, b, left->prev);
        offer(t, b, p.left);
    }
}

static bool bpe(const struct tokenizer *t, const char *text, size_t size, struct tok_list *ids,
                struct err *e)
{
    if (size > PIECE_BYTES_MAX)
        return err_set(e, ERR_TOO_LARGE, "text: a word of %zu bytes, limit %d", size,
                       PIECE_BYTES_MAX);
    int32_t whole = t->ignore_merges ? tok_map_get(&t->vocabulary, text, size) : -1;
    if (whole >= 0)
        return tok_list_add(ids, whole, e);
    struct bpe b = {.symbols = calloc(size + 1, sizeof(*b.symbols)),
                    .heap = calloc(3 * size + 3, sizeof(*b.heap))};
    bool ok = (b.symbols && b.heap) || err_set(e, ERR_MEMORY, "tokenizer: no memory");
    if (ok) {
        fill_symbols(t, text, size, &b);
        merge_all(t, &b);
    }
    for (int i = 0; ok && i < b.count; i++)
        ok = b.symbols[i].dead || tok_list_add(ids, b.symbols[i].id, e);
    free(b.symbols);
    free(b.heap);
    return ok;
}

bool tok_piece_ids(const struct tokenizer *t, const char *text, size_t size, struct tok_list *ids,
                   struct err *e)
{
    if (t->model == MODEL_BPE)
        return bpe(t, text, size, ids, e);
    if (t->model == MODEL_WORDPIECE)
        return wordpiece(t, text, size, ids, e);
    int32_t id = tok_map_get(&t->vocabulary, text, size);
    return id >= 0 ? tok_list_add(ids, id, e) : add_unknown(t, ids, e);
}
