/* search.h - what the methods share: the instance, the best placement so far, the budget (inside
 * plan/ only).
 *
 * A method writes candidates into search.v and calls search_offer(); the best one stays.  Places
 * that are forced (pins) are never changed.  Threads: one per struct search. */
#pragma once
#include "plan/eval.h"

#define SEARCH_EPS                                                                                 \
    1e-10 /* what is not better by this part is not looked for: bounds stay proven to 1e-9 */

struct search {
    const struct plan_instance *in; /* kept */
    const struct plan_options *o;   /* kept */
    struct eval v;
    struct plan_sites *pinned; /* by module; count 0: free; owned */
    struct plan_sites *best;   /* by module; owned */
    struct score best_score;
    bool found;      /* best is feasible */
    double *demand;  /* by module: sum of weight * runs over its calls */
    double *work;    /* by module: the baselines' order */
    uint32_t *order; /* modules by falling work, ties in instance order */
    bool replicas;   /* more than one place per module is allowed */
    enum plan_stopped stopped;
    uint64_t evals_end;  /* v.count at which the method stops; UINT64_MAX: never */
    uint64_t local_runs; /* of local_search(): each has random numbers of its own */
    uint64_t asked;      /* v.count when stop was last asked */
    double bound;        /* proven; -INFINITY: none */
    bool complete;       /* the whole space has been searched or ruled out */
    /* For tests, or NULL: told of each node of `exact` before it is dropped or entered.  What is
     * placed is in v.sites (count 0: open), and module is on `to` besides. */
    void (*watch)(void *ctx, uint32_t module, const struct plan_sites *to, double bound);
    void *watch_ctx;
};

bool search_init(struct search *s, const struct plan_instance *in, const struct plan_options *o,
                 struct err *e);
void search_done(struct search *s);

/* Takes the committed placement of v if it is better than the best. true: taken. */
bool search_offer(struct search *s);

/* Whether the method has to end (evaluations or the caller's stop). */
bool search_over(struct search *s);

/* Evaluations that may still be made; UINT64_MAX is as good as no limit. */
static inline uint64_t search_left(const struct search *s)
{
    return s->evals_end > s->v.count ? s->evals_end - s->v.count : 0;
}

static inline bool search_free(const struct search *s, uint32_t module)
{
    return s->pinned[module].count == 0;
}

/* The free modules by falling memory, ties in instance order; their number. */
uint32_t search_by_bytes(const struct search *s, uint32_t *to);

/* What is not below this is not looked for. */
static inline double search_ceiling(const struct search *s)
{
    return s->found ? s->best_score.value * (1 - SEARCH_EPS) : INFINITY;
}

/* ---- greedy.c ---- */

enum greedy {
    GREEDY_FASTEST,
    GREEDY_EARLIEST,
    GREEDY_LINKS,
    GREEDY_ALONE,
    GREEDY_BYTES,
    GREEDY_COUNT
};

/* Places all modules into v (not evaluated). false: *ret_module found no room; pins may be over
 * memory too, which is seen in the score. */
bool greedy_place(struct search *s, enum greedy kind, uint32_t *ret_module);

/* A placement of everything, memory exceeded where there is no room: a start for repairs. */
bool greedy_anyhow(struct search *s);

/* The greedies and each device that can hold all, all offered. */
bool greedy_best(struct search *s, struct err *e);

/* Weighted time of module on device that does not depend on other requests: runs, its inputs from
 * the source, transfers from and to the modules for which placed is true. */
double greedy_cost(const struct search *s, uint32_t module, uint32_t device, const bool *placed);

/* ---- local.c ---- */
/* Improves on the best; starts: descents, 0 = by size. */
bool local_search(struct search *s, uint64_t starts, struct err *e);

/* ---- exact.c ---- */
bool exact_search(struct search *s, struct err *e);

/* ---- auto.c ---- */
/* What makes a weak bound cut early: a short local search, where the bound is weak. */
bool search_before_tree(struct search *s, struct err *e);
bool auto_search(struct search *s, struct err *e);

/* ---- bound.c ---- */
/* A lower bound that needs no search: every request on its own best devices. */
double bound_alone(struct search *s);

/* ---- spare.c ---- */
/* Adds places to the best placement until options.redundancy devices may die, where memory allows;
 * ret->unprotected names what lacks them. */
bool spare_places(struct search *s, struct plan_result *ret, struct err *e);

/* ---- nofit.c ---- */
/* Whether memory or run times alone prove that nothing is feasible; text says what is missing. */
bool nofit_proven(struct search *s, char *text, size_t size);
/* What found no room in the best attempt, for a text that proves nothing. */
void nofit_text(struct search *s, char *text, size_t size);

/* ---- explain.c ---- */
bool explain_fill(struct search *s, struct plan_result *r, struct err *e);
