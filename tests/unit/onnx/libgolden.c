/* libgolden.c - the small models of tests/golden/onnx. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "libgolden.h"

#include <stdio.h>
#include <stdlib.h>

const char *golden(const char *folder, const char *name)
{
    static char paths[4][1024];
    static unsigned at;
    const char *root = getenv("S2M3_GOLDEN");
    char *path = paths[at++ % 4];
    (void)snprintf(path, sizeof(paths[0]), "%s/onnx/%s/%s", root ? root : "tests/golden", folder,
                   name);
    return path;
}

struct onnx *small_model(const char *name)
{
    struct onnx *m = NULL;
    struct err e = {0};
    char file[128];
    (void)snprintf(file, sizeof(file), "%s.onnx", name);
    if (!onnx_open(golden("small", file), &m, &e))
        fail_msg("%s", e.text);
    return m;
}

struct found find_in(size_t count, const char *const *names, uint64_t min_share)
{
    struct found f = {.count = count};
    struct err e = {0};
    for (size_t i = 0; i < count; i++)
        f.models[i] = small_model(names[i]);
    if (!share_find(f.models, count, min_share, &f.share, &e))
        fail_msg("%s", e.text);
    return f;
}

void found_done(struct found *f)
{
    share_free(f->share);
    for (size_t i = 0; i < f->count; i++)
        onnx_close(f->models[i]);
}
