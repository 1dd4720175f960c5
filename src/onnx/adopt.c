/* adopt.c - an export with fixed axes takes the form of one with dynamic axes.
 *
 * Exporters write shapes as numbers when axes are fixed and compute them when they are not.  The
 * model with fixed axes (the guest) computes what the dynamic one (the host) does at its dims: so
 * the host's graph is folded once more at those dims, and where a node of the guest is then of one
 * class with a node of the host, the guest's constant is replaced by the host's nodes that compute
 * it.  The two are then one class, and the host's module serves both.
 *
 * Why that is true: what the host's nodes compute at the guest's dims was folded to a constant, and
 * it is the guest's, byte for byte.
 *
 * Borrowed nodes have no origins: what is written for a guest alone are its own nodes. */
#include "onnx/work.h"

#include <stdlib.h>
#include <string.h>

#define ADOPT_MIN 4096u /* bytes of weights in common that make it worth a try */
#define ADOPT_DEPTH_MAX 2000u
#define ADOPT_STEPS_MAX 2000000000u

struct code_value {
    uint64_t code;
    uint32_t value;
};

struct adopt {
    struct work *w;
    struct fgraph *guest;     /* kept: as it was; compared with each host */
    struct fgraph *made;      /* owned until it replaces the guest: a copy with borrowed nodes */
    POOL(uint32_t) before;    /* of each borrowed node: the guest's node that it stands before */
    POOL(struct fnode) nodes; /* borrowed */
    struct intern same;       /* (signature, inputs) to borrowed node */
    uint8_t *done;            /* owned: the guest's nodes that have adopted */
    bool again; /* there was a host before: the guest was folded at its own dims, and has lost the
                   form of hosts of the same dims */
    /* of one host */
    const struct fgraph *host;
    struct fgraph *at_dims; /* kept by work.spare: the host folded at the guest's dims */
    struct infer seen[2];
    uint32_t *bind; /* owned: host's input to the guest's; ONNX_NONE: none */
    struct work pair;
    struct code_value *codes; /* owned, sorted: values of the guest */
    uint32_t code_count;
    uint32_t *node_of;      /* owned: original node to the host's node, + 1 */
    uint32_t *twin;         /* owned: class to its first node of at_dims, + 1 */
    uint32_t *next;         /* owned: node of at_dims to the next one of its class, + 1 */
    uint32_t *partner;      /* owned: the guest's node to the one of at_dims, + 1 */
    uint32_t *memo;         /* owned: host's value to the guest's, of one operand */
    POOL(uint32_t) touched; /* values that have a memo */
    uint8_t *above;         /* owned: scratch of is_above() */
    bool changed;           /* made is another graph than the guest */
    uint8_t *used;          /* owned: nodes of the folded host that are partners */
    uint64_t steps;         /* of is_above(), all together */
};

/* ---- inputs ---- */

static bool fits(const struct port *host, const struct port *guest, bool *ret_gain)
{
    if (host->dtype != guest->dtype || host->shape.rank != guest->shape.rank)
        return false;
    for (int k = 0; k < host->shape.rank; k++) {
        int64_t h = host->shape.dims[k], g = guest->shape.dims[k];
        if (h >= 0 && h != g)
            return false;
        *ret_gain |= h < 0 && g >= 0;
    }
    return true;
}

/* Which inputs are the same: names only propose, what is not so comes out different. */
static bool bind_inputs(struct adopt *a, bool *ret_gain)
{
    const struct onnx *h = a->host->m, *g = a->guest->m;
    bool *taken = calloc(g->input_count + 1, sizeof(*taken));
    *ret_gain = false;
    if (!taken)
        return err_set(a->w->e, ERR_MEMORY, "dims: no memory");
    for (int round = 0; round < 3; round++) /* by name; the first that is free; any */
        for (size_t i = 0; i < h->input_count; i++) {
            if (round == 0)
                a->bind[i] = ONNX_NONE;
            for (uint32_t k = 0; k < g->input_count && a->bind[i] == ONNX_NONE; k++)
                if ((round == 2 || !taken[k]) && fits(&h->inputs[i], &g->inputs[k], ret_gain) &&
                    (round || strcmp(h->inputs[i].name, g->inputs[k].name) == 0)) {
                    a->bind[i] = k;
                    taken[k] = true;
                }
        }
    free(taken);
    return true;
}

