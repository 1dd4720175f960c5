/* Changing load in virtual time: rates out of counts, decisions, and no flapping. */
#include "base/clock.h"
#include "coord/rates.h"
#include "coord/replan.h"
#include "lib/cmocka.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICES 3
#define PARTS 4 /* classes that each task stands as, so that replicas share it */

/* Two models of one module each; every device has room for one module. */
struct world {
    struct rates rates;
    struct allowance allowance;
    struct plan_sites sites[2]; /* of modules a and b */
    int64_t now_ns;
    uint64_t random;
    uint32_t moves, plans;
    double move_ms;
};

static json_t *instance(const double *per_s)
{
    static const char *const names[] = {"a", "b"};
    json_t *devices = json_array(), *modules = json_array(), *models = json_array(),
           *requests = json_array();
    for (int i = 0; i < DEVICES; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "d%d", i);
        json_array_append_new(devices, json_pack("{s:s,s:i}", "name", name, "memory_bytes", 100));
    }
    for (int i = 0; i < 2; i++) {
        json_array_append_new(modules, json_pack("{s:s,s:i,s:{s:f,s:f,s:f}}", "name", names[i],
                                                 "memory_bytes", 60, "run_ms", "d0", 40.0, "d1",
                                                 40.0, "d2", 40.0));
        json_array_append_new(
            models, json_pack("{s:s,s:[s],s:n}", "name", names[i], "encoders", names[i], "head"));
        for (int k = 0; k < PARTS; k++)
            json_array_append_new(
                requests, json_pack("{s:s,s:s,s:f,s:f}", "model", names[i], "source", "d0",
                                    "rate_per_s", per_s[i] / PARTS, "weight", per_s[i] / PARTS));
    }
    return json_pack("{s:s,s:b,s:o,s:{s:f,s:f},s:o,s:o,s:o}", "objective", "load", "replicas", 1,
                     "devices", devices, "default_link", "latency_ms", 0.2, "mbit", 1000.0,
                     "modules", modules, "models", models, "requests", requests);
}

static double rate_of(const struct world *w, const char *model)
{
    for (uint32_t i = 0; i < w->rates.count; i++)
        if (strcmp(w->rates.rows[i].model, model) == 0)
            return fmax(w->rates.rows[i].per_s, RATES_FLOOR);
    return RATES_FLOOR;
}

static struct plan_instance *read_instance(const double *per_s)
{
    struct err e;
    struct plan_instance *in;
    json_t *o = instance(per_s);
    if (!plan_instance_read(o, &in, &e))
        fail_msg("%s", e.text);
    json_decref(o);
    return in;
}

static bool decide(struct world *w, bool rates_only, char *why)
{
    struct err e;
    double per_s[2] = {rate_of(w, "a"), rate_of(w, "b")}, cost[2 * DEVICES];
    struct plan_instance *in = read_instance(per_s);
    for (int i = 0; i < 2 * DEVICES; i++)
        cost[i] = w->move_ms;
    struct replan q = {.in = in,
                       .now = w->sites,
                       .cost_ms = cost,
                       .method = PLAN_AUTO,
                       .rates_only = rates_only,
                       .moves_left = allowance_left(&w->allowance, w->now_ns)};
    struct replan_result r;
    if (!replan_decide(&q, &r, &e))
        fail_msg("%s", e.text);
    bool adopt = r.adopt;
    w->plans++;
    if (adopt) {
        w->moves += r.moves;
        memcpy(w->sites, r.sites, sizeof(w->sites));
        if (rates_only)
            allowance_take(&w->allowance, r.moves);
        for (int m = 0; m < 2; m++)
            assert_non_null(r.reason[m]);
    }
    if (why)
        memcpy(why, r.why, sizeof(r.why));
    rates_planned(&w->rates);
    replan_clear(in, &r);
    plan_instance_free(in);
    return adopt;
}

static double uniform(struct world *w)
{
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return (double)(w->random >> 11) / 9007199254740992.0;
}

