/* cancel.h - a request's "stop, nobody waits any more", seen by everything that works for it.
 *
 * Fired at most once, by any thread.  Workers poll cancel_fired(), or add a watch whose function is
 * called once, on the firing thread, or at once when it has fired already.  After cancel_unwatch()
 * returns, the function is not running and will not run.  A watch must not unwatch itself.
 *
 * Ownership: counted; every holder unrefs.  NULL is a token that never fires. */
#pragma once
#include <stdbool.h>

struct cancel;
struct cancel_watch {
    void (*fired)(void *arg);
    void *arg;
    struct cancel_watch *next; /* private */
};

struct cancel *cancel_new(void); /* NULL: out of memory */
struct cancel *cancel_ref(struct cancel *c);
void cancel_unref(struct cancel *c);

void cancel_fire(struct cancel *c);
bool cancel_fired(const struct cancel *c);

/* The struct belongs to the caller and stays in place until cancel_unwatch(). */
void cancel_watch(struct cancel *c, struct cancel_watch *w);
void cancel_unwatch(struct cancel *c, struct cancel_watch *w);
