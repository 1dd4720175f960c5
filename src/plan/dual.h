/* dual.h - a lower bound for objective `latency` with one place per module (inside plan/ only).
 *
 * Problem: minimise  sum_f F_f(y restricted to f)  over y (a device for each free module) with
 * sum_m bytes_m [y_m = d] <= room_d.  A factor f is one request, or several put together, with a
 * table of weight * T for every joint choice of its modules; a choice that needs more memory than a
 * device has counts as infinite.
 *
 * Bound: for any numbers lambda and any prices p_md >= 0,
 *     sum_f F_f(y) >= sum_f G_f(y) + sum_m U_m(y_m) - sum_d K_d      for feasible y, with
 *     G_f(y) = F_f(y) + sum_m lambda_fm(y_m),  U_m(d) = p_md - sum_f lambda_fm(d),
 *     K_d = the most that the prices of modules that fit together into room_d can add up to,
 * because the lambdas cancel and a feasible y puts on each d modules whose prices add up to at most
 * K_d.  The minimum of the right side over y is at least the sum of the minima of its terms: that is
 * the bound.  Whatever lambda and p are, it holds.
 *
 * Better lambda (dual_ascent.c): a factor takes what its modules have, and gives each an equal part
 * of the least that its options cost there; neither step lowers the bound.  Better p: subgradient
 * steps, dearer where a module wants to be and is not in the best packing, cheaper where it is
 * packed and does not want to be.
 *
 * Fewer options (dual_shrink.c): the same sum with y_m = d forced bounds all placements that have m
 * on d.  Where that reaches the best value known, the option is dropped for good, tables shrink, and
 * small ones are put together, which brings the sum of minima closer to the minimum of the sum.
 * What is dropped holds no placement better than the best one, so the search stays exact.
 *
 * Tables are laid out with the modules in search order, first one most significant, so that
 * prefix[j] (minima over the modules from j on) serve a depth-first search. */
#pragma once
#include "plan/knapsack.h"
#include "plan/search.h"

#define DUAL_FACTOR_MAX (1u << 18) /* entries of one table */
#define DUAL_ALL_MAX (3u << 20)    /* entries of all */
#define DUAL_MERGE_MAX (1u << 14)  /* entries of a table put together, at most */
#define DUAL_SLOTS_MAX 64u         /* modules of one table */
#define DUAL_SCALE_FIRST 0.15      /* of the step that would close the gap at once */
#define DUAL_SCALE_LEAST 0.002     /* shorter steps bring nothing any more */

struct dual_factor {
    uint32_t count;  /* modules */
    uint32_t *at;    /* their places in dual.order, rising; owned */
    size_t size;     /* entries */
    double *cost;    /* F; owned */
    double *lambda;  /* count x device_count, by option; owned */
    double **prefix; /* count + 1 tables of G; owned, NULL until dual_prefixes() */
};

struct dual_module {
    uint32_t module;
    uint32_t option_count; /* 0: nothing better than the best known is left */
    uint32_t *option;      /* devices, rising; owned */
    double *u;             /* U by option; owned */
    double least_u;        /* with the prefixes, as are the factors */
    uint32_t factor_count;
    uint32_t *factor; /* that hold it; owned */
};

struct dual {
    struct search *s;
    uint32_t count;            /* free modules */
    struct dual_module *order; /* in search order; owned */
    uint32_t factor_count;
    struct dual_factor *factors;  /* owned */
    double *room;                 /* by device: bytes for free modules; owned */
    double *price;                /* place in order x device: p; owned */
    double constant;              /* requests without free modules */
    double bound;                 /* proven, for what is left of the options */
    double scale;                 /* of the next step on prices */
    struct dual_scratch *scratch; /* shared by copies; kept */
};

/* Work space of the folder's ascent and shrinking; its content lasts for one call. */
struct dual_scratch {
    double *work;          /* largest table */
    double *delta, *least; /* DUAL_SLOTS_MAX x device_count */
    double *push;          /* place in order x device: smoothed price step */
    bool *packed;          /* the same: in the best packing of that device */
    double *packing;       /* by device: K_d */
    double *value, *bytes; /* by place in order */
    double *used;          /* by device */
    uint32_t *chosen;      /* by place: option */
    double *cond;          /* place x option: bound with that option forced */
    bool *unused;          /* by place */
    struct knapsack knapsack;
};

/* ---- dual.c ---- */

/* false with e->code ERR_TOO_LARGE: the tables would be too large, or the method has to end. */
bool dual_init(struct dual *d, struct search *s, struct err *e);
void dual_done(struct dual *d);

/* The scratch of d, which must outlive all copies of d. */
bool dual_scratch_init(struct dual *d, struct err *e);
void dual_scratch_done(struct dual *d);

/* A copy with a state of its own, without prefixes. */
bool dual_copy(struct dual *to, const struct dual *from, struct err *e);

/* Puts tables together as long as a whole has at most limit entries or is no larger than a part. */
bool dual_merge(struct dual *d, size_t limit, struct err *e);

/* Splits an entry's index into options, last module fastest. */
void dual_unpack(const struct dual *d, const struct dual_factor *f, size_t index, uint32_t *y);

/* The memory that a copy takes, in doubles. */
size_t dual_size(const struct dual *d);

/* Fills prefix and least_u for a depth-first search. */
bool dual_prefixes(struct dual *d, struct err *e);
void dual_drop_prefixes(struct dual *d);

/* ---- dual_ascent.c ---- */

/* least[j][o] = the least entry of cost + sum of delta with module j of f at option o. */
void dual_least(const struct dual *d, const struct dual_factor *f, const double *delta,
                double *least);

/* u anew from lambda and p, then packings and the proven bound of now, which is returned. */
double dual_bound_now(struct dual *d);

/* Up to so many sweeps, or until the bound reaches target: then lambda, p and bound are the best
 * that were seen. */
bool dual_improve(struct dual *d, uint32_t sweeps, double target, struct err *e);

/* ---- dual_shrink.c ---- */

/* Drops options that can't be part of anything below target; *ret_dropped: how many.  When one
 * module has none left, bound is INFINITY. */
bool dual_shrink(struct dual *d, double target, uint32_t *ret_dropped, struct err *e);

/* Leaves a module only the option given; at = count: leaves all, takes out choices that don't fit. */
bool dual_fix(struct dual *d, uint32_t at, uint32_t option, struct err *e);
