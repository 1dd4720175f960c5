/* greedy.c - one pass over the modules, largest work first, never taken back.
 *
 * Two are the baselines of the instance format; GREEDY_LINKS also counts transfers to what is placed
 * already (and what is waited for), GREEDY_ALONE the transfers only (what light loads are about),
 * GREEDY_BYTES does as GREEDY_LINKS in order of size, which leaves less memory unused.  Each looks
 * at every (module, device) pair once: time grows with modules x devices, plus the sort. */
#include "plan/search.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define WIDE_CELLS 1000000u /* modules x devices from which one pass with transfers is enough */

static bool has_room(const struct eval *v, uint32_t module, uint32_t device)
{
    return v->in->modules[module].memory_bytes <=
           v->in->devices[device].memory_bytes - v->used[device];
}

/* Transfers between one call and a placed neighbour. */
static double edge(const struct search *s, const struct plan_model *m, uint32_t from, uint32_t to,
                   uint32_t module, uint32_t device, const bool *placed)
{
    uint32_t a = m->calls[from].module, b = m->calls[to].module;
    uint32_t other = a == module ? b : a;
    if (a == b || !placed[other])
        return 0;
    uint32_t there = s->v.sites[other].device[0];
    return plan_tau(s->in, a == module ? device : there, a == module ? there : device,
                    s->in->modules[a].output_bytes);
}

static double call_cost(const struct search *s, const struct plan_request *q, uint32_t call,
                        uint32_t device, const bool *placed)
{
    const struct plan_instance *in = s->in;
    const struct plan_model *m = &in->models[q->model];
    const struct plan_call *c = &m->calls[call];
    double ms = q->runs[call] * plan_run(in, c->module, device);
    if (c->from_source)
        ms += plan_tau(in, q->source, device, q->input_bytes[call]);
    for (uint32_t i = 0; i < c->from_count; i++)
        ms += edge(s, m, m->from[c->from_first + i], call, c->module, device, placed);
    for (uint32_t i = 0; i < c->next_count; i++)
        ms += edge(s, m, call, m->next[c->next_first + i], c->module, device, placed);
    if (c->next_count == 0)
        ms += plan_tau(in, device, q->source,
                       m->answer_at_source ? in->modules[c->module].output_bytes : q->answer_bytes);
    return ms;
}

double greedy_cost(const struct search *s, uint32_t module, uint32_t device, const bool *placed)
{
    const struct eval *v = &s->v;
    double cost = 0;
    for (uint32_t k = v->user_first[module]; k < v->user_first[module + 1]; k++) {
        const struct plan_request *q = &s->in->requests[v->users[k]];
        const struct plan_model *m = &s->in->models[q->model];
        double ms = 0;
        for (uint32_t i = 0; i < m->call_count; i++)
            if (m->calls[i].module == module)
                ms += call_cost(s, q, i, device, placed);
        cost += q->weight > 0 ? q->weight * ms : (isfinite(ms) ? 0 : INFINITY);
    }
    return cost;
}

struct pass {
    enum greedy kind;
    double *busy; /* by device: weighted ms of what is there */
    bool *placed; /* by module */
};

static double score_of(const struct search *s, const struct pass *p, uint32_t m, uint32_t d)
{
    double run = plan_run(s->in, m, d);
    if (p->kind == GREEDY_FASTEST)
        return run;
    if (p->kind == GREEDY_EARLIEST)
        return p->busy[d] + s->demand[m] * run;
    double cost = greedy_cost(s, m, d, p->placed);
    if (s->in->objective != PLAN_LATENCY &&
        p->kind != GREEDY_ALONE) /* what is there already is waited for */
        cost += p->busy[d] / s->in->devices[d].lanes;
    return cost;
}

static void put(struct search *s, struct pass *p, uint32_t m, const struct plan_sites *sites)
{
    eval_set(&s->v, m, sites);
    p->placed[m] = true;
    for (uint32_t i = 0; i < sites->count; i++)
        p->busy[sites->device[i]] += s->demand[m] * plan_run(s->in, m, sites->device[i]);
}

static bool place_one(struct search *s, struct pass *p, uint32_t m)
{
    const struct plan_instance *in = s->in;
    uint32_t best = UINT32_MAX;
    double least = INFINITY;
    for (uint32_t d = 0; d < in->device_count; d++) {
        if (!isfinite(plan_run(in, m, d)) || !has_room(&s->v, m, d))
            continue;
        double cost = score_of(s, p, m, d);
        if (best == UINT32_MAX || cost < least) {
            best = d;
            least = cost;
        }
    }
    if (best == UINT32_MAX)
        return false;
    struct plan_sites one = {.count = 1, .device = {best}};
    put(s, p, m, &one);
    return true;
}

/* Modules by falling bytes; ties in instance order. */
struct by_bytes {
    double bytes;
    uint32_t module;
};

