/* load.h - what this gateway has under way on each device, and which devices just failed.
 *
 * Part of the expected finish of a call: work that is already there comes first.
 * Threads: any. */
#pragma once
#include "wire/limits.h"

#include <stdint.h>

#define LOAD_SHUN_MS 3000    /* a device that could not be reached is the last choice for so long */
#define LOAD_FORGET_MS 60000 /* failures that are farther apart are not one */

struct load;

struct load *load_new(void);
void load_free(struct load *l);

/* A call of `ms` expected run time begins or ends on the device. */
void load_begin(struct load *l, const char *device, double ms);
void load_end(struct load *l, const char *device, double ms);

/* ms of work under way there. */
double load_pending_ms(struct load *l, const char *device);

/* The device could not be reached, or broke; or it has answered. */
void load_failed(struct load *l, const char *device);
void load_worked(struct load *l, const char *device);
/* ms since the first of the failures that no answer came between; 0: its last call was answered. */
double load_down_ms(struct load *l, const char *device);
int load_shunned(struct load *l, const char *device);
