/* add.c - adding and removing models, and uploads before that.
 *
 * add: read the graphs, work out the programs, write the model down, have its new modules measured
 * on a device, plan, publish, wait until they serve.  A model that finds no place is taken out
 * again. */
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "base/parse.h"
#include "coord/internal.h"
#include "onnx/onnx.h"
#include "task/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES_MAX 64
#define SIDE_FILE_MAX ((size_t)64 << 20)
#define MEASURE_MS 300000
#define SERVE_MS 180000
#define UPLOAD_KEPT_S 3600 /* files that no model uses are spared that long: an add may be coming */
#define MODEL_NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"

/* A model that is being added. */
struct adding {
    struct coord *coord;
    char name[WIRE_NAME_MAX];
    struct model_source source;
    char *texts[FILES_MAX]; /* side files, owned */
    int text_count;
    struct onnx *graphs[MODEL_GRAPHS_MAX];
    char names[MODEL_GRAPHS_MAX][WIRE_NAME_MAX];
    struct module modules[MODEL_GRAPHS_MAX];
    json_t *model;
};

/* ---- files -------------------------------------------------------------------------------------- */

static bool uploaded(struct adding *a, const char *path, const char *digest, struct err *e)
{
    return blobs_has(a->coord->blobs, digest) ||
           err_set(e, ERR_NOT_FOUND, "%.100s: no file of digest %s was uploaded", path, digest);
}

struct side_row {
    const char *path;
    size_t offset;
};

static const struct side_row side_rows[] = {
    {"config.json", offsetof(struct model_source, config)},
    {"preprocessor_config.json", offsetof(struct model_source, preprocessor)},
    {"processor_config.json", offsetof(struct model_source, preprocessor)},
    {"tokenizer.json", offsetof(struct model_source, tokenizer)},
    {"generation_config.json", offsetof(struct model_source, generation)},
    {"s2m3.json", offsetof(struct model_source, s2m3)},
};

static bool load_side_file(struct adding *a, const char *path, const char *digest, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(side_rows); i++) {
        struct model_file *f =
            (struct model_file *)(void *)((char *)&a->source + side_rows[i].offset);
        char *text;
        size_t size;
        if (strcmp(side_rows[i].path, path) != 0 || f->text)
            continue;
        if (!uploaded(a, path, digest, e))
            return false;
        if (!blobs_load(a->coord->blobs, digest, SIDE_FILE_MAX, &text, &size, e))
            return err_prefix(e, "%s", path);
        a->texts[a->text_count++] = text;
        f->text = text;
        f->size = size;
        memcpy(f->digest.hex, digest, sizeof(f->digest.hex));
        return true;
    }
    return true; /* another file of the folder: not needed */
}

static uint64_t outputs_bytes(const struct port *ports, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t n = dtype_size(ports[i].dtype);
        for (int d = 0; d < ports[i].shape.rank; d++) {
            int64_t dim = ports[i].shape.dims[d];
            if (__builtin_mul_overflow(n,
                                       (uint64_t)(dim > 0  ? dim
                                                  : d == 0 ? 1
                                                           : 16),
                                       &n) ||
                n > TENSOR_BYTES_MAX)
                return TENSOR_BYTES_MAX;
        }
        sum += n;
    }
    return sum;
}

static bool describe(struct adding *a, int index, const char *path, const char *digest,
                     struct err *e)
{
    struct onnx *o = a->graphs[index];
    struct model_graph *g = &a->source.graphs[index];
    struct module *m = &a->modules[index];
    size_t in, out;
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    (void)snprintf(a->names[index], WIRE_NAME_MAX, "%.*s", (int)(strlen(base) - strlen(".onnx")),
                   base);
    g->name = a->names[index];
    memcpy(g->digest.hex, digest, sizeof(g->digest.hex));
    g->inputs = onnx_inputs(o, &in);
    g->outputs = onnx_outputs(o, &out);
    if (in > MODEL_PORTS_MAX || out > MODEL_PORTS_MAX || in == 0 || out == 0)
        return err_set(e, ERR_UNSUPPORTED, "%s: %zu inputs and %zu outputs, should be 1 to %d",
                       path, in, out, MODEL_PORTS_MAX);
    g->input_count = (int)in;
    g->output_count = (int)out;
    m->digest = g->digest;
    memcpy(m->name, a->names[index], sizeof(m->name));
    double flops = onnx_flops(o, NULL, 0);
    m->gflop = flops > 0 ? flops / 1e9 : 0;
    m->output_bytes = outputs_bytes(g->outputs, out);
    return onnx_weight_bytes(o, &m->weight_bytes, e) &&
           blobs_size(a->coord->blobs, digest, &m->file_bytes, e);
}

