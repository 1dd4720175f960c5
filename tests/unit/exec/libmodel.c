/* libmodel.c - see libmodel.h. Field numbers: onnx.proto of ONNX. */
#include "libmodel.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MODEL_MAX ((size_t)256 << 20)
#define WORDS_MAX 16

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    (void)fprintf(stderr, "libmodel: %s\n", what);
    abort();
}

/* ---- protobuf -------------------------------------------------------------------------------- */

static struct buf *start(struct buf *b)
{
    if (b->max == 0)
        b->max = MODEL_MAX;
    return b;
}

static void put_varint(struct buf *b, uint64_t v)
{
    while (v >= 0x80) {
        unsigned char c = (unsigned char)(v | 0x80);
        buf_add(start(b), &c, 1);
        v >>= 7;
    }
    unsigned char c = (unsigned char)v;
    buf_add(start(b), &c, 1);
}

static void put_number(struct buf *b, unsigned field, uint64_t v)
{
    put_varint(b, field << 3);
    put_varint(b, v);
}

static void put_bytes(struct buf *b, unsigned field, const void *data, size_t size)
{
    put_varint(b, field << 3 | 2);
    put_varint(b, size);
    buf_add(b, data, size);
}

static void put_text(struct buf *b, unsigned field, const char *text)
{
    put_bytes(b, field, text, strlen(text));
}

/* Uses up part. */
static void put_part(struct buf *b, unsigned field, struct buf *part)
{
    put_bytes(b, field, part->data ? part->data : "", part->size);
    buf_clear(part);
}

static int split(char *text, char *words[WORDS_MAX])
{
    int n = 0;
    char *save = NULL;
    for (char *w = strtok_r(text, " ", &save); w && n < WORDS_MAX; w = strtok_r(NULL, " ", &save))
        words[n++] = w;
    return n;
}

static void put_texts(struct buf *b, unsigned field, const char *text)
{
    char copy[512], *words[WORDS_MAX];
    (void)snprintf(copy, sizeof(copy), "%s", text);
    int n = split(copy, words);
    for (int i = 0; i < n; i++)
        put_text(b, field, words[i]);
}

/* ---- graphs ---------------------------------------------------------------------------------- */

static void put_node(struct model *m, const char *op, const char *inputs, const char *outputs,
                     struct buf *attribute)
{
    struct buf node = BUF_INIT(MODEL_MAX);
    put_texts(&node, 1, inputs);
    put_texts(&node, 2, outputs);
    put_text(&node, 4, op);
    if (attribute)
        put_part(&node, 5, attribute);
    put_part(&m->nodes, 1, &node);
}

void model_node(struct model *m, const char *op, const char *inputs, const char *outputs)
{
    put_node(m, op, inputs, outputs, NULL);
}

static void take_graph(struct model *m, struct buf *graph)
{
    buf_add(start(graph), m->nodes.data, m->nodes.size);
    put_text(graph, 2, "g");
    if (m->constants.size)
        buf_add(graph, m->constants.data, m->constants.size);
    if (m->ports.size)
        buf_add(graph, m->ports.data, m->ports.size);
    buf_clear(&m->nodes);
    buf_clear(&m->constants);
    buf_clear(&m->ports);
}

void model_node_graph(struct model *m, const char *op, const char *inputs, const char *outputs,
                      struct model *body)
{
    struct buf graph = BUF_INIT(MODEL_MAX), attribute = BUF_INIT(MODEL_MAX);
    take_graph(body, &graph);
    put_text(&attribute, 1, "body");
    put_part(&attribute, 6, &graph);
    put_number(&attribute, 20, 5); /* GRAPH */
    put_node(m, op, inputs, outputs, &attribute);
}

static bool is_number(const char *word)
{
    return word[strspn(word, "0123456789")] == 0;
}

static void put_port(struct model *m, unsigned field, const char *name, int type, const char *dims)
{
    struct buf shape = BUF_INIT(MODEL_MAX), tensor = BUF_INIT(MODEL_MAX);
    struct buf kind = BUF_INIT(MODEL_MAX), port = BUF_INIT(MODEL_MAX);
    char copy[512], *words[WORDS_MAX];
    (void)snprintf(copy, sizeof(copy), "%s", dims);
    int n = split(copy, words);
    for (int i = 0; i < n; i++) {
        struct buf dim = BUF_INIT(MODEL_MAX);
        if (is_number(words[i]))
            put_number(&dim, 1, strtoull(words[i], NULL, 10));
        else
            put_text(&dim, 2, words[i]);
        put_part(&shape, 1, &dim);
    }
    put_number(&tensor, 1, (uint64_t)type);
    put_part(&tensor, 2, &shape);
    put_part(&kind, 1, &tensor);
    put_text(&port, 1, name);
    put_part(&port, 2, &kind);
    put_part(&m->ports, field, &port);
}

void model_input(struct model *m, const char *name, int type, const char *dims)
{
    put_port(m, 11, name, type, dims);
}

void model_output(struct model *m, const char *name, int type, const char *dims)
{
    put_port(m, 12, name, type, dims);
}

