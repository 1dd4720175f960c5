/* The lower bound for `latency` against enumeration: never above the least value, nor, with an option
 * forced, above the least value that has it; what is dropped holds nothing better; and the search that
 * is built on it finds the least value. */
#include "base/num.h"
#include "lib/cmocka.h"
#include "libplan.h"
#include "plan/dual.h"
#include "plan/tree.h"

#include <stdio.h>
#include <stdlib.h>

#define QUICK 250
#define FULL 3000
#define MODULES 5u
#define DEVICES 4u

/* The least value of all, and by module and device. */
struct least {
    double all, by[MODULES][DEVICES];
};

static void enumerate_all(const struct plan_instance *in, struct least *ret)
{
    uint32_t y[MODULES] = {0}, n = in->device_count;
    struct plan_sites sites[MODULES];
    struct err e;
    ret->all = INFINITY;
    for (size_t i = 0; i < MODULES * (size_t)DEVICES; i++)
        ret->by[i / DEVICES][i % DEVICES] = INFINITY;
    for (bool more = true; more;) {
        double value;
        for (uint32_t m = 0; m < in->module_count; m++)
            sites[m] = (struct plan_sites){.count = 1, .device = {y[m]}};
        assert_true(plan_evaluate(in, sites, &value, NULL, NULL, &e));
        ret->all = fmin(ret->all, value);
        for (uint32_t m = 0; m < in->module_count; m++)
            ret->by[m][y[m]] = fmin(ret->by[m][y[m]], value);
        uint32_t m = 0;
        while (m < in->module_count && ++y[m] == n)
            y[m++] = 0;
        more = m < in->module_count;
    }
}

/* Whether a bound holds; rounding is allowed for.  What is not below target may have been dropped. */
static bool below(double bound, double value, double target)
{
    return bound <= value * (1 + 1e-11) + 1e-9 || value >= target * (1 - 1e-9);
}

static bool has_option(const struct dual_module *m, uint32_t device)
{
    for (uint32_t o = 0; o < m->option_count; o++)
        if (m->option[o] == device)
            return true;
    return false;
}

/* All that dual_shrink() worked out, and what is left. */
static void check_dropped(const struct dual *d, const struct least *least, double target)
{
    for (uint32_t i = 0; i < d->count; i++) {
        uint32_t m = d->order[i].module;
        for (uint32_t k = 0; k < d->s->in->device_count; k++)
            if (least->by[m][k] < target * (1 - 1e-9))
                assert_true(has_option(&d->order[i], k));
    }
}

static void check_conditions(const struct dual *d, const struct least *least, double target)
{
    for (uint32_t i = 0; i < d->count; i++)
        for (uint32_t o = 0; o < d->order[i].option_count; o++) {
            double forced = d->scratch->cond[i * d->s->in->device_count + o];
            assert_true(
                below(forced, least->by[d->order[i].module][d->order[i].option[o]], target));
        }
}

/* *closed counts instances whose bound reaches the least value. */
static void check_one(const struct plan_instance *in, double slack, int *closed)
{
    struct plan_options o = {0};
    struct search s;
    struct dual d, copy;
    struct least least;
    struct err e = {0};
    uint32_t dropped = 0;
    enumerate_all(in, &least);
    assert_true(search_init(&s, in, &o, &e) && dual_init(&d, &s, &e) && dual_scratch_init(&d, &e));
    struct dual_scratch *scratch = d.scratch;
    double target = isfinite(least.all) ? least.all * slack : INFINITY;
    assert_true(dual_fix(&d, d.count, 0, &e));
    for (int round = 0; round < 6 && d.bound < target; round++) {
        assert_true(dual_improve(&d, 20, target, &e));
        assert_true(below(d.bound, least.all, target));
        assert_true(dual_shrink(&d, INFINITY, &dropped, &e));
        if (dropped == 0)
            check_conditions(&d, &least, target);
        if (d.bound < target)
            assert_true(dual_shrink(&d, target, &dropped, &e));
        if (d.bound < target)
            check_dropped(&d, &least, target);
        if (d.bound < target)
            assert_true(dual_merge(&d, 64u << round, &e));
    }
    for (uint32_t k = 0; d.bound < target && d.count > 0 && k < d.order[0].option_count; k++) {
        assert_true(dual_copy(&copy, &d, &e) && dual_fix(&copy, 0, k, &e));
        assert_true(dual_improve(&copy, 20, target, &e));
        assert_true(below(copy.bound, least.by[d.order[0].module][d.order[0].option[k]], target));
        dual_done(&copy);
    }
    *closed += d.bound >= fmin(target, least.all) * (1 - 1e-9);
    d.scratch = scratch;
    dual_scratch_done(&d);
    dual_done(&d);
    search_done(&s);
}

