/* exact_tables.c - branch and bound for `latency` with one place per module (see dual.h).
 *
 * Two kinds of nodes.  The outer ones are subproblems with a dual of their own: improved, options
 * that hold nothing better dropped, kept in a heap by their bound, the least one taken first.  What is
 * taken is first tried by a depth-first search on its tables, whose nodes cost a look-up per
 * table, some ten million a second; if that does not end within its budget, the subproblem is branched
 * on the first module in search order that has a choice.  The proven bound of all is the least in the
 * heap.
 *
 * When the heap holds too much, depth-first searches get no budget any more: the method always ends. */
#include "plan/dual.h"
#include "plan/tree.h"

#include <stdlib.h>
#include <string.h>

#define ROOT_ROUNDS 16u
#define NODE_ROUNDS 3u
#define NODE_GAIN 0.05           /* of the gap that a round has to close for another one */
#define HEAP_SIZE_MAX (8u << 20) /* doubles of all nodes: 64 MiB */

struct node {
    struct dual d; /* owned */
    uint64_t serial;
};

struct table_tree {
    struct tree t;
    const struct dual *d;   /* of the node that is searched */
    uint32_t *placed;       /* by factor: modules of it that are placed */
    size_t *index;          /* by factor: entry of its prefix table */
    struct child *children; /* depth x devices */
    uint64_t left;          /* nodes that this search may still visit */
    struct table_effort effort;
    struct node *heap; /* owned; the least bound first */
    size_t heap_count, heap_room, heap_size;
    uint64_t serial;
};

/* ---- depth first on the tables of one node ---- */

static double option_bound(const struct table_tree *x, uint32_t at, uint32_t o, double bound)
{
    const struct dual_module *m = &x->d->order[at];
    bound += m->u[o] - m->least_u;
    for (uint32_t i = 0; i < m->factor_count; i++) {
        uint32_t f = m->factor[i], j = x->placed[f];
        double *const *prefix = x->d->factors[f].prefix;
        bound += prefix[j + 1][x->index[f] * m->option_count + o] - prefix[j][x->index[f]];
    }
    return bound;
}

static void step(struct table_tree *x, const struct dual_module *m, uint32_t o, bool forward)
{
    for (uint32_t i = 0; i < m->factor_count; i++) {
        uint32_t f = m->factor[i];
        x->index[f] = forward ? x->index[f] * m->option_count + o : x->index[f] / m->option_count;
        x->placed[f] += forward ? 1 : UINT32_MAX;
    }
}

/* The children that may hold something better, best first; their number. */
static uint32_t children_of(struct table_tree *x, uint32_t at, double bound, struct child *c)
{
    const struct dual_module *m = &x->d->order[at];
    double ceiling = search_ceiling(x->t.s);
    uint32_t count = 0;
    for (uint32_t o = 0; o < m->option_count; o++) {
        double b = option_bound(x, at, o, bound);
        if (x->t.s->watch) {
            struct plan_sites one = {.count = 1, .device = {m->option[o]}};
            x->t.s->watch(x->t.s->watch_ctx, m->module, &one, b);
        }
        if (b < ceiling && tree_allowed(&x->t, m->module, m->option[o]))
            c[count++] = (struct child){b, o};
    }
    qsort(c, count, sizeof(*c), tree_compare);
    return count;
}

/* false: memory is out.  *ended stays true when all has been searched. */
static bool visit(struct table_tree *x, uint32_t at, double bound, bool *ended, struct err *e)
{
    struct search *s = x->t.s;
    if (at == x->d->count)
        return tree_leaf(&x->t, e);
    const struct dual_module *m = &x->d->order[at];
    struct child *c = x->children + (size_t)at * s->in->device_count;
    s->v.count++;
    if (x->left-- == 0) {
        *ended = false;
        x->left = 0;
        return true;
    }
    if (!tree_may_fit(&x->t, at))
        return true;
    uint32_t count = children_of(x, at, bound, c);
    for (uint32_t i = 0; i < count && *ended && c[i].bound < search_ceiling(s); i++) {
        if (tree_stopped(&x->t, c[i].bound))
            return true;
        struct plan_sites one = {.count = 1, .device = {m->option[c[i].option]}};
        tree_put(&x->t, m->module, &one);
        step(x, m, c[i].option, true);
        bool ok = visit(x, at + 1, c[i].bound, ended, e);
        step(x, m, c[i].option, false);
        tree_take_back(&x->t, m->module);
        if (!ok)
            return false;
    }
    return true;
}

