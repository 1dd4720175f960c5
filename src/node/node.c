/* node.c - making, starting and stopping a node; its routes. */
#include "node/node.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "base/parse.h"
#include "node/check.h"
#include "node/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CACHE_BYTES_DEFAULT ((uint64_t)64 << 20)
#define MEETING_BYTES_DEFAULT ((uint64_t)256 << 20)
#define PROCESSORS_MAX 64
#define ECHO_MAX (1u << 20)
#define MEASURE_MAX (256u << 10)
#define CHECK_MAX (4u << 20)

/* ---- emulation ------------------------------------------------------------------------------ */

struct emulation_field {
    const char *name;
    size_t offset;
    double min, max;
};

static const struct emulation_field fields[] = {
    {"speed", offsetof(struct emulation, speed), 0.001, 1},
    {"link_mbit", offsetof(struct emulation, link_mbit), 0.001, 1e6},
    {"link_ms", offsetof(struct emulation, link_ms), 0, 60000},
};

static bool set_field(const char *pair, struct emulation *ret, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        size_t n = strlen(fields[i].name);
        if (strncmp(pair, fields[i].name, n) == 0 && pair[n] == '=')
            return parse_double(fields[i].name, pair + n + 1, fields[i].min, fields[i].max,
                                (double *)(void *)((char *)ret + fields[i].offset), e);
    }
    return err_set(e, ERR_INVALID,
                   "--emulate: '%.60s' should be speed=, link_mbit= or link_ms=", pair);
}

bool emulation_parse(const char *text, struct emulation *ret, struct err *e)
{
    *ret = (struct emulation){0};
    if (!text || !*text)
        return true;
    if (strlen(text) >= sizeof(ret->text))
        return err_set(e, ERR_INVALID, "--emulate: more than %zu characters",
                       sizeof(ret->text) - 1);
    char copy[WIRE_NAME_MAX];
    (void)snprintf(copy, sizeof(copy), "%s", text);
    char *rest = copy;
    for (char *pair; (pair = strsep(&rest, ","));)
        if (!set_field(pair, ret, e))
            return false;
    (void)snprintf(ret->text, sizeof(ret->text), "%s", text);
    return true;
}

/* ---- routes --------------------------------------------------------------------------------- */

static void handle_table(struct net_request *r, void *node)
{
    struct node *n = node;
    struct err e;
    size_t size;
    const void *data = net_request_body(r, &size);
    json_t *o = json_parse("table", data, size, &e);
    struct table *t = o ? table_from_json(o, &e) : NULL;
    if (t && table_slot_put(n->slot, t))
        (void)state_put(n->state, STATE_NODE, "table", o, NULL);
    json_decref(o);
    if (t)
        net_reply_json(r, 200,
                       json_pack("{s:I}", "version", (json_int_t)table_slot_version(n->slot)));
    else
        net_reply_err(r, &e);
}

static void handle_measure(struct net_request *r, void *node)
{
    struct node *n = node;
    struct err e;
    size_t size;
    const char *digest;
    struct module_report report;
    const void *data = net_request_body(r, &size);
    json_t *o = json_parse("measure", data, size, &e);
    bool again = false;
    bool ok = o && json_need_str(o, "measure", "digest", &digest, &e) &&
              json_opt_bool(o, "measure", "again", &again, &e) &&
              (again ? node_measure_again(n, digest, json_object_get(o, "dims"), &report, &e)
                     : node_measure(n, digest, json_object_get(o, "dims"), false, &report, &e));
    json_decref(o);
    if (ok)
        net_reply_json(r, 200, module_report_json(&report));
    else
        net_reply_err(r, &e);
}

static void handle_ping(struct net_request *r, void *node)
{
    node_emulate_link(node, 0);
    node_emulate_link(node, 0); /* there and back */
    net_reply(r, 200, "application/json", "{}", 2);
}

static void handle_echo(struct net_request *r, void *node)
{
    size_t size;
    (void)net_request_body(r, &size);
    node_emulate_link(node, size);
    node_emulate_link(node, 0);
    net_reply_json(r, 200, json_pack("{s:I}", "bytes", (json_int_t)size));
}

