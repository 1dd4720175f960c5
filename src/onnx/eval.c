/* eval.c - computes operators over constants: what moves data, and arithmetic whose result is
 * exact or correctly rounded (so that every runtime has the same bits).
 *
 * Not here: anything with a sum or an approximation in it (MatMul, Exp, Erf, Pow ...). */
#include "onnx/fold.h"

#include "base/num.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EVAL_GROW_MAX ((uint64_t)16 << 20) /* bytes of a result that is larger than its inputs */

struct eval {
    const struct onnx *m;
    const struct gnode *n;
    const struct fconst *const *in;
    uint32_t in_count;
    struct fconst *out;
    uint64_t limit; /* bytes of the result */
    struct err *e;
    bool failed; /* out of memory */
};

static const struct fconst *input(const struct eval *v, uint32_t i)
{
    return i < v->in_count ? v->in[i] : NULL;
}

static size_t width(int type)
{
    return onnx_type_bits(type) / 8;
}

/* Small integers of a constant; -1: not such. */
static int ints_of(const struct fconst *c, int64_t *ret, int max)
{
    if (!c || c->count > (uint64_t)max || (c->type != OT_INT64 && c->type != OT_INT32))
        return -1;
    for (uint64_t i = 0; i < c->count; i++) {
        int32_t small;
        if (c->type == OT_INT64) {
            memcpy(&ret[i], c->data + 8 * i, 8);
        } else {
            memcpy(&small, c->data + 4 * i, 4);
            ret[i] = small;
        }
    }
    return (int)c->count;
}

static int axes_of(const struct eval *v, const char *attr, uint32_t i, int64_t *ret, int max)
{
    const struct gattr *a = onnx_attr(v->m, v->n, attr);
    if (!a || a->type != AT_INTS)
        return ints_of(input(v, i), ret, max);
    if (a->count > (uint32_t)max)
        return -1;
    memcpy(ret, v->m->ints.items + a->first, a->count * sizeof(*ret));
    return (int)a->count;
}

/* Sizes and memory of the result, whose type, rank and dims are set. */
static bool make(struct eval *v, uint64_t limit)
{
    struct fconst *o = v->out;
    uint64_t count = 1;
    limit = limit < v->limit ? limit : v->limit;
    if (width(o->type) == 0 || o->rank > ONNX_RANK_MAX)
        return false;
    for (int i = 0; i < o->rank; i++)
        if (o->dims[i] < 0 || __builtin_mul_overflow(count, (uint64_t)o->dims[i], &count) ||
            count > limit)
            return false;
    o->count = count;
    o->bytes = count * width(o->type);
    if (o->bytes > limit)
        return false;
    o->owned = malloc(o->bytes ? (size_t)o->bytes : 1);
    o->data = o->owned;
    v->failed = !o->owned;
    return o->owned != NULL;
}

static bool copy_as(struct eval *v, const struct fconst *a)
{
    v->out->type = a->type;
    if (!make(v, FOLD_WORK_MAX) || v->out->bytes != a->bytes)
        return false;
    if (a->bytes)
        memcpy(v->out->owned, a->data, (size_t)a->bytes);
    return true;
}

static bool reshape(struct eval *v)
{
    const struct fconst *a = input(v, 0);
    int64_t dims[ONNX_RANK_MAX];
    int n = ints_of(input(v, 1), dims, ONNX_RANK_MAX), hole = -1;
    if (!a || n < 0 || onnx_attr_int(v->m, v->n, "allowzero", 0))
        return false;
    uint64_t known = 1;
    for (int i = 0; i < n; i++) {
        if (dims[i] == 0)
            dims[i] = i < a->rank ? a->dims[i] : -2;
        if (dims[i] == -1 && hole < 0)
            hole = i;
        else if (dims[i] < 0 || __builtin_mul_overflow(known, (uint64_t)dims[i], &known))
            return false;
    }
    if (hole >= 0) {
        if (known == 0 || a->count % known)
            return false;
        dims[hole] = (int64_t)(a->count / known);
    }
    v->out->rank = n;
    memcpy(v->out->dims, dims, sizeof(dims[0]) * (size_t)n);
    return copy_as(v, a);
}

