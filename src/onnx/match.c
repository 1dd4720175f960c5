/* match.c - equal parts behind different things: one decoder behind two encoders, equal layers
 * behind a changed one.
 *
 * Classes only find what is equal from the inputs on.  Here we look for a weight that two models
 * use in the same way without being of one class (an anchor), walk from it towards the inputs for
 * as long as both models agree, and put ports on the values where the agreement ends: a token,
 * which both models' users of these values then see instead of the value.  All that follows gets
 * equal classes by itself.
 *
 * Where exactly the ports stand is a minimum cut between the end of the agreement and the weights:
 * stepping over an Add that joins two different tensors makes one port of two.  What both models
 * already share counts as different too, if the end of the agreement depends on it: both sides of
 * such a tensor could not be one module without a cycle.
 *
 * Not every difference may be bridged so.  Where the same tensor goes into both sides of a
 * difference that holds no weights of its own (another epsilon, another activation), the models are
 * one model in two forms, and ports around each such place would cut it to pieces: such an attempt
 * is given up, and the pair becomes a near miss.
 *
 * A set of ports stays if it saves enough and leaves the union of all models without a cycle. */
#include "onnx/flow.h"
#include "onnx/work.h"

#include <stdlib.h>
#include <string.h>

#define MATCH_TRIES_MAX 300u /* sets of ports tried, of one run */

struct frontier {
    uint32_t a, b; /* values; b 0: blocked, no port needed */
};

struct attempt {
    struct work *w;
    struct wmodel *a, *b;
    uint32_t *to_b;       /* owned: node of a to node of b, + 1 */
    uint32_t *to_a;       /* owned: the other way */
    POOL(uint32_t) pairs; /* nodes of a in order of discovery */
    POOL(struct frontier) ends;
    uint8_t *before; /* owned: nodes of a that an end depends on */
    uint32_t anchor;
};

static uint32_t local_of(const struct attempt *t, const struct wmodel *m, uint32_t node)
{
    return t->w->classes.items[m->cls[node]].local;
}

static bool add_end(struct attempt *t, uint32_t va, uint32_t vb)
{
    for (uint32_t i = 0; i < t->ends.count; i++)
        if (t->ends.items[i].a == va && t->ends.items[i].b == vb)
            return true;
    if (!POOL_ADD(t->ends, 1, ONNX_EDGES_MAX, "ports", t->w->e))
        return false;
    t->ends.items[t->ends.count - 1] = (struct frontier){va, vb};
    return true;
}

static bool pair(struct attempt *t, uint32_t na, uint32_t nb)
{
    t->to_b[na] = nb + 1;
    t->to_a[nb] = na + 1;
    if (!POOL_ADD(t->pairs, 1, ONNX_NODES_MAX, "pairs", t->w->e))
        return false;
    t->pairs.items[t->pairs.count - 1] = na;
    return true;
}

/* One input of a pair: the same already, another pair, or the end of the agreement. */
static bool grow_input(struct attempt *t, uint32_t va, uint32_t vb)
{
    uint64_t ca = value_code(t->w, t->a, va), cb = value_code(t->w, t->b, vb);
    const struct fvalue *a = &t->a->g->values.items[va], *b = &t->b->g->values.items[vb];
    if (ca == cb)
        return ca >> 62 != CODE_NODE >> 62 || add_end(t, va, 0);
    bool nodes = a->kind == FV_NODE && b->kind == FV_NODE && a->slot == b->slot &&
                 ca == t->a->code[va] && cb == t->b->code[vb];
    if (nodes && t->to_b[a->index] == b->index + 1)
        return true;
    if (nodes && !t->to_b[a->index] && !t->to_a[b->index] &&
        local_of(t, t->a, a->index) == local_of(t, t->b, b->index))
        return pair(t, a->index, b->index);
    return add_end(t, va, vb);
}

