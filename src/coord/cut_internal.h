/* cut_internal.h - between the files that cut models. */
#pragma once
#include "coord/cut.h"

/* Outputs of one file that depend on the same inputs, as a graph for task/model.h. */
struct cut_group {
    int file;
    bool whole;                    /* all of the file */
    struct digest digest;          /* a name for it, unique in the model */
    struct port *inputs, *outputs; /* owned */
    int input_count, output_count;
    double scale; /* as in task/model.h */
};

struct cut_model {
    struct cut_source *source;                 /* kept */
    int share[MODEL_GRAPHS_MAX];               /* number of each file in the share; -1: whole */
    int whole[MODEL_GRAPHS_MAX];               /* the module that a whole file is; else -1 */
    struct cut_group groups[MODEL_GRAPHS_MAX]; /* in the order of source->model.graphs */
    int group_count;
    json_t *deduced;           /* of task/model.h, owned; its programs call groups */
    json_t *dims;              /* of task/model.h: {group digest: {"PORT.INDEX": size}}; borrowed */
    struct program **programs; /* owned; calls name modules by identity */
    int program_count;
};

/* groups.c: the graphs that a model's files look like; fills source->model.graphs. */
bool cut_make_groups(struct cut *c, struct cut_model *m, struct err *e);
void cut_clear_groups(struct cut_model *m);

/* expand.c: a program of calls of groups as one of calls of modules; NULL with e set. */
struct program *cut_expand(const struct cut *c, const struct cut_model *m, const struct program *p,
                           struct err *e);

/* Index of a port, or -1. */
int cut_find_port(const struct port *ports, int count, const char *name);
/* Bytes of an output at batch 1, for meetings; dims that are not known get a guess. */
uint64_t cut_port_bytes(const struct port *p);
