/* infer.c - the run over the graph, element-wise operators, small contents. */
#include "onnx/infer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const struct ivalue *ictx_in(const struct ictx *c, uint32_t i)
{
    if (i >= c->n->in_count)
        return NULL;
    uint32_t id = c->m->refs.items[c->n->in_first + i];
    return id == ONNX_NONE || c->f->values[id].type == OT_NONE ? NULL : &c->f->values[id];
}

struct ivalue *ictx_out(const struct ictx *c, uint32_t i)
{
    if (i >= c->n->out_count)
        return NULL;
    uint32_t id = c->m->refs.items[c->n->out_first + i];
    return id == ONNX_NONE ? NULL : &c->f->values[id];
}

const double *ictx_items(const struct ictx *c, const struct ivalue *v)
{
    return c->f->items.items + v->at;
}

int64_t ictx_int(double item)
{
    if (!(item > -9.2e18))
        return INT64_MIN / 2;
    return item < 9.2e18 ? (int64_t)item : INT64_MAX / 2;
}

int64_t ivalue_count(const struct ivalue *v)
{
    int64_t count = 1;
    if (v->rank < 0)
        return -1;
    for (int i = 0; i < v->rank; i++)
        if (v->dims[i] < 0 || __builtin_mul_overflow(count, v->dims[i], &count) ||
            count > INT64_MAX / 2)
            return -1;
    return count;
}

double *ictx_new_items(struct ictx *c, struct ivalue *v)
{
    int64_t count = ivalue_count(v);
    if (count < 0 || count > INFER_ITEMS_MAX || c->f->items.count + count > INFER_POOL_MAX)
        return NULL;
    if (!POOL_ADD(c->f->items, (uint64_t)count, INFER_POOL_MAX, "small contents", c->e))
        return NULL;
    v->at = c->f->items.count - (uint32_t)count;
    v->count = (uint32_t)count;
    v->has = true;
    return c->f->items.items + v->at;
}

bool infer_broadcast(struct ivalue *into, const struct ivalue *with)
{
    if (into->rank < 0 || with->rank < 0) {
        into->rank = -1;
        return false;
    }
    int rank = into->rank > with->rank ? into->rank : with->rank;
    int64_t dims[TENSOR_RANK_MAX];
    for (int i = 0; i < rank; i++) {
        int a = i - (rank - into->rank), b = i - (rank - with->rank);
        int64_t x = a < 0 ? 1 : into->dims[a], y = b < 0 ? 1 : with->dims[b];
        dims[i] = x == 1 ? y : y == 1 ? x : x < 0 ? y : x;
        if (x > 1 && y > 1 && x != y)
            dims[i] = -1;
    }
    into->rank = rank;
    memcpy(into->dims, dims, sizeof(dims[0]) * (size_t)rank);
    return true;
}

static double apply(const char *op, double a, double b)
{
    switch (op[0]) {
    case 'A':
        return op[1] == 'd' ? a + b : a != 0 && b != 0; /* Add, And */
    case 'S':
        return a - b;
    case 'D':
        return b != 0 ? a / b : 0;
    case 'M':
        return op[1] == 'u'   ? a * b
               : op[1] == 'a' ? fmax(a, b)
               : op[1] == 'i' ? fmin(a, b)
                              : fmod(a, b);
    case 'E':
        return a == b;
    case 'L':
        return strlen(op) > 4 ? a <= b : a < b;
    case 'G':
        return strlen(op) > 7 ? a >= b : a > b;
    case 'O':
        return a != 0 || b != 0;
    default:
        return pow(a, b);
    }
}

/* Content of a broadcast result, both sides of at most rank 1 or of one shape. */
static void apply_items(struct ictx *c, struct ivalue *out, const struct ivalue *a,
                        const struct ivalue *b, const char *op, bool whole)
{
    if (!a->has || !b->has || out->rank < 0)
        return;
    int64_t count = ivalue_count(out);
    if ((a->count != 1 && a->count != count) || (b->count != 1 && b->count != count))
        return;
    double *to = ictx_new_items(c, out);
    for (int64_t i = 0; to && i < count; i++) {
        double value = apply(op, ictx_items(c, a)[a->count == 1 ? 0 : i],
                             ictx_items(c, b)[b->count == 1 ? 0 : i]);
        to[i] = whole ? trunc(value) : value;
    }
}

