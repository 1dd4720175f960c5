/* orders.c - what people tell the coordinator about places: drain a device, let it leave, pin
 * modules, plan now; and the plan as it is.
 *
 * An order is carried out as a plan that is made before the answer.  What can't be done (no room
 * elsewhere) is taken back and said, so that nothing is half done. */
#include "base/log.h"
#include "coord/instance.h"
#include "coord/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PINS_MAX 256
#define PREFIX_MIN 6u /* digits of a digest that name a module */
#define NAMES_MAX 256u

static json_t *body_of(struct net_request *r, struct err *e)
{
    size_t size;
    const void *data = net_request_body(r, &size);
    return json_parse("order", data, size, e);
}

/* By name, else by id. */
static struct device *device_of(struct coord *c, const char *name, struct err *e)
{
    for (uint32_t i = 0; i < c->fleet.device_count; i++)
        if (strcmp(c->fleet.devices[i].join.name, name) == 0)
            return &c->fleet.devices[i];
    struct device *d = fleet_device(&c->fleet, name);
    if (!d)
        err_set(e, ERR_NOT_FOUND, "device '%.100s': there is none", name);
    return d;
}

/* ---- draining and leaving --------------------------------------------------------------------- */

static bool is_desired(const struct module *m, const char *id)
{
    for (uint32_t i = 0; i < m->desired_count; i++)
        if (strcmp(m->desired[i], id) == 0)
            return true;
    return false;
}

/* Names of the modules that a device shall still hold; their number. */
static uint32_t held_back(struct coord *c, const char *id, char *to, size_t size)
{
    uint32_t n = 0;
    size_t at = 0;
    to[0] = 0;
    for (uint32_t i = 0; i < c->fleet.module_count; i++) {
        const struct module *m = &c->fleet.modules[i];
        if (!is_desired(m, id))
            continue;
        if (at < size)
            at += (size_t)snprintf(to + at, size - at, "%s%s", n ? ", " : "", m->name);
        n++;
    }
    return n;
}

struct order {
    char id[WIRE_ID_MAX], name[WIRE_NAME_MAX];
    bool off, leave, force;
};

static bool read_order(struct coord *c, const json_t *o, struct order *ret, struct err *e)
{
    const char *name;
    if (!json_need_str(o, "order", "device", &name, e) ||
        !json_opt_bool(o, "order", "off", &ret->off, e) ||
        !json_opt_bool(o, "order", "force", &ret->force, e))
        return false;
    monitor_lock(&c->lock);
    const struct device *d = device_of(c, name, e);
    bool ok = d != NULL;
    if (ok && ret->leave && strcmp(d->join.peer_url, c->fleet.url) == 0)
        ok = err_set(e, ERR_INVALID,
                     "device '%.100s': the coordinator runs there; it can be drained, not leave",
                     d->join.name);
    if (ok) {
        memcpy(ret->id, d->join.id, sizeof(ret->id));
        memcpy(ret->name, d->join.name, sizeof(ret->name));
    }
    monitor_unlock(&c->lock);
    return ok;
}

/* What is not alive has nothing to move; what is forced does not wait. */
static bool forget_now(struct coord *c, const struct order *x, struct err *e)
{
    monitor_lock(&c->lock);
    const struct device *d = fleet_device(&c->fleet, x->id);
    bool now = x->leave && d && (!d->alive || x->force), ok = true;
    if (now) {
        coord_has_left(c, x->id);
        coord_ask_plan(c, "device %s left", x->name);
        ok = fleet_forget(&c->fleet, x->id, e);
    }
    monitor_unlock(&c->lock);
    return now && ok;
}

/* false: nothing was changed. */
static bool set_draining(struct coord *c, const struct order *x, bool on, struct err *e)
{
    monitor_lock(&c->lock);
    struct device *d = fleet_device(&c->fleet, x->id);
    bool ok = d ? fleet_drain(&c->fleet, d, on, on && x->leave, e)
                : err_set(e, ERR_NOT_FOUND, "device '%.100s': has gone meanwhile", x->name);
    c->epoch++;
    coord_touch(c);
    monitor_unlock(&c->lock);
    return ok;
}

