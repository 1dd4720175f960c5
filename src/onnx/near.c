/* near.c - near misses: what two models nearly share, and why they do not.
 *
 * Two kinds: weights that both have, but that are computed with differently (another epsilon,
 * another operator); and models of one build of which some weights were changed. */
#include "onnx/module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEAR_MIN 4096u     /* bytes of a constant that is worth a word */
#define NEAR_COMMON 65536u /* bytes in common that make two models relatives */
#define NEAR_LAYER_MAX 100000
#define ACTIVATION_NODES 5u /* so far from its end an activation begins at most */
#define SHAPE_ITEMS 8u

struct near {
    struct work *w;
    struct share *s;
    uint64_t *users;  /* owned: models that use each constant */
    uint64_t *shared; /* owned: models that have it in a module that they share */
    uint32_t capacity;
};

/* Bits of the models that use each constant, and of those that have it in a shared module. */
static void const_users(struct near *n, const struct instance *list, uint32_t count)
{
    struct work *w = n->w;
    for (uint32_t k = 0; k < w->model_count; k++) {
        const struct fgraph *g = w->models[k].g;
        for (uint32_t i = 0; i < g->nodes.count; i++)
            for (uint32_t j = 0; !g->nodes.items[i].dead && j < g->nodes.items[i].in_count; j++)
                if (fnode_in(g, &g->nodes.items[i], j)->kind == FV_CONST)
                    n->users[fnode_in(g, &g->nodes.items[i], j)->index] |= (uint64_t)1 << k;
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct instance *x = &list[i];
        uint64_t models = n->s->modules[x->module].models;
        const struct fgraph *g = w->models[x->model].g;
        for (uint32_t k = 0; models & (models - 1) && k < x->nodes.count; k++)
            for (uint32_t j = 0; j < g->nodes.items[x->nodes.items[k]].in_count; j++) {
                const struct fvalue *v = fnode_in(g, &g->nodes.items[x->nodes.items[k]], j);
                if (v->kind == FV_CONST)
                    n->shared[v->index] |= models;
            }
    }
}

/* ---- names, for people only ---- */

/* The first part of a name that is a number: "encoder.layers.10.mlp" is of layer 10; -1: none. */
static int layer_in(struct span name)
{
    for (size_t i = 0; i + 1 < name.size; i++) {
        if (name.data[i] != '.' && name.data[i] != '/')
            continue;
        int number = 0;
        size_t k = i + 1;
        while (k < name.size && name.data[k] >= '0' && name.data[k] <= '9' &&
               number < NEAR_LAYER_MAX)
            number = number * 10 + (name.data[k++] - '0');
        if (k > i + 1 && (k == name.size || name.data[k] == '.' || name.data[k] == '/'))
            return number;
    }
    return -1;
}

static struct span node_name(const struct wmodel *m, uint32_t node)
{
    const struct fnode *n = &m->g->nodes.items[node];
    if (!n->origin_count)
        return (struct span){0};
    return m->g->m->nodes.items[m->g->origins.items[n->origin_first]].name;
}

/* Layer of a weight: by its own name, or by that of the node that uses it. */
static int layer_of(const struct wmodel *m, uint32_t node, uint32_t input)
{
    uint32_t origin = fnode_in(m->g, &m->g->nodes.items[node], input)->origin;
    int layer = origin == ONNX_NONE ? -1 : layer_in(m->g->m->values.items[origin].name);
    return layer >= 0 ? layer : layer_in(node_name(m, node));
}

static void add_layer(char *why, size_t size, int layer)
{
    size_t used = strlen(why);
    if (layer >= 0)
        (void)snprintf(why + used, size - used, ", from layer %d on", layer);
}

/* ---- the same weights, otherwise used ---- */

/* A node of a model that uses a constant; ONNX_NONE: none. */
static uint32_t user_of(const struct wmodel *m, uint32_t constant)
{
    for (uint32_t i = 0; i < m->g->nodes.count; i++)
        for (uint32_t k = 0; !m->g->nodes.items[i].dead && k < m->g->nodes.items[i].in_count; k++) {
            const struct fvalue *v = fnode_in(m->g, &m->g->nodes.items[i], k);
            if (v->kind == FV_CONST && v->index == constant)
                return i;
        }
    return ONNX_NONE;
}

