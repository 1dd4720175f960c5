/* times.h - how long the calls of one module really take.
 *
 * A module's time is first measured by itself, before it serves, perhaps while the machine was busy
 * with other things; and a generation takes as many runs as it takes.  So calls are watched, and
 * the figure that devices are chosen by is replaced when it was wrong: after each TIMES_CALLS calls
 * their median counts, if it differs from the figure by more than TIMES_CHANGE of the larger.
 *
 * Threads: none of its own; one lock around all calls. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define TIMES_CALLS 9u
#define TIMES_CHANGE 0.2

/* Zeroed: nothing seen. */
struct run_times {
    double ms[TIMES_CALLS]; /* sorted, the first count of them */
    uint32_t count;
};

/* One more call took ms.  true: *figure was wrong, and is now the median. */
bool times_add(struct run_times *t, double ms, double *figure);