/* Requests of one second. */
static int poisson(struct world *w, double mean)
{
    int n = 0;
    for (double p = exp(-mean), x = uniform(w); x > p && n < 1000; n++)
        x *= uniform(w);
    return n;
}

static void live(struct world *w, double seconds, double a_per_s, double b_per_s)
{
    for (int i = 0; i < (int)seconds; i++) {
        json_t *usage =
            json_pack("{s:[i],s:[i]}", "a\tt", poisson(w, a_per_s), "b\tt", poisson(w, b_per_s));
        rates_count(&w->rates, "dev-1", usage);
        json_decref(usage);
        w->now_ns += NS_PER_S;
        if (w->now_ns / NS_PER_S % (int64_t)RATES_PERIOD_S != 0)
            continue;
        rates_tick(&w->rates, w->now_ns);
        if (rates_changed(&w->rates))
            (void)decide(w, true, NULL);
    }
}

static struct world begin(void)
{
    struct world w = {.now_ns = NS_PER_S, .random = 7, .move_ms = 200};
    char why[REPLAN_TEXT_MAX];
    assert_true(decide(&w, false, why));
    assert_string_equal(why, "a module has no place");
    assert_int_equal(w.sites[0].count, 1); /* nobody asks: one place each */
    assert_int_equal(w.sites[1].count, 1);
    w.moves = 0;
    return w;
}

static void load_that_shifts_moves_the_replica(void **state)
{
    (void)state;
    struct world w = begin();
    live(&w, 300, 30, 2); /* a keeps 1.2 lanes busy */
    assert_int_equal(w.sites[0].count, 2);
    assert_int_equal(w.sites[1].count, 1);
    uint32_t first = w.moves;
    live(&w, 300, 2, 30);
    assert_int_equal(w.sites[0].count, 1);
    assert_int_equal(w.sites[1].count, 2);
    print_message("moves: %u, then %u; plans %u\n", first, w.moves - first, w.plans);
    assert_true(first <= 2 && w.moves - first <= 2);
    rates_clear(&w.rates);
}

static void steady_load_moves_nothing(void **state)
{
    (void)state;
    struct world w = begin();
    live(&w, 300, 12, 2);
    uint32_t before = w.moves;
    live(&w, 4 * 3600, 12, 2);
    live(&w, 3600, 14, 1.5);
    live(&w, 3600, 10, 2.5);
    print_message("moves: %u, then %u; plans %u\n", before, w.moves - before, w.plans);
    assert_int_equal(w.moves, before);
    rates_clear(&w.rates);
}

static void load_that_swings_is_bounded(void **state)
{
    (void)state;
    struct world w = begin();
    const int hours = 3;
    for (int i = 0; i < hours * 30; i++) {
        live(&w, 60, 30, 1);
        live(&w, 60, 1, 30);
    }
    print_message("moves: %u in %d h; plans %u\n", w.moves, hours, w.plans);
    assert_true(w.moves > 0);
    assert_true(w.moves <= (uint32_t)(REPLAN_MOVES_PER_HOUR * (hours + 1)));
    rates_clear(&w.rates);
}

static void a_move_has_to_pay(void **state)
{
    (void)state;
    struct world w = begin();
    char why[REPLAN_TEXT_MAX];
    w.move_ms = 1e9;
    json_t *usage = json_pack("{s:[i]}", "a\tt", 75);
    rates_count(&w.rates, "dev-1", usage);
    json_decref(usage);
    for (int i = 0; i < 30; i++) { /* 15 per s: one place bears it, two are better */
        w.now_ns += 5 * NS_PER_S;
        w.rates.rows[0].count = 75;
        rates_tick(&w.rates, w.now_ns);
    }
    assert_false(decide(&w, true, why));
    w.move_ms = 200;
    assert_true(decide(&w, true, why));
    assert_int_equal(w.sites[0].count, 2);
    rates_clear(&w.rates);
}