static bool unsqueeze(struct eval *v)
{
    const struct fconst *a = input(v, 0);
    int64_t axes[ONNX_RANK_MAX];
    int n = axes_of(v, "axes", 1, axes, ONNX_RANK_MAX);
    if (!a || n < 0 || a->rank + n > ONNX_RANK_MAX)
        return false;
    bool one[ONNX_RANK_MAX] = {false};
    v->out->rank = a->rank + n;
    for (int i = 0; i < n; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + v->out->rank : axes[i];
        if (axis < 0 || axis >= v->out->rank || one[axis])
            return false;
        one[axis] = true;
    }
    for (int i = 0, k = 0; i < v->out->rank; i++)
        v->out->dims[i] = one[i] ? 1 : a->dims[k++];
    return copy_as(v, a);
}

static bool squeeze(struct eval *v)
{
    const struct fconst *a = input(v, 0);
    int64_t axes[ONNX_RANK_MAX];
    int n = axes_of(v, "axes", 1, axes, ONNX_RANK_MAX);
    if (!a || n < 0)
        return false;
    bool gone[ONNX_RANK_MAX] = {false};
    for (int i = 0; i < n; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + a->rank : axes[i];
        if (axis < 0 || axis >= a->rank || a->dims[axis] != 1)
            return false;
        gone[axis] = true;
    }
    for (int i = 0; i < a->rank; i++)
        if (!gone[i])
            v->out->dims[v->out->rank++] = a->dims[i];
    return copy_as(v, a);
}

/* Elements of a in the order given by strides over the result's dims. */
static void gather_strided(struct eval *v, const struct fconst *a, uint64_t start,
                           const int64_t *strides)
{
    struct fconst *o = v->out;
    size_t w = width(o->type);
    int64_t at[ONNX_RANK_MAX] = {0}, from = (int64_t)start;
    for (uint64_t i = 0; i < o->count; i++) {
        memcpy(o->owned + i * w, a->data + (uint64_t)from * w, w);
        for (int k = o->rank - 1; k >= 0; k--) {
            from += strides[k];
            if (++at[k] < o->dims[k])
                break;
            from -= strides[k] * o->dims[k];
            at[k] = 0;
        }
    }
}

static void strides_of(const struct fconst *a, int64_t *strides)
{
    int64_t step = 1;
    for (int i = a->rank - 1; i >= 0; i--) {
        strides[i] = step;
        step *= a->dims[i];
    }
}

static bool transpose(struct eval *v)
{
    const struct fconst *a = input(v, 0);
    int64_t perm[ONNX_RANK_MAX], strides[ONNX_RANK_MAX], moved[ONNX_RANK_MAX];
    if (!a)
        return false;
    int n = axes_of(v, "perm", UINT32_MAX, perm, ONNX_RANK_MAX);
    uint32_t seen = 0;
    strides_of(a, strides);
    v->out->type = a->type;
    v->out->rank = a->rank;
    for (int i = 0; i < a->rank; i++) {
        int64_t from = n == a->rank ? perm[i] : a->rank - 1 - i;
        if (from < 0 || from >= a->rank || seen & 1u << from)
            return false;
        seen |= 1u << from;
        v->out->dims[i] = a->dims[from];
        moved[i] = strides[from];
    }
    if (!make(v, FOLD_WORK_MAX))
        return false;
    gather_strided(v, a, 0, moved);
    return true;
}