static void binary(struct ictx *c)
{
    struct ivalue *out = ictx_out(c, 0);
    const struct ivalue *a = ictx_in(c, 0), *b = ictx_in(c, 1);
    if (!out || !a)
        return;
    char op[24] = {0};
    memcpy(op, c->n->op.data, c->n->op.size < 23 ? c->n->op.size : 23);
    out->type = strchr("ELGAOX", op[0]) && strcmp(op, "Add") != 0 ? OT_BOOL : a->type;
    if (!b && c->n->in_count > 1)
        return;
    out->rank = a->rank;
    memcpy(out->dims, a->dims, sizeof(out->dims));
    for (uint32_t i = 1; i < c->n->in_count; i++) {
        const struct ivalue *with = ictx_in(c, i);
        if (!with) {
            out->rank = -1;
            return;
        }
        if (!infer_broadcast(out, with))
            return;
    }
    if (c->n->in_count == 2 && b)
        apply_items(c, out, a, b, op, a->type != OT_FLOAT && a->type != OT_DOUBLE);
}

static void where(struct ictx *c)
{
    struct ivalue *out = ictx_out(c, 0);
    const struct ivalue *k = ictx_in(c, 0), *a = ictx_in(c, 1), *b = ictx_in(c, 2);
    if (!out || !a)
        return;
    out->type = a->type;
    if (!k || !b)
        return;
    out->rank = a->rank;
    memcpy(out->dims, a->dims, sizeof(out->dims));
    if (!infer_broadcast(out, b) || !infer_broadcast(out, k) || !k->has || !a->has || !b->has)
        return;
    int64_t count = ivalue_count(out);
    if ((k->count != 1 && k->count != count) || (a->count != 1 && a->count != count) ||
        (b->count != 1 && b->count != count))
        return;
    double *to = ictx_new_items(c, out);
    for (int64_t i = 0; to && i < count; i++) {
        const struct ivalue *from = ictx_items(c, k)[k->count == 1 ? 0 : i] != 0 ? a : b;
        to[i] = ictx_items(c, from)[from->count == 1 ? 0 : i];
    }
}

static void copy_items(struct ictx *c, struct ivalue *out, const struct ivalue *a)
{
    if (!a->has || ivalue_count(out) != a->count)
        return;
    double *to = ictx_new_items(c, out);
    if (to)
        memcpy(to, ictx_items(c, a), a->count * sizeof(*to));
}

/* One output like the first input; also for several outputs of that shape. */
static void same(struct ictx *c)
{
    struct ivalue *out = ictx_out(c, 0);
    const struct ivalue *a = ictx_in(c, 0);
    if (!out || !a)
        return;
    out->type = a->type;
    out->rank = a->rank;
    memcpy(out->dims, a->dims, sizeof(out->dims));
    if (span_is(c->n->op, "Identity"))
        copy_items(c, out, a);
    double *to;
    if (a->has &&
        (span_is(c->n->op, "Floor") || span_is(c->n->op, "Ceil") || span_is(c->n->op, "Sqrt") ||
         span_is(c->n->op, "Neg")) &&
        (to = ictx_new_items(c, out)))
        for (uint32_t i = 0; i < a->count; i++) {
            double v = ictx_items(c, a)[i];
            to[i] = span_is(c->n->op, "Floor")  ? floor(v)
                    : span_is(c->n->op, "Ceil") ? ceil(v)
                    : span_is(c->n->op, "Neg")  ? -v
                                                : sqrt(v);
        }
}

