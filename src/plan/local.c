/* local.c - improves a placement by small changes until none helps, from several starts.
 *
 * A module's neighbours are its place list with one place moved and, with replicas, one added or
 * dropped.  A descent takes, module by module, the best neighbour (move), then exchanges the places
 * of two modules (swap), then changes two modules at once in every way (pairs), which is what finds
 * the way out where memory is tight.  A start may be infeasible: scores compare missing bytes first,
 * so the same descent repairs it.
 *
 * Starts: the best so far, then in turn a random placement and a kick (a few modules of the best one
 * thrown elsewhere).  On large instances only the few most promising devices of a module are tried,
 * and pairs are left out. */
#include "plan/search.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define PAIR_CELLS_MAX 320u /* modules x devices up to which all pairs of changes are tried */
#define SWAP_MODULES_MAX 400u
#define WIDE_CELLS 4096u /* modules x devices from which a module tries few devices only */
#define WIDE_DEVICES 6u
#define RANDOM_STEP 0x9e3779b97f4a7c15u /* between the seeds of several runs */
#define MIDDLE_CELLS 256u
#define STARTS_SMALL 120u
#define STARTS_MIDDLE 8u
#define STARTS_LARGE 1u
#define REPLICA_ROUTES_MAX 4096u   /* routes of one request that the search makes */
#define SIMULATIONS_MAX 40000000.0 /* requests simulated in all, when the caller sets no limit */

struct local {
    struct search *s;
    uint64_t random;
    struct plan_sites *first, *second; /* neighbours of two modules */
    uint32_t room;                     /* entries in each */
    bool *placed;                      /* all true, for greedy_cost() */
    double *cost;                      /* by device */
};

static uint32_t below(struct local *l, uint32_t n)
{
    return (uint32_t)(num_random(&l->random) % n);
}

/* ---- neighbours ---- */

static bool holds(const struct plan_sites *s, uint32_t device)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (s->device[i] == device)
            return true;
    return false;
}

/* skip: index of the place to leave out, or UINT32_MAX; add: device to put in, or UINT32_MAX. */
static struct plan_sites changed(const struct plan_sites *s, uint32_t skip, uint32_t add)
{
    struct plan_sites to = {0};
    for (uint32_t i = 0; i < s->count; i++) {
        if (add != UINT32_MAX && s->device[i] > add) {
            to.device[to.count++] = add;
            add = UINT32_MAX;
        }
        if (i != skip)
            to.device[to.count++] = s->device[i];
    }
    if (add != UINT32_MAX)
        to.device[to.count++] = add;
    return to;
}

static void add_neighbours(struct local *l, uint32_t m, uint32_t d, struct plan_sites *to,
                           uint32_t *count)
{
    const struct plan_sites *now = &l->s->v.sites[m];
    if (holds(now, d) || !plan_may(l->s->in, m, d))
        return;
    for (uint32_t i = 0; i < now->count && *count < l->room; i++)
        to[(*count)++] = changed(now, i, d);
    if (l->s->replicas && now->count < PLAN_REPLICAS_MAX && *count < l->room)
        to[(*count)++] = changed(now, UINT32_MAX, d);
}

static uint32_t all_neighbours(struct local *l, uint32_t m, struct plan_sites *to)
{
    const struct plan_sites *now = &l->s->v.sites[m];
    uint32_t count = 0;
    for (uint32_t d = 0; d < l->s->in->device_count; d++)
        add_neighbours(l, m, d, to, &count);
    for (uint32_t i = 0; now->count > 1 && i < now->count && count < l->room; i++)
        to[count++] = changed(now, i, UINT32_MAX);
    return count;
}

/* Of many devices the few with the least cost as far as the module alone can tell. */
static uint32_t few_neighbours(struct local *l, uint32_t m, struct plan_sites *to)
{
    const struct plan_instance *in = l->s->in;
    uint32_t count = 0;
    for (uint32_t d = 0; d < in->device_count; d++)
        l->cost[d] = plan_may(in, m, d) && (in->modules[m].memory_bytes <=
                                                in->devices[d].memory_bytes - l->s->v.used[d] ||
                                            l->s->v.over_bytes > 0)
                         ? greedy_cost(l->s, m, d, l->placed)
                         : INFINITY;
    for (uint32_t i = 0; i < WIDE_DEVICES; i++) {
        uint32_t best = 0;
        for (uint32_t d = 1; d < in->device_count; d++)
            if (l->cost[d] < l->cost[best])
                best = d;
        if (!isfinite(l->cost[best]))
            break;
        l->cost[best] = INFINITY;
        add_neighbours(l, m, best, to, &count);
    }
    return count;
}

/* ---- trying ---- */