static bool slice(struct eval *v)
{
    const struct fconst *a = input(v, 0);
    int64_t from[ONNX_RANK_MAX], to[ONNX_RANK_MAX], axes[ONNX_RANK_MAX], steps[ONNX_RANK_MAX],
        strides[ONNX_RANK_MAX];
    if (!a)
        return false;
    int n = axes_of(v, "starts", 1, from, ONNX_RANK_MAX),
        n_to = axes_of(v, "ends", 2, to, ONNX_RANK_MAX);
    int n_axes = axes_of(v, "axes", 3, axes, ONNX_RANK_MAX),
        n_steps = axes_of(v, "steps", 4, steps, ONNX_RANK_MAX);
    if (n < 0 || n_to != n || (input(v, 3) && n_axes != n) || (input(v, 4) && n_steps != n))
        return false;
    v->out->type = a->type;
    v->out->rank = a->rank;
    memcpy(v->out->dims, a->dims, sizeof(a->dims));
    strides_of(a, strides);
    uint64_t start = 0;
    for (int i = 0; i < n; i++) {
        int64_t axis = n_axes == n ? axes[i] : i;
        axis = axis < 0 ? axis + a->rank : axis;
        if (axis < 0 || axis >= a->rank || (n_steps == n && steps[i] != 1))
            return false;
        int64_t dim = a->dims[axis], f = from[i] < 0 ? from[i] + dim : from[i],
                t = to[i] < 0 ? to[i] + dim : to[i];
        f = f < 0 ? 0 : f > dim ? dim : f;
        t = t < f ? f : t > dim ? dim : t;
        v->out->dims[axis] = t - f;
        start += (uint64_t)(f * strides[axis]);
    }
    if (!make(v, FOLD_WORK_MAX))
        return false;
    gather_strided(v, a, start, strides);
    return true;
}

static bool concat(struct eval *v)
{
    const struct fconst *a = input(v, 0);
    if (!a || a->rank == 0)
        return false;
    int64_t axis = onnx_attr_int(v->m, v->n, "axis", 0), sum = 0;
    axis = axis < 0 ? axis + a->rank : axis;
    if (axis < 0 || axis >= a->rank)
        return false;
    for (uint32_t i = 0; i < v->in_count; i++) {
        const struct fconst *b = v->in[i];
        if (!b || b->type != a->type || b->rank != a->rank || width(b->type) == 0)
            return false;
        for (int k = 0; k < a->rank; k++)
            if (k != axis && b->dims[k] != a->dims[k])
                return false;
        sum += b->dims[axis];
    }
    v->out->type = a->type;
    v->out->rank = a->rank;
    memcpy(v->out->dims, a->dims, sizeof(a->dims));
    v->out->dims[axis] = sum;
    if (!make(v, FOLD_WORK_MAX))
        return false;
    uint64_t outer = 1, at = 0;
    for (int k = 0; k < axis; k++)
        outer *= (uint64_t)a->dims[k];
    for (uint64_t row = 0; row < outer; row++)
        for (uint32_t i = 0; i < v->in_count; i++) {
            uint64_t bytes = v->in[i]->bytes / outer;
            if (bytes)
                memcpy(v->out->owned + at, v->in[i]->data + row * bytes, (size_t)bytes);
            at += bytes;
        }
    return true;
}

static bool gather(struct eval *v)
{
    const struct fconst *a = input(v, 0), *at = input(v, 1);
    if (!a || !at || a->rank == 0 || a->rank + at->rank - 1 > ONNX_RANK_MAX || width(a->type) == 0)
        return false;
    int64_t axis = onnx_attr_int(v->m, v->n, "axis", 0);
    axis = axis < 0 ? axis + a->rank : axis;
    if (axis < 0 || axis >= a->rank || (at->type != OT_INT64 && at->type != OT_INT32))
        return false;
    uint64_t outer = 1, inner = width(a->type);
    int k = 0;
    for (int i = 0; i < axis; i++)
        outer *= (uint64_t)(v->out->dims[k++] = a->dims[i]);
    for (int i = 0; i < at->rank; i++)
        v->out->dims[k++] = at->dims[i];
    for (int i = (int)axis + 1; i < a->rank; i++)
        inner *= (uint64_t)(v->out->dims[k++] = a->dims[i]);
    v->out->rank = k;
    v->out->type = a->type;
    if (!make(v, a->bytes + EVAL_GROW_MAX))
        return false;
    uint64_t to = 0, dim = (uint64_t)a->dims[axis];
    for (uint64_t row = 0; row < outer; row++)
        for (uint64_t i = 0; i < at->count; i++, to += inner) {
            int64_t index = 0;
            int32_t small;
            if (at->type == OT_INT64) {
                memcpy(&index, at->data + 8 * i, 8);
            } else {
                memcpy(&small, at->data + 4 * i, 4);
                index = small;
            }
            index = index < 0 ? index + (int64_t)dim : index;
            if (index < 0 || (uint64_t)index >= dim)
                return false;
            memcpy(v->out->owned + to, a->data + (row * dim + (uint64_t)index) * inner,
                   (size_t)inner);
        }
    return true;
}

