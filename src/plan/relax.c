/* relax.c - see relax.h. */
#include "plan/relax.h"

#include <stdlib.h>
#include <string.h>

bool relax_init(struct relax *x, const struct plan_instance *in, struct err *e)
{
    uint32_t most = 1;
    for (uint32_t i = 0; i < in->model_count; i++)
        most = in->models[i].call_count > most ? in->models[i].call_count : most;
    x->in = in;
    x->early = calloc((size_t)most * RELAX_DEVICES_MAX, sizeof(double));
    return x->early || err_set(e, ERR_MEMORY, "no memory for bounds");
}

void relax_done(struct relax *x)
{
    free(x->early);
    x->early = NULL;
}

/* Earliest that the output of call p can be on the device of option i of call c. */
static double arrival(const struct relax *x, const struct plan_model *m, uint32_t p, uint32_t c,
                      uint32_t i, const struct open_places *open)
{
    const struct plan_call *from = &m->calls[p], *to = &m->calls[c];
    const double *early = x->early + (size_t)p * RELAX_DEVICES_MAX;
    const struct open_places *a = &open[from->module];
    if (from->module == to->module) /* the same replica */
        return early[i];
    uint32_t here = open[to->module].device[i];
    double bytes = x->in->modules[from->module].output_bytes, least = INFINITY;
    for (uint32_t k = 0; k < a->count; k++) {
        double at = early[k] + plan_tau(x->in, a->device[k], here, bytes);
        least = at < least ? at : least;
    }
    return least;
}

static double to_source(const struct relax *x, const struct plan_request *q,
                        const struct plan_model *m, uint32_t c, double bytes,
                        const struct open_places *open)
{
    const double *early = x->early + (size_t)c * RELAX_DEVICES_MAX;
    const struct open_places *o = &open[m->calls[c].module];
    double least = INFINITY;
    for (uint32_t i = 0; i < o->count; i++) {
        double at = early[i] + plan_tau(x->in, o->device[i], q->source, bytes);
        least = at < least ? at : least;
    }
    return least;
}

double relax_time(struct relax *x, uint32_t request, const struct open_places *open,
                  relax_there avail, relax_there rho, void *ctx)
{
    const struct plan_instance *in = x->in;
    const struct plan_request *q = &in->requests[request];
    const struct plan_model *m = &in->models[q->model];
    double end = 0;
    for (uint32_t c = 0; c < m->call_count; c++) {
        const struct plan_call *call = &m->calls[c];
        const struct open_places *o = &open[call->module];
        for (uint32_t i = 0; i < o->count; i++) {
            uint32_t d = o->device[i];
            double at = avail ? avail(ctx, request, call->module, d) : 0,
                   run = plan_run(in, call->module, d);
            if (call->from_source)
                at = fmax(at, plan_tau(in, q->source, d, q->input_bytes[c]));
            for (uint32_t k = 0; k < call->from_count; k++)
                at = fmax(at, arrival(x, m, m->from[call->from_first + k], c, i, open));
            if (rho) {
                double load = rho(ctx, request, call->module, d);
                run = load >= EVAL_RHO_MAX * (1 + 1e-12) ? INFINITY : run / (1 - load);
            }
            x->early[(size_t)c * RELAX_DEVICES_MAX + i] = at + q->runs[c] * run;
        }
        if (m->answer_at_source && call->next_count == 0)
            end = fmax(end, to_source(x, q, m, c, in->modules[call->module].output_bytes, open));
    }
    if (m->answer_at_source)
        return end;
    return to_source(x, q, m, m->call_count - 1, q->answer_bytes, open);
}
