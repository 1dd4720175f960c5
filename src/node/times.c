/* times.c - see times.h. */
#include "node/times.h"

bool times_add(struct run_times *t, double ms, double *figure)
{
    uint32_t at = t->count++;
    for (; at > 0 && t->ms[at - 1] > ms; at--)
        t->ms[at] = t->ms[at - 1];
    t->ms[at] = ms;
    if (t->count < TIMES_CALLS)
        return false;
    t->count = 0;
    double median = t->ms[TIMES_CALLS / 2];
    if (median >= (1 - TIMES_CHANGE) * *figure)
        return false;
    *figure = median;
    return true;
}
