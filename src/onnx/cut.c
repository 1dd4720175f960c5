/* cut.c - boundaries where few tensors cross.
 *
 * The end of a colour is rarely a good place to cut: the last common nodes may be in the middle of
 * a pattern that the runtime fuses, with two or three tensors crossing.  For each colour, a minimum
 * cut says which of its last nodes are better computed again by their users: a tensor that crosses
 * costs `crossing` bytes, a weight that is no longer shared costs its size; of equal cuts the
 * latest one is taken, so that as much as possible stays common.
 *
 * Between two modalities of one owner nothing is lost by moving a weight, except that it is no
 * longer computed in parallel: there it costs a part of its size. */
#include "onnx/flow.h"
#include "onnx/work.h"

#include <stdlib.h>

#define MOVE_DISCOUNT 64u
#define MOVED_PART 8u
#define SPATIAL_PART 4u
#define TURNED_PART 2u

/* Whether the runtime makes one node, with sums in another order, of what makes a value and what
 * uses it: of a convolution, of both sides of an Add behind it, and an activation behind these. */
static bool fuses_on(const struct work *w, uint32_t cls)
{
    static const char *const acts[] = {"Relu", "LeakyRelu",   "Sigmoid",
                                       "Tanh", "HardSigmoid", "Clip"};
    const struct wclass *c = &w->classes.items[cls];
    bool sums = c->adds_conv || class_is(w, cls, "Conv");
    for (uint32_t k = 0; k < c->edge_count; k++) {
        uint32_t to = w->edges.items[c->edge_first + k].to;
        if (w->classes.items[to].adds_conv)
            return true;
        for (size_t i = 0; sums && i < sizeof(acts) / sizeof(*acts); i++)
            if (class_is(w, to, acts[i]))
                return true;
    }
    return false;
}

uint64_t work_crossing(const struct work *w, uint32_t cls)
{
    static const char *const moves[] = {"Transpose", "Reshape", "Unsqueeze", "Squeeze",
                                        "Expand",    "Cast",    "Flatten"};
    /* they fuse with what uses them; a Transpose is moved far into it, and sums take another order */
    for (size_t i = 0; cls != ONNX_NONE && i < sizeof(moves) / sizeof(*moves); i++)
        if (class_is(w, cls, moves[i]))
            return w->crossing + w->crossing / (i == 0 ? TURNED_PART : MOVED_PART);
    if (cls != ONNX_NONE && fuses_on(w, cls))
        return CROSSING_NEVER;
    if (cls != ONNX_NONE && w->classes.items[cls].spatial)
        return w->crossing + w->crossing / SPATIAL_PART; /* layouts would turn there and back */
    return w->crossing;
}

struct cut {
    struct work *w;
    const uint32_t *members; /* classes of one colour */
    uint32_t count;
    uint32_t *at;       /* class to its flow node, 0: not of this colour */
    uint32_t *value_at; /* edge to the flow node of its value */
    struct flow f;
};

static bool crosses(const struct cut *c, const struct wedge *edge)
{
    const struct wclass *user = &c->w->classes.items[edge->to];
    if (edge->flags & EDGE_TOKEN)
        return true;
    return !user->light && !c->at[edge->to];
}

/* What it costs to compute a member again: by who its outside users are. */
static uint64_t price(const struct cut *c, uint64_t owners, uint64_t *ret_divide)
{
    uint64_t colours[2] = {0, 0};
    *ret_divide = 1;
    uint64_t copies = (uint64_t)__builtin_popcountll(owners) - 1;
    for (uint32_t i = 0; i < c->count; i++) {
        const struct wclass *x = &c->w->classes.items[c->members[i]];
        for (uint32_t k = 0; k < x->edge_count; k++) {
            const struct wedge *edge = &c->w->edges.items[x->edge_first + k];
            if (!crosses(c, edge))
                continue;
            uint64_t colour = c->w->classes.items[edge->to].colour;
            if (colours[0] && colours[0] != colour)
                colours[1] = colour;
            colours[0] = colours[0] ? colours[0] : colour;
        }
    }
    if (!colours[0])
        return 0;
    if (copies == 0 && !colours[1])
        *ret_divide = MOVE_DISCOUNT;
    return copies ? copies : 1;
}

