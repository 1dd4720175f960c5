/* meeting.c - meetings of calls and deliveries.
 *
 * A hash table under one lock; each meeting has a condition of its own, so that a delivery wakes
 * its own call and not a thousand others.  The reservation is what counts against max_bytes, not
 * what has come. */
#include "node/meeting.h"

#include "base/clock.h"
#include "base/sync.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096

struct meeting {
    struct meeting *next;
    struct call_key key;
    uint64_t reserve;
    int64_t deadline_ns;
    bool waited; /* a call stands here */
    pthread_cond_t cond;
    struct named_tensor inputs[WIRE_INPUTS_MAX];
    int count;
};

struct meetings {
    struct monitor lock;
    struct meeting *buckets[BUCKETS];
    struct meeting_stats stats;
    struct call_key done[MEETING_DONE_MAX]; /* a ring */
    unsigned done_at;
};

struct meetings *meetings_new(size_t max_bytes)
{
    struct meetings *m = calloc(1, sizeof(*m));
    if (!m)
        return NULL;
    monitor_init(&m->lock);
    m->stats.max_bytes = max_bytes;
    return m;
}

static bool same_key(const struct call_key *a, const struct call_key *b)
{
    return a->attempt == b->attempt && strcmp(a->request, b->request) == 0 &&
           strcmp(a->call, b->call) == 0;
}

static struct meeting **find(struct meetings *m, const struct call_key *key)
{
    uint32_t h = key->attempt;
    for (const char *p = key->request; *p; p++)
        h = h * 33 + (unsigned char)*p;
    for (const char *p = key->call; *p; p++)
        h = h * 33 + (unsigned char)*p;
    struct meeting **at = &m->buckets[h % BUCKETS];
    while (*at && !same_key(&(*at)->key, key))
        at = &(*at)->next;
    return at;
}

static void drop(struct meetings *m, struct meeting **at)
{
    struct meeting *x = *at;
    *at = x->next;
    for (int i = 0; i < x->count; i++)
        tensor_clear(&x->inputs[i].tensor);
    m->stats.count--;
    m->stats.reserved_bytes -= x->reserve;
    (void)pthread_cond_destroy(&x->cond);
    free(x);
}

void meetings_free(struct meetings *m)
{
    if (!m)
        return;
    for (int i = 0; i < BUCKETS; i++)
        while (m->buckets[i])
            drop(m, &m->buckets[i]);
    monitor_destroy(&m->lock);
    free(m);
}

static void expire(struct meetings *m, int64_t now)
{
    for (int i = 0; i < BUCKETS; i++)
        for (struct meeting **at = &m->buckets[i]; *at;) {
            if (!(*at)->waited && (*at)->deadline_ns < now)
                drop(m, at);
            else
                at = &(*at)->next;
        }
}

void meetings_expire(struct meetings *m)
{
    monitor_lock(&m->lock);
    expire(m, clock_now_ns());
    monitor_unlock(&m->lock);
}

static bool has_room(const struct meetings *m, uint64_t reserve)
{
    return m->stats.count < MEETINGS_MAX && reserve <= m->stats.max_bytes - m->stats.reserved_bytes;
}

/* Finds or makes the meeting; NULL with e set when there is no room for it. */
static struct meeting *join(struct meetings *m, const struct call_key *key, uint64_t reserve,
                            int64_t deadline_ns, struct err *e)
{
    struct meeting **at = find(m, key);
    if (*at)
        return *at;
    if (!has_room(m, reserve)) {
        expire(m, clock_now_ns());
        at = find(m, key);
    }
    struct meeting *x = has_room(m, reserve) ? calloc(1, sizeof(*x)) : NULL;
    if (!x) {
        err_set(e, ERR_BUSY,
                "node: no room to wait for %llu bytes: %zu of %zu bytes reserved by %zu calls",
                (unsigned long long)reserve, m->stats.reserved_bytes, m->stats.max_bytes,
                m->stats.count);
        return NULL;
    }
    x->key = *key;
    x->reserve = reserve;
    x->deadline_ns = deadline_ns;
    x->next = *at;
    condition_init(&x->cond);
    *at = x;
    m->stats.count++;
    m->stats.reserved_bytes += reserve;
    return x;
}

static struct named_tensor *input(struct meeting *x, const char *port)
{
    for (int i = 0; i < x->count; i++)
        if (strcmp(x->inputs[i].name, port) == 0)
            return &x->inputs[i];
    return NULL;
}

static const char *missing(struct meeting *x, const char *const *ports, int count)
{
    for (int i = 0; i < count; i++)
        if (!input(x, ports[i]))
            return ports[i];
    return NULL;
}

struct waker {
    struct meetings *meetings;
    struct meeting *meeting;
};

