/* groups.c - what a file looks like to task/model.h: outputs grouped by the inputs behind them.
 *
 * Scores (logits) are a group of their own: beside them, embeddings of the same inputs are those of
 * an encoder. */
#include "coord/cut_internal.h"

#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reach {
    bool inputs[MODEL_PORTS_MAX];
};

static void merge(struct reach *to, const struct reach *from)
{
    for (int i = 0; i < MODEL_PORTS_MAX; i++)
        to->inputs[i] |= from->inputs[i];
}

static void add_ref(struct reach *to, const struct share_ref *r, const struct reach *calls)
{
    if (r->call)
        merge(to, &calls[r->index]);
    else
        to->inputs[r->index] = true;
}

static bool same_kind(const struct reach *a, const struct reach *b, const char *x, const char *y)
{
    return memcmp(a, b, sizeof(*a)) == 0 && model_is_logits(x) == model_is_logits(y);
}

static bool add_group(struct cut_model *m, int file, bool whole, struct cut_group **ret,
                      struct err *e)
{
    const struct cut_file *f = &m->source->files[file];
    char key[DIGEST_HEX + 16];
    if (m->group_count >= MODEL_GRAPHS_MAX)
        return err_set(e, ERR_TOO_LARGE,
                       "%s.onnx: the model's outputs depend on more than %d sets of inputs",
                       f->name, MODEL_GRAPHS_MAX);
    struct cut_group *g = &m->groups[m->group_count];
    (void)snprintf(key, sizeof(key), "%s#%d", f->digest.hex, m->group_count);
    *g = (struct cut_group){
        .file = file, .whole = whole, .digest = whole ? f->digest : digest_of(key, strlen(key))};
    g->inputs = calloc(MODEL_PORTS_MAX, sizeof(struct port));
    g->outputs = calloc(MODEL_PORTS_MAX, sizeof(struct port));
    m->group_count++;
    *ret = g;
    return (g->inputs && g->outputs) || err_set(e, ERR_MEMORY, "model: no memory");
}

static bool whole_group(struct cut_model *m, int file, struct err *e)
{
    size_t in, out;
    const struct port *inputs = onnx_inputs(m->source->files[file].onnx, &in);
    const struct port *outputs = onnx_outputs(m->source->files[file].onnx, &out);
    struct cut_group *g;
    if (!add_group(m, file, true, &g, e))
        return false;
    memcpy(g->inputs, inputs, in * sizeof(*inputs));
    memcpy(g->outputs, outputs, out * sizeof(*outputs));
    g->input_count = (int)in;
    g->output_count = (int)out;
    return true;
}

/* Outputs of the file that are like output `first` and belong to no group yet. */
static bool one_group(struct cut_model *m, int file, const struct reach *reach, size_t first,
                      bool *done, struct err *e)
{
    size_t in, out;
    const struct port *inputs = onnx_inputs(m->source->files[file].onnx, &in);
    const struct port *outputs = onnx_outputs(m->source->files[file].onnx, &out);
    struct cut_group *g;
    if (!add_group(m, file, false, &g, e))
        return false;
    for (size_t i = 0; i < in; i++)
        if (reach[first].inputs[i])
            g->inputs[g->input_count++] = inputs[i];
    for (size_t i = first; i < out; i++)
        if (!done[i] && same_kind(&reach[i], &reach[first], outputs[i].name, outputs[first].name)) {
            done[i] = true;
            g->outputs[g->output_count++] = outputs[i];
            if (g->scale <= 0)
                (void)onnx_scale(m->source->files[file].onnx, outputs[i].name, &g->scale);
        }
    return true;
}

static bool file_groups(struct cut *c, struct cut_model *m, int file, struct err *e)
{
    const struct share_model *s = &c->share->models[m->share[file]];
    size_t out;
    (void)onnx_outputs(m->source->files[file].onnx, &out);
    struct reach *calls = calloc(s->call_count + 1, sizeof(*calls));
    struct reach *reach = calloc(out + 1, sizeof(*reach));
    bool *done = calloc(out + 1, sizeof(*done));
    bool ok = (calls && reach && done) || err_set(e, ERR_MEMORY, "model: no memory");
    for (size_t k = 0; ok && k < s->call_count; k++)
        for (size_t i = 0; i < c->share->modules[s->calls[k].module].input_count; i++)
            add_ref(&calls[k], &s->calls[k].inputs[i], calls);
    for (size_t i = 0; ok && i < out; i++)
        add_ref(&reach[i], &s->outputs[i], calls);
    for (size_t i = 0; ok && i < out; i++)
        ok = done[i] || one_group(m, file, reach, i, done, e);
    free(calls);
    free(reach);
    free(done);
    return ok;
}

bool cut_make_groups(struct cut *c, struct cut_model *m, struct err *e)
{
    struct model_source *s = &m->source->model;
    for (int f = 0; f < m->source->file_count; f++)
        if (!(m->share[f] < 0 ? whole_group(m, f, e) : file_groups(c, m, f, e)))
            return false;
    s->graph_count = m->group_count;
    for (int i = 0; i < m->group_count; i++) {
        const struct cut_group *g = &m->groups[i];
        s->graphs[i] = (struct model_graph){.name = m->source->files[g->file].name,
                                            .digest = g->digest,
                                            .inputs = g->inputs,
                                            .outputs = g->outputs,
                                            .input_count = g->input_count,
                                            .output_count = g->output_count,
                                            .scale = g->scale};
    }
    return true;
}

void cut_clear_groups(struct cut_model *m)
{
    for (int i = 0; i < m->group_count; i++) {
        free(m->groups[i].inputs);
        free(m->groups[i].outputs);
    }
    m->group_count = 0;
}
