/* cache.h - results of module runs by what went in, and equal runs joined.
 *
 * The key is a digest of (module, and for each input its processor and bytes): equal keys give
 * equal bits on one device.  The first asker computes; those who ask meanwhile wait for it.  When
 * the computing one fails, one of the waiters takes over.
 *
 * Bounds: bytes of tensors held (least recently used go first) and keys under way.
 * Threads: any. */
#pragma once
#include "base/cancel.h"
#include "base/digest.h"
#include "tensor/tensor.h"
#include "wire/limits.h"

#define CACHE_FLIGHTS_MAX 4096

struct result {
    struct named_tensor outputs[WIRE_INPUTS_MAX]; /* references, owned */
    int count;
};

void result_clear(struct result *r);
/* More references to the same tensors. */
void result_copy(struct result *to, const struct result *from);

struct cache;

struct cache *cache_new(size_t max_bytes); /* 0: nothing is kept, equal runs still join */
void cache_free(struct cache *c);          /* nobody may be inside */

enum cache_ask { CACHE_HIT, CACHE_COMPUTE, CACHE_ERROR };

/* CACHE_HIT: *ret holds references.  CACHE_COMPUTE: the caller must end with cache_put() or
 * cache_fail() for this key.  CACHE_ERROR: e is set (deadline, cancelled, too many keys). */
enum cache_ask cache_get(struct cache *c, const struct digest *key, int64_t deadline_ns,
                         struct cancel *cancel, struct result *ret, struct err *e);
void cache_put(struct cache *c, const struct digest *key, const struct result *r);
void cache_fail(struct cache *c, const struct digest *key);

struct cache_stats {
    size_t bytes, entries;
    uint64_t hits, misses, joined;
};
void cache_stats(struct cache *c, struct cache_stats *ret);