static bool move_off(struct coord *c, const struct order *x, struct err *e)
{
    struct plan_wish w = {.partial = true};
    char names[NAMES_MAX];
    struct err why = {0};
    (void)snprintf(w.cause, sizeof(w.cause), "device %.100s %s", x->name,
                   x->off     ? "is used again"
                   : x->leave ? "leaves"
                              : "is drained");
    bool was_off = x->off;
    if (!set_draining(c, x, !was_off, e))
        return false;
    (void)coord_plan(c, &w, &why);
    monitor_lock(&c->lock);
    uint32_t stay = was_off ? 0 : held_back(c, x->id, names, sizeof(names));
    monitor_unlock(&c->lock);
    if (stay == 0 || x->force)
        return true;
    (void)set_draining(c, x, false, NULL);
    return err_set(e, ERR_NO_PLACE, "device '%.60s': no room elsewhere for %u modules (%.150s)%s%s",
                   x->name, stay, names, why.text[0] ? ": " : "", why.text);
}

static void carry_out(struct net_request *r, struct coord *c, bool leave)
{
    struct err e = {0};
    struct order x = {.leave = leave};
    json_t *o = body_of(r, &e);
    bool ok = o && read_order(c, o, &x, &e);
    bool gone = ok && forget_now(c, &x, &e);
    ok = ok && (gone || move_off(c, &x, &e));
    json_decref(o);
    if (ok)
        net_reply_json(r, 200,
                       json_pack("{s:s,s:s,s:b,s:b}", "device", x.name, "id", x.id, "draining",
                                 (int)!x.off, "gone", (int)gone));
    else
        net_reply_err(r, &e);
}

void coord_handle_drain(struct net_request *r, void *coord)
{
    carry_out(r, coord, false);
}

void coord_handle_let_go(struct net_request *r, void *coord)
{
    carry_out(r, coord, true);
}

/* ---- pins ------------------------------------------------------------------------------------- */

/* One module's pins, and what they were. */
struct pin {
    struct digest module;
    char (*before)[WIRE_ID_MAX];
    uint32_t before_count;
};

struct pin_list {
    struct pin rows[PINS_MAX];
    uint32_t count;
};

static bool names_module(const struct module *m, const char *text)
{
    size_t n = strlen(text), name = strlen(m->name);
    if (n >= PREFIX_MIN && strncmp(m->digest.hex, text, n) == 0)
        return true;
    if (strncmp(m->name, text, name) != 0)
        return false;
    return !text[name] ||
           (text[name] == ' ' && strncmp(m->digest.hex, text + name + 1, n - name - 1) == 0);
}

