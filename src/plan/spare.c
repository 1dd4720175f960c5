/* spare.c - places beyond the first: so that devices may die.
 *
 * Module by module, small ones first, each where it costs least: so the most of them are protected
 * and the places of the plan stay.  Where that leaves modules without, all ways of packing are
 * tried in order of cost, first beside the places of the plan, then with those given up, too: to
 * survive comes before to be fast.  Branch and bound over how many are protected: at its end no
 * placement protects more.  It ends early at PACK_NODES_MAX, at SPARE_WORK_MOST and, a little later
 * than what the caller's stop says, by the clock. */
#include "plan/search.h"

#include <stdlib.h>
#include <string.h>

#define SPARE_ROUTES_MAX 4096u /* routes of one request with spare places */
#define SPARE_CHECK_MAX                                                                            \
    (1u << 19) /* requests x modules: so far every spare place is tried at once */
#define PACK_NODES_MAX 200000u
#define SPARE_WORK_LEAST 60000u /* routes tried, some 60 ms, before the clock is asked */
#define SPARE_WORK_MOST 1000000u
#define PACK_CELLS_MAX 32768u /* modules x devices */
#define PACK_PLACES_MAX 1024u /* in all: as deep is the recursion */

static bool has_site(const struct plan_sites *s, uint32_t device)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (s->device[i] == device)
            return true;
    return false;
}

static bool has_room(const struct search *s, uint32_t module, uint32_t device)
{
    return plan_may(s->in, module, device) &&
           s->in->modules[module].memory_bytes <=
               s->in->devices[device].memory_bytes - s->v.used[device];
}

static bool routes_ok(const struct search *s, uint32_t module)
{
    const struct eval *v = &s->v;
    for (uint32_t k = v->user_first[module]; k < v->user_first[module + 1]; k++)
        if (eval_routes(v, v->users[k]) > SPARE_ROUTES_MAX)
            return false;
    return true;
}

static struct plan_sites with_site(const struct plan_sites *s, uint32_t device)
{
    struct plan_sites more = {.count = s->count + 1};
    uint32_t at = 0;
    while (at < s->count && s->device[at] < device)
        at++;
    memcpy(more.device, s->device, at * sizeof(uint32_t));
    more.device[at] = device;
    memcpy(more.device + at + 1, s->device + at, (s->count - at) * sizeof(uint32_t));
    return more;
}

/* Whether every request still has a route with this place besides; it stays if so. */
static bool try_spare(struct search *s, uint32_t module, uint32_t device, struct err *e)
{
    struct plan_sites before = s->v.sites[module], after = with_site(&before, device);
    eval_set(&s->v, module, &after);
    bool ok = routes_ok(s, module);
    if (ok && (uint64_t)s->in->request_count * s->in->module_count <= SPARE_CHECK_MAX)
        ok = eval_full(&s->v, e) && score_feasible(s->v.now);
    if (!ok)
        eval_set(&s->v, module, &before);
    return ok;
}

/* One more place for a module where it costs least; false: nowhere.  tried: by device, scratch. */
static bool add_spare(struct search *s, uint32_t module, const bool *placed, bool *tried,
                      struct err *e)
{
    const struct plan_instance *in = s->in;
    memset(tried, 0, in->device_count);
    while (s->v.sites[module].count < PLAN_REPLICAS_MAX) {
        uint32_t best = UINT32_MAX;
        double least = INFINITY;
        for (uint32_t d = 0; d < in->device_count; d++) {
            if (tried[d] || has_site(&s->v.sites[module], d) || !has_room(s, module, d))
                continue;
            double cost = greedy_cost(s, module, d, placed);
            if (best == UINT32_MAX || cost < least) {
                best = d;
                least = cost;
            }
        }
        if (best == UINT32_MAX)
            return false;
        if (try_spare(s, module, best, e))
            return true;
        tried[best] = true;
    }
    return false;
}

/* What redundancy asks for, but no more than there are devices for the module. */
static uint32_t wanted(const struct search *s, uint32_t module)
{
    uint32_t can = 0;
    for (uint32_t d = 0; d < s->in->device_count; d++)
        can += plan_may(s->in, module, d);
    return can < (uint32_t)s->o->redundancy + 1 ? can : (uint32_t)s->o->redundancy + 1;
}

