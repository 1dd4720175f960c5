/* sim.c - starting and stopping a simulated fleet, its table, and waiting for heartbeats. */
#include "sim/lib/sim.h"

#include "base/clock.h"
#include "base/file.h"
#include "lib/cmocka.h"
#include "lib/temp.h"
#include "sim/lib/hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTIONS 4096 /* of a device: a thousand calls and what comes beside them */
#define MODULE_BYTES 100

static void must(bool ok, const struct err *e)
{
    if (!ok)
        fail_msg("%s", e->text);
}

/* ---- devices -------------------------------------------------------------------------------- */

static const char *self_id(void *ctx)
{
    struct sim_device *d = ctx;
    return node_id(d->node);
}

static void listen_on(const struct net_group *group, unsigned max_ordinary, bool public,
                      struct net_server **ret, char *url)
{
    struct err e;
    struct net_server_options o = {.groups = group,
                                   .group_count = 1,
                                   .max_connections = CONNECTIONS,
                                   .max_ordinary = max_ordinary,
                                   .public_checks = public};
    must(net_server_start(&o, ret, &e), &e);
    (void)snprintf(url, WIRE_URL_MAX, "http://127.0.0.1:%u", (unsigned)net_server_port(*ret));
}

static void open_blobs(const struct sim *s, const char *name, char *path, size_t size,
                       struct blobs **ret)
{
    struct err e;
    (void)snprintf(path, size, "%s/%s", s->folder, name);
    must(file_make_dirs(path, &e) && blobs_open(path, ret, &e), &e);
}

static void create_parts(struct sim_device *d, const char *folder)
{
    struct err e;
    struct sim *s = d->sim;
    struct gateway_options g = {.client = d->client,
                                .slot = &d->slot,
                                .self_id = self_id,
                                .ctx = d,
                                .timeout_ms = s->options.timeout_ms};
    struct node_options o = {.name = d->id,
                             .data_dir = folder,
                             .blobs = d->blobs,
                             .coordinator_url = s->hub_url,
                             .memory_bytes = 1u << 30,
                             .threads = 1,
                             .lanes = 1,
                             .exec_kind = EXEC_FAKE};
    must(net_client_open(NULL, &d->client, &e), &e);
    g.client = d->client;
    must(gateway_create(&g, &d->gateway, &e) && node_create(&o, d->client, &d->slot, &d->node, &e),
         &e);
}

/* As far as it needs nobody else. */
static void boot_device(struct sim_device *d)
{
    struct err e;
    char folder[4096];
    int rows;
    struct sim *s = d->sim;
    table_slot_init(&d->slot);
    open_blobs(s, d->id, folder, sizeof(folder), &d->blobs);
    create_parts(d, folder);
    d->peer_group = (struct net_group){.routes = node_routes(&rows), .ctx = d->node};
    d->peer_group.count = (size_t)rows;
    d->public_group = (struct net_group){.routes = gateway_routes(&rows), .ctx = d->gateway};
    d->public_group.count = (size_t)rows;
    listen_on(&d->peer_group, s->options.max_ordinary, false, &d->peer, d->peer_url);
    listen_on(&d->public_group, 0, true, &d->public, d->public_url);
    if (s->options.cables) {
        if (d->cable)
            cable_plug(d->cable, net_server_port(d->peer));
        else
            must(cable_open(net_server_port(d->peer), &d->cable, &e), &e);
        (void)snprintf(d->peer_url, sizeof(d->peer_url), "http://127.0.0.1:%u",
                       (unsigned)cable_port(d->cable));
    }
    must(node_start(d->node, d->peer_url, d->public_url, &e), &e);
}

static void start_device(struct sim *s, int index)
{
    struct err e;
    struct sim_device *d = &s->devices[index];
    d->sim = s;
    (void)snprintf(d->id, sizeof(d->id), "d%d", index);
    boot_device(d);
    must(node_wait_joined(d->node, clock_deadline_ms(SIM_WAIT_MS), &e), &e);
}

