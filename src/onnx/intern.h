/* intern.h - byte strings to small numbers: equal bytes, equal number.
 *
 * Used for operator signatures, classes of nodes, leaves and contents of constants, so that "the
 * same" is a comparison of whole keys and never of hashes alone.  Threads: one at a time. */
#pragma once
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define INTERN_MAX 8000000u /* different keys of one table */

struct intern_key {
    uint64_t hash;
    char *data; /* owned */
    size_t size;
};

struct intern {
    struct intern_key *keys;
    uint32_t count, capacity;
    uint32_t *table; /* number + 1; 0: empty */
    uint32_t table_size;
};

/* *ret is the key's number, from 0 in order of first sight. */
bool intern_id(struct intern *t, const void *key, size_t size, uint32_t *ret, struct err *e);
/* Whether the key is there; *ret is then its number. */
bool intern_find(const struct intern *t, const void *key, size_t size, uint32_t *ret);
void intern_done(struct intern *t);

uint64_t intern_hash(const void *data, size_t size, uint64_t seed);
