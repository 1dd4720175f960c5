/* relocate.h - a model with external data as two runs of bytes: one file of data, and the graph
 * that names it.
 *
 * Nothing is copied: both are lists of pieces of the mapped files, with a few bytes made in between
 * (memory bounded by the number of constants).  Main-graph initialisers of RELOCATE_INLINE bytes
 * and more stay external, each range of bytes once, aligned; all other external constants (small
 * ones, those of sub-graphs, functions and attributes) become part of the graph.
 *
 * Ownership: pieces belong to `made` and the model, which stays open as long.  Threads: pure
 * functions on one model. */
#pragma once
#include "base/buf.h"
#include "onnx/onnx.h"
#include "onnx/pb.h"

#define RELOCATE_INLINE 1024u

struct relocate_piece {
    const uint8_t *data;
    size_t size;
    size_t at; /* private: place in made, while that grows */
};

struct relocated {
    struct relocate_piece *pieces; /* owned; first those of the data, then those of the graph */
    uint32_t count, capacity;
    uint32_t data_count;
    uint64_t data_bytes, graph_bytes;
    struct buf made; /* owned */
};

/* Whether a constant of the model lies in another file than the .onnx itself. */
bool onnx_is_external(const struct onnx *m);

/* location: what the graph calls the file of data.  ERR_TOO_LARGE: the graph is over
 * ONNX_FILE_MAX.  On failure there is nothing to clear. */
bool onnx_relocate(const struct onnx *m, const char *location, struct relocated *ret,
                   struct err *e);
void relocated_clear(struct relocated *r);

/* Parts of a model that has external data, with that in them: for who writes a part elsewhere. */
enum relocate_message {
    RELOCATE_MODEL,
    RELOCATE_FUNCTION,
    RELOCATE_GRAPH,
    RELOCATE_NODE,
    RELOCATE_ATTRIBUTE,
    RELOCATE_TENSOR
};
struct inliner;
/* *ret NULL: the model has no external data, messages go as they are. */
bool inliner_new(const struct onnx *m, struct inliner **ret, struct err *e);
void inliner_free(struct inliner *x); /* NULL is fine */
/* Appends the message with the bytes of its external constants. */
bool inliner_put(const struct inliner *x, enum relocate_message kind, struct span message,
                 struct buf *out, struct err *e);
