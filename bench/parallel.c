/* parallel.c - two encoders of equal time on two devices, then a head: a simulated fleet (real nodes,
 * gateways and HTTP over loopback in one process) whose modules sleep instead of computing, so that
 * two cores are enough for three devices.  bench/fleet parallel is the same with real modules.
 *
 * Each request is beside what it can't be faster than: its slower encoder and its head, as their
 * devices measured them.  Exit 1 when the median ratio is over LIMIT. */
#include "lib/cmocka.h"
#include "lib/samples.h"
#include "sim/lib/sim.h"

#include <stdio.h>
#include <string.h>

#define REQUESTS 40
#define ENCODER_MS 100
#define LIMIT 1.15

static struct sim s;

/* A text that no request had before: the cache is not what is measured. */
static void make_text(int number, char *to, size_t size)
{
    size_t at = 0;
    to[0] = 0;
    for (int bit = 0; bit < 6; bit++)
        at += (size_t)snprintf(to + at, size - at, "%s%s", bit ? " " : "",
                               number >> bit & 1 ? "one" : "two");
}

static double run_ms(const json_t *trace, const char *call)
{
    size_t i;
    const json_t *span;
    json_array_foreach(json_object_get(trace, "spans"), i,
                       span) if (strcmp(json_string_value(json_object_get(span, "call")), call) ==
                                 0) return json_number_value(json_object_get(span, "run_ms"));
    fail_msg("the trace has no span of '%s'", call);
    return 0;
}

static void parallel(void **state)
{
    (void)state;
    struct samples ratios;
    assert_true(samples_init(&ratios));
    sim_start(&s, &(struct sim_options){.devices = 3});
    char work[32];
    (void)snprintf(work, sizeof(work), "sleep %d", ENCODER_MS);
    struct sim_sum m = sim_add_sum(&s, work);
    sim_place(m.left, 0, ENCODER_MS);
    sim_place(m.right, 1, ENCODER_MS);
    sim_place(m.head, 2, 1);
    sim_publish(&s);
    for (int i = 0; i < REQUESTS; i++) {
        char text[64];
        make_text(i, text, sizeof(text));
        struct sim_reply r = sim_ask(&s, i % 3, "sum", text, NULL);
        assert_true(r.sent);
        assert_int_equal(r.status, 200);
        json_t *trace = sim_trace(&s, i % 3, r.request);
        double left = run_ms(trace, "left"), right = run_ms(trace, "right");
        double least = (left > right ? left : right) + run_ms(trace, "head");
        ratios.us[ratios.count++] = json_number_value(json_object_get(trace, "total_ms")) / least;
        json_decref(trace);
        sim_reply_clear(&r);
    }
    sim_stop(&s);
    double median = samples_at(&ratios, 0.5);
    printf(
        "%d requests, encoders of %d ms: request / (slower encoder + head): median %.3f, p90 %.3f, "
        "limit %.2f: %s\n",
        REQUESTS, ENCODER_MS, median, samples_at(&ratios, 0.9), LIMIT,
        median <= LIMIT ? "ok" : "over");
    samples_free(&ratios);
    assert_true(median <= LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(parallel)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
