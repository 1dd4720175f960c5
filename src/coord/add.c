/* add.c - adding and removing models, and uploads before that. */
#include "base/log.h"
#include "base/parse.h"
#include "coord/change.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UPLOAD_KEPT_S 3600 /* files that no model uses are spared that long: an add may be coming */
#define UPLOAD_KEPT_FULL_S 60 /* the same where the disk took no more: what failed makes room */
#define TOLERANCE_MAX 1e30
#define MODEL_NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"

/* The files are the model's from now on: when it is removed, they may go at once. */
static void mark_used(struct coord *c, const json_t *files)
{
    for (size_t i = 0; i < json_array_size(files); i++) {
        const json_t *digest = json_object_get(json_array_get(files, i), "digest");
        blobs_touch(c->blobs, json_string_value(digest), false);
    }
}

/* ---- adding --------------------------------------------------------------------------------------- */

static bool read_manifest(struct change *x, json_t *o, const char **name, json_t **files,
                          struct err *e)
{
    if (!json_need_str(o, "model", "name", name, e) ||
        !json_need_array(o, "model", "files", GIVEN_FILES_MAX, files, e) ||
        !json_opt_num(o, "model", "tolerance", 0, TOLERANCE_MAX, &x->tolerance, e) ||
        !json_opt_bool(o, "model", "whole", &x->whole, e))
        return false;
    x->pins = json_object_get(o, "pins");
    size_t n = strlen(*name);
    /* "." and ".." can't be said in a path of a URL, and "-x" not on a command line. */
    if (n == 0 || n >= WIRE_NAME_MAX - 1 || strspn(*name, MODEL_NAME_CHARS) != n || **name == '.' ||
        **name == '-')
        return err_set(e, ERR_INVALID,
                       "model name '%.80s': should be 1 to %d letters, digits, '-', '_' or '.', "
                       "the first no '-' or '.'",
                       *name, WIRE_NAME_MAX - 2);
    return true;
}

static json_t *module_report_of(struct coord *c, const char *name, const struct module *m)
{
    json_t *others = json_array(), *devices = json_array();
    bool measured = false;
    for (uint32_t k = 0; k < c->fleet.model_count; k++)
        for (uint32_t n = 0; n < c->fleet.models[k].module_count; n++)
            if (strcmp(c->fleet.models[k].modules[n].hex, m->digest.hex) == 0 &&
                strcmp(c->fleet.models[k].name, name) != 0) {
                json_array_append_new(others, json_string(c->fleet.models[k].name));
                break;
            }
    for (uint32_t k = 0; k < m->desired_count; k++) {
        const struct device *d = fleet_device(&c->fleet, m->desired[k]);
        json_array_append_new(devices, json_string(d ? d->join.name : m->desired[k]));
    }
    return json_pack("{s:s,s:s,s:I,s:o,s:o,s:s}", "digest", m->digest.hex, "name", m->name,
                     "memory_bytes", (json_int_t)fleet_memory(&c->fleet, m, NULL, &measured),
                     "shared_with", others, "devices", devices, "reason", m->reason);
}

static json_t *report(struct change *x, const char *name)
{
    struct coord *c = x->coord;
    json_t *modules = json_array(), *moved = json_array();
    monitor_lock(&c->lock);
    const struct model_entry *m = fleet_model(&c->fleet, name);
    for (uint32_t i = 0; m && i < m->module_count; i++) {
        const struct module *module = fleet_module(&c->fleet, m->modules[i].hex);
        if (module)
            json_array_append_new(modules, module_report_of(c, name, module));
    }
    for (int i = 1; i < x->count; i++)
        if (x->moves[i])
            json_array_append_new(moved, json_string(x->given[i]->name));
    json_t *o =
        json_pack("{s:o*,s:o,s:o,s:s,s:O}", "model", m ? coord_model_json(c, m) : NULL, "modules",
                  modules, "moved", moved, "note", x->note, "uncompared", x->left_out);
    monitor_unlock(&c->lock);
    return o;
}

static bool add(struct change *x, json_t *manifest, const char **name, struct err *e)
{
    struct coord *c = x->coord;
    json_t *files;
    if (!read_manifest(x, manifest, name, &files, e))
        return false;
    monitor_lock(&c->lock);
    bool known = fleet_model(&c->fleet, *name) != NULL;
    bool pins = pins_check(c, x->pins, e);
    monitor_unlock(&c->lock);
    if (!pins)
        return false;
    if (known)
        return err_set(e, ERR_EXISTS, "model '%s': there is one already; remove it first", *name);
    if (!change_add(x, *name, files, e))
        return false;
    mark_used(c, files);
    return true;
}

/* ---- files that no model uses --------------------------------------------------------------- */

static bool lists(const json_t *model, const char *key, const char *digest)
{
    const json_t *list = json_object_get(model, key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name && strcmp(name, digest) == 0)
            return true;
    }
    return false;
}

static bool lists_file(const json_t *model, const char *digest)
{
    const json_t *files = json_object_get(model, "files");
    for (size_t i = 0; i < json_array_size(files); i++) {
        const char *own = json_string_value(json_object_get(json_array_get(files, i), "digest"));
        if (own && strcmp(own, digest) == 0)
            return true;
    }
    return false;
}

struct keeping {
    const struct fleet *fleet;
    int64_t spare_s;
};

/* What no model uses is spared while it is young: it may be uploaded for a model to come. */
static bool keep_blob(void *ctx, const char *digest, int64_t age_s)
{
    const struct keeping *k = ctx;
    const struct fleet *f = k->fleet;
    for (uint32_t i = 0; i < f->model_count; i++)
        if (lists(f->models[i].model, "modules", digest) ||
            lists(f->models[i].model, "blobs", digest) || lists_file(f->models[i].model, digest))
            return true;
    return age_s < k->spare_s;
}

