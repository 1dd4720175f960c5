/* dual.c - tables of requests, and the bound that is made of them (see dual.h). */
#include "plan/dual.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define MERGE_MAX (1u << 12) /* entries of a table that is put together of two */
#define PATIENCE 10u         /* sweeps without gain until steps get shorter */
#define TIGHT 0.6            /* of all memory is needed */
#define SCALE_GROWS 1.05
#define SCALE_LEAST 0.002 /* shorter steps bring nothing any more */
#define SCALE_FIRST 0.15  /* of the step that would close the gap at once */
#define GAIN_MIN 1e-5
#define PUSH_KEPT 0.5 /* of the step before, against zigzag */

/* ---- order of the modules ---- */

/* Requests that use both. */
static uint32_t together(const struct search *s, uint32_t a, uint32_t b)
{
    const struct eval *v = &s->v;
    uint32_t count = 0, i = v->user_first[a], k = v->user_first[b];
    while (i < v->user_first[a + 1] && k < v->user_first[b + 1]) {
        if (v->users[i] == v->users[k])
            count++;
        if (v->users[i] <= v->users[k])
            i++;
        else
            k++;
    }
    return count;
}

/* Whether so much of the memory is needed that large modules have to be placed first. */
static bool is_tight(const struct plan_instance *in)
{
    double need = 0, have = 0;
    for (uint32_t m = 0; m < in->module_count; m++)
        need += in->modules[m].memory_bytes;
    for (uint32_t d = 0; d < in->device_count; d++)
        have += in->devices[d].memory_bytes;
    return need > TIGHT * have;
}

/* Largest work first, then always the one that meets most of what is there; by falling bytes where
 * memory is tight. */
static bool make_order(struct dual *d)
{
    struct search *s = d->s;
    const struct plan_instance *in = s->in;
    uint32_t *left = calloc(in->module_count, sizeof(*left)), n = 0;
    uint32_t *met = calloc(in->module_count, sizeof(*met));
    d->order = calloc(in->module_count, sizeof(*d->order));
    bool ok = left && met && d->order, tight = is_tight(in);
    for (uint32_t i = 0; ok && i < in->module_count; i++)
        if (search_free(s, s->order[i]))
            left[n++] = s->order[i];
    while (ok && n > 0) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < n; i++)
            if (tight ? in->modules[left[i]].memory_bytes > in->modules[left[best]].memory_bytes
                      : met[left[i]] > met[left[best]])
                best = i;
        uint32_t m = left[best];
        d->order[d->count++].module = m;
        memmove(&left[best], &left[best + 1], (n - best - 1) * sizeof(*left));
        n--;
        for (uint32_t i = 0; i < n; i++)
            met[left[i]] += together(s, m, left[i]);
    }
    free(left);
    free(met);
    return ok;
}

static bool make_options(struct dual *d)
{
    const struct plan_instance *in = d->s->in;
    for (uint32_t i = 0; i < d->count; i++) {
        struct dual_module *m = &d->order[i];
        m->option = calloc(in->device_count, sizeof(*m->option));
        m->u = calloc(in->device_count, sizeof(*m->u));
        if (!m->option || !m->u)
            return false;
        for (uint32_t k = 0; k < in->device_count; k++)
            if (plan_may(in, m->module, k))
                m->option[m->option_count++] = k;
    }
    return true;
}

/* ---- tables ---- */

/* Splits an index into options, last module fastest. */
static void unpack(const struct dual *d, const struct dual_factor *f, size_t index, uint32_t *y)
{
    for (uint32_t j = f->count; j-- > 0;) {
        uint32_t n = d->order[f->at[j]].option_count;
        y[j] = (uint32_t)(index % n);
        index /= n;
    }
}

static bool table_size(const struct dual *d, struct dual_factor *f)
{
    f->size = 1;
    for (uint32_t j = 0; j < f->count; j++) {
        f->size *= d->order[f->at[j]].option_count;
        if (f->size > DUAL_FACTOR_MAX)
            return false;
    }
    return true;
}

