/* whatif.h - an instance with something changed, and two plans side by side.
 *
 * A change is a text of words:
 *     add-device name=NAME memory=BYTES [gflops=X] [lanes=N] [mbit=X] [latency_ms=X] [like=DEVICE]
 *     remove-device NAME [to=DEVICE]
 *     link A B mbit=X [latency_ms=X]
 *     rate model=NAME xFACTOR        also all of NAME/TASK
 * like copies the run times of a device that is there (modules whose run times were measured and
 * that have no gflop can't run on a new device otherwise); mbit links the new device to all others,
 * without it the default link counts.  Requests of a device that goes come from the one of to=; without it
 * none may come from there.  The changed instance is checked by plan_instance_read().
 *
 * Pure, as all of plan/.  Threads: any, on different instances. */
#pragma once
#include "plan/plan.h"

#define WHATIF_TEXT_MAX 1024u

/* Changes o in place; on an error it may be changed in part. */
bool whatif_apply(json_t *o, const char *change, struct err *e);

/* {"value": {before, after}, "headroom_bytes": ..., "tasks": [{model, before_ms, after_ms}],
 * "moves": [{module, before: [device...], after: [...]}]} of two results; a task's time is
 * the mean over its requests by weight.  "note" besides where rates were changed and the objective
 * does not depend on them.  NULL: no memory. */
json_t *whatif_compare(const struct plan_instance *before, const struct plan_result *x,
                       const struct plan_instance *after, const struct plan_result *y);
