/* module.c - from regions in models to modules, calls and figures. */
#include "onnx/module.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct builder {
    struct work *w;
    struct share *s;
    struct instance *list; /* owned */
    uint32_t count;
    struct intern demanded, digests;
    uint32_t *chosen; /* owned: of each module, the instance that is written */
    uint32_t *maker;  /* owned, of one model: value to instance + 1 */
    uint32_t *slot;   /* owned, of one model: value to output of that instance */
};

static bool demand(struct builder *b, const struct wmodel *m, uint32_t value)
{
    uint32_t id;
    if (m->g->values.items[value].kind != FV_NODE)
        return true;
    return intern_id(&b->demanded, &m->code[value], sizeof(uint64_t), &id, b->w->e);
}

static bool collect_demand(struct builder *b)
{
    for (uint32_t i = 0; i < b->count; i++)
        for (uint32_t k = 0; k < b->list[i].ports.count; k++)
            if (!demand(b, &b->w->models[b->list[i].model], b->list[i].ports.items[k]))
                return false;
    for (uint32_t i = 0; i < b->w->model_count; i++)
        for (size_t k = 0; k < b->w->models[i].g->m->output_count; k++)
            if (!demand(b, &b->w->models[i], b->w->models[i].g->outputs[k]))
                return false;
    return true;
}

/* ---- modules ---- */

static bool port_of(const struct builder *b, const struct wmodel *m, uint32_t value,
                    const char *stem, uint32_t number, struct port *ret)
{
    const struct fvalue *v = &m->g->values.items[value];
    char shown[SPAN_TEXT_SIZE];
    bool typed = dtype_from_onnx(v->type) != DT_NONE;
    if (!typed || v->rank < 0 || !onnx_dims_fit(v->dims, v->rank)) {
        b->w->unsplit = (uint64_t)1 << (m - b->w->models);
        return err_set(b->w->e, ERR_UNSUPPORTED,
                       "value '%s' would cross between modules, but its %s can't be worked out",
                       span_text(m->g->m->values.items[v->origin].name, shown),
                       typed ? "shape" : "type");
    }
    *ret = (struct port){.dtype = dtype_from_onnx(v->type), .shape.rank = v->rank};
    memcpy(ret->shape.dims, v->dims, sizeof(v->dims));
    (void)snprintf(ret->name, sizeof(ret->name), "%s%u", stem, number);
    return true;
}

static bool ports_of(const struct builder *b, const struct instance *x, const uint32_t *values,
                     uint32_t count, const char *stem, struct port **ret)
{
    struct port *ports = calloc(count + 1u, sizeof(*ports));
    if (!ports)
        return err_set(b->w->e, ERR_MEMORY, "modules: no memory");
    *ret = ports;
    for (uint32_t i = 0; i < count; i++)
        if (!port_of(b, &b->w->models[x->model], values[i], stem, i, &ports[i]))
            return false;
    return true;
}

/* A dim is fixed only if it is the same in every call. */
static void join_ports(const struct wmodel *m, struct port *ports, const uint32_t *values,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct fvalue *v = &m->g->values.items[values[i]];
        for (int k = 0; k < ports[i].shape.rank && k < v->rank; k++)
            if (v->dims[k] != ports[i].shape.dims[k])
                ports[i].shape.dims[k] = -1;
    }
}

static bool add_bytes(struct intern *seen, const struct digest *d, uint64_t bytes, uint64_t *sum,
                      struct err *e)
{
    uint32_t had = seen->count, id;
    if (!intern_id(seen, d->hex, DIGEST_HEX, &id, e))
        return false;
    if (id == had)
        *sum += bytes;
    return true;
}

