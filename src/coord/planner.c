/* planner.c - from the fleet to a placement instance, and from its answer to places.
 *
 * The instance is the planner's own JSON format; devices and modules go by names for people, so
 * that its reasons can be shown as they are.  One request class per (model, program), from the
 * device of the coordinator (the first that lives), each model with the same weight. */
#include "base/clock.h"
#include "base/num.h"
#include "coord/internal.h"
#include "plan/plan.h"
#include "task/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLAN_GAIN_MIN 0.10 /* a new plan is taken only if it is a tenth better: moving costs */
#define PLAN_EVALS 200000
#define IMAGE_BYTES 100000
#define AUDIO_BYTES 64000
#define TEXT_BYTES 100
#define CANDIDATES_GUESS 10
#define ANSWER_BYTES 200

/* Which models are planned; by index in the fleet. */
struct scope {
    bool *models;
    bool keep;
};

static bool usable(const struct device *d)
{
    return d->alive && !d->draining;
}

/* "vision_model 88cb1c3a": unique and readable. */
static void module_key(const struct module *m, char *to, size_t size)
{
    (void)snprintf(to, size, "%.100s %.8s", m->name, m->digest.hex);
}

static bool in_scope(struct coord *c, const struct scope *s, const struct module *m)
{
    for (uint32_t i = 0; i < c->fleet.model_count; i++)
        for (uint32_t k = 0; s->models[i] && k < c->fleet.models[i].module_count; k++)
            if (strcmp(c->fleet.models[i].modules[k].hex, m->digest.hex) == 0)
                return true;
    return false;
}

static json_t *devices_json(struct coord *c)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->fleet.device_count; i++) {
        const struct device *d = &c->fleet.devices[i];
        if (usable(d))
            json_array_append_new(list, json_pack("{s:s,s:I,s:i}", "name", d->join.name,
                                                  "memory_bytes", (json_int_t)d->join.memory_bytes,
                                                  "lanes", (int)d->join.lanes));
    }
    return list;
}

static json_t *modules_json(struct coord *c, const struct scope *s)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->fleet.module_count; i++) {
        const struct module *m = &c->fleet.modules[i];
        if (!in_scope(c, s, m))
            continue;
        char key[WIRE_NAME_MAX];
        json_t *run_ms = json_object();
        uint64_t memory = 0;
        for (uint32_t k = 0; k < c->fleet.device_count; k++) {
            const struct device *d = &c->fleet.devices[k];
            bool measured;
            if (!usable(d))
                continue;
            double ms = fleet_run_ms(&c->fleet, m, d, &measured);
            uint64_t bytes = fleet_memory(&c->fleet, m, d->join.id, &measured);
            memory = bytes > memory ? bytes : memory;
            json_object_set_new(run_ms, d->join.name, json_real(ms > 1e-6 ? ms : 1e-6));
        }
        module_key(m, key, sizeof(key));
        json_array_append_new(list, json_pack("{s:s,s:I,s:I,s:o}", "name", key, "memory_bytes",
                                              (json_int_t)memory, "output_bytes",
                                              (json_int_t)m->output_bytes, "run_ms", run_ms));
    }
    return list;
}

static json_t *links_json(struct coord *c)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->fleet.link_count; i++) {
        const struct link_entry *l = &c->fleet.links[i];
        const struct device *a = fleet_device(&c->fleet, l->a), *b = fleet_device(&c->fleet, l->b);
        if (a && b && usable(a) && usable(b))
            json_array_append_new(list, json_pack("{s:s,s:s,s:f,s:f}", "a", a->join.name, "b",
                                                  b->join.name, "latency_ms", l->latency_ms, "mbit",
                                                  l->mbit));
    }
    return list;
}

/* ---- models and requests ---------------------------------------------------------------------- */

static double media_bytes(const struct program_call *c)
{
    static const double sizes[MEDIA_KINDS] = {IMAGE_BYTES, AUDIO_BYTES, TEXT_BYTES};
    double bytes = 0;
    for (int i = 0; i < c->input_count; i++)
        bytes += c->inputs[i].media ? sizes[c->inputs[i].kind] : 0;
    return bytes;
}

static json_t *from_json(const struct program *p, const struct program_call *c)
{
    json_t *from = json_array();
    bool source = false, seen[PROGRAM_CALLS_MAX] = {false};
    for (int i = 0; i < c->input_count; i++) {
        const struct program_input *in = &c->inputs[i];
        if (in->media)
            source = true;
        else if (!seen[in->call]) {
            seen[in->call] = true;
            json_array_append_new(from, json_string(p->calls[in->call].id));
        }
    }
    if (source)
        json_array_append_new(from, json_string("source"));
    return from;
}

