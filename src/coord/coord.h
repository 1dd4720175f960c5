/* coord.h - the coordinator: devices, models, placement, the routing table.
 *
 * It decides and is not on the path of a request.  Everything that it was told survives its death
 * (store/state.h); nodes and gateways go on with the last table meanwhile.
 *
 * User routes (models, modules, devices, status, uploads) are served on both listeners, so that the
 * gateways of other devices can relay to them; cluster routes (join, heartbeat, table, blobs) on
 * the peer listener only.
 *
 * Threads: handlers run on the server's threads; one thread watches for deaths and publishes, one
 * plans. */
#pragma once
#include "net/client.h"
#include "net/server.h"
#include "store/blobs.h"
#include "wire/table_slot.h"

struct coord;

struct coord_options {
    const char *data_dir;
    struct blobs *blobs;       /* borrowed */
    struct net_client *client; /* borrowed */
    struct table_slot *slot;   /* the process's own table; borrowed */
    const json_t *pins;        /* standing ones, {"MODULE": ["DEVICE"]}; may be NULL */
    int redundancy;            /* so many devices may die and every module still has a place */
    /* Requests since the last call as in struct heartbeat, for a process that has no node to report
     * them; a new reference or NULL.  May be NULL itself. */
    json_t *(*own_usage)(void *ctx);
    void *usage_ctx;
};

bool coord_create(const struct coord_options *o, struct coord **ret, struct err *e);
const struct net_route *coord_user_routes(int *count);
const struct net_route *coord_cluster_routes(int *count); /* ctx of both: the coordinator */

/* url: the peer listener that others reach it by.  The listener must be up. */
bool coord_start(struct coord *c, const char *url, struct err *e);
void coord_stop(struct coord *c);
void coord_free(struct coord *c); /* after the listeners have stopped */
