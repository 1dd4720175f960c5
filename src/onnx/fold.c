/* fold.c - builds the canonical graph of a model (fold.h). */
#include "onnx/fold.h"

#include "base/num.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- constants ---- */

bool known_const(struct known *k, const struct fconst *c, uint32_t *ret, struct err *e)
{
    struct fconst entry = *c;
    if (!entry.digest.hex[0]) {
        struct digest_ctx *ctx = digest_start();
        if (!ctx) {
            free(entry.owned);
            return err_set(e, ERR_MEMORY, "constant: no memory");
        }
        int64_t head[2 + ONNX_RANK_MAX] = {entry.type, entry.rank};
        memcpy(head + 2, entry.dims, (size_t)entry.rank * sizeof(entry.dims[0]));
        digest_add(ctx, head, sizeof(head[0]) * (size_t)(2 + entry.rank));
        digest_add(ctx, entry.data, (size_t)entry.bytes);
        entry.digest = digest_finish(ctx);
    }
    uint32_t had = k->const_ids.count;
    if (!intern_id(&k->const_ids, entry.digest.hex, DIGEST_HEX, ret, e)) {
        free(entry.owned);
        return false;
    }
    if (*ret != had) {
        struct fconst *old = &k->consts.items[*ret];
        if (!old->data && entry.data && !entry.owned)
            old->data = entry.data;
        if (!old->data && !old->graph) { /* made by a pattern: now there is a way to get it again */
            old->graph = entry.graph;
            old->node = entry.node;
        }
        free(entry.owned);
        return true;
    }
    if (!POOL_ADD(k->consts, 1, INTERN_MAX, "constants", e)) {
        free(entry.owned);
        return false;
    }
    if (entry.owned && entry.bytes > FOLD_KEEP_MAX && entry.graph) {
        free(entry.owned);
        entry.owned = NULL;
        entry.data = NULL;
    }
    k->consts.items[*ret] = entry;
    return true;
}

void known_done(struct known *k)
{
    for (uint32_t i = 0; i < k->consts.count; i++)
        free(k->consts.items[i].owned);
    free(k->consts.items);
    free(k->sigs.items);
    free(k->sig_consts.items);
    intern_done(&k->const_ids);
    intern_done(&k->sig_ids);
    *k = (struct known){0};
}

static bool new_value(struct fgraph *g, const struct fvalue *v, uint32_t *ret, struct err *e)
{
    if (!POOL_ADD(g->values, 1, 2 * ONNX_VALUES_MAX, "values", e))
        return false;
    *ret = g->values.count - 1;
    g->values.items[*ret] = *v;
    return true;
}

bool fold_const_value(struct fgraph *g, uint32_t constant, uint32_t origin, uint32_t *ret,
                      struct err *e)
{
    const struct fconst *c = &g->known->consts.items[constant];
    struct fvalue v = {
        .kind = FV_CONST, .index = constant, .origin = origin, .type = c->type, .rank = -1};
    if (c->rank <= TENSOR_RANK_MAX) {
        v.rank = c->rank;
        memcpy(v.dims, c->dims, sizeof(v.dims));
    }
    return new_value(g, &v, ret, e);
}

/* The value of an original constant, made when it is first used. */
static bool value_of(struct fgraph *g, uint32_t id, uint32_t *ret, struct err *e)
{
    struct onnx *m = g->m;
    *ret = 0;
    if (id == ONNX_NONE)
        return true;
    *ret = g->of_value[id];
    if (*ret || m->values.items[id].kind != VALUE_CONST)
        return *ret || err_set(e, ERR_INTERNAL, "a value without a place");
    uint32_t tensor = m->values.items[id].index, constant;
    if (!onnx_tensor_digest(m, tensor, e))
        return false;
    const struct gtensor *t = &m->tensors.items[tensor];
    struct fconst c = {.digest = t->digest,
                       .type = t->type,
                       .rank = t->rank,
                       .count = t->count,
                       .bytes = t->bytes,
                       .data = t->data};
    memcpy(c.dims, t->dims, sizeof(c.dims));
    if (t->is_input)
        c.digest.hex[0] = 'i'; /* fconst_is_default() */
    if (!known_const(g->known, &c, &constant, e) || !fold_const_value(g, constant, id, ret, e))
        return false;
    g->of_value[id] = *ret;
    return true;
}

