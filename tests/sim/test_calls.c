/* Calls and deliveries straight to a node: any order, and a thousand at once.  label: threads */
#include "base/cancel.h"
#include "base/clock.h"
#include "lib/cmocka.h"
#include "sim/lib/sim.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALLS 1000
#define LEAVERS 10 /* of further calls whose clients go away */
#define DELIVERERS 4

static struct sim s; /* of the test that runs */

static int stop_fleet(void **state)
{
    (void)state;
    sim_stop(&s); /* also after a failure: the next fleet is not to meet this one */
    return 0;
}

struct head_call {
    const struct sim_module *head;
    int number;
    struct cancel *cancel; /* NULL: stays */
    pthread_t thread;
    bool ok;
    struct err error;
    float sum;
};

static struct call_key key_of(int number)
{
    struct call_key k = {.attempt = 1};
    (void)snprintf(k.request, sizeof(k.request), "r%d", number);
    (void)snprintf(k.call, sizeof(k.call), "head");
    return k;
}

/* Waits for l and r, returns s. */
static void *run_head(void *head_call)
{
    struct head_call *h = head_call;
    struct call_answer a = {0};
    struct call *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->key = key_of(h->number);
    c->module = h->head->digest;
    c->deadline_ms = 2 * SIM_WAIT_MS;
    c->reserve = 32;
    c->input_count = 2;
    c->inputs[0].source = c->inputs[1].source = CALL_MEETING;
    (void)snprintf(c->inputs[0].port, sizeof(c->inputs[0].port), "l");
    (void)snprintf(c->inputs[1].port, sizeof(c->inputs[1].port), "r");
    c->return_count = 1;
    (void)snprintf(c->returns[0], sizeof(c->returns[0]), "s");
    h->ok = sim_call(&s, 0, c, h->cancel, &a, &h->error);
    if (h->ok) {
        h->sum = a.output_count == 1 ? *(const float *)a.outputs[0].tensor.data : -1;
        call_answer_clear(&a);
    }
    call_clear(c);
    free(c);
    return NULL;
}

static bool deliver(int number, const char *port, float value, struct err *e)
{
    struct shape shape = {.rank = 2, .dims = {1, 4}};
    struct delivery d = {.key = key_of(number), .reserve = 32, .deadline_ms = 2 * SIM_WAIT_MS};
    (void)snprintf(d.port, sizeof(d.port), "%s", port);
    if (!tensor_new(DT_F32, &shape, &d.tensor, e))
        return false;
    *(float *)d.tensor.data = value;
    bool ok = sim_deliver(&s, 0, &d, e);
    delivery_clear(&d);
    return ok;
}

static struct sim_module *start(struct sim_module **blocker, unsigned max_ordinary)
{
    sim_start(&s, &(struct sim_options){.devices = 1, .max_ordinary = max_ordinary});
    struct sim_module *head =
        sim_add_module(&s, "head", "fake add in l float32 1x4 r float32 1x4 out s float32 1x4");
    *blocker = sim_add_module(&s, "blocker", SIM_BLOCKER);
    sim_place(head, 0, 1);
    sim_place(*blocker, 0, 1);
    sim_publish(&s);
    return head;
}

static void deliveries_may_come_before_the_call(void **state)
{
    (void)state;
    struct err e;
    struct sim_module *blocker, *head = start(&blocker, 0);
    struct head_call h = {.head = head, .number = 1};
    if (!deliver(1, "l", 2, &e) || !deliver(1, "r", 3, &e) ||
        !deliver(1, "r", 9, &e)) /* again: the first one counts */
        fail_msg("%s", e.text);
    (void)run_head(&h);
    if (!h.ok)
        fail_msg("%s", h.error.text);
    assert_true(h.sum == 5);
}

/* Polls: the number of requests under way is in no heartbeat. */
static void wait_under_way(unsigned want)
{
    struct net_counts c;
    int64_t end = clock_deadline_ms(SIM_WAIT_MS);
    do {
        (void)sched_yield();
        net_server_counts(s.devices[0].peer, &c);
    } while (c.ordinary != want && clock_now_ns() < end);
    assert_int_equal(c.ordinary, want);
}

struct deliverer {
    int part;
    pthread_t thread;
    bool ok;
    struct err error;
};

static void *run_deliverer(void *deliverer)
{
    struct deliverer *d = deliverer;
    d->ok = true;
    for (int i = d->part; d->ok && i < CALLS; i += DELIVERERS)
        d->ok = deliver(i, "l", (float)i, &d->error) && deliver(i, "r", 1000, &d->error);
    return NULL;
}

static void deliver_all(void)
{
    struct err e;
    struct deliverer list[DELIVERERS];
    for (int i = 0; i < DELIVERERS; i++) {
        list[i] = (struct deliverer){.part = i};
        assert_true(thread_start(&list[i].thread, "deliver", run_deliverer, &list[i], &e));
    }
    for (int i = 0; i < DELIVERERS; i++) {
        (void)pthread_join(list[i].thread, NULL);
        if (!list[i].ok)
            fail_msg("%s", list[i].error.text);
    }
}

static struct head_call *start_calls(const struct sim_module *head)
{
    struct err e;
    struct head_call *list = calloc(CALLS + LEAVERS, sizeof(*list));
    assert_non_null(list);
    for (int i = 0; i < CALLS + LEAVERS; i++) {
        list[i] = (struct head_call){.head = head, .number = i};
        list[i].cancel = i < CALLS ? NULL : cancel_new();
        assert_true(thread_start(&list[i].thread, "head", run_head, &list[i], &e));
    }
    return list;
}

static void a_thousand_wait_and_answer(void **state)
{
    (void)state;
    struct err e;
    struct sim_block block;
    struct sim_module *blocker, *head = start(&blocker, CALLS + LEAVERS + 1);
    sim_block(&s, &block, 0, blocker);
    struct head_call *list = start_calls(head);
    wait_under_way(CALLS + LEAVERS + 1);
    if (!sim_ping(&s, 0, &e)) /* nothing of what is asked now may wait for the lane */
        fail_msg("%s", e.text);
    if (!deliver(0, "l", 0, &e)) /* there is no room for another call, but for this */
        fail_msg("%s", e.text);
    for (int i = CALLS; i < CALLS + LEAVERS; i++) {
        cancel_fire(list[i].cancel);
        (void)pthread_join(list[i].thread, NULL);
        assert_false(list[i].ok);
        assert_int_equal(list[i].error.code, ERR_CANCELLED);
        cancel_unref(list[i].cancel);
    }
    wait_under_way(CALLS + 1);
    deliver_all();
    sim_wait_lanes(&s, 0, 1, CALLS); /* all have met, all want the lane */
    if (!sim_ping(&s, 0, &e))
        fail_msg("%s", e.text);
    sim_unblock(&block);
    for (int i = 0; i < CALLS; i++) {
        (void)pthread_join(list[i].thread, NULL);
        if (!list[i].ok)
            fail_msg("call %d: %s", i, list[i].error.text);
        assert_true(list[i].sum == (float)(1000 + i));
    }
    assert_int_equal(sim_runs(&s, 0, head), CALLS);
    free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(deliveries_may_come_before_the_call, stop_fleet),
        cmocka_unit_test_teardown(a_thousand_wait_and_answer, stop_fleet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
