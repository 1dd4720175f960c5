/* internal.h - what the files of gateway share. */
#pragma once
#include "base/sync.h"
#include "gateway/gateway.h"
#include "gateway/load.h"
#include "gateway/trace.h"
#include "task/model.h"
#include "task/request.h"

#include <stdatomic.h>

/* A routing table with its programs read; counted, immutable. */
struct book {
    atomic_uint refs;
    struct table *table;
    struct program ***programs; /* per model of the table; NULL where they could not be read */
    int *counts;
};

struct counters {
    atomic_ullong requests, errors; /* since start */
    atomic_ullong calls, repeats;   /* to nodes; attempts after the first */
    atomic_ullong latency_us;       /* sum over requests */
    atomic_uint under_way;
};

struct gateway {
    struct gateway_options options;
    struct load *load;
    struct traces *traces;
    struct counters counters;
    struct monitor lock; /* of the book and the usage */
    struct book *book;
    json_t *usage; /* since the last heartbeat, see wire/cluster.h */
};

/* book.c: the book of the current table (one reference), or NULL: no table yet. */
struct book *gateway_book(struct gateway *g);
void book_unref(struct book *b);
/* Index of the model, or -1. */
int book_model(const struct book *b, const char *name);

/* route.c: a device of the table for a call.  from: devices that send it tensors (indexes),
 * bytes: how much in all.  runs: of the module, for this call.  banned: one flag per device.  -1 with e set: none is left. */
int route_choose(struct gateway *g, const struct table *t, const struct table_module *m,
                 const int *from, int from_count, double bytes, double runs, const bool *banned,
                 struct err *e);
/* ms that so many bytes take from a device of the table to another, by what was measured of their link;
 * from < 0: from one that is not in the table. */
double route_transfer_ms(const struct table *t, int from, int to, double bytes);
/* For how many ms since it came a request may wait for the module to get a place, by the next table
 * or from a device that comes back: ROUTE_LOAD_MS while places are worked out or it is on its way to
 * one, ROUTE_NOTICE_MS while the coordinator may not have noticed yet that a device is gone, else 0. */
#define ROUTE_LOAD_MS 15000
#define ROUTE_NOTICE_MS (2 * CLUSTER_DEAD_MS)
int route_hope_ms(struct gateway *g, const struct table *t, const struct table_module *m);

/* flight.c: runs a program for a request. */
struct flight {
    struct gateway *gateway;
    const struct table *table;
    const struct program *program;
    const struct request *request;
    const char *id;
    bool fresh; /* no cached results */
    int64_t start_ns, deadline_ns;
    struct cancel *cancel; /* of the client */
    uint32_t *attempt; /* grows over all tables that a request is tried with: a device takes what
                          comes for an attempt that has ended for a straggler, and drops it */
    struct trace *trace;
    struct err
        *lost;   /* the last failure that a device which is gone caused; kept over all tables */
    int hope_ms; /* set when it fails: see route_hope_ms() */
    int runs;    /* set when it is answered: of what is run once per candidate (from the cache:
                    none) or token */
    double
        modelled_ms; /* set when it is answered: of its time, what the planner's model knows of */
    bool from_cache; /* set when it is answered: a cache helped, or another request's run */
};
/* *ret: the task's answer, a new reference. */
bool flight_run(struct flight *f, json_t **ret, struct err *e);

/* pipeline.c, operations.c, relay.c: handlers; ctx is the gateway. */
void gateway_handle_pipeline(struct net_request *r, void *gateway);
void gateway_handle_trace(struct net_request *r, void *gateway);
void gateway_handle_metrics(struct net_request *r, void *gateway);
void gateway_handle_health(struct net_request *r, void *gateway);
void gateway_handle_ready(struct net_request *r, void *gateway);
void gateway_handle_relay(struct net_request *r, void *gateway);
