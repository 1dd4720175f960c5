/* Requests over a fleet of nodes and gateways. label: threads */
#include "base/cancel.h"
#include "base/clock.h"
#include "lib/cmocka.h"
#include "sim/lib/sim.h"

#include <stdio.h>
#include <string.h>

static struct sim s; /* of the test that runs */

static int stop_fleet(void **state)
{
    (void)state;
    sim_stop(&s); /* also after a failure: the next fleet is not to meet this one */
    return 0;
}

/* "one two": ids 11, 12 on the left, 101, 102 on the right, each followed by its upper half 0. */
static void assert_sum(const struct sim_reply *r)
{
    if (!r->sent)
        fail_msg("%s", r->error.text);
    if (r->status != 200)
        fail_msg("status %d: %s", r->status, json_string_value(json_object_get(r->body, "error")));
    assert_true(sim_number(r->body, 0) == 112);
    assert_true(sim_number(r->body, 1) == 0);
    assert_true(sim_number(r->body, 2) == 114);
    assert_int_equal(json_array_size(r->body), 4);
}

/* The span of a call in an attempt, or a failure. */
static const json_t *span_of(const json_t *trace, const char *call, int attempt)
{
    size_t i;
    json_t *span;
    json_array_foreach(
        json_object_get(trace, "spans"), i,
        span) if (strcmp(json_string_value(json_object_get(span, "call")), call) == 0 &&
                  json_integer_value(json_object_get(span, "attempt")) == attempt) return span;
    fail_msg("the trace has no span of '%s', attempt %d", call, attempt);
    return NULL;
}

static double number(const json_t *span, const char *key)
{
    return json_number_value(json_object_get(span, key));
}

static bool on_device(const json_t *span, const char *device)
{
    return strcmp(json_string_value(json_object_get(span, "device")), device) == 0;
}

/* ms for which two calls were on their lanes at the same time. */
static double overlap_ms(const json_t *a, const json_t *b)
{
    double end_a = number(a, "start_ms") + number(a, "total_ms") - number(a, "deliver_ms");
    double end_b = number(b, "start_ms") + number(b, "total_ms") - number(b, "deliver_ms");
    double from_a = end_a - number(a, "run_ms"), from_b = end_b - number(b, "run_ms");
    return (end_a < end_b ? end_a : end_b) - (from_a > from_b ? from_a : from_b);
}

static void three_devices_give_the_sum(void **state)
{
    (void)state;
    sim_start(&s, &(struct sim_options){.devices = 3});
    struct sim_sum m = sim_add_sum(&s, "noop");
    sim_place(m.left, 0, 1);
    sim_place(m.right, 1, 1);
    sim_place(m.head, 2, 1);
    sim_publish(&s);
    for (int gateway = 0; gateway < 3; gateway++) { /* any gateway answers */
        struct sim_reply r = sim_ask(&s, gateway, "sum", "one two", NULL);
        assert_sum(&r);
        json_t *trace = sim_trace(&s, gateway, r.request);
        assert_true(on_device(span_of(trace, "left", 1), "d0"));
        assert_true(on_device(span_of(trace, "right", 1), "d1"));
        assert_true(on_device(span_of(trace, "head", 1), "d2"));
        json_decref(trace);
        sim_reply_clear(&r);
    }
    assert_int_equal(sim_runs(&s, 0, m.left), 1); /* then it came from the cache */
}

/* Two devices: at once.  One device with one lane, as a control: one after the other. */
static void encoders_run_in_parallel(void **state)
{
    (void)state;
    for (int same = 0; same < 2; same++) {
        sim_start(&s, &(struct sim_options){.devices = 3});
        struct sim_sum m = sim_add_sum(&s, "sleep 400");
        sim_place(m.left, 0, 400);
        sim_place(m.right, same ? 0 : 1, 400);
        sim_place(m.head, 2, 1);
        sim_publish(&s);
        struct sim_reply r = sim_ask(&s, 2, "sum", "one two", NULL);
        assert_sum(&r);
        json_t *trace = sim_trace(&s, 2, r.request);
        double ms = overlap_ms(span_of(trace, "left", 1), span_of(trace, "right", 1));
        if (same ? ms > 100 : ms < 200)
            fail_msg("on %d device(s) they overlap by %.1f ms", same ? 1 : 2, ms);
        json_decref(trace);
        sim_reply_clear(&r);
        sim_stop(&s);
    }
}

