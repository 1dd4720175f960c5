/* cable.h - a wire between a device and the others that a test can cut.
 *
 * Forwards the bytes of TCP connections on a loopback port to another one.  cable_cut() breaks all
 * of them at once and takes no more, as when a device loses its power; nothing is said goodbye to.
 * One thread of its own; not fast, and not for more than CABLE_PAIRS_MAX connections. */
#pragma once
#include "base/err.h"

#include <stdint.h>

#define CABLE_PAIRS_MAX 256

struct cable;

bool cable_open(uint16_t to_port, struct cable **ret, struct err *e);
void cable_plug(struct cable *c, uint16_t to_port); /* later connections go there */
uint16_t cable_port(const struct cable *c);
void cable_cut(struct cable *c); /* returns when it is done; again: nothing */
/* Takes no more connections, and breaks those on which nobody waits for an answer. */
void cable_shut(struct cable *c);
void cable_close(struct cable *c);
