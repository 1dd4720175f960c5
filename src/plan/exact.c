/* exact.c - branch and bound: the best placement, and the proof.
 *
 * Two searches.  table_search(): objective `latency`, one place per module, tables small enough:
 * bounds by looking up prefixes of the reparametrised tables (dual.h), some ten million nodes a
 * second.  open_search(): all else; at each node every request is bounded by relax_time() with the
 * devices that are still open; for a burst the requests at the front whose modules are all placed are
 * simulated exactly and the others start no sooner than the lanes that those leave; for load, rho is
 * at least what is placed already and the module's own share.
 *
 * A node is dropped when its bound is not below the best value by more than SEARCH_EPS of it: so the
 * best one found is within 1e-9 of the least.  Devices that can be exchanged (same memory, lanes, run
 * times, links; source of no request; nothing pinned) are tried once per node while they are empty:
 * exchanging two of them changes no value as long as modules have one place each.
 *
 * When the search is stopped, the bound is the least bound of what it left.
 *
 * Unresolved: with replicas, all sets of devices are tried, so more than REPLICA_DEVICES_MAX devices
 * are left to local search; without, the limit is RELAX_DEVICES_MAX. */
#include "plan/dual.h"
#include "plan/relax.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define EXACT_MODULES_MAX 256u  /* depth of the recursion */
#define REPLICA_DEVICES_MAX 10u /* 1023 sets of devices per module */
#define DUAL_SWEEPS 600u
#define NEEDS_MAX 8u    /* sizes per depth that packings are checked for */
#define FIRST_STARTS 4u /* of the local search that goes before */

struct child {
    double bound;
    uint32_t option;
};

static int compare_children(const void *a, const void *b)
{
    const struct child *x = a, *y = b;
    if (x->bound < y->bound || x->bound > y->bound)
        return x->bound < y->bound ? -1 : 1;
    return x->option < y->option ? -1 : 1;
}

/* So many of the modules that are still to be placed have at least so many bytes. */
struct need {
    double bytes;
    uint32_t count;
};

/* What both searches share. */
struct tree {
    struct search *s;
    uint32_t *twin;       /* by device: the first device that it can be exchanged with (itself) */
    uint32_t *load_count; /* by device: modules there, pinned ones too */
    double open_bound;    /* least bound of what was left when stopped */
    double bytes_left;    /* of the modules not placed yet */
    double room_left;     /* on all devices */
    struct need *needs;   /* depth x NEEDS_MAX, falling bytes; count 0: no more; owned */
};

static double ceiling(const struct search *s)
{
    return s->found ? s->best_score.value * (1 - SEARCH_EPS) : INFINITY;
}

/* ---- devices that can be exchanged ---- */

static bool same_link(const struct plan_instance *in, uint32_t a, uint32_t b, uint32_t x)
{
    uint32_t i = in->link_of[(size_t)a * in->device_count + x];
    uint32_t k = in->link_of[(size_t)b * in->device_count + x];
    if (i == k)
        return true;
    if (i == PLAN_NO_LINK || k == PLAN_NO_LINK)
        return false;
    return memcmp(&in->links[i], &in->links[k], sizeof(in->links[i])) == 0;
}

static bool twins(const struct search *s, uint32_t a, uint32_t b)
{
    const struct plan_instance *in = s->in;
    const struct plan_device *x = &in->devices[a], *y = &in->devices[b];
    if (x->lanes != y->lanes || memcmp(&x->memory_bytes, &y->memory_bytes, sizeof(double)) != 0)
        return false;
    for (uint32_t m = 0; m < in->module_count; m++) {
        double p = plan_run(in, m, a), q = plan_run(in, m, b);
        if (memcmp(&p, &q, sizeof(p)) != 0)
            return false;
    }
    for (uint32_t q = 0; q < in->request_count; q++)
        if (in->requests[q].source == a || in->requests[q].source == b)
            return false;
    for (uint32_t d = 0; d < in->device_count; d++)
        if (d != a && d != b && !same_link(in, a, b, d))
            return false;
    return true;
}

