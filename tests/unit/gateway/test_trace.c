/* Traces: spans are kept for the last requests, read while others write.  label: threads */
#include "base/sync.h"
#include "gateway/trace.h"
#include "lib/cmocka.h"

#include <stdio.h>
#include <string.h>

static void spans_and_devices(void **state)
{
    (void)state;
    struct traces *ring = traces_new();
    struct trace *t = trace_begin(ring, "r1", "task", "model");
    struct span s = {.call = "vision", .device = "a", .attempt = 1, .times = {.run_ms = 2}};
    trace_add(t, &s);
    (void)snprintf(s.device, sizeof(s.device), "b");
    trace_add(t, &s);
    trace_add(t, &s);
    (void)snprintf(s.device, sizeof(s.device), "c");
    (void)snprintf(s.error, sizeof(s.error), "gone");
    trace_add(t, &s);
    char devices[64];
    trace_devices(t, devices, sizeof(devices));
    assert_string_equal(devices, "a,b"); /* those that did something */
    trace_end(t, 12.5, NULL);
    json_t *o = traces_json(ring, "r1");
    assert_int_equal(json_array_size(json_object_get(o, "spans")), 4);
    assert_true(json_real_value(json_object_get(o, "total_ms")) == 12.5);
    json_decref(o);
    assert_null(traces_json(ring, "r2"));
    traces_free(ring);
}

static void *writer(void *arg)
{
    struct traces *ring = arg;
    for (int i = 0; i < 3 * TRACES_MAX; i++) {
        char id[32];
        (void)snprintf(id, sizeof(id), "x%d", i);
        struct trace *t = trace_begin(ring, id, "t", "m");
        trace_add(t, &(struct span){.call = "c", .device = "d"});
        trace_end(t, 1, i % 2 ? "failed" : NULL);
        json_decref(traces_json(ring, id));
    }
    return NULL;
}

static void the_ring_forgets_the_oldest(void **state)
{
    (void)state;
    struct err e;
    pthread_t threads[2];
    struct traces *ring = traces_new();
    struct trace *held = trace_begin(ring, "held", "t", "m"); /* outlives its place in the ring */
    for (int i = 0; i < 2; i++)
        assert_true(thread_start(&threads[i], "writer", writer, ring, &e));
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_null(traces_json(ring, "held"));
    trace_add(held, &(struct span){.call = "late"});
    trace_end(held, 1, NULL);
    json_t *o = traces_json(ring, "x767");
    assert_non_null(o);
    json_decref(o);
    traces_free(ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(spans_and_devices),
                                       cmocka_unit_test(the_ring_forgets_the_oldest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