static bool fill_table(struct dual *d, struct dual_factor *f, uint32_t request)
{
    struct eval *v = &d->s->v;
    double weight = v->in->requests[request].weight;
    uint32_t y[32];
    f->g = calloc(f->size ? f->size : 1, sizeof(*f->g));
    if (!f->g)
        return false;
    for (size_t i = 0; i < f->size; i++) {
        unpack(d, f, i, y);
        for (uint32_t j = 0; j < f->count; j++)
            eval_set_one(v, d->order[f->at[j]].module, d->order[f->at[j]].option[y[j]]);
        double t = eval_request(v, request);
        f->g[i] = isfinite(t) ? weight * t : DUAL_BIG;
    }
    return true;
}

static bool add_request(struct dual *d, uint32_t request, size_t *all, struct err *e)
{
    const struct plan_model *m = &d->s->in->models[d->s->in->requests[request].model];
    struct dual_factor *f = &d->factors[d->factor_count];
    f->at = calloc(m->slot_count, sizeof(*f->at));
    if (!f->at)
        return err_set(e, ERR_MEMORY, "no memory for tables");
    d->factor_count++;
    for (uint32_t i = 0; i < d->count; i++)
        for (uint32_t k = 0; k < m->slot_count; k++)
            if (m->modules[k] == d->order[i].module)
                f->at[f->count++] = i;
    if (f->count > 18 || !table_size(d, f) || (*all += f->size) > DUAL_ALL_MAX)
        return err_set(e, ERR_TOO_LARGE, "tables over %u entries", DUAL_ALL_MAX);
    return fill_table(d, f, request) || err_set(e, ERR_MEMORY, "no memory for tables");
}

/* ---- putting tables together: fewer terms, a closer bound ---- */

static uint32_t unite(const struct dual_factor *a, const struct dual_factor *b, uint32_t *at,
                      uint32_t *shared)
{
    uint32_t i = 0, k = 0, n = 0;
    *shared = 0;
    while (i < a->count || k < b->count) {
        uint32_t x = i < a->count ? a->at[i] : UINT32_MAX, y = k < b->count ? b->at[k] : UINT32_MAX;
        at[n++] = x < y ? x : y;
        *shared += x == y;
        i += x <= y;
        k += y <= x;
    }
    return n;
}

/* Index of a part's entry for an entry of the whole. */
static size_t part_index(const struct dual *d, const struct dual_factor *whole, const uint32_t *y,
                         const struct dual_factor *part)
{
    size_t index = 0;
    for (uint32_t j = 0, k = 0; k < part->count; j++)
        if (whole->at[j] == part->at[k]) {
            index = index * d->order[whole->at[j]].option_count + y[j];
            k++;
        }
    return index;
}

static void free_factor(struct dual_factor *f)
{
    for (uint32_t j = 0; f->prefix && j < f->count; j++)
        free(f->prefix[j]);
    free(f->prefix);
    free(f->at);
    free(f->g);
    *f = (struct dual_factor){0};
}

static bool merge(struct dual *d, struct dual_factor *a, struct dual_factor *b)
{
    struct dual_factor whole = {.at = calloc(a->count + b->count + 1u, sizeof(uint32_t))};
    uint32_t shared, y[64];
    if (!whole.at)
        return false;
    whole.count = unite(a, b, whole.at, &shared);
    if (!table_size(d, &whole) ||
        !(whole.g = calloc(whole.size ? whole.size : 1, sizeof(double)))) {
        free(whole.at);
        return false;
    }
    for (size_t i = 0; i < whole.size; i++) {
        unpack(d, &whole, i, y);
        double g = a->g[part_index(d, &whole, y, a)] + b->g[part_index(d, &whole, y, b)];
        whole.g[i] = g < DUAL_BIG ? g : DUAL_BIG;
    }
    free_factor(a);
    free_factor(b);
    *a = whole;
    *b = d->factors[--d->factor_count];
    d->factors[d->factor_count] = (struct dual_factor){0};
    return true;
}

