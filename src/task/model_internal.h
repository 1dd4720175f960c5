/* model_internal.h - between the files that work out what a model can do.
 *
 * In their order: model.c reads the side files, graphs.c gives each graph its role and each input
 * its source, programs.c makes programs of that, sizes.c checks them against the processors. */
#pragma once
#include "task/model.h"

struct processor; /* media/processor.h */

enum role {
    ROLE_ENCODER,    /* media to a vector or states */
    ROLE_CLASSIFIER, /* media to logits */
    ROLE_HEAD,       /* others' outputs (and maybe media) to logits */
    ROLE_DECODER,    /* run by the decode loop */
};

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
    bool called;              /* by a program */
    int result;               /* output that is its vector or its logits [1,n]; -1: none */
};

struct deduction {
    const struct model_source *source;
    json_t *config, *generation, *hints; /* parsed; NULL where there is none */
    struct graph_info graphs[MODEL_GRAPHS_MAX];
    bool used[MEDIA_KINDS]; /* media whose processors the programs name */
    json_t *programs, *tasks;
    struct err *e;
};

/* graphs.c: fills `graphs`. */
bool deduce_graphs(struct deduction *d);

/* programs.c: fills `programs`, `tasks`, `used`. */
bool deduce_programs(struct deduction *d);

/* sizes.c.  processors: NULL where a kind is not used. */
bool deduce_check_ports(const struct deduction *d, struct processor *const processors[MEDIA_KINDS]);
/* {digest: {"PORT.INDEX": value}}: dynamic dims as a request would bring them. */
json_t *deduce_dims(const struct deduction *d, struct processor *const processors[MEDIA_KINDS]);
