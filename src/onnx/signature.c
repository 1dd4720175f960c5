/* signature.c - an operator and its attributes as bytes that are equal when the meaning is.
 *
 *   domain, operator, era, then each attribute by name: type and value; sub-graphs and function
 *   bodies follow as lists of nodes over numbered values, with constants by content.
 *
 * "Era": most operators only gained element types with newer operator sets; where the meaning of
 * inputs or attributes changed, the set in which it did stands in the table below.
 *
 * Attributes that newer operator sets made inputs become inputs (axes of Squeeze, ends of Slice
 * ...), and defaults are left out: so the same operator of two operator sets has one signature. */
#include "onnx/fold.h"

#include "base/buf.h"
#include "base/num.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIGNATURE_MAX ((size_t)256 << 20)

/* Operator sets in which an operator's meaning changed. */
static const struct {
    const char *op;
    int versions[3];
} eras[] = {
    {"Softmax", {13}},
    {"LogSoftmax", {13}},
    {"Hardmax", {13}},
    {"Resize", {11, 13}},
    {"Upsample", {9}},
    {"GroupNormalization", {21}},
    {"AveragePool", {19}},
    {"GridSample", {20}},
    {"RoiAlign", {16}},
    {"DFT", {20}},
    {"DequantizeLinear", {21}},
    {"QuantizeLinear", {21}},
    {"Attention", {24}},
    {"Scan", {9}},
    {"Loop", {11}},
    {"MaxUnpool", {11}},
    {"NonMaxSuppression", {11}},
};

enum default_kind { D_INT, D_FLOAT, D_TEXT, D_ONES, D_ZEROS, D_ANY };

