/* infer_ops.c - shapes of operators that move data: Reshape, Gather, Concat, Slice and so on. */
#include "onnx/infer.h"

#include <math.h>
#include <string.h>

int infer_axes(const struct ictx *c, const char *attr, uint32_t input, int64_t *ret, int max)
{
    const struct gattr *a = onnx_attr(c->m, c->n, attr);
    if (a && a->type == AT_INTS) {
        if (a->count > (uint32_t)max)
            return -1;
        memcpy(ret, c->m->ints.items + a->first, a->count * sizeof(*ret));
        return (int)a->count;
    }
    const struct ivalue *v = ictx_in(c, input);
    if (!v || !v->has || v->count > (uint32_t)max)
        return -1;
    for (uint32_t i = 0; i < v->count; i++)
        ret[i] = ictx_int(ictx_items(c, v)[i]);
    return (int)v->count;
}

static bool start(struct ictx *c, const struct ivalue **a, struct ivalue **out)
{
    *a = ictx_in(c, 0);
    *out = ictx_out(c, 0);
    if (!*a || !*out)
        return false;
    (*out)->type = (*a)->type;
    return (*a)->rank >= 0;
}

static void keep_items(struct ictx *c, struct ivalue *out, const struct ivalue *a)
{
    double *to;
    if (a->has && ivalue_count(out) == a->count && (to = ictx_new_items(c, out)))
        memcpy(to, ictx_items(c, a), a->count * sizeof(*to));
}

static void shape(struct ictx *c)
{
    struct ivalue *out = ictx_out(c, 0);
    const struct ivalue *a = ictx_in(c, 0);
    if (!out)
        return;
    out->type = OT_INT64;
    out->rank = 1;
    out->dims[0] = -1;
    if (!a || a->rank < 0)
        return;
    int64_t from = onnx_attr_int(c->m, c->n, "start", 0),
            to = onnx_attr_int(c->m, c->n, "end", a->rank);
    from = from < 0 ? from + a->rank : from;
    to = to < 0 ? to + a->rank : to;
    from = from < 0 ? 0 : from > a->rank ? a->rank : from;
    to = to < from ? from : to > a->rank ? a->rank : to;
    out->dims[0] = to - from;
    for (int64_t i = from; i < to; i++)
        if (a->dims[i] < 0)
            return;
    double *items = ictx_new_items(c, out);
    for (int64_t i = from; items && i < to; i++)
        items[i - from] = (double)a->dims[i];
}

static void size(struct ictx *c)
{
    struct ivalue *out = ictx_out(c, 0);
    const struct ivalue *a = ictx_in(c, 0);
    if (!out)
        return;
    out->type = OT_INT64;
    out->rank = 0;
    int64_t count = a ? ivalue_count(a) : -1;
    double *to = count < 0 ? NULL : ictx_new_items(c, out);
    if (to)
        to[0] = (double)count;
}

static void gather(struct ictx *c)
{
    const struct ivalue *a, *at = ictx_in(c, 1);
    struct ivalue *out;
    if (!start(c, &a, &out) || !at || at->rank < 0)
        return;
    int64_t axis = onnx_attr_int(c->m, c->n, "axis", 0);
    axis = axis < 0 ? axis + a->rank : axis;
    if (axis < 0 || axis >= a->rank || a->rank - 1 + at->rank > TENSOR_RANK_MAX)
        return;
    int k = 0;
    for (int i = 0; i < axis; i++)
        out->dims[k++] = a->dims[i];
    for (int i = 0; i < at->rank; i++)
        out->dims[k++] = at->dims[i];
    for (int i = (int)axis + 1; i < a->rank; i++)
        out->dims[k++] = a->dims[i];
    out->rank = k;
    if (!a->has || !at->has || a->rank != 1)
        return;
    double *to = ictx_new_items(c, out);
    for (uint32_t i = 0; to && i < at->count; i++) {
        int64_t from = ictx_int(ictx_items(c, at)[i]);
        from = from < 0 ? from + a->count : from;
        to[i] = from >= 0 && from < a->count ? ictx_items(c, a)[from] : 0;
    }
}

static void gather_like(struct ictx *c) /* GatherElements: the indices' shape, the data's rank */
{
    const struct ivalue *a = ictx_in(c, 0), *at = ictx_in(c, 1);
    struct ivalue *out = ictx_out(c, 0);
    if (!a || !out)
        return;
    out->type = a->type;
    out->rank = at && at->rank >= 0 ? at->rank : a->rank;
    for (int i = 0; i < out->rank; i++)
        out->dims[i] = at && at->rank >= 0 ? at->dims[i] : -1;
}

