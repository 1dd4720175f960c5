/* sync.h - a mutex with a condition on the monotonic clock, and threads with a small stack.
 * Errors of pthread calls on valid objects are our own bugs: they end the process. */
#pragma once
#include "base/err.h"

#include <pthread.h>
#include <stdint.h>

struct monitor {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
};

void monitor_init(struct monitor *m);
void monitor_destroy(struct monitor *m);
void monitor_lock(struct monitor *m);
void monitor_unlock(struct monitor *m);
void monitor_wake(struct monitor *m); /* all waiters */

/* Waits until woken or the deadline (clock.h); false if the deadline has passed.  Holds the lock
 * before and after. */
bool monitor_wait(struct monitor *m, int64_t deadline_ns);

/* A further condition under the same lock, for when waking all waiters would be too many. */
void condition_init(pthread_cond_t *c);
bool monitor_wait_on(struct monitor *m, pthread_cond_t *c, int64_t deadline_ns);

/* A joinable thread with a stack of 512 KiB. name: at most 15 characters. */
bool thread_start(pthread_t *ret, const char *name, void *(*run)(void *), void *arg, struct err *e);
