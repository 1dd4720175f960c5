/* libplan.c - see libplan.h. */
#include "libplan.h"

#include "base/num.h"
#include "lib/cmocka.h"

#include <stdio.h>
#include <stdlib.h>

static uint64_t state;

static uint32_t up_to(uint32_t n)
{
    return (uint32_t)(num_random(&state) % (n + 1u));
}

static uint32_t between(uint32_t low, uint32_t high)
{
    return low + up_to(high - low);
}

static bool chance(uint32_t percent)
{
    return up_to(99) < percent;
}

static json_t *name(const char *kind, uint32_t i)
{
    return json_sprintf("%s%u", kind, i);
}

static json_t *random_devices(uint32_t count, double all_bytes, bool alike)
{
    static const double speeds[] = {5, 20, 100, 400};
    json_t *list = json_array();
    double room = all_bytes * between(40, 130) / 100.0, speed = speeds[up_to(3)];
    for (uint32_t i = 0; i < count; i++) {
        double mine = alike ? room : room * between(40, 160) / 100.0;
        json_array_append_new(list, json_pack("{s:o,s:I,s:i,s:f}", "name", name("d", i),
                                              "memory_bytes", (json_int_t)mine, "lanes",
                                              alike || chance(60) ? 1 : (int)between(2, 3),
                                              "gflops", alike ? speed : speeds[up_to(3)]));
    }
    return list;
}

static json_t *random_links(uint32_t count)
{
    json_t *list = json_array();
    for (uint32_t a = 0; a < count; a++)
        for (uint32_t b = a + 1; b < count; b++)
            if (chance(50))
                json_array_append_new(list,
                                      json_pack("{s:o,s:o,s:f,s:i}", "a", name("d", a), "b",
                                                name("d", b), "latency_ms", between(1, 400) / 10.0,
                                                "mbit", (int)between(20, 940)));
    return list;
}

static json_t *random_modules(uint32_t count, uint32_t devices, double *bytes)
{
    static const int outputs[] = {0, 2048, 100000, 1200000};
    json_t *list = json_array();
    for (uint32_t i = 0; i < count; i++) {
        uint32_t mb = between(10, 500);
        json_t *m = json_pack("{s:o,s:I,s:f,s:i}", "name", name("m", i), "memory_bytes",
                              (json_int_t)mb * 1000000, "gflop", between(1, 4000) / 100.0,
                              "output_bytes", outputs[up_to(3)]);
        json_t *run = json_object();
        for (uint32_t d = 0; chance(30) && d < devices; d++) {
            char device[16];
            (void)snprintf(device, sizeof(device), "d%u", d);
            json_object_set_new(run, device, chance(15) ? json_null() : json_real(between(1, 900)));
        }
        json_object_set_new(m, "run_ms", run);
        json_array_append_new(list, m);
        *bytes += mb * 1e6;
    }
    return list;
}

/* calls: the last one takes what feeds no other. */
static json_t *random_calls(const uint32_t *modules, uint32_t count, bool deep)
{
    json_t *list = json_array();
    bool fed[16] = {false};
    for (uint32_t i = 0; i < count; i++) {
        json_t *from = json_array();
        bool last = i + 1 == count, some = false;
        for (uint32_t k = 0; k < i; k++)
            if (last ? !fed[k] : deep && chance(50)) {
                json_array_append_new(from, name("c", k));
                fed[k] = some = true;
            }
        if (!some || (!last && chance(20)))
            json_array_append_new(from, json_string("source"));
        json_array_append_new(list, json_pack("{s:o,s:o,s:o}", "id", name("c", i), "module",
                                              name("m", modules[i]), "from", from));
    }
    return list;
}

static json_t *random_model(uint32_t index, uint32_t modules, uint32_t *ret_calls)
{
    uint32_t chosen[16], count = between(1, modules < 4 ? modules : 4);
    for (uint32_t i = 0; i < count; i++) {
        chosen[i] = up_to(modules - 1);
        for (uint32_t k = 0; k < i; k++)
            if (chosen[k] == chosen[i]) {
                i--;
                break;
            }
    }
    if (chance(20))
        chosen[count++] = chosen[0];
    *ret_calls = count;
    return json_pack("{s:o,s:o,s:b}", "name", name("k", index), "calls",
                     random_calls(chosen, count, chance(85)), "answer_at_source", chance(20));
}

static json_t *random_request(const uint32_t *calls, uint32_t models, uint32_t devices)
{
    static const int sizes[] = {300, 20000, 150000, 600000};
    uint32_t model = up_to(models - 1);
    json_t *bytes = json_object(), *runs = json_object();
    for (uint32_t i = 0; i < calls[model]; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "c%u", i);
        json_object_set_new(bytes, id, json_integer(sizes[up_to(3)]));
        if (chance(15))
            json_object_set_new(runs, id, json_integer(between(2, 20)));
    }
    return json_pack("{s:o,s:o,s:f,s:f,s:o,s:o,s:i}", "model", name("k", model), "source",
                     name("d", up_to(devices - 1)), "weight", between(2, 30) / 10.0, "rate_per_s",
                     between(0, 100) / 200.0, "input_bytes", bytes, "runs", runs, "answer_bytes",
                     (int)up_to(5000));
}