/* Names of the host's dims that are numbers in the guest. */
static size_t named_dims(const struct adopt *a, struct onnx_dim *ret, size_t max, bool *ret_differ)
{
    const struct onnx *h = a->host->m, *g = a->guest->m;
    size_t count = 0;
    for (size_t i = 0; i < h->input_count; i++)
        for (int k = 0; a->bind[i] != ONNX_NONE && k < h->inputs[i].shape.rank; k++) {
            const char *name = onnx_dim_param(h, false, i, k);
            int64_t value = g->inputs[a->bind[i]].shape.dims[k];
            size_t at = 0;
            if (!*name || value < 0)
                continue;
            while (at < count && strcmp(ret[at].name, name) != 0)
                at++;
            if (at < count)
                *ret_differ |= ret[at].value != value;
            else if (count < max)
                ret[count++] = (struct onnx_dim){name, value};
        }
    return count;
}

static bool infer_at(struct adopt *a, const struct onnx_dim *named, size_t count, int run)
{
    const struct onnx *h = a->host->m, *g = a->guest->m;
    int64_t *dims = infer_dims(h, named, count, run ? 5 : 1, run ? 14 : 11);
    if (!dims)
        return err_set(a->w->e, ERR_MEMORY, "dims: no memory");
    for (size_t i = 0; i < h->input_count; i++)
        for (int k = 0; a->bind[i] != ONNX_NONE && k < h->inputs[i].shape.rank; k++)
            if (g->inputs[a->bind[i]].shape.dims[k] >= 0)
                dims[i * TENSOR_RANK_MAX + (size_t)k] = g->inputs[a->bind[i]].shape.dims[k];
    bool ok = infer_run(h, dims, &a->seen[run], a->w->e);
    free(dims);
    return ok;
}

/* The host at the guest's dims; *ret_ok false: they do not go together. */
static bool specialise(struct adopt *a, bool *ret_ok)
{
    struct onnx_dim named[64];
    bool gain, differ = false;
    *ret_ok = false;
    if (!bind_inputs(a, &gain))
        return false;
    size_t count = named_dims(a, named, sizeof(named) / sizeof(*named), &differ);
    if ((!gain && !a->again) || differ)
        return true;
    struct fold_at at = {&a->seen[0], &a->seen[1]};
    if (!infer_at(a, named, count, 0) || !infer_at(a, named, count, 1) ||
        !fold_graph(a->host->m, &a->w->known, &at, &a->at_dims, a->w->e))
        return false;
    if (!POOL_ADD(a->w->spare, 1, ONNX_NODES_MAX, "graphs", a->w->e)) {
        fold_free(a->at_dims);
        return false;
    }
    a->w->spare.items[a->w->spare.count - 1] = a->at_dims;
    *ret_ok = true;
    return true;
}

/* ---- who is who ---- */

static int by_code(const void *x, const void *y)
{
    const struct code_value *a = x, *b = y;
    if (a->code != b->code)
        return (a->code > b->code) - (a->code < b->code);
    return (a->value > b->value) - (a->value < b->value);
}

/* Classes of both over one another, as share_find() would find them. */
static bool compare(struct adopt *a)
{
    struct work *p = &a->pair;
    bool cycle;
    *p = (struct work){.known = a->w->known, /* lent: nothing is added to it here */
                       .model_count = 2,
                       .next_token = 1,
                       .min_share = a->w->min_share,
                       .crossing = a->w->crossing,
                       .e = a->w->e};
    p->models = calloc(2, sizeof(*p->models));
    if (!p->models)
        return err_set(a->w->e, ERR_MEMORY, "dims: no memory");
    p->models[0].g = a->guest;
    p->models[1].g = a->at_dims;
    return work_model_init(p, &p->models[0]) && work_model_init(p, &p->models[1]) &&
           work_classes(p) && work_edges(p, &cycle) && work_match(p);
}

