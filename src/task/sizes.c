/* sizes.c - a model's ports beside what its processors give: checks, and sizes to measure with. */
#include "task/model_internal.h"

#include "media/processor.h"
#include "media/tokenizer.h"
#include "task/prepare.h"

#include <stdio.h>
#include <string.h>

#define TEXT_TOKENS 8 /* of a text whose length is not fixed */
#define PAST_TOKENS 4

/* ---- checks --------------------------------------------------------------------------------- */

static bool agree(const struct port *want, const struct port *have)
{
    if (want->dtype != have->dtype || want->shape.rank != have->shape.rank)
        return false;
    for (int i = 0; i < want->shape.rank; i++) {
        int64_t a = want->shape.dims[i], b = have->shape.dims[i];
        if (a >= 0 && b >= 0 && a != b)
            return false;
    }
    return true;
}

/* The graph's input that a processor's output is for: that of its name, or, for the first one, the
 * only one that it can be; -1: none. */
static int input_of(const struct deduction *d, int graph, enum media_kind kind,
                    const struct port *given, size_t count, size_t which)
{
    const struct model_graph *g = &d->source->graphs[graph];
    bool taken[MODEL_PORTS_MAX] = {false};
    for (int i = 0; i < g->input_count; i++) {
        const struct feed *f = &d->graphs[graph].feeds[i];
        if (strcmp(g->inputs[i].name, given[which].name) == 0)
            return i;
        taken[i] = f->kind != FROM_MEDIA || f->media != kind;
        for (size_t k = 0; k < count; k++)
            taken[i] = taken[i] || strcmp(g->inputs[i].name, given[k].name) == 0;
    }
    return which > 0 ? -1
                     : prepare_port(g->inputs, g->input_count, taken, given[0].dtype,
                                    given[0].shape.rank);
}

/* A graph that takes texts of one length needs a tokenizer that pads to it: short ones tell. */
static bool check_length(const struct deduction *d, int graph, const struct port *p,
                         const struct processor *processor)
{
    struct token_ids ids;
    struct err e = {0};
    const struct tokenizer *t = processor_tokenizer(processor);
    if (p->shape.rank != 2 || p->shape.dims[1] < 0 || !t)
        return true;
    if (!tokenizer_encode(t, "a", NULL, &ids, &e))
        return err_set(d->e, e.code, "tokenizer.json: %.300s", e.text);
    size_t n = ids.n;
    token_ids_clear(&ids);
    return n == (size_t)p->shape.dims[1] ||
           err_set(d->e, ERR_UNSUPPORTED,
                   "%.100s.onnx: input '%.100s' has a fixed length of %lld tokens, tokenizer.json "
                   "makes %zu of a short text: export it with a dynamic length, or let "
                   "tokenizer.json pad (\"padding\" with \"strategy\": {\"Fixed\": %lld})",
                   d->source->graphs[graph].name, p->name, (long long)p->shape.dims[1], n,
                   (long long)p->shape.dims[1]);
}

static bool check_port(const struct deduction *d, int graph, int input,
                       const struct processor *processor)
{
    const struct port *p = &d->source->graphs[graph].inputs[input];
    struct port given[PROCESSOR_OUTPUTS_MAX];
    size_t n = processor_outputs(processor, given);
    enum media_kind media = d->graphs[graph].feeds[input].media;
    char want[128], have[128], names[PROCESSOR_OUTPUTS_MAX * 20] = "";
    const char *kind = processor_kind_name(processor_kind(processor));
    for (size_t i = 0; i < n; i++) {
        size_t used = strlen(names);
        (void)snprintf(names + used, sizeof(names) - used, "%s%.16s", i ? ", " : "", given[i].name);
        if (input_of(d, graph, media, given, n, i) != input)
            continue;
        if (agree(p, &given[i]))
            return media != MEDIA_TEXT || check_length(d, graph, p, processor);
        return err_set(d->e, ERR_UNSUPPORTED,
                       "%.100s.onnx: input '%.100s' is %s%s, the %s processor gives %s%s",
                       d->source->graphs[graph].name, p->name, dtype_name(p->dtype),
                       shape_text(&p->shape, want, sizeof(want)), kind, dtype_name(given[i].dtype),
                       shape_text(&given[i].shape, have, sizeof(have)));
    }
    return err_set(d->e, ERR_UNSUPPORTED,
                   "%.100s.onnx: input '%.100s' is none of what the %s processor gives (%s)",
                   d->source->graphs[graph].name, p->name, kind, names);
}

