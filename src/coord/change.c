/* change.c - the steps of a change. */
#include "coord/change.h"
#include "coord/kin.h"

#include "base/clock.h"
#include "base/log.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERVE_MS 180000
#define TABLE_MS 10000

/* In builds with assertions, the process dies at the step that S2M3_FAULT names: a test holds that
 * the registry is whole whatever the step. */
static void step(const char *name)
{
#ifndef NDEBUG
    const char *at = getenv("S2M3_FAULT");
    if (at && strcmp(at, name) == 0)
        (void)raise(SIGKILL);
#else
    (void)name;
#endif
}

/* ---- reading -------------------------------------------------------------------------------- */

/* The models of the registry that can be cut again, copied out of the lock. */
static json_t *registry(struct coord *c)
{
    json_t *list = json_array();
    monitor_lock(&c->lock);
    for (uint32_t i = 0; i < c->fleet.model_count; i++) {
        const json_t *model = c->fleet.models[i].model;
        json_t *files = json_object_get(model, "files");
        if (json_is_array(files))
            json_array_append_new(list,
                                  json_pack("{s:s,s:o,s:b,s:O*}", "name", c->fleet.models[i].name,
                                            "files", json_deep_copy(files), "whole",
                                            json_is_true(json_object_get(model, "whole")),
                                            "constants", json_object_get(model, "constants")));
    }
    monitor_unlock(&c->lock);
    return list;
}

static int graphs_of(const json_t *row)
{
    const json_t *files = json_object_get(row, "files");
    int n = 0;
    for (size_t i = 0; i < json_array_size(files); i++) {
        const char *path = json_string_value(json_object_get(json_array_get(files, i), "path"));
        n += path && given_is_graph(path);
    }
    return n;
}

static bool read_one(struct change *x, const json_t *row, struct err *e)
{
    const char *name = json_string_value(json_object_get(row, "name"));
    if (!given_read(x->coord, name, json_object_get(row, "files"), &x->given[x->count], e))
        return err_prefix(e, "%s", name);
    x->given[x->count++]->source.whole = json_is_true(json_object_get(row, "whole"));
    return true;
}

/* Reads those of the others that have weights in common with these constants (coord/kin.h), in the
 * registry's order, as many as can be compared at once.  NULL: with all. */
static bool read_kin(struct change *x, const char *constants, struct err *e)
{
    json_t *list = registry(x->coord);
    size_t count = json_array_size(list);
    struct kin_model *models = calloc(count + 1, sizeof(*models));
    int room = (int)SHARE_MODELS_MAX;
    bool ok = models || err_set(e, ERR_MEMORY, "coordinator: no memory");
    for (size_t i = 0; ok && i < count; i++) {
        const json_t *row = json_array_get(list, i);
        models[i].constants = json_string_value(json_object_get(row, "constants"));
        models[i].files = graphs_of(row);
    }
    for (int i = 0; i < x->count; i++)
        room -= x->given[i]->source.file_count;
    if (ok)
        kin_choose(constants, models, count, room);
    for (size_t i = 0; ok && i < count; i++) {
        if (models[i].mark == KIN_CHOSEN)
            ok = read_one(x, json_array_get(list, i), e);
        else if (models[i].mark == KIN_LEFT_OUT)
            json_array_append(x->left_out, json_object_get(json_array_get(list, i), "name"));
    }
    free(models);
    json_decref(list);
    return ok;
}

/* ---- cutting -------------------------------------------------------------------------------- */

/* What the registry has already keeps its bytes, its name and its figures. */
static void take_known(struct change *x)
{
    struct coord *c = x->coord;
    monitor_lock(&c->lock);
    for (int i = 0; i < x->cut->module_count; i++) {
        struct cut_module *m = &x->cut->modules[i];
        const struct module *known = fleet_module_by_identity(&c->fleet, m->identity.hex);
        if (!known || m->file)
            continue;
        m->digest = known->digest;
        m->dims = json_incref(known->dims);
    }
    monitor_unlock(&c->lock);
}

static bool has_digest(const json_t *list, const char *digest)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), digest) == 0)
            return true;
    return false;
}