/* One program as a model of the instance; false when one of its modules is not known. */
static bool program_json(struct coord *c, const struct program *p, const char *name, json_t **model,
                         json_t **input_bytes, json_t **runs)
{
    json_t *calls = json_array();
    *input_bytes = json_object();
    *runs = json_object();
    for (int i = 0; i < p->call_count; i++) {
        const struct program_call *call = &p->calls[i];
        const struct module *m = fleet_module(&c->fleet, call->module.hex);
        char key[WIRE_NAME_MAX];
        if (!m) {
            json_decref(calls);
            json_decref(*input_bytes);
            json_decref(*runs);
            return false;
        }
        module_key(m, key, sizeof(key));
        json_array_append_new(calls, json_pack("{s:s,s:s,s:o}", "id", call->id, "module", key,
                                               "from", from_json(p, call)));
        double bytes = media_bytes(call) * (call->each ? CANDIDATES_GUESS : 1);
        if (bytes > 0)
            json_object_set_new(*input_bytes, call->id, json_integer((json_int_t)bytes));
        if (call->each)
            json_object_set_new(*runs, call->id, json_integer(CANDIDATES_GUESS));
    }
    *model = json_pack("{s:s,s:o,s:b}", "name", name, "calls", calls, "answer_at_source",
                       p->answer.kind == ANSWER_SIMILARITY);
    return true;
}

static void add_model(struct coord *c, const struct model_entry *m, const char *source,
                      json_t *models, json_t *requests)
{
    struct program **programs;
    int count;
    if (!model_programs(json_object_get(m->model, "programs"), &programs, &count, NULL))
        return;
    for (int i = 0; i < count; i++) {
        char name[2 * WIRE_NAME_MAX + 16];
        json_t *model, *input_bytes, *runs;
        (void)snprintf(name, sizeof(name), "%.127s/%.127s/%d", m->name, programs[i]->task, i);
        if (!program_json(c, programs[i], name, &model, &input_bytes, &runs))
            continue;
        json_array_append_new(models, model);
        json_array_append_new(requests,
                              json_pack("{s:s,s:s,s:f,s:o,s:o,s:i}", "model", name, "source",
                                        source, "weight", 1.0 / count, "input_bytes", input_bytes,
                                        "runs", runs, "answer_bytes", ANSWER_BYTES));
    }
    model_programs_free(programs, count);
}

static const struct device *source_device(struct coord *c)
{
    for (uint32_t i = 0; i < c->fleet.device_count; i++)
        if (usable(&c->fleet.devices[i]))
            return &c->fleet.devices[i];
    return NULL;
}

static json_t *instance_json(struct coord *c, const struct scope *s)
{
    const struct device *source = source_device(c);
    json_t *models = json_array(), *requests = json_array();
    for (uint32_t i = 0; i < c->fleet.model_count; i++)
        if (s->models[i])
            add_model(c, &c->fleet.models[i], source->join.name, models, requests);
    return json_pack("{s:s,s:s,s:o,s:{s:f,s:f},s:o,s:o,s:o,s:o}", "name", "fleet", "objective",
                     "latency", "devices", devices_json(c), "default_link", "latency_ms", 0.2,
                     "mbit", 1000.0, "links", links_json(c), "modules", modules_json(c, s),
                     "models", models, "requests", requests);
}

/* Places that stay: those of modules that live where they shall be. */
static json_t *pins_json(struct coord *c, const struct scope *s)
{
    json_t *pins = json_object();
    for (uint32_t i = 0; s->keep && i < c->fleet.module_count; i++) {
        const struct module *m = &c->fleet.modules[i];
        char key[WIRE_NAME_MAX];
        json_t *names = json_array();
        for (uint32_t k = 0; k < m->desired_count; k++) {
            const struct device *d = fleet_device(&c->fleet, m->desired[k]);
            if (d && usable(d))
                json_array_append_new(names, json_string(d->join.name));
        }
        module_key(m, key, sizeof(key));
        if (json_array_size(names) > 0 && in_scope(c, s, m))
            json_object_set(pins, key, names);
        json_decref(names);
    }
    return pins;
}

static bool solve(struct coord *c, const struct scope *s, json_t **answer, struct err *e)
{
    if (!source_device(c))
        return err_set(e, ERR_NO_PLACE, "placement: no device is alive");
    json_t *instance = instance_json(c, s), *pins = pins_json(c, s);
    struct plan_options o = {
        .method = PLAN_BEST_GREEDY, .limit_evals = PLAN_EVALS, .pins = pins, .explain = true};
    bool ok = instance && plan_run_json(instance, &o, answer, e);
    if (!instance)
        err_set(e, ERR_MEMORY, "placement: no memory");
    json_decref(instance);
    json_decref(pins);
    return ok;
}

/* ---- taking an answer over ---------------------------------------------------------------------- */

static const struct device *device_by_name(struct coord *c, const char *name)
{
    for (uint32_t i = 0; i < c->fleet.device_count; i++)
        if (strcmp(c->fleet.devices[i].join.name, name) == 0)
            return &c->fleet.devices[i];
    return NULL;
}

