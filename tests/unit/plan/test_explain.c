/* Reasons are true: what they say of other devices is what the evaluator says. */
#include "lib/cmocka.h"
#include "libplan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEEDS 60
#define EPS 1e-9

struct best_move {
    double gain;  /* least change of the value by one module moved alone; INFINITY: none may */
    bool fastest; /* nobody else with room runs it sooner */
};

static struct best_move best_move(const struct plan_instance *in, const struct plan_result *r,
                                  uint32_t m)
{
    struct best_move best = {INFINITY, true};
    struct plan_sites *sites = calloc(in->module_count, sizeof(*sites));
    uint32_t here = r->sites[m].device[0];
    struct err e;
    assert_non_null(sites);
    memcpy(sites, r->sites, in->module_count * sizeof(*sites));
    for (uint32_t d = 0; d < in->device_count; d++) {
        double value;
        if (d == here || !plan_may(in, m, d) ||
            in->modules[m].memory_bytes > in->devices[d].memory_bytes - r->device_bytes[d])
            continue;
        sites[m].device[0] = d;
        assert_true(plan_evaluate(in, sites, &value, NULL, NULL, &e));
        best.gain = fmin(best.gain, value - r->value);
        best.fastest &= plan_run(in, m, d) >= plan_run(in, m, here);
    }
    free(sites);
    return best;
}

/* "0.123", "<0.001" or "12": three digits. */
static void check_number(const char *text, double ms)
{
    double said = strtod(text, NULL);
    if (*text == '<')
        assert_true(ms < 0.001);
    else
        assert_true(fabs(said - ms) <= 0.006 * fabs(ms) + 1e-9);
}

/* Ways in which the reason of module m was an excuse. */
static int check_reason(const struct plan_instance *in, const struct plan_result *r, uint32_t m)
{
    struct best_move best = best_move(in, r, m);
    const char *text = r->reason[m], *more = strstr(text, "(+"), *less = strstr(text, " with ");
    double eps = EPS * fabs(r->value);
    if (strstr(text, "ms less in all: ")) {
        assert_true(best.gain < -0.5 * eps);
        for (const char *next = less; next; next = strstr(next + 1, " with "))
            less = next;
        check_number(less + strlen(" with "), -best.gain);
        return 1;
    }
    assert_true(best.gain > -2 * eps);
    if (strstr(text, "the only device")) {
        assert_true(isinf(best.gain));
        return 0;
    }
    assert_non_null(more);
    check_number(more + 2, fabs(best.gain) < 2 * eps ? 0 : best.gain);
    assert_int_equal(strncmp(text, "fastest with room", 17) == 0, best.fastest);
    return 0;
}

static int check_all(const struct plan_instance *in, const struct plan_options *o)
{
    struct plan_result r;
    struct err e;
    int excuses = 0;
    if (!plan_solve(in, o, &r, &e))
        return 0;
    for (uint32_t m = 0; m < in->module_count; m++)
        if (r.sites[m].count == 1 && !strstr(r.reason[m], "nothing asks for it"))
            excuses += check_reason(in, &r, m);
    plan_result_clear(in, &r);
    return excuses;
}

static struct plan_instance *instance_of(uint64_t seed, bool replicas)
{
    return read_instance(
        random_instance(seed, (enum plan_objective)(seed % 3), 6, 4, replicas && seed % 2 == 0));
}

static void searches_that_end_need_no_excuse(void **state)
{
    (void)state;
    static const enum plan_method methods[] = {PLAN_LOCAL, PLAN_EXACT, PLAN_AUTO};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct plan_instance *in = instance_of(seed, true);
        struct plan_options o = {.method = methods[seed % 3], .explain = true};
        assert_int_equal(check_all(in, &o), 0);
        plan_instance_free(in);
    }
}

static void others_say_why(void **state)
{
    (void)state;
    int excuses[4] = {0};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct plan_instance *in = instance_of(seed, false);
        struct plan_options greedy = {.method = PLAN_GREEDY_FASTEST, .explain = true},
                            few = {.method = PLAN_LOCAL, .limit_evals = 8, .explain = true},
                            spare = {.method = PLAN_AUTO, .redundancy = 1, .explain = true},
                            given = {.given_note = "so it is", .explain = true};
        struct plan_result r;
        struct err e;
        excuses[0] += check_all(in, &greedy);
        excuses[1] += check_all(in, &few);
        excuses[2] += check_all(in, &spare);
        if (plan_solve(in, &greedy, &r, &e)) {
            given.given = r.sites;
            excuses[3] += check_all(in, &given);
            plan_result_clear(in, &r);
        }
        plan_instance_free(in);
    }
    print_message("excuses: greedy %d, stopped %d, spare places %d, given %d\n", excuses[0],
                  excuses[1], excuses[2], excuses[3]);
    assert_true(excuses[0] > 0 && excuses[1] > 0);
    assert_int_equal(excuses[0], excuses[3]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(searches_that_end_need_no_excuse),
                                       cmocka_unit_test(others_say_why)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
