/* explain.c - why each module is where it is, and what each request waits for.
 *
 * A module's reason names the next best device and what moving there alone would cost.  While there
 * are few (module, device) pairs all are tried by the evaluator; else greedy_cost() names the next
 * one, and only for `latency`, where that is cheap, the evaluator says what it would cost.  Where
 * the move would be better, which a search to its end leaves nowhere, the reason says why it is not
 * made.  A
 * request's path is walked back from its answer: each call with the transfer, the wait and the run. */
#include "plan/search.h"

#include "base/buf.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROBE_CELLS_MAX 20000u /* modules x devices that are tried by the evaluator */
#define GAIN_EPS 1e-9          /* relative: a value that differs by less is the same */
#define MS_LEAST 0.001         /* what is less is not shown in digits */
#define PATH_MAX_BYTES 4096u

/* "<0.001", "2.1", "12.5", "2900": three digits without an exponent. */
static const char *ms_text(char *to, size_t size, double ms)
{
    if (fabs(ms) < MS_LEAST)
        (void)snprintf(to, size, "%s", ms > 0 ? "<0.001" : "0");
    else
        (void)snprintf(to, size, fabs(ms) >= 100 ? "%.0f" : "%.3g", ms);
    return to;
}

struct choice {
    uint32_t here, next; /* devices; next UINT32_MAX: nowhere else */
    double gain;         /* of the value by moving to next; NAN: not known */
    bool all;            /* no other device's is less */
    bool fastest;        /* no other device with room runs it sooner */
};

static bool room_for(const struct search *s, uint32_t m, uint32_t d)
{
    return plan_may(s->in, m, d) &&
           s->in->modules[m].memory_bytes <= s->in->devices[d].memory_bytes - s->v.used[d];
}

static double value_at(struct search *s, uint32_t m, uint32_t d)
{
    struct plan_sites before = s->v.sites[m];
    eval_set_one(&s->v, m, d);
    struct score score = eval_probe(&s->v, &m, 1);
    eval_set(&s->v, m, &before);
    return score.bad > 0 ? INFINITY : score.value;
}

/* What is within rounding is nothing. */
static double gain_of(struct search *s, uint32_t m, uint32_t d)
{
    double now = s->v.now.value, gain = value_at(s, m, d) - now;
    return fabs(gain) <= GAIN_EPS * fabs(now) ? 0 : gain;
}

static struct choice choose(struct search *s, uint32_t m, const bool *placed)
{
    bool all = (size_t)s->in->module_count * s->in->device_count <= PROBE_CELLS_MAX;
    double least = INFINITY;
    struct choice c = {.here = s->v.sites[m].device[0],
                       .next = UINT32_MAX,
                       .gain = NAN,
                       .all = all,
                       .fastest = true};
    for (uint32_t d = 0; d < s->in->device_count; d++) {
        if (d == c.here || !room_for(s, m, d))
            continue;
        if (plan_run(s->in, m, d) < plan_run(s->in, m, c.here))
            c.fastest = false;
        double cost = all ? gain_of(s, m, d) : greedy_cost(s, m, d, placed);
        if (cost < least) {
            least = cost;
            c.next = d;
        }
    }
    if (c.next != UINT32_MAX && (all || s->in->objective == PLAN_LATENCY))
        c.gain = all ? least : gain_of(s, m, c.next);
    return c;
}

/* Why a module is where it is although it would be better elsewhere. */
static const char *excuse(const struct search *s)
{
    if (s->o->given)
        return s->o->given_note ? s->o->given_note : "this placement was given";
    if (s->stopped != PLAN_NOT_STOPPED)
        return "the search was stopped before it tried that";
    if (s->o->redundancy > 0)
        return "places to spare were added after the search";
    if (s->o->method == PLAN_LOCAL || s->o->method == PLAN_EXACT || s->o->method == PLAN_AUTO)
        return "the search did not come to it";
    return "a greedy method does not look back";
}

static char *reason(struct search *s, uint32_t m, const bool *placed)
{
    const struct plan_instance *in = s->in;
    const struct plan_sites *sites = &s->v.sites[m];
    if (!search_free(s, m))
        return text_format("pinned here");
    if (sites->count > 1)
        return text_format("one of %u places", sites->count);
    struct choice c = choose(s, m, placed);
    char here[32], next[32], gain[32];
    (void)ms_text(here, sizeof(here), plan_run(in, m, c.here));
    if (s->v.user_first[m] == s->v.user_first[m + 1])
        return text_format("nothing asks for it; has room: %s ms", here);
    if (c.next == UINT32_MAX)
        return text_format("the only device that has room and can serve it: %s ms", here);
    const char *name = in->devices[c.next].name, *why = c.fastest ? "fastest with room"
                                                        : c.all ? "least with transfers and waiting"
                                                                : "for transfers and waiting";
    (void)ms_text(next, sizeof(next), plan_run(in, m, c.next));
    (void)ms_text(gain, sizeof(gain), fabs(c.gain));
    if (c.gain < 0)
        return text_format("%s ms here, %s ms on %.100s with %s ms less in all: %s", here, next,
                           name, gain, excuse(s));
    if (isnan(c.gain))
        return text_format("%s: %s ms; next %.100s %s ms", why, here, name, next);
    return text_format("%s: %s ms; next best %.100s %s ms (+%s ms in all)", why, here, name, next,
                       gain);
}

