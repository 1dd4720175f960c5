/* cut_check.c - the question whether a file and its modules answer alike, for a device.
 *
 * Whole: the file beside its modules.  Pairwise, where no device holds the file: each two modules
 * of which one takes from the other, joined beside the two apart, on what the calls before them
 * gave. */
#include "coord/cut_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define CHECK_DIM 4 /* of a dynamic dim that nothing is known of */

/* A dynamic dim as a request would bring it: said by the group that has the input. */
static int64_t input_dim(const struct cut_model *m, int file, const struct port *p, int dim)
{
    char key[TENSOR_NAME_MAX + 16];
    (void)snprintf(key, sizeof(key), "%s.%d", p->name, dim);
    for (int i = 0; i < m->group_count; i++) {
        const json_t *v = json_object_get(json_object_get(m->dims, m->groups[i].digest.hex), key);
        if (m->groups[i].file == file && json_integer_value(v) > 0)
            return json_integer_value(v);
    }
    return dim == 0 ? 1 : CHECK_DIM;
}

static json_t *check_inputs(const struct cut_model *m, int file)
{
    size_t count;
    const struct port *inputs = onnx_inputs(m->source->files[file].onnx, &count);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *shape = json_array();
        for (int k = 0; k < inputs[i].shape.rank; k++) {
            int64_t dim = inputs[i].shape.dims[k];
            json_array_append_new(shape,
                                  json_integer(dim > 0 ? dim : input_dim(m, file, &inputs[i], k)));
        }
        json_array_append_new(list, json_pack("{s:s,s:s,s:o}", "name", inputs[i].name, "dtype",
                                              dtype_name(inputs[i].dtype), "shape", shape));
    }
    return list;
}

static json_t *check_ref(const struct cut *c, const struct share_model *s,
                         const struct share_ref *r, const char *key, const char *name)
{
    if (!r->call)
        return json_pack("{s:s,s:i}", key, name, "input", (int)r->index);
    const struct cut_module *from = &c->modules[s->calls[r->index].module];
    return json_pack("{s:s,s:i,s:s}", key, name, "call", (int)r->index, "output",
                     from->outputs[r->output].name);
}

static json_t *check_calls(const struct cut *c, const struct share_model *s)
{
    json_t *calls = json_array();
    for (size_t k = 0; k < s->call_count; k++) {
        const struct cut_module *x = &c->modules[s->calls[k].module];
        json_t *inputs = json_array();
        for (int i = 0; i < x->input_count; i++)
            json_array_append_new(
                inputs, check_ref(c, s, &s->calls[k].inputs[i], "port", x->inputs[i].name));
        json_array_append_new(calls,
                              json_pack("{s:s,s:o}", "module", x->digest.hex, "inputs", inputs));
    }
    return calls;
}

static json_t *question(const struct cut *c, int model, int file, json_t *references)
{
    const struct cut_model *m = &c->models[model];
    return json_pack("{s:o,s:o,s:o}", "inputs", check_inputs(m, file), "calls",
                     check_calls(c, &c->share->models[m->share[file]]), "references", references);
}

json_t *cut_check(const struct cut *c, int model, int file)
{
    const struct cut_model *m = &c->models[model];
    const struct cut_file *f = &m->source->files[file];
    const struct share_model *s = &c->share->models[m->share[file]];
    size_t in, out;
    const struct port *inputs = onnx_inputs(f->onnx, &in), *outputs = onnx_outputs(f->onnx, &out);
    json_t *ports = json_array(), *results = json_array();
    for (size_t i = 0; i < in; i++)
        json_array_append_new(ports,
                              json_pack("{s:s,s:i}", "port", inputs[i].name, "input", (int)i));
    for (size_t i = 0; i < out; i++)
        if (s->outputs[i].call)
            json_array_append_new(results,
                                  check_ref(c, s, &s->outputs[i], "name", outputs[i].name));
    return question(
        c, model, file,
        json_pack("[{s:s,s:o,s:o}]", "module", f->digest.hex, "inputs", ports, "outputs", results));
}

/* ---- pairs ---------------------------------------------------------------------------------- */

static bool takes_from(const struct cut *c, const struct share_model *s, size_t to, size_t from)
{
    const struct share_call *call = &s->calls[to];
    for (int i = 0; i < c->modules[call->module].input_count; i++)
        if (call->inputs[i].call && call->inputs[i].index == from)
            return true;
    return false;
}

bool cut_pairs(const struct cut *c, int model, int file, struct cut_pair **ret, int *count,
               struct err *e)
{
    const struct share_model *s = &c->share->models[c->models[model].share[file]];
    size_t n = 0, most = s->call_count * s->call_count;
    struct cut_pair *list =
        calloc((most < CUT_PAIRS_MAX ? most : CUT_PAIRS_MAX) + 1, sizeof(*list));
    if (!list)
        return err_set(e, ERR_MEMORY, "check: no memory");
    for (size_t to = 0; to < s->call_count; to++)
        for (size_t from = 0; from < to; from++) {
            if (!takes_from(c, s, to, from))
                continue;
            if (n == CUT_PAIRS_MAX) {
                free(list);
                return err_set(e, ERR_TOO_LARGE, "check: more than %d pairs of modules",
                               CUT_PAIRS_MAX);
            }
            list[n++] = (struct cut_pair){.from = from, .to = to};
        }
    *ret = list;
    *count = (int)n;
    return true;
}

void cut_pairs_free(struct cut_pair *pairs, int count)
{
    for (int i = 0; i < count; i++)
        share_joined_clear(&pairs[i].joined);
    free(pairs);
}

bool cut_write_pair(const struct cut *c, int model, int file, struct cut_pair *p,
                    const char *folder, struct err *e)
{
    share_joined_clear(&p->joined);
    return share_write_joined(c->share, (size_t)c->models[model].share[file], p->from, p->to,
                              folder, &p->joined, e);
}

json_t *cut_check_pairs(const struct cut *c, int model, int file, const struct cut_pair *pairs,
                        int count)
{
    const struct share_model *s = &c->share->models[c->models[model].share[file]];
    json_t *references = json_array();
    for (int i = 0; i < count; i++) {
        const struct share_joined *j = &pairs[i].joined;
        json_t *inputs = json_array(), *outputs = json_array();
        char name[24];
        for (size_t k = 0; k < j->input_count; k++) {
            (void)snprintf(name, sizeof(name), "in%zu", k);
            json_array_append_new(inputs, check_ref(c, s, &j->inputs[k], "port", name));
        }
        for (size_t k = 0; k < j->output_count; k++) {
            (void)snprintf(name, sizeof(name), "out%zu", k);
            json_array_append_new(outputs, check_ref(c, s, &j->outputs[k], "name", name));
        }
        json_array_append_new(references, json_pack("{s:s,s:o,s:o}", "module", pairs[i].digest.hex,
                                                    "inputs", inputs, "outputs", outputs));
    }
    return question(c, model, file, references);
}
