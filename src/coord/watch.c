/* watch.c - notices deaths, and publishes the routing table.
 *
 * One thread, woken by changes and at least every TICK_MS.  Publishing: the table goes into the
 * state first, then to the own process, then it is pushed to each living device; a device that the
 * push does not reach fetches it after its next heartbeat.  Which table a device works with it says
 * in its answer to the push, and in each heartbeat. */
#include "base/clock.h"
#include "base/log.h"
#include "coord/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_MS 100
#define PUSH_MS 500

void coord_touch(struct coord *c)
{
    c->dirty = true;
    monitor_wake(&c->lock);
}

/* With the lock held: a device that has been silent too long is dead. */
static void notice_deaths(struct coord *c)
{
    int64_t now = clock_now_ns();
    for (uint32_t i = 0; i < c->fleet.device_count; i++) {
        struct device *d = &c->fleet.devices[i];
        if (!d->alive || now - d->heard_ns < CLUSTER_DEAD_MS * NS_PER_MS)
            continue;
        d->alive = false;
        heartbeat_clear(&d->last);
        log_debug("coord", "device %s is not heard of any more", d->join.name);
        coord_ask_plan(c, "device %s died", d->join.name);
    }
}

/* Everything but the version, which is what changes last. */
static bool same_content(json_t *a, json_t *b)
{
    if (!a || !b)
        return false;
    json_t *x = json_copy(a), *y = json_copy(b);
    json_object_del(x, "version");
    json_object_del(y, "version");
    bool same = json_equal(x, y) != 0;
    json_decref(x);
    json_decref(y);
    return same;
}

/* ---- publishing ----------------------------------------------------------------------------- */

struct push {
    char urls[WIRE_DEVICES_MAX][WIRE_URL_MAX];
    char ids[WIRE_DEVICES_MAX][WIRE_ID_MAX];
    uint32_t count;
    char *text;
};

void coord_note_table(struct coord *c, struct device *d, uint64_t version)
{
    if (version <= d->table_version)
        return;
    d->table_version = version;
    monitor_wake(&c->lock);
}

static void take_answer(struct coord *c, const char *id, const struct net_answer *a)
{
    struct err e;
    uint64_t version = 0;
    json_t *o = net_answer_err(a, &e) ? json_parse("table", a->body, a->size, &e) : NULL;
    bool ok = o && json_need_u64(o, "table", "version", (uint64_t)1 << 53, &version, &e);
    json_decref(o);
    if (!ok) {
        log_debug("coord", "push to %s: %s", id, e.text);
        return;
    }
    monitor_lock(&c->lock);
    struct device *d = fleet_device(&c->fleet, id);
    if (d)
        coord_note_table(c, d, version);
    monitor_unlock(&c->lock);
}

static void push_all(struct coord *c, const struct push *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        char url[WIRE_URL_MAX + 32];
        struct err e;
        struct net_answer a;
        (void)snprintf(url, sizeof(url), "%s/s2m3/v1/table", p->urls[i]);
        struct net_header type = {"Content-Type", "application/json"};
        struct net_part part = {p->text, strlen(p->text)};
        struct net_call call = {.method = "POST",
                                .url = url,
                                .headers = &type,
                                .header_count = 1,
                                .parts = &part,
                                .part_count = 1,
                                .deadline_ns = clock_deadline_ms(PUSH_MS),
                                .max_response = 65536};
        if (!net_call(c->client, &call, &a, &e)) {
            log_debug("coord", "push to %s: %s", p->urls[i], e.text);
            continue;
        }
        take_answer(c, p->ids[i], &a);
        net_answer_clear(&a);
    }
}

/* With the lock held. */
static bool all_have(struct coord *c, uint64_t version)
{
    if (table_slot_version(c->slot) < version)
        return false;
    for (uint32_t i = 0; i < c->fleet.device_count; i++)
        if (c->fleet.devices[i].alive && c->fleet.devices[i].table_version < version)
            return false;
    return true;
}

