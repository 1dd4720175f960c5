/* coord.c - making, starting and stopping the coordinator; joins and heartbeats; its routes. */
#include "coord/coord.h"

#include "base/cancel.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "base/parse.h"
#include "coord/internal.h"
#include "coord/pins.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BODY_SMALL (64u << 10)
#define BODY_HEARTBEAT (8u << 20)
#define CHUNK_MAX (8u << 20)
#define MANIFEST_MAX (4u << 20)

/* ---- cluster messages ----------------------------------------------------------------------- */

static json_t *body_json(struct net_request *r, const char *what, struct err *e)
{
    size_t size;
    const void *data = net_request_body(r, &size);
    return json_parse(what, data, size, e);
}

static void reply(struct net_request *r, json_t *answer, const struct err *e)
{
    if (answer)
        net_reply_json(r, 200, answer);
    else
        net_reply_err(r, e);
}

static void handle_join(struct net_request *r, void *coord)
{
    struct coord *c = coord;
    struct err e = {0};
    struct join_request request;
    struct device *d;
    json_t *answer = NULL, *o = body_json(r, "join", &e);
    bool ok = o && join_request_read(o, &request, &e);
    json_decref(o);
    if (ok) {
        monitor_lock(&c->lock);
        if (fleet_join(&c->fleet, &request, &d, &e)) {
            struct join_answer a = {.heartbeat_ms = CLUSTER_HEARTBEAT_MS,
                                    .table_version = c->fleet.version};
            memcpy(a.id, d->join.id, sizeof(a.id));
            answer = join_answer_json(&a);
            for (uint32_t i = 0; i < LEFT_MAX; i++)
                if (strcmp(c->left[i], d->join.id) == 0)
                    c->left[i][0] = 0;
            log_info("coord", "device %s joined", d->join.name);
            coord_ask_plan(c, "device %s joined", d->join.name);
        }
        monitor_unlock(&c->lock);
    }
    reply(r, answer, &e);
}

/* Whether the routing table may look different after this heartbeat. */
static bool matters(const struct device *d, const struct heartbeat *h)
{
    if (!d->alive || h->link_count || d->last.module_count != h->module_count)
        return true;
    for (uint32_t i = 0; i < h->module_count; i++) {
        const struct module_report *was = device_report(d, h->modules[i].digest.hex);
        if (!was || was->state != h->modules[i].state || was->run_ms != h->modules[i].run_ms)
            return true;
    }
    return false;
}

void coord_has_left(struct coord *c, const char *id)
{
    (void)snprintf(c->left[c->left_next], WIRE_ID_MAX, "%s", id);
    c->left_next = (c->left_next + 1) % LEFT_MAX;
}

/* With the lock held.  The answer to a heartbeat may be lost: it is said again. */
static bool was_let_go(struct coord *c, const char *id)
{
    for (uint32_t i = 0; i < LEFT_MAX; i++)
        if (id[0] && strcmp(c->left[i], id) == 0)
            return true;
    return false;
}

/* With the lock held.  A device that leaves and has let go of its last module is no member any
 * more: by then every device works with a table that does not name it. */
static bool let_go(struct coord *c, const struct device *d)
{
    struct err e;
    char id[WIRE_ID_MAX];
    if (!d->leaving || d->last.module_count > 0 || d->last.table_version != c->fleet.version ||
        c->dirty || c->replan)
        return false;
    memcpy(id, d->join.id, sizeof(id));
    log_info("coord", "device %s has left", d->join.name);
    coord_ask_plan(c, "device %s left", d->join.name);
    if (!fleet_forget(&c->fleet, id, &e))
        return false;
    coord_has_left(c, id);
    return true;
}

static void handle_heartbeat(struct net_request *r, void *coord)
{
    struct coord *c = coord;
    struct err e = {0};
    struct heartbeat h;
    json_t *o = body_json(r, "heartbeat", &e);
    bool ok = o && heartbeat_read(o, &h, &e);
    json_decref(o);
    if (!ok) {
        net_reply_err(r, &e);
        return;
    }
    monitor_lock(&c->lock);
    struct heartbeat_answer a = {.table_version = c->fleet.version};
    struct device *d = fleet_device(&c->fleet, h.id);
    a.left = !d && was_let_go(c, h.id);
    a.unknown = !d && !a.left;
    if (d) {
        bool change = matters(d, &h), back = !d->alive;
        coord_note_table(c, d, h.table_version);
        rates_count(&c->rates, d->join.id, h.usage);
        ok = fleet_heartbeat(&c->fleet, d, &h, &e);
        if (back)
            coord_ask_plan(c, "device %s is back", d->join.name);
        if (change)
            coord_touch(c);
        a.left = ok && let_go(c, d);
    }
    monitor_unlock(&c->lock);
    heartbeat_clear(&h);
    reply(r, ok ? heartbeat_answer_json(&a) : NULL, &e);
}