static bool index_codes(struct adopt *a)
{
    const struct wmodel *g = &a->pair.models[0], *h = &a->pair.models[1];
    a->codes = calloc(a->guest->values.count + 1u, sizeof(*a->codes));
    a->node_of = calloc(a->host->m->nodes.count + 1u, sizeof(uint32_t));
    a->twin = calloc(a->pair.classes.count + 1u, sizeof(uint32_t));
    a->next = calloc(a->at_dims->nodes.count + 1u, sizeof(uint32_t));
    a->partner = calloc(a->guest->nodes.count + 1u, sizeof(uint32_t));
    a->memo = calloc(a->host->values.count + 1u, sizeof(uint32_t));
    a->above = calloc(a->guest->nodes.count + 1u, 1);
    a->used = calloc(a->at_dims->nodes.count + 1u, 1);
    if (!a->used || !a->codes || !a->node_of || !a->twin || !a->next || !a->partner || !a->memo ||
        !a->above)
        return err_set(a->w->e, ERR_MEMORY, "dims: no memory");
    a->code_count = 0;
    for (uint32_t i = 0; i < a->guest->values.count; i++) {
        const struct fvalue *v = &a->guest->values.items[i];
        if (v->kind == FV_NODE && !a->guest->nodes.items[v->index].dead)
            a->codes[a->code_count++] = (struct code_value){value_code(&a->pair, g, i), i};
    }
    qsort(a->codes, a->code_count, sizeof(*a->codes), by_code);
    for (uint32_t i = 0; i < a->host->nodes.count; i++)
        for (uint32_t k = 0; k < a->host->nodes.items[i].origin_count; k++)
            a->node_of[a->host->origins.items[a->host->nodes.items[i].origin_first + k]] = i + 1;
    for (uint32_t i = 0; i < a->host->m->nodes.count; i++) { /* what was equal to another node */
        const struct gnode *n = &a->host->m->nodes.items[i];
        uint32_t id = n->out_count ? a->host->m->refs.items[n->out_first] : ONNX_NONE;
        if (n->graph != ONNX_MAIN || a->node_of[i] || id == ONNX_NONE)
            continue;
        const struct fvalue *v = &a->host->values.items[a->host->of_value[id]];
        if (v->kind == FV_NODE && v->slot == 0)
            a->node_of[i] = v->index + 1;
    }
    for (uint32_t i = a->at_dims->nodes.count; i-- > 0;)
        if (h->cls[i] != ONNX_NONE) {
            a->next[i] = a->twin[h->cls[i]];
            a->twin[h->cls[i]] = i + 1;
        }
    return true;
}

/* Classes do not tell two inputs of one type apart: of several nodes of a class, the one whose
 * inputs are the partners of the guest's. */
static uint32_t find_partner(const struct adopt *a, uint32_t node)
{
    const struct fnode *g = &a->guest->nodes.items[node];
    uint32_t best = 0, most = 0;
    for (uint32_t t = a->twin[a->pair.models[0].cls[node]]; t; t = a->next[t - 1]) {
        const struct fnode *h = &a->at_dims->nodes.items[t - 1];
        uint32_t same = a->used[t - 1] ? 1 : 2; /* of equals, one after the other */
        for (uint32_t k = 0; k < g->in_count && k < h->in_count; k++) {
            const struct fvalue *x = fnode_in(a->guest, g, k), *y = fnode_in(a->at_dims, h, k);
            if (x->kind == FV_INPUT && y->kind == FV_INPUT && a->bind[y->index] == x->index)
                same += 2;
            if (x->kind == FV_NODE && y->kind == FV_NODE && x->slot == y->slot &&
                a->partner[x->index] == y->index + 1)
                same += 2;
        }
        if (same > most) {
            most = same;
            best = t;
        }
    }
    return best;
}

/* Whether the guest's value is needed, directly or not, by its node. */
static bool is_above(struct adopt *a, uint32_t value, uint32_t node)
{
    const struct fgraph *g = a->guest;
    bool found = false;
    a->steps += node;
    if (a->steps > ADOPT_STEPS_MAX)
        return false;
    memset(a->above, 0, node + 1u);
    a->above[node] = 1;
    for (uint32_t i = node + 1; i-- > 0 && !found;)
        for (uint32_t k = 0; a->above[i] && k < g->nodes.items[i].in_count; k++) {
            const struct fvalue *v = fnode_in(g, &g->nodes.items[i], k);
            found |= g->edges.items[g->nodes.items[i].in_first + k] == value;
            if (v->kind == FV_NODE)
                a->above[v->index] = 1;
        }
    return found;
}

