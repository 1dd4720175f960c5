/* reader.h - the steps of onnx_open(), for the files of this folder only. */
#pragma once
#include "onnx/graph.h"

struct reader {
    struct onnx *m;
    const struct onnx_opener *opener; /* kept; NULL: files beside the model */
    uint32_t top;            /* node of the main graph whose sub-graphs are read, or ONNX_NONE */
    POOL(uint32_t) captures; /* of top */
    struct err *e;
};

/* file.c: maps the model (index 0) or an external data file; index in files[]. */
bool file_map_model(struct onnx *m, struct err *e);
bool file_map_external(struct reader *r, struct span name, uint32_t *ret);

/* file.c: external constants have no bytes in common, or all (tied weights). */
bool file_check_ranges(const struct onnx *m, struct err *e);

/* constant.c: reads a TensorProto to tensors[at], which is there already. */
bool read_tensor(struct reader *r, struct span message, uint32_t at);

/* constant.c: if node is a Constant, its tensor is made and *ret is its index, else ONNX_NONE. */
bool read_constant_node(struct reader *r, const struct gnode *node, uint32_t *ret);

/* attr.c: reads an AttributeProto of node to attrs[at]. */
bool read_attr(struct reader *r, uint32_t node, struct span message, uint32_t at);

/* read.c: reads a GraphProto, as a new graph seen from parent; *ret is its index. */
bool read_graph(struct reader *r, struct span message, uint32_t parent, uint32_t *ret);

/* read.c: the whole ModelProto. */
bool read_model(struct reader *r);

/* order.c: puts NodeProtos in an order in which none is used before it is there. */
bool order_nodes(struct span *messages, uint32_t count, struct err *e);

/* ports.c: inputs, outputs and their dynamic dims. */
bool read_ports(struct onnx *m, struct err *e);