static void handle_leave(struct net_request *r, void *coord)
{
    struct coord *c = coord;
    struct err e = {0};
    const char *id;
    json_t *o = body_json(r, "leave", &e);
    bool ok = o && json_need_str(o, "leave", "device", &id, &e);
    if (ok) {
        monitor_lock(&c->lock);
        const struct device *d = fleet_device(&c->fleet, id);
        if (d)
            coord_ask_plan(c, "device %s left", d->join.name);
        ok = fleet_forget(&c->fleet, id, &e);
        monitor_unlock(&c->lock);
    }
    json_decref(o);
    reply(r, ok ? json_object() : NULL, &e);
}

static void handle_table(struct net_request *r, void *coord)
{
    struct coord *c = coord;
    monitor_lock(&c->lock);
    json_t *o = c->table ? json_deep_copy(c->table) : NULL;
    monitor_unlock(&c->lock);
    reply(r, o,
          &(struct err){.code = ERR_BUSY, .text = "coordinator: there is no routing table yet"});
}

/* A range of a blob; a short answer is the end. */
static void handle_blob(struct net_request *r, void *coord)
{
    struct coord *c = coord;
    struct err e = {0};
    uint64_t offset = 0, size = CHUNK_MAX;
    const char *at = net_request_query(r, "offset"), *n = net_request_query(r, "size");
    int fd = -1;
    if ((at && !parse_u64("offset", at, 0, BLOB_BYTES_MAX, &offset, &e)) ||
        (n && !parse_u64("size", n, 1, CHUNK_MAX, &size, &e)) ||
        !blobs_read(c->blobs, net_request_param(r, "digest"), &fd, &e)) {
        net_reply_err(r, &e);
        return;
    }
    char *data = malloc(size);
    ssize_t got = data ? pread(fd, data, size, (off_t)offset) : -1;
    close(fd);
    if (got >= 0)
        net_reply(r, 200, "application/octet-stream", data, (size_t)got);
    else
        net_reply_err(r, &(struct err){.code = ERR_IO, .text = "blob: can't be read"});
    free(data);
}

/* ---- routes --------------------------------------------------------------------------------- */

static const struct net_route user_routes[] = {
    {"GET", "/s2m3/v1/models", 0, 0, coord_handle_models, "Models, their tasks and modules", NULL,
     NULL},
    {"POST", "/s2m3/v1/models", MANIFEST_MAX, NET_NEEDS_LENGTH, coord_handle_add,
     "Add a model whose files were uploaded", "application/json", NULL},
    {"DELETE", "/s2m3/v1/models/{name}", 0, 0, coord_handle_remove, "Remove a model", NULL, NULL},
    {"GET", "/s2m3/v1/modules", 0, 0, coord_handle_modules,
     "Modules, who shares them, where they are", NULL, NULL},
    {"GET", "/s2m3/v1/devices", 0, 0, coord_handle_devices,
     "Devices, their memory and what they hold", NULL, NULL},
    {"POST", "/s2m3/v1/devices/drain", BODY_SMALL, NET_NEEDS_LENGTH, coord_handle_drain,
     "Move everything off a device", "application/json", NULL},
    {"POST", "/s2m3/v1/devices/leave", BODY_SMALL, NET_NEEDS_LENGTH, coord_handle_let_go,
     "End a device's membership once its modules have moved", "application/json", NULL},
    {"GET", "/s2m3/v1/plan", 0, 0, coord_handle_plan,
     "The placement as it is, as an instance of the planner, with rates and moves", NULL, NULL},
    {"POST", "/s2m3/v1/plan", BODY_SMALL, NET_NEEDS_LENGTH, coord_handle_make_plan,
     "Pin modules to devices, or plan now", "application/json", NULL},
    {"GET", "/s2m3/v1/status", 0, NET_CONTROL, coord_handle_status, "The fleet in a few numbers",
     NULL, NULL},
    {"GET", "/s2m3/v1/uploads/{digest}", 0, 0, coord_handle_have, "How much of a file has come",
     NULL, NULL},
    {"PUT", "/s2m3/v1/uploads/{digest}", CHUNK_MAX, 0, coord_handle_upload,
     "Upload a part of a file", NULL, NULL},
};

