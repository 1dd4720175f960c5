/* load.h - what is under way on each device as far as this gateway knows, and which just failed.
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

/* A call that was answered had waited for a lane there: the only thing that tells of other
 * gateways' work. */
void load_waited(struct load *l, const char *device, double queue_ms);

/* ms until a lane is free there for one more call: this gateway's work under way over the lanes, or
 * what the last call waited less the time since, whichever is more. */
double load_queue_ms(struct load *l, const char *device, double lanes);

/* A generation had so many steps; the mean of late, 1 before the first. */
void load_steps(struct load *l, double steps);
double load_mean_steps(struct load *l);

/* The device could not be reached, or broke; or it has answered. */
void load_failed(struct load *l, const char *device);
void load_worked(struct load *l, const char *device);
/* ms since the first of the failures that no answer came between; 0: its last call was answered. */
double load_down_ms(struct load *l, const char *device);
int load_shunned(struct load *l, const char *device);
