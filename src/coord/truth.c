/* truth.c - see truth.h. */
#include "coord/truth.h"

#include "base/clock.h"
#include "base/log.h"
#include "coord/ask.h"
#include "coord/instance.h"
#include "coord/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TARGETS_MAX 64u    /* measured again after one look */
#define FIGURE_CHANGED 0.2 /* of a run's time: a plan is due */
#define TICK_MS 500
#define MS_PER_S 1000
#define AGAIN_MAX 8u /* then a figure is what it is */

void truth_clear(struct truth *t)
{
    free(t->rows);
    *t = (struct truth){0};
}

static struct prediction *find(struct truth *t, const char *model, const char *task,
                               const char *device)
{
    for (uint32_t i = 0; i < t->count; i++) {
        struct prediction *p = &t->rows[i];
        if (strcmp(p->model, model) == 0 && strcmp(p->task, task) == 0 &&
            strcmp(p->device, device) == 0)
            return p;
    }
    struct prediction *more =
        t->count < TRUTH_MAX ? realloc(t->rows, (t->count + 1) * sizeof(*more)) : NULL;
    if (!more)
        return NULL;
    t->rows = more;
    struct prediction *p = &more[t->count++];
    *p = (struct prediction){0};
    (void)snprintf(p->model, sizeof(p->model), "%s", model);
    (void)snprintf(p->task, sizeof(p->task), "%s", task);
    (void)snprintf(p->device, sizeof(p->device), "%s", device);
    return p;
}

struct prediction *truth_note(struct truth *t, const char *model, const char *task,
                              const char *device, double predicted_ms, double measured_ms,
                              double answers, int64_t wall_ms)
{
    struct prediction *p = find(t, model, task, device);
    if (!p)
        return NULL;
    double by = fabs(predicted_ms - measured_ms);
    p->predicted_ms = predicted_ms;
    p->measured_ms = measured_ms;
    p->answers = answers;
    p->wall_ms = wall_ms;
    p->off = by > TRUTH_OFF * measured_ms && by > TRUTH_OFF_MS ? p->off + 1 : 0;
    return p;
}

json_t *truth_json(const struct coord *c)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->truth.count; i++) {
        const struct prediction *p = &c->truth.rows[i];
        const struct device *d = fleet_device((struct fleet *)(uintptr_t)&c->fleet, p->device);
        json_array_append_new(list,
                              json_pack("{s:s,s:s,s:s,s:f,s:f,s:I,s:b,s:I,s:I}", "model", p->model,
                                        "task", p->task, "device", d ? d->join.name : "",
                                        "predicted_ms", p->predicted_ms, "measured_ms",
                                        p->measured_ms, "answers", (json_int_t)p->answers, "wrong",
                                        p->off >= TRUTH_WRONG, "at_ms", (json_int_t)p->wall_ms,
                                        "measured_again_ms", (json_int_t)p->measured_again_ms));
    }
    return list;
}

/* ---- a look ----------------------------------------------------------------------------------- */

/* Times of one (model, task, gateway) since the last look. */
struct seen {
    char model[WIRE_NAME_MAX], task[WIRE_NAME_MAX], device[WIRE_ID_MAX];
    double answers, ms, around_ms;
};

struct look {
    struct coord *coord;
    struct snapshot s;
    struct plan_instance *in;
    struct seen *seen; /* owned */
    uint32_t seen_count;
    double *latency_ms; /* by request of the instance; owned */
    struct ask_again targets[TARGETS_MAX];
    uint32_t target_count;
};

static void clear_look(struct look *l)
{
    snapshot_clear(&l->s);
    plan_instance_free(l->in);
    free(l->seen);
    free(l->latency_ms);
}

static bool all_in_place(const struct fleet *f)
{
    for (uint32_t i = 0; i < f->module_count; i++)
        for (uint32_t k = 0; k < f->modules[i].desired_count; k++) {
            const struct device *d =
                fleet_device((struct fleet *)(uintptr_t)f, f->modules[i].desired[k]);
            const struct module_report *r =
                d && d->alive ? device_report(d, f->modules[i].digest.hex) : NULL;
            if (!r || r->state != MODULE_READY)
                return false;
        }
    return true;
}

