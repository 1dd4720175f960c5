/* planner.c - see planner.h.
 *
 * Locking: `planning` is held over a plan, so that add and the planner's thread don't make two at
 * once; it is taken before `lock`, never while that is held. */
#include "coord/planner.h"

#include "base/clock.h"
#include "base/log.h"
#include "coord/instance.h"
#include "coord/internal.h"
#include "coord/replan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT_MS 300 /* of one search */
#define TRIES 8      /* plans for a fleet that changes meanwhile */
#define TICK_MS 500

/* ---- one plan --------------------------------------------------------------------------------- */

struct job {
    struct coord *coord;
    const struct plan_wish *wish;
    struct snapshot s;
    struct plan_instance *in;
    struct replan_result r;
    int64_t end_ns; /* of the search that runs */
};

static void arm(void *job)
{
    ((struct job *)job)->end_ns = clock_deadline_ms(LIMIT_MS);
}

static bool late(void *job)
{
    struct job *j = job;
    return clock_now_ns() >= j->end_ns || j->coord->stop;
}

static void clear_job(struct job *j)
{
    if (j->in)
        replan_clear(j->in, &j->r);
    plan_instance_free(j->in);
    snapshot_clear(&j->s);
    j->in = NULL;
}

/* models: which of the fleet, or NULL: all. */
static bool make(struct job *j, const bool *models, enum plan_method method, struct err *e)
{
    struct coord *c = j->coord;
    monitor_lock(&c->lock);
    bool ok = snapshot_take(c, models, &j->s, e);
    uint32_t left = allowance_left(&c->allowance, clock_now_ns());
    int redundancy = c->redundancy;
    monitor_unlock(&c->lock);
    if (!ok || !plan_instance_read(j->s.json, &j->in, e))
        return false;
    struct replan q = {.in = j->in,
                       .now = j->s.now,
                       .cost_ms = j->s.cost_ms,
                       .pins = j->s.pins,
                       .redundancy = redundancy,
                       .method = method,
                       .rates_only = j->wish->rates_only,
                       .moves_left = left,
                       .arm = arm,
                       .stop = late,
                       .ctx = j};
    return replan_decide(&q, &j->r, e);
}

/* ---- taking it over --------------------------------------------------------------------------- */

static void device_names(struct coord *c, const char (*ids)[WIRE_ID_MAX], uint32_t count, char *to,
                         size_t size)
{
    size_t n = 0;
    to[0] = 0;
    for (uint32_t i = 0; i < count && n < size; i++) {
        const struct device *d = fleet_device(&c->fleet, ids[i]);
        n += (size_t)snprintf(to + n, size - n, "%s%s", i ? ", " : "", d ? d->join.name : ids[i]);
    }
}

static void note_move(struct coord *c, const struct job *j, const struct module *m,
                      const char (*to)[WIRE_ID_MAX], uint32_t count)
{
    struct move *x = moves_add(&c->moves);
    x->wall_ms = clock_wall_ms();
    x->module = m->digest;
    memcpy(x->name, m->name, sizeof(x->name));
    device_names(c, (const char(*)[WIRE_ID_MAX])m->desired, m->desired_count, x->from,
                 sizeof(x->from));
    device_names(c, to, count, x->to, sizeof(x->to));
    memcpy(x->cause, j->wish->cause, sizeof(x->cause));
    (void)snprintf(x->why, sizeof(x->why), "%s", j->r.why);
}

static bool same_place(const struct module *m, const char (*ids)[WIRE_ID_MAX], uint32_t count)
{
    bool same = m->desired_count == count;
    for (uint32_t i = 0; same && i < count; i++) {
        bool found = false;
        for (uint32_t k = 0; k < count; k++)
            found = found || strcmp(m->desired[k], ids[i]) == 0;
        same = found;
    }
    return same;
}

