/* tensor.h - what a tensor is: type, shape, bytes.
 *
 * A struct tensor is a small value.  Its bytes live in a counted struct mem that several tensors
 * may hold (an encoder's result goes to a cache, to the head and to a peer without a copy):
 * tensor_ref() makes another holder, tensor_clear() gives one up.  Data is row-major, little
 * endian, packed, and is not changed once it is shared.
 *
 * Threads: the counter is atomic; one struct tensor belongs to one thread at a time. */
#pragma once
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define TENSOR_RANK_MAX 8
#define TENSOR_NAME_MAX 128                /* with the 0 */
#define TENSOR_BYTES_MAX ((size_t)1 << 31) /* of one tensor in a call */

/* id, name in our JSON, name in the Open Inference Protocol, ONNX TensorProto number, bytes */
#define TENSOR_TYPES(X)                                                                            \
    X(DT_F32, "float32", "FP32", 1, 4)                                                             \
    X(DT_U8, "uint8", "UINT8", 2, 1)                                                               \
    X(DT_I8, "int8", "INT8", 3, 1)                                                                 \
    X(DT_U16, "uint16", "UINT16", 4, 2)                                                            \
    X(DT_I16, "int16", "INT16", 5, 2)                                                              \
    X(DT_I32, "int32", "INT32", 6, 4)                                                              \
    X(DT_I64, "int64", "INT64", 7, 8)                                                              \
    X(DT_BOOL, "bool", "BOOL", 9, 1)                                                               \
    X(DT_F16, "float16", "FP16", 10, 2)                                                            \
    X(DT_F64, "float64", "FP64", 11, 8)                                                            \
    X(DT_U32, "uint32", "UINT32", 12, 4)                                                           \
    X(DT_U64, "uint64", "UINT64", 13, 8)                                                           \
    X(DT_BF16, "bfloat16", "BF16", 16, 2)

#define TENSOR_ENUM(id, json, oip, onnx, size) id,
enum dtype { DT_NONE, TENSOR_TYPES(TENSOR_ENUM) DT_COUNT };
#undef TENSOR_ENUM

const char *dtype_name(enum dtype t);         /* "float32"; "none" for DT_NONE */
const char *dtype_oip(enum dtype t);          /* "FP32" */
int dtype_onnx(enum dtype t);                 /* 1 */
size_t dtype_size(enum dtype t);              /* 4; 0 for DT_NONE */
enum dtype dtype_from_name(const char *name); /* DT_NONE if unknown */
enum dtype dtype_from_oip(const char *name);
enum dtype dtype_from_onnx(int number);

/* A port's or tensor's type: a dim of -1 is dynamic. */
struct shape {
    int rank; /* 0 (scalar) to TENSOR_RANK_MAX */
    int64_t dims[TENSOR_RANK_MAX];
};

struct port {
    char name[TENSOR_NAME_MAX];
    enum dtype dtype;
    struct shape shape;
};

/* Bytes that are counted; made by mem_new() or wrapped by mem_wrap(). */
struct mem;
struct mem *mem_new(size_t size); /* zeroed; NULL: out of memory */
struct mem *mem_wrap(void *data, size_t size, void (*release)(void *arg), void *arg);
struct mem *mem_ref(struct mem *m); /* m may be NULL */
void mem_unref(struct mem *m);      /* m may be NULL */
void *mem_data(struct mem *m);
size_t mem_size(const struct mem *m);

struct tensor {
    enum dtype dtype;
    struct shape shape; /* no dynamic dims */
    void *data;         /* borrowed from mem */
    size_t bytes;
    struct mem *mem; /* one reference, owned */
};

/* Bytes of a shape without dynamic dims; ERR_TOO_LARGE over TENSOR_BYTES_MAX, ERR_INVALID for a
 * bad rank or dim. */
bool tensor_bytes(enum dtype t, const struct shape *s, size_t *ret, struct err *e);

/* Elements; the shape must be one that tensor_bytes() took. */
size_t shape_count(const struct shape *s);

/* Same rank and dims; in `want` -1 takes any. */
bool shape_fits(const struct shape *want, const struct shape *have);
bool shape_equal(const struct shape *a, const struct shape *b);

/* "[1,3,224,224]"; returns buf. */
const char *shape_text(const struct shape *s, char *buf, size_t size);

/* A new zeroed tensor. */
bool tensor_new(enum dtype t, const struct shape *s, struct tensor *ret, struct err *e);

/* A tensor over bytes at `offset` of m (one more reference); the length must be exact.  Bytes that
 * are not aligned for the type are copied. */
bool tensor_over(enum dtype t, const struct shape *s, struct mem *m, size_t offset, size_t size,
                 struct tensor *ret, struct err *e);

struct tensor tensor_ref(const struct tensor *t);
void tensor_clear(struct tensor *t); /* of a zeroed or cleared one: nothing */

/* Same type, shape and bytes. */
bool tensor_equal(const struct tensor *a, const struct tensor *b);

/* dtype and shape fit the port; ERR_INVALID says which and what. */
bool tensor_fits(const struct tensor *t, const struct port *p, struct err *e);

/* A tensor with its name, as calls carry it. */
struct named_tensor {
    char name[TENSOR_NAME_MAX];
    struct tensor tensor;
};
