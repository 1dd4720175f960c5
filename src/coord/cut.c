/* cut.c - models cut into modules: the steps in their order. */
#include "coord/cut_internal.h"

#include "base/num.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DYNAMIC_BYTES (4u << 20) /* reserved for an output whose size is not known beforehand */
#define DIM_GUESS 16             /* of a dynamic dim, for the cost model */

/* ---- ports ---------------------------------------------------------------------------------- */

int cut_find_port(const struct port *ports, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(ports[i].name, name) == 0)
            return i;
    return -1;
}

static uint64_t bytes_with(const struct port *p, int64_t guess, bool *known)
{
    uint64_t n = dtype_size(p->dtype);
    *known = true;
    for (int i = 0; i < p->shape.rank; i++) {
        int64_t dim = p->shape.dims[i];
        *known = *known && (dim >= 0 || i == 0);
        dim = dim > 0 ? dim : i == 0 ? 1 : guess;
        if (__builtin_mul_overflow(n, (uint64_t)dim, &n) || n > TENSOR_BYTES_MAX)
            return TENSOR_BYTES_MAX;
    }
    return n;
}

uint64_t cut_port_bytes(const struct port *p)
{
    bool known;
    uint64_t n = bytes_with(p, 1, &known);
    return known || n > DYNAMIC_BYTES ? n : DYNAMIC_BYTES;
}

static uint64_t outputs_bytes(const struct cut_module *m)
{
    uint64_t sum = 0;
    bool known;
    for (int i = 0; i < m->output_count; i++)
        sum += bytes_with(&m->outputs[i], DIM_GUESS, &known);
    return sum < TENSOR_BYTES_MAX ? sum : TENSOR_BYTES_MAX;
}

static bool copy_ports(const struct port *from, size_t count, struct port **ret, int *ret_count,
                       struct err *e)
{
    *ret = calloc(count + 1, sizeof(**ret));
    if (!*ret)
        return err_set(e, ERR_MEMORY, "module: no memory");
    memcpy(*ret, from, count * sizeof(*from));
    *ret_count = (int)count;
    return true;
}

/* ---- which files are cut -------------------------------------------------------------------- */

static bool check_ports(const struct cut_file *f, bool *generates, struct err *e)
{
    size_t in, out;
    struct model_graph g = {.inputs = onnx_inputs(f->onnx, &in),
                            .outputs = onnx_outputs(f->onnx, &out)};
    if (in > MODEL_PORTS_MAX || out > MODEL_PORTS_MAX || in == 0 || out == 0)
        return err_set(e, ERR_UNSUPPORTED, "%s.onnx: %zu inputs and %zu outputs, should be 1 to %d",
                       f->name, in, out, MODEL_PORTS_MAX);
    g.input_count = (int)in;
    g.output_count = (int)out;
    *generates = model_generates(&g);
    return true;
}

static bool share_files(struct cut *c, uint64_t min_share, struct err *e)
{
    struct onnx *files[SHARE_MODELS_MAX];
    size_t count = 0;
    for (int i = 0; i < c->model_count; i++) {
        struct cut_model *m = &c->models[i];
        for (int f = 0; f < m->source->file_count; f++) {
            bool generates;
            m->share[f] = m->whole[f] = -1;
            if (!check_ports(&m->source->files[f], &generates, e))
                return err_prefix(e, "%s", m->source->model.name);
            if (generates || m->source->whole || count >= SHARE_MODELS_MAX)
                continue;
            m->share[f] = (int)count;
            files[count++] = m->source->files[f].onnx;
        }
    }
    return count == 0 || share_find(files, count, min_share, &c->share, e);
}

/* ---- modules -------------------------------------------------------------------------------- */

static int whole_module(const struct cut *c, const char *digest)
{
    for (int i = 0; i < c->module_count; i++)
        if (c->modules[i].file && strcmp(c->modules[i].digest.hex, digest) == 0)
            return i;
    return -1;
}

