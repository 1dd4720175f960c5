/* pattern.c - several nodes that are one in canonical form.
 *
 * The layer norm that exporters before operator set 17 write as nine nodes:
 *
 *   m = ReduceMean(x, -1)   d = Sub(x, m)   p = Pow(d, 2)   v = ReduceMean(p, -1)
 *   s = Sqrt(Add(v, eps))   Add(Mul(Div(d, s), scale), bias)
 *
 * becomes one LayerNormalization(x, scale, bias) at the place of the last Add.  ONNX Runtime makes
 * the same node of it (level "extended" and "all"), so the answers are those of the whole model.
 * Not so right behind a Transpose: where another Transpose follows, that is moved into the nine
 * before, which stay nine, and the last bits are others.  There it becomes a node of its own kind.
 *
 * The GELU that exporters before operator set 20 write as five nodes,
 *
 *   Mul(Mul(x, Add(Erf(Div(x, sqrt 2)), 1)), 1/2)
 *
 * becomes one Gelu(x) likewise.
 *
 * A batch norm behind a convolution becomes part of it: exporters do so unless they are told not
 * to, and the runtime does too (from level "basic" on), all with the same rounding. */
#include "onnx/fold.h"

#include <math.h>
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
    const struct fconst *c = &f->g->known->consts.items[fnode_in(f->g, n, i)->index];
    return fconst_is_default(c) ? NULL : c;
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

/* ---- layer norm ---- */

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

/* The last of parts becomes a node of that signature over in[]; the others are dead. */
static bool replace(struct fgraph *g, struct fnode *const *parts, uint32_t count, uint32_t sig,
                    const uint32_t *in, uint32_t in_count, struct err *e)
{
    uint32_t first = g->origins.count;
    struct fnode *last = parts[count - 1];
    if (!POOL_ADD(g->origins, count, 2 * ONNX_NODES_MAX, "nodes", e) ||
        !POOL_ADD(g->edges, in_count, 8u * ONNX_EDGES_MAX, "edges", e))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        g->origins.items[first + i] = g->origins.items[parts[i]->origin_first];
        parts[i]->dead = i + 1 < count;
    }
    last->sig = sig;
    last->in_first = g->edges.count - in_count;
    last->in_count = in_count;
    memcpy(&g->edges.items[last->in_first], in, in_count * sizeof(*in));
    last->origin_first = first;
    last->origin_count = count;
    last->pattern = true;
    return true;
}

static bool replace_norm(struct fgraph *g, const struct norm *n, struct err *e)
{
    uint32_t sig, in[3] = {n->x, n->scale, n->bias};
    const struct fvalue *x = &g->values.items[n->x];
    struct span op = x->kind == FV_NODE && is_op(g, &g->nodes.items[x->index], "Transpose")
                         ? SPAN_LIT("nine nodes of a layer norm behind a Transpose")
                         : SPAN_LIT("LayerNormalization");
    return signature_plain(g, op, &n->epsilon, &sig, e) && replace(g, n->parts, 9, sig, in, 3, e);
}

/* ---- GELU ---- */

struct gelu {
    struct fnode *parts[5];
    uint32_t x;
};

/* Which input of an Add or Mul is that number; -1: none. */
static int number_input(const struct finder *f, const struct fnode *n, float number)
{
    float value;
    for (uint32_t i = 0; i < 2 && n->in_count == 2; i++)
        if (float_is(constant(f, n, i), &value) && memcmp(&value, &number, sizeof(value)) == 0)
            return (int)i;
    return -1;
}

static bool find_gelu(const struct finder *f, struct fnode *last, struct gelu *ret)
{
    const struct fgraph *g = f->g;
    int half = number_input(f, last, 0.5f);
    struct fnode *mul = half < 0 ? NULL : behind(f, last, half ? 0 : 1, "Mul", 1);
    for (uint32_t i = 0; mul && mul->in_count == 2 && i < 2; i++) {
        struct fnode *add = behind(f, mul, i, "Add", 1);
        int one = add ? number_input(f, add, 1.0f) : -1;
        struct fnode *erf = one < 0 ? NULL : behind(f, add, one ? 0 : 1, "Erf", 1);
        struct fnode *div = erf ? behind(f, erf, 0, "Div", 1) : NULL;
        if (!div || number_input(f, div, (float)M_SQRT2) != 1)
            continue;
        uint32_t x = g->edges.items[div->in_first];
        if (g->edges.items[mul->in_first + 1 - i] != x || g->values.items[x].type != OT_FLOAT)
            continue;
        *ret = (struct gelu){{div, erf, add, mul, last}, x};
        return true;
    }
    return false;
}