static bool all_protected(const struct search *s)
{
    for (uint32_t m = 0; m < s->in->module_count; m++)
        if (search_free(s, m) && s->v.sites[m].count < wanted(s, m))
            return false;
    return true;
}

/* Small modules first. */
static bool add_one_by_one(struct search *s, const bool *placed, struct err *e)
{
    const struct plan_instance *in = s->in;
    bool *done = calloc(in->module_count, 1), *tried = calloc(in->device_count, 1);
    for (uint32_t i = 0; done && tried && i < in->module_count; i++) {
        uint32_t m = UINT32_MAX;
        for (uint32_t k = 0; k < in->module_count; k++)
            if (!done[k] &&
                (m == UINT32_MAX || in->modules[k].memory_bytes < in->modules[m].memory_bytes))
                m = k;
        done[m] = true;
        while (s->v.sites[m].count <= (uint32_t)s->o->redundancy && search_free(s, m) &&
               add_spare(s, m, placed, tried, e))
            ;
    }
    bool ok = done && tried;
    free(done);
    free(tried);
    return ok && eval_full(&s->v, e);
}

/* ---- all ways of packing ---- */

struct packing {
    struct search *s; /* v.sites and v.used are what is placed so far */
    uint32_t *order;  /* free modules by falling bytes; load: those of the first requests first */
    uint32_t count;
    uint32_t *rising;  /* free modules by rising bytes */
    uint32_t *devices; /* by module of order: its devices by cost, PACK_END behind the last */
    uint32_t *
        weight; /* by module: of all its wanted places in `gained`, 0: they are a matter of course */
    bool *open;                           /* by module: more places may follow */
    struct plan_sites *found;             /* the best one */
    uint32_t gained;                      /* by it */
    uint32_t goal;                        /* that nothing can exceed */
    bool more;                            /* than are wanted: load with replicas may need them */
    uint64_t work, work_least, work_most; /* routes tried; the clock is not asked before least */
    uint32_t nodes;
};

#define PACK_END UINT32_MAX

static void sort_devices(struct packing *p, uint32_t at, const bool *placed, double *cost)
{
    const struct plan_instance *in = p->s->in;
    uint32_t m = p->order[at], *list = p->devices + (size_t)at * (in->device_count + 1), n = 0;
    for (uint32_t d = 0; d < in->device_count; d++) {
        if (!plan_may(in, m, d))
            continue;
        cost[d] = has_site(&p->s->best[m], d) ? -1 : greedy_cost(p->s, m, d, placed);
        uint32_t i = n++;
        for (; i > 0 && cost[list[i - 1]] > cost[d]; i--)
            list[i] = list[i - 1];
        list[i] = d;
    }
    list[n] = PACK_END;
}

/* Under load requests are routed one after the other: those that can be, early, cut early. */
static void sort_by_requests(struct packing *p)
{
    const struct eval *v = &p->s->v;
    for (uint32_t i = 1; i < p->count; i++) {
        uint32_t m = p->order[i], k = i;
        uint32_t first =
            v->user_first[m] < v->user_first[m + 1] ? v->users[v->user_first[m]] : UINT32_MAX;
        for (; k > 0; k--) {
            uint32_t o = p->order[k - 1];
            uint32_t other =
                v->user_first[o] < v->user_first[o + 1] ? v->users[v->user_first[o]] : UINT32_MAX;
            if (other <= first)
                break;
            p->order[k] = o;
        }
        p->order[k] = m;
    }
}

/* A module that can survive counts more than all together that have too few devices for that, but
 * for more than one place. */
static void weigh(struct packing *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t m = p->order[i], want = wanted(p->s, m);
        bool survives = want == (uint32_t)p->s->o->redundancy + 1;
        p->weight[m] = survives ? p->count + 1 : want > 1;
        p->goal += p->weight[m];
    }
}