static void wake_meeting(void *arg)
{
    struct waker *w = arg;
    monitor_lock(&w->meetings->lock);
    (void)pthread_cond_broadcast(&w->meeting->cond);
    monitor_unlock(&w->meetings->lock);
}

/* Under the lock; x stays because `waited` is set. */
static bool wait_inputs(struct meetings *m, struct meeting *x, const char *const *ports, int count,
                        int64_t deadline_ns, struct cancel *cancel, struct err *e)
{
    const char *port;
    while ((port = missing(x, ports, count))) {
        if (cancel_fired(cancel))
            return err_set(e, ERR_CANCELLED, "call '%s': the caller went away", x->key.call);
        if (clock_now_ns() >= deadline_ns)
            return err_set(e, ERR_TIMEOUT, "call '%s': input '%s' did not come before the deadline",
                           x->key.call, port);
        (void)monitor_wait_on(&m->lock, &x->cond, deadline_ns);
    }
    return true;
}

static void remember(struct meetings *m, const struct call_key *key)
{
    m->done[m->done_at++ % MEETING_DONE_MAX] = *key;
}

static bool remembered(const struct meetings *m, const struct call_key *key)
{
    for (int i = 0; i < MEETING_DONE_MAX; i++)
        if (same_key(&m->done[i], key))
            return true;
    return false;
}

/* Under the lock: marks the meeting as waited for. */
static struct meeting *stand(struct meetings *m, const struct call_key *key, uint64_t reserve,
                             int64_t deadline_ns, struct err *e)
{
    struct meeting *x = join(m, key, reserve, deadline_ns, e);
    if (x && x->waited) {
        err_set(e, ERR_EXISTS, "call '%s' of request '%s' waits here already", key->call,
                key->request);
        return NULL;
    }
    if (x) {
        x->waited = true;
        m->stats.waiting++;
    }
    return x;
}

bool meeting_wait(struct meetings *m, const struct call_key *key, uint64_t reserve,
                  const char *const *ports, int port_count, int64_t deadline_ns,
                  struct cancel *cancel, struct tensor *ret, struct err *e)
{
    monitor_lock(&m->lock);
    struct meeting *x = stand(m, key, reserve, deadline_ns, e);
    monitor_unlock(&m->lock);
    if (!x)
        return false;
    /* The watch locks the meetings, so it is set and taken away outside of the lock. */
    struct waker waker = {m, x};
    struct cancel_watch watch = {.fired = wake_meeting, .arg = &waker};
    cancel_watch(cancel, &watch);
    monitor_lock(&m->lock);
    bool ok = wait_inputs(m, x, ports, port_count, deadline_ns, cancel, e);
    monitor_unlock(&m->lock);
    cancel_unwatch(cancel, &watch);

    monitor_lock(&m->lock);
    for (int i = 0; ok && i < port_count; i++)
        ret[i] = tensor_ref(&input(x, ports[i])->tensor);
    m->stats.waiting--;
    remember(m, key);
    drop(m, find(m, key));
    monitor_unlock(&m->lock);
    return ok;
}

static bool add_input(struct meeting *x, const char *port, const struct tensor *t, struct err *e)
{
    if (input(x, port))
        return true; /* sent again: the first one counts */
    if (x->count >= WIRE_INPUTS_MAX)
        return err_set(e, ERR_TOO_LARGE, "call '%s': more than the limit of %d inputs", x->key.call,
                       WIRE_INPUTS_MAX);
    size_t bytes = t->bytes;
    for (int i = 0; i < x->count; i++)
        bytes += x->inputs[i].tensor.bytes;
    if (bytes > x->reserve)
        return err_set(e, ERR_INVALID,
                       "call '%s': input '%s' brings it to %zu bytes, %llu were reserved",
                       x->key.call, port, bytes, (unsigned long long)x->reserve);
    struct named_tensor *in = &x->inputs[x->count++];
    memcpy(in->name, port, strlen(port) + 1);
    in->tensor = tensor_ref(t);
    (void)pthread_cond_broadcast(&x->cond);
    return true;
}

bool meeting_deliver(struct meetings *m, const struct call_key *key, const char *port,
                     const struct tensor *t, uint64_t reserve, int64_t deadline_ns, struct err *e)
{
    if (strlen(port) >= TENSOR_NAME_MAX)
        return err_set(e, ERR_INVALID, "delivery: port of %zu characters, limit %d", strlen(port),
                       TENSOR_NAME_MAX - 1);
    monitor_lock(&m->lock);
    bool ok = true;
    if (!remembered(m, key)) {
        struct meeting *x = join(m, key, reserve, deadline_ns, e);
        ok = x && add_input(x, port, t, e);
    }
    monitor_unlock(&m->lock);
    return ok;
}

void meetings_stats(struct meetings *m, struct meeting_stats *ret)
{
    monitor_lock(&m->lock);
    *ret = m->stats;
    monitor_unlock(&m->lock);
}
