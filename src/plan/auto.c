/* auto.c - picks the methods by size.
 *
 * Small and middle: greedies, then branch and bound on a budget of nodes, then local search if that
 * did not finish.  Where the bound is weak (all but latency without replicas) a short local search
 * comes first: the clock may strike before the budget ends.  Large: greedies, one local descent, a bound without a
 * search.  The budgets are counts, not times, so that the plan is the same on every machine as long
 * as the caller's clock does not strike first. */
#include "plan/search.h"

#define EXACT_CELLS_MAX 1024u      /* modules x devices */
#define TREE_EVALS_TABLES 2500000u /* nodes of branch and bound, by objective */
#define TREE_EVALS_OPEN 300000u
#define FIRST_STARTS 4u
#define MORE_STARTS 8u

/* exact_search() that ends after so many evaluations without ending the method. */
static bool budgeted_exact(struct search *s, uint64_t evals, struct err *e)
{
    uint64_t end = s->evals_end;
    bool ours = search_left(s) > evals;
    if (ours)
        s->evals_end = s->v.count + evals;
    bool ok = exact_search(s, e);
    if (ours && s->stopped == PLAN_STOPPED_EVALUATIONS)
        s->stopped = PLAN_NOT_STOPPED;
    s->evals_end = end;
    return ok;
}

/* Whether requests are tables of times, with a strong bound. */
static bool has_tables(const struct search *s)
{
    return s->in->objective == PLAN_LATENCY && !s->replicas;
}

bool search_before_tree(struct search *s, struct err *e)
{
    return has_tables(s) || local_search(s, FIRST_STARTS, e);
}

bool auto_search(struct search *s, struct err *e)
{
    const struct plan_instance *in = s->in;
    size_t cells = (size_t)in->module_count * in->device_count;
    if (!greedy_best(s, e))
        return false;
    s->bound = bound_alone(s);
    if (cells > EXACT_CELLS_MAX)
        return local_search(s, 0, e);
    if (!search_before_tree(s, e) ||
        !budgeted_exact(s, has_tables(s) ? TREE_EVALS_TABLES : TREE_EVALS_OPEN, e))
        return false;
    return s->complete || search_over(s) || local_search(s, MORE_STARTS, e);
}
