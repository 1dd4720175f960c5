/* given.c - a model's files, out of the store. */
#include "coord/given.h"

#include "base/file.h"
#include "base/num.h"
#include "store/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIDE_FILE_MAX ((size_t)64 << 20)

struct side_row {
    const char *path;
    size_t offset;
};

static const struct side_row side_rows[] = {
    {"config.json", offsetof(struct model_source, config)},
    {"preprocessor_config.json", offsetof(struct model_source, preprocessor)},
    {"processor_config.json", offsetof(struct model_source, preprocessor)},
    {"tokenizer.json", offsetof(struct model_source, tokenizer)},
    {"generation_config.json", offsetof(struct model_source, generation)},
    {"s2m3.json", offsetof(struct model_source, s2m3)},
};

static bool uploaded(struct coord *c, const char *path, const char *digest, struct err *e)
{
    return blobs_has(c->blobs, digest) ||
           err_set(e, ERR_NOT_FOUND, "%.100s: no file of digest %s was uploaded", path, digest);
}

static bool read_side_file(struct coord *c, struct given *g, const char *path, const char *digest,
                           struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(side_rows); i++) {
        struct model_file *f =
            (struct model_file *)(void *)((char *)&g->source.model + side_rows[i].offset);
        char *text;
        size_t size;
        if (strcmp(side_rows[i].path, path) != 0 || f->text)
            continue;
        if (!uploaded(c, path, digest, e))
            return false;
        if (!blobs_load(c->blobs, digest, SIDE_FILE_MAX, &text, &size, e))
            return err_prefix(e, "%s", path);
        g->texts[g->text_count++] = text;
        f->text = text;
        f->size = size;
        memcpy(f->digest.hex, digest, sizeof(f->digest.hex));
        return true;
    }
    return true; /* another file of the folder: not needed */
}

/* Of external data there is one file, that of a bundle; no other name is opened. */
static bool open_weights(void *ctx, const char *name, int *ret, struct err *e)
{
    const char *folder = ctx;
    if (strcmp(name, BUNDLE_WEIGHTS) != 0)
        return err_set(e, ERR_DENIED,
                       "external data '%.80s': should have come in a bundle with the graph, as "
                       "`s2m3 add` sends it",
                       name);
    char *path = text_format("%s/" BUNDLE_WEIGHTS, folder);
    *ret = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    free(path);
    return *ret >= 0 || err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno,
                                  "external data '" BUNDLE_WEIGHTS "' of a bundle");
}

static bool read_graph(struct coord *c, struct given *g, const char *path, const char *digest,
                       struct err *e)
{
    char *folder;
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    if (g->source.file_count >= MODEL_GRAPHS_MAX)
        return err_set(e, ERR_TOO_LARGE, "%s: more than %d .onnx files", g->name, MODEL_GRAPHS_MAX);
    struct cut_file *f = &g->source.files[g->source.file_count];
    if (!uploaded(c, path, digest, e))
        return false;
    if (!blobs_module_folder(c->blobs, digest, &folder, e))
        return err_prefix(e, "%s", path);
    char *file = text_format("%s/module.onnx", folder);
    struct onnx_opener opener = {open_weights, folder};
    bool ok = file ? onnx_open_with(file, &opener, &f->onnx, e)
                   : err_set(e, ERR_MEMORY, "coordinator: no memory");
    free(file);
    free(folder);
    if (!ok)
        return err_prefix(e, "%s", path);
    g->source.file_count++;
    memcpy(f->digest.hex, digest, sizeof(f->digest.hex));
    (void)snprintf(f->name, sizeof(f->name), "%.*s", (int)(strlen(base) - strlen(".onnx")), base);
    return true;
}

bool given_is_graph(const char *path)
{
    size_t n = strlen(path);
    return n > 5 && strcmp(path + n - 5, ".onnx") == 0;
}

static bool read_files(struct coord *c, struct given *g, struct err *e)
{
    if (json_array_size(g->files) > GIVEN_FILES_MAX)
        return err_set(e, ERR_TOO_LARGE, "%s: more than %d files", g->name, GIVEN_FILES_MAX);
    for (size_t i = 0; i < json_array_size(g->files); i++) {
        const json_t *row = json_array_get(g->files, i);
        const char *path, *digest;
        if (!json_need_str(row, "file", "path", &path, e) ||
            !json_need_str(row, "file", "digest", &digest, e))
            return false;
        size_t n = strlen(path);
        if (!digest_valid(digest) || n == 0 || n > 255)
            return err_set(e, ERR_INVALID, "file '%.80s': bad digest or name", path);
        if (!(given_is_graph(path) ? read_graph(c, g, path, digest, e)
                                   : read_side_file(c, g, path, digest, e)))
            return false;
    }
    return true;
}

bool given_read(struct coord *c, const char *name, json_t *files, struct given **ret, struct err *e)
{
    struct given *g = calloc(1, sizeof(*g));
    if (!g)
        return err_set(e, ERR_MEMORY, "coordinator: no memory");
    (void)snprintf(g->name, sizeof(g->name), "%s", name);
    g->files = json_incref(files);
    g->source.model.name = g->name;
    if (!read_files(c, g, e)) {
        given_free(g);
        return false;
    }
    *ret = g;
    return true;
}

void given_free(struct given *g)
{
    if (!g)
        return;
    for (int i = 0; i < g->source.file_count; i++)
        onnx_close(g->source.files[i].onnx);
    for (int i = 0; i < g->text_count; i++)
        free(g->texts[i]);
    json_decref(g->files);
    free(g);
}
