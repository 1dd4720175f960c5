/* truth.h - what was predicted beside what gateways measured, and what is done when they differ.
 *
 * Every TRUTH_PERIOD_S the requests that were answered since the last look, as far as nothing of
 * them came from a cache, are compared with the latency that the planner's model gives for the
 * places and rates as they are: one row per (model, task, device whose gateway was asked).  Only a
 * fleet at rest is compared: a change of places in between, or a module that is not where it
 * should be, and the times since then are forgotten.
 *
 * Figures are measured again on the devices that serve the module when runs in service take
 * RATES_CHANGE times as long as they say (fleet_stretch()), or when a prediction is wrong: off by
 * TRUTH_OFF of the measured latency (and by TRUTH_OFF_MS) twice in a row.  A figure is measured
 * again, too, when it is TRUTH_ODD times what those of another device make likely for it, by the
 * devices' calibrated speeds: that device was busy then, perhaps, and a module that never serves
 * there would keep it.  Not while figures are newer than TRUTH_FRESH_S (odd ones TRUTH_ODD_S), and
 * four times that after each time that a figure was measured again.  Figures that turn out to be
 * others are a reason for a new plan.  (Links are measured again all the time, node/links.c.)
 *
 * Threads: truth_note() and truth_json() with the coordinator's lock held; coord_truth_run() is a
 * thread of its own, since measuring takes seconds. */
#pragma once
#include "base/json.h"
#include "wire/limits.h"

#include <stdint.h>

#define TRUTH_PERIOD_S 10
#define TRUTH_ANSWERS 10u /* requests before their mean says something */
#define TRUTH_OFF 0.25
#define TRUTH_OFF_MS 1.0
#define TRUTH_WRONG 2u /* looks in a row */
#define TRUTH_FRESH_S 300
#define TRUTH_ODD 3.0
#define TRUTH_ODD_S 60
#define TRUTH_MAX 1024u /* rows; what comes on top is not compared */

struct prediction {
    char model[WIRE_NAME_MAX], task[WIRE_NAME_MAX];
    char device[WIRE_ID_MAX];         /* whose gateway was asked */
    double predicted_ms, measured_ms; /* at the last look */
    double answers;                   /* that measured_ms is the mean of */
    uint32_t off;                     /* looks in a row at which it was off */
    int64_t wall_ms,
        measured_again_ms; /* last look; when figures behind it were measured anew, 0 */
};

struct truth {
    struct prediction *rows; /* owned */
    uint32_t count;
    uint64_t epoch; /* of the fleet at the last look */
};

void truth_clear(struct truth *t);

/* Takes one comparison in; the row, or NULL: too many.  It is wrong when off >= TRUTH_WRONG. */
struct prediction *truth_note(struct truth *t, const char *model, const char *task,
                              const char *device, double predicted_ms, double measured_ms,
                              double answers, int64_t wall_ms);

struct coord;
/* Rows for people, devices by name; NULL: no memory. */
json_t *truth_json(const struct coord *c);

void *coord_truth_run(void *coord);
