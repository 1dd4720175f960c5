/* fuzz_onnx_share.c - fingerprints: two models out of the bytes (or one given as it is), looked
 * through for what they share. */
#include "build_model.h"
#include "onnx/share.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct share *s)
{
    if (s->shared_bytes > s->unshared_bytes)
        abort();
    for (size_t i = 0; i < s->model_count; i++)
        for (size_t k = 0; k < s->models[i].call_count; k++)
            for (size_t j = 0; j < s->modules[s->models[i].calls[k].module].input_count; j++)
                if (s->models[i].calls[k].inputs[j].call &&
                    s->models[i].calls[k].inputs[j].index >= k)
                    abort(); /* a call uses a later one */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct onnx *models[2] = {NULL, NULL};
    size_t count = fuzz_pair(data, size, models);
    struct share_options o = {.min_share = 0, .fixed_axes = true};
    struct share *s = NULL;
    struct err e = {0};
    if (count && share_find_as(models, count, &o, &s, &e)) {
        check(s);
        share_free(s);
    } else if (count && (e.code == ERR_INTERNAL || e.code == ERR_NONE)) {
        fprintf(stderr, "sharing: %s\n", e.text);
        abort();
    }
    for (size_t i = 0; i < count; i++)
        onnx_close(models[i]);
    return 0;
}
