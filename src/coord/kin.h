/* kin.h - which models can share: those with weights in common, in a row of one another.
 *
 * Models are cut together (coord/cut.h) with all that they share parts with, and only with those.
 * So that it need not be read again to see that, each model of the registry keeps its constants as
 * a text: for each of KIN_LEAST bytes and more 16 hex digits of its digest and 12 of its bytes, in
 * order, at most KIN_CONSTANTS_MAX of them (the largest).
 *
 * With more models than there is room for (SHARE_MODELS_MAX files: sets of them are words of 64 bits)
 * the new one is cut like its nearest, and what comes out equal is shared with all; only what it has
 * in common with none but those left out is not found.
 *
 * Threads: pure functions. */
#pragma once
#include "coord/cut.h"

#define KIN_LEAST 1024u
#define KIN_CONSTANTS_MAX 65536u
#define KIN_BYTES (CUT_MIN_SHARE / 4) /* in common; a quarter, as smaller constants may help */

/* Of a model that was cut; free().  "" when no file of it was; NULL with e set. */
char *kin_text(const struct cut *c, int model, struct err *e);

/* Bytes of the constants that both have. */
uint64_t kin_common(const char *a, const char *b);

/* Of models[count], all that have KIN_BYTES in common with `of` or with a chosen one are chosen,
 * nearest first, as long as there is room for their files; those that there was none for are
 * KIN_LEFT_OUT. */
enum kin_mark { KIN_NONE, KIN_CHOSEN, KIN_LEFT_OUT };
struct kin_model {
    const char *constants; /* borrowed; NULL: not known, it may share with anything */
    int files;
    enum kin_mark mark; /* result */
    uint64_t common;    /* private */
};
void kin_choose(const char *of, struct kin_model *models, size_t count, int files_max);