static bool grow(struct attempt *t, uint32_t na, uint32_t nb)
{
    if (!pair(t, na, nb))
        return false;
    for (uint32_t i = 0; i < t->pairs.count; i++) {
        const struct fnode *x = &t->a->g->nodes.items[t->pairs.items[i]];
        const struct fnode *y = &t->b->g->nodes.items[t->to_b[t->pairs.items[i]] - 1];
        for (uint32_t k = 0; k < x->in_count; k++)
            if (!grow_input(t, t->a->g->edges.items[x->in_first + k],
                            t->b->g->edges.items[y->in_first + k]))
                return false;
    }
    return true;
}

/* Which nodes of a the real ends depend on. */
static void mark_before(struct attempt *t)
{
    const struct fgraph *g = t->a->g;
    uint32_t last = 0;
    for (uint32_t i = 0; i < t->ends.count; i++) {
        const struct fvalue *v = &g->values.items[t->ends.items[i].a];
        if (t->ends.items[i].b && v->kind == FV_NODE) {
            t->before[v->index] = 1;
            last = v->index > last ? v->index : last;
        }
    }
    for (uint32_t i = last + 1; i-- > 0 && g->nodes.count;) /* nodes are in topological order */
        for (uint32_t k = 0; t->before[i] && k < g->nodes.items[i].in_count; k++)
            if (fnode_in(g, &g->nodes.items[i], k)->kind == FV_NODE)
                t->before[fnode_in(g, &g->nodes.items[i], k)->index] = 1;
}

/* The nodes that make a value, back to what both models have: marks their constants. */
static bool walk_zone(struct attempt *t, const struct wmodel *m, uint64_t both, uint32_t value,
                      uint8_t *consts, uint8_t mark, bool *ret_common)
{
    const struct fgraph *g = m->g;
    uint8_t *seen = calloc(g->nodes.count + 1, 1);
    if (!seen)
        return err_set(t->w->e, ERR_MEMORY, "match: no memory");
    const struct fvalue *v = &g->values.items[value];
    uint32_t last = v->kind == FV_NODE ? v->index : 0;
    if (v->kind == FV_NODE)
        seen[last] = 1;
    for (uint32_t i = last + 1; i-- > 0 && g->nodes.count;) {
        const struct fnode *n = &g->nodes.items[i];
        if (!seen[i])
            continue;
        const struct wclass *c = &t->w->classes.items[m->cls[i]];
        if ((c->owners & both) == both) {
            *ret_common |= c->depends;
            continue;
        }
        for (uint32_t k = 0; k < n->in_count; k++) {
            const struct fvalue *from = fnode_in(g, n, k);
            if (from->kind == FV_NODE)
                seen[from->index] = 1;
            else if (from->kind == FV_CONST)
                consts[from->index] |= mark;
        }
    }
    free(seen);
    return true;
}

static bool is_weight(const struct fconst *c)
{
    return c->count > 16 && c->type != OT_INT64 && c->type != OT_INT32 && c->type != OT_BOOL;
}

/* Weights that only one side has: enough of them, or one of each side of the same dims (a weight
 * that was changed)?  What one side folded (a token repeated for a fixed batch) is neither. */
static bool weights_differ(const struct work *w, const uint8_t *consts)
{
    struct intern dims[2] = {{0}, {0}};
    uint64_t bytes = 0;
    bool pair = false, ok = true;
    for (uint32_t i = 0; ok && i < w->known.consts.count; i++) {
        const struct fconst *c = &w->known.consts.items[i];
        if ((consts[i] != 1 && consts[i] != 2) || !is_weight(c))
            continue;
        int64_t key[2 + ONNX_RANK_MAX] = {c->type, c->rank};
        size_t size = (2u + (size_t)c->rank) * sizeof(key[0]);
        uint32_t id;
        memcpy(key + 2, c->dims, (size_t)c->rank * sizeof(key[0]));
        bytes += c->bytes;
        pair |= intern_find(&dims[2 - consts[i]], key, size, &id);
        ok = intern_id(&dims[consts[i] - 1], key, size, &id, w->e);
    }
    intern_done(&dims[0]);
    intern_done(&dims[1]);
    return pair || bytes >= w->crossing;
}