/* a feeds b with much: moving one alone costs more than both cost to move. */
static void moves_have_to_pay_together(void **state)
{
    (void)state;
    static const char *const text =
        "{\"objective\":\"load\",\"devices\":[{\"name\":\"d0\",\"memory_bytes\":100},"
        "{\"name\":\"d1\",\"memory_bytes\":100},{\"name\":\"d2\",\"memory_bytes\":0}],"
        "\"default_link\":{\"latency_ms\":1,\"mbit\":100},\"modules\":["
        "{\"name\":\"a\",\"memory_bytes\":40,\"output_bytes\":1000000,"
        "\"run_ms\":{\"d0\":20,\"d1\":15}},"
        "{\"name\":\"b\",\"memory_bytes\":40,\"run_ms\":{\"d0\":20,\"d1\":15}}],"
        "\"models\":[{\"name\":\"m\",\"encoders\":[\"a\"],\"head\":\"b\"}],"
        "\"requests\":[{\"model\":\"m\",\"source\":\"d2\",\"rate_per_s\":1}]}";
    struct err e;
    struct plan_instance *in = NULL;
    struct replan_result r;
    double cost[2 * DEVICES];
    struct plan_sites now[2] = {{.count = 1, .device = {0}}, {.count = 1, .device = {0}}};
    json_t *o = json_parse("test", text, strlen(text), &e);
    assert_true(o && plan_instance_read(o, &in, &e));
    struct replan q = {.in = in, .now = now, .cost_ms = cost, .method = PLAN_AUTO};
    for (int pays = 0; pays < 2; pays++) {
        for (int i = 0; i < 2 * DEVICES; i++)
            cost[i] = pays ? 2000 : 4000; /* 10 ms/s for REPLAN_HORIZON_S are 6000 */
        assert_true(replan_decide(&q, &r, &e));
        assert_int_equal(r.adopt, pays);
        assert_int_equal(r.sites[0].device[0], pays);
        assert_int_equal(r.sites[1].device[0], pays);
        replan_clear(in, &r);
    }
    plan_instance_free(in);
    json_decref(o);
}

static void pins_and_losses_are_reasons_of_their_own(void **state)
{
    (void)state;
    struct err e;
    struct replan_result r;
    double per_s[2] = {1, 1}, cost[2 * DEVICES] = {0};
    for (int i = 0; i < 2 * DEVICES; i++)
        cost[i] = 1e12;
    struct plan_sites now[2] = {{.count = 1, .device = {0}}, {.count = 1, .device = {1}}};
    struct plan_instance *in = read_instance(per_s);
    json_t *pins = json_pack("{s:[s]}", "a", "d2");
    struct replan q = {.in = in, .now = now, .cost_ms = cost, .method = PLAN_AUTO};
    assert_true(replan_decide(&q, &r, &e));
    assert_false(r.adopt);
    assert_int_equal(r.sites[0].device[0], 0);
    replan_clear(in, &r);
    q.pins = pins;
    assert_true(replan_decide(&q, &r, &e));
    assert_true(r.adopt);
    assert_int_equal(r.sites[0].count, 1);
    assert_int_equal(r.sites[0].device[0], 2);
    assert_int_equal(r.sites[1].device[0], 1); /* the other one stays */
    replan_clear(in, &r);
    q.pins = NULL;
    q.redundancy = 1; /* there is room for one module twice */
    assert_true(replan_decide(&q, &r, &e));
    assert_true(r.adopt);
    assert_int_equal(r.sites[0].count + r.sites[1].count, 3);
    replan_clear(in, &r);
    json_decref(pins);
    plan_instance_free(in);
}

