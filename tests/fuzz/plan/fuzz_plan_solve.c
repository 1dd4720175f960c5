/* Plans of any instance keep what the planner promises: no device over its memory, every module
 * somewhere that can run it, value as the evaluator says, never worse than the best single device
 * that fits (without pins and places to spare), bound not above the value, nothing else once nofit is
 * proven; what is unprotected is named. */
#include "base/num.h"
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

#define EVALS 300
#define WORK_MAX                                                                                   \
    4000000.0 /* lanes and routes of one evaluation, so that an input takes no minutes */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool what)
{
    if (!what)
        __builtin_trap();
}

static double best_single(const struct plan_instance *in, struct plan_sites *sites)
{
    double best = INFINITY, value;
    struct err e;
    for (uint32_t d = 0; d < in->device_count; d++) {
        for (uint32_t m = 0; m < in->module_count; m++)
            sites[m] = (struct plan_sites){.count = 1, .device = {d}};
        if (plan_evaluate(in, sites, &value, NULL, NULL, &e))
            best = fmin(best, value);
    }
    return best;
}

/* The first module on one of the devices, or on two. */
static json_t *pins_of(const struct plan_instance *in, unsigned char which)
{
    json_t *names = json_array();
    json_array_append_new(names, json_string(in->devices[0].name));
    if (which & 1)
        json_array_append_new(names, json_string(in->devices[in->device_count - 1].name));
    json_t *o = json_object();
    json_object_set_new(o, in->modules[0].name, names);
    return o;
}

static void check(const struct plan_instance *in, const struct plan_options *options,
                  const struct plan_result *r, double single)
{
    uint32_t most = in->replicas ? PLAN_REPLICAS_MAX : (uint32_t)options->redundancy + 1;
    double value = NAN, *used = calloc(in->device_count, sizeof(*used));
    struct err e;
    must(used && plan_evaluate(in, r->sites, &value, NULL, used, &e));
    must(isfinite(value) && fabs(value - r->value) <= 1e-9 * fabs(value));
    for (uint32_t d = 0; d < in->device_count; d++)
        must(used[d] <= in->devices[d].memory_bytes);
    for (uint32_t m = 0; m < in->module_count; m++) {
        must(r->sites[m].count >= 1 && r->sites[m].count <= most);
        must(options->redundancy == 0 ||
             r->unprotected[m] == (r->sites[m].count <= (uint32_t)options->redundancy));
        for (uint32_t i = 0; i < r->sites[m].count; i++)
            must(isfinite(plan_run(in, m, r->sites[m].device[i])));
    }
    must(isnan(r->bound) || r->bound <= r->value * (1 + 1e-9));
    if (r->method != PLAN_GREEDY_FASTEST && r->method != PLAN_GREEDY_EARLIEST &&
        r->stopped == PLAN_NOT_STOPPED && options->redundancy == 0 && !options->pins)
        must(r->value <= single * (1 + 1e-9));
    json_t *o = plan_result_json(in, r);
    must(o != NULL);
    json_decref(o);
    free(used);
}

static bool small(const struct plan_instance *in)
{
    double lanes = 0, calls = 0;
    for (uint32_t d = 0; d < in->device_count; d++)
        lanes += in->devices[d].lanes;
    for (uint32_t q = 0; q < in->request_count; q++)
        calls += in->models[in->requests[q].model].call_count;
    return lanes * (calls + 1) * in->device_count * in->module_count * EVALS < WORK_MAX * EVALS &&
           (!in->replicas || in->device_count <= 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plan_instance *in;
    struct err e = {0};
    if (size < 2 || size > 20000)
        return 0;
    json_t *o = json_parse("input", (const char *)data + 1, size - 1, &e);
    if (!o)
        return 0;
    if (plan_instance_read(o, &in, &e)) {
        struct plan_sites *sites = calloc(in->module_count, sizeof(*sites));
        struct plan_options options = {.method = (enum plan_method)(data[0] % PLAN_METHOD_COUNT),
                                       .seed = data[0],
                                       .limit_evals = EVALS,
                                       .pins = data[0] & 16 ? pins_of(in, data[0]) : NULL,
                                       .redundancy = data[0] >> 5 & 3,
                                       .explain = data[0] >= 128};
        struct plan_result r;
        must(sites != NULL);
        if (small(in)) {
            double single = best_single(in, sites);
            if (plan_solve(in, &options, &r, &e)) {
                check(in, &options, &r, single);
                plan_result_clear(in, &r);
            } else {
                must(e.code == ERR_NO_PLACE || e.code == ERR_INVALID);
                must(r.status != PLAN_NOFIT || !isfinite(single) || options.pins);
            }
        }
        json_decref((json_t *)(uintptr_t)options.pins);
        free(sites);
        plan_instance_free(in);
    }
    json_decref(o);
    return 0;
}
