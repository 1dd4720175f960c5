/* The evaluator: figures worked out by hand, and steps that agree with the whole. */
#include "base/num.h"
#include "lib/cmocka.h"
#include "libplan.h"

#include <stdio.h>
#include <string.h>

#define THREE                                                                                      \
    "\"devices\":[{\"name\":\"a\",\"memory_bytes\":1000},{\"name\":\"b\",\"memory_bytes\":1000}]," \
    "\"default_link\":{\"latency_ms\":1,\"mbit\":8},"                                              \
    "\"modules\":[{\"name\":\"v\",\"memory_bytes\":10,\"output_bytes\":2000,"                      \
    "\"run_ms\":{\"a\":10,\"b\":4}},{\"name\":\"t\",\"memory_bytes\":10,\"output_bytes\":1000,"    \
    "\"run_ms\":{\"a\":6,\"b\":3}},{\"name\":\"h\",\"memory_bytes\":10,\"run_ms\":{\"a\":2,\"b\":" \
    "1}}],"                                                                                        \
    "\"models\":[{\"name\":\"m\",\"encoders\":[\"v\",\"t\"],\"head\":\"h\"}]"

static struct plan_instance *from_text(const char *text)
{
    struct err e = {0};
    json_t *o = json_parse("test", text, strlen(text), &e);
    if (!o)
        fail_msg("%s", e.text);
    return read_instance(o);
}

static double value_of(const struct plan_instance *in, const uint32_t *devices)
{
    struct plan_sites sites[8] = {0};
    double value;
    struct err e;
    for (uint32_t m = 0; m < in->module_count; m++)
        sites[m] = (struct plan_sites){.count = 1, .device = {devices[m]}};
    assert_true(plan_evaluate(in, sites, &value, NULL, NULL, &e));
    return value;
}

static void assert_near(double is, double shall)
{
    assert_true(fabs(is - shall) <= 1e-9 * shall);
}

/* 1 byte is 1/1000 ms at 8 Mbit/s. */
static void by_hand(void **state)
{
    (void)state;
    struct plan_instance *in = from_text(
        "{" THREE ",\"requests\":[{\"model\":\"m\",\"source\":\"a\",\"input_bytes\":{\"v\":3000,"
        "\"t\":500},\"answer_bytes\":100}]}");
    /* all on a, one lane: v first (position), 10, then t to 16, head to 18 */
    assert_near(value_of(in, (uint32_t[]){0, 0, 0}), 18);
    /* v on b: there at 4, done at 8, output here at 11; t done at 6; head 11 to 13 */
    assert_near(value_of(in, (uint32_t[]){1, 0, 0}), 13);
    /* all on b: t is ready at 1.5, done 4.5; v ready at 4, starts 4.5, done 8.5; head 9.5; back 1.1 */
    assert_near(value_of(in, (uint32_t[]){1, 1, 1}), 10.6);
    plan_instance_free(in);
}

static void burst_waits(void **state)
{
    (void)state;
    struct plan_instance *in = from_text(
        "{" THREE ",\"objective\":\"burst\",\"requests\":[{\"model\":\"m\",\"source\":\"a\"},"
        "{\"model\":\"m\",\"source\":\"a\",\"weight\":2}]}");
    assert_near(value_of(in, (uint32_t[]){0, 0, 0}), 18 + 2 * 36);
    plan_instance_free(in);
}

static void load_stretches(void **state)
{
    (void)state;
    struct plan_instance *in = from_text(
        "{" THREE ",\"objective\":\"load\",\"requests\":[{\"model\":\"m\",\"source\":\"a\","
        "\"rate_per_s\":10}]}");
    /* rho(a) = 10 * 18 / 1000 = 0.18 */
    assert_near(value_of(in, (uint32_t[]){0, 0, 0}), 18 / 0.82);
    plan_instance_free(in);
    in = from_text("{" THREE
                   ",\"objective\":\"load\",\"requests\":[{\"model\":\"m\",\"source\":\"a\","
                   "\"rate_per_s\":53}]}");
    assert_true(isinf(value_of(in, (uint32_t[]){0, 0, 0}))); /* rho 0.954 */
    plan_instance_free(in);
}

