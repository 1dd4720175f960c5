/* spare.c - places beyond the first: so that devices may die.
 *
 * Module by module, small ones first, each where it costs least: so the most of them are protected
 * and the places of the plan stay.  Where that leaves modules without, all ways of packing are
 * tried in order of cost, first beside the places of the plan, then with those given up, too: to
 * survive comes before to be fast.  That search ends at PACK_NODES_MAX. */
#include "plan/search.h"

#include <stdlib.h>
#include <string.h>

#define SPARE_ROUTES_MAX 4096u /* routes of one request with spare places */
#define SPARE_CHECK_MAX 256u   /* up to so many requests every spare place is tried at once */
#define PACK_NODES_MAX 200000u
#define PACK_CELLS_MAX 32768u /* modules x devices */
#define PACK_PLACES_MAX 1024u /* in all: as deep is the recursion */

static bool has_site(const struct plan_sites *s, uint32_t device)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (s->device[i] == device)
            return true;
    return false;
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

/* One more place for a module where it costs least; false: nowhere. */
static bool add_spare(struct search *s, uint32_t module, const bool *placed, struct err *e)
{
    const struct plan_instance *in = s->in;
    struct plan_sites before = s->v.sites[module];
    uint32_t best = UINT32_MAX;
    double least = INFINITY;
    if (before.count >= PLAN_REPLICAS_MAX)
        return false;
    for (uint32_t d = 0; d < in->device_count; d++) {
        if (has_site(&before, d) || !plan_may(in, module, d) ||
            in->modules[module].memory_bytes > in->devices[d].memory_bytes - s->v.used[d])
            continue;
        double cost = greedy_cost(s, module, d, placed);
        if (best == UINT32_MAX || cost < least) {
            best = d;
            least = cost;
        }
    }
    if (best == UINT32_MAX)
        return false;
    struct plan_sites after = with_site(&before, best);
    eval_set(&s->v, module, &after);
    bool ok = routes_ok(s, module);
    if (ok && in->request_count <= SPARE_CHECK_MAX)
        ok = eval_full(&s->v, e) && score_feasible(s->v.now);
    if (!ok)
        eval_set(&s->v, module, &before);
    return ok;
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
    bool *done = calloc(in->module_count, 1);
    for (uint32_t i = 0; done && i < in->module_count; i++) {
        uint32_t m = UINT32_MAX;
        for (uint32_t k = 0; k < in->module_count; k++)
            if (!done[k] &&
                (m == UINT32_MAX || in->modules[k].memory_bytes < in->modules[m].memory_bytes))
                m = k;
        done[m] = true;
        while (s->v.sites[m].count <= (uint32_t)s->o->redundancy && search_free(s, m) &&
               add_spare(s, m, placed, e))
            ;
    }
    bool ok = done != NULL;
    free(done);
    return ok && eval_full(&s->v, e);
}

/* ---- all ways of packing ---- */

struct packing {
    struct search *s; /* v.sites and v.used are what is placed so far */
    uint32_t *order;  /* free modules by falling bytes */
    uint32_t count;
    uint32_t *devices; /* by module of order: its devices by cost, PACK_END behind the last */
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

static bool packing_init(struct packing *p, struct search *s, const bool *placed)
{
    const struct plan_instance *in = s->in;
    double *cost = calloc(in->device_count, sizeof(double));
    *p = (struct packing){
        .s = s,
        .order = calloc(in->module_count, sizeof(uint32_t)),
        .devices = calloc((size_t)in->module_count * (in->device_count + 1), sizeof(uint32_t))};
    bool ok = cost && p->order && p->devices;
    if (ok)
        p->count = search_by_bytes(s, p->order);
    for (uint32_t i = 0; ok && i < p->count; i++)
        sort_devices(p, i, placed, cost);
    free(cost);
    return ok;
}

/* Places of module `at` from the from-th of its devices on, then those of all behind it. */
static bool pack(struct packing *p, uint32_t at, uint32_t from)
{
    struct search *s = p->s;
    if (at == p->count)
        return true;
    uint32_t m = p->order[at];
    const uint32_t *list = p->devices + (size_t)at * (s->in->device_count + 1);
    struct plan_sites before = s->v.sites[m];
    if (before.count >= wanted(s, m))
        return pack(p, at + 1, 0);
    for (uint32_t i = from; list[i] != PACK_END && ++p->nodes < PACK_NODES_MAX; i++) {
        if (has_site(&before, list[i]) ||
            s->in->modules[m].memory_bytes >
                s->in->devices[list[i]].memory_bytes - s->v.used[list[i]])
            continue;
        struct plan_sites after = with_site(&before, list[i]);
        eval_set(&s->v, m, &after);
        if (pack(p, at, i + 1))
            return true;
        eval_set(&s->v, m, &before);
    }
    return false;
}

static bool packed_well(struct packing *p, struct err *e)
{
    const struct search *s = p->s;
    p->nodes = 0;
    bool ok = pack(p, 0, 0);
    for (uint32_t m = 0; ok && m < s->in->module_count; m++)
        ok = routes_ok(s, m);
    return ok && eval_full(&p->s->v, e) && score_feasible(s->v.now);
}

/* true: all that can be protected is, and evaluated. */
static bool pack_all(struct search *s, const bool *placed, struct err *e)
{
    const struct plan_instance *in = s->in;
    const struct plan_sites none = {0};
    struct packing p = {0};
    if ((uint64_t)in->module_count * ((uint32_t)s->o->redundancy + 1) > PACK_PLACES_MAX ||
        (size_t)in->module_count * in->device_count > PACK_CELLS_MAX)
        return false;
    eval_set_all(&s->v, s->best);
    bool ok = packing_init(&p, s, placed);
    bool found = ok && packed_well(&p, e);
    if (ok && !found) {
        for (uint32_t m = 0; m < in->module_count; m++)
            eval_set(&s->v, m, search_free(s, m) ? &none : &s->pinned[m]);
        found = packed_well(&p, e);
    }
    free(p.order);
    free(p.devices);
    return found;
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
        struct plan_sites *first = NULL;
        ok = add_one_by_one(s, placed, e);
        bool most = ok && score_feasible(s->v.now), all = most && all_protected(s);
        if (most && !all && (first = malloc(in->module_count * sizeof(*first))))
            memcpy(first, s->v.sites, in->module_count * sizeof(*first));
        if (ok && (all || pack_all(s, placed, e))) {
            keep(s);
        } else if (first) {
            eval_set_all(&s->v, first);
            keep(s);
        }
        free(first);
    }
    for (uint32_t m = 0; ok && m < in->module_count; m++)
        r->unprotected[m] = s->best[m].count < (uint32_t)s->o->redundancy + 1;
    free(placed);
    return ok;
}