/* Whether a model of the registry consists of other modules than before. */
static bool differs(struct change *x, int model)
{
    struct coord *c = x->coord;
    json_t *fresh = cut_model_json(x->cut, model);
    const json_t *now = json_object_get(fresh, "modules");
    monitor_lock(&c->lock);
    const struct model_entry *m = fleet_model(&c->fleet, x->given[model]->name);
    bool same = m && m->module_count == json_array_size(now);
    for (uint32_t i = 0; same && i < m->module_count; i++)
        same = has_digest(now, m->modules[i].hex);
    monitor_unlock(&c->lock);
    json_decref(fresh);
    return !same;
}

struct module_writer {
    const struct cut *cut;
    int module;
};

static bool write_module(void *ctx, const char *folder, struct err *e)
{
    const struct module_writer *w = ctx;
    return cut_write(w->cut, w->module, folder, e);
}

static bool write_modules(struct change *x, int model, struct err *e)
{
    bool *of_file = calloc((size_t)x->cut->module_count + 1, sizeof(bool)), ok = of_file != NULL;
    if (!ok)
        err_set(e, ERR_MEMORY, "coordinator: no memory");
    for (int f = 0; ok && f < cut_file_count(x->cut, model); f++) {
        (void)cut_file_modules(x->cut, model, f, of_file);
        for (int i = 0; ok && i < x->cut->module_count; i++)
            if (of_file[i] && !x->cut->modules[i].digest.hex[0])
                ok = blobs_write_module(x->coord->blobs, write_module,
                                        &(struct module_writer){x->cut, i},
                                        &x->cut->modules[i].digest, e);
    }
    free(of_file);
    return ok;
}

static bool find_cut(struct change *x, struct err *e)
{
    struct cut_source *sources[CUT_SOURCES_MAX];
    for (int i = 0; i < x->count; i++)
        sources[i] = &x->given[i]->source;
    return x->cut || cut_find(sources, x->count, CUT_MIN_SHARE, &x->cut, e);
}

static bool cut_all(struct change *x, struct err *e)
{
    if (!find_cut(x, e))
        return false;
    take_known(x);
    for (int i = 0; i < x->count; i++) {
        x->moves[i] = (i == 0 && x->adds) || differs(x, i);
        if (x->moves[i] && !write_modules(x, i, e))
            return false;
    }
    return true;
}

/* ---- checking and measuring ----------------------------------------------------------------- */

static bool check(struct change *x, int model, struct err *e)
{
    const char *name = x->given[model]->name;
    struct checked *c = &x->checked[model];
    if (!ask_check(x->coord, x->cut, model, c, e))
        return err_prefix(e, "model '%s'", name);
    if (c->difference >= 0 && c->difference <= x->tolerance)
        return true;
    if (c->difference < 0)
        return err_set(e, ERR_UNSUPPORTED,
                       "model '%s': cut into modules it answers differently (output '%s'), by no "
                       "number that a tolerance could name",
                       name, c->output);
    return err_set(e, ERR_UNSUPPORTED,
                   "model '%s': cut into modules it answers differently, by up to %.9g (output "
                   "'%s'); --tolerance %.7g would let that pass",
                   name, c->difference, c->output, c->difference * (1 + 1e-6));
}

static bool check_and_measure(struct change *x, struct err *e)
{
    for (int i = 0; i < x->count; i++)
        if (x->moves[i] && !check(x, i, e))
            return false;
    step("checked");
    for (int i = 0; i < x->cut->module_count; i++)
        if (x->cut->modules[i].used && x->cut->modules[i].digest.hex[0] &&
            !ask_measure(x->coord, &x->cut->modules[i], e))
            return false;
    return true;
}

/* ---- taking over ---------------------------------------------------------------------------- */

