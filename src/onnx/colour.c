/* colour.c - who has a class, and which modalities it depends on.
 *
 * Inputs of a model are grouped to modalities.  Inputs without weights of their own (masks, caches)
 * belong to what they first meet; inputs that only pass a table of embeddings (ids, token types,
 * positions) belong to one another where they meet; what has layers of its own (a picture, a sound,
 * a second picture) stays apart.  Dependence is by content: a tensor's shape carries no modality.
 *
 * A colour is the set of models that have a class, with the modalities that it has in each.  It is
 * taken over all models together, so that a shared region is cut in the same way in each of
 * them. */
#include "onnx/work.h"

#include <stdlib.h>
#include <string.h>

#define MASK_BITS 64u

enum level { LEVEL_NONE, LEVEL_TABLE, LEVEL_LAYERS };

struct groups {
    const struct work *w;
    struct wmodel *m;
    uint8_t parent[MASK_BITS];
    uint8_t level[MASK_BITS];
    bool whole[MASK_BITS]; /* integers: text rather than signals */
    bool cache[MASK_BITS]; /* reals without weights that met integers first */
};

static unsigned bit_of(uint32_t input)
{
    return input < MASK_BITS ? input : MASK_BITS - 1;
}

static unsigned root(const struct groups *g, unsigned i)
{
    while (g->parent[i] != i)
        i = g->parent[i];
    return i;
}

static uint64_t roots(const struct groups *g, uint64_t mask)
{
    uint64_t r = 0;
    for (unsigned i = 0; i < MASK_BITS; i++)
        if (mask >> i & 1)
            r |= (uint64_t)1 << root(g, i);
    return r;
}

static void join(struct groups *g, unsigned from, unsigned to)
{
    from = root(g, from);
    to = root(g, to);
    if (from == to)
        return;
    g->parent[from] = (uint8_t)to;
    if (g->level[from] > g->level[to])
        g->level[to] = g->level[from];
    g->whole[to] |= g->whole[from];
}

/* Which of the others an input without weights belongs to: text first, then the least deep one. */
static unsigned host(const struct groups *g, uint64_t set, unsigned guest)
{
    unsigned best = MASK_BITS;
    for (unsigned i = 0; i < MASK_BITS; i++) {
        if (!(set >> i & 1) || i == guest)
            continue;
        if (best == MASK_BITS || (g->whole[i] && !g->whole[best]) ||
            (g->whole[i] == g->whole[best] && g->level[i] < g->level[best]))
            best = i;
    }
    return best;
}

static void meet(struct groups *g, uint64_t set)
{
    for (unsigned i = 0; i < MASK_BITS; i++)
        if (set >> i & 1 && g->level[i] == LEVEL_NONE && g->parent[i] == i) {
            unsigned to = host(g, set, i);
            if (to != MASK_BITS) {
                g->cache[i] |= !g->whole[i] && g->whole[to];
                join(g, i, to);
            }
        }
    unsigned first = MASK_BITS;
    set = roots(g, set);
    for (unsigned i = 0; i < MASK_BITS; i++) {
        if (!(set >> i & 1) || g->level[i] != LEVEL_TABLE)
            continue;
        if (first == MASK_BITS)
            first = i;
        else
            join(g, i, first);
    }
}

/* Groups of ids that came to hold a cache (past keys and values): a decoder that is called again
 * and again stays in one piece, whatever else it meets. */
static uint64_t caches(const struct groups *g)
{
    uint64_t mask = 0;
    for (unsigned i = 0; i < MASK_BITS; i++)
        if (g->cache[i])
            mask |= (uint64_t)1 << root(g, i);
    return mask;
}

/* What a node adds to its modality: a table's look-up, or layers. */
static enum level level_of(const struct groups *g, const struct fnode *n)
{
    const struct fsig *s = &g->w->known.sigs.items[n->sig];
    const struct fgraph *graph = g->m->g;
    if (s->opaque)
        return LEVEL_LAYERS;
    for (uint32_t i = 0; i < n->in_count; i++) {
        const struct fvalue *v = fnode_in(graph, n, i);
        if (v->kind != FV_CONST)
            continue;
        const struct fconst *c = &g->w->known.consts.items[v->index];
        if (c->rank >= 2 && c->count > 64 && c->type != OT_BOOL && c->type != OT_INT64 &&
            c->type != OT_INT32)
            return s->plain && span_is(s->op, "Gather")                              ? LEVEL_TABLE
                   : s->plain && (span_is(s->op, "Add") || span_is(s->op, "Concat")) ? LEVEL_NONE
                                                                                     : LEVEL_LAYERS;
    }
    return LEVEL_NONE;
}

static void mask_node(struct groups *g, const struct fnode *n)
{
    const struct fsig *s = &g->w->known.sigs.items[n->sig];
    const struct fgraph *graph = g->m->g;
    uint64_t mask = 0;
    if (!s->plain || !(span_is(s->op, "Shape") || span_is(s->op, "Size")))
        for (uint32_t i = 0; i < n->in_count; i++)
            mask |= g->m->mask[graph->edges.items[n->in_first + i]];
    uint64_t set = roots(g, mask);
    if (set & (set - 1)) {
        meet(g, set);
        set = roots(g, mask);
    }
    if (set && !(set & (set - 1))) {
        unsigned only = (unsigned)__builtin_ctzll(set);
        enum level level = level_of(g, n);
        if (level > g->level[only])
            g->level[only] = (uint8_t)level;
    }
    for (uint32_t i = 0; i < n->out_count; i++)
        g->m->mask[graph->edges.items[n->out_first + i]] = mask;
}

