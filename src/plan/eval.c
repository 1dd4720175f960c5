/* eval.c - times of requests under a placement.
 *
 * simulate() is the one place that knows how a request runs: calls in order of (ready time,
 * position), each on the lane of its device that is free first.  The objectives differ in what they
 * hand to it: free lanes (latency, load), lanes that stay (burst), run times stretched by
 * 1 / (1 - rho) (load).
 *
 * Lanes: a device needs no more lanes than calls can be on it, so lane_count is cut to that; lanes
 * are reset by raising `epoch`, which touches nothing. */
#include "plan/eval.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define ROUTE_TOLERANCE 1e-9
#define MEMO_ENTRIES_MAX (1u << 16) /* of one request */
#define MEMO_ALL_MAX (1u << 22)

/* ---- one request on one route ---- */

static double *lanes_of(struct eval *v, uint32_t device)
{
    double *lanes = v->lane + v->lane_first[device];
    if (v->stamp[device] != v->epoch) {
        memset(lanes, 0, v->lane_count[device] * sizeof(*lanes));
        v->stamp[device] = v->epoch;
    }
    return lanes;
}

static void start_anew(struct eval *v)
{
    if (++v->epoch == 0) { /* after 2^32 rounds old stamps would look new */
        memset(v->stamp, 0, v->in->device_count * sizeof(*v->stamp));
        v->epoch = 1;
    }
}

/* Runs one call that is ready; returns when it is done. */
static double take_lane(struct eval *v, uint32_t device, double ready, double length)
{
    double *lanes = lanes_of(v, device);
    uint32_t best = 0, count = v->lane_count[device];
    for (uint32_t i = 1; i < count; i++)
        if (lanes[i] < lanes[best])
            best = i;
    double finish = (lanes[best] > ready ? lanes[best] : ready) + length;
    v->undo_at[v->undo_count] = v->lane_first[device] + best;
    v->undo_value[v->undo_count++] = lanes[best];
    lanes[best] = finish;
    return finish;
}

static void undo_lanes(struct eval *v)
{
    while (v->undo_count > 0) {
        v->undo_count--;
        v->lane[v->undo_at[v->undo_count]] = v->undo_value[v->undo_count];
    }
}

/* When everything that a call needs has come to its device. */
static double ready_time(const struct eval *v, const struct plan_request *q,
                         const struct plan_model *m, uint32_t call, const uint32_t *route)
{
    const struct plan_instance *in = v->in;
    const struct plan_call *c = &m->calls[call];
    uint32_t here = route[c->slot];
    double ready = c->from_source ? plan_tau(in, q->source, here, q->input_bytes[call]) : 0;
    for (uint32_t i = 0; i < c->from_count; i++) {
        uint32_t p = m->from[c->from_first + i];
        double at = v->finish[p] + plan_tau(in, route[m->calls[p].slot], here,
                                            in->modules[m->calls[p].module].output_bytes);
        ready = at > ready ? at : ready;
    }
    return ready;
}

static uint32_t next_call(const struct eval *v, const struct plan_model *m)
{
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < m->call_count; i++)
        if (v->pending[i] == 0 && (best == UINT32_MAX || v->ready[i] < v->ready[best]))
            best = i;
    return best;
}

static double answer_time(const struct eval *v, const struct plan_request *q,
                          const struct plan_model *m, const uint32_t *route)
{
    const struct plan_instance *in = v->in;
    double end = 0;
    if (!m->answer_at_source) {
        const struct plan_call *last = &m->calls[m->call_count - 1];
        return v->finish[m->call_count - 1] +
               plan_tau(in, route[last->slot], q->source, q->answer_bytes);
    }
    for (uint32_t i = 0; i < m->call_count; i++) {
        const struct plan_call *c = &m->calls[i];
        double at = c->next_count > 0
                        ? 0
                        : v->finish[i] + plan_tau(in, route[c->slot], q->source,
                                                  in->modules[c->module].output_bytes);
        end = at > end ? at : end;
    }
    return end;
}

