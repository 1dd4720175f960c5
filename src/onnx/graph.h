/* graph.h - an opened model's data, for the files of this folder only.
 *
 *   struct onnx
 *     files[]     mapped files: [0] is the .onnx itself, the others external data
 *     graphs[]    [0] the main graph, then sub-graphs (If, Loop, Scan) and function bodies
 *     nodes[]     each graph's nodes stand in one run, in the file's order
 *     values[]    each named value of each graph, once
 *     tensors[]   each constant: initialisers, Constant nodes, tensor attributes
 *     attrs[]     each node's attributes stand in one run
 *     refs[]      value ids: inputs and outputs of nodes and graphs, captures
 *     ints[], floats[], spans[]   lists of attributes
 *
 * Everything is an index, because the arrays grow while a model is read.  Spans point into files[].
 *
 * A node with sub-graphs depends also on the outer values that these use: its captures. */
#pragma once
#include "base/digest.h"
#include "base/mapping.h"
#include "onnx/onnx.h"
#include "onnx/pb.h"

#define ONNX_NONE UINT32_MAX /* no value (a left out input), no graph, no node */
#define ONNX_MAIN 0u         /* the main graph's index */

#define POOL(type)                                                                                 \
    struct {                                                                                       \
        type *items;                                                                               \
        uint32_t count, capacity;                                                                  \
    }

/* Room for add more zeroed items, counted; fails over max ("what: more than max"). */
bool pool_room(void **items, uint32_t *count, uint32_t *capacity, size_t item_size, uint64_t add,
               uint64_t max, const char *what, struct err *e);
#define POOL_ADD(pool, add, max, what, e)                                                          \
    pool_room((void **)&(pool).items, &(pool).count, &(pool).capacity, sizeof(*(pool).items), add, \
              max, what, e)

/* TensorProto.DataType */
enum onnx_type {
    OT_NONE = 0,
    OT_FLOAT = 1,
    OT_UINT8 = 2,
    OT_INT8 = 3,
    OT_UINT16 = 4,
    OT_INT16 = 5,
    OT_INT32 = 6,
    OT_INT64 = 7,
    OT_STRING = 8,
    OT_BOOL = 9,
    OT_FLOAT16 = 10,
    OT_DOUBLE = 11,
    OT_UINT32 = 12,
    OT_UINT64 = 13,
    OT_COMPLEX64 = 14,
    OT_COMPLEX128 = 15,
    OT_BFLOAT16 = 16,
    OT_LAST = 26,
};

/* Bits of one element; 0 for strings and unknown types. */
unsigned onnx_type_bits(int type);
const char *onnx_type_name(int type);

struct gtensor {
    struct span name;
    struct span message; /* TensorProto; empty for the number forms of Constant nodes */
    int type;            /* enum onnx_type */
    int rank;
    int64_t dims[ONNX_RANK_MAX];
    uint64_t count;      /* elements */
    uint64_t bytes;      /* packed; of strings: of the form described at data */
    const uint8_t *data; /* packed little endian; strings: 8 bytes length + bytes, each */
    uint8_t *owned;      /* data, when it had to be unpacked from the file's own form */
    uint32_t file;       /* that data lies in; 0: the .onnx itself, or owned */
    bool is_input; /* listed as an input, too: a default, which the runtime then never folds */
    bool has_digest;
    struct digest digest; /* of type, dims and content: onnx_tensor_digest() */
};

enum attr_type {
    AT_FLOAT = 1,
    AT_INT = 2,
    AT_STRING = 3,
    AT_TENSOR = 4,
    AT_GRAPH = 5,
    AT_FLOATS = 6,
    AT_INTS = 7,
    AT_STRINGS = 8,
    AT_TENSORS = 9,
    AT_GRAPHS = 10,
    AT_SPARSE = 11,
    AT_SPARSES = 12,
    AT_TYPE = 13,
    AT_TYPES = 14,
};

struct gattr {
    struct span name;
    struct span message; /* the whole AttributeProto */
    struct span ref;     /* in functions: the caller's attribute that it stands for */
    enum attr_type type;
    float f;               /* AT_FLOAT */
    int64_t i;             /* AT_INT */
    struct span s;         /* AT_STRING */
    uint32_t first, count; /* AT_FLOATS floats, AT_INTS ints, AT_STRINGS spans, AT_TENSOR(S)
                                      tensors, AT_GRAPH(S) graphs */
};

