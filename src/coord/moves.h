/* moves.h - the last changes of places, for people: what moved where, when, and why.
 *
 * Kept over restarts in one row of the state.  The caller holds the fleet's lock. */
#pragma once
#include "base/digest.h"
#include "store/state.h"
#include "wire/limits.h"

#include <stdint.h>

#define MOVES_MAX 64u
#define MOVE_TEXT_MAX 256u

struct move {
    int64_t wall_ms; /* when it was decided */
    int64_t done_ms; /* when the new places served and the others were let go; 0: not yet */
    struct digest module;
    char name[WIRE_NAME_MAX];
    char from[MOVE_TEXT_MAX], to[MOVE_TEXT_MAX]; /* "cam, nuc"; empty: nowhere */
    char cause[MOVE_TEXT_MAX];                   /* "device nuc joined" */
    char why[MOVE_TEXT_MAX];                     /* "requests take ... instead of ..." */
};

struct moves {
    struct move rows[MOVES_MAX]; /* a ring */
    uint32_t next, count;
    uint64_t total; /* since the fleet began */
};

bool moves_load(struct moves *m, struct state *state, struct err *e);
bool moves_save(const struct moves *m, struct state *state, struct err *e);
/* A zeroed row, the oldest one when all are taken. */
struct move *moves_add(struct moves *m);
/* The i-th row, newest first; NULL: no more. */
const struct move *moves_at(const struct moves *m, uint32_t i);
/* Newest first; NULL: no memory. */
json_t *moves_json(const struct moves *m, uint32_t max);