/* On the lanes as they are; lanes changed are in undo_*. */
static double simulate(struct eval *v, uint32_t request, const uint32_t *route, const double *rho)
{
    const struct plan_instance *in = v->in;
    const struct plan_request *q = &in->requests[request];
    const struct plan_model *m = &in->models[q->model];
    v->undo_count = 0;
    for (uint32_t i = 0; i < m->call_count; i++) {
        v->pending[i] = m->calls[i].from_count;
        if (v->pending[i] == 0)
            v->ready[i] = ready_time(v, q, m, i, route);
    }
    for (uint32_t taken = 0; taken < m->call_count; taken++) {
        uint32_t i = next_call(v, m);
        const struct plan_call *c = &m->calls[i];
        uint32_t device = route[c->slot];
        double run = plan_run(in, c->module, device);
        if (rho)
            run /= 1 - rho[device];
        if (!isfinite(v->ready[i]) || !isfinite(run))
            return INFINITY;
        v->finish[i] = take_lane(v, device, v->ready[i], q->runs[i] * run);
        v->pending[i] = UINT32_MAX;
        for (uint32_t k = 0; k < c->next_count; k++) {
            uint32_t n = m->next[c->next_first + k];
            if (--v->pending[n] == 0)
                v->ready[n] = ready_time(v, q, m, n, route);
        }
    }
    return answer_time(v, q, m, route);
}

double eval_alone(struct eval *v, uint32_t request, const uint32_t *route, const double *rho)
{
    start_anew(v);
    return simulate(v, request, route, rho);
}

/* ---- load: shares of devices ---- */

static double share(const struct plan_instance *in, const struct plan_request *q, uint32_t call,
                    uint32_t module, uint32_t device)
{
    return q->rate_per_s * q->runs[call] * plan_run(in, module, device) /
           (1000 * (double)in->devices[device].lanes);
}

static void add_shares(const struct eval *v, uint32_t request, const uint32_t *route, double *rho)
{
    const struct plan_request *q = &v->in->requests[request];
    const struct plan_model *m = &v->in->models[q->model];
    for (uint32_t i = 0; i < m->call_count; i++)
        rho[route[m->calls[i].slot]] +=
            share(v->in, q, i, m->calls[i].module, route[m->calls[i].slot]);
}

/* The largest rho on the route. */
static double busiest(const struct plan_model *m, const uint32_t *route, const double *rho)
{
    double most = 0;
    for (uint32_t s = 0; s < m->slot_count; s++)
        most = rho[route[s]] > most ? rho[route[s]] : most;
    return most;
}

/* Time with the request's own share added; rho is left as it was. */
static double with_own_share(struct eval *v, uint32_t request, const uint32_t *route, double *rho)
{
    const struct plan_model *m = &v->in->models[v->in->requests[request].model];
    double t = INFINITY;
    for (uint32_t s = 0; s < m->slot_count; s++)
        v->saved_rho[s] = rho[route[s]];
    add_shares(v, request, route, rho);
    if (busiest(m, route, rho) < EVAL_RHO_MAX)
        t = eval_alone(v, request, route, rho);
    for (uint32_t s = m->slot_count; s-- > 0;)
        rho[route[s]] = v->saved_rho[s];
    return t;
}

/* ---- routes ---- */

size_t eval_routes(const struct eval *v, uint32_t request)
{
    const struct plan_model *m = &v->in->models[v->in->requests[request].model];
    size_t routes = 1;
    for (uint32_t s = 0; s < m->slot_count; s++) {
        routes *= v->sites[m->modules[s]].count;
        if (routes > PLAN_ROUTES_MAX)
            return PLAN_ROUTES_MAX + 1;
    }
    return routes;
}

/* Where the time of a request alone on a route is kept; NULL: nowhere, that would be too much. */
static double *memo_at(struct eval *v, uint32_t request, const uint32_t *route)
{
    const struct plan_instance *in = v->in;
    uint32_t slots = in->models[in->requests[request].model].slot_count;
    size_t size = 1, at = 0;
    for (uint32_t s = 0; s < slots; s++) {
        at = at * in->device_count + route[s];
        size *= in->device_count;
        if (size > MEMO_ENTRIES_MAX)
            return NULL;
    }
    if (!v->memo[request]) {
        if (size > v->memo_left || !(v->memo[request] = malloc(size * sizeof(double))))
            return NULL;
        v->memo_left -= size;
        for (size_t i = 0; i < size; i++)
            v->memo[request][i] = NAN;
    }
    return v->memo[request] + at;
}

