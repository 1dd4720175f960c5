/* dual.h - a lower bound for objective `latency` with one place per module (inside plan/ only).
 *
 * Problem: minimise  sum_f F_f(y restricted to f)  over y (a device for each free module) with
 * sum_m bytes_m [y_m = d] <= room_d.  A factor f is one request, or several put together, with a
 * table of weight * T for every joint choice of its modules.
 *
 * Bound: for any numbers lambda and any prices p_md >= 0,
 *     sum_f F_f(y) >= sum_f G_f(y) + sum_m U_m(y_m) - sum_d K_d      for feasible y, with
 *     G_f(y) = F_f(y) - sum_m lambda_fm(y_m),  U_m(d) = sum_f lambda_fm(d) + p_md,
 *     K_d = the most that the prices of modules that fit together into room_d can add up to,
 * because the lambdas cancel and a feasible y puts on each d modules whose prices add up to at most
 * K_d.  The minimum of the right side over y is at least the sum of the minima of its terms: that is
 * the bound.  lambda is improved by diffusion (each module's minima are shared out evenly among its
 * factors, which never lowers the bound), p by subgradient steps: dearer where a module wants to be
 * and is not in the best packing, cheaper where it is and does not want to be.  Whatever they are,
 * the bound holds.
 *
 * Tables are laid out with the modules in search order, first one most significant, so that
 * prefix[j] (minima over the modules from j on) serve a depth-first search. */
#pragma once
#include "plan/knapsack.h"
#include "plan/search.h"

#define DUAL_FACTOR_MAX (1u << 18) /* entries of one table */
#define DUAL_ALL_MAX (3u << 20)    /* entries of all */
#define DUAL_BIG 1e200             /* stands for infinite, without becoming NaN in differences */

struct dual_factor {
    uint32_t count;  /* modules */
    uint32_t *at;    /* their places in dual.order, rising; owned */
    size_t size;     /* entries */
    double *g;       /* owned */
    double **prefix; /* count + 1 tables; the last one is g; owned */
};

struct dual_module {
    uint32_t module;
    uint32_t option_count;
    uint32_t *option; /* devices; owned */
    double *u;        /* by option; owned */
    double least_u;
    uint32_t factor_count;
    uint32_t *factor; /* owned */
    uint32_t chosen;  /* option in the last decoded y */
};

struct dual {
    struct search *s;
    uint32_t count;            /* free modules */
    struct dual_module *order; /* in search order; owned */
    uint32_t factor_count;
    struct dual_factor *factors; /* owned */
    double *room;                /* by device: bytes for free modules; owned */
    double *price, *push;        /* place in order x device: p, and its smoothed step; owned */
    bool *packed;                /* the same: in the best packing of that device; owned */
    double packings;             /* sum of K_d */
    double constant;             /* requests without free modules */
    double bound;
    struct knapsack knapsack;
    double *scratch; /* by device, or place in order */
};

/* false with e->code ERR_TOO_LARGE: the tables would be too large. */
bool dual_init(struct dual *d, struct search *s, struct err *e);
void dual_done(struct dual *d);

/* Improves the bound up to so many sweeps, or until it reaches target; then fills prefix. */
bool dual_improve(struct dual *d, uint32_t sweeps, double target, struct err *e);
