/* region.c - connected parts of one colour, without a cycle between parts in any model.
 *
 * Classes in topological order: one joins the part that makes one of its inputs, if they are of one
 * colour and no way leads from that part through another one to it; parts that meet in a class are
 * joined under the same condition.  A way has to lie in one model as a whole: two models may have
 * the same layers in different orders.
 *
 * Then parts that are not worth a call of their own become copies in their users: parts whose
 * sharing saves too little, and small, weightless or table-only parts with one user. */
#include "onnx/work.h"

#include <stdlib.h>

#define STEPS_MAX 1000000000u /* of all searches together */
#define SMALL_MAX 65536u      /* bytes of an unshared part that is not worth a call */

struct parts {
    struct work *w;
    uint32_t *parent;       /* owned: of parts */
    uint32_t *first, *next; /* owned: list of a part's classes (+ 1) */
    uint32_t *last;         /* owned */
    uint32_t count;
    uint32_t *in_first, *in; /* owned: edges by their user */
    uint32_t *stamp, *stack; /* owned */
    uint32_t *mark;          /* owned */
    uint64_t *seen, *wait;   /* owned, two for each class: models of the ways looked at, or to be */
    uint8_t *joined;         /* owned: of parts */
    uint32_t now;
    uint64_t steps;
};

static uint32_t part_of(const struct parts *p, uint32_t cls)
{
    uint32_t r = p->w->classes.items[cls].region;
    if (r == NO_REGION)
        return NO_REGION;
    while (p->parent[r] != r)
        r = p->parent[r];
    return r;
}

static bool is_member(const struct work *w, uint32_t cls)
{
    return !w->classes.items[cls].light && !w->classes.items[cls].copied;
}

/* A class to look behind, in which models, and whether the way to it has left both parts already
 * (a way that has makes one that has not needless). */
static void push(struct parts *p, uint32_t cls, bool outside, uint64_t models, uint32_t *depth)
{
    uint64_t *seen = p->seen + 2 * (size_t)cls, *wait = p->wait + 2 * (size_t)cls + outside;
    if (p->mark[cls] != p->now)
        seen[0] = seen[1] = 0;
    p->mark[cls] = p->now;
    models &= ~(seen[1] | (outside ? 0 : seen[0]));
    if (!models)
        return;
    seen[outside] |= models;
    if (!*wait)
        p->stack[(*depth)++] = cls << 1 | outside;
    *wait |= models;
}

/* Pushes what makes the inputs of cls.  true: a way from part `from` that leaves it leads here. */
static bool push_inputs(struct parts *p, uint32_t cls, uint32_t from, uint32_t own, bool outside,
                        uint64_t models, uint32_t *depth)
{
    struct work *w = p->w;
    for (uint32_t i = p->in_first[cls]; i < p->in_first[cls + 1]; i++) {
        const struct wedge *edge = &w->edges.items[p->in[i]];
        uint32_t part = part_of(p, edge->from);
        p->steps++;
        if (!(edge->models & models))
            continue;
        if (part == from && (outside || edge->flags & EDGE_TOKEN))
            return true;
        if (part != from && (outside || part != own || own == NO_REGION))
            push(p, edge->from, outside || is_member(w, edge->from) || edge->flags & EDGE_TOKEN,
                 edge->models & models, depth);
    }
    return false;
}

/* Whether a way leads from part `from` through something else to a class, or to any of a part.
 * What belongs to nobody (light, copied) is inside of whoever uses it. */
static bool leads(struct parts *p, uint32_t from, uint32_t to_class, uint32_t to_part)
{
    uint32_t depth = 0;
    bool found = false;
    if (p->steps >= STEPS_MAX)
        return true; /* nothing is joined any more; that is an error in the end */
    p->now++;
    if (to_class != ONNX_NONE)
        found = push_inputs(p, to_class, from, to_part, false, UINT64_MAX, &depth);
    for (uint32_t c = to_class == ONNX_NONE ? p->first[to_part] : 0;
         c && !found && p->steps < STEPS_MAX; c = p->next[c - 1])
        found = push_inputs(p, c - 1, from, to_part, false, UINT64_MAX, &depth);
    while (depth) {
        uint32_t at = p->stack[--depth];
        uint64_t models = p->wait[at];
        p->wait[at] = 0;
        if (!found && p->steps < STEPS_MAX)
            found = push_inputs(p, at >> 1, from, to_part, at & 1, models, &depth);
    }
    return found;
}

