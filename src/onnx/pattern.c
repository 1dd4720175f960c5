/* pattern.c - the layer norm that exporters before operator set 17 write as nine nodes.
 *
 *   m = ReduceMean(x, -1)   d = Sub(x, m)   p = Pow(d, 2)   v = ReduceMean(p, -1)
 *   s = Sqrt(Add(v, eps))   Add(Mul(Div(d, s), scale), bias)
 *
 * becomes one LayerNormalization(x, scale, bias) at the place of the last Add.  ONNX Runtime makes
 * the same node of it (level "extended" and "all"), so the answers are those of the whole model. */
#include "onnx/fold.h"

#include <stdlib.h>
#include <string.h>

struct finder {
    struct fgraph *g;
    uint32_t *uses; /* owned: of each value, by nodes and outputs */
};

static bool is_op(const struct fgraph *g, const struct fnode *n, const char *op)
{
    const struct fsig *s = &g->known->sigs.items[n->sig];
    return s->plain && !s->opaque && span_is(s->op, op);
}

/* The node that makes an input, if it is of that operator and nobody else uses it. */
static struct fnode *behind(const struct finder *f, const struct fnode *n, uint32_t i,
                            const char *op, uint32_t uses)
{
    if (i >= n->in_count)
        return NULL;
    const struct fvalue *v = fnode_in(f->g, n, i);
    if (v->kind != FV_NODE || f->uses[f->g->edges.items[n->in_first + i]] != uses)
        return NULL;
    struct fnode *from = &f->g->nodes.items[v->index];
    return from->out_count == 1 && is_op(f->g, from, op) ? from : NULL;
}

static const struct fconst *constant(const struct finder *f, const struct fnode *n, uint32_t i)
{
    if (i >= n->in_count || fnode_in(f->g, n, i)->kind != FV_CONST)
        return NULL;
    return &f->g->known->consts.items[fnode_in(f->g, n, i)->index];
}

static bool float_is(const struct fconst *c, float *ret)
{
    if (!c || c->type != OT_FLOAT || c->count != 1 || c->rank > 1 || !c->data)
        return false;
    memcpy(ret, c->data, sizeof(*ret));
    return true;
}

static bool over_last(const struct finder *f, const struct fnode *mean)
{
    const struct fconst *axes = constant(f, mean, 1);
    const struct gnode *origin = &f->g->m->nodes.items[f->g->origins.items[mean->origin_first]];
    int64_t axis;
    if (!axes || axes->type != OT_INT64 || axes->count != 1 || !axes->data ||
        onnx_attr_int(f->g->m, origin, "keepdims", 1) != 1)
        return false;
    memcpy(&axis, axes->data, sizeof(axis));
    int rank = fnode_in(f->g, mean, 0)->rank;
    return axis == -1 || (rank > 0 && axis == rank - 1);
}

/* Which of an Add's or Mul's inputs is a vector constant; -1: none. */
static int vector_input(const struct finder *f, const struct fnode *n)
{
    for (uint32_t i = 0; i < 2 && n->in_count == 2; i++) {
        const struct fconst *c = constant(f, n, i);
        if (c && c->type == OT_FLOAT && c->rank == 1)
            return (int)i;
    }
    return -1;
}

struct norm {
    struct fnode *parts[9];
    uint32_t x, scale, bias;
    float epsilon;
};

static bool find(const struct finder *f, struct fnode *add, struct norm *ret)
{
    const struct fgraph *g = f->g;
    int bias = vector_input(f, add);
    struct fnode *mul = bias < 0 ? NULL : behind(f, add, bias ? 0 : 1, "Mul", 1);
    int scale = mul ? vector_input(f, mul) : -1;
    struct fnode *div = scale < 0 ? NULL : behind(f, mul, scale ? 0 : 1, "Div", 1);
    struct fnode *sub = div ? behind(f, div, 0, "Sub", 2) : NULL,
                 *root = div ? behind(f, div, 1, "Sqrt", 1) : NULL;
    struct fnode *plus = root ? behind(f, root, 0, "Add", 1) : NULL;
    float exponent;
    uint32_t at = plus && constant(f, plus, 0) ? 0 : 1;
    if (!sub || !plus || !float_is(constant(f, plus, at), &ret->epsilon))
        return false;
    struct fnode *variance = behind(f, plus, 1 - at, "ReduceMean", 1);
    struct fnode *power =
        variance && over_last(f, variance) ? behind(f, variance, 0, "Pow", 1) : NULL;
    struct fnode *mean = behind(f, sub, 1, "ReduceMean", 1);
    if (!power || !mean || !over_last(f, mean) || !float_is(constant(f, power, 1), &exponent))
        return false;
    uint32_t x = g->edges.items[sub->in_first];
    if (exponent != 2.0f || g->edges.items[mean->in_first] != x ||
        fnode_in(g, power, 0)->kind != FV_NODE ||
        &g->nodes.items[fnode_in(g, power, 0)->index] != sub || g->values.items[x].type != OT_FLOAT)
        return false;
    struct fnode *parts[9] = {mean, sub, power, variance, plus, root, div, mul, add};
    memcpy(ret->parts, parts, sizeof(parts));
    ret->x = x;
    ret->scale = g->edges.items[mul->in_first + (uint32_t)scale];
    ret->bias = g->edges.items[add->in_first + (uint32_t)bias];
    return true;
}

static bool replace(struct fgraph *g, const struct norm *n, struct err *e)
{
    struct fnode *add = n->parts[8];
    uint32_t sig, first = g->origins.count;
    if (!signature_layer_norm(g, n->epsilon, &sig, e) ||
        !POOL_ADD(g->origins, 9, 2 * ONNX_NODES_MAX, "nodes", e) ||
        !POOL_ADD(g->edges, 3, 8u * ONNX_EDGES_MAX, "edges", e))
        return false;
    for (uint32_t i = 0; i < 9; i++) {
        g->origins.items[first + i] = g->origins.items[n->parts[i]->origin_first];
        n->parts[i]->dead = i < 8;
    }
    uint32_t *in = &g->edges.items[g->edges.count - 3];
    in[0] = n->x;
    in[1] = n->scale;
    in[2] = n->bias;
    add->sig = sig;
    add->in_first = g->edges.count - 3;
    add->in_count = 3;
    add->origin_first = first;
    add->origin_count = 9;
    add->pattern = true;
    return true;
}

bool pattern_layer_norm(struct fgraph *g, struct err *e)
{
    struct finder f = {.g = g, .uses = calloc(g->values.count + 1, sizeof(uint32_t))};
    if (!f.uses)
        return err_set(e, ERR_MEMORY, "patterns: no memory");
    for (uint32_t i = 0; i < g->nodes.count; i++)
        for (uint32_t k = 0; k < g->nodes.items[i].in_count; k++)
            f.uses[g->edges.items[g->nodes.items[i].in_first + k]]++;
    for (size_t i = 0; i < g->m->output_count; i++)
        f.uses[g->outputs[i]] += 3;
    bool ok = true;
    for (uint32_t i = 0; ok && i < g->nodes.count; i++) {
        struct norm n;
        if (!g->nodes.items[i].dead && g->nodes.items[i].in_count == 2 &&
            is_op(g, &g->nodes.items[i], "Add") && find(&f, &g->nodes.items[i], &n))
            ok = replace(g, &n, e);
    }
    free(f.uses);
    return ok;
}