/* A request alone always takes the same time on the same route: simulated once. */
static double alone_known(struct eval *v, uint32_t request, const uint32_t *route)
{
    double *known = memo_at(v, request, route);
    if (!known)
        return eval_alone(v, request, route, NULL);
    if (isnan(*known))
        *known = eval_alone(v, request, route, NULL);
    return *known;
}

static double candidate(struct eval *v, uint32_t request, const uint32_t *route, double *rho)
{
    if (v->in->objective == PLAN_LATENCY)
        return alone_known(v, request, route);
    if (v->in->objective == PLAN_LOAD)
        return with_own_share(v, request, route, rho);
    double t = simulate(v, request, route, NULL);
    undo_lanes(v);
    return t;
}

static void write_route(const struct eval *v, const struct plan_model *m, uint32_t *route)
{
    for (uint32_t s = 0; s < m->slot_count; s++)
        route[s] = v->sites[m->modules[s]].device[v->pick[s]];
}

/* The last module varies fastest. */
static void next_pick(struct eval *v, const struct plan_model *m)
{
    for (uint32_t s = m->slot_count; s-- > 0;) {
        if (++v->pick[s] < v->sites[m->modules[s]].count)
            return;
        v->pick[s] = 0;
    }
}

static bool grow_routes(struct eval *v, size_t routes)
{
    if (routes <= v->route_t_size)
        return true;
    double *more = realloc(v->route_t, routes * sizeof(*more));
    if (!more)
        return false;
    v->route_t = more;
    v->route_t_size = routes;
    return true;
}

/* The first route whose time is the least but for 1e-9; INFINITY when there is none, or too many
 * (which eval_full() calls an error).  Lanes (burst) and rho (load) are those that the request meets,
 * and are left as they were. */
static double choose_route(struct eval *v, uint32_t request, uint32_t *route, double *rho)
{
    const struct plan_model *m = &v->in->models[v->in->requests[request].model];
    size_t routes = eval_routes(v, request);
    double least = INFINITY;
    memset(v->pick, 0, m->slot_count * sizeof(*v->pick));
    if (routes == 1) {
        write_route(v, m, route);
        return candidate(v, request, route, rho);
    }
    if (routes > PLAN_ROUTES_MAX || !grow_routes(v, routes))
        return INFINITY;
    for (size_t i = 0; i < routes; i++, next_pick(v, m)) {
        write_route(v, m, route);
        v->route_t[i] = candidate(v, request, route, rho);
        least = v->route_t[i] < least ? v->route_t[i] : least;
    }
    memset(v->pick, 0, m->slot_count * sizeof(*v->pick));
    for (size_t i = 0; i < routes; i++, next_pick(v, m)) {
        write_route(v, m, route);
        if (v->route_t[i] <= (1 + ROUTE_TOLERANCE) * least)
            return v->route_t[i];
    }
    return INFINITY;
}

/* ---- all requests ---- */

/* A sum beyond the largest number stays at that: every valid instance has a value. */
static void count_request(struct score *s, const struct plan_request *q, double t)
{
    if (isfinite(t))
        s->value = fmin(s->value + eval_weighted(q, t), DBL_MAX);
    else
        s->bad += 1;
}

