/* dual.c - tables of requests: made, put together, copied (see dual.h). */
#include "plan/dual.h"
#include "plan/relax.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define MERGE_MAX (1u << 12) /* entries of a table that is put together of two */
#define TIGHT 0.6            /* of all memory is needed */
#define REQUEST_SLOTS_MAX 18u
#define DROP_ROUNDS 4u
#define MODULE_NUMBERS 16u /* what a module takes besides its options, counted in doubles */
#define ASK_EVERY 4096u    /* entries of a table */

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

/* Whether a is to be placed before b, which comes before it in s->order. */
static bool goes_before(const struct search *s, uint32_t a, uint32_t b, const uint32_t *met,
                        bool tight)
{
    const struct eval *v = &s->v;
    double x = s->in->modules[a].memory_bytes, y = s->in->modules[b].memory_bytes;
    bool a_used = v->user_first[a + 1] > v->user_first[a];
    bool b_used = v->user_first[b + 1] > v->user_first[b];
    if (a_used != b_used)
        return a_used;
    return tight || !a_used ? x > y : met[a] > met[b];
}

/* Largest work first, then always the one that meets most of what is there; by falling bytes where
 * memory is tight.  Modules that no request uses come last, by falling bytes. */
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
            if (goes_before(s, left[i], left[best], met, tight))
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

/* Weighted least time of all requests that use module i, or of all if i is UINT32_MAX. */
static double relaxed(struct relax *x, const struct eval *v, const struct open_places *open,
                      uint32_t i)
{
    const struct plan_instance *in = v->in;
    bool all = i == UINT32_MAX;
    uint32_t first = all ? 0 : v->user_first[i],
             end = all ? in->request_count : v->user_first[i + 1];
    double sum = 0;
    for (uint32_t k = first; k < end; k++) {
        uint32_t q = all ? k : v->users[k];
        sum += in->requests[q].weight * relax_time(x, q, open, NULL, NULL, NULL);
    }
    return sum;
}

/* Drops options with which even the requests' least times (relax.h) add up to nothing better than the
 * best known, before there are tables.  true: some were dropped. */
static bool drop_hopeless(struct dual *d, struct relax *x, struct open_places *open)
{
    const struct eval *v = &d->s->v;
    double ceiling = search_ceiling(d->s), sum = relaxed(x, v, open, UINT32_MAX);
    bool any = false;
    if (!isfinite(sum) || !isfinite(ceiling))
        return false;
    for (uint32_t i = 0; i < d->count; i++) {
        struct dual_module *m = &d->order[i];
        struct open_places before = open[m->module];
        double mine = relaxed(x, v, open, m->module);
        uint32_t kept = 0;
        for (uint32_t o = 0; o < m->option_count; o++) {
            open[m->module] = (struct open_places){.count = 1, .device = {m->option[o]}};
            if (sum - mine + relaxed(x, v, open, m->module) < ceiling)
                m->option[kept++] = m->option[o];
        }
        any |= kept < m->option_count;
        m->option_count = kept;
        open[m->module] = before;
        open[m->module].count = kept;
        memcpy(open[m->module].device, m->option, kept * sizeof(uint32_t));
        if (kept == 0)
            return false;
        sum += relaxed(x, v, open, m->module) - mine;
    }
    return any;
}