/* Whether an end is the same tensor in two forms: see the head of this file. */
static bool one_in_two_forms(struct attempt *t, const struct frontier *f, bool *ret)
{
    const struct work *w = t->w;
    uint64_t both = (uint64_t)1 << (t->a - w->models) | (uint64_t)1 << (t->b - w->models);
    uint8_t *consts = calloc(w->known.consts.count + 1u, 1);
    bool common = false;
    bool ok = (consts || err_set(w->e, ERR_MEMORY, "match: no memory")) &&
              walk_zone(t, t->a, both, f->a, consts, 1, &common) &&
              walk_zone(t, t->b, both, f->b, consts, 2, &common);
    *ret = ok && common && !weights_differ(w, consts);
    free(consts);
    return ok;
}

static bool light_value(const struct attempt *t, uint32_t va)
{
    const struct fvalue *v = &t->a->g->values.items[va];
    return v->kind == FV_NODE && t->w->classes.items[t->a->cls[v->index]].light;
}

static uint64_t cost(const struct attempt *t, uint32_t va)
{
    const struct fvalue *v = &t->a->g->values.items[va];
    if (v->type == OT_NONE || v->rank < 0 || dtype_from_onnx(v->type) == DT_NONE)
        return FLOW_INF;
    return work_crossing(t->w, v->kind == FV_NODE ? t->a->cls[v->index] : ONNX_NONE);
}

static uint64_t end_cost(const struct attempt *t, const struct frontier *f)
{
    const struct fvalue *a = &t->a->g->values.items[f->a], *b = &t->b->g->values.items[f->b];
    uint32_t ta = t->a->token[f->a], tb = t->b->token[f->b];
    if (f->b &&
        (a->type != b->type || a->rank != b->rank || a->kind == FV_CONST || b->kind == FV_CONST ||
         a->kind == FV_NONE || b->kind == FV_NONE || (ta && tb && ta != tb)))
        return FLOW_INF;
    return cost(t, f->a);
}

/* Flow nodes: 2 + one for each pair, then one for each value that a pair makes or an end is. */
struct net {
    struct flow f;
    uint32_t *of_value; /* owned: value of a to flow node */
    uint32_t *of_node;  /* owned: node of a to flow node */
};

static bool net_nodes(struct attempt *t, struct net *n, uint32_t *ret_count)
{
    uint32_t count = 2;
    n->of_value = calloc(t->a->g->values.count + 1, sizeof(uint32_t));
    n->of_node = calloc(t->a->g->nodes.count + 1, sizeof(uint32_t));
    if (!n->of_value || !n->of_node)
        return err_set(t->w->e, ERR_MEMORY, "match: no memory");
    for (uint32_t i = 0; i < t->pairs.count; i++) {
        const struct fnode *x = &t->a->g->nodes.items[t->pairs.items[i]];
        n->of_node[t->pairs.items[i]] = count++;
        for (uint32_t k = 0; k < x->out_count; k++)
            n->of_value[t->a->g->edges.items[x->out_first + k]] = count++;
    }
    for (uint32_t i = 0; i < t->ends.count; i++)
        if (!n->of_value[t->ends.items[i].a])
            n->of_value[t->ends.items[i].a] = count++;
    *ret_count = count;
    return true;
}

/* Whether an end is on the different side: a real one, or a shared value that one depends on. */
static bool is_source(const struct attempt *t, const struct frontier *f)
{
    const struct fvalue *v = &t->a->g->values.items[f->a];
    if (f->b)
        return true;
    return v->kind == FV_NODE && t->before[v->index] && !light_value(t, f->a);
}