static void add(struct parts *p, uint32_t part, uint32_t cls)
{
    p->w->classes.items[cls].region = part;
    if (p->last[part])
        p->next[p->last[part] - 1] = cls + 1;
    else
        p->first[part] = cls + 1;
    p->last[part] = cls + 1;
}

static void unite(struct parts *p, uint32_t a, uint32_t b)
{
    p->parent[b] = a;
    if (p->first[b]) {
        if (p->last[a])
            p->next[p->last[a] - 1] = p->first[b];
        else
            p->first[a] = p->first[b];
        p->last[a] = p->last[b];
    }
}

/* Joins the parts that make the inputs of cls to own; NO_REGION: cls has none yet, and gets the
 * first that may be.  true: one before that could not be joined, and now perhaps can. */
static bool join_makers(struct parts *p, uint32_t cls, uint32_t *own)
{
    struct work *w = p->w;
    bool refused = false, again = false;
    for (uint32_t i = p->in_first[cls]; i < p->in_first[cls + 1]; i++) {
        const struct wedge *edge = &w->edges.items[p->in[i]];
        uint32_t part = part_of(p, edge->from);
        if (part == NO_REGION || part == *own || edge->flags & EDGE_TOKEN ||
            w->classes.items[edge->from].colour != w->classes.items[cls].colour)
            continue;
        if (*own != NO_REGION) {
            if (!leads(p, *own, ONNX_NONE, part) && !leads(p, part, ONNX_NONE, *own))
                unite(p, *own, part);
        } else if (!leads(p, part, cls, NO_REGION)) {
            *own = part;
            add(p, part, cls);
            again = refused;
        } else {
            refused = true;
        }
    }
    return again;
}

static void place(struct parts *p, uint32_t cls)
{
    uint32_t own = NO_REGION;
    if (p->w->turned) { /* what comes later in this order may lead here: look both ways */
        own = p->count;
        p->parent[own] = own;
        add(p, p->count++, cls);
    }
    if (join_makers(p, cls, &own))
        (void)join_makers(p, cls, &own);
    if (own == NO_REGION) {
        p->parent[p->count] = p->count;
        add(p, p->count++, cls);
    }
}

static bool parts_init(struct parts *p, struct work *w)
{
    *p = (struct parts){.w = w};
    size_t n = w->classes.count + 2u;
    p->parent = calloc(n, sizeof(uint32_t));
    p->first = calloc(n, sizeof(uint32_t));
    p->last = calloc(n, sizeof(uint32_t));
    p->next = calloc(n, sizeof(uint32_t));
    p->stamp = calloc(n, sizeof(uint32_t));
    p->stack = calloc(2 * n, sizeof(uint32_t));
    p->mark = calloc(n, sizeof(uint32_t));
    p->seen = calloc(2 * n, sizeof(uint64_t));
    p->wait = calloc(2 * n, sizeof(uint64_t));
    p->joined = calloc(n, 1);
    p->in_first = calloc(n, sizeof(uint32_t));
    p->in = calloc(w->edges.count + 1u, sizeof(uint32_t));
    if (!p->parent || !p->first || !p->last || !p->next || !p->stamp || !p->stack || !p->mark ||
        !p->seen || !p->wait || !p->joined || !p->in_first || !p->in)
        return err_set(w->e, ERR_MEMORY, "regions: no memory");
    for (uint32_t i = 0; i < w->edges.count; i++)
        p->in_first[w->edges.items[i].to + 1]++;
    for (uint32_t i = 0; i < w->classes.count; i++)
        p->in_first[i + 1] += p->in_first[i];
    for (uint32_t i = w->edges.count; i-- > 0;) /* stack as a scratch of counters */
        p->in[p->in_first[w->edges.items[i].to] + p->stack[w->edges.items[i].to]++] = i;
    return true;
}

static void parts_done(struct parts *p)
{
    free(p->parent);
    free(p->first);
    free(p->last);
    free(p->next);
    free(p->stamp);
    free(p->stack);
    free(p->mark);
    free(p->seen);
    free(p->wait);
    free(p->joined);
    free(p->in_first);
    free(p->in);
}

/* A model that stays whole is one part: true when cls belongs to it. */
static bool place_whole(struct parts *p, uint32_t cls, uint32_t *of_model)
{
    uint64_t owners = p->w->classes.items[cls].owners & p->w->whole;
    if (!owners)
        return false;
    uint32_t model = (uint32_t)__builtin_ctzll(owners);
    if (of_model[model] == NO_REGION) {
        of_model[model] = p->count;
        p->parent[p->count] = p->count;
        p->joined[p->count++] = 1;
    }
    add(p, of_model[model], cls);
    return true;
}

