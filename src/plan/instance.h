/* instance.h - a placement problem as numbers: devices, links, modules, models, requests.
 *
 * Format and meaning are those of the instance format (docs: plan-instance); what was read has been
 * checked, so the rest of the folder trusts it.
 *
 * Units: ms, bytes, Mbit/s, GFLOP, GFLOP/s.  Bytes are doubles: whole and at most 2^53 each; their
 * sums are exact as long as they are within any device's memory.
 * Ownership: plan_instance_free() frees all.  Threads: read-only after reading. */
#pragma once
#include "base/json.h"

#include <math.h>

#define PLAN_DEVICES_MAX 4096u
#define PLAN_MODULES_MAX 65536u
#define PLAN_MODELS_MAX 65536u
#define PLAN_REQUESTS_MAX 65536u
#define PLAN_CALLS_MAX 4096u          /* of one model */
#define PLAN_RUN_CELLS_MAX (1u << 25) /* modules x devices: 256 MiB of run times */
#define PLAN_LANES_MAX 1024
#define PLAN_BYTES_MAX 9007199254740992.0 /* 2^53 */
#define PLAN_FILE_MAX ((size_t)512 << 20)
#define PLAN_NO_LINK UINT32_MAX

enum plan_objective { PLAN_LATENCY, PLAN_BURST, PLAN_LOAD };

struct plan_device {
    char *name; /* owned, as all names here */
    double memory_bytes;
    uint32_t lanes;
    double gflops; /* 0: not known */
};

struct plan_link {
    double latency_ms, mbit;
    double ms_per_byte;
};

struct plan_module {
    char *name;
    double memory_bytes, output_bytes;
    double gflop; /* negative: not known */
};

struct plan_call {
    char *id;
    uint32_t module;
    uint32_t slot; /* which of the model's modules: all calls of a module share their device */
    bool from_source;
    uint32_t from_first, from_count; /* in plan_model.from: earlier calls */
    uint32_t next_first, next_count; /* in plan_model.next: the calls that it feeds */
};

struct plan_model {
    char *name;
    struct plan_call *calls; /* in topological order */
    uint32_t call_count;
    uint32_t *from, *next;
    uint32_t *modules; /* by slot: distinct modules in order of their first call */
    uint32_t slot_count;
    bool answer_at_source;
};

struct plan_request {
    uint32_t model, source;
    double weight, rate_per_s, answer_bytes;
    double *input_bytes, *runs; /* by call */
};

struct plan_instance {
    char *name; /* "" if none was given */
    enum plan_objective objective;
    bool replicas;
    uint32_t device_count, module_count, model_count, request_count, link_count;
    struct plan_device *devices;
    struct plan_module *modules;
    struct plan_model *models;
    struct plan_request *requests;
    struct plan_link *links;
    uint32_t *link_of; /* device_count x device_count: index in links or PLAN_NO_LINK */
    double *run_ms;    /* module_count x device_count: one run; INFINITY: can't run there */
};

/* Every failure is ERR_INVALID (or ERR_MEMORY); the text says what is wrong and where. */
bool plan_instance_read(const json_t *o, struct plan_instance **ret, struct err *e);
void plan_instance_free(struct plan_instance *in); /* accepts NULL and what is half read */

const char *plan_objective_name(enum plan_objective objective);

/* Sending bytes from device a to b, in ms; INFINITY when they can't talk. */
static inline double plan_tau(const struct plan_instance *in, uint32_t a, uint32_t b, double bytes)
{
    if (a == b)
        return 0;
    uint32_t i = in->link_of[(size_t)a * in->device_count + b];
    if (i == PLAN_NO_LINK)
        return INFINITY;
    return in->links[i].latency_ms + bytes * in->links[i].ms_per_byte;
}

static inline double plan_run(const struct plan_instance *in, uint32_t module, uint32_t device)
{
    return in->run_ms[(size_t)module * in->device_count + device];
}

/* Whether the module can run on the device at all and fits there alone. */
static inline bool plan_may(const struct plan_instance *in, uint32_t module, uint32_t device)
{
    return isfinite(plan_run(in, module, device)) &&
           in->modules[module].memory_bytes <= in->devices[device].memory_bytes;
}