static bool add_whole(struct cut *c, struct cut_model *m, int file, struct err *e)
{
    const struct cut_file *f = &m->source->files[file];
    size_t in, out;
    const struct port *inputs = onnx_inputs(f->onnx, &in), *outputs = onnx_outputs(f->onnx, &out);
    m->whole[file] = whole_module(c, f->digest.hex);
    if (m->whole[file] >= 0)
        return true;
    if (c->module_count >= CUT_MODULES_MAX)
        return err_set(e, ERR_TOO_LARGE, "models: more than %d modules", CUT_MODULES_MAX);
    m->whole[file] = c->module_count;
    struct cut_module *x = &c->modules[c->module_count++];
    *x = (struct cut_module){.identity = f->digest, .digest = f->digest, .file = f};
    memcpy(x->name, f->name, sizeof(x->name));
    if (!copy_ports(inputs, in, &x->inputs, &x->input_count, e) ||
        !copy_ports(outputs, out, &x->outputs, &x->output_count, e) ||
        !onnx_weight_bytes(f->onnx, &x->weight_bytes, e))
        return err_prefix(e, "%s.onnx", f->name);
    double flops = onnx_flops(f->onnx, NULL, 0);
    x->gflop = flops > 0 ? flops / 1e9 : 0;
    x->output_bytes = outputs_bytes(x);
    return true;
}

/* The models that have a module of the share: how many, and the first. */
static int owners(const struct cut *c, const struct share_module *s, const char **first)
{
    int count = 0;
    for (int i = 0; i < c->model_count; i++) {
        bool has = false;
        for (int f = 0; f < c->models[i].source->file_count; f++)
            has = has || (c->models[i].share[f] >= 0 && s->models >> c->models[i].share[f] & 1);
        if (has && count++ == 0)
            *first = c->models[i].source->model.name;
    }
    return count;
}

/* "image_encoder"; what stands behind others' results: "garment-vqa_head", or "image_layers" where
 * several models have it. */
static void name_module(const struct cut *c, const struct share_module *s, char name[WIRE_NAME_MAX])
{
    static const char *const kinds[] = {"image", "audio", "text", "tensor"};
    const char *first = "";
    char what[64] = "";
    size_t n = 0;
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++)
        if (s->modalities >> i & 1)
            n += (size_t)snprintf(what + n, sizeof(what) - n, "%s_", kinds[i]);
    int models = owners(c, s, &first);
    if (s->role == SHARE_ENCODER)
        (void)snprintf(name, WIRE_NAME_MAX, "%sencoder", what);
    else if (models > 1)
        (void)snprintf(name, WIRE_NAME_MAX, "%slayers", what);
    else
        (void)snprintf(name, WIRE_NAME_MAX, "%.100s_head", first);
}

static bool add_shared(struct cut *c, size_t index, struct err *e)
{
    const struct share_module *s = &c->share->modules[index];
    if (c->module_count >= CUT_MODULES_MAX)
        return err_set(e, ERR_TOO_LARGE, "models: more than %d modules", CUT_MODULES_MAX);
    struct cut_module *x = &c->modules[c->module_count++];
    *x = (struct cut_module){.share = index,
                             .weight_bytes = s->weight_bytes,
                             .gflop = isfinite(s->flops) && s->flops > 0 ? s->flops / 1e9 : 0};
    name_module(c, s, x->name);
    if (!copy_ports(s->inputs, s->input_count, &x->inputs, &x->input_count, e) ||
        !copy_ports(s->outputs, s->output_count, &x->outputs, &x->output_count, e))
        return false;
    x->output_bytes = outputs_bytes(x);
    return true;
}

/* An input that a processor feeds takes that tensor's name, the first of them where models differ. */
static void name_inputs(struct cut *c, const struct cut_model *m, int file)
{
    const struct share_model *s = &c->share->models[m->share[file]];
    size_t count;
    const struct port *inputs = onnx_inputs(m->source->files[file].onnx, &count);
    for (size_t k = 0; k < s->call_count; k++) {
        struct cut_module *x = &c->modules[s->calls[k].module];
        for (int i = 0; i < x->input_count; i++) {
            const struct share_ref *r = &s->calls[k].inputs[i];
            enum media_kind kind;
            char canonical[24];
            (void)snprintf(canonical, sizeof(canonical), "in%d", i);
            if (!r->call && model_input_media(&inputs[r->index], &kind) &&
                strcmp(x->inputs[i].name, canonical) == 0 &&
                cut_find_port(x->inputs, x->input_count, inputs[r->index].name) < 0)
                memcpy(x->inputs[i].name, inputs[r->index].name, TENSOR_NAME_MAX);
        }
    }
}

static bool identify(struct cut *c, struct cut_module *x, struct err *e)
{
    struct digest_ctx *d = digest_start();
    if (!d)
        return err_set(e, ERR_MEMORY, "module: no memory");
    digest_add(d, c->share->modules[x->share].digest.hex, DIGEST_HEX);
    for (int i = 0; i < x->input_count; i++)
        digest_add(d, x->inputs[i].name, strlen(x->inputs[i].name) + 1);
    x->identity = digest_finish(d);
    return true;
}