static bool is_activation(const char *op)
{
    static const char *const ops[] = {"Relu",     "Gelu",        "FastGelu",  "QuickGelu", "Erf",
                                      "Tanh",     "Sigmoid",     "LeakyRelu", "Elu",       "Selu",
                                      "Softplus", "HardSigmoid", "HardSwish", "Mish",      "PRelu"};
    for (size_t i = 0; i < sizeof(ops) / sizeof(*ops); i++)
        if (strcmp(op, ops[i]) == 0)
            return true;
    return false;
}

/* The activation that a node is a part of: itself, or a few nodes before it; false: none. */
static bool activation_of(const struct near *n, const struct wmodel *m, uint32_t node,
                          unsigned depth, char ret[SPAN_TEXT_SIZE])
{
    const struct fnode *f = &m->g->nodes.items[node];
    span_text(n->w->known.sigs.items[f->sig].op, ret);
    if (is_activation(ret))
        return true;
    for (uint32_t k = 0; depth && k < f->in_count && k < 3; k++) {
        const struct fvalue *v = fnode_in(m->g, f, k);
        if (v->kind == FV_NODE && activation_of(n, m, v->index, depth - 1, ret))
            return true;
    }
    return false;
}

/* One step towards the first difference; users: the nodes that led here.  true: it is here, and in
 * why. */
static bool differs_here(const struct near *n, const struct wmodel *x, uint32_t p,
                         const struct wmodel *y, uint32_t q, const uint32_t users[2], char *why,
                         size_t size)
{
    const struct fnode *a = &x->g->nodes.items[p], *b = &y->g->nodes.items[q];
    const struct fsig *sa = &n->w->known.sigs.items[a->sig], *sb = &n->w->known.sigs.items[b->sig];
    char one[SPAN_TEXT_SIZE], two[SPAN_TEXT_SIZE], what[128];
    span_text(sa->op, one);
    span_text(sb->op, two);
    if (!span_equal(sa->op, sb->op) || sa->plain != sb->plain) {
        char acts[2][SPAN_TEXT_SIZE];
        bool other = activation_of(n, x, users[0], ACTIVATION_NODES, acts[0]) &&
                     activation_of(n, y, users[1], ACTIVATION_NODES, acts[1]) &&
                     strcmp(acts[0], acts[1]) != 0;
        (void)snprintf(why, size, "same weights, other %s: %s and %s",
                       other ? "activation" : "operators", other ? acts[0] : one,
                       other ? acts[1] : two);
        return true;
    }
    if (a->sig != b->sig) {
        signature_difference(&n->w->known, a->sig, b->sig, what, sizeof(what));
        (void)snprintf(why, size, "same weights, other %s (%s)", what, one);
        return true;
    }
    return false;
}

/* Which input of two nodes of one signature differs: *ret_k; false: none that can be followed. */
static bool differing_input(const struct near *n, const struct wmodel *x, uint32_t p,
                            const struct wmodel *y, uint32_t q, uint32_t *ret_k)
{
    const struct fnode *a = &x->g->nodes.items[p], *b = &y->g->nodes.items[q];
    for (uint32_t k = 0; k < a->in_count && k < b->in_count; k++)
        if (value_code(n->w, x, x->g->edges.items[a->in_first + k]) !=
            value_code(n->w, y, y->g->edges.items[b->in_first + k])) {
            *ret_k = k;
            return true;
        }
    return false;
}

