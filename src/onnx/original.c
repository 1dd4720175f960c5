/* original.c - what the exporter wrote for an instance: its nodes and initialisers.
 *
 * The canonical nodes know their origins; to these come the nodes that compute their constants
 * (which folding took away).  Order and names are the exporter's. */
#include "onnx/module.h"

#include <stdlib.h>

struct gather {
    struct work *w;
    struct instance *x;
    const struct wmodel *m;
    uint8_t *have; /* owned: nodes that are listed */
    uint8_t *init; /* owned: values that are listed */
};

static bool list_node(struct gather *t, uint32_t node)
{
    if (t->have[node])
        return true;
    t->have[node] = 1;
    if (!POOL_ADD(t->x->written, 1, ONNX_NODES_MAX, "nodes", t->w->e))
        return false;
    t->x->written.items[t->x->written.count - 1] = node;
    return true;
}

/* An input of a listed node: a constant brings what holds or computes it. */
static bool list_value(struct gather *t, uint32_t id)
{
    const struct onnx *m = t->m->g->m;
    if (id == ONNX_NONE || m->values.items[id].graph != ONNX_MAIN)
        return true;
    const struct gvalue *v = &m->values.items[id];
    if (v->kind == VALUE_CONST && v->node != ONNX_NONE)
        return list_node(t, v->node);
    if (v->kind == VALUE_CONST) {
        if (t->init[id])
            return true;
        t->init[id] = 1;
        if (!POOL_ADD(t->x->inits, 1, ONNX_VALUES_MAX, "constants", t->w->e))
            return false;
        t->x->inits.items[t->x->inits.count - 1] = id;
        return true;
    }
    uint32_t value = t->m->g->of_value[id];
    bool folded = v->kind == VALUE_NODE && t->m->g->values.items[value].kind == FV_CONST;
    if (!folded || !t->m->g->values.items[value].by_shape)
        return !folded || list_node(t, v->node);
    if (t->init[id])
        return true;
    t->init[id] = 1;
    if (!POOL_ADD(t->x->shapes, 1, ONNX_VALUES_MAX, "constants", t->w->e))
        return false;
    t->x->shapes.items[t->x->shapes.count - 1] = id;
    return true;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static bool collect(struct gather *t)
{
    const struct fgraph *g = t->m->g;
    const struct onnx *m = g->m;
    struct instance *x = t->x;
    for (uint32_t i = 0; i < x->nodes.count; i++) {
        const struct fnode *n = &g->nodes.items[x->nodes.items[i]];
        x->borrowed |= n->origin_count == 0 || n->lent;
        for (uint32_t k = 0; k < n->origin_count; k++)
            if (!list_node(t, g->origins.items[n->origin_first + k]))
                return false;
    }
    for (uint32_t i = 0; i < x->outputs.count; i++) {
        const struct fvalue *v = &g->values.items[x->outputs.items[i]];
        if (v->kind == FV_CONST && !list_value(t, v->origin))
            return false;
    }
    for (uint32_t i = 0; i < x->written.count; i++) {
        const struct gnode *n = &m->nodes.items[x->written.items[i]];
        for (uint32_t k = 0; k < n->in_count; k++)
            if (!list_value(t, m->refs.items[n->in_first + k]))
                return false;
        for (uint32_t k = 0; k < n->capture_count; k++)
            if (!list_value(t, m->refs.items[n->capture_first + k]))
                return false;
    }
    if (x->written.count)
        qsort(x->written.items, x->written.count, sizeof(uint32_t), by_number);
    if (x->inits.count)
        qsort(x->inits.items, x->inits.count, sizeof(uint32_t), by_number);
    x->form = 0;
    for (uint32_t i = 0; i < x->written.count; i++) {
        const struct gnode *n = &m->nodes.items[x->written.items[i]];
        if (!onnx_is_op(n, "Constant") && !onnx_is_op(n, "Identity"))
            x->form += intern_hash(n->op.data, n->op.size, 21);
    }
    return true;
}

bool instance_original(struct work *w, struct instance *x)
{
    struct gather t = {.w = w, .x = x, .m = &w->models[x->model]};
    t.have = calloc(t.m->g->m->nodes.count + 1u, 1);
    t.init = calloc(t.m->g->m->values.count + 1u, 1);
    bool ok = (t.have && t.init) || err_set(w->e, ERR_MEMORY, "modules: no memory");
    ok = ok && collect(&t);
    free(t.have);
    free(t.init);
    return ok;
}