static bool routes_ok(const struct local *l, uint32_t m)
{
    const struct eval *v = &l->s->v;
    if (v->sites[m].count == 1)
        return true;
    for (uint32_t k = v->user_first[m]; k < v->user_first[m + 1]; k++)
        if (eval_routes(v, v->users[k]) > REPLICA_ROUTES_MAX)
            return false;
    return true;
}

/* Whether the changed placement is better than *best; memory is looked at first. */
static bool better(struct local *l, const uint32_t *modules, uint32_t count, struct score *best)
{
    struct eval *v = &l->s->v;
    if (v->over_bytes > best->over_bytes)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (!routes_ok(l, modules[i]))
            return false;
    struct score score = eval_probe(v, modules, count);
    if (!score_less(score, *best))
        return false;
    *best = score;
    return true;
}

static bool move(struct local *l, uint32_t m)
{
    struct eval *v = &l->s->v;
    const struct plan_instance *in = l->s->in;
    bool wide = (size_t)in->module_count * in->device_count > WIDE_CELLS;
    uint32_t count = wide ? few_neighbours(l, m, l->first) : all_neighbours(l, m, l->first);
    struct plan_sites before = v->sites[m];
    struct score best = v->now;
    uint32_t chosen = UINT32_MAX;
    for (uint32_t i = 0; i < count && !search_over(l->s); i++) {
        eval_set(v, m, &l->first[i]);
        if (better(l, &m, 1, &best))
            chosen = i;
    }
    eval_set(v, m, chosen == UINT32_MAX ? &before : &l->first[chosen]);
    if (chosen != UINT32_MAX)
        eval_commit(v, &m, 1);
    return chosen != UINT32_MAX;
}

/* Both on one place each: the places are exchanged. */
static bool swap(struct local *l, uint32_t a, uint32_t b)
{
    struct eval *v = &l->s->v;
    const struct plan_instance *in = l->s->in;
    uint32_t pair[2] = {a, b};
    if (v->sites[a].count != 1 || v->sites[b].count != 1)
        return false;
    uint32_t x = v->sites[a].device[0], y = v->sites[b].device[0];
    if (x == y || !plan_may(in, a, y) || !plan_may(in, b, x))
        return false;
    struct score best = v->now;
    eval_set_one(v, a, y);
    eval_set_one(v, b, x);
    if (better(l, pair, 2, &best)) {
        eval_commit(v, pair, 2);
        return true;
    }
    eval_set_one(v, a, x);
    eval_set_one(v, b, y);
    return false;
}

/* Every change of a with every change of b; the best is taken. */
static bool both(struct local *l, uint32_t a, uint32_t b)
{
    struct eval *v = &l->s->v;
    uint32_t pair[2] = {a, b}, chosen[2] = {UINT32_MAX, UINT32_MAX};
    uint32_t n = all_neighbours(l, a, l->first), k = all_neighbours(l, b, l->second);
    struct plan_sites before_a = v->sites[a], before_b = v->sites[b];
    struct score best = v->now;
    for (uint32_t i = 0; i < n; i++) {
        eval_set(v, a, &l->first[i]);
        for (uint32_t j = 0; j < k && !search_over(l->s); j++) {
            eval_set(v, b, &l->second[j]);
            if (better(l, pair, 2, &best)) {
                chosen[0] = i;
                chosen[1] = j;
            }
        }
        eval_set(v, b, &before_b);
    }
    bool found = chosen[0] != UINT32_MAX;
    eval_set(v, a, found ? &l->first[chosen[0]] : &before_a);
    eval_set(v, b, found ? &l->second[chosen[1]] : &before_b);
    if (found)
        eval_commit(v, pair, 2);
    return found;
}

/* ---- descents ---- */

static bool all_moves(struct local *l)
{
    bool any = false;
    for (uint32_t i = 0; i < l->s->in->module_count && !search_over(l->s); i++)
        if (search_free(l->s, l->s->order[i]))
            any |= move(l, l->s->order[i]);
    return any;
}

static bool all_pairs(struct local *l, bool (*change)(struct local *, uint32_t, uint32_t))
{
    const struct search *s = l->s;
    bool any = false;
    for (uint32_t i = 0; i < s->in->module_count; i++)
        for (uint32_t k = i + 1; k < s->in->module_count && !search_over(l->s); k++)
            if (search_free(s, s->order[i]) && search_free(s, s->order[k]))
                any |= change(l, s->order[i], s->order[k]);
    return any;
}

static void descend(struct local *l)
{
    const struct plan_instance *in = l->s->in;
    bool pairs = (size_t)in->module_count * in->device_count <= PAIR_CELLS_MAX;
    bool again = true;
    while (again && !search_over(l->s)) {
        again = all_moves(l);
        if (!again && in->module_count <= SWAP_MODULES_MAX)
            again = all_pairs(l, swap);
        if (!again && pairs)
            again = all_pairs(l, both);
        search_offer(l->s);
    }
    search_offer(l->s);
}