/* *ended: everything in the node has been searched, or the method has been stopped. */
static bool dive(struct table_tree *x, struct dual *d, uint64_t budget, bool *ended, struct err *e)
{
    *ended = true;
    x->d = d;
    x->left = budget;
    memset(x->placed, 0, d->factor_count * sizeof(*x->placed));
    memset(x->index, 0, d->factor_count * sizeof(*x->index));
    /* What lambda and p of now add up to, which d->bound may be above: nodes add to that. */
    double bound = dual_bound_now(d);
    bool ok =
        dual_prefixes(d, e) && (bound >= search_ceiling(d->s) || visit(x, 0, bound, ended, e));
    dual_drop_prefixes(d);
    return ok;
}

/* ---- the heap ---- */

static bool before(const struct node *a, const struct node *b)
{
    if (a->d.bound < b->d.bound || a->d.bound > b->d.bound)
        return a->d.bound < b->d.bound;
    return a->serial < b->serial;
}

static void exchange(struct node *a, struct node *b)
{
    struct node t = *a;
    *a = *b;
    *b = t;
}

/* Takes d, also when it fails. */
static bool push(struct table_tree *x, struct dual *d, struct err *e)
{
    if (x->heap_count == x->heap_room) {
        size_t room = x->heap_room ? x->heap_room * 2 : 64;
        struct node *more = realloc(x->heap, room * sizeof(*more));
        if (!more) {
            dual_done(d);
            return err_set(e, ERR_MEMORY, "no memory for a search");
        }
        x->heap = more;
        x->heap_room = room;
    }
    size_t at = x->heap_count++;
    x->heap[at] = (struct node){*d, x->serial++};
    x->heap_size += dual_size(d);
    for (; at > 0 && before(&x->heap[at], &x->heap[(at - 1) / 2]); at = (at - 1) / 2)
        exchange(&x->heap[at], &x->heap[(at - 1) / 2]);
    return true;
}

static struct dual pop(struct table_tree *x)
{
    struct dual top = x->heap[0].d;
    x->heap_size -= dual_size(&top);
    x->heap[0] = x->heap[--x->heap_count];
    for (size_t at = 0;;) {
        size_t least = at, first = 2 * at + 1;
        for (size_t i = first; i < first + 2 && i < x->heap_count; i++)
            if (before(&x->heap[i], &x->heap[least]))
                least = i;
        if (least == at)
            return top;
        exchange(&x->heap[at], &x->heap[least]);
        at = least;
    }
}

/* ---- outer nodes ---- */

/* Drops options until none can be dropped any more.  */
static bool shrink(struct dual *d, struct err *e)
{
    uint32_t dropped = 1;
    while (dropped > 0 && isfinite(d->bound))
        if (!dual_shrink(d, search_ceiling(d->s), &dropped, e))
            return false;
    return true;
}

static bool improve(struct dual *d, const struct table_effort *o, struct err *e)
{
    for (uint32_t i = 0; i < NODE_ROUNDS; i++) {
        double ceiling = search_ceiling(d->s), before_it = d->bound;
        if (!dual_improve(d, o->sweeps, ceiling, e) || !shrink(d, e))
            return false;
        if (search_over(d->s) || !(d->bound < ceiling))
            return true;
        if (!dual_merge(d, o->merge, e))
            return false;
        if (isfinite(ceiling) && d->bound - before_it < NODE_GAIN * (ceiling - d->bound))
            return true;
    }
    return true;
}

/* The first in search order that has a choice; UINT32_MAX: none has. */
static uint32_t choose_module(const struct dual *d)
{
    for (uint32_t i = 0; i < d->count; i++)
        if (d->order[i].option_count > 1)
            return i;
    return UINT32_MAX;
}

