/* internal.h - what the files of coord share.
 *
 * Locking: `lock` guards the fleet, rates, moves and wishes, and is never held over the network, a
 * file transfer or a search for a plan.  `change` is held over a whole add or remove, so that these
 * go one after the other; `planning` over a plan.  Order: change, planning, lock. */
#pragma once
#include "base/sync.h"
#include "coord/coord.h"
#include "coord/fleet.h"
#include "coord/moves.h"
#include "coord/planner.h"
#include "coord/rates.h"
#include "coord/replan.h"
#include "coord/truth.h"

#include <stdatomic.h>

#define LEFT_MAX 64

struct coord {
    struct blobs *blobs;
    struct net_client *client;
    struct table_slot *slot;
    struct state *state;
    struct monitor lock;
    pthread_mutex_t change, planning;
    struct fleet fleet;
    json_t *table; /* the last published one, owned */
    bool dirty;    /* something changed that the table may depend on */
    bool replan;   /* a plan is due, as `wish` says */
    bool placing;  /* a plan is due or being made because the fleet has changed; see wire/table.h */
    struct plan_wish wish;
    char left[LEFT_MAX][WIRE_ID_MAX]; /* a ring: devices that were let go, to be told so */
    uint32_t left_next;
    uint64_t epoch; /* grows with all that a plan depends on, but for rates and measured figures */
    struct rates rates;
    struct truth truth;
    struct moves moves;
    struct allowance allowance; /* of moves that rates alone may cause */
    json_t *pins;               /* standing ones (coord/pins.h), owned */
    int redundancy;             /* so many devices may die and every module still has a place */
    char decision[MOVE_TEXT_MAX + REPLAN_TEXT_MAX]; /* of the last plan */
    json_t *(*own_usage)(void *ctx);                /* of coord_options */
    void *usage_ctx;
    int64_t grace_ns; /* after a start: devices have until then to report */
    atomic_bool stop;
    struct cancel *ending; /* fired at the stop: what is asked of devices ends */
    bool started, planner_started, truth_started;
    pthread_t watcher, planner, truth_teller;
};

/* watch.c */
void *coord_watch_run(void *coord);
/* Rebuilds the table and publishes it if it differs; called without the lock. */
void coord_publish(struct coord *c);
/* Waits until this process and all living devices work with the present table, or a later one; at
 * most so long.  Called without the lock. */
bool coord_await_table(struct coord *c, int64_t deadline_ns);
/* A device said which table it works with; called with the lock held. */
void coord_note_table(struct coord *c, struct device *d, uint64_t version);
/* Sets dirty and wakes the watcher; called with the lock held. */
void coord_touch(struct coord *c);

/* add.c */
void coord_handle_add(struct net_request *r, void *coord);
void coord_handle_remove(struct net_request *r, void *coord);
void coord_handle_upload(struct net_request *r, void *coord);
void coord_handle_have(struct net_request *r, void *coord);

/* orders.c */
void coord_handle_drain(struct net_request *r, void *coord);
void coord_handle_let_go(struct net_request *r, void *coord);
void coord_handle_make_plan(struct net_request *r, void *coord);
void coord_handle_plan(struct net_request *r, void *coord);

/* coord.c; with the lock held.  The device is no member any more and shall not join by itself. */
void coord_has_left(struct coord *c, const char *id);

/* report.c */
void coord_handle_models(struct net_request *r, void *coord);
void coord_handle_modules(struct net_request *r, void *coord);
void coord_handle_devices(struct net_request *r, void *coord);
void coord_handle_status(struct net_request *r, void *coord);
/* A model's row as `models` and `add` show it; with the lock held. */
json_t *coord_model_json(struct coord *c, const struct model_entry *m);