static const struct net_route routes[] = {
    {"POST", "/s2m3/v1/call", WIRE_BODY_MAX, NET_NEEDS_LENGTH, node_handle_call,
     "Run a module in a request", FRAME_CONTENT_TYPE, NULL},
    {"POST", "/s2m3/v1/deliver", WIRE_BODY_MAX, NET_CONTROL | NET_NEEDS_LENGTH, node_handle_deliver,
     "Deliver an input to a waiting call", FRAME_CONTENT_TYPE, NULL},
    {"POST", "/s2m3/v1/table", WIRE_TABLE_MAX, NET_CONTROL | NET_NEEDS_LENGTH, handle_table,
     "Take a new routing table", "application/json", NULL},
    {"POST", "/s2m3/v1/measure", MEASURE_MAX, NET_NEEDS_LENGTH, handle_measure,
     "Measure a module on this device", "application/json", NULL},
    {"POST", "/s2m3/v1/check", CHECK_MAX, NET_NEEDS_LENGTH, node_handle_check,
     "Compare a model with its modules, bit for bit", "application/json", NULL},
    {"GET", "/s2m3/v1/ping", 0, NET_CONTROL, handle_ping, "Round trip of the link", NULL, NULL},
    {"POST", "/s2m3/v1/echo", ECHO_MAX, NET_CONTROL, handle_echo, "Bandwidth of the link", NULL,
     NULL},
    {"GET", "/v2", 0, NET_CONTROL, node_handle_v2, "Server metadata", NULL, NULL},
    {"GET", "/v2/health/live", 0, NET_CONTROL, node_handle_v2_live, "Is the server up", NULL, NULL},
    {"GET", "/v2/health/ready", 0, NET_CONTROL, node_handle_v2_live, "Can the server answer", NULL,
     NULL},
    {"GET", "/v2/models/{model}", 0, NET_CONTROL, node_handle_v2_model, "Ports of a module", NULL,
     NULL},
    {"GET", "/v2/models/{model}/ready", 0, NET_CONTROL, node_handle_v2_model_ready,
     "Is a module loaded", NULL, NULL},
    {"POST", "/v2/models/{model}/infer", WIRE_BODY_MAX, NET_NEEDS_LENGTH, node_handle_v2_infer,
     "Run a module", NULL, NULL},
};

const struct net_route *node_routes(int *count)
{
    *count = (int)ARRAY_LEN(routes);
    return routes;
}

/* ---- making --------------------------------------------------------------------------------- */

static char *copy(const char *text)
{
    return text ? strdup(text) : NULL;
}