static uint32_t guest_input(struct adopt *a, uint32_t input, uint32_t node)
{
    const struct onnx *h = a->host->m, *g = a->guest->m;
    const uint32_t *refs = g->refs.items + g->graphs.items[ONNX_MAIN].in_first;
    uint32_t bound = a->bind[input];
    if (bound == ONNX_NONE)
        return 0;
    uint32_t usual = a->guest->of_value[refs[bound]];
    for (uint32_t k = 0; k < g->input_count; k++) {
        bool other = k != bound, gain;
        for (size_t i = 0; other && i < h->input_count; i++)
            other = a->bind[i] != k;
        if (other && fits(&h->inputs[input], &g->inputs[k], &gain) && !is_above(a, usual, node) &&
            is_above(a, a->guest->of_value[refs[k]], node))
            return a->guest->of_value[refs[k]];
    }
    return usual;
}

/* Dims that are known on both sides have to be the same. */
static bool same_dims(const struct adopt *a, uint32_t origin, uint32_t value)
{
    const struct fvalue *v = &a->guest->values.items[value];
    const struct ivalue *x = &a->seen[0].values[origin], *y = &a->seen[1].values[origin];
    if (v->rank < 0 || x->rank != v->rank || y->rank != v->rank)
        return false;
    for (int k = 0; k < v->rank; k++)
        if (x->dims[k] == y->dims[k] && v->dims[k] >= 0 && x->dims[k] != v->dims[k])
            return false;
    return true;
}

/* The guest's value that is what a value of the folded host is; 0: none that stands before node. */
static uint32_t guest_value(struct adopt *a, uint32_t value, uint32_t origin, uint32_t node)
{
    const struct fvalue *v = &a->at_dims->values.items[value];
    uint32_t found = 0;
    if (v->kind == FV_INPUT)
        found = guest_input(a, v->index, node);
    if (v->kind == FV_INPUT)
        return found && same_dims(a, origin, found) ? found : 0;
    uint64_t code = value_code(&a->pair, &a->pair.models[1], value);
    uint32_t low = 0, high = a->code_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (a->codes[middle].code < code)
            low = middle + 1;
        else
            high = middle;
    }
    bool many = low + 1 < a->code_count && a->codes[low + 1].code == code, sure = false;
    for (; low < a->code_count && a->codes[low].code == code && !sure; low++) {
        uint32_t at = a->codes[low].value, maker = a->guest->values.items[at].index;
        if (maker >= node || !same_dims(a, origin, at))
            continue;
        sure = a->partner[maker] == v->index + 1 && (!many || is_above(a, at, node));
        if (sure || !found)
            found = at;
    }
    return found;
}

/* ---- borrowing ---- */

static bool copy_pool(void **ret, uint32_t *count, uint32_t *capacity, size_t size,
                      const void *from, uint32_t n, struct err *e)
{
    if (!pool_room(ret, count, capacity, size, n, UINT32_MAX, "graph", e))
        return false;
    if (n)
        memcpy(*ret, from, n * size);
    return true;
}
#define COPY_POOL(to, from, e)                                                                     \
    copy_pool((void **)&(to).items, &(to).count, &(to).capacity, sizeof(*(to).items),              \
              (from).items, (from).count, e)

static bool copy_guest(struct adopt *a)
{
    const struct fgraph *g = a->guest;
    struct err *e = a->w->e;
    struct fgraph *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(e, ERR_MEMORY, "graph: no memory");
    a->made = c;
    c->m = g->m;
    c->known = g->known;
    size_t values = g->m->values.count + 1u, outputs = g->m->output_count + 1u;
    c->of_value = calloc(values, sizeof(uint32_t));
    c->outputs = calloc(outputs, sizeof(uint32_t));
    a->done = calloc(g->nodes.count + 1u, 1);
    if (!c->of_value || !c->outputs || !a->done)
        return err_set(e, ERR_MEMORY, "graph: no memory");
    memcpy(c->of_value, g->of_value, values * sizeof(uint32_t));
    memcpy(c->outputs, g->outputs, outputs * sizeof(uint32_t));
    return COPY_POOL(c->values, g->values, e) && COPY_POOL(c->nodes, g->nodes, e) &&
           COPY_POOL(c->edges, g->edges, e) && COPY_POOL(c->origins, g->origins, e);
}

