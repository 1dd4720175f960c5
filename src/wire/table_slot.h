/* table_slot.h - the current routing table of a process: node and gateway meet here.
 *
 * Readers take a reference and work with that table to the end of their request; a new one is
 * swapped in in one step.  Any thread. */
#pragma once
#include "base/sync.h"
#include "wire/table.h"

struct table_slot {
    struct monitor lock;
    struct table *table;
};

void table_slot_init(struct table_slot *s);
void table_slot_destroy(struct table_slot *s);

/* A reference, or NULL while there is none. */
struct table *table_slot_get(struct table_slot *s);

/* Takes over the reference if the table is newer (or of another fleet); wakes waiters.  Returns
 * false (and gives the reference up) when the one that is there is as new. */
bool table_slot_put(struct table_slot *s, struct table *t);

/* Waits until the version is not `version` or the deadline; a reference or NULL. */
struct table *table_slot_wait(struct table_slot *s, uint64_t version, int64_t deadline_ns);

/* 0 while there is none. */
uint64_t table_slot_version(struct table_slot *s);