static void same_bool(struct ictx *c)
{
    struct ivalue *out = ictx_out(c, 0);
    same(c);
    if (!out)
        return;
    out->type = OT_BOOL;
    const struct ivalue *a = ictx_in(c, 0);
    double *to;
    if (a && a->has && span_is(c->n->op, "Not") && (to = ictx_new_items(c, out)))
        for (uint32_t i = 0; i < a->count; i++)
            to[i] = ictx_items(c, a)[i] == 0;
}

static void cast(struct ictx *c)
{
    struct ivalue *out = ictx_out(c, 0);
    const struct ivalue *a = ictx_in(c, 0), *like = ictx_in(c, 1);
    if (!out)
        return;
    if (span_is(c->n->op, "CastLike"))
        out->type = like ? like->type : OT_NONE;
    else
        out->type = (int)onnx_attr_int(c->m, c->n, "to", OT_NONE);
    if (out->type < 0 || out->type > OT_LAST)
        out->type = OT_NONE;
    if (!a)
        return;
    out->rank = a->rank;
    memcpy(out->dims, a->dims, sizeof(out->dims));
    copy_items(c, out, a);
    if (out->has && out->type != OT_FLOAT && out->type != OT_DOUBLE)
        for (uint32_t i = 0; i < out->count; i++)
            c->f->items.items[out->at + i] = trunc(c->f->items.items[out->at + i]);
}

static const struct infer_row element_rows[] = {
    {"Abs", same},
    {"Acos", same},
    {"Acosh", same},
    {"Asin", same},
    {"Asinh", same},
    {"Atan", same},
    {"Atanh", same},
    {"BatchNormalization", same},
    {"BitwiseNot", same},
    {"Ceil", same},
    {"Celu", same},
    {"Clip", same},
    {"Cos", same},
    {"Cosh", same},
    {"CumSum", same},
    {"Dropout", same},
    {"Elu", same},
    {"Erf", same},
    {"Exp", same},
    {"Floor", same},
    {"Gelu", same},
    {"FastGelu", same},
    {"QuickGelu", same},
    {"BiasGelu", same},
    {"BiasAdd", same},
    {"QLinearLeakyRelu", same},
    {"QLinearSigmoid", same},
    {"QLinearSoftmax", same},
    {"GroupNorm", same},
    {"GroupNormalization", same},
    {"HardSigmoid", same},
    {"HardSwish", same},
    {"Hardmax", same},
    {"Identity", same},
    {"InstanceNormalization", same},
    {"LRN", same},
    {"LayerNormalization", same},
    {"SimplifiedLayerNormalization", same},
    {"RMSNormalization", same},
    {"LeakyRelu", same},
    {"Log", same},
    {"LogSoftmax", same},
    {"LpNormalization", same},
    {"MeanVarianceNormalization", same},
    {"Mish", same},
    {"Neg", same},
    {"Reciprocal", same},
    {"Relu", same},
    {"Round", same},
    {"ScatterElements", same},
    {"ScatterND", same},
    {"Scatter", same},
    {"Selu", same},
    {"Shrink", same},
    {"Sigmoid", same},
    {"Sign", same},
    {"Sin", same},
    {"Sinh", same},
    {"Softmax", same},
    {"Softplus", same},
    {"Softsign", same},
    {"Sqrt", same},
    {"Swish", same},
    {"Tan", same},
    {"Tanh", same},
    {"ThresholdedRelu", same},
    {"Trilu", same},
    {"RotaryEmbedding", same},
    {"ReverseSequence", same},
    {"SkipGroupNorm", same},
    {"BiasSoftmax", same},
    {"IsNaN", same_bool},
    {"IsInf", same_bool},
    {"Not", same_bool},
    {"Add", binary},
    {"And", binary},
    {"Div", binary},
    {"Equal", binary},
    {"Greater", binary},
    {"GreaterOrEqual", binary},
    {"Less", binary},
    {"LessOrEqual", binary},
    {"Max", binary},
    {"Mean", binary},
    {"Min", binary},
    {"Mod", binary},
    {"Mul", binary},
    {"Or", binary},
    {"PRelu", binary},
    {"Pow", binary},
    {"Sub", binary},
    {"Sum", binary},
    {"Xor", binary},
    {"BitShift", binary},
    {"BitwiseAnd", binary},
    {"BitwiseOr", binary},
    {"BitwiseXor", binary},
    {"Where", where},
    {"Cast", cast},
    {"CastLike", cast},
    {NULL, NULL},
};