/* Values that mean the same as leaving the attribute out. */
static const struct {
    const char *op, *attr;
    enum default_kind kind;
    int64_t i;
    float f;
    const char *s;
} defaults[] = {
    {"Shape", "start", D_INT, 0, 0, NULL},
    {"Gather", "axis", D_INT, 0, 0, NULL},
    {"GatherElements", "axis", D_INT, 0, 0, NULL},
    {"GatherND", "batch_dims", D_INT, 0, 0, NULL},
    {"Softmax", "axis", D_INT, -1, 0, NULL}, /* from 13 on: see last_axis() */
    {"LogSoftmax", "axis", D_INT, -1, 0, NULL},
    {"Hardmax", "axis", D_INT, -1, 0, NULL},
    {"Flatten", "axis", D_INT, 1, 0, NULL},
    {"Gemm", "alpha", D_FLOAT, 0, 1.0f, NULL},
    {"Gemm", "beta", D_FLOAT, 0, 1.0f, NULL},
    {"Gemm", "transA", D_INT, 0, 0, NULL},
    {"Gemm", "transB", D_INT, 0, 0, NULL},
    {"Conv", "group", D_INT, 1, 0, NULL},
    {"Conv", "dilations", D_ONES, 0, 0, NULL},
    {"Conv", "strides", D_ONES, 0, 0, NULL},
    {"Conv", "pads", D_ZEROS, 0, 0, NULL},
    {"Conv", "auto_pad", D_TEXT, 0, 0, "NOTSET"},
    {"ConvInteger", "group", D_INT, 1, 0, NULL},
    {"ConvInteger", "dilations", D_ONES, 0, 0, NULL},
    {"ConvInteger", "strides", D_ONES, 0, 0, NULL},
    {"ConvInteger", "pads", D_ZEROS, 0, 0, NULL},
    {"ConvInteger", "auto_pad", D_TEXT, 0, 0, "NOTSET"},
    {"LayerNormalization", "axis", D_INT, -1, 0, NULL},
    {"LayerNormalization", "epsilon", D_FLOAT, 0, 1e-5f, NULL},
    {"LayerNormalization", "stash_type", D_INT, 1, 0, NULL},
    {"Reshape", "allowzero", D_INT, 0, 0, NULL},
    {"Cast", "saturate", D_INT, 1, 0, NULL},
    {"ArgMax", "axis", D_INT, 0, 0, NULL},
    {"ArgMax", "keepdims", D_INT, 1, 0, NULL},
    {"ArgMax", "select_last_index", D_INT, 0, 0, NULL},
    {"ArgMin", "axis", D_INT, 0, 0, NULL},
    {"ArgMin", "keepdims", D_INT, 1, 0, NULL},
    {"ArgMin", "select_last_index", D_INT, 0, 0, NULL},
    {"BatchNormalization", "epsilon", D_FLOAT, 0, 1e-5f, NULL},
    {"BatchNormalization", "momentum", D_ANY, 0, 0, NULL},
    {"BatchNormalization", "training_mode", D_INT, 0, 0, NULL},
    {"BatchNormalization", "spatial", D_INT, 1, 0, NULL},
    {"InstanceNormalization", "epsilon", D_FLOAT, 0, 1e-5f, NULL},
    {"TopK", "axis", D_INT, -1, 0, NULL},
    {"TopK", "largest", D_INT, 1, 0, NULL},
    {"TopK", "sorted", D_INT, 1, 0, NULL},
    {"Pad", "mode", D_TEXT, 0, 0, "constant"},
    {"MaxPool", "ceil_mode", D_INT, 0, 0, NULL},
    {"MaxPool", "storage_order", D_INT, 0, 0, NULL},
    {"MaxPool", "dilations", D_ONES, 0, 0, NULL},
    {"MaxPool", "pads", D_ZEROS, 0, 0, NULL},
    {"MaxPool", "strides", D_ONES, 0, 0, NULL},
    {"MaxPool", "auto_pad", D_TEXT, 0, 0, "NOTSET"},
    {"AveragePool", "ceil_mode", D_INT, 0, 0, NULL},
    {"AveragePool", "pads", D_ZEROS, 0, 0, NULL},
    {"AveragePool", "count_include_pad", D_INT, 0, 0, NULL},
    {"AveragePool", "strides", D_ONES, 0, 0, NULL},
    {"AveragePool", "auto_pad", D_TEXT, 0, 0, "NOTSET"},
    {"Split", "axis", D_INT, 0, 0, NULL},
    {"Split", "num_outputs", D_ANY, 0, 0, NULL},
    {"LeakyRelu", "alpha", D_FLOAT, 0, 0.01f, NULL},
    {"Elu", "alpha", D_FLOAT, 0, 1.0f, NULL},
    {"Gelu", "approximate", D_TEXT, 0, 0, "none"},
    {"Mod", "fmod", D_INT, 0, 0, NULL},
    {"CumSum", "exclusive", D_INT, 0, 0, NULL},
    {"CumSum", "reverse", D_INT, 0, 0, NULL},
    {"Trilu", "upper", D_INT, 1, 0, NULL},
    {"OneHot", "axis", D_INT, -1, 0, NULL},
    {"ScatterND", "reduction", D_TEXT, 0, 0, "none"},
    {"ScatterElements", "axis", D_INT, 0, 0, NULL},
    {"ScatterElements", "reduction", D_TEXT, 0, 0, "none"},
    {"QuantizeLinear", "axis", D_INT, 1, 0, NULL},
    {"DequantizeLinear", "axis", D_INT, 1, 0, NULL},
    {"QuantizeLinear", "saturate", D_INT, 1, 0, NULL},
    {"QuantizeLinear", "block_size", D_INT, 0, 0, NULL},
    {"DequantizeLinear", "block_size", D_INT, 0, 0, NULL},
};

/* Attributes that became inputs, in the order of those inputs (after the first). */
static const struct {
    const char *op;
    const char *attrs[3];
} moved[] = {
    {"Unsqueeze", {"axes"}},
    {"Squeeze", {"axes"}},
    {"ReduceSum", {"axes"}},
    {"ReduceMean", {"axes"}},
    {"ReduceMax", {"axes"}},
    {"ReduceMin", {"axes"}},
    {"ReduceProd", {"axes"}},
    {"ReduceL1", {"axes"}},
    {"ReduceL2", {"axes"}},
    {"ReduceLogSum", {"axes"}},
    {"ReduceLogSumExp", {"axes"}},
    {"ReduceSumSquare", {"axes"}},
    {"Split", {"split"}},
    {"Slice", {"starts", "ends", "axes"}},
    {"Clip", {"min", "max"}},
    {"Pad", {"pads", "value"}},
    {"TopK", {"k"}},
};

