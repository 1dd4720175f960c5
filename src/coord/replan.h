/* replan.h - whether modules move, and where to: decided from numbers alone.
 *
 * A plan is made with the planner's objective `load` for the measured rates.  When no placement
 * bears them (the fleet is overloaded), they are halved until one does, REPLAN_HALVINGS times at
 * most; after that, and when nothing is known of rates, with `latency`.
 *
 * Requests weigh as much as they are frequent, so values are ms that requests take together, per
 * second.  A module that would move or multiply although that gains less than it costs stays as it
 * is; what is left of the plan is adopted if
 *
 *     gain * REPLAN_HORIZON_S > cost    and    gain > REPLAN_GAIN_MIN * value as it is
 *
 * gain: value as it is less value of the plan, ms/s; cost: ms of transfer and load of each new
 * replica.  When the places as they are don't bear the rates, both are valued at half of them; if
 * not even those are borne, any plan that does is better.  Replicas that are no longer needed stay
 * until their memory is.  A module that has no place, a pin that is not kept to, and a plan that
 * protects more modules from a loss (redundancy) are reasons of their own: no gain is asked for.
 * Changed rates alone move at most `moves_left` replicas (struct allowance).
 *
 * Pure: no clock, no state.  Threads: any, on different instances. */
#pragma once
#include "plan/plan.h"

#include <stdint.h>

#define REPLAN_HORIZON_S 600.0
#define REPLAN_GAIN_MIN 0.05
#define REPLAN_HALVINGS 6
#define REPLAN_MOVES_PER_HOUR 12.0
#define REPLAN_TEXT_MAX 256u

struct replan {
    struct plan_instance *in;     /* objective load; rates and objective are changed in place */
    const struct plan_sites *now; /* by module; count 0: it has no living place */
    const double *cost_ms;        /* module x device: what bringing it there takes */
    const json_t *pins;           /* as in struct plan_options, or NULL */
    int redundancy;
    enum plan_method method;
    bool rates_only;      /* nothing but the rates has changed */
    uint32_t moves_left;  /* then */
    void (*arm)(void *);  /* called before each search, for its clock; may be NULL */
    bool (*stop)(void *); /* as in struct plan_options; may be NULL */
    void *ctx;
};

struct replan_result {
    bool adopt;
    struct plan_sites *sites; /* by module: where they shall be, also when nothing moves; owned */
    char **reason;            /* by module; owned; NULL unless adopt */
    double before, after;     /* ms/s; before INFINITY: does not bear the rates */
    double cost_ms;
    double scale;              /* of the rates that it was planned for; 0: latency */
    uint32_t moves;            /* new replicas */
    char why[REPLAN_TEXT_MAX]; /* of the decision, for people */
};

/* false: there is no placement at all (ERR_NO_PLACE), or memory is out. */
bool replan_decide(const struct replan *q, struct replan_result *ret, struct err *e);
void replan_clear(const struct plan_instance *in, struct replan_result *r);

/* So many moves per hour: refilled evenly, REPLAN_MOVES_PER_HOUR at most. */
struct allowance {
    double left;
    int64_t at_ns; /* 0: full */
};
uint32_t allowance_left(struct allowance *a, int64_t now_ns);
void allowance_take(struct allowance *a, uint32_t moves);
