/* report.c - what the coordinator knows, as JSON for people and the command line. */
#include "base/clock.h"
#include "coord/internal.h"

#include <stdio.h>
#include <string.h>

#define STATUS_MOVES 8u

static json_t *tasks_of(const struct model_entry *m)
{
    json_t *tasks = json_object_get(m->model, "tasks");
    return tasks ? json_deep_copy(tasks) : json_array();
}

/* Can every module of the model be reached right now? */
static bool servable(struct coord *c, const struct model_entry *m)
{
    for (uint32_t i = 0; i < m->module_count; i++) {
        bool found = false;
        for (uint32_t k = 0; k < c->fleet.device_count && !found; k++) {
            const struct device *d = &c->fleet.devices[k];
            const struct module_report *r = device_report(d, m->modules[i].hex);
            found = d->alive && r && r->state == MODULE_READY;
        }
        if (!found)
            return false;
    }
    return true;
}

json_t *coord_model_json(struct coord *c, const struct model_entry *m)
{
    json_t *modules = json_array();
    for (uint32_t i = 0; i < m->module_count; i++) {
        const struct module *x = fleet_module(&c->fleet, m->modules[i].hex);
        json_array_append_new(
            modules, json_pack("{s:s,s:s}", "digest", m->modules[i].hex, "name", x ? x->name : ""));
    }
    return json_pack("{s:s,s:o,s:o,s:b,s:O*,s:O*,s:O*}", "name", m->name, "tasks", tasks_of(m),
                     "modules", modules, "ready", (int)servable(c, m), "checked",
                     json_object_get(m->model, "checked"), "difference",
                     json_object_get(m->model, "difference"), "uncompared",
                     json_object_get(m->model, "uncompared"));
}

void coord_handle_models(struct net_request *r, void *coord)
{
    struct coord *c = coord;
    json_t *list = json_array();
    monitor_lock(&c->lock);
    for (uint32_t i = 0; i < c->fleet.model_count; i++)
        if (!model_is_staged(&c->fleet.models[i]))
            json_array_append_new(list, coord_model_json(c, &c->fleet.models[i]));
    monitor_unlock(&c->lock);
    net_reply_json(r, 200, json_pack("{s:o}", "models", list));
}

static json_t *users_of(struct coord *c, const struct module *m)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->fleet.model_count; i++)
        for (uint32_t k = 0; k < c->fleet.models[i].module_count; k++)
            if (!model_is_staged(&c->fleet.models[i]) &&
                strcmp(c->fleet.models[i].modules[k].hex, m->digest.hex) == 0) {
                json_array_append_new(list, json_string(c->fleet.models[i].name));
                break;
            }
    return list;
}

/* One row per device that holds it or shall hold it. */
static json_t *places_of(struct coord *c, const struct module *m)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->fleet.device_count; i++) {
        const struct device *d = &c->fleet.devices[i];
        const struct module_report *r = device_report(d, m->digest.hex);
        bool desired = false, measured;
        for (uint32_t k = 0; k < m->desired_count; k++)
            desired = desired || strcmp(m->desired[k], d->join.id) == 0;
        if (!desired && !r)
            continue;
        double ms = fleet_run_ms(&c->fleet, m, d, &measured);
        json_array_append_new(list,
                              json_pack("{s:s,s:s,s:b,s:f,s:b,s:s,s:I,s:b}", "device", d->join.name,
                                        "state", module_state_name(r ? r->state : MODULE_ABSENT),
                                        "desired", (int)desired, "run_ms", ms, "measured",
                                        (int)measured, "error", r ? r->error : "", "runs",
                                        (json_int_t)(r ? r->runs : 0), "alive", (int)d->alive));
    }
    return list;
}

static json_t *module_json(struct coord *c, const struct module *m)
{
    bool measured;
    uint64_t memory = fleet_memory(&c->fleet, m, NULL, &measured);
    return json_pack("{s:s,s:s,s:I,s:I,s:I,s:b,s:f,s:o,s:o,s:s}", "digest", m->digest.hex, "name",
                     m->name, "file_bytes", (json_int_t)m->file_bytes, "weight_bytes",
                     (json_int_t)m->weight_bytes, "memory_bytes", (json_int_t)memory,
                     "memory_measured", (int)measured, "gflop", m->gflop, "models", users_of(c, m),
                     "devices", places_of(c, m), "reason", m->reason);
}

void coord_handle_modules(struct net_request *r, void *coord)
{
    struct coord *c = coord;
    json_t *list = json_array();
    monitor_lock(&c->lock);
    for (uint32_t i = 0; i < c->fleet.module_count; i++)
        json_array_append_new(list, module_json(c, &c->fleet.modules[i]));
    monitor_unlock(&c->lock);
    net_reply_json(r, 200, json_pack("{s:o}", "modules", list));
}