/* Encoders on d0, the head on d1 and, slower, on d2; the lane of one device is held. */
static struct sim_sum two_heads(int blocked, struct sim_block *block)
{
    sim_start(&s, &(struct sim_options){.devices = 3, .cables = true});
    struct sim_sum m = sim_add_sum(&s, "noop");
    struct sim_module *blocker = sim_add_module(&s, "blocker", SIM_BLOCKER);
    sim_place(m.left, 0, 1);
    sim_place(m.right, 0, 1);
    sim_place(m.head, 1, 1);
    sim_place(m.head, 2, 50);
    sim_place(blocker, blocked, 1);
    sim_publish(&s);
    sim_block(&s, block, blocked, blocker);
    return m;
}

/* The device that routing likes best dies while the head waits there for a lane. */
static void a_dead_device_is_replaced(void **state)
{
    (void)state;
    struct sim_block block;
    struct sim_asking asking;
    struct sim_sum m = two_heads(1, &block);
    sim_ask_start(&s, &asking, 0, "sum", "one two");
    sim_wait_lanes(&s, 1, 1, 1); /* the encoders have delivered, the head wants the lane */
    cable_cut(s.devices[1].cable);
    sim_ask_end(&asking);
    sim_unblock(&block);
    assert_sum(&asking.reply);
    json_t *trace = sim_trace(&s, 0, asking.reply.request);
    assert_true(on_device(span_of(trace, "head", 1), "d1"));
    assert_true(json_string_length(json_object_get(span_of(trace, "head", 1), "error")) > 0);
    assert_true(on_device(span_of(trace, "head", 2), "d2"));
    assert_true(json_is_true(json_object_get(span_of(trace, "left", 2), "cached")));
    assert_true(json_is_true(json_object_get(span_of(trace, "right", 2), "cached")));
    assert_int_equal(sim_runs(&s, 0, m.left), 1);
    assert_int_equal(sim_runs(&s, 0, m.right), 1);
    assert_int_equal(sim_runs(&s, 2, m.head), 1);
    json_decref(trace);
    sim_reply_clear(&asking.reply);
}

/* A device that stops ends the calls that are not done in time; another one answers. */
static void a_stopped_device_is_replaced(void **state)
{
    (void)state;
    struct sim_block block;
    struct sim_asking asking;
    sim_start(&s, &(struct sim_options){.devices = 3});
    struct sim_sum m = sim_add_sum(&s, "noop");
    struct sim_module *blocker = sim_add_module(&s, "blocker", SIM_BLOCKER);
    sim_place(m.left, 0, 1);
    sim_place(m.right, 0, 1);
    sim_place(m.head, 1, 1);
    sim_place(m.head, 2, 50);
    sim_place(blocker, 1, 1);
    sim_publish(&s);
    sim_block(&s, &block, 1, blocker);
    sim_ask_start(&s, &asking, 0, "sum", "one two");
    sim_wait_lanes(&s, 1, 1, 1); /* the encoders have delivered, the head wants the lane */
    net_server_stop(s.devices[1].peer, 0);
    s.devices[1].peer = NULL;
    sim_ask_end(&asking);
    sim_unblock(&block);
    assert_sum(&asking.reply);
    json_t *trace = sim_trace(&s, 0, asking.reply.request);
    assert_true(on_device(span_of(trace, "head", 1), "d1"));
    assert_non_null(
        strstr(json_string_value(json_object_get(span_of(trace, "head", 1), "error")), "stopping"));
    assert_true(on_device(span_of(trace, "head", 2), "d2"));
    json_decref(trace);
    sim_reply_clear(&asking.reply);
}

static const char *error_of(const struct sim_reply *r)
{
    const char *text = json_string_value(json_object_get(r->body, "error"));
    return text ? text : "";
}

