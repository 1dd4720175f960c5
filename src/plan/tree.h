/* tree.h - what both searches of `exact` share (inside plan/ only): which devices can be exchanged,
 * whether what is left can still fit, what was left open when the search was stopped. */
#pragma once
#include "plan/search.h"

#define EXACT_MODULES_MAX 256u /* depth of the recursion */
#define NEEDS_MAX 8u           /* sizes per depth that packings are checked for */

struct child {
    double bound;
    uint32_t option;
};

/* For qsort(): by rising bound, then option. */
int tree_compare(const void *a, const void *b);

/* So many of the modules that are still to be placed have at least so many bytes. */
struct need {
    double bytes;
    uint32_t count;
};

/* What both searches share. */
struct tree {
    struct search *s;
    uint32_t *twin;       /* by device: the first device that it can be exchanged with (itself) */
    uint32_t *load_count; /* by device: modules there, pinned ones too */
    double open_bound;    /* least bound of what was left when stopped */
    double bytes_left;    /* of the modules not placed yet */
    double *least_bytes;  /* by depth: of the smallest module that is still to be placed; owned */
    uint32_t *alike; /* by module: one before it that it can be exchanged with, or itself; owned */
    struct need *needs; /* depth x NEEDS_MAX, falling bytes; count 0: no more; owned */
};

/* Afterwards no free module has a place; tree_done() also for what failed. */
bool tree_init(struct tree *t, struct search *s, struct err *e);
void tree_done(struct tree *t);

/* For each depth of the search, whose modules are placed in this order: the sizes to come; and which
 * modules can be exchanged: those that no request uses, of the same size, that run on the same devices. */
bool tree_needs(struct tree *t, const uint32_t *order, uint32_t count, struct err *e);

/* Whether what is left may still fit. */
bool tree_may_fit(const struct tree *t, uint32_t depth);

/* Whether the module may be put there: room, no empty twin of the device before it, and not before
 * the module that it can be exchanged with. */
bool tree_allowed(const struct tree *t, uint32_t m, uint32_t d);

void tree_put(struct tree *t, uint32_t m, const struct plan_sites *to);
void tree_take_back(struct tree *t, uint32_t m);

/* Everything is placed: offered. */
bool tree_leaf(struct tree *t, struct err *e);

/* Whether the search has to end; if so, notes what is not searched any more. */
bool tree_stopped(struct tree *t, double bound);

/* What the end of a search says about the bound. */
void tree_conclude(const struct tree *t, double root);

/* ---- exact.c ---- */
/* Nodes that may wait, from there on it goes depth first; and the number of last modules that are
 * always searched depth first, which costs less per node. */
struct open_effort {
    size_t waiting;
    uint32_t dive;
};

/* For all objectives, on at most RELAX_DEVICES_MAX devices, with or without something feasible; the
 * least value whatever the effort is. */
bool open_search(struct search *s, struct open_effort effort, struct err *e);

/* ---- exact_tables.c ---- */
/* Nodes that a depth-first search may take before its subproblem is branched: the one on the whole,
 * and each on a part; sweeps of one round for the bound of the whole and of a part; entries up to which
 * tables are put together. */
struct table_effort {
    uint64_t first, later;
    uint32_t root_sweeps, sweeps, merge;
};

/* For objective `latency`, one place per module, with something feasible or nothing in s; the least
 * value whatever the effort is.  e->code ERR_TOO_LARGE: the tables would be too
 * large; nothing has been done. */
bool table_search(struct search *s, struct table_effort effort, struct err *e);
