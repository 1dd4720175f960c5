/* state.h - what the coordinator must not forget, in SQLite (WAL).
 *
 * Rows of (kind, key) -> JSON.  The kinds are few and their JSON is that of the structs they hold,
 * so that a row is readable with the sqlite3 program.  A change is durable when the call returns.
 *
 * Threads: any, one at a time inside (a lock). */
#pragma once
#include "base/err.h"
#include "base/json.h"

#define STATE_ROWS_MAX 100000
#define STATE_ROW_BYTES_MAX (16u << 20)

#define STATE_KINDS(X)                                                                             \
    X(STATE_FLEET, "fleet")         /* "id": the fleet's id; "version": of the table */            \
    X(STATE_DEVICE, "device")       /* device id */                                                \
    X(STATE_MODEL, "model")         /* model name */                                               \
    X(STATE_MODULE, "module")       /* module digest: ports, bytes, FLOPs */                       \
    X(STATE_PLACEMENT, "placement") /* module digest: device ids */                                \
    X(STATE_PIN, "pin")             /* module digest: device ids that it was told to be on */      \
    X(STATE_PROFILE, "profile")     /* "digest device": memory and time as measured */             \
    X(STATE_LINK, "link")           /* "device device": latency and bandwidth */                   \
    X(STATE_NODE, "node")           /* a node's own: "id", the last table */

#define STATE_ENUM(id, name) id,
enum state_kind { STATE_KINDS(STATE_ENUM) STATE_KIND_COUNT };
#undef STATE_ENUM

struct state;

bool state_open(const char *path, struct state **ret, struct err *e);
void state_close(struct state *s);

bool state_put(struct state *s, enum state_kind kind, const char *key, const json_t *value,
               struct err *e);
/* *ret: a new reference, or NULL if there is no such row. */
bool state_get(struct state *s, enum state_kind kind, const char *key, json_t **ret, struct err *e);
bool state_remove(struct state *s, enum state_kind kind, const char *key, struct err *e);

/* All rows of a kind as an object key -> value (new reference), in order of key. */
bool state_list(struct state *s, enum state_kind kind, json_t **ret, struct err *e);

/* Several changes as one: all or none.  Holds the lock between begin and end. */
bool state_begin(struct state *s, struct err *e);
bool state_end(struct state *s, bool commit, struct err *e);