static void gather_nd(struct ictx *c)
{
    const struct ivalue *a, *at = ictx_in(c, 1);
    struct ivalue *out;
    if (!start(c, &a, &out) || !at || at->rank < 1 || at->dims[at->rank - 1] < 0)
        return;
    int64_t batch = onnx_attr_int(c->m, c->n, "batch_dims", 0);
    int64_t from = batch + at->dims[at->rank - 1];
    if (batch < 0 || from > a->rank || at->rank - 1 + a->rank - from > TENSOR_RANK_MAX)
        return;
    int k = 0;
    for (int i = 0; i < at->rank - 1; i++)
        out->dims[k++] = at->dims[i];
    for (int64_t i = from; i < a->rank; i++)
        out->dims[k++] = a->dims[i];
    out->rank = k;
}

static void concat(struct ictx *c)
{
    const struct ivalue *a;
    struct ivalue *out;
    if (!start(c, &a, &out))
        return;
    int64_t axis = onnx_attr_int(c->m, c->n, "axis", 0);
    axis = axis < 0 ? axis + a->rank : axis;
    if (axis < 0 || axis >= a->rank)
        return;
    int64_t sum = 0;
    bool content = a->rank == 1;
    for (uint32_t i = 0; i < c->n->in_count; i++) {
        const struct ivalue *v = ictx_in(c, i);
        if (!v || v->rank != a->rank)
            return;
        sum = sum < 0 || v->dims[axis] < 0 || v->dims[axis] > INT64_MAX / 4 ? -1
                                                                            : sum + v->dims[axis];
        content = content && v->has;
    }
    memcpy(out->dims, a->dims, sizeof(out->dims));
    for (uint32_t i = 1; i < c->n->in_count; i++) /* a dim known in one is known in all */
        for (int k = 0; k < a->rank; k++)
            if (out->dims[k] < 0)
                out->dims[k] = ictx_in(c, i)->dims[k];
    out->dims[axis] = sum;
    out->rank = a->rank;
    double *to = content ? ictx_new_items(c, out) : NULL;
    for (uint32_t i = 0, k = 0; to && i < c->n->in_count; i++) {
        const struct ivalue *v = ictx_in(c, i);
        for (uint32_t j = 0; j < v->count && k < out->count; j++)
            to[k++] = ictx_items(c, v)[j];
    }
}

static int64_t clamp(int64_t v, int64_t low, int64_t high)
{
    return v < low ? low : v > high ? high : v;
}

/* Elements that a slice takes of a dim; also the first one and the step, corrected. */
static int64_t slice_count(int64_t dim, int64_t *from, int64_t to, int64_t step)
{
    int64_t f = *from < 0 ? *from + dim : *from, t = to < 0 ? to + dim : to;
    if (step > 0) {
        f = clamp(f, 0, dim);
        t = clamp(t, 0, dim);
    } else {
        f = clamp(f, -1, dim - 1);
        t = to <= INT64_MIN / 4 ? -1 : clamp(t, -1, dim - 1);
    }
    *from = f;
    int64_t n = step > 0 ? (t - f + step - 1) / step : (f - t - step - 1) / -step;
    return n < 0 ? 0 : n;
}

