/* internal.h - what the files of coord share.
 *
 * Locking: `lock` guards the fleet and is never held over the network or a file transfer.
 * `change` is held over a whole add or remove, so that these go one after the other. */
#pragma once
#include "base/sync.h"
#include "coord/coord.h"
#include "coord/fleet.h"

struct coord {
    struct blobs *blobs;
    struct net_client *client;
    struct table_slot *slot;
    struct state *state;
    struct monitor lock;
    pthread_mutex_t change;
    struct fleet fleet;
    json_t *table;    /* the last published one, owned */
    bool dirty;       /* something changed that the table may depend on */
    bool replan;      /* a device came or went: places may have to change */
    int64_t grace_ns; /* after a start: devices have until then to report */
    bool stop, started;
    pthread_t watcher;
};

/* watch.c */
void *coord_watch_run(void *coord);
/* Rebuilds the table and publishes it if it differs; called without the lock. */
void coord_publish(struct coord *c);
/* Sets dirty and wakes the watcher; called with the lock held. */
void coord_touch(struct coord *c);

/* planner.c; with the lock held.  Chooses places for all modules.  keep: modules with a living
 * place stay there.  partial: leave out models that don't fit rather than fail. */
bool coord_plan(struct coord *c, bool keep, bool partial, struct err *e);
/* After a device came: adopts a new plan only if it gains more than PLAN_GAIN_MIN, or places what
 * had no place. */
bool coord_replan_join(struct coord *c, struct err *e);

/* add.c */
void coord_handle_add(struct net_request *r, void *coord);
void coord_handle_remove(struct net_request *r, void *coord);
void coord_handle_upload(struct net_request *r, void *coord);
void coord_handle_have(struct net_request *r, void *coord);

/* report.c */
void coord_handle_models(struct net_request *r, void *coord);
void coord_handle_modules(struct net_request *r, void *coord);
void coord_handle_devices(struct net_request *r, void *coord);
void coord_handle_status(struct net_request *r, void *coord);
/* A model's row as `models` and `add` show it; with the lock held. */
json_t *coord_model_json(struct coord *c, const struct model_entry *m);