/* What the writer of one signature carries. */
struct sign {
    struct fgraph *g;
    struct buf out;
    uint32_t *number; /* owned: value to its number in the sub-graphs, + 1 */
    uint32_t numbers;
    uint32_t *captures; /* owned: outer values in order of first use */
    uint32_t capture_count;
    uint32_t const_first;
    bool opaque;
    struct err *e;
};

static bool all_are(const struct onnx *m, const struct gattr *a, int64_t value)
{
    for (uint32_t i = 0; i < a->count; i++)
        if (m->ints.items[a->first + i] != value)
            return false;
    return true;
}

static bool is_softmax(const struct gnode *n)
{
    return span_is(n->op, "Softmax") || span_is(n->op, "LogSoftmax") || span_is(n->op, "Hardmax");
}

/* Of a Softmax and the like in the main graph: whether it is over the last axis alone.  Before
 * operator set 13 it is over all axes from `axis` (1) on. */
static bool last_axis(const struct fgraph *g, const struct gnode *n)
{
    if (!is_softmax(n) || n->version < 7 || n->graph != ONNX_MAIN || !g->seen[0].values ||
        n->in_count == 0 || g->m->refs.items[n->in_first] == ONNX_NONE)
        return false;
    const struct ivalue *v = &g->seen[0].values[g->m->refs.items[n->in_first]];
    int64_t axis = onnx_attr_int(g->m, n, "axis", n->version < 13 ? 1 : -1);
    return v->rank > 0 && (axis < 0 ? axis + v->rank : axis) == v->rank - 1;
}

static bool is_default(const struct fgraph *g, const struct gnode *n, const struct gattr *a)
{
    const struct onnx *m = g->m;
    char op[32] = {0};
    if (a->ref.size)
        return false;
    if (span_is(a->name, "allowzero") && fold_reshaped(g, n, NULL))
        return true;
    if (is_softmax(n) && span_is(a->name, "axis") && (n->version < 13 || last_axis(g, n)))
        return last_axis(g, n) || (a->type == AT_INT && a->i == 1);
    memcpy(op, n->op.data, num_min(n->op.size, sizeof(op) - 1));
    if (strncmp(op, "Reduce", 6) == 0 && a->type == AT_INT)
        return (span_is(a->name, "keepdims") && a->i == 1) ||
               (span_is(a->name, "noop_with_empty_axes") && a->i == 0);
    for (size_t i = 0; i < ARRAY_LEN(defaults); i++) {
        if (strcmp(op, defaults[i].op) != 0 || !span_is(a->name, defaults[i].attr))
            continue;
        switch (defaults[i].kind) {
        case D_INT:
            return a->type == AT_INT && a->i == defaults[i].i;
        case D_FLOAT:
            return a->type == AT_FLOAT && memcmp(&a->f, &defaults[i].f, sizeof(a->f)) == 0;
        case D_TEXT:
            return a->type == AT_STRING && span_is(a->s, defaults[i].s);
        case D_ONES:
            return a->type == AT_INTS && all_are(m, a, 1);
        case D_ZEROS:
            return a->type == AT_INTS && all_are(m, a, 0);
        case D_ANY:
            return true;
        }
    }
    return false;
}

static int era_of(const struct fgraph *g, const struct gnode *n)
{
    if (n->version < 7) /* broadcasting was an attribute */
        return n->version;
    if (last_axis(g, n))
        return 13;
    int era = 7;
    for (size_t i = 0; i < ARRAY_LEN(eras); i++)
        if (span_is(n->op, eras[i].op))
            for (int k = 0; k < 3 && eras[i].versions[k]; k++)
                if (n->version >= eras[i].versions[k])
                    era = eras[i].versions[k];
    return era;
}

static bool plain_domain(struct span d)
{
    return d.size == 0 || span_is(d, "ai.onnx");
}

static int moved_row(const struct gnode *n)
{
    if (n->function != ONNX_NONE || !plain_domain(n->domain))
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(moved); i++)
        if (span_is(n->op, moved[i].op))
            return (int)i;
    return -1;
}

static void put(struct sign *s, const void *data, size_t size)
{
    uint64_t length = size;
    buf_add(&s->out, &length, sizeof(length));
    buf_add(&s->out, data, size);
}

static void put_number(struct sign *s, int64_t value)
{
    buf_add(&s->out, &value, sizeof(value));
}

