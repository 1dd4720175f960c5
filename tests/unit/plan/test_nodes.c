/* Bounds at inner nodes: whatever is placed already, the bound of a node is never above the value of a
 * placement below it.  All placements of small instances are enumerated and each node of the searches
 * is held against those that it stands for, so a bound that is too high is seen even where it happens
 * to cut off nothing that matters. */
#include "lib/cmocka.h"
#include "libplan.h"
#include "plan/tree.h"

#include <stdio.h>
#include <stdlib.h>

#define QUICK 150
#define FULL 1500
#define MODULES 5u
#define DEVICES 4u

/* One placement: a set of devices for each module. */
struct row {
    uint32_t set[MODULES];
    double value;
};

struct world {
    const struct plan_instance *in;
    const struct search *s;
    struct row *rows; /* owned */
    size_t count;
    uint32_t first; /* set of the first module, which is pinned; 0: it is free */
    uint64_t seed, nodes;
};

static struct plan_sites sites_of(uint32_t set)
{
    struct plan_sites to = {0};
    for (uint32_t d = 0; d < DEVICES; d++)
        if (set >> d & 1)
            to.device[to.count++] = d;
    return to;
}

static uint32_t set_of(const struct plan_sites *sites)
{
    uint32_t set = 0;
    for (uint32_t i = 0; i < sites->count; i++)
        set |= 1u << sites->device[i];
    return set;
}

/* The next set of the module; false: was the last one, and it is the first again. */
static bool next_set(const struct plan_instance *in, uint32_t *set)
{
    uint32_t end = 1u << in->device_count;
    *set = in->replicas ? *set + 1 : *set << 1;
    if (*set < end)
        return true;
    *set = 1;
    return false;
}

static void enumerate_rows(struct world *w)
{
    const struct plan_instance *in = w->in;
    size_t each = in->replicas ? (1u << in->device_count) - 1 : in->device_count, all = 1;
    struct row now = {.set = {w->first ? w->first : 1, 1, 1, 1, 1}};
    struct eval v;
    struct err e;
    for (uint32_t m = w->first ? 1 : 0; m < in->module_count; m++)
        all *= each;
    w->rows = calloc(all, sizeof(*w->rows));
    assert_true(w->rows && eval_init(&v, in, &e));
    for (bool more = true; more;) {
        struct plan_sites sites[MODULES];
        for (uint32_t m = 0; m < in->module_count; m++)
            sites[m] = sites_of(now.set[m]);
        bool may = true;
        for (uint32_t m = 0; m < in->module_count; m++)
            for (uint32_t i = 0; i < sites[m].count; i++)
                may &= isfinite(plan_run(in, m, sites[m].device[i]));
        eval_set_all(&v, sites);
        now.value = INFINITY;
        if (may && v.over_bytes <= 0) {
            assert_true(eval_full(&v, &e));
            now.value = score_feasible(v.now) ? v.now.value : INFINITY;
        }
        w->rows[w->count++] = now;
        uint32_t m = w->first ? 1 : 0;
        while (m < in->module_count && !next_set(in, &now.set[m]))
            m++;
        more = m < in->module_count;
    }
    assert_int_equal(w->count, all);
    eval_done(&v);
}

static double least_below(const struct world *w, uint32_t module, uint32_t set)
{
    double least = INFINITY;
    for (size_t i = 0; i < w->count; i++) {
        const struct row *r = &w->rows[i];
        bool mine = r->set[module] == set;
        for (uint32_t m = 0; mine && m < w->in->module_count; m++)
            mine = m == module || w->s->v.sites[m].count == 0 ||
                   r->set[m] == set_of(&w->s->v.sites[m]);
        if (mine)
            least = fmin(least, r->value);
    }
    return least;
}

static void look(void *ctx, uint32_t module, const struct plan_sites *to, double bound)
{
    struct world *w = ctx;
    double least = least_below(w, module, set_of(to)), ceiling = search_ceiling(w->s);
    w->nodes++;
    /* What is not below the best known may have been dropped from what the bound is made of. */
    if (bound > least * (1 + 1e-11) + 1e-9 && least < ceiling * (1 - 1e-9))
        fail_msg("seed %llu: bound %.17g of a node that holds %.17g", (unsigned long long)w->seed,
                 bound, least);
}

static bool both_run(const struct plan_instance *in)
{
    return isfinite(plan_run(in, 0, 0)) && isfinite(plan_run(in, 0, 1));
}

static void search_one(uint64_t seed, enum plan_objective objective, bool replicas, bool tables,
                       uint64_t *nodes)
{
    json_t *pins = json_pack("{s:[s,s]}", "m0", "d0", "d1");
    struct plan_options o = {0};
    struct search s;
    struct err e = {0};
    uint32_t modules = replicas ? 3 : MODULES, devices = replicas ? 3 : DEVICES;
    struct plan_instance *in = read_instance(
        seed % 4 < 2 && !replicas ? knotted_instance(seed, objective, modules, devices)
                                  : random_instance(seed, objective, modules, devices, replicas));
    struct world w = {.in = in, .s = &s, .seed = seed};
    double least = INFINITY;
    if (seed % 2 == 0)
        make_tight(in, seed);
    if (seed % 5 == 1)
        make_alike(in);
    if (seed % 7 == 2 && !tables && both_run(in)) {
        o = (struct plan_options){.pins = pins, .redundancy = 1};
        w.first = 3;
    }
    enumerate_rows(&w);
    for (size_t i = 0; i < w.count; i++)
        least = fmin(least, w.rows[i].value);
    assert_true(search_init(&s, in, &o, &e));
    if (seed % 3 == 0) /* else from nothing: no node is cut off before it is looked at */
        assert_true(greedy_best(&s, &e));
    s.watch = look;
    s.watch_ctx = &w;
    assert_true(
        tables
            ? table_search(&s,
                           (struct table_effort){seed % 5 * 20, seed % 7 * 10, (uint32_t)(seed % 4),
                                                 (uint32_t)(seed % 3), seed % 3 ? 1 : 64},
                           &e)
            : open_search(
                  &s, (struct open_effort){seed % 2 ? 1000 : seed % 9, (uint32_t)(seed % 3)}, &e));
    assert_int_equal(s.found, isfinite(least));
    if (s.found)
        assert_true(fabs(s.best_score.value - least) <= 1e-9 * least);
    *nodes += w.nodes;
    search_done(&s);
    free(w.rows);
    plan_instance_free(in);
    json_decref(pins);
}

static void search_all(enum plan_objective objective, bool replicas, bool tables)
{
    uint64_t nodes = 0, seeds = seed_count(QUICK, FULL);
    for (uint64_t seed = 1; seed <= seeds; seed++)
        search_one(seed, objective, replicas, tables, &nodes);
    printf("%s: %llu nodes\n", plan_objective_name(objective), (unsigned long long)nodes);
    assert_true(nodes > seeds);
}

static void tables(void **state)
{
    (void)state;
    search_all(PLAN_LATENCY, false, true);
}

static void open_latency(void **state)
{
    (void)state;
    search_all(PLAN_LATENCY, false, false);
}

static void open_burst(void **state)
{
    (void)state;
    search_all(PLAN_BURST, false, false);
}

static void open_load(void **state)
{
    (void)state;
    search_all(PLAN_LOAD, false, false);
}

static void replicas(void **state)
{
    (void)state;
    for (int objective = 0; objective < 3; objective++)
        search_all((enum plan_objective)objective, true, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tables), cmocka_unit_test(open_latency),
                                       cmocka_unit_test(open_burst), cmocka_unit_test(open_load),
                                       cmocka_unit_test(replicas)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