static const struct net_route cluster_routes[] = {
    {"POST", "/s2m3/v1/join", BODY_SMALL, NET_CONTROL | NET_ANONYMOUS | NET_NEEDS_LENGTH,
     handle_join, "A device joins", "application/json", NULL},
    {"POST", "/s2m3/v1/heartbeat", BODY_HEARTBEAT, NET_CONTROL | NET_NEEDS_LENGTH, handle_heartbeat,
     "A device reports", "application/json", NULL},
    {"POST", "/s2m3/v1/leave", BODY_SMALL, NET_CONTROL | NET_NEEDS_LENGTH, handle_leave,
     "A device leaves", "application/json", NULL},
    {"GET", "/s2m3/v1/table", 0, NET_CONTROL, handle_table, "The routing table", NULL, NULL},
    {"GET", "/s2m3/v1/blobs/{digest}", 0, 0, handle_blob, "A range of a file by its digest", NULL,
     NULL},
};

const struct net_route *coord_user_routes(int *count)
{
    *count = (int)ARRAY_LEN(user_routes);
    return user_routes;
}

const struct net_route *coord_cluster_routes(int *count)
{
    *count = (int)ARRAY_LEN(cluster_routes);
    return cluster_routes;
}

/* ---- life ----------------------------------------------------------------------------------- */

bool coord_create(const struct coord_options *o, struct coord **ret, struct err *e)
{
    struct coord *c = calloc(1, sizeof(*c));
    char *path = text_format("%s/state.db", o->data_dir);
    if (!c || !path) {
        free(c);
        free(path);
        return err_set(e, ERR_MEMORY, "coordinator: no memory");
    }
    monitor_init(&c->lock);
    (void)pthread_mutex_init(&c->change, NULL);
    (void)pthread_mutex_init(&c->planning, NULL);
    c->blobs = o->blobs;
    c->client = o->client;
    c->slot = o->slot;
    c->redundancy = o->redundancy;
    c->own_usage = o->own_usage;
    c->usage_ctx = o->usage_ctx;
    c->ending = cancel_new();
    bool ok = (c->ending || err_set(e, ERR_MEMORY, "coordinator: no memory")) &&
              state_open(path, &c->state, e) && fleet_open(&c->fleet, c->state, e) &&
              moves_load(&c->moves, c->state, e) && pins_load(c, o->pins, e) &&
              state_get(c->state, STATE_FLEET, "table", &c->table, e);
    free(path);
    if (!ok) {
        coord_free(c);
        return false;
    }
    *ret = c;
    return true;
}

bool coord_start(struct coord *c, const char *url, struct err *e)
{
    int64_t now = clock_now_ns();
    (void)snprintf(c->fleet.url, sizeof(c->fleet.url), "%s", url);
    /* Devices of an earlier life are taken for living until they have had time to say so: else a
     * restart would look like the death of all. */
    for (uint32_t i = 0; i < c->fleet.device_count; i++) {
        c->fleet.devices[i].alive = true;
        c->fleet.devices[i].heard_ns = now;
    }
    c->grace_ns = c->fleet.device_count ? now + CLUSTER_DEAD_MS * NS_PER_MS : now;
    struct table *t = c->table ? table_from_json(c->table, NULL) : NULL;
    if (t)
        (void)table_slot_put(c->slot, t);
    c->dirty = true;
    c->started = thread_start(&c->watcher, "s2m3-coord", coord_watch_run, c, e);
    c->planner_started =
        c->started && thread_start(&c->planner, "s2m3-planner", coord_planner_run, c, e);
    c->truth_started =
        c->planner_started && thread_start(&c->truth_teller, "s2m3-truth", coord_truth_run, c, e);
    return c->truth_started;
}

void coord_stop(struct coord *c)
{
    monitor_lock(&c->lock);
    c->stop = true;
    monitor_wake(&c->lock);
    monitor_unlock(&c->lock);
    if (c->started)
        (void)pthread_join(c->watcher, NULL);
    if (c->planner_started)
        (void)pthread_join(c->planner, NULL);
    cancel_fire(c->ending);
    if (c->truth_started)
        (void)pthread_join(c->truth_teller, NULL);
    c->started = c->planner_started = c->truth_started = false;
}

void coord_free(struct coord *c)
{
    if (!c)
        return;
    fleet_close(&c->fleet);
    state_close(c->state);
    json_decref(c->table);
    json_decref(c->pins);
    rates_clear(&c->rates);
    truth_clear(&c->truth);
    cancel_unref(c->ending);
    (void)pthread_mutex_destroy(&c->change);
    (void)pthread_mutex_destroy(&c->planning);
    monitor_destroy(&c->lock);
    free(c);
}
