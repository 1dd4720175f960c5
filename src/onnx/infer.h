/* infer.h - types and shapes of all values of the main graph, for given dims of its inputs.
 *
 * Dims that can't be worked out are -1, whole shapes that can't have rank -1; nothing fails because
 * of an operator that is not known.  The contents of small tensors are followed too, because
 * exporters compute shapes by nodes (Shape, Gather, Concat, Reshape ...).
 *
 * Which dims of a model are dynamic is found by running this twice with different numbers for the
 * dynamic dims of the inputs: a dim that stays the same is fixed. */
#pragma once
#include "onnx/graph.h"

#define INFER_ITEMS_MAX 256u   /* elements of a tensor whose content is followed */
#define INFER_POOL_MAX 4000000 /* numbers kept, all tensors together */

struct ivalue {
    int type; /* enum onnx_type; OT_NONE: not known */
    int rank; /* -1: not known */
    int64_t dims[TENSOR_RANK_MAX];
    bool has; /* content is known: items[at .. at + count) */
    uint32_t at, count;
};

struct infer {
    struct ivalue *values; /* owned; one for each value of the model, by id */
    POOL(double) items;
};

/* dims: TENSOR_RANK_MAX numbers for each input, in order; -1 where not known. */
bool infer_run(const struct onnx *m, const int64_t *dims, struct infer *ret, struct err *e);
void infer_done(struct infer *f);

/* Numbers for infer_run() from the model's inputs: fixed dims as they are, named ones from dims,
 * else the first dim `batch` and others a plain guess that grows with `otherwise` (from 11 on).
 * Owned by the caller (free()). */
int64_t *infer_dims(const struct onnx *m, const struct onnx_dim *named, size_t count, int64_t batch,
                    int64_t otherwise);

/* flops.c: of one node of the main graph; NaN when a shape that is needed is not known. */
double onnx_node_flops(const struct onnx *m, struct infer *f, uint32_t node);

/* What a shape function sees. */
struct ictx {
    const struct onnx *m;
    struct infer *f;
    const struct gnode *n;
    struct err *e; /* out of memory only */
};

const struct ivalue *ictx_in(const struct ictx *c, uint32_t i); /* NULL: left out, or not known */
struct ivalue *ictx_out(const struct ictx *c, uint32_t i);      /* NULL: left out */
const double *ictx_items(const struct ictx *c, const struct ivalue *v);

/* Room for the content of an output whose dims are set; NULL: too many, or no memory. */
double *ictx_new_items(struct ictx *c, struct ivalue *v);
int64_t ictx_int(double item); /* clamped */

/* Elements; -1 if a dim is not known or the product is over 2^62. */
int64_t ivalue_count(const struct ivalue *v);

/* Shape functions by operator; NULL: none. infer_ops.c, infer_net.c,
 * infer_rare.c */
typedef void (*infer_fn)(struct ictx *c);
struct infer_row {
    const char *op;
    infer_fn run;
};
infer_fn infer_find(const struct gnode *n);
extern const struct infer_row infer_move_rows[], infer_net_rows[], infer_ms_rows[],
    infer_rare_rows[];

/* infer_net.c: com.microsoft's Attention, whose name ai.onnx has for another operator. */
void infer_ms_attention(struct ictx *c);

/* Joins dims by the broadcasting rule; false when a rank is not known.  A dim in which they do not
 * fit is not known: dynamic dims of inputs are guesses, which may be too many for a table. */
bool infer_broadcast(struct ivalue *into, const struct ivalue *with);

/* ints of an attribute, or of input i (newer operator sets); count -1: neither there nor known. */
int infer_axes(const struct ictx *c, const char *attr, uint32_t input, int64_t *ret, int max);