/* The pair with most in common whose whole is not larger than limit. */
static bool merge_best(struct dual *d, size_t limit)
{
    uint32_t best_shared = 0, best_a = 0, best_b = 0, at[64];
    size_t best_size = 0;
    for (uint32_t a = 0; a < d->factor_count; a++)
        for (uint32_t b = a + 1; b < d->factor_count; b++) {
            uint32_t shared;
            struct dual_factor whole = {.at = at};
            whole.count = unite(&d->factors[a], &d->factors[b], at, &shared);
            if (shared == 0 || !table_size(d, &whole) || whole.size > limit)
                continue;
            if (shared > best_shared || (shared == best_shared && whole.size < best_size)) {
                best_shared = shared;
                best_size = whole.size;
                best_a = a;
                best_b = b;
            }
        }
    return best_shared > 0 && merge(d, &d->factors[best_a], &d->factors[best_b]);
}

/* Requests with only pinned modules are a constant. */
static void take_constants(struct dual *d)
{
    for (uint32_t i = 0; i < d->factor_count;) {
        if (d->factors[i].count > 0) {
            i++;
            continue;
        }
        d->constant += d->factors[i].g[0];
        free_factor(&d->factors[i]);
        d->factors[i] = d->factors[--d->factor_count];
        d->factors[d->factor_count] = (struct dual_factor){0};
    }
}

static bool link_modules(struct dual *d)
{
    for (uint32_t i = 0; i < d->count; i++) {
        struct dual_module *m = &d->order[i];
        m->factor = calloc(d->factor_count + 1u, sizeof(*m->factor));
        if (!m->factor)
            return false;
        for (uint32_t f = 0; f < d->factor_count; f++)
            for (uint32_t j = 0; j < d->factors[f].count; j++)
                if (d->factors[f].at[j] == i)
                    m->factor[m->factor_count++] = f;
    }
    return true;
}

static bool make_room(struct dual *d)
{
    const struct plan_instance *in = d->s->in;
    size_t cells = (size_t)in->device_count * d->count + 1;
    d->price = calloc(cells, sizeof(double));
    d->push = calloc(cells, sizeof(double));
    d->packed = calloc(cells, sizeof(bool));
    d->room = calloc(in->device_count, sizeof(double));
    d->scratch = calloc(in->device_count + 2u * d->count, sizeof(double));
    if (!d->price || !d->push || !d->packed || !d->room || !d->scratch ||
        !knapsack_init(&d->knapsack, d->count))
        return false;
    for (uint32_t k = 0; k < in->device_count; k++)
        d->room[k] = in->devices[k].memory_bytes;
    for (uint32_t m = 0; m < in->module_count; m++)
        for (uint32_t i = 0; i < d->s->pinned[m].count; i++)
            d->room[d->s->pinned[m].device[i]] -= in->modules[m].memory_bytes;
    return true;
}

bool dual_init(struct dual *d, struct search *s, struct err *e)
{
    size_t all = 0;
    memset(d, 0, sizeof(*d));
    d->s = s;
    d->bound = -INFINITY;
    for (uint32_t m = 0; m < s->in->module_count; m++)
        if (!search_free(s, m))
            eval_set(&s->v, m, &s->pinned[m]);
    d->factors = calloc(s->in->request_count + 1u, sizeof(*d->factors));
    bool ok = d->factors && make_order(d) && make_options(d) && make_room(d);
    if (!ok)
        err_set(e, ERR_MEMORY, "no memory for tables");
    for (uint32_t q = 0; ok && q < s->in->request_count; q++)
        ok = add_request(d, q, &all, e);
    if (ok) {
        take_constants(d);
        while (d->factor_count > 1 && merge_best(d, MERGE_MAX))
            ;
        ok = link_modules(d) || err_set(e, ERR_MEMORY, "no memory for tables");
    }
    if (!ok)
        dual_done(d);
    return ok;
}

