/* table.h - the routing table: what a gateway and a node need to work without the coordinator.
 *
 * The coordinator makes it as a whole, with a version that only grows, and pushes it; receivers
 * swap in one step and keep the last one when the coordinator is away.  Immutable and counted once
 * made: any thread.
 *
 * Programs are JSON here (task/program.h reads them): wire knows how they travel, not what they
 * mean. */
#pragma once
#include "base/digest.h"
#include "base/json.h"
#include "wire/limits.h"

#include <stdint.h>

struct table_device {
    char id[WIRE_ID_MAX];
    char name[WIRE_NAME_MAX];
    char peer_url[WIRE_URL_MAX]; /* http://127.0.0.1:40001, of its peer listener */
    uint64_t memory_bytes;       /* budget for modules */
    uint32_t lanes;              /* runs at once */
    double gflops;               /* calibrated */
    bool alive;                  /* as the coordinator last knew */
    bool emulated;
};

/* One copy of a module. */
struct table_replica {
    uint32_t device; /* index in devices */
    double run_ms;   /* one run at batch 1 */
    bool measured;   /* else predicted */
    bool serving;    /* loaded: gateways route to it; else it is on its way */
};

struct table_module {
    struct digest digest;
    char name[WIRE_NAME_MAX]; /* for people: "vision_model" */
    uint64_t file_bytes;
    uint64_t memory_bytes; /* measured, or predicted */
    json_t *dims;          /* {"PORT.INDEX": size} to measure it with; owned */
    struct table_replica *replicas;
    uint32_t replica_count;
};

struct table_model {
    char name[WIRE_NAME_MAX];
    json_t *programs;     /* array of programs, one per task; owned */
    struct digest *blobs; /* side files that programs need on the devices */
    uint32_t blob_count;
};

struct table_link {
    uint32_t a, b; /* indexes in devices, a < b */
    double latency_ms, mbit;
};

struct table {
    uint64_t version;
    char fleet
        [WIRE_ID_MAX]; /* id of the coordinator's state: versions of another fleet don't compare */
    char coordinator_url[WIRE_URL_MAX];
    bool
        placing; /* a device came or went: places are being worked out, a table with them follows */
    struct table_device *devices;
    uint32_t device_count;
    struct table_module *modules;
    uint32_t module_count;
    struct table_model *models;
    uint32_t model_count;
    struct table_link *links;
    uint32_t link_count;
};

struct table *table_new(void); /* empty, one reference; NULL: out of memory */
struct table *table_ref(struct table *t);
void table_unref(struct table *t);

json_t *table_to_json(const struct table *t);
/* A new table with one reference; NULL on failure. */
struct table *table_from_json(const json_t *root, struct err *e);

const struct table_device *table_find_device(const struct table *t, const char *id);
const struct table_module *table_find_module(const struct table *t, const char *digest);
const struct table_model *table_find_model(const struct table *t, const char *name);
/* The measured link, or NULL: none known (or a device to itself). */
const struct table_link *table_find_link(const struct table *t, uint32_t a, uint32_t b);
/* Does this device hold (or has it to hold) the module? */
bool table_holds(const struct table *t, const char *device_id, const struct table_module *m);
