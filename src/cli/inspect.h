/* inspect.h - what `inspect` has found, for its files. */
#pragma once
#include "base/buf.h"
#include "base/json.h"
#include "coord/cut.h"

/* One MODEL of the command line: a run of graphs. */
struct item {
    char name[192];
    const char *path;    /* borrowed from the command line */
    size_t first, count; /* graphs */
    json_t *tasks;       /* owned */
    /* of a folder: its side files, owned, and what can be worked out from them */
    char *texts[5];
    struct cut_source *source; /* owned; NULL: a bare file */
    uint64_t source_bytes;
};

struct inspection {
    const struct args *a;
    struct onnx *graphs[SHARE_MODELS_MAX]; /* owned */
    char *files[SHARE_MODELS_MAX];         /* owned: name within the model */
    size_t graph_count;
    struct item items[SHARE_MODELS_MAX];
    size_t item_count;
    struct share *share; /* owned */
};

bool inspect_item_has(const struct inspection *x, const struct item *item, size_t module);
const char *inspect_role(enum share_role role);

/* "image+text" */
void inspect_modalities(uint32_t bits, char *ret, size_t size);

/* inspect_dot.c: the graph of modules in the language of graphviz to a file, or "-" for stdout; a
 * file whose name ends in .svg is drawn by graphviz's `dot`, if that is installed. */
bool inspect_dot(const struct inspection *x, const char *file, struct err *e);