static bool tree_init(struct tree *t, struct search *s, struct err *e)
{
    const struct plan_instance *in = s->in;
    *t = (struct tree){.s = s, .open_bound = INFINITY};
    t->twin = calloc(in->device_count, sizeof(*t->twin));
    t->load_count = calloc(in->device_count, sizeof(*t->load_count));
    if (!t->twin || !t->load_count)
        return err_set(e, ERR_MEMORY, "no memory for a search");
    for (uint32_t d = 0; d < in->device_count; d++) {
        t->room_left += in->devices[d].memory_bytes;
        while (t->twin[d] < d && (s->replicas || !twins(s, t->twin[d], d)))
            t->twin[d]++;
    }
    for (uint32_t m = 0; m < in->module_count; m++) {
        struct plan_sites none = {0};
        if (search_free(s, m))
            t->bytes_left += in->modules[m].memory_bytes;
        eval_set(&s->v, m, search_free(s, m) ? &none : &s->pinned[m]);
        for (uint32_t i = 0; i < s->pinned[m].count; i++) {
            t->load_count[s->pinned[m].device[i]]++;
            t->room_left -= in->modules[m].memory_bytes;
        }
    }
    return true;
}

static void tree_done(struct tree *t)
{
    free(t->twin);
    free(t->load_count);
    free(t->needs);
}

