/* fingerprint.c - classes: nodes that compute the same thing from the inputs (or ports) on.
 *
 * A class is the number of a key: the operator's signature and what each input is.  As inputs are
 * classes themselves, equal numbers mean equal computations down to the leaves, without trust in a
 * hash.  A leaf is an input's element type and rank, or a port's token. */
#include "onnx/work.h"

#include <stdlib.h>
#include <string.h>

#define TOKEN_ROUNDS 4

static bool leaf(struct work *w, int type, int rank, uint32_t token, uint64_t *ret)
{
    int64_t key[3] = {type, rank, token};
    uint32_t id;
    if (token) /* a port is itself, whatever flows through it */
        key[0] = key[1] = 0;
    if (!intern_id(&w->leaves, key, sizeof(key), &id, w->e))
        return false;
    *ret = CODE_LEAF | id;
    return true;
}

static uint32_t token_of(const struct work *w, uint64_t code)
{
    uint32_t low = 0, high = w->tokens.count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (w->tokens.items[middle].code < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < w->tokens.count && w->tokens.items[low].code == code ? w->tokens.items[low].token
                                                                      : 0;
}

uint64_t value_code(const struct work *w, const struct wmodel *m, uint32_t value)
{
    uint64_t code = m->code[value];
    uint32_t token = m->token[value] ? m->token[value] : token_of(w, code);
    if (!token)
        return code;
    int64_t key[3] = {0, 0, token};
    uint32_t id;
    /* the leaf of a token exists since work_classes() first met it */
    return intern_find(&w->leaves, key, sizeof(key), &id) ? CODE_LEAF | id : code;
}

static uint64_t const_bytes(const struct work *w, const struct fgraph *g, const struct fnode *n)
{
    const struct fsig *s = &w->known.sigs.items[n->sig];
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < n->in_count; i++)
        if (fnode_in(g, n, i)->kind == FV_CONST)
            bytes += w->known.consts.items[fnode_in(g, n, i)->index].bytes;
    for (uint32_t i = 0; i < s->const_count; i++)
        bytes += w->known.consts.items[w->known.sig_consts.items[s->const_first + i]].bytes;
    return bytes;
}

/* A table of numbers makes a class more than arithmetic on shapes. */
static bool has_table(const struct work *w, const struct fgraph *g, const struct fnode *n)
{
    for (uint32_t i = 0; i < n->in_count; i++) {
        const struct fvalue *v = fnode_in(g, n, i);
        if (v->kind != FV_CONST)
            continue;
        const struct fconst *c = &w->known.consts.items[v->index];
        bool whole =
            c->type == OT_INT64 || c->type == OT_INT32 || c->type == OT_BOOL || c->type == OT_UINT8;
        if (!whole && c->count > 64)
            return true;
    }
    return w->known.sigs.items[n->sig].opaque;
}

static bool new_class(struct work *w, const struct wmodel *m, const struct fnode *n,
                      const uint64_t *key, uint32_t id)
{
    if (!POOL_ADD(w->classes, 1, INTERN_MAX, "classes", w->e))
        return false;
    struct wclass *c = &w->classes.items[id];
    *c = (struct wclass){.sig = n->sig, .weight = const_bytes(w, m->g, n), .region = NO_REGION};
    const struct fsig *s = &w->known.sigs.items[n->sig];
    bool shape_only = s->plain && (span_is(s->op, "Shape") || span_is(s->op, "Size"));
    bool heavy = has_table(w, m->g, n); /* it, or what it is computed from */
    for (uint32_t i = 0; i < n->in_count && !shape_only; i++) {
        uint64_t code = key[2 + i];
        if (code >> 62 == CODE_LEAF >> 62) {
            c->depends = true;
        } else if (code >> 62 == CODE_NODE >> 62) {
            const struct wclass *maker = &w->classes.items[(code & CODE_MASK) >> CODE_SLOT_BITS];
            c->depends |= maker->depends;
            heavy |= !maker->light;
        }
    }
    c->spatial = n->out_count && m->g->values.items[m->g->edges.items[n->out_first]].rank >= 4;
    c->light = !c->depends && !heavy;
    /* what stays when the inputs that are no constants are taken out */
    uint64_t *local = malloc((n->in_count + 2u) * sizeof(*local));
    if (!local)
        return err_set(w->e, ERR_MEMORY, "classes: no memory");
    memcpy(local, key, (n->in_count + 2u) * sizeof(*local));
    for (uint32_t i = 0; i < n->in_count; i++)
        if (local[2 + i] >> 62 > CODE_CONST >> 62)
            local[2 + i] = 1;
    bool ok = intern_id(&w->locals, local, (n->in_count + 2u) * sizeof(*local), &c->local, w->e);
    free(local);
    return ok;
}