/* The limit of the request is long: the error comes because nobody is left. */
static void no_replica_left_is_said(void **state)
{
    (void)state;
    sim_start(&s, &(struct sim_options){.devices = 3, .cables = true});
    struct sim_sum m = sim_add_sum(&s, "noop");
    sim_place(m.left, 0, 1);
    sim_place(m.right, 0, 1);
    sim_place(m.head, 1, 1);
    sim_place(m.head, 2, 1);
    sim_publish(&s);
    cable_cut(s.devices[1].cable);
    cable_cut(s.devices[2].cable);
    int64_t start = clock_now_ns();
    struct sim_reply r = sim_ask(&s, 0, "sum", "one two", NULL);
    double ms = clock_ms_since(start);
    assert_true(r.sent);
    assert_int_equal(r.status, 503);
    if (!strstr(error_of(&r), "'head'") || !strstr(error_of(&r), "d1") ||
        !strstr(error_of(&r), "d2"))
        fail_msg("should name module and devices: %s", error_of(&r));
    assert_true(ms <
                12 * CLUSTER_DEAD_MS); /* what a coordinator needs to place it again, and more */
    sim_reply_clear(&r);
    /* It has had its time to notice: nothing to wait for any more. */
    start = clock_now_ns();
    r = sim_ask(&s, 0, "sum", "one two", NULL);
    ms = clock_ms_since(start);
    assert_int_equal(r.status, 503);
    assert_non_null(strstr(error_of(&r), "'head'"));
    if (ms >= 2 * CLUSTER_DEAD_MS) /* it would have waited that long */
        fail_msg("was said after %.0f ms", ms);
    sim_reply_clear(&r);
}

/* Its call still waits there, but an encoder's result does not come through: the encoder's device
 * says so, and is not the one to be gone round. */
static void who_can_t_be_delivered_to_is_replaced(void **state)
{
    (void)state;
    struct sim_block block;
    struct sim_asking asking;
    (void)two_heads(0, &block);
    sim_ask_start(&s, &asking, 2, "sum", "one two");
    sim_wait_lanes(&s, 0, 1, 2);
    cable_shut(s.devices[1].cable);
    sim_unblock(&block);
    sim_ask_end(&asking);
    assert_sum(&asking.reply);
    json_t *trace = sim_trace(&s, 2, asking.reply.request);
    assert_true(on_device(span_of(trace, "head", 1), "d1"));
    assert_true(on_device(span_of(trace, "left", 2), "d0"));
    assert_true(on_device(span_of(trace, "right", 2), "d0"));
    assert_true(on_device(span_of(trace, "head", 2), "d2"));
    json_decref(trace);
    sim_reply_clear(&asking.reply);
}

/* A lane that others keep busy: a gateway hears of it by what its own call waited there. */
static void a_queue_of_others_is_gone_round(void **state)
{
    (void)state;
    struct sim_block block;
    struct sim_asking asking;
    struct sim_sum m = two_heads(1, &block);
    sim_ask_start(&s, &asking, 0, "sum", "one two");
    sim_wait_lanes(&s, 1, 1, 1);
    for (int i = 0; i < 3; i++) /* it waits for some heartbeats */
        assert_int_equal(sim_runs(&s, 1, m.head), 0);
    sim_unblock(&block);
    sim_ask_end(&asking);
    assert_sum(&asking.reply);
    assert_non_null(strstr(asking.reply.devices, "d1"));
    struct sim_reply next = sim_ask(&s, 0, "sum", "one two", NULL);
    assert_sum(&next);
    json_t *trace = sim_trace(&s, 0, next.request);
    assert_true(on_device(span_of(trace, "head", 1), "d2"));
    json_decref(trace);
    struct sim_reply other = sim_ask(&s, 2, "sum", "one two", NULL); /* has not heard of it */
    assert_sum(&other);
    assert_non_null(strstr(other.devices, "d1"));
    sim_reply_clear(&asking.reply);
    sim_reply_clear(&next);
    sim_reply_clear(&other);
}

static void a_client_that_leaves_cancels(void **state)
{
    (void)state;
    struct sim_asking asking;
    sim_start(&s, &(struct sim_options){.devices = 2});
    struct sim_sum m = sim_add_sum(&s, "sleep 600000");
    sim_place(m.left, 0, 1);
    sim_place(m.right, 0, 1);
    sim_place(m.head, 1, 1);
    sim_publish(&s);
    sim_ask_start(&s, &asking, 1, "sum", "one two");
    sim_wait_lanes(&s, 0, 1, 1); /* one runs, the other waits, the head is at its meeting */
    cancel_fire(asking.cancel);
    sim_ask_end(&asking);
    assert_false(asking.reply.sent);
    assert_int_equal(asking.reply.error.code, ERR_CANCELLED);
    sim_wait_lanes(&s, 0, 0, 0);
    assert_int_equal(sim_runs(&s, 0, m.left), 0);
    assert_int_equal(sim_runs(&s, 0, m.right), 0);
    sim_reply_clear(&asking.reply);
}