/* With the lock held.  A module that stays keeps the reason for which it once went there. */
static bool take_over(struct coord *c, const struct job *j, struct err *e)
{
    bool moved = false;
    for (uint32_t i = 0; i < j->s.module_count; i++) {
        struct module *m = fleet_module(&c->fleet, j->s.modules[i].hex);
        const struct plan_sites *sites = &j->r.sites[i];
        char ids[PLAN_REPLICAS_MAX][WIRE_ID_MAX];
        const char *list[PLAN_REPLICAS_MAX];
        for (uint32_t k = 0; k < sites->count; k++) {
            memcpy(ids[k], j->s.devices[sites->device[k]], WIRE_ID_MAX);
            list[k] = ids[k];
        }
        if (!m || sites->count == 0 || same_place(m, (const char(*)[WIRE_ID_MAX])ids, sites->count))
            continue;
        const char *reason = j->r.reason ? j->r.reason[i] : m->reason;
        note_move(c, j, m, (const char(*)[WIRE_ID_MAX])ids, sites->count);
        if (!fleet_place(&c->fleet, m, list, sites->count, reason, e))
            return false;
        moved = true;
    }
    if (moved)
        c->epoch++;
    if (moved && j->wish->rates_only)
        allowance_take(&c->allowance, j->r.moves);
    coord_touch(c);
    return !moved || moves_save(&c->moves, c->state, e);
}

/* ---- models that don't fit -------------------------------------------------------------------- */

static bool has_place(struct coord *c, const struct model_entry *m)
{
    for (uint32_t i = 0; i < m->module_count; i++) {
        const struct module *x = fleet_module(&c->fleet, m->modules[i].hex);
        bool found = false;
        for (uint32_t k = 0; x && k < x->desired_count && !found; k++) {
            const struct device *d = fleet_device(&c->fleet, x->desired[k]);
            found = device_usable(d);
        }
        if (!found)
            return false;
    }
    return true;
}

/* Models that live stay in; of the others as many as fit, in their order. */
static bool make_partial(struct job *j, struct err *e)
{
    struct coord *c = j->coord;
    monitor_lock(&c->lock);
    uint32_t count = c->fleet.model_count;
    bool *models = calloc(count + 1u, sizeof(*models));
    for (uint32_t i = 0; models && i < count; i++)
        models[i] = has_place(c, &c->fleet.models[i]);
    uint64_t epoch = c->epoch;
    monitor_unlock(&c->lock);
    if (!models)
        return err_set(e, ERR_MEMORY, "placement: no memory");
    bool ok = make(j, models, PLAN_BEST_GREEDY, e);
    for (uint32_t i = 0; i < count && (!ok || j->s.epoch == epoch); i++) {
        struct job more = {.coord = c, .wish = j->wish};
        if (models[i])
            continue;
        models[i] = true;
        if (make(&more, models, PLAN_BEST_GREEDY, e) && more.s.epoch == epoch) {
            clear_job(j);
            *j = more;
            ok = true;
        } else {
            models[i] = false;
            clear_job(&more);
        }
    }
    free(models);
    return ok;
}

/* ---- plans ------------------------------------------------------------------------------------ */

static bool attempt(struct coord *c, const struct plan_wish *w, bool *again, struct err *e)
{
    struct job j = {.coord = c, .wish = w};
    bool ok = make(&j, NULL, PLAN_AUTO, e);
    if (!ok && w->partial && e->code == ERR_NO_PLACE) {
        clear_job(&j);
        ok = make_partial(&j, e);
    }
    monitor_lock(&c->lock);
    *again = j.s.epoch != c->epoch && !c->stop;
    if (ok && !*again) {
        log_debug("coord", "plan (%s): %s", w->cause, j.r.why);
        (void)snprintf(c->decision, sizeof(c->decision), "%.200s: %s%.250s", w->cause,
                       j.r.adopt ? "" : "nothing moves, ", j.r.why);
        ok = take_over(c, &j, e);
    }
    monitor_unlock(&c->lock);
    clear_job(&j);
    return ok;
}

bool coord_plan_held(struct coord *c, const struct plan_wish *w, struct err *e)
{
    monitor_lock(&c->lock);
    bool any = c->fleet.model_count > 0;
    rates_planned(&c->rates);
    for (uint32_t i = 0; i < c->fleet.module_count; i++)
        c->fleet.modules[i].planned_stretch = fleet_stretch(&c->fleet.modules[i]);
    monitor_unlock(&c->lock);
    bool again = any, ok = true;
    for (int i = 0; again && i < TRIES; i++)
        ok = attempt(c, w, &again, e);
    if (again) {
        ok = err_set(e, ERR_BUSY, "placement: the fleet changes too fast to plan for it");
        monitor_lock(&c->lock);
        c->replan = true;
        monitor_unlock(&c->lock);
    }
    return ok;
}