static bool put_tensor(struct sign *s, uint32_t tensor)
{
    struct onnx *m = s->g->m;
    if (!onnx_tensor_digest(m, tensor, s->e))
        return false;
    put(s, m->tensors.items[tensor].digest.hex, DIGEST_HEX);
    return true;
}

/* A constant inside of sub-graphs: by content, and remembered for the weights' sum. */
static bool put_const(struct sign *s, uint32_t tensor)
{
    struct onnx *m = s->g->m;
    if (!put_tensor(s, tensor))
        return false;
    const struct gtensor *t = &m->tensors.items[tensor];
    struct fconst c = {.digest = t->digest,
                       .type = t->type,
                       .rank = t->rank,
                       .count = t->count,
                       .bytes = t->bytes,
                       .data = t->data};
    memcpy(c.dims, t->dims, sizeof(c.dims));
    uint32_t id;
    if (!known_const(s->g->known, &c, &id, s->e) ||
        !POOL_ADD(s->g->known->sig_consts, 1, ONNX_VALUES_MAX, "constants of sub-graphs", s->e))
        return false;
    s->g->known->sig_consts.items[s->g->known->sig_consts.count - 1] = id;
    return true;
}

static bool put_value(struct sign *s, uint32_t id)
{
    struct onnx *m = s->g->m;
    if (id == ONNX_NONE) {
        put_number(s, -1);
        return true;
    }
    const struct gvalue *v = &m->values.items[id];
    if (v->graph != ONNX_MAIN && v->kind == VALUE_CONST) {
        put_number(s, -2);
        return put_const(s, v->index);
    }
    if (v->graph == ONNX_MAIN) {
        uint32_t k = 0;
        while (k < s->capture_count && s->captures[k] != id)
            k++;
        if (k == s->capture_count)
            s->captures[s->capture_count++] = id;
        put_number(s, -3);
        put_number(s, k);
        return true;
    }
    if (s->number[id] == 0)
        s->number[id] = ++s->numbers;
    put_number(s, s->number[id]);
    return true;
}

static bool put_attrs(struct sign *s, const struct gnode *n);

static bool put_node(struct sign *s, uint32_t node)
{
    const struct onnx *m = s->g->m;
    const struct gnode *n = &m->nodes.items[node];
    put(s, plain_domain(n->domain) ? "" : (const char *)n->domain.data,
        plain_domain(n->domain) ? 0 : n->domain.size);
    put(s, n->op.data, n->op.size);
    put_number(s, n->function != ONNX_NONE  ? 0
                  : plain_domain(n->domain) ? era_of(s->g, n)
                                            : n->version);
    if (!put_attrs(s, n))
        return false;
    put_number(s, n->in_count);
    for (uint32_t i = 0; i < n->in_count; i++)
        if (!put_value(s, m->refs.items[n->in_first + i]))
            return false;
    put_number(s, n->out_count);
    for (uint32_t i = 0; i < n->out_count; i++)
        if (!put_value(s, m->refs.items[n->out_first + i]))
            return false;
    return true;
}

static bool put_graph(struct sign *s, uint32_t graph)
{
    const struct onnx *m = s->g->m;
    const struct ggraph *g = &m->graphs.items[graph];
    s->opaque = true;
    put_number(s, g->in_count);
    for (uint32_t i = 0; i < g->in_count; i++)
        if (!put_value(s, m->refs.items[g->in_first + i]))
            return false;
    put_number(s, g->node_count);
    for (uint32_t i = 0; i < g->node_count; i++)
        if (!onnx_is_op(&m->nodes.items[g->node_first + i], "Constant") &&
            !put_node(s, g->node_first + i))
            return false;
    put_number(s, g->out_count);
    for (uint32_t i = 0; i < g->out_count; i++)
        if (!put_value(s, m->refs.items[g->out_first + i]))
            return false;
    return true;
}

