/* rates.c - see rates.h. */
#include "coord/rates.h"

#include "base/clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_MAX 1e9
#define FADED 1e-3 /* per s */

void rates_clear(struct rates *r)
{
    free(r->rows);
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

void rates_count(struct rates *r, const char *device, const json_t *usage)
{
    const char *key;
    json_t *value;
    if (strlen(device) >= WIRE_ID_MAX)
        return;
    json_object_foreach((json_t *)(uintptr_t)usage, key, value)
    {
        const char *tab = strchr(key, '\t');
        double n = json_number_value(value);
        if (!tab || tab == key || (size_t)(tab - key) >= WIRE_NAME_MAX ||
            strlen(tab + 1) >= WIRE_NAME_MAX || !(n > 0 && n <= COUNT_MAX))
            continue;
        struct rate *x = row(r, device, key, (size_t)(tab - key), tab + 1);
        if (x)
            x->count += n;
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