/* ---- heads ---- */

/* Whether each model has each class of a part once, so that the part is one call there. */
static bool is_single(const struct parts *p, const uint32_t *uses, uint32_t part)
{
    for (uint32_t c = p->first[part]; c; c = p->next[c - 1])
        if (uses[c - 1] != (uint32_t)__builtin_popcountll(p->w->classes.items[c - 1].owners))
            return false;
    return true;
}

/* A last part without weights that is worth anything: similarities, scores. */
static bool is_light_head(const struct parts *p, uint32_t part)
{
    uint64_t weight = 0;
    bool output = false;
    for (uint32_t c = p->first[part]; c; c = p->next[c - 1]) {
        weight += p->w->classes.items[c - 1].weight;
        output |= p->w->classes.items[c - 1].output;
        if (p->w->classes.items[c - 1].ported)
            return false;
    }
    return output && weight < p->w->crossing;
}

static bool same_owners(const struct parts *p, uint32_t a, uint32_t b)
{
    return p->w->classes.items[p->first[a] - 1].owners ==
           p->w->classes.items[p->first[b] - 1].owners;
}

/* Light heads of the same models are one: nothing is gained by calling them apart, and patterns
 * that reach over them (one tensor transposed for two products) stay whole. */
static bool join_heads(struct parts *p)
{
    struct work *w = p->w;
    uint32_t *uses = calloc(w->classes.count + 1u, sizeof(*uses)),
             *heads = calloc(p->count + 1u, sizeof(*heads)), count = 0;
    bool ok = (uses && heads) || err_set(w->e, ERR_MEMORY, "regions: no memory");
    for (uint32_t k = 0; ok && k < w->model_count; k++)
        for (uint32_t i = 0; i < w->models[k].g->nodes.count; i++)
            if (w->models[k].cls[i] != ONNX_NONE)
                uses[w->models[k].cls[i]]++;
    for (uint32_t i = 0; ok && i < p->count; i++)
        if (p->parent[i] == i && p->first[i] && is_light_head(p, i) && is_single(p, uses, i))
            heads[count++] = i;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = i + 1; heads[i] != NO_REGION && k < count; k++)
            if (heads[k] != NO_REGION && same_owners(p, heads[i], heads[k]) &&
                !leads(p, heads[i], ONNX_NONE, heads[k]) &&
                !leads(p, heads[k], ONNX_NONE, heads[i])) {
                unite(p, heads[i], heads[k]);
                p->joined[heads[i]] = 1;
                heads[k] = NO_REGION;
            }
    free(uses);
    free(heads);
    return ok;
}

/* ---- folding ---- */

struct summary {
    uint64_t weight, owners;
    uint32_t users[2];    /* two different parts that use it; NO_REGION: none */
    uint32_t user_count;  /* 0, 1, or 2 for more */
    uint64_t user_copies; /* different parts that use it */
    bool fixed;           /* has outputs or ports: must stay */
    bool layers;          /* more than look-ups and element-wise work */
    bool depends;         /* on the content of an input */
};

static void user_of(struct parts *p, struct summary *s, uint32_t part)
{
    if (p->stamp[part] == p->now)
        return;
    p->stamp[part] = p->now;
    s->user_copies++;
    if (s->user_count < 2)
        s->users[s->user_count++] = part;
}

/* Parts that use a class, directly or through what they compute again. */
static void find_users(struct parts *p, struct summary *s, uint32_t own, uint32_t cls,
                       uint32_t *depth)
{
    const struct wclass *c = &p->w->classes.items[cls];
    for (uint32_t i = 0; i < c->edge_count; i++) {
        const struct wedge *edge = &p->w->edges.items[c->edge_first + i];
        uint32_t part = part_of(p, edge->to);
        if (edge->flags & EDGE_TOKEN)
            s->fixed = true;
        else if (part == NO_REGION && p->mark[edge->to] != p->now) {
            p->mark[edge->to] = p->now;
            p->stack[(*depth)++] = edge->to;
        } else if (part == NO_REGION)
            continue;
        else if (part != own)
            user_of(p, s, part);
    }
}

static bool is_layer(const struct work *w, uint32_t cls)
{
    static const char *const light[] = {
        "Gather", "Add",  "Mul",       "Sub",     "Div",       "LayerNormalization",
        "Concat", "Cast", "Unsqueeze", "Reshape", "Transpose", "Slice",
        "Expand", "Where"};
    const struct wclass *c = &w->classes.items[cls];
    if (c->weight <= 1024)
        return false;
    for (size_t i = 0; i < sizeof(light) / sizeof(*light); i++)
        if (class_is(w, cls, light[i]))
            return false;
    return true;
}

