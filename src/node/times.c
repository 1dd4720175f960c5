/* times.c - see times.h. */
#include "node/times.h"

bool times_add(struct run_times *t, double ms, double *figure)
{
    t->ms += ms;
    if (++t->count < TIMES_CALLS)
        return false;
    double mean = t->ms / t->count;
    *t = (struct run_times){0};
    if (mean >= (1 - TIMES_CHANGE) * *figure)
        return false;
    *figure = mean;
    return true;
}