/* Held: c->change. */
static void sweep_files(struct coord *c, int64_t spare_s)
{
    monitor_lock(&c->lock);
    struct keeping k = {&c->fleet, spare_s};
    (void)blobs_sweep(c->blobs, keep_blob, &k);
    (void)blobs_sweep_modules(c->blobs, keep_blob, &k);
    monitor_unlock(&c->lock);
}

/* ---- the request ------------------------------------------------------------------------------ */

void coord_handle_add(struct net_request *r, void *coord)
{
    struct coord *c = coord;
    struct err e = {0};
    size_t size;
    const char *name;
    const void *data = net_request_body(r, &size);
    json_t *manifest = json_parse("model", data, size, &e);
    struct change *x = manifest ? change_new(c) : NULL;
    if (!x) {
        json_decref(manifest);
        if (manifest)
            err_set(&e, ERR_MEMORY, "coordinator: no memory");
        net_reply_err(r, &e);
        return;
    }
    (void)pthread_mutex_lock(&c->change);
    bool ok = add(x, manifest, &name, &e);
    if (!ok && e.code == ERR_IO)
        sweep_files(c, UPLOAD_KEPT_FULL_S);
    (void)pthread_mutex_unlock(&c->change);
    if (ok)
        net_reply_json(r, 200, report(x, name));
    else
        net_reply_err(r, &e);
    change_free(x);
    json_decref(manifest);
}

/* ---- removing and uploading ------------------------------------------------------------------------ */

/* *constants: what the model had (coord/kin.h); NULL: not known; free(). */
static bool remove_model(struct coord *c, const char *name, char **constants, struct err *e)
{
    monitor_lock(&c->lock);
    const struct model_entry *m = fleet_model(&c->fleet, name);
    const char *text = m ? json_string_value(json_object_get(m->model, "constants")) : NULL;
    *constants = text ? strdup(text) : NULL;
    bool ok = *name != STAGE_MARK ? fleet_remove_model(&c->fleet, name, e)
                                  : err_set(e, ERR_NOT_FOUND, "model '%.80s': there is none", name);
    if (ok)
        coord_ask_plan(c, "model %s removed", name);
    monitor_unlock(&c->lock);
    if (ok)
        coord_publish(c);
    return ok;
}

/* The model is gone; that others become whole again may fail without harm. */
static void merge(struct coord *c, const char *constants)
{
    struct err e;
    struct change *x = change_new(c);
    if (!x)
        return;
    if (!change_merge(x, constants, &e))
        log_debug("coord", "after a removal: %s", e.text);
    change_free(x);
}

void coord_handle_remove(struct net_request *r, void *coord)
{
    struct coord *c = coord;
    struct err e = {0};
    const char *name = net_request_param(r, "name");
    (void)pthread_mutex_lock(&c->change);
    char *constants;
    bool ok = remove_model(c, name, &constants, &e);
    if (ok) {
        merge(c, constants);
        sweep_files(c, UPLOAD_KEPT_S);
    }
    (void)pthread_mutex_unlock(&c->change);
    free(constants);
    if (ok)
        net_reply_json(r, 200, json_pack("{s:s}", "removed", name));
    else
        net_reply_err(r, &e);
}

void coord_handle_have(struct net_request *r, void *coord)
{
    struct coord *c = coord;
    struct err e = {0};
    const char *digest = net_request_param(r, "digest");
    struct blob_transfer *t;
    uint64_t have = 0;
    if (blobs_has(c->blobs, digest)) {
        blobs_touch(c->blobs, digest, true);
        bool ok = blobs_size(c->blobs, digest, &have, &e);
        net_reply_json(r, ok ? 200 : 500,
                       json_pack("{s:I,s:b}", "have", (json_int_t)have, "complete", 1));
    } else if (blobs_begin(c->blobs, digest, &t, &have, &e)) {
        blob_abandon(t);
        net_reply_json(r, 200, json_pack("{s:I,s:b}", "have", (json_int_t)have, "complete", 0));
    } else {
        net_reply_err(r, &e);
    }
}

static bool upload(struct coord *c, struct net_request *r, struct err *e)
{
    const char *digest = net_request_param(r, "digest"), *at = net_request_query(r, "offset");
    const char *last_text = net_request_query(r, "last");
    uint64_t offset = 0, have, last = 0;
    struct blob_transfer *t;
    size_t size;
    const void *data = net_request_body(r, &size);
    if ((at && !parse_u64("offset", at, 0, BLOB_BYTES_MAX, &offset, e)) ||
        (last_text && !parse_u64("last", last_text, 0, 1, &last, e)))
        return false;
    if (blobs_has(c->blobs, digest)) {
        blobs_touch(c->blobs, digest, true);
        return true;
    }
    if (!blobs_begin(c->blobs, digest, &t, &have, e))
        return false;
    bool ok = have == offset || err_set(e, ERR_INVALID, "upload: offset %llu, %llu bytes are there",
                                        (unsigned long long)offset, (unsigned long long)have);
    ok = ok && blob_append(t, data, size, e);
    if (ok && last)
        return blob_commit(t, e);
    blob_abandon(t);
    return ok;
}

void coord_handle_upload(struct net_request *r, void *coord)
{
    struct coord *c = coord;
    struct err e = {0};
    bool ok = upload(c, r, &e);
    /* While a model is added or removed the files are that one's matter. */
    if (!ok && e.code == ERR_IO && pthread_mutex_trylock(&c->change) == 0) {
        sweep_files(c, UPLOAD_KEPT_FULL_S);
        (void)pthread_mutex_unlock(&c->change);
    }
    if (ok)
        net_reply_json(r, 200, json_object());
    else
        net_reply_err(r, &e);
}