static bool put_attr(struct sign *s, const struct gattr *a)
{
    const struct onnx *m = s->g->m;
    put(s, a->name.data, a->name.size);
    put_number(s, a->type);
    put(s, a->ref.data, a->ref.size);
    if (a->ref.size)
        return true;
    switch (a->type) {
    case AT_FLOAT:
        put(s, &a->f, sizeof(a->f));
        return true;
    case AT_INT:
        put_number(s, a->i);
        return true;
    case AT_STRING:
        put(s, a->s.data, a->s.size);
        return true;
    case AT_FLOATS:
        put(s, m->floats.items + a->first, a->count * sizeof(float));
        return true;
    case AT_INTS:
        put(s, m->ints.items + a->first, a->count * sizeof(int64_t));
        return true;
    case AT_STRINGS:
        put_number(s, a->count);
        for (uint32_t i = 0; i < a->count; i++)
            put(s, m->spans.items[a->first + i].data, m->spans.items[a->first + i].size);
        return true;
    case AT_TENSOR:
    case AT_TENSORS:
        put_number(s, a->count);
        for (uint32_t i = 0; i < a->count; i++)
            if (!put_tensor(s, a->first + i))
                return false;
        return true;
    case AT_GRAPH:
    case AT_GRAPHS:
        return a->count == 0 || put_graph(s, a->first);
    default:
        put(s, a->message.data, a->message.size);
        return true;
    }
}

static int by_name(const void *x, const void *y)
{
    const struct gattr *a = *(const struct gattr *const *)x, *b = *(const struct gattr *const *)y;
    int d = memcmp(a->name.data, b->name.data, num_min(a->name.size, b->name.size));
    return d ? d : (a->name.size > b->name.size) - (a->name.size < b->name.size);
}

static bool is_moved(const struct gnode *n, const struct gattr *a)
{
    int row = moved_row(n);
    for (int k = 0; row >= 0 && k < 3 && moved[row].attrs[k]; k++)
        if (span_is(a->name, moved[row].attrs[k]))
            return a->type == AT_INTS || a->type == AT_FLOAT || a->type == AT_INT;
    return false;
}

static bool put_attrs(struct sign *s, const struct gnode *n)
{
    const struct onnx *m = s->g->m;
    if (n->function != ONNX_NONE && !put_graph(s, n->function))
        return false;
    const struct gattr **order = calloc(n->attr_count + 1, sizeof(*order));
    if (!order)
        return err_set(s->e, ERR_MEMORY, "attributes: no memory");
    uint32_t count = 0;
    bool top = n->graph == ONNX_MAIN, ok = true;
    for (uint32_t i = 0; i < n->attr_count; i++) {
        const struct gattr *a = &m->attrs.items[n->attr_first + i];
        bool own = n->function == ONNX_NONE && plain_domain(n->domain);
        if (!(own && is_default(s->g, n, a)) && !(own && top && is_moved(n, a)))
            order[count++] = a;
    }
    qsort(order, count, sizeof(*order), by_name);
    for (uint32_t i = 0; ok && i < count; i++)
        ok = put_attr(s, order[i]);
    free(order);
    put_number(s, -9);
    return ok;
}

static bool sign_start(struct sign *s, struct fgraph *g, const struct gnode *n, struct err *e)
{
    *s = (struct sign){
        .g = g, .out = BUF_INIT(SIGNATURE_MAX), .e = e, .const_first = g->known->sig_consts.count};
    bool nested = n->function != ONNX_NONE;
    for (uint32_t i = 0; i < n->attr_count; i++)
        nested |= g->m->attrs.items[n->attr_first + i].type == AT_GRAPH ||
                  g->m->attrs.items[n->attr_first + i].type == AT_GRAPHS;
    s->number = calloc(nested ? g->m->values.count + 1 : 1, sizeof(*s->number));
    s->captures = calloc((size_t)n->capture_count + 1, sizeof(*s->captures));
    return (s->number && s->captures) || err_set(e, ERR_MEMORY, "signature: no memory");
}

static void sign_done(struct sign *s)
{
    buf_clear(&s->out);
    free(s->number);
    free(s->captures);
}

static bool store(struct sign *s, struct span op, bool plain, uint32_t *ret)
{
    struct known *k = s->g->known;
    uint32_t had = k->sig_ids.count, id;
    if (!buf_ok(&s->out, "signature of a node", s->e) ||
        !intern_id(&k->sig_ids, s->out.data ? s->out.data : "", s->out.size, &id, s->e))
        return false;
    if (id == had) {
        if (!POOL_ADD(k->sigs, 1, INTERN_MAX, "signatures", s->e))
            return false;
        k->sigs.items[id] = (struct fsig){.op = op,
                                          .plain = plain,
                                          .opaque = s->opaque,
                                          .const_first = s->const_first,
                                          .const_count = k->sig_consts.count - s->const_first};
    } else {
        k->sig_consts.count = s->const_first;
    }
    *ret = id;
    return true;
}

