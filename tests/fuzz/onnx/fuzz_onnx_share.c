/* fuzz_onnx_share.c - fingerprints and splitting: two models out of the bytes (or one given as it
 * is), looked through for what they share; modules are written and must open again. */
#include "build_model.h"
#include "onnx/share.h"

#include "base/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void reopen(const struct share *s)
{
    char folder[] = "/tmp/s2m3-fuzz-XXXXXX", path[64];
    struct err e = {0};
    if (!mkdtemp(folder))
        abort();
    (void)snprintf(path, sizeof(path), "%s/module.onnx", folder);
    for (size_t i = 0; i < s->module_count; i++) {
        struct onnx *m = NULL;
        if (share_write(s, i, folder, &e)) {
            if (!onnx_open(path, &m, &e)) {
                fprintf(stderr, "a written module does not open: %s\n", e.text);
                abort();
            }
            onnx_close(m);
        }
    }
    if (!file_remove_tree(folder, &e))
        abort();
}

static void look(struct onnx *const *models, size_t count)
{
    struct share *s = NULL;
    struct err e = {0};
    if (!share_find(models, count, 0, &s, &e)) {
        if (e.code == ERR_INTERNAL || e.code == ERR_NONE) {
            fprintf(stderr, "sharing: %s\n", e.text);
            abort();
        }
        return;
    }
    if (s->shared_bytes > s->unshared_bytes)
        abort();
    for (size_t i = 0; i < s->model_count; i++)
        for (size_t k = 0; k < s->models[i].call_count; k++)
            for (size_t j = 0; j < s->modules[s->models[i].calls[k].module].input_count; j++)
                if (s->models[i].calls[k].inputs[j].call &&
                    s->models[i].calls[k].inputs[j].index >= k)
                    abort(); /* a call uses a later one */
    reopen(s);
    share_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct onnx *models[2] = {NULL, NULL};
    size_t count = 0;
    struct dice d = {data, size, 1};
    if (size && data[0] != 'B')
        models[count++] = fuzz_open(data, size);
    for (int i = 0; size && data[0] == 'B' && i < 2; i++) {
        struct buf model = BUF_INIT(1 << 22);
        /* the second one begins like the first and goes on with other bytes */
        size_t half = 1 + (size - 1) / 2;
        d = i == 0 ? (struct dice){data, half, 1} : (struct dice){data, size, 1};
        fuzz_model(&d, &model);
        if (!model.failed)
            models[count++] = fuzz_open(model.data, model.size);
        buf_clear(&model);
    }
    bool all = count > 0;
    for (size_t i = 0; i < count; i++)
        all = all && models[i];
    if (all)
        look(models, count);
    else if (count == 2 && (models[0] || models[1]))
        look(models[0] ? &models[0] : &models[1], 1);
    for (size_t i = 0; i < count; i++)
        onnx_close(models[i]);
    return 0;
}