static bool open_graph(struct adding *a, const char *path, const char *digest, struct err *e)
{
    char *folder;
    int index = a->source.graph_count;
    if (index >= MODEL_GRAPHS_MAX)
        return err_set(e, ERR_TOO_LARGE, "%s: more than %d .onnx files", a->name, MODEL_GRAPHS_MAX);
    if (!uploaded(a, path, digest, e))
        return false;
    if (!blobs_module_folder(a->coord->blobs, digest, &folder, e))
        return err_prefix(e, "%s", path);
    char *file = text_format("%s/module.onnx", folder);
    bool ok = file && onnx_open(file, &a->graphs[index], e);
    free(file);
    free(folder);
    if (!ok)
        return err_prefix(e, "%s", path);
    a->source.graph_count++;
    return describe(a, index, path, digest, e);
}

static bool load_files(struct adding *a, json_t *files, struct err *e)
{
    for (size_t i = 0; i < json_array_size(files); i++) {
        const json_t *row = json_array_get(files, i);
        const char *path, *digest;
        if (!json_need_str(row, "file", "path", &path, e) ||
            !json_need_str(row, "file", "digest", &digest, e))
            return false;
        size_t n = strlen(path);
        if (!digest_valid(digest) || n == 0 || n > 255)
            return err_set(e, ERR_INVALID, "file '%.80s': bad digest or name", path);
        bool graph = n > 5 && strcmp(path + n - 5, ".onnx") == 0;
        if (!(graph ? open_graph(a, path, digest, e) : load_side_file(a, path, digest, e)))
            return false;
    }
    return true;
}

static void clear_adding(struct adding *a)
{
    for (int i = 0; i < MODEL_GRAPHS_MAX; i++)
        onnx_close(a->graphs[i]);
    for (int i = 0; i < a->text_count; i++)
        free(a->texts[i]);
    json_decref(a->model);
    free(a);
}

/* ---- measuring ---------------------------------------------------------------------------------- */

/* The living device with the most memory: modules are measured there before they have a place. */
static bool measuring_device(struct coord *c, char *id, char *url)
{
    const struct device *best = NULL;
    monitor_lock(&c->lock);
    for (uint32_t i = 0; i < c->fleet.device_count; i++) {
        const struct device *d = &c->fleet.devices[i];
        if (d->alive && (!best || d->join.memory_bytes > best->join.memory_bytes))
            best = d;
    }
    if (best) {
        memcpy(id, best->join.id, WIRE_ID_MAX);
        memcpy(url, best->join.peer_url, WIRE_URL_MAX);
    }
    monitor_unlock(&c->lock);
    return best != NULL;
}

static bool ask_measure(struct coord *c, const char *url, const char *digest, json_t *dims,
                        struct module_report *ret, struct err *e)
{
    char address[WIRE_URL_MAX + 32];
    (void)snprintf(address, sizeof(address), "%s/s2m3/v1/measure", url);
    json_t *question = json_pack("{s:s,s:O*}", "digest", digest, "dims", dims);
    char *body = json_text(question);
    json_decref(question);
    if (!body)
        return err_set(e, ERR_MEMORY, "coordinator: no memory");
    struct net_header type = {"Content-Type", "application/json"};
    struct net_part part = {body, strlen(body)};
    struct net_call call = {.method = "POST",
                            .url = address,
                            .headers = &type,
                            .header_count = 1,
                            .parts = &part,
                            .part_count = 1,
                            .deadline_ns = clock_deadline_ms(MEASURE_MS),
                            .max_response = 1u << 20};
    struct net_answer answer;
    bool sent = net_call(c->client, &call, &answer, e);
    free(body);
    if (!sent)
        return false;
    json_t *o =
        net_answer_err(&answer, e) ? json_parse("measure", answer.body, answer.size, e) : NULL;
    net_answer_clear(&answer);
    bool ok = o && module_report_read(o, ret, e);
    json_decref(o);
    return ok;
}

