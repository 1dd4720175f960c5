/* plan_fleet.h - the running fleet's placement for `plan` (inside cli/ only). */
#pragma once
#include "base/json.h"
#include "plan/plan.h"

/* What GET /s2m3/v1/plan of a gateway says; all owned by `whole`. */
struct plan_fleet {
    json_t *whole;
    json_t *instance, *placement, *pins;
    int redundancy;
    bool placing; /* places are being worked out */
};

/* url: of a gateway. */
bool plan_fleet_fetch(const char *url, struct plan_fleet *ret, struct err *e);
/* Has pins set ({"MODULE": ["DEVICE"]}, an empty list: free; may be NULL) and a plan made;
 * *ret is what is so then. */
bool plan_fleet_apply(const char *url, json_t *pins, struct plan_fleet *ret, struct err *e);
void plan_fleet_clear(struct plan_fleet *f);

/* The placement by module of the instance; false: a module has no place.  *ret: free(). */
bool plan_fleet_sites(const struct plan_fleet *f, const struct plan_instance *in,
                      struct plan_sites **ret, struct err *e);

/* Names of modules in pins as people say them ("vision_model") made those of the instance. */
bool plan_fleet_pins(const struct plan_fleet *f, json_t *pins, json_t **ret, struct err *e);

/* ms around the runs of a request of a model of the instance, as measured (coord/rates.h); 0: not known. */
double plan_fleet_around_ms(const struct plan_fleet *f, const char *model);

/* Decision, rates and the last moves, for people. */
void plan_fleet_print(const struct plan_fleet *f);