/* Two numbers; two constants of a few integers that differ in one place are shapes: heads, lengths. */
static void say_constants(const struct near *n, uint32_t one, uint32_t two, char *why, size_t size)
{
    const struct fconst *a = &n->w->known.consts.items[one], *b = &n->w->known.consts.items[two];
    (void)snprintf(why, size, "same weights behind a constant that differs");
    if (a->type == OT_FLOAT && b->type == OT_FLOAT && a->count == 1 && b->count == 1 && a->data &&
        b->data) {
        float x, y;
        memcpy(&x, a->data, sizeof(x));
        memcpy(&y, b->data, sizeof(y));
        (void)snprintf(why, size, "same weights, other numbers between them (%g and %g)", (double)x,
                       (double)y);
    }
    if (a->type != OT_INT64 || b->type != OT_INT64 || a->count != b->count ||
        a->count > SHAPE_ITEMS || !a->data || !b->data)
        return;
    for (uint64_t i = 0; i < a->count; i++) {
        int64_t x, y;
        memcpy(&x, a->data + 8 * i, sizeof(x));
        memcpy(&y, b->data + 8 * i, sizeof(y));
        if (x == y)
            continue;
        (void)snprintf(why, size, "same weights, other shapes (%lld and %lld: heads or lengths)",
                       (long long)x, (long long)y);
        return;
    }
}

static void explain(const struct near *n, uint32_t constant, struct share_near *near)
{
    const struct wmodel *x = &n->w->models[near->models[0]], *y = &n->w->models[near->models[1]];
    uint32_t p = user_of(x, constant), q = user_of(y, constant), k, steps = x->g->nodes.count;
    (void)snprintf(near->why, sizeof(near->why),
                   "the same part, but too small to be a module of its own");
    if (p == ONNX_NONE || q == ONNX_NONE || x->cls[p] == y->cls[q])
        return;
    uint32_t users[2] = {p, q};
    while (steps--) {
        if (differs_here(n, x, p, y, q, users, near->why, sizeof(near->why))) {
            add_layer(near->why, sizeof(near->why), layer_in(node_name(y, q)));
            return;
        }
        if (!differing_input(n, x, p, y, q, &k))
            break;
        const struct fvalue *a = fnode_in(x->g, &x->g->nodes.items[p], k),
                            *b = fnode_in(y->g, &y->g->nodes.items[q], k);
        if (a->kind != FV_NODE || b->kind != FV_NODE) {
            if (a->kind == FV_CONST && b->kind == FV_CONST)
                say_constants(n, a->index, b->index, near->why, sizeof(near->why));
            else
                (void)snprintf(
                    near->why, sizeof(near->why),
                    a->kind == FV_CONST || b->kind == FV_CONST
                        ? "same weights, but a shape or mask is fixed in one and computed "
                          "in the other"
                        : "same weights behind different inputs");
            add_layer(near->why, sizeof(near->why), layer_of(y, q, k));
            return;
        }
        users[0] = p;
        users[1] = q;
        p = a->index;
        q = b->index;
    }
    (void)snprintf(near->why, sizeof(near->why),
                   "same weights, but what comes before them is computed differently");
}

static bool add_near(struct near *n, const struct share_near *near)
{
    uint32_t count = (uint32_t)n->s->near_count;
    if (!pool_room((void **)&n->s->near, &count, &n->capacity, sizeof(*near), 1,
                   2 * SHARE_MODELS_MAX * SHARE_MODELS_MAX, "near misses", n->w->e))
        return false;
    n->s->near[count - 1] = *near;
    n->s->near_count = count;
    return true;
}

/* One number all over (a bias as it is made): that two models have it says nothing. */
static bool is_fill(const struct fconst *c)
{
    size_t item = c->count ? (size_t)(c->bytes / c->count) : 0;
    return c->data && item && c->bytes > item &&
           memcmp(c->data, c->data + item, (size_t)c->bytes - item) == 0;
}

static bool same_weights(struct near *n, uint32_t x, uint32_t y)
{
    struct share_near near = {.models = {x, y}, .kind = SHARE_NEAR_FORM};
    uint64_t both = (uint64_t)1 << x | (uint64_t)1 << y;
    uint32_t first = ONNX_NONE;
    for (uint32_t i = 0; i < n->w->known.consts.count; i++) {
        const struct fconst *c = &n->w->known.consts.items[i];
        if ((n->users[i] & both) != both || (n->shared[i] & both) == both || c->bytes < NEAR_MIN ||
            is_fill(c))
            continue;
        near.tensors++;
        near.bytes += c->bytes;
        if (first == ONNX_NONE)
            first = i;
    }
    if (first == ONNX_NONE)
        return true;
    explain(n, first, &near);
    return add_near(n, &near);
}

