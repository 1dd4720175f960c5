/* tok_map.c - texts to numbers. */
#include "media/tok_internal.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_MAX ((size_t)1 << 30)
#define LONGEST_MAX 4096 /* bytes of text that one token of a word can stand for */

/* A search that takes more steps than this means that the keys were made to collide: of two
 * million ordinary ones the longest takes about a hundred. */
#define PROBES_MAX 2000

#define HASH_START 2166136261u /* FNV-1a: can be carried on byte by byte */

static uint32_t hash_on(uint32_t h, const char *key, size_t size)
{
    for (size_t i = 0; i < size; i++)
        h = (h ^ (unsigned char)key[i]) * 16777619u;
    return h;
}

/* The slot of a key, or the free one where it belongs; NULL: too many steps.
 * The key is in two parts, of which the first may be empty. */
static uint32_t *slot_of(const struct tok_map *m, uint32_t hash, const char *head, size_t head_size,
                         const char *tail, size_t tail_size)
{
    uint32_t i = hash & (m->slot_count - 1);
    for (int probes = 0; probes < PROBES_MAX; probes++, i = (i + 1) & (m->slot_count - 1)) {
        uint32_t index = m->slots[i];
        if (index == 0)
            return &m->slots[i];
        const struct tok_entry *x = &m->entries[index - 1];
        const char *text = m->text + x->at;
        if (x->size == head_size + tail_size && memcmp(text, head, head_size) == 0 &&
            memcmp(text + head_size, tail, tail_size) == 0)
            return &m->slots[i];
    }
    return NULL;
}

static uint32_t *slot_of_key(const struct tok_map *m, const char *key, size_t size)
{
    return slot_of(m, hash_on(HASH_START, key, size), "", 0, key, size);
}

static bool grow_slots(struct tok_map *m, struct err *e)
{
    uint32_t count = m->slot_count ? m->slot_count * 2 : 256;
    uint32_t *slots = calloc(count, sizeof(*slots));
    if (!slots)
        return err_set(e, ERR_MEMORY, "vocabulary: no memory");
    free(m->slots);
    m->slots = slots;
    m->slot_count = count;
    for (uint32_t i = 0; i < m->count; i++) {
        uint32_t *slot = slot_of_key(m, m->text + m->entries[i].at, m->entries[i].size);
        if (!slot)
            return err_set(e, ERR_INVALID, "vocabulary: made to be slow");
        *slot = i + 1;
    }
    return true;
}

static bool grow_entries(struct tok_map *m, size_t size)
{
    if (m->count == m->capacity) {
        uint32_t capacity = m->capacity ? m->capacity * 2 : 256;
        void *more = realloc(m->entries, capacity * sizeof(*m->entries));
        if (!more)
            return false;
        m->entries = more;
        m->capacity = capacity;
    }
    if (size > TEXT_MAX - m->text_size)
        return false;
    if (m->text_size + size >= m->text_capacity) {
        size_t capacity = (m->text_size + size + 1) * 2;
        char *more = realloc(m->text, capacity);
        if (!more)
            return false;
        m->text = more;
        m->text_capacity = capacity;
    }
    return true;
}

bool tok_map_add(struct tok_map *m, const char *key, size_t size, int32_t id, struct err *e)
{
    if (m->count >= TOKENIZER_VOCABULARY_MAX)
        return err_set(e, ERR_TOO_LARGE, "vocabulary: more than the limit of %d tokens",
                       TOKENIZER_VOCABULARY_MAX);
    if (m->count * 2 >= m->slot_count && !grow_slots(m, e))
        return false;
    if (!grow_entries(m, size))
        return err_set(e, ERR_MEMORY, "vocabulary: no memory");
    uint32_t *slot = slot_of_key(m, key, size);
    if (!slot)
        return err_set(e, ERR_INVALID, "vocabulary: made to be slow");
    if (*slot) {
        m->entries[*slot - 1].id = id;
        return true;
    }
    if (size)
        memcpy(m->text + m->text_size, key, size);
    m->entries[m->count] = (struct tok_entry){(uint32_t)m->text_size, (uint32_t)size, id};
    m->text_size += size;
    m->longest = size > m->longest ? (uint32_t)size : m->longest;
    *slot = ++m->count;
    return true;
}

int32_t tok_map_get(const struct tok_map *m, const char *key, size_t size)
{
    if (m->slot_count == 0)
        return -1;
    const uint32_t *slot = slot_of_key(m, key, size);
    return slot && *slot ? m->entries[*slot - 1].id : -1;
}

/* Hashes of all beginnings first, then from the longest down. */
size_t tok_map_longest(const struct tok_map *m, const char *prefix, const char *text, size_t size,
                       int32_t *ret_id)
{
    size_t head = strlen(prefix);
    uint32_t hashes[LONGEST_MAX + 1];
    if (m->slot_count == 0 || m->longest <= head)
        return 0;
    size_t most = m->longest - head < size ? m->longest - head : size;
    if (most > LONGEST_MAX)
        most = LONGEST_MAX;
    hashes[0] = hash_on(HASH_START, prefix, head);
    for (size_t n = 0; n < most; n++)
        hashes[n + 1] = hash_on(hashes[n], text + n, 1);
    for (size_t n = most; n > 0; n--) {
        if (n < size && ((unsigned char)text[n] & 0xC0) == 0x80)
            continue; /* within a character */
        const uint32_t *slot = slot_of(m, hashes[n], prefix, head, text, n);
        if (slot && *slot) {
            *ret_id = m->entries[*slot - 1].id;
            return n;
        }
    }
    return 0;
}

void tok_map_clear(struct tok_map *m)
{
    free(m->slots);
    free(m->entries);
    free(m->text);
    *m = (struct tok_map){0};
}
