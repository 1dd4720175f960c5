/* infer_net.c - shapes of the operators that compute: MatMul, Conv, pools, recurrent, quantised,
 * and those of com.microsoft. */
#include "onnx/infer.h"

#include <math.h>
#include <string.h>

static void matmul_of(struct ictx *c, const struct ivalue *a, const struct ivalue *b, int type)
{
    struct ivalue *out = ictx_out(c, 0);
    if (!out)
        return;
    out->type = type;
    if (!a || !b || a->rank < 1 || b->rank < 1)
        return;
    struct ivalue left = *a, right = *b;
    int64_t rows = a->rank > 1 ? a->dims[a->rank - 2] : 1,
            columns = b->rank > 1 ? b->dims[b->rank - 1] : 1;
    if (span_is(c->n->op, "FusedMatMul")) {
        if (onnx_attr_int(c->m, c->n, "transA", 0) && a->rank > 1)
            rows = a->dims[a->rank - 1];
        if (onnx_attr_int(c->m, c->n, "transB", 0) && b->rank > 1)
            columns = b->dims[b->rank - 2];
    }
    left.rank = a->rank > 2 ? a->rank - 2 : 0;
    right.rank = b->rank > 2 ? b->rank - 2 : 0;
    if (!infer_broadcast(&left, &right) || left.rank + 2 > TENSOR_RANK_MAX)
        return;
    memcpy(out->dims, left.dims, sizeof(out->dims));
    out->rank = left.rank;
    if (a->rank > 1)
        out->dims[out->rank++] = rows;
    if (b->rank > 1)
        out->dims[out->rank++] = columns;
}

static void matmul(struct ictx *c)
{
    const struct ivalue *a = ictx_in(c, 0);
    matmul_of(c, a, ictx_in(c, 1), a ? a->type : OT_NONE);
}

static void matmul_integer(struct ictx *c)
{
    bool floats =
        span_is(c->n->op, "MatMulIntegerToFloat") || span_is(c->n->op, "DynamicQuantizeMatMul");
    matmul_of(c, ictx_in(c, 0), ictx_in(c, 1), floats ? OT_FLOAT : OT_INT32);
}

static void qlinear_matmul(struct ictx *c)
{
    const struct ivalue *zero = ictx_in(c, 7);
    matmul_of(c, ictx_in(c, 0), ictx_in(c, 3), zero ? zero->type : OT_UINT8);
}

static void matmul_bits(struct ictx *c)
{
    const struct ivalue *a = ictx_in(c, 0);
    struct ivalue *out = ictx_out(c, 0);
    if (!a || !out)
        return;
    *out = *a;
    out->has = false;
    if (a->rank > 0)
        out->dims[a->rank - 1] = onnx_attr_int(c->m, c->n, "N", -1);
}

static void gemm(struct ictx *c)
{
    const struct ivalue *a = ictx_in(c, 0), *b = ictx_in(c, 1);
    struct ivalue *out = ictx_out(c, 0);
    if (!a || !out)
        return;
    out->type = a->type;
    out->rank = 2;
    bool ta = onnx_attr_int(c->m, c->n, "transA", 0) != 0,
         tb = onnx_attr_int(c->m, c->n, "transB", 0) != 0;
    out->dims[0] = a->rank == 2 ? a->dims[ta ? 1 : 0] : -1;
    out->dims[1] = b && b->rank == 2 ? b->dims[tb ? 0 : 1] : -1;
}

static int64_t list_item(const struct ictx *c, const char *name, int i, int64_t otherwise)
{
    const struct gattr *a = onnx_attr(c->m, c->n, name);
    return a && a->type == AT_INTS && (uint32_t)i < a->count
               ? c->m->ints.items[a->first + (uint32_t)i]
               : otherwise;
}

