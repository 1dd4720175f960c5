/* folder.h - the files of a model on the user's disk, in Hugging Face ONNX layout. */
#pragma once
#include "base/digest.h"

#include <stdint.h>

#define FOLDER_FILES_MAX 64
#define FOLDER_DEPTH 2

struct folder_file {
    char name[256]; /* within the folder: "onnx/vision_model.onnx" */
    char *path;     /* resolved, owned */
    uint64_t size;
    struct digest digest;
};

struct folder {
    char name[128]; /* of the model: the folder's own, or that of a cached model */
    char *root;     /* the folder, resolved; owned */
    struct folder_file files[FOLDER_FILES_MAX];
    int count;
};

/* Finds the side files and the .onnx files of one dtype ("fp32": names without a dtype suffix;
 * else "fp16", "int8", "q4", ...), and digests them.  Links are followed only to files within the
 * folder or the blobs/ of a Hugging Face cache around it. */
bool folder_read(const char *path, const char *dtype, struct folder *ret, struct err *e);
void folder_clear(struct folder *f);

/* Whether it is an .onnx file. */
bool folder_is_graph(const struct folder_file *file);

/* The blobs/ of the Hugging Face cache that a resolved path below its snapshots/ belongs to; free();
 * NULL: it is in none. */
char *folder_cache_blobs(const char *path);
