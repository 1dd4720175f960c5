/* cache.c - results by key, with flights.
 *
 * One hash table holds both: an entry without `ready` is a flight.  All under one lock; tensors are
 * only referenced, never copied, so the lock is short.  A waiter that is cancelled or runs out of
 * time leaves; entries that somebody waits for are never freed, because a waiter looks its key up
 * again after each wake. */
#include "node/cache.h"

#include "base/clock.h"
#include "base/sync.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS 1024

struct entry {
    struct entry *next;          /* in the bucket */
    struct entry *newer, *older; /* in order of use; only ready ones */
    struct digest key;
    struct result result;
    size_t bytes;
    bool ready;
};

struct cache {
    struct monitor lock;
    struct entry *buckets[BUCKETS];
    struct entry *newest, *oldest;
    size_t max_bytes;
    size_t flights;
    struct cache_stats stats;
};

void result_clear(struct result *r)
{
    for (int i = 0; i < r->count; i++)
        tensor_clear(&r->outputs[i].tensor);
    r->count = 0;
}

void result_copy(struct result *to, const struct result *from)
{
    to->count = from->count;
    for (int i = 0; i < from->count; i++) {
        memcpy(to->outputs[i].name, from->outputs[i].name, sizeof(to->outputs[i].name));
        to->outputs[i].tensor = tensor_ref(&from->outputs[i].tensor);
    }
}

struct cache *cache_new(size_t max_bytes)
{
    struct cache *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    monitor_init(&c->lock);
    c->max_bytes = max_bytes;
    return c;
}

static struct entry **find(struct cache *c, const struct digest *key)
{
    unsigned h = 0;
    for (int i = 0; i < 8; i++)
        h = h * 31 + (unsigned char)key->hex[i];
    struct entry **p = &c->buckets[h % BUCKETS];
    while (*p && strcmp((*p)->key.hex, key->hex) != 0)
        p = &(*p)->next;
    return p;
}

static void unlink_use(struct cache *c, struct entry *x)
{
    *(x->newer ? &x->newer->older : &c->newest) = x->older;
    *(x->older ? &x->older->newer : &c->oldest) = x->newer;
    x->newer = x->older = NULL;
}

static void link_newest(struct cache *c, struct entry *x)
{
    x->newer = NULL;
    x->older = c->newest;
    *(c->newest ? &c->newest->newer : &c->oldest) = x;
    c->newest = x;
}

static void drop(struct cache *c, struct entry **p)
{
    struct entry *x = *p;
    *p = x->next;
    if (x->ready) {
        unlink_use(c, x);
        c->stats.bytes -= x->bytes;
        c->stats.entries--;
    }
    result_clear(&x->result);
    free(x);
}

void cache_free(struct cache *c)
{
    if (!c)
        return;
    for (int i = 0; i < BUCKETS; i++)
        while (c->buckets[i])
            drop(c, &c->buckets[i]);
    monitor_destroy(&c->lock);
    free(c);
}

static void wake_cache(void *arg)
{
    struct cache *c = arg;
    monitor_lock(&c->lock);
    monitor_wake(&c->lock);
    monitor_unlock(&c->lock);
}

static enum cache_ask start_flight(struct cache *c, struct entry **p, const struct digest *key,
                                   struct err *e)
{
    struct entry *x = c->flights < CACHE_FLIGHTS_MAX ? calloc(1, sizeof(*x)) : NULL;
    if (!x) {
        err_set(e, ERR_BUSY, "node: %zu runs under way, limit %d", c->flights, CACHE_FLIGHTS_MAX);
        return CACHE_ERROR;
    }
    x->key = *key;
    x->next = *p;
    *p = x;
    c->flights++;
    c->stats.misses++;
    return CACHE_COMPUTE;
}

/* Under the lock. */
static enum cache_ask ask(struct cache *c, const struct digest *key, int64_t deadline_ns,
                          struct cancel *cancel, struct result *ret, struct err *e)
{
    bool joined = false;
    for (;;) {
        struct entry **p = find(c, key);
        if (!*p)
            return start_flight(c, p, key, e);
        if ((*p)->ready) {
            unlink_use(c, *p);
            link_newest(c, *p);
            result_copy(ret, &(*p)->result);
            c->stats.hits++;
            return CACHE_HIT;
        }
        if (!joined)
            c->stats.joined++;
        joined = true;
        if (cancel_fired(cancel)) {
            err_set(e, ERR_CANCELLED, "node: the caller went away");
            return CACHE_ERROR;
        }
        if (clock_now_ns() >= deadline_ns) {
            err_set(e, ERR_TIMEOUT, "node: deadline passed while an equal run was under way");
            return CACHE_ERROR;
        }
        (void)monitor_wait(&c->lock, deadline_ns);
    }
}

enum cache_ask cache_get(struct cache *c, const struct digest *key, int64_t deadline_ns,
                         struct cancel *cancel, struct result *ret, struct err *e)
{
    struct cancel_watch watch = {.fired = wake_cache, .arg = c};
    cancel_watch(cancel, &watch);
    monitor_lock(&c->lock);
    enum cache_ask r = ask(c, key, deadline_ns, cancel, ret, e);
    monitor_unlock(&c->lock);
    cancel_unwatch(cancel, &watch);
    return r;
}

static void evict(struct cache *c)
{
    while (c->stats.bytes > c->max_bytes && c->oldest)
        drop(c, find(c, &c->oldest->key));
}

void cache_put(struct cache *c, const struct digest *key, const struct result *r)
{
    monitor_lock(&c->lock);
    struct entry *x = *find(c, key);
    if (x && !x->ready) {
        c->flights--;
        result_copy(&x->result, r);
        for (int i = 0; i < r->count; i++)
            x->bytes += r->outputs[i].tensor.bytes + sizeof(struct entry) / WIRE_INPUTS_MAX;
        x->ready = true;
        link_newest(c, x);
        c->stats.bytes += x->bytes;
        c->stats.entries++;
        /* Waiters must find it once even if nothing may be kept: they are woken first, and the
         * entry goes at the next put.  With max_bytes 0 the newest stays until then. */
        if (c->oldest != x || c->max_bytes > 0)
            evict(c);
        monitor_wake(&c->lock);
    }
    monitor_unlock(&c->lock);
}

void cache_fail(struct cache *c, const struct digest *key)
{
    monitor_lock(&c->lock);
    struct entry **p = find(c, key);
    if (*p && !(*p)->ready) {
        c->flights--;
        drop(c, p);
        monitor_wake(&c->lock);
    }
    monitor_unlock(&c->lock);
}

void cache_stats(struct cache *c, struct cache_stats *ret)
{
    monitor_lock(&c->lock);
    *ret = c->stats;
    monitor_unlock(&c->lock);
}