static bool shape(struct eval *v)
{
    const struct fconst *a = input(v, 0);
    if (!a)
        return false;
    int64_t from = onnx_attr_int(v->m, v->n, "start", 0),
            to = onnx_attr_int(v->m, v->n, "end", a->rank);
    from = from < 0 ? from + a->rank : from;
    to = to < 0 ? to + a->rank : to;
    from = from < 0 ? 0 : from > a->rank ? a->rank : from;
    to = to < from ? from : to > a->rank ? a->rank : to;
    *v->out = (struct fconst){.type = OT_INT64, .rank = 1, .dims = {to - from}};
    if (!make(v, EVAL_GROW_MAX))
        return false;
    memcpy(v->out->owned, a->dims + from, (size_t)v->out->bytes);
    return true;
}

static bool constant_of_shape(struct eval *v)
{
    int n = ints_of(input(v, 0), v->out->dims, ONNX_RANK_MAX);
    const struct gattr *a = onnx_attr(v->m, v->n, "value");
    const struct gtensor *t =
        a && a->type == AT_TENSOR && a->count ? &v->m->tensors.items[a->first] : NULL;
    static const uint8_t zeros[16];
    if (n < 0 || (a && (!t || t->count != 1 || width(t->type) == 0)))
        return false;
    v->out->rank = n;
    v->out->type = t ? t->type : OT_FLOAT;
    if (!make(v, EVAL_GROW_MAX))
        return false;
    size_t w = width(v->out->type);
    for (uint64_t i = 0; i < v->out->count; i++)
        memcpy(v->out->owned + i * w, t ? t->data : zeros, w);
    return true;
}

/* Joint dims of up to three constants, and each one's strides over them (0 where it is
 * repeated). */
static bool broadcast(struct eval *v, int count, int64_t strides[3][ONNX_RANK_MAX],
                      const struct fconst *extra)
{
    struct fconst *o = v->out;
    const struct fconst *in[3];
    o->rank = 0;
    for (int i = 0; i < count; i++) {
        in[i] = i == 1 && extra ? extra : input(v, (uint32_t)i);
        if (!in[i])
            return false;
        o->rank = in[i]->rank > o->rank ? in[i]->rank : o->rank;
    }
    for (int k = 0; k < o->rank; k++) {
        o->dims[k] = 1;
        for (int i = 0; i < count; i++) {
            int own = k - (o->rank - in[i]->rank);
            int64_t dim = own < 0 ? 1 : in[i]->dims[own];
            if (dim != 1 && o->dims[k] != 1 && o->dims[k] != dim)
                return false;
            o->dims[k] = dim != 1 ? dim : o->dims[k];
        }
    }
    for (int i = 0; i < count; i++) {
        int64_t own_strides[ONNX_RANK_MAX];
        strides_of(in[i], own_strides);
        for (int k = 0; k < o->rank; k++) {
            int own = k - (o->rank - in[i]->rank);
            strides[i][k] = own < 0 || in[i]->dims[own] == 1 ? 0 : own_strides[own];
        }
    }
    return true;
}

static bool expand(struct eval *v)
{
    const struct fconst *a = input(v, 0);
    struct fconst want = {.type = OT_BOOL};
    int64_t strides[3][ONNX_RANK_MAX];
    want.rank = ints_of(input(v, 1), want.dims, ONNX_RANK_MAX);
    if (!a || want.rank < 0 || !broadcast(v, 2, strides, &want))
        return false;
    v->out->type = a->type;
    if (!make(v, a->bytes + EVAL_GROW_MAX))
        return false;
    gather_strided(v, a, 0, strides[0]);
    return true;
}

