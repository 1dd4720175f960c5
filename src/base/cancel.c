/* cancel.c - cancellation tokens.
 *
 * The watch functions run under the token's lock: that is what makes cancel_unwatch() wait for
 * them.  They must be short and must not touch the token. */
#include "base/cancel.h"

#include "base/sync.h"

#include <stdatomic.h>
#include <stdlib.h>

struct cancel {
    atomic_uint refs;
    atomic_bool fired;
    struct monitor lock;
    struct cancel_watch *watches;
};

struct cancel *cancel_new(void)
{
    struct cancel *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    atomic_init(&c->refs, 1);
    monitor_init(&c->lock);
    return c;
}

struct cancel *cancel_ref(struct cancel *c)
{
    if (c)
        atomic_fetch_add(&c->refs, 1);
    return c;
}

void cancel_unref(struct cancel *c)
{
    if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
        return;
    monitor_destroy(&c->lock);
    free(c);
}

void cancel_fire(struct cancel *c)
{
    if (!c)
        return;
    monitor_lock(&c->lock);
    if (!atomic_exchange(&c->fired, true))
        for (struct cancel_watch *w = c->watches; w; w = w->next)
            w->fired(w->arg);
    monitor_unlock(&c->lock);
}

bool cancel_fired(const struct cancel *c)
{
    return c && atomic_load(&c->fired);
}

void cancel_watch(struct cancel *c, struct cancel_watch *w)
{
    if (!c)
        return;
    monitor_lock(&c->lock);
    w->next = c->watches;
    c->watches = w;
    if (atomic_load(&c->fired))
        w->fired(w->arg);
    monitor_unlock(&c->lock);
}

void cancel_unwatch(struct cancel *c, struct cancel_watch *w)
{
    if (!c)
        return;
    monitor_lock(&c->lock);
    for (struct cancel_watch **p = &c->watches; *p; p = &(*p)->next)
        if (*p == w) {
            *p = w->next;
            break;
        }
    monitor_unlock(&c->lock);
}