static json_t *links_of(struct coord *c, const struct device *d)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->fleet.device_count; i++) {
        const struct device *other = &c->fleet.devices[i];
        const struct link_entry *l = fleet_link(&c->fleet, d->join.id, other->join.id);
        if (other != d && l)
            json_array_append_new(list, json_pack("{s:s,s:f,s:f,s:I}", "device", other->join.name,
                                                  "latency_ms", l->latency_ms, "mbit", l->mbit,
                                                  "measured_at_ms", (json_int_t)l->wall_ms));
    }
    return list;
}

static json_t *device_json(struct coord *c, const struct device *d)
{
    uint64_t used = 0;
    json_t *modules = json_array();
    for (uint32_t i = 0; i < d->last.module_count; i++) {
        const struct module_report *m = &d->last.modules[i];
        const struct module *x = fleet_module(&c->fleet, m->digest.hex);
        char left[12]; /* of no model any more, and on its way out */
        (void)snprintf(left, sizeof(left), "%.8s", m->digest.hex);
        if (m->state == MODULE_READY)
            used += m->anonymous + m->file;
        json_array_append_new(
            modules, json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:f}", "digest", m->digest.hex, "name",
                               x ? x->name : left, "state", module_state_name(m->state),
                               "anonymous", (json_int_t)m->anonymous, "file", (json_int_t)m->file,
                               "peak", (json_int_t)m->peak, "run_ms", m->run_ms));
    }
    double ago = d->heard_ns ? clock_ms_since(d->heard_ns) : -1;
    return json_pack(
        "{s:s,s:s,s:s,s:s,s:b,s:b,s:b,s:I,s:I,s:I,s:I,s:i,s:i,s:f,s:s,s:s,s:f,s:i,s:i,s:I,s:o,s:o}",
        "id", d->join.id, "name", d->join.name, "peer_url", d->join.peer_url, "public_url",
        d->join.public_url, "alive", (int)d->alive, "draining", (int)d->draining, "leaving",
        (int)d->leaving, "memory_bytes", (json_int_t)d->join.memory_bytes, "used_bytes",
        (json_int_t)used, "base_bytes", (json_int_t)d->last.base_bytes, "footprint_bytes",
        (json_int_t)d->last.footprint_bytes, "lanes", (int)d->join.lanes, "threads",
        (int)d->join.threads, "gflops", d->join.gflops, "emulated", d->join.emulate, "runtime",
        d->join.runtime, "heard_ms_ago", ago, "running", (int)d->last.running, "waiting",
        (int)d->last.waiting, "runner_restarts", (json_int_t)d->last.runner_restarts, "modules",
        modules, "links", links_of(c, d));
}

void coord_handle_devices(struct net_request *r, void *coord)
{
    struct coord *c = coord;
    json_t *list = json_array();
    monitor_lock(&c->lock);
    for (uint32_t i = 0; i < c->fleet.device_count; i++)
        json_array_append_new(list, device_json(c, &c->fleet.devices[i]));
    monitor_unlock(&c->lock);
    net_reply_json(r, 200, json_pack("{s:o}", "devices", list));
}

/* Bytes as if each model had its own copy of its modules, and as they are. */
static void sum_memory(struct coord *c, uint64_t *unshared, uint64_t *shared)
{
    bool measured;
    *unshared = *shared = 0;
    for (uint32_t i = 0; i < c->fleet.module_count; i++) {
        const struct module *m = &c->fleet.modules[i];
        uint64_t bytes = fleet_memory(&c->fleet, m, NULL, &measured);
        *shared += bytes;
        *unshared += bytes * fleet_users(&c->fleet, m->digest.hex);
    }
}

void coord_handle_status(struct net_request *r, void *coord)
{
    struct coord *c = coord;
    uint64_t unshared, shared, requests = 0, errors = 0;
    int alive = 0, models = 0, ready = 0;
    monitor_lock(&c->lock);
    sum_memory(c, &unshared, &shared);
    for (uint32_t i = 0; i < c->fleet.device_count; i++) {
        alive += c->fleet.devices[i].alive;
        requests += c->fleet.devices[i].last.requests;
        errors += c->fleet.devices[i].last.errors;
    }
    for (uint32_t i = 0; i < c->fleet.model_count; i++) {
        bool staged = model_is_staged(&c->fleet.models[i]);
        models += !staged;
        ready += !staged && servable(c, &c->fleet.models[i]);
    }
    json_t *o = json_pack(
        "{s:s,s:s,s:I,s:i,s:i,s:i,s:i,s:i,s:I,s:I,s:I,s:I,s:I,s:s,s:o}", "version", S2M3_VERSION,
        "fleet", c->fleet.id, "table_version", (json_int_t)c->fleet.version, "devices",
        (int)c->fleet.device_count, "devices_alive", alive, "models", models, "models_ready", ready,
        "modules", (int)c->fleet.module_count, "memory_unshared_bytes", (json_int_t)unshared,
        "memory_shared_bytes", (json_int_t)shared, "requests", (json_int_t)requests, "errors",
        (json_int_t)errors, "moves_total", (json_int_t)c->moves.total, "last_plan", c->decision,
        "moves", moves_json(&c->moves, STATUS_MOVES));
    monitor_unlock(&c->lock);
    net_reply_json(r, 200, o);
}