/* 60 per s need 2.4 lanes of 3, but a and b have to share: half of the rates are planned for. */
static void too_much_is_planned_for_in_part(void **state)
{
    (void)state;
    struct err e;
    struct replan_result r;
    double per_s[2] = {60, 60}, cost[2 * DEVICES] = {0};
    struct plan_sites now[2] = {{.count = 1, .device = {0}}, {.count = 1, .device = {1}}};
    struct plan_instance *in = read_instance(per_s);
    struct replan q = {.in = in, .now = now, .cost_ms = cost, .method = PLAN_AUTO};
    assert_true(replan_decide(&q, &r, &e));
    assert_true(r.scale > 0 && r.scale < 1);
    replan_clear(in, &r);
    plan_instance_free(in);
    double none[2] = {1, 1};
    in = read_instance(none);
    q.in = in;
    for (int i = 0; i < DEVICES; i++)
        in->devices[i].memory_bytes = 10;
    assert_false(replan_decide(&q, &r, &e));
    assert_int_equal(e.code, ERR_NO_PLACE);
    plan_instance_free(in);
}

static void counts_become_rates(void **state)
{
    (void)state;
    struct rates r = {0};
    json_t *usage = json_pack("{s:[i],s:[i],s:s,s:[s],s:[i]}", "m\tt", 50, "broken", 3, "x\ty",
                              "no", "y\tz", "no", "\tz", 4);
    for (int i = 1; i <= 60; i++) {
        rates_count(&r, "dev-1", usage);
        rates_tick(&r, i * 5 * NS_PER_S);
    }
    assert_int_equal(r.count, 1);
    assert_true(fabs(r.rows[0].per_s - 10) < 0.01);
    assert_ptr_equal(rates_changed(&r), &r.rows[0]);
    rates_planned(&r);
    assert_null(rates_changed(&r));
    for (int i = 61; i <= 120; i++)
        rates_tick(&r, i * 5 * NS_PER_S);
    assert_int_equal(r.count, 1); /* faded, but the plan has to know */
    assert_non_null(rates_changed(&r));
    rates_planned(&r);
    rates_tick(&r, 605 * NS_PER_S);
    assert_int_equal(r.count, 0);
    json_decref(usage);
    rates_clear(&r);
}

static void answers_say_how_much_work_they_were(void **state)
{
    (void)state;
    struct rates r = {0};
    assert_true(rates_runs(&r, "m", "t", 7) == 7);
    json_t *usage = json_pack("{s:[i,i,i,i],s:[i,i,i]}", "m\tt", 0, 4, 20, 4000, "m\tu", 5, 0, 0);
    rates_count(&r, "dev-1", usage);
    json_decref(usage);
    assert_true(rates_runs(&r, "m", "t", 7) == 5);
    assert_true(rates_bytes(&r, "m", "t", 7) == 1000);
    assert_true(rates_bytes(&r, "m", "u", 7) == 7);
    assert_true(rates_runs(&r, "m", "u", 7) == 7);   /* none was answered */
    assert_true(rates_around_ms(&r, "m", "t") == 0); /* none without a cache's help */
    usage = json_pack("{s:[i,i,i,i,i,i,i]}", "m\tu", 0, 5, 0, 0, 4, 9000, 2000);
    rates_count(&r, "dev-1", usage);
    json_decref(usage);
    assert_true(rates_around_ms(&r, "m", "u") == 0.5); /* of four, 2 ms */
    usage = json_pack("{s:[i,i,i]}", "m\tt", 0, 100, 1000);
    for (int i = 0; i < 20; i++) /* what was long ago fades */
        rates_count(&r, "dev-2", usage);
    json_decref(usage);
    assert_true(fabs(rates_runs(&r, "m", "t", 7) - 10) < 0.01);
    rates_clear(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_become_rates),
        cmocka_unit_test(answers_say_how_much_work_they_were),
        cmocka_unit_test(load_that_shifts_moves_the_replica),
        cmocka_unit_test(steady_load_moves_nothing),
        cmocka_unit_test(load_that_swings_is_bounded),
        cmocka_unit_test(a_move_has_to_pay),
        cmocka_unit_test(moves_have_to_pay_together),
        cmocka_unit_test(pins_and_losses_are_reasons_of_their_own),
        cmocka_unit_test(too_much_is_planned_for_in_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
