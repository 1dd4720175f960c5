/* build_model.h - a model out of fuzz bytes: each byte decides something, all results are nearly
 * well-formed.  Used by all targets of this folder. */
#pragma once
#include "onnx/emit.h"
#include "onnx/onnx.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct dice {
    const uint8_t *data;
    size_t size, at;
    bool fixed;    /* all dims are numbers */
    bool external; /* constants lie in files of FUZZ_DATA bytes, some are larger */
    unsigned external_count;
};

#define FUZZ_SLOT 16384u
#define FUZZ_DATA (64 * FUZZ_SLOT)

static inline unsigned roll(struct dice *d, unsigned sides)
{
    return d->at < d->size ? d->data[d->at++] % sides : 0;
}

static const char *const fuzz_ops[] = {
    "MatMul",
    "Add",
    "Mul",
    "Relu",
    "Identity",
    "Shape",
    "Gather",
    "Concat",
    "Reshape",
    "Unsqueeze",
    "Transpose",
    "Softmax",
    "LayerNormalization",
    "ReduceMean",
    "Slice",
    "Cast",
    "Sub",
    "Pow",
    "Sqrt",
    "Div",
    "Expand",
    "Where",
    "ConstantOfShape",
    "Split",
    "Conv",
    "Gemm",
    "If",
    "Constant",
    "Squeeze",
    "Range",
    "Equal",
    "Dropout",
    "BatchNormalization",
    "Tanh",
};
#define FUZZ_OPS (sizeof(fuzz_ops) / sizeof(*fuzz_ops))
#define FUZZ_IF 26u
#define FUZZ_CONSTANT 27u

static inline void fuzz_value(struct buf *b, uint32_t field, unsigned number)
{
    char name[16];
    (void)snprintf(name, sizeof(name), "v%u", number);
    emit_text(b, field, name);
}

static inline void fuzz_tensor(struct dice *d, struct buf *out, uint32_t field, const char *name)
{
    static const uint8_t bytes[1024] = {1, 0, 0, 0, 0, 0, 0, 0, 2};
    static const char *const files[] = {"a", "b/c"};
    struct buf t = BUF_INIT(65536);
    unsigned type = roll(d, 4) ? 1 : 7, rank = roll(d, 3), count = 1;
    for (unsigned i = 0; i < rank; i++) {
        unsigned dim = roll(d, 5);
        if (d->external && i == 0 && roll(d, 2))
            dim *= 100;
        emit_number(&t, 1, dim);
        count *= dim;
    }
    emit_number(&t, 2, type);
    if (name)
        emit_text(&t, 8, name);
    size_t size = (size_t)count * (type == 1 ? 4 : 8);
    if (d->external && roll(d, 4)) {
        unsigned slot = roll(d, 4) ? d->external_count++ % 64 : roll(d, 64);
        emit_external(&t, files[roll(d, 2)], slot * FUZZ_SLOT + roll(d, 4), size);
    } else {
        emit_bytes(&t, 9, bytes + roll(d, 2) * 8, size < 1000 ? size : 1000);
    }
    (void)emit_message(out, field, &t);
}

static inline void fuzz_attr(struct dice *d, struct buf *out)
{
    static const char *const names[] = {"axis",     "axes",  "perm",  "to",        "epsilon",
                                        "keepdims", "value", "split", "value_ints"};
    struct buf a = BUF_INIT(65536);
    unsigned which = roll(d, 9);
    emit_text(&a, 1, names[which]);
    if (which == 6) {
        fuzz_tensor(d, &a, 5, NULL);
        emit_number(&a, 20, 4);
    } else if (which == 4) {
        emit_number(&a, 20, 1);
    } else if (which == 1 || which == 2 || which >= 7) {
        for (unsigned n = roll(d, 4); n; n--)
            emit_number(&a, 8, roll(d, 4));
        emit_number(&a, 20, 7);
    } else {
        emit_number(&a, 3, roll(d, 8));
        emit_number(&a, 20, 2);
    }
    (void)emit_message(out, 5, &a);
}

static inline void fuzz_port(struct dice *d, struct buf *out, uint32_t field, unsigned number)
{
    struct buf info = BUF_INIT(4096), type = BUF_INIT(4096), tensor = BUF_INIT(4096),
               shape = BUF_INIT(4096);
    for (unsigned n = roll(d, 4); n; n--) {
        struct buf dim = BUF_INIT(64);
        if (roll(d, 2))
            emit_number(&dim, 1, roll(d, 6));
        else if (d->fixed)
            emit_number(&dim, 1, 2);
        else
            emit_text(&dim, 2, "n");
        (void)emit_message(&shape, 1, &dim);
    }
    emit_number(&tensor, 1, roll(d, 3) ? 1 : 7);
    (void)emit_message(&tensor, 2, &shape);
    (void)emit_message(&type, 1, &tensor);
    fuzz_value(&info, 1, number);
    (void)emit_message(&info, 2, &type);
    (void)emit_message(out, field, &info);
}

