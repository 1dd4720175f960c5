/* planner.h - placing the modules of the running fleet (inside coord/ only).
 *
 * A plan is made of a snapshot, without any lock, and taken over under the lock if the fleet is
 * still the one that it was made for (epoch).  coord/replan.h decides whether it is adopted.
 * The planner's thread makes one whenever a device came, went or is drained, a model was added or
 * removed, pins were changed, or rates have (coord/rates.h). */
#pragma once
#include "coord/moves.h"

struct coord;

/* With the lock held: the fleet has changed in a way that places depend on; a plan is due.
 * cause: for people, "device nuc joined". */
void coord_ask_plan(struct coord *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Makes one now, without the lock.  partial: leave out models that don't fit rather than fail.
 * rates_only: nothing but the rates has changed. */
struct plan_wish {
    char cause[MOVE_TEXT_MAX];
    bool partial, rates_only;
};
bool coord_plan(struct coord *c, const struct plan_wish *w, struct err *e);
/* With `planning` held: what was changed under it is planned for by this plan, not by another that
 * gives another cause. */
bool coord_plan_held(struct coord *c, const struct plan_wish *w, struct err *e);

void *coord_planner_run(void *coord);