/* One spatial dim of a convolution or pool; -1: not known. */
static int64_t window(const struct ictx *c, int64_t in, int64_t kernel, int i, int spatial)
{
    int64_t stride = list_item(c, "strides", i, 1), dilation = list_item(c, "dilations", i, 1);
    const struct gattr *pad = onnx_attr(c->m, c->n, "auto_pad");
    if (in < 0 || kernel < 1 || stride < 1 || dilation < 1 || in > INT32_MAX ||
        kernel > INT32_MAX || stride > INT32_MAX || dilation > INT32_MAX)
        return -1;
    if (pad && pad->type == AT_STRING && pad->s.size > 4 && memcmp(pad->s.data, "SAME", 4) == 0)
        return (in + stride - 1) / stride;
    int64_t before = list_item(c, "pads", i, 0), after = list_item(c, "pads", i + spatial, 0);
    if (before < 0 || after < 0 || before > INT32_MAX || after > INT32_MAX)
        return -1;
    int64_t span = in + before + after - dilation * (kernel - 1) - 1;
    if (span < 0)
        return -1;
    if (onnx_attr_int(c->m, c->n, "ceil_mode", 0))
        span += stride - 1;
    return span / stride + 1;
}

static void conv_of(struct ictx *c, const struct ivalue *x, const struct ivalue *w, int type)
{
    struct ivalue *out = ictx_out(c, 0);
    if (!out)
        return;
    out->type = type;
    if (!x || !w || x->rank < 3 || w->rank != x->rank)
        return;
    out->rank = x->rank;
    out->dims[0] = x->dims[0];
    out->dims[1] = w->dims[0];
    for (int i = 2; i < x->rank; i++)
        out->dims[i] = window(c, x->dims[i], w->dims[i], i - 2, x->rank - 2);
}

static void conv(struct ictx *c)
{
    const struct ivalue *x = ictx_in(c, 0);
    conv_of(c, x, ictx_in(c, 1),
            span_is(c->n->op, "ConvInteger") ? OT_INT32
            : x                              ? x->type
                                             : OT_NONE);
}

static void qlinear_conv(struct ictx *c)
{
    const struct ivalue *zero = ictx_in(c, 7);
    conv_of(c, ictx_in(c, 0), ictx_in(c, 3), zero ? zero->type : OT_UINT8);
}

static void conv_transpose(struct ictx *c)
{
    struct ivalue *out = ictx_out(c, 0);
    const struct ivalue *x = ictx_in(c, 0), *w = ictx_in(c, 1);
    if (!out || !x)
        return;
    out->type = x->type;
    if (!w || x->rank < 3 || w->rank != x->rank)
        return;
    out->rank = x->rank;
    out->dims[0] = x->dims[0];
    int64_t group = onnx_attr_int(c->m, c->n, "group", 1);
    out->dims[1] = w->dims[1] < 0 || __builtin_mul_overflow(w->dims[1], group, &out->dims[1])
                       ? -1
                       : out->dims[1];
    for (int i = 2; i < x->rank; i++)
        out->dims[i] = -1;
}

static void pool(struct ictx *c)
{
    const struct ivalue *x = ictx_in(c, 0);
    for (uint32_t k = 0; x && k < 2; k++) {
        struct ivalue *out = ictx_out(c, k);
        if (!out)
            continue;
        out->type = k ? OT_INT64 : x->type;
        if (x->rank < 3)
            continue;
        out->rank = x->rank;
        out->dims[0] = x->dims[0];
        out->dims[1] = x->dims[1];
        for (int i = 2; i < x->rank; i++)
            out->dims[i] =
                window(c, x->dims[i], list_item(c, "kernel_shape", i - 2, -1), i - 2, x->rank - 2);
    }
}

static void global_pool(struct ictx *c)
{
    const struct ivalue *x = ictx_in(c, 0);
    struct ivalue *out = ictx_out(c, 0);
    if (!out || !x)
        return;
    out->type = x->type;
    out->rank = x->rank;
    for (int i = 0; i < x->rank; i++)
        out->dims[i] = i < 2 ? x->dims[i] : 1;
}

