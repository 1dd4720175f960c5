/* hub.c - routes of the hub. */
#include "sim/lib/hub.h"

#include "base/num.h"
#include "base/parse.h"
#include "sim/lib/sim.h"

#include <stdlib.h>
#include <string.h>

#define BODY_MAX (1u << 20)

static json_t *body_json(struct net_request *r, struct err *e)
{
    size_t size;
    const void *data = net_request_body(r, &size);
    return json_parse("hub", data, size, e);
}

static struct sim_device *device_of(struct sim *s, const char *id)
{
    for (int i = 0; i < s->options.devices; i++)
        if (strcmp(s->devices[i].id, id) == 0)
            return &s->devices[i];
    return NULL;
}

static void answer(struct net_request *r, bool ok, json_t *value, const struct err *e)
{
    if (ok)
        net_reply_json(r, 200, value);
    else
        net_reply_err(r, e);
}

static void handle_join(struct net_request *r, void *sim)
{
    struct sim *s = sim;
    struct err e;
    struct join_request q;
    struct join_answer a = {.heartbeat_ms = CLUSTER_HEARTBEAT_MS};
    json_t *o = body_json(r, &e);
    bool ok = o && join_request_read(o, &q, &e);
    json_decref(o);
    if (ok && !device_of(s, q.name))
        ok = err_set(&e, ERR_NOT_FOUND, "hub: device '%.60s' is none of this fleet", q.name);
    if (ok)
        memcpy(a.id, q.name, sizeof(a.id));
    answer(r, ok, ok ? join_answer_json(&a) : NULL, &e);
}

static void handle_heartbeat(struct net_request *r, void *sim)
{
    struct sim *s = sim;
    struct err e;
    struct heartbeat h;
    struct heartbeat_answer a = {0};
    json_t *o = body_json(r, &e);
    bool ok = o && heartbeat_read(o, &h, &e);
    json_decref(o);
    struct sim_device *d = ok ? device_of(s, h.id) : NULL;
    if (d) {
        monitor_lock(&s->lock);
        heartbeat_clear(&d->last);
        d->last = h;
        d->beats++;
        a.table_version = s->version;
        monitor_wake(&s->lock);
        monitor_unlock(&s->lock);
    } else if (ok) {
        heartbeat_clear(&h);
        a.unknown = true;
    }
    answer(r, ok, ok ? heartbeat_answer_json(&a) : NULL, &e);
}

static void handle_table(struct net_request *r, void *sim)
{
    struct sim *s = sim;
    monitor_lock(&s->lock);
    json_t *table = s->table ? json_deep_copy(s->table) : NULL;
    monitor_unlock(&s->lock);
    struct err e;
    if (!table)
        err_set(&e, ERR_NOT_FOUND, "hub: no table yet");
    answer(r, table != NULL, table, &e);
}

static void handle_blob(struct net_request *r, void *sim)
{
    struct sim *s = sim;
    struct err e;
    uint64_t at = 0, size = 0;
    size_t have = 0;
    char *data = NULL;
    const char *from = net_request_query(r, "offset"), *want = net_request_query(r, "size");
    bool ok = parse_u64("offset", from ? from : "", 0, BODY_MAX, &at, &e) &&
              parse_u64("size", want ? want : "", 0, UINT32_MAX, &size, &e) &&
              blobs_load(s->blobs, net_request_param(r, "digest"), BODY_MAX, &data, &have, &e);
    if (ok) {
        at = at < have ? at : have;
        size = size < have - at ? size : have - at;
        net_reply(r, 200, "application/octet-stream", data + at, size);
    } else {
        net_reply_err(r, &e);
    }
    free(data);
}

static const struct net_route routes[] = {
    {"POST", "/s2m3/v1/join", BODY_MAX, NET_CONTROL, handle_join, "Take a device in", NULL, NULL},
    {"POST", "/s2m3/v1/heartbeat", BODY_MAX, NET_CONTROL, handle_heartbeat, "Hear of a device",
     NULL, NULL},
    {"GET", "/s2m3/v1/table", 0, NET_CONTROL, handle_table, "Routing table", NULL, NULL},
    {"GET", "/s2m3/v1/blobs/{digest}", 0, 0, handle_blob, "A file by its digest", NULL, NULL},
};

const struct net_route *hub_routes(int *count)
{
    *count = (int)ARRAY_LEN(routes);
    return routes;
}
