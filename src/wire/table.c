/* table.c - routing tables. */
#include "wire/table.h"

#include "base/num.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The counter stands before the struct, so that the struct itself stays plain data. */
struct counted {
    atomic_uint refs;
    struct table table;
};

static struct counted *counted_of(struct table *t)
{
    return (struct counted *)(void *)((char *)t - offsetof(struct counted, table));
}

struct table *table_new(void)
{
    struct counted *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    atomic_init(&c->refs, 1);
    return &c->table;
}

struct table *table_ref(struct table *t)
{
    if (t)
        atomic_fetch_add(&counted_of(t)->refs, 1);
    return t;
}

void table_unref(struct table *t)
{
    if (!t || atomic_fetch_sub(&counted_of(t)->refs, 1) != 1)
        return;
    for (uint32_t i = 0; t->modules && i < t->module_count; i++) {
        free(t->modules[i].replicas);
        json_decref(t->modules[i].dims);
    }
    for (uint32_t i = 0; t->models && i < t->model_count; i++) {
        json_decref(t->models[i].programs);
        free(t->models[i].blobs);
    }
    free(t->devices);
    free(t->modules);
    free(t->models);
    free(t->links);
    free(counted_of(t));
}

static json_t *device_json(const struct table_device *d)
{
    return json_pack("{s:s,s:s,s:s,s:I,s:i,s:f,s:b,s:b}", "id", d->id, "name", d->name, "peer_url",
                     d->peer_url, "memory_bytes", (json_int_t)d->memory_bytes, "lanes",
                     (int)d->lanes, "gflops", d->gflops, "alive", (int)d->alive, "emulated",
                     (int)d->emulated);
}

static json_t *module_json(const struct table_module *m)
{
    json_t *replicas = json_array();
    for (uint32_t i = 0; i < m->replica_count; i++)
        json_array_append_new(
            replicas, json_pack("{s:i,s:f,s:b,s:b}", "device", (int)m->replicas[i].device, "run_ms",
                                m->replicas[i].run_ms, "measured", (int)m->replicas[i].measured,
                                "serving", (int)m->replicas[i].serving));
    return json_pack("{s:s,s:s,s:I,s:I,s:o,s:O*}", "digest", m->digest.hex, "name", m->name,
                     "file_bytes", (json_int_t)m->file_bytes, "memory_bytes",
                     (json_int_t)m->memory_bytes, "replicas", replicas, "dims", m->dims);
}

static json_t *model_json(const struct table_model *m)
{
    json_t *blobs = json_array();
    for (uint32_t i = 0; i < m->blob_count; i++)
        json_array_append_new(blobs, json_string(m->blobs[i].hex));
    return json_pack("{s:s,s:O,s:o}", "name", m->name, "programs", m->programs, "blobs", blobs);
}

json_t *table_to_json(const struct table *t)
{
    json_t *devices = json_array(), *modules = json_array(), *models = json_array(),
           *links = json_array();
    for (uint32_t i = 0; i < t->device_count; i++)
        json_array_append_new(devices, device_json(&t->devices[i]));
    for (uint32_t i = 0; i < t->module_count; i++)
        json_array_append_new(modules, module_json(&t->modules[i]));
    for (uint32_t i = 0; i < t->model_count; i++)
        json_array_append_new(models, model_json(&t->models[i]));
    for (uint32_t i = 0; i < t->link_count; i++)
        json_array_append_new(links, json_pack("{s:i,s:i,s:f,s:f}", "a", (int)t->links[i].a, "b",
                                               (int)t->links[i].b, "latency_ms",
                                               t->links[i].latency_ms, "mbit", t->links[i].mbit));
    return json_pack("{s:I,s:s,s:s,s:b,s:o,s:o,s:o,s:o}", "version", (json_int_t)t->version,
                     "fleet", t->fleet, "coordinator_url", t->coordinator_url, "placing",
                     (int)t->placing, "devices", devices, "modules", modules, "models", models,
                     "links", links);
}

/* ---- reading ------------------------------------------------------------------------------ */

static bool copy_text(const json_t *o, const char *what, const char *key, char *to, size_t size,
                      struct err *e)
{
    const char *text;
    if (!json_need_str(o, what, key, &text, e))
        return false;
    if (strlen(text) >= size)
        return err_set(e, ERR_TOO_LARGE, "%s: '%s' has %zu characters, limit %zu", what, key,
                       strlen(text), size - 1);
    memcpy(to, text, strlen(text) + 1);
    return true;
}

static bool read_digest(const char *text, const char *what, struct digest *ret, struct err *e)
{
    if (!digest_valid(text))
        return err_set(e, ERR_INVALID, "%s: is not a SHA-256 digest", what);
    memcpy(ret->hex, text, sizeof(ret->hex));
    return true;
}