/* Weights of one model that are defaults of inputs in the other (fconst_is_default()). */
static bool defaults(struct near *n, uint32_t x, uint32_t y)
{
    struct share_near near = {.models = {x, y}, .kind = SHARE_NEAR_FORM};
    struct intern plain = {0}; /* contents of constants, as models that have them */
    POOL(uint64_t) users = {0};
    const struct known *known = &n->w->known;
    bool ok = true;
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; ok && i < known->consts.count; i++) {
            const struct fconst *c = &known->consts.items[i];
            uint32_t had = plain.count, id;
            uint64_t both = (uint64_t)1 << x | (uint64_t)1 << y, mine = n->users[i] & both;
            bool marked = fconst_is_default(c);
            if (c->bytes < NEAR_MIN || !mine || marked != (pass == 1))
                continue;
            if (pass == 1 && intern_find(&plain, c->digest.hex + 1, DIGEST_HEX - 1, &id) &&
                users.items[id] != mine) {
                near.tensors++;
                near.bytes += c->bytes;
            } else if (pass == 0) {
                ok = intern_id(&plain, c->digest.hex + 1, DIGEST_HEX - 1, &id, n->w->e) &&
                     (id < had || POOL_ADD(users, 1, INTERN_MAX, "constants", n->w->e));
                if (ok)
                    users.items[id] |= mine;
            }
        }
    (void)snprintf(
        near.why, sizeof(near.why),
        "same weights, but in one of them defaults of inputs, which the runtime does not "
        "fuse with what uses them");
    intern_done(&plain);
    free(users.items);
    return ok && (!near.tensors || add_near(n, &near));
}

/* ---- some weights changed ---- */

static bool is_weight(const struct fconst *c)
{
    return c->count > 16 && c->type != OT_INT64 && c->type != OT_INT32 && c->type != OT_BOOL;
}

static bool dims_id(struct near *n, struct intern *dims, const struct fconst *c, uint32_t *ret)
{
    int64_t key[2 + ONNX_RANK_MAX] = {c->type, c->rank};
    memcpy(key + 2, c->dims, (size_t)c->rank * sizeof(key[0]));
    return intern_id(dims, key, (2u + (size_t)c->rank) * sizeof(key[0]), ret, n->w->e);
}

/* How often nodes of the model take each constant; owned by the caller, NULL: no memory. */
static uint32_t *uses_of(const struct near *n, uint32_t model)
{
    const struct fgraph *g = n->w->models[model].g;
    uint32_t *uses = calloc(n->w->known.consts.count + 1u, sizeof(*uses));
    for (uint32_t i = 0; uses && i < g->nodes.count; i++)
        for (uint32_t k = 0; !g->nodes.items[i].dead && k < g->nodes.items[i].in_count; k++) {
            const struct fvalue *v = fnode_in(g, &g->nodes.items[i], k);
            if (v->kind == FV_CONST)
                uses[v->index]++;
        }
    return uses;
}

/* How many weights of y have their like (of the same dims, other content) in x: those are marked.
 * One that stands in several places (zeros of new biases) counts in each. */
static bool count_changed(struct near *n, uint32_t x, uint32_t y, uint8_t *changed,
                          struct share_near *ret, uint64_t *ret_common)
{
    struct intern dims = {0};
    uint32_t all = n->w->known.consts.count, id;
    uint32_t *left = calloc(all + 1u, sizeof(*left)), *ours = uses_of(n, x),
             *theirs = uses_of(n, y);
    bool ok = (left && ours && theirs) || err_set(n->w->e, ERR_MEMORY, "near misses: no memory");
    for (uint32_t i = 0; ok && i < all; i++) { /* what x has in more places */
        const struct fconst *c = &n->w->known.consts.items[i];
        if (!is_weight(c) || !ours[i])
            continue;
        *ret_common += theirs[i] ? c->bytes : 0;
        if (ours[i] > theirs[i] && (ok = dims_id(n, &dims, c, &id)))
            left[id] += ours[i] - theirs[i];
    }
    for (uint32_t i = 0; ok && i < all; i++) {
        const struct fconst *c = &n->w->known.consts.items[i];
        if (!is_weight(c) || !theirs[i])
            continue;
        ret->of += theirs[i];
        if (theirs[i] <= ours[i] || !(ok = dims_id(n, &dims, c, &id)))
            continue;
        uint32_t more = theirs[i] - ours[i], like = more < left[id] ? more : left[id];
        left[id] -= like;
        changed[i] = like > 0 && !ours[i];
        ret->tensors += like;
        ret->bytes += like * c->bytes;
    }
    intern_done(&dims);
    free(left);
    free(ours);
    free(theirs);
    return ok;
}