json_t *random_instance(uint64_t seed, enum plan_objective objective, uint32_t modules,
                        uint32_t devices, bool replicas)
{
    state = seed * 7919 + (uint64_t)objective;
    uint32_t n = between(2, devices), k = between(2, modules), models = between(1, 5), calls[8];
    bool alike = chance(20);
    double bytes = 0;
    json_t *all = random_modules(k, n, &bytes), *list = json_array(), *requests = json_array();
    for (uint32_t i = 0; i < models; i++)
        json_array_append_new(list, random_model(i, k, &calls[i]));
    for (uint32_t i = between(1, 6); i > 0; i--)
        json_array_append_new(requests, random_request(calls, models, n));
    json_t *o =
        json_pack("{s:s,s:s,s:b,s:o,s:o,s:o,s:o,s:o}", "name", "random", "objective",
                  plan_objective_name(objective), "replicas", replicas, "devices",
                  random_devices(n, bytes, alike), "links", alike ? json_array() : random_links(n),
                  "modules", all, "models", list, "requests", requests);
    if (chance(90))
        json_object_set_new(
            o, "default_link",
            json_pack("{s:f,s:i}", "latency_ms", between(1, 50) / 10.0, "mbit", 100));
    return o;
}

json_t *knotted_instance(uint64_t seed, enum plan_objective objective, uint32_t modules,
                         uint32_t devices)
{
    state = seed * 104729 + (uint64_t)objective;
    double bytes = 0;
    json_t *all = random_modules(modules, devices, &bytes), *models = json_array(),
           *requests = json_array();
    for (uint32_t a = 0; a < modules; a++)
        for (uint32_t b = a + 1; b < modules; b++) {
            char model[24];
            (void)snprintf(model, sizeof(model), "k%u-%u", a, b);
            json_array_append_new(models, json_pack("{s:s,s:o}", "name", model, "calls",
                                                    random_calls((uint32_t[]){a, b}, 2, false)));
            json_array_append_new(requests, json_pack("{s:s,s:o,s:f,s:f}", "model", model, "source",
                                                      name("d", up_to(devices - 1)), "weight",
                                                      between(2, 30) / 10.0, "rate_per_s",
                                                      between(0, 100) / 1000.0));
        }
    json_t *o = json_pack("{s:s,s:s,s:o,s:o,s:o,s:o,s:o}", "name", "knotted", "objective",
                          plan_objective_name(objective), "devices",
                          random_devices(devices, bytes, false), "links", random_links(devices),
                          "modules", all, "models", models, "requests", requests);
    if (chance(50))
        json_object_set_new(o, "default_link",
                            json_pack("{s:f,s:i}", "latency_ms", 0.5, "mbit", 900));
    return o;
}

struct plan_instance *read_instance(json_t *o)
{
    struct plan_instance *in = NULL;
    struct err e = {0};
    bool ok = plan_instance_read(o, &in, &e);
    json_decref(o);
    if (!ok)
        fail_msg("%s", e.text);
    return in;
}

void make_tight(struct plan_instance *in, uint64_t seed)
{
    state = seed;
    for (uint32_t d = 0; d < in->device_count; d++)
        in->devices[d].memory_bytes = chance(20) ? 100 : 0;
    for (uint32_t m = 0; m < in->module_count; m++) {
        uint32_t d = up_to(in->device_count - 1);
        in->modules[m].memory_bytes = 100 * between(1, 3);
        for (int i = 0; i < 8 && !isfinite(plan_run(in, m, d)); i++)
            d = up_to(in->device_count - 1);
        in->devices[d].memory_bytes += in->modules[m].memory_bytes;
    }
}

void make_alike(struct plan_instance *in)
{
    size_t n = in->device_count;
    uint32_t link = in->link_of[1];
    for (size_t a = 0; a < n; a++)
        for (size_t b = 0; b < n; b++)
            if (a != b)
                in->link_of[a * n + b] = link;
    for (uint32_t d = 2; d < n; d++) {
        in->devices[d].memory_bytes = in->devices[1].memory_bytes;
        in->devices[d].lanes = in->devices[1].lanes;
        for (uint32_t m = 0; m < in->module_count; m++)
            in->run_ms[m * n + d] = in->run_ms[m * n + 1];
    }
    for (uint32_t q = 0; q < in->request_count; q++)
        in->requests[q].source = 0;
}

double enumerate(const struct plan_instance *in)
{
    struct plan_sites *sites = calloc(in->module_count, sizeof(*sites));
    struct eval v;
    struct err e;
    double best = INFINITY;
    assert_true(sites && eval_init(&v, in, &e));
    for (uint32_t m = 0; m < in->module_count; m++)
        sites[m].count = 1;
    for (bool more = true; more;) {
        bool may = true;
        for (uint32_t m = 0; may && m < in->module_count; m++)
            may = plan_may(in, m, sites[m].device[0]);
        if (may) {
            eval_set_all(&v, sites);
            if (v.over_bytes <= 0) {
                assert_true(eval_full(&v, &e));
                if (score_feasible(v.now) && v.now.value < best)
                    best = v.now.value;
            }
        }
        uint32_t m = 0;
        while (m < in->module_count && ++sites[m].device[0] == in->device_count)
            sites[m++].device[0] = 0;
        more = m < in->module_count;
    }
    eval_done(&v);
    free(sites);
    return best;
}

uint64_t seed_count(uint64_t quick, uint64_t full)
{
    return getenv("S2M3_FULL") ? full : quick;
}
