/* model_internal.h - between the two files that work out what a model can do. */
#pragma once
#include "task/model.h"

enum role { ROLE_ENCODER, ROLE_CLASSIFIER, ROLE_HEAD, ROLE_DECODER };

enum source_kind { FROM_MEDIA, FROM_GRAPH, FROM_LOOP }; /* LOOP: the decode loop provides it */

/* Where one input of a graph comes from. */
struct feed {
    enum source_kind kind;
    enum media_kind media;
    int graph, output; /* FROM_GRAPH */
};

struct graph_info {
    enum role role;
    struct feed feeds[MODEL_PORTS_MAX];
    bool reads[MEDIA_KINDS];  /* media that it takes itself */
    bool behind[MEDIA_KINDS]; /* media that it depends on, through others too */
    int embedding;            /* encoder: output that is its vector; classifier, head: logits; -1 */
};

struct deduction {
    const struct model_source *source;
    json_t *config, *generation, *hints; /* parsed; NULL where there is none */
    struct graph_info graphs[MODEL_GRAPHS_MAX];
    json_t *programs, *tasks;
    struct err *e;
};

/* graphs.c: fills `graphs`. */
bool deduce_graphs(struct deduction *d);
/* model.c */
bool deduce_programs(struct deduction *d);
