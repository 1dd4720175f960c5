/* order.c - the nodes of a graph so that each stands behind what it uses.
 *
 * Files should be written so, and if one is, its order stays.  But tools that append nodes are in
 * use (a conversion to halves puts its casts at the end), and the runtime sorts for itself.  Then
 * each node is put right before the first that needs it.  What is in a cycle stays where it is: the
 * reader then says which name is not defined. */
#include "onnx/intern.h"
#include "onnx/reader.h"

#include <stdlib.h>
#include <string.h>

enum { NODE_INPUT = 1, NODE_OUTPUT = 2, NODE_ATTR = 5, ATTR_GRAPH = 6, ATTR_GRAPHS = 11 };

struct order {
    const struct span *nodes;
    uint32_t count;
    struct intern names;    /* of outputs */
    POOL(uint32_t) makers;  /* of each name: its node */
    POOL(uint32_t) needs;   /* nodes, from first[i] to first[i + 1] */
    uint32_t *first, *next; /* owned; next: the need to look at */
    uint8_t *state;         /* owned: 0 not met, 1 under way, 2 done */
    POOL(uint32_t) path;
    struct err *e;
};

static bool find_makers(struct order *o)
{
    for (uint32_t i = 0; i < o->count; i++) {
        struct pb p = pb_over(o->nodes[i]);
        struct pb_field f;
        while (pb_next(&p, &f) == PB_FIELD) {
            uint32_t id, had = o->names.count;
            if (f.number != NODE_OUTPUT || f.wire != PB_BYTES || !f.bytes.size)
                continue;
            if (!intern_id(&o->names, f.bytes.data, f.bytes.size, &id, o->e))
                return false;
            if (id < had)
                continue;
            if (!POOL_ADD(o->makers, 1, INTERN_MAX, "names", o->e))
                return false;
            o->makers.items[id] = i;
        }
    }
    return true;
}

static bool in_order(const struct order *o)
{
    for (uint32_t i = 0; i < o->count; i++) {
        struct pb p = pb_over(o->nodes[i]);
        struct pb_field f;
        uint32_t id;
        while (pb_next(&p, &f) == PB_FIELD)
            if (f.number == NODE_INPUT && f.wire == PB_BYTES &&
                intern_find(&o->names, f.bytes.data, f.bytes.size, &id) && o->makers.items[id] >= i)
                return false;
    }
    return true;
}

/* What a node needs, its sub-graphs' nodes included. */
static bool find_needs(struct order *o, uint32_t node, struct span message, unsigned depth)
{
    struct pb p = pb_over(message);
    struct pb_field f, in, sub;
    uint32_t id;
    while (pb_next(&p, &f) == PB_FIELD) {
        if (f.number == NODE_INPUT && f.wire == PB_BYTES &&
            intern_find(&o->names, f.bytes.data, f.bytes.size, &id) &&
            (depth == 0 || o->makers.items[id] != node)) {
            if (!POOL_ADD(o->needs, 1, ONNX_EDGES_MAX, "edges", o->e))
                return false;
            o->needs.items[o->needs.count - 1] = o->makers.items[id];
        }
        if (f.number != NODE_ATTR || f.wire != PB_BYTES || depth > ONNX_DEPTH_MAX)
            continue;
        struct pb attr = pb_over(f.bytes);
        while (pb_next(&attr, &in) == PB_FIELD) {
            if ((in.number != ATTR_GRAPH && in.number != ATTR_GRAPHS) || in.wire != PB_BYTES)
                continue;
            struct pb graph = pb_over(in.bytes);
            while (pb_next(&graph, &sub) == PB_FIELD)
                if (sub.number == 1 && sub.wire == PB_BYTES &&
                    !find_needs(o, node, sub.bytes, depth + 1))
                    return false;
        }
    }
    return true;
}

static bool enter(struct order *o, uint32_t node)
{
    if (!POOL_ADD(o->path, 1, ONNX_NODES_MAX, "nodes", o->e))
        return false;
    o->path.items[o->path.count - 1] = node;
    o->state[node] = 1;
    return true;
}

/* Depth first, in the file's order; *ret_cycle: there is none. */
static bool sort(struct order *o, struct span *ret, bool *ret_cycle)
{
    uint32_t at = 0;
    *ret_cycle = false;
    for (uint32_t i = 0; i < o->count; i++) {
        if (o->state[i] == 0 && !enter(o, i))
            return false;
        while (o->path.count) {
            uint32_t node = o->path.items[o->path.count - 1];
            if (o->next[node] == o->first[node + 1]) {
                o->state[node] = 2;
                ret[at++] = o->nodes[node];
                o->path.count--;
                continue;
            }
            uint32_t need = o->needs.items[o->next[node]++];
            if (o->state[need] == 1) {
                *ret_cycle = true;
                return true;
            }
            if (o->state[need] == 0 && !enter(o, need))
                return false;
        }
    }
    return true;
}

static bool order(struct order *o, struct span *messages)
{
    struct span *sorted = calloc(o->count + 1u, sizeof(*sorted));
    o->first = calloc(o->count + 1u, sizeof(uint32_t));
    o->next = calloc(o->count + 1u, sizeof(uint32_t));
    o->state = calloc(o->count + 1u, 1);
    bool ok = (sorted && o->first && o->next && o->state) ||
              err_set(o->e, ERR_MEMORY, "order of nodes: no memory");
    for (uint32_t i = 0; ok && i < o->count; i++) {
        ok = find_needs(o, i, o->nodes[i], 0);
        o->first[i + 1] = o->needs.count;
    }
    bool cycle = false;
    if (ok)
        memcpy(o->next, o->first, o->count * sizeof(uint32_t));
    ok = ok && sort(o, sorted, &cycle);
    if (ok && !cycle)
        memcpy(messages, sorted, o->count * sizeof(*sorted));
    free(sorted);
    return ok;
}

bool order_nodes(struct span *messages, uint32_t count, struct err *e)
{
    struct order o = {.nodes = messages, .count = count, .e = e};
    bool ok = find_makers(&o) && (in_order(&o) || order(&o, messages));
    intern_done(&o.names);
    free(o.makers.items);
    free(o.needs.items);
    free(o.first);
    free(o.next);
    free(o.state);
    free(o.path.items);
    return ok;
}