void dual_done(struct dual *d)
{
    for (uint32_t f = 0; d->factors && f < d->factor_count; f++)
        free_factor(&d->factors[f]);
    for (uint32_t i = 0; d->order && i < d->count; i++) {
        free(d->order[i].option);
        free(d->order[i].u);
        free(d->order[i].factor);
    }
    free(d->factors);
    free(d->order);
    free(d->price);
    free(d->push);
    free(d->packed);
    knapsack_done(&d->knapsack);
    free(d->room);
    free(d->scratch);
    memset(d, 0, sizeof(*d));
}

/* ---- improving the bound ---- */

/* Entries with module j at option o lie at outer * n * inner + o * inner + 0..inner-1. */
struct stride {
    size_t outer, n, inner;
};

static struct stride stride_of(const struct dual *d, const struct dual_factor *f, uint32_t at)
{
    struct stride s = {1, 1, 1};
    for (uint32_t j = 0; j < f->count; j++) {
        size_t n = d->order[f->at[j]].option_count;
        if (f->at[j] < at)
            s.outer *= n;
        else if (f->at[j] == at)
            s.n = n;
        else
            s.inner *= n;
    }
    return s;
}

static void least_by_option(const struct dual_factor *f, struct stride s, double *least)
{
    const double *g = f->g;
    for (size_t o = 0; o < s.n; o++)
        least[o] = DUAL_BIG;
    for (size_t i = 0; i < s.outer; i++)
        for (size_t o = 0; o < s.n; o++, g += s.inner)
            for (size_t k = 0; k < s.inner; k++)
                least[o] = g[k] < least[o] ? g[k] : least[o];
}

/* g -= what[o] where g is finite. */
static void subtract(struct dual_factor *f, struct stride s, const double *what)
{
    double *g = f->g;
    for (size_t i = 0; i < s.outer; i++)
        for (size_t o = 0; o < s.n; o++, g += s.inner)
            for (size_t k = 0; k < s.inner; k++)
                if (g[k] < DUAL_BIG / 2)
                    g[k] -= what[o];
}

/* One module: takes the minima of all its factors, then shares the sum out evenly. */
static void diffuse(struct dual *d, uint32_t at)
{
    struct dual_module *m = &d->order[at];
    double *part = d->scratch;
    for (uint32_t i = 0; i < m->factor_count; i++) {
        struct dual_factor *f = &d->factors[m->factor[i]];
        struct stride s = stride_of(d, f, at);
        least_by_option(f, s, part);
        for (uint32_t o = 0; o < m->option_count; o++) {
            if (part[o] >= DUAL_BIG / 2) { /* no way to use this option */
                m->u[o] = DUAL_BIG;
                part[o] = 0;
            } else if (m->u[o] < DUAL_BIG / 2) {
                m->u[o] += part[o];
            } else {
                part[o] = 0;
            }
        }
        subtract(f, s, part);
    }
    for (uint32_t o = 0; m->factor_count > 0 && o < m->option_count; o++) {
        part[o] = m->u[o] < DUAL_BIG / 2 ? -m->u[o] / m->factor_count : 0;
        m->u[o] = m->u[o] < DUAL_BIG / 2 ? 0 : DUAL_BIG;
    }
    for (uint32_t i = 0; i < m->factor_count; i++) {
        struct dual_factor *f = &d->factors[m->factor[i]];
        subtract(f, stride_of(d, f, at), part);
    }
}

static double bound_now(const struct dual *d)
{
    double bound = d->constant;
    for (uint32_t f = 0; f < d->factor_count; f++) {
        double least = DUAL_BIG;
        for (size_t i = 0; i < d->factors[f].size; i++)
            least = d->factors[f].g[i] < least ? d->factors[f].g[i] : least;
        bound += least;
    }
    for (uint32_t i = 0; i < d->count; i++) {
        double least = DUAL_BIG;
        for (uint32_t o = 0; o < d->order[i].option_count; o++)
            least = d->order[i].u[o] < least ? d->order[i].u[o] : least;
        bound += least;
    }
    return bound - d->packings;
}