static bool head(struct sign *s, struct span domain, struct span op, int era)
{
    put(s, plain_domain(domain) ? "" : (const char *)domain.data,
        plain_domain(domain) ? 0 : domain.size);
    put(s, op.data, op.size);
    put_number(s, era);
    return true;
}

/* A made constant for an attribute that became an input. */
static bool attr_const(struct fgraph *g, const struct gattr *a, uint32_t *ret, struct err *e)
{
    const struct onnx *m = g->m;
    struct fconst c = {.count = a->type == AT_INTS ? a->count : 1,
                       .rank = a->type == AT_FLOAT ? 0 : 1};
    c.type = a->type == AT_FLOAT ? OT_FLOAT : OT_INT64;
    c.bytes = c.count * (a->type == AT_FLOAT ? 4 : 8);
    c.dims[0] = (int64_t)c.count;
    const void *from = a->type == AT_FLOAT ? (const void *)&a->f
                       : a->type == AT_INT ? (const void *)&a->i
                                           : m->ints.items + a->first;
    c.owned = malloc((size_t)c.bytes + 1);
    if (!c.owned)
        return err_set(e, ERR_MEMORY, "attribute: no memory");
    if (c.bytes)
        memcpy(c.owned, from, (size_t)c.bytes);
    c.data = c.owned;
    bool ok = known_const(g->known, &c, ret, e); /* takes owned */
    return ok;
}

bool signature_of(struct fgraph *g, uint32_t node, uint32_t *ret_sig, uint32_t extra[4],
                  uint32_t *ret_extra, struct err *e)
{
    const struct gnode *n = &g->m->nodes.items[node];
    struct sign s;
    bool plain = n->function == ONNX_NONE && plain_domain(n->domain);
    int row = moved_row(n);
    *ret_extra = 0;
    for (int k = 0; row >= 0 && k < 3 && moved[row].attrs[k]; k++) {
        const struct gattr *a = onnx_attr(g->m, n, moved[row].attrs[k]);
        if (!a || !is_moved(n, a)) {
            extra[k] = ONNX_NONE;
            continue;
        }
        if (!attr_const(g, a, &extra[k], e))
            return false;
        *ret_extra = (uint32_t)k + 1;
    }
    bool ok = sign_start(&s, g, n, e) &&
              head(&s, n->domain, n->op,
                   n->function != ONNX_NONE ? 0
                   : plain                  ? era_of(g, n)
                                            : n->version) &&
              put_attrs(&s, n);
    if (ok) {
        put_number(&s, n->out_count);
        ok = store(&s, n->op, plain, ret_sig);
    }
    sign_done(&s);
    return ok;
}

bool signature_captures(const struct onnx *m, const struct gnode *n, uint32_t *ret, struct err *e)
{
    struct known scratch = {0};
    struct fgraph g = {.m = (struct onnx *)(uintptr_t)m, .known = &scratch};
    struct sign s;
    bool ok = sign_start(&s, &g, n, e) && put_attrs(&s, n);
    if (ok && s.capture_count)
        memcpy(ret, s.captures, s.capture_count * sizeof(*ret));
    ok = ok && (s.capture_count == n->capture_count || err_set(e, ERR_INTERNAL, "captures differ"));
    sign_done(&s);
    known_done(&scratch);
    return ok;
}

bool signature_plain(struct fgraph *g, struct span op, const float *epsilon, uint32_t *ret_sig,
                     struct err *e)
{
    static const struct gnode none = {.function = ONNX_NONE};
    static const float usual = 1e-5f;
    struct sign s;
    bool ok = sign_start(&s, g, &none, e) && head(&s, (struct span){0}, op, 7);
    if (ok && epsilon && memcmp(epsilon, &usual, sizeof(usual)) != 0) {
        struct gattr a = {.name = SPAN_LIT("epsilon"), .type = AT_FLOAT, .f = *epsilon};
        ok = put_attr(&s, &a);
    }
    if (ok) {
        put_number(&s, -9);
        put_number(&s, 1);
        ok = store(&s, op, true, ret_sig);
    }
    sign_done(&s);
    return ok;
}

