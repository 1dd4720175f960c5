/* flops.c - an estimate of a model's work: the products of its large operators, times two.
 *
 * Per operator, with out = elements of the output:
 *   MatMul, Gemm and quantised forms   2 x out x (length of the sum)
 *   Conv                               2 x out x (channels of one group x kernel)
 *   LSTM / GRU / RNN                   2 x steps x batch x (elements of W and R)
 *   attention in one node              2 x (projections) + 4 x batch x steps x keys x hidden */
#include "onnx/infer.h"

#include <math.h>
#include <stdlib.h>

static double dim_product(const struct ivalue *v, int from)
{
    double n = 1;
    if (!v || v->rank < 0)
        return NAN;
    for (int i = from; i < v->rank; i++)
        n *= v->dims[i] < 0 ? (double)NAN : (double)v->dims[i];
    return n;
}

static double last_dim(const struct ivalue *v, int back)
{
    return !v || v->rank < back || v->dims[v->rank - back] < 0 ? (double)NAN
                                                               : (double)v->dims[v->rank - back];
}

static double attention(const struct ictx *c)
{
    const struct ivalue *x = ictx_in(c, 0), *w = ictx_in(c, 1), *out = ictx_out(c, 0);
    double batch = last_dim(x, 3), steps = last_dim(x, 2), hidden = last_dim(out, 1);
    bool projects = span_is(c->n->op, "Attention") || span_is(c->n->op, "QAttention");
    double keys = projects ? steps : w && w->rank == 3 ? last_dim(w, 2) : steps;
    double work = 4 * batch * steps * keys * hidden;
    return projects ? work + 2 * batch * steps * dim_product(w, 0) : work;
}

static double recurrent(const struct ictx *c)
{
    const struct ivalue *x = ictx_in(c, 0), *w = ictx_in(c, 1), *r = ictx_in(c, 2);
    return 2 * last_dim(x, 3) * last_dim(x, 2) * (dim_product(w, 0) + dim_product(r, 0));
}

/* NaN: a shape that is needed is not known; 0: not one of the large operators. */
static double node_flops(const struct ictx *c)
{
    static const char *const sums[] = {
        "MatMul",        "FusedMatMul",          "MatMulInteger",
        "QLinearMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
        "MatMulNBits"};
    static const char *const convs[] = {"Conv", "FusedConv", "ConvInteger", "QLinearConv"};
    const struct ivalue *a = ictx_in(c, 0), *out = ictx_out(c, 0);
    for (size_t i = 0; i < sizeof(sums) / sizeof(*sums); i++)
        if (span_is(c->n->op, sums[i]))
            return 2 * dim_product(out, 0) * last_dim(a, 1);
    for (size_t i = 0; i < sizeof(convs) / sizeof(*convs); i++)
        if (span_is(c->n->op, convs[i]))
            return 2 * dim_product(out, 0) *
                   dim_product(ictx_in(c, span_is(c->n->op, "QLinearConv") ? 3 : 1), 1);
    if (span_is(c->n->op, "Gemm") || span_is(c->n->op, "FusedGemm"))
        return 2 * dim_product(out, 0) *
               last_dim(a, onnx_attr_int(c->m, c->n, "transA", 0) ? 2 : 1);
    if (span_is(c->n->op, "ConvTranspose"))
        return 2 * dim_product(a, 0) * dim_product(ictx_in(c, 1), 1);
    if (span_is(c->n->op, "LSTM") || span_is(c->n->op, "GRU") || span_is(c->n->op, "RNN"))
        return recurrent(c);
    if (span_is(c->n->op, "Attention") || span_is(c->n->op, "QAttention") ||
        span_is(c->n->op, "MultiHeadAttention") || span_is(c->n->op, "GroupQueryAttention"))
        return attention(c);
    return c->n->function != ONNX_NONE || span_is(c->n->op, "Loop") || span_is(c->n->op, "Scan") ||
                   span_is(c->n->op, "If")
               ? NAN
               : 0;
}

double onnx_node_flops(const struct onnx *m, struct infer *f, uint32_t node)
{
    struct ictx c = {.m = m, .f = f, .n = &m->nodes.items[node]};
    return node_flops(&c);
}

double onnx_flops(const struct onnx *m, const struct onnx_dim *dims, size_t count)
{
    struct infer f;
    int64_t *numbers = infer_dims(m, dims, count, 1, 16);
    bool ok = numbers && infer_run(m, numbers, &f, NULL);
    free(numbers);
    if (!ok)
        return -1;
    double sum = 0;
    const struct ggraph *g = &m->graphs.items[ONNX_MAIN];
    for (uint32_t i = 0; i < g->node_count; i++)
        sum += onnx_node_flops(m, &f, g->node_first + i);
    infer_done(&f);
    return isfinite(sum) ? sum : -1;
}
