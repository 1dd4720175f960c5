/* solve.c - from options to a method, from the best placement to a result.
 *
 * Passes: read options and pins; run the method; say nofit or notfound if nothing came out; spare
 * places (redundancy); the final figures by the full evaluator; reasons. */
#include "plan/search.h"

#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    ok = ok && (o->redundancy == 0 || spare_places(&s, ret, e)) && copy_result(&s, ret, e) &&
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
