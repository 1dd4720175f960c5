/* pins.h - modules that were told where to be (inside coord/ only).
 *
 * Two kinds.  A module's own pins (`plan --pin --apply`, `add --pin`) are device ids by digest; what
 * they name has to be there when they are set.  Standing pins (`up --pin`) are kept as they were
 * said: they hold for every module that they name and that has no own pins, and for every device of
 * that name, whenever these come.  Both are in the state.  A module is named by its name, the first
 * PINS_PREFIX_MIN or more digits of its digest, or both ("vision_model 88cb1c3a").
 *
 * JSON of both: {"MODULE": ["DEVICE", ...]}.  Threads: with coord.lock held, unless said. */
#pragma once
#include "coord/internal.h"

#define PINS_MAX 256
#define PINS_PREFIX_MIN 6u

/* One module's pins as they were before. */
struct pin {
    struct digest module;
    char (*before)[WIRE_ID_MAX]; /* owned */
    uint32_t before_count;
};

/* What pins_set() has changed, to be undone. */
struct pin_list {
    struct pin rows[PINS_MAX];
    uint32_t count;
    json_t *standing; /* as they were, owned; NULL: not changed */
};

/* The device of that name, else of that id; NULL with e set: there is none. */
struct device *pins_device(struct coord *c, const char *name, struct err *e);

/* Whether all of it can be read and every device is there; modules are not looked at. */
bool pins_check(struct coord *c, const json_t *pins, struct err *e);

/* Sets modules' own pins; an empty list frees a module, of standing pins that name it too.  model:
 * only modules of that one are meant, or NULL.  What has been set is in *done, also when it fails;
 * *done is zeroed by the caller, and ends with pins_undo() or pins_keep(). */
bool pins_set(struct coord *c, const json_t *pins, const struct model_entry *model,
              struct pin_list *done, struct err *e);
void pins_undo(struct coord *c, struct pin_list *done);
void pins_keep(struct pin_list *done);

/* Reads the standing pins of the state and puts `more` (may be NULL) over them. */
bool pins_load(struct coord *c, const json_t *more, struct err *e);

/* Names of the usable devices that the module is told to be on; new reference, empty: it is free. */
json_t *pins_of(struct coord *c, const struct module *m);

/* Standing pins that hold for no module now, or whose devices are not there; new reference. */
json_t *pins_waiting(struct coord *c);