static void slice(struct ictx *c)
{
    const struct ivalue *a;
    struct ivalue *out;
    if (!start(c, &a, &out))
        return;
    int64_t from[TENSOR_RANK_MAX], to[TENSOR_RANK_MAX], axes[TENSOR_RANK_MAX],
        steps[TENSOR_RANK_MAX];
    int n = infer_axes(c, "starts", 1, from, TENSOR_RANK_MAX),
        n_to = infer_axes(c, "ends", 2, to, TENSOR_RANK_MAX);
    int n_axes = infer_axes(c, "axes", 3, axes, TENSOR_RANK_MAX),
        n_steps = infer_axes(c, "steps", 4, steps, TENSOR_RANK_MAX);
    out->rank = a->rank;
    memcpy(out->dims, a->dims, sizeof(out->dims));
    for (int i = 0; i < (n < 0 || n_to != n ? 0 : n); i++) {
        int64_t axis = n_axes == n ? axes[i] : i, step = n_steps == n ? steps[i] : 1;
        axis = axis < 0 ? axis + a->rank : axis;
        if (axis < 0 || axis >= a->rank || step == 0 || step < -INT32_MAX || step > INT32_MAX)
            return;
        if (a->dims[axis] >= 0)
            out->dims[axis] = slice_count(a->dims[axis], &from[i], to[i], step);
        if (n == 1 && a->rank == 1 && a->has) {
            double *items = ictx_new_items(c, out);
            for (uint32_t k = 0; items && k < out->count; k++)
                items[k] = ictx_items(c, a)[from[0] + (int64_t)k * step];
        }
    }
    if (n < 0 || n_to != n) { /* where it cuts is not known: any dim it may touch is not */
        for (int i = 0; i < a->rank; i++)
            if (n_axes < 0)
                out->dims[i] = -1;
        for (int i = 0; i < n_axes; i++) {
            int64_t axis = axes[i] < 0 ? axes[i] + a->rank : axes[i];
            if (axis >= 0 && axis < a->rank)
                out->dims[axis] = -1;
        }
    }
}

static void split(struct ictx *c)
{
    const struct ivalue *a = ictx_in(c, 0);
    int64_t parts[64];
    if (!a || a->rank < 1 || c->n->out_count == 0)
        return;
    int n = infer_axes(c, "split", 1, parts, 64);
    int64_t axis = onnx_attr_int(c->m, c->n, "axis", 0);
    axis = axis < 0 ? axis + a->rank : axis;
    if (axis < 0 || axis >= a->rank)
        return;
    int64_t count = c->n->out_count, dim = a->dims[axis],
            each = dim < 0 ? -1 : dim / count + (dim % count != 0);
    for (uint32_t i = 0; i < c->n->out_count; i++) {
        struct ivalue *out = ictx_out(c, i);
        if (!out)
            continue;
        *out = (struct ivalue){.type = a->type, .rank = a->rank};
        memcpy(out->dims, a->dims, sizeof(out->dims));
        int64_t left = dim - each * i;
        out->dims[axis] = n > (int)i    ? parts[i]
                          : each < 0    ? -1
                          : left < each ? (left < 0 ? 0 : left)
                                        : each;
    }
}

static void unsqueeze(struct ictx *c)
{
    const struct ivalue *a;
    struct ivalue *out;
    int64_t axes[TENSOR_RANK_MAX];
    if (!start(c, &a, &out))
        return;
    int n = infer_axes(c, "axes", 1, axes, TENSOR_RANK_MAX);
    if (n < 0 || a->rank + n > TENSOR_RANK_MAX)
        return;
    bool one[TENSOR_RANK_MAX] = {false};
    int rank = a->rank + n;
    for (int i = 0; i < n; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + rank : axes[i];
        if (axis < 0 || axis >= rank || one[axis])
            return;
        one[axis] = true;
    }
    for (int i = 0, k = 0; i < rank; i++)
        out->dims[i] = one[i] ? 1 : a->dims[k++];
    out->rank = rank;
    keep_items(c, out, a);
}

static void squeeze(struct ictx *c)
{
    const struct ivalue *a;
    struct ivalue *out;
    int64_t axes[TENSOR_RANK_MAX];
    if (!start(c, &a, &out))
        return;
    int n = infer_axes(c, "axes", 1, axes, TENSOR_RANK_MAX);
    bool gone[TENSOR_RANK_MAX] = {false};
    for (int i = 0; i < n; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + a->rank : axes[i];
        if (axis < 0 || axis >= a->rank)
            return;
        gone[axis] = true;
    }
    if (n < 0) {
        if (c->n->in_count > 1)
            return;
        for (int i = 0; i < a->rank; i++) {
            if (a->dims[i] < 0)
                return;
            gone[i] = a->dims[i] == 1;
        }
    }
    out->rank = 0;
    for (int i = 0; i < a->rank; i++)
        if (!gone[i])
            out->dims[out->rank++] = a->dims[i];
    keep_items(c, out, a);
}