static bool read_device(const json_t *o, struct table_device *d, struct err *e)
{
    static const char what[] = "table: device";
    uint64_t lanes;
    if (!copy_text(o, what, "id", d->id, sizeof(d->id), e) ||
        !copy_text(o, what, "name", d->name, sizeof(d->name), e) ||
        !copy_text(o, what, "peer_url", d->peer_url, sizeof(d->peer_url), e) ||
        !json_need_u64(o, what, "memory_bytes", (uint64_t)1 << 53, &d->memory_bytes, e) ||
        !json_need_u64(o, what, "lanes", 1024, &lanes, e) ||
        !json_need_num(o, what, "gflops", 0, 1e9, &d->gflops, e) ||
        !json_opt_bool(o, what, "alive", &d->alive, e) ||
        !json_opt_bool(o, what, "emulated", &d->emulated, e))
        return false;
    d->lanes = (uint32_t)lanes;
    return true;
}

static bool read_replicas(const json_t *o, uint32_t devices, struct table_module *m, struct err *e)
{
    static const char what[] = "table: replica";
    json_t *list;
    if (!json_need_array(o, what, "replicas", WIRE_DEVICES_MAX, &list, e))
        return false;
    size_t n = json_array_size(list);
    m->replicas = calloc(n ? n : 1, sizeof(*m->replicas));
    if (!m->replicas)
        return err_set(e, ERR_MEMORY, "%s: no memory", what);
    for (size_t i = 0; i < n; i++) {
        const json_t *r = json_array_get(list, i);
        uint64_t device;
        if (!json_need_u64(r, what, "device", devices ? devices - 1 : 0, &device, e) ||
            !json_need_num(r, what, "run_ms", 0, 1e9, &m->replicas[i].run_ms, e) ||
            !json_opt_bool(r, what, "measured", &m->replicas[i].measured, e) ||
            !json_opt_bool(r, what, "serving", &m->replicas[i].serving, e))
            return false;
        if (devices == 0)
            return err_set(e, ERR_INVALID, "%s: on device 0, there are none", what);
        m->replicas[i].device = (uint32_t)device;
        m->replica_count++;
    }
    return true;
}

static bool read_module(const json_t *o, uint32_t devices, struct table_module *m, struct err *e)
{
    static const char what[] = "table: module";
    const char *digest;
    json_t *dims = json_object_get(o, "dims");
    if (dims && (!json_is_object(dims) || json_object_size(dims) > WIRE_DIMS_MAX))
        return err_set(e, ERR_INVALID, "%s: 'dims' should be an object of at most %d", what,
                       WIRE_DIMS_MAX);
    m->dims = json_incref(dims);
    return json_need_str(o, what, "digest", &digest, e) &&
           read_digest(digest, what, &m->digest, e) &&
           copy_text(o, what, "name", m->name, sizeof(m->name), e) &&
           json_need_u64(o, what, "file_bytes", (uint64_t)1 << 53, &m->file_bytes, e) &&
           json_need_u64(o, what, "memory_bytes", (uint64_t)1 << 53, &m->memory_bytes, e) &&
           read_replicas(o, devices, m, e);
}

static bool read_model(const json_t *o, struct table_model *m, struct err *e)
{
    static const char what[] = "table: model";
    json_t *programs, *blobs;
    if (!copy_text(o, what, "name", m->name, sizeof(m->name), e) ||
        !json_need_array(o, what, "programs", WIRE_PROGRAMS_MAX, &programs, e) ||
        !json_need_array(o, what, "blobs", WIRE_BLOBS_MAX, &blobs, e))
        return false;
    m->programs = json_incref(programs);
    m->blobs = calloc(json_array_size(blobs) + 1, sizeof(*m->blobs));
    if (!m->blobs)
        return err_set(e, ERR_MEMORY, "%s: no memory", what);
    for (size_t i = 0; i < json_array_size(blobs); i++, m->blob_count++) {
        const char *text = json_string_value(json_array_get(blobs, i));
        if (!read_digest(text ? text : "", "table: blob", &m->blobs[i], e))
            return false;
    }
    return true;
}

