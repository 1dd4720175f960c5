/* cluster.h - messages between nodes and the coordinator, all JSON.
 *
 *   POST /s2m3/v1/join        join_request      -> join_answer      (node -> coordinator)
 *   POST /s2m3/v1/heartbeat   heartbeat         -> heartbeat_answer (node -> coordinator)
 *   POST /s2m3/v1/leave       {"device": id}    -> {}               (node -> coordinator)
 *   GET  /s2m3/v1/table                         -> table            (node -> coordinator)
 *   GET  /s2m3/v1/blobs/{digest}  with Range    -> bytes            (node -> coordinator)
 *   POST /s2m3/v1/table       table             -> {"version"}      (coordinator -> node, push)
 *   POST /s2m3/v1/measure     {"digest","dims","again"} -> module_report (coordinator -> node)
 *   GET  /s2m3/v1/ping                          -> {}               (node -> node: link round trip)
 *   POST /s2m3/v1/echo        bytes             -> {"bytes"}        (node -> node: link bandwidth)
 *
 * A device that has not been heard of for CLUSTER_DEAD_MS is dead: its modules are placed again. */
#pragma once
#include "base/digest.h"
#include "base/json.h"
#include "wire/limits.h"

#include <stdint.h>

#define CLUSTER_HEARTBEAT_MS 500
#define CLUSTER_DEAD_MS 2500

struct join_request {
    char id[WIRE_ID_MAX]; /* of an earlier join, or empty: a new device */
    char name[WIRE_NAME_MAX];
    char peer_url[WIRE_URL_MAX];
    char public_url[WIRE_URL_MAX];
    char runtime[64];        /* version of ONNX Runtime */
    char cpu[WIRE_NAME_MAX]; /* kind of CPU, for keys */
    uint64_t memory_bytes;   /* budget for modules */
    uint32_t lanes, threads;
    double gflops;               /* calibrated, emulation included */
    char emulate[WIRE_NAME_MAX]; /* "speed=0.25,link_mbit=100,link_ms=20" or empty */
};

struct join_answer {
    char id[WIRE_ID_MAX];
    uint64_t heartbeat_ms;
    uint64_t table_version;
};

enum module_state { MODULE_ABSENT, MODULE_FETCHING, MODULE_LOADING, MODULE_READY, MODULE_FAILED };
const char *module_state_name(enum module_state s);

/* A module as one device knows it.  Memory in bytes; figures are 0 until measured. */
struct module_report {
    struct digest digest;
    enum module_state state;
    char error[256]; /* why it failed, or empty */
    bool measured;
    uint64_t anonymous, file; /* the module's at most: while it runs on all lanes, all of it used */
    uint64_t pss, peak;       /* added by it after few runs; while they ran on one lane */
    double load_ms, run_ms;   /* of a run: emulated waiting included */
    uint64_t runs;            /* since it was loaded */
    double busy_ms;           /* that these took on a lane, in all */
};

struct link_report {
    char device[WIRE_ID_MAX];
    double latency_ms, mbit;
};

struct heartbeat {
    char id[WIRE_ID_MAX];
    uint64_t table_version;
    uint64_t footprint_bytes;  /* anonymous memory of the node's own process */
    uint64_t base_bytes;       /* what the runtime's process takes without modules */
    uint32_t running, waiting; /* calls on lanes, calls in the queue */
    uint64_t requests, errors; /* of its gateway, since start */
    uint64_t runner_restarts;
    struct module_report *modules; /* owned */
    uint32_t module_count;
    struct link_report *links; /* owned; those measured since the last heartbeat */
    uint32_t link_count;
    /* Requests since the last: {"model\ttask": [asked, answered, runs, bytes, timed, us,
     * around]}, or NULL.
     * Of the answered ones in all, runs: of the calls made once per candidate (from the cache: none)
     * or per token; bytes: of what was asked about (pictures, sounds, texts; not the candidates).
     * timed: those none of whose calls came from a cache; us: what they took together; around: of
     * that, what is neither a wait for a lane nor a run nor a transfer (coord/rates.h). */
    json_t *usage;
};

struct heartbeat_answer {
    uint64_t table_version; /* the node fetches the table if its own is another */
    bool unknown;           /* the coordinator does not know the device: join again */
    bool left;              /* it is no member any more: its modules have moved, it may end */
};

json_t *join_request_json(const struct join_request *m);
bool join_request_read(const json_t *o, struct join_request *ret, struct err *e);
json_t *join_answer_json(const struct join_answer *m);
bool join_answer_read(const json_t *o, struct join_answer *ret, struct err *e);
json_t *module_report_json(const struct module_report *m);
bool module_report_read(const json_t *o, struct module_report *ret, struct err *e);
json_t *heartbeat_json(const struct heartbeat *m);
bool heartbeat_read(const json_t *o, struct heartbeat *ret, struct err *e);
void heartbeat_clear(struct heartbeat *m);
json_t *heartbeat_answer_json(const struct heartbeat_answer *m);
bool heartbeat_answer_read(const json_t *o, struct heartbeat_answer *ret, struct err *e);
