/* pins.h - `--pin MODULE=DEVICE` of up, add and plan (inside cli/ only). */
#pragma once
#include "cli/cli.h"

/* Adds one to *pins ({"MODULE": ["DEVICE", ...]}), which is made if it is NULL. */
bool pins_add(json_t **pins, const char *text, struct err *e);

/* All --pin of a command; *ret: owned by the caller, NULL if there are none.  Nothing is left in *ret
 * when it fails. */
bool pins_of_args(const struct args *a, json_t **ret, struct err *e);