static bool drop_options(struct dual *d, struct err *e)
{
    const struct search *s = d->s;
    struct open_places *open = calloc(s->in->module_count, sizeof(*open));
    struct relax x = {0};
    bool ok = open && relax_init(&x, s->in, e);
    for (uint32_t m = 0; ok && m < s->in->module_count; m++) {
        open[m].count = s->pinned[m].count;
        memcpy(open[m].device, s->pinned[m].device, open[m].count * sizeof(uint32_t));
    }
    for (uint32_t i = 0; ok && i < d->count; i++) {
        struct open_places *to = &open[d->order[i].module];
        to->count = d->order[i].option_count;
        memcpy(to->device, d->order[i].option, to->count * sizeof(uint32_t));
    }
    for (uint32_t round = 0; ok && round < DROP_ROUNDS && drop_hopeless(d, &x, open); round++)
        ;
    relax_done(&x);
    free(open);
    return ok || err_set(e, ERR_MEMORY, "no memory for tables");
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

void dual_unpack(const struct dual *d, const struct dual_factor *f, size_t index, uint32_t *y)
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

static bool fill_table(struct dual *d, struct dual_factor *f, uint32_t request, struct err *e)
{
    struct eval *v = &d->s->v;
    double weight = v->in->requests[request].weight;
    uint32_t y[DUAL_SLOTS_MAX];
    f->cost = calloc(f->size ? f->size : 1, sizeof(*f->cost));
    f->lambda = calloc((size_t)f->count * v->in->device_count + 1u, sizeof(*f->lambda));
    if (!f->cost || !f->lambda)
        return err_set(e, ERR_MEMORY, "no memory for tables");
    for (size_t i = 0; i < f->size; i++) {
        if (i % ASK_EVERY == 0) {
            d->s->asked = 0;
            if (search_over(d->s))
                return err_set(e, ERR_TOO_LARGE, "no time for tables");
        }
        dual_unpack(d, f, i, y);
        for (uint32_t j = 0; j < f->count; j++)
            eval_set_one(v, d->order[f->at[j]].module, d->order[f->at[j]].option[y[j]]);
        double t = eval_request(v, request);
        f->cost[i] = isfinite(t) ? fmin(weight * t, DBL_MAX) : INFINITY;
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
    if (f->count > REQUEST_SLOTS_MAX || !table_size(d, f) || (*all += f->size) > DUAL_ALL_MAX)
        return err_set(e, ERR_TOO_LARGE, "tables over %u entries", DUAL_ALL_MAX);
    return fill_table(d, f, request, e);
}

/* ---- putting tables together: fewer terms, a closer bound ---- */

/* The places of both, rising; false: too many. */
static bool unite(const struct dual_factor *a, const struct dual_factor *b,
                  struct dual_factor *whole, uint32_t *shared)
{
    uint32_t i = 0, k = 0, n = 0;
    *shared = 0;
    while (i < a->count || k < b->count) {
        uint32_t x = i < a->count ? a->at[i] : UINT32_MAX, y = k < b->count ? b->at[k] : UINT32_MAX;
        if (n == DUAL_SLOTS_MAX)
            return false;
        whole->at[n++] = x < y ? x : y;
        *shared += x == y;
        i += x <= y;
        k += y <= x;
    }
    whole->count = n;
    return true;
}

static void free_prefixes(struct dual_factor *f)
{
    for (uint32_t j = 0; f->prefix && j <= f->count; j++)
        free(f->prefix[j]);
    free(f->prefix);
    f->prefix = NULL;
}

static void free_factor(struct dual_factor *f)
{
    free_prefixes(f);
    free(f->at);
    free(f->cost);
    free(f->lambda);
    *f = (struct dual_factor){0};
}

/* Adds a part to the table of the whole, and its lambda. */
static void add_part(const struct dual *d, struct dual_factor *whole,
                     const struct dual_factor *part)
{
    uint32_t y[DUAL_SLOTS_MAX], to[DUAL_SLOTS_MAX], devices = d->s->in->device_count;
    for (uint32_t j = 0, k = 0; k < part->count; j++)
        if (whole->at[j] == part->at[k])
            to[k++] = j;
    for (uint32_t k = 0; k < part->count; k++)
        for (uint32_t o = 0; o < devices; o++)
            whole->lambda[to[k] * devices + o] += part->lambda[k * devices + o];
    for (size_t i = 0; i < whole->size; i++) {
        size_t index = 0;
        dual_unpack(d, whole, i, y);
        for (uint32_t k = 0; k < part->count; k++)
            index = index * d->order[part->at[k]].option_count + y[to[k]];
        whole->cost[i] += part->cost[index];
    }
}

static bool merge(struct dual *d, struct dual_factor *a, struct dual_factor *b, struct err *e)
{
    size_t devices = d->s->in->device_count;
    struct dual_factor whole = {.at = calloc(a->count + b->count + 1u, sizeof(uint32_t))};
    uint32_t shared;
    bool ok = whole.at && unite(a, b, &whole, &shared) && table_size(d, &whole);
    whole.cost = ok ? calloc(whole.size ? whole.size : 1, sizeof(double)) : NULL;
    whole.lambda = ok ? calloc(whole.count * devices + 1u, sizeof(double)) : NULL;
    if (!whole.cost || !whole.lambda) {
        free_factor(&whole);
        return err_set(e, ERR_MEMORY, "no memory for tables");
    }
    add_part(d, &whole, a);
    add_part(d, &whole, b);
    free_factor(a);
    free_factor(b);
    *a = whole;
    *b = d->factors[--d->factor_count];
    d->factors[d->factor_count] = (struct dual_factor){0};
    return true;
}

/* The pair with most in common whose whole is small enough; false: there is none. */
static bool find_pair(const struct dual *d, size_t limit, uint32_t *ret_a, uint32_t *ret_b)
{
    uint32_t best_shared = 0, at[DUAL_SLOTS_MAX];
    size_t best_size = 0;
    for (uint32_t a = 0; a < d->factor_count; a++)
        for (uint32_t b = a + 1; b < d->factor_count; b++) {
            uint32_t shared;
            struct dual_factor whole = {.at = at};
            size_t larger =
                d->factors[a].size > d->factors[b].size ? d->factors[a].size : d->factors[b].size;
            if (!unite(&d->factors[a], &d->factors[b], &whole, &shared) || shared == 0 ||
                !table_size(d, &whole) || whole.size > (larger > limit ? larger : limit))
                continue;
            if (shared > best_shared || (shared == best_shared && whole.size < best_size)) {
                best_shared = shared;
                best_size = whole.size;
                *ret_a = a;
                *ret_b = b;
            }
        }
    return best_shared > 0;
}

/* Tables without free modules are a constant. */
static void take_constants(struct dual *d)
{
    for (uint32_t i = 0; i < d->factor_count;) {
        if (d->factors[i].count > 0) {
            i++;
            continue;
        }
        d->constant += d->factors[i].cost[0];
        free_factor(&d->factors[i]);
        d->factors[i] = d->factors[--d->factor_count];
        d->factors[d->factor_count] = (struct dual_factor){0};
    }
}

bool dual_merge(struct dual *d, size_t limit, struct err *e)
{
    uint32_t a = 0, b = 0;
    take_constants(d);
    while (find_pair(d, limit, &a, &b))
        if (!merge(d, &d->factors[a], &d->factors[b], e))
            return false;
    return true;
}

size_t dual_size(const struct dual *d)
{
    size_t devices = d->s->in->device_count, all = d->count * (devices + MODULE_NUMBERS);
    for (uint32_t f = 0; f < d->factor_count; f++)
        all += d->factors[f].size + d->factors[f].count * devices;
    for (uint32_t i = 0; i < d->count; i++)
        all += 2 * (size_t)d->order[i].option_count;
    return all;
}

/* ---- life ---- */

static bool make_room(struct dual *d)
{
    const struct plan_instance *in = d->s->in;
    d->price = calloc((size_t)in->device_count * d->count + 1u, sizeof(double));
    d->room = calloc(in->device_count, sizeof(double));
    if (!d->price || !d->room)
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
    d->scale = DUAL_SCALE_FIRST;
    for (uint32_t m = 0; m < s->in->module_count; m++)
        if (!search_free(s, m))
            eval_set(&s->v, m, &s->pinned[m]);
    d->factors = calloc(s->in->request_count + 1u, sizeof(*d->factors));
    bool ok = d->factors && make_order(d) && make_options(d) && make_room(d) && drop_options(d, e);
    if (!ok)
        err_set(e, ERR_MEMORY, "no memory for tables");
    for (uint32_t q = 0; ok && q < s->in->request_count; q++)
        ok = add_request(d, q, &all, e);
    ok = ok && dual_merge(d, MERGE_MAX, e);
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
    free(d->room);
    memset(d, 0, sizeof(*d));
}

static void *copy_of(const void *from, size_t count, size_t each)
{
    void *to = malloc(count ? count * each : 1);
    if (to && count)
        memcpy(to, from, count * each);
    return to;
}

static bool copy_factor(struct dual_factor *to, const struct dual_factor *from, size_t devices)
{
    to->count = from->count;
    to->size = from->size;
    to->at = copy_of(from->at, from->count, sizeof(*from->at));
    to->cost = copy_of(from->cost, from->size, sizeof(*from->cost));
    to->lambda = copy_of(from->lambda, from->count * devices, sizeof(*from->lambda));
    return to->at && to->cost && to->lambda;
}

static bool copy_module(struct dual_module *to, const struct dual_module *from)
{
    to->module = from->module;
    to->option_count = from->option_count;
    to->option = copy_of(from->option, from->option_count, sizeof(*from->option));
    to->u = copy_of(from->u, from->option_count, sizeof(*from->u));
    return to->option && to->u;
}

bool dual_copy(struct dual *to, const struct dual *from, struct err *e)
{
    size_t devices = from->s->in->device_count;
    *to = (struct dual){.s = from->s,
                        .constant = from->constant,
                        .bound = from->bound,
                        .scale = from->scale,
                        .scratch = from->scratch};
    to->order = calloc(from->count + 1u, sizeof(*to->order));
    to->factors = calloc(from->factor_count + 1u, sizeof(*to->factors));
    to->room = copy_of(from->room, devices, sizeof(double));
    to->price = copy_of(from->price, devices * from->count, sizeof(double));
    bool ok = to->order && to->factors && to->room && to->price;
    for (; ok && to->count < from->count; to->count++)
        ok = copy_module(&to->order[to->count], &from->order[to->count]);
    for (; ok && to->factor_count < from->factor_count; to->factor_count++)
        ok = copy_factor(&to->factors[to->factor_count], &from->factors[to->factor_count], devices);
    if (ok)
        return true;
    dual_done(to);
    return err_set(e, ERR_MEMORY, "no memory for a bound");
}

bool dual_scratch_init(struct dual *d, struct err *e)
{
    size_t devices = d->s->in->device_count, cells = devices * d->count + 1, most = 1;
    struct dual_scratch *x = calloc(1, sizeof(*x));
    d->scratch = x;
    for (uint32_t f = 0; f < d->factor_count; f++)
        most = d->factors[f].size > most ? d->factors[f].size : most;
    if (x) {
        x->work = calloc(most > DUAL_MERGE_MAX ? most : DUAL_MERGE_MAX, sizeof(double));
        x->delta = calloc(DUAL_SLOTS_MAX * devices, sizeof(double));
        x->least = calloc(DUAL_SLOTS_MAX * devices, sizeof(double));
        x->push = calloc(cells, sizeof(double));
        x->cond = calloc(cells, sizeof(double));
        x->packed = calloc(cells, sizeof(bool));
        x->packing = calloc(devices, sizeof(double));
        x->value = calloc(d->count + 1u, sizeof(double));
        x->bytes = calloc(d->count + 1u, sizeof(double));
        x->used = calloc(devices, sizeof(double));
        x->unused = calloc(d->count + 1u, sizeof(bool));
        x->chosen = calloc(d->count + 1u, sizeof(*x->chosen));
    }
    return (x && x->work && x->delta && x->least && x->push && x->cond && x->packed && x->packing &&
            x->value && x->bytes && x->used && x->chosen && x->unused &&
            knapsack_init(&x->knapsack, d->count)) ||
           err_set(e, ERR_MEMORY, "no memory for a bound");
}

void dual_scratch_done(struct dual *d)
{
    struct dual_scratch *x = d->scratch;
    if (!x)
        return;
    free(x->work);
    free(x->delta);
    free(x->least);
    free(x->push);
    free(x->cond);
    free(x->packed);
    free(x->packing);
    free(x->value);
    free(x->bytes);
    free(x->used);
    free(x->chosen);
    free(x->unused);
    knapsack_done(&x->knapsack);
    free(x);
    d->scratch = NULL;
}

/* ---- prefixes ---- */

static bool link_modules(struct dual *d)
{
    for (uint32_t i = 0; i < d->count; i++) {
        struct dual_module *m = &d->order[i];
        free(m->factor);
        m->factor_count = 0;
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

/* The last table is G, each one before has the minima over one more module. */
static bool fill_prefix(const struct dual *d, struct dual_factor *f)
{
    uint32_t y[DUAL_SLOTS_MAX], devices = d->s->in->device_count;
    size_t size = f->size;
    f->prefix = calloc(f->count + 1u, sizeof(*f->prefix));
    if (!f->prefix || !(f->prefix[f->count] = malloc((size ? size : 1) * sizeof(double))))
        return false;
    for (size_t i = 0; i < size; i++) {
        double g = f->cost[i];
        dual_unpack(d, f, i, y);
        for (uint32_t j = 0; j < f->count; j++)
            g += f->lambda[j * devices + y[j]];
        f->prefix[f->count][i] = g;
    }
    for (uint32_t j = f->count; j-- > 0;) {
        size_t n = d->order[f->at[j]].option_count;
        size = n ? size / n : 0;
        f->prefix[j] = malloc((size ? size : 1) * sizeof(double));
        if (!f->prefix[j])
            return false;
        for (size_t k = 0; k < size; k++) {
            double least = INFINITY;
            for (size_t o = 0; o < n; o++)
                least = fmin(least, f->prefix[j + 1][k * n + o]);
            f->prefix[j][k] = least;
        }
    }
    return true;
}

bool dual_prefixes(struct dual *d, struct err *e)
{
    bool ok = link_modules(d);
    for (uint32_t i = 0; ok && i < d->factor_count; i++)
        ok = fill_prefix(d, &d->factors[i]);
    for (uint32_t i = 0; i < d->count; i++) {
        struct dual_module *m = &d->order[i];
        m->least_u = INFINITY;
        for (uint32_t o = 0; o < m->option_count; o++)
            m->least_u = fmin(m->least_u, m->u[o]);
    }
    return ok || err_set(e, ERR_MEMORY, "no memory for a bound");
}

void dual_drop_prefixes(struct dual *d)
{
    for (uint32_t i = 0; i < d->factor_count; i++)
        free_prefixes(&d->factors[i]);
}
