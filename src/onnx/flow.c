/* flow.c - Dinic's algorithm, without recursion. */
#include "onnx/flow.h"

#include <stdlib.h>
#include <string.h>

#define FLOW_EDGES_MAX 40000000u
#define SOURCE 0u
#define SINK 1u

bool flow_init(struct flow *f, uint32_t nodes, struct err *e)
{
    *f = (struct flow){.nodes = nodes};
    f->first = calloc(nodes, sizeof(*f->first));
    f->level = calloc(nodes, sizeof(*f->level));
    f->at = calloc(nodes, sizeof(*f->at));
    f->queue = calloc(nodes, sizeof(*f->queue));
    return (f->first && f->level && f->at && f->queue) || err_set(e, ERR_MEMORY, "cut: no memory");
}

void flow_done(struct flow *f)
{
    free(f->first);
    free(f->level);
    free(f->at);
    free(f->queue);
    free(f->edges);
    *f = (struct flow){0};
}

static void half(struct flow *f, uint32_t from, uint32_t to, uint64_t capacity)
{
    f->edges[f->edge_count] = (struct flow_edge){to, f->first[from], capacity};
    f->first[from] = ++f->edge_count;
}

bool flow_add(struct flow *f, uint32_t from, uint32_t to, uint64_t capacity, struct err *e)
{
    if (f->edge_count + 2 > f->edge_capacity) {
        uint32_t grown = f->edge_capacity ? f->edge_capacity * 2 : 1024;
        void *edges = grown > FLOW_EDGES_MAX ? NULL : realloc(f->edges, grown * sizeof(*f->edges));
        if (!edges)
            return err_set(e, ERR_MEMORY, "cut: no memory for %u edges", grown);
        f->edges = edges;
        f->edge_capacity = grown;
    }
    half(f, from, to, capacity);
    half(f, to, from, 0);
    return true;
}

static bool levels(struct flow *f)
{
    uint32_t head = 0, tail = 0;
    memset(f->level, 0, f->nodes * sizeof(*f->level));
    f->level[SOURCE] = 1;
    f->queue[tail++] = SOURCE;
    while (head < tail) {
        uint32_t n = f->queue[head++];
        for (uint32_t i = f->first[n]; i; i = f->edges[i - 1].next) {
            const struct flow_edge *edge = &f->edges[i - 1];
            if (edge->left && !f->level[edge->to]) {
                f->level[edge->to] = f->level[n] + 1;
                f->queue[tail++] = edge->to;
            }
        }
    }
    return f->level[SINK] != 0;
}

/* One blocking flow; queue holds the path's edges. */
static void push(struct flow *f)
{
    uint32_t depth = 0, n = SOURCE;
    memcpy(f->at, f->first, f->nodes * sizeof(*f->at));
    for (;;) {
        if (n == SINK) {
            uint64_t room = FLOW_INF;
            for (uint32_t i = 0; i < depth; i++)
                if (f->edges[f->queue[i]].left < room)
                    room = f->edges[f->queue[i]].left;
            for (uint32_t i = 0; i < depth; i++) {
                f->edges[f->queue[i]].left -= room;
                f->edges[f->queue[i] ^ 1].left += room;
            }
            n = SOURCE;
            depth = 0;
            continue;
        }
        uint32_t i = f->at[n];
        while (i && !(f->edges[i - 1].left && f->level[f->edges[i - 1].to] == f->level[n] + 1))
            i = f->edges[i - 1].next;
        f->at[n] = i;
        if (i) {
            f->queue[depth++] = i - 1;
            n = f->edges[i - 1].to;
        } else if (depth) {
            f->level[n] = 0;
            n = f->edges[f->queue[--depth] ^ 1].to;
        } else {
            return;
        }
    }
}

void flow_run(struct flow *f)
{
    while (levels(f))
        push(f);
}

void flow_side(struct flow *f, bool small, uint8_t *side)
{
    uint32_t head = 0, tail = 0, start = small ? SOURCE : SINK;
    memset(side, small ? 0 : 1, f->nodes);
    side[start] = small;
    f->queue[tail++] = start;
    while (head < tail) {
        uint32_t n = f->queue[head++];
        for (uint32_t i = f->first[n]; i; i = f->edges[i - 1].next) {
            uint32_t to = f->edges[i - 1].to;
            uint64_t left = f->edges[small ? i - 1 : (i - 1) ^ 1].left;
            if (left && side[to] != small) {
                side[to] = small;
                f->queue[tail++] = to;
            }
        }
    }
}