/* t and route are written for all requests. */
static struct score route_all(struct eval *v, double *t, uint32_t *routes, double *rho)
{
    const struct plan_instance *in = v->in;
    struct score s = {.over_bytes = v->over_bytes};
    if (in->objective == PLAN_LOAD)
        memset(rho, 0, in->device_count * sizeof(*rho));
    start_anew(v);
    for (uint32_t q = 0; q < in->request_count; q++) {
        uint32_t *route = routes + v->slot_first[q];
        t[q] = choose_route(v, q, route, rho);
        if (in->objective == PLAN_BURST && isfinite(t[q]))
            (void)simulate(v, q, route, NULL);
        else if (in->objective == PLAN_LOAD)
            add_shares(v, q, route, rho);
    }
    for (uint32_t d = 0; in->objective == PLAN_LOAD && d < in->device_count; d++)
        s.bad += rho[d] > EVAL_RHO_MAX ? rho[d] - EVAL_RHO_MAX : 0;
    for (uint32_t q = 0; q < in->request_count; q++) {
        if (in->objective == PLAN_LOAD && isfinite(t[q]))
            t[q] = busiest(&in->models[in->requests[q].model], routes + v->slot_first[q], rho) <
                           EVAL_RHO_MAX
                       ? eval_alone(v, q, routes + v->slot_first[q], rho)
                       : INFINITY;
        count_request(&s, &in->requests[q], t[q]);
    }
    return s;
}

bool eval_full(struct eval *v, struct err *e)
{
    v->count++;
    for (uint32_t q = 0; q < v->in->request_count; q++) {
        size_t routes = eval_routes(v, q);
        if (routes > PLAN_ROUTES_MAX)
            return err_set(e, ERR_INVALID, "request %u: more than %u routes among the replicas", q,
                           PLAN_ROUTES_MAX);
        if (!grow_routes(v, routes))
            return err_set(e, ERR_MEMORY, "no memory for %zu routes", routes);
    }
    v->now = route_all(v, v->t, v->route, v->rho);
    return true;
}

bool eval_front(struct eval *v, const bool *open)
{
    const struct plan_instance *in = v->in;
    bool load = in->objective == PLAN_LOAD;
    memset(v->rho_new, 0, in->device_count * sizeof(*v->rho_new));
    start_anew(v);
    for (uint32_t q = 0; q < in->request_count; q++) {
        const struct plan_model *m = &in->models[in->requests[q].model];
        bool placed = true;
        for (uint32_t s = 0; placed && s < m->slot_count; s++)
            placed = !open[m->modules[s]];
        if (!placed && load)
            return true;
        if (!placed)
            continue;
        if (!isfinite(choose_route(v, q, v->best, v->rho_new)))
            return false;
        if (load)
            add_shares(v, q, v->best, v->rho_new);
    }
    return true;
}

double eval_request(struct eval *v, uint32_t request)
{
    return choose_route(v, request, v->best, NULL);
}

double *eval_lanes(struct eval *v, size_t *ret_count)
{
    uint32_t last = v->in->device_count - 1;
    *ret_count = v->lane_first[last] + v->lane_count[last];
    for (uint32_t d = 0; d <= last; d++)
        (void)lanes_of(v, d); /* makes stamps new, so that the times count */
    return v->lane;
}

double eval_next(struct eval *v, uint32_t request)
{
    if (request == 0)
        start_anew(v);
    double t = choose_route(v, request, v->best, NULL);
    if (isfinite(t))
        (void)simulate(v, request, v->best, NULL);
    return t;
}

void eval_replay(struct eval *v, uint32_t request)
{
    if (v->in->objective != PLAN_BURST || request == 0)
        start_anew(v);
    (void)simulate(v, request, v->route + v->slot_first[request],
                   v->in->objective == PLAN_LOAD ? v->rho : NULL);
}

/* ---- by steps ---- */

static void mark_users(struct eval *v, const uint32_t *modules, uint32_t count)
{
    if (++v->mark_now == 0) {
        memset(v->mark, 0, v->in->request_count * sizeof(*v->mark));
        v->mark_now = 1;
    }
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = v->user_first[modules[i]]; k < v->user_first[modules[i] + 1]; k++)
            v->mark[v->users[k]] = v->mark_now;
}

/* Latency: only the requests that use a changed module have another time. */
static struct score probe_latency(struct eval *v, const uint32_t *modules, uint32_t count)
{
    struct score s = v->now;
    uint32_t *route = v->best;
    s.over_bytes = v->over_bytes;
    mark_users(v, modules, count);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = v->user_first[modules[i]]; k < v->user_first[modules[i] + 1]; k++) {
            uint32_t q = v->users[k];
            if (v->mark[q] != v->mark_now)
                continue;
            v->mark[q] = v->mark_now - 1;
            const struct plan_request *r = &v->in->requests[q];
            double t = choose_route(v, q, route, NULL);
            if (isfinite(v->t[q]))
                s.value -= eval_weighted(r, v->t[q]);
            else
                s.bad -= 1;
            count_request(&s, r, t);
        }
    return s;
}