static struct module *module_of(struct coord *c, const char *text, struct err *e)
{
    struct module *found = NULL;
    for (uint32_t i = 0; i < c->fleet.module_count; i++) {
        struct module *m = &c->fleet.modules[i];
        if (!names_module(m, text))
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
        err_set(e, ERR_NOT_FOUND, "module '%.100s': there is none", text);
    return found;
}

static bool put_pins(struct coord *c, struct module *m, json_t *devices, struct pin_list *done,
                     struct err *e)
{
    const char *ids[WIRE_DEVICES_MAX];
    uint32_t count = 0;
    if (done->count == PINS_MAX)
        return err_set(e, ERR_TOO_LARGE, "pins: more than %d modules", PINS_MAX);
    for (size_t i = 0; i < json_array_size(devices); i++) {
        const char *name = json_string_value(json_array_get(devices, i));
        const struct device *d = name ? device_of(c, name, e) : NULL;
        if (!name)
            return err_set(e, ERR_INVALID, "pins: a device's name is no text");
        if (!d)
            return false;
        if (count < WIRE_DEVICES_MAX)
            ids[count++] = d->join.id;
    }
    struct pin *p = &done->rows[done->count];
    *p = (struct pin){.module = m->digest, .before_count = m->pin_count};
    p->before = calloc(m->pin_count + 1u, WIRE_ID_MAX);
    if (!p->before)
        return err_set(e, ERR_MEMORY, "pins: no memory");
    if (m->pin_count > 0)
        memcpy(p->before, m->pins, m->pin_count * sizeof(*m->pins));
    done->count++;
    return fleet_pin(&c->fleet, m, ids, count, e);
}

static bool set_pins(struct coord *c, json_t *pins, struct pin_list *done, struct err *e)
{
    const char *name;
    json_t *devices;
    bool ok = true;
    monitor_lock(&c->lock);
    json_object_foreach(pins, name, devices)
    {
        struct module *m = module_of(c, name, e);
        ok = m &&
             (json_is_array(devices) || err_set(e, ERR_INVALID,
                                                "pins: '%.100s' needs a list of devices (an "
                                                "empty one: free)",
                                                name)) &&
             put_pins(c, m, devices, done, e);
        if (!ok)
            break;
    }
    c->epoch++;
    monitor_unlock(&c->lock);
    return ok;
}

static void undo_pins(struct coord *c, const struct pin_list *done)
{
    monitor_lock(&c->lock);
    for (uint32_t i = 0; i < done->count; i++) {
        const struct pin *p = &done->rows[i];
        struct module *m = fleet_module(&c->fleet, p->module.hex);
        const char *ids[WIRE_DEVICES_MAX];
        for (uint32_t k = 0; k < p->before_count; k++)
            ids[k] = p->before[k];
        if (m)
            (void)fleet_pin(&c->fleet, m, ids, p->before_count, NULL);
    }
    c->epoch++;
    monitor_unlock(&c->lock);
}

/* {"pins": {"MODULE": ["DEVICE", ...]}}: sets these (an empty list frees the module), plans. */
void coord_handle_make_plan(struct net_request *r, void *coord)
{
    struct coord *c = coord;
    struct err e = {0};
    json_t *o = body_of(r, &e), *pins = json_object_get(o, "pins");
    struct pin_list *done = o ? calloc(1, sizeof(*done)) : NULL;
    struct plan_wish w = {.partial = json_object_size(pins) == 0};
    (void)snprintf(w.cause, sizeof(w.cause), "%s", json_object_size(pins) ? "pinned" : "asked for");
    bool ok = done != NULL;
    if (o && !done)
        err_set(&e, ERR_MEMORY, "pins: no memory");
    if (ok && pins && !json_is_object(pins))
        ok = err_set(&e, ERR_INVALID, "plan: 'pins' should be an object");
    ok = ok && set_pins(c, pins, done, &e) && coord_plan(c, &w, &e);
    if (!ok && done && done->count > 0)
        undo_pins(c, done);
    for (uint32_t i = 0; done && i < done->count; i++)
        free(done->rows[i].before);
    free(done);
    json_decref(o);
    if (ok)
        coord_handle_plan(r, c);
    else
        net_reply_err(r, &e);
}

/* ---- the plan as it is ------------------------------------------------------------------------ */

static json_t *rates_json(struct coord *c)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->rates.count; i++) {
        const struct rate *x = &c->rates.rows[i];
        const struct device *d = fleet_device(&c->fleet, x->device);
        json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:f,s:f}", "model", x->model, "task",
                                              x->task, "device", d ? d->join.name : "", "per_s",
                                              x->per_s, "planned", x->planned));
    }
    return list;
}

static json_t *reasons_json(struct coord *c, const struct snapshot *s)
{
    json_t *o = json_object();
    const char *key;
    json_t *value;
    uint32_t i = 0; /* both are in the order of the instance */
    json_object_foreach(s->placement, key, value)
    {
        const struct module *m = fleet_module(&c->fleet, s->modules[i++].hex);
        json_object_set_new(o, key, json_string(m ? m->reason : ""));
    }
    return o;
}

void coord_handle_plan(struct net_request *r, void *coord)
{
    struct coord *c = coord;
    struct snapshot s;
    struct err e = {0};
    monitor_lock(&c->lock);
    bool ok = snapshot_take(c, NULL, &s, &e);
    json_t *o =
        !ok ? NULL
            : json_pack("{s:O,s:O,s:O,s:o,s:i,s:s,s:o,s:o}", "instance", s.json, "placement",
                        s.placement, "pins", s.pins, "reasons", reasons_json(c, &s), "redundancy",
                        c->redundancy, "decision", c->decision, "rates", rates_json(c), "moves",
                        moves_json(&c->moves, MOVES_MAX));
    monitor_unlock(&c->lock);
    if (ok)
        snapshot_clear(&s);
    if (o)
        net_reply_json(r, 200, o);
    else
        net_reply_err(r, ok ? &(struct err){.code = ERR_MEMORY, .text = "plan: no memory"} : &e);
}
