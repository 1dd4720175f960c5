/* half.c - halves cross between modules as floats.
 *
 * Where the runtime has no kernel for halves it computes in floats, and takes out each pair of
 * casts that meet: inside a model a tensor of halves is then never rounded to one.  If it were
 * where modules are cut, answers would differ from those of the whole model.  So a module ends
 * with a cast to floats and its user begins with one to halves: where the runtime computes in
 * floats, both meet its own casts and go; where it computes in halves, they are exact.
 *
 * A model's own inputs and outputs stay as they are.  An output that is both goes out twice.
 *
 * What only moves data the runtime does in halves, and in floats if it stands alone between nodes
 * that compute.  Where such a neighbour is in another module a Sum of one tensor, which it also
 * computes in floats, stands for it (half_needs_sum()). */
#include "onnx/module.h"

#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the runtime has kernels for. */
static bool in_halves(const struct fgraph *g, uint32_t node)
{
    static const char *const ops[] = {"Cast",
                                      "Clip",
                                      "Concat",
                                      "Expand",
                                      "Flatten",
                                      "Gather",
                                      "GatherND",
                                      "Identity",
                                      "Max",
                                      "Min",
                                      "Shape",
                                      "Sign",
                                      "Slice",
                                      "Split",
                                      "Squeeze",
                                      "Reshape",
                                      "Unsqueeze",
                                      "Where",
                                      "LayerNormalization",
                                      "SkipLayerNormalization",
                                      "Transpose"};
    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        if (span_is(g->known->sigs.items[g->nodes.items[node].sig].op, ops[i]))
            return true;
    return false;
}

/* Whether a user of the value, inside of the instance or outside, is one that has such kernels. */
static bool used_in_halves(const struct fgraph *g, const struct instance *x, uint32_t value,
                           bool inside)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < g->nodes.count; i++) {
        const struct fnode *n = &g->nodes.items[i];
        while (at < x->nodes.count && x->nodes.items[at] < i)
            at++;
        bool own = at < x->nodes.count && x->nodes.items[at] == i;
        for (uint32_t k = 0; own == inside && !n->dead && k < n->in_count; k++)
            if (g->edges.items[n->in_first + k] == value && in_halves(g, i))
                return true;
    }
    return false;
}

bool half_needs_sum(const struct fgraph *g, const struct instance *x, bool input, uint32_t value)
{
    const struct fvalue *v = &g->values.items[value];
    if (v->kind != FV_NODE)
        return false;
    bool made = in_halves(g, v->index);
    return input ? !made && used_in_halves(g, x, value, true)
                 : made && !used_in_halves(g, x, value, false);
}

/* The port that a reference of a call means. */
static struct port *source(struct share *s, const struct share_model *m, const struct share_ref *r)
{
    return &s->modules[m->calls[r->index].module].outputs[r->output];
}

/* An input is carried as floats if no call binds it to an input of its model. */
static void narrow_inputs(struct share *s, bool **narrow)
{
    for (size_t i = 0; i < s->model_count; i++)
        for (size_t c = 0; c < s->models[i].call_count; c++) {
            const struct share_call *call = &s->models[i].calls[c];
            for (size_t k = 0; k < s->modules[call->module].input_count; k++)
                if (!call->inputs[k].call)
                    narrow[call->module][k] = true;
        }
}

/* Who needs each output: 1 as halves, 2 as floats. */
static void needs(struct share *s, bool **narrow, uint8_t **need)
{
    for (size_t i = 0; i < s->model_count; i++) {
        const struct share_model *m = &s->models[i];
        size_t outputs;
        (void)onnx_outputs(m->m, &outputs);
        for (size_t k = 0; k < outputs; k++)
            if (m->outputs[k].call)
                need[m->calls[m->outputs[k].index].module][m->outputs[k].output] |= 1;
        for (size_t c = 0; c < m->call_count; c++) {
            const struct share_call *call = &m->calls[c];
            for (size_t k = 0; k < s->modules[call->module].input_count; k++)
                if (call->inputs[k].call)
                    need[m->calls[call->inputs[k].index].module][call->inputs[k].output] |=
                        narrow[call->module][k] ? 1 : 2;
        }
    }
}