static bool net_build(struct attempt *t, struct net *n)
{
    struct err *e = t->w->e;
    const struct fgraph *g = t->a->g;
    for (uint32_t i = 0; i < t->pairs.count; i++) {
        uint32_t node = t->pairs.items[i];
        const struct fnode *x = &g->nodes.items[node];
        uint64_t weight =
            node == t->anchor ? FLOW_INF : t->w->classes.items[t->a->cls[node]].weight;
        if (weight && !flow_add(&n->f, n->of_node[node], 1, weight, e))
            return false;
        for (uint32_t k = 0; k < x->out_count; k++) {
            uint32_t v = g->edges.items[x->out_first + k];
            if (!flow_add(&n->f, n->of_node[node], n->of_value[v], cost(t, v), e))
                return false;
        }
        for (uint32_t k = 0; k < x->in_count; k++) {
            uint32_t v = g->edges.items[x->in_first + k];
            if (n->of_value[v] && !flow_add(&n->f, n->of_value[v], n->of_node[node], FLOW_INF, e))
                return false;
        }
    }
    for (uint32_t i = 0; i < t->ends.count; i++)
        if (is_source(t, &t->ends.items[i]) &&
            !flow_add(&n->f, 0, n->of_value[t->ends.items[i].a], end_cost(t, &t->ends.items[i]), e))
            return false;
    return true;
}

static bool set_port(struct attempt *t, uint32_t va, uint32_t vb)
{
    uint32_t ta = t->a->token[va], tb = t->b->token[vb];
    if (ta && tb && ta != tb)
        return false;
    uint32_t token = ta ? ta : tb ? tb : t->w->next_token++;
    t->a->token[va] = t->b->token[vb] = token;
    return true;
}

/* Puts tokens where the minimum cut nearest to the difference runs; *ret: how many, 0: can't. */
static bool place_ports(struct attempt *t, uint32_t *ret)
{
    struct net n = {0};
    uint32_t count;
    uint8_t *side = NULL;
    *ret = 0;
    bool ok = net_nodes(t, &n, &count) && flow_init(&n.f, count, t->w->e) && net_build(t, &n);
    if (ok && !(side = malloc(count)))
        ok = err_set(t->w->e, ERR_MEMORY, "match: no memory");
    if (ok) {
        flow_run(&n.f);
        flow_side(&n.f, true, side);
    }
    bool possible = ok && !side[1] && side[n.of_node[t->anchor]] == 0;
    for (uint32_t i = 0; possible && i < t->pairs.count; i++) {
        uint32_t node = t->pairs.items[i];
        const struct fnode *x = &t->a->g->nodes.items[node],
                           *y = &t->b->g->nodes.items[t->to_b[node] - 1];
        for (uint32_t k = 0; possible && k < x->out_count; k++) {
            uint32_t v = t->a->g->edges.items[x->out_first + k];
            if (!side[n.of_node[node]] || side[n.of_value[v]])
                continue;
            possible = cost(t, v) < CROSSING_NEVER &&
                       set_port(t, v, t->b->g->edges.items[y->out_first + k]);
            ++*ret;
        }
    }
    for (uint32_t i = 0; possible && i < t->ends.count; i++) {
        const struct frontier *f = &t->ends.items[i];
        if (!f->b || side[n.of_value[f->a]])
            continue;
        possible = end_cost(t, f) < CROSSING_NEVER && set_port(t, f->a, f->b);
        ++*ret;
    }
    if (!possible)
        *ret = 0;
    flow_done(&n.f);
    free(n.of_value);
    free(n.of_node);
    free(side);
    return ok;
}

static void attempt_done(struct attempt *t)
{
    free(t->to_a);
    free(t->to_b);
    free(t->pairs.items);
    free(t->ends.items);
    free(t->before);
}

