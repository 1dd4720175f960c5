/* instance.c - see instance.h. */
#include "coord/instance.h"

#include "base/num.h"
#include "coord/pins.h"
#include "task/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IMAGE_BYTES 100000
#define AUDIO_BYTES 64000
#define TEXT_BYTES 100
#define CANDIDATES_GUESS 10
#define STEPS_GUESS 12 /* runs of a decoder for one text */
#define RUNS_MAX 10000
#define ANSWER_BYTES 200
#define LINK_MS 0.2 /* of a pair that was never measured */
#define LINK_MBIT 1000.0
#define LOAD_BYTES_PER_MS 100000.0 /* of a module that was loaded nowhere yet */
#define RUN_MS_MIN 1e-6
#define PARTS_MAX 4   /* classes that one class may stand as */
#define PART_LOAD 0.1 /* of a lane's time on the fastest device */

/* "vision_model 88cb1c3a": unique and readable. */
static void module_key(const struct module *m, char *to, size_t size)
{
    (void)snprintf(to, size, "%.100s %.8s", m->name, m->digest.hex);
}

static bool chosen(const bool *models, uint32_t i)
{
    return !models || models[i];
}

static bool in_scope(const struct fleet *f, const bool *models, const struct module *m)
{
    for (uint32_t i = 0; i < f->model_count; i++)
        for (uint32_t k = 0; chosen(models, i) && k < f->models[i].module_count; k++)
            if (strcmp(f->models[i].modules[k].hex, m->digest.hex) == 0)
                return true;
    return false;
}

/* ---- devices and links ------------------------------------------------------------------------ */

static json_t *devices_json(struct coord *c, struct snapshot *s)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->fleet.device_count; i++) {
        const struct device *d = &c->fleet.devices[i];
        if (!d->alive)
            continue;
        memcpy(s->devices[s->device_count++], d->join.id, WIRE_ID_MAX);
        json_t *row = json_pack("{s:s,s:I,s:i}", "name", d->join.name, "memory_bytes",
                                d->draining ? (json_int_t)0 : (json_int_t)d->join.memory_bytes,
                                "lanes", (int)d->join.lanes);
        if (d->join.gflops > 0)
            json_object_set_new(row, "gflops", json_real(d->join.gflops));
        json_array_append_new(list, row);
    }
    return list;
}

static json_t *links_json(struct coord *c)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->fleet.link_count; i++) {
        const struct link_entry *l = &c->fleet.links[i];
        const struct device *a = fleet_device(&c->fleet, l->a), *b = fleet_device(&c->fleet, l->b);
        if (a && b && a->alive && b->alive)
            json_array_append_new(list, json_pack("{s:s,s:s,s:f,s:f}", "a", a->join.name, "b",
                                                  b->join.name, "latency_ms", l->latency_ms, "mbit",
                                                  l->mbit));
    }
    return list;
}

/* ---- modules ---------------------------------------------------------------------------------- */

/* The device that runs the coordinator, from which modules are fetched; NULL: it has no node. */
static const struct device *own_device(struct coord *c)
{
    for (uint32_t i = 0; i < c->fleet.device_count; i++)
        if (strcmp(c->fleet.devices[i].join.peer_url, c->fleet.url) == 0)
            return &c->fleet.devices[i];
    return NULL;
}

static double fetch_ms(struct coord *c, const struct module *m, const struct device *to)
{
    const struct device *own = own_device(c);
    if (own == to)
        return 0;
    const struct link_entry *l = own ? fleet_link(&c->fleet, own->join.id, to->join.id) : NULL;
    return (l ? l->latency_ms : LINK_MS) +
           8 * (double)m->file_bytes / ((l ? l->mbit : LINK_MBIT) * 1000);
}

/* What was not measured there yet is loaded twice: once for that. */
static double load_ms(struct coord *c, const struct module *m, const struct device *to)
{
    const struct fleet *f = &c->fleet;
    const struct profile *here = fleet_profile(f, m->digest.hex, to->join.id);
    if (here && here->load_ms > 0)
        return here->load_ms;
    for (uint32_t i = 0; i < f->profile_count; i++) {
        const struct profile *p = &f->profiles[i];
        if (strcmp(p->module.hex, m->digest.hex) != 0 || p->load_ms <= 0)
            continue;
        const struct device *other = fleet_device(&c->fleet, p->device);
        if (other && other->join.gflops > 0 && to->join.gflops > 0)
            return 2 * p->load_ms * other->join.gflops / to->join.gflops;
    }
    return 2 * (double)m->file_bytes / LOAD_BYTES_PER_MS;
}