static bool single(const struct eval *v, const struct plan_model *m)
{
    for (uint32_t s = 0; s < m->slot_count; s++)
        if (v->sites[m->modules[s]].count != 1)
            return false;
    return true;
}

/* The new route of a request whose modules have one place each. */
static void plain_route(struct eval *v, const struct plan_model *m, uint32_t *route)
{
    memset(v->pick, 0, m->slot_count * sizeof(*v->pick));
    write_route(v, m, route);
}

/* Load without replicas: routes are given, so rho is a sum; other requests change only where rho
 * of one of their devices has. */
static bool probe_load(struct eval *v, const uint32_t *modules, uint32_t count, struct score *s)
{
    const struct plan_instance *in = v->in;
    *s = (struct score){.over_bytes = v->over_bytes};
    memset(v->rho_new, 0, in->device_count * sizeof(*v->rho_new));
    mark_users(v, modules, count);
    v->touched_now++;
    for (uint32_t q = 0; q < in->request_count; q++) {
        const struct plan_model *m = &in->models[in->requests[q].model];
        const uint32_t *route = v->route + v->slot_first[q];
        if (!single(v, m))
            return false;
        if (v->mark[q] == v->mark_now) {
            for (uint32_t i = 0; i < m->slot_count; i++)
                v->touched[route[i]] = v->touched_now;
            plain_route(v, m, v->best);
            for (uint32_t i = 0; i < m->slot_count; i++)
                v->touched[v->best[i]] = v->touched_now;
            route = v->best;
        }
        add_shares(v, q, route, v->rho_new);
    }
    for (uint32_t d = 0; d < in->device_count; d++)
        s->bad += v->rho_new[d] > EVAL_RHO_MAX ? v->rho_new[d] - EVAL_RHO_MAX : 0;
    for (uint32_t q = 0; q < in->request_count; q++) {
        const struct plan_model *m = &in->models[in->requests[q].model];
        const uint32_t *route = v->route + v->slot_first[q];
        bool other = v->mark[q] == v->mark_now;
        for (uint32_t i = 0; !other && i < m->slot_count; i++)
            other = v->touched[route[i]] == v->touched_now;
        if (other) {
            plain_route(v, m, v->best);
            double t = busiest(m, v->best, v->rho_new) < EVAL_RHO_MAX
                           ? eval_alone(v, q, v->best, v->rho_new)
                           : INFINITY;
            count_request(s, &in->requests[q], t);
        } else {
            count_request(s, &in->requests[q], v->t[q]);
        }
    }
    return true;
}

struct score eval_probe(struct eval *v, const uint32_t *modules, uint32_t count)
{
    struct score s;
    v->count++;
    if (v->in->objective == PLAN_LATENCY)
        return probe_latency(v, modules, count);
    if (v->in->objective == PLAN_LOAD && probe_load(v, modules, count, &s))
        return s;
    /* Later requests of a burst meet what earlier ones left: all of them again, into scratch. */
    return route_all(v, v->t + v->in->request_count, v->route + v->slot_first[v->in->request_count],
                     v->rho_new);
}

void eval_commit(struct eval *v, const uint32_t *modules, uint32_t count)
{
    const struct plan_instance *in = v->in;
    if (in->objective != PLAN_LATENCY) {
        v->now = route_all(v, v->t, v->route, v->rho);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = v->user_first[modules[i]]; k < v->user_first[modules[i] + 1]; k++)
            v->t[v->users[k]] =
                choose_route(v, v->users[k], v->route + v->slot_first[v->users[k]], NULL);
    /* The sum anew in request order: the same bits as eval_full(). */
    v->now = (struct score){.over_bytes = v->over_bytes};
    for (uint32_t q = 0; q < in->request_count; q++)
        count_request(&v->now, &in->requests[q], v->t[q]);
}