static bool replace_gelu(struct fgraph *g, const struct gelu *n, struct err *e)
{
    uint32_t sig;
    return signature_plain(g, SPAN_LIT("Gelu"), NULL, &sig, e) &&
           replace(g, n->parts, 5, sig, &n->x, 1, e);
}

/* ---- batch norm ---- */

/* A batch norm behind a convolution, with all numbers constant. */
struct batch_norm {
    struct fnode *conv, *norm;
    const struct fconst *weight, *bias, *scale, *shift, *mean, *variance; /* bias may be NULL */
    float epsilon;
};

static bool is_vector(const struct fconst *c, int64_t count)
{
    return c && c->type == OT_FLOAT && c->rank == 1 && c->dims[0] == count;
}

static bool find_batch_norm(const struct finder *f, struct fnode *n, struct batch_norm *ret)
{
    const struct onnx *m = f->g->m;
    const struct gnode *origin = &m->nodes.items[f->g->origins.items[n->origin_first]];
    const struct gattr *a = onnx_attr(m, origin, "epsilon");
    for (uint32_t i = 1; i < n->out_count; i++)
        if (f->uses[f->g->edges.items[n->out_first + i]])
            return false;
    if (n->in_count != 5 || onnx_attr_int(m, origin, "training_mode", 0) ||
        onnx_attr_int(m, origin, "spatial", 1) != 1 || (a && a->type != AT_FLOAT))
        return false;
    *ret = (struct batch_norm){.norm = n,
                               .conv = behind(f, n, 0, "Conv", 1),
                               .scale = constant(f, n, 1),
                               .shift = constant(f, n, 2),
                               .mean = constant(f, n, 3),
                               .variance = constant(f, n, 4),
                               .epsilon = a ? a->f : 1e-5f};
    if (!ret->conv || ret->conv->in_count < 2)
        return false;
    ret->weight = constant(f, ret->conv, 1);
    ret->bias = constant(f, ret->conv, 2);
    if (!ret->weight || ret->weight->type != OT_FLOAT || ret->weight->rank < 3 ||
        ret->weight->dims[0] <= 0 || (ret->conv->in_count > 2 && !ret->bias))
        return false;
    int64_t count = ret->weight->dims[0];
    return is_vector(ret->scale, count) && is_vector(ret->shift, count) &&
           is_vector(ret->mean, count) && is_vector(ret->variance, count) &&
           (!ret->bias || is_vector(ret->bias, count));
}

/* In the order in which exporters and the runtime round: s = scale / sqrt(variance + epsilon);
 * weight * s; (bias - mean) * s + shift, or shift - mean * s. */
static void fuse_batch_norm(const struct batch_norm *n, const float *const in[6], float *weight,
                            float *bias)
{
    uint64_t channels = (uint64_t)n->weight->dims[0], row = n->weight->count / channels;
    const float *w = in[0], *b = in[1], *scale = in[2], *shift = in[3], *mean = in[4];
    for (uint64_t i = 0; i < channels; i++) {
        float s = scale[i] / sqrtf(in[5][i] + n->epsilon);
        for (uint64_t k = 0; k < row; k++)
            weight[i * row + k] = w[i * row + k] * s;
        bias[i] = b ? (b[i] - mean[i]) * s + shift[i] : shift[i] - mean[i] * s;
    }
}

