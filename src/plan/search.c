/* search.c - the shared state of the methods: order of modules, pins, best placement, budget. */
#include "plan/search.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define ASK_EVERY 32u   /* placements between two questions to the caller's stop */
#define ASK_ALWAYS 256u /* with so many requests a placement takes long enough to ask each time */

/* ---- order ---- */

static double gflop_of(const struct plan_instance *in, uint32_t m)
{
    double sum = 0;
    uint32_t count = 0;
    if (in->modules[m].gflop >= 0)
        return in->modules[m].gflop;
    for (uint32_t d = 0; d < in->device_count; d++)
        if (isfinite(plan_run(in, m, d))) {
            sum += plan_run(in, m, d);
            count++;
        }
    return count > 0 ? sum / count : 0;
}

struct by_work {
    double work;
    uint32_t module;
};

static int compare_work(const void *a, const void *b)
{
    const struct by_work *x = a, *y = b;
    if (x->work < y->work || x->work > y->work)
        return x->work < y->work ? 1 : -1;
    return x->module < y->module ? -1 : 1;
}

static bool sort_by_work(struct search *s)
{
    const struct plan_instance *in = s->in;
    struct by_work *rows = calloc(in->module_count, sizeof(*rows));
    double *gflop = calloc(in->module_count, sizeof(*gflop));
    bool ok = rows && gflop;
    for (uint32_t i = 0; ok && i < in->module_count; i++)
        gflop[i] = gflop_of(in, i);
    for (uint32_t r = 0; ok && r < in->request_count; r++) {
        const struct plan_request *q = &in->requests[r];
        const struct plan_model *m = &in->models[q->model];
        for (uint32_t i = 0; i < m->call_count; i++) {
            s->demand[m->calls[i].module] += q->weight * q->runs[i];
            s->work[m->calls[i].module] += q->weight * q->runs[i] * gflop[m->calls[i].module];
        }
    }
    for (uint32_t i = 0; ok && i < in->module_count; i++)
        rows[i] = (struct by_work){s->work[i], i};
    if (ok)
        qsort(rows, in->module_count, sizeof(*rows), compare_work);
    for (uint32_t i = 0; ok && i < in->module_count; i++)
        s->order[i] = rows[i].module;
    free(rows);
    free(gflop);
    return ok;
}

/* ---- pins ---- */

static bool find_device(const struct plan_instance *in, const char *name, uint32_t *ret)
{
    for (uint32_t d = 0; d < in->device_count; d++)
        if (strcmp(in->devices[d].name, name) == 0) {
            *ret = d;
            return true;
        }
    return false;
}

static bool find_module(const struct plan_instance *in, const char *name, uint32_t *ret)
{
    for (uint32_t m = 0; m < in->module_count; m++)
        if (strcmp(in->modules[m].name, name) == 0) {
            *ret = m;
            return true;
        }
    return false;
}

/* Keeps the devices rising; one that is there already stays once. */
static void insert_site(struct plan_sites *to, uint32_t device)
{
    uint32_t i = 0;
    while (i < to->count && to->device[i] < device)
        i++;
    if (i < to->count && to->device[i] == device)
        return;
    memmove(&to->device[i + 1], &to->device[i], (to->count - i) * sizeof(to->device[0]));
    to->device[i] = device;
    to->count++;
}

/* More than one place is for instances with replicas, or for spare places. */
static bool in_places(const struct search *s, const char *name, uint32_t count, struct err *e)
{
    uint32_t most = s->replicas ? PLAN_REPLICAS_MAX : (uint32_t)s->o->redundancy + 1;
    return count <= most ||
           err_set(e, ERR_INVALID,
                   "pins: '%.100s' has %u devices, %u allowed (replicas is false in the instance)",
                   name, count, most);
}

static bool read_pin(struct search *s, const char *name, const json_t *devices, struct err *e)
{
    uint32_t m, d;
    if (!find_module(s->in, name, &m))
        return err_set(e, ERR_INVALID, "pins: there is no module '%.100s'", name);
    size_t count = json_array_size(devices);
    if (count == 0 || count > PLAN_REPLICAS_MAX)
        return err_set(e, ERR_INVALID, "pins: '%.100s' needs a list of 1 to %u devices", name,
                       PLAN_REPLICAS_MAX);
    for (size_t i = 0; i < count; i++) {
        const char *device = json_string_value(json_array_get(devices, i));
        if (!device || !find_device(s->in, device, &d))
            return err_set(e, ERR_INVALID, "pins: '%.100s': there is no device '%.100s'", name,
                           device ? device : "");
        if (!isfinite(plan_run(s->in, m, d)))
            return err_set(e, ERR_INVALID, "pins: '%.100s' can't run on '%.100s'", name, device);
        insert_site(&s->pinned[m], d);
    }
    return in_places(s, name, s->pinned[m].count, e);
}