/* Modules of the model's programs as rows of the fleet; *ret is free()d. */
static bool rows_of(struct change *x, const json_t *model, struct module **ret, uint32_t *count,
                    struct err *e)
{
    const json_t *digests = json_object_get(model, "modules");
    struct module *rows = calloc(json_array_size(digests) + 1, sizeof(*rows));
    if (!rows)
        return err_set(e, ERR_MEMORY, "coordinator: no memory");
    *ret = rows;
    *count = 0;
    for (int i = 0; i < x->cut->module_count; i++) {
        const struct cut_module *m = &x->cut->modules[i];
        if (!m->used || !has_digest(digests, m->digest.hex))
            continue;
        struct module *to = &rows[(*count)++];
        *to = (struct module){.digest = m->digest,
                              .weight_bytes = m->weight_bytes,
                              .gflop = m->gflop,
                              .output_bytes = m->output_bytes};
        if (!m->file)
            to->identity = m->identity;
        memcpy(to->name, m->name, sizeof(to->name));
        if (!blobs_size(x->coord->blobs, m->digest.hex, &to->file_bytes, e))
            return false;
    }
    return true;
}

static bool stage_one(struct change *x, int model, struct err *e)
{
    struct module *rows = NULL;
    uint32_t count;
    json_t *o = cut_model_json(x->cut, model);
    if (!o)
        return err_set(e, ERR_MEMORY, "coordinator: no memory");
    json_object_set(o, "files", x->given[model]->files);
    const struct checked *c = &x->checked[model];
    if (x->given[model]->source.whole)
        json_object_set_new(o, "whole", json_true());
    json_object_set_new(o, "checked", json_string(c->pairwise ? "pairwise" : "whole"));
    if (c->difference > 0)
        json_object_set_new(o, "difference", json_real(c->difference));
    const struct model_entry *old = fleet_model(&x->coord->fleet, x->given[model]->name);
    json_t *left_out = old ? json_object_get(old->model, "uncompared") : x->left_out;
    if (json_array_size(left_out))
        json_object_set(o, "uncompared", left_out);
    char *constants = kin_text(x->cut, model, e);
    json_object_set_new(o, "constants", json_string(constants ? constants : ""));
    bool ok =
        constants && rows_of(x, o, &rows, &count, e) &&
        fleet_stage(&x->coord->fleet, x->given[model]->name, json_deep_copy(o), rows, count, e);
    free(constants);
    free(rows);
    json_decref(o);
    return ok;
}

static void say_cause(const struct change *x, char *to, size_t size)
{
    if (x->adds)
        (void)snprintf(to, size, "model %.100s added", x->given[0]->name);
    else
        (void)snprintf(to, size, "a model was removed");
}

/* With the lock held, once the model is staged. */
static bool set_pins(struct change *x, struct err *e)
{
    char staged[WIRE_NAME_MAX + 1];
    if (!x->adds || !x->pins)
        return true;
    (void)snprintf(staged, sizeof(staged), "%c%s", STAGE_MARK, x->given[0]->name);
    return pins_set(x->coord, x->pins, fleet_model(&x->coord->fleet, staged), &x->pinned, e);
}

/* With the lock held. */
static void unstage(struct change *x)
{
    fleet_unstage(&x->coord->fleet);
    pins_undo(x->coord, &x->pinned);
}

