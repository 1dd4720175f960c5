/* auto.c - picks the methods by size.
 *
 * Small and middle: greedies, a short local search, then branch and bound on a budget of nodes, then
 * more local search if that did not finish.  Large: greedies, one local descent, a bound without a
 * search.  The budgets are counts, not times, so that the plan is the same on every machine as long
 * as the caller's clock does not strike first. */
#include "plan/search.h"

#define EXACT_CELLS_MAX 1024u      /* modules x devices */
#define TREE_EVALS_TABLES 2500000u /* nodes of branch and bound, by objective */
#define TREE_EVALS_OPEN 300000u
#define MORE_STARTS 8u

/* exact_search() that ends after so many evaluations without ending the method. */
static bool budgeted_exact(struct search *s, uint64_t evals, struct err *e)
{
    uint64_t end = s->evals_end;
    bool ours = end - s->v.count > evals;
    if (ours)
        s->evals_end = s->v.count + evals;
    bool ok = exact_search(s, e);
    if (ours && s->stopped == PLAN_STOPPED_EVALUATIONS)
        s->stopped = PLAN_NOT_STOPPED;
    s->evals_end = end;
    return ok;
}

bool auto_search(struct search *s, struct err *e)
{
    const struct plan_instance *in = s->in;
    size_t cells = (size_t)in->module_count * in->device_count;
    bool tables = in->objective == PLAN_LATENCY && !s->replicas;
    if (!greedy_best(s, e))
        return false;
    s->bound = bound_alone(s);
    if (cells > EXACT_CELLS_MAX)
        return local_search(s, 0, e);
    if (!budgeted_exact(s, tables ? TREE_EVALS_TABLES : TREE_EVALS_OPEN, e))
        return false;
    return s->complete || search_over(s) || local_search(s, MORE_STARTS, e);
}
