/* weights.c - which constants a model holds, to see cheaply what other models can have in common
 * with it. */
#include "onnx/work.h"

#include <stdlib.h>
#include <string.h>

struct gathered {
    const struct known *known;
    uint64_t least;
    POOL(struct share_constant) list;
    struct err *e;
};

static bool gather(struct gathered *x, uint32_t constant)
{
    const struct fconst *c = &x->known->consts.items[constant];
    char text[17] = {0};
    if (c->bytes < x->least)
        return true;
    if (!POOL_ADD(x->list, 1, ONNX_EDGES_MAX, "constants", x->e))
        return false;
    memcpy(text, c->digest.hex, 16);
    x->list.items[x->list.count - 1] =
        (struct share_constant){.key = strtoull(text, NULL, 16), .bytes = c->bytes};
    return true;
}

static bool gather_node(struct gathered *x, const struct fgraph *g, const struct fnode *n)
{
    const struct fsig *s = &x->known->sigs.items[n->sig];
    for (uint32_t i = 0; i < n->in_count; i++)
        if (fnode_in(g, n, i)->kind == FV_CONST && !gather(x, fnode_in(g, n, i)->index))
            return false;
    for (uint32_t i = 0; i < s->const_count; i++)
        if (!gather(x, x->known->sig_consts.items[s->const_first + i]))
            return false;
    return true;
}

static int by_key(const void *a, const void *b)
{
    const struct share_constant *x = a, *y = b;
    return x->key < y->key ? -1 : x->key > y->key;
}

bool share_constants(const struct share *s, size_t i, uint64_t least, struct share_constant **ret,
                     size_t *count, struct err *e)
{
    const struct fgraph *g = s->work->models[i].g;
    struct gathered x = {.known = &s->work->known, .least = least, .e = e};
    bool ok = POOL_ADD(x.list, 0, ONNX_EDGES_MAX, "constants", e);
    for (uint32_t n = 0; ok && n < g->nodes.count; n++)
        ok = g->nodes.items[n].dead || gather_node(&x, g, &g->nodes.items[n]);
    if (!ok) {
        free(x.list.items);
        return false;
    }
    qsort(x.list.items, x.list.count, sizeof(*x.list.items), by_key);
    *ret = x.list.items;
    *count = 0;
    for (uint32_t k = 0; k < x.list.count; k++)
        if (k == 0 || x.list.items[k].key != x.list.items[k - 1].key)
            x.list.items[(*count)++] = x.list.items[k];
    return true;
}
