/* fuzz_onnx_relocate.c - external constants put into one file: what is read again holds the same. */
#include "build_model.h"

#include "onnx/graph.h"
#include "onnx/relocate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int file_of(const void *data, size_t size)
{
    int fd = memfd_create("data", MFD_CLOEXEC);
    if (fd < 0 || (size && write(fd, data, size) != (ssize_t)size))
        abort();
    return fd;
}

/* Every name is a file of the same bytes, no two KiB of which are alike. */
static bool open_any(void *ctx, const char *name, int *ret, struct err *e)
{
    static uint32_t numbers[FUZZ_DATA / 4];
    (void)ctx;
    (void)name;
    (void)e;
    for (uint32_t i = 0; !numbers[1] && i < FUZZ_DATA / 4; i++)
        numbers[i] = i * 2654435761U;
    *ret = file_of(numbers, sizeof(numbers));
    return true;
}

static bool open_one(void *ctx, const char *name, int *ret, struct err *e)
{
    const struct buf *b = ctx;
    (void)e;
    if (strcmp(name, "one") != 0)
        abort(); /* a constant was left behind */
    *ret = file_of(b->data, b->size);
    return true;
}

static void same(struct onnx *a, struct onnx *b)
{
    struct err e;
    if (!b || a->tensors.count != b->tensors.count)
        abort();
    for (uint32_t i = 0; i < a->tensors.count; i++)
        if (!onnx_tensor_digest(a, i, &e) || !onnx_tensor_digest(b, i, &e) ||
            strcmp(a->tensors.items[i].digest.hex, b->tensors.items[i].digest.hex) != 0)
            abort();
}

static void check(struct onnx *m)
{
    struct relocated r;
    struct err e;
    struct buf bytes = BUF_INIT((size_t)64 << 20), graph = BUF_INIT((size_t)64 << 20);
    if (!onnx_relocate(m, "one", &r, &e))
        return;
    for (uint32_t i = 0; i < r.count; i++)
        buf_add(i < r.data_count ? &bytes : &graph, r.pieces[i].data, r.pieces[i].size);
    if (bytes.failed || graph.failed || bytes.size != r.data_bytes || graph.size != r.graph_bytes)
        abort();
    struct onnx_opener opener = {open_one, &bytes};
    struct onnx *again = fuzz_open_with(graph.data, graph.size, &opener);
    same(m, again);
    onnx_close(again);
    relocated_clear(&r);
    buf_clear(&bytes);
    buf_clear(&graph);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct onnx_opener opener = {open_any, NULL};
    struct dice d = {.data = data, .size = size, .at = 1, .external = true};
    struct buf model = BUF_INIT(1 << 22);
    fuzz_model(&d, &model);
    fuzz_change(&d, &model);
    struct onnx *m = model.failed ? NULL : fuzz_open_with(model.data, model.size, &opener);
    if (m)
        check(m);
    onnx_close(m);
    buf_clear(&model);
    return 0;
}