static void reshape(struct ictx *c)
{
    const struct ivalue *a, *to = ictx_in(c, 1);
    struct ivalue *out;
    if (!start(c, &a, &out) || !to)
        return;
    if (!to->has) {
        if (to->rank == 1 && to->dims[0] >= 0 && to->dims[0] <= TENSOR_RANK_MAX) {
            out->rank = (int)to->dims[0];
            for (int i = 0; i < out->rank; i++)
                out->dims[i] = -1;
        }
        return;
    }
    if (to->count > TENSOR_RANK_MAX)
        return;
    int64_t all = ivalue_count(a), known = 1;
    int hole = -1;
    bool zero = onnx_attr_int(c->m, c->n, "allowzero", 0) != 0;
    out->rank = (int)to->count;
    for (int i = 0; i < out->rank; i++) {
        int64_t d = ictx_int(ictx_items(c, to)[i]);
        if (d == 0 && !zero)
            d = i < a->rank ? a->dims[i] : -1;
        if (d == -1 && ictx_int(ictx_items(c, to)[i]) == -1)
            hole = i;
        else if (d < 0 || known < 0 || __builtin_mul_overflow(known, d, &known))
            known = -1;
        out->dims[i] = d < -1 ? -1 : d;
    }
    if (hole >= 0)
        out->dims[hole] = all >= 0 && known > 0 && all % known == 0 ? all / known : -1;
    keep_items(c, out, a);
}

static void flatten(struct ictx *c)
{
    const struct ivalue *a;
    struct ivalue *out;
    if (!start(c, &a, &out))
        return;
    int64_t axis = onnx_attr_int(c->m, c->n, "axis", 1);
    axis = axis < 0 ? axis + a->rank : axis;
    if (axis < 0 || axis > a->rank)
        return;
    struct ivalue left = {.rank = (int)axis}, right = {.rank = a->rank - (int)axis};
    memcpy(left.dims, a->dims, sizeof(a->dims[0]) * (size_t)left.rank);
    memcpy(right.dims, a->dims + axis, sizeof(a->dims[0]) * (size_t)right.rank);
    out->rank = 2;
    out->dims[0] = ivalue_count(&left);
    out->dims[1] = ivalue_count(&right);
}

static void transpose(struct ictx *c)
{
    const struct ivalue *a;
    struct ivalue *out;
    int64_t perm[TENSOR_RANK_MAX];
    if (!start(c, &a, &out))
        return;
    int n = infer_axes(c, "perm", UINT32_MAX, perm, TENSOR_RANK_MAX);
    for (int i = 0; i < a->rank; i++) {
        int64_t from = n == a->rank ? perm[i] : a->rank - 1 - i;
        if (from < 0 || from >= a->rank)
            return;
        out->dims[i] = a->dims[from];
    }
    out->rank = a->rank;
}

static void expand(struct ictx *c)
{
    const struct ivalue *a, *to = ictx_in(c, 1);
    struct ivalue *out;
    if (!start(c, &a, &out) || !to)
        return;
    struct ivalue want = {.rank = -1};
    if (to->has && to->count <= TENSOR_RANK_MAX) {
        want.rank = (int)to->count;
        for (uint32_t i = 0; i < to->count; i++)
            want.dims[i] = ictx_int(ictx_items(c, to)[i]);
    } else if (to->rank == 1 && to->dims[0] >= 0 && to->dims[0] <= TENSOR_RANK_MAX) {
        want.rank = (int)to->dims[0];
        for (int i = 0; i < want.rank; i++)
            want.dims[i] = -1;
    }
    out->rank = a->rank;
    memcpy(out->dims, a->dims, sizeof(out->dims));
    (void)infer_broadcast(out, &want);
    if (a->has && a->count == 1 && out->rank >= 0) {
        double one = ictx_items(c, a)[0], *items = ictx_new_items(c, out);
        for (uint32_t i = 0; items && i < out->count; i++)
            items[i] = one;
    }
}

static void tile(struct ictx *c)
{
    const struct ivalue *a, *times = ictx_in(c, 1);
    struct ivalue *out;
    if (!start(c, &a, &out))
        return;
    out->rank = a->rank;
    for (int i = 0; i < a->rank; i++) {
        int64_t n = times && times->has && times->count == (uint32_t)a->rank
                        ? ictx_int(ictx_items(c, times)[i])
                        : -1;
        if (n < 0 || a->dims[i] < 0 || __builtin_mul_overflow(n, a->dims[i], &out->dims[i]))
            out->dims[i] = -1;
    }
}