/* ---- paths ---- */

/* The call whose output came last to call i (UINT32_MAX: the source), and when it left. */
static uint32_t last_to_come(const struct search *s, const struct plan_request *q,
                             const struct plan_model *m, uint32_t i, const uint32_t *route,
                             double *left)
{
    const struct plan_call *c = &m->calls[i];
    uint32_t here = route[c->slot], last = UINT32_MAX;
    double latest = c->from_source ? plan_tau(s->in, q->source, here, q->input_bytes[i]) : -1;
    *left = 0;
    for (uint32_t k = 0; k < c->from_count; k++) {
        uint32_t p = m->from[c->from_first + k];
        double at = s->v.finish[p] + plan_tau(s->in, route[m->calls[p].slot], here,
                                              s->in->modules[m->calls[p].module].output_bytes);
        if (at > latest) {
            latest = at;
            last = p;
            *left = s->v.finish[p];
        }
    }
    return last;
}

static uint32_t last_call(const struct search *s, const struct plan_request *q,
                          const struct plan_model *m, const uint32_t *route)
{
    uint32_t last = m->call_count - 1;
    double latest = -1;
    for (uint32_t i = 0; m->answer_at_source && i < m->call_count; i++) {
        const struct plan_call *c = &m->calls[i];
        double at = s->v.finish[i] + plan_tau(s->in, route[c->slot], q->source,
                                              s->in->modules[c->module].output_bytes);
        if (c->next_count == 0 && at > latest) {
            latest = at;
            last = i;
        }
    }
    return last;
}

/* "sent 12.5, ", if there is anything to say. */
static void add_part(struct buf *b, const char *what, double ms)
{
    char text[32];
    if (ms >= MS_LEAST)
        buf_fmt(b, "%s %s, ", what, ms_text(text, sizeof(text), ms));
}

static void add_step(struct buf *b, const struct search *s, const struct plan_request *q,
                     const uint32_t *route, uint32_t i)
{
    const struct plan_model *m = &s->in->models[q->model];
    const struct plan_call *c = &m->calls[i];
    uint32_t d = route[c->slot];
    double stretch = s->in->objective == PLAN_LOAD ? 1 - s->v.rho[d] : 1, left;
    double ran = q->runs[i] * plan_run(s->in, c->module, d) / stretch;
    char run[32];
    (void)last_to_come(s, q, m, i, route, &left);
    buf_fmt(b, " -> %.60s on %.60s (", c->id, s->in->devices[d].name);
    add_part(b, "sent", s->v.ready[i] - left);
    add_part(b, "waited", s->v.finish[i] - ran - s->v.ready[i]);
    buf_fmt(b, "ran %s ms)", ms_text(run, sizeof(run), ran));
}

/* After the request has been simulated: v.ready and v.finish are its own. */
static char *path_text(const struct search *s, uint32_t request, double t)
{
    const struct plan_instance *in = s->in;
    const struct plan_request *q = &in->requests[request];
    const struct plan_model *m = &in->models[q->model];
    const uint32_t *route = s->v.route + s->v.slot_first[request];
    struct buf b = BUF_INIT(PATH_MAX_BYTES);
    uint32_t *chain = calloc(m->call_count, sizeof(*chain)), count = 0, i;
    double left;
    char back[32];
    if (!chain)
        return NULL;
    for (i = last_call(s, q, m, route); i != UINT32_MAX; i = last_to_come(s, q, m, i, route, &left))
        chain[count++] = i;
    double answer = t - s->v.finish[chain[0]];
    buf_fmt(&b, "%.60s", in->devices[q->source].name);
    while (count-- > 0)
        add_step(&b, s, q, route, chain[count]);
    if (answer >= MS_LEAST)
        buf_fmt(&b, " -> answer (sent %s ms)", ms_text(back, sizeof(back), answer));
    else
        buf_fmt(&b, " -> answer");
    free(chain);
    char *text = buf_take(&b);
    return text ? text : strdup("too long to be shown");
}

static bool fill_paths(struct search *s, struct plan_result *r)
{
    const struct plan_instance *in = s->in;
    r->path = calloc(in->request_count + 1u, sizeof(*r->path));
    if (!r->path)
        return false;
    for (uint32_t q = 0; q < in->request_count; q++) {
        eval_replay(&s->v, q);
        r->path[q] = path_text(s, q, r->latency_ms[q]);
        if (!r->path[q])
            return false;
    }
    return true;
}

bool explain_fill(struct search *s, struct plan_result *r, struct err *e)
{
    const struct plan_instance *in = s->in;
    bool *placed = malloc(in->module_count);
    r->reason = calloc(in->module_count, sizeof(*r->reason));
    bool ok = placed && r->reason && fill_paths(s, r);
    for (uint32_t m = 0; ok && m < in->module_count; m++)
        placed[m] = true;
    for (uint32_t m = 0; ok && m < in->module_count; m++) {
        r->reason[m] = reason(s, m, placed);
        ok = r->reason[m] != NULL;
    }
    free(placed);
    return ok || err_set(e, ERR_MEMORY, "no memory for reasons");
}
