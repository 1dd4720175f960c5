/* libmodel.h - small ONNX models for the tests of exec, written by a few lines of protobuf. */
#pragma once
#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define MODEL_F32 1
#define MODEL_I64 7
#define MODEL_BOOL 9

/* A graph under construction. */
struct model {
    struct buf nodes, ports, constants;
};

/* Texts of names are separated by spaces; dims: numbers or names, "batch 4"; "" is a scalar. */
void model_node(struct model *m, const char *op, const char *inputs, const char *outputs);
/* The same with one attribute that is a graph (Loop's body); body is used up. */
void model_node_graph(struct model *m, const char *op, const char *inputs, const char *outputs,
                      struct model *body);
void model_input(struct model *m, const char *name, int type, const char *dims);
void model_output(struct model *m, const char *name, int type, const char *dims);
void model_f32(struct model *m, const char *name, const char *dims, const float *values);
void model_i64(struct model *m, const char *name, int64_t scalar);
void model_bool(struct model *m, const char *name, bool scalar);

/* Writes FOLDER/module.onnx (makes FOLDER) and clears m. */
void model_write(struct model *m, const char *folder);

/* Ready ones.  x, y: float32. */
void model_write_add(const char *folder);             /* x[batch,4], y[batch,4] -> sum, twice */
void model_write_net(const char *folder, int width);  /* x[batch,width] -> y; two MatMul layers */
void model_write_loop(const char *folder, int64_t n); /* x[1] -> y[1] = x + n, one at a time */
void model_write_pass(const char *folder);            /* x[batch,4] -> y = x, c = a constant */
void model_write_text(const char *folder, const char *text); /* module.onnx with this text */

/* $S2M3_DEPS/lib/libonnxruntime.so, or that of the source tree; ends the program without it. */
const char *model_runtime(void);

/* 64 hex digits, all c. */
const char *model_digest(char c);
