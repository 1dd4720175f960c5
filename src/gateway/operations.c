/* operations.c - metrics, health, readiness, and the relay to the coordinator. */
#include "base/buf.h"
#include "base/clock.h"
#include "gateway/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METRICS_MAX (1u << 20)
#define RELAY_MS 600000
#define RELAY_MAX ((size_t)64 << 20)

static void metric(struct buf *b, const char *name, const char *type, const char *help,
                   double value)
{
    buf_fmt(b, "# HELP s2m3_%s %s\n# TYPE s2m3_%s %s\ns2m3_%s %.17g\n", name, help, name, type,
            name, value);
}

static void table_metrics(struct buf *b, const struct table *t)
{
    int alive = 0, unplaced = 0;
    for (uint32_t i = 0; i < t->device_count; i++)
        alive += t->devices[i].alive;
    for (uint32_t i = 0; i < t->module_count; i++) {
        bool serving = false;
        for (uint32_t k = 0; k < t->modules[i].replica_count; k++)
            serving = serving || (t->modules[i].replicas[k].serving &&
                                  t->devices[t->modules[i].replicas[k].device].alive);
        unplaced += !serving;
    }
    metric(b, "table_version", "gauge", "Version of the routing table.", (double)t->version);
    metric(b, "devices", "gauge", "Devices of the fleet.", t->device_count);
    metric(b, "devices_alive", "gauge", "Devices that report.", alive);
    metric(b, "models", "gauge", "Models of the fleet.", t->model_count);
    metric(b, "modules", "gauge", "Modules of the fleet.", t->module_count);
    metric(b, "modules_unplaced", "gauge", "Modules that no living device serves.", unplaced);
}

void gateway_handle_metrics(struct net_request *r, void *gateway)
{
    struct gateway *g = gateway;
    struct counters *c = &g->counters;
    struct buf b = BUF_INIT(METRICS_MAX);
    struct err e;
    metric(&b, "requests_total", "counter", "Requests taken.", (double)atomic_load(&c->requests));
    metric(&b, "errors_total", "counter", "Requests that ended in an error.",
           (double)atomic_load(&c->errors));
    metric(&b, "requests_under_way", "gauge", "Requests being answered.",
           atomic_load(&c->under_way));
    metric(&b, "request_seconds_total", "counter", "Time of all requests.",
           (double)atomic_load(&c->latency_us) / 1e6);
    metric(&b, "calls_total", "counter", "Module calls sent to devices.",
           (double)atomic_load(&c->calls));
    metric(&b, "repeats_total", "counter", "Attempts after the first.",
           (double)atomic_load(&c->repeats));
    struct table *t = table_slot_get(g->options.slot);
    if (t)
        table_metrics(&b, t);
    table_unref(t);
    if (buf_ok(&b, "metrics", &e))
        net_reply(r, 200, "text/plain; version=0.0.4", b.data, b.size);
    else
        net_reply_err(r, &e);
    buf_clear(&b);
}

void gateway_handle_health(struct net_request *r, void *gateway)
{
    (void)gateway;
    net_reply_json(r, 200, json_pack("{s:s}", "status", "up"));
}

void gateway_handle_ready(struct net_request *r, void *gateway)
{
    struct gateway *g = gateway;
    if (table_slot_version(g->options.slot) > 0)
        net_reply_json(r, 200, json_pack("{s:s}", "status", "ready"));
    else
        net_reply_err(
            r, &(struct err){.code = ERR_BUSY, .text = "gateway: there is no routing table yet"});
}

/* Management of the fleet is asked of the coordinator, whichever gateway a client talks to. */
void gateway_handle_relay(struct net_request *r, void *gateway)
{
    struct gateway *g = gateway;
    struct err e = {0};
    struct table *t = table_slot_get(g->options.slot);
    char url[WIRE_URL_MAX + NET_URL_MAX + 16];
    const char *query = net_request_query_text(r), *type = net_request_header(r, "Content-Type");
    (void)snprintf(url, sizeof(url), "%s%s%s%s", t ? t->coordinator_url : "", net_request_path(r),
                   *query ? "?" : "", query);
    bool known = t && t->coordinator_url[0];
    table_unref(t);
    if (!known) {
        err_set(&e, ERR_NO_PLACE, "gateway: the coordinator is not known yet");
        net_reply_err(r, &e);
        return;
    }
    size_t size;
    const void *data = net_request_body(r, &size);
    struct net_header header = {"Content-Type", type};
    struct net_part part = {data, size};
    struct net_call call = {.method = net_request_method(r),
                            .url = url,
                            .headers = &header,
                            .header_count = type ? 1 : 0,
                            .parts = &part,
                            .part_count = size ? 1 : 0,
                            .deadline_ns = clock_deadline_ms(RELAY_MS),
                            .max_response = RELAY_MAX,
                            .cancel = net_request_cancel(r),
                            .flags = NET_CALL_ONCE};
    struct net_answer a;
    if (!net_call(g->options.client, &call, &a, &e)) {
        (void)err_prefix(&e, "coordinator");
        net_reply_err(r, &e);
        return;
    }
    net_reply(r, a.status, a.content_type[0] ? a.content_type : NULL, a.body, a.size);
    net_answer_clear(&a);
}
