/* share.h - models cut into modules, and what of them is the same in several models.
 *
 * The steps, over all models at once:
 *   1 fold       each model to its canonical graph                               fold.h
 *     adopt      what is fixed in one export and dynamic in another                adopt.c
 *   2 classes    nodes that compute the same from the inputs on have one class   fingerprint.c
 *   3 match      equal parts behind different things: ports are put there        match.c
 *   4 colours    who has a class, and which modalities it depends on             colour.c
 *   5 cuts       boundaries where few tensors cross                              cut.c
 *   6 regions    connected, acyclic parts of one colour; small ones fold         region.c
 *   7 modules    each region in each model as nodes with numbered ports; its digest is its identity
 *                (so a wrong guess of the steps before costs sharing, never truth) module.c
 *
 * Ownership: models are kept and stay open until share_free().  Threads: one at a time.
 *
 * Unresolved: weights used by different operators only count as near misses; a decoder with fixed
 * axes behind another encoder than the dynamic one's. */
#pragma once
#include "base/digest.h"
#include "onnx/onnx.h"

#define SHARE_MODELS_MAX 64u
#define SHARE_CALLS_MAX 4096u

/* Where a tensor comes from: an input of the model, or an output of one of its calls. */
struct share_ref {
    bool call;
    uint32_t index;  /* input, or call */
    uint32_t output; /* of the call */
};

struct share_call {
    uint32_t module;
    struct share_ref *inputs; /* owned; one for each input of the module */
    void *detail;             /* owned by share, for join.c */
};

struct share_model {
    struct onnx *m;    /* kept */
    uint32_t *modules; /* owned: distinct, in order of first call */
    size_t module_count;
    struct share_call *calls; /* owned, in an order in which they can run */
    size_t call_count;
    struct share_ref *outputs; /* owned: one for each output of the model */
    uint64_t source_bytes;
};

enum share_role { SHARE_ENCODER, SHARE_HEAD, SHARE_DECODER, SHARE_OTHER };

struct share_module {
    struct digest digest;
    uint64_t models; /* one bit for each model that has it */
    enum share_role role;
    bool by_pattern;     /* equal by a canonical form, not node by node */
    uint32_t modalities; /* bits of enum share_modality */
    size_t nodes;        /* of the exporter, as written */
    uint64_t weight_bytes;
    double flops;                  /* batch 1; NaN: not known */
    struct port *inputs, *outputs; /* owned; names are canonical: in0 ..., out0 ... */
    size_t input_count, output_count;
    uint32_t model; /* whose nodes are written */
    void *detail;   /* owned by share, for write.c */
};

/* In this order they are named. */
enum share_modality { SHARE_IMAGE = 1, SHARE_AUDIO = 2, SHARE_TEXT = 4, SHARE_TENSOR = 8 };

enum share_near_kind {
    SHARE_NEAR_FORM,     /* weights that both have, and no common module holds */
    SHARE_NEAR_CHANGED,  /* weights of models[1] whose like in models[0] has other content */
    SHARE_NEAR_ROUNDING, /* parts of models[1] that models[0] computes: see fixed_axes */
};

/* What two models nearly share.  Layers are told by names, for people. */
struct share_near {
    uint32_t models[2];
    enum share_near_kind kind;
    uint32_t tensors, of; /* CHANGED: of so many weights of models[1] */
    uint64_t bytes;
    char why[256]; /* CHANGED: "in 2 of 148 weights, from layer 10 on" */
};

struct share {
    struct share_model *models; /* owned */
    size_t model_count;
    struct share_module *modules; /* owned */
    size_t module_count;
    struct share_near *near; /* owned */
    size_t near_count;
    uint64_t unshared_bytes, shared_bytes;
    struct work *work; /* private */
};

struct share_options {
    uint64_t min_share; /* bytes that sharing must save for a region to be a module of its own */
    /* A model whose axes are all fixed may use the modules of a dynamic export of the same weights
     * (adopt.c).  The runtime fuses more where it knows all dims, so the last bits of the answers
     * may be those of the dynamic export.  Without it only models with a dynamic batch do so. */
    bool fixed_axes;
};

bool share_find_as(struct onnx *const *models, size_t count, const struct share_options *options,
                   struct share **ret, struct err *e);

/* Without fixed_axes. */
bool share_find(struct onnx *const *models, size_t count, uint64_t min_share, struct share **ret,
                struct err *e);
void share_free(struct share *s);

/* A constant of a canonical graph, by content: equal ones of two models have equal keys. */
struct share_constant {
    uint64_t key; /* the first 64 bits of its digest */
    uint64_t bytes;
};

/* The distinct constants of model number i that take so many bytes or more, in order of key;
 * *ret: free().  Models without any in common share nothing that holds weights. */
bool share_constants(const struct share *s, size_t i, uint64_t least, struct share_constant **ret,
                     size_t *count, struct err *e);

/* Writes module number i to FOLDER/module.onnx and FOLDER/weights.bin (none when it has no constant
 * of 1 KiB and more); the folder must be there. */
bool share_write(const struct share *s, size_t i, const char *folder, struct err *e);
/* The same, its inputs under other names: one for each, all different, none like out0. */
bool share_write_as(const struct share *s, size_t i, const char *const *names, const char *folder,
                    struct err *e);

/* Two calls of a model as one module, to compare with the two apart. */
struct share_joined {
    struct share_ref *inputs; /* owned: where in0, in1, ... come from */
    size_t input_count;
    struct share_ref *outputs; /* owned: which outputs of the two out0, out1, ... are: those that
                                  others than the two need */
    size_t output_count;
};

/* Writes it to FOLDER as share_write() does.  from: a call that `to` takes from.
 * ERR_UNSUPPORTED: one of the two is made of nodes of another model. */
bool share_write_joined(const struct share *s, size_t model, size_t from, size_t to,
                        const char *folder, struct share_joined *ret, struct err *e);
void share_joined_clear(struct share_joined *j);
