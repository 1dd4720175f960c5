/* join.c - two calls of a model as one module.
 *
 * The nodes of both, as the exporter wrote them.  Its inputs are those of the two that do not come
 * from one of them; its outputs those that a third or the model's own outputs need: what goes only
 * from one to the other stays inside, so that the runtime may fuse across it as it would in the
 * whole model. */
#include "onnx/module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is kept of each call -------------------------------------------------------------- */

static bool copy_list(const uint32_t *from, uint32_t count, uint32_t **ret, uint32_t *ret_count)
{
    *ret = malloc((count + 1u) * sizeof(**ret));
    if (!*ret)
        return false;
    if (count)
        memcpy(*ret, from, count * sizeof(*from));
    *ret_count = count;
    return true;
}

bool call_keep(const struct instance *x, void **ret, struct err *e)
{
    struct call_detail *d = calloc(1, sizeof(*d));
    if (d && copy_list(x->nodes.items, x->nodes.count, &d->nodes, &d->node_count) &&
        copy_list(x->ports.items, x->ports.count, &d->ports, &d->port_count) &&
        copy_list(x->outputs.items, x->outputs.count, &d->outputs, &d->output_count)) {
        d->borrowed = x->borrowed;
        *ret = d;
        return true;
    }
    call_detail_free(d);
    return err_set(e, ERR_MEMORY, "calls: no memory");
}

bool call_add_output(void *detail, uint32_t k, struct err *e)
{
    struct call_detail *d = detail;
    uint32_t *more = realloc(d->outputs, (d->output_count + 2u) * sizeof(*more));
    if (!more)
        return err_set(e, ERR_MEMORY, "calls: no memory");
    d->outputs = more;
    more[d->output_count++] = more[k];
    return true;
}

void call_detail_free(void *detail)
{
    struct call_detail *d = detail;
    if (!d)
        return;
    free(d->nodes);
    free(d->ports);
    free(d->outputs);
    free(d);
}

/* ---- joining -------------------------------------------------------------------------------- */

struct joining {
    const struct share_model *model;
    const struct share_module *modules;
    struct wmodel *m;
    struct work *w;
    size_t calls[2];
    struct instance x;
    struct share_module module;
    struct share_joined *ret;
    struct err *e;
};

static bool add_value(struct joining *j, uint32_t **items, uint32_t *count, uint32_t *capacity,
                      uint32_t value)
{
    if (!pool_room((void **)items, count, capacity, sizeof(uint32_t), 1, ONNX_EDGES_MAX, "ports",
                   j->e))
        return false;
    (*items)[*count - 1] = value;
    return true;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Light nodes may be in both. */
static bool join_nodes(struct joining *j)
{
    for (int i = 0; i < 2; i++) {
        const struct call_detail *d = j->model->calls[j->calls[i]].detail;
        for (uint32_t k = 0; k < d->node_count; k++)
            if (!add_value(j, &j->x.nodes.items, &j->x.nodes.count, &j->x.nodes.capacity,
                           d->nodes[k]))
                return false;
    }
    if (j->x.nodes.count)
        qsort(j->x.nodes.items, j->x.nodes.count, sizeof(uint32_t), by_number);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < j->x.nodes.count; i++)
        if (i == 0 || j->x.nodes.items[i] != j->x.nodes.items[kept - 1])
            j->x.nodes.items[kept++] = j->x.nodes.items[i];
    j->x.nodes.count = kept;
    return true;
}

static bool is_inside(const struct joining *j, const struct share_ref *r)
{
    return r->call && (r->index == j->calls[0] || r->index == j->calls[1]);
}

static bool has_value(const uint32_t *items, uint32_t count, uint32_t value)
{
    for (uint32_t i = 0; i < count; i++)
        if (items[i] == value)
            return true;
    return false;
}

static bool join_inputs(struct joining *j)
{
    for (int i = 0; i < 2; i++) {
        const struct share_call *c = &j->model->calls[j->calls[i]];
        const struct call_detail *d = c->detail;
        for (uint32_t k = 0; k < d->port_count; k++) {
            if (is_inside(j, &c->inputs[k]) ||
                has_value(j->x.ports.items, j->x.ports.count, d->ports[k]))
                continue;
            j->ret->inputs[j->ret->input_count++] = c->inputs[k];
            if (!add_value(j, &j->x.ports.items, &j->x.ports.count, &j->x.ports.capacity,
                           d->ports[k]))
                return false;
        }
    }
    return true;
}