/* LSTM, GRU, RNN: Y (steps, directions, batch, hidden), Y_h and Y_c (directions, batch, hidden) */
static void recurrent(struct ictx *c)
{
    const struct ivalue *x = ictx_in(c, 0), *w = ictx_in(c, 1);
    int64_t hidden = onnx_attr_int(c->m, c->n, "hidden_size", -1);
    bool batch_first = onnx_attr_int(c->m, c->n, "layout", 0) != 0;
    for (uint32_t i = 0; x && i < 3; i++) {
        struct ivalue *out = ictx_out(c, i);
        if (!out)
            continue;
        out->type = x->type;
        if (x->rank != 3 || batch_first || !w || w->rank != 3)
            continue;
        int k = 0;
        if (i == 0)
            out->dims[k++] = x->dims[0];
        out->dims[k++] = w->dims[0];
        out->dims[k++] = x->dims[1];
        out->dims[k++] = hidden;
        out->rank = k;
    }
}

static void dynamic_quantize(struct ictx *c)
{
    const struct ivalue *x = ictx_in(c, 0);
    struct ivalue *y = ictx_out(c, 0), *scale = ictx_out(c, 1), *zero = ictx_out(c, 2);
    if (y && x) {
        *y = *x;
        y->type = OT_UINT8;
        y->has = false;
    }
    if (scale)
        *scale = (struct ivalue){.type = OT_FLOAT, .rank = 0};
    if (zero)
        *zero = (struct ivalue){.type = OT_UINT8, .rank = 0};
}

static void quantize(struct ictx *c)
{
    const struct ivalue *x = ictx_in(c, 0), *scale = ictx_in(c, 1), *zero = ictx_in(c, 2);
    struct ivalue *y = ictx_out(c, 0);
    if (!y || !x)
        return;
    *y = *x;
    y->has = false;
    if (span_is(c->n->op, "QuantizeLinear"))
        y->type = zero ? zero->type : (int)onnx_attr_int(c->m, c->n, "output_dtype", OT_UINT8);
    else
        y->type = scale ? scale->type : OT_FLOAT;
    if (y->type <= 0 || y->type > OT_LAST)
        y->type = OT_UINT8;
}

static void resize(struct ictx *c)
{
    const struct ivalue *x = ictx_in(c, 0), *scales = ictx_in(c, 2), *sizes = ictx_in(c, 3);
    struct ivalue *y = ictx_out(c, 0);
    if (span_is(c->n->op, "Upsample"))
        scales = ictx_in(c, 1);
    if (!x || !y)
        return;
    y->type = x->type;
    y->rank = x->rank;
    for (int i = 0; i < x->rank; i++) {
        y->dims[i] = -1;
        if (onnx_attr(c->m, c->n, "axes"))
            continue;
        if (sizes && sizes->has && sizes->count == (uint32_t)x->rank)
            y->dims[i] = ictx_int(ictx_items(c, sizes)[i]);
        else if (scales && scales->has && scales->count == (uint32_t)x->rank && x->dims[i] >= 0)
            y->dims[i] = ictx_int(floor((double)x->dims[i] * ictx_items(c, scales)[i]));
    }
}

static void space(struct ictx *c) /* DepthToSpace, SpaceToDepth */
{
    const struct ivalue *x = ictx_in(c, 0);
    struct ivalue *y = ictx_out(c, 0);
    int64_t b = onnx_attr_int(c->m, c->n, "blocksize", 0);
    if (!x || !y)
        return;
    y->type = x->type;
    if (x->rank != 4 || b < 1 || b > 4096)
        return;
    bool deep = span_is(c->n->op, "SpaceToDepth");
    y->rank = 4;
    for (int i = 0; i < 4; i++)
        y->dims[i] = x->dims[i] < 0 || x->dims[i] > INT32_MAX ? -1
                     : i == 0                                 ? x->dims[0]
                     : (i == 1) == deep                       ? x->dims[i] * (i == 1 ? b * b : b)
                                                              : x->dims[i] / (i == 1 ? b * b : b);
}

