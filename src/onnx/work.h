/* work.h - the data of share_find() between its steps, for the files of this folder only.
 *
 *   models[]    each with its canonical graph; every node has a class, every value a code
 *   classes[]   nodes that compute the same; edges between them are those of all models together
 *
 * A code says what a value is: a constant, a leaf (input or port) or an output of a class.  A port
 * is put on values by a token: who uses the value sees the token instead of the value's own code.
 *
 * A class is light when it depends on no input's content, only on shapes, and neither it nor what
 * it is computed from holds a table of numbers: it belongs to no module; every module that uses it
 * computes it again.  A class that is `copied` is likewise computed again by each of its users. */
#pragma once
#include "onnx/fold.h"
#include "onnx/share.h"

#define CODE_CONST ((uint64_t)1 << 62)
#define CODE_LEAF ((uint64_t)2 << 62)
#define CODE_NODE ((uint64_t)3 << 62)
#define CODE_SLOT_BITS 16
#define CODE_MASK (((uint64_t)1 << 62) - 1)

#define NO_REGION UINT32_MAX

struct wmodel {
    struct fgraph *g; /* owned */
    uint32_t *cls;    /* owned: class of each node (ONNX_NONE: dead) */
    uint64_t *code;   /* owned: of each value, before tokens */
    uint32_t *token;  /* owned: of each value; 0: none */
    uint64_t *mask;   /* owned: of each value: modalities that it depends on */
    uint8_t *group;   /* owned: modality of each input */
    uint64_t caches;  /* modalities that hold the cache of a decoder */
    bool dynamic;     /* has dims that are not fixed, or nodes of a model that has */
};

struct wclass {
    uint32_t sig;
    uint32_t local;             /* operator and constants, whatever the other inputs are */
    uint64_t owners;            /* models */
    uint64_t weight;            /* bytes of its constants */
    bool depends;               /* on the content of an input */
    bool light, copied, output; /* output: of a model */
    bool spatial;   /* makes a picture (rank 4 and more): convolutions have layouts of their own */
    bool adds_conv; /* an Add of a picture that a convolution makes */
    bool ported;    /* a token stands on one of its values */
    uint64_t colour;
    uint32_t order; /* topological */
    uint32_t region;
    uint32_t edge_first, edge_count; /* users, in work.edges */
};

#define EDGE_TOKEN 1u /* through a port */
struct wedge {
    uint32_t from, to; /* classes */
    uint64_t value;    /* code that crosses */
    uint64_t models;   /* in which it is there */
    uint32_t flags;
};

struct token_code {
    uint64_t code;
    uint32_t token;
};

struct work {
    struct known known;
    struct wmodel *models; /* owned */
    uint32_t model_count;
    struct intern leaves, class_ids, locals;
    POOL(struct wclass) classes;
    POOL(struct wedge) edges;       /* sorted by from, to, value; each once */
    POOL(struct token_code) tokens; /* sorted by code: every value of that code is a port */
    uint32_t *sorted;               /* owned: classes that models have, in topological order */
    uint32_t sorted_count;
    bool turned; /* models have parts in different orders: sorted heeds no ports */
    uint32_t next_token;
    uint64_t min_share;
    bool fixed_axes;
    POOL(struct fgraph *) spare; /* owned: graphs that constants were computed in */
    uint64_t whole;              /* models that stay one module: they could not be split */
    uint64_t unsplit;            /* the model that a step could not split */
    uint64_t apart; /* models with fixed axes that stay as they are: they can't be written else */
    uint64_t unadopted; /* the model that a step found to be such */
    uint64_t crossing;  /* what a tensor that crosses costs, in bytes of weights */
    uint32_t region_count;
    uint8_t *joined; /* owned: regions whose nodes in a model are one call, connected or not */
    struct err *e;
};

/* fingerprint.c: classes of all nodes under the present tokens; owners and weights. */
bool work_classes(struct work *w);
/* fingerprint.c: edges and topological order.  Parts that stand in another order in one model than
 * in another (behind ports) make a cycle of all models' edges: the order is then that of what is
 * between ports.  *ret_cycle: there is no such order either. */
bool work_edges(struct work *w, bool *ret_cycle);
/* Bytes that sharing of equal classes saves. */
uint64_t work_gain(const struct work *w);
uint64_t value_code(const struct work *w, const struct wmodel *m,
                    uint32_t value); /* after tokens */

/* cut.c: what it costs that a value of a class crosses; cls ONNX_NONE: an input.  CROSSING_NEVER:
 * bits would be others. */
#define CROSSING_NEVER ((uint64_t)1 << 48) /* more than all weights */
uint64_t work_crossing(const struct work *w, uint32_t cls);

bool work_model_init(struct work *w, struct wmodel *m); /* share.c: all but its graph */
bool work_adopt(struct work *w);                        /* adopt.c */
bool work_match(struct work *w);                        /* match.c */
bool work_colours(struct work *w);                      /* colour.c */
bool work_cuts(struct work *w);                         /* cut.c */
bool work_regions(struct work *w);                      /* region.c */
bool work_modules(struct work *w, struct share *s);     /* module.c */
void module_detail_free(void *detail);
void work_clear(struct work *w);

/* adopt.c: whether a model's answers are the same bits with modules of a dynamic export. */
bool adopt_keeps_bits(const struct onnx *m);

/* Modality of a model's input, for people. */
enum share_modality colour_kind(const struct onnx *m, uint32_t input);

static inline bool class_is(const struct work *w, uint32_t cls, const char *op)
{
    const struct fsig *s = &w->known.sigs.items[w->classes.items[cls].sig];
    return s->plain && span_is(s->op, op);
}