static void constant_of_shape(struct ictx *c)
{
    struct ivalue *out = ictx_out(c, 0);
    const struct ivalue *to = ictx_in(c, 0);
    const struct gattr *value = onnx_attr(c->m, c->n, "value");
    if (!out)
        return;
    const struct gtensor *t = value && value->type == AT_TENSOR && value->count
                                  ? &c->m->tensors.items[value->first]
                                  : NULL;
    out->type = t ? t->type : OT_FLOAT;
    if (!to)
        return;
    if (!to->has) {
        if (to->rank == 1 && to->dims[0] >= 0 && to->dims[0] <= TENSOR_RANK_MAX) {
            out->rank = (int)to->dims[0];
            for (int i = 0; i < out->rank; i++)
                out->dims[i] = -1;
        }
        return;
    }
    if (to->count > TENSOR_RANK_MAX)
        return;
    out->rank = (int)to->count;
    for (uint32_t i = 0; i < to->count; i++)
        out->dims[i] = ictx_int(ictx_items(c, to)[i]);
    int64_t fill = 0;
    if (t && t->type == OT_INT64 && t->count == 1)
        memcpy(&fill, t->data, 8);
    double *items = !t || t->type == OT_INT64 ? ictx_new_items(c, out) : NULL;
    for (uint32_t i = 0; items && i < out->count; i++)
        items[i] = (double)fill;
}

static void range(struct ictx *c)
{
    const struct ivalue *a = ictx_in(c, 0), *b = ictx_in(c, 1), *s = ictx_in(c, 2);
    struct ivalue *out = ictx_out(c, 0);
    if (!out || !a)
        return;
    out->type = a->type;
    out->rank = 1;
    out->dims[0] = -1;
    if (!a->has || !b || !b->has || !s || !s->has || a->count != 1 || b->count != 1 ||
        s->count != 1)
        return;
    double from = ictx_items(c, a)[0], to = ictx_items(c, b)[0], step = ictx_items(c, s)[0];
    if (step == 0)
        return;
    double n = ceil((to - from) / step);
    out->dims[0] = n < 0 ? 0 : ictx_int(n);
    double *items = ictx_new_items(c, out);
    for (uint32_t i = 0; items && i < out->count; i++)
        items[i] = from + i * step;
}

static void reduce(struct ictx *c)
{
    const struct ivalue *a;
    struct ivalue *out;
    int64_t axes[TENSOR_RANK_MAX];
    if (!start(c, &a, &out))
        return;
    int n = infer_axes(c, "axes", 1, axes, TENSOR_RANK_MAX);
    bool keep = onnx_attr_int(c->m, c->n, "keepdims", 1) != 0;
    bool all = n <= 0 && ictx_in(c, 1) == NULL, gone[TENSOR_RANK_MAX] = {false};
    if (all && onnx_attr_int(c->m, c->n, "noop_with_empty_axes", 0) != 0)
        all = false;
    else if (n < 0 && !all)
        return;
    for (int i = 0; i < n; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + a->rank : axes[i];
        if (axis < 0 || axis >= a->rank)
            return;
        gone[axis] = true;
    }
    out->rank = 0;
    for (int i = 0; i < a->rank; i++)
        if (!gone[i] && !all)
            out->dims[out->rank++] = a->dims[i];
        else if (keep)
            out->dims[out->rank++] = 1;
    if (!a->has || ivalue_count(out) != 1 || a->rank > 1)
        return;
    double *to = ictx_new_items(c, out);
    bool prod = span_is(c->n->op, "ReduceProd"), max = span_is(c->n->op, "ReduceMax");
    if (!to || (!prod && !max && !span_is(c->n->op, "ReduceSum"))) {
        out->has = false;
        return;
    }
    to[0] = prod ? 1 : max ? -INFINITY : 0;
    for (uint32_t i = 0; i < a->count; i++) {
        double v = ictx_items(c, a)[i];
        to[0] = prod ? to[0] * v : max ? fmax(to[0], v) : to[0] + v;
    }
}

static void arg(struct ictx *c)
{
    const struct ivalue *a;
    struct ivalue *out;
    if (!start(c, &a, &out))
        return;
    out->type = OT_INT64;
    int64_t axis = onnx_attr_int(c->m, c->n, "axis", 0);
    axis = axis < 0 ? axis + a->rank : axis;
    bool keep = onnx_attr_int(c->m, c->n, "keepdims", 1) != 0;
    out->rank = 0;
    for (int i = 0; i < a->rank; i++)
        if (i != axis)
            out->dims[out->rank++] = a->dims[i];
        else if (keep)
            out->dims[out->rank++] = 1;
}

