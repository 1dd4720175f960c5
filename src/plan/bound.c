/* bound.c - a lower bound in one pass over the requests, for instances of any size.
 *
 * Every call on the device that is best for it alone: transfers from the source count, transfers
 * between calls do not, lanes are endless, and nobody else is there.  Ends of calls are then lower
 * bounds by induction over the calls, for all three objectives (waiting and load only add). */
#include "plan/search.h"

#include <stdlib.h>

static double earliest(const struct search *s, const struct plan_request *q, uint32_t c,
                       double ready)
{
    const struct plan_instance *in = s->in;
    const struct plan_call *call = &in->models[q->model].calls[c];
    const struct plan_model *m = &in->models[q->model];
    const struct plan_sites *pin = &s->pinned[call->module];
    bool last = c + 1 == m->call_count && !m->answer_at_source;
    double back = last ? q->answer_bytes : in->modules[call->module].output_bytes;
    bool answers = last || (m->answer_at_source && call->next_count == 0);
    double least = INFINITY;
    uint32_t count = pin->count ? pin->count : in->device_count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t d = pin->count ? pin->device[i] : i;
        if (!plan_may(in, call->module, d))
            continue;
        double at = call->from_source ? plan_tau(in, q->source, d, q->input_bytes[c]) : 0;
        at = (at > ready ? at : ready) + q->runs[c] * plan_run(in, call->module, d);
        if (answers)
            at += plan_tau(in, d, q->source, back);
        least = at < least ? at : least;
    }
    return least;
}

double bound_alone(struct search *s)
{
    const struct plan_instance *in = s->in;
    double bound = 0;
    uint32_t most = 1;
    for (uint32_t i = 0; i < in->model_count; i++)
        most = in->models[i].call_count > most ? in->models[i].call_count : most;
    double *end = calloc(most, sizeof(*end));
    if (!end)
        return -INFINITY;
    for (uint32_t k = 0; k < in->request_count; k++) {
        const struct plan_request *q = &in->requests[k];
        const struct plan_model *m = &in->models[q->model];
        double t = 0;
        for (uint32_t c = 0; c < m->call_count; c++) {
            double ready = 0;
            for (uint32_t i = 0; i < m->calls[c].from_count; i++)
                ready = fmax(ready, end[m->from[m->calls[c].from_first + i]]);
            end[c] = earliest(s, q, c, ready);
            if (m->calls[c].next_count == 0)
                t = fmax(t, end[c]);
        }
        if (q->weight > 0)
            bound += q->weight * t;
    }
    free(end);
    return isfinite(bound) ? bound : -INFINITY;
}