static bool class_node(struct work *w, struct wmodel *m, uint32_t node)
{
    const struct fnode *n = &m->g->nodes.items[node];
    uint64_t *key = malloc((n->in_count + 2u) * sizeof(*key));
    if (!key)
        return err_set(w->e, ERR_MEMORY, "classes: no memory");
    uint64_t model = (uint64_t)(m - w->models);
    key[0] = n->sig;
    key[1] = n->in_count | (w->whole >> model & 1 ? (model + 1) << 32 : 0); /* shared with nobody */
    for (uint32_t i = 0; i < n->in_count; i++)
        key[2 + i] = value_code(w, m, m->g->edges.items[n->in_first + i]);
    uint32_t had = w->class_ids.count, id;
    bool ok = intern_id(&w->class_ids, key, (n->in_count + 2u) * sizeof(*key), &id, w->e);
    if (ok && id == had)
        ok = new_class(w, m, n, key, id);
    free(key);
    if (!ok)
        return false;
    m->cls[node] = id;
    w->classes.items[id].owners |= (uint64_t)1 << (m - w->models);
    for (uint32_t i = 0; i < n->out_count; i++)
        m->code[m->g->edges.items[n->out_first + i]] =
            CODE_NODE | (uint64_t)id << CODE_SLOT_BITS | i;
    return true;
}

static bool class_model(struct work *w, struct wmodel *m)
{
    for (uint32_t i = 0; i < m->g->values.count; i++) {
        const struct fvalue *v = &m->g->values.items[i];
        uint64_t ignored;
        if (v->kind == FV_CONST)
            m->code[i] = CODE_CONST | v->index;
        else if (v->kind == FV_INPUT && !leaf(w, v->type, v->rank, 0, &m->code[i]))
            return false;
        if (m->token[i] && !leaf(w, 0, 0, m->token[i], &ignored))
            return false;
    }
    for (uint32_t i = 0; i < m->g->nodes.count; i++) {
        if (m->g->nodes.items[i].dead)
            m->cls[i] = ONNX_NONE;
        else if (!class_node(w, m, i))
            return false;
    }
    return true;
}

static int by_code(const void *a, const void *b)
{
    const struct token_code *x = a, *y = b;
    return x->code != y->code ? (x->code > y->code) - (x->code < y->code)
                              : (x->token > y->token) - (x->token < y->token);
}

/* A port holds for every value of its code, in all models. *ret_same: nothing new. */
static bool collect_tokens(struct work *w, bool *ret_same)
{
    POOL(struct token_code) found = {0};
    bool ok = true;
    for (uint32_t k = 0; ok && k < w->model_count; k++)
        for (uint32_t i = 0; ok && i < w->models[k].g->values.count; i++) {
            if (!w->models[k].token[i])
                continue;
            ok = POOL_ADD(found, 1, INTERN_MAX, "ports", w->e);
            if (ok)
                found.items[found.count - 1] =
                    (struct token_code){w->models[k].code[i], w->models[k].token[i]};
        }
    if (ok && found.count)
        qsort(found.items, found.count, sizeof(*found.items), by_code);
    *ret_same = ok && found.count == w->tokens.count &&
                (found.count == 0 ||
                 memcmp(found.items, w->tokens.items, found.count * sizeof(*found.items)) == 0);
    free(w->tokens.items);
    w->tokens.items = found.items;
    w->tokens.count = found.count;
    w->tokens.capacity = found.capacity;
    return ok;
}

bool work_classes(struct work *w)
{
    bool same = false;
    for (int round = 0; round < TOKEN_ROUNDS && !same; round++) {
        for (uint32_t i = 0; i < w->classes.count; i++)
            w->classes.items[i].owners = 0;
        for (uint32_t i = 0; i < w->model_count; i++)
            if (!class_model(w, &w->models[i]))
                return false;
        if (!collect_tokens(w, &same))
            return false;
    }
    for (uint32_t i = 0; i < w->classes.count; i++)
        w->classes.items[i].output = w->classes.items[i].ported = false;
    for (uint32_t k = 0; k < w->model_count; k++) {
        const struct wmodel *m = &w->models[k];
        for (size_t i = 0; i < m->g->m->output_count; i++) {
            uint64_t code = m->code[m->g->outputs[i]];
            if (code >> 62 == CODE_NODE >> 62)
                w->classes.items[(code & CODE_MASK) >> CODE_SLOT_BITS].output = true;
        }
    }
    for (uint32_t i = 0; i < w->tokens.count; i++)
        if (w->tokens.items[i].code >> 62 == CODE_NODE >> 62)
            w->classes.items[(w->tokens.items[i].code & CODE_MASK) >> CODE_SLOT_BITS].ported = true;
    for (uint32_t i = 0; i < w->classes.count; i++)
        if (w->classes.items[i].output || w->classes.items[i].ported)
            w->classes.items[i].light = false; /* somebody has to make it */
    return true;
}

