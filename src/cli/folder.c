/* folder.c - which files of a folder make the model. */
#include "cli/folder.h"

#include "base/file.h"
#include "base/num.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const side_files[] = {
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "s2m3.json",
};

static const char *const dtype_suffixes[] = {"fp16", "bf16",  "int8", "uint8", "q8",
                                             "q4",   "q4f16", "bnb4", "int4",  "quantized"};

static bool is_side_file(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(side_files); i++)
        if (strcmp(side_files[i], name) == 0)
            return true;
    return false;
}

/* "model_q4.onnx" -> "q4", "model.onnx" -> "fp32". */
static const char *dtype_of(const char *name)
{
    size_t n = strlen(name) - strlen(".onnx");
    for (size_t i = 0; i < ARRAY_LEN(dtype_suffixes); i++) {
        size_t k = strlen(dtype_suffixes[i]);
        if (n > k + 1 && name[n - k - 1] == '_' && strncmp(name + n - k, dtype_suffixes[i], k) == 0)
            return dtype_suffixes[i];
    }
    return "fp32";
}

static bool wanted(const char *name, const char *dtype)
{
    const char *dot = strrchr(name, '.');
    if (!dot || strcmp(dot, ".onnx") != 0)
        return is_side_file(name);
    return strcmp(dtype_of(name), dtype) == 0;
}

static bool inside(const char *path, const char *root)
{
    size_t n = strlen(root);
    return strncmp(path, root, n) == 0 && path[n] == '/';
}

char *folder_cache_blobs(const char *path)
{
    const char *at = strstr(path, "/snapshots/");
    return at ? text_format("%.*s/blobs", (int)(at - path), path) : NULL;
}

bool folder_is_graph(const struct folder_file *file)
{
    size_t n = strlen(file->name);
    return n > 5 && strcmp(file->name + n - 5, ".onnx") == 0;
}

static bool resolve(const char *root, const char *name, char **ret, struct err *e)
{
    char *path = text_format("%s/%s", root, name), *blobs = folder_cache_blobs(root);
    char *real = path ? realpath(path, NULL) : NULL;
    bool ok = real && (inside(real, root) || (blobs && inside(real, blobs)));
    if (!real)
        err_errno(e, ERR_IO, errno, "%s/%s", root, name);
    else if (!ok)
        err_set(e, ERR_DENIED, "%s: links to %s, outside of the model's folder", name, real);
    free(path);
    free(blobs);
    if (!ok) {
        free(real);
        return false;
    }
    *ret = real;
    return true;
}

static bool add_file(struct folder *f, const char *root, const char *name, struct err *e)
{
    if (f->count >= FOLDER_FILES_MAX)
        return err_set(e, ERR_TOO_LARGE, "%s: more than %d files of a model", root,
                       FOLDER_FILES_MAX);
    struct folder_file *file = &f->files[f->count];
    if ((size_t)snprintf(file->name, sizeof(file->name), "%s", name) >= sizeof(file->name))
        return err_set(e, ERR_INVALID, "%.80s: name of more than %zu characters", name,
                       sizeof(file->name) - 1);
    if (!resolve(root, name, &file->path, e))
        return false;
    f->count++;
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    bool ok = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    if (!ok)
        err_set(e, ERR_INVALID, "%s: can't be read as a regular file", name);
    ok = ok && digest_of_fd(fd, &file->digest, e);
    if (ok)
        file->size = (uint64_t)st.st_size;
    if (fd >= 0)
        close(fd);
    return ok;
}

/* One level: files of `below` ("" or "onnx/"). */
static bool scan(struct folder *f, const char *root, const char *below, const char *dtype,
                 struct err *e)
{
    char *path = text_format("%s/%s", root, below);
    DIR *d = path ? opendir(path) : NULL;
    free(path);
    if (!d && errno == ENOTDIR && !below[0])
        return err_set(e, ERR_INVALID, "%s: is no folder; a model is the folder around its .onnx",
                       root);
    if (!d)
        return below[0] ? true : err_errno(e, ERR_NOT_FOUND, errno, "%s", root);
    bool ok = true;
    for (struct dirent *entry; ok && (entry = readdir(d));) {
        char name[512];
        (void)snprintf(name, sizeof(name), "%s%s", below, entry->d_name);
        if (wanted(entry->d_name, dtype) && !(below[0] && is_side_file(entry->d_name)))
            ok = add_file(f, root, name, e);
    }
    closedir(d);
    return ok;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct folder_file *)a)->name, ((const struct folder_file *)b)->name);
}

static bool has_torch(const char *root)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json",
                                        "pytorch_model.bin", "pytorch_model.bin.index.json"};
    bool found = false;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *path = text_format("%s/%s", root, names[i]);
        found = found || (path && file_exists(path));
        free(path);
    }
    return found;
}

/* A folder's own name; of a snapshot in a Hugging Face cache, ".../models--ORG--NAME/snapshots/HASH",
 * the model's. */
static void name_model(const char *root, char *ret, size_t size)
{
    static const char kind[] = "models--", below[] = "/snapshots/";
    const char *base = strrchr(root, '/'), *end = strstr(root, below);
    base = base ? base + 1 : root;
    if (end && strchr(end + sizeof(below) - 1, '/') == NULL) {
        const char *repo = end;
        while (repo > root && repo[-1] != '/')
            repo--;
        if (strncmp(repo, kind, sizeof(kind) - 1) == 0) {
            for (const char *p = repo; p + 2 < end; p++)
                if (p[0] == '-' && p[1] == '-')
                    repo = p + 2;
            (void)snprintf(ret, size, "%.*s", (int)(end - repo), repo);
            return;
        }
    }
    (void)snprintf(ret, size, "%s", base);
}

bool folder_read(const char *path, const char *dtype, struct folder *ret, struct err *e)
{
    memset(ret, 0, sizeof(*ret));
    char *root = realpath(path, NULL);
    if (!root)
        return err_errno(e, ERR_NOT_FOUND, errno, "%s", path);
    ret->root = root;
    name_model(root, ret->name, sizeof(ret->name));
    bool ok = scan(ret, root, "", dtype, e) && scan(ret, root, "onnx/", dtype, e);
    int graphs = 0;
    for (int i = 0; i < ret->count; i++)
        graphs += folder_is_graph(&ret->files[i]);
    if (ok && graphs == 0)
        ok = err_set(e, ERR_NOT_FOUND, "%s: holds no .onnx file of dtype %s (in it or in onnx/)%s",
                     path, dtype,
                     has_torch(root) ? "; its PyTorch weights have to be exported to ONNX first"
                                     : "");
    if (!ok) {
        folder_clear(ret);
        return false;
    }
    qsort(ret->files, (size_t)ret->count, sizeof(ret->files[0]), by_name);
    return true;
}

void folder_clear(struct folder *f)
{
    for (int i = 0; i < f->count; i++)
        free(f->files[i].path);
    free(f->root);
    f->root = NULL;
    f->count = 0;
}
