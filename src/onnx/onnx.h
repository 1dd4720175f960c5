/* onnx.h - an ONNX model file: read, checked, and asked about.  Never run.
 *
 * The file and its external data are mapped, not copied: memory is bounded by the graph, not by the
 * weights.  A model that opens has passed every check: sizes and counts within the limits below,
 * known operator domains, values defined before they are used (so no cycles), each value defined
 * once, every constant's bytes inside its file and as many as its type and dims say, external data
 * in plain files of the same folder, where two constants have all bytes in common or none.
 *
 * Ownership: texts and arrays that are returned belong to the model, until onnx_close().
 * Threads: one model belongs to one thread at a time. */
#pragma once
#include "tensor/tensor.h"

#define ONNX_FILE_MAX ((uint64_t)1 << 31)     /* bytes of the .onnx file (protobuf's own limit) */
#define ONNX_EXTERNAL_MAX ((uint64_t)1 << 40) /* bytes of one external data file */
#define ONNX_EXTERNAL_FILES_MAX 4096
#define ONNX_NODES_MAX 250000   /* in all graphs and functions together */
#define ONNX_VALUES_MAX 2000000 /* named values, all graphs together */
#define ONNX_EDGES_MAX 2000000  /* inputs and outputs of all nodes together */
#define ONNX_ATTRS_MAX 1000000
#define ONNX_NODE_ATTRS_MAX 1000 /* of one node */
#define ONNX_GRAPHS_MAX 10000
#define ONNX_FUNCTIONS_MAX 1000
#define ONNX_DEPTH_MAX 16                  /* sub-graphs in sub-graphs; functions in functions */
#define ONNX_RANK_MAX 16                   /* of a constant */
#define ONNX_NAME_MAX 2048                 /* bytes of a name */
#define ONNX_PORTS_MAX 1024                /* inputs, or outputs, of a model */
#define ONNX_OWNED_MAX ((size_t)512 << 20) /* bytes of constants that have to be unpacked */
#define ONNX_OPSET_MAX 1000

struct onnx; /* one opened model */

/* Opens, reads and checks PATH.  ERR_INVALID: broken; ERR_TOO_LARGE: over a limit;
 * ERR_UNSUPPORTED: well-formed, but of a kind that is not served (string or sequence ports, unknown
 * operator domain); ERR_NOT_FOUND, ERR_IO. */
bool onnx_open(const char *path, struct onnx **ret, struct err *e);

/* Who opens external data instead: a regular file for a name as the model says it (1 to 255 bytes,
 * no 0), or an error that says why not.  What names are fine is the opener's rule, and so is what
 * links a file may have. */
struct onnx_opener {
    bool (*open)(void *ctx, const char *name, int *ret_fd, struct err *e);
    void *ctx; /* kept while onnx_open_with() runs */
};
bool onnx_open_with(const char *path, const struct onnx_opener *opener, struct onnx **ret,
                    struct err *e);

void onnx_close(struct onnx *m); /* NULL is fine */

/* Whether its files are what they were when it was opened.  Sharing and writing ask that themselves
 * at their end; what else reads constants does so before it believes them.  ERR_IO. */
bool onnx_unchanged(const struct onnx *m, struct err *e);

/* The graph's inputs (initialisers are not inputs) and outputs, in the file's order. */
const struct port *onnx_inputs(const struct onnx *m, size_t *count);
const struct port *onnx_outputs(const struct onnx *m, size_t *count);

/* Name of a dynamic dim of an input (or output), "" when it has none or is fixed. */
const char *onnx_dim_param(const struct onnx *m, bool output, size_t port, int dim);

/* All different names of dynamic dims of the inputs. */
const char *const *onnx_dim_params(const struct onnx *m, size_t *count);

/* Bytes of the distinct constant tensors (type, dims, content): initialisers, Constant nodes,
 * those of sub-graphs and functions.  Reads all of them once; the result is kept. */
bool onnx_weight_bytes(struct onnx *m, uint64_t *ret, struct err *e);

/* The same of several files together: what two of them hold counts once. */
bool onnx_weight_bytes_all(struct onnx *const *models, size_t count, uint64_t *ret, struct err *e);

/* A value for a dynamic dim, by its name. */
struct onnx_dim {
    const char *name;
    int64_t value;
};

/* Floating point operations of one run: multiplications and additions of MatMul, Gemm, Conv,
 * attention and recurrent operators and their quantised forms, counted as in
 * 2 x (products); the rest is small and not counted.  Dims that are not named in dims: the first
 * dim is 1, others get a plain guess.  Negative when a needed shape can't be worked out. */
double onnx_flops(const struct onnx *m, const struct onnx_dim *dims, size_t count);

/* The factor of a main graph's output that is a product of two computed vectors, times one number
 * (logits_per_image of a CLIP); false: the output is not of that form. */
bool onnx_scale(const struct onnx *m, const char *output, double *ret);

/* Whether the first dim of every input and output is dynamic and, where named, by one name. */
bool onnx_batchable(const struct onnx *m);

/* Number of nodes of the main graph. */
size_t onnx_node_count(const struct onnx *m);
