/* relax.h - a lower bound on one request's time while places are not all decided (inside plan/).
 *
 * early(c, d) = the earliest that call c can end on device d when every call may choose, for each
 * call that it feeds, another of the devices still open to its module, and lanes are endless:
 *     early(c, d) = max(avail(c, d), max over p in from of min over d' of early(p, d') + tau(d', d))
 *                   + runs * run(c, d) / (1 - rho(d))
 * Proof: in the real schedule each call sits on one of its open devices and starts no sooner than its
 * inputs are there, nor than a lane is free there (avail: any lower bound of that), so by induction over the calls its real end is at least early() there; choosing
 * anew per edge and leaving out lanes only lowers the minima, and early() does not fall when run
 * times grow, so rho may be any lower bound of the real one. */
#pragma once
#include "plan/eval.h"

#define RELAX_DEVICES_MAX 64u

/* Devices still open to a module. */
struct open_places {
    uint32_t count;
    uint32_t device[RELAX_DEVICES_MAX];
};

struct relax {
    const struct plan_instance *in; /* kept */
    double *early;                  /* by call x RELAX_DEVICES_MAX; owned */
};

bool relax_init(struct relax *x, const struct plan_instance *in, struct err *e);
void relax_done(struct relax *x);

/* A lower bound of something on a device for a call of the request, if the module is there. */
typedef double (*relax_there)(void *ctx, uint32_t request, uint32_t module, uint32_t device);

/* open: by module.  avail: when a lane is free, NULL: at 0; rho: the load, NULL: none. */
double relax_time(struct relax *x, uint32_t request, const struct open_places *open,
                  relax_there avail, relax_there rho, void *ctx);