uint64_t work_gain(const struct work *w)
{
    uint64_t gain = 0;
    for (uint32_t i = 0; i < w->classes.count; i++) {
        const struct wclass *c = &w->classes.items[i];
        if (c->owners && !c->light)
            gain += c->weight * (uint64_t)(__builtin_popcountll(c->owners) - 1);
    }
    return gain;
}

static int by_ends(const void *a, const void *b)
{
    const struct wedge *x = a, *y = b;
    if (x->from != y->from)
        return (x->from > y->from) - (x->from < y->from);
    if (x->to != y->to)
        return (x->to > y->to) - (x->to < y->to);
    return x->value != y->value ? (x->value > y->value) - (x->value < y->value)
                                : (x->flags > y->flags) - (x->flags < y->flags);
}

static bool model_edges(struct work *w, const struct wmodel *m)
{
    for (uint32_t i = 0; i < m->g->nodes.count; i++) {
        const struct fnode *n = &m->g->nodes.items[i];
        for (uint32_t k = 0; !n->dead && k < n->in_count; k++) {
            uint32_t value = m->g->edges.items[n->in_first + k];
            const struct fvalue *v = &m->g->values.items[value];
            if (v->kind != FV_NODE)
                continue;
            if (!POOL_ADD(w->edges, 1, 8u * ONNX_EDGES_MAX, "edges", w->e))
                return false;
            bool port = value_code(w, m, value) != m->code[value];
            w->edges.items[w->edges.count - 1] =
                (struct wedge){.from = m->cls[v->index],
                               .to = m->cls[i],
                               .value = m->code[value],
                               .models = (uint64_t)1 << (m - w->models),
                               .flags = port ? EDGE_TOKEN : 0};
        }
    }
    return true;
}

static void unique_edges(struct work *w)
{
    uint32_t count = 0;
    if (w->edges.count)
        qsort(w->edges.items, w->edges.count, sizeof(*w->edges.items), by_ends);
    for (uint32_t i = 0; i < w->edges.count; i++)
        if (count == 0 || by_ends(&w->edges.items[i], &w->edges.items[count - 1]) != 0)
            w->edges.items[count++] = w->edges.items[i];
        else
            w->edges.items[count - 1].models |= w->edges.items[i].models;
    w->edges.count = count;
    for (uint32_t i = 0; i < w->classes.count; i++)
        w->classes.items[i].edge_count = 0;
    for (uint32_t i = count; i-- > 0;) {
        w->classes.items[w->edges.items[i].from].edge_first = i;
        w->classes.items[w->edges.items[i].from].edge_count++;
    }
}

/* Sorts the classes; skip: edges with one of these flags do not count.  false: there is a cycle. */
static bool sort_classes(struct work *w, uint32_t *missing, uint32_t skip)
{
    uint32_t tail = 0, all = 0;
    memset(missing, 0, w->classes.count * sizeof(*missing));
    for (uint32_t i = 0; i < w->edges.count; i++)
        missing[w->edges.items[i].to] += !(w->edges.items[i].flags & skip);
    for (uint32_t i = 0; i < w->classes.count; i++) {
        all += w->classes.items[i].owners != 0;
        if (w->classes.items[i].owners && missing[i] == 0)
            w->sorted[tail++] = i;
    }
    for (uint32_t head = 0; head < tail; head++) {
        struct wclass *c = &w->classes.items[w->sorted[head]];
        c->order = head;
        for (uint32_t i = 0; i < c->edge_count; i++) {
            const struct wedge *edge = &w->edges.items[c->edge_first + i];
            if (!(edge->flags & skip) && --missing[edge->to] == 0)
                w->sorted[tail++] = edge->to;
        }
    }
    w->sorted_count = tail;
    return tail == all;
}

bool work_edges(struct work *w, bool *ret_cycle)
{
    w->edges.count = 0;
    for (uint32_t i = 0; i < w->model_count; i++)
        if (!model_edges(w, &w->models[i]))
            return false;
    unique_edges(w);
    for (uint32_t i = 0; i < w->edges.count; i++)
        if (class_is(w, w->edges.items[i].from, "Conv") &&
            class_is(w, w->edges.items[i].to, "Add") &&
            w->classes.items[w->edges.items[i].to].spatial)
            w->classes.items[w->edges.items[i].to].adds_conv = true;
    uint32_t *missing = calloc(w->classes.count + 1, sizeof(*missing));
    free(w->sorted);
    w->sorted = calloc(w->classes.count + 1, sizeof(*w->sorted));
    if (!missing || !w->sorted) {
        free(missing);
        return err_set(w->e, ERR_MEMORY, "edges: no memory");
    }
    w->turned = !sort_classes(w, missing, 0);
    *ret_cycle = w->turned && !sort_classes(w, missing, EDGE_TOKEN);
    free(missing);
    return true;
}
