/* change.h - what models consist of, decided anew when one comes or goes.
 *
 * Models with weights in common (coord/kin.h) are cut together, so a model that comes may split modules of others further, and one
 * that goes may make parts whole again.  The steps: read, cut, write new modules, check, measure,
 * stage (coord/fleet.h), plan, wait until everything new serves, commit.  Until the commit, which is
 * one transaction, all requests are answered as before; a failure or a crash before it leaves
 * nothing but files to sweep.
 *
 * Where a model can't be cut together with the others (their check fails, old and new form have no
 * room beside each other), it is cut alone; it then still shares the modules that are exactly alike.
 *
 * Threads: under coord.change, without coord.lock. */
#pragma once
#include "coord/ask.h"
#include "coord/given.h"
#include "coord/pins.h"

struct change {
    struct coord *coord;
    struct given *given[CUT_SOURCES_MAX]; /* owned; first the model that comes, if one does */
    int count;
    bool adds;
    bool whole;                  /* the model that comes is not to be cut */
    const json_t *pins;          /* of the model that comes (coord/pins.h), or NULL */
    struct pin_list pinned;      /* what of that has been set */
    double tolerance;            /* largest difference of an output that the check lets pass */
    struct cut *cut;             /* owned */
    bool moves[CUT_SOURCES_MAX]; /* takes a new form */
    struct checked checked[CUT_SOURCES_MAX];
    json_t *left_out; /* names of models that it may share with, too many to compare; owned */
    char note[ERR_TEXT_MAX]; /* why a model was cut alone; empty: it was not */
};

struct change *change_new(struct coord *c); /* NULL: no memory */
void change_free(struct change *x);         /* NULL is fine */

/* name, files: of the model that comes. */
bool change_add(struct change *x, const char *name, json_t *files, struct err *e);
/* After a model went that had these constants (coord/kin.h; NULL: not known): makes whole again what
 * no longer needs to be apart. */
bool change_merge(struct change *x, const char *constants, struct err *e);
