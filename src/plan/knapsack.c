/* knapsack.c - depth first by falling value per byte; a node's bound is the value with the first
 * thing that does not fit cut (Dantzig).  After NODES_MAX nodes that bound at the root is the answer. */
#include "plan/knapsack.h"

#include <stdlib.h>
#include <string.h>

#define NODES_MAX 2000u

bool knapsack_init(struct knapsack *k, uint32_t count)
{
    k->things = calloc(count + 1u, sizeof(*k->things));
    k->taken = calloc(count + 1u, sizeof(*k->taken));
    k->best = calloc(count + 1u, sizeof(*k->best));
    k->count = count;
    return k->things && k->taken && k->best;
}

void knapsack_done(struct knapsack *k)
{
    free(k->things);
    free(k->taken);
    free(k->best);
    memset(k, 0, sizeof(*k));
}

static int compare(const void *a, const void *b)
{
    const struct knapsack_thing *x = a, *y = b;
    if (x->density < y->density || x->density > y->density)
        return x->density < y->density ? 1 : -1;
    return x->index < y->index ? -1 : 1;
}

static double cut_bound(const struct knapsack *k, uint32_t n, uint32_t at, double room)
{
    double sum = 0;
    for (; at < n; at++) {
        const struct knapsack_thing *t = &k->things[at];
        if (t->bytes > room)
            return sum + t->density * room;
        sum += t->value;
        room -= t->bytes;
    }
    return sum;
}

static void visit(struct knapsack *k, uint32_t n, uint32_t at, double room, double value)
{
    if (value > k->best_value) {
        k->best_value = value;
        memcpy(k->best, k->taken, n * sizeof(*k->best));
    }
    if (at == n || value + cut_bound(k, n, at, room) <= k->best_value * (1 + 1e-12))
        return;
    if (++k->nodes > NODES_MAX) {
        k->gave_up = true;
        return;
    }
    if (k->things[at].bytes <= room) {
        k->taken[at] = true;
        visit(k, n, at + 1, room - k->things[at].bytes, value + k->things[at].value);
        k->taken[at] = false;
    }
    visit(k, n, at + 1, room, value);
}

double knapsack(struct knapsack *k, const double *value, const double *bytes, double room,
                bool *chosen, size_t stride)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < k->count; i++) {
        chosen[i * stride] = false;
        if (value[i] > 0 && bytes[i] <= room)
            k->things[n++] = (struct knapsack_thing){
                value[i], bytes[i], bytes[i] > 0 ? value[i] / bytes[i] : value[i] * 1e18, i};
    }
    qsort(k->things, n, sizeof(*k->things), compare);
    k->best_value = 0;
    k->nodes = 0;
    k->gave_up = false;
    memset(k->taken, 0, n * sizeof(*k->taken));
    memset(k->best, 0, n * sizeof(*k->best));
    double bound = cut_bound(k, n, 0, room);
    visit(k, n, 0, room, 0);
    for (uint32_t i = 0; i < n; i++)
        chosen[k->things[i].index * stride] = k->best[i];
    /* Pruning is within 1e-12, so the most may be that much above what was found. */
    return k->gave_up ? bound : k->best_value * (1 + 1e-12);
}