static void put_constant(struct model *m, const char *name, int type, const char *dims,
                         const void *data, size_t element)
{
    struct buf t = BUF_INIT(MODEL_MAX);
    char copy[512], *words[WORDS_MAX];
    (void)snprintf(copy, sizeof(copy), "%s", dims);
    int n = split(copy, words);
    size_t count = 1;
    for (int i = 0; i < n; i++) {
        uint64_t dim = strtoull(words[i], NULL, 10);
        put_number(&t, 1, dim);
        count *= dim;
    }
    put_number(&t, 2, (uint64_t)type);
    put_text(&t, 8, name);
    put_bytes(&t, 9, data, count * element);
    put_part(&m->constants, 5, &t);
}

void model_f32(struct model *m, const char *name, const char *dims, const float *values)
{
    put_constant(m, name, MODEL_F32, dims, values, sizeof(*values));
}

void model_i64(struct model *m, const char *name, int64_t scalar)
{
    put_constant(m, name, MODEL_I64, "", &scalar, sizeof(scalar));
}

void model_bool(struct model *m, const char *name, bool scalar)
{
    put_constant(m, name, MODEL_BOOL, "", &scalar, sizeof(scalar));
}

void model_write(struct model *m, const char *folder)
{
    struct buf graph = BUF_INIT(MODEL_MAX), opset = BUF_INIT(MODEL_MAX), all = BUF_INIT(MODEL_MAX);
    take_graph(m, &graph);
    put_text(&opset, 1, "");
    put_number(&opset, 2, 17);
    put_number(&all, 1, 8);
    put_part(&all, 7, &graph);
    put_part(&all, 8, &opset);
    must(!all.failed, "model too large");
    char *path = text_format("%s/module.onnx", folder);
    must(path && file_make_dirs(folder, NULL), "folder");
    must(file_write_atomic(path, all.data, all.size, 0600, NULL), "write");
    free(path);
    buf_clear(&all);
}

/* ---- ready ones ------------------------------------------------------------------------------ */

void model_write_add(const char *folder)
{
    struct model m = {0};
    model_input(&m, "x", MODEL_F32, "batch 4");
    model_input(&m, "y", MODEL_F32, "batch 4");
    model_output(&m, "sum", MODEL_F32, "batch 4");
    model_node(&m, "Add", "x y", "sum");
    model_write(&m, folder);
}

static float *numbers(size_t count, uint32_t seed)
{
    float *values = malloc(count * sizeof(*values));
    must(values, "memory");
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)(int32_t)(seed >> 8) / (float)(1 << 24) - 0.5F;
    }
    return values;
}

void model_write_net(const char *folder, int width)
{
    struct model m = {0};
    char dims[64], port[64];
    (void)snprintf(dims, sizeof(dims), "%d %d", width, width);
    (void)snprintf(port, sizeof(port), "batch %d", width);
    size_t count = (size_t)width * (size_t)width;
    float *a = numbers(count, 1), *b = numbers(count, 2);
    model_input(&m, "x", MODEL_F32, port);
    model_output(&m, "y", MODEL_F32, port);
    model_f32(&m, "a", dims, a);
    model_f32(&m, "b", dims, b);
    model_node(&m, "MatMul", "x a", "h");
    model_node(&m, "Relu", "h", "r");
    model_node(&m, "MatMul", "r b", "y");
    model_write(&m, folder);
    free(a);
    free(b);
}

void model_write_loop(const char *folder, int64_t n)
{
    struct model body = {0}, m = {0};
    const float one = 1;
    model_input(&body, "i", MODEL_I64, "");
    model_input(&body, "go", MODEL_BOOL, "");
    model_input(&body, "v", MODEL_F32, "1");
    model_output(&body, "go_on", MODEL_BOOL, "");
    model_output(&body, "v_out", MODEL_F32, "1");
    model_node(&body, "Identity", "go", "go_on");
    model_node(&body, "Add", "v one", "v_out");
    model_input(&m, "x", MODEL_F32, "1");
    model_output(&m, "y", MODEL_F32, "1");
    model_f32(&m, "one", "1", &one);
    model_i64(&m, "n", n);
    model_bool(&m, "true", true);
    model_node_graph(&m, "Loop", "n true x", "y", &body);
    model_write(&m, folder);
}

void model_write_pass(const char *folder)
{
    struct model m = {0};
    const float c[3] = {1, 2, 3};
    model_input(&m, "x", MODEL_F32, "batch 4");
    model_output(&m, "y", MODEL_F32, "batch 4");
    model_output(&m, "c", MODEL_F32, "3");
    model_f32(&m, "w", "3", c);
    model_node(&m, "Identity", "x", "y");
    model_node(&m, "Identity", "w", "c");
    model_write(&m, folder);
}

void model_write_text(const char *folder, const char *text)
{
    char *path = text_format("%s/module.onnx", folder);
    must(path && file_make_dirs(folder, NULL), "folder");
    must(file_write_atomic(path, text, strlen(text), 0600, NULL), "write");
    free(path);
}

const char *model_runtime(void)
{
    static char path[4096];
    const char *deps = getenv("S2M3_DEPS");
    if (!deps)
        deps = ".deps";
    (void)snprintf(path, sizeof(path), "%s/lib/libonnxruntime.so", deps);
    must(access(path, R_OK) == 0, "no runtime: run tools/bootstrap build, or set S2M3_DEPS");
    return path;
}

const char *model_digest(char c)
{
    static _Thread_local char text[65];
    memset(text, c, 64);
    return text;
}
