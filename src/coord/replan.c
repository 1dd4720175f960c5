/* replan.c - see replan.h.
 *
 * Passes: a plan (find), what does not pay is taken back out of it (prune), both valued at the same
 * rates (compare), the decision, reasons. */
#include "coord/replan.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PRUNE_MAX 256u /* modules that are tried where they are now */
#define VALUE_EPS 1e-6 /* relative: what differs by less is equal */

/* ---- sites ---- */

static bool has_site(const struct plan_sites *s, uint32_t device)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (s->device[i] == device)
            return true;
    return false;
}

static bool same_sites(const struct plan_sites *a, const struct plan_sites *b)
{
    if (a->count != b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (!has_site(b, a->device[i]))
            return false;
    return true;
}

static uint32_t added(const struct plan_sites *before, const struct plan_sites *after)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < after->count; i++)
        n += !has_site(before, after->device[i]);
    return n;
}

static double cost_of(const struct replan *q, uint32_t module, const struct plan_sites *after)
{
    double ms = 0;
    for (uint32_t i = 0; i < after->count; i++)
        if (!has_site(&q->now[module], after->device[i]))
            ms += q->cost_ms[(size_t)module * q->in->device_count + after->device[i]];
    return ms;
}

/* Places that survive as many deaths as is asked for. */
static uint32_t protection(const struct replan *q, const struct plan_sites *s)
{
    uint32_t want = (uint32_t)q->redundancy + 1;
    return s->count < want ? s->count : want;
}

static uint32_t protection_of_all(const struct replan *q, const struct plan_sites *sites)
{
    uint32_t n = 0;
    for (uint32_t m = 0; m < q->in->module_count; m++)
        n += protection(q, &sites[m]);
    return n;
}

/* ---- values ---- */

static void scale_rates(struct plan_instance *in, double factor)
{
    for (uint32_t i = 0; i < in->request_count; i++)
        in->requests[i].rate_per_s *= factor;
}

static bool value_of(const struct replan *q, const struct plan_sites *sites, double *ret,
                     struct err *e)
{
    *ret = INFINITY;
    for (uint32_t m = 0; m < q->in->module_count; m++)
        if (sites[m].count == 0)
            return true;
    return plan_evaluate(q->in, sites, ret, NULL, NULL, e);
}

/* ---- pass 1: a plan ---- */

static bool search(const struct replan *q, struct plan_sites **ret, struct err *e)
{
    struct plan_result r;
    struct plan_options o = {.method = q->method,
                             .stop = q->stop,
                             .stop_ctx = q->ctx,
                             .pins = q->pins,
                             .redundancy = q->redundancy};
    if (q->arm)
        q->arm(q->ctx);
    if (!plan_solve(q->in, &o, &r, e))
        return false;
    *ret = r.sites;
    r.sites = NULL;
    plan_result_clear(q->in, &r);
    return true;
}

/* The rates are left as they were borne. */
static bool find(const struct replan *q, struct plan_sites **sites, double *scale, struct err *e)
{
    *scale = 1;
    if (search(q, sites, e))
        return true;
    if (e->code != ERR_NO_PLACE)
        return false;
    struct plan_sites *any;
    q->in->objective = PLAN_LATENCY;
    if (!search(q, &any, e)) /* not even without rates: memory is what is missing */
        return false;
    q->in->objective = PLAN_LOAD;
    for (int i = 0; i < REPLAN_HALVINGS; i++) {
        *scale /= 2;
        scale_rates(q->in, 0.5);
        if (search(q, sites, e)) {
            free(any);
            return true;
        }
    }
    q->in->objective = PLAN_LATENCY;
    *scale = 0;
    *sites = any;
    return true;
}

/* ---- pass 2: what does not pay stays ---- */

/* Tries m on other sites: they are taken if that costs less than `worth` ms/s. */
static bool try_sites(const struct replan *q, struct plan_sites *sites, uint32_t m,
                      const struct plan_sites *other, double worth, double *value, struct err *e)
{
    struct plan_sites before = sites[m];
    double changed;
    sites[m] = *other;
    if (!value_of(q, sites, &changed, e))
        return false;
    if (changed <= *value * (1 + VALUE_EPS) + worth)
        *value = changed;
    else
        sites[m] = before;
    return true;
}

/* Back to where it is now; else without the new replicas that don't pay. */
static bool prune_one(const struct replan *q, struct plan_sites *sites, uint32_t m, double *value,
                      struct err *e)
{
    const struct plan_sites *now = &q->now[m];
    if (now->count > 0 && protection(q, now) >= protection(q, &sites[m]) &&
        !try_sites(q, sites, m, now, cost_of(q, m, &sites[m]) / REPLAN_HORIZON_S, value, e))
        return false;
    for (uint32_t i = sites[m].count; i-- > 0;) {
        struct plan_sites less = sites[m];
        if (less.count == 1 || has_site(now, less.device[i]))
            continue;
        memmove(&less.device[i], &less.device[i + 1], (less.count - i - 1) * sizeof(uint32_t));
        less.count--;
        double worth = (cost_of(q, m, &sites[m]) - cost_of(q, m, &less)) / REPLAN_HORIZON_S;
        if (protection(q, &less) == protection(q, &sites[m]) &&
            !try_sites(q, sites, m, &less, worth, value, e))
            return false;
    }
    return true;
}