struct gnode {
    struct span op, domain, name, overload;
    struct span message; /* the whole NodeProto */
    uint32_t graph;
    uint32_t in_first, in_count;   /* refs */
    uint32_t out_first, out_count; /* refs */
    uint32_t attr_first, attr_count;
    uint32_t capture_first, capture_count; /* refs; nodes of the main graph only */
    uint32_t function;                     /* graph of the function's body, or ONNX_NONE */
    int version;                           /* operator set version of its domain */
};

enum value_kind { VALUE_NODE, VALUE_INPUT, VALUE_CONST };

struct gvalue {
    struct span name;
    struct span type; /* TypeProto, where the file says one; else empty */
    enum value_kind kind;
    uint32_t graph;
    uint32_t index; /* VALUE_CONST: tensor; VALUE_INPUT: number */
    uint32_t node;  /* the node that makes it (Constant nodes too), or ONNX_NONE */
    uint32_t slot;  /* which of the node's outputs */
};

struct ggraph {
    struct span message; /* GraphProto or FunctionProto */
    uint32_t parent;     /* graph whose values it sees, or ONNX_NONE */
    uint32_t depth;
    bool function;
    struct span name, domain, overload; /* of a function */
    uint32_t node_first, node_count;
    uint32_t node_end;                 /* of functions: one after the nodes of its sub-graphs too */
    uint32_t in_first, in_count;       /* refs; initialisers are left out */
    uint32_t out_first, out_count;     /* refs */
    uint32_t init_first, init_count;   /* refs */
    uint32_t opset_first, opset_count; /* of a function: its own imports */
};

struct gopset {
    struct span domain;
    int version;
};

struct gfile {
    char *name; /* owned */
    struct mapping map;
};

struct onnx {
    char *path; /* owned */
    struct span graph_message;
    int64_t ir_version;
    POOL(struct gfile) files;
    POOL(struct ggraph) graphs;
    POOL(struct gnode) nodes;
    POOL(struct gvalue) values;
    POOL(struct gtensor) tensors;
    POOL(struct gattr) attrs;
    POOL(uint32_t) refs;
    POOL(int64_t) ints;
    POOL(float) floats;
    POOL(struct span) spans;
    POOL(struct gopset) opsets; /* [0, model_opsets) are the model's */
    uint32_t model_opsets;
    uint32_t functions_first, functions_count; /* graphs */
    uint32_t *table;                           /* owned: hash of (graph, name) to value id + 1 */
    uint32_t table_size;                       /* power of two */
    size_t owned_bytes;                        /* of all tensors */
    struct port *inputs, *outputs;             /* owned */
    size_t input_count, output_count;
    char **dim_names;        /* owned: [(port, dim)], inputs then outputs; NULL: none */
    const char **dim_params; /* owned array of borrowed texts */
    size_t dim_param_count;
    bool has_weight_bytes;
    uint64_t weight_bytes;
};

/* Value id of a name as seen from a graph (its own, then its parents'), or ONNX_NONE. */
uint32_t onnx_lookup(const struct onnx *m, uint32_t graph, struct span name);

/* Adds a value; fails on a name that can be seen from its graph already. */
bool onnx_define(struct onnx *m, struct gvalue value, uint32_t *ret, struct err *e);
uint32_t onnx_name_hash(uint32_t graph, struct span name);

/* The attribute of that name, or NULL. */
const struct gattr *onnx_attr(const struct onnx *m, const struct gnode *n, const char *name);
int64_t onnx_attr_int(const struct onnx *m, const struct gnode *n, const char *name,
                      int64_t otherwise);

/* The constant behind a value, or NULL. */
const struct gtensor *onnx_value_tensor(const struct onnx *m, uint32_t value);

/* "" and "ai.onnx" are one domain. */
bool onnx_is_op(const struct gnode *n, const char *op);

/* SHA-256 over type, dims and content; computed once. */
bool onnx_tensor_digest(struct onnx *m, uint32_t tensor, struct err *e);

/* Whether the product of a port's known dims is at most 2^57. */
bool onnx_dims_fit(const int64_t *dims, int rank);

/* Element type and dims of a TypeProto that is a tensor; rank -1 when it says no shape.  Names of
 * dynamic dims go to params (may be NULL).  false: not a tensor type. */
bool onnx_tensor_type(struct span type, int *ret_type, int *ret_rank, int64_t dims[ONNX_RANK_MAX],
                      struct span params[ONNX_RANK_MAX]);
