/* Redundancy against enumeration of all placements: what is named unprotected can't be protected. */
#include "base/num.h"
#include "lib/cmocka.h"
#include "libplan.h"

#include <stdio.h>
#include <stdlib.h>

#define DEVICES 3
#define MODULES 4
#define QUICK 60
#define FULL 1000

/* The next set of devices: at most `most` of them; false: there is none. */
static bool next_sites(struct plan_sites *s, uint32_t *mask, uint32_t devices, uint32_t most)
{
    while (++*mask < 1u << devices) {
        s->count = 0;
        for (uint32_t d = 0; d < devices; d++)
            if (*mask >> d & 1)
                s->device[s->count++] = d;
        if (s->count <= most)
            return true;
    }
    return false;
}

static uint32_t protected_by(const struct plan_instance *in, const struct plan_sites *sites,
                             uint32_t places)
{
    uint32_t n = 0;
    for (uint32_t m = 0; m < in->module_count; m++)
        n += sites[m].count >= places;
    return n;
}

/* The most modules that any feasible placement has on so many devices. */
static uint32_t most_protected(const struct plan_instance *in, uint32_t places)
{
    struct plan_sites sites[MODULES] = {0};
    uint32_t mask[MODULES] = {0}, most = in->replicas ? DEVICES : places, best = 0;
    for (uint32_t m = 0; m < in->module_count; m++)
        assert_true(next_sites(&sites[m], &mask[m], in->device_count, most));
    for (bool more = true; more;) {
        double value;
        struct err e;
        uint32_t n = protected_by(in, sites, places), m = 0;
        if (n > best) {
            assert_true(plan_evaluate(in, sites, &value, NULL, NULL, &e));
            best = isfinite(value) ? n : best;
        }
        while (m < in->module_count && !next_sites(&sites[m], &mask[m], in->device_count, most)) {
            mask[m] = 0;
            (void)next_sites(&sites[m], &mask[m], in->device_count, most);
            m++;
        }
        more = m < in->module_count;
    }
    return best;
}

/* -1: nothing feasible was to be found; else how many of the modules are protected. */
static int check(const struct plan_instance *in, uint32_t redundancy, uint64_t seed)
{
    struct plan_options o = {.method = PLAN_EXACT, .redundancy = (int)redundancy};
    struct plan_result r;
    struct err e = {0};
    double value;
    if (!plan_solve(in, &o, &r, &e)) {
        assert_int_equal(e.code, ERR_NO_PLACE);
        return -1;
    }
    uint32_t most = most_protected(in, redundancy + 1);
    uint32_t mine = protected_by(in, r.sites, redundancy + 1);
    assert_true(plan_evaluate(in, r.sites, &value, NULL, NULL, &e));
    assert_true(isfinite(value) && fabs(value - r.value) <= 1e-9 * value);
    for (uint32_t m = 0; m < in->module_count; m++)
        assert_int_equal(r.unprotected[m], r.sites[m].count <= redundancy);
    if (mine != most)
        fail_msg("seed %d: %u of %u modules are protected, %u could be", (int)seed, mine,
                 in->module_count, most);
    plan_result_clear(in, &r);
    return (int)mine;
}

static void against_enumeration(enum plan_objective objective)
{
    int all = 0, some = 0, none = 0;
    for (uint64_t seed = 1; seed <= seed_count(QUICK, FULL); seed++) {
        struct plan_instance *in =
            read_instance(random_instance(seed, objective, MODULES, DEVICES, seed % 3 == 0));
        if (seed % 4 == 1)
            make_tight(in, seed);
        for (uint32_t d = 0; seed % 2 == 0 && d < in->device_count; d++)
            in->devices[d].memory_bytes *= 1.6;
        for (uint32_t redundancy = 1; redundancy < DEVICES; redundancy++) {
            int n = check(in, redundancy, seed);
            all += n == (int)in->module_count;
            none += n == 0;
            some += n > 0 && n < (int)in->module_count;
        }
        plan_instance_free(in);
    }
    printf("%s: all protected %d times, some %d, none %d\n", plan_objective_name(objective), all,
           some, none);
    assert_true(all > 0 && some > 0 && none > 0);
}

static void latency(void **state)
{
    (void)state;
    against_enumeration(PLAN_LATENCY);
}

static void burst(void **state)
{
    (void)state;
    against_enumeration(PLAN_BURST);
}

static void load(void **state)
{
    (void)state;
    against_enumeration(PLAN_LOAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(latency), cmocka_unit_test(burst),
                                       cmocka_unit_test(load)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