/* Inputs of an original node as constants with bytes; false when one is none. */
static bool const_inputs(struct fgraph *g, const struct gnode *n, const struct fconst **in,
                         struct fconst *heads, uint8_t **owned, struct err *e, bool *ret_all)
{
    *ret_all = true;
    for (uint32_t i = 0; i < n->in_count; i++) {
        uint32_t id;
        in[i] = NULL;
        owned[i] = NULL;
        if (!value_of(g, g->m->refs.items[n->in_first + i], &id, e))
            return false;
        const struct fvalue *v = &g->values.items[id];
        if (v->kind == FV_NONE)
            continue;
        if (v->kind != FV_CONST || fconst_is_default(&g->known->consts.items[v->index])) {
            *ret_all = false;
            continue;
        }
        heads[i] = g->known->consts.items[v->index];
        in[i] = &heads[i];
    }
    for (uint32_t i = 0; *ret_all && i < n->in_count; i++)
        if (in[i]) {
            uint32_t id = g->of_value[g->m->refs.items[n->in_first + i]];
            if (!fold_fetch(g->known, g->values.items[id].index, &heads[i].data, &owned[i], e))
                return false;
        }
    return true;
}

static bool compute(struct fgraph *g, uint32_t node, struct fconst *out, bool *ret_ok,
                    struct err *e)
{
    const struct gnode *n = &g->m->nodes.items[node];
    size_t count = n->in_count + 1u;
    const struct fconst **in = calloc(count, sizeof(*in));
    struct fconst *heads = calloc(count, sizeof(*heads));
    uint8_t **owned = calloc(count, sizeof(*owned));
    bool all = false, ok = in && heads && owned;
    *ret_ok = false;
    if (!ok)
        err_set(e, ERR_MEMORY, "folding: no memory");
    ok = ok && const_inputs(g, n, in, heads, owned, e, &all);
    if (ok && all)
        ok = eval_node(g->m, n, in, n->in_count, g->one_max, out, ret_ok, e);
    for (uint32_t i = 0; owned && i < n->in_count; i++)
        free(owned[i]);
    free((void *)in);
    free(heads);
    free(owned);
    return ok;
}

bool fold_fetch(struct known *k, uint32_t constant, const uint8_t **ret, uint8_t **ret_owned,
                struct err *e)
{
    const struct fconst *c = &k->consts.items[constant];
    *ret_owned = NULL;
    *ret = c->data;
    if (c->data)
        return true;
    struct fconst again = {0};
    bool ok;
    uint64_t bytes = c->bytes;
    if (!c->graph)
        return err_set(e, ERR_INTERNAL, "a constant without its bytes");
    if (!compute(c->graph, c->node, &again, &ok, e))
        return false;
    if (!ok || again.bytes != bytes) {
        free(again.owned);
        return err_set(e, ERR_INTERNAL, "a folded constant came out differently");
    }
    *ret = *ret_owned = again.owned;
    return true;
}

/* ---- nodes ---- */

static bool add_edge(struct fgraph *g, uint32_t id, struct err *e)
{
    if (!POOL_ADD(g->edges, 1, 8u * ONNX_EDGES_MAX, "edges", e))
        return false;
    g->edges.items[g->edges.count - 1] = id;
    return true;
}