union item {
    float f;
    double d;
    int64_t i;
};

static union item load(const struct fconst *c, uint64_t at)
{
    union item x = {.i = 0};
    int32_t small;
    switch (c->type) {
    case OT_FLOAT:
        memcpy(&x.f, c->data + 4 * at, 4);
        break;
    case OT_DOUBLE:
        memcpy(&x.d, c->data + 8 * at, 8);
        break;
    case OT_INT64:
        memcpy(&x.i, c->data + 8 * at, 8);
        break;
    case OT_INT32:
        memcpy(&small, c->data + 4 * at, 4);
        x.i = small;
        break;
    default:
        x.i = c->data[at] != 0;
    }
    return x;
}

static void store(struct fconst *c, uint64_t at, union item x)
{
    int32_t small = (int32_t)x.i;
    switch (c->type) {
    case OT_FLOAT:
        memcpy(c->owned + 4 * at, &x.f, 4);
        break;
    case OT_DOUBLE:
        memcpy(c->owned + 8 * at, &x.d, 8);
        break;
    case OT_INT64:
        memcpy(c->owned + 8 * at, &x.i, 8);
        break;
    case OT_INT32:
        memcpy(c->owned + 4 * at, &small, 4);
        break;
    default:
        c->owned[at] = x.i != 0;
    }
}

static bool counts(int type)
{
    return type == OT_FLOAT || type == OT_INT64 || type == OT_INT32 || type == OT_BOOL;
}

static bool casts(int type) /* Cast, Neg and Sqrt take doubles, too: scales of attention */
{
    return counts(type) || type == OT_DOUBLE;
}

enum operation {
    ADD,
    SUB,
    MUL,
    DIV,
    EQUAL,
    LESS,
    GREATER,
    LESS_EQUAL,
    GREATER_EQUAL,
    AND,
    OR,
    MAX,
    MIN,
    OPERATIONS
};
static const char *const operation_names[OPERATIONS] = {
    "Add", "Sub", "Mul", "Div", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual",
    "And", "Or",  "Max", "Min"};

static bool float_op(enum operation op, float a, float b, union item *ret)
{
    switch (op) {
    case ADD:
        ret->f = a + b;
        break;
    case SUB:
        ret->f = a - b;
        break;
    case MUL:
        ret->f = a * b;
        break;
    case DIV:
        ret->f = a / b;
        break;
    case EQUAL:
        ret->i = a == b;
        break;
    case LESS:
        ret->i = a < b;
        break;
    case GREATER:
        ret->i = a > b;
        break;
    case LESS_EQUAL:
        ret->i = a <= b;
        break;
    case GREATER_EQUAL:
        ret->i = a >= b;
        break;
    default:
        return false; /* Max, Min: runtimes differ on NaN */
    }
    return true;
}

static bool int_op(enum operation op, int64_t a, int64_t b, union item *ret)
{
    switch (op) {
    case ADD:
        return !__builtin_add_overflow(a, b, &ret->i);
    case SUB:
        return !__builtin_sub_overflow(a, b, &ret->i);
    case MUL:
        return !__builtin_mul_overflow(a, b, &ret->i);
    case DIV:
        if (b == 0 || a < 0 || b < 0)
            return false;
        ret->i = a / b;
        break;
    case EQUAL:
        ret->i = a == b;
        break;
    case LESS:
        ret->i = a < b;
        break;
    case GREATER:
        ret->i = a > b;
        break;
    case LESS_EQUAL:
        ret->i = a <= b;
        break;
    case GREATER_EQUAL:
        ret->i = a >= b;
        break;
    case AND:
        ret->i = a && b;
        break;
    case OR:
        ret->i = a || b;
        break;
    case MAX:
        ret->i = a > b ? a : b;
        break;
    case MIN:
        ret->i = a < b ? a : b;
        break;
    default:
        return false;
    }
    return true;
}

