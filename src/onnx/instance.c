/* instance.c - where a region stands in a model, as nodes with ports; its digest.
 *
 * A region's nodes of one model fall into connected parts: each is one call.  To them come the
 * nodes that belong to nobody (light ones) or are computed again (copied ones), back to the ports.
 *
 * The digest is taken over a canonical walk: outputs in the order of a structural hash, from each
 * of them depth first along the inputs; nodes and ports are numbered as they are met.  It says
 * which port goes where, so f(x, y) and f(x, x) differ, as do (ids, mask) and (mask, ids). */
#include "onnx/module.h"

#include <stdlib.h>
#include <string.h>

#define INSIDE_CORE 1u
#define INSIDE_AGAIN 2u

bool instance_is_port(const struct work *w, const struct wmodel *m, const uint8_t *inside,
                      uint32_t value)
{
    const struct fvalue *v = &m->g->values.items[value];
    if (v->kind == FV_INPUT)
        return true;
    if (v->kind != FV_NODE)
        return false;
    return !inside[v->index] || value_code(w, m, value) != m->code[value];
}

/* ---- calls ---- */

static uint32_t find(uint32_t *parent, uint32_t i)
{
    while (parent[i] != i) {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    return i;
}

static uint32_t region_of(const struct work *w, const struct wmodel *m, uint32_t node)
{
    return m->cls[node] == ONNX_NONE ? NO_REGION : w->classes.items[m->cls[node]].region;
}

static void connect(const struct work *w, const struct wmodel *m, uint32_t *parent, uint32_t *first)
{
    const struct fgraph *g = m->g;
    for (uint32_t i = 0; i < g->nodes.count; i++)
        parent[i] = i;
    for (uint32_t i = 0; i < g->nodes.count; i++) {
        uint32_t own = region_of(w, m, i);
        if (own != NO_REGION && w->joined[own]) {
            if (first[own])
                parent[find(parent, i)] = find(parent, first[own] - 1);
            else
                first[own] = i + 1;
        }
        for (uint32_t k = 0; own != NO_REGION && k < g->nodes.items[i].in_count; k++) {
            uint32_t value = g->edges.items[g->nodes.items[i].in_first + k];
            const struct fvalue *v = &g->values.items[value];
            if (v->kind == FV_NODE && region_of(w, m, v->index) == own &&
                value_code(w, m, value) == m->code[value])
                parent[find(parent, i)] = find(parent, v->index);
        }
    }
}

/* Adds to inside what is computed again for the core's sake, and lists all nodes. */
static bool close_over(struct work *w, struct instance *x, uint8_t *inside)
{
    const struct wmodel *m = &w->models[x->model];
    const struct fgraph *g = m->g;
    uint32_t last = x->core.items[x->core.count - 1];
    for (uint32_t i = 0; i < x->core.count; i++)
        inside[x->core.items[i]] = INSIDE_CORE;
    for (uint32_t i = last + 1; i-- > 0;)
        for (uint32_t k = 0; inside[i] && k < g->nodes.items[i].in_count; k++) {
            uint32_t value = g->edges.items[g->nodes.items[i].in_first + k];
            const struct fvalue *v = &g->values.items[value];
            if (v->kind == FV_NODE && !inside[v->index] && region_of(w, m, v->index) == NO_REGION &&
                value_code(w, m, value) == m->code[value])
                inside[v->index] = INSIDE_AGAIN;
        }
    for (uint32_t i = 0; i <= last; i++)
        if (inside[i]) {
            if (!POOL_ADD(x->nodes, 1, ONNX_NODES_MAX, "nodes", w->e))
                return false;
            x->nodes.items[x->nodes.count - 1] = i;
        }
    return true;
}

static bool add_value(struct work *w, uint32_t **items, uint32_t *count, uint32_t *capacity,
                      uint32_t value)
{
    for (uint32_t i = 0; i < *count; i++)
        if ((*items)[i] == value)
            return true;
    if (!pool_room((void **)items, count, capacity, sizeof(uint32_t), 1, ONNX_EDGES_MAX, "ports",
                   w->e))
        return false;
    (*items)[*count - 1] = value;
    return true;
}

static bool find_ports(struct work *w, struct instance *x, const uint8_t *inside)
{
    const struct wmodel *m = &w->models[x->model];
    for (uint32_t i = 0; i < x->nodes.count; i++) {
        const struct fnode *n = &m->g->nodes.items[x->nodes.items[i]];
        for (uint32_t k = 0; k < n->in_count; k++) {
            uint32_t value = m->g->edges.items[n->in_first + k];
            if (instance_is_port(w, m, inside, value) &&
                !add_value(w, &x->ports.items, &x->ports.count, &x->ports.capacity, value))
                return false;
        }
    }
    return true;
}

static bool model_instances(struct work *w, uint32_t model, struct instance **list, uint32_t *count,
                            uint32_t *capacity)
{
    const struct wmodel *m = &w->models[model];
    uint32_t nodes = m->g->nodes.count;
    uint32_t *parent = calloc(nodes + 1u, sizeof(*parent)), *of = calloc(nodes + 1u, sizeof(*of));
    uint32_t *first = calloc(w->region_count + 1u, sizeof(*first));
    uint8_t *inside = calloc(nodes + 1u, 1);
    bool ok =
        (parent && of && inside && first) || err_set(w->e, ERR_MEMORY, "instances: no memory");
    uint32_t from = *count;
    if (ok)
        connect(w, m, parent, first);
    for (uint32_t i = 0; ok && i < nodes; i++) {
        if (region_of(w, m, i) == NO_REGION)
            continue;
        uint32_t root = find(parent, i);
        if (!of[root]) {
            ok = pool_room((void **)list, count, capacity, sizeof(**list), 1, SHARE_CALLS_MAX,
                           "calls of modules", w->e);
            if (!ok)
                break;
            (*list)[*count - 1] = (struct instance){.model = model, .region = region_of(w, m, i)};
            of[root] = *count;
        }
        struct instance *x = &(*list)[of[root] - 1];
        ok = POOL_ADD(x->core, 1, ONNX_NODES_MAX, "nodes", w->e);
        if (ok)
            x->core.items[x->core.count - 1] = i;
    }
    for (uint32_t i = from; ok && i < *count; i++) {
        memset(inside, 0, nodes);
        ok = close_over(w, &(*list)[i], inside) && find_ports(w, &(*list)[i], inside);
    }
    free(parent);
    free(of);
    free(first);
    free(inside);
    return ok;
}

bool instances_find(struct work *w, struct instance **ret, uint32_t *ret_count)
{
    uint32_t capacity = 0;
    *ret = NULL;
    *ret_count = 0;
    for (uint32_t i = 0; i < w->model_count; i++)
        if (!model_instances(w, i, ret, ret_count, &capacity))
            return false;
    return true;
}

void instance_done(struct instance *x)
{
    free(x->core.items);
    free(x->nodes.items);
    free(x->ports.items);
    free(x->outputs.items);
    free(x->written.items);
    free(x->inits.items);
    free(x->shapes.items);
    *x = (struct instance){0};
}

/* ---- names ---- */

struct namer {
    struct work *w;
    struct instance *x;
    const struct wmodel *m;
    uint8_t *inside;       /* owned */
    uint64_t *hash;        /* owned: structural hash of a node */
    uint32_t *number;      /* owned: of a node in the walk, + 1 */
    uint32_t *port_number; /* owned: of a value, + 1 */
    uint32_t ports, numbers;
    POOL(uint32_t) stack;
    struct digest_ctx *digest; /* owned until finished */
};

static uint64_t input_hash(const struct namer *n, uint32_t value)
{
    const struct fvalue *v = &n->m->g->values.items[value];
    if (instance_is_port(n->w, n->m, n->inside, value)) {
        int64_t key[2] = {v->type, v->rank};
        return intern_hash(key, sizeof(key), 11);
    }
    if (v->kind == FV_CONST)
        return intern_hash(n->w->known.consts.items[v->index].digest.hex, DIGEST_HEX, 12);
    return v->kind == FV_NODE ? n->hash[v->index] * 31 + v->slot : 13;
}

static void hash_nodes(struct namer *n)
{
    const struct fgraph *g = n->m->g;
    for (uint32_t i = 0; i < n->x->nodes.count; i++) {
        uint32_t node = n->x->nodes.items[i];
        const struct fnode *f = &g->nodes.items[node];
        const struct intern_key *sig = &n->w->known.sig_ids.keys[f->sig];
        uint64_t h = intern_hash(sig->data, sig->size, 14);
        for (uint32_t k = 0; k < f->in_count; k++) {
            uint64_t key[2] = {h, input_hash(n, g->edges.items[f->in_first + k])};
            h = intern_hash(key, sizeof(key), 15);
        }
        n->hash[node] = h;
    }
}

struct ranked {
    uint64_t hash;
    uint32_t value;
};

static int by_hash(const void *x, const void *y)
{
    const struct ranked *a = x, *b = y;
    if (a->hash != b->hash)
        return (a->hash > b->hash) - (a->hash < b->hash);
    return (a->value > b->value) - (a->value < b->value);
}

/* Values of the core that somebody else needs, in canonical order. */
static bool pick_outputs(struct namer *n, const struct intern *demanded)
{
    struct instance *x = n->x;
    POOL(struct ranked) found = {0};
    bool ok = true;
    for (uint32_t i = 0; ok && i < x->core.count; i++) {
        const struct fnode *f = &n->m->g->nodes.items[x->core.items[i]];
        for (uint32_t k = 0; ok && k < f->out_count; k++) {
            uint32_t value = n->m->g->edges.items[f->out_first + k], id;
            if (!intern_find(demanded, &n->m->code[value], sizeof(uint64_t), &id))
                continue;
            ok = POOL_ADD(found, 1, ONNX_EDGES_MAX, "outputs", n->w->e);
            if (ok)
                found.items[found.count - 1] =
                    (struct ranked){n->hash[x->core.items[i]] * 31 + k, value};
        }
    }
    if (ok && found.count)
        qsort(found.items, found.count, sizeof(*found.items), by_hash);
    for (uint32_t i = 0; ok && i < found.count; i++)
        ok = add_value(n->w, &x->outputs.items, &x->outputs.count, &x->outputs.capacity,
                       found.items[i].value);
    free(found.items);
    for (size_t i = 0; ok && n->w->whole >> x->model & 1 && i < n->m->g->m->output_count; i++)
        if (n->m->g->values.items[n->m->g->outputs[i]].kind == FV_CONST)
            ok = add_value(n->w, &x->outputs.items, &x->outputs.count, &x->outputs.capacity,
                           n->m->g->outputs[i]);
    return ok;
}

static void put(struct namer *n, const void *data, size_t size)
{
    digest_add(n->digest, data, size);
}

static void put_input(struct namer *n, uint32_t value)
{
    const struct fvalue *v = &n->m->g->values.items[value];
    if (instance_is_port(n->w, n->m, n->inside, value)) {
        if (!n->port_number[value])
            n->port_number[value] = ++n->ports;
        int64_t key[4] = {1, n->port_number[value], v->type, v->rank};
        put(n, key, sizeof(key));
    } else if (v->kind == FV_CONST) {
        int64_t key[1] = {2};
        put(n, key, sizeof(key));
        put(n, n->w->known.consts.items[v->index].digest.hex, DIGEST_HEX);
    } else if (v->kind == FV_NODE) {
        int64_t key[3] = {3, n->number[v->index], v->slot};
        put(n, key, sizeof(key));
    } else {
        int64_t key[1] = {4};
        put(n, key, sizeof(key));
    }
}

static void put_node(struct namer *n, uint32_t node)
{
    const struct fnode *f = &n->m->g->nodes.items[node];
    const struct intern_key *sig = &n->w->known.sig_ids.keys[f->sig];
    uint64_t head[2] = {sig->size, f->in_count};
    put(n, head, sizeof(head));
    put(n, sig->data, sig->size);
    for (uint32_t k = 0; k < f->in_count; k++)
        put_input(n, n->m->g->edges.items[f->in_first + k]);
    n->number[node] = ++n->numbers;
}

static bool push_node(struct namer *n, uint32_t node)
{
    if (!POOL_ADD(n->stack, 1, ONNX_EDGES_MAX, "nodes", n->w->e))
        return false;
    n->stack.items[n->stack.count - 1] = node;
    return true;
}

/* Depth first: a node is put when all that it needs has been. */
static bool walk(struct namer *n, uint32_t output)
{
    const struct fgraph *g = n->m->g;
    if (!push_node(n, g->values.items[output].index))
        return false;
    while (n->stack.count) {
        uint32_t node = n->stack.items[n->stack.count - 1], depth = n->stack.count;
        const struct fnode *f = &g->nodes.items[node];
        for (uint32_t k = f->in_count; !n->number[node] && k-- > 0;) {
            uint32_t value = g->edges.items[f->in_first + k];
            const struct fvalue *v = &g->values.items[value];
            if (v->kind == FV_NODE && !instance_is_port(n->w, n->m, n->inside, value) &&
                !n->number[v->index] && !push_node(n, v->index))
                return false;
        }
        if (n->stack.count != depth)
            continue;
        n->stack.count--;
        if (!n->number[node])
            put_node(n, node);
    }
    return true;
}

/* Keeps what the walk met: dead nodes and ports of theirs are dropped, ports get their order. */
static void settle(struct namer *n)
{
    struct instance *x = n->x;
    uint32_t count = 0;
    for (uint32_t i = 0; i < x->nodes.count; i++)
        if (n->number[x->nodes.items[i]])
            x->nodes.items[count++] = x->nodes.items[i];
    x->nodes.count = count;
    uint32_t *order = x->ports.items;
    uint32_t had = x->ports.count;
    for (uint32_t i = 0; i < had; i++) /* a permutation in place, by swapping to where it belongs */
        while (n->port_number[order[i]] && n->port_number[order[i]] - 1 != i &&
               n->port_number[order[i]] <= n->ports) {
            uint32_t to = n->port_number[order[i]] - 1, value = order[to];
            order[to] = order[i];
            order[i] = value;
        }
    x->ports.count = n->ports;
}

static bool name(struct namer *n, const struct intern *demanded)
{
    struct instance *x = n->x;
    for (uint32_t i = 0; i < x->nodes.count; i++)
        n->inside[x->nodes.items[i]] = 1;
    hash_nodes(n);
    if (!pick_outputs(n, demanded))
        return false;
    n->digest = digest_start();
    if (!n->digest)
        return err_set(n->w->e, ERR_MEMORY, "digest: no memory");
    put(n, "s2m3 module 1", 13);
    for (uint32_t i = 0; i < x->outputs.count; i++)
        if (n->m->g->values.items[x->outputs.items[i]].kind == FV_NODE &&
            !walk(n, x->outputs.items[i]))
            return false;
    for (uint32_t i = 0; i < x->outputs.count; i++) {
        const struct fvalue *v = &n->m->g->values.items[x->outputs.items[i]];
        int64_t key[3] = {5, v->kind == FV_NODE ? n->number[v->index] : 0, v->slot};
        put(n, key, sizeof(key));
        if (v->kind == FV_CONST)
            put_input(n, x->outputs.items[i]);
    }
    x->digest = digest_finish(n->digest);
    n->digest = NULL;
    settle(n);
    return true;
}

bool instance_name(struct work *w, struct instance *x, const struct intern *demanded)
{
    struct namer n = {.w = w, .x = x, .m = &w->models[x->model]};
    uint32_t nodes = n.m->g->nodes.count + 1u, values = n.m->g->values.count + 1u;
    n.inside = calloc(nodes, 1);
    n.hash = calloc(nodes, sizeof(uint64_t));
    n.number = calloc(nodes, sizeof(uint32_t));
    n.port_number = calloc(values, sizeof(uint32_t));
    bool ok = (n.inside && n.hash && n.number && n.port_number) ||
              err_set(w->e, ERR_MEMORY, "modules: no memory");
    ok = ok && name(&n, demanded);
    if (n.digest)
        (void)digest_finish(n.digest);
    free(n.inside);
    free(n.hash);
    free(n.number);
    free(n.port_number);
    free(n.stack.items);
    return ok;
}