void sim_start(struct sim *s, const struct sim_options *o)
{
    struct err e;
    char folder[4096];
    int rows;
    *s = (struct sim){.options = *o, .folder = temp_make()};
    monitor_init(&s->lock);
    open_blobs(s, "hub", folder, sizeof(folder), &s->blobs);
    must(net_client_open(NULL, &s->client, &e), &e);
    s->group = (struct net_group){.routes = hub_routes(&rows), .ctx = s};
    s->group.count = (size_t)rows;
    s->table = NULL;
    listen_on(&s->group, 0, false, &s->hub, s->hub_url);
    for (int i = 0; i < o->devices; i++)
        start_device(s, i);
}

static void halt_device(struct sim_device *d)
{
    if (!d->sim)
        return; /* sim_start() did not come so far */
    net_server_stop(d->public, 0);
    if (d->node)
        node_stop(d->node, false);
    net_server_stop(d->peer, 0);
    gateway_free(d->gateway);
    node_free(d->node);
    net_client_close(d->client);
    table_slot_destroy(&d->slot);
    blobs_close(d->blobs);
}

void sim_restart(struct sim *s, int device)
{
    struct sim_device *d = &s->devices[device];
    assert_non_null(d->cable);
    halt_device(d);
    boot_device(d);
}

void sim_stop_hub(struct sim *s)
{
    net_server_stop(s->hub, 0);
    s->hub = NULL;
}

void sim_stop(struct sim *s)
{
    if (!s->blobs)
        return;
    for (int i = 0; i < s->options.devices; i++) {
        halt_device(&s->devices[i]);
        cable_close(s->devices[i].cable);
        heartbeat_clear(&s->devices[i].last);
    }
    net_server_stop(s->hub, 0);
    net_client_close(s->client);
    blobs_close(s->blobs);
    for (int i = 0; i < s->model_count; i++)
        json_decref(s->models[i].program);
    json_decref(s->table);
    monitor_destroy(&s->lock);
    *s = (struct sim){0};
    temp_remove();
}

/* ---- what the fleet holds -------------------------------------------------------------------- */

struct sim_module *sim_add_module(struct sim *s, const char *name, const char *line)
{
    struct err e;
    assert_true(s->module_count < SIM_MODULES_MAX);
    struct sim_module *m = &s->modules[s->module_count++];
    (void)snprintf(m->name, sizeof(m->name), "%s", name);
    must(blobs_put(s->blobs, line, strlen(line), &m->digest, &e), &e);
    return m;
}

void sim_place(struct sim_module *m, int device, double run_ms)
{
    assert_true(m->replica_count < SIM_DEVICES_MAX);
    m->replicas[m->replica_count++] = (struct sim_replica){device, run_ms};
}

struct digest sim_add_tokenizer(struct sim *s, const char *const *words, int first)
{
    struct err e;
    struct digest d;
    json_t *vocab = json_object();
    for (int i = 0; words[i]; i++)
        json_object_set_new(vocab, words[i], json_integer(first + i));
    json_t *o = json_pack("{s:{s:s},s:{s:s,s:o,s:s}}", "pre_tokenizer", "type", "Whitespace",
                          "model", "type", "WordLevel", "vocab", vocab, "unk_token", words[0]);
    char *text = json_text(o);
    json_decref(o);
    must(blobs_put(s->blobs, text, strlen(text), &d, &e), &e);
    free(text);
    return d;
}

void sim_add_model(struct sim *s, const char *name, json_t *program, const struct digest *blobs,
                   int count)
{
    assert_true(s->model_count < SIM_MODELS_MAX && program);
    struct sim_model *m = &s->models[s->model_count++];
    (void)snprintf(m->name, sizeof(m->name), "%s", name);
    m->program = program;
    for (m->blob_count = 0; m->blob_count < count; m->blob_count++)
        m->blobs[m->blob_count] = blobs[m->blob_count];
}