static bool packing_init(struct packing *p, struct search *s, const bool *placed)
{
    const struct plan_instance *in = s->in;
    size_t cells = (size_t)in->module_count * in->device_count;
    double *cost = calloc(in->device_count, sizeof(double));
    *p = (struct packing){.s = s,
                          .order = calloc(in->module_count, sizeof(uint32_t)),
                          .rising = calloc(in->module_count, sizeof(uint32_t)),
                          .weight = calloc(in->module_count, sizeof(uint32_t)),
                          .open = calloc(in->module_count, sizeof(bool)),
                          .found = calloc(in->module_count, sizeof(struct plan_sites)),
                          .devices = calloc(cells + in->module_count, sizeof(uint32_t)),
                          .more = s->replicas && in->objective == PLAN_LOAD &&
                                  cells <= PACK_PLACES_MAX};
    bool ok = cost && p->order && p->rising && p->weight && p->open && p->found && p->devices;
    if (ok) {
        p->count = search_by_bytes(s, p->order);
        for (uint32_t i = 0; i < p->count; i++)
            p->rising[i] = p->order[p->count - 1 - i];
        weigh(p);
        if (in->objective == PLAN_LOAD)
            sort_by_requests(p);
    }
    for (uint32_t i = 0; ok && i < p->count; i++)
        sort_devices(p, i, placed, cost);
    free(cost);
    return ok;
}

static void packing_done(struct packing *p)
{
    free(p->order);
    free(p->rising);
    free(p->weight);
    free(p->open);
    free(p->found);
    free(p->devices);
}

/* What all modules of the placement gain. */
static uint32_t gained_by(const struct packing *p)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < p->count; i++)
        if (p->s->v.sites[p->order[i]].count >= wanted(p->s, p->order[i]))
            sum += p->weight[p->order[i]];
    return sum;
}

/* At most so much can be gained by the modules that are open: each has one place at least, and what
 * is left after that goes to the smallest. */
static uint32_t still_to_gain(const struct packing *p)
{
    const struct search *s = p->s;
    uint32_t sum = 0;
    double left = 0;
    for (uint32_t d = 0; d < s->in->device_count; d++)
        left += fmax(0, s->in->devices[d].memory_bytes - s->v.used[d]);
    for (uint32_t i = 0; i < p->count; i++)
        if (p->open[p->rising[i]] && s->v.sites[p->rising[i]].count == 0)
            left -= s->in->modules[p->rising[i]].memory_bytes;
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t m = p->rising[i], have = s->v.sites[m].count, want = wanted(s, m);
        if (!p->open[m])
            continue;
        double bytes = s->in->modules[m].memory_bytes;
        double need = (have > 0 ? want - (have < want ? have : want) : want - 1) * bytes;
        if (p->weight[m] > p->count && need > left)
            continue;
        left -= p->weight[m] > p->count ? need : 0;
        sum += p->weight[m];
    }
    return sum;
}

static bool packed_enough(struct packing *p)
{
    if (p->gained >= p->goal || p->nodes >= PACK_NODES_MAX || p->work >= p->work_most)
        return true;
    const struct plan_options *o = p->s->o;
    if (p->work < p->work_least || !o->stop || !o->stop(o->stop_ctx))
        return false;
    p->work_most = p->work; /* time is over */
    return true;
}

static bool all_routes_ok(const struct search *s)
{
    for (uint32_t m = 0; m < s->in->module_count; m++)
        if (!routes_ok(s, m))
            return false;
    return true;
}

/* Routes that a look at all requests takes. */
static uint64_t routes_to_try(const struct search *s)
{
    uint64_t sum = 0;
    for (uint32_t q = 0; q < s->in->request_count; q++)
        sum += eval_routes(&s->v, q);
    return sum;
}

static void take_packing(struct packing *p, uint32_t gained)
{
    struct search *s = p->s;
    struct err why;
    p->work += routes_to_try(s);
    if (!all_routes_ok(s) || !eval_full(&s->v, &why) || !score_feasible(s->v.now))
        return;
    p->gained = gained;
    memcpy(p->found, s->v.sites, s->in->module_count * sizeof(*p->found));
}

static void pack(struct packing *p, uint32_t at, uint32_t from, uint32_t gained);

/* Module `at` stays as it is: on to the next. */
static void pack_behind(struct packing *p, uint32_t at, uint32_t gained)
{
    struct search *s = p->s;
    uint32_t m = p->order[at];
    p->open[m] = false;
    if (gained + still_to_gain(p) > p->gained) {
        p->work += routes_to_try(s);
        if (routes_ok(s, m) && eval_front(&s->v, p->open))
            pack(p, at + 1, 0, gained);
    }
    p->open[m] = true;
}

