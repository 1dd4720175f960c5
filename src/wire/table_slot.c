/* table_slot.c - the current routing table. */
#include "wire/table_slot.h"

#include "base/clock.h"

#include <string.h>

void table_slot_init(struct table_slot *s)
{
    monitor_init(&s->lock);
    s->table = NULL;
}

void table_slot_destroy(struct table_slot *s)
{
    table_unref(s->table);
    monitor_destroy(&s->lock);
}

struct table *table_slot_get(struct table_slot *s)
{
    monitor_lock(&s->lock);
    struct table *t = table_ref(s->table);
    monitor_unlock(&s->lock);
    return t;
}

bool table_slot_put(struct table_slot *s, struct table *t)
{
    monitor_lock(&s->lock);
    struct table *old = s->table;
    bool newer = !old || strcmp(old->fleet, t->fleet) != 0 || old->version < t->version;
    if (newer) {
        s->table = t;
        monitor_wake(&s->lock);
    }
    monitor_unlock(&s->lock);
    table_unref(newer ? old : t);
    return newer;
}

static uint64_t version_of(const struct table_slot *s)
{
    return s->table ? s->table->version : 0;
}

struct table *table_slot_wait(struct table_slot *s, uint64_t version, int64_t deadline_ns)
{
    monitor_lock(&s->lock);
    while (version_of(s) == version && clock_now_ns() < deadline_ns)
        (void)monitor_wait(&s->lock, deadline_ns);
    struct table *t = table_ref(s->table);
    monitor_unlock(&s->lock);
    return t;
}

uint64_t table_slot_version(struct table_slot *s)
{
    monitor_lock(&s->lock);
    uint64_t version = version_of(s);
    monitor_unlock(&s->lock);
    return version;
}