bool coord_await_table(struct coord *c, int64_t deadline_ns)
{
    monitor_lock(&c->lock);
    while (c->dirty && !c->stop && clock_now_ns() < deadline_ns) /* the table is not of now yet */
        (void)monitor_wait(&c->lock, clock_deadline_ms(TICK_MS));
    uint64_t version = c->fleet.version;
    bool all = all_have(c, version);
    while (!all && !c->stop && clock_now_ns() < deadline_ns) {
        (void)monitor_wait(&c->lock, deadline_ns);
        all = all_have(c, version);
    }
    monitor_unlock(&c->lock);
    return all;
}

/* With the lock held: moves whose new places serve by now have come to their end. */
static void note_done(struct coord *c)
{
    bool any = false;
    struct err e;
    for (uint32_t i = 0; i < c->moves.count; i++) {
        struct move *x = &c->moves.rows[i];
        const struct module *m = x->done_ms ? NULL : fleet_module(&c->fleet, x->module.hex);
        if (!m || !fleet_settled(&c->fleet, m))
            continue;
        x->done_ms = clock_wall_ms();
        any = true;
    }
    if (any && !moves_save(&c->moves, c->state, &e))
        log_debug("coord", "moves: %s", e.text);
}

/* With the lock held: the new table as JSON if it differs from the last one. */
static json_t *renew(struct coord *c, struct err *e)
{
    struct table *t = fleet_table(&c->fleet, e);
    if (!t)
        return NULL;
    t->version = c->fleet.version;
    t->placing = c->placing;
    json_t *o = table_to_json(t);
    table_unref(t);
    if (!o || same_content(o, c->table)) {
        json_decref(o);
        return NULL;
    }
    uint64_t version = c->fleet.version + 1;
    json_object_set_new(o, "version", json_integer((json_int_t)version));
    json_t *number = json_integer((json_int_t)version);
    bool ok = state_put(c->state, STATE_FLEET, "version", number, e) &&
              state_put(c->state, STATE_FLEET, "table", o, e);
    json_decref(number);
    if (!ok) {
        json_decref(o);
        return NULL;
    }
    c->fleet.version = version;
    json_decref(c->table);
    c->table = json_incref(o);
    note_done(c);
    return o;
}

void coord_publish(struct coord *c)
{
    struct err e = {0};
    struct push *p = calloc(1, sizeof(*p));
    if (!p)
        return;
    monitor_lock(&c->lock);
    bool early = clock_now_ns() < c->grace_ns;
    c->dirty = early;
    json_t *o = early ? NULL : renew(c, &e);
    for (uint32_t i = 0; o && i < c->fleet.device_count; i++)
        if (c->fleet.devices[i].alive) {
            memcpy(p->ids[p->count], c->fleet.devices[i].join.id, WIRE_ID_MAX);
            memcpy(p->urls[p->count++], c->fleet.devices[i].join.peer_url, WIRE_URL_MAX);
        }
    monitor_unlock(&c->lock);
    if (e.text[0])
        log_debug("coord", "table: %s", e.text);
    if (o && (p->text = json_text(o))) {
        struct table *t = table_from_json(o, &e);
        if (t)
            (void)table_slot_put(c->slot, t);
        monitor_lock(&c->lock);
        monitor_wake(&c->lock);
        monitor_unlock(&c->lock);
        push_all(c, p);
    }
    json_decref(o);
    free(p->text);
    free(p);
}

void *coord_watch_run(void *coord)
{
    struct coord *c = coord;
    for (;;) {
        monitor_lock(&c->lock);
        if (!c->dirty && !c->stop)
            (void)monitor_wait(&c->lock, clock_deadline_ms(TICK_MS));
        bool stop = c->stop;
        bool ready = clock_now_ns() >= c->grace_ns;
        if (ready)
            notice_deaths(c);
        bool dirty = c->dirty && ready;
        monitor_unlock(&c->lock);
        if (stop)
            return NULL;
        if (dirty) {
            coord_publish(c);
        } else if (!ready) {
            monitor_lock(&c->lock);
            (void)monitor_wait(&c->lock, clock_deadline_ms(TICK_MS));
            monitor_unlock(&c->lock);
        }
    }
}