static bool add_value(struct adopt *a, struct fvalue v, uint32_t *ret)
{
    if (!POOL_ADD(a->made->values, 1, 2 * ONNX_VALUES_MAX, "values", a->w->e))
        return false;
    *ret = a->made->values.count - 1;
    a->made->values.items[*ret] = v;
    return true;
}

/* A copy of one of the host's nodes over the guest's values, or the one that is there. */
static bool borrow_node(struct adopt *a, const struct fnode *from, const uint32_t *in,
                        uint32_t before, uint32_t *ret_node)
{
    struct err *e = a->w->e;
    uint32_t had = a->same.count;
    uint64_t *key = calloc(from->in_count + 1u, sizeof(*key));
    if (!key)
        return err_set(e, ERR_MEMORY, "graph: no memory");
    key[0] = from->sig;
    for (uint32_t i = 0; i < from->in_count; i++) {
        const struct fvalue *v = &a->made->values.items[in[i]];
        key[i + 1] = v->kind == FV_CONST ? (uint64_t)1 << 40 | v->index : in[i];
    }
    bool ok = intern_id(&a->same, key, (from->in_count + 1u) * sizeof(*key), ret_node, e);
    free(key);
    if (!ok || *ret_node < had) {
        if (ok && a->before.items[*ret_node] > before)
            a->before.items[*ret_node] = before;
        return ok;
    }
    struct fgraph *c = a->made;
    struct fnode n = {.sig = from->sig,
                      .in_first = c->edges.count,
                      .in_count = from->in_count,
                      .out_first = c->edges.count + from->in_count,
                      .out_count = from->out_count};
    if (!POOL_ADD(c->edges, n.in_count + n.out_count, 8u * ONNX_EDGES_MAX, "edges", e) ||
        !POOL_ADD(a->nodes, 1, ONNX_NODES_MAX, "nodes", e) ||
        !POOL_ADD(a->before, 1, ONNX_NODES_MAX, "nodes", e))
        return false;
    for (uint32_t i = 0; i < n.in_count; i++)
        c->edges.items[n.in_first + i] = in[i];
    for (uint32_t i = 0; i < n.out_count; i++) {
        struct fvalue v = a->host->values.items[a->host->edges.items[from->out_first + i]];
        uint32_t id;
        v.origin = ONNX_NONE;
        v.index = a->guest->nodes.count + *ret_node; /* until finish() */
        if (!add_value(a, v, &id))
            return false;
        c->edges.items[n.out_first + i] = id;
    }
    a->nodes.items[*ret_node] = n;
    a->before.items[*ret_node] = before;
    return true;
}

static bool remember(struct adopt *a, uint32_t value, uint32_t is)
{
    if (!is)
        return true;
    if (!POOL_ADD(a->touched, 1, 2 * ONNX_VALUES_MAX, "values", a->w->e))
        return false;
    a->touched.items[a->touched.count - 1] = value;
    a->memo[value] = is;
    return true;
}

static void forget_all(struct adopt *a)
{
    for (uint32_t i = 0; i < a->touched.count; i++)
        a->memo[a->touched.items[i]] = 0;
    a->touched.count = 0;
}

static bool borrow(struct adopt *a, uint32_t value, uint32_t node, unsigned depth, uint32_t *ret);

static bool borrow_maker(struct adopt *a, const struct fvalue *v, uint32_t node, unsigned depth,
                         uint32_t *ret)
{
    const struct fnode *from = &a->host->nodes.items[v->index];
    uint32_t *in = calloc(from->in_count + 1u, sizeof(*in)), made;
    bool ok = in || err_set(a->w->e, ERR_MEMORY, "graph: no memory"), all = true;
    for (uint32_t i = 0; ok && all && i < from->in_count; i++) {
        uint32_t id = a->host->edges.items[from->in_first + i];
        if (id)
            ok = borrow(a, id, node, depth + 1, &in[i]);
        all = !id || in[i];
    }
    if (ok && all && borrow_node(a, from, in, node, &made))
        *ret = a->made->edges.items[a->nodes.items[made].out_first + v->slot];
    else
        ok = ok && !all;
    free(in);
    return ok;
}

