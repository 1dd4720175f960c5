/* samples.c - sorted times. */
#include "lib/samples.h"

#include <stdlib.h>

bool samples_init(struct samples *s)
{
    *s = (struct samples){.us = malloc(SAMPLES_MAX * sizeof(*s->us))};
    return s->us;
}

void samples_add(struct samples *s, int64_t start_ns, int64_t end_ns)
{
    if (s->count < SAMPLES_MAX)
        s->us[s->count++] = (double)(end_ns - start_ns) / 1000.0;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double samples_at(struct samples *s, double part)
{
    if (s->count == 0)
        return 0;
    qsort(s->us, s->count, sizeof(*s->us), by_size);
    size_t i = (size_t)(part * (double)s->count);
    return s->us[i < s->count ? i : s->count - 1];
}

void samples_free(struct samples *s)
{
    free(s->us);
    *s = (struct samples){0};
}