static bool is_ready(const struct device *d, const struct module *m)
{
    const struct module_report *r = device_report(d, m->digest.hex);
    return r && r->state == MODULE_READY;
}

static bool desired_on(const struct module *m, const struct device *d)
{
    for (uint32_t i = 0; i < m->desired_count; i++)
        if (strcmp(m->desired[i], d->join.id) == 0)
            return true;
    return false;
}

static json_t *module_json(struct coord *c, const struct module *m, struct snapshot *s)
{
    char key[WIRE_NAME_MAX];
    json_t *run_ms = json_object(), *names = json_array();
    uint64_t memory = 0;
    double gflop = 0; /* as its times say: for devices that are only thought of */
    uint32_t at = s->module_count++;
    s->modules[at] = m->digest;
    for (uint32_t k = 0; k < s->device_count; k++) {
        const struct device *d = fleet_device(&c->fleet, s->devices[k]);
        bool measured;
        double ms = fleet_run_ms(&c->fleet, m, d, &measured) * fleet_stretch(m);
        uint64_t bytes = fleet_memory(&c->fleet, m, d->join.id, &measured);
        json_object_set_new(run_ms, d->join.name,
                            device_usable(d) ? json_real(fmax(ms, RUN_MS_MIN)) : json_null());
        s->cost_ms[(size_t)at * s->device_count + k] =
            is_ready(d, m) ? 0 : fetch_ms(c, m, d) + load_ms(c, m, d);
        if (!device_usable(d))
            continue;
        memory = bytes > memory ? bytes : memory;
        if (gflop <= 0)
            gflop = fmax(ms, RUN_MS_MIN) * d->join.gflops / 1000;
        if (desired_on(m, d) && s->now[at].count < PLAN_REPLICAS_MAX) {
            s->now[at].device[s->now[at].count++] = k;
            json_array_append_new(names, json_string(d->join.name));
        }
    }
    module_key(m, key, sizeof(key));
    json_object_set_new(s->placement, key, names);
    return json_pack("{s:s,s:I,s:f,s:I,s:o}", "name", key, "memory_bytes", (json_int_t)memory,
                     "gflop", gflop, "output_bytes", (json_int_t)m->output_bytes, "run_ms", run_ms);
}

static json_t *modules_json(struct coord *c, const bool *models, struct snapshot *s)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->fleet.module_count; i++)
        if (in_scope(&c->fleet, models, &c->fleet.modules[i]))
            json_array_append_new(list, module_json(c, &c->fleet.modules[i], s));
    return list;
}

/* ---- models and requests ---------------------------------------------------------------------- */

static json_t *from_json(const struct program *p, const struct program_call *c)
{
    json_t *from = json_array();
    bool source = false, seen[PROGRAM_CALLS_MAX] = {false};
    for (int i = 0; i < c->input_count; i++) {
        const struct program_input *in = &c->inputs[i];
        if (in->media) {
            source = true;
        } else if (!seen[in->call]) {
            seen[in->call] = true;
            json_array_append_new(from, json_string(p->calls[in->call].id));
        }
    }
    if (source)
        json_array_append_new(from, json_string("source"));
    return from;
}

/* One program as a model of the instance, and the part of its requests that is the same for all
 * sources. */
struct offer {
    const struct program *program;
    const char *model, *name; /* name: in the instance */
    double share;             /* of the requests of (model, task) */
    double lane_s;            /* of one request, each module where it is fastest */
    json_t *input_bytes, *runs;
};

static double fastest_ms(struct coord *c, const struct module *m)
{
    double least = INFINITY;
    bool measured;
    for (uint32_t i = 0; i < c->fleet.device_count; i++)
        if (device_usable(&c->fleet.devices[i]))
            least = fmin(least, fleet_run_ms(&c->fleet, m, &c->fleet.devices[i], &measured));
    return isfinite(least) ? least * fleet_stretch(m) : 0;
}

