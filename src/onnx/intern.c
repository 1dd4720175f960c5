/* intern.c - open addressing over copies of the keys. */
#include "onnx/intern.h"

#include <stdlib.h>
#include <string.h>

uint64_t intern_hash(const void *data, size_t size, uint64_t seed)
{
    const uint8_t *p = data;
    uint64_t h = seed ^ 0x9E3779B97F4A7C15u ^ size;
    while (size >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        h = (h ^ word) * 0xBF58476D1CE4E5B9u;
        h ^= h >> 29;
        p += 8;
        size -= 8;
    }
    for (; size; size--, p++)
        h = (h ^ *p) * 0x100000001b3u;
    h = (h ^ (h >> 32)) * 0x94D049BB133111EBu;
    return h ^ (h >> 29);
}

static bool grow_keys(struct intern *t, struct err *e)
{
    if (t->count < t->capacity)
        return true;
    if (t->count >= INTERN_MAX)
        return err_set(e, ERR_TOO_LARGE, "graphs: more than the limit of %u different nodes",
                       INTERN_MAX);
    uint32_t capacity = t->capacity ? t->capacity * 2 : 64;
    void *keys = realloc(t->keys, (size_t)capacity * sizeof(*t->keys));
    if (!keys)
        return err_set(e, ERR_MEMORY, "graphs: no memory");
    t->keys = keys;
    t->capacity = capacity;
    return true;
}

static bool grow_table(struct intern *t, struct err *e)
{
    if (t->count + 1 <= t->table_size / 2)
        return true;
    uint32_t size = t->table_size ? t->table_size * 2 : 128;
    uint32_t *table = calloc(size, sizeof(*table));
    if (!table)
        return err_set(e, ERR_MEMORY, "graphs: no memory");
    for (uint32_t i = 0; i < t->count; i++) {
        uint32_t at = (uint32_t)t->keys[i].hash & (size - 1);
        while (table[at])
            at = (at + 1) & (size - 1);
        table[at] = i + 1;
    }
    free(t->table);
    t->table = table;
    t->table_size = size;
    return true;
}

bool intern_find(const struct intern *t, const void *key, size_t size, uint32_t *ret)
{
    if (!t->table_size)
        return false;
    uint64_t hash = intern_hash(key, size, 0);
    for (uint32_t at = (uint32_t)hash & (t->table_size - 1); t->table[at];
         at = (at + 1) & (t->table_size - 1)) {
        const struct intern_key *k = &t->keys[t->table[at] - 1];
        if (k->hash == hash && k->size == size && memcmp(k->data, key, size) == 0) {
            *ret = t->table[at] - 1;
            return true;
        }
    }
    return false;
}

bool intern_id(struct intern *t, const void *key, size_t size, uint32_t *ret, struct err *e)
{
    if (intern_find(t, key, size, ret))
        return true;
    if (!grow_table(t, e))
        return false;
    uint64_t hash = intern_hash(key, size, 0);
    uint32_t at = (uint32_t)hash & (t->table_size - 1);
    while (t->table[at])
        at = (at + 1) & (t->table_size - 1);
    char *copy = malloc(size ? size : 1);
    if (!copy || !grow_keys(t, e)) {
        free(copy);
        return err_set(e, ERR_MEMORY, "graphs: no memory");
    }
    if (size)
        memcpy(copy, key, size);
    t->keys[t->count] = (struct intern_key){hash, copy, size};
    t->table[at] = ++t->count;
    *ret = t->count - 1;
    return true;
}

void intern_done(struct intern *t)
{
    for (uint32_t i = 0; i < t->count; i++)
        free(t->keys[i].data);
    free(t->keys);
    free(t->table);
    *t = (struct intern){0};
}
