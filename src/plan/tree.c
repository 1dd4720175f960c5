/* tree.c - see tree.h. */
#include "plan/tree.h"

#include <stdlib.h>
#include <string.h>

#define ROUNDING 1e-14 /* of sums over 2^53 */

int tree_compare(const void *a, const void *b)
{
    const struct child *x = a, *y = b;
    if (x->bound < y->bound || x->bound > y->bound)
        return x->bound < y->bound ? -1 : 1;
    return x->option < y->option ? -1 : 1;
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

bool tree_init(struct tree *t, struct search *s, struct err *e)
{
    const struct plan_instance *in = s->in;
    *t = (struct tree){.s = s, .open_bound = INFINITY};
    t->twin = calloc(in->device_count, sizeof(*t->twin));
    t->load_count = calloc(in->device_count, sizeof(*t->load_count));
    if (!t->twin || !t->load_count)
        return err_set(e, ERR_MEMORY, "no memory for a search");
    for (uint32_t d = 0; d < in->device_count; d++) {
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
        }
    }
    return true;
}

void tree_done(struct tree *t)
{
    free(t->twin);
    free(t->load_count);
    free(t->needs);
    free(t->least_bytes);
    free(t->alike);
}

static int compare_falling(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static bool modules_alike(const struct search *s, uint32_t a, uint32_t b)
{
    const struct plan_instance *in = s->in;
    if (s->v.user_first[a + 1] > s->v.user_first[a] || s->v.user_first[b + 1] > s->v.user_first[b])
        return false;
    if (memcmp(&in->modules[a].memory_bytes, &in->modules[b].memory_bytes, sizeof(double)) != 0)
        return false;
    for (uint32_t d = 0; d < in->device_count; d++)
        if (isfinite(plan_run(in, a, d)) != isfinite(plan_run(in, b, d)))
            return false;
    return true;
}

/* Of several the last one before it, so that their devices rise. */
static void find_alike(struct tree *t, const uint32_t *order, uint32_t count)
{
    for (uint32_t m = 0; m < t->s->in->module_count; m++)
        t->alike[m] = m;
    for (uint32_t at = 1; at < count && !t->s->replicas; at++)
        for (uint32_t i = at; i-- > 0 && t->alike[order[at]] == order[at];)
            if (modules_alike(t->s, order[at], order[i]))
                t->alike[order[at]] = order[i];
}

bool tree_needs(struct tree *t, const uint32_t *order, uint32_t count, struct err *e)
{
    double *bytes = calloc(count + 1u, sizeof(*bytes));
    t->needs = calloc((size_t)(count + 1u) * NEEDS_MAX, sizeof(*t->needs));
    t->least_bytes = calloc(count + 1u, sizeof(*t->least_bytes));
    t->alike = calloc(t->s->in->module_count, sizeof(*t->alike));
    if (!bytes || !t->needs || !t->least_bytes || !t->alike) {
        free(bytes);
        return err_set(e, ERR_MEMORY, "no memory for a search");
    }
    for (uint32_t at = 0; at < count; at++) {
        struct need *needs = t->needs + (size_t)at * NEEDS_MAX;
        uint32_t n = count - at, kinds = 0;
        for (uint32_t i = 0; i < n; i++)
            bytes[i] = t->s->in->modules[order[at + i]].memory_bytes;
        qsort(bytes, n, sizeof(*bytes), compare_falling);
        t->least_bytes[at] = bytes[n - 1];
        for (uint32_t i = 0; i < n && kinds < NEEDS_MAX && bytes[i] > 0; i++)
            if (i + 1 == n || bytes[i + 1] < bytes[i])
                needs[kinds++] = (struct need){bytes[i], i + 1};
    }
    find_alike(t, order, count);
    free(bytes);
    return true;
}

/* Whether what is left may still fit: room that is too small for any of it does not count, and a
 * device with room r takes at most floor(r / b) modules of b bytes and more. */
bool tree_may_fit(const struct tree *t, uint32_t depth)
{
    const struct plan_instance *in = t->s->in;
    const struct need *needs = t->needs + (size_t)depth * NEEDS_MAX;
    double room = 0;
    for (uint32_t d = 0; d < in->device_count; d++) {
        double left = in->devices[d].memory_bytes - t->s->v.used[d];
        room += left >= t->least_bytes[depth] ? left : 0;
    }
    if (t->bytes_left > room * (1 + ROUNDING))
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
bool tree_allowed(const struct tree *t, uint32_t m, uint32_t d)
{
    const struct plan_instance *in = t->s->in;
    if (in->modules[m].memory_bytes > in->devices[d].memory_bytes - t->s->v.used[d])
        return false;
    if (t->alike[m] != m && d < t->s->v.sites[t->alike[m]].device[0])
        return false;
    for (uint32_t k = t->twin[d]; t->load_count[d] == 0 && k < d; k++)
        if (t->twin[k] == t->twin[d] && t->load_count[k] == 0)
            return false;
    return true;
}

void tree_put(struct tree *t, uint32_t m, const struct plan_sites *to)
{
    double bytes = t->s->in->modules[m].memory_bytes;
    for (uint32_t i = 0; i < to->count; i++)
        t->load_count[to->device[i]]++;
    t->bytes_left -= bytes;
    eval_set(&t->s->v, m, to);
}

void tree_take_back(struct tree *t, uint32_t m)
{
    struct plan_sites none = {0}, *now = &t->s->v.sites[m];
    double bytes = t->s->in->modules[m].memory_bytes;
    for (uint32_t i = 0; i < now->count; i++)
        t->load_count[now->device[i]]--;
    t->bytes_left += bytes;
    eval_set(&t->s->v, m, &none);
}

bool tree_leaf(struct tree *t, struct err *e)
{
    if (!eval_full(&t->s->v, e))
        return false;
    search_offer(t->s);
    return true;
}

/* Notes what is not searched any more. */
bool tree_stopped(struct tree *t, double bound)
{
    if (!search_over(t->s))
        return false;
    if (bound < search_ceiling(t->s))
        t->open_bound = fmin(t->open_bound, bound);
    return true;
}

/* What the end of a search says about the bound. */
void tree_conclude(const struct tree *t, double root)
{
    struct search *s = t->s;
    if (s->stopped == PLAN_NOT_STOPPED) {
        s->complete = true;
        s->bound = s->found ? s->best_score.value : INFINITY;
        return;
    }
    double least = fmax(root, fmin(t->open_bound, s->found ? s->best_score.value : INFINITY));
    if (least > s->bound && isfinite(least))
        s->bound = least;
}