/* ---- placement ---- */

static double over(const struct eval *v, uint32_t device)
{
    double x = v->used[device] - v->in->devices[device].memory_bytes;
    return x > 0 ? x : 0;
}

static void add_bytes(struct eval *v, const struct plan_sites *s, double bytes)
{
    for (uint32_t i = 0; i < s->count; i++) {
        double before = over(v, s->device[i]);
        v->used[s->device[i]] += bytes;
        v->over_bytes += over(v, s->device[i]) - before;
    }
}

void eval_set(struct eval *v, uint32_t module, const struct plan_sites *sites)
{
    double bytes = v->in->modules[module].memory_bytes;
    add_bytes(v, &v->sites[module], -bytes);
    v->sites[module].count = sites->count;
    memmove(v->sites[module].device, sites->device, sites->count * sizeof(uint32_t));
    add_bytes(v, &v->sites[module], bytes);
}

void eval_set_one(struct eval *v, uint32_t module, uint32_t device)
{
    struct plan_sites one = {.count = 1, .device = {device}};
    eval_set(v, module, &one);
}

void eval_set_all(struct eval *v, const struct plan_sites *sites)
{
    memset(v->used, 0, v->in->device_count * sizeof(*v->used));
    v->over_bytes = 0;
    for (uint32_t m = 0; m < v->in->module_count; m++) {
        v->sites[m].count = 0;
        eval_set(v, m, &sites[m]);
    }
}

/* ---- building ---- */

/* Calls of one request at most, and of all together. */
static void count_calls(const struct plan_instance *in, uint32_t *ret_most, uint64_t *ret_all)
{
    *ret_most = 1;
    *ret_all = 1;
    for (uint32_t q = 0; q < in->request_count; q++) {
        uint32_t n = in->models[in->requests[q].model].call_count;
        *ret_most = n > *ret_most ? n : *ret_most;
        *ret_all += n;
    }
}

static bool make_lanes(struct eval *v, uint64_t most)
{
    const struct plan_instance *in = v->in;
    uint32_t all = 0;
    v->lane_first = calloc(in->device_count, sizeof(*v->lane_first));
    v->lane_count = calloc(in->device_count, sizeof(*v->lane_count));
    v->stamp = calloc(in->device_count, sizeof(*v->stamp));
    if (!v->lane_first || !v->lane_count || !v->stamp)
        return false;
    for (uint32_t d = 0; d < in->device_count; d++) {
        v->lane_first[d] = all;
        v->lane_count[d] = in->devices[d].lanes < most ? in->devices[d].lanes : (uint32_t)most;
        all += v->lane_count[d];
    }
    v->lane = calloc(all, sizeof(*v->lane));
    return v->lane != NULL;
}

static bool make_scratch(struct eval *v, uint32_t calls)
{
    const struct plan_instance *in = v->in;
    v->ready = calloc(calls, sizeof(*v->ready));
    v->finish = calloc(calls, sizeof(*v->finish));
    v->pending = calloc(calls, sizeof(*v->pending));
    v->undo_at = calloc(calls, sizeof(*v->undo_at));
    v->undo_value = calloc(calls, sizeof(*v->undo_value));
    v->pick = calloc(calls, sizeof(*v->pick));
    v->best = calloc(calls, sizeof(*v->best));
    v->saved_rho = calloc(calls, sizeof(*v->saved_rho));
    v->rho = calloc(in->device_count, sizeof(*v->rho));
    v->rho_new = calloc(in->device_count, sizeof(*v->rho_new));
    v->touched = calloc(in->device_count, sizeof(*v->touched));
    v->mark = calloc(in->request_count + 1u, sizeof(*v->mark));
    v->memo = calloc(in->request_count + 1u, sizeof(*v->memo));
    v->memo_left = MEMO_ALL_MAX;
    return v->ready && v->finish && v->pending && v->undo_at && v->undo_value && v->pick &&
           v->best && v->saved_rho && v->rho && v->rho_new && v->touched && v->mark && v->memo;
}

