/* dual_ascent.c - better lambda and p (see dual.h).
 *
 * One sweep: each factor once takes what its modules have (U), finds for each of its modules and
 * options the least that the whole can cost with it, and gives each module an equal part of that.
 * What is left of the factor then has the minimum 0: at the best choice all parts add up to the least,
 * everywhere else to at most that.  So after a sweep the bound is the sum of the modules' minima
 * alone, and a sweep reads each table once and writes none.
 *
 * Then one step on the prices along the difference of where modules want to be and how they are
 * packed.  That may lower the bound for a while; the best state is kept. */
#include "plan/dual.h"

#include <stdlib.h>
#include <string.h>

#define PATIENCE 10u /* sweeps without gain until steps get shorter */
#define SCALE_GROWS 1.05
#define SCALE_SHRINKS 0.6
#define GAIN_MIN 1e-5
#define PUSH_KEPT 0.5 /* of the step before, against zigzag */

/* Sums of delta over all modules but the last, for each row of the table. */
static size_t row_sums(const struct dual *d, const struct dual_factor *f, const double *delta,
                       double *sums)
{
    size_t rows = 1, devices = d->s->in->device_count;
    sums[0] = 0;
    for (uint32_t j = 0; j + 1 < f->count; j++) {
        size_t n = d->order[f->at[j]].option_count;
        for (size_t r = rows; r-- > 0;)
            for (size_t o = n; o-- > 0;)
                sums[r * n + o] = sums[r] + delta[j * devices + o];
        rows *= n;
    }
    return rows;
}

void dual_least(const struct dual *d, const struct dual_factor *f, const double *delta,
                double *least)
{
    size_t devices = d->s->in->device_count, rows;
    double *row = d->scratch->work;
    for (size_t i = 0; i < f->count * devices; i++)
        least[i] = INFINITY;
    if (f->size == 0 || f->count == 0)
        return;
    rows = row_sums(d, f, delta, row);
    size_t n = d->order[f->at[f->count - 1]].option_count;
    const double *cost = f->cost, *last = delta + (f->count - 1) * devices;
    double *mine = least + (f->count - 1) * devices;
    for (size_t r = 0; r < rows; r++, cost += n) {
        double base = row[r], best = INFINITY;
        for (size_t o = 0; o < n; o++) {
            double x = cost[o] + last[o] + base;
            mine[o] = x < mine[o] ? x : mine[o];
            best = x < best ? x : best;
        }
        row[r] = best;
    }
    for (uint32_t j = f->count - 1; j-- > 0;) {
        n = d->order[f->at[j]].option_count;
        rows /= n;
        mine = least + j * devices;
        for (size_t r = 0; r < rows; r++) {
            double best = INFINITY;
            for (size_t o = 0; o < n; o++) {
                double x = row[r * n + o];
                mine[o] = x < mine[o] ? x : mine[o];
                best = x < best ? x : best;
            }
            row[r] = best;
        }
    }
}

/* K_d of all devices; their sum.  Modules with one option are not packed: their room is gone. */
static double pack_all(struct dual *d)
{
    struct dual_scratch *x = d->scratch;
    uint32_t devices = d->s->in->device_count;
    double sum = 0;
    memcpy(x->used, d->room, devices * sizeof(double));
    for (uint32_t i = 0; i < d->count; i++) {
        x->bytes[i] = d->s->in->modules[d->order[i].module].memory_bytes;
        if (d->order[i].option_count == 1)
            x->used[d->order[i].option[0]] -= x->bytes[i];
    }
    for (uint32_t k = 0; k < devices; k++) {
        for (uint32_t i = 0; i < d->count; i++)
            x->value[i] = d->price[(size_t)i * devices + k];
        x->packing[k] =
            knapsack(&x->knapsack, x->value, x->bytes, x->used[k], x->packed + k, devices);
        sum += x->packing[k];
    }
    return sum;
}

