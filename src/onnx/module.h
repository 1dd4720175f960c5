/* module.h - a module as nodes of one model, for module.c and write.c. */
#pragma once
#include "onnx/work.h"

/* One call of a region in one model. */
struct instance {
    uint32_t model, region;
    POOL(uint32_t) core;    /* canonical nodes of the region */
    POOL(uint32_t) nodes;   /* those and what is computed again, in topological order */
    POOL(uint32_t) ports;   /* values that come in, in canonical order */
    POOL(uint32_t) outputs; /* values that go out, in canonical order */
    POOL(uint32_t) written; /* original nodes, in the exporter's order */
    POOL(uint32_t) inits;   /* original values that are initialisers */
    POOL(uint32_t) shapes;  /* original values, computed from shapes that are known */
    struct digest digest;
    uint64_t form; /* hash of the exporter's operators */
    bool borrowed; /* has nodes of another model's: see adopt.c */
    uint32_t module;
};

/* instance.c */
bool instances_find(struct work *w, struct instance **ret, uint32_t *ret_count);
void instance_done(struct instance *x);
/* Canonical order of ports and outputs, and the digest. demanded: codes that any region needs. */
bool instance_name(struct work *w, struct instance *x, const struct intern *demanded);
/* original.c: what the exporter wrote for an instance. */
bool instance_original(struct work *w, struct instance *x);

/* Whether a value enters from outside when a node of the instance uses it. */
bool instance_is_port(const struct work *w, const struct wmodel *m, const uint8_t *inside,
                      uint32_t value);

/* near.c */
bool near_misses(struct work *w, struct share *s, const struct instance *list, uint32_t count);

struct module_detail {
    struct instance x;      /* owned */
    const struct wmodel *m; /* kept */
};

/* What join.c needs of a call. */
struct call_detail {
    uint32_t *nodes, *ports, *outputs; /* owned; as in struct instance */
    uint32_t node_count, port_count, output_count;
    bool borrowed;
};

/* join.c */
bool call_keep(const struct instance *x, void **ret, struct err *e);
void call_detail_free(void *detail);
/* One more output, of the value of output k. */
bool call_add_output(void *detail, uint32_t k, struct err *e);

/* half.c: after all else. */
bool modules_widen(struct share *s, struct err *e);
/* Of a port that halves cross as floats: whether a Sum stands for what is beyond it. */
bool half_needs_sum(const struct fgraph *g, const struct instance *x, bool input, uint32_t value);

/* write.c: ports of the module agree with those of the instance. */
bool module_write(const struct instance *x, const struct wmodel *m,
                  const struct share_module *module, const char *const *names, const char *folder,
                  struct err *e);