static void advance(const struct fconst *o, int64_t *at, int64_t strides[3][ONNX_RANK_MAX],
                    int count, int64_t *from)
{
    for (int k = o->rank - 1; k >= 0; k--) {
        at[k]++;
        for (int i = 0; i < count; i++)
            from[i] += strides[i][k];
        if (at[k] < o->dims[k])
            return;
        for (int i = 0; i < count; i++)
            from[i] -= strides[i][k] * o->dims[k];
        at[k] = 0;
    }
}

static bool binary(struct eval *v)
{
    const struct fconst *a = input(v, 0), *b = input(v, 1);
    int64_t strides[3][ONNX_RANK_MAX], at[ONNX_RANK_MAX] = {0}, from[3] = {0};
    int op = 0;
    while (op < OPERATIONS && !span_is(v->n->op, operation_names[op]))
        op++;
    if (v->in_count != 2 || op == OPERATIONS || !a || !b || a->type != b->type ||
        !counts(a->type) || !broadcast(v, 2, strides, NULL))
        return false;
    v->out->type = op >= EQUAL && op <= OR ? OT_BOOL : a->type;
    if (!make(v, a->bytes + b->bytes + EVAL_GROW_MAX))
        return false;
    for (uint64_t i = 0; i < v->out->count; i++) {
        union item x = load(a, (uint64_t)from[0]), y = load(b, (uint64_t)from[1]), z = {.i = 0};
        bool ok = a->type == OT_FLOAT ? float_op((enum operation)op, x.f, y.f, &z)
                                      : int_op((enum operation)op, x.i, y.i, &z);
        if (!ok || (v->out->type == OT_INT32 && z.i != (int32_t)z.i))
            return false;
        store(v->out, i, z);
        advance(v->out, at, strides, 2, from);
    }
    return true;
}

static bool where(struct eval *v)
{
    const struct fconst *k = input(v, 0), *a = input(v, 1), *b = input(v, 2);
    int64_t strides[3][ONNX_RANK_MAX], at[ONNX_RANK_MAX] = {0}, from[3] = {0};
    if (!k || !a || !b || k->type != OT_BOOL || a->type != b->type || width(a->type) == 0 ||
        !broadcast(v, 3, strides, NULL))
        return false;
    v->out->type = a->type;
    size_t w = width(a->type);
    if (!make(v, a->bytes + b->bytes + EVAL_GROW_MAX))
        return false;
    for (uint64_t i = 0; i < v->out->count; i++) {
        const struct fconst *c = k->data[from[0]] ? a : b;
        memcpy(v->out->owned + i * w, c->data + (uint64_t)from[c == a ? 1 : 2] * w, w);
        advance(v->out, at, strides, 3, from);
    }
    return true;
}

static bool unary(struct eval *v)
{
    const struct fconst *a = input(v, 0);
    if (!a || !casts(a->type))
        return false;
    v->out->type = a->type;
    v->out->rank = a->rank;
    memcpy(v->out->dims, a->dims, sizeof(a->dims));
    bool neg = span_is(v->n->op, "Neg"), root = span_is(v->n->op, "Sqrt"),
         no = span_is(v->n->op, "Not");
    bool real = a->type == OT_FLOAT || a->type == OT_DOUBLE;
    if ((root && !real) || (no && a->type != OT_BOOL) || !make(v, FOLD_WORK_MAX))
        return false;
    for (uint64_t i = 0; i < a->count; i++) {
        union item x = load(a, i);
        if (a->type == OT_FLOAT)
            x.f = neg ? -x.f : root ? sqrtf(x.f) : x.f;
        else if (a->type == OT_DOUBLE)
            x.d = neg ? -x.d : root ? sqrt(x.d) : x.d;
        else if (neg && x.i == INT64_MIN)
            return false;
        else
            x.i = neg ? -x.i : !x.i;
        store(v->out, i, x);
    }
    return true;
}