static bool attempt(struct work *w, uint32_t model_a, uint32_t na, uint32_t model_b, uint32_t nb,
                    uint32_t *ret_ports)
{
    struct attempt t = {.w = w, .a = &w->models[model_a], .b = &w->models[model_b], .anchor = na};
    t.to_b = calloc(t.a->g->nodes.count + 1, sizeof(uint32_t));
    t.to_a = calloc(t.b->g->nodes.count + 1, sizeof(uint32_t));
    t.before = calloc(t.a->g->nodes.count + 1, 1);
    bool ok = (t.to_a && t.to_b && t.before) || err_set(w->e, ERR_MEMORY, "match: no memory");
    ok = ok && grow(&t, na, nb);
    bool refused = false;
    for (uint32_t i = 0; ok && !refused && i < t.ends.count; i++)
        if (t.ends.items[i].b)
            ok = one_in_two_forms(&t, &t.ends.items[i], &refused);
    if (ok)
        mark_before(&t);
    if (ok && !refused)
        ok = place_ports(&t, ret_ports);
    attempt_done(&t);
    return ok;
}

/* ---- trying ---- */

static bool save_tokens(struct work *w, uint32_t ***ret)
{
    uint32_t **saved = calloc(w->model_count + 1, sizeof(*saved));
    bool ok = saved != NULL;
    for (uint32_t i = 0; ok && i < w->model_count; i++) {
        size_t size = (w->models[i].g->values.count + 1) * sizeof(uint32_t);
        saved[i] = malloc(size);
        ok = saved[i] != NULL;
        if (ok)
            memcpy(saved[i], w->models[i].token, size);
    }
    *ret = saved;
    return ok || err_set(w->e, ERR_MEMORY, "match: no memory");
}

static void drop_tokens(struct work *w, uint32_t **saved, bool restore)
{
    for (uint32_t i = 0; saved && i < w->model_count; i++) {
        if (restore && saved[i])
            memcpy(w->models[i].token, saved[i],
                   (w->models[i].g->values.count + 1) * sizeof(uint32_t));
        free(saved[i]);
    }
    free(saved);
}

static bool try_pair(struct work *w, const uint32_t from[2], const uint32_t nodes[2],
                     bool *ret_kept)
{
    uint32_t **saved, ports = 0;
    uint64_t had = work_gain(w);
    *ret_kept = false;
    bool ok = save_tokens(w, &saved) && attempt(w, from[0], nodes[0], from[1], nodes[1], &ports);
    if (ok && ports) {
        bool cycle = true;
        ok = work_classes(w) && work_edges(w, &cycle);
        uint64_t need = w->crossing * ports;
        need = need > w->min_share ? need : w->min_share;
        *ret_kept = ok && !cycle && work_gain(w) >= had + need;
    }
    drop_tokens(w, saved, !*ret_kept);
    if (ok && ports && !*ret_kept) {
        bool cycle;
        ok = work_classes(w) && work_edges(w, &cycle);
    }
    return ok;
}

/* A class and one node of it. */
struct candidate {
    uint32_t cls, local, order;
    uint32_t model, node;
};

static int by_local(const void *x, const void *y)
{
    const struct candidate *a = x, *b = y;
    if (a->local != b->local)
        return (a->local > b->local) - (a->local < b->local);
    return (a->order > b->order) - (a->order < b->order);
}

struct proposal {
    uint32_t order, local;
    uint32_t models[2], nodes[2];
};

static int by_order(const void *x, const void *y)
{
    const struct proposal *a = x, *b = y;
    if (a->order != b->order)
        return (a->order > b->order) - (a->order < b->order);
    return (a->local > b->local) - (a->local < b->local);
}

