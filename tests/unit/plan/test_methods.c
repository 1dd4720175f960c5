/* Methods against enumeration on random instances: exact is right and proven, local nearly always,
 * bounds hold, nofit is said only when nothing is feasible. */
#include "base/num.h"
#include "lib/cmocka.h"
#include "libplan.h"

#include <stdio.h>

#define QUICK 60
#define FULL 700 /* per objective: 2,100 in all */

static bool close_to(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fabs(b);
}

struct tally {
    int feasible, optimal;
    double gap_sum, gap_worst;
};

static void check_method(const struct plan_instance *in, enum plan_method method, double best,
                         struct tally *t)
{
    struct plan_options o = {.method = method, .seed = 1};
    struct plan_result r;
    struct err e = {0};
    double again, used[16];
    bool ok = plan_solve(in, &o, &r, &e);
    if (!isfinite(best)) {
        assert_false(ok);
        assert_int_equal(e.code, ERR_NO_PLACE);
        if (method == PLAN_EXACT)
            assert_int_equal(r.status, PLAN_NOFIT);
        return;
    }
    if (!ok) {
        assert_int_equal(r.status, PLAN_NOTFOUND);
        t->feasible++;
        return;
    }
    assert_true(plan_evaluate(in, r.sites, &again, NULL, used, &e));
    assert_true(close_to(again, r.value));
    for (uint32_t d = 0; d < in->device_count; d++)
        assert_true(used[d] <= in->devices[d].memory_bytes);
    assert_true(isnan(r.bound) || r.bound <= best * (1 + 1e-9));
    assert_true(r.value >= best * (1 - 1e-9));
    if (method == PLAN_EXACT)
        assert_true(r.certified && close_to(r.value, best));
    double gap = best > 0 ? r.value / best - 1 : 0;
    t->feasible++;
    t->optimal += gap <= 1e-9;
    t->gap_sum += gap;
    t->gap_worst = fmax(t->gap_worst, gap);
    plan_result_clear(in, &r);
}

static void against_enumeration(enum plan_objective objective, double share)
{
    static const enum plan_method methods[] = {PLAN_EXACT, PLAN_AUTO, PLAN_LOCAL, PLAN_BEST_GREEDY};
    struct tally t[ARRAY_LEN(methods)] = {0};
    for (uint64_t seed = 1; seed <= seed_count(QUICK, FULL); seed++) {
        uint32_t modules = getenv("S2M3_FULL") ? 7 : 6;
        struct plan_instance *in =
            read_instance(random_instance(seed, objective, modules, 4, false));
        double best = enumerate(in);
        for (size_t i = 0; i < ARRAY_LEN(methods); i++)
            check_method(in, methods[i], best, &t[i]);
        plan_instance_free(in);
    }
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        printf("%s %s: %d of %d optimal, mean gap %.4f %%, worst %.2f %%\n",
               plan_objective_name(objective), plan_method_name(methods[i]), t[i].optimal,
               t[i].feasible, 100 * t[i].gap_sum / t[i].feasible, 100 * t[i].gap_worst);
    assert_int_equal(t[0].optimal, t[0].feasible);
    assert_true(t[2].optimal >= share * t[2].feasible);
    assert_true(t[2].gap_sum / t[2].feasible <= 0.001);
}

static void latency(void **s)
{
    (void)s;
    against_enumeration(PLAN_LATENCY, 0.99);
}

static void burst(void **s)
{
    (void)s;
    against_enumeration(PLAN_BURST, 0.98);
}

static void load(void **s)
{
    (void)s;
    against_enumeration(PLAN_LOAD, 0.99);
}

/* The same input gives the same plan, bit for bit. */
static void repeated(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 12; seed++) {
        struct plan_instance *in = read_instance(
            random_instance(seed, (enum plan_objective)(seed % 3), 7, 4, seed % 2 == 0));
        for (int method = 0; method < PLAN_METHOD_COUNT; method++) {
            struct plan_options o = {
                .method = (enum plan_method)method, .seed = 5, .limit_evals = 400, .explain = true};
            struct err e;
            char *text[2] = {NULL, NULL};
            for (int i = 0; i < 2; i++) {
                struct plan_result r;
                if (!plan_solve(in, &o, &r, &e))
                    continue;
                json_t *j = plan_result_json(in, &r);
                text[i] = json_text(j);
                json_decref(j);
                plan_result_clear(in, &r);
            }
            if (text[0])
                assert_string_equal(text[0], text[1]);
            free(text[0]);
            free(text[1]);
        }
        plan_instance_free(in);
    }
}

static bool at_once(void *ctx)
{
    return ++*(int *)ctx > 3;
}

/* Stopped early: a valid plan, its bound below the optimum, and the reason said. */
static void stopped(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 30; seed++) {
        struct plan_instance *in = read_instance(random_instance(seed, PLAN_BURST, 6, 4, false));
        int asked = 0;
        struct plan_options o = {.method = PLAN_EXACT, .stop = at_once, .stop_ctx = &asked};
        struct plan_result r;
        struct err e;
        double best = enumerate(in);
        if (plan_solve(in, &o, &r, &e)) {
            assert_true(r.value >= best * (1 - 1e-9));
            assert_true(isnan(r.bound) || r.bound <= best * (1 + 1e-9));
            assert_true(r.certified || r.stopped == PLAN_STOPPED_TIME);
            plan_result_clear(in, &r);
        }
        plan_instance_free(in);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(latency), cmocka_unit_test(burst),
                                       cmocka_unit_test(load), cmocka_unit_test(repeated),
                                       cmocka_unit_test(stopped)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