static void overload_is_503(void **state)
{
    (void)state;
    struct sim_block block;
    sim_start(&s, &(struct sim_options){.devices = 1, .max_ordinary = 1});
    struct sim_sum m = sim_add_sum(&s, "noop");
    struct sim_module *blocker = sim_add_module(&s, "blocker", SIM_BLOCKER);
    sim_place(m.left, 0, 1);
    sim_place(m.right, 0, 1);
    sim_place(m.head, 0, 1);
    sim_place(blocker, 0, 1);
    sim_publish(&s);
    sim_block(&s, &block, 0, blocker); /* the one call that the device takes */
    struct sim_reply r = sim_ask(&s, 0, "sum", "one two", NULL);
    assert_true(r.sent);
    assert_int_equal(r.status, 503);
    assert_true(r.retry_after[0] >= '1' && r.retry_after[0] <= '9');
    sim_reply_clear(&r);
    sim_unblock(&block);
}

/* A request under way ends with the table that it began with; the next one goes by the new. */
static void a_table_is_swapped_in_mid_flight(void **state)
{
    (void)state;
    struct sim_block block;
    struct sim_asking asking;
    sim_start(&s, &(struct sim_options){.devices = 3});
    struct sim_sum m = sim_add_sum(&s, "noop");
    struct sim_module *blocker = sim_add_module(&s, "blocker", SIM_BLOCKER);
    sim_place(m.left, 0, 1);
    sim_place(m.right, 0, 1);
    sim_place(m.head, 1, 1);
    sim_place(blocker, 1, 1);
    sim_publish(&s);
    sim_block(&s, &block, 1, blocker);
    sim_ask_start(&s, &asking, 0, "sum", "one two");
    sim_wait_lanes(&s, 1, 1, 1);
    m.head->replica_count = 0;
    sim_place(m.head, 2, 1);
    sim_publish(&s);
    struct sim_reply next = sim_ask(&s, 0, "sum", "one two", NULL);
    assert_sum(&next);
    assert_non_null(strstr(next.devices, "d2"));
    sim_unblock(&block);
    sim_ask_end(&asking);
    assert_sum(&asking.reply);
    assert_non_null(strstr(asking.reply.devices, "d1"));
    json_t *trace = sim_trace(&s, 0, asking.reply.request);
    assert_true(on_device(span_of(trace, "head", 1), "d1"));
    json_decref(trace);
    sim_wait_gone(&s, 1, m.head); /* unloaded once nobody uses it */
    sim_reply_clear(&next);
    sim_reply_clear(&asking.reply);
}

/* It has its table, its id and its files, and needs nothing else to serve. */
static void a_device_restarts_without_a_coordinator(void **state)
{
    (void)state;
    sim_start(&s, &(struct sim_options){.devices = 2, .cables = true});
    struct sim_sum m = sim_add_sum(&s, "noop");
    sim_place(m.left, 0, 1);
    sim_place(m.right, 0, 1);
    sim_place(m.head, 1, 1);
    sim_publish(&s);
    sim_stop_hub(&s);
    sim_restart(&s, 0);
    struct sim_reply r = sim_ask(&s, 1, "sum", "one two", NULL);
    assert_sum(&r);
    sim_reply_clear(&r);
    r = sim_ask(&s, 0, "sum", "one two", NULL);
    assert_sum(&r);
    sim_reply_clear(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(three_devices_give_the_sum, stop_fleet),
        cmocka_unit_test_teardown(encoders_run_in_parallel, stop_fleet),
        cmocka_unit_test_teardown(a_dead_device_is_replaced, stop_fleet),
        cmocka_unit_test_teardown(a_stopped_device_is_replaced, stop_fleet),
        cmocka_unit_test_teardown(no_replica_left_is_said, stop_fleet),
        cmocka_unit_test_teardown(who_can_t_be_delivered_to_is_replaced, stop_fleet),
        cmocka_unit_test_teardown(a_queue_of_others_is_gone_round, stop_fleet),
        cmocka_unit_test_teardown(a_client_that_leaves_cancels, stop_fleet),
        cmocka_unit_test_teardown(overload_is_503, stop_fleet),
        cmocka_unit_test_teardown(a_table_is_swapped_in_mid_flight, stop_fleet),
        cmocka_unit_test_teardown(a_device_restarts_without_a_coordinator, stop_fleet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