/* One more output of a module, of the same value as output k. */
static bool add_output(struct share *s, size_t module, size_t k, struct err *e)
{
    struct share_module *mod = &s->modules[module];
    struct instance *x = &((struct module_detail *)mod->detail)->x;
    struct port *more = realloc(mod->outputs, (mod->output_count + 2) * sizeof(*more));
    if (!more)
        return err_set(e, ERR_MEMORY, "modules: no memory");
    mod->outputs = more;
    more[mod->output_count] = more[k];
    (void)snprintf(more[mod->output_count].name, sizeof(more[0].name), "out%zu", mod->output_count);
    if (!POOL_ADD(x->outputs, 1, ONNX_EDGES_MAX, "outputs", e))
        return false;
    x->outputs.items[mod->output_count++] = x->outputs.items[k];
    for (size_t i = 0; i < s->model_count; i++)
        for (size_t c = 0; c < s->models[i].call_count; c++)
            if (s->models[i].calls[c].module == module &&
                !call_add_output(s->models[i].calls[c].detail, (uint32_t)k, e))
                return false;
    return true;
}

static bool widen_outputs(struct share *s, size_t module, const uint8_t *need, size_t *also,
                          struct err *e)
{
    size_t count = s->modules[module].output_count;
    for (size_t k = 0; k < count; k++) {
        also[k] = k;
        if (s->modules[module].outputs[k].dtype != DT_F16 || !(need[k] & 2))
            continue;
        if (need[k] & 1) {
            also[k] = s->modules[module].output_count;
            if (!add_output(s, module, k, e))
                return false;
        }
        s->modules[module].outputs[also[k]].dtype = DT_F32;
    }
    return true;
}

static bool widen(struct share *s, bool **narrow, uint8_t **need, size_t **also, struct err *e)
{
    narrow_inputs(s, narrow);
    needs(s, narrow, need);
    for (size_t i = 0; i < s->module_count; i++)
        if (!widen_outputs(s, i, need[i], also[i], e))
            return false;
    for (size_t i = 0; i < s->model_count; i++) {
        const struct share_model *m = &s->models[i];
        for (size_t c = 0; c < m->call_count; c++) {
            struct share_call *call = &m->calls[c];
            for (size_t k = 0; k < s->modules[call->module].input_count; k++) {
                struct share_ref *r = &call->inputs[k];
                if (narrow[call->module][k])
                    continue;
                r->output = (uint32_t)also[m->calls[r->index].module][r->output];
                s->modules[call->module].inputs[k].dtype = source(s, m, r)->dtype;
            }
        }
    }
    return true;
}

bool modules_widen(struct share *s, struct err *e)
{
    size_t count = s->module_count + 1;
    bool **narrow = calloc(count, sizeof(*narrow)), ok = true;
    uint8_t **need = calloc(count, sizeof(*need));
    size_t **also = calloc(count, sizeof(*also));
    ok = narrow && need && also;
    for (size_t i = 0; ok && i < s->module_count; i++) {
        narrow[i] = calloc(s->modules[i].input_count + 1, sizeof(**narrow));
        need[i] = calloc(s->modules[i].output_count + 1, sizeof(**need));
        also[i] = calloc(s->modules[i].output_count + 1, sizeof(**also));
        ok = narrow[i] && need[i] && also[i];
    }
    ok = ok ? widen(s, narrow, need, also, e) : err_set(e, ERR_MEMORY, "modules: no memory");
    for (size_t i = 0; i < s->module_count; i++) {
        free(narrow ? narrow[i] : NULL);
        free(need ? need[i] : NULL);
        free(also ? also[i] : NULL);
    }
    free((void *)narrow);
    free((void *)need);
    free((void *)also);
    return ok;
}