static json_t *encoder_json(const char *id, const struct sim_module *m, const struct digest *config)
{
    return json_pack("{s:s,s:s,s:[{s:s,s:s}]}", "id", id, "module", m->digest.hex, "inputs",
                     "media", "text", "config", config->hex);
}

static json_t *head_json(const struct sim_module *m)
{
    json_t *left =
        json_pack("{s:i,s:s,s:s,s:i}", "call", 0, "output", "e", "port", "l", "bytes", 16);
    json_t *right =
        json_pack("{s:i,s:s,s:s,s:i}", "call", 1, "output", "e", "port", "r", "bytes", 16);
    return json_pack("{s:s,s:s,s:[o,o]}", "id", "head", "module", m->digest.hex, "inputs", left,
                     right);
}

struct sim_sum sim_add_sum(struct sim *s, const char *work)
{
    static const char *const words[] = {"zero", "one", "two", NULL};
    char line[2][256];
    struct digest t[2] = {sim_add_tokenizer(s, words, 10), sim_add_tokenizer(s, words, 100)};
    /* Different files, so that these are two modules: the name of an output that nobody takes. */
    for (int i = 0; i < 2; i++)
        (void)snprintf(line[i], sizeof(line[i]),
                       "fake %s in input_ids int64 1x-1 out e float32 1x4 %s float32 1", work,
                       i ? "b" : "a");
    struct sim_sum m = {
        .left = sim_add_module(s, "left", line[0]),
        .right = sim_add_module(s, "right", line[1]),
        .head =
            sim_add_module(s, "head", "fake add in l float32 1x4 r float32 1x4 out s float32 1x4"),
    };
    json_t *calls = json_pack("[o,o,o]", encoder_json("left", m.left, &t[0]),
                              encoder_json("right", m.right, &t[1]), head_json(m.head));
    sim_add_model(s, "sum",
                  json_pack("{s:s,s:o,s:{s:s,s:i,s:s}}", "task", "feature-extraction", "calls",
                            calls, "answer", "kind", "vector", "call", 2, "output", "s"),
                  t, 2);
    return m;
}

/* ---- the table ------------------------------------------------------------------------------ */

static void fill_devices(const struct sim *s, struct table *t)
{
    for (int i = 0; i < s->options.devices; i++) {
        struct table_device *d = &t->devices[t->device_count++];
        memcpy(d->id, s->devices[i].id, sizeof(d->id));
        (void)snprintf(d->name, sizeof(d->name), "%s", d->id);
        memcpy(d->peer_url, s->devices[i].peer_url, sizeof(d->peer_url));
        d->lanes = 1;
        d->alive = true;
    }
}

static void fill_modules(const struct sim *s, struct table *t)
{
    for (int i = 0; i < s->module_count; i++) {
        const struct sim_module *from = &s->modules[i];
        struct table_module *m = &t->modules[t->module_count++];
        m->digest = from->digest;
        memcpy(m->name, from->name, sizeof(m->name));
        m->file_bytes = m->memory_bytes = MODULE_BYTES;
        m->replicas = calloc(SIM_DEVICES_MAX, sizeof(*m->replicas));
        for (int k = 0; k < from->replica_count; k++)
            m->replicas[m->replica_count++] =
                (struct table_replica){.device = (uint32_t)from->replicas[k].device,
                                       .run_ms = from->replicas[k].run_ms,
                                       .serving = true};
    }
}

static void fill_models(const struct sim *s, struct table *t)
{
    for (int i = 0; i < s->model_count; i++) {
        const struct sim_model *from = &s->models[i];
        struct table_model *m = &t->models[t->model_count++];
        memcpy(m->name, from->name, sizeof(m->name));
        m->programs = json_pack("[O]", from->program);
        m->blobs = calloc(4, sizeof(*m->blobs));
        for (int k = 0; k < from->blob_count; k++)
            m->blobs[m->blob_count++] = from->blobs[k];
    }
}