static void first_of_equal_routes(void **state)
{
    (void)state;
    struct plan_instance *in = from_text(
        "{\"devices\":[{\"name\":\"a\",\"memory_bytes\":9},{\"name\":\"b\",\"memory_bytes\":9},"
        "{\"name\":\"c\",\"memory_bytes\":9}],\"default_link\":{\"latency_ms\":1,\"mbit\":8},"
        "\"modules\":[{\"name\":\"v\",\"memory_bytes\":1,\"run_ms\":{\"b\":2,\"c\":2}}],"
        "\"models\":[{\"name\":\"m\",\"encoders\":[\"v\"]}],"
        "\"requests\":[{\"model\":\"m\",\"source\":\"a\"}]}");
    struct eval v;
    struct err e;
    struct plan_sites two = {.count = 2, .device = {1, 2}};
    assert_true(eval_init(&v, in, &e));
    eval_set(&v, 0, &two);
    assert_true(eval_full(&v, &e));
    assert_near(v.now.value, 4);
    assert_int_equal(v.route[0], 1);
    eval_done(&v);
    plan_instance_free(in);
}

/* ---- steps ---- */

static void assert_same(struct score a, struct score b)
{
    assert_true(fabs(a.value - b.value) <= 1e-9 * (1 + fabs(b.value)));
    assert_true(fabs(a.bad - b.bad) <= 1e-9);
    assert_true(fabs(a.over_bytes - b.over_bytes) <= 1e-3);
}

static struct plan_sites random_sites(uint64_t *random, const struct plan_instance *in, uint32_t m)
{
    struct plan_sites s = {0};
    for (uint32_t d = 0; d < in->device_count; d++)
        if (isfinite(plan_run(in, m, d)) && s.count < (in->replicas ? 2u : 1u) &&
            num_random(random) % 2)
            s.device[s.count++] = d;
    for (uint32_t d = 0; s.count == 0 && d < in->device_count; d++)
        if (isfinite(plan_run(in, m, d)))
            s.device[s.count++] = d;
    return s;
}

static void one_walk(struct plan_instance *in, uint64_t seed)
{
    struct eval steps, whole;
    struct err e;
    uint64_t random = seed;
    assert_true(eval_init(&steps, in, &e) && eval_init(&whole, in, &e));
    for (uint32_t m = 0; m < in->module_count; m++) {
        struct plan_sites s = random_sites(&random, in, m);
        if (s.count == 0)
            goto out; /* can run nowhere */
        eval_set(&steps, m, &s);
    }
    assert_true(eval_full(&steps, &e));
    for (int i = 0; i < 30; i++) {
        uint32_t pair[2], count = 1 + (uint32_t)(num_random(&random) % 2);
        struct plan_sites before[2];
        for (uint32_t k = 0; k < count; k++) {
            pair[k] = (uint32_t)(num_random(&random) % in->module_count);
            if (k > 0 && pair[k] == pair[0])
                count = 1;
        }
        for (uint32_t k = 0; k < count; k++) {
            struct plan_sites s = random_sites(&random, in, pair[k]);
            before[k] = steps.sites[pair[k]];
            eval_set(&steps, pair[k], &s);
        }
        struct score probed = eval_probe(&steps, pair, count);
        eval_set_all(&whole, steps.sites);
        assert_true(eval_full(&whole, &e));
        assert_same(probed, whole.now);
        if (i % 3 == 0) {
            for (uint32_t k = 0; k < count; k++)
                eval_set(&steps, pair[k], &before[k]);
        } else {
            eval_commit(&steps, pair, count);
            assert_same(steps.now, whole.now);
            assert_memory_equal(steps.route, whole.route,
                                steps.slot_first[in->request_count] * sizeof(uint32_t));
        }
    }
out:
    eval_done(&steps);
    eval_done(&whole);
}

static void steps_agree(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= seed_count(150, 3000); seed++) {
        struct plan_instance *in = read_instance(
            random_instance(seed, (enum plan_objective)(seed % 3), 7, 4, seed % 4 == 0));
        one_walk(in, seed);
        plan_instance_free(in);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand), cmocka_unit_test(burst_waits), cmocka_unit_test(load_stretches),
        cmocka_unit_test(first_of_equal_routes), cmocka_unit_test(steps_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