static void add_target(struct look *l, const struct digest *module, const char *device,
                       int64_t fresh_s)
{
    for (uint32_t i = 0; i < l->target_count; i++)
        if (strcmp(l->targets[i].module.hex, module->hex) == 0 &&
            strcmp(l->targets[i].device, device) == 0)
            return;
    const struct profile *p = fleet_profile(&l->coord->fleet, module->hex, device);
    if (!p || p->again >= AGAIN_MAX || l->target_count == TARGETS_MAX ||
        clock_wall_ms() - p->wall_ms < (fresh_s << (2 * p->again)) * MS_PER_S)
        return;
    struct ask_again *t = &l->targets[l->target_count++];
    t->module = *module;
    memcpy(t->device, device, sizeof(t->device));
}

/* With the lock held: modules that run longer in service than their figures say, where they are. */
static void add_stretched(struct look *l)
{
    const struct fleet *f = &l->coord->fleet;
    for (uint32_t i = 0; i < f->module_count; i++)
        for (uint32_t k = 0; k < f->modules[i].desired_count; k++)
            if (fleet_stretch(&f->modules[i]) > RATES_CHANGE)
                add_target(l, &f->modules[i].digest, f->modules[i].desired[k], TRUTH_FRESH_S);
}

static double speed_of(struct fleet *f, const char *device)
{
    const struct device *d = fleet_device(f, device);
    return d && d->alive ? d->join.gflops : 0;
}

/* With the lock held: figures that another device's make unlikely. */
static void add_odd(struct look *l)
{
    struct fleet *f = &l->coord->fleet;
    for (uint32_t i = 0; i < f->profile_count; i++) {
        const struct profile *p = &f->profiles[i];
        double speed = speed_of(f, p->device), likely = INFINITY;
        if (speed <= 0 || p->run_ms < TRUTH_OFF_MS || !fleet_module(f, p->module.hex))
            continue;
        for (uint32_t k = 0; k < f->profile_count; k++) {
            const struct profile *q = &f->profiles[k];
            double other = k == i || strcmp(q->module.hex, p->module.hex) != 0 || q->run_ms <= 0
                               ? 0
                               : speed_of(f, q->device);
            if (other > 0)
                likely = fmin(likely, q->run_ms * other / speed);
        }
        if (p->run_ms > TRUTH_ODD * likely)
            add_target(l, &p->module, p->device, TRUTH_ODD_S);
    }
}

/* With the lock held: what there is to compare; false: nothing. */
static bool collect(struct look *l)
{
    struct coord *c = l->coord;
    bool rest = c->truth.epoch == c->epoch && !c->replan && all_in_place(&c->fleet);
    c->truth.epoch = c->epoch;
    add_stretched(l);
    add_odd(l);
    l->seen = calloc(c->rates.count + 1u, sizeof(*l->seen));
    for (uint32_t i = 0; l->seen && i < c->rates.count; i++) {
        struct rate *r = &c->rates.rows[i];
        if (rest && r->timed < TRUTH_ANSWERS)
            continue;
        if (rest && r->device[0]) {
            struct seen *x = &l->seen[l->seen_count++];
            memcpy(x->model, r->model, sizeof(x->model));
            memcpy(x->task, r->task, sizeof(x->task));
            memcpy(x->device, r->device, sizeof(x->device));
            x->answers = r->timed;
            x->ms = r->timed_ms;
            x->around_ms = rates_around_ms(&c->rates, x->model, x->task);
        }
        r->timed = r->timed_ms = 0;
    }
    return l->seen_count > 0 && snapshot_take(c, NULL, &l->s, NULL);
}

/* "model", "model/task" and "model/task/2" are names of a program of the model. */
static bool is_program(const char *name, const struct seen *x)
{
    size_t n = strlen(x->model), k = strlen(x->task);
    if (strncmp(name, x->model, n) != 0)
        return false;
    if (!name[n])
        return true;
    return name[n] == '/' && strncmp(name + n + 1, x->task, k) == 0 &&
           (!name[n + 1 + k] || name[n + 1 + k] == '/');
}

static bool is_class(const struct look *l, uint32_t request, const struct seen *x)
{
    const struct plan_request *r = &l->in->requests[request];
    return is_program(l->in->models[r->model].name, x) &&
           strcmp(l->s.devices[r->source], x->device) == 0;
}

