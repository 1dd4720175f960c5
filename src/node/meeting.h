/* meeting.h - where a call waits for inputs that other devices send.
 *
 * Call and deliveries may come in any order.  The first of them reserves the bytes of the whole
 * meeting or is refused with ERR_BUSY, so a meeting never holds a part and waits for room.  A
 * delivery that comes twice is taken once.  What nobody takes expires at its deadline.
 *
 * A waiting call holds its own thread and nothing else: no lane, no runner.
 * Threads: any. */
#pragma once
#include "base/cancel.h"
#include "tensor/tensor.h"
#include "wire/call.h"

#define MEETINGS_MAX 8192
#define MEETING_DONE_MAX 1024 /* ended meetings that late deliveries are still recognised for */

struct meetings;

struct meetings *meetings_new(size_t max_bytes);
void meetings_free(struct meetings *m); /* nobody may be inside */

/* Waits until each of ports[] has come.  Gives the tensors in the order of ports (references,
 * owned by the caller).  ERR_BUSY, ERR_TIMEOUT (names a port that is missing), ERR_CANCELLED. */
bool meeting_wait(struct meetings *m, const struct call_key *key, uint64_t reserve,
                  const char *const *ports, int port_count, int64_t deadline_ns,
                  struct cancel *cancel, struct tensor *ret, struct err *e);

/* Takes a reference of the tensor. */
bool meeting_deliver(struct meetings *m, const struct call_key *key, const char *port,
                     const struct tensor *t, uint64_t reserve, int64_t deadline_ns, struct err *e);

/* Drops what has expired; called now and then. */
void meetings_expire(struct meetings *m);

struct meeting_stats {
    size_t count, waiting, reserved_bytes, max_bytes;
};
void meetings_stats(struct meetings *m, struct meeting_stats *ret);