/* ---- prices of memory ---- */

/* K_d of all devices under the prices of now. */
static void pack_all(struct dual *d)
{
    uint32_t devices = d->s->in->device_count;
    double *value = d->scratch, *bytes = d->scratch + d->count;
    d->packings = 0;
    for (uint32_t k = 0; k < devices; k++) {
        for (uint32_t i = 0; i < d->count; i++) {
            value[i] = d->price[(size_t)i * devices + k];
            bytes[i] = d->s->in->modules[d->order[i].module].memory_bytes;
        }
        d->packings += knapsack(&d->knapsack, value, bytes, d->room[k], d->packed + k, devices);
    }
}

/* Least entry of a factor's table whose decided modules are as chosen, with module at = option. */
static double least_with(const struct dual *d, const struct dual_factor *f, uint32_t at,
                         uint32_t option)
{
    size_t first = 0, size = f->size;
    for (uint32_t j = 0; j < f->count && f->at[j] <= at; j++) {
        const struct dual_module *m = &d->order[f->at[j]];
        size /= m->option_count;
        first += size * (f->at[j] == at ? option : m->chosen);
    }
    double least = DUAL_BIG;
    for (size_t i = first; i < first + size; i++)
        least = f->g[i] < least ? f->g[i] : least;
    return least;
}

/* One y with nearly the least sum: module after module, each to its best option given the others
 * before it. */
static void decode(struct dual *d)
{
    for (uint32_t at = 0; at < d->count; at++) {
        struct dual_module *m = &d->order[at];
        double least = INFINITY;
        for (uint32_t o = 0; o < m->option_count; o++) {
            double sum = m->u[o];
            for (uint32_t i = 0; i < m->factor_count; i++)
                sum += least_with(d, &d->factors[m->factor[i]], at, o);
            if (sum < least) {
                least = sum;
                m->chosen = o;
            }
        }
    }
}

/* Bytes left on a device beside the best packing. */
static double room_beside(const struct dual *d, uint32_t k)
{
    double left = d->room[k];
    for (uint32_t i = 0; i < d->count; i++)
        if (d->packed[(size_t)i * d->s->in->device_count + k])
            left -= d->s->in->modules[d->order[i].module].memory_bytes;
    return left;
}

/* What costs nothing and is wanted where there is room beside the packing belongs to it. */
static void pack_free(struct dual *d, uint32_t k)
{
    uint32_t devices = d->s->in->device_count;
    double left = room_beside(d, k);
    for (uint32_t i = 0; i < d->count; i++) {
        size_t cell = (size_t)i * devices + k;
        double bytes = d->s->in->modules[d->order[i].module].memory_bytes;
        if (d->order[i].option[d->order[i].chosen] == k && !d->packed[cell] && bytes <= left) {
            d->packed[cell] = true;
            left -= bytes;
        }
    }
}

/* A subgradient step on the prices; false: y is the packing, there is nothing to change. */
static bool step_prices(struct dual *d, double length)
{
    uint32_t devices = d->s->in->device_count;
    double norm = 0;
    for (uint32_t k = 0; k < devices; k++)
        pack_free(d, k);
    for (uint32_t i = 0; i < d->count; i++)
        for (uint32_t k = 0; k < devices; k++) {
            size_t cell = (size_t)i * devices + k;
            int wants = d->order[i].option[d->order[i].chosen] == k;
            d->push[cell] = PUSH_KEPT * d->push[cell] + (wants - (int)d->packed[cell]);
            norm += d->push[cell] * d->push[cell];
        }
    if (norm <= 1e-12)
        return false;
    for (uint32_t i = 0; i < d->count; i++)
        for (uint32_t o = 0; o < d->order[i].option_count; o++) {
            size_t cell = (size_t)i * devices + d->order[i].option[o];
            double price = fmax(0, d->price[cell] + length / norm * d->push[cell]);
            if (d->order[i].u[o] < DUAL_BIG / 2)
                d->order[i].u[o] += price - d->price[cell];
            d->price[cell] = price;
        }
    pack_all(d);
    return true;
}