static void group_model(const struct work *w, struct wmodel *m)
{
    struct groups g = {.w = w, .m = m};
    for (unsigned i = 0; i < MASK_BITS; i++)
        g.parent[i] = (uint8_t)i;
    for (uint32_t i = 0; i < m->g->values.count; i++) {
        const struct fvalue *v = &m->g->values.items[i];
        m->mask[i] = v->kind == FV_INPUT ? (uint64_t)1 << bit_of(v->index) : 0;
        if (v->kind == FV_INPUT)
            g.whole[bit_of(v->index)] |= v->type == OT_INT64 || v->type == OT_INT32;
    }
    for (uint32_t i = 0; i < m->g->nodes.count; i++)
        if (!m->g->nodes.items[i].dead)
            mask_node(&g, &m->g->nodes.items[i]);
    for (uint32_t i = 0; i < m->g->values.count; i++)
        m->mask[i] = roots(&g, m->mask[i]);
    for (size_t i = 0; i < m->g->m->input_count; i++)
        m->group[i] = (uint8_t)root(&g, bit_of((uint32_t)i));
    m->caches = caches(&g);
}

static bool has(const char *name, const char *const *parts)
{
    for (; *parts; parts++)
        if (strcasestr(name, *parts))
            return true;
    return false;
}

enum share_modality colour_kind(const struct onnx *m, uint32_t input)
{
    static const char *const audio[] = {
        "audio",          "wave",  "speech",  "mel",   "input_values",
        "input_features", "fbank", "spectro", "sound", NULL};
    static const char *const image[] = {"pixel", "image", "vision", NULL};
    static const char *const state[] = {"past", "cache", "hidden", "embed", "state", NULL};
    static const char *const text[] = {"ids", "mask", "token", "text", "position", NULL};
    const struct port *p = &m->inputs[input];
    bool whole = p->dtype == DT_I64 || p->dtype == DT_I32;
    if (has(p->name, state))
        return SHARE_TENSOR;
    if (has(p->name, audio))
        return SHARE_AUDIO;
    if (has(p->name, image))
        return SHARE_IMAGE;
    if ((whole || p->dtype == DT_BOOL) && (has(p->name, text) || p->shape.rank == 2))
        return SHARE_TEXT;
    return !whole && p->shape.rank == 4 ? SHARE_IMAGE : SHARE_TENSOR;
}

/* ---- colours ---- */

struct fact {
    uint32_t cls, model;
    uint64_t mask;
};

static int by_fact(const void *x, const void *y)
{
    const struct fact *a = x, *b = y;
    if (a->cls != b->cls)
        return (a->cls > b->cls) - (a->cls < b->cls);
    if (a->model != b->model)
        return (a->model > b->model) - (a->model < b->model);
    return (a->mask > b->mask) - (a->mask < b->mask);
}

static bool colour_classes(struct work *w)
{
    size_t all = 0, count = 0;
    for (uint32_t k = 0; k < w->model_count; k++)
        all += w->models[k].g->nodes.count;
    struct fact *facts = calloc(all + 1, sizeof(*facts));
    if (!facts)
        return err_set(w->e, ERR_MEMORY, "colours: no memory");
    for (uint32_t k = 0; k < w->model_count; k++) {
        const struct wmodel *m = &w->models[k];
        for (uint32_t i = 0; i < m->g->nodes.count; i++)
            if (m->cls[i] != ONNX_NONE) {
                uint64_t mask = m->mask[m->g->edges.items[m->g->nodes.items[i].out_first]];
                facts[count++] =
                    (struct fact){m->cls[i], k, mask & m->caches ? mask & m->caches : mask};
            }
    }
    if (count)
        qsort(facts, count, sizeof(*facts), by_fact);
    for (size_t i = 0; i < count; i++) {
        struct wclass *c = &w->classes.items[facts[i].cls];
        if (i == 0 || facts[i].cls != facts[i - 1].cls)
            c->colour = intern_hash(&c->owners, sizeof(c->owners), 1);
        else if (by_fact(&facts[i], &facts[i - 1]) == 0)
            continue;
        uint64_t key[2] = {facts[i].model, facts[i].mask};
        c->colour = intern_hash(key, sizeof(key), c->colour);
    }
    free(facts);
    return true;
}

/* What depends on no content (positions) has the colour of its first user with the same owners. */
static void colour_free(struct work *w)
{
    for (uint32_t i = w->sorted_count; i-- > 0;) {
        struct wclass *c = &w->classes.items[w->sorted[i]];
        if (c->depends || c->light)
            continue;
        const struct wclass *first = NULL;
        for (uint32_t k = 0; k < c->edge_count; k++) {
            const struct wedge *edge = &w->edges.items[c->edge_first + k];
            const struct wclass *user = &w->classes.items[edge->to];
            if (!(edge->flags & EDGE_TOKEN) && !user->light && user->owners == c->owners &&
                (!first || user->order < first->order))
                first = user;
        }
        if (first)
            c->colour = first->colour;
    }
}

bool work_colours(struct work *w)
{
    for (uint32_t k = 0; k < w->model_count; k++)
        group_model(w, &w->models[k]);
    if (!colour_classes(w))
        return false;
    colour_free(w);
    return true;
}
