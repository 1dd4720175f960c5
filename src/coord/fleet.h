/* fleet.h - what the coordinator knows: devices, modules, models, who holds what, and figures.
 *
 * Plain data under one lock that coord.c holds; every function here is called with it held and
 * none blocks.  What must survive a restart is written through to the state before a function
 * returns (devices, modules, models, desired placement, pins, measured figures,
 * links); what is learnt
 * anew from heartbeats is not (alive, module states).
 *
 * Desired and actual: `desired` of a module is the planner's choice; what a device has really
 * loaded comes with its heartbeats.  fleet_table() makes the routing table of both: a replica
 * serves when it is ready, and one that is no longer desired stays until the desired ones serve
 * (make before break).
 *
 * Staged models: what a model shall consist of from now on is entered as a model of its name with
 * STAGE_MARK before it: its modules are placed and loaded like all others, but no request is
 * answered by it.  fleet_commit() puts it in the place of the model's old form, in one transaction
 * for all that are staged; what is staged when the coordinator ends is forgotten. */
#pragma once
#include "store/state.h"
#include "tensor/tensor.h"
#include "wire/cluster.h"
#include "wire/table.h"

struct device {
    struct join_request join; /* as it said at the last join; join.id is its id */
    bool alive;
    int64_t heard_ns;       /* last heartbeat, monotonic; 0: not since our start */
    struct heartbeat last;  /* latest, owned */
    uint64_t table_version; /* newest routing table that it said to work with, since it joined */
    bool draining;          /* holds nothing any more, but stays a gateway */
    bool leaving;           /* draining; when it holds nothing it is forgotten */
};

/* Figures of one module on one device; 0 = unknown. */
struct profile {
    struct digest module;
    char device[WIRE_ID_MAX];
    uint64_t anonymous, file, pss, peak;
    double load_ms, run_ms;
    int64_t wall_ms; /* when measured */
    uint32_t again;  /* measured again since the start, see coord/truth.h */
};

#define STAGE_MARK '~' /* no model's own name begins so */

struct module {
    struct digest digest;
    struct digest identity;   /* of what it computes (coord/cut.h); "": not known */
    char name[WIRE_NAME_MAX]; /* file name without .onnx, of the first model that brought it */
    uint64_t file_bytes, weight_bytes;
    double gflop;                 /* at batch 1; 0 = unknown */
    uint64_t output_bytes;        /* at batch 1, an estimate for the cost model */
    json_t *dims;                 /* {"PORT.INDEX": size} to measure it with; owned, or NULL */
    double served_ms;             /* of late: what its runs took on all devices together, */
    double measured_ms;           /* and what they would have by the figures of its profiles */
    bool stretch_known;           /* that is of enough runs */
    double planned_stretch;       /* fleet_stretch() at the last plan; 0: none yet */
    char (*desired)[WIRE_ID_MAX]; /* device ids, owned */
    uint32_t desired_count;
    char (*pins)[WIRE_ID_MAX]; /* devices that it was told to be on, owned; none: free */
    uint32_t pin_count;
    char reason[512]; /* why there, for people */
};

struct model_entry {
    char name[WIRE_NAME_MAX];
    json_t *model;          /* task/model.h as JSON, owned */
    struct digest *modules; /* owned */
    uint32_t module_count;
};

struct link_entry {
    char a[WIRE_ID_MAX], b[WIRE_ID_MAX]; /* a < b */
    double latency_ms, mbit;
    int64_t wall_ms;
};

struct fleet {
    struct state *state; /* borrowed */
    char id[WIRE_ID_MAX];
    char url[WIRE_URL_MAX]; /* coordinator's, for the table */
    uint64_t version;       /* of the last table */
    struct device *devices;
    uint32_t device_count;
    struct module *modules;
    uint32_t module_count;
    struct model_entry *models;
    uint32_t model_count;
    struct profile *profiles;
    uint32_t profile_count;
    struct link_entry *links;
    uint32_t link_count;
};

/* Reads everything from the state. */
bool fleet_open(struct fleet *f, struct state *state, struct err *e);
void fleet_close(struct fleet *f);