bool coord_plan(struct coord *c, const struct plan_wish *w, struct err *e)
{
    (void)pthread_mutex_lock(&c->planning);
    bool ok = coord_plan_held(c, w, e);
    (void)pthread_mutex_unlock(&c->planning);
    return ok;
}

void coord_ask_plan(struct coord *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(c->wish.cause, sizeof(c->wish.cause), format, args);
    va_end(args);
    c->wish.partial = true;
    c->wish.rates_only = false;
    c->replan = c->placing = true;
    c->epoch++;
    coord_touch(c);
}

/* ---- the thread ------------------------------------------------------------------------------- */

/* With the lock held. */
static void ask_unplaced(struct coord *c)
{
    for (uint32_t i = 0; i < c->fleet.model_count; i++)
        if (!has_place(c, &c->fleet.models[i])) {
            coord_ask_plan(c, "the coordinator started");
            return;
        }
}

/* A module whose runs in service take longer (or shorter again) than the last plan was made for. */
static const struct module *stretched(struct coord *c)
{
    for (uint32_t i = 0; i < c->fleet.module_count; i++) {
        const struct module *m = &c->fleet.modules[i];
        double now = fleet_stretch(m), was = m->planned_stretch > 0 ? m->planned_stretch : 1;
        if (now > was * RATES_CHANGE || was > now * RATES_CHANGE)
            return m;
    }
    return NULL;
}

/* With the lock held. */
static void look_at_rates(struct coord *c)
{
    if (c->own_usage) {
        json_t *usage = c->own_usage(c->usage_ctx);
        rates_count(&c->rates, "", usage);
        json_decref(usage);
    }
    rates_tick(&c->rates, clock_now_ns());
    const struct rate *r = rates_changed(&c->rates);
    const struct module *m = r ? NULL : stretched(c);
    if ((!r && !m) || c->replan)
        return;
    if (r)
        (void)snprintf(c->wish.cause, sizeof(c->wish.cause), "%.80s %.80s: %.3g per s, was %.3g",
                       r->model, r->task, r->per_s, r->planned);
    else
        (void)snprintf(c->wish.cause, sizeof(c->wish.cause),
                       "%.100s runs %.3g times as long as measured, %.3g at the last plan", m->name,
                       fleet_stretch(m), m->planned_stretch > 0 ? m->planned_stretch : 1);
    c->wish.partial = c->wish.rates_only = true;
    c->replan = true;
}

/* Waits until a plan is due, with the rates looked at on the way; false: the end. */
static bool wait_for_wish(struct coord *c, struct plan_wish *ret, int64_t *rates_ns, bool *begun)
{
    monitor_lock(&c->lock);
    for (;;) {
        int64_t now = clock_now_ns();
        bool ready = now >= c->grace_ns;
        if (ready && !*begun)
            ask_unplaced(c);
        *begun = *begun || ready;
        if (now >= *rates_ns) {
            look_at_rates(c);
            *rates_ns = now + (int64_t)(RATES_PERIOD_S * (double)NS_PER_S);
        }
        if (c->stop || (c->replan && ready))
            break;
        (void)monitor_wait(&c->lock, clock_deadline_ms(TICK_MS));
    }
    bool stop = c->stop;
    *ret = c->wish;
    c->replan = false;
    monitor_unlock(&c->lock);
    return !stop;
}

void *coord_planner_run(void *coord)
{
    struct coord *c = coord;
    struct plan_wish w;
    int64_t rates_ns = 0;
    bool begun = false;
    while (wait_for_wish(c, &w, &rates_ns, &begun)) {
        struct err e = {0};
        /* What can't be planned stays where it is. */
        if (!coord_plan(c, &w, &e))
            log_debug("coord", "plan (%s): %s", w.cause, e.text);
        monitor_lock(&c->lock);
        if (!c->replan && c->placing) {
            c->placing = false;
            coord_touch(c);
        }
        monitor_unlock(&c->lock);
    }
    return NULL;
}
