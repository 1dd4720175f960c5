/* sync.c - monitors and threads. */
#include "base/sync.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>

static void must(int r)
{
    if (r != 0)
        abort(); /* a mutex used wrongly: our bug, never input */
}

void condition_init(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    must(pthread_condattr_init(&attr));
    must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    must(pthread_cond_init(c, &attr));
    (void)pthread_condattr_destroy(&attr);
}

void monitor_init(struct monitor *m)
{
    must(pthread_mutex_init(&m->mutex, NULL));
    condition_init(&m->cond);
}

void monitor_destroy(struct monitor *m)
{
    (void)pthread_cond_destroy(&m->cond);
    (void)pthread_mutex_destroy(&m->mutex);
}

void monitor_lock(struct monitor *m)
{
    must(pthread_mutex_lock(&m->mutex));
}

void monitor_unlock(struct monitor *m)
{
    must(pthread_mutex_unlock(&m->mutex));
}

void monitor_wake(struct monitor *m)
{
    must(pthread_cond_broadcast(&m->cond));
}

bool monitor_wait(struct monitor *m, int64_t deadline_ns)
{
    return monitor_wait_on(m, &m->cond, deadline_ns);
}

bool monitor_wait_on(struct monitor *m, pthread_cond_t *c, int64_t deadline_ns)
{
    if (deadline_ns == CLOCK_NEVER) {
        must(pthread_cond_wait(c, &m->mutex));
        return true;
    }
    struct timespec t = clock_timespec(deadline_ns);
    int r = pthread_cond_timedwait(c, &m->mutex, &t);
    if (r != 0 && r != ETIMEDOUT)
        must(r);
    return r == 0;
}

bool thread_start(pthread_t *ret, const char *name, void *(*run)(void *), void *arg, struct err *e)
{
    pthread_attr_t attr;
    must(pthread_attr_init(&attr));
    must(pthread_attr_setstacksize(&attr, 512 * 1024));
    int r = pthread_create(ret, &attr, run, arg);
    (void)pthread_attr_destroy(&attr);
    if (r != 0)
        return err_errno(e, ERR_BUSY, r, "thread %s", name);
    (void)pthread_setname_np(*ret, name);
    return true;
}