/* Digests of the distinct constants in what the exporter wrote, and their bytes. */
static bool weigh(struct builder *b, const struct instance *x, struct intern *seen, uint64_t *ret)
{
    const struct wmodel *w = &b->w->models[x->model];
    struct onnx *m = w->g->m;
    *ret = 0;
    for (uint32_t i = 0; i < x->inits.count; i++) {
        uint32_t tensor = m->values.items[x->inits.items[i]].index;
        if (!onnx_tensor_digest(m, tensor, b->w->e) ||
            !add_bytes(seen, &m->tensors.items[tensor].digest, m->tensors.items[tensor].bytes, ret,
                       b->w->e))
            return false;
    }
    for (uint32_t i = 0; i < x->shapes.count; i++) {
        const struct fvalue *v = &w->g->values.items[w->g->of_value[x->shapes.items[i]]];
        const struct fconst *c = &b->w->known.consts.items[v->index];
        if (!add_bytes(seen, &c->digest, c->bytes, ret, b->w->e))
            return false;
    }
    for (uint32_t i = 0; i < x->written.count; i++) {
        const struct gnode *n = &m->nodes.items[x->written.items[i]];
        uint32_t id = n->out_count ? m->refs.items[n->out_first] : ONNX_NONE;
        if (id == ONNX_NONE || m->values.items[id].kind != VALUE_CONST)
            continue;
        uint32_t tensor = m->values.items[id].index;
        if (!onnx_tensor_digest(m, tensor, b->w->e) ||
            !add_bytes(seen, &m->tensors.items[tensor].digest, m->tensors.items[tensor].bytes, ret,
                       b->w->e))
            return false;
    }
    for (uint32_t i = 0; i < x->nodes.count; i++) {
        const struct fsig *s = &b->w->known.sigs.items[w->g->nodes.items[x->nodes.items[i]].sig];
        for (uint32_t k = 0; k < s->const_count; k++) {
            const struct fconst *c =
                &b->w->known.consts.items[b->w->known.sig_consts.items[s->const_first + k]];
            if (!add_bytes(seen, &c->digest, c->bytes, ret, b->w->e))
                return false;
        }
    }
    return true;
}

static uint32_t modalities_of(const struct builder *b, const struct instance *x)
{
    const struct wmodel *m = &b->w->models[x->model];
    uint64_t mask = 0;
    uint32_t kinds = 0, tensors = 0;
    for (uint32_t i = 0; i < x->outputs.count; i++)
        mask |= m->mask[x->outputs.items[i]];
    for (uint32_t i = 0; i < m->g->m->input_count; i++)
        if (mask >> m->group[i] & 1) {
            enum share_modality kind = colour_kind(m->g->m, i);
            kinds |= kind == SHARE_TENSOR ? 0 : kind;
            tensors |= kind;
        }
    return kinds ? kinds : tensors & SHARE_TENSOR;
}

static bool answers(const struct wmodel *m, const struct instance *x)
{
    for (uint32_t i = 0; i < x->outputs.count; i++)
        for (uint32_t k = 0; k < m->g->m->output_count; k++)
            if (m->g->outputs[k] == x->outputs.items[i])
                return true;
    return false;
}

/* Decoder: words come in beside results of others (or a cache); encoder: only what the user gives,
 * of one kind; head: results of others come in and an output of the model goes out. */
static enum share_role role_of(const struct builder *b, const struct instance *x)
{
    const struct wmodel *m = &b->w->models[x->model];
    bool words = false, results = false, given = false, cache = false;
    for (uint32_t i = 0; i < x->ports.count; i++) {
        const struct fvalue *v = &m->g->values.items[x->ports.items[i]];
        bool input = v->kind == FV_INPUT;
        const char *called = input ? m->g->m->inputs[v->index].name : "";
        cache |= strstr(called, "past") != NULL;
        words |= input && v->type == OT_INT64 && v->rank == 2;
        results |= v->type != OT_INT64 && v->type != OT_INT32 && v->type != OT_BOOL &&
                   (!input || strstr(called, "hidden_state") != NULL);
        given |= input;
    }
    bool layers = x->nodes.count > 30;
    if (cache || (words && results && layers))
        return SHARE_DECODER;
    uint32_t kinds = modalities_of(b, x);
    if (results)
        return answers(m, x) ? SHARE_HEAD : SHARE_OTHER;
    return given && (kinds & (kinds - 1)) == 0 ? SHARE_ENCODER : SHARE_OTHER;
}