/* Mean over the requests of its class, by their rates, and what is around them; 0: there is none. */
static double predicted(const struct look *l, const struct seen *x)
{
    double ms = 0, rate = 0;
    for (uint32_t i = 0; i < l->in->request_count; i++)
        if (is_class(l, i, x)) {
            ms += l->in->requests[i].rate_per_s * l->latency_ms[i];
            rate += l->in->requests[i].rate_per_s;
        }
    return rate > 0 ? ms / rate + x->around_ms : 0;
}

/* With the lock held: the modules that requests of the class run, where they are. */
static void add_targets(struct look *l, const struct seen *x)
{
    for (uint32_t i = 0; i < l->in->request_count; i++) {
        const struct plan_model *m = &l->in->models[l->in->requests[i].model];
        if (!is_class(l, i, x))
            continue;
        for (uint32_t k = 0; k < m->call_count; k++) {
            const struct plan_sites *sites = &l->s.now[m->calls[k].module];
            for (uint32_t d = 0; d < sites->count; d++)
                add_target(l, &l->s.modules[m->calls[k].module], l->s.devices[sites->device[d]],
                           TRUTH_FRESH_S);
        }
    }
}

static void compare(struct look *l)
{
    struct coord *c = l->coord;
    double value;
    l->latency_ms = plan_instance_read(l->s.json, &l->in, NULL)
                        ? calloc(l->in->request_count + 1u, sizeof(double))
                        : NULL;
    if (!l->latency_ms || !plan_evaluate(l->in, l->s.now, &value, l->latency_ms, NULL, NULL) ||
        !isfinite(value)) /* overloaded: there is no mean latency to speak of */
        return;
    monitor_lock(&c->lock);
    for (uint32_t i = 0; i < l->seen_count; i++) {
        const struct seen *x = &l->seen[i];
        double ms = predicted(l, x), mean = x->ms / x->answers;
        struct prediction *p = ms > 0 ? truth_note(&c->truth, x->model, x->task, x->device, ms,
                                                   mean, x->answers, clock_wall_ms())
                                      : NULL;
        if (!p || p->off < TRUTH_WRONG)
            continue;
        uint32_t before = l->target_count;
        add_targets(l, x);
        if (l->target_count > before)
            p->measured_again_ms = p->wall_ms;
        log_debug("coord", "%s %s: predicted %.3g ms, measured %.3g ms (mean of %.0f)", x->model,
                  x->task, ms, mean, x->answers);
    }
    monitor_unlock(&c->lock);
}

static void measure_again(struct look *l)
{
    struct coord *c = l->coord;
    for (uint32_t i = 0; i < l->target_count && !c->stop; i++) {
        struct ask_again *t = &l->targets[i];
        struct err e = {0};
        if (!ask_measure_again(c, t, &e)) {
            log_debug("coord", "%.12s: not measured again: %s", t->module.hex, e.text);
            continue;
        }
        monitor_lock(&c->lock);
        const struct module *m = fleet_module(&c->fleet, t->module.hex);
        if (m && fabs(t->now_ms - t->was_ms) > FIGURE_CHANGED * t->was_ms && !c->replan) {
            (void)snprintf(c->wish.cause, sizeof(c->wish.cause),
                           "%.100s was measured again: %.3g ms, not %.3g", m->name, t->now_ms,
                           t->was_ms);
            c->wish.partial = c->wish.rates_only = true;
            c->replan = true;
        }
        monitor_unlock(&c->lock);
    }
}

void *coord_truth_run(void *coord)
{
    struct coord *c = coord;
    int64_t next_ns = clock_deadline_ms(TRUTH_PERIOD_S * 1000);
    monitor_lock(&c->lock);
    while (!c->stop) {
        if (clock_now_ns() < next_ns) {
            (void)monitor_wait(&c->lock, clock_deadline_ms(TICK_MS));
            continue;
        }
        struct look l = {.coord = c};
        bool any = collect(&l);
        monitor_unlock(&c->lock);
        if (any)
            compare(&l);
        measure_again(&l);
        clear_look(&l);
        next_ns = clock_deadline_ms(TRUTH_PERIOD_S * 1000);
        monitor_lock(&c->lock);
    }
    monitor_unlock(&c->lock);
    return NULL;
}