static bool measure_new(struct adding *a, struct err *e)
{
    struct coord *c = a->coord;
    char id[WIRE_ID_MAX], url[WIRE_URL_MAX];
    if (!measuring_device(c, id, url))
        return err_set(e, ERR_NO_PLACE, "model '%s': no device is alive to measure and hold it",
                       a->name);
    for (int i = 0; i < a->source.graph_count; i++) {
        struct module *m = &a->modules[i];
        bool measured;
        monitor_lock(&c->lock);
        (void)fleet_memory(&c->fleet, m, NULL, &measured);
        monitor_unlock(&c->lock);
        struct module_report r;
        if (measured)
            continue;
        if (!ask_measure(c, url, m->digest.hex,
                         json_object_get(json_object_get(a->model, "dims"), m->digest.hex), &r, e))
            return err_prefix(e, "%s.onnx can't be run", m->name);
        monitor_lock(&c->lock);
        bool ok = !r.measured || fleet_put_profile(&c->fleet, m->digest.hex, id, &r, e);
        monitor_unlock(&c->lock);
        if (!ok)
            return false;
    }
    return true;
}

/* The files are the model's from now on: when it is removed, they may go at once. */
static void mark_used(struct coord *c, const json_t *files)
{
    for (size_t i = 0; i < json_array_size(files); i++) {
        const json_t *digest = json_object_get(json_array_get(files, i), "digest");
        blobs_touch(c->blobs, json_string_value(digest), false);
    }
}

/* ---- adding --------------------------------------------------------------------------------------- */

static bool read_manifest(struct adding *a, json_t *o, json_t **files, struct err *e)
{
    const char *name;
    if (!json_need_str(o, "model", "name", &name, e) ||
        !json_need_array(o, "model", "files", FILES_MAX, files, e))
        return false;
    size_t n = strlen(name);
    /* "." and ".." can't be said in a path of a URL, and "-x" not on a command line. */
    if (n == 0 || n >= sizeof(a->name) || strspn(name, MODEL_NAME_CHARS) != n || *name == '.' ||
        *name == '-')
        return err_set(e, ERR_INVALID,
                       "model name '%.80s': should be 1 to %zu letters, digits, '-', '_' or '.', "
                       "the first no '-' or '.'",
                       name, sizeof(a->name) - 1);
    memcpy(a->name, name, n + 1);
    a->source.name = a->name;
    return true;
}

static bool enter(struct adding *a, struct err *e)
{
    struct coord *c = a->coord;
    monitor_lock(&c->lock);
    bool ok = fleet_add_model(&c->fleet, a->name, json_incref(a->model), a->modules,
                              (uint32_t)a->source.graph_count, e);
    if (ok && !coord_plan(c, true, false, e)) {
        ok = false;
        (void)fleet_remove_model(&c->fleet, a->name, NULL);
    }
    if (ok)
        coord_touch(c);
    monitor_unlock(&c->lock);
    return ok;
}

/* Every module of the model ready on a living device; a failed load ends the wait with its reason. */
static bool serves(struct coord *c, const struct model_entry *m, struct err *e)
{
    bool all = true;
    for (uint32_t i = 0; i < m->module_count; i++) {
        const struct module *x = fleet_module(&c->fleet, m->modules[i].hex);
        bool ready = false;
        for (uint32_t k = 0; x && k < x->desired_count; k++) {
            const struct device *d = fleet_device(&c->fleet, x->desired[k]);
            const struct module_report *r = d ? device_report(d, m->modules[i].hex) : NULL;
            ready = ready || (r && r->state == MODULE_READY);
            if (r && r->state == MODULE_FAILED)
                err_set(e, ERR_UNSUPPORTED, "%s on %s: %s", x->name, d->join.name, r->error);
        }
        all = all && ready;
    }
    return all;
}

static bool wait_served(struct adding *a, struct err *e)
{
    struct coord *c = a->coord;
    int64_t end = clock_deadline_ms(SERVE_MS);
    bool ok = false;
    *e = (struct err){0};
    monitor_lock(&c->lock);
    for (;;) {
        const struct model_entry *m = fleet_model(&c->fleet, a->name);
        ok = m && serves(c, m, e);
        if (ok || !m || e->text[0] || c->stop || clock_now_ns() >= end)
            break;
        (void)monitor_wait(&c->lock, clock_deadline_ms(50));
    }
    monitor_unlock(&c->lock);
    if (ok)
        coord_publish(c); /* the table in which they serve, before the answer */
    return ok || (e->text[0] ? false
                             : err_set(e, ERR_TIMEOUT, "model '%s': is not loaded after %d s",
                                       a->name, SERVE_MS / 1000));
}