static bool make_module(struct builder *b, struct instance *x, struct share_module *mod)
{
    struct intern seen = {0};
    struct module_detail *detail = calloc(1, sizeof(*detail));
    if (!detail)
        return err_set(b->w->e, ERR_MEMORY, "modules: no memory");
    mod->detail = detail;
    detail->m = &b->w->models[x->model];
    *mod = (struct share_module){.digest = x->digest,
                                 .nodes = x->written.count,
                                 .model = x->model,
                                 .detail = detail,
                                 .input_count = x->ports.count,
                                 .output_count = x->outputs.count,
                                 .role = role_of(b, x)};
    for (uint32_t i = 0; i < x->nodes.count; i++)
        mod->flops += detail->m->g->nodes.items[x->nodes.items[i]].flops;
    bool ok = weigh(b, x, &seen, &mod->weight_bytes) &&
              ports_of(b, x, x->ports.items, x->ports.count, "in", &mod->inputs) &&
              ports_of(b, x, x->outputs.items, x->outputs.count, "out", &mod->outputs);
    intern_done(&seen);
    return ok;
}

/* Whether x is better to be written than y: with nodes of its own only, then with few. */
static bool is_better(const struct instance *x, const struct instance *y)
{
    if (x->borrowed != y->borrowed)
        return !x->borrowed;
    return x->written.count < y->written.count;
}

/* What is written for a model with fixed axes serves that one call only. */
static bool can_write(const struct builder *b, const struct instance *x)
{
    const struct wmodel *m = &b->w->models[x->model];
    bool ok = true;
    for (uint32_t i = 0; x->borrowed && i < b->count; i++)
        ok &= &b->list[i] == x || b->list[i].module != x->module;
    for (uint32_t i = 0; i < x->outputs.count; i++)
        ok &= m->g->values.items[x->outputs.items[i]].origin != ONNX_NONE;
    if (!ok)
        b->w->unadopted = (uint64_t)1 << x->model;
    return ok || err_set(b->w->e, ERR_UNSUPPORTED, "a part with fixed axes can't serve others");
}

/* Numbers the modules; of each, the instance that is written. */
static bool choose(struct builder *b)
{
    b->chosen = calloc(b->count + 1u, sizeof(*b->chosen));
    if (!b->chosen)
        return err_set(b->w->e, ERR_MEMORY, "modules: no memory");
    for (uint32_t i = 0; i < b->count; i++) {
        uint32_t had = b->digests.count;
        struct instance *x = &b->list[i];
        if (!intern_id(&b->digests, x->digest.hex, DIGEST_HEX, &x->module, b->w->e))
            return false;
        if (x->module == had || is_better(x, &b->list[b->chosen[x->module]]))
            b->chosen[x->module] = i;
    }
    for (uint32_t i = 0; i < b->digests.count; i++)
        if (!can_write(b, &b->list[b->chosen[i]]))
            return false;
    return true;
}

static bool make_modules(struct builder *b)
{
    struct share *s = b->s;
    s->modules = calloc(b->count + 1u, sizeof(*s->modules));
    if (!s->modules)
        return err_set(b->w->e, ERR_MEMORY, "modules: no memory");
    if (!choose(b))
        return false;
    s->module_count = b->digests.count;
    for (uint32_t i = 0; i < s->module_count; i++)
        if (!make_module(b, &b->list[b->chosen[i]], &s->modules[i]))
            return false;
    for (uint32_t i = 0; i < b->count; i++) {
        const struct instance *x = &b->list[i];
        const struct wmodel *m = &b->w->models[x->model];
        struct share_module *mod = &s->modules[x->module];
        mod->models |= (uint64_t)1 << x->model;
        mod->modalities |= modalities_of(b, x);
        mod->by_pattern |= x->borrowed || b->list[b->chosen[x->module]].form != x->form;
        join_ports(m, mod->inputs, x->ports.items, mod->input_count);
        join_ports(m, mod->outputs, x->outputs.items, mod->output_count);
    }
    return true;
}

