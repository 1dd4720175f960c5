/* exact.c - branch and bound: the best placement, and the proof.
 *
 * Two searches.  table_search(): objective `latency`, one place per module, tables small enough
 * (exact_tables.c).  open_search(): all else; at each node every request is bounded by relax_time()
 * with the devices that are still open; for a burst the requests at the front whose modules are all
 * placed are simulated exactly and the others start no sooner than the lanes that those leave, nor
 * than the work that is certain to be before them is done (lane_there()); for load, rho is at least
 * what is placed already and the module's own share.
 *
 * A node is dropped when its bound is not below the best value by more than SEARCH_EPS of it: so the
 * best one found is within 1e-9 of the least.  Devices that can be exchanged (same memory, lanes, run
 * times, links; source of no request; nothing pinned) are tried once per node while they are empty:
 * exchanging two of them changes no value as long as modules have one place each.
 *
 * Nodes wait in a heap and the one with the least bound is taken first; the last few modules, and
 * all when too many nodes wait, are searched depth first.  When the search is stopped, the bound is
 * the least bound of what it left.
 *
 * Unresolved: with replicas, all sets of devices are tried, so more than REPLICA_DEVICES_MAX devices
 * are left to local search; without, the limit is RELAX_DEVICES_MAX. */
#include "plan/relax.h"
#include "plan/tree.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define OPEN_NODES_MAX (1u << 18)         /* that wait */
#define OPEN_BYTES_MAX ((size_t)64 << 20) /* of them */
#define DIVE_DEPTH 6u
#define QUEUE_CELLS_MAX (1u << 20) /* requests x modules whose queues are looked at */
#define QUEUE_ROUNDING 1e-12    /* sums of run times are not added in the order of the schedule */
#define REPLICA_DEVICES_MAX 10u /* 1023 sets of devices per module */
#define FIRST_STARTS 4u         /* of the local search that goes before */

/* ---- all else ---- */

/* Work that requests before the one that is bounded certainly bring to a device. */
struct queue {
    double after_front; /* ms, of those that are not simulated exactly */
    double all;         /* ms, of all of them */
    double longest;     /* ms, of one call */
};

/* A node that waits: its path is the options of the first `depth` modules. */
struct open_node {
    double bound;
    uint32_t depth;
    uint32_t path; /* row of paths */
};