/* Puts the parts of d that may hold something better into the heap. */
static bool branch(struct table_tree *x, struct dual *d, struct err *e)
{
    if (!shrink(d, e))
        return false;
    if (!(d->bound < search_ceiling(d->s)))
        return true;
    uint32_t at = choose_module(d);
    bool ended;
    if (at == UINT32_MAX) /* one placement is left */
        return dive(x, d, UINT64_MAX, &ended, e);
    for (uint32_t o = 0; o < d->order[at].option_count; o++) {
        struct dual part;
        if (!dual_copy(&part, d, e))
            return false;
        part.scale = DUAL_SCALE_FIRST;
        if (!dual_fix(&part, at, o, e) || !dual_merge(&part, x->effort.merge, e) ||
            !improve(&part, &x->effort, e)) {
            dual_done(&part);
            return false;
        }
        if (part.bound < search_ceiling(x->t.s)) {
            if (!push(x, &part, e))
                return false;
        } else {
            dual_done(&part);
        }
    }
    return true;
}

/* Until the heap is empty or the method is stopped. */
static bool search_heap(struct table_tree *x, struct err *e)
{
    bool ok = true, first = true;
    while (ok && x->heap_count > 0 && !search_over(x->t.s)) {
        struct dual d = pop(x);
        bool ended = d.bound >= search_ceiling(x->t.s);
        uint64_t budget = x->heap_size > HEAP_SIZE_MAX ? UINT64_MAX
                          : first                      ? x->effort.first
                                                       : x->effort.later;
        if (!ended)
            ok = dive(x, &d, budget, &ended, e);
        if (ok && !ended)
            ok = branch(x, &d, e);
        first = false;
        dual_done(&d);
    }
    return ok;
}

/* ---- all of it ---- */

static bool table_init(struct table_tree *x, struct dual *d, struct err *e)
{
    struct search *s = d->s;
    uint32_t order[EXACT_MODULES_MAX];
    if (!tree_init(&x->t, s, e))
        return false;
    x->placed = calloc(d->factor_count + 1u, sizeof(*x->placed));
    x->index = calloc(d->factor_count + 1u, sizeof(*x->index));
    x->children = calloc((size_t)(d->count + 1) * s->in->device_count, sizeof(*x->children));
    if (!x->placed || !x->index || !x->children)
        return err_set(e, ERR_MEMORY, "no memory for a search");
    for (uint32_t i = 0; i < d->count; i++)
        order[i] = d->order[i].module;
    return tree_needs(&x->t, order, d->count, e);
}

static void table_done(struct table_tree *x)
{
    for (size_t i = 0; i < x->heap_count; i++)
        dual_done(&x->heap[i].d);
    free(x->heap);
    free(x->placed);
    free(x->index);
    free(x->children);
    tree_done(&x->t);
}

/* The bound of the whole, once its options have been dropped as far as that goes. */
static bool improve_root(struct dual *d, const struct table_effort *o, struct err *e)
{
    if (!dual_fix(d, d->count, 0, e) || !dual_merge(d, o->merge, e))
        return false;
    for (uint32_t i = 0; i < ROOT_ROUNDS && d->scale >= DUAL_SCALE_LEAST; i++) {
        double ceiling = search_ceiling(d->s);
        if (!dual_improve(d, o->root_sweeps, ceiling, e))
            return false;
        if (search_over(d->s))
            return true;
        if (!shrink(d, e) || !(d->bound < ceiling))
            return true;
        if (!dual_merge(d, o->merge, e))
            return false;
    }
    return true;
}

bool table_search(struct search *s, struct table_effort effort, struct err *e)
{
    struct table_tree x = {.effort = effort};
    struct dual d;
    if (!dual_init(&d, s, e))
        return false;
    struct dual_scratch *scratch;
    bool ok = dual_scratch_init(&d, e) && table_init(&x, &d, e) && improve_root(&d, &effort, e);
    double root = d.bound;
    scratch = d.scratch;
    if (ok && root < search_ceiling(s))
        ok = push(&x, &d, e);
    else
        dual_done(&d);
    ok = ok && search_heap(&x, e);
    for (size_t i = 0; i < x.heap_count; i++)
        x.t.open_bound = fmin(x.t.open_bound, x.heap[i].d.bound);
    if (ok)
        tree_conclude(&x.t, root);
    table_done(&x);
    d.scratch = scratch;
    dual_scratch_done(&d);
    return ok;
}