/* The host's value over the guest's: *ret 0: not to be had. */
static bool borrow(struct adopt *a, uint32_t value, uint32_t node, unsigned depth, uint32_t *ret)
{
    const struct fvalue *v = &a->host->values.items[value];
    *ret = a->memo[value];
    if (*ret || depth > ADOPT_DEPTH_MAX)
        return true;
    if (v->kind == FV_CONST)
        return fold_const_value(a->made, v->index, ONNX_NONE, ret, a->w->e) &&
               remember(a, value, *ret);
    uint32_t at = v->origin == ONNX_NONE ? 0 : a->at_dims->of_value[v->origin];
    const struct fvalue *folded = &a->at_dims->values.items[at];
    /* what only shapes were asked of is gone where they are numbers */
    bool gone = folded->kind == FV_NODE && a->at_dims->nodes.items[folded->index].dead;
    bool live = at && folded->kind != FV_CONST && !gone;
    bool whole = v->type == OT_INT64 || v->type == OT_INT32 || v->type == OT_BOOL;
    if (live)
        *ret = guest_value(a, at, v->origin, node);
    if (!*ret && v->kind == FV_NODE && (!live || whole) && !borrow_maker(a, v, node, depth, ret))
        return false;
    return remember(a, value, *ret);
}

/* One node of the guest and one of the folded host that are of one class. */
static bool adopt_node(struct adopt *a, uint32_t node, uint32_t twin)
{
    const struct fnode *t = &a->at_dims->nodes.items[twin], *g = &a->guest->nodes.items[node];
    uint32_t last = a->at_dims->origins.items[t->origin_first + t->origin_count - 1];
    if (!a->node_of[last])
        return true;
    const struct fnode *h = &a->host->nodes.items[a->node_of[last] - 1];
    bool reshape = span_is(a->w->known.sigs.items[h->sig].op, "Reshape");
    if ((h->sig != g->sig && !reshape) || h->in_count != g->in_count)
        return true;
    uint32_t *in = calloc(g->in_count + 1u, sizeof(*in));
    bool ok = in || err_set(a->w->e, ERR_MEMORY, "graph: no memory"), all = true, any = false;
    bool lent = false;
    for (uint32_t k = 0; ok && all && k < g->in_count; k++) {
        uint32_t value = a->host->edges.items[h->in_first + k];
        const struct fvalue *v = &a->host->values.items[value];
        in[k] = a->guest->edges.items[g->in_first + k];
        if (reshape && k == 1 && v->kind == FV_CONST) { /* other words for the same shape */
            ok = fold_const_value(a->made, v->index, ONNX_NONE, &in[k], a->w->e);
            any = lent = true;
        }
        if (fnode_in(a->guest, g, k)->kind != FV_CONST || v->kind != FV_NODE)
            continue;
        forget_all(a);
        ok = borrow(a, value, node, 0, &in[k]);
        all = in[k] != 0;
        any = true;
    }
    for (uint32_t k = 0; ok && all && any && k < g->in_count; k++)
        a->made->edges.items[g->in_first + k] = in[k];
    if (ok && all && any) {
        a->made->nodes.items[node].sig = h->sig;
        a->made->nodes.items[node].lent |= lent;
        a->changed = true;
    }
    a->done[node] |= ok && all;
    free(in);
    return ok;
}

static bool adopt_all(struct adopt *a)
{
    if (!a->made && !copy_guest(a))
        return false;
    for (uint32_t i = 0; i < a->guest->nodes.count; i++) {
        if (a->guest->nodes.items[i].dead)
            continue;
        a->partner[i] = find_partner(a, i);
        if (a->partner[i])
            a->used[a->partner[i] - 1] = 1;
        if (!a->done[i] && a->partner[i] && !adopt_node(a, i, a->partner[i] - 1))
            return false;
    }
    return true;
}

