/* sim.h - whole fleets in one process: real nodes and gateways on loopback, fake modules.
 *
 * Each device has a node (EXEC_FAKE), a gateway, a store and two listeners of its own.  In place of
 * a coordinator stands a hub: it takes devices in, hands out blobs and the routing table that the
 * test writes, and keeps the heartbeats.  Everything between them goes over HTTP, as in a fleet.
 *
 * What a test waits for it hears of by heartbeats (every 500 ms), never by sleeping.
 * A function that can't do what it should ends the test, except where it returns a result; those
 * may be called from any thread.
 *
 * Numbers: an encoder "fake noop in input_ids int64 1x-1 out e float32 1x4" gives the token ids'
 * bytes as float32; an id n is then n * 2^-149, and sums of those are exact: sim_number(). */
#pragma once
#include "base/sync.h"
#include "gateway/gateway.h"
#include "node/node.h"
#include "sim/lib/cable.h"
#include "wire/call.h"

#define SIM_DEVICES_MAX 4
#define SIM_MODULES_MAX 8
#define SIM_MODELS_MAX 4
#define SIM_WAIT_MS 30000 /* then what is waited for counts as failed */

struct sim_options {
    int devices;
    unsigned max_ordinary; /* calls under way that a device takes; 0: default */
    uint64_t timeout_ms;   /* of a gateway's request; 0: default */
    bool cables;           /* devices can be cut off */
};

struct sim;

struct sim_device {
    struct sim *sim;
    char id[WIRE_ID_MAX]; /* "d0"; its name too */
    struct blobs *blobs;
    struct net_client *client;
    struct table_slot slot;
    struct node *node;
    struct gateway *gateway;
    struct net_server *peer, *public;
    struct net_group peer_group, public_group;
    struct cable *cable;
    char peer_url[WIRE_URL_MAX]; /* by way of the cable, if there is one */
    char public_url[WIRE_URL_MAX];
    struct heartbeat last; /* under sim.lock */
    uint64_t beats;        /* likewise */
};

struct sim_replica {
    int device;
    double run_ms; /* what routing goes by */
};

struct sim_module {
    struct digest digest;
    char name[WIRE_NAME_MAX];
    struct sim_replica replicas[SIM_DEVICES_MAX];
    int replica_count;
};

struct sim_model {
    char name[WIRE_NAME_MAX];
    json_t *program;
    struct digest blobs[4];
    int blob_count;
};

struct sim {
    struct sim_options options;
    const char *folder;  /* all that is on disk is below it */
    struct monitor lock; /* of the table and the heartbeats */
    struct net_client *client;
    struct blobs *blobs; /* the hub's */
    struct net_server *hub;
    struct net_group group;
    char hub_url[WIRE_URL_MAX];
    struct sim_device devices[SIM_DEVICES_MAX];
    struct sim_module modules[SIM_MODULES_MAX];
    int module_count;
    struct sim_model models[SIM_MODELS_MAX];
    int model_count;
    uint64_t version; /* of the published table */
    json_t *table;
};

/* Devices are up and taken in when it returns. */
void sim_start(struct sim *s, const struct sim_options *o);
void sim_stop(struct sim *s); /* of a zeroed or stopped one: nothing */

/* The hub is gone for good. */
void sim_stop_hub(struct sim *s);
/* Stops a device and starts it again with what it has on disk, at the same address; needs cables.
 * Returns without waiting for anything. */
void sim_restart(struct sim *s, int device);

/* ---- what the fleet holds; in force with the next sim_publish() ---- */

/* line: see exec/exec.h.  Returns the module, without replicas. */
struct sim_module *sim_add_module(struct sim *s, const char *name, const char *line);
void sim_place(struct sim_module *m, int device, double run_ms);

/* Words get the ids first, first + 1, ... */
struct digest sim_add_tokenizer(struct sim *s, const char *const *words, int first);

/* program: stolen.  blobs: what its processors are made of. */
void sim_add_model(struct sim *s, const char *name, json_t *program, const struct digest *blobs,
                   int count);

/* Two encoders "left" and "right" of texts and a head "head" that adds, as the model "sum": the
 * word number i of {"zero", "one", "two"} is i + 10 on the left and i + 100 on the right.
 * work: of the encoders, "noop" or "sleep 300".  Places are up to the caller. */
struct sim_sum {
    struct sim_module *left, *right, *head;
};
struct sim_sum sim_add_sum(struct sim *s, const char *work);

/* A new table; returns when each device has loaded what it gives it. */
void sim_publish(struct sim *s);

/* ---- asking ---- */

struct sim_reply {
    bool sent; /* else error says why there is no answer */
    struct err error;
    int status;
    json_t *body; /* owned; NULL: not JSON */
    char request[WIRE_ID_MAX], devices[256], retry_after[16];
};
void sim_reply_clear(struct sim_reply *r);

/* A text to a model by way of a device's gateway. */
struct sim_reply sim_ask(struct sim *s, int device, const char *model, const char *text,
                         struct cancel *cancel);
/* The number behind element i of an answered vector; -1: there is none. */
double sim_number(const json_t *vector, size_t i);
json_t *sim_trace(struct sim *s, int device, const char *request); /* a new reference */

/* The same on a thread of its own. */
struct sim_asking {
    struct sim *sim;
    int device;
    const char *model, *text;
    struct cancel *cancel;
    pthread_t thread;
    struct sim_reply reply;
};
void sim_ask_start(struct sim *s, struct sim_asking *a, int device, const char *model,
                   const char *text);
void sim_ask_end(struct sim_asking *a); /* then the reply is there, and to be cleared */

/* Straight to a device's node, without a gateway. */
bool sim_call(struct sim *s, int device, const struct call *c, struct cancel *cancel,
              struct call_answer *ret, struct err *e);
bool sim_deliver(struct sim *s, int device, const struct delivery *d, struct err *e);
bool sim_ping(struct sim *s, int device, struct err *e);

/* ---- a device's only lane, held by a call until sim_unblock() ---- */

#define SIM_BLOCKER "fake sleep 600000 in x uint8 1 out y uint8 1"

struct sim_block {
    struct sim *sim;
    int device;
    struct digest module;
    struct cancel *cancel;
    pthread_t thread;
};
/* module: of SIM_BLOCKER, placed on that device. */
void sim_block(struct sim *s, struct sim_block *b, int device, const struct sim_module *module);
void sim_unblock(struct sim_block *b);

/* ---- waiting ---- */

/* For a heartbeat with so many runs on lanes and in their queue. */
void sim_wait_lanes(struct sim *s, int device, uint32_t running, uint32_t waiting);
/* Runs of a module there since it was loaded, as of now; -1: not held. */
int64_t sim_runs(struct sim *s, int device, const struct sim_module *m);
/* For a heartbeat without the module. */
void sim_wait_gone(struct sim *s, int device, const struct sim_module *m);