/* Of what is asked about, the picture or sound is nearly all. */
static double media_bytes(const struct coord *c, const struct offer *o,
                          const struct program_call *call)
{
    static const double sizes[MEDIA_KINDS] = {IMAGE_BYTES, AUDIO_BYTES, TEXT_BYTES};
    double bytes = 0;
    for (int i = 0; i < call->input_count; i++) {
        double guess = call->inputs[i].media ? sizes[call->inputs[i].kind] : 0;
        bool counted = guess > 0 && call->inputs[i].kind != MEDIA_TEXT && !call->each;
        bytes += counted ? rates_bytes(&c->rates, o->model, o->program->task, guess) : guess;
    }
    return bytes;
}

static int runs_of(const struct coord *c, const struct offer *o, const struct program_call *call)
{
    if (!call->each && !call->generate)
        return 1;
    double n = rates_runs(&c->rates, o->model, o->program->task,
                          call->each ? CANDIDATES_GUESS : STEPS_GUESS);
    return n < 1 ? 1 : n > RUNS_MAX ? RUNS_MAX : (int)lround(n);
}

/* NULL when one of its modules is not known. */
static json_t *program_json(struct coord *c, struct offer *o)
{
    const struct program *p = o->program;
    json_t *calls = json_array();
    o->input_bytes = json_object();
    o->runs = json_object();
    for (int i = 0; i < p->call_count; i++) {
        const struct program_call *call = &p->calls[i];
        const struct module *m = fleet_module(&c->fleet, call->module.hex);
        char key[WIRE_NAME_MAX];
        if (!m) {
            json_decref(calls);
            return NULL;
        }
        int runs = runs_of(c, o, call);
        double bytes = media_bytes(c, o, call) * (call->each ? runs : 1);
        module_key(m, key, sizeof(key));
        json_array_append_new(calls, json_pack("{s:s,s:s,s:o}", "id", call->id, "module", key,
                                               "from", from_json(p, call)));
        if (bytes > 0)
            json_object_set_new(o->input_bytes, call->id, json_integer((json_int_t)bytes));
        if (runs > 1)
            json_object_set_new(o->runs, call->id, json_integer(runs));
        o->lane_s += runs * fastest_ms(c, m) / 1000;
    }
    return json_pack("{s:s,s:o,s:b}", "name", o->name, "calls", calls, "answer_at_source",
                     p->answer.kind == ANSWER_SIMILARITY);
}

static void add_class(const struct offer *o, const char *source, double per_s, json_t *requests)
{
    double busy = per_s * o->lane_s / PART_LOAD;
    int parts = busy < 1 ? 1 : busy < PARTS_MAX ? (int)ceil(busy) : PARTS_MAX;
    for (int i = 0; i < parts; i++)
        json_array_append_new(
            requests, json_pack("{s:s,s:s,s:f,s:f,s:O,s:O,s:i}", "model", o->name, "source", source,
                                "weight", per_s / parts, "rate_per_s", per_s / parts, "input_bytes",
                                o->input_bytes, "runs", o->runs, "answer_bytes", ANSWER_BYTES));
}

/* What is asked at gateways that are gone, or the coordinator's own, counts for the first device. */
static void add_classes(struct coord *c, const struct offer *o, const struct device *first,
                        json_t *requests)
{
    double rest = 0, all = 0;
    for (uint32_t i = 0; i < c->rates.count; i++) {
        const struct rate *r = &c->rates.rows[i];
        if (strcmp(r->model, o->model) != 0 || strcmp(r->task, o->program->task) != 0)
            continue;
        const struct device *d = fleet_device(&c->fleet, r->device);
        double per_s = r->per_s * o->share;
        all += per_s;
        if (d && d != first && d->alive && per_s >= RATES_FLOOR)
            add_class(o, d->join.name, per_s, requests);
        else
            rest += per_s;
    }
    if (all < RATES_FLOOR)
        rest = RATES_FLOOR;
    if (rest > 0)
        add_class(o, first->join.name, rest, requests);
}

static int same_task(struct program **programs, int count, const char *task)
{
    int n = 0;
    for (int i = 0; i < count; i++)
        n += strcmp(programs[i]->task, task) == 0;
    return n;
}