/* Puts the borrowed nodes where they belong, and numbers all anew. */
static bool finish(struct adopt *a)
{
    struct fgraph *c = a->made;
    uint32_t old = a->guest->nodes.count, all = old + a->nodes.count, at = 0;
    uint32_t *first = calloc(old + 2u, sizeof(uint32_t)),
             *next = calloc(all + 1u, sizeof(uint32_t));
    uint32_t *place = calloc(all + 1u, sizeof(uint32_t));
    struct fnode *nodes = calloc(all + 1u, sizeof(*nodes));
    bool ok = (first && next && place && nodes) || err_set(a->w->e, ERR_MEMORY, "graph: no memory");
    for (uint32_t i = a->nodes.count; ok && i-- > 0;) {
        next[i] = first[a->before.items[i]];
        first[a->before.items[i]] = i + 1;
    }
    for (uint32_t i = 0; ok && i < old; i++) {
        for (uint32_t k = first[i]; k; k = next[k - 1]) {
            place[old + k - 1] = at;
            nodes[at++] = a->nodes.items[k - 1];
        }
        place[i] = at;
        nodes[at++] = c->nodes.items[i];
    }
    for (uint32_t i = 0; ok && i < c->values.count; i++)
        if (c->values.items[i].kind == FV_NODE)
            c->values.items[i].index = place[c->values.items[i].index];
    if (ok) {
        free(c->nodes.items);
        c->nodes.items = nodes;
        c->nodes.count = c->nodes.capacity = at;
        c->nodes.capacity = all + 1;
        nodes = NULL;
    }
    free(first);
    free(next);
    free(place);
    free(nodes);
    return ok;
}

/* ---- pairs ---- */

static void host_done(struct adopt *a)
{
    a->pair.known = (struct known){0};
    for (uint32_t i = 0; a->pair.models && i < 2; i++)
        a->pair.models[i].g = NULL;
    work_clear(&a->pair);
    a->pair = (struct work){0}; /* the next host may not get as far as to fill it */
    infer_done(&a->seen[0]);
    infer_done(&a->seen[1]);
    free(a->bind);
    free(a->codes);
    free(a->node_of);
    free(a->twin);
    free(a->next);
    free(a->partner);
    free(a->memo);
    free(a->touched.items);
    a->touched.items = NULL;
    a->touched.count = a->touched.capacity = 0;
    free(a->above);
    free(a->used);
    a->bind = a->node_of = a->twin = a->next = a->partner = a->memo = NULL;
    a->codes = NULL;
    a->above = a->used = NULL;
}

static bool try_host(struct adopt *a, const struct fgraph *host)
{
    bool ok;
    a->host = host;
    a->bind = calloc(host->m->input_count + 1, sizeof(*a->bind));
    if (!a->bind)
        return err_set(a->w->e, ERR_MEMORY, "dims: no memory");
    bool did = specialise(a, &ok);
    if (did && ok)
        did = compare(a) && index_codes(a) && adopt_all(a);
    host_done(a);
    return did;
}

static uint64_t common_bytes(const struct work *w, const struct fgraph *x, const struct fgraph *y,
                             uint8_t *has)
{
    uint64_t sum = 0;
    memset(has, 0, w->known.consts.count);
    for (uint32_t i = 0; i < x->values.count; i++)
        if (x->values.items[i].kind == FV_CONST)
            has[x->values.items[i].index] = 1;
    for (uint32_t i = 0; i < y->values.count; i++)
        if (y->values.items[i].kind == FV_CONST && has[y->values.items[i].index]) {
            has[y->values.items[i].index] = 0;
            sum += w->known.consts.items[y->values.items[i].index].bytes;
        }
    return sum;
}

static unsigned dynamic_dims(const struct onnx *m)
{
    unsigned n = 0;
    for (size_t i = 0; i < m->input_count; i++)
        for (int k = 0; k < m->inputs[i].shape.rank; k++)
            n += m->inputs[i].shape.dims[k] < 0;
    return n;
}