static bool stage(struct change *x, struct err *e)
{
    struct coord *c = x->coord;
    bool ok = true;
    struct plan_wish wish = {0};
    say_cause(x, wish.cause, sizeof(wish.cause));
    monitor_lock(&c->lock);
    for (int i = 0; ok && i < x->count; i++)
        ok = !x->moves[i] || stage_one(x, i, e);
    ok = ok && set_pins(x, e);
    c->epoch++;
    monitor_unlock(&c->lock);
    step("entered");
    if (ok && coord_plan(c, &wish, e)) {
        step("staged");
        return true;
    }
    monitor_lock(&c->lock);
    unstage(x);
    c->epoch++;
    coord_touch(c);
    monitor_unlock(&c->lock);
    return false;
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

static bool all_serve(struct coord *c, struct err *e)
{
    bool all = true;
    for (uint32_t i = 0; i < c->fleet.model_count; i++)
        if (model_is_staged(&c->fleet.models[i]))
            all = serves(c, &c->fleet.models[i], e) && all;
    return all;
}

/* Modules that were written are the models' from now on, or nobody's: either way a sweep need not
 * spare them. */
static void mark_written(struct change *x)
{
    for (int i = 0; i < x->cut->module_count; i++)
        if (!x->cut->modules[i].file && x->cut->modules[i].digest.hex[0])
            blobs_touch(x->coord->blobs, x->cut->modules[i].digest.hex, false);
}

/* Waits until what is staged serves, and puts it in the place of what was. */
static bool take_over(struct change *x, struct err *e)
{
    struct coord *c = x->coord;
    int64_t end = clock_deadline_ms(SERVE_MS);
    bool ok = false;
    *e = (struct err){0};
    monitor_lock(&c->lock);
    for (;;) {
        ok = all_serve(c, e);
        if (ok || e->text[0] || c->stop || clock_now_ns() >= end)
            break;
        (void)monitor_wait(&c->lock, clock_deadline_ms(50));
    }
    if (!ok && !e->text[0])
        err_set(e, ERR_TIMEOUT, "model '%s': is not loaded after %d s", x->given[0]->name,
                SERVE_MS / 1000);
    step("served");
    ok = ok && fleet_commit(&c->fleet, e);
    step("committed");
    if (!ok)
        unstage(x);
    char cause[MOVE_TEXT_MAX];
    say_cause(x, cause, sizeof(cause));
    coord_ask_plan(c, "%s", cause); /* there is room again where old forms were */
    monitor_unlock(&c->lock);
    coord_publish(c); /* the table in which it serves, to all gateways before the answer */
    if (ok && !coord_await_table(c, clock_deadline_ms(TABLE_MS)))
        log_debug("coord", "a living device has not taken the new table after %d ms", TABLE_MS);
    return ok;
}

static bool run(struct change *x, struct err *e)
{
    step("read");
    if (!cut_all(x, e))
        return false;
    step("written");
    bool any = false;
    for (int i = 0; i < x->count; i++)
        any = any || x->moves[i];
    if (!any)
        return true;
    if (!check_and_measure(x, e) || !stage(x, e) || !take_over(x, e))
        return false;
    mark_written(x);
    return true;
}

/* ---- the whole ------------------------------------------------------------------------------ */

/* The model by itself, and those that it may share with. */
static bool read_all(struct change *x, struct err *e)
{
    char *constants = kin_text(x->cut, 0, e);
    bool ok = constants && read_kin(x, constants, e);
    free(constants);
    if (x->count > 1) {
        cut_free(x->cut);
        x->cut = NULL;
    }
    return ok;
}

bool change_add(struct change *x, const char *name, json_t *files, struct err *e)
{
    struct err first;
    x->adds = true;
    if (!given_read(x->coord, name, files, &x->given[0], e))
        return false;
    x->given[0]->source.whole = x->whole;
    x->count = 1;
    if (!find_cut(x, e))
        return false;
    if (read_all(x, &first) && run(x, &first))
        return true;
    bool others = false;
    for (int i = 1; i < x->count; i++)
        others = others || x->moves[i] || !x->cut;
    if (!others) {
        *e = first;
        return false;
    }
    log_debug("coord", "%s: is cut alone: %s", name, first.text);
    (void)snprintf(x->note, sizeof(x->note), "%s", first.text);
    cut_free(x->cut);
    x->cut = NULL;
    while (x->count > 1) {
        given_free(x->given[--x->count]);
        x->moves[x->count] = false;
    }
    return run(x, e);
}

bool change_merge(struct change *x, const char *constants, struct err *e)
{
    return read_kin(x, constants, e) && (x->count == 0 || run(x, e));
}

struct change *change_new(struct coord *c)
{
    struct change *x = calloc(1, sizeof(*x));
    if (x) {
        x->coord = c;
        x->left_out = json_array();
    }
    return x;
}

void change_free(struct change *x)
{
    if (!x)
        return;
    cut_free(x->cut);
    json_decref(x->left_out);
    pins_keep(&x->pinned);
    for (int i = 0; i < x->count; i++)
        given_free(x->given[i]);
    free(x);
    (void)malloc_trim(0); /* graphs are MiB of small blocks, and rarely come */
}
