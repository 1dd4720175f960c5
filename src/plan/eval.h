/* eval.h - what a placement is worth, whole and by steps (inside plan/ only).
 *
 * A struct eval holds one placement (sites), the route and time of every request under it, and the
 * bytes on every device.  The placement may be infeasible: then `over_bytes` or `bad` say by how
 * much, and searches first bring those to nothing.
 *
 * To try a change: write eval.sites[...] by eval_set(), call eval_probe() with the modules that
 * were changed, then either eval_commit() or put the sites back.  A probe leaves times and routes
 * alone.  eval_full() computes all from scratch; both agree (tested).
 *
 * Threads: one per struct eval. */
#pragma once
#include "plan/plan.h"

#include <float.h>
#include <math.h>

#define EVAL_RHO_MAX 0.95

/* Compared in this order: bytes over memory, requests without a route, value. */
struct score {
    double over_bytes;
    double bad;   /* requests without a route; for `load` also how far devices are over 0.95 */
    double value; /* of the requests that have a route */
};

struct eval {
    const struct plan_instance *in; /* kept */
    struct plan_sites *sites;       /* by module; owned */
    double *used;                   /* bytes by device, of sites */
    double over_bytes;              /* summed over devices, of sites */
    struct score now;               /* as committed */
    double *t;                      /* by request */
    uint32_t *route;                /* slot_first[q] + slot -> device */
    uint32_t *slot_first;           /* by request */
    uint32_t *user_first, *users;   /* requests that use a module, rising */
    double *rho;                    /* by device, `load` only */
    uint64_t count;                 /* placements looked at */

    /* scratch */
    double *lane; /* lane_first[d] + lane: time from which it is free */
    uint32_t *lane_first, *lane_count;
    uint32_t *stamp, epoch; /* lanes of a device whose stamp is old are all 0 */
    double *ready, *finish; /* by call */
    uint32_t *pending;      /* by call: calls that it waits for; UINT32_MAX: taken */
    uint32_t *undo_at;      /* lanes changed by a candidate route, and what they were */
    double *undo_value;
    uint32_t undo_count;
    uint32_t *pick, *best; /* by slot: index among the sites; devices of a route */
    double *saved_rho;     /* by slot */
    double *rho_new;       /* by device */
    double *route_t;       /* by candidate route; grown when needed */
    size_t route_t_size;
    double **memo;    /* by request: times by joint devices, NAN: not yet known (`latency`) */
    size_t memo_left; /* entries that may still be made */
    uint32_t *mark, mark_now;       /* by request: already looked at by this probe */
    uint32_t *touched, touched_now; /* by device */
};

bool eval_init(struct eval *v, const struct plan_instance *in, struct err *e);
void eval_done(struct eval *v); /* accepts what is half built */

/* Puts a module elsewhere; used and over_bytes follow. */
void eval_set(struct eval *v, uint32_t module, const struct plan_sites *sites);
void eval_set_one(struct eval *v, uint32_t module, uint32_t device);
void eval_set_all(struct eval *v, const struct plan_sites *sites);

/* Routes all requests and commits. false: more than PLAN_ROUTES_MAX routes or no memory. */
bool eval_full(struct eval *v, struct err *e);

/* Whether those requests have a route whose modules are placed for good, as far as others that are
 * routed before them are, too; open: by module, not placed for good.  Nothing is committed. */
bool eval_front(struct eval *v, const bool *open);

/* The score if the modules that were changed since the last commit are these. */
struct score eval_probe(struct eval *v, const uint32_t *modules, uint32_t count);
void eval_commit(struct eval *v, const uint32_t *modules, uint32_t count);

/* Time of one request alone on a route (by slot), lanes free; rho: by device, or NULL. */
double eval_alone(struct eval *v, uint32_t request, const uint32_t *route, const double *rho);

/* Time of one request alone on its best route under sites (`latency`). */
double eval_request(struct eval *v, uint32_t request);

/* Burst, request after request from 0: routes one on the lanes as they are and leaves it there;
 * 0 starts with free lanes.  eval_lanes() are all lane times, to be kept and put back. */
double eval_next(struct eval *v, uint32_t request);
double *eval_lanes(struct eval *v, size_t *ret_count);

/* Runs request q on its committed route: afterwards ready and finish are its own.  For a burst, call
 * it for all requests in order from 0. */
void eval_replay(struct eval *v, uint32_t request);

/* Routes of a request under sites; more than the limit gives the limit + 1. */
size_t eval_routes(const struct eval *v, uint32_t request);

static inline double eval_weighted(const struct plan_request *q, double t)
{
    return fmin(q->weight * t, DBL_MAX);
}

static inline bool score_feasible(struct score s)
{
    return s.over_bytes <= 0 && s.bad <= 0;
}

/* Whether a is better than b by more than rounding. */
static inline bool score_less(struct score a, struct score b)
{
    if (a.over_bytes < b.over_bytes || a.over_bytes > b.over_bytes)
        return a.over_bytes < b.over_bytes;
    if (a.bad < b.bad - 1e-9 || a.bad > b.bad + 1e-9)
        return a.bad < b.bad;
    return a.value < b.value - 1e-11 * fabs(b.value);
}