/* The guest at its own dims: exporters leave shapes of what is fixed to be computed, too. */
static bool own_dims(struct adopt *a)
{
    struct infer runs[2] = {{0}, {0}};
    struct fold_at at = {&runs[0], &runs[1]};
    struct fgraph *made = NULL;
    struct err *e = a->w->e;
    int64_t *one = infer_dims(a->guest->m, NULL, 0, 1, 11);
    int64_t *two = infer_dims(a->guest->m, NULL, 0, 5, 14);
    bool ok = (one && two) || err_set(e, ERR_MEMORY, "dims: no memory");
    ok = ok && infer_run(a->guest->m, one, &runs[0], e) &&
         infer_run(a->guest->m, two, &runs[1], e) &&
         fold_graph(a->guest->m, &a->w->known, &at, &made, e);
    if (ok && POOL_ADD(a->w->spare, 1, ONNX_NODES_MAX, "graphs", e)) {
        a->w->spare.items[a->w->spare.count - 1] = made;
        a->guest = made;
    } else {
        fold_free(made);
        ok = false;
    }
    infer_done(&runs[0]);
    infer_done(&runs[1]);
    free(one);
    free(two);
    return ok;
}

/* Hosts of a guest, what has most in common first. */
static bool adopt_guest(struct work *w, uint32_t guest)
{
    struct adopt a = {.w = w, .guest = w->models[guest].g};
    uint64_t tried = (uint64_t)1 << guest;
    bool ok = true;
    for (uint32_t round = 1; ok && round < w->model_count; round++) {
        uint8_t *has = calloc(w->known.consts.count + 1u, 1);
        uint64_t best = 0;
        uint32_t host = guest;
        ok = has || err_set(w->e, ERR_MEMORY, "dims: no memory");
        for (uint32_t i = 0; ok && i < w->model_count; i++) {
            bool gain = false, any = false;
            if (tried >> i & 1 || dynamic_dims(w->models[i].g->m) == 0)
                continue;
            for (size_t k = 0; k < a.guest->m->input_count; k++)
                for (size_t j = 0; j < w->models[i].g->m->input_count; j++) {
                    bool more = false;
                    any |= fits(&w->models[i].g->m->inputs[j], &a.guest->m->inputs[k], &more);
                    gain |= any && more;
                }
            gain |= any && a.again;
            uint64_t bytes = gain ? common_bytes(w, a.guest, w->models[i].g, has) : 0;
            if (bytes >= ADOPT_MIN && bytes > best) {
                best = bytes;
                host = i;
            }
        }
        free(has);
        if (!ok || host == guest)
            break;
        tried |= (uint64_t)1 << host;
        ok = (a.again || own_dims(&a)) && try_host(&a, w->models[host].g);
        a.again = true;
    }
    ok = ok && (!a.made || !a.changed || (finish(&a) && fold_merge(a.made, w->e)));
    if (ok && a.made && a.changed && POOL_ADD(w->spare, 1, ONNX_NODES_MAX, "graphs", w->e)) {
        w->spare.items[w->spare.count - 1] = w->models[guest].g; /* constants may come from it */
        w->models[guest].g = a.made;
        w->models[guest].dynamic = true;
        a.made = NULL;
    }
    fold_free(a.made);
    free(a.before.items);
    free(a.nodes.items);
    free(a.done);
    intern_done(&a.same);
    return ok;
}

/* The runtime fuses more when it knows all of a batch's dims, and its last bits are then others. */
bool adopt_keeps_bits(const struct onnx *m)
{
    for (size_t i = 0; i < m->input_count; i++)
        if (m->inputs[i].shape.rank > 0 && m->inputs[i].shape.dims[0] >= 0)
            return false;
    return true;
}

bool work_adopt(struct work *w)
{
    uint64_t done = 0;
    for (uint32_t round = 0; round < w->model_count; round++) { /* the most dynamic ones first */
        uint32_t next = 0, most = 0;
        for (uint32_t i = 0; i < w->model_count; i++)
            if (!(done >> i & 1) && dynamic_dims(w->models[i].g->m) + 1 > most) {
                most = dynamic_dims(w->models[i].g->m) + 1;
                next = i;
            }
        done |= (uint64_t)1 << next;
        if (!((w->whole | w->apart) >> next & 1) &&
            (w->fixed_axes || adopt_keeps_bits(w->models[next].g->m)) && !adopt_guest(w, next))
            return false;
    }
    return true;
}