static bool build(struct cut *c, uint64_t times, uint64_t divide)
{
    struct work *w = c->w;
    uint32_t next = 2 + c->count;
    for (uint32_t i = 0; i < c->count; i++) {
        const struct wclass *x = &w->classes.items[c->members[i]];
        uint32_t node = c->at[c->members[i]], value_node = 0;
        uint64_t keep = x->output || x->ported ? FLOW_INF : x->weight * times / divide + 1,
                 value = 0;
        if (!flow_add(&c->f, 0, node, keep, w->e))
            return false;
        for (uint32_t k = 0; k < x->edge_count; k++) {
            const struct wedge *edge = &w->edges.items[x->edge_first + k];
            bool out = crosses(c, edge), in = c->at[edge->to] && !(edge->flags & EDGE_TOKEN);
            if (!out && !in)
                continue;
            if (in && !flow_add(&c->f, c->at[edge->to], node, FLOW_INF, w->e))
                return false; /* a member needs the ones before it */
            if (!value_node || edge->value != value) {
                value = edge->value;
                value_node = c->value_at[x->edge_first + k];
                if (value_node == 0) {
                    value_node = next++;
                    for (uint32_t j = k; j < x->edge_count; j++)
                        if (w->edges.items[x->edge_first + j].value == value)
                            c->value_at[x->edge_first + j] = value_node;
                    if (!flow_add(&c->f, node, value_node, work_crossing(w, c->members[i]), w->e))
                        return false;
                }
            }
            if (!flow_add(&c->f, value_node, out ? 1 : c->at[edge->to], FLOW_INF, w->e))
                return false;
        }
    }
    return true;
}

static uint32_t value_count(const struct cut *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->count; i++)
        n += c->w->classes.items[c->members[i]].edge_count;
    return n;
}

static bool cut_colour(struct cut *c)
{
    struct work *w = c->w;
    for (uint32_t i = 0; i < c->count; i++)
        c->at[c->members[i]] = 2 + i;
    uint64_t divide, times = price(c, w->classes.items[c->members[0]].owners, &divide);
    bool ok = true;
    if (times) {
        uint8_t *side = malloc(2u + c->count + value_count(c));
        ok = side && flow_init(&c->f, 2 + c->count + value_count(c), w->e);
        if (!side)
            err_set(w->e, ERR_MEMORY, "cut: no memory");
        ok = ok && build(c, times, divide);
        if (ok) {
            flow_run(&c->f);
            flow_side(&c->f, false, side);
            for (uint32_t i = 0; i < c->count; i++)
                w->classes.items[c->members[i]].copied = !side[2 + i];
        }
        flow_done(&c->f);
        free(side);
    }
    for (uint32_t i = 0; i < c->count; i++)
        c->at[c->members[i]] = 0;
    return ok;
}

static int by_colour(const void *x, const void *y, void *arg)
{
    const struct work *w = arg;
    const struct wclass *a = &w->classes.items[*(const uint32_t *)x],
                        *b = &w->classes.items[*(const uint32_t *)y];
    if (a->colour != b->colour)
        return (a->colour > b->colour) - (a->colour < b->colour);
    return (a->order > b->order) - (a->order < b->order);
}

bool work_cuts(struct work *w)
{
    uint32_t *members = calloc(w->sorted_count + 1, sizeof(*members)), count = 0;
    struct cut c = {.w = w,
                    .at = calloc(w->classes.count + 1, sizeof(uint32_t)),
                    .value_at = calloc(w->edges.count + 1, sizeof(uint32_t))};
    bool ok = (members && c.at && c.value_at) || err_set(w->e, ERR_MEMORY, "cut: no memory");
    for (uint32_t i = 0; ok && i < w->sorted_count; i++)
        if (!w->classes.items[w->sorted[i]].light &&
            !(w->classes.items[w->sorted[i]].owners & w->whole))
            members[count++] = w->sorted[i];
    if (count)
        qsort_r(members, count, sizeof(*members), by_colour, w);
    for (uint32_t i = 0; ok && i < count;) {
        uint32_t k = i + 1;
        while (k < count &&
               w->classes.items[members[k]].colour == w->classes.items[members[i]].colour)
            k++;
        c.members = members + i;
        c.count = k - i;
        ok = cut_colour(&c);
        i = k;
    }
    free(members);
    free(c.at);
    free(c.value_at);
    return ok;
}
