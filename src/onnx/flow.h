/* flow.h - minimum cuts (Dinic's algorithm: E. A. Dinic, 1970). */
#pragma once
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define FLOW_INF ((uint64_t)1 << 60)

struct flow_edge {
    uint32_t to, next; /* next edge of the same node + 1 */
    uint64_t left;     /* capacity that is left; edge ^ 1 is the way back */
};

struct flow {
    uint32_t nodes;                       /* 0: source, 1: sink */
    uint32_t *first, *level, *at, *queue; /* owned */
    struct flow_edge *edges;              /* owned */
    uint32_t edge_count, edge_capacity;
};

bool flow_init(struct flow *f, uint32_t nodes, struct err *e);
bool flow_add(struct flow *f, uint32_t from, uint32_t to, uint64_t capacity, struct err *e);
void flow_run(struct flow *f);
void flow_done(struct flow *f);

/* After flow_run(): marks the source's side.  small: as few nodes as a minimum cut can leave there;
 * else as many. side has one byte for each node. */
void flow_side(struct flow *f, bool small, uint8_t *side);