static const char *reason_of(const json_t *answer, const char *key)
{
    const json_t *list = json_object_get(answer, "explain");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i);
        const char *module = json_string_value(json_object_get(row, "module"));
        if (module && strcmp(module, key) == 0)
            return json_string_value(json_object_get(row, "reason"));
    }
    return "";
}

static bool same_place(const struct module *m, const char *const *ids, uint32_t count)
{
    if (m->desired_count != count)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(m->desired[i], ids[i]) != 0)
            return false;
    return true;
}

/* A module that stays keeps the reason for which it once went there. */
static bool take_over(struct coord *c, const struct scope *s, const json_t *answer, struct err *e)
{
    const json_t *placement = json_object_get(answer, "placement");
    for (uint32_t i = 0; i < c->fleet.module_count; i++) {
        struct module *m = &c->fleet.modules[i];
        char key[WIRE_NAME_MAX];
        const char *ids[WIRE_DEVICES_MAX];
        uint32_t count = 0;
        if (!in_scope(c, s, m))
            continue;
        module_key(m, key, sizeof(key));
        const json_t *names = json_object_get(placement, key);
        for (size_t k = 0; k < json_array_size(names) && count < WIRE_DEVICES_MAX; k++) {
            const char *name = json_string_value(json_array_get(names, k));
            const struct device *d = name ? device_by_name(c, name) : NULL;
            if (d)
                ids[count++] = d->join.id;
        }
        if (!same_place(m, ids, count) &&
            !fleet_place(&c->fleet, m, ids, count, reason_of(answer, key), e))
            return false;
    }
    return true;
}

/* ---- what is planned ------------------------------------------------------------------------------ */

static bool has_place(struct coord *c, const struct model_entry *m)
{
    for (uint32_t i = 0; i < m->module_count; i++) {
        const struct module *x = fleet_module(&c->fleet, m->modules[i].hex);
        bool found = false;
        for (uint32_t k = 0; x && k < x->desired_count && !found; k++) {
            const struct device *d = fleet_device(&c->fleet, x->desired[k]);
            found = d && usable(d);
        }
        if (!found)
            return false;
    }
    return true;
}

/* Models that live stay in; of the others as many as fit, in their order. */
static bool plan_partial(struct coord *c, struct scope *s, struct err *e)
{
    json_t *best = NULL;
    for (uint32_t i = 0; i < c->fleet.model_count; i++)
        s->models[i] = has_place(c, &c->fleet.models[i]);
    (void)solve(c, s, &best, e);
    for (uint32_t i = 0; i < c->fleet.model_count; i++) {
        json_t *more = NULL;
        if (s->models[i])
            continue;
        s->models[i] = true;
        if (solve(c, s, &more, e)) {
            json_decref(best);
            best = more;
        } else {
            s->models[i] = false;
        }
    }
    bool ok = best && take_over(c, s, best, e);
    json_decref(best);
    return ok;
}

bool coord_plan(struct coord *c, bool keep, bool partial, struct err *e)
{
    struct scope s = {.keep = keep, .models = calloc(c->fleet.model_count + 1u, sizeof(bool))};
    json_t *answer = NULL;
    if (!s.models)
        return err_set(e, ERR_MEMORY, "placement: no memory");
    for (uint32_t i = 0; i < c->fleet.model_count; i++)
        s.models[i] = true;
    bool ok = c->fleet.model_count == 0;
    if (!ok && solve(c, &s, &answer, e))
        ok = take_over(c, &s, answer, e);
    else if (!ok && partial)
        ok = plan_partial(c, &s, e);
    json_decref(answer);
    free(s.models);
    return ok;
}

bool coord_replan_join(struct coord *c, struct err *e)
{
    bool placed = true;
    for (uint32_t i = 0; i < c->fleet.model_count; i++)
        placed = placed && has_place(c, &c->fleet.models[i]);
    if (!placed)
        return coord_plan(c, true, true, e);
    struct scope s = {.keep = true, .models = calloc(c->fleet.model_count + 1u, sizeof(bool))};
    if (!s.models)
        return err_set(e, ERR_MEMORY, "placement: no memory");
    for (uint32_t i = 0; i < c->fleet.model_count; i++)
        s.models[i] = true;
    json_t *now = NULL, *fresh = NULL;
    bool ok = c->fleet.model_count == 0 || solve(c, &s, &now, e);
    s.keep = false;
    ok = ok && (c->fleet.model_count == 0 || solve(c, &s, &fresh, e));
    if (ok && fresh) {
        double before = json_number_value(json_object_get(now, "value"));
        double after = json_number_value(json_object_get(fresh, "value"));
        if (after < before * (1 - PLAN_GAIN_MIN))
            ok = take_over(c, &s, fresh, e);
    }
    json_decref(now);
    json_decref(fresh);
    free(s.models);
    return ok;
}
