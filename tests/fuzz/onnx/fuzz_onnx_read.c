/* fuzz_onnx_read.c - the reader over any bytes, and over a built model with some bytes changed. */
#include "build_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(struct onnx *m)
{
    struct err e;
    uint64_t bytes;
    size_t count;
    if (!m)
        return;
    if (!onnx_weight_bytes(m, &bytes, &e))
        abort();
    (void)onnx_flops(m, NULL, 0);
    (void)onnx_batchable(m);
    (void)onnx_dim_params(m, &count);
    (void)onnx_inputs(m, &count);
    (void)onnx_outputs(m, &count);
    onnx_close(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || data[0] != 'B') {
        ask(fuzz_open(data, size));
        return 0;
    }
    struct dice d = {.data = data, .size = size, .at = 1};
    struct buf model = BUF_INIT(1 << 22);
    fuzz_model(&d, &model);
    fuzz_change(&d, &model);
    if (!model.failed)
        ask(fuzz_open(model.data, model.size));
    buf_clear(&model);
    return 0;
}
