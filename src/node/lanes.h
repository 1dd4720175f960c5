/* lanes.h - how many runs go on at once on a device, and a bounded queue before them.
 *
 * First come, first served.  Any thread. */
#pragma once
#include "base/cancel.h"
#include "base/err.h"

#include <stdint.h>

#define LANES_QUEUE_MAX 4096

struct lanes;

struct lanes *lanes_new(uint32_t count); /* at least 1 */
void lanes_free(struct lanes *l);

/* Waits for a lane.  ERR_BUSY when the queue is full, ERR_TIMEOUT, ERR_CANCELLED. */
bool lane_enter(struct lanes *l, int64_t deadline_ns, struct cancel *cancel, struct err *e);
void lane_leave(struct lanes *l);

void lanes_stats(struct lanes *l, uint32_t *running, uint32_t *waiting);