static bool is_alias(const struct fgraph *g, const struct gnode *n)
{
    if (onnx_is_op(n, "Identity"))
        return n->in_count == 1 && n->out_count == 1;
    if (!onnx_is_op(n, "Dropout") || n->in_count < 1 || n->out_count < 1 || n->version < 7)
        return false;
    for (uint32_t i = 1; i < n->out_count; i++)
        if (g->m->refs.items[n->out_first + i] != ONNX_NONE)
            return false;
    if (n->in_count > 1 && !onnx_value_tensor(g->m, g->m->refs.items[n->in_first + 1]))
        return false;       /* a ratio that is computed would have to come along */
    return n->in_count < 3; /* without training_mode */
}

/* The canonical node's inputs as a key: equal constants are equal, whatever their names. */
static bool node_key(const struct fgraph *g, const struct fnode *n, uint64_t **ret, struct err *e)
{
    uint64_t *key = malloc((n->in_count + 1u) * sizeof(*key));
    if (!key)
        return err_set(e, ERR_MEMORY, "graph: no memory");
    key[0] = n->sig;
    for (uint32_t i = 0; i < n->in_count; i++) {
        const struct fvalue *v = fnode_in(g, n, i);
        key[i + 1] =
            v->kind == FV_CONST ? (uint64_t)1 << 40 | v->index : g->edges.items[n->in_first + i];
    }
    *ret = key;
    return true;
}

static bool random_op(struct span op)
{
    return op.size >= 6 && (memcmp(op.data, "Random", 6) == 0 || span_is(op, "Multinomial") ||
                            span_is(op, "Bernoulli") || span_is(op, "Dropout"));
}

/* With shapes known, nodes may only be equal because of them: adopt.c tells these apart. */
static bool equal_by_shapes(const struct fgraph *g, const struct fnode *n)
{
    bool numbers = false;
    for (uint32_t i = 0; g->at && i < n->in_count; i++)
        numbers |= fnode_in(g, n, i)->kind == FV_CONST && fnode_in(g, n, i)->type == OT_INT64;
    return numbers;
}

/* Makes the node, or finds the equal one that is there; its outputs get their values. */
static bool place_node(struct fgraph *g, uint32_t node, struct fnode *f, struct err *e)
{
    const struct gnode *n = &g->m->nodes.items[node];
    uint32_t at = g->nodes.count, had = g->same.count, same = had;
    uint64_t *key;
    if (!node_key(g, f, &key, e))
        return false;
    bool unique = random_op(n->op) || equal_by_shapes(g, f), ok = true;
    if (unique) { /* two dice are never one */
        uint64_t dice[2] = {UINT64_MAX, at};
        ok = intern_id(&g->same, dice, sizeof(dice), &same, e);
    } else {
        ok = intern_id(&g->same, key, (f->in_count + 1u) * sizeof(*key), &same, e);
    }
    free(key);
    if (!ok)
        return false;
    if (same < had) {
        g->edges.count = f->in_first;
        const struct fnode *old = &g->nodes.items[same];
        for (uint32_t i = 0; i < n->out_count && i < old->out_count; i++)
            if (g->m->refs.items[n->out_first + i] != ONNX_NONE)
                g->of_value[g->m->refs.items[n->out_first + i]] =
                    g->edges.items[old->out_first + i];
        return true;
    }
    f->out_first = g->edges.count;
    f->out_count = n->out_count;
    for (uint32_t i = 0; i < n->out_count; i++) {
        uint32_t id, origin = g->m->refs.items[n->out_first + i];
        struct fvalue v = {.kind = FV_NODE, .index = at, .slot = i, .origin = origin, .rank = -1};
        if (!new_value(g, &v, &id, e) || !add_edge(g, id, e))
            return false;
        if (origin != ONNX_NONE)
            g->of_value[origin] = id;
    }
    if (!POOL_ADD(g->nodes, 1, ONNX_NODES_MAX, "nodes", e) ||
        !POOL_ADD(g->origins, 1, ONNX_NODES_MAX, "nodes", e))
        return false;
    f->origin_first = g->origins.count - 1;
    f->origin_count = 1;
    g->origins.items[f->origin_first] = node;
    g->nodes.items[at] = *f;
    return true;
}

