/* times.h - how long the runs of one module really take, when that is less than was measured.
 *
 * A module's time is first measured by itself, before it serves, perhaps while the machine was busy
 * with other things.  So calls are watched: after each TIMES_CALLS of them their mean is the figure
 * that devices are chosen by, if it is lower by more than TIMES_CHANGE.  Not their median: where a
 * device has a part of a processor only, most short runs are as fast as if it had all of it, and
 * one in a few waits for its next period.
 *
 * It is never raised here: what makes runs take longer in service (other runs, mostly) would be
 * there on another device, too, but a device that has not served yet would seem faster for it.  The
 * coordinator raises the figures of all devices together (coord/fleet.h, fleet_stretch()).
 *
 * Threads: none of its own; one lock around all calls. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define TIMES_CALLS 9u
#define TIMES_CHANGE 0.2

/* Zeroed: nothing seen. */
struct run_times {
    double ms; /* of the count calls since the last figure */
    uint32_t count;
};

/* One more call took ms per run.  true: *figure was too high, and is now the mean. */
bool times_add(struct run_times *t, double ms, double *figure);
