/* orders.c - what people tell the coordinator about places: drain a device, let it leave, pin
 * modules, plan now; and the plan as it is.
 *
 * An order is carried out as a plan that is made before the answer.  What can't be done (no room
 * elsewhere) is taken back and said, so that nothing is half done. */
#include "base/log.h"
#include "coord/instance.h"
#include "coord/internal.h"
#include "coord/pins.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_MAX 256u

static json_t *body_of(struct net_request *r, struct err *e)
{
    size_t size;
    const void *data = net_request_body(r, &size);
    return json_parse("order", data, size, e);
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
    const struct device *d = pins_device(c, name, e);
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
    (void)pthread_mutex_lock(&c->planning);
    bool set = set_draining(c, x, !was_off, e);
    if (set)
        (void)coord_plan_held(c, &w, &why);
    (void)pthread_mutex_unlock(&c->planning);
    if (!set)
        return false;
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

/* ---- a plan now, with pins --------------------------------------------------------------------- */

/* Of a plan with these pins. */
static const char *pins_cause(json_t *pins)
{
    const char *module;
    json_t *devices;
    json_object_foreach(pins, module, devices)
    {
        if (json_array_size(devices) > 0)
            return "pinned";
    }
    return json_object_size(pins) > 0 ? "unpinned" : "asked for";
}

/* {"pins": {"MODULE": ["DEVICE", ...]}}: sets these (coord/pins.h), plans. */
void coord_handle_make_plan(struct net_request *r, void *coord)
{
    struct coord *c = coord;
    struct err e = {0};
    json_t *o = body_of(r, &e), *pins = json_object_get(o, "pins");
    struct pin_list *done = o ? calloc(1, sizeof(*done)) : NULL;
    struct plan_wish w = {.partial = json_object_size(pins) == 0};
    (void)snprintf(w.cause, sizeof(w.cause), "%s", pins_cause(pins));
    bool ok = done != NULL;
    if (o && !done)
        err_set(&e, ERR_MEMORY, "pins: no memory");
    if (ok) {
        monitor_lock(&c->lock);
        ok = pins_set(c, pins, NULL, done, &e);
        monitor_unlock(&c->lock);
    }
    ok = ok && coord_plan(c, &w, &e);
    if (!ok && done) {
        monitor_lock(&c->lock);
        pins_undo(c, done);
        monitor_unlock(&c->lock);
    } else if (done) {
        pins_keep(done);
    }
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
            : json_pack("{s:O,s:O,s:O,s:o,s:o,s:i,s:b,s:s,s:o,s:o,s:o,s:o}", "instance", s.json,
                        "placement", s.placement, "pins", s.pins, "waiting_pins", pins_waiting(c),
                        "reasons", reasons_json(c, &s), "redundancy", c->redundancy, "placing",
                        (int)c->placing, "decision", c->decision, "rates", rates_json(c), "moves",
                        moves_json(&c->moves, MOVES_MAX), "predictions", truth_json(c), "around",
                        rates_around_json(&c->rates));
    monitor_unlock(&c->lock);
    if (ok)
        snapshot_clear(&s);
    if (o)
        net_reply_json(r, 200, o);
    else
        net_reply_err(r, ok ? &(struct err){.code = ERR_MEMORY, .text = "plan: no memory"} : &e);
}