static bool make_modules(struct cut *c, struct err *e)
{
    size_t shared = c->share ? c->share->module_count : 0;
    c->modules =
        calloc(shared + (size_t)c->model_count * MODEL_GRAPHS_MAX + 1, sizeof(*c->modules));
    if (!c->modules)
        return err_set(e, ERR_MEMORY, "modules: no memory");
    for (size_t i = 0; i < shared; i++)
        if (!add_shared(c, i, e))
            return false;
    for (int i = 0; i < c->model_count; i++)
        for (int f = 0; f < c->models[i].source->file_count; f++) {
            if (c->models[i].share[f] >= 0)
                name_inputs(c, &c->models[i], f);
            else if (!add_whole(c, &c->models[i], f, e))
                return false;
        }
    for (size_t i = 0; i < shared; i++)
        if (!identify(c, &c->modules[i], e))
            return false;
    return true;
}

/* ---- programs ------------------------------------------------------------------------------- */

int cut_module_by_identity(const struct cut *c, const char *identity)
{
    for (int i = 0; i < c->module_count; i++)
        if (strcmp(c->modules[i].identity.hex, identity) == 0)
            return i;
    return -1;
}

static bool expand_all(struct cut *c, struct cut_model *m, struct program *const *programs,
                       int count, struct err *e)
{
    m->programs = calloc((size_t)count + 1, sizeof(struct program *));
    if (!m->programs)
        return err_set(e, ERR_MEMORY, "model: no memory");
    for (int i = 0; i < count; i++) {
        struct program *p = cut_expand(c, m, programs[i], e);
        if (!p)
            return false;
        m->programs[m->program_count++] = p;
        for (int k = 0; k < p->call_count; k++)
            c->modules[cut_module_by_identity(c, p->calls[k].module.hex)].used = true;
    }
    return true;
}

/* A file that only takes what other files' calls gave is a head, not an encoder of tensors. */
static void name_heads(struct cut *c, const struct cut_model *m, const struct program_call *call)
{
    for (int i = 0; i < call->input_count; i++)
        if (call->inputs[i].media)
            return;
    for (int g = 0; g < m->group_count; g++) {
        int share = m->share[m->groups[g].file];
        if (share < 0 || strcmp(m->groups[g].digest.hex, call->module.hex) != 0)
            continue;
        const struct share_model *s = &c->share->models[share];
        for (size_t i = 0; i < s->call_count; i++) {
            const struct share_module *part = &c->share->modules[s->calls[i].module];
            const char *first = "";
            char *name = c->modules[s->calls[i].module].name;
            if (part->modalities != SHARE_TENSOR)
                continue;
            if (owners(c, part, &first) > 1)
                (void)snprintf(name, WIRE_NAME_MAX, "head_layers");
            else
                (void)snprintf(name, WIRE_NAME_MAX, "%.100s_head", first);
        }
    }
}

static bool make_programs(struct cut *c, struct cut_model *m, struct err *e)
{
    struct program **programs = NULL;
    int count = 0;
    bool ok = cut_make_groups(c, m, e) && model_deduce(&m->source->model, &m->deduced, e) &&
              model_programs(json_object_get(m->deduced, "programs"), &programs, &count, e);
    for (int i = 0; ok && i < count; i++)
        for (int k = 0; k < programs[i]->call_count; k++)
            name_heads(c, m, &programs[i]->calls[k]);
    ok = ok && expand_all(c, m, programs, count, e);
    m->dims = json_object_get(m->deduced, "dims");
    model_programs_free(programs, count);
    return ok || err_prefix(e, "%s", m->source->model.name);
}

json_t *cut_tasks(struct cut_source *source, struct share *share, size_t first, struct err *e)
{
    struct cut c = {.share = share};
    struct cut_model *m = calloc(1, sizeof(*m));
    json_t *o = NULL;
    bool ok = m || err_set(e, ERR_MEMORY, "model: no memory");
    if (m)
        m->source = source;
    for (int f = 0; ok && f < source->file_count; f++) {
        bool generates;
        ok = check_ports(&source->files[f], &generates, e);
        m->share[f] = ok && !generates ? (int)first + f : -1;
    }
    ok = ok && cut_make_groups(&c, m, e) && model_deduce(&source->model, &o, e);
    json_t *tasks = ok ? json_incref(json_object_get(o, "tasks")) : NULL;
    if (m)
        cut_clear_groups(m);
    free(m);
    source->model.graph_count = 0; /* they pointed to what is gone */
    json_decref(o);
    return tasks;
}