static int compare_bytes(const void *a, const void *b)
{
    const struct by_bytes *x = a, *y = b;
    if (x->bytes < y->bytes || x->bytes > y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->module < y->module ? -1 : 1;
}

static uint32_t *bytes_order(const struct plan_instance *in)
{
    struct by_bytes *rows = calloc(in->module_count, sizeof(*rows));
    uint32_t *order = calloc(in->module_count, sizeof(*order));
    if (rows && order) {
        for (uint32_t i = 0; i < in->module_count; i++)
            rows[i] = (struct by_bytes){in->modules[i].memory_bytes, i};
        qsort(rows, in->module_count, sizeof(*rows), compare_bytes);
        for (uint32_t i = 0; i < in->module_count; i++)
            order[i] = rows[i].module;
    }
    free(rows);
    return order;
}

static void clear_places(struct search *s)
{
    for (uint32_t i = 0; i < s->in->module_count; i++)
        s->v.sites[i].count = 0;
    memset(s->v.used, 0, s->in->device_count * sizeof(*s->v.used));
    s->v.over_bytes = 0;
}

/* anyhow: what finds no room goes where the fewest bytes are missing. */
static bool place_all(struct search *s, struct pass *p, const uint32_t *order, bool anyhow,
                      uint32_t *ret_module)
{
    const struct plan_instance *in = s->in;
    clear_places(s);
    for (uint32_t i = 0; i < in->module_count; i++)
        if (!search_free(s, i))
            put(s, p, i, &s->pinned[i]);
    for (uint32_t i = 0; i < in->module_count; i++) {
        uint32_t m = order[i], least = UINT32_MAX;
        if (!search_free(s, m) || place_one(s, p, m))
            continue;
        *ret_module = m;
        if (!anyhow)
            return false;
        for (uint32_t d = 0; d < in->device_count; d++)
            if (isfinite(plan_run(in, m, d)) &&
                (least == UINT32_MAX || in->devices[d].memory_bytes - s->v.used[d] >
                                            in->devices[least].memory_bytes - s->v.used[least]))
                least = d;
        if (least == UINT32_MAX)
            return false;
        struct plan_sites one = {.count = 1, .device = {least}};
        put(s, p, m, &one);
    }
    return true;
}

static bool run_pass(struct search *s, enum greedy kind, bool anyhow, uint32_t *ret_module)
{
    struct pass p = {.kind = kind,
                     .busy = calloc(s->in->device_count, sizeof(double)),
                     .placed = calloc(s->in->module_count, sizeof(bool))};
    uint32_t *order = kind == GREEDY_BYTES ? bytes_order(s->in) : NULL;
    *ret_module = 0;
    bool ok = p.busy && p.placed && (kind != GREEDY_BYTES || order) &&
              place_all(s, &p, order ? order : s->order, anyhow, ret_module);
    free(p.busy);
    free(p.placed);
    free(order);
    return ok;
}

bool greedy_place(struct search *s, enum greedy kind, uint32_t *ret_module)
{
    return run_pass(s, kind, false, ret_module);
}

bool greedy_anyhow(struct search *s)
{
    uint32_t module;
    return run_pass(s, GREEDY_BYTES, true, &module);
}

/* Everything that is free on one device. */
static bool place_single(struct search *s, uint32_t device)
{
    const struct plan_instance *in = s->in;
    for (uint32_t m = 0; m < in->module_count; m++)
        if (search_free(s, m) && !isfinite(plan_run(in, m, device)))
            return false;
    clear_places(s);
    for (uint32_t m = 0; m < in->module_count; m++) {
        if (search_free(s, m))
            eval_set_one(&s->v, m, device);
        else
            eval_set(&s->v, m, &s->pinned[m]);
    }
    return s->v.over_bytes <= 0;
}

bool greedy_best(struct search *s, struct err *e)
{
    const struct plan_instance *in = s->in;
    size_t cells = (size_t)in->module_count * in->device_count;
    double all = 0;
    for (int kind = 0; kind < GREEDY_COUNT; kind++) {
        uint32_t module;
        if (kind == GREEDY_BYTES && s->found && cells > WIDE_CELLS)
            continue; /* it is there for what is hard to fit */
        if (kind == GREEDY_ALONE && in->objective != PLAN_LOAD)
            continue;
        if (!greedy_place(s, (enum greedy)kind, &module))
            continue;
        if (!eval_full(&s->v, e))
            return false;
        search_offer(s);
    }
    for (uint32_t m = 0; m < in->module_count; m++)
        all += search_free(s, m) ? in->modules[m].memory_bytes : 0;
    for (uint32_t d = 0; d < in->device_count && !search_over(s); d++) {
        if (all > in->devices[d].memory_bytes || !place_single(s, d))
            continue;
        if (!eval_full(&s->v, e))
            return false;
        search_offer(s);
    }
    return true;
}
