/* fold.h - a model's graph in canonical form: what is compared between models.
 *
 *   - constants by content (type, dims, bytes), whatever way the file holds them
 *   - Identity (and Dropout at inference) looked through; equal nodes over equal inputs are one;
 *     dead nodes dropped
 *   - what is computed from constants by moving data or by exactly rounded arithmetic is a constant
 *   - the nine-node layer norm and the five-node GELU are one node; a batch norm is part of the convolution before it
 *   - attributes sorted, defaults dropped, axes and the like always as inputs; the operator set's
 *     version only where an operator's meaning changed with it
 *
 * Operands of commutative operators keep their order (bits).  Each canonical node knows the
 * exporter's nodes that it stands for (origins): modules are written with those.
 *
 * Ownership: `struct known` is shared by all graphs that are compared and outlives them; models
 * stay open as long. */
#pragma once
#include "onnx/infer.h"
#include "onnx/intern.h"

#define FOLD_KEEP_MAX 65536u                /* bytes of a folded constant that stays in memory */
#define FOLD_RUNS 2                         /* of shapes */
#define FOLD_EXTRA_MAX ((uint64_t)64 << 20) /* bytes that all may have over 4 times the constants */
#define FOLD_DEPTH_MAX 8                    /* constants computed from computed ones, not kept */
#define FOLD_WORK_MAX ((uint64_t)1 << 31)   /* bytes of a folded constant */

/* A constant by content. */
struct fconst {
    struct digest digest;
    int type, rank;
    int64_t dims[ONNX_RANK_MAX];
    uint64_t count, bytes;
    const uint8_t *data; /* borrowed from a model, or owned; NULL: fold_fetch() makes it again */
    uint8_t *owned;
    struct fgraph *graph; /* who computed it */
    uint32_t node;        /* its original node */
    unsigned depth;       /* steps to make it again; 0: it is there */
};

/* The default of an input of the model: the runtime computes nothing with it ahead, fuses nothing
 * with it, and has other bits than with a constant.  Its digest is marked so. */
static inline bool fconst_is_default(const struct fconst *c)
{
    return c->digest.hex[0] == 'i';
}

/* An operator with its attributes. */
struct fsig {
    struct span op; /* borrowed from a model, or a literal */
    bool plain;     /* domain "" */
    bool opaque;    /* sub-graphs or a function: consts holds what they contain */
    uint32_t const_first, const_count; /* known.sig_consts */
};

struct known {
    struct intern const_ids; /* digest text to constant */
    POOL(struct fconst) consts;
    struct intern sig_ids;
    POOL(struct fsig) sigs;
    POOL(uint32_t) sig_consts;
};

enum fvalue_kind { FV_NONE, FV_INPUT, FV_CONST, FV_NODE };

struct fvalue {
    enum fvalue_kind kind;
    uint32_t index;                /* input number, constant, node */
    uint32_t slot;                 /* output of the node */
    uint32_t origin;               /* original value that names it; ONNX_NONE for made constants */
    bool by_shape;                 /* a constant because shapes are known, not by its inputs */
    int type, rank;                /* OT_NONE, -1: not known */
    int64_t dims[TENSOR_RANK_MAX]; /* -1: dynamic or not known */
    uint64_t
        names[TENSOR_RANK_MAX]; /* of dynamic dims: equal for dims that are equal; 0: not known */
};

struct fnode {
    uint32_t sig;
    uint32_t in_first, in_count;         /* edges: values (0: left out), captures last */
    uint32_t out_first, out_count;       /* edges */
    uint32_t origin_first, origin_count; /* origins: nodes of the model */
    bool dead;
    bool lent;    /* a constant is another model's (adopt.c) */
    bool pattern; /* stands for a pattern, not for one node */
    double flops; /* NaN: not known */
};

struct fgraph {
    struct onnx *m;             /* kept */
    struct known *known;        /* kept */
    POOL(struct fvalue) values; /* [0] is "left out" */
    POOL(struct fnode) nodes;   /* topological order */
    POOL(uint32_t) edges;
    POOL(uint32_t) origins;
    uint32_t *of_value;           /* owned: original value to value (main graph only) */
    uint32_t *outputs;            /* owned: values, one for each output of the model */
    uint64_t one_max, room;       /* bytes of one folded constant, of those still to be made */
    struct intern same;           /* while built: (signature, inputs) to node */
    const struct fold_at *at;     /* while built: NULL, or known shapes */
    struct infer seen[FOLD_RUNS]; /* while built: shapes for different numbers of what is dynamic */
};

/* Two runs of shapes: integers that come out the same in both are constants. */
struct fold_at {
    const struct infer *a, *b; /* borrowed: during fold_graph() only */
};

/* Builds the canonical graph; what it learns of constants and operators goes to known.
 * at: NULL, or where shapes are known. */
bool fold_graph(struct onnx *m, struct known *known, const struct fold_at *at, struct fgraph **ret,
                struct err *e);
void fold_free(struct fgraph *g);
/* With shapes known: whether they are what a Reshape comes to, whatever words (0, -1) it has for
 * them; ret (may be NULL): its shape. */
bool fold_reshaped(const struct fgraph *g, const struct gnode *n, struct fconst *ret);
/* Equal nodes over equal inputs become one. */
bool fold_merge(struct fgraph *g, struct err *e);
void known_done(struct known *k);

static inline const struct fvalue *fnode_in(const struct fgraph *g, const struct fnode *n,
                                            uint32_t i)
{
    return &g->values.items[g->edges.items[n->in_first + i]];
}

/* Steps of fold_graph(), for its files. */
bool known_const(struct known *k, const struct fconst *c, uint32_t *ret, struct err *e);
bool fold_const_value(struct fgraph *g, uint32_t constant, uint32_t origin, uint32_t *ret,
                      struct err *e);

/* Bytes of a constant; *ret_owned is freed by the caller (may stay NULL). */
bool fold_fetch(struct known *k, uint32_t constant, const uint8_t **ret, uint8_t **ret_owned,
                struct err *e);

/* eval.c: whether original node can be computed when its inputs are constants. */
bool eval_can(const struct onnx *m, const struct gnode *n);
/* Computes it: in[] are constants' heads with data (NULL: left out).  limit: bytes of the result.  *ret_ok false: not possible
 * after all; out->owned is the caller's. */
bool eval_node(const struct onnx *m, const struct gnode *n, const struct fconst *const *in,
               uint32_t in_count, uint64_t limit, struct fconst *out, bool *ret_ok, struct err *e);

/* signature.c: the signature of an original node, and inputs that its attributes stand for. */
bool signature_of(struct fgraph *g, uint32_t node, uint32_t *ret_sig, uint32_t extra[4],
                  uint32_t *ret_extra, struct err *e);
/* Of a node that a pattern makes: all attributes at their defaults, but epsilon (may be NULL). */
bool signature_plain(struct fgraph *g, struct span op, const float *epsilon, uint32_t *ret_sig,
                     struct err *e);
/* In words, which attribute two signatures of one operator differ in: "epsilon: 1e-05 and 1e-06". */
void signature_difference(const struct known *k, uint32_t one, uint32_t two, char *ret,
                          size_t size);
/* captures of a node in the order in which its sub-graphs use them first */
bool signature_captures(const struct onnx *m, const struct gnode *n, uint32_t *ret, struct err *e);

/* pattern.c: several nodes to one. */
bool patterns_find(struct fgraph *g, struct err *e);