/* Places of module `at` from the from-th of its devices on, then those of all behind it. */
static void pack(struct packing *p, uint32_t at, uint32_t from, uint32_t gained)
{
    struct search *s = p->s;
    if (packed_enough(p))
        return;
    if (at == p->count) {
        take_packing(p, gained);
        return;
    }
    uint32_t m = p->order[at];
    const uint32_t *list = p->devices + (size_t)at * (s->in->device_count + 1);
    struct plan_sites before = s->v.sites[m];
    bool full = before.count >= wanted(s, m);
    if (full)
        pack_behind(p, at, gained + p->weight[m]);
    for (uint32_t i = from; (!full || p->more) && before.count < PLAN_REPLICAS_MAX &&
                            list[i] != PACK_END && !packed_enough(p);
         i++) {
        p->nodes++;
        if (has_site(&before, list[i]) || !has_room(s, m, list[i]))
            continue;
        struct plan_sites after = with_site(&before, list[i]);
        eval_set(&s->v, m, &after);
        pack(p, at, i + 1, gained);
        eval_set(&s->v, m, &before);
    }
    if (!full && before.count > 0)
        pack_behind(p, at, gained);
}

static void pack_from(struct packing *p, const struct plan_sites *sites)
{
    uint64_t requests = p->s->in->request_count;
    p->nodes = 0;
    p->work = 0;
    p->work_least = SPARE_WORK_LEAST + 2 * requests * (p->count + 1);
    p->work_most = SPARE_WORK_MOST + p->work_least;
    eval_set_all(&p->s->v, sites);
    for (uint32_t i = 0; i < p->count; i++)
        p->open[p->order[i]] = true;
    pack(p, 0, 0, 0);
}

/* Where v, or the best, protects less than can be: the placement that protects most becomes both.
 * false: no memory. */
static bool pack_all(struct search *s, const bool *placed, bool feasible)
{
    const struct plan_instance *in = s->in;
    struct packing p = {0};
    if ((uint64_t)in->module_count * ((uint32_t)s->o->redundancy + 1) > PACK_PLACES_MAX ||
        (size_t)in->module_count * in->device_count > PACK_CELLS_MAX)
        return true;
    bool ok = packing_init(&p, s, placed);
    if (ok) {
        memcpy(p.found, feasible ? s->v.sites : s->best, in->module_count * sizeof(*p.found));
        eval_set_all(&s->v, p.found);
        p.gained = gained_by(&p);
        pack_from(&p, s->best);
        pack_from(&p, s->pinned);
        memcpy(s->best, p.found, in->module_count * sizeof(*p.found));
        eval_set_all(&s->v, s->best);
    }
    packing_done(&p);
    return ok;
}

/* ---- the whole ---- */

static void keep(struct search *s)
{
    memcpy(s->best, s->v.sites, s->in->module_count * sizeof(*s->best));
    s->bound = -INFINITY; /* was proven for placements without spare places */
}

/* What is given is only looked at. */
bool spare_places(struct search *s, struct plan_result *r, struct err *e)
{
    const struct plan_instance *in = s->in;
    bool *placed = malloc(in->module_count);
    r->unprotected = calloc(in->module_count, sizeof(bool));
    bool ok = (placed && r->unprotected) || err_set(e, ERR_MEMORY, "no memory for spare places");
    for (uint32_t i = 0; ok && i < in->module_count; i++)
        placed[i] = true;
    if (ok)
        eval_set_all(&s->v, s->best);
    if (ok && !s->o->given) {
        ok = add_one_by_one(s, placed, e);
        bool most = ok && score_feasible(s->v.now);
        if (ok && !(most && all_protected(s)))
            ok = (pack_all(s, placed, most) ||
                  err_set(e, ERR_MEMORY, "no memory for spare places")) &&
                 add_one_by_one(s, placed, e);
        if (ok && score_feasible(s->v.now))
            keep(s);
    }
    for (uint32_t m = 0; ok && m < in->module_count; m++)
        r->unprotected[m] = s->best[m].count < (uint32_t)s->o->redundancy + 1;
    free(placed);
    return ok;
}