bool cut_find(struct cut_source *const *sources, int count, uint64_t min_share, struct cut **ret,
              struct err *e)
{
    struct cut *c = calloc(1, sizeof(*c));
    if (!c || count < 1 || count > CUT_SOURCES_MAX) {
        free(c);
        return c ? err_set(e, ERR_TOO_LARGE, "%d models, should be 1 to %d", count, CUT_SOURCES_MAX)
                 : err_set(e, ERR_MEMORY, "models: no memory");
    }
    c->models = calloc((size_t)count, sizeof(*c->models));
    bool ok = c->models || err_set(e, ERR_MEMORY, "models: no memory");
    for (int i = 0; ok && i < count; i++)
        c->models[c->model_count++].source = sources[i];
    ok = ok && share_files(c, min_share, e) && make_modules(c, e);
    for (int i = 0; ok && i < count; i++)
        ok = make_programs(c, &c->models[i], e);
    if (!ok) {
        cut_free(c);
        return false;
    }
    *ret = c;
    return true;
}

void cut_free(struct cut *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->model_count; i++) {
        model_programs_free(c->models[i].programs, c->models[i].program_count);
        json_decref(c->models[i].deduced);
        cut_clear_groups(&c->models[i]);
    }
    for (int i = 0; i < c->module_count; i++) {
        free(c->modules[i].inputs);
        free(c->modules[i].outputs);
        json_decref(c->modules[i].dims);
    }
    share_free(c->share);
    free(c->models);
    free(c->modules);
    free(c);
}

/* ---- what the caller makes of it ------------------------------------------------------------ */

bool cut_write(const struct cut *c, int module, const char *folder, struct err *e)
{
    const struct cut_module *m = &c->modules[module];
    const char **names = calloc((size_t)m->input_count + 1, sizeof(*names));
    if (!names)
        return err_set(e, ERR_MEMORY, "module: no memory");
    for (int i = 0; i < m->input_count; i++)
        names[i] = m->inputs[i].name;
    bool ok = share_write_as(c->share, m->share, names, folder, e);
    free(names);
    return ok || err_prefix(e, "module %s", m->name);
}

uint64_t cut_file_bytes(const struct cut *c, int model, int file)
{
    uint64_t n = 0;
    (void)onnx_weight_bytes(c->models[model].source->files[file].onnx, &n, NULL);
    return n;
}

int cut_file_count(const struct cut *c, int model)
{
    return c->models[model].source->file_count;
}

bool cut_file_modules(const struct cut *c, int model, int file, bool *ret)
{
    const struct cut_model *m = &c->models[model];
    memset(ret, 0, (size_t)c->module_count * sizeof(*ret));
    if (m->share[file] < 0)
        return false;
    const struct share_model *s = &c->share->models[m->share[file]];
    for (size_t i = 0; i < s->call_count; i++)
        ret[s->calls[i].module] = true;
    return true;
}

static json_t *digests_of(const json_t *programs)
{
    json_t *list = json_array(), *seen = json_object();
    for (size_t i = 0; i < json_array_size(programs); i++) {
        const json_t *calls = json_object_get(json_array_get(programs, i), "calls");
        for (size_t k = 0; k < json_array_size(calls); k++) {
            json_t *digest = json_object_get(json_array_get(calls, k), "module");
            const char *hex = json_string_value(digest);
            if (!hex || json_object_get(seen, hex))
                continue;
            json_object_set_new(seen, hex, json_true());
            json_array_append(list, digest);
        }
    }
    json_decref(seen);
    return list;
}

json_t *cut_model_json(const struct cut *c, int model)
{
    const struct cut_model *m = &c->models[model];
    json_t *programs = json_array(), *dims = json_object(), *o = json_copy(m->deduced);
    for (int i = 0; i < m->program_count; i++) {
        json_t *p = program_to_json(m->programs[i]), *calls = json_object_get(p, "calls");
        for (size_t k = 0; k < json_array_size(calls); k++) {
            json_t *call = json_array_get(calls, k);
            int at = cut_module_by_identity(c, json_string_value(json_object_get(call, "module")));
            const struct cut_module *x = &c->modules[at];
            json_object_set_new(call, "module", json_string(x->digest.hex));
            if (x->dims)
                json_object_set(dims, x->digest.hex, x->dims);
            else if (x->file && json_object_get(m->dims, x->digest.hex))
                json_object_set(dims, x->digest.hex, json_object_get(m->dims, x->digest.hex));
        }
        json_array_append_new(programs, p);
    }
    json_object_set_new(o, "modules", digests_of(programs));
    json_object_set_new(o, "programs", programs);
    json_object_set_new(o, "dims", dims);
    return o;
}