/* Takes data.  Large constants do not stay in memory: nothing is folded after patterns. */
static bool made_constant(struct fgraph *g, const struct fconst *like, float *data, uint32_t *ret,
                          struct err *e)
{
    struct fconst c = *like;
    uint32_t id;
    c.digest = (struct digest){{0}};
    c.graph = NULL;
    c.owned = (uint8_t *)data;
    c.data = c.owned;
    if (!known_const(g->known, &c, &id, e))
        return false;
    struct fconst *kept = &g->known->consts.items[id];
    if (kept->owned && !kept->graph && kept->bytes > FOLD_KEEP_MAX) {
        free(kept->owned);
        kept->owned = NULL;
        kept->data = NULL;
    }
    return fold_const_value(g, id, ONNX_NONE, ret, e);
}

/* The numbers of a constant, aligned. */
static bool numbers(struct fgraph *g, const struct fconst *c, float **ret, struct err *e)
{
    const uint8_t *data;
    uint8_t *owned;
    *ret = NULL;
    if (!c)
        return true;
    if (!fold_fetch(g->known, (uint32_t)(c - g->known->consts.items), &data, &owned, e))
        return false;
    *ret = malloc((size_t)c->bytes + 1);
    if (*ret && c->bytes)
        memcpy(*ret, data, (size_t)c->bytes);
    free(owned);
    return *ret || err_set(e, ERR_MEMORY, "batch norm: no memory");
}

static bool make_fused(struct fgraph *g, const struct batch_norm *n, uint32_t ret[2], struct err *e)
{
    const struct fconst *parts[6] = {n->weight, n->bias, n->scale, n->shift, n->mean, n->variance};
    struct fconst heads[2] = {*n->weight, *n->shift};
    float *in[6] = {NULL};
    float *weight = malloc((size_t)n->weight->bytes + 1),
          *bias = malloc((size_t)n->shift->bytes + 1);
    bool ok = (weight && bias) || err_set(e, ERR_MEMORY, "batch norm: no memory");
    for (int i = 0; ok && i < 6; i++)
        ok = numbers(g, parts[i], &in[i], e);
    if (ok) {
        fuse_batch_norm(n, (const float *const *)in, weight, bias);
        ok = made_constant(g, &heads[0], weight, &ret[0], e);
        weight = NULL;
        ok = ok && made_constant(g, &heads[1], bias, &ret[1], e);
        if (ok)
            bias = NULL;
    }
    for (int i = 0; i < 6; i++)
        free(in[i]);
    free(weight);
    free(bias);
    return ok;
}

static bool replace_batch_norm(struct fgraph *g, const struct batch_norm *n, struct err *e)
{
    uint32_t made[2], first = g->origins.count, x = g->edges.items[n->conv->in_first];
    uint32_t origins = n->conv->origin_count + 1;
    if (!make_fused(g, n, made, e) ||
        !POOL_ADD(g->origins, origins, 2 * ONNX_NODES_MAX, "nodes", e) ||
        !POOL_ADD(g->edges, 3, 8u * ONNX_EDGES_MAX, "edges", e))
        return false;
    for (uint32_t i = 0; i + 1 < origins; i++)
        g->origins.items[first + i] = g->origins.items[n->conv->origin_first + i];
    g->origins.items[first + origins - 1] = g->origins.items[n->norm->origin_first];
    uint32_t *in = &g->edges.items[g->edges.count - 3];
    in[0] = x;
    in[1] = made[0];
    in[2] = made[1];
    n->norm->sig = n->conv->sig;
    n->norm->in_first = g->edges.count - 3;
    n->norm->in_count = 3;
    n->norm->out_count = 1;
    n->norm->origin_first = first;
    n->norm->origin_count = origins;
    n->norm->pattern = true;
    n->norm->flops += n->conv->flops;
    n->conv->dead = true;
    return true;
}

/* ---- all ---- */

bool patterns_find(struct fgraph *g, struct err *e)
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
        struct gelu u;
        struct batch_norm b;
        struct fnode *node = &g->nodes.items[i];
        if (!node->dead && node->in_count == 2 && is_op(g, node, "Add") && find(&f, node, &n))
            ok = replace_norm(g, &n, e);
        else if (!node->dead && is_op(g, node, "Mul") && find_gelu(&f, node, &u))
            ok = replace_gelu(g, &u, e);
        else if (!node->dead && is_op(g, node, "BatchNormalization") &&
                 find_batch_norm(&f, node, &b))
            ok = replace_batch_norm(g, &b, e);
    }
    free(f.uses);
    return ok;
}