static void fill_u(struct dual *d)
{
    size_t devices = d->s->in->device_count;
    for (uint32_t i = 0; i < d->count; i++)
        for (uint32_t o = 0; o < d->order[i].option_count; o++)
            d->order[i].u[o] = d->price[i * devices + d->order[i].option[o]];
    for (uint32_t k = 0; k < d->factor_count; k++)
        for (uint32_t j = 0; j < d->factors[k].count; j++) {
            struct dual_module *m = &d->order[d->factors[k].at[j]];
            for (uint32_t o = 0; o < m->option_count; o++)
                m->u[o] -= d->factors[k].lambda[j * devices + o];
        }
}

/* Sum of the modules' minima. */
static double least_sum(const struct dual *d)
{
    double sum = 0;
    for (uint32_t i = 0; i < d->count; i++) {
        double least = INFINITY;
        for (uint32_t o = 0; o < d->order[i].option_count; o++)
            least = d->order[i].u[o] < least ? d->order[i].u[o] : least;
        sum += least;
    }
    return sum;
}

double dual_bound_now(struct dual *d)
{
    double bound = d->constant - pack_all(d);
    fill_u(d);
    for (uint32_t k = 0; k < d->factor_count; k++) {
        const struct dual_factor *f = &d->factors[k];
        double least = f->count > 0 ? INFINITY : f->cost[0];
        dual_least(d, f, f->lambda, d->scratch->least);
        for (uint32_t o = 0; f->count > 0 && o < d->order[f->at[0]].option_count; o++)
            least = fmin(least, d->scratch->least[o]);
        bound += least;
    }
    return bound + least_sum(d);
}

static void update_factor(struct dual *d, struct dual_factor *f)
{
    size_t devices = d->s->in->device_count;
    double *delta = d->scratch->delta, *least = d->scratch->least;
    uint32_t parts = 0;
    for (uint32_t j = 0; j < f->count; j++) {
        struct dual_module *m = &d->order[f->at[j]];
        parts += m->option_count > 1;
        for (uint32_t o = 0; o < m->option_count; o++)
            delta[j * devices + o] = f->lambda[j * devices + o] + m->u[o];
    }
    dual_least(d, f, delta, least);
    for (uint32_t j = 0; j < f->count; j++) {
        struct dual_module *m = &d->order[f->at[j]];
        /* Those without a choice need nothing; if nobody has one, the first takes all. */
        double part = parts == 0 ? (j == 0) : (m->option_count > 1) / (double)parts;
        for (uint32_t o = 0; o < m->option_count; o++) {
            double now = least[j * devices + o];
            if (isfinite(now)) {
                m->u[o] = now * part;
                f->lambda[j * devices + o] = delta[j * devices + o] - m->u[o];
            } else {
                m->u[o] = INFINITY; /* no way to use this option */
            }
        }
    }
}

/* Where each module would rather be. */
static void choose(struct dual *d)
{
    for (uint32_t i = 0; i < d->count; i++) {
        const struct dual_module *m = &d->order[i];
        uint32_t best = 0;
        for (uint32_t o = 1; o < m->option_count; o++)
            if (m->u[o] < m->u[best])
                best = o;
        d->scratch->chosen[i] = best;
    }
}

/* What costs nothing and is wanted where there is room beside the packing belongs to it. */
static void pack_free(struct dual *d, uint32_t k)
{
    struct dual_scratch *x = d->scratch;
    size_t devices = d->s->in->device_count;
    double left = x->used[k];
    for (uint32_t i = 0; i < d->count; i++)
        if (x->packed[i * devices + k])
            left -= x->bytes[i];
    for (uint32_t i = 0; i < d->count; i++) {
        const struct dual_module *m = &d->order[i];
        if (m->option_count > 1 && m->option[x->chosen[i]] == k && !x->packed[i * devices + k] &&
            x->bytes[i] <= left) {
            x->packed[i * devices + k] = true;
            left -= x->bytes[i];
        }
    }
}