/* All numbers of a state, to come back to the best one. */
static size_t state_size(const struct dual *d)
{
    size_t n = (size_t)d->s->in->device_count * d->count;
    for (uint32_t f = 0; f < d->factor_count; f++)
        n += d->factors[f].size;
    for (uint32_t i = 0; i < d->count; i++)
        n += d->order[i].option_count;
    return n;
}

static void copy_part(double *state, double **at, double *mine, size_t count, bool save)
{
    (void)state;
    memcpy(save ? *at : mine, save ? mine : *at, count * sizeof(double));
    *at += count;
}

static void copy_state(struct dual *d, double *state, bool save)
{
    double *at = state;
    copy_part(state, &at, d->price, (size_t)d->s->in->device_count * d->count, save);
    for (uint32_t f = 0; f < d->factor_count; f++)
        copy_part(state, &at, d->factors[f].g, d->factors[f].size, save);
    for (uint32_t i = 0; i < d->count; i++)
        copy_part(state, &at, d->order[i].u, d->order[i].option_count, save);
}

static bool fill_prefixes(struct dual *d)
{
    for (uint32_t i = 0; i < d->factor_count; i++) {
        struct dual_factor *f = &d->factors[i];
        size_t size = f->size;
        f->prefix = calloc(f->count + 1u, sizeof(*f->prefix));
        if (!f->prefix)
            return false;
        f->prefix[f->count] = f->g;
        for (uint32_t j = f->count; j-- > 0;) {
            size_t n = d->order[f->at[j]].option_count;
            size = n ? size / n : 0;
            f->prefix[j] = malloc((size ? size : 1) * sizeof(double));
            if (!f->prefix[j])
                return false;
            for (size_t k = 0; k < (size ? size : 1); k++) {
                double least = DUAL_BIG;
                for (size_t o = 0; o < n; o++)
                    least =
                        f->prefix[j + 1][k * n + o] < least ? f->prefix[j + 1][k * n + o] : least;
                f->prefix[j][k] = least;
            }
        }
    }
    for (uint32_t i = 0; i < d->count; i++) {
        struct dual_module *m = &d->order[i];
        m->least_u = DUAL_BIG;
        for (uint32_t o = 0; o < m->option_count; o++)
            m->least_u = m->u[o] < m->least_u ? m->u[o] : m->least_u;
    }
    return true;
}

bool dual_improve(struct dual *d, uint32_t sweeps, double target, struct err *e)
{
    double *state = malloc(state_size(d) * sizeof(double)), scale = SCALE_FIRST;
    uint32_t idle = 0;
    if (!state)
        return err_set(e, ERR_MEMORY, "no memory for a bound");
    d->bound = bound_now(d);
    copy_state(d, state, true);
    for (uint32_t i = 0; i < sweeps && d->bound < target * (1 - SEARCH_EPS); i++) {
        for (uint32_t m = 0; m < d->count; m++)
            diffuse(d, m);
        double now = bound_now(d);
        idle = now > d->bound + GAIN_MIN * fabs(now) ? 0 : idle + 1;
        if (now > d->bound) {
            scale = fmin(1, scale * SCALE_GROWS);
            d->bound = now;
            copy_state(d, state, true);
        }
        d->s->v.count++;
        d->s->asked = 0; /* a sweep is long: ask after each */
        if (search_over(d->s))
            break;
        if (idle >= PATIENCE) {
            scale *= 0.6;
            idle = 0;
            copy_state(d, state, false);
            pack_all(d);
        }
        decode(d);
        double gap = isfinite(target) ? target - d->bound : fabs(now) * 0.1 + 1;
        if (scale < SCALE_LEAST || (!step_prices(d, scale * gap) && idle > 3))
            break;
    }
    copy_state(d, state, false);
    free(state);
    return fill_prefixes(d) || err_set(e, ERR_MEMORY, "no memory for a bound");
}
