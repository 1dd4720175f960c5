/* plan_fleet.c - see plan_fleet.h. */
#include "cli/plan_fleet.h"

#include "cli/fleet.h"
#include "wire/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLAN_MS 60000
#define MOVES_SHOWN 8u

/* body: stolen, or NULL. */
static bool exchange(const char *url, const char *method, json_t *body, struct plan_fleet *ret,
                     struct err *e)
{
    uint64_t redundancy = 0;
    *ret = (struct plan_fleet){0};
    bool ok = fleet_json_at(url, method, "/s2m3/v1/plan", body, PLAN_MS, &ret->whole, e) &&
              json_need_object(ret->whole, "plan", "instance", &ret->instance, e) &&
              json_need_object(ret->whole, "plan", "placement", &ret->placement, e) &&
              json_need_object(ret->whole, "plan", "pins", &ret->pins, e) &&
              json_opt_u64(ret->whole, "plan", "redundancy", PLAN_REPLICAS_MAX - 1, &redundancy, e);
    ret->redundancy = (int)redundancy;
    ret->placing = json_is_true(json_object_get(ret->whole, "placing"));
    if (!ok)
        plan_fleet_clear(ret);
    return ok;
}

bool plan_fleet_fetch(const char *url, struct plan_fleet *ret, struct err *e)
{
    return exchange(url, "GET", NULL, ret, e);
}

bool plan_fleet_apply(const char *url, json_t *pins, struct plan_fleet *ret, struct err *e)
{
    json_t *o = json_pack("{s:O*}", "pins", pins);
    return o ? exchange(url, "POST", o, ret, e) : err_set(e, ERR_MEMORY, "no memory");
}

void plan_fleet_clear(struct plan_fleet *f)
{
    json_decref(f->whole);
    *f = (struct plan_fleet){0};
}

static bool add_site(const struct plan_instance *in, struct plan_sites *s, const char *name)
{
    for (uint32_t d = 0; name && d < in->device_count; d++)
        if (strcmp(in->devices[d].name, name) == 0 && s->count < PLAN_REPLICAS_MAX) {
            s->device[s->count++] = d;
            return true;
        }
    return false;
}

bool plan_fleet_sites(const struct plan_fleet *f, const struct plan_instance *in,
                      struct plan_sites **ret, struct err *e)
{
    struct plan_sites *sites = calloc(in->module_count, sizeof(*sites));
    bool ok = sites || err_set(e, ERR_MEMORY, "no memory");
    for (uint32_t m = 0; ok && m < in->module_count; m++) {
        const json_t *list = json_object_get(f->placement, in->modules[m].name);
        for (size_t i = 0; ok && i < json_array_size(list); i++)
            ok = add_site(in, &sites[m], json_string_value(json_array_get(list, i))) ||
                 err_set(e, ERR_INVALID, "plan: '%.100s' is on a device that is not listed",
                         in->modules[m].name);
        if (ok && sites[m].count == 0)
            ok = err_set(e, ERR_NO_PLACE, "module '%.100s' has no place", in->modules[m].name);
    }
    if (ok)
        *ret = sites;
    else
        free(sites);
    return ok;
}

/* "vision_model" for "vision_model 88cb1c3a"; NULL with e set: none or several. */
static const char *full_name(const struct plan_fleet *f, const char *text, struct err *e)
{
    const char *key, *found = NULL;
    json_t *value;
    size_t n = strlen(text);
    json_object_foreach(f->placement, key, value)
    {
        const char *blank = strrchr(key, ' ');
        if (strcmp(key, text) == 0)
            return key;
        bool name = strncmp(key, text, n) == 0 && blank == key + n;
        if (!name && !(blank && n >= 6 && strncmp(blank + 1, text, 8) == 0))
            continue;
        if (found) {
            err_set(e, ERR_INVALID, "module '%.100s': there are several: '%.100s', '%.100s'", text,
                    found, key);
            return NULL;
        }
        found = key;
    }
    if (!found)
        err_set(e, ERR_NOT_FOUND, "module '%.100s': there is none", text);
    return found;
}

bool plan_fleet_pins(const struct plan_fleet *f, json_t *pins, json_t **ret, struct err *e)
{
    const char *key;
    json_t *value;
    json_t *all = json_copy(f->pins);
    bool ok = all || err_set(e, ERR_MEMORY, "no memory");
    json_object_foreach(pins, key, value)
    {
        const char *name = ok ? full_name(f, key, e) : NULL;
        ok = name != NULL;
        if (!ok)
            break;
        if (json_array_size(value) > 0)
            json_object_set(all, name, value);
        else
            (void)json_object_del(all, name);
    }
    if (ok)
        *ret = all;
    else
        json_decref(all);
    return ok;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

double plan_fleet_around_ms(const struct plan_fleet *f, const char *model)
{
    const json_t *list = json_object_get(f->whole, "around");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i);
        char name[2 * WIRE_NAME_MAX];
        int n = snprintf(name, sizeof(name), "%s/%s", text_of(row, "model"), text_of(row, "task"));
        bool of_task = n > 0 && strncmp(model, name, (size_t)n) == 0 &&
                       (!model[n] || model[n] == '/'); /* "model/task/2" */
        if (of_task || strcmp(model, text_of(row, "model")) == 0)
            return json_number_value(json_object_get(row, "ms"));
    }
    return 0;
}

/* A pin for which there is no module, or no device, yet. */
static void print_waiting(const struct plan_fleet *f)
{
    const char *module;
    json_t *devices, *device;
    size_t i;
    json_object_foreach(json_object_get(f->whole, "waiting_pins"), module, devices)
    {
        json_array_foreach(devices, i, device)
            printf("pin that waits: %s=%s\n", module, json_string_value(device));
    }
}

/* What the plan said that requests take, and what they took. */
static void print_predictions(const struct plan_fleet *f)
{
    const json_t *list = json_object_get(f->whole, "predictions");
    if (json_array_size(list) > 0)
        printf("\n%-40s %-16s %12s %12s\n", "predicted and measured, mean", "gateway", "predicted",
               "measured");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *p = json_array_get(list, i);
        char name[2 * WIRE_NAME_MAX];
        (void)snprintf(name, sizeof(name), "%s %s", text_of(p, "model"), text_of(p, "task"));
        bool again = json_integer_value(json_object_get(p, "measured_again_ms")) > 0;
        printf("%-40s %-16s %9.3f ms %9.3f ms%s%s\n", name, text_of(p, "device"),
               json_number_value(json_object_get(p, "predicted_ms")),
               json_number_value(json_object_get(p, "measured_ms")),
               json_is_true(json_object_get(p, "wrong")) ? "  wrong" : "",
               again ? "  measured again" : "");
    }
}

void plan_fleet_print(const struct plan_fleet *f)
{
    const json_t *moves = json_object_get(f->whole, "moves");
    if (text_of(f->whole, "decision")[0])
        printf("\nlast plan: %s\n", text_of(f->whole, "decision"));
    print_waiting(f);
    for (size_t i = 0; i < json_array_size(moves) && i < MOVES_SHOWN; i++) {
        const json_t *m = json_array_get(moves, i);
        printf("%s: %s -> %s (%s; %s)\n", text_of(m, "module"),
               text_of(m, "from")[0] ? text_of(m, "from") : "nowhere", text_of(m, "to"),
               text_of(m, "cause"), text_of(m, "why"));
    }
    print_predictions(f);
}
