/* pins.c - see pins.h. */
#include "coord/pins.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STANDING_KEY "pins"
#define NAMES_MAX 200u

struct device *pins_device(struct coord *c, const char *name, struct err *e)
{
    for (uint32_t i = 0; i < c->fleet.device_count; i++)
        if (strcmp(c->fleet.devices[i].join.name, name) == 0)
            return &c->fleet.devices[i];
    struct device *d = fleet_device(&c->fleet, name);
    if (!d)
        err_set(e, ERR_NOT_FOUND, "device '%.100s': there is none", name);
    return d;
}

static bool names_module(const struct module *m, const char *text)
{
    size_t n = strlen(text), name = strlen(m->name);
    if (n >= PINS_PREFIX_MIN && strncmp(m->digest.hex, text, n) == 0)
        return true;
    if (strncmp(m->name, text, name) != 0)
        return false;
    return !text[name] || (text[name] == ' ' && text[name + 1] &&
                           strncmp(m->digest.hex, text + name + 1, n - name - 1) == 0);
}

static bool of_model(const struct model_entry *model, const struct module *m)
{
    bool found = !model;
    for (uint32_t i = 0; !found && i < model->module_count; i++)
        found = strcmp(model->modules[i].hex, m->digest.hex) == 0;
    return found;
}

/* ---- errors that say what there is ------------------------------------------------------------ */

static bool no_module(struct coord *c, const char *text, const struct model_entry *model,
                      struct err *e)
{
    char names[NAMES_MAX] = "";
    if (!model)
        return err_set(e, ERR_NOT_FOUND, "module '%.100s': there is none", text);
    for (uint32_t i = 0; i < model->module_count; i++) {
        const struct module *m = fleet_module(&c->fleet, model->modules[i].hex);
        size_t at = strlen(names);
        if (m)
            (void)snprintf(names + at, sizeof(names) - at, "%s'%.60s %.8s'", at ? ", " : "",
                           m->name, m->digest.hex);
    }
    return err_set(e, ERR_NOT_FOUND, "module '%.80s': the model has none; it has %s", text, names);
}

static struct module *find_module(struct coord *c, const char *text,
                                  const struct model_entry *model, struct err *e)
{
    struct module *found = NULL;
    for (uint32_t i = 0; i < c->fleet.module_count; i++) {
        struct module *m = &c->fleet.modules[i];
        if (!of_model(model, m) || !names_module(m, text))
            continue;
        if (found) {
            err_set(e, ERR_INVALID,
                    "module '%.100s': there are several (%.8s, %.8s); say it with its digest: "
                    "'%.60s %.8s'",
                    text, found->digest.hex, m->digest.hex, m->name, m->digest.hex);
            return NULL;
        }
        found = m;
    }
    if (!found)
        (void)no_module(c, text, model, e);
    return found;
}

/* ---- modules' own pins ------------------------------------------------------------------------ */

static bool read_devices(struct coord *c, const char *module, const json_t *devices,
                         const char **ids, uint32_t *count, struct err *e)
{
    *count = 0;
    if (!json_is_array(devices))
        return err_set(e, ERR_INVALID,
                       "pins: '%.100s' needs a list of devices (an empty one: free)", module);
    for (size_t i = 0; i < json_array_size(devices); i++) {
        const char *name = json_string_value(json_array_get(devices, i));
        if (!name)
            return err_set(e, ERR_INVALID, "pins: a device's name is no text");
        const struct device *d = pins_device(c, name, e);
        if (!d)
            return false;
        if (*count < WIRE_DEVICES_MAX)
            ids[(*count)++] = d->join.id;
    }
    return true;
}

bool pins_check(struct coord *c, const json_t *pins, struct err *e)
{
    const char *name, *ids[WIRE_DEVICES_MAX];
    json_t *devices;
    uint32_t count;
    if (pins && !json_is_object(pins))
        return err_set(e, ERR_INVALID, "'pins' should be an object");
    if (json_object_size(pins) > PINS_MAX)
        return err_set(e, ERR_TOO_LARGE, "pins: more than %d modules", PINS_MAX);
    json_object_foreach((json_t *)(uintptr_t)pins, name, devices)
    {
        if (!read_devices(c, name, devices, ids, &count, e))
            return false;
    }
    return true;
}

/* Room for it is there: pins_check() has counted. */
static bool remember(const struct module *m, struct pin_list *done, struct err *e)
{
    struct pin *p = &done->rows[done->count];
    *p = (struct pin){.module = m->digest, .before_count = m->pin_count};
    p->before = calloc(m->pin_count + 1u, WIRE_ID_MAX);
    if (!p->before)
        return err_set(e, ERR_MEMORY, "pins: no memory");
    if (m->pin_count > 0)
        memcpy(p->before, m->pins, m->pin_count * sizeof(*m->pins));
    done->count++;
    return true;
}

static bool save_standing(struct coord *c, struct err *e)
{
    return state_put(c->state, STATE_FLEET, STANDING_KEY, c->pins, e);
}