static bool add_inputs(struct fgraph *g, uint32_t node, struct fnode *f, const uint32_t *extra,
                       uint32_t extras, struct err *e)
{
    const struct gnode *n = &g->m->nodes.items[node];
    uint32_t id;
    f->in_first = g->edges.count;
    for (uint32_t i = 0; i < n->in_count; i++)
        if (!value_of(g, g->m->refs.items[n->in_first + i], &id, e) || !add_edge(g, id, e))
            return false;
    for (uint32_t i = 0; i < extras; i++) {
        id = 0;
        if (extra[i] != ONNX_NONE && !fold_const_value(g, extra[i], ONNX_NONE, &id, e))
            return false;
        if (!add_edge(g, id, e))
            return false;
    }
    while (g->edges.count > f->in_first && g->edges.items[g->edges.count - 1] == 0)
        g->edges.count--; /* inputs left out at the end */
    if (n->capture_count) {
        uint32_t *captures = calloc(n->capture_count, sizeof(*captures));
        bool ok = captures ? signature_captures(g->m, n, captures, e)
                           : err_set(e, ERR_MEMORY, "no memory");
        for (uint32_t i = 0; ok && i < n->capture_count; i++)
            ok = value_of(g, captures[i], &id, e) && add_edge(g, id, e);
        free(captures);
        if (!ok)
            return false;
    }
    f->in_count = g->edges.count - f->in_first;
    return true;
}

/* Steps to compute a node's result again when none is kept. */
static unsigned depth_of(const struct fgraph *g, const struct gnode *n)
{
    unsigned most = 0;
    for (uint32_t i = 0; i < n->in_count; i++) {
        uint32_t id = g->m->refs.items[n->in_first + i];
        const struct fvalue *v = &g->values.items[id == ONNX_NONE ? 0 : g->of_value[id]];
        if (v->kind == FV_CONST && g->known->consts.items[v->index].depth > most)
            most = g->known->consts.items[v->index].depth;
    }
    return most + 1;
}

static bool try_fold(struct fgraph *g, uint32_t node, bool *ret_done, struct err *e)
{
    const struct gnode *n = &g->m->nodes.items[node];
    struct fconst c = {0};
    bool ok;
    *ret_done = false;
    if (!eval_can(g->m, n))
        return true;
    if (!compute(g, node, &c, &ok, e))
        return false;
    if (c.bytes > FOLD_KEEP_MAX)
        c.depth = depth_of(g, n);
    if (!ok || c.bytes > g->room || c.depth > FOLD_DEPTH_MAX) {
        free(c.owned);
        return true;
    }
    g->room -= c.bytes;
    uint32_t constant, id, origin = g->m->refs.items[n->out_first];
    c.graph = g;
    c.node = node;
    if (!known_const(g->known, &c, &constant, e) || !fold_const_value(g, constant, origin, &id, e))
        return false;
    if (origin != ONNX_NONE)
        g->of_value[origin] = id;
    *ret_done = true;
    return true;
}

/* Integers that the runs of shapes know; what is not exact in their numbers is left alone. */
static bool known_ints(const struct fgraph *g, uint32_t origin, struct fconst *ret)
{
    static const double exact = 9007199254740992.0; /* 2^53 */
    const struct infer *fa = g->at->a, *fb = g->at->b;
    const struct ivalue *x = &fa->values[origin], *y = &fb->values[origin];
    if (!x->has || !y->has || x->count != y->count || x->rank != y->rank ||
        (x->type != OT_INT64 && x->type != OT_INT32) || x->type != y->type)
        return false;
    size_t width = x->type == OT_INT64 ? 8 : 4;
    *ret = (struct fconst){.type = x->type,
                           .rank = x->rank,
                           .count = x->count,
                           .bytes = x->count * width,
                           .owned = malloc(x->count * width + 1)};
    bool ok = ret->owned != NULL;
    memcpy(ret->dims, x->dims, sizeof(x->dims));
    for (int i = 0; ok && i < x->rank; i++)
        ok = x->dims[i] == y->dims[i];
    for (uint32_t i = 0; ok && i < x->count; i++) {
        double item = fa->items.items[x->at + i];
        int64_t whole = item > -exact && item < exact ? (int64_t)item : 0;
        int32_t small = (int32_t)whole;
        ok = (double)whole == item && fb->items.items[y->at + i] == item &&
             (width == 8 || small == whole);
        memcpy(ret->owned + i * width, width == 8 ? (void *)&whole : (void *)&small, width);
    }
    ret->data = ret->owned;
    if (!ok)
        free(ret->owned);
    return ok;
}