static bool prune(const struct replan *q, struct plan_sites *sites, double *value, struct err *e)
{
    uint32_t tried = 0;
    if (!value_of(q, sites, value, e))
        return false;
    for (uint32_t m = 0; m < q->in->module_count && tried < PRUNE_MAX; m++) {
        if (same_sites(&q->now[m], &sites[m]) ||
            (q->pins && json_object_get(q->pins, q->in->modules[m].name)))
            continue;
        tried++;
        if (!prune_one(q, sites, m, value, e))
            return false;
    }
    return true;
}

/* ---- pass 3: the same rates for both ---- */

static bool compare(const struct replan *q, const struct plan_sites *sites,
                    struct replan_result *ret, struct err *e)
{
    if (!value_of(q, q->now, &ret->before, e))
        return false;
    if (isfinite(ret->before) || q->in->objective != PLAN_LOAD)
        return true;
    double half;
    scale_rates(q->in, 0.5);
    bool ok = value_of(q, q->now, &half, e);
    if (ok && isfinite(half)) {
        ret->before = half;
        ret->scale /= 2;
        return value_of(q, sites, &ret->after, e);
    }
    scale_rates(q->in, 2);
    return ok;
}

/* ---- the decision ---- */

static const char *forced(const struct replan *q, const struct plan_sites *sites)
{
    for (uint32_t m = 0; m < q->in->module_count; m++) {
        if (q->now[m].count == 0)
            return "a module has no place";
        if (q->pins && json_object_get(q->pins, q->in->modules[m].name) &&
            !same_sites(&q->now[m], &sites[m]))
            return "a pin says so";
    }
    if (protection_of_all(q, sites) > protection_of_all(q, q->now))
        return "more modules survive a loss";
    return NULL;
}

static void decide(const struct replan *q, struct replan_result *r)
{
    double gain = r->before - r->after;
    const char *must = forced(q, r->sites);
    for (uint32_t m = 0; m < q->in->module_count; m++) {
        r->moves += added(&q->now[m], &r->sites[m]);
        r->cost_ms += cost_of(q, m, &r->sites[m]);
        r->adopt = r->adopt || !same_sites(&q->now[m], &r->sites[m]);
    }
    bool pays = !isfinite(r->before) ||
                (gain > REPLAN_GAIN_MIN * r->before && gain * REPLAN_HORIZON_S > r->cost_ms);
    if (!r->adopt) {
        (void)snprintf(r->why, sizeof(r->why), "nothing better is known");
    } else if (must) {
        (void)snprintf(r->why, sizeof(r->why), "%s", must);
    } else if (!pays) {
        r->adopt = false;
        (void)snprintf(r->why, sizeof(r->why),
                       "%.3g ms/s less of %.3g don't pay for %u moves of %.0f ms together", gain,
                       r->before, r->moves, r->cost_ms);
    } else if (q->rates_only && r->moves > q->moves_left) {
        r->adopt = false;
        (void)snprintf(r->why, sizeof(r->why),
                       "%u moves, %u left of %.0f per hour that rates alone may cause", r->moves,
                       q->moves_left, REPLAN_MOVES_PER_HOUR);
    } else if (isfinite(r->before)) {
        (void)snprintf(r->why, sizeof(r->why),
                       "requests take %.3g ms/s instead of %.3g; moving takes %.0f ms", r->after,
                       r->before, r->cost_ms);
    } else {
        (void)snprintf(r->why, sizeof(r->why),
                       "the places as they were don't bear the rates; moving takes %.0f ms",
                       r->cost_ms);
    }
}

static bool explain(const struct replan *q, struct replan_result *r, struct err *e)
{
    struct plan_result x;
    struct plan_options o = {.given = r->sites,
                             .given_note = "alone not worth its move",
                             .pins = q->pins,
                             .explain = true};
    if (!plan_solve(q->in, &o, &x, e))
        return false;
    r->reason = x.reason;
    x.reason = NULL;
    plan_result_clear(q->in, &x);
    return true;
}

bool replan_decide(const struct replan *q, struct replan_result *ret, struct err *e)
{
    *ret = (struct replan_result){0};
    bool ok = find(q, &ret->sites, &ret->scale, e) && prune(q, ret->sites, &ret->after, e) &&
              compare(q, ret->sites, ret, e);
    if (ok) {
        decide(q, ret);
        if (!ret->adopt)
            memcpy(ret->sites, q->now, q->in->module_count * sizeof(*ret->sites));
        ok = !ret->adopt || explain(q, ret, e);
    }
    if (!ok)
        replan_clear(q->in, ret);
    return ok;
}

void replan_clear(const struct plan_instance *in, struct replan_result *r)
{
    for (uint32_t m = 0; r->reason && m < in->module_count; m++)
        free(r->reason[m]);
    free(r->reason);
    free(r->sites);
    *r = (struct replan_result){0};
}

/* ---- moves per hour ---- */

uint32_t allowance_left(struct allowance *a, int64_t now_ns)
{
    double hours = (double)(now_ns - a->at_ns) / (3600.0 * (double)NS_PER_S);
    a->left = a->at_ns == 0 ? REPLAN_MOVES_PER_HOUR : a->left + hours * REPLAN_MOVES_PER_HOUR;
    a->left = a->left < REPLAN_MOVES_PER_HOUR ? a->left : REPLAN_MOVES_PER_HOUR;
    a->at_ns = now_ns;
    return (uint32_t)a->left;
}

void allowance_take(struct allowance *a, uint32_t moves)
{
    a->left = a->left > moves ? a->left - moves : 0;
}
