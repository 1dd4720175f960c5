/* plan_scale.c - time of greedy over the number of modules, and the large case of all methods.
 *
 *   bench_plan_scale
 *
 * First 200 devices and 500 to 16,000 modules: milliseconds to read the instance and to plan, and
 * microseconds of both per module x log2(modules), which must not grow, with a plot of both: '#' measured, '|' where N log N through the first point
 * would be.  Then 1,000 devices, 5,000 modules, 2,000 models with one request each, in all objectives,
 * auto with its limit of one second, and the most memory that all of it took.  Instances are made here,
 * with a fixed seed. */
#include "base/clock.h"
#include "base/num.h"
#include "plan/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define GROWTH_DEVICES 200
#define ROUNDS 5
#define GROWTH_FIRST 500u
#define GROWTH_POINTS 6
#define PLOT_WIDTH 60
#define LIMIT_MS 1000

static uint64_t state;

static uint32_t up_to(uint32_t n)
{
    return (uint32_t)(num_random(&state) % n);
}

static json_t *make(uint32_t devices, uint32_t modules, uint32_t models, const char *objective)
{
    static const int sizes[] = {150, 250, 345, 495, 1216, 2200}, flops[] = {6, 9, 13, 35, 160, 380};
    static const int speeds[] = {5, 12, 30, 100, 400, 1500};
    json_t *d = json_array(), *m = json_array(), *k = json_array(), *q = json_array();
    state = devices * 31u + modules;
    for (uint32_t i = 0; i < devices; i++)
        json_array_append_new(
            d, json_pack("{s:o,s:I,s:i,s:i}", "name", json_sprintf("d%u", i), "memory_bytes",
                         (json_int_t)(modules * 1200e6 / devices * (60 + up_to(90)) / 100), "lanes",
                         1 + (int)up_to(4), "gflops", speeds[up_to(6)]));
    for (uint32_t i = 0; i < modules; i++)
        json_array_append_new(m, json_pack("{s:o,s:I,s:i,s:i}", "name", json_sprintf("m%u", i),
                                           "memory_bytes", (json_int_t)sizes[up_to(6)] * 1000000,
                                           "gflop", flops[up_to(6)], "output_bytes", 2048));
    for (uint32_t i = 0; i < models; i++) {
        uint32_t a = up_to(modules), b = (a + 1 + up_to(modules / 2 - 1)) % modules,
                 h = (a + modules / 2 + up_to(modules / 3)) % modules;
        json_array_append_new(
            k, json_pack("{s:o,s:[o,o],s:o}", "name", json_sprintf("k%u", i), "encoders",
                         json_sprintf("m%u", a), json_sprintf("m%u", b), "head",
                         h == a || h == b ? json_null() : json_sprintf("m%u", h)));
        json_array_append_new(q,
                              json_pack("{s:o,s:o,s:f}", "model", json_sprintf("k%u", i), "source",
                                        json_sprintf("d%u", up_to(devices)), "rate_per_s", 0.0005));
    }
    return json_pack("{s:s,s:o,s:{s:i,s:i},s:o,s:o,s:o}", "objective", objective, "devices", d,
                     "default_link", "latency_ms", 2, "mbit", 100, "modules", m, "models", k,
                     "requests", q);
}

static bool late(void *ctx)
{
    return clock_now_ns() >= *(int64_t *)ctx;
}

/* ms of one solve; negative: it failed. */
static double solve(const struct plan_instance *in, enum plan_method method, double *value,
                    double *bound)
{
    int64_t start = clock_now_ns(), end = start + LIMIT_MS * NS_PER_MS;
    struct plan_options o = {.method = method};
    struct plan_result r;
    struct err e;
    if (method == PLAN_AUTO) {
        o.stop = late;
        o.stop_ctx = &end;
    }
    if (!plan_solve(in, &o, &r, &e)) {
        (void)fprintf(stderr, "%s: %s\n", plan_method_name(method), e.text);
        return -1;
    }
    double ms = clock_ms_since(start);
    *value = r.value;
    *bound = r.bound;
    plan_result_clear(in, &r);
    return ms;
}

static struct plan_instance *read_made(json_t *o)
{
    struct plan_instance *in = NULL;
    struct err e = {0};
    if (!o || !plan_instance_read(o, &in, &e))
        (void)fprintf(stderr, "instance: %s\n", e.text);
    json_decref(o);
    return in;
}

/* Rows of a plot whose width is that of the largest of both curves. */
static void plot(const double *ms)
{
    double expected[GROWTH_POINTS], most = 0;
    for (int i = 0; i < GROWTH_POINTS; i++) {
        double n = GROWTH_FIRST << i;
        expected[i] = ms[0] * n * log2(n) / (GROWTH_FIRST * log2(GROWTH_FIRST));
        most = fmax(most, fmax(ms[i], expected[i]));
    }
    for (int i = 0; i < GROWTH_POINTS; i++) {
        char row[PLOT_WIDTH + 2];
        memset(row, ' ', sizeof(row));
        memset(row, '#', (size_t)(PLOT_WIDTH * ms[i] / most));
        row[(size_t)(PLOT_WIDTH * expected[i] / most)] = '|';
        row[PLOT_WIDTH + 1] = '\0';
        printf("%8u %s\n", GROWTH_FIRST << i, row);
    }
}

static bool growth(enum plan_method method)
{
    double all[GROWTH_POINTS];
    printf("%s, %d devices\n%8s %10s %10s %16s\n", plan_method_name(method), GROWTH_DEVICES,
           "modules", "read ms", "plan ms", "us/(n log2 n)");
    for (int i = 0; i < GROWTH_POINTS; i++) {
        uint32_t n = GROWTH_FIRST << i;
        double value, bound, read_ms = INFINITY, plan_ms = INFINITY;
        for (int k = 0; k < ROUNDS; k++) {
            json_t *o = make(GROWTH_DEVICES, n, n / 2, "latency");
            int64_t start = clock_now_ns();
            struct plan_instance *in = read_made(o);
            if (!in)
                return false;
            read_ms = fmin(read_ms, clock_ms_since(start));
            plan_ms = fmin(plan_ms, fabs(solve(in, method, &value, &bound)));
            plan_instance_free(in);
        }
        all[i] = read_ms + plan_ms;
        printf("%8u %10.2f %10.2f %16.4f\n", n, read_ms, plan_ms, 1000 * all[i] / (n * log2(n)));
    }
    plot(all);
    return true;
}

int main(void)
{
    static const enum plan_method methods[] = {PLAN_GREEDY_FASTEST, PLAN_GREEDY_EARLIEST,
                                               PLAN_BEST_GREEDY, PLAN_AUTO};
    static const char *const objectives[] = {"latency", "burst", "load"};
    if (!growth(PLAN_GREEDY_FASTEST) || !growth(PLAN_BEST_GREEDY))
        return 1;
    printf("1000 devices, 5000 modules, 2000 models\n%-10s %-16s %10s %16s %16s\n", "objective",
           "method", "ms", "value", "bound");
    for (size_t i = 0; i < ARRAY_LEN(objectives); i++) {
        struct plan_instance *in = read_made(make(1000, 5000, 2000, objectives[i]));
        for (size_t k = 0; in && k < ARRAY_LEN(methods); k++) {
            double value = NAN, bound = NAN, ms = solve(in, methods[k], &value, &bound);
            printf("%-10s %-16s %10.1f %16.1f %16.1f\n", objectives[i],
                   plan_method_name(methods[k]), ms, value, bound);
        }
        plan_instance_free(in);
    }
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        printf("most memory at once: %.0f MiB\n", (double)usage.ru_maxrss / 1024);
    return 0;
}