static int compare_falling(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* For each depth of the search, whose modules are placed in this order: the largest sizes to come. */
static bool tree_needs(struct tree *t, const uint32_t *order, uint32_t count, struct err *e)
{
    double *bytes = calloc(count + 1u, sizeof(*bytes));
    t->needs = calloc((size_t)(count + 1u) * NEEDS_MAX, sizeof(*t->needs));
    if (!bytes || !t->needs) {
        free(bytes);
        return err_set(e, ERR_MEMORY, "no memory for a search");
    }
    for (uint32_t at = 0; at < count; at++) {
        struct need *needs = t->needs + (size_t)at * NEEDS_MAX;
        uint32_t n = count - at, kinds = 0;
        for (uint32_t i = 0; i < n; i++)
            bytes[i] = t->s->in->modules[order[at + i]].memory_bytes;
        qsort(bytes, n, sizeof(*bytes), compare_falling);
        for (uint32_t i = 0; i < n && kinds < NEEDS_MAX && bytes[i] > 0; i++)
            if (i + 1 == n || bytes[i + 1] < bytes[i])
                needs[kinds++] = (struct need){bytes[i], i + 1};
    }
    free(bytes);
    return true;
}

/* Whether what is left may still fit: a device with room r takes at most floor(r / b) modules of b
 * bytes and more. */
static bool may_fit(const struct tree *t, uint32_t depth)
{
    const struct plan_instance *in = t->s->in;
    const struct need *needs = t->needs + (size_t)depth * NEEDS_MAX;
    if (t->bytes_left > t->room_left)
        return false;
    for (uint32_t i = 0; i < NEEDS_MAX && needs[i].count > 0; i++) {
        double places = 0;
        for (uint32_t d = 0; d < in->device_count && places < needs[i].count; d++) {
            double left = in->devices[d].memory_bytes - t->s->v.used[d];
            places += left >= needs[i].bytes ? floor(left / needs[i].bytes) : 0;
        }
        if (places < needs[i].count)
            return false;
    }
    return true;
}

/* Whether the module may be put there: room, and no empty twin before it. */
static bool allowed(const struct tree *t, uint32_t m, uint32_t d)
{
    const struct plan_instance *in = t->s->in;
    if (in->modules[m].memory_bytes > in->devices[d].memory_bytes - t->s->v.used[d])
        return false;
    for (uint32_t k = t->twin[d]; t->load_count[d] == 0 && k < d; k++)
        if (t->twin[k] == t->twin[d] && t->load_count[k] == 0)
            return false;
    return true;
}

static void put(struct tree *t, uint32_t m, const struct plan_sites *to)
{
    double bytes = t->s->in->modules[m].memory_bytes;
    for (uint32_t i = 0; i < to->count; i++)
        t->load_count[to->device[i]]++;
    t->bytes_left -= bytes;
    t->room_left -= bytes * to->count;
    eval_set(&t->s->v, m, to);
}

static void take_back(struct tree *t, uint32_t m)
{
    struct plan_sites none = {0}, *now = &t->s->v.sites[m];
    double bytes = t->s->in->modules[m].memory_bytes;
    for (uint32_t i = 0; i < now->count; i++)
        t->load_count[now->device[i]]--;
    t->bytes_left += bytes;
    t->room_left += bytes * now->count;
    eval_set(&t->s->v, m, &none);
}

static bool leaf(struct tree *t, struct err *e)
{
    if (!eval_full(&t->s->v, e))
        return false;
    search_offer(t->s);
    return true;
}

/* Notes what is not searched any more. */
static bool stopped(struct tree *t, double bound)
{
    if (!search_over(t->s))
        return false;
    if (bound < ceiling(t->s))
        t->open_bound = fmin(t->open_bound, bound);
    return true;
}

/* ---- latency by tables ---- */

struct table_tree {
    struct tree t;
    struct dual d;
    uint32_t *placed;       /* by factor: modules of it that are placed */
    size_t *index;          /* by factor: entry of its prefix table */
    struct child *children; /* depth x devices */
};

static double option_bound(const struct table_tree *x, uint32_t at, uint32_t o, double bound)
{
    const struct dual_module *m = &x->d.order[at];
    bound += m->u[o] - m->least_u;
    for (uint32_t i = 0; i < m->factor_count; i++) {
        uint32_t f = m->factor[i], j = x->placed[f];
        double *const *prefix = x->d.factors[f].prefix;
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

static bool visit_table(struct table_tree *x, uint32_t at, double bound, struct err *e)
{
    struct search *s = x->t.s;
    if (at == x->d.count)
        return leaf(&x->t, e);
    const struct dual_module *m = &x->d.order[at];
    struct child *c = x->children + (size_t)at * s->in->device_count;
    uint32_t count = 0;
    s->v.count++;
    if (!may_fit(&x->t, at))
        return true;
    for (uint32_t o = 0; o < m->option_count; o++) {
        double b = option_bound(x, at, o, bound);
        if (b < ceiling(s) && b < DUAL_BIG / 4 && allowed(&x->t, m->module, m->option[o]))
            c[count++] = (struct child){b, o};
    }
    qsort(c, count, sizeof(*c), compare_children);
    for (uint32_t i = 0; i < count; i++) {
        if (c[i].bound >= ceiling(s))
            break;
        if (stopped(&x->t, c[i].bound))
            return true;
        struct plan_sites one = {.count = 1, .device = {m->option[c[i].option]}};
        put(&x->t, m->module, &one);
        step(x, m, c[i].option, true);
        bool ok = visit_table(x, at + 1, c[i].bound, e);
        step(x, m, c[i].option, false);
        take_back(&x->t, m->module);
        if (!ok)
            return false;
    }
    return true;
}

/* What the end of a search says about the bound. */
static void conclude(struct search *s, const struct tree *t, double root)
{
    if (s->stopped == PLAN_NOT_STOPPED) {
        s->complete = true;
        s->bound = s->found ? s->best_score.value : INFINITY;
        return;
    }
    double least = fmax(root, fmin(t->open_bound, s->found ? s->best_score.value : INFINITY));
    if (least > s->bound && isfinite(least))
        s->bound = least;
}

static bool table_needs(struct table_tree *x, struct err *e)
{
    uint32_t order[EXACT_MODULES_MAX];
    for (uint32_t i = 0; i < x->d.count; i++)
        order[i] = x->d.order[i].module;
    return tree_needs(&x->t, order, x->d.count, e);
}

/* e->code ERR_TOO_LARGE: the tables are too large; nothing has been done. */
static bool table_search(struct search *s, struct err *e)
{
    struct table_tree x = {0};
    if (!dual_init(&x.d, s, e))
        return false;
    double target = s->found ? s->best_score.value : INFINITY;
    bool ok = dual_improve(&x.d, DUAL_SWEEPS, target, e) && tree_init(&x.t, s, e);
    x.placed = calloc(x.d.factor_count + 1u, sizeof(*x.placed));
    x.index = calloc(x.d.factor_count + 1u, sizeof(*x.index));
    x.children = calloc((size_t)(x.d.count + 1) * s->in->device_count, sizeof(*x.children));
    if (ok && !(x.placed && x.index && x.children))
        ok = err_set(e, ERR_MEMORY, "no memory for a search");
    ok = ok && table_needs(&x, e);
    double root = x.d.bound;
    if (ok && !stopped(&x.t, root) && root < ceiling(s) && root < DUAL_BIG / 4)
        ok = visit_table(&x, 0, root, e);
    if (ok)
        conclude(s, &x.t, root < DUAL_BIG / 4 ? root : INFINITY);
    free(x.placed);
    free(x.index);
    free(x.children);
    tree_done(&x.t);
    dual_done(&x.d);
    return ok;
}

/* ---- all else ---- */

struct open_tree {
    struct tree t;
    struct relax relax;
    struct open_places *open; /* by module: where it is, or may be */
    uint32_t *order, count;   /* free modules */
    double *rho;              /* by device: of what is placed (load, one place per module) */
    double *whole_share;      /* module x device: share of all requests' calls of it */
    struct child *children;   /* depth x child_max */
    uint32_t child_max;
    double *lanes; /* depth x lane_count: as the exact front leaves them (burst) */
    size_t lane_count;
    double *avail;       /* by device: least lane time */
    uint32_t *front;     /* by depth: requests simulated exactly */
    double *front_value; /* by depth */
};

static double share_of(const struct plan_instance *in, uint32_t request, uint32_t module,
                       uint32_t d)
{
    const struct plan_request *q = &in->requests[request];
    const struct plan_model *m = &in->models[q->model];
    double sum = 0;
    for (uint32_t i = 0; i < m->call_count; i++)
        if (m->calls[i].module == module)
            sum += q->rate_per_s * q->runs[i] * plan_run(in, module, d) /
                   (1000 * (double)in->devices[d].lanes);
    return sum;
}

static double rho_there(void *ctx, uint32_t request, uint32_t module, uint32_t device)
{
    const struct open_tree *x = ctx;
    if (x->t.s->replicas) /* nobody knows yet which replica the others take */
        return share_of(x->t.s->in, request, module, device);
    bool placed = x->t.s->v.sites[module].count > 0;
    if (x->t.s->v.sites[module].count > 1) /* pinned to several */
        return share_of(x->t.s->in, request, module, device);
    return x->rho[device] +
           (placed ? 0 : x->whole_share[(size_t)module * x->t.s->in->device_count + device]);
}

/* Burst: simulates the requests at the front that are placed as a whole. */
static double advance_front(struct open_tree *x, uint32_t depth)
{
    const struct plan_instance *in = x->t.s->in;
    size_t count;
    double value = depth > 0 ? x->front_value[depth - 1] : 0;
    uint32_t q = depth > 0 ? x->front[depth - 1] : 0;
    double *now = eval_lanes(&x->t.s->v, &count);
    if (q > 0)
        memcpy(now, x->lanes + (size_t)(depth - 1) * count, count * sizeof(*now));
    else
        memset(now, 0, count * sizeof(*now));
    for (; q < in->request_count; q++) {
        const struct plan_model *m = &in->models[in->requests[q].model];
        bool placed = true;
        for (uint32_t i = 0; placed && i < m->slot_count; i++)
            placed = x->t.s->v.sites[m->modules[i]].count > 0;
        if (!placed)
            break;
        double t = eval_next(&x->t.s->v, q);
        if (!isfinite(t))
            return INFINITY;
        value += in->requests[q].weight * t;
    }
    now = eval_lanes(&x->t.s->v, &count);
    memcpy(x->lanes + (size_t)depth * count, now, count * sizeof(*now));
    x->front[depth] = q;
    x->front_value[depth] = value;
    for (uint32_t d = 0; d < in->device_count; d++) {
        const double *lanes = now + x->t.s->v.lane_first[d];
        x->avail[d] = lanes[0];
        for (uint32_t i = 1; i < x->t.s->v.lane_count[d]; i++)
            x->avail[d] = fmin(x->avail[d], lanes[i]);
    }
    return value;
}

/* Bound of the node whose first `depth` modules are placed. */
static double node_bound(struct open_tree *x, uint32_t depth)
{
    const struct plan_instance *in = x->t.s->in;
    bool burst = in->objective == PLAN_BURST, load = in->objective == PLAN_LOAD;
    double bound = burst ? advance_front(x, depth) : 0;
    x->t.s->v.count++;
    for (uint32_t q = burst && isfinite(bound) ? x->front[depth] : 0;
         q < in->request_count && bound < ceiling(x->t.s); q++) {
        double t =
            relax_time(&x->relax, q, x->open, burst ? x->avail : NULL, load ? rho_there : NULL, x);
        if (!isfinite(t))
            return INFINITY;
        bound += in->requests[q].weight * t;
    }
    return bound;
}

static bool sites_of(const struct open_tree *x, uint32_t m, uint32_t option, struct plan_sites *to)
{
    const struct search *s = x->t.s;
    to->count = 0;
    if (!s->replicas) {
        to->device[to->count++] = option;
        return isfinite(plan_run(s->in, m, option)) && allowed(&x->t, m, option);
    }
    for (uint32_t d = 0; d < s->in->device_count; d++) {
        if (!((option + 1) >> d & 1))
            continue;
        if (!isfinite(plan_run(s->in, m, d)) || !allowed(&x->t, m, d))
            return false;
        to->device[to->count++] = d;
    }
    return true;
}

static void enter(struct open_tree *x, uint32_t m, const struct plan_sites *to, int sign)
{
    const struct plan_instance *in = x->t.s->in;
    if (sign > 0)
        put(&x->t, m, to);
    else
        take_back(&x->t, m);
    x->open[m].count = 0;
    for (uint32_t i = 0; sign > 0 && i < to->count; i++)
        x->open[m].device[x->open[m].count++] = to->device[i];
    for (uint32_t d = 0; sign < 0 && d < in->device_count; d++)
        if (plan_may(in, m, d))
            x->open[m].device[x->open[m].count++] = d;
    for (uint32_t i = 0; x->rho && to->count == 1 && i < to->count; i++) {
        double share = x->whole_share[(size_t)m * in->device_count + to->device[i]];
        x->rho[to->device[i]] = fmax(0, x->rho[to->device[i]] + sign * share);
    }
}

static bool visit_open(struct open_tree *x, uint32_t at, struct err *e)
{
    struct search *s = x->t.s;
    if (at == x->count)
        return leaf(&x->t, e);
    uint32_t m = x->order[at], count = 0;
    uint32_t options = s->replicas ? (1u << s->in->device_count) - 1 : s->in->device_count;
    struct child *c = x->children + (size_t)at * x->child_max;
    struct plan_sites to;
    if (!may_fit(&x->t, at))
        return true;
    for (uint32_t o = 0; o < options; o++) {
        if (!sites_of(x, m, o, &to))
            continue;
        enter(x, m, &to, 1);
        double b = node_bound(x, at + 1);
        enter(x, m, &to, -1);
        if (b < ceiling(s))
            c[count++] = (struct child){b, s->replicas ? options - o : o};
    }
    qsort(c, count, sizeof(*c), compare_children);
    for (uint32_t i = 0; i < count; i++) {
        if (c[i].bound >= ceiling(s))
            break;
        if (stopped(&x->t, c[i].bound))
            return true;
        (void)sites_of(x, m, s->replicas ? options - c[i].option : c[i].option, &to);
        enter(x, m, &to, 1);
        if (s->in->objective == PLAN_BURST)
            (void)advance_front(x, at + 1);
        bool ok = visit_open(x, at + 1, e);
        enter(x, m, &to, -1);
        if (!ok)
            return false;
    }
    return true;
}

/* Burst: modules in the order in which requests meet them, so that the exact front grows. */
static void open_order(struct open_tree *x)
{
    const struct plan_instance *in = x->t.s->in;
    for (uint32_t q = 0; in->objective == PLAN_BURST && q < in->request_count; q++) {
        const struct plan_model *m = &in->models[in->requests[q].model];
        for (uint32_t i = 0; i < m->slot_count; i++) {
            uint32_t k = 0;
            while (k < x->count && x->order[k] != m->modules[i])
                k++;
            if (k == x->count && search_free(x->t.s, m->modules[i]))
                x->order[x->count++] = m->modules[i];
        }
    }
    for (uint32_t i = 0; i < in->module_count; i++) {
        uint32_t m = x->t.s->order[i], k = 0;
        while (k < x->count && x->order[k] != m)
            k++;
        if (k == x->count && search_free(x->t.s, m))
            x->order[x->count++] = m;
    }
}

static void fill_open(struct open_tree *x)
{
    const struct search *s = x->t.s;
    const struct plan_instance *in = s->in;
    for (uint32_t m = 0; m < in->module_count; m++) {
        for (uint32_t d = 0; search_free(s, m) && d < in->device_count; d++)
            if (plan_may(in, m, d))
                x->open[m].device[x->open[m].count++] = d;
        for (uint32_t i = 0; i < s->pinned[m].count; i++)
            x->open[m].device[x->open[m].count++] = s->pinned[m].device[i];
        for (uint32_t d = 0; x->whole_share && d < in->device_count; d++)
            if (isfinite(plan_run(in, m, d)))
                for (uint32_t k = s->v.user_first[m]; k < s->v.user_first[m + 1]; k++)
                    x->whole_share[(size_t)m * in->device_count + d] +=
                        share_of(in, s->v.users[k], m, d);
        if (x->rho && s->pinned[m].count == 1)
            x->rho[s->pinned[m].device[0]] +=
                x->whole_share[(size_t)m * in->device_count + s->pinned[m].device[0]];
    }
}

static bool open_init(struct open_tree *x, struct search *s, struct err *e)
{
    const struct plan_instance *in = s->in;
    size_t depth = in->module_count + 1u;
    if (!tree_init(&x->t, s, e) || !relax_init(&x->relax, in, e))
        return false;
    (void)eval_lanes(&s->v, &x->lane_count);
    x->child_max = s->replicas ? (1u << in->device_count) - 1 : in->device_count;
    x->open = calloc(in->module_count, sizeof(*x->open));
    x->order = calloc(in->module_count, sizeof(*x->order));
    x->children = calloc(depth * x->child_max, sizeof(*x->children));
    x->avail = calloc(in->device_count, sizeof(double));
    x->front = calloc(depth, sizeof(*x->front));
    x->front_value = calloc(depth, sizeof(double));
    x->lanes = calloc(in->objective == PLAN_BURST ? depth * x->lane_count : 1, sizeof(double));
    bool ok =
        x->open && x->order && x->children && x->avail && x->front && x->front_value && x->lanes;
    if (in->objective == PLAN_LOAD) {
        x->rho = calloc(in->device_count, sizeof(double));
        x->whole_share = calloc((size_t)in->module_count * in->device_count, sizeof(double));
        ok = ok && x->rho && x->whole_share;
    }
    return ok || err_set(e, ERR_MEMORY, "no memory for a search");
}

static void open_done(struct open_tree *x)
{
    relax_done(&x->relax);
    tree_done(&x->t);
    free(x->open);
    free(x->order);
    free(x->children);
    free(x->avail);
    free(x->front);
    free(x->front_value);
    free(x->lanes);
    free(x->rho);
    free(x->whole_share);
}

static bool open_search(struct search *s, struct err *e)
{
    struct open_tree x = {0};
    bool ok = open_init(&x, s, e);
    if (ok) {
        fill_open(&x);
        open_order(&x);
        ok = tree_needs(&x.t, x.order, x.count, e);
    }
    if (ok) {
        double root = node_bound(&x, 0);
        if (!stopped(&x.t, root) && root < ceiling(s))
            ok = visit_open(&x, 0, e);
        if (ok)
            conclude(s, &x.t, root);
    }
    open_done(&x);
    return ok;
}

/* Whether every module has a device that could take it alone. */
static bool all_have_homes(const struct search *s)
{
    for (uint32_t m = 0; m < s->in->module_count; m++) {
        bool home = !search_free(s, m);
        for (uint32_t d = 0; !home && d < s->in->device_count; d++)
            home = plan_may(s->in, m, d);
        if (!home)
            return false;
    }
    return true;
}

bool exact_search(struct search *s, struct err *e)
{
    const struct plan_instance *in = s->in;
    if (!all_have_homes(s)) {
        s->complete = true;
        return true;
    }
    if (!local_search(s, FIRST_STARTS, e))
        return false;
    if (in->module_count > EXACT_MODULES_MAX || in->device_count > RELAX_DEVICES_MAX ||
        (s->replicas && in->device_count > REPLICA_DEVICES_MAX))
        return true;
    if (in->objective == PLAN_LATENCY && !s->replicas) {
        struct err why = {0};
        if (table_search(s, &why))
            return true;
        if (why.code != ERR_TOO_LARGE)
            return err_set(e, why.code, "%s", why.text);
    }
    return open_search(s, e);
}
