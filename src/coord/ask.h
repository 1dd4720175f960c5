/* ask.h - what the coordinator has a device do while a model is added: measuring and checking.
 *
 * The device is the living one with the most memory: modules are measured there before they have a
 * place.  Without the coordinator's lock: they take as long as they take. */
#pragma once
#include "coord/cut.h"
#include "coord/internal.h"

/* Has a module measured, unless it was on some device before. */
bool ask_measure(struct coord *c, const struct cut_module *m, struct err *e);

/* Has the cut files of a model compared with the files.  *difference: the largest of an output, 0
 * for equal bits, -1 where it is no number; output: whose.  Notes the sizes that dynamic dims of
 * modules had. */
bool ask_check(struct coord *c, struct cut *cut, int model, double *difference,
               char output[TENSOR_NAME_MAX], struct err *e);
