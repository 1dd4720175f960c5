/* fuzz_onnx_split.c - the splitter: modules of two models (or one given as it is) are written; what
 * was written opens again, with the ports that were said, and can be looked through again. */
#include "build_model.h"
#include "onnx/share.h"

#include "base/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fault(const char *what, const struct err *e)
{
    fprintf(stderr, "%s: %s\n", what, e->text);
    abort();
}

/* A module that was written, as a model. */
static void reopen(const char *path, const struct share_module *mod)
{
    struct onnx *m = NULL;
    struct share *s = NULL;
    struct err e = {0};
    size_t inputs, outputs;
    if (!onnx_open(path, &m, &e))
        fault("a written module does not open", &e);
    (void)onnx_inputs(m, &inputs);
    (void)onnx_outputs(m, &outputs);
    if (inputs != mod->input_count || outputs != mod->output_count)
        fault("a written module has other ports", &e);
    if (share_find(&m, 1, 0, &s, &e))
        share_free(s);
    else if (e.code == ERR_INTERNAL || e.code == ERR_NONE)
        fault("a written module can't be looked through", &e);
    onnx_close(m);
}

static void write_all(const struct share *s)
{
    char folder[] = "/tmp/s2m3-fuzz-XXXXXX", path[64];
    struct err e = {0};
    if (!mkdtemp(folder))
        abort();
    (void)snprintf(path, sizeof(path), "%s/module.onnx", folder);
    for (size_t i = 0; i < s->module_count; i++)
        if (share_write(s, i, folder, &e))
            reopen(path, &s->modules[i]);
        else if (e.code == ERR_INTERNAL || e.code == ERR_NONE)
            fault("a module can't be written", &e);
    if (!file_remove_tree(folder, &e))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct onnx *models[2] = {NULL, NULL};
    size_t count = fuzz_pair(data, size, models);
    struct share_options o = {.min_share = 0, .fixed_axes = true};
    struct share *s = NULL;
    struct err e = {0};
    if (count && share_find_as(models, count, &o, &s, &e)) {
        write_all(s);
        share_free(s);
    }
    for (size_t i = 0; i < count; i++)
        onnx_close(models[i]);
    return 0;
}
