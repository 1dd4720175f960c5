/* fleet_table.c - the routing table out of what is desired and what is so. */
#include "coord/fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool desires(const struct module *m, const char *device)
{
    for (uint32_t i = 0; i < m->desired_count; i++)
        if (strcmp(m->desired[i], device) == 0)
            return true;
    return false;
}

static bool ready_on(const struct device *d, const char *digest)
{
    const struct module_report *r = device_report(d, digest);
    return d->alive && r && r->state == MODULE_READY;
}

bool fleet_settled(struct fleet *f, const struct module *m)
{
    uint32_t living = 0;
    for (uint32_t i = 0; i < m->desired_count; i++) {
        const struct device *d = fleet_device(f, m->desired[i]);
        if (!d || !d->alive)
            continue;
        if (!ready_on(d, m->digest.hex))
            return false;
        living++;
    }
    return living > 0;
}

static bool fill_module(struct fleet *f, const struct module *m, struct table_module *to,
                        struct err *e)
{
    bool done = fleet_settled(f, m), measured;
    to->digest = m->digest;
    (void)snprintf(to->name, sizeof(to->name), "%s", m->name);
    to->file_bytes = m->file_bytes;
    to->memory_bytes = fleet_memory(f, m, NULL, &measured);
    to->dims = json_incref(m->dims);
    to->replicas = calloc(f->device_count + 1, sizeof(*to->replicas));
    if (!to->replicas)
        return err_set(e, ERR_MEMORY, "table: no memory");
    for (uint32_t i = 0; i < f->device_count; i++) {
        const struct device *d = &f->devices[i];
        bool serving = ready_on(d, m->digest.hex);
        if (!desires(m, d->join.id) && (done || !serving))
            continue;
        struct table_replica *r = &to->replicas[to->replica_count++];
        r->device = i;
        r->serving = serving;
        r->run_ms = fleet_run_ms(f, m, d, &r->measured);
    }
    return true;
}

static bool fill_model(const struct model_entry *m, struct table_model *to, struct err *e)
{
    json_t *programs = json_object_get(m->model, "programs");
    json_t *blobs = json_object_get(m->model, "blobs");
    (void)snprintf(to->name, sizeof(to->name), "%s", m->name);
    to->programs = programs ? json_incref(programs) : json_array();
    to->blobs = calloc(json_array_size(blobs) + 1, sizeof(*to->blobs));
    if (!to->blobs)
        return err_set(e, ERR_MEMORY, "table: no memory");
    for (size_t i = 0; i < json_array_size(blobs) && i < WIRE_BLOBS_MAX; i++) {
        const char *digest = json_string_value(json_array_get(blobs, i));
        if (digest_valid(digest))
            memcpy(to->blobs[to->blob_count++].hex, digest, DIGEST_HEX + 1);
    }
    return true;
}

static void fill_device(const struct device *d, struct table_device *to)
{
    (void)snprintf(to->id, sizeof(to->id), "%s", d->join.id);
    (void)snprintf(to->name, sizeof(to->name), "%s", d->join.name);
    (void)snprintf(to->peer_url, sizeof(to->peer_url), "%s", d->join.peer_url);
    to->memory_bytes = d->join.memory_bytes;
    to->lanes = d->join.lanes;
    to->gflops = d->join.gflops;
    to->alive = d->alive;
    to->emulated = d->join.emulate[0] != 0;
}

static void fill_links(struct fleet *f, struct table *t)
{
    for (uint32_t i = 0; i < f->link_count; i++) {
        uint32_t ends[2] = {UINT32_MAX, UINT32_MAX};
        for (uint32_t k = 0; k < f->device_count; k++) {
            if (strcmp(f->devices[k].join.id, f->links[i].a) == 0)
                ends[0] = k;
            if (strcmp(f->devices[k].join.id, f->links[i].b) == 0)
                ends[1] = k;
        }
        if (ends[0] == UINT32_MAX || ends[1] == UINT32_MAX)
            continue;
        t->links[t->link_count++] = (struct table_link){.a = ends[0] < ends[1] ? ends[0] : ends[1],
                                                        .b = ends[0] < ends[1] ? ends[1] : ends[0],
                                                        .latency_ms = f->links[i].latency_ms,
                                                        .mbit = f->links[i].mbit};
    }
}

struct table *fleet_table(struct fleet *f, struct err *e)
{
    struct table *t = table_new();
    if (t) {
        t->devices = calloc(f->device_count + 1, sizeof(*t->devices));
        t->modules = calloc(f->module_count + 1, sizeof(*t->modules));
        t->models = calloc(f->model_count + 1, sizeof(*t->models));
        t->links = calloc(f->link_count + 1, sizeof(*t->links));
    }
    if (!t || !t->devices || !t->modules || !t->models || !t->links) {
        err_set(e, ERR_MEMORY, "table: no memory");
        table_unref(t);
        return NULL;
    }
    (void)snprintf(t->fleet, sizeof(t->fleet), "%s", f->id);
    (void)snprintf(t->coordinator_url, sizeof(t->coordinator_url), "%s", f->url);
    bool ok = true;
    for (uint32_t i = 0; i < f->device_count; i++, t->device_count++)
        fill_device(&f->devices[i], &t->devices[i]);
    for (uint32_t i = 0; ok && i < f->module_count; i++, t->module_count++)
        ok = fill_module(f, &f->modules[i], &t->modules[i], e);
    for (uint32_t i = 0; ok && i < f->model_count; i++)
        ok = model_is_staged(&f->models[i]) ||
             fill_model(&f->models[i], &t->models[t->model_count++], e);
    fill_links(f, t);
    if (!ok) {
        table_unref(t);
        return NULL;
    }
    return t;
}
