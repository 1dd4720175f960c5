/* tok_map.c - texts to numbers. */
#include "media/tok_internal.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_MAX ((size_t)1 << 30)

static uint32_t hash(const char *key, size_t size)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        h = (h ^ (unsigned char)key[i]) * 16777619u;
    return h;
}

static uint32_t *slot_of(const struct tok_map *m, const char *key, size_t size)
{
    uint32_t i = hash(key, size) & (m->slot_count - 1);
    for (;; i = (i + 1) & (m->slot_count - 1)) {
        uint32_t index = m->slots[i];
        if (index == 0)
            return &m->slots[i];
        const struct tok_entry *x = &m->entries[index - 1];
        if (x->size == size && memcmp(m->text + x->at, key, size) == 0)
            return &m->slots[i];
    }
}

static bool grow_slots(struct tok_map *m)
{
    uint32_t count = m->slot_count ? m->slot_count * 2 : 256;
    uint32_t *slots = calloc(count, sizeof(*slots));
    if (!slots)
        return false;
    free(m->slots);
    m->slots = slots;
    m->slot_count = count;
    for (uint32_t i = 0; i < m->count; i++)
        *slot_of(m, m->text + m->entries[i].at, m->entries[i].size) = i + 1;
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
    if (m->text_size + size > m->text_capacity) {
        size_t capacity = (m->text_size + size) * 2;
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
    if ((m->count * 2 >= m->slot_count && !grow_slots(m)) || !grow_entries(m, size))
        return err_set(e, ERR_MEMORY, "vocabulary: no memory");
    uint32_t *slot = slot_of(m, key, size);
    if (*slot) {
        m->entries[*slot - 1].id = id;
        return true;
    }
    if (size)
        memcpy(m->text + m->text_size, key, size);
    m->entries[m->count] = (struct tok_entry){(uint32_t)m->text_size, (uint32_t)size, id};
    m->text_size += size;
    *slot = ++m->count;
    return true;
}

int32_t tok_map_get(const struct tok_map *m, const char *key, size_t size)
{
    if (m->slot_count == 0)
        return -1;
    uint32_t index = *slot_of(m, key, size);
    return index ? m->entries[index - 1].id : -1;
}

void tok_map_clear(struct tok_map *m)
{
    free(m->slots);
    free(m->entries);
    free(m->text);
    *m = (struct tok_map){0};
}
