/* solve.c - from options to a method, from the best placement to a result.
 *
 * Passes: read options and pins; run the method; say nofit or notfound if nothing came out; spare
 * places (redundancy); the final figures by the full evaluator; reasons. */
#include "plan/search.h"

#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPARE_ROUTES_MAX 4096u /* routes of one request with spare places */
#define SPARE_CHECK_MAX 256u   /* up to so many requests every spare place is tried at once */
#define TEXT_MAX 480

static const char *const method_names[PLAN_METHOD_COUNT] = {
    "best-greedy", "greedy-fastest", "greedy-earliest", "local", "exact", "auto"};

const char *plan_method_name(enum plan_method method)
{
    return method_names[method];
}

bool plan_method_from(const char *name, enum plan_method *ret)
{
    for (int i = 0; i < PLAN_METHOD_COUNT; i++)
        if (strcmp(method_names[i], name) == 0) {
            *ret = (enum plan_method)i;
            return true;
        }
    return false;
}

/* ---- methods ---- */

static bool run_baseline(struct search *s, enum greedy kind, struct err *e)
{
    uint32_t module;
    if (!greedy_place(s, kind, &module))
        return true; /* nothing found: said by the caller */
    if (!eval_full(&s->v, e))
        return false;
    search_offer(s);
    return true;
}

static bool run_given(struct search *s, struct err *e)
{
    eval_set_all(&s->v, s->o->given);
    if (!eval_full(&s->v, e))
        return false;
    search_offer(s);
    return true;
}

static bool run_method(struct search *s, struct err *e)
{
    if (s->o->given)
        return run_given(s, e);
    switch (s->o->method) {
    case PLAN_GREEDY_FASTEST:
        return run_baseline(s, GREEDY_FASTEST, e);
    case PLAN_GREEDY_EARLIEST:
        return run_baseline(s, GREEDY_EARLIEST, e);
    case PLAN_BEST_GREEDY:
        return greedy_best(s, e);
    case PLAN_LOCAL:
        return greedy_best(s, e) && local_search(s, 0, e);
    case PLAN_EXACT:
        return greedy_best(s, e) && search_before_tree(s, e) && exact_search(s, e);
    case PLAN_AUTO:
        return auto_search(s, e);
    default:
        return err_set(e, ERR_INVALID, "method %d: there is none", (int)s->o->method);
    }
}

/* Nothing feasible came out: nofit if that is proven, else notfound. */
static bool fail(struct search *s, enum plan_status *status, struct err *e)
{
    char text[TEXT_MAX];
    bool baseline = s->o->method == PLAN_GREEDY_FASTEST || s->o->method == PLAN_GREEDY_EARLIEST;
    *status = PLAN_NOTFOUND;
    if (!baseline && nofit_proven(s, text, sizeof(text))) {
        *status = PLAN_NOFIT;
        return err_set(e, ERR_NO_PLACE, "no placement is possible: %s", text);
    }
    nofit_text(s, text, sizeof(text));
    if (s->complete) {
        *status = PLAN_NOFIT;
        return err_set(e, ERR_NO_PLACE, "no placement is possible: all have been tried; %s", text);
    }
    return err_set(e, ERR_NO_PLACE, "no placement found by %s: %s", method_names[s->o->method],
                   text);
}

/* ---- spare places ---- */

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

static void mark_unprotected(const struct search *s, const struct plan_sites *sites,
                             struct plan_result *r)
{
    for (uint32_t m = 0; m < s->in->module_count; m++)
        r->unprotected[m] = sites[m].count < (uint32_t)s->o->redundancy + 1;
}