/* ---- starts ---- */

/* A device that can run the module, with room for it if one of a few tries has it. */
static uint32_t random_device(struct local *l, uint32_t m)
{
    const struct plan_instance *in = l->s->in;
    uint32_t found = l->s->v.sites[m].device[0];
    for (int i = 0; i < 12; i++) {
        uint32_t d = below(l, in->device_count);
        if (!plan_may(in, m, d))
            continue;
        found = d;
        if (in->modules[m].memory_bytes <= in->devices[d].memory_bytes - l->s->v.used[d])
            break;
    }
    return found;
}

static bool scatter(struct local *l, struct err *e)
{
    const struct search *s = l->s;
    for (uint32_t m = 0; m < s->in->module_count; m++)
        if (search_free(s, m))
            eval_set_one(&l->s->v, m, random_device(l, m));
    return eval_full(&l->s->v, e);
}

static bool kick(struct local *l, struct err *e)
{
    const struct search *s = l->s;
    uint32_t many = 2 + below(l, 2 + s->in->module_count / 6);
    if (s->found)
        eval_set_all(&l->s->v, s->best);
    for (uint32_t i = 0; i < many; i++) {
        uint32_t m = below(l, s->in->module_count);
        if (search_free(s, m))
            eval_set_one(&l->s->v, m, random_device(l, m));
    }
    return eval_full(&l->s->v, e);
}

static uint64_t starts_by_size(const struct plan_instance *in)
{
    size_t cells = (size_t)in->module_count * in->device_count;
    if (cells <= MIDDLE_CELLS && in->objective == PLAN_LATENCY) /* which is quick to evaluate */
        return STARTS_SMALL;
    return cells <= 64 ? STARTS_SMALL : cells <= WIDE_CELLS ? STARTS_MIDDLE : STARTS_LARGE;
}

/* So many placements that a search without a limit ends in seconds. */
static uint64_t default_evals(const struct search *s)
{
    const struct plan_instance *in = s->in;
    double each = in->objective == PLAN_LATENCY
                      ? 1 + s->v.user_first[in->module_count] / (double)in->module_count
                      : 8.0 * (1 + in->request_count);
    return (uint64_t)(SIMULATIONS_MAX / each);
}

static bool run_starts(struct local *l, uint64_t starts, struct err *e)
{
    struct search *s = l->s;
    if (s->found)
        eval_set_all(&s->v, s->best);
    else if (!greedy_anyhow(s))
        return true; /* a module that can run nowhere */
    if (!eval_full(&s->v, e))
        return false;
    for (uint64_t i = 0; i < starts && !search_over(s); i++) {
        if (i > 0 && !(i % 2 == 0 ? scatter(l, e) : kick(l, e)))
            return false;
        descend(l);
    }
    return true;
}

bool local_search(struct search *s, uint64_t starts, struct err *e)
{
    const struct plan_instance *in = s->in;
    size_t cells = (size_t)in->module_count * in->device_count;
    uint32_t each = s->replicas ? PLAN_REPLICAS_MAX : 4;
    struct local l = {.s = s, .random = s->o->seed + s->local_runs++ * RANDOM_STEP};
    uint64_t end = s->evals_end, own = default_evals(s);
    for (uint32_t m = 0; m < in->module_count; m++)
        each = s->pinned[m].count + 2 > each ? s->pinned[m].count + 2 : each;
    l.room = (cells > WIDE_CELLS ? WIDE_DEVICES : in->device_count) * each + PLAN_REPLICAS_MAX;
    l.first = calloc(l.room, sizeof(*l.first));
    l.second = calloc(l.room, sizeof(*l.second));
    l.placed = malloc(in->module_count);
    l.cost = calloc(in->device_count, sizeof(*l.cost));
    bool ok = l.first && l.second && l.placed && l.cost;
    if (ok) {
        for (uint32_t m = 0; m < in->module_count; m++)
            l.placed[m] = true;
        if (search_left(s) > own)
            s->evals_end = s->v.count + own;
        ok = run_starts(&l, starts ? starts : starts_by_size(in), e);
        /* Our own limit is the end of this search, not of the method. */
        if (s->evals_end != end && s->stopped == PLAN_STOPPED_EVALUATIONS)
            s->stopped = PLAN_NOT_STOPPED;
        s->evals_end = end;
    } else {
        err_set(e, ERR_MEMORY, "no memory for a local search");
    }
    free(l.first);
    free(l.second);
    free(l.placed);
    free(l.cost);
    return ok;
}