infer_fn infer_find(const struct gnode *n)
{
    const struct infer_row *tables[] = {element_rows, infer_move_rows, infer_net_rows,
                                        infer_ms_rows, infer_rare_rows};
    if (n->function != ONNX_NONE)
        return NULL;
    for (size_t t = 0; t < sizeof(tables) / sizeof(*tables); t++)
        for (const struct infer_row *r = tables[t]; r->op; r++)
            if (span_is(n->op, r->op))
                return r->run;
    return NULL;
}

/* Type and shape that the file says, for what is not known yet. */
static void take_said(struct span type, struct ivalue *v)
{
    int64_t dims[ONNX_RANK_MAX];
    int said, rank;
    if (!type.size || !onnx_tensor_type(type, &said, &rank, dims, NULL))
        return;
    if (v->type == OT_NONE)
        v->type = said;
    if (v->rank >= 0 || rank < 0 || rank > TENSOR_RANK_MAX)
        return;
    v->rank = rank;
    memcpy(v->dims, dims, sizeof(dims[0]) * (size_t)rank);
}

static void content(struct ictx *c, const struct gtensor *t, struct ivalue *v)
{
    v->type = t->type;
    if (t->rank > TENSOR_RANK_MAX)
        return;
    v->rank = t->rank;
    memcpy(v->dims, t->dims, sizeof(t->dims[0]) * (size_t)t->rank);
    if (t->type != OT_INT64 && t->type != OT_INT32 && t->type != OT_FLOAT && t->type != OT_BOOL)
        return;
    double *to = ictx_new_items(c, v);
    for (uint64_t i = 0; to && i < t->count; i++) {
        int64_t i64;
        int32_t i32;
        float f;
        if (t->type == OT_INT64) {
            memcpy(&i64, t->data + 8 * i, 8);
            to[i] = (double)i64;
        } else if (t->type == OT_INT32) {
            memcpy(&i32, t->data + 4 * i, 4);
            to[i] = i32;
        } else if (t->type == OT_FLOAT) {
            memcpy(&f, t->data + 4 * i, 4);
            to[i] = (double)f;
        } else {
            to[i] = t->data[i] != 0;
        }
    }
}

static void run_graph(struct ictx *c, const struct ggraph *g);

/* What two branches agree on. */
static struct ivalue agreed(struct ivalue one, const struct ivalue *two)
{
    if (one.type != two->type)
        one.type = OT_NONE;
    if (one.rank != two->rank)
        one.rank = -1;
    for (int i = 0; i < one.rank; i++)
        if (one.dims[i] != two->dims[i])
            one.dims[i] = -1;
    one.has = false;
    return one;
}

/* A node with sub-graphs.  If: what its branches agree on.  Loop and Scan (state, then lists with
 * one more dim): only the types that the first one says, its shapes may change from round to
 * round. */
static void from_branch(struct ictx *c)
{
    bool branch = onnx_is_op(c->n, "If"), first = true;
    uint32_t skip = span_is(c->n->op, "Loop") ? 1 : 0;
    for (uint32_t i = 0; i < c->n->attr_count; i++) {
        const struct gattr *a = &c->m->attrs.items[c->n->attr_first + i];
        if (a->type != AT_GRAPH || (!branch && !first))
            continue;
        const struct ggraph *g = &c->m->graphs.items[a->first];
        struct ictx inner = *c;
        if (branch)
            run_graph(&inner, g);
        for (uint32_t k = 0; k < c->n->out_count && k + skip < g->out_count; k++) {
            struct ivalue *out = ictx_out(c, k);
            uint32_t id = c->m->refs.items[g->out_first + k + skip];
            struct ivalue value = branch ? c->f->values[id] : (struct ivalue){.rank = -1};
            take_said(c->m->values.items[id].type, &value);
            if (out && branch)
                *out = agreed(first ? value : *out, &value);
            else if (out)
                out->type = value.type;
        }
        first = false;
    }
}