static json_t *make_table(const struct sim *s, uint64_t version)
{
    struct table *t = table_new();
    assert_non_null(t);
    t->version = version;
    (void)snprintf(t->fleet, sizeof(t->fleet), "sim");
    (void)snprintf(t->coordinator_url, sizeof(t->coordinator_url), "%s", s->hub_url);
    t->devices = calloc(SIM_DEVICES_MAX, sizeof(*t->devices));
    t->modules = calloc(SIM_MODULES_MAX, sizeof(*t->modules));
    t->models = calloc(SIM_MODELS_MAX, sizeof(*t->models));
    fill_devices(s, t);
    fill_modules(s, t);
    fill_models(s, t);
    json_t *o = table_to_json(t);
    assert_non_null(o);
    table_unref(t);
    return o;
}

/* ---- waiting -------------------------------------------------------------------------------- */

/* With the lock held; NULL: not held there. */
static const struct module_report *report_of(const struct sim *s, int device,
                                             const struct digest *digest)
{
    const struct heartbeat *h = &s->devices[device].last;
    for (uint32_t i = 0; i < h->module_count; i++)
        if (strcmp(h->modules[i].digest.hex, digest->hex) == 0)
            return &h->modules[i];
    return NULL;
}

struct want {
    int device;
    uint32_t running, waiting;
    uint64_t beats;
    const struct sim_module *module;
};

static bool all_loaded(const struct sim *s, const struct want *w)
{
    (void)w;
    for (int i = 0; i < s->module_count; i++)
        for (int k = 0; k < s->modules[i].replica_count; k++) {
            int device = s->modules[i].replicas[k].device;
            const struct module_report *r = report_of(s, device, &s->modules[i].digest);
            if (!r || r->state != MODULE_READY)
                return false;
        }
    for (int i = 0; i < s->options.devices; i++)
        if (s->devices[i].last.table_version != s->version)
            return false;
    return true;
}

static bool lanes_are(const struct sim *s, const struct want *w)
{
    const struct heartbeat *h = &s->devices[w->device].last;
    return h->running == w->running && h->waiting == w->waiting;
}

static bool has_beaten(const struct sim *s, const struct want *w)
{
    return s->devices[w->device].beats >= w->beats;
}

static bool is_gone(const struct sim *s, const struct want *w)
{
    return !report_of(s, w->device, &w->module->digest);
}

static void wait_for(struct sim *s, const char *what,
                     bool (*there)(const struct sim *s, const struct want *w), const struct want *w)
{
    int64_t end = clock_deadline_ms(SIM_WAIT_MS);
    monitor_lock(&s->lock);
    bool ok = there(s, w);
    while (!ok && clock_now_ns() < end) {
        (void)monitor_wait(&s->lock, end);
        ok = there(s, w);
    }
    monitor_unlock(&s->lock);
    if (!ok)
        fail_msg("waited in vain for: %s (device %d)", what, w->device);
}

void sim_publish(struct sim *s)
{
    json_t *table = make_table(s, s->version + 1);
    monitor_lock(&s->lock);
    json_decref(s->table);
    s->table = table;
    s->version++;
    monitor_unlock(&s->lock);
    wait_for(s, "modules loaded", all_loaded, &(struct want){0});
}

void sim_wait_lanes(struct sim *s, int device, uint32_t running, uint32_t waiting)
{
    struct want w = {.device = device, .running = running, .waiting = waiting};
    wait_for(s, "lanes", lanes_are, &w);
}

void sim_wait_gone(struct sim *s, int device, const struct sim_module *m)
{
    struct want w = {.device = device, .module = m};
    wait_for(s, "module gone", is_gone, &w);
}

int64_t sim_runs(struct sim *s, int device, const struct sim_module *m)
{
    monitor_lock(&s->lock);
    struct want w = {.device = device, .beats = s->devices[device].beats + 2};
    monitor_unlock(&s->lock);
    wait_for(s, "heartbeat", has_beaten, &w); /* the second one was begun after the question */
    monitor_lock(&s->lock);
    const struct module_report *r = report_of(s, device, &m->digest);
    int64_t runs = r ? (int64_t)r->runs : -1;
    monitor_unlock(&s->lock);
    return runs;
}