static bool try_known(struct fgraph *g, uint32_t node, bool *ret_done, struct err *e)
{
    const struct gnode *n = &g->m->nodes.items[node];
    uint32_t constant, id, origin = n->out_count == 1 ? g->m->refs.items[n->out_first] : ONNX_NONE;
    struct fconst c;
    *ret_done = false;
    if (!g->at || origin == ONNX_NONE || !known_ints(g, origin, &c))
        return true;
    if (!known_const(g->known, &c, &constant, e) || !fold_const_value(g, constant, origin, &id, e))
        return false;
    g->values.items[id].by_shape = true;
    g->of_value[origin] = id;
    *ret_done = true;
    return true;
}

bool fold_reshaped(const struct fgraph *g, const struct gnode *n, struct fconst *ret)
{
    if (!g->at || !onnx_is_op(n, "Reshape") || n->graph != ONNX_MAIN || n->in_count != 2 ||
        n->out_count != 1 || g->m->refs.items[n->out_first] == ONNX_NONE)
        return false;
    const struct ivalue *x = &g->at->a->values[g->m->refs.items[n->out_first]],
                        *y = &g->at->b->values[g->m->refs.items[n->out_first]];
    bool ok = x->rank > 0 && x->rank == y->rank;
    for (int i = 0; ok && i < x->rank; i++)
        ok = x->dims[i] > 0 && x->dims[i] == y->dims[i];
    if (!ok || !ret)
        return ok;
    uint64_t rank = (uint64_t)x->rank;
    *ret = (struct fconst){
        .type = OT_INT64, .rank = 1, .dims = {x->rank}, .count = rank, .bytes = 8 * rank};
    ret->owned = malloc((size_t)ret->bytes);
    if (ret->owned)
        memcpy(ret->owned, x->dims, (size_t)ret->bytes);
    ret->data = ret->owned;
    return ret->owned != NULL;
}

/* Puts the shape that a Reshape comes to in the place of its own. */
static bool say_shape(struct fgraph *g, uint32_t node, struct fnode *f, struct err *e)
{
    struct fconst c;
    uint32_t constant, id;
    if (f->in_count != 2 || fnode_in(g, f, 1)->kind != FV_CONST ||
        !fold_reshaped(g, &g->m->nodes.items[node], &c))
        return true;
    if (!known_const(g->known, &c, &constant, e) ||
        !fold_const_value(g, constant, fnode_in(g, f, 1)->origin, &id, e))
        return false;
    g->edges.items[f->in_first + 1] = id;
    return true;
}

static bool build_node(struct fgraph *g, uint32_t node, struct err *e)
{
    struct onnx *m = g->m;
    const struct gnode *n = &m->nodes.items[node];
    if (onnx_is_op(n, "Constant"))
        return true;
    if (is_alias(g, n)) {
        uint32_t id;
        if (!value_of(g, m->refs.items[n->in_first], &id, e))
            return false;
        if (id && m->refs.items[n->out_first] != ONNX_NONE) {
            g->of_value[m->refs.items[n->out_first]] = id;
            return true;
        }
    }
    bool done;
    if (!try_fold(g, node, &done, e) || done || !try_known(g, node, &done, e) || done)
        return done;
    struct fnode f = {.flops = 0};
    uint32_t extra[4], extras;
    return signature_of(g, node, &f.sig, extra, &extras, e) &&
           add_inputs(g, node, &f, extra, extras, e) && say_shape(g, node, &f, e) &&
           place_node(g, node, &f, e);
}