/* Standing pins that name the module go. */
static bool free_standing(struct coord *c, const struct module *m, struct pin_list *done,
                          struct err *e)
{
    const char *text;
    json_t *devices;
    void *next;
    size_t before = json_object_size(c->pins);
    json_t *was = json_copy(c->pins);
    if (!was)
        return err_set(e, ERR_MEMORY, "pins: no memory");
    json_object_foreach_safe(c->pins, next, text, devices)
    {
        if (names_module(m, text))
            (void)json_object_del(c->pins, text);
    }
    bool changed = json_object_size(c->pins) < before;
    if (changed && !done->standing)
        done->standing = json_incref(was);
    json_decref(was);
    return !changed || save_standing(c, e);
}

bool pins_set(struct coord *c, const json_t *pins, const struct model_entry *model,
              struct pin_list *done, struct err *e)
{
    const char *name, *ids[WIRE_DEVICES_MAX];
    json_t *devices;
    uint32_t count;
    if (!pins_check(c, pins, e))
        return false;
    c->epoch++;
    json_object_foreach((json_t *)(uintptr_t)pins, name, devices)
    {
        struct module *m = find_module(c, name, model, e);
        if (!m || !read_devices(c, name, devices, ids, &count, e) || !remember(m, done, e) ||
            !fleet_pin(&c->fleet, m, ids, count, e) ||
            (count == 0 && !free_standing(c, m, done, e)))
            return false;
    }
    return true;
}

void pins_keep(struct pin_list *done)
{
    for (uint32_t i = 0; i < done->count; i++)
        free(done->rows[i].before);
    json_decref(done->standing);
    *done = (struct pin_list){0};
}

void pins_undo(struct coord *c, struct pin_list *done)
{
    for (uint32_t i = done->count; i-- > 0;) {
        const struct pin *p = &done->rows[i];
        struct module *m = fleet_module(&c->fleet, p->module.hex);
        const char *ids[WIRE_DEVICES_MAX];
        for (uint32_t k = 0; k < p->before_count; k++)
            ids[k] = p->before[k];
        if (m)
            (void)fleet_pin(&c->fleet, m, ids, p->before_count, NULL);
    }
    if (done->standing) {
        json_decref(c->pins);
        c->pins = json_incref(done->standing);
        (void)save_standing(c, NULL);
    }
    if (done->count > 0)
        c->epoch++;
    pins_keep(done);
}

/* ---- standing pins ---------------------------------------------------------------------------- */

bool pins_load(struct coord *c, const json_t *more, struct err *e)
{
    if (!state_get(c->state, STATE_FLEET, STANDING_KEY, &c->pins, e))
        return false;
    if (!json_is_object(c->pins)) {
        json_decref(c->pins);
        c->pins = json_object();
    }
    if (!c->pins || json_object_update(c->pins, (json_t *)(uintptr_t)more) != 0)
        return more ? err_set(e, ERR_MEMORY, "pins: no memory") : c->pins != NULL;
    if (json_object_size(c->pins) > PINS_MAX)
        return err_set(e, ERR_TOO_LARGE, "pins: more than %d modules", PINS_MAX);
    return save_standing(c, e);
}

static void add_name(json_t *names, const char *name)
{
    for (size_t i = 0; i < json_array_size(names); i++)
        if (strcmp(json_string_value(json_array_get(names, i)), name) == 0)
            return;
    json_array_append_new(names, json_string(name));
}

/* The devices of a standing pin that are there; their number. */
static uint32_t add_usable(struct coord *c, const json_t *devices, json_t *names)
{
    uint32_t n = 0;
    for (size_t i = 0; i < json_array_size(devices); i++) {
        const char *name = json_string_value(json_array_get(devices, i));
        const struct device *d = name ? pins_device(c, name, NULL) : NULL;
        if (!device_usable(d))
            continue;
        n++;
        if (names)
            add_name(names, d->join.name);
    }
    return n;
}

json_t *pins_of(struct coord *c, const struct module *m)
{
    json_t *names = json_array();
    const char *text;
    json_t *devices;
    for (uint32_t k = 0; k < m->pin_count; k++) {
        const struct device *d = fleet_device(&c->fleet, m->pins[k]);
        if (device_usable(d))
            add_name(names, d->join.name);
    }
    json_object_foreach(c->pins, text, devices)
    {
        if (m->pin_count == 0 && names_module(m, text))
            (void)add_usable(c, devices, names);
    }
    return names;
}

json_t *pins_waiting(struct coord *c)
{
    json_t *waiting = json_object();
    const char *text;
    json_t *devices;
    json_object_foreach(c->pins, text, devices)
    {
        bool known = false;
        for (uint32_t i = 0; !known && i < c->fleet.module_count; i++)
            known = names_module(&c->fleet.modules[i], text);
        if (!known || add_usable(c, devices, NULL) < json_array_size(devices))
            json_object_set(waiting, text, devices);
    }
    return waiting;
}