static void top_k(struct ictx *c)
{
    const struct ivalue *a = ictx_in(c, 0);
    int64_t k[1] = {onnx_attr_int(c->m, c->n, "k", -1)};
    if (k[0] < 0 && infer_axes(c, "k", 1, k, 1) != 1)
        k[0] = -1;
    for (uint32_t i = 0; a && i < 2; i++) {
        struct ivalue *out = ictx_out(c, i);
        if (!out)
            continue;
        *out = (struct ivalue){.type = i ? OT_INT64 : a->type, .rank = a->rank};
        memcpy(out->dims, a->dims, sizeof(out->dims));
        int64_t axis = onnx_attr_int(c->m, c->n, "axis", -1);
        axis = axis < 0 ? axis + a->rank : axis;
        if (axis >= 0 && axis < a->rank)
            out->dims[axis] = k[0] < 0 ? -1 : k[0];
    }
}

static void pad(struct ictx *c)
{
    const struct ivalue *a;
    struct ivalue *out;
    int64_t pads[2 * TENSOR_RANK_MAX], axes[TENSOR_RANK_MAX];
    if (!start(c, &a, &out))
        return;
    int n = infer_axes(c, "pads", 1, pads, 2 * TENSOR_RANK_MAX),
        k = infer_axes(c, "axes", 3, axes, TENSOR_RANK_MAX);
    out->rank = a->rank;
    for (int i = 0; i < a->rank; i++)
        out->dims[i] = k < 0 && n == 2 * a->rank ? a->dims[i] : k < 0 ? -1 : a->dims[i];
    int count = k < 0 ? a->rank : k;
    for (int i = 0; i < count && n == 2 * count; i++) {
        int64_t axis = k < 0 ? i : axes[i] < 0 ? axes[i] + a->rank : axes[i];
        int64_t more;
        if (axis < 0 || axis >= a->rank || out->dims[axis] < 0)
            continue;
        if (__builtin_add_overflow(pads[i], pads[count + i], &more) ||
            __builtin_add_overflow(out->dims[axis], more, &out->dims[axis]) || out->dims[axis] < 0)
            out->dims[axis] = -1;
    }
}

static void non_zero(struct ictx *c)
{
    const struct ivalue *a;
    struct ivalue *out;
    if (!start(c, &a, &out))
        return;
    *out = (struct ivalue){.type = OT_INT64, .rank = 2, .dims = {a->rank, -1}};
}

static void one_hot(struct ictx *c)
{
    const struct ivalue *a = ictx_in(c, 0), *depth = ictx_in(c, 1), *values = ictx_in(c, 2);
    struct ivalue *out = ictx_out(c, 0);
    if (!out || !values)
        return;
    out->type = values->type;
    if (!a || a->rank < 0 || a->rank >= TENSOR_RANK_MAX)
        return;
    int64_t axis = onnx_attr_int(c->m, c->n, "axis", -1);
    axis = axis < 0 ? axis + a->rank + 1 : axis;
    for (int i = 0, k = 0; i <= a->rank; i++)
        out->dims[i] = i != axis ? a->dims[k++ < a->rank ? k - 1 : 0]
                       : depth && depth->has && depth->count == 1
                           ? ictx_int(ictx_items(c, depth)[0])
                           : -1;
    out->rank = a->rank + 1;
}

const struct infer_row infer_move_rows[] = {
    {"Shape", shape},
    {"Size", size},
    {"Gather", gather},
    {"GatherElements", gather_like},
    {"GatherND", gather_nd},
    {"Concat", concat},
    {"Slice", slice},
    {"Split", split},
    {"Unsqueeze", unsqueeze},
    {"Squeeze", squeeze},
    {"Reshape", reshape},
    {"Flatten", flatten},
    {"Transpose", transpose},
    {"Expand", expand},
    {"Tile", tile},
    {"ConstantOfShape", constant_of_shape},
    {"Range", range},
    {"ReduceL1", reduce},
    {"ReduceL2", reduce},
    {"ReduceLogSum", reduce},
    {"ReduceLogSumExp", reduce},
    {"ReduceMax", reduce},
    {"ReduceMean", reduce},
    {"ReduceMin", reduce},
    {"ReduceProd", reduce},
    {"ReduceSum", reduce},
    {"ReduceSumSquare", reduce},
    {"ArgMax", arg},
    {"ArgMin", arg},
    {"TopK", top_k},
    {"Pad", pad},
    {"NonZero", non_zero},
    {"OneHot", one_hot},
    {NULL, NULL},
};
