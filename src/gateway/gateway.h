/* gateway.h - the front door in every s2m3 process: the public APIs, and routing of each request.
 *
 * A gateway knows the routing table and nothing else of the fleet: any gateway answers any request.
 *
 *   POST /pipeline/{task}/{model}, POST /models/{model}    Hugging Face inference forms
 *   GET  /s2m3/v1/traces/{id}                              spans of a recent request
 *   GET  /metrics, /healthz, /readyz
 *   /s2m3/v1/{rest...}  to the coordinator (relay rows), where the process has none of its own
 *
 * Threads: handlers run on the server's threads; a request has a thread per call under way. */
#pragma once
#include "net/client.h"
#include "net/server.h"
#include "store/blobs.h"
#include "wire/cluster.h"
#include "wire/table_slot.h"

struct gateway;

struct gateway_options {
    struct net_client *client; /* borrowed */
    struct table_slot *slot;   /* borrowed */
    /* This process's device id, "" when it has no node; for routes and transfer times. */
    const char *(*self_id)(void *ctx);
    void *ctx;
    uint64_t timeout_ms; /* of a request; 0: 60 s */
};

bool gateway_create(const struct gateway_options *o, struct gateway **ret, struct err *e);
const struct net_route *gateway_routes(int *count);
const struct net_route *gateway_relay_routes(int *count);
/* Adds requests, errors and usage to a heartbeat (node's add_counters). */
void gateway_add_counters(void *gateway, struct heartbeat *h);
void gateway_free(struct gateway *g); /* after the listener has stopped */