/* Does a third call or the model need that output? */
static bool is_needed(const struct joining *j, size_t call, uint32_t output)
{
    const struct share_model *m = j->model;
    size_t outputs;
    (void)onnx_outputs(m->m, &outputs);
    for (size_t i = 0; i < outputs; i++)
        if (m->outputs[i].call && m->outputs[i].index == call && m->outputs[i].output == output)
            return true;
    for (size_t c = 0; c < m->call_count; c++) {
        const struct call_detail *d = m->calls[c].detail;
        for (uint32_t k = 0; c != j->calls[0] && c != j->calls[1] && k < d->port_count; k++) {
            const struct share_ref *r = &m->calls[c].inputs[k];
            if (r->call && r->index == call && r->output == output)
                return true;
        }
    }
    return false;
}

static bool join_outputs(struct joining *j)
{
    for (int i = 0; i < 2; i++) {
        const struct call_detail *d = j->model->calls[j->calls[i]].detail;
        for (uint32_t k = 0; k < d->output_count; k++) {
            if (!is_needed(j, j->calls[i], k))
                continue;
            j->ret->outputs[j->ret->output_count++] =
                (struct share_ref){.call = true, .index = (uint32_t)j->calls[i], .output = k};
            if (!add_value(j, &j->x.outputs.items, &j->x.outputs.count, &j->x.outputs.capacity,
                           d->outputs[k]))
                return false;
        }
    }
    return true;
}

/* from: the calls' outputs that they are; those may be wider than their values (half.c). */
static bool make_ports(struct joining *j, const uint32_t *values, const struct share_ref *from,
                       size_t count, const char *stem, struct port **ret)
{
    *ret = calloc(count + 1, sizeof(**ret));
    if (!*ret)
        return err_set(j->e, ERR_MEMORY, "modules: no memory");
    for (size_t i = 0; i < count; i++) {
        const struct fvalue *v = &j->m->g->values.items[values[i]];
        struct port *p = &(*ret)[i];
        *p = (struct port){.dtype = dtype_from_onnx(v->type), .shape.rank = v->rank};
        if (from[i].call)
            p->dtype =
                j->modules[j->model->calls[from[i].index].module].outputs[from[i].output].dtype;
        memcpy(p->shape.dims, v->dims, sizeof(v->dims));
        (void)snprintf(p->name, sizeof(p->name), "%s%zu", stem, i);
    }
    return true;
}

static bool join(struct joining *j, const char *folder)
{
    const struct call_detail *a = j->model->calls[j->calls[0]].detail;
    const struct call_detail *b = j->model->calls[j->calls[1]].detail;
    if (a->borrowed || b->borrowed)
        return err_set(j->e, ERR_UNSUPPORTED, "a module is made of nodes of another model");
    j->ret->inputs = calloc(a->port_count + b->port_count + 1u, sizeof(struct share_ref));
    j->ret->outputs = calloc(a->output_count + b->output_count + 1u, sizeof(struct share_ref));
    if (!j->ret->inputs || !j->ret->outputs)
        return err_set(j->e, ERR_MEMORY, "modules: no memory");
    j->w->e = j->e;
    bool ok = join_nodes(j) && join_inputs(j) && join_outputs(j) &&
              instance_original(j->w, &j->x) &&
              make_ports(j, j->x.ports.items, j->ret->inputs, j->x.ports.count, "in",
                         &j->module.inputs) &&
              make_ports(j, j->x.outputs.items, j->ret->outputs, j->x.outputs.count, "out",
                         &j->module.outputs);
    j->w->e = NULL;
    j->module.input_count = j->x.ports.count;
    j->module.output_count = j->x.outputs.count;
    return ok && module_write(&j->x, j->m, &j->module, NULL, folder, j->e);
}

bool share_write_joined(const struct share *s, size_t model, size_t from, size_t to,
                        const char *folder, struct share_joined *ret, struct err *e)
{
    struct joining j = {.model = &s->models[model],
                        .modules = s->modules,
                        .m = &s->work->models[model],
                        .w = s->work,
                        .calls = {from, to},
                        .x.model = (uint32_t)model,
                        .ret = ret,
                        .e = e};
    *ret = (struct share_joined){0};
    bool ok = join(&j, folder);
    free(j.module.inputs);
    free(j.module.outputs);
    instance_done(&j.x);
    if (!ok)
        share_joined_clear(ret);
    return ok;
}

void share_joined_clear(struct share_joined *j)
{
    free(j->inputs);
    free(j->outputs);
    *j = (struct share_joined){0};
}
