/* Cancellation: watches fire once, on whichever thread, and not after they are taken away; waits
 * end at their deadline.  label: threads */
#include "base/cancel.h"
#include "base/clock.h"
#include "base/sync.h"
#include "lib/cmocka.h"

#include <stdatomic.h>

static void count(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void watches_fire_once(void **state)
{
    (void)state;
    atomic_int n = 0, m = 0;
    struct cancel *c = cancel_new();
    struct cancel_watch a = {.fired = count, .arg = &n}, b = {.fired = count, .arg = &m};
    cancel_watch(c, &a);
    cancel_watch(c, &b);
    cancel_unwatch(c, &b);
    assert_false(cancel_fired(c));
    cancel_fire(c);
    cancel_fire(c);
    assert_int_equal(atomic_load(&n), 1);
    assert_int_equal(atomic_load(&m), 0);
    cancel_watch(c, &b); /* late: at once */
    assert_int_equal(atomic_load(&m), 1);
    cancel_unwatch(c, &a);
    cancel_unwatch(c, &b);
    cancel_unref(c);
    cancel_watch(NULL, &a); /* a token that never fires */
    cancel_fire(NULL);
    assert_false(cancel_fired(NULL));
}

struct shared {
    struct cancel *cancel;
    struct monitor lock;
    bool woken;
};

static void wake(void *arg)
{
    struct shared *s = arg;
    monitor_lock(&s->lock);
    s->woken = true;
    monitor_wake(&s->lock);
    monitor_unlock(&s->lock);
}

static void *fire(void *arg)
{
    struct shared *s = arg;
    cancel_fire(s->cancel);
    return NULL;
}

static void a_waiter_is_woken_by_another_thread(void **state)
{
    (void)state;
    struct err e;
    pthread_t thread;
    struct shared s = {.cancel = cancel_new()};
    struct cancel_watch w = {.fired = wake, .arg = &s};
    monitor_init(&s.lock);
    cancel_watch(s.cancel, &w);
    assert_true(thread_start(&thread, "fire", fire, &s, &e));
    monitor_lock(&s.lock);
    int64_t end = clock_deadline_ms(30000);
    while (!s.woken && clock_now_ns() < end)
        (void)monitor_wait(&s.lock, end);
    assert_true(s.woken);
    monitor_unlock(&s.lock);
    pthread_join(thread, NULL);
    cancel_unwatch(s.cancel, &w);
    cancel_unref(s.cancel);
    monitor_destroy(&s.lock);
}

static void waits_end_at_their_deadline(void **state)
{
    (void)state;
    struct monitor m;
    monitor_init(&m);
    monitor_lock(&m);
    int64_t end = clock_deadline_ms(3);
    while (monitor_wait(&m, end)) {
    }
    assert_true(clock_now_ns() >= end);
    monitor_unlock(&m);
    monitor_destroy(&m);
    assert_true(clock_deadline_ms(-1) == CLOCK_NEVER);
    assert_int_equal(clock_left_ms(CLOCK_NEVER, 50), 50);
    assert_int_equal(clock_left_ms(clock_now_ns() - 1, 50), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(watches_fire_once),
                                       cmocka_unit_test(a_waiter_is_woken_by_another_thread),
                                       cmocka_unit_test(waits_end_at_their_deadline)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
