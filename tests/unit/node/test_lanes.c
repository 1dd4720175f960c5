/* Lanes: at most so many at once, first come first served, leaving the queue; emulation texts.
 * label: threads */
#include "base/clock.h"
#include "base/num.h"
#include "base/sync.h"
#include "lib/cmocka.h"
#include "node/lanes.h"
#include "node/node.h"

#include <sched.h>
#include <stdatomic.h>
#include <string.h>

struct runner {
    struct lanes *lanes;
    atomic_int *inside, *most, *order;
    int number, got;
};

static void *run(void *arg)
{
    struct runner *r = arg;
    struct err e;
    if (!lane_enter(r->lanes, clock_deadline_ms(60000), NULL, &e))
        return NULL;
    int now = atomic_fetch_add(r->inside, 1) + 1;
    int most = atomic_load(r->most);
    while (now > most && !atomic_compare_exchange_weak(r->most, &most, now)) {
    }
    r->got = atomic_fetch_add(r->order, 1);
    sched_yield();
    atomic_fetch_sub(r->inside, 1);
    lane_leave(r->lanes);
    return NULL;
}

static void never_more_than_there_are(void **state)
{
    (void)state;
    enum { N = 40 };
    struct err e;
    atomic_int inside = 0, most = 0, order = 0;
    pthread_t threads[N];
    struct runner r[N];
    struct lanes *l = lanes_new(3);
    for (int i = 0; i < N; i++) {
        r[i] = (struct runner){l, &inside, &most, &order, i, -1};
        assert_true(thread_start(&threads[i], "runner", run, &r[i], &e));
    }
    for (int i = 0; i < N; i++) {
        pthread_join(threads[i], NULL);
        assert_true(r[i].got >= 0);
    }
    assert_true(atomic_load(&most) <= 3 && atomic_load(&most) >= 1);
    uint32_t running, waiting;
    lanes_stats(l, &running, &waiting);
    assert_int_equal(running, 0);
    assert_int_equal(waiting, 0);
    lanes_free(l);
}

static void until_waiting(struct lanes *l, uint32_t count)
{
    uint32_t running, waiting = 0;
    while (waiting != count) {
        lanes_stats(l, &running, &waiting);
        sched_yield();
    }
}

static void the_first_in_the_queue_is_next(void **state)
{
    (void)state;
    enum { N = 5 };
    struct err e;
    atomic_int inside = 0, most = 0, order = 0;
    pthread_t threads[N];
    struct runner r[N];
    struct lanes *l = lanes_new(1);
    assert_true(lane_enter(l, CLOCK_NEVER, NULL, &e));
    for (int i = 0; i < N; i++) {
        r[i] = (struct runner){l, &inside, &most, &order, i, -1};
        assert_true(thread_start(&threads[i], "runner", run, &r[i], &e));
        until_waiting(l, (uint32_t)i + 1);
    }
    lane_leave(l);
    for (int i = 0; i < N; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(r[i].got, i);
    }
    lanes_free(l);
}

static void giving_up_leaves_no_hole(void **state)
{
    (void)state;
    struct err e;
    struct cancel *c = cancel_new();
    struct lanes *l = lanes_new(1);
    assert_true(lane_enter(l, CLOCK_NEVER, NULL, &e));
    assert_false(lane_enter(l, clock_deadline_ms(5), NULL, &e));
    assert_int_equal(e.code, ERR_TIMEOUT);
    cancel_fire(c);
    assert_false(lane_enter(l, CLOCK_NEVER, c, &e));
    assert_int_equal(e.code, ERR_CANCELLED);
    lane_leave(l);
    assert_true(lane_enter(l, clock_deadline_ms(1000), NULL, &e));
    lane_leave(l);
    cancel_unref(c);
    lanes_free(l);
}

static void emulation_is_read_or_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "speed", "speed=", "speed=0", "speed=2", "link_ms=-1", "other=1", "speed=0.5;link_ms=1"};
    struct err e;
    struct emulation m;
    assert_true(emulation_parse("speed=0.25,link_mbit=100,link_ms=20", &m, &e));
    assert_true(m.speed == 0.25 && m.link_mbit == 100 && m.link_ms == 20);
    assert_true(emulation_parse("", &m, &e));
    assert_int_equal(m.text[0], 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (emulation_parse(bad[i], &m, &e))
            fail_msg("'%s' was taken", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_more_than_there_are),
        cmocka_unit_test(the_first_in_the_queue_is_next),
        cmocka_unit_test(giving_up_leaves_no_hole),
        cmocka_unit_test(emulation_is_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