/* One candidate for each class with a weight that is worth it and not everybody's already. */
static bool candidates(struct work *w, struct candidate **ret, uint32_t *ret_count)
{
    uint8_t *seen = calloc(w->classes.count + 1, 1);
    struct candidate *list = calloc(w->classes.count + 1, sizeof(*list));
    if (!seen || !list) {
        free(seen);
        free(list);
        return err_set(w->e, ERR_MEMORY, "match: no memory");
    }
    uint32_t count = 0;
    for (uint32_t k = 0; k < w->model_count; k++)
        for (uint32_t i = 0; i < w->models[k].g->nodes.count; i++) {
            uint32_t cls = w->models[k].cls[i];
            if (cls == ONNX_NONE || seen[cls])
                continue;
            const struct wclass *c = &w->classes.items[cls];
            seen[cls] = 1;
            if (c->weight >= w->crossing && c->depends && !(c->owners & w->whole) &&
                (uint32_t)__builtin_popcountll(c->owners) < w->model_count)
                list[count++] = (struct candidate){cls, c->local, c->order, k, i};
        }
    free(seen);
    if (count)
        qsort(list, count, sizeof(*list), by_local);
    *ret = list;
    *ret_count = count;
    return true;
}

/* An export that an optimiser has fused and one that it has not differ wherever it did: what could
 * be matched between them are crumbs. */
static bool has_fused_nodes(const struct onnx *m)
{
    for (uint32_t i = 0; i < m->nodes.count; i++)
        if (span_is(m->nodes.items[i].domain, "com.microsoft") &&
            !span_is(m->nodes.items[i].op, "Gelu"))
            return true;
    return false;
}

static bool of_one_kind(const struct work *w, uint32_t x, uint32_t y)
{
    const struct onnx *a = w->models[x].g->m, *b = w->models[y].g->m;
    return w->models[x].dynamic == w->models[y].dynamic && has_fused_nodes(a) == has_fused_nodes(b);
}

static uint32_t propose(struct work *w, const struct candidate *list, uint32_t count,
                        struct proposal *ret)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = i + 1; k < count && list[k].local == list[i].local; k++) {
            const struct wclass *a = &w->classes.items[list[i].cls],
                                *b = &w->classes.items[list[k].cls];
            if (!(a->owners & ~b->owners) || !(b->owners & ~a->owners) ||
                list[i].model == list[k].model || !of_one_kind(w, list[i].model, list[k].model))
                continue;
            ret[found++] = (struct proposal){list[i].order,
                                             list[i].local,
                                             {list[i].model, list[k].model},
                                             {list[i].node, list[k].node}};
            break; /* one for each class: others follow once this one is settled */
        }
    if (found)
        qsort(ret, found, sizeof(*ret), by_order);
    return found;
}

static bool round_of(struct work *w, struct intern *tried, uint32_t *tries, bool *ret_kept)
{
    struct candidate *list;
    uint32_t count;
    *ret_kept = false;
    if (!candidates(w, &list, &count))
        return false;
    struct proposal *all = calloc(count + 1, sizeof(*all));
    bool ok = all || err_set(w->e, ERR_MEMORY, "match: no memory");
    uint32_t found = ok ? propose(w, list, count, all) : 0;
    for (uint32_t i = 0; ok && i < found && !*ret_kept && *tries < MATCH_TRIES_MAX; i++) {
        uint32_t key[4] = {all[i].models[0], all[i].nodes[0], all[i].models[1], all[i].nodes[1]};
        uint32_t had = tried->count, id;
        ok = intern_id(tried, key, sizeof(key), &id, w->e);
        if (!ok || id < had)
            continue;
        ++*tries;
        ok = try_pair(w, all[i].models, all[i].nodes, ret_kept);
    }
    free(list);
    free(all);
    return ok;
}

bool work_match(struct work *w)
{
    struct intern tried = {0};
    uint32_t tries = 0;
    bool kept = true, ok = true, cycle;
    while (ok && kept && w->model_count > 1)
        ok = round_of(w, &tried, &tries, &kept);
    intern_done(&tried);
    return ok && work_classes(w) && work_edges(w, &cycle) &&
           (!cycle || err_set(w->e, ERR_INTERNAL, "the union of the models has a cycle"));
}