/* A subgradient step on the prices; false: modules are as packed, there is nothing to change. */
static bool step_prices(struct dual *d, double length)
{
    struct dual_scratch *x = d->scratch;
    size_t devices = d->s->in->device_count;
    double norm = 0;
    for (uint32_t k = 0; k < devices; k++)
        pack_free(d, k);
    for (uint32_t i = 0; i < d->count; i++) {
        const struct dual_module *m = &d->order[i];
        for (uint32_t o = 0; m->option_count > 1 && o < m->option_count; o++) {
            size_t cell = i * devices + m->option[o];
            int wants = o == x->chosen[i];
            x->push[cell] = PUSH_KEPT * x->push[cell] + (wants - (int)x->packed[cell]);
            norm += x->push[cell] * x->push[cell];
        }
    }
    if (norm <= 1e-12)
        return false;
    for (uint32_t i = 0; i < d->count; i++) {
        struct dual_module *m = &d->order[i];
        for (uint32_t o = 0; m->option_count > 1 && o < m->option_count; o++) {
            size_t cell = i * devices + m->option[o];
            double price = fmax(0, d->price[cell] + length / norm * x->push[cell]);
            m->u[o] += price - d->price[cell];
            d->price[cell] = price;
        }
    }
    return true;
}

/* All that the bound depends on, to come back to the best. */
static size_t state_size(const struct dual *d)
{
    size_t devices = d->s->in->device_count, n = devices * d->count;
    for (uint32_t f = 0; f < d->factor_count; f++)
        n += d->factors[f].count * devices;
    return n;
}

static void copy_state(struct dual *d, double *state, bool save)
{
    size_t devices = d->s->in->device_count, n = devices * d->count * sizeof(double);
    memcpy(save ? state : d->price, save ? d->price : state, n);
    state += devices * d->count;
    for (uint32_t f = 0; f < d->factor_count; f++) {
        n = d->factors[f].count * devices;
        memcpy(save ? state : d->factors[f].lambda, save ? d->factors[f].lambda : state,
               n * sizeof(double));
        state += n;
    }
}

bool dual_improve(struct dual *d, uint32_t sweeps, double target, struct err *e)
{
    double *state = malloc(state_size(d) * sizeof(double) + 1), scale = d->scale;
    double best = dual_bound_now(d), packings = d->constant - pack_all(d);
    uint32_t idle = 0;
    if (!state)
        return err_set(e, ERR_MEMORY, "no memory for a bound");
    memset(d->scratch->push, 0, (size_t)d->s->in->device_count * d->count * sizeof(double));
    copy_state(d, state, true);
    for (uint32_t i = 0; i < sweeps && best < target; i++) {
        for (uint32_t f = 0; f < d->factor_count; f++)
            update_factor(d, &d->factors[i % 2 ? d->factor_count - 1 - f : f]);
        double now = packings + least_sum(d);
        idle = now > best + GAIN_MIN * fabs(now) ? 0 : idle + 1;
        if (now > best) {
            scale = fmin(1, scale * SCALE_GROWS);
            best = now;
            copy_state(d, state, true);
        }
        d->s->v.count++;
        d->s->asked = 0; /* a sweep is long: ask after each */
        if (search_over(d->s))
            break;
        if (idle >= PATIENCE) {
            scale *= SCALE_SHRINKS;
            idle = 0;
            copy_state(d, state, false);
            fill_u(d);
            (void)pack_all(d);
        }
        choose(d);
        double gap = isfinite(target) ? target - best : fabs(now) * 0.1 + 1;
        if (scale < DUAL_SCALE_LEAST || (!step_prices(d, scale * gap) && idle > 3))
            break;
        packings = d->constant - pack_all(d);
    }
    copy_state(d, state, false);
    free(state);
    d->scale = scale;
    d->bound = fmax(d->bound, dual_bound_now(d));
    return true;
}
