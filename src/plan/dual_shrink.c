/* dual_shrink.c - options that nothing better can have are dropped (see dual.h).
 *
 * For a module m and a device d the bound with y_m = d forced is the bound plus
 *     U_m(d) - min U_m                                   its own part
 *   + sum over its factors of (min of G_f with y_m = d) - min G_f
 *   + K_d - (p_md + the best packing of the others beside m)    m is in d for certain
 *   + sum over d' != d of K_d' - K_d' without m                 and nowhere else:
 * each term of the bound is replaced by its minimum (K: maximum) over the placements that have m on
 * d, so the sum still bounds all of those. */
#include "plan/dual.h"

#include <stdlib.h>
#include <string.h>

/* ---- bounds with one option forced ---- */

/* cond[place x device] from factors and u; returns the bound without forcing. */
static double plain_conditions(struct dual *d)
{
    struct dual_scratch *x = d->scratch;
    size_t devices = d->s->in->device_count;
    double bound = dual_bound_now(d);
    for (uint32_t i = 0; i < d->count; i++) {
        const struct dual_module *m = &d->order[i];
        double least = INFINITY;
        for (uint32_t o = 0; o < m->option_count; o++)
            least = fmin(least, m->u[o]);
        for (uint32_t o = 0; o < m->option_count; o++)
            x->cond[i * devices + o] = bound + (m->u[o] - least);
    }
    for (uint32_t k = 0; k < d->factor_count; k++) {
        const struct dual_factor *f = &d->factors[k];
        double least = INFINITY;
        dual_least(d, f, f->lambda, x->least);
        for (uint32_t o = 0; f->count > 0 && o < d->order[f->at[0]].option_count; o++)
            least = fmin(least, x->least[o]);
        for (uint32_t j = 0; j < f->count && isfinite(least); j++)
            for (uint32_t o = 0; o < d->order[f->at[j]].option_count; o++)
                x->cond[f->at[j] * devices + o] += x->least[j * devices + o] - least;
    }
    return bound;
}

/* The best packing of device k if place `at` is in it for certain, or is not in it. */
static double packing_with(struct dual *d, uint32_t k, uint32_t at, bool in)
{
    struct dual_scratch *x = d->scratch;
    size_t devices = d->s->in->device_count;
    double own = d->price[at * devices + k];
    for (uint32_t i = 0; i < d->count; i++)
        x->value[i] = i == at ? 0 : d->price[i * devices + k];
    double rest = knapsack(&x->knapsack, x->value, x->bytes, x->used[k] - (in ? x->bytes[at] : 0),
                           x->unused, 1);
    return in ? rest + own : rest;
}

/* What packings add, for modules that may still be in several places. */
static void packed_conditions(struct dual *d, double target)
{
    struct dual_scratch *x = d->scratch;
    size_t devices = d->s->in->device_count;
    for (uint32_t i = 0; i < d->count; i++) {
        const struct dual_module *m = &d->order[i];
        double all = 0;
        if (m->option_count < 2)
            continue;
        for (uint32_t k = 0; k < devices; k++) { /* as if it were nowhere */
            x->delta[k] =
                x->packed[i * devices + k] ? x->packing[k] - packing_with(d, k, i, false) : 0;
            x->delta[k] = fmax(0, x->delta[k]);
            all += x->delta[k];
        }
        for (uint32_t o = 0; o < m->option_count; o++) {
            double *cond = &x->cond[i * devices + o];
            uint32_t k = m->option[o];
            if (*cond >= target)
                continue;
            double here = x->bytes[i] > x->used[k] ? INFINITY
                          : x->packed[i * devices + k]
                              ? 0
                              : fmax(0, x->packing[k] - packing_with(d, k, i, true));
            *cond += here + all - x->delta[k];
        }
    }
}

/* ---- tables with fewer options ---- */

/* Bytes on each device of modules that have no choice, but for those of f. */
static void fixed_bytes(const struct dual *d, const struct dual_factor *f, double *used)
{
    memset(used, 0, d->s->in->device_count * sizeof(*used));
    for (uint32_t i = 0, j = 0; i < d->count; i++) {
        while (j < f->count && f->at[j] < i)
            j++;
        if (d->order[i].option_count == 1 && !(j < f->count && f->at[j] == i))
            used[d->order[i].option[0]] += d->s->in->modules[d->order[i].module].memory_bytes;
    }
}

/* Whether the modules of an entry fit together beside what is fixed. */
static bool entry_fits(const struct dual *d, const struct dual_factor *f, const uint32_t *y,
                       double *used)
{
    bool fits = true;
    for (uint32_t j = 0; j < f->count; j++) {
        const struct dual_module *m = &d->order[f->at[j]];
        used[m->option[y[j]]] += d->s->in->modules[m->module].memory_bytes;
        fits &= used[m->option[y[j]]] <= d->room[m->option[y[j]]];
    }
    for (uint32_t j = 0; j < f->count; j++) {
        const struct dual_module *m = &d->order[f->at[j]];
        used[m->option[y[j]]] -= d->s->in->modules[m->module].memory_bytes;
    }
    return fits;
}