static struct summary sum_up(struct parts *p, uint32_t part)
{
    struct summary s = {.users = {NO_REGION, NO_REGION}};
    struct work *w = p->w;
    uint32_t depth = 0;
    p->now++;
    for (uint32_t c = p->first[part]; c; c = p->next[c - 1]) {
        const struct wclass *x = &w->classes.items[c - 1];
        s.weight += x->weight;
        s.owners = x->owners;
        s.fixed |= x->output || x->ported;
        s.layers |= is_layer(w, c - 1);
        s.depends |= x->depends;
        find_users(p, &s, part, c - 1, &depth);
    }
    while (depth)
        find_users(p, &s, part, p->stack[--depth], &depth);
    return s;
}

static bool worthless(const struct parts *p, const struct summary *s)
{
    const struct work *w = p->w;
    if (s->fixed || s->user_copies == 0 || s->owners & p->w->whole)
        return false;
    uint64_t saves = s->weight * (uint64_t)(__builtin_popcountll(s->owners) - 1);
    uint64_t least = w->min_share > w->crossing ? w->min_share : w->crossing;
    uint64_t lost = s->weight * (s->user_copies - 1);
    if (lost <= least && (s->owners & (s->owners - 1)) && saves < least)
        return true;
    bool same = s->user_count == 1 && p->first[s->users[0]] &&
                w->classes.items[p->first[s->users[0]] - 1].owners == s->owners;
    if (!same)
        return false;
    if (!s->depends) /* weights that are turned or taken apart: they belong to their user */
        return true;
    uint64_t small = w->min_share < SMALL_MAX ? w->min_share : SMALL_MAX;
    return !s->layers || s->weight < (small > w->crossing ? small : w->crossing);
}

/* Last parts first: what they need then counts as used by their users. */
static void fold_small(struct parts *p)
{
    struct work *w = p->w;
    for (uint32_t i = w->sorted_count; i-- > 0;) {
        uint32_t part = part_of(p, w->sorted[i]);
        if (part == NO_REGION || p->first[part] != w->sorted[i] + 1)
            continue; /* each part once: at its first class */
        struct summary s = sum_up(p, part);
        if (!worthless(p, &s))
            continue;
        for (uint32_t c = p->first[part]; c; c = p->next[c - 1]) {
            w->classes.items[c - 1].copied = true;
            w->classes.items[c - 1].region = NO_REGION;
        }
        p->first[part] = 0;
    }
}

static bool number(struct parts *p)
{
    struct work *w = p->w;
    uint32_t count = 0;
    w->joined = calloc(p->count + 1u, 1);
    if (!w->joined)
        return err_set(w->e, ERR_MEMORY, "regions: no memory");
    for (uint32_t i = 0; i < p->count; i++)
        if (p->parent[i] == i && p->first[i]) {
            w->joined[count] = p->joined[i];
            p->last[i] = count++;
        }
    for (uint32_t i = 0; i < p->count; i++)
        for (uint32_t c = p->parent[i] == i ? p->first[i] : 0; c; c = p->next[c - 1])
            p->stamp[c - 1] = p->last[i];
    for (uint32_t i = 0; i < w->sorted_count; i++)
        if (w->classes.items[w->sorted[i]].region != NO_REGION)
            w->classes.items[w->sorted[i]].region = p->stamp[w->sorted[i]];
    w->region_count = count;
    return true;
}

bool work_regions(struct work *w)
{
    struct parts p;
    uint32_t of_model[SHARE_MODELS_MAX];
    for (uint32_t i = 0; i < SHARE_MODELS_MAX; i++)
        of_model[i] = NO_REGION;
    bool ok = parts_init(&p, w);
    for (uint32_t i = 0; ok && i < w->classes.count; i++)
        w->classes.items[i].region = NO_REGION;
    for (uint32_t i = 0; ok && i < w->sorted_count; i++) {
        if (is_member(w, w->sorted[i]) && !place_whole(&p, w->sorted[i], of_model))
            place(&p, w->sorted[i]);
        if (p.steps >= STEPS_MAX)
            ok = err_set(w->e, ERR_TOO_LARGE, "regions: more than %u steps of search", STEPS_MAX);
    }
    ok = ok && join_heads(&p);
    if (ok) {
        fold_small(&p);
        ok = number(&p);
    }
    parts_done(&p);
    return ok;
}
