/* lanes.c - lanes by tickets: a caller may enter when its ticket is among the first `count` that
 * have not left.  A caller that gives up in the queue leaves a hole: its ticket is handed on by
 * moving those behind it up, which the list below does by being a list. */
#include "node/lanes.h"

#include "base/clock.h"
#include "base/sync.h"

#include <stdlib.h>

struct waiter {
    struct waiter *next;
    pthread_cond_t cond;
    bool called;
};

struct lanes {
    struct monitor lock;
    uint32_t count, running, waiting;
    struct waiter *first, **last;
};

struct lanes *lanes_new(uint32_t count)
{
    struct lanes *l = calloc(1, sizeof(*l));
    if (!l)
        return NULL;
    monitor_init(&l->lock);
    l->count = count ? count : 1;
    l->last = &l->first;
    return l;
}

void lanes_free(struct lanes *l)
{
    if (!l)
        return;
    monitor_destroy(&l->lock);
    free(l);
}

static void take_out(struct lanes *l, struct waiter *w)
{
    struct waiter **at = &l->first;
    while (*at && *at != w)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = w->next;
    if (l->last == &w->next)
        l->last = at;
    l->waiting--;
}

/* Gives a free lane to the first in the queue. */
static void call_next(struct lanes *l)
{
    while (l->running < l->count && l->first) {
        struct waiter *w = l->first;
        take_out(l, w);
        w->called = true;
        l->running++;
        (void)pthread_cond_signal(&w->cond);
    }
}

struct lane_watch {
    struct lanes *lanes;
    struct waiter *waiter;
};

static void wake_waiter(void *arg)
{
    struct lane_watch *w = arg;
    monitor_lock(&w->lanes->lock);
    (void)pthread_cond_signal(&w->waiter->cond);
    monitor_unlock(&w->lanes->lock);
}

static bool queue_up(struct lanes *l, struct waiter *w, struct err *e)
{
    if (l->waiting >= LANES_QUEUE_MAX)
        return err_set(e, ERR_BUSY, "node: %u runs wait, limit %d", l->waiting, LANES_QUEUE_MAX);
    *l->last = w;
    l->last = &w->next;
    l->waiting++;
    return true;
}

static bool wait_called(struct lanes *l, struct waiter *w, int64_t deadline_ns,
                        struct cancel *cancel, struct err *e)
{
    while (!w->called) {
        bool gone = cancel_fired(cancel);
        if (gone || clock_now_ns() >= deadline_ns) {
            take_out(l, w);
            return err_set(e, gone ? ERR_CANCELLED : ERR_TIMEOUT,
                           "node: %s while waiting for a lane",
                           gone ? "the caller went away" : "the deadline passed");
        }
        (void)monitor_wait_on(&l->lock, &w->cond, deadline_ns);
    }
    return true;
}

bool lane_enter(struct lanes *l, int64_t deadline_ns, struct cancel *cancel, struct err *e)
{
    monitor_lock(&l->lock);
    if (l->running < l->count && !l->first) {
        l->running++;
        monitor_unlock(&l->lock);
        return true;
    }
    struct waiter w = {0};
    condition_init(&w.cond);
    bool ok = queue_up(l, &w, e);
    monitor_unlock(&l->lock);
    if (ok) {
        struct lane_watch arg = {l, &w};
        struct cancel_watch watch = {.fired = wake_waiter, .arg = &arg};
        cancel_watch(cancel, &watch);
        monitor_lock(&l->lock);
        ok = wait_called(l, &w, deadline_ns, cancel, e);
        monitor_unlock(&l->lock);
        cancel_unwatch(cancel, &watch);
    }
    (void)pthread_cond_destroy(&w.cond);
    return ok;
}

void lane_leave(struct lanes *l)
{
    monitor_lock(&l->lock);
    l->running--;
    call_next(l);
    monitor_unlock(&l->lock);
}

void lanes_stats(struct lanes *l, uint32_t *running, uint32_t *waiting)
{
    monitor_lock(&l->lock);
    *running = l->running;
    *waiting = l->waiting;
    monitor_unlock(&l->lock);
}