struct device *fleet_device(struct fleet *f, const char *id);
struct module *fleet_module(struct fleet *f, const char *digest);
struct model_entry *fleet_model(struct fleet *f, const char *name);
/* NULL: never measured there. */
const struct profile *fleet_profile(const struct fleet *f, const char *digest, const char *device);
const struct link_entry *fleet_link(const struct fleet *f, const char *a, const char *b);

/* Whether it may hold modules. */
static inline bool device_usable(const struct device *d)
{
    return d && d->alive && !d->draining;
}

/* The device as the last heartbeat has it, or NULL. */
const struct module_report *device_report(const struct device *d, const char *digest);

/* A join: an empty id gets one, an unknown one becomes a new device.  Names are made unique ("nuc", "nuc#2"). */
bool fleet_join(struct fleet *f, const struct join_request *r, struct device **ret, struct err *e);
/* Takes over the heartbeat's content (clears it); remembers figures and links. */
bool fleet_heartbeat(struct fleet *f, struct device *d, struct heartbeat *h, struct err *e);
/* Sets draining and leaving. */
bool fleet_drain(struct fleet *f, struct device *d, bool draining, bool leaving, struct err *e);
bool fleet_forget(struct fleet *f, const char *id, struct err *e);

bool fleet_put_profile(struct fleet *f, const char *digest, const char *device,
                       const struct module_report *r, struct err *e);
/* It was tried, whatever came of it: its figures count as new. */
void fleet_measured_again(struct fleet *f, const char *digest, const char *device);

/* Adds a model with its modules (those that are new; their dims are taken from the model), in one
 * transaction.  model: owned after.
 * ERR_EXISTS for a known name. */
bool fleet_add_model(struct fleet *f, const char *name, json_t *model, const struct module *modules,
                     uint32_t count, struct err *e);
/* Removes it, and the modules that no other model uses. */
bool fleet_remove_model(struct fleet *f, const char *name, struct err *e);

/* Staged forms of models; see above. */
bool fleet_stage(struct fleet *f, const char *name, json_t *model, const struct module *modules,
                 uint32_t count, struct err *e);
bool fleet_commit(struct fleet *f, struct err *e);
void fleet_unstage(struct fleet *f);
static inline bool model_is_staged(const struct model_entry *m)
{
    return m->name[0] == STAGE_MARK;
}
/* The module of that identity, or NULL. */
const struct module *fleet_module_by_identity(const struct fleet *f, const char *identity);

/* Between the files of the fleet: frees what the rows own. */
void module_clear(struct module *m);
void model_entry_clear(struct model_entry *m);

/* How many models use the module. */
uint32_t fleet_users(const struct fleet *f, const char *digest);

/* Sets where a module shall be. */
bool fleet_place(struct fleet *f, struct module *m, const char *const *devices, uint32_t count,
                 const char *reason, struct err *e);

/* Tells a module where to be, whatever the planner thinks; count 0: it is free again. */
bool fleet_pin(struct fleet *f, struct module *m, const char *const *devices, uint32_t count,
               struct err *e);

/* True when every desired device that lives has it loaded: then others may let it go. */
bool fleet_settled(struct fleet *f, const struct module *m);

/* Bytes that the module takes on a device: as measured there, else anywhere, else its file's size;
 * *measured says which. */
uint64_t fleet_memory(const struct fleet *f, const struct module *m, const char *device,
                      bool *measured);
/* ms of one run: as measured there, else by FLOPs or by the ratio of speeds. */
double fleet_run_ms(struct fleet *f, const struct module *m, const struct device *d,
                    bool *measured);

/* How much longer a run takes in service than when it was measured alone, over all devices; 1
 * until there have been enough.  The same for all devices, so that one that has not served yet
 * seems no faster for that. */
double fleet_stretch(const struct module *m);

/* The routing table as it should be now; NULL: no memory.  Its version is 0: the caller compares
 * and numbers it. */
struct table *fleet_table(struct fleet *f, struct err *e);