/* ---- calls ---- */

static bool ref_of(const struct builder *b, const struct wmodel *m, uint32_t value,
                   const uint32_t *call_of, struct share_ref *ret)
{
    const struct fvalue *v = &m->g->values.items[value];
    char shown[SPAN_TEXT_SIZE];
    if (v->kind == FV_INPUT) {
        *ret = (struct share_ref){.call = false, .index = v->index};
        return true;
    }
    if (!b->maker[value]) {
        b->w->unsplit = (uint64_t)1 << (m - b->w->models);
        return err_set(
            b->w->e, ERR_UNSUPPORTED, "output or port '%s' is a constant or is made by no module",
            v->origin == ONNX_NONE ? "" : span_text(m->g->m->values.items[v->origin].name, shown));
    }
    *ret = (struct share_ref){
        .call = true, .index = call_of[b->maker[value] - 1], .output = b->slot[value]};
    return true;
}

static bool ready(const struct builder *b, const struct wmodel *m, const struct instance *x,
                  const uint32_t *call_of)
{
    for (uint32_t i = 0; i < x->ports.count; i++) {
        uint32_t value = x->ports.items[i];
        if (m->g->values.items[value].kind == FV_NODE && b->maker[value] &&
            call_of[b->maker[value] - 1] == UINT32_MAX)
            return false;
    }
    return true;
}

static bool add_call(struct builder *b, uint32_t model, uint32_t at, uint32_t *call_of)
{
    struct share_model *sm = &b->s->models[model];
    const struct instance *x = &b->list[at];
    struct share_call *call = &sm->calls[sm->call_count];
    call->module = x->module;
    call->inputs = calloc(x->ports.count + 1u, sizeof(*call->inputs));
    if (!call->inputs)
        return err_set(b->w->e, ERR_MEMORY, "calls: no memory");
    call_of[at] = (uint32_t)sm->call_count++;
    if (!call_keep(x, &call->detail, b->w->e))
        return false;
    for (uint32_t i = 0; i < x->ports.count; i++)
        if (!ref_of(b, &b->w->models[model], x->ports.items[i], call_of, &call->inputs[i]))
            return false;
    for (size_t i = 0; i < sm->module_count; i++)
        if (sm->modules[i] == x->module)
            return true;
    sm->modules[sm->module_count++] = x->module;
    return true;
}

/* Calls in an order in which they can run: again and again the first that has all it needs. */
static bool order_calls(struct builder *b, uint32_t model, uint32_t first, uint32_t end,
                        uint32_t *call_of)
{
    for (uint32_t left = end - first; left;) {
        uint32_t before = left;
        for (uint32_t i = first; i < end; i++)
            if (call_of[i] == UINT32_MAX && ready(b, &b->w->models[model], &b->list[i], call_of)) {
                if (!add_call(b, model, i, call_of))
                    return false;
                left--;
            }
        if (left == before) {
            b->w->unsplit = (uint64_t)1 << model;
            return err_set(b->w->e, ERR_INTERNAL, "calls of a model wait for one another");
        }
    }
    return true;
}

