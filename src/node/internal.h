/* internal.h - what the files of node share.
 *
 * Locking: `lock` guards the list of modules and the identity.  A held module is counted: whoever
 * runs it has a reference, so unloading waits for the last run. */
#pragma once
#include "base/sync.h"
#include "node/cache.h"
#include "node/lanes.h"
#include "node/meeting.h"
#include "node/node.h"
#include "node/times.h"
#include "store/state.h"
#include "task/prepare.h"
#include "wire/call.h"

#include <stdatomic.h>

struct held_module {
    struct held_module *next;
    struct module_report report; /* figures and state */
    struct run_times times;      /* of its calls, for report.run_ms */
    struct exec_module *module;  /* set when ready */
    uint32_t users;              /* runs under way */
    bool wanted;                 /* the table gives it to us */
    json_t *dims;                /* sizes to measure it with; owned, or NULL */
    int64_t retry_ns;            /* after a failure: not before */
};

struct node {
    struct node_options options; /* texts are owned copies */
    char *name, *data_dir, *coordinator_url, *runtime_path, *runner_path;
    struct net_client *client;
    struct table_slot *slot;
    struct blobs *blobs;
    struct state *state; /* node.db: id, figures, last table */
    struct exec *exec;
    struct lanes *lanes;
    struct cache *cache;
    struct meetings *meetings;
    struct prepare *prepare;
    double gflops; /* calibrated, with emulation */

    struct monitor lock;
    char id[WIRE_ID_MAX]; /* written once, before has_id; read through node_id() */
    atomic_bool has_id;
    char peer_url[WIRE_URL_MAX], public_url[WIRE_URL_MAX];
    struct held_module *modules;
    struct work *works; /* call.c: kept for the next calls */
    int work_count;
    struct link_report links[64]; /* measured since the last heartbeat */
    uint32_t link_count;
    struct err join_error; /* why the last join failed */
    bool joined;
    bool left; /* let go by the coordinator: no heartbeats any more */
    atomic_bool stop;
    uint64_t base_bytes; /* runner without modules */
    pthread_t pulse, loader;
    bool pulse_started, loader_started;
    pthread_mutex_t measure_lock; /* one measurement at a time: it costs memory */
};

/* modules.c */
struct held_module *node_take_module(struct node *n, const char *digest, int64_t deadline_ns,
                                     struct cancel *cancel, struct err *e);
void node_give_module(struct node *n, struct held_module *m);
void *node_loader_run(void *node);
void node_unload_all(struct node *n);
/* Fetches what is missing (a module's file or a side file) into the store. */
bool node_fetch(struct node *n, const char *digest, struct err *e);
/* Figures from node.db, else (or again) measured now, and remembered. */
bool node_measure(struct node *n, const char *digest, const json_t *dims, bool again,
                  struct module_report *ret, struct err *e);
/* Measured again, also for a module that is held: its figures are those from then on. */
bool node_measure_again(struct node *n, const char *digest, const json_t *dims,
                        struct module_report *ret, struct err *e);
/* The time of a run as it was found to be, for when the module comes here again. */
void node_keep_run_ms(struct node *n, const char *digest, double run_ms);
/* For task/prepare: content of a side file; free(). */
bool node_side_file(void *node, const char *digest, char **ret, size_t *size, struct err *e);

/* run.c: one module run on a lane, repeated when the runner dies, with emulated waiting. */
bool node_run(struct node *n, struct held_module *m, const struct named_tensor *inputs, int count,
              int64_t deadline_ns, struct cancel *cancel, struct result *ret,
              struct call_times *times, struct err *e);
/* call.c: those kept for the next calls. */
void node_free_works(struct node *n);
void node_handle_call(struct net_request *r, void *node);
void node_handle_deliver(struct net_request *r, void *node);
/* oip.c */
void node_handle_v2(struct net_request *r, void *node);
void node_handle_v2_live(struct net_request *r, void *node);
void node_handle_v2_model(struct net_request *r, void *node);
void node_handle_v2_model_ready(struct net_request *r, void *node);
void node_handle_v2_infer(struct net_request *r, void *node);

/* pulse.c */
void *node_pulse_run(void *node);
bool node_fetch_table(struct node *n, struct err *e);
/* A field of /proc/PID/smaps_rollup in bytes; 0 where the kernel does not tell. */
uint64_t node_process_memory(pid_t pid, const char *field);
/* links.c */
void node_measure_links(struct node *n);
/* calibrate.c: GFLOP/s of one lane in a plain loop; a figure to rank devices with. */
double node_calibrate(int threads);

/* Waits as a slow link would for so many bytes; nothing when no link is emulated. */
void node_emulate_link(const struct node *n, size_t bytes);
bool node_emulated(const struct node *n);

/* The body as counted memory. */
struct mem *node_body(struct net_request *r, struct err *e);
