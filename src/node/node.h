/* node.h - the program on a device: holds modules, runs them, measures them.
 *
 * A node serves the routes below on the process's peer listener, joins a coordinator, keeps the
 * modules that the routing table gives to it (fetch by digest, verify, measure, load) and reports
 * in heartbeats.  It decides nothing about placement.
 *
 *   POST /s2m3/v1/call, /s2m3/v1/deliver      wire/call.h
 *   POST /s2m3/v1/table, /s2m3/v1/measure     wire/cluster.h
 *   GET  /s2m3/v1/ping, POST /s2m3/v1/echo
 *   /v2, /v2/health/..., /v2/models/{module}[/ready|/infer]   Open Inference Protocol per module
 *
 * Threads: handlers run on the server's threads; the node has two of its own (heartbeat, loader). */
#pragma once
#include "exec/exec.h"
#include "net/client.h"
#include "net/server.h"
#include "store/blobs.h"
#include "wire/cluster.h"
#include "wire/table_slot.h"

/* --emulate: computes for real, then waits.  Zeros: nothing is emulated. */
struct emulation {
    double speed;     /* 0.25: four times slower; 0 or 1: as it is */
    double link_mbit; /* 0: as it is */
    double link_ms;   /* each way */
    char text[WIRE_NAME_MAX];
};

/* "speed=0.25,link_mbit=100,link_ms=20" */
bool emulation_parse(const char *text, struct emulation *ret, struct err *e);

struct node_options {
    const char *name; /* for people; default: the host's name */
    const char *data_dir;
    struct blobs *blobs;         /* borrowed; shared with the coordinator in the same process */
    bool shared_blobs;           /* then the node removes no blobs */
    const char *coordinator_url; /* peer listener of the coordinator */
    uint64_t memory_bytes;       /* budget for the runtime and modules; 0: measured free memory */
    int threads;                 /* of one run; 0: cores / lanes */
    int lanes;                   /* 0: 1 */
    struct emulation emulation;
    enum exec_kind exec_kind;
    const char *runtime_path, *runner_path;
    uint64_t cache_bytes, meeting_bytes;
    /* Adds the gateway's counters to a heartbeat; may be NULL. */
    void (*add_counters)(void *ctx, struct heartbeat *h);
    void *counters_ctx;
    /* The coordinator has let the device go: the process should end.  Called once, on the thread of
     * the heartbeats; may be NULL. */
    void (*on_left)(void *ctx);
    void *left_ctx;
};

struct node;

/* client and slot are borrowed. */
bool node_create(const struct node_options *o, struct net_client *client, struct table_slot *slot,
                 struct node **ret, struct err *e);

/* Rows for the peer listener; their ctx is the node. */
const struct net_route *node_routes(int *count);

/* Where to join, when it was not known at node_create(); before node_start(). */
void node_set_coordinator(struct node *n, const char *url);

/* Starts heartbeat and loader; the listener must be up, since the coordinator calls back. */
bool node_start(struct node *n, const char *peer_url, const char *public_url, struct err *e);

/* Waits until the coordinator has taken the device in; ERR_TIMEOUT with the last reason. */
bool node_wait_joined(struct node *n, int64_t deadline_ns, struct err *e);

/* Stops its threads and forgets the fleet (tells the coordinator if `leave`). */
void node_stop(struct node *n, bool leave);
void node_free(struct node *n); /* after the listener has stopped */

const char *node_id(const struct node *n); /* "" until joined */