static bool make_calls(struct builder *b, uint32_t model, uint32_t first, uint32_t end)
{
    const struct wmodel *m = &b->w->models[model];
    struct share_model *sm = &b->s->models[model];
    size_t values = m->g->values.count + 1u;
    b->maker = calloc(values, sizeof(uint32_t));
    b->slot = calloc(values, sizeof(uint32_t));
    uint32_t *call_of = malloc((b->count + 1u) * sizeof(uint32_t));
    sm->m = m->g->m;
    sm->calls = calloc(end - first + 1u, sizeof(*sm->calls));
    sm->modules = calloc(end - first + 1u, sizeof(*sm->modules));
    sm->outputs = calloc(m->g->m->output_count + 1u, sizeof(*sm->outputs));
    bool ok = b->maker && b->slot && call_of && sm->calls && sm->modules && sm->outputs;
    if (!ok)
        err_set(b->w->e, ERR_MEMORY, "calls: no memory");
    for (uint32_t i = first; ok && i < end; i++) {
        call_of[i] = UINT32_MAX;
        for (uint32_t k = 0; k < b->list[i].outputs.count; k++) {
            b->maker[b->list[i].outputs.items[k]] = i + 1;
            b->slot[b->list[i].outputs.items[k]] = k;
        }
    }
    ok = ok && order_calls(b, model, first, end, call_of);
    for (size_t i = 0; ok && i < m->g->m->output_count; i++)
        ok = ref_of(b, m, m->g->outputs[i], call_of, &sm->outputs[i]);
    ok = ok && onnx_weight_bytes(sm->m, &sm->source_bytes, b->w->e);
    free(b->maker);
    free(b->slot);
    free(call_of);
    b->maker = b->slot = NULL;
    return ok;
}

/* ---- all ---- */

static void sums(struct share *s)
{
    s->shared_bytes = s->unshared_bytes = 0;
    for (size_t i = 0; i < s->module_count; i++)
        s->shared_bytes += s->modules[i].weight_bytes;
    for (size_t i = 0; i < s->model_count; i++)
        for (size_t k = 0; k < s->models[i].module_count; k++)
            s->unshared_bytes += s->modules[s->models[i].modules[k]].weight_bytes;
}

/* Drops calls that nobody needs; the instance of a module that is written moves to its detail. */
static bool prepare(struct builder *b)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        if (!instance_name(b->w, &b->list[i], &b->demanded))
            return false;
        if (b->list[i].outputs.count == 0) {
            instance_done(&b->list[i]);
            continue;
        }
        if (!instance_original(b->w, &b->list[i]))
            return false;
        struct instance x = b->list[i];
        b->list[i] = (struct instance){0};
        b->list[kept++] = x;
    }
    b->count = kept;
    return true;
}

static void hand_over(struct builder *b)
{
    for (size_t i = 0; i < b->s->module_count; i++) {
        struct module_detail *d = b->s->modules[i].detail;
        d->x = b->list[b->chosen[i]];
        b->list[b->chosen[i]] = (struct instance){0};
    }
}

static bool run(struct builder *b)
{
    if (!instances_find(b->w, &b->list, &b->count) || !collect_demand(b))
        return false;
    uint32_t all = b->count;
    bool ok = prepare(b);
    if (!ok)
        b->count = all;
    ok = ok && make_modules(b);
    for (uint32_t i = 0, at = 0; ok && i < b->w->model_count; i++) {
        uint32_t end = at;
        while (end < b->count && b->list[end].model == i)
            end++;
        ok = make_calls(b, i, at, end);
        at = end;
    }
    ok = ok && near_misses(b->w, b->s, b->list, b->count);
    if (ok) {
        sums(b->s);
        hand_over(b);
    }
    return ok && modules_widen(b->s, b->w->e);
}

bool work_modules(struct work *w, struct share *s)
{
    struct builder b = {.w = w, .s = s};
    bool ok = run(&b);
    for (uint32_t i = 0; i < b.count; i++)
        instance_done(&b.list[i]);
    free(b.list);
    free(b.chosen);
    intern_done(&b.demanded);
    intern_done(&b.digests);
    return ok;
}

void module_detail_free(void *detail)
{
    struct module_detail *d = detail;
    if (d)
        instance_done(&d->x);
    free(d);
}