static void never_above(void **state)
{
    int closed = 0;
    (void)state;
    for (uint64_t seed = 1; seed <= seed_count(QUICK, FULL); seed++) {
        struct plan_instance *in =
            read_instance(random_instance(seed, PLAN_LATENCY, MODULES, DEVICES, false));
        if (seed % 3 > 0)
            make_tight(in, seed);
        check_one(in, seed % 4 == 0 ? 1 : seed % 4 == 1 ? 20 : 1.2, &closed);
        plan_instance_free(in);
    }
    printf("bound: reaches the least value in %d of %d\n", closed, (int)seed_count(QUICK, FULL));
    assert_true(closed > (int)seed_count(QUICK, FULL) / 2);
}

/* Bounds hold for any prices: here such that packings matter and, where requests weigh nothing, that
 * bounds are close to what they bound. */
static void price_all(struct dual *d, uint64_t *random, double scale)
{
    size_t devices = d->s->in->device_count;
    for (uint32_t i = 0; i < d->count; i++) {
        double bytes = d->s->in->modules[d->order[i].module].memory_bytes;
        bool even = num_random(random) % 4 > 0;
        bool free = d->order[i].option_count > 1; /* others are not packed */
        for (uint32_t o = 0; free && o < d->order[i].option_count; o++)
            d->price[i * devices + d->order[i].option[o]] =
                scale * (even ? bytes : (double)(num_random(random) % 400));
    }
}

static void any_prices(void **state)
{
    (void)state;
    int close = 0;
    for (uint64_t seed = 1; seed <= seed_count(QUICK, FULL); seed++) {
        struct plan_instance *in =
            read_instance(random_instance(seed, PLAN_LATENCY, MODULES, DEVICES, false));
        struct plan_options o = {0};
        struct search s;
        struct dual d;
        struct least least;
        struct err e = {0};
        uint32_t dropped;
        uint64_t random = seed;
        make_tight(in, seed);
        for (uint32_t q = 0; seed % 2 == 0 && q < in->request_count; q++)
            in->requests[q].weight = 0;
        enumerate_all(in, &least);
        assert_true(search_init(&s, in, &o, &e) && dual_init(&d, &s, &e));
        assert_true(dual_scratch_init(&d, &e) && dual_fix(&d, d.count, 0, &e));
        for (int round = 0; round < 4 && d.bound < INFINITY; round++) {
            price_all(&d, &random, seed % 2 == 0 ? 1 : 0.1);
            double bound = dual_bound_now(&d);
            assert_true(below(bound, least.all, INFINITY));
            close += fabs(bound - least.all) <= 1e-6;
            assert_true(dual_shrink(&d, INFINITY, &dropped, &e));
            if (dropped == 0)
                check_conditions(&d, &least, INFINITY);
        }
        dual_scratch_done(&d);
        dual_done(&d);
        search_done(&s);
        plan_instance_free(in);
    }
    printf("any prices: %d bounds reach the least value\n", close);
    assert_true(close > 0);
}

/* Subproblems are branched almost at once, with a good start, a poor one, and none: always the least
 * value. */
static void branched(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= seed_count(QUICK, FULL); seed++) {
        struct plan_instance *in =
            read_instance(random_instance(seed, PLAN_LATENCY, 6, DEVICES, false));
        if (seed % 2 == 0)
            make_tight(in, seed);
        struct plan_options o = {0};
        struct search s;
        struct err e = {0};
        double least = enumerate(in);
        assert_true(search_init(&s, in, &o, &e));
        if (seed % 3 > 0)
            assert_true(greedy_best(&s, &e));
        if (seed % 3 > 1)
            assert_true(local_search(&s, 1, &e));
        assert_true(table_search(&s,
                                 (struct table_effort){seed % 5, seed % 7, (uint32_t)(seed % 13),
                                                       (uint32_t)(seed % 11), seed % 3 ? 1 : 4096},
                                 &e));
        assert_true(s.complete);
        assert_int_equal(s.found, isfinite(least));
        if (s.found) {
            assert_true(fabs(s.best_score.value - least) <= 1e-9 * least);
            assert_true(s.bound <= least * (1 + 1e-9) && s.bound >= least * (1 - 1e-9));
        }
        search_done(&s);
        plan_instance_free(in);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(never_above), cmocka_unit_test(any_prices),
                                       cmocka_unit_test(branched)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