static bool cast(struct eval *v)
{
    const struct fconst *a = input(v, 0);
    int64_t to = onnx_attr_int(v->m, v->n, "to", 0);
    if (!a || to <= 0 || to > OT_LAST)
        return false;
    v->out->rank = a->rank;
    memcpy(v->out->dims, a->dims, sizeof(a->dims));
    if (to == a->type)
        return width(a->type) && copy_as(v, a);
    v->out->type = (int)to;
    bool real = to == OT_FLOAT || to == OT_DOUBLE;
    if (!casts(a->type) || !casts((int)to) || (a->type == OT_DOUBLE && !real) ||
        !make(v, FOLD_WORK_MAX))
        return false;
    for (uint64_t i = 0; i < a->count; i++) {
        union item x = load(a, i), y = {.i = 0};
        if (a->type == OT_DOUBLE || to == OT_DOUBLE) {
            double d = a->type == OT_DOUBLE ? x.d : a->type == OT_FLOAT ? (double)x.f : (double)x.i;
            if (to == OT_DOUBLE)
                y.d = d;
            else
                y.f = (float)d;
            store(v->out, i, y);
            continue;
        }
        if (a->type == OT_FLOAT && to == OT_BOOL)
            y.i = x.f != 0;
        else if (a->type == OT_FLOAT && fabsf(x.f) < 2e9f)
            y.i = (int64_t)x.f;
        else if (a->type == OT_FLOAT)
            return false;
        else if (to == OT_FLOAT)
            y.f = (float)x.i;
        else
            y.i = x.i;
        if (to == OT_INT32 && y.i != (int32_t)y.i)
            return false;
        store(v->out, i, y);
    }
    return true;
}

static bool range(struct eval *v)
{
    int64_t a, b, s;
    const struct fconst *from = input(v, 0);
    if (!from || from->type != OT_INT64 || ints_of(from, &a, 1) != 1 ||
        ints_of(input(v, 1), &b, 1) != 1 || ints_of(input(v, 2), &s, 1) != 1 || s <= 0 ||
        a < -INT32_MAX || b > INT32_MAX || s > INT32_MAX)
        return false;
    *v->out =
        (struct fconst){.type = OT_INT64, .rank = 1, .dims = {b > a ? (b - a + s - 1) / s : 0}};
    if (!make(v, EVAL_GROW_MAX))
        return false;
    for (uint64_t i = 0; i < v->out->count; i++)
        store(v->out, i, (union item){.i = a + (int64_t)i * s});
    return true;
}

static const struct {
    const char *op;
    bool (*run)(struct eval *v);
} rows[] = {
    {"Reshape", reshape},
    {"Unsqueeze", unsqueeze},
    {"Squeeze", squeeze},
    {"Transpose", transpose},
    {"Slice", slice},
    {"Concat", concat},
    {"Gather", gather},
    {"Shape", shape},
    {"ConstantOfShape", constant_of_shape},
    {"Expand", expand},
    {"Where", where},
    {"Cast", cast},
    {"Range", range},
    {"Neg", unary},
    {"Sqrt", unary},
    {"Not", unary},
    {"Add", binary},
    {"Sub", binary},
    {"Mul", binary},
    {"Div", binary},
    {"Equal", binary},
    {"Less", binary},
    {"Greater", binary},
    {"LessOrEqual", binary},
    {"GreaterOrEqual", binary},
    {"And", binary},
    {"Or", binary},
    {"Max", binary},
    {"Min", binary},
};

static int row_of(const struct gnode *n)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (onnx_is_op(n, rows[i].op))
            return (int)i;
    return -1;
}

bool eval_can(const struct onnx *m, const struct gnode *n)
{
    (void)m;
    return n->version >= 7 && n->out_count == 1 && n->in_count > 0 && row_of(n) >= 0;
}

bool eval_node(const struct onnx *m, const struct gnode *n, const struct fconst *const *in,
               uint32_t in_count, uint64_t limit, struct fconst *out, bool *ret_ok, struct err *e)
{
    struct eval v = {
        .m = m, .n = n, .in = in, .in_count = in_count, .limit = limit, .out = out, .e = e};
    *out = (struct fconst){0};
    int row = row_of(n);
    *ret_ok = row >= 0 && rows[row].run(&v);
    if (!*ret_ok) {
        free(out->owned);
        out->owned = NULL;
    }
    return !v.failed || err_set(e, ERR_MEMORY, "folding: no memory");
}
