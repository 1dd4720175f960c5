/* stage.c - new forms of models beside their old ones, until they serve. */
#include "coord/fleet.h"

#include <stdio.h>
#include <string.h>

const struct module *fleet_module_by_identity(const struct fleet *f, const char *identity)
{
    for (uint32_t i = 0; i < f->module_count; i++)
        if (*identity && strcmp(f->modules[i].identity.hex, identity) == 0)
            return &f->modules[i];
    return NULL;
}

bool fleet_stage(struct fleet *f, const char *name, json_t *model, const struct module *modules,
                 uint32_t count, struct err *e)
{
    char staged[WIRE_NAME_MAX + 1];
    (void)snprintf(staged, sizeof(staged), "%c%s", STAGE_MARK, name);
    if (strlen(staged) < WIRE_NAME_MAX)
        return fleet_add_model(f, staged, model, modules, count, e);
    json_decref(model);
    return err_set(e, ERR_INVALID, "model '%s': a name of over %d characters", name,
                   WIRE_NAME_MAX - 2);
}

/* Rows of modules that no model uses.  Left over after a crash they cost a device its memory, so
 * they go at the next start too. */
static void sweep(struct fleet *f)
{
    for (uint32_t i = 0; i < f->module_count;) {
        struct module *m = &f->modules[i];
        if (fleet_users(f, m->digest.hex) > 0 ||
            !state_remove(f->state, STATE_MODULE, m->digest.hex, NULL) ||
            !state_remove(f->state, STATE_PLACEMENT, m->digest.hex, NULL) ||
            !state_remove(f->state, STATE_PIN, m->digest.hex, NULL)) {
            i++;
            continue;
        }
        module_clear(m);
        *m = f->modules[--f->module_count];
    }
}

static bool commit_rows(struct fleet *f, struct err *e)
{
    for (uint32_t i = 0; i < f->model_count; i++) {
        const struct model_entry *m = &f->models[i];
        if (model_is_staged(m) && (!state_put(f->state, STATE_MODEL, m->name + 1, m->model, e) ||
                                   !state_remove(f->state, STATE_MODEL, m->name, e)))
            return false;
    }
    return true;
}

bool fleet_commit(struct fleet *f, struct err *e)
{
    if (!state_begin(f->state, e))
        return false;
    bool rows = commit_rows(f, e);
    if (!state_end(f->state, rows, rows ? e : NULL) || !rows)
        return false;
    for (uint32_t i = 0; i < f->model_count;) {
        struct model_entry *m = &f->models[i];
        struct model_entry *old = model_is_staged(m) ? fleet_model(f, m->name + 1) : NULL;
        if (!model_is_staged(m)) {
            i++;
        } else if (!old) {
            memmove(m->name, m->name + 1, strlen(m->name));
            i++;
        } else {
            model_entry_clear(old);
            old->model = m->model;
            old->modules = m->modules;
            old->module_count = m->module_count;
            *m = f->models[--f->model_count];
        }
    }
    sweep(f);
    return true;
}

void fleet_unstage(struct fleet *f)
{
    for (uint32_t i = 0; i < f->model_count;) {
        char name[WIRE_NAME_MAX];
        memcpy(name, f->models[i].name, sizeof(name));
        if (!model_is_staged(&f->models[i]) || !fleet_remove_model(f, name, NULL))
            i++;
    }
    sweep(f);
}