static bool read_pins(struct search *s, struct err *e)
{
    const json_t *pins = s->o->pins;
    const char *name;
    json_t *devices;
    if (pins && !json_is_object(pins))
        return err_set(e, ERR_INVALID, "pins: not an object");
    json_object_foreach((json_t *)(uintptr_t)pins, name, devices)
    {
        if (!read_pin(s, name, devices, e))
            return false;
    }
    return true;
}

/* ---- life ---- */

bool search_init(struct search *s, const struct plan_instance *in, const struct plan_options *o,
                 struct err *e)
{
    memset(s, 0, sizeof(*s));
    s->in = in;
    s->o = o;
    s->replicas = in->replicas;
    s->bound = -INFINITY;
    s->evals_end = o->limit_evals ? o->limit_evals : UINT64_MAX;
    if (!eval_init(&s->v, in, e))
        return false;
    s->pinned = calloc(in->module_count, sizeof(*s->pinned));
    s->best = calloc(in->module_count, sizeof(*s->best));
    s->demand = calloc(in->module_count, sizeof(*s->demand));
    s->work = calloc(in->module_count, sizeof(*s->work));
    s->order = calloc(in->module_count, sizeof(*s->order));
    bool ok = s->pinned && s->best && s->demand && s->work && s->order && sort_by_work(s);
    if (!ok)
        err_set(e, ERR_MEMORY, "no memory to plan %u modules", in->module_count);
    ok = ok && read_pins(s, e);
    if (!ok)
        search_done(s);
    return ok;
}

void search_done(struct search *s)
{
    eval_done(&s->v);
    free(s->pinned);
    free(s->best);
    free(s->demand);
    free(s->work);
    free(s->order);
    memset(s, 0, sizeof(*s));
}

/* Sums of bytes are rounded from 2^53 on: a device as full as that is counted down, which is exact. */
static bool full_exactly(const struct search *s, uint32_t device)
{
    double left = s->in->devices[device].memory_bytes;
    for (uint32_t m = 0; m < s->in->module_count; m++)
        for (uint32_t i = 0; i < s->v.sites[m].count; i++)
            left -= s->v.sites[m].device[i] == device ? s->in->modules[m].memory_bytes : 0;
    return left >= 0;
}

static bool fits(const struct search *s)
{
    for (uint32_t d = 0; d < s->in->device_count; d++)
        if (s->v.used[d] >= PLAN_BYTES_MAX && !full_exactly(s, d))
            return false;
    return true;
}

uint32_t search_by_bytes(const struct search *s, uint32_t *to)
{
    const struct plan_module *modules = s->in->modules;
    uint32_t count = 0;
    for (uint32_t m = 0; m < s->in->module_count; m++) {
        if (!search_free(s, m))
            continue;
        uint32_t i = count++;
        for (; i > 0 && modules[to[i - 1]].memory_bytes < modules[m].memory_bytes; i--)
            to[i] = to[i - 1];
        to[i] = m;
    }
    return count;
}

bool search_offer(struct search *s)
{
    if (!score_feasible(s->v.now) || !fits(s) || (s->found && !score_less(s->v.now, s->best_score)))
        return false;
    s->found = true;
    s->best_score = s->v.now;
    memcpy(s->best, s->v.sites, s->in->module_count * sizeof(*s->best));
    return true;
}

bool search_over(struct search *s)
{
    if (s->stopped != PLAN_NOT_STOPPED)
        return true;
    if (s->v.count >= s->evals_end)
        s->stopped = PLAN_STOPPED_EVALUATIONS;
    else if (s->o->stop &&
             s->v.count - s->asked >= (s->in->request_count < ASK_ALWAYS ? ASK_EVERY : 1u)) {
        s->asked = s->v.count;
        if (s->o->stop(s->o->stop_ctx))
            s->stopped = PLAN_STOPPED_TIME;
    }
    return s->stopped != PLAN_NOT_STOPPED;
}