/* Takes the places without a choice out of a table: they do not change its layout. */
static void drop_fixed(const struct dual *d, struct dual_factor *f)
{
    size_t devices = d->s->in->device_count;
    uint32_t kept = 0;
    for (uint32_t j = 0; j < f->count; j++) {
        if (d->order[f->at[j]].option_count == 1)
            continue;
        f->at[kept] = f->at[j];
        memmove(f->lambda + kept * devices, f->lambda + j * devices, devices * sizeof(double));
        kept++;
    }
    f->count = kept;
}

/* keep[place x device]: options that stay, by their number of before.  Options of d are already
 * the new ones; was: how many there were. */
static bool shrink_table(struct dual *d, struct dual_factor *f, const bool *keep,
                         const uint32_t *was)
{
    size_t devices = d->s->in->device_count, size = 1, index;
    uint32_t y[DUAL_SLOTS_MAX] = {0}, old[DUAL_SLOTS_MAX];
    for (uint32_t j = 0; j < f->count; j++)
        size *= d->order[f->at[j]].option_count;
    double *cost = malloc((size ? size : 1) * sizeof(*cost));
    double *bytes = calloc(devices, sizeof(*bytes));
    if (!cost || !bytes) {
        free(cost);
        free(bytes);
        return false;
    }
    fixed_bytes(d, f, bytes);
    for (size_t i = 0; i < size; i++) {
        dual_unpack(d, f, i, y);
        index = 0;
        for (uint32_t j = 0; j < f->count; j++) {
            const bool *k = keep + f->at[j] * devices;
            uint32_t left = y[j];
            for (old[j] = 0; !k[old[j]] || left-- > 0; old[j]++)
                ;
            index = index * was[f->at[j]] + old[j];
        }
        cost[i] = entry_fits(d, f, y, bytes) ? f->cost[index] : INFINITY;
    }
    for (uint32_t j = 0; j < f->count; j++) {
        uint32_t n = 0;
        for (uint32_t o = 0; o < was[f->at[j]]; o++)
            if (keep[f->at[j] * devices + o])
                f->lambda[j * devices + n++] = f->lambda[j * devices + o];
    }
    free(bytes);
    free(f->cost);
    f->cost = cost;
    f->size = size;
    drop_fixed(d, f);
    return true;
}

/* Prices of options that are gone, and of modules without a choice, are 0. */
static void drop_prices(struct dual *d)
{
    size_t devices = d->s->in->device_count;
    for (uint32_t i = 0; i < d->count; i++) {
        const struct dual_module *m = &d->order[i];
        for (uint32_t k = 0, o = 0; k < devices; k++) {
            bool there = o < m->option_count && m->option[o] == k;
            o += there;
            if (!there || m->option_count == 1)
                d->price[i * devices + k] = 0;
        }
    }
}

static bool apply(struct dual *d, const bool *keep, struct err *e)
{
    size_t devices = d->s->in->device_count;
    uint32_t *was = calloc(d->count + 1u, sizeof(*was));
    bool ok = was != NULL;
    for (uint32_t i = 0; ok && i < d->count; i++) {
        struct dual_module *m = &d->order[i];
        was[i] = m->option_count;
        m->option_count = 0;
        for (uint32_t o = 0; o < was[i]; o++)
            if (keep[i * devices + o])
                m->option[m->option_count++] = m->option[o];
        if (m->option_count == 0)
            d->bound = INFINITY;
    }
    for (uint32_t k = 0; ok && k < d->factor_count && isfinite(d->bound); k++)
        ok = shrink_table(d, &d->factors[k], keep, was);
    free(was);
    drop_prices(d);
    return ok || err_set(e, ERR_MEMORY, "no memory for a bound");
}

bool dual_shrink(struct dual *d, double target, uint32_t *ret_dropped, struct err *e)
{
    size_t devices = d->s->in->device_count;
    bool *keep = calloc(devices * d->count + 1u, sizeof(*keep));
    *ret_dropped = 0;
    if (!keep)
        return err_set(e, ERR_MEMORY, "no memory for a bound");
    d->bound = fmax(d->bound, plain_conditions(d));
    packed_conditions(d, target);
    for (uint32_t i = 0; i < d->count; i++)
        for (uint32_t o = 0; o < d->order[i].option_count; o++) {
            bool stays = d->scratch->cond[i * devices + o] < target;
            keep[i * devices + o] = stays;
            *ret_dropped += !stays;
        }
    bool ok = *ret_dropped == 0 || apply(d, keep, e);
    free(keep);
    return ok;
}

bool dual_fix(struct dual *d, uint32_t at, uint32_t option, struct err *e)
{
    size_t devices = d->s->in->device_count;
    bool *keep = calloc(devices * d->count + 1u, sizeof(*keep));
    if (!keep)
        return err_set(e, ERR_MEMORY, "no memory for a bound");
    for (size_t i = 0; i < devices * d->count; i++)
        keep[i] = i / devices != at || i % devices == option;
    bool ok = apply(d, keep, e);
    free(keep);
    return ok;
}