/* A model of one program goes by its name; else "model/task", and "model/task/2". */
static void add_model(struct coord *c, const struct model_entry *m, const struct device *first,
                      json_t *models, json_t *requests)
{
    struct program **programs;
    int count;
    if (!model_programs(json_object_get(m->model, "programs"), &programs, &count, NULL))
        return;
    for (int i = 0; i < count; i++) {
        char name[2 * WIRE_NAME_MAX + 16];
        int twins = same_task(programs, count, programs[i]->task);
        int before = same_task(programs, i, programs[i]->task);
        size_t n = (size_t)snprintf(name, sizeof(name), "%.127s", m->name);
        if (count > 1)
            n += (size_t)snprintf(name + n, sizeof(name) - n, "/%.127s", programs[i]->task);
        if (before > 0)
            (void)snprintf(name + n, sizeof(name) - n, "/%d", before + 1);
        struct offer o = {
            .program = programs[i], .model = m->name, .name = name, .share = 1.0 / twins};
        json_t *model = program_json(c, &o);
        if (model) {
            json_array_append_new(models, model);
            add_classes(c, &o, first, requests);
        }
        json_decref(o.input_bytes);
        json_decref(o.runs);
    }
    model_programs_free(programs, count);
}

/* ---- pins ------------------------------------------------------------------------------------- */

/* Pins to devices that can't hold anything now wait until they can. */
static json_t *pins_json(struct coord *c, const struct snapshot *s)
{
    json_t *pins = json_object();
    for (uint32_t i = 0; i < s->module_count; i++) {
        const struct module *m = fleet_module(&c->fleet, s->modules[i].hex);
        char key[WIRE_NAME_MAX];
        json_t *names = pins_of(c, m);
        module_key(m, key, sizeof(key));
        if (json_array_size(names) > 0)
            json_object_set(pins, key, names);
        json_decref(names);
    }
    return pins;
}

/* ---- all of it -------------------------------------------------------------------------------- */

static const struct device *first_usable(struct coord *c)
{
    for (uint32_t i = 0; i < c->fleet.device_count; i++)
        if (device_usable(&c->fleet.devices[i]))
            return &c->fleet.devices[i];
    return NULL;
}

static bool make_room(struct coord *c, struct snapshot *s)
{
    size_t devices = c->fleet.device_count + 1u, modules = c->fleet.module_count + 1u;
    s->devices = calloc(devices, sizeof(*s->devices));
    s->modules = calloc(modules, sizeof(*s->modules));
    s->now = calloc(modules, sizeof(*s->now));
    s->cost_ms = calloc(modules * devices, sizeof(*s->cost_ms));
    s->placement = json_object();
    return s->devices && s->modules && s->now && s->cost_ms && s->placement;
}

bool snapshot_take(struct coord *c, const bool *models, struct snapshot *ret, struct err *e)
{
    const struct device *first = first_usable(c);
    *ret = (struct snapshot){.epoch = c->epoch};
    if (!first)
        return err_set(e, ERR_NO_PLACE, "placement: no device is alive");
    if (!make_room(c, ret)) {
        snapshot_clear(ret);
        return err_set(e, ERR_MEMORY, "placement: no memory");
    }
    json_t *entries = json_array(), *requests = json_array();
    for (uint32_t i = 0; i < c->fleet.model_count; i++)
        if (chosen(models, i))
            add_model(c, &c->fleet.models[i], first, entries, requests);
    json_t *devices = devices_json(c, ret), *modules = modules_json(c, models, ret);
    ret->json = json_pack("{s:s,s:s,s:b,s:o,s:{s:f,s:f},s:o,s:o,s:o,s:o}", "name", "fleet",
                          "objective", "load", "replicas", 1, "devices", devices, "default_link",
                          "latency_ms", LINK_MS, "mbit", LINK_MBIT, "links", links_json(c),
                          "modules", modules, "models", entries, "requests", requests);
    ret->pins = pins_json(c, ret);
    if (ret->json && ret->pins)
        return true;
    snapshot_clear(ret);
    return err_set(e, ERR_MEMORY, "placement: no memory");
}

void snapshot_clear(struct snapshot *s)
{
    json_decref(s->json);
    json_decref(s->pins);
    json_decref(s->placement);
    free(s->devices);
    free(s->modules);
    free(s->now);
    free(s->cost_ms);
    *s = (struct snapshot){0};
}
