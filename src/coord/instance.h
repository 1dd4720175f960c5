/* instance.h - the fleet as a placement instance (the planner's own JSON format).
 *
 * Devices and modules go by names for people ("vision_model 88cb1c3a"), so that the planner's
 * reasons can be shown as they are.  Devices: those that live; one that is being drained is there
 * with no memory, since its gateway may still be asked.  One request class per (program, device
 * whose gateway is asked), weighing its rate; a class that keeps a device busy for a good part of
 * the time stands as several of the same, so that replicas can share it.  What is not asked for at
 * all is planned for as RATES_FLOOR per second from the first device. */
#pragma once
#include "coord/internal.h"
#include "plan/plan.h"

struct snapshot {
    json_t *json;                 /* the instance, owned */
    json_t *pins;                 /* by module and device names, those that can be kept; owned */
    json_t *placement;            /* {"module": ["device"]}: living places; owned */
    char (*devices)[WIRE_ID_MAX]; /* ids by device of the instance, owned */
    struct digest *modules;       /* by module of the instance, owned */
    struct plan_sites *now;       /* by module; owned */
    double *cost_ms;              /* module x device: fetching and loading there; owned */
    uint32_t device_count, module_count;
    uint64_t epoch; /* of the fleet when it was taken */
};

/* models: one flag per model of the fleet, or NULL: all.  With the lock held.  ERR_NO_PLACE: no
 * device is alive. */
bool snapshot_take(struct coord *c, const bool *models, struct snapshot *ret, struct err *e);
void snapshot_clear(struct snapshot *s);