/* ---- differences, for people ---- */

/* A signature's attributes one after the other. */
struct sig_attr {
    struct span name, value;
    int64_t type;
};

static bool take(struct span *s, void *to, size_t size)
{
    if (s->size < size)
        return false;
    memcpy(to, s->data, size);
    *s = (struct span){s->data + size, s->size - size};
    return true;
}

static bool take_span(struct span *s, struct span *ret)
{
    uint64_t size;
    if (!take(s, &size, sizeof(size)) || size > s->size)
        return false;
    *ret = (struct span){s->data, (size_t)size};
    *s = (struct span){s->data + size, s->size - (size_t)size};
    return true;
}

/* false: at the end, or at one whose value is not of a simple form. */
static bool take_attr(struct span *s, struct sig_attr *ret)
{
    struct span ref, rest = *s;
    if (!take_span(&rest, &ret->name) || !take(&rest, &ret->type, sizeof(ret->type)) ||
        !take_span(&rest, &ref) || ref.size)
        return false;
    *s = rest;
    if (ret->type == AT_INT) {
        ret->value = (struct span){s->data, sizeof(int64_t)};
        int64_t ignored;
        return take(s, &ignored, sizeof(ignored));
    }
    return (ret->type == AT_FLOAT || ret->type == AT_STRING || ret->type == AT_FLOATS ||
            ret->type == AT_INTS) &&
           take_span(s, &ret->value);
}

static bool find_attr(struct span sig, struct span name, struct sig_attr *ret)
{
    struct span ignored;
    int64_t era;
    if (!take_span(&sig, &ignored) || !take_span(&sig, &ignored) || !take(&sig, &era, sizeof(era)))
        return false;
    while (take_attr(&sig, ret))
        if (!name.data || span_equal(ret->name, name))
            return true;
    return false;
}

static void say_value(struct span op, struct span name, const struct sig_attr *a, char *ret,
                      size_t size)
{
    float f;
    int64_t i;
    (void)snprintf(ret, size, "the default");
    for (size_t k = 0; !a && k < ARRAY_LEN(defaults); k++)
        if (span_is(op, defaults[k].op) && span_is(name, defaults[k].attr) &&
            defaults[k].kind == D_FLOAT)
            (void)snprintf(ret, size, "%g", (double)defaults[k].f);
    if (a && a->type == AT_FLOAT && a->value.size == sizeof(f)) {
        memcpy(&f, a->value.data, sizeof(f));
        (void)snprintf(ret, size, "%g", (double)f);
    } else if (a && a->type == AT_INT) {
        memcpy(&i, a->value.data, sizeof(i));
        (void)snprintf(ret, size, "%lld", (long long)i);
    } else if (a) {
        (void)snprintf(ret, size, "other values");
    }
}

static struct span signature_bytes(const struct known *k, uint32_t sig)
{
    const struct intern_key *key = &k->sig_ids.keys[sig];
    return (struct span){(const uint8_t *)key->data, key->size};
}

void signature_difference(const struct known *k, uint32_t one, uint32_t two, char *ret, size_t size)
{
    struct span sides[2] = {signature_bytes(k, one), signature_bytes(k, two)}, ignored;
    char name[64], values[2][48];
    (void)snprintf(ret, size, "attributes");
    for (int side = 0; side < 2; side++) {
        struct span s = sides[side];
        struct sig_attr a, b;
        int64_t era;
        if (!take_span(&s, &ignored) || !take_span(&s, &ignored) || !take(&s, &era, sizeof(era)))
            return;
        while (take_attr(&s, &a)) {
            bool had = find_attr(sides[!side], a.name, &b);
            if (had && b.type == a.type && span_equal(a.value, b.value))
                continue;
            struct span op = k->sigs.items[one].op;
            (void)snprintf(name, sizeof(name), "%.*s", (int)num_min(a.name.size, 60),
                           (const char *)a.name.data);
            say_value(op, a.name, &a, values[side], sizeof(values[0]));
            say_value(op, a.name, had ? &b : NULL, values[!side], sizeof(values[0]));
            (void)snprintf(ret, size, "%s: %s and %s", name, values[0], values[1]);
            return;
        }
    }
}