bool fold_merge(struct fgraph *g, struct err *e)
{
    uint32_t *to = calloc(g->values.count + 1u, sizeof(*to));
    bool ok = to || err_set(e, ERR_MEMORY, "graph: no memory");
    struct intern same = {0};
    POOL(uint32_t) first = {0};
    for (uint32_t i = 0; ok && i < g->values.count; i++)
        to[i] = i;
    for (uint32_t i = 0; ok && i < g->nodes.count; i++) {
        struct fnode *n = &g->nodes.items[i];
        uint64_t *key;
        uint32_t had = same.count, id;
        for (uint32_t k = 0; k < n->in_count; k++)
            g->edges.items[n->in_first + k] = to[g->edges.items[n->in_first + k]];
        if (n->dead || random_op(g->known->sigs.items[n->sig].op))
            continue;
        ok = node_key(g, n, &key, e);
        ok = ok && intern_id(&same, key, (n->in_count + 1u) * sizeof(*key), &id, e);
        free(ok ? key : NULL);
        if (ok && id == had && (ok = POOL_ADD(first, 1, ONNX_NODES_MAX, "nodes", e)))
            first.items[id] = i;
        if (!ok || id == had)
            continue;
        const struct fnode *old = &g->nodes.items[first.items[id]];
        for (uint32_t k = 0; k < n->out_count && k < old->out_count; k++)
            to[g->edges.items[n->out_first + k]] = g->edges.items[old->out_first + k];
        n->dead = true;
    }
    for (uint32_t i = 0; ok && i < g->m->values.count; i++)
        g->of_value[i] = to[g->of_value[i]];
    for (size_t i = 0; ok && i < g->m->output_count; i++)
        g->outputs[i] = to[g->outputs[i]];
    intern_done(&same);
    free(first.items);
    free(to);
    return ok;
}

/* ---- shapes ---- */

static bool look(struct fgraph *g, struct err *e)
{
    int64_t *dims[FOLD_RUNS] = {infer_dims(g->m, NULL, 0, 3, 11), infer_dims(g->m, NULL, 0, 5, 14)};
    bool ok = true;
    for (int i = 0; i < FOLD_RUNS; i++)
        ok = ok && (dims[i] || err_set(e, ERR_MEMORY, "shapes: no memory")) &&
             infer_run(g->m, dims[i], &g->seen[i], e);
    for (int i = 0; i < FOLD_RUNS; i++)
        free(dims[i]);
    return ok;
}

/* Two runs with different numbers for what is dynamic: what stays the same is fixed. */
static bool shapes(struct fgraph *g, struct err *e)
{
    for (uint32_t i = 0; i < g->values.count; i++) {
        struct fvalue *v = &g->values.items[i];
        if ((v->kind != FV_NODE && v->kind != FV_INPUT) || v->origin == ONNX_NONE)
            continue;
        const struct ivalue *x = &g->seen[0].values[v->origin], *y = &g->seen[1].values[v->origin];
        v->type = x->type;
        v->rank = x->rank == y->rank ? x->rank : -1;
        for (int k = 0; k < v->rank; k++) {
            v->dims[k] = x->dims[k] == y->dims[k] ? x->dims[k] : -1;
            if (v->dims[k] < 0 && x->dims[k] >= 0 && y->dims[k] >= 0)
                v->names[k] = (uint64_t)x->dims[k] << 32 ^ (uint64_t)y->dims[k];
        }
    }
    struct infer one = {0};
    int64_t *dims = infer_dims(g->m, NULL, 0, 1, 16);
    bool ok =
        (dims || err_set(e, ERR_MEMORY, "shapes: no memory")) && infer_run(g->m, dims, &one, e);
    for (uint32_t i = 0; ok && i < g->nodes.count; i++) {
        struct fnode *n = &g->nodes.items[i];
        for (uint32_t k = 0; k < n->origin_count; k++)
            n->flops += onnx_node_flops(g->m, &one, g->origins.items[n->origin_first + k]);
    }
    infer_done(&one);
    free(dims);
    return ok;
}