static bool read_link(const json_t *o, uint32_t devices, struct table_link *l, struct err *e)
{
    static const char what[] = "table: link";
    uint64_t a, b;
    if (!json_need_u64(o, what, "a", WIRE_DEVICES_MAX, &a, e) ||
        !json_need_u64(o, what, "b", WIRE_DEVICES_MAX, &b, e) ||
        !json_need_num(o, what, "latency_ms", 0, 1e9, &l->latency_ms, e) ||
        !json_need_num(o, what, "mbit", 1e-6, 1e9, &l->mbit, e))
        return false;
    if (a >= b || b >= devices)
        return err_set(e, ERR_INVALID, "%s: between %d and %d, of %u devices", what, (int)a, (int)b,
                       devices);
    l->a = (uint32_t)a;
    l->b = (uint32_t)b;
    return true;
}

/* A list of `max` rows at most; rows are counted as they are taken, so that a half-read table can
 * be freed. */
static json_t *open_list(const json_t *root, const char *key, size_t max, size_t row, void **ret,
                         struct err *e)
{
    json_t *list;
    if (!json_need_array(root, "table", key, max, &list, e))
        return NULL;
    *ret = calloc(json_array_size(list) + 1, row);
    if (!*ret) {
        err_set(e, ERR_MEMORY, "table: no memory for %zu %s", json_array_size(list), key);
        return NULL;
    }
    return list;
}

static bool read_rows(const json_t *root, struct table *t, struct err *e)
{
    void *rows;
    json_t *list = open_list(root, "devices", WIRE_DEVICES_MAX, sizeof(*t->devices), &rows, e);
    if (!list)
        return false;
    t->devices = rows;
    for (size_t i = 0; i < json_array_size(list); i++, t->device_count++)
        if (!read_device(json_array_get(list, i), &t->devices[i], e))
            return false;
    list = open_list(root, "modules", WIRE_MODULES_MAX, sizeof(*t->modules), &rows, e);
    if (!list)
        return false;
    t->modules = rows;
    for (size_t i = 0; i < json_array_size(list); i++) {
        t->module_count++;
        if (!read_module(json_array_get(list, i), t->device_count, &t->modules[i], e))
            return false;
    }
    list = open_list(root, "models", WIRE_MODELS_MAX, sizeof(*t->models), &rows, e);
    if (!list)
        return false;
    t->models = rows;
    for (size_t i = 0; i < json_array_size(list); i++) {
        t->model_count++;
        if (!read_model(json_array_get(list, i), &t->models[i], e))
            return false;
    }
    list = open_list(root, "links", WIRE_MODULES_MAX * 8, sizeof(*t->links), &rows, e);
    if (!list)
        return false;
    t->links = rows;
    for (size_t i = 0; i < json_array_size(list); i++, t->link_count++)
        if (!read_link(json_array_get(list, i), t->device_count, &t->links[i], e))
            return false;
    return true;
}

struct table *table_from_json(const json_t *root, struct err *e)
{
    struct table *t = table_new();
    if (!t) {
        err_set(e, ERR_MEMORY, "table: no memory");
        return NULL;
    }
    if (!json_need_u64(root, "table", "version", (uint64_t)1 << 53, &t->version, e) ||
        !copy_text(root, "table", "fleet", t->fleet, sizeof(t->fleet), e) ||
        !copy_text(root, "table", "coordinator_url", t->coordinator_url, sizeof(t->coordinator_url),
                   e) ||
        !json_opt_bool(root, "table", "placing", &t->placing, e) || !read_rows(root, t, e)) {
        table_unref(t);
        return NULL;
    }
    return t;
}

/* ---- looking things up -------------------------------------------------------------------- */

const struct table_device *table_find_device(const struct table *t, const char *id)
{
    for (uint32_t i = 0; t && i < t->device_count; i++)
        if (strcmp(t->devices[i].id, id) == 0)
            return &t->devices[i];
    return NULL;
}

const struct table_module *table_find_module(const struct table *t, const char *digest)
{
    for (uint32_t i = 0; t && i < t->module_count; i++)
        if (strcmp(t->modules[i].digest.hex, digest) == 0)
            return &t->modules[i];
    return NULL;
}

const struct table_model *table_find_model(const struct table *t, const char *name)
{
    for (uint32_t i = 0; t && i < t->model_count; i++)
        if (strcmp(t->models[i].name, name) == 0)
            return &t->models[i];
    return NULL;
}

const struct table_link *table_find_link(const struct table *t, uint32_t a, uint32_t b)
{
    uint32_t low = a < b ? a : b, high = a < b ? b : a;
    for (uint32_t i = 0; i < t->link_count; i++)
        if (t->links[i].a == low && t->links[i].b == high)
            return &t->links[i];
    return NULL;
}

bool table_holds(const struct table *t, const char *device_id, const struct table_module *m)
{
    for (uint32_t i = 0; i < m->replica_count; i++)
        if (strcmp(t->devices[m->replicas[i].device].id, device_id) == 0)
            return true;
    return false;
}
