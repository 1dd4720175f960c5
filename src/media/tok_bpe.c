/* tok_bpe.c - byte pair encoding: characters of a piece are merged, the earliest rule first.
 *
 * A piece of n characters takes n log n steps: candidates wait in a heap, and those whose symbols
 * have changed meanwhile are passed over when they come up. */
#include "media/tok_internal.h"

#include <stdlib.h>
#include <string.h>

#define PROBES_MAX 2000                 /* see tok_map.c */
#define KEY_MAX (2 * TOK_AFFIX_MAX + 4) /* prefix, character, suffix */

/* ---- rules --------------------------------------------------------------------------------------- */

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* The slot of a pair, or the free one where it belongs; NULL: too many steps. */
static struct tok_merge *merge_slot(const struct tokenizer *t, uint64_t pair)
{
    uint64_t h = (pair ^ pair >> 29) * 0x9E3779B97F4A7C15u;
    uint32_t i = (uint32_t)(h >> 32) & (t->merge_slots - 1);
    for (int probes = 0; probes < PROBES_MAX; probes++, i = (i + 1) & (t->merge_slots - 1))
        if (t->merges[i].pair == UINT64_MAX || t->merges[i].pair == pair)
            return &t->merges[i];
    return NULL;
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

static bool add_merge(struct tokenizer *t, const json_t *v, int32_t rank, struct buf *whole,
                      struct err *e)
{
    const char *left, *right;
    size_t n;
    if (!merge_sides(v, &left, &n, &right, e))
        return false;
    const char *tail = right;
    size_t prefix = t->prefix ? strlen(t->prefix) : 0;
    if (prefix && strncmp(right, t->prefix, prefix) == 0)
        tail = right + prefix;
    int32_t a = tok_map_get(&t->vocabulary, left, n);
    int32_t b = tok_map_get(&t->vocabulary, right, strlen(right));
    whole->size = 0;
    buf_add(whole, left, n);
    buf_str(whole, tail);
    if (!buf_ok(whole, "merges", e))
        return false;
    int32_t id = whole->data ? tok_map_get(&t->vocabulary, whole->data, whole->size) : -1;
    if (a < 0 || b < 0 || id < 0)
        return err_set(e, ERR_INVALID,
                       "merges: row %d joins '%.*s' and '%.40s', which the vocabulary lacks", rank,
                       n < 40 ? (int)n : 40, left, right);
    struct tok_merge *m = merge_slot(t, pair_of(a, b));
    if (!m)
        return err_set(e, ERR_INVALID, "merges: made to be slow");
    *m = (struct tok_merge){pair_of(a, b), rank, id}; /* a later row replaces an earlier one */
    return true;
}

bool tok_read_merges(struct tokenizer *t, const json_t *o, struct err *e)
{
    json_t *list;
    struct buf whole = BUF_INIT(1 << 20);
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
    bool ok = true;
    for (size_t i = 0; ok && i < json_array_size(list); i++)
        ok = add_merge(t, json_array_get(list, i), (int32_t)i, &whole, e);
    buf_clear(&whole);
    return ok;
}

/* ---- merging -------------------------------------------------------------------------------------- */

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
    if (m && m->pair == pair)
        push(b, (struct candidate_pair){m->rank, m->id, left, pair});
}

/* Symbols of one piece, from left to right. */
struct filler {
    const struct tokenizer *t;
    struct bpe *b;
    bool unknown; /* the last symbol is the unknown token */
};

static void add_symbol(struct filler *f, int32_t id)
{
    struct bpe *b = f->b;
    b->symbols[b->count] = (struct symbol){.id = id, .prev = b->count - 1, .next = b->count + 1};
    b->count++;
}

/* A character that the vocabulary lacks: its bytes, where they all have tokens, or the unknown
 * token (one for a run of them, if fused); without one it is left out. */
static void add_unknown(struct filler *f, const char *text, size_t size)
{
    const struct tokenizer *t = f->t;
    bool bytes = t->byte_fallback;
    for (size_t i = 0; bytes && i < size; i++)
        bytes = t->byte_ids[(unsigned char)text[i]] >= 0;
    for (size_t i = 0; bytes && i < size; i++)
        add_symbol(f, t->byte_ids[(unsigned char)text[i]]);
    if (bytes || t->unk < 0)
        return;
    if (!f->unknown || !t->fuse_unk)
        add_symbol(f, t->unk);
    f->unknown = true;
}

/* One character, with the prefix and suffix that its place asks for. */
static void add_character(struct filler *f, const char *text, size_t size, bool first, bool last)
{
    char key[KEY_MAX];
    size_t n = 0;
    const struct tokenizer *t = f->t;
    const char *prefix = !first && t->prefix ? t->prefix : "";
    const char *suffix = last && t->suffix ? t->suffix : "";
    size_t before = strlen(prefix), after = strlen(suffix);
    memcpy(key, prefix, before);
    memcpy(key + before, text, size);
    memcpy(key + before + size, suffix, after);
    n = before + size + after;
    int32_t id = tok_map_get(&t->vocabulary, key, n);
    if (id < 0) {
        add_unknown(f, key, n);
        return;
    }
    f->unknown = false;
    add_symbol(f, id);
}

static void fill_symbols(const struct tokenizer *t, const char *text, size_t size, struct bpe *b)
{
    struct filler f = {.t = t, .b = b};
    for (size_t at = 0; at < size;) {
        int32_t c;
        size_t n = (size_t)tok_char(text + at, size - at, &c);
        add_character(&f, text + at, n, at == 0, at + n >= size);
        at += n;
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

/* Symbols that a piece can have at most: characters, or all its bytes. */
static size_t most_symbols(const struct tokenizer *t, const char *text, size_t size)
{
    size_t n = 0, more = t->byte_fallback ? (t->prefix ? strlen(t->prefix) : 0) + 4 : 1;
    for (size_t i = 0; i < size; i++)
        n += ((unsigned char)text[i] & 0xC0) != 0x80;
    return n * more + (t->byte_fallback && t->suffix ? strlen(t->suffix) : 0);
}

bool tok_bpe(const struct tokenizer *t, const char *text, size_t size, struct tok_list *ids,
             struct err *e)
{
    int32_t whole = t->ignore_merges ? tok_map_get(&t->vocabulary, text, size) : -1;
    if (whole >= 0)
        return tok_list_add(ids, whole, e);
    size_t most = most_symbols(t, text, size);
    if (most > TOKENIZER_WORD_MAX)
        return err_set(e, ERR_TOO_LARGE, "text: a word of %zu characters, limit %u", most,
                       TOKENIZER_WORD_MAX);
    struct bpe b = {.symbols = calloc(most + 1, sizeof(*b.symbols)),
                    .heap = calloc(3 * most + 3, sizeof(*b.heap))};
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
