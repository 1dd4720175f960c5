/* gateway.c - making and freeing a gateway; its routes. */
#include "gateway/gateway.h"

#include "base/num.h"
#include "gateway/internal.h"

#include <stdlib.h>

#define RELAY_BODY_MAX (8u << 20)

static const char accepted[] = "application/json, image/, audio/, text/plain";

static const struct net_route routes[] = {
    {"POST", "/pipeline/{task}/{model}", REQUEST_BODY_MAX, NET_NEEDS_LENGTH,
     gateway_handle_pipeline, "A task by name", accepted, NULL},
    {"POST", "/models/{model}", REQUEST_BODY_MAX, NET_NEEDS_LENGTH, gateway_handle_pipeline,
     "What the model does with such an input", accepted, NULL},
    {"GET", "/s2m3/v1/traces/{id}", 0, NET_CONTROL, gateway_handle_trace,
     "Spans of a recent request", NULL, NULL},
    {"GET", "/metrics", 0, NET_CONTROL, gateway_handle_metrics, "Counters for Prometheus", NULL,
     NULL},
    {"GET", "/healthz", 0, NET_CONTROL, gateway_handle_health, "Is the process up", NULL, NULL},
    {"GET", "/readyz", 0, NET_CONTROL, gateway_handle_ready, "Can requests be answered", NULL,
     NULL},
};

static const struct net_route relay_routes[] = {
    {"GET", "/s2m3/v1/{rest...}", 0, 0, gateway_handle_relay, "Ask the coordinator", NULL, NULL},
    {"POST", "/s2m3/v1/{rest...}", RELAY_BODY_MAX, 0, gateway_handle_relay, "Ask the coordinator",
     NULL, NULL},
    {"PUT", "/s2m3/v1/{rest...}", RELAY_BODY_MAX, 0, gateway_handle_relay, "Ask the coordinator",
     NULL, NULL},
    {"DELETE", "/s2m3/v1/{rest...}", 0, 0, gateway_handle_relay, "Ask the coordinator", NULL, NULL},
};

const struct net_route *gateway_routes(int *count)
{
    *count = (int)ARRAY_LEN(routes);
    return routes;
}

const struct net_route *gateway_relay_routes(int *count)
{
    *count = (int)ARRAY_LEN(relay_routes);
    return relay_routes;
}

bool gateway_create(const struct gateway_options *o, struct gateway **ret, struct err *e)
{
    struct gateway *g = calloc(1, sizeof(*g));
    if (!g)
        return err_set(e, ERR_MEMORY, "gateway: no memory");
    g->options = *o;
    monitor_init(&g->lock);
    g->load = load_new();
    g->traces = traces_new();
    g->usage = json_object();
    if (!g->load || !g->traces || !g->usage) {
        gateway_free(g);
        return err_set(e, ERR_MEMORY, "gateway: no memory");
    }
    *ret = g;
    return true;
}

void gateway_free(struct gateway *g)
{
    if (!g)
        return;
    book_unref(g->book);
    load_free(g->load);
    traces_free(g->traces);
    json_decref(g->usage);
    monitor_destroy(&g->lock);
    free(g);
}

void gateway_add_counters(void *gateway, struct heartbeat *h)
{
    struct gateway *g = gateway;
    h->requests = atomic_load(&g->counters.requests);
    h->errors = atomic_load(&g->counters.errors);
    monitor_lock(&g->lock);
    if (json_object_size(g->usage) > 0) {
        h->usage = g->usage;
        g->usage = json_object();
    }
    monitor_unlock(&g->lock);
}