static uint64_t free_memory(void)
{
    long pages = sysconf(_SC_AVPHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : (uint64_t)1 << 30;
}

static void fill_options(struct node *n, const struct node_options *o)
{
    char host[64] = "device";
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    (void)gethostname(host, sizeof(host) - 1);
    n->options = *o;
    n->name = copy(o->name ? o->name : host);
    n->data_dir = copy(o->data_dir);
    n->coordinator_url = copy(o->coordinator_url);
    n->runtime_path = copy(o->runtime_path);
    n->runner_path = copy(o->runner_path);
    n->options.lanes = o->lanes > 0 ? o->lanes : 1;
    if (o->threads <= 0)
        n->options.threads = cores > n->options.lanes ? (int)cores / n->options.lanes : 1;
    if (!o->memory_bytes)
        n->options.memory_bytes = free_memory();
}

static bool open_parts(struct node *n, struct err *e)
{
    const struct node_options *o = &n->options;
    char *db = text_format("%s/node.db", n->data_dir);
    char *prepared = text_format("%s/prepared", n->data_dir);
    char *modules = text_format("%s/modules", n->data_dir);
    struct exec_options x = {.modules_dir = modules,
                             .runtime_path = n->runtime_path,
                             .runner_path = n->runner_path,
                             .prepared_dir = prepared,
                             .threads = o->threads,
                             .lanes = o->lanes};
    n->lanes = lanes_new((uint32_t)o->lanes);
    n->cache = cache_new(o->cache_bytes ? o->cache_bytes : CACHE_BYTES_DEFAULT);
    n->meetings = meetings_new(o->meeting_bytes ? o->meeting_bytes : MEETING_BYTES_DEFAULT);
    n->prepare = prepare_new(PROCESSORS_MAX, node_side_file, n);
    bool ok =
        db && prepared && modules && n->lanes && n->cache && n->meetings && n->prepare && n->name;
    if (!ok)
        err_set(e, ERR_MEMORY, "node: no memory");
    ok = ok && state_open(db, &n->state, e) && exec_create(o->exec_kind, &x, &n->exec, e);
    free(db);
    free(prepared);
    free(modules);
    return ok;
}

/* The id and the last table of an earlier life: requests go on even if the coordinator is away. */
static bool recall(struct node *n, struct err *e)
{
    json_t *id, *table;
    if (!state_get(n->state, STATE_NODE, "id", &id, e) ||
        !state_get(n->state, STATE_NODE, "table", &table, e))
        return false;
    if (json_is_string(id)) {
        (void)snprintf(n->id, sizeof(n->id), "%s", json_string_value(id));
        atomic_store(&n->has_id, n->id[0] != 0);
    }
    struct table *t = table ? table_from_json(table, NULL) : NULL;
    if (t)
        (void)table_slot_put(n->slot, t);
    n->joined = false;
    json_decref(id);
    json_decref(table);
    return true;
}

bool node_create(const struct node_options *o, struct net_client *client, struct table_slot *slot,
                 struct node **ret, struct err *e)
{
    struct node *n = calloc(1, sizeof(*n));
    if (!n)
        return err_set(e, ERR_MEMORY, "node: no memory");
    monitor_init(&n->lock);
    (void)pthread_mutex_init(&n->measure_lock, NULL);
    n->client = client;
    n->slot = slot;
    n->blobs = o->blobs;
    fill_options(n, o);
    if (!open_parts(n, e) || !recall(n, e)) {
        node_free(n);
        return false;
    }
    double speed = o->emulation.speed > 0 ? o->emulation.speed : 1;
    n->gflops = node_calibrate(n->options.threads) * speed;
    n->base_bytes =
        node_process_memory(exec_status(n->exec).pid, "Rss"); /* no module is there yet */
    *ret = n;
    return true;
}

void node_set_coordinator(struct node *n, const char *url)
{
    free(n->coordinator_url);
    n->coordinator_url = copy(url);
}

bool node_start(struct node *n, const char *peer_url, const char *public_url, struct err *e)
{
    (void)snprintf(n->peer_url, sizeof(n->peer_url), "%s", peer_url);
    (void)snprintf(n->public_url, sizeof(n->public_url), "%s", public_url);
    n->pulse_started = thread_start(&n->pulse, "s2m3-pulse", node_pulse_run, n, e);
    n->loader_started =
        n->pulse_started && thread_start(&n->loader, "s2m3-loader", node_loader_run, n, e);
    if (n->loader_started)
        log_info("node", "%s: %.1f GFLOP/s, %d lane(s) of %d thread(s), %llu MB", n->name,
                 n->gflops, n->options.lanes, n->options.threads,
                 (unsigned long long)(n->options.memory_bytes / 1000000));
    return n->loader_started;
}

bool node_wait_joined(struct node *n, int64_t deadline_ns, struct err *e)
{
    monitor_lock(&n->lock);
    while (!n->joined && !n->stop && clock_now_ns() < deadline_ns)
        (void)monitor_wait(&n->lock, deadline_ns);
    bool joined = n->joined;
    struct err last = n->join_error;
    monitor_unlock(&n->lock);
    return joined || err_set(e, ERR_TIMEOUT, "joining %s: %s", n->coordinator_url,
                             last.text[0] ? last.text : "no answer yet");
}

static void say_leave(struct node *n)
{
    char url[WIRE_URL_MAX + 32], body[WIRE_ID_MAX + 32];
    struct err e;
    struct net_answer a;
    (void)snprintf(url, sizeof(url), "%s/s2m3/v1/leave", n->coordinator_url);
    int size = snprintf(body, sizeof(body), "{\"device\":\"%s\"}", n->id);
    struct net_header type = {"Content-Type", "application/json"};
    struct net_part part = {body, (size_t)size};
    struct net_call call = {.method = "POST",
                            .url = url,
                            .headers = &type,
                            .header_count = 1,
                            .parts = &part,
                            .part_count = 1,
                            .deadline_ns = clock_deadline_ms(1000),
                            .max_response = 65536};
    if (net_call(n->client, &call, &a, &e))
        net_answer_clear(&a);
}

void node_stop(struct node *n, bool leave)
{
    monitor_lock(&n->lock);
    n->stop = true;
    bool known = n->joined;
    monitor_wake(&n->lock);
    monitor_unlock(&n->lock);
    if (n->pulse_started)
        (void)pthread_join(n->pulse, NULL);
    if (n->loader_started)
        (void)pthread_join(n->loader, NULL);
    n->pulse_started = n->loader_started = false;
    if (leave && known)
        say_leave(n);
}

void node_free(struct node *n)
{
    if (!n)
        return;
    if (n->exec) {
        node_unload_all(n);
        exec_destroy(n->exec);
    }
    node_free_works(n);
    prepare_free(n->prepare);
    meetings_free(n->meetings);
    cache_free(n->cache);
    lanes_free(n->lanes);
    state_close(n->state);
    free(n->name);
    free(n->data_dir);
    free(n->coordinator_url);
    free(n->runtime_path);
    free(n->runner_path);
    (void)pthread_mutex_destroy(&n->measure_lock);
    monitor_destroy(&n->lock);
    free(n);
}

const char *node_id(const struct node *n)
{
    return atomic_load(&n->has_id) ? n->id : "";
}