static void say_where(const struct near *n, uint32_t y, const uint8_t *changed,
                      struct share_near *near)
{
    const struct wmodel *m = &n->w->models[y];
    int low = -1, high = -1;
    for (uint32_t i = 0; i < m->g->nodes.count; i++)
        for (uint32_t k = 0; !m->g->nodes.items[i].dead && k < m->g->nodes.items[i].in_count; k++) {
            const struct fvalue *v = fnode_in(m->g, &m->g->nodes.items[i], k);
            int layer = v->kind == FV_CONST && changed[v->index] ? layer_of(m, i, k) : -1;
            low = layer >= 0 && (low < 0 || layer < low) ? layer : low;
            high = layer > high ? layer : high;
        }
    (void)snprintf(near->why, sizeof(near->why), "in %u of %u weights", near->tensors, near->of);
    if (low >= 0 && low == high) {
        size_t used = strlen(near->why);
        (void)snprintf(near->why + used, sizeof(near->why) - used, ", all in layer %d", low);
    } else {
        add_layer(near->why, sizeof(near->why), low);
    }
}

static bool changed_weights(struct near *n, uint32_t x, uint32_t y)
{
    struct share_near near = {.models = {x, y}, .kind = SHARE_NEAR_CHANGED};
    uint64_t common = 0;
    uint8_t *changed = calloc(n->w->known.consts.count + 1u, 1);
    bool ok = changed || err_set(n->w->e, ERR_MEMORY, "near misses: no memory");
    ok = ok && count_changed(n, x, y, changed, &near, &common);
    if (ok && near.tensors && common >= NEAR_COMMON) {
        say_where(n, y, changed, &near);
        ok = add_near(n, &near);
    }
    free(changed);
    return ok;
}

/* ---- another rounding ---- */

/* A model with fixed axes that uses a dynamic export's modules (adopt.c). */
static bool other_rounding(struct near *n, const struct instance *list, uint32_t count)
{
    for (uint32_t k = 0; k < n->w->model_count; k++) {
        struct share_near near = {.models = {k, k}, .kind = SHARE_NEAR_ROUNDING};
        for (uint32_t i = 0; i < count; i++) {
            const struct share_module *m = &n->s->modules[list[i].module];
            if (list[i].model != k || !list[i].borrowed || m->model == k)
                continue;
            near.models[0] = m->model;
            near.tensors++;
            near.bytes += m->weight_bytes;
        }
        (void)snprintf(near.why, sizeof(near.why),
                       "has fixed axes and uses modules with dynamic ones: where the runtime fuses "
                       "more because it knows all dims, the last bits may differ");
        if (near.tensors && adopt_keeps_bits(n->w->models[k].g->m))
            continue;
        if (near.tensors && !add_near(n, &near))
            return false;
    }
    return true;
}

bool near_misses(struct work *w, struct share *s, const struct instance *list, uint32_t count)
{
    struct near n = {.w = w, .s = s};
    n.users = calloc(w->known.consts.count + 1u, sizeof(*n.users));
    n.shared = calloc(w->known.consts.count + 1u, sizeof(*n.shared));
    bool ok = (n.users && n.shared) || err_set(w->e, ERR_MEMORY, "near misses: no memory");
    if (ok)
        const_users(&n, list, count);
    for (uint32_t x = 0; ok && x < w->model_count; x++)
        for (uint32_t y = x + 1; ok && y < w->model_count; y++)
            ok = same_weights(&n, x, y) && defaults(&n, x, y) && changed_weights(&n, x, y);
    ok = ok && other_rounding(&n, list, count);
    free(n.users);
    free(n.shared);
    return ok;
}