static void run_node(struct ictx *c)
{
    infer_fn run = infer_find(c->n);
    if (run)
        run(c);
    else
        from_branch(c);
    for (uint32_t i = 0; i < c->n->out_count; i++) {
        uint32_t id = c->m->refs.items[c->n->out_first + i];
        if (id != ONNX_NONE)
            take_said(c->m->values.items[id].type, &c->f->values[id]);
    }
}

/* The nodes of a graph.  A branch has one node that it belongs to: each is run once; how deep they
 * nest the reader limits. */
static void run_graph(struct ictx *c, const struct ggraph *g)
{
    for (uint32_t i = 0; i < g->node_count; i++) {
        c->n = &c->m->nodes.items[g->node_first + i];
        if (!onnx_is_op(c->n, "Constant"))
            run_node(c);
    }
}

bool infer_run(const struct onnx *m, const int64_t *dims, struct infer *ret, struct err *e)
{
    struct infer f = {.values = calloc(m->values.count + 1, sizeof(*f.values))};
    struct err memory = {0};
    if (!f.values)
        return err_set(e, ERR_MEMORY, "shapes: no memory");
    struct ictx c = {.m = m, .f = &f, .e = &memory};
    for (uint32_t i = 0; i < m->values.count; i++) {
        f.values[i].rank = -1;
        if (m->values.items[i].kind == VALUE_CONST)
            content(&c, onnx_value_tensor(m, i), &f.values[i]);
    }
    for (size_t i = 0; i < m->input_count; i++) {
        struct ivalue *v = &f.values[m->refs.items[m->graphs.items[ONNX_MAIN].in_first + i]];
        v->type = dtype_onnx(m->inputs[i].dtype);
        v->rank = m->inputs[i].shape.rank;
        memcpy(v->dims, dims + i * TENSOR_RANK_MAX, sizeof(v->dims));
    }
    run_graph(&c, &m->graphs.items[ONNX_MAIN]);
    if (memory.code != ERR_NONE) {
        infer_done(&f);
        return err_set(e, memory.code, "%s", memory.text);
    }
    *ret = f;
    return true;
}

void infer_done(struct infer *f)
{
    free(f->values);
    free(f->items.items);
    *f = (struct infer){0};
}

/* A plain number for a dynamic dim: pictures and sounds need more than words to get through their
 * windows.  guess is what words get. */
static int64_t guess_dim(const struct port *p, int k, int64_t guess)
{
    bool real = p->dtype == DT_F32 || p->dtype == DT_F16;
    if (real && p->shape.rank == 4 && k >= 2)
        return 224 + 32 * (guess - 11); /* multiples of usual patches */
    if (real && p->shape.rank == 2)
        return 16000 + 1600 * (guess - 11);
    return real && p->shape.rank == 3 ? 10 * guess : guess;
}

int64_t *infer_dims(const struct onnx *m, const struct onnx_dim *named, size_t count, int64_t batch,
                    int64_t otherwise)
{
    int64_t *dims = calloc(m->input_count * TENSOR_RANK_MAX + 1, sizeof(*dims));
    for (size_t i = 0; dims && i < m->input_count; i++)
        for (int k = 0; k < m->inputs[i].shape.rank; k++) {
            int64_t *d = &dims[i * TENSOR_RANK_MAX + (size_t)k];
            *d = m->inputs[i].shape.dims[k];
            if (*d >= 0)
                continue;
            *d = k == 0 ? batch : guess_dim(&m->inputs[i], k, otherwise);
            for (size_t j = 0; j < count; j++)
                if (strcmp(named[j].name, onnx_dim_param(m, false, i, k)) == 0)
                    *d = named[j].value;
        }
    return dims;
}
