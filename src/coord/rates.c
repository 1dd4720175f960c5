/* rates.c - see rates.h. */
#include "coord/rates.h"

#include "base/clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_MAX 1e9
#define BYTES_MAX 1e15
#define FADED 1e-3 /* per s */

void rates_clear(struct rates *r)
{
    free(r->rows);
    free(r->efforts);
    *r = (struct rates){0};
}

static struct rate *row(struct rates *r, const char *device, const char *model, size_t model_size,
                        const char *task)
{
    for (uint32_t i = 0; i < r->count; i++) {
        struct rate *x = &r->rows[i];
        if (strncmp(x->model, model, model_size) == 0 && !x->model[model_size] &&
            strcmp(x->task, task) == 0 && strcmp(x->device, device) == 0)
            return x;
    }
    struct rate *more =
        r->count < RATES_MAX ? realloc(r->rows, (r->count + 1) * sizeof(*more)) : NULL;
    if (!more)
        return NULL;
    r->rows = more;
    struct rate *x = &r->rows[r->count++];
    *x = (struct rate){0};
    memcpy(x->model, model, model_size);
    memcpy(x->task, task, strlen(task) + 1);
    memcpy(x->device, device, strlen(device) + 1);
    return x;
}

/* NULL: too many. */
static struct effort *effort_row(struct rates *r, const char *model, size_t model_size,
                                 const char *task)
{
    struct effort *x = r->efforts, *end = x + r->effort_count;
    while (x < end && !(strncmp(x->model, model, model_size) == 0 && !x->model[model_size] &&
                        strcmp(x->task, task) == 0))
        x++;
    if (x < end)
        return x;
    struct effort *more = r->effort_count < RATES_MAX
                              ? realloc(r->efforts, (r->effort_count + 1) * sizeof(*more))
                              : NULL;
    if (!more)
        return NULL;
    r->efforts = more;
    x = &r->efforts[r->effort_count++];
    *x = (struct effort){0};
    memcpy(x->model, model, model_size);
    memcpy(x->task, task, strlen(task) + 1);
    return x;
}

static void add_effort(struct effort *x, double answered, double runs, double bytes)
{
    x->answered += answered;
    x->runs += runs;
    x->bytes += bytes;
    while (x->answered > RATES_EFFORTS) {
        x->answered /= 2;
        x->runs /= 2;
        x->bytes /= 2;
    }
}

static const struct effort *effort_of(const struct rates *r, const char *model, const char *task)
{
    for (uint32_t i = 0; i < r->effort_count; i++)
        if (strcmp(r->efforts[i].model, model) == 0 && strcmp(r->efforts[i].task, task) == 0)
            return &r->efforts[i];
    return NULL;
}

double rates_runs(const struct rates *r, const char *model, const char *task, double guess)
{
    const struct effort *x = effort_of(r, model, task);
    return x ? x->runs / x->answered : guess;
}

double rates_bytes(const struct rates *r, const char *model, const char *task, double guess)
{
    const struct effort *x = effort_of(r, model, task);
    return x ? x->bytes / x->answered : guess;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double around_ms(const struct effort *x)
{
    double sorted[RATES_AROUND];
    uint32_t n = x->around_count < RATES_AROUND ? x->around_count : RATES_AROUND;
    if (n == 0)
        return 0;
    memcpy(sorted, x->around_ms, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), by_size);
    return sorted[n / 2];
}

double rates_around_ms(const struct rates *r, const char *model, const char *task)
{
    const struct effort *x = effort_of(r, model, task);
    return x ? around_ms(x) : 0;
}

json_t *rates_around_json(const struct rates *r)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list && i < r->effort_count; i++) {
        const struct effort *x = &r->efforts[i];
        if (x->around_count > 0)
            json_array_append_new(list, json_pack("{s:s,s:s,s:f}", "model", x->model, "task",
                                                  x->task, "ms", around_ms(x)));
    }
    return list;
}

static bool usable(double n)
{
    return n > 0 && n <= COUNT_MAX;
}

static double column(const json_t *row, size_t i, double max)
{
    double n = json_number_value(json_array_get(row, i));
    return n > 0 ? fmin(n, max) : 0;
}

void rates_count(struct rates *r, const char *device, const json_t *usage)
{
    const char *key;
    json_t *value;
    if (strlen(device) >= WIRE_ID_MAX)
        return;
    json_object_foreach((json_t *)(uintptr_t)usage, key, value)
    {
        const char *tab = strchr(key, '\t');
        size_t size = tab ? (size_t)(tab - key) : 0;
        if (size == 0 || size >= WIRE_NAME_MAX || strlen(tab + 1) >= WIRE_NAME_MAX)
            continue;
        double asked = json_number_value(json_array_get(value, 0));
        double answered = json_number_value(json_array_get(value, 1));
        struct rate *x = usable(asked) ? row(r, device, key, size, tab + 1) : NULL;
        if (x)
            x->count += asked;
        double timed = column(value, 4, COUNT_MAX);
        x = timed > 0 ? row(r, device, key, size, tab + 1) : NULL;
        if (x) {
            x->timed += timed;
            x->timed_ms += column(value, 5, BYTES_MAX) / 1000;
        }
        struct effort *y = usable(answered) ? effort_row(r, key, size, tab + 1) : NULL;
        if (y)
            add_effort(y, answered, column(value, 2, COUNT_MAX), column(value, 3, BYTES_MAX));
        if (y && timed > 0 && json_array_size(value) > 6)
            y->around_ms[y->around_count++ % RATES_AROUND] =
                column(value, 6, BYTES_MAX) / 1000 / timed;
    }
}

void rates_tick(struct rates *r, int64_t now_ns)
{
    double dt = (double)(now_ns - r->ticked_ns) / (double)NS_PER_S;
    bool first = r->ticked_ns == 0;
    if (!first && dt <= 0)
        return;
    r->ticked_ns = now_ns;
    double keep = exp(-(first ? RATES_PERIOD_S : dt) / RATES_WINDOW_S);
    for (uint32_t i = 0; i < r->count;) {
        struct rate *x = &r->rows[i];
        x->per_s = x->per_s * keep + x->count / (first ? RATES_PERIOD_S : dt) * (1 - keep);
        x->count = 0;
        if (x->per_s < FADED && x->planned < RATES_MATTER)
            *x = r->rows[--r->count];
        else
            i++;
    }
}

const struct rate *rates_changed(const struct rates *r)
{
    const struct rate *most = NULL;
    double worst = RATES_CHANGE;
    for (uint32_t i = 0; i < r->count; i++) {
        const struct rate *x = &r->rows[i];
        double high = fmax(x->per_s, x->planned), low = fmin(x->per_s, x->planned);
        double factor = high / fmax(low, RATES_FLOOR);
        if (high >= RATES_MATTER && factor > worst) {
            worst = factor;
            most = x;
        }
    }
    return most;
}

void rates_planned(struct rates *r)
{
    for (uint32_t i = 0; i < r->count; i++)
        r->rows[i].planned = r->rows[i].per_s;
}
