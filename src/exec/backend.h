/* backend.h - what the three back ends have in common; private to exec.
 *
 * exec.c takes care of lanes, queue and checks; a back end loads and runs.  run() is called from
 * many threads at once, each with a lane number of its own below `lanes`. */
#pragma once
#include "exec/exec.h"

#define DIM_NAME_MAX 64

/* Names of a port's dynamic dims, "" for the others. */
struct port_dims {
    char name[TENSOR_RANK_MAX][DIM_NAME_MAX];
};

/* What a loaded module is like.  Owned arrays, info_clear(). */
struct module_info {
    int input_count, output_count;
    struct port *inputs, *outputs;
    struct port_dims *dims; /* of the inputs */
    bool prepared;          /* the prepared form was loaded */
    double load_ms, prepare_ms;
    uint64_t prepare_peak;
};

bool info_alloc(struct module_info *info, int inputs, int outputs, struct err *e);
void info_clear(struct module_info *info);

/* Threads of one run: as the options say, or what is left of the cores for one lane. */
int threads_of(const struct exec_options *o);

struct backend;

struct backend_ops {
    bool (*load)(struct backend *b, const char *folder, const char *digest, void **module,
                 struct module_info *info, struct err *e);
    void (*unload)(struct backend *b, void *module);
    /* inputs: one per port, in order, checked. outputs: zeroed places. */
    bool (*run)(struct backend *b, void *module, const struct module_info *info, int lane,
                const struct tensor *inputs, struct cancel *cancel, struct tensor *outputs,
                struct err *e);
    void (*status)(struct backend *b, struct exec_status *s); /* kind, version, pid, restarts */
    void (*destroy)(struct backend *b);
};

struct backend {
    const struct backend_ops *ops;
};

/* o is complete: defaults are filled in, texts live as long as the back end. */
bool local_create(const struct exec_options *o, struct backend **ret, struct err *e);
bool fake_create(const struct exec_options *o, struct backend **ret, struct err *e);
bool runner_create(const struct exec_options *o, struct backend **ret, struct err *e);
