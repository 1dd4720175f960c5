/* ask.h - what the coordinator has a device do: measuring and checking.
 *
 * While a model is added the device is the living one with the most memory: modules are measured
 * there before they have a place.  Without the coordinator's lock: they take as long as they take;
 * when the coordinator stops they end (ERR_CANCELLED). */
#pragma once
#include "coord/cut.h"
#include "coord/internal.h"

/* Has a module measured, unless it was on some device before. */
bool ask_measure(struct coord *c, const struct cut_module *m, struct err *e);

/* A module on a device whose time is in doubt. */
struct ask_again {
    struct digest module;
    char device[WIRE_ID_MAX];
    double was_ms, now_ms; /* of a run; set */
};

/* Has it measured there anew; the figure is the fleet's from then on. */
bool ask_measure_again(struct coord *c, struct ask_again *a, struct err *e);

struct checked {
    bool pairwise;                /* a file is larger than the device's memory: cut by cut */
    double difference;            /* the largest of an output; 0: equal bits; -1: it is no number */
    char output[TENSOR_NAME_MAX]; /* whose */
};

/* Has the cut files of a model compared with the files.  Notes the sizes that dynamic dims of
 * modules had. */
bool ask_check(struct coord *c, struct cut *cut, int model, struct checked *ret, struct err *e);