const struct infer_row infer_net_rows[] = {
    {"MatMul", matmul},
    {"FusedMatMul", matmul},
    {"MatMulInteger", matmul_integer},
    {"MatMulIntegerToFloat", matmul_integer},
    {"DynamicQuantizeMatMul", matmul_integer},
    {"QLinearMatMul", qlinear_matmul},
    {"MatMulNBits", matmul_bits},
    {"Gemm", gemm},
    {"FusedGemm", gemm},
    {"Conv", conv},
    {"FusedConv", conv},
    {"ConvInteger", conv},
    {"QLinearConv", qlinear_conv},
    {"ConvTranspose", conv_transpose},
    {"MaxPool", pool},
    {"AveragePool", pool},
    {"LpPool", pool},
    {"GlobalAveragePool", global_pool},
    {"GlobalMaxPool", global_pool},
    {"LSTM", recurrent},
    {"GRU", recurrent},
    {"RNN", recurrent},
    {"DynamicQuantizeLinear", dynamic_quantize},
    {"QuantizeLinear", quantize},
    {"DequantizeLinear", quantize},
    {"Resize", resize},
    {"Upsample", resize},
    {"DepthToSpace", space},
    {"SpaceToDepth", space},
    {NULL, NULL},
};

/* com.microsoft Attention: x (batch, steps, in), weights (in, 3 x hidden) -> (batch, steps,
 * hidden) */
void infer_ms_attention(struct ictx *c)
{
    const struct ivalue *x = ictx_in(c, 0), *bias = ictx_in(c, 2);
    struct ivalue *y = ictx_out(c, 0);
    if (!x || !y)
        return;
    y->type = span_is(c->n->op, "QAttention") ? OT_FLOAT : x->type;
    if (x->rank != 3)
        return;
    y->rank = 3;
    y->dims[0] = x->dims[0];
    y->dims[1] = x->dims[1];
    const struct gattr *sizes = onnx_attr(c->m, c->n, "qkv_hidden_sizes");
    if (sizes && sizes->type == AT_INTS && sizes->count == 3)
        y->dims[2] = c->m->ints.items[sizes->first + 2];
    else
        y->dims[2] = bias && bias->rank == 1 && bias->dims[0] >= 0 ? bias->dims[0] / 3 : -1;
}

/* MultiHeadAttention, GroupQueryAttention: as the query */
static void ms_query(struct ictx *c)
{
    const struct ivalue *q = ictx_in(c, 0);
    struct ivalue *y = ictx_out(c, 0);
    if (!q || !y || q->rank != 3)
        return;
    *y = *q;
    y->has = false;
}

static void ms_embed(struct ictx *c)
{
    const struct ivalue *ids = ictx_in(c, 0), *words = ictx_in(c, 2);
    struct ivalue *y = ictx_out(c, 0), *mask = ictx_out(c, 1);
    if (mask)
        *mask = (struct ivalue){
            .type = OT_INT32, .rank = 1, .dims = {ids && ids->rank == 2 ? ids->dims[0] : -1}};
    if (!ids || !words || !y || ids->rank != 2 || words->rank != 2)
        return;
    *y = (struct ivalue){
        .type = words->type, .rank = 3, .dims = {ids->dims[0], ids->dims[1], words->dims[1]}};
    if (ictx_out(c, 2)) /* the sum before the norm */
        *ictx_out(c, 2) = *y;
}

/* The norm and (slot 3) the sum that it is of: both as the input. */
static void ms_skip(struct ictx *c)
{
    const struct ivalue *x = ictx_in(c, 0);
    for (uint32_t i = 0; x && i < 4; i += 3) {
        struct ivalue *y = ictx_out(c, i);
        if (!y)
            continue;
        *y = *x;
        y->has = false;
    }
}

/* QLinearAdd, QLinearMul: a with scale and zero point, then b. */
static void ms_qlinear(struct ictx *c)
{
    const struct ivalue *a = ictx_in(c, 0), *b = ictx_in(c, 3);
    struct ivalue *y = ictx_out(c, 0);
    if (!a || !y)
        return;
    *y = *a;
    y->has = false;
    if (b)
        infer_broadcast(y, b);
    else
        y->rank = -1;
}

const struct infer_row infer_ms_rows[] = {
    {"QAttention", infer_ms_attention},
    {"MultiHeadAttention", ms_query},
    {"GroupQueryAttention", ms_query},
    {"EmbedLayerNormalization", ms_embed},
    {"SkipLayerNormalization", ms_skip},
    {"SkipSimplifiedLayerNormalization", ms_skip},
    {"QLinearAdd", ms_qlinear},
    {"QLinearMul", ms_qlinear},
    {NULL, NULL},
};
