/* Methods against enumeration on random instances: exact is right and proven, local nearly always,
 * bounds hold, nofit is said only when nothing is feasible.
 *
 * S2M3_SEEDS=FIRST:END runs other seeds, of up to 7 modules, and prints figures to be added up
 * (tests/e2e/test_plan_proof.py). */
#include "base/num.h"
#include "lib/cmocka.h"
#include "libplan.h"

#include <stdio.h>
#include <stdlib.h>

#define QUICK 60 /* seeds of each objective */

static bool close_to(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fabs(b);
}

struct tally {
    int feasible, optimal;
    double gap_sum, gap_worst;
};

/* Whether one of the requested models has calls behind calls behind calls, or a module twice. */
static void look_at_graphs(const struct plan_instance *in, bool *deep, bool *twice)
{
    *deep = *twice = false;
    for (uint32_t q = 0; q < in->request_count; q++) {
        const struct plan_model *m = &in->models[in->requests[q].model];
        uint32_t level[16];
        for (uint32_t i = 0; i < m->call_count; i++) {
            level[i] = 1;
            for (uint32_t k = 0; k < m->calls[i].from_count; k++) {
                uint32_t before = level[m->from[m->calls[i].from_first + k]];
                level[i] = before + 1 > level[i] ? before + 1 : level[i];
            }
            *deep |= level[i] > 2;
        }
        *twice |= m->slot_count < m->call_count;
    }
}

/* false: the usual ones. */
static bool other_seeds(uint64_t *first, uint64_t *end)
{
    const char *text = getenv("S2M3_SEEDS");
    char *rest = NULL;
    *first = 1;
    *end = 1 + QUICK;
    if (!text)
        return false;
    *first = strtoull(text, &rest, 10);
    *end = *rest == ':' ? strtoull(rest + 1, NULL, 10) : *first;
    return true;
}

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

static void print_tally(const char *objective, const char *method, const struct tally *t,
                        bool figures)
{
    if (figures)
        printf("tally %s %s %d %d %.17g %.17g\n", objective, method, t->feasible, t->optimal,
               t->gap_sum, t->gap_worst);
    else
        printf("%s %s: %d of %d optimal, mean gap %.4f %%, worst %.2f %%\n", objective, method,
               t->optimal, t->feasible, 100 * t->gap_sum / t->feasible, 100 * t->gap_worst);
}

static void against_enumeration(enum plan_objective objective, double share)
{
    static const enum plan_method methods[] = {PLAN_EXACT, PLAN_AUTO, PLAN_LOCAL, PLAN_BEST_GREEDY};
    struct tally t[ARRAY_LEN(methods)] = {0};
    uint64_t first, end;
    int deep = 0, twice = 0;
    bool others = other_seeds(&first, &end);
    for (uint64_t seed = first; seed < end; seed++) {
        struct plan_instance *in =
            read_instance(random_instance(seed, objective, others ? 7 : 6, 4, false));
        double best = enumerate(in);
        bool is_deep, is_twice;
        for (size_t i = 0; i < ARRAY_LEN(methods); i++)
            check_method(in, methods[i], best, &t[i]);
        look_at_graphs(in, &is_deep, &is_twice);
        deep += isfinite(best) && is_deep;
        twice += isfinite(best) && is_twice;
        plan_instance_free(in);
    }
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        print_tally(plan_objective_name(objective), plan_method_name(methods[i]), &t[i], others);
    assert_int_equal(t[0].optimal, t[0].feasible);
    if (others) {
        printf("graphs %s %d %d\n", plan_objective_name(objective), deep, twice);
        return;
    }
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
