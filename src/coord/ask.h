/* ask.h - what the coordinator has a device do while a model is added: measuring and checking.
 *
 * The device is the living one with the most memory: modules are measured there before they have a
 * place.  Without the coordinator's lock: they take as long as they take. */
#pragma once
#include "coord/cut.h"
#include "coord/internal.h"

/* Has a module measured, unless it was on some device before. */
bool ask_measure(struct coord *c, const struct cut_module *m, struct err *e);

struct checked {
    bool pairwise;                /* a file is larger than the device's memory: cut by cut */
    double difference;            /* the largest of an output; 0: equal bits; -1: it is no number */
    char output[TENSOR_NAME_MAX]; /* whose */
};

/* Has the cut files of a model compared with the files.  Notes the sizes that dynamic dims of
 * modules had. */
bool ask_check(struct coord *c, struct cut *cut, int model, struct checked *ret, struct err *e);