/* Small modules first: so the most of them are protected.  What is given is only looked at. */
static bool add_spares(struct search *s, struct plan_result *r, struct err *e)
{
    const struct plan_instance *in = s->in;
    uint32_t want = (uint32_t)s->o->redundancy + 1;
    bool *placed = malloc(in->module_count), *done = calloc(in->module_count, 1);
    r->unprotected = calloc(in->module_count, sizeof(bool));
    bool ok = placed && done && r->unprotected;
    for (uint32_t i = 0; ok && i < in->module_count; i++)
        placed[i] = true;
    eval_set_all(&s->v, s->best);
    for (uint32_t i = 0; ok && !s->o->given && i < in->module_count; i++) {
        uint32_t m = UINT32_MAX;
        for (uint32_t k = 0; k < in->module_count; k++)
            if (!done[k] &&
                (m == UINT32_MAX || in->modules[k].memory_bytes < in->modules[m].memory_bytes))
                m = k;
        done[m] = true;
        while (s->v.sites[m].count < want && search_free(s, m) && add_spare(s, m, placed, e))
            ;
    }
    free(placed);
    free(done);
    if (!ok)
        return err_set(e, ERR_MEMORY, "no memory for spare places");
    if (!eval_full(&s->v, e))
        return false;
    if (score_feasible(s->v.now)) {
        memcpy(s->best, s->v.sites, in->module_count * sizeof(*s->best));
        s->bound = -INFINITY; /* was proven for placements without spare places */
    }
    mark_unprotected(s, s->best, r);
    return true;
}

/* ---- the result ---- */

static bool copy_result(struct search *s, struct plan_result *r, struct err *e)
{
    const struct plan_instance *in = s->in;
    eval_set_all(&s->v, s->best);
    if (!eval_full(&s->v, e))
        return false;
    r->value = s->v.now.value;
    r->bound = s->bound > 0 || (s->complete && s->bound >= 0) ? fmin(s->bound, r->value) : NAN;
    r->certified = !isnan(r->bound) && r->value - r->bound <= 1e-9 * r->value;
    if (r->certified && s->complete)
        r->bound = r->value;
    r->stopped = r->certified ? PLAN_NOT_STOPPED : s->stopped; /* what is proven lost nothing */
    r->sites = s->best;
    s->best = NULL;
    r->device_bytes = calloc(in->device_count, sizeof(double));
    r->latency_ms = calloc(in->request_count + 1u, sizeof(double));
    r->route = calloc(in->request_count + 1u, sizeof(*r->route));
    if (!r->device_bytes || !r->latency_ms || !r->route)
        return err_set(e, ERR_MEMORY, "no memory for a plan");
    memcpy(r->device_bytes, s->v.used, in->device_count * sizeof(double));
    memcpy(r->latency_ms, s->v.t, in->request_count * sizeof(double));
    for (uint32_t q = 0; q < in->request_count; q++) {
        size_t bytes = in->models[in->requests[q].model].slot_count * sizeof(uint32_t);
        r->route[q] = malloc(bytes);
        if (!r->route[q])
            return err_set(e, ERR_MEMORY, "no memory for a plan");
        memcpy(r->route[q], s->v.route + s->v.slot_first[q], bytes);
    }
    return true;
}

bool plan_solve(const struct plan_instance *in, const struct plan_options *o,
                struct plan_result *ret, struct err *e)
{
    struct search s;
    memset(ret, 0, sizeof(*ret));
    ret->method = o->method;
    if (o->redundancy < 0 || o->redundancy >= (int)PLAN_REPLICAS_MAX)
        return err_set(e, ERR_INVALID, "redundancy: %d, allowed are 0 to %u", o->redundancy,
                       PLAN_REPLICAS_MAX - 1);
    if (!search_init(&s, in, o, e))
        return false;
    bool ok = run_method(&s, e);
    if (ok && !s.found)
        ok = fail(&s, &ret->status, e);
    ok = ok && (o->redundancy == 0 || add_spares(&s, ret, e)) && copy_result(&s, ret, e) &&
         (!o->explain || explain_fill(&s, ret, e));
    ret->evaluations = s.v.count;
    search_done(&s);
    if (!ok)
        plan_result_clear(in, ret);
    return ok;
}

void plan_result_clear(const struct plan_instance *in, struct plan_result *r)
{
    enum plan_status status = r->status;
    for (uint32_t q = 0; q < in->request_count; q++) {
        if (r->route)
            free(r->route[q]);
        if (r->path)
            free(r->path[q]);
    }
    for (uint32_t m = 0; r->reason && m < in->module_count; m++)
        free(r->reason[m]);
    free(r->sites);
    free(r->device_bytes);
    free(r->latency_ms);
    free(r->route);
    free(r->reason);
    free(r->path);
    free(r->unprotected);
    memset(r, 0, sizeof(*r));
    r->status = status;
}
