/* scale.c - the factor of a product of two vectors in an output, read from the graph.
 *
 * Models that compare pictures with words end in logits = scale x (a . b) (+ bias), the scale a
 * number or the exponential of one.  Walked back from the output to the MatMul of two values that
 * are computed; on the way and on both of its sides only operators that scale or rearrange. */
#include "onnx/graph.h"

#include <math.h>
#include <string.h>

#define SCALE_STEPS_MAX 32

static const struct gnode *maker(const struct onnx *m, uint32_t value)
{
    const struct gvalue *v = &m->values.items[value];
    return v->node == ONNX_NONE ? NULL : &m->nodes.items[v->node];
}

static uint32_t input(const struct onnx *m, const struct gnode *n, uint32_t i)
{
    return i < n->in_count ? m->refs.items[n->in_first + i] : ONNX_NONE;
}

static bool rearranges(const struct gnode *n)
{
    static const char *const ops[] = {"Identity", "Cast",    "Transpose", "Reshape",
                                      "Squeeze",  "Flatten", "Unsqueeze"};
    for (size_t i = 0; i < sizeof(ops) / sizeof(*ops); i++)
        if (onnx_is_op(n, ops[i]))
            return true;
    return false;
}

/* One number that is known before any run. */
static bool number(const struct onnx *m, uint32_t value, double *ret)
{
    bool exponential = false;
    for (int step = 0; step < SCALE_STEPS_MAX && value != ONNX_NONE; step++) {
        const struct gtensor *t = onnx_value_tensor(m, value);
        if (t) {
            float f;
            if (t->count != 1 || t->is_input || !t->data)
                return false;
            if (t->type == OT_FLOAT && t->bytes == sizeof(f)) {
                memcpy(&f, t->data, sizeof(f));
                *ret = (double)f;
            } else if (t->type == OT_DOUBLE && t->bytes == sizeof(*ret)) {
                memcpy(ret, t->data, sizeof(*ret));
            } else {
                return false;
            }
            *ret = exponential ? exp(*ret) : *ret;
            return isfinite(*ret);
        }
        const struct gnode *n = maker(m, value);
        if (!n || !(rearranges(n) || (onnx_is_op(n, "Exp") && !exponential)))
            return false;
        exponential = exponential || onnx_is_op(n, "Exp");
        value = input(m, n, 0);
    }
    return false;
}

/* Back over what scales and rearranges, and what adds one number to all; *value: what stands before
 * all that. */
static void peel(const struct onnx *m, uint32_t *value, bool sums, double *scale)
{
    for (int step = 0; step < SCALE_STEPS_MAX; step++) {
        const struct gnode *n = maker(m, *value);
        double x;
        if (!n || input(m, n, 0) == ONNX_NONE)
            return;
        uint32_t a = input(m, n, 0), b = input(m, n, 1);
        if (rearranges(n)) {
            *value = a;
        } else if (b != ONNX_NONE && onnx_is_op(n, "Mul") &&
                   (number(m, a, &x) || number(m, b, &x))) {
            *value = number(m, a, &x) ? b : a;
            *scale *= x;
        } else if (b != ONNX_NONE && onnx_is_op(n, "Div") && number(m, b, &x) && x != 0) {
            *value = a;
            *scale /= x;
        } else if (b != ONNX_NONE && sums && onnx_is_op(n, "Add") && number(m, b, &x)) {
            *value = a; /* a bias of all changes neither order nor shares */
        } else {
            return;
        }
    }
}

bool onnx_scale(const struct onnx *m, const char *output, double *ret)
{
    struct span name = {.data = (const uint8_t *)output, .size = strlen(output)};
    uint32_t value = onnx_lookup(m, ONNX_MAIN, name);
    double scale = 1;
    if (value == ONNX_NONE)
        return false;
    peel(m, &value, true, &scale);
    const struct gnode *n = maker(m, value);
    if (!n || !onnx_is_op(n, "MatMul"))
        return false;
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t side = input(m, n, i);
        if (side == ONNX_NONE || onnx_value_tensor(m, side))
            return false;
        peel(m, &side, false, &scale);
        if (onnx_value_tensor(m, side))
            return false;
    }
    *ret = scale;
    return isfinite(scale) && scale > 0;
}