bool deduce_check_ports(const struct deduction *d, struct processor *const processors[MEDIA_KINDS])
{
    for (int g = 0; g < d->source->graph_count; g++)
        for (int i = 0; i < d->source->graphs[g].input_count; i++) {
            const struct feed *f = &d->graphs[g].feeds[i];
            if (d->graphs[g].called && f->kind == FROM_MEDIA && processors[f->media] &&
                !check_port(d, g, i, processors[f->media]))
                return false;
        }
    return true;
}

/* ---- sizes to measure with ------------------------------------------------------------------ */

/* 0: nothing is known. */
static int64_t media_dim(const struct deduction *d, const struct processor *p, int graph, int input,
                         int dim)
{
    struct port outputs[PROCESSOR_OUTPUTS_MAX];
    size_t n = processor_outputs(p, outputs);
    enum media_kind media = d->graphs[graph].feeds[input].media;
    int rank = d->source->graphs[graph].inputs[input].shape.rank;
    for (size_t i = 0; i < n; i++)
        if (outputs[i].shape.rank == rank && outputs[i].shape.dims[dim] > 0 &&
            input_of(d, graph, media, outputs, n, i) == input)
            return outputs[i].shape.dims[dim];
    return 0;
}

static int64_t graph_dim(const struct deduction *d, const struct feed *f, int dim)
{
    const struct shape *s = &d->source->graphs[f->graph].outputs[f->output].shape;
    return dim < s->rank && s->dims[dim] > 0 ? s->dims[dim] : 0;
}

/* One new token after a short past; a mask covers both, an encoder's mask its states. */
static int64_t loop_dim(const struct deduction *d, int graph, const char *name)
{
    const struct model_graph *g = &d->source->graphs[graph];
    int past = 0;
    int64_t states = 0;
    for (int i = 0; i < g->input_count; i++) {
        const struct feed *f = &d->graphs[graph].feeds[i];
        if (strncmp(g->inputs[i].name, "past_", 5) == 0)
            past = PAST_TOKENS;
        else if (strcmp(g->inputs[i].name, "encoder_hidden_states") == 0 && f->kind == FROM_GRAPH)
            states = graph_dim(d, f, 1);
    }
    if (strcmp(name, "encoder_attention_mask") == 0)
        return states;
    if (strncmp(name, "past_", 5) == 0)
        return PAST_TOKENS;
    return strstr(name, "mask") ? past + 1 : 1;
}

static int64_t dim_of(const struct deduction *d, struct processor *const processors[MEDIA_KINDS],
                      int graph, int input, int dim)
{
    const struct feed *f = &d->graphs[graph].feeds[input];
    const struct port *port = &d->source->graphs[graph].inputs[input];
    if (f->kind == FROM_GRAPH)
        return graph_dim(d, f, dim);
    if (f->kind == FROM_LOOP)
        return loop_dim(d, graph, port->name);
    int64_t n = processors[f->media] ? media_dim(d, processors[f->media], graph, input, dim) : 0;
    return n > 0 ? n : f->media == MEDIA_TEXT ? TEXT_TOKENS : 0;
}

json_t *deduce_dims(const struct deduction *d, struct processor *const processors[MEDIA_KINDS])
{
    json_t *all = json_object();
    for (int g = 0; g < d->source->graph_count; g++) {
        const struct model_graph *m = &d->source->graphs[g];
        json_t *dims = json_object();
        for (int i = 0; i < m->input_count; i++)
            for (int k = 1; k < m->inputs[i].shape.rank; k++) {
                char key[TENSOR_NAME_MAX + 16];
                int64_t n = m->inputs[i].shape.dims[k] < 0 ? dim_of(d, processors, g, i, k) : 0;
                (void)snprintf(key, sizeof(key), "%s.%d", m->inputs[i].name, k);
                if (n > 0)
                    json_object_set_new(dims, key, json_integer(n));
            }
        json_object_set_new(all, m->digest.hex, dims);
    }
    return all;
}