struct open_tree {
    struct tree t;
    struct relax relax;
    struct open_places *open; /* by module: where it is, or may be */
    uint32_t *order, count;   /* free modules */
    double *rho;              /* by device: of what is placed (load, one place per module) */
    double *whole_share;      /* module x device: share of all requests' calls of it */
    struct child *children;   /* depth x child_max */
    uint32_t child_max;
    struct open_node *heap; /* the least bound first; owned */
    size_t heap_count, heap_room, heap_max;
    uint32_t dive;
    uint16_t *paths; /* heap_room x (count + 1); owned */
    double *lanes;   /* depth x lane_count: as the exact front leaves them (burst) */
    size_t lane_count;
    double *avail;       /* by device: least lane time */
    struct queue *queue; /* by device: of the request that is bounded (burst) */
    double
        *runs_before;  /* request x module: runs that requests before it ask for; NULL: too many */
    double *most_runs; /* by module: of one call */
    uint32_t *front;   /* by depth: requests simulated exactly */
    double *front_value; /* by depth */
    uint32_t front_now;  /* of the node that is bounded */
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
        value = fmin(value + eval_weighted(&in->requests[q], t), DBL_MAX);
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

/* Adds the calls of a module that is on d for certain, by requests before q. */
static void add_queue(const struct open_tree *x, uint32_t q, uint32_t front, uint32_t m, uint32_t d,
                      struct queue *to)
{
    size_t modules = x->t.s->in->module_count;
    double run = plan_run(x->t.s->in, m, d), all = x->runs_before[q * modules + m];
    if (all <= 0)
        return;
    to->all += all * run;
    to->after_front += (all - x->runs_before[front * modules + m]) * run;
    to->longest = fmax(to->longest, x->most_runs[m] * run);
}

static void fill_queues(struct open_tree *x, uint32_t q, uint32_t front)
{
    const struct plan_instance *in = x->t.s->in;
    memset(x->queue, 0, in->device_count * sizeof(*x->queue));
    for (uint32_t m = 0; m < in->module_count; m++) {
        const struct plan_sites *sites = &x->t.s->v.sites[m];
        if (sites->count == 1)
            add_queue(x, q, front, m, sites->device[0], &x->queue[sites->device[0]]);
    }
}

/* When a lane of d is free for request q.  Requests are taken one after the other, so a single lane
 * has done all that those before q ask of its device, after what it was left at by the front.  Of L
 * lanes a call takes the least one, so without its last call none has done more than the least one
 * has in the end: all work <= L * least + (L - 1) * longest. */
static double lane_there(void *ctx, uint32_t request, uint32_t module, uint32_t device)
{
    const struct open_tree *x = ctx;
    const struct search *s = x->t.s;
    double lanes = s->in->devices[device].lanes;
    if (!x->runs_before)
        return x->avail[device];
    struct queue all = x->queue[device];
    if (!s->replicas && s->v.sites[module].count == 0) /* earlier calls of it are there, too */
        add_queue(x, request, x->front_now, module, device, &all);
    double free = lanes > 1 ? (all.all - (lanes - 1) * all.longest) / lanes
                            : x->avail[device] + all.after_front;
    return fmax(x->avail[device], free * (1 - QUEUE_ROUNDING));
}

/* Bound of the node whose first `depth` modules are placed. */
static double node_bound(struct open_tree *x, uint32_t depth)
{
    const struct plan_instance *in = x->t.s->in;
    bool burst = in->objective == PLAN_BURST, load = in->objective == PLAN_LOAD;
    double bound = burst ? advance_front(x, depth) : 0;
    x->t.s->v.count++;
    x->front_now = burst ? x->front[depth] : 0;
    for (uint32_t q = isfinite(bound) ? x->front_now : 0;
         q < in->request_count && bound < search_ceiling(x->t.s); q++) {
        if (burst && x->runs_before)
            fill_queues(x, q, x->front_now);
        double t = relax_time(&x->relax, q, x->open, burst ? lane_there : NULL,
                              load ? rho_there : NULL, x);
        if (!isfinite(t))
            return INFINITY;
        bound = fmin(bound + eval_weighted(&in->requests[q], t), DBL_MAX);
    }
    return bound;
}

static bool sites_of(const struct open_tree *x, uint32_t m, uint32_t option, struct plan_sites *to)
{
    const struct search *s = x->t.s;
    to->count = 0;
    if (!s->replicas) {
        to->device[to->count++] = option;
        return isfinite(plan_run(s->in, m, option)) && tree_allowed(&x->t, m, option);
    }
    for (uint32_t d = 0; d < s->in->device_count; d++) {
        if (!((option + 1) >> d & 1))
            continue;
        if (!isfinite(plan_run(s->in, m, d)) || !tree_allowed(&x->t, m, d))
            return false;
        to->device[to->count++] = d;
    }
    return true;
}

static void enter(struct open_tree *x, uint32_t m, const struct plan_sites *to, int sign)
{
    const struct plan_instance *in = x->t.s->in;
    if (sign > 0)
        tree_put(&x->t, m, to);
    else
        tree_take_back(&x->t, m);
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

/* The children of the node that is entered, best first; their number. */
static uint32_t children_of(struct open_tree *x, uint32_t at, struct child *c)
{
    struct search *s = x->t.s;
    uint32_t m = x->order[at], count = 0;
    uint32_t options = s->replicas ? (1u << s->in->device_count) - 1 : s->in->device_count;
    struct plan_sites to;
    if (!tree_may_fit(&x->t, at))
        return 0;
    for (uint32_t o = 0; o < options; o++) {
        if (!sites_of(x, m, o, &to))
            continue;
        enter(x, m, &to, 1);
        double b = node_bound(x, at + 1);
        enter(x, m, &to, -1);
        if (s->watch)
            s->watch(s->watch_ctx, m, &to, b);
        if (b < search_ceiling(s))
            c[count++] = (struct child){b, s->replicas ? options - 1 - o : o};
    }
    qsort(c, count, sizeof(*c), tree_compare);
    return count;
}

static void enter_option(struct open_tree *x, uint32_t at, uint32_t option)
{
    const struct search *s = x->t.s;
    struct plan_sites to;
    uint32_t last = s->replicas ? (1u << s->in->device_count) - 2 : 0;
    (void)sites_of(x, x->order[at], s->replicas ? last - option : option, &to);
    enter(x, x->order[at], &to, 1);
    if (s->in->objective == PLAN_BURST)
        (void)advance_front(x, at + 1);
}

static void leave_option(struct open_tree *x, uint32_t at)
{
    struct plan_sites to = x->t.s->v.sites[x->order[at]];
    enter(x, x->order[at], &to, -1);
}

/* Depth first from the node that is entered. */
static bool visit_open(struct open_tree *x, uint32_t at, struct err *e)
{
    if (at == x->count)
        return tree_leaf(&x->t, e);
    struct child *c = x->children + (size_t)at * x->child_max;
    uint32_t count = children_of(x, at, c);
    for (uint32_t i = 0; i < count && c[i].bound < search_ceiling(x->t.s); i++) {
        if (tree_stopped(&x->t, c[i].bound))
            return true;
        enter_option(x, at, c[i].option);
        bool ok = visit_open(x, at + 1, e);
        leave_option(x, at);
        if (!ok)
            return false;
    }
    return true;
}

/* ---- the node of the least bound first ---- */

static bool comes_before(const struct open_node *a, const struct open_node *b)
{
    if (a->bound < b->bound || a->bound > b->bound)
        return a->bound < b->bound;
    if (a->depth != b->depth)
        return a->depth > b->depth;
    return a->path < b->path;
}

static void exchange(struct open_node *a, struct open_node *b)
{
    struct open_node t = *a;
    *a = *b;
    *b = t;
}

static bool grow_heap(struct open_tree *x, struct err *e)
{
    size_t room = x->heap_room ? x->heap_room * 2 : 256;
    struct open_node *heap = realloc(x->heap, room * sizeof(*heap));
    if (heap)
        x->heap = heap;
    uint16_t *paths = realloc(x->paths, room * (x->count + 1u) * sizeof(*paths));
    if (paths)
        x->paths = paths;
    if (!heap || !paths)
        return err_set(e, ERR_MEMORY, "no memory for a search");
    for (size_t i = x->heap_room; i < room; i++) /* what is behind the heap holds the free paths */
        x->heap[i].path = (uint32_t)i;
    x->heap_room = room;
    return true;
}

/* path: the options of depth - 1 modules. */
static bool push(struct open_tree *x, const uint16_t *path, uint32_t depth, struct child c,
                 struct err *e)
{
    if (x->heap_count == x->heap_room && !grow_heap(x, e))
        return false;
    size_t at = x->heap_count++;
    struct open_node *n = &x->heap[at];
    uint16_t *own = x->paths + (size_t)n->path * (x->count + 1u);
    n->bound = c.bound;
    n->depth = depth;
    memcpy(own, path, (depth - 1) * sizeof(*own));
    own[depth - 1] = (uint16_t)c.option;
    for (; at > 0 && comes_before(&x->heap[at], &x->heap[(at - 1) / 2]); at = (at - 1) / 2)
        exchange(&x->heap[at], &x->heap[(at - 1) / 2]);
    return true;
}

/* The path stays readable until the next push. */
static struct open_node pop(struct open_tree *x)
{
    struct open_node top = x->heap[0];
    exchange(&x->heap[0], &x->heap[--x->heap_count]);
    for (size_t at = 0;;) {
        size_t least = at, first = 2 * at + 1;
        for (size_t i = first; i < first + 2 && i < x->heap_count; i++)
            if (comes_before(&x->heap[i], &x->heap[least]))
                least = i;
        if (least == at)
            return top;
        exchange(&x->heap[at], &x->heap[least]);
        at = least;
    }
}

/* path: a copy of the node's own. */
static bool expand(struct open_tree *x, const uint16_t *path, uint32_t depth, struct err *e)
{
    bool ok = true;
    for (uint32_t i = 0; i < depth; i++)
        enter_option(x, i, path[i]);
    if (depth + x->dive >= x->count || x->heap_count >= x->heap_max) {
        ok = visit_open(x, depth, e);
    } else {
        struct child *c = x->children + (size_t)depth * x->child_max;
        uint32_t count = children_of(x, depth, c);
        for (uint32_t i = 0; ok && i < count; i++)
            ok = push(x, path, depth + 1, c[i], e);
    }
    for (uint32_t i = depth; i-- > 0;)
        leave_option(x, i);
    return ok;
}

/* Until nothing is left that may be better, or the method is stopped. */
static bool search_open_heap(struct open_tree *x, struct err *e)
{
    uint16_t path[EXACT_MODULES_MAX + 1];
    bool ok = expand(x, path, 0, e);
    while (ok && x->heap_count > 0 && x->heap[0].bound < search_ceiling(x->t.s)) {
        if (tree_stopped(&x->t, x->heap[0].bound))
            break;
        struct open_node n = pop(x);
        memcpy(path, x->paths + (size_t)n.path * (x->count + 1u), n.depth * sizeof(*path));
        ok = expand(x, path, n.depth, e);
    }
    return ok;
}

/* ---- all of it ---- */

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
        if (k == x->count && search_free(x->t.s, m) &&
            x->t.s->v.user_first[m + 1] > x->t.s->v.user_first[m])
            x->order[x->count++] = m;
    }
    uint32_t first = x->count; /* those that nobody uses: by falling bytes */
    for (uint32_t m = 0; m < in->module_count; m++) {
        if (!search_free(x->t.s, m) || x->t.s->v.user_first[m + 1] > x->t.s->v.user_first[m])
            continue;
        uint32_t k = x->count++;
        for (; k > first && in->modules[x->order[k - 1]].memory_bytes < in->modules[m].memory_bytes;
             k--)
            x->order[k] = x->order[k - 1];
        x->order[k] = m;
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

static bool fill_runs(struct open_tree *x)
{
    const struct plan_instance *in = x->t.s->in;
    size_t modules = in->module_count;
    x->queue = calloc(in->device_count, sizeof(*x->queue));
    x->most_runs = calloc(modules, sizeof(double));
    if (!x->queue || !x->most_runs)
        return false;
    if (in->request_count * modules > QUEUE_CELLS_MAX)
        return true;
    x->runs_before = calloc((in->request_count + 1u) * modules, sizeof(double));
    for (uint32_t q = 0; x->runs_before && q < in->request_count; q++) {
        double *now = x->runs_before + q * modules, *next = now + modules;
        const struct plan_model *m = &in->models[in->requests[q].model];
        memcpy(next, now, modules * sizeof(*now));
        for (uint32_t i = 0; i < m->call_count; i++) {
            uint32_t used = m->calls[i].module;
            next[used] += in->requests[q].runs[i];
            x->most_runs[used] = fmax(x->most_runs[used], in->requests[q].runs[i]);
        }
    }
    return x->runs_before != NULL;
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
    if (ok && in->objective == PLAN_BURST)
        ok = fill_runs(x);
    return ok || err_set(e, ERR_MEMORY, "no memory for a search");
}

static void open_done(struct open_tree *x)
{
    relax_done(&x->relax);
    tree_done(&x->t);
    free(x->open);
    free(x->order);
    free(x->children);
    free(x->heap);
    free(x->paths);
    free(x->avail);
    free(x->queue);
    free(x->runs_before);
    free(x->most_runs);
    free(x->front);
    free(x->front_value);
    free(x->lanes);
    free(x->rho);
    free(x->whole_share);
}

bool open_search(struct search *s, struct open_effort effort, struct err *e)
{
    struct open_tree x = {0};
    bool ok = open_init(&x, s, e);
    if (ok) {
        fill_open(&x);
        open_order(&x);
        size_t each = sizeof(*x.heap) + (x.count + 1u) * sizeof(*x.paths);
        x.dive = effort.dive;
        x.heap_max = num_min(effort.waiting, OPEN_BYTES_MAX / each);
        ok = tree_needs(&x.t, x.order, x.count, e);
    }
    if (ok) {
        double root = node_bound(&x, 0);
        if (!tree_stopped(&x.t, root) && root < search_ceiling(s))
            ok = search_open_heap(&x, e);
        if (ok)
            tree_conclude(&x.t, root);
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
        static const struct table_effort effort = {20000, 3000, 60, 12, 1u << 12};
        struct err why = {0};
        if (table_search(s, effort, &why))
            return true;
        if (why.code != ERR_TOO_LARGE)
            return err_set(e, why.code, "%s", why.text);
    }
    return open_search(s, (struct open_effort){OPEN_NODES_MAX, DIVE_DEPTH}, e);
}