static json_t *report(struct adding *a)
{
    struct coord *c = a->coord;
    json_t *modules = json_array();
    monitor_lock(&c->lock);
    for (int i = 0; i < a->source.graph_count; i++) {
        const struct module *m = fleet_module(&c->fleet, a->modules[i].digest.hex);
        json_t *others = json_array(), *devices = json_array();
        bool measured = false;
        for (uint32_t k = 0; m && k < c->fleet.model_count; k++)
            for (uint32_t n = 0; n < c->fleet.models[k].module_count; n++)
                if (strcmp(c->fleet.models[k].modules[n].hex, m->digest.hex) == 0 &&
                    strcmp(c->fleet.models[k].name, a->name) != 0) {
                    json_array_append_new(others, json_string(c->fleet.models[k].name));
                    break;
                }
        for (uint32_t k = 0; m && k < m->desired_count; k++) {
            const struct device *d = fleet_device(&c->fleet, m->desired[k]);
            json_array_append_new(devices, json_string(d ? d->join.name : m->desired[k]));
        }
        json_array_append_new(
            modules,
            json_pack("{s:s,s:s,s:I,s:o,s:o,s:s}", "digest", a->modules[i].digest.hex, "name",
                      a->modules[i].name, "memory_bytes",
                      (json_int_t)(m ? fleet_memory(&c->fleet, m, NULL, &measured) : 0),
                      "shared_with", others, "devices", devices, "reason", m ? m->reason : ""));
    }
    const struct model_entry *m = fleet_model(&c->fleet, a->name);
    json_t *o =
        json_pack("{s:o*,s:o}", "model", m ? coord_model_json(c, m) : NULL, "modules", modules);
    monitor_unlock(&c->lock);
    return o;
}

static bool add(struct adding *a, json_t *manifest, struct err *e)
{
    struct coord *c = a->coord;
    json_t *files;
    if (!read_manifest(a, manifest, &files, e))
        return false;
    monitor_lock(&c->lock);
    bool known = fleet_model(&c->fleet, a->name) != NULL;
    monitor_unlock(&c->lock);
    if (known)
        return err_set(e, ERR_EXISTS, "model '%s': there is one already; remove it first", a->name);
    if (!load_files(a, files, e) || !model_deduce(&a->source, &a->model, e) || !measure_new(a, e) ||
        !enter(a, e))
        return false;
    if (wait_served(a, e)) {
        mark_used(c, files);
        return true;
    }
    monitor_lock(&c->lock);
    (void)fleet_remove_model(&c->fleet, a->name, NULL);
    coord_touch(c);
    monitor_unlock(&c->lock);
    return false;
}

void coord_handle_add(struct net_request *r, void *coord)
{
    struct coord *c = coord;
    struct err e = {0};
    size_t size;
    const void *data = net_request_body(r, &size);
    json_t *manifest = json_parse("model", data, size, &e);
    struct adding *a = manifest ? calloc(1, sizeof(*a)) : NULL;
    if (!a) {
        json_decref(manifest);
        if (manifest)
            err_set(&e, ERR_MEMORY, "coordinator: no memory");
        net_reply_err(r, &e);
        return;
    }
    a->coord = c;
    (void)pthread_mutex_lock(&c->change);
    bool ok = add(a, manifest, &e);
    (void)pthread_mutex_unlock(&c->change);
    if (ok)
        net_reply_json(r, 200, report(a));
    else
        net_reply_err(r, &e);
    clear_adding(a);
    json_decref(manifest);
}

/* ---- removing and uploading ------------------------------------------------------------------------ */

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

/* What no model uses is spared while it is young: it may be uploaded for a model to come. */
static bool keep_blob(void *ctx, const char *digest, int64_t age_s)
{
    const struct fleet *f = ctx;
    for (uint32_t i = 0; i < f->model_count; i++)
        if (lists(f->models[i].model, "modules", digest) ||
            lists(f->models[i].model, "blobs", digest))
            return true;
    return age_s < UPLOAD_KEPT_S;
}

void coord_handle_remove(struct net_request *r, void *coord)
{
    struct coord *c = coord;
    struct err e = {0};
    const char *name = net_request_param(r, "name");
    (void)pthread_mutex_lock(&c->change);
    monitor_lock(&c->lock);
    bool ok = fleet_remove_model(&c->fleet, name, &e);
    if (ok)
        coord_touch(c);
    monitor_unlock(&c->lock);
    if (ok) {
        coord_publish(c);
        monitor_lock(&c->lock);
        (void)blobs_sweep(c->blobs, keep_blob, &c->fleet);
        (void)blobs_sweep_modules(c->blobs, keep_blob, &c->fleet);
        monitor_unlock(&c->lock);
    }
    (void)pthread_mutex_unlock(&c->change);
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
    struct err e = {0};
    if (upload(coord, r, &e))
        net_reply_json(r, 200, json_object());
    else
        net_reply_err(r, &e);
}