/* Which requests use a module; slots per request. */
static bool make_users(struct eval *v)
{
    const struct plan_instance *in = v->in;
    uint32_t all = 0;
    v->slot_first = calloc(in->request_count + 1u, sizeof(*v->slot_first));
    v->user_first = calloc(in->module_count + 2u, sizeof(*v->user_first));
    if (!v->slot_first || !v->user_first)
        return false;
    for (uint32_t q = 0; q < in->request_count; q++) {
        const struct plan_model *m = &in->models[in->requests[q].model];
        v->slot_first[q] = all;
        if (__builtin_add_overflow(all, m->slot_count, &all) || all > UINT32_MAX / 2)
            return false;
        for (uint32_t s = 0; s < m->slot_count; s++)
            v->user_first[m->modules[s] + 2]++;
    }
    v->slot_first[in->request_count] = all;
    for (uint32_t i = 0; i < in->module_count; i++)
        v->user_first[i + 2] += v->user_first[i + 1];
    v->users = calloc(all + 1u, sizeof(*v->users));
    v->route = calloc(2 * (size_t)all + 1u, sizeof(*v->route)); /* committed, then scratch */
    v->t = calloc(2 * (size_t)in->request_count + 1u, sizeof(*v->t));
    if (!v->users || !v->route || !v->t)
        return false;
    for (uint32_t q = 0; q < in->request_count; q++) {
        const struct plan_model *m = &in->models[in->requests[q].model];
        for (uint32_t s = 0; s < m->slot_count; s++)
            v->users[v->user_first[m->modules[s] + 1]++] = q;
    }
    return true;
}

bool eval_init(struct eval *v, const struct plan_instance *in, struct err *e)
{
    uint32_t calls;
    uint64_t all_calls;
    memset(v, 0, sizeof(*v));
    v->in = in;
    count_calls(in, &calls, &all_calls);
    v->sites = calloc(in->module_count, sizeof(*v->sites));
    v->used = calloc(in->device_count, sizeof(*v->used));
    if (v->sites && v->used && make_users(v) && make_scratch(v, calls) &&
        make_lanes(v, in->objective == PLAN_BURST ? all_calls : calls) &&
        grow_routes(v, in->replicas ? PLAN_ROUTES_MAX : 1))
        return true;
    eval_done(v);
    return err_set(e, ERR_MEMORY, "no memory to plan %u modules on %u devices", in->module_count,
                   in->device_count);
}

void eval_done(struct eval *v)
{
    for (uint32_t q = 0; v->memo && q < v->in->request_count; q++)
        free(v->memo[q]);
    free(v->memo);
    free(v->sites);
    free(v->used);
    free(v->t);
    free(v->route);
    free(v->slot_first);
    free(v->user_first);
    free(v->users);
    free(v->rho);
    free(v->lane);
    free(v->lane_first);
    free(v->lane_count);
    free(v->stamp);
    free(v->ready);
    free(v->finish);
    free(v->pending);
    free(v->undo_at);
    free(v->undo_value);
    free(v->pick);
    free(v->best);
    free(v->saved_rho);
    free(v->rho_new);
    free(v->route_t);
    free(v->mark);
    free(v->touched);
    memset(v, 0, sizeof(*v));
}

bool plan_evaluate(const struct plan_instance *in, const struct plan_sites *sites,
                   double *ret_value, double *latency_ms, double *used, struct err *e)
{
    struct eval v;
    if (!eval_init(&v, in, e))
        return false;
    eval_set_all(&v, sites);
    bool ok = eval_full(&v, e);
    if (ok) {
        *ret_value = score_feasible(v.now) ? v.now.value : INFINITY;
        for (uint32_t m = 0; m < in->module_count; m++)
            for (uint32_t i = 0; i < sites[m].count; i++)
                if (!isfinite(plan_run(in, m, sites[m].device[i])))
                    *ret_value = INFINITY;
        if (latency_ms)
            memcpy(latency_ms, v.t, in->request_count * sizeof(*latency_ms));
        if (used)
            memcpy(used, v.used, in->device_count * sizeof(*used));
    }
    eval_done(&v);
    return ok;
}