/* A graph whose values from first on are its own; returns the next free number. */
static inline unsigned fuzz_graph(struct dice *d, struct buf *g, unsigned first, unsigned depth)
{
    unsigned next = first, inputs = depth ? 0 : 1 + roll(d, 3), inits = roll(d, 4),
             nodes = 1 + roll(d, depth ? 4 : 24);
    for (unsigned i = 0; i < inputs; i++)
        fuzz_port(d, g, 11, next++);
    for (unsigned i = 0; i < inits; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "v%u", next++);
        fuzz_tensor(d, g, 5, name);
    }
    for (unsigned i = 0; i < nodes; i++) {
        struct buf n = BUF_INIT(1 << 20);
        unsigned op = roll(d, FUZZ_OPS);
        emit_text(&n, 4, fuzz_ops[op]);
        for (unsigned k = op == FUZZ_CONSTANT ? 0 : 1 + roll(d, 5); k; k--)
            fuzz_value(&n, 1, roll(d, next ? next : 1));
        for (unsigned k = roll(d, 3); k; k--)
            fuzz_attr(d, &n);
        unsigned made = next++;
        if (op == FUZZ_IF && depth < 3) {
            struct buf a = BUF_INIT(1 << 20), inner = BUF_INIT(1 << 20);
            emit_text(&a, 1, "then_branch");
            next = fuzz_graph(d, &inner, next, depth + 1);
            (void)emit_message(&a, 6, &inner);
            emit_number(&a, 20, 5);
            (void)emit_message(&n, 5, &a);
        }
        fuzz_value(&n, 2, made);
        (void)emit_message(g, 1, &n);
    }
    for (unsigned i = 0; i < 1 + roll(d, 2); i++)
        fuzz_port(d, g, 12, next - 1 - roll(d, next > first + 1 ? next - first : 1));
    return next;
}

static inline void fuzz_model(struct dice *d, struct buf *out)
{
    struct buf g = BUF_INIT(1 << 20), opset = BUF_INIT(64);
    emit_number(out, 1, 8);
    emit_number(&opset, 2, 11 + roll(d, 8));
    (void)emit_message(out, 8, &opset);
    (void)fuzz_graph(d, &g, 0, 0);
    (void)emit_message(out, 7, &g);
}

/* What is left of the dice changes bytes. */
static inline void fuzz_change(struct dice *d, struct buf *model)
{
    while (model->size && d->at + 3 <= d->size) {
        size_t at = ((size_t)d->data[d->at] << 8 | d->data[d->at + 1]) % model->size;
        model->data[at] = (char)d->data[d->at + 2];
        d->at += 3;
    }
}

/* Opens bytes as a model by way of a file in memory; NULL: refused.  opener: NULL, or who opens
 * external data. */
static inline struct onnx *fuzz_open_with(const void *data, size_t size,
                                          const struct onnx_opener *opener)
{
    char path[64];
    struct onnx *m = NULL;
    struct err e;
    int fd = memfd_create("model", MFD_CLOEXEC);
    if (fd < 0)
        abort();
    if (size && write(fd, data, size) != (ssize_t)size)
        abort();
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (!onnx_open_with(path, opener, &m, &e)) {
        if (e.code == ERR_NONE || e.code == ERR_INTERNAL || !e.text[0])
            abort(); /* a refusal says why, and that it is not our fault */
        m = NULL;
    }
    close(fd);
    return m;
}

static inline struct onnx *fuzz_open(const void *data, size_t size)
{
    return fuzz_open_with(data, size, NULL);
}

/* Two models that begin alike (the second one perhaps with fixed dims), or the bytes as one model.
 * Returns how many opened. */
static inline size_t fuzz_pair(const uint8_t *data, size_t size, struct onnx *models[2])
{
    size_t count = 0, half = 1 + (size ? size - 1 : 0) / 2;
    if (size && data[0] != 'B') {
        models[0] = fuzz_open(data, size);
        return models[0] != NULL;
    }
    for (int i = 0; size && i < 2; i++) {
        struct buf model = BUF_INIT(1 << 22);
        struct dice d = {
            .data = data, .size = i == 0 ? half : size, .at = 1, .fixed = i == 1 && size % 2};
        fuzz_model(&d, &model);
        if (!model.failed)
            models[count] = fuzz_open(model.data, model.size);
        count += models[count] != NULL;
        buf_clear(&model);
    }
    return count;
}