static bool drop_dead(struct fgraph *g, struct err *e)
{
    bool *used = calloc(g->values.count + 1, sizeof(*used));
    if (!used)
        return err_set(e, ERR_MEMORY, "graph: no memory");
    for (size_t i = 0; i < g->m->output_count; i++)
        used[g->outputs[i]] = true;
    for (uint32_t i = g->nodes.count; i-- > 0;) {
        struct fnode *n = &g->nodes.items[i];
        bool live = false;
        for (uint32_t k = 0; k < n->out_count; k++)
            live |= used[g->edges.items[n->out_first + k]];
        n->dead |= !live;
        for (uint32_t k = 0; !n->dead && k < n->in_count; k++)
            used[g->edges.items[n->in_first + k]] = true;
    }
    free(used);
    return true;
}

static bool build(struct fgraph *g, struct err *e)
{
    struct onnx *m = g->m;
    const struct ggraph *main_graph = &m->graphs.items[ONNX_MAIN];
    uint32_t id;
    struct fvalue none = {.kind = FV_NONE, .rank = -1, .origin = ONNX_NONE};
    for (uint32_t i = 0; i < m->tensors.count; i++)
        g->one_max += m->tensors.items[i].bytes;
    g->room = 4 * g->one_max + FOLD_EXTRA_MAX;
    g->one_max += FOLD_EXTRA_MAX;
    if (!look(g, e) || !new_value(g, &none, &id, e))
        return false;
    for (uint32_t i = 0; i < main_graph->in_count; i++) {
        uint32_t origin = m->refs.items[main_graph->in_first + i];
        struct fvalue v = {.kind = FV_INPUT, .index = i, .origin = origin, .rank = -1};
        if (!new_value(g, &v, &g->of_value[origin], e))
            return false;
    }
    for (uint32_t i = 0; i < main_graph->node_count; i++)
        if (!build_node(g, main_graph->node_first + i, e))
            return false;
    for (uint32_t i = 0; i < main_graph->out_count; i++)
        if (!value_of(g, m->refs.items[main_graph->out_first + i], &g->outputs[i], e))
            return false;
    intern_done(&g->same);
    return shapes(g, e) && patterns_find(g, e) && drop_dead(g, e);
}

static void forget(struct fgraph *g)
{
    for (int i = 0; i < FOLD_RUNS; i++)
        infer_done(&g->seen[i]);
}

bool fold_graph(struct onnx *m, struct known *known, const struct fold_at *at, struct fgraph **ret,
                struct err *e)
{
    struct fgraph *g = calloc(1, sizeof(*g));
    if (g) {
        g->m = m;
        g->known = known;
        g->at = at;
        g->of_value = calloc(m->values.count + 1, sizeof(*g->of_value));
        g->outputs = calloc(m->output_count + 1, sizeof(*g->outputs));
    }
    if (!g || !g->of_value || !g->outputs) {
        fold_free(g);
        return err_set(e, ERR_MEMORY, "graph: no memory");
    }
    if (!build(g, e)) {
        fold_free(g);
        return false;
    }
    forget(g);
    g->at = NULL;
    *ret = g;
    return true;
}

void fold_free(struct fgraph *g)
{
    if (!g)
        return;
    forget(g);
    intern_done(&g->same);
    free(g->values.items);
    free(g->nodes.items);
    free(g->edges.items);
    free(g->origins.items);
    free(g->of_value);
    free(g->outputs);
    free(g);
}
