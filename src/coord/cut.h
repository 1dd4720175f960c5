/* cut.h - models cut into modules, and their programs as calls of modules.
 *
 * Input: models as they were given (side files and opened .onnx files).  The graphs of all of them
 * are cut together (onnx/share.h), so that what is the same in several becomes one module.  Each
 * file then looks to task/model.h like several graphs, one for each set of inputs that outputs
 * depend on (a whole CLIP: a picture's graph, a text's, and one of both); the programs that it
 * works out are expanded to calls of modules.  Calls that no program needs are left out of the
 * programs; their modules are there all the same, for the check.
 *
 * A file that the decode loop runs stays whole: the loop knows its ports by their names, and runs
 * one module.  So does every file of a model that is marked so.
 *
 * A module's identity is the digest of what it computes together with the names of its inputs: an
 * input that a processor feeds bears that tensor's name, others are called in0, in1, ...
 *
 * Ownership: sources are kept and stay until cut_free().  Threads: one at a time.  Nothing is run
 * here.
 *
 * Unresolved: over SHARE_MODELS_MAX files the later ones stay whole. */
#pragma once
#include "onnx/share.h"
#include "task/model.h"

#define CUT_MIN_SHARE ((uint64_t)1 << 20) /* as `inspect` has it */
#define CUT_SOURCES_MAX 64
#define CUT_MODULES_MAX 4096

/* One .onnx file. */
struct cut_file {
    char name[WIRE_NAME_MAX]; /* without folder and .onnx */
    struct digest digest;
    struct onnx *onnx; /* kept */
};

/* A model as it was given. */
struct cut_source {
    struct model_source model; /* name and side files; graphs are filled in here */
    struct cut_file files[MODEL_GRAPHS_MAX];
    int file_count;
    bool whole; /* not to be cut */
};

struct cut_module {
    struct digest identity;
    struct digest
        digest; /* of its bytes: the caller's, once they are there; of a file: the file's */
    char name[WIRE_NAME_MAX];      /* for people */
    const struct cut_file *file;   /* of a module that is a whole file; else NULL, and */
    size_t share;                  /* number of the module in the share */
    struct port *inputs, *outputs; /* owned */
    int input_count, output_count;
    uint64_t weight_bytes, output_bytes; /* output_bytes: at batch 1, an estimate */
    double gflop;                        /* at batch 1; 0: not known */
    bool used;                           /* by a program */
    json_t *dims; /* {"PORT.INDEX": size} to measure it with; owned, or NULL */
};

struct cut_model;

struct cut {
    struct share *share;        /* owned; NULL: nothing was cut */
    struct cut_module *modules; /* owned; first those of the share under their numbers there */
    int module_count;
    struct cut_model *models; /* one for each source; private */
    int model_count;
};

/* Errors name the model. */
bool cut_find(struct cut_source *const *sources, int count, uint64_t min_share, struct cut **ret,
              struct err *e);
void cut_free(struct cut *c);

/* Index of the module, or -1. */
int cut_module_by_identity(const struct cut *c, const char *identity);

/* Writes a module that is no file to FOLDER (module.onnx, weights.bin). */
bool cut_write(const struct cut *c, int module, const char *folder, struct err *e);

int cut_file_count(const struct cut *c, int model);

/* What a model can do: a list of task names, a new reference; NULL: nothing that is known.  Its
 * files have been compared with others already, as graphs `first` and on of a share. */
json_t *cut_tasks(struct cut_source *source, struct share *share, size_t first, struct err *e);

/* Which modules a file consists of: flags by module; false: it is one module, itself. */
bool cut_file_modules(const struct cut *c, int model, int file, bool *ret);

/* What a node needs to compare the file with its modules (node/check.h); a new reference.  All
 * digests must be there. */
json_t *cut_check(const struct cut *c, int model, int file);

/* Bytes of a file's weights. */
uint64_t cut_file_bytes(const struct cut *c, int model, int file);

#define CUT_PAIRS_MAX 1024

/* Two calls of a file, `to` takes from `from`. */
struct cut_pair {
    size_t from, to;
    struct digest digest;       /* of the two joined, the caller's */
    struct share_joined joined; /* filled by cut_write_pair() */
};

/* The pairs of a file; cut_pairs_free().  Then each is written and named, and the question asked. */
bool cut_pairs(const struct cut *c, int model, int file, struct cut_pair **ret, int *count,
               struct err *e);
void cut_pairs_free(struct cut_pair *pairs, int count);
bool cut_write_pair(const struct cut *c, int model, int file, struct cut_pair *p,
                    const char *folder, struct err *e);
json_t *cut_check_pairs(const struct cut *c, int model, int file, const struct cut_pair *pairs,
                        int count);

/* The model as task/model.h's JSON: programs of module calls, "modules": those used.  A new
 * reference; NULL: no memory.  All digests of used modules must be there. */
json_t *cut_model_json(const struct cut *c, int model);
