/* Meetings: any order, reservations, idempotence, a thousand waiting calls.  label: threads */
#include "base/clock.h"
#include "base/sync.h"
#include "lib/cmocka.h"
#include "node/meeting.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tensor floats(int64_t n, float value)
{
    struct tensor t;
    struct err e;
    struct shape s = {.rank = 1, .dims = {n}};
    assert_true(tensor_new(DT_F32, &s, &t, &e));
    *(float *)t.data = value;
    return t;
}

static struct call_key key_of(int i)
{
    struct call_key k = {.attempt = 1, .call = "head"};
    (void)snprintf(k.request, sizeof(k.request), "r%d", i);
    return k;
}

static void deliver(struct meetings *m, int i, const char *port, float value)
{
    struct err e;
    struct call_key k = key_of(i);
    struct tensor t = floats(4, value);
    if (!meeting_deliver(m, &k, port, &t, 64, clock_deadline_ms(60000), &e))
        fail_msg("%s", e.text);
    tensor_clear(&t);
}

static void deliveries_may_come_first(void **state)
{
    (void)state;
    struct err e;
    struct meetings *m = meetings_new(1000);
    struct tensor got[2];
    const char *ports[] = {"a", "b"};
    struct call_key k = key_of(1);
    deliver(m, 1, "b", 2);
    deliver(m, 1, "a", 1);
    deliver(m, 1, "a", 9); /* again: the first one counts */
    assert_true(meeting_wait(m, &k, 64, ports, 2, clock_deadline_ms(1000), NULL, got, &e));
    assert_true(*(float *)got[0].data == 1 && *(float *)got[1].data == 2);
    tensor_clear(&got[0]);
    tensor_clear(&got[1]);
    deliver(m, 1, "a", 1); /* late: acknowledged, holds nothing */
    struct meeting_stats s;
    meetings_stats(m, &s);
    assert_int_equal(s.count, 0);
    assert_int_equal(s.reserved_bytes, 0);
    meetings_free(m);
}

static void the_whole_meeting_is_reserved_or_refused(void **state)
{
    (void)state;
    struct err e;
    struct meetings *m = meetings_new(128);
    struct tensor t = floats(4, 1);
    struct call_key k1 = key_of(1), k2 = key_of(2), k3 = key_of(3);
    int64_t later = clock_deadline_ms(60000);
    assert_true(meeting_deliver(m, &k1, "a", &t, 64, later, &e));
    assert_true(meeting_deliver(m, &k2, "a", &t, 64, later, &e));
    assert_false(meeting_deliver(m, &k3, "a", &t, 64, later, &e));
    assert_int_equal(e.code, ERR_BUSY);
    assert_true(meeting_deliver(m, &k1, "b", &t, 64, later, &e)); /* has its room already */
    struct tensor big = floats(100, 1);
    assert_false(meeting_deliver(m, &k2, "b", &big, 64, later, &e));
    assert_int_equal(e.code, ERR_INVALID);
    tensor_clear(&big);
    tensor_clear(&t);
    meetings_free(m);
}

static void what_nobody_takes_expires(void **state)
{
    (void)state;
    struct err e;
    struct meetings *m = meetings_new(64);
    struct tensor t = floats(4, 1);
    struct call_key k1 = key_of(1), k2 = key_of(2);
    assert_true(meeting_deliver(m, &k1, "a", &t, 64, clock_now_ns() - 1, &e));
    assert_true(
        meeting_deliver(m, &k2, "a", &t, 64, clock_deadline_ms(60000), &e)); /* takes its room */
    tensor_clear(&t);
    meetings_free(m);
}

static void waiting_names_what_is_missing(void **state)
{
    (void)state;
    struct err e;
    struct meetings *m = meetings_new(1000);
    struct tensor got[2];
    const char *ports[] = {"a", "image_embeds"};
    struct call_key k = key_of(1);
    deliver(m, 1, "a", 1);
    assert_false(meeting_wait(m, &k, 64, ports, 2, clock_deadline_ms(5), NULL, got, &e));
    assert_int_equal(e.code, ERR_TIMEOUT);
    assert_non_null(strstr(e.text, "image_embeds"));
    struct cancel *c = cancel_new();
    cancel_fire(c);
    k = key_of(2);
    assert_false(meeting_wait(m, &k, 64, ports, 2, CLOCK_NEVER, c, got, &e));
    assert_int_equal(e.code, ERR_CANCELLED);
    cancel_unref(c);
    meetings_free(m);
}

#define WAITERS 1000

struct waiter {
    struct meetings *meetings;
    int number;
    bool ok;
    float value;
};

static void *wait_run(void *arg)
{
    struct waiter *w = arg;
    struct tensor got;
    struct err e;
    const char *port = "a";
    struct call_key k = key_of(w->number);
    w->ok = meeting_wait(w->meetings, &k, 64, &port, 1, clock_deadline_ms(100000), NULL, &got, &e);
    if (w->ok) {
        w->value = *(float *)got.data;
        tensor_clear(&got);
    }
    return NULL;
}

static void a_thousand_calls_wait_and_each_gets_its_own(void **state)
{
    (void)state;
    struct meetings *m = meetings_new(WAITERS * 64);
    struct waiter *w = calloc(WAITERS, sizeof(*w));
    pthread_t *threads = calloc(WAITERS, sizeof(*threads));
    struct err e;
    for (int i = 0; i < WAITERS; i++) {
        w[i] = (struct waiter){.meetings = m, .number = i};
        if (!thread_start(&threads[i], "waiter", wait_run, &w[i], &e))
            fail_msg("%s", e.text);
    }
    struct meeting_stats s = {0};
    while (s.waiting < WAITERS) {
        meetings_stats(m, &s);
        sched_yield();
    }
    for (int i = WAITERS - 1; i >= 0; i--)
        deliver(m, i, "a", (float)i);
    for (int i = 0; i < WAITERS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(w[i].ok);
        assert_true(w[i].value == (float)i);
    }
    free(w);
    free(threads);
    meetings_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deliveries_may_come_first),
        cmocka_unit_test(the_whole_meeting_is_reserved_or_refused),
        cmocka_unit_test(what_nobody_takes_expires),
        cmocka_unit_test(waiting_names_what_is_missing),
        cmocka_unit_test(a_thousand_calls_wait_and_each_gets_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
