/* route.c - which replica runs a call: the one with the least expected finish.
 *
 * finish = work that is under way there (gateway/load.h) + transfer of the inputs + the runs, as
 * measured.  Devices that just could not be reached come last, those banned for this request never. */
#include "gateway/internal.h"

#include <stdio.h>
#include <string.h>

#define LINK_MS_UNKNOWN 0.2
#define LINK_MBIT_UNKNOWN 1000.0
#define SHUNNED_MS 1e6

double route_transfer_ms(const struct table *t, int from, int to, double bytes)
{
    if (from == to)
        return 0;
    const struct table_link *l = from < 0 ? NULL : table_find_link(t, (uint32_t)from, (uint32_t)to);
    double latency = l ? l->latency_ms : LINK_MS_UNKNOWN, mbit = l ? l->mbit : LINK_MBIT_UNKNOWN;
    return latency + 8 * bytes / (mbit * 1000);
}

/* The inputs come at once, so the slowest counts. */
static double inputs_ms(const struct table *t, const int *from, int count, int to, double bytes)
{
    double worst = 0;
    for (int i = 0; i < count; i++) {
        double ms = route_transfer_ms(t, from[i], to, bytes / count);
        worst = ms > worst ? ms : worst;
    }
    return worst;
}

/* "d1, d2 (loading)": who holds the module, or will. */
static const char *holders(const struct table *t, const struct table_module *m, char *to,
                           size_t size)
{
    size_t at = 0;
    (void)snprintf(to, size, "none");
    for (uint32_t i = 0; i < m->replica_count && at < size; i++)
        at += (size_t)snprintf(
            to + at, size - at, "%s%s%s", i ? ", " : "", t->devices[m->replicas[i].device].name,
            m->replicas[i].serving || !t->devices[m->replicas[i].device].alive ? "" : " (loading)");
    return to;
}

int route_hope_ms(struct gateway *g, const struct table *t, const struct table_module *m)
{
    int hope = 0;
    if (t->placing)
        return ROUTE_LOAD_MS;
    for (uint32_t i = 0; i < m->replica_count; i++) {
        const struct table_replica *r = &m->replicas[i];
        const struct table_device *d = &t->devices[r->device];
        if (d->alive && !r->serving)
            return ROUTE_LOAD_MS;
        if (d->alive && load_down_ms(g->load, d->id) < ROUTE_NOTICE_MS)
            hope = ROUTE_NOTICE_MS;
    }
    return hope;
}

int route_choose(struct gateway *g, const struct table *t, const struct table_module *m,
                 const int *from, int from_count, double bytes, double runs, const bool *banned,
                 struct err *e)
{
    int best = -1;
    double best_ms = 0;
    for (uint32_t i = 0; i < m->replica_count; i++) {
        const struct table_replica *r = &m->replicas[i];
        const struct table_device *d = &t->devices[r->device];
        if (!r->serving || !d->alive || banned[r->device])
            continue;
        double lanes = d->lanes ? d->lanes : 1;
        double ms = load_queue_ms(g->load, d->id, lanes) +
                    inputs_ms(t, from, from_count, (int)r->device, bytes) + runs * r->run_ms +
                    (load_shunned(g->load, d->id) ? SHUNNED_MS : 0);
        if (best < 0 || ms < best_ms) {
            best = (int)r->device;
            best_ms = ms;
        }
    }
    if (best < 0) {
        char names[256];
        err_set(e, ERR_NO_PLACE,
                "module '%s' (%.12s): no device that holds it can be reached (held by: %s)",
                m->name, m->digest.hex, holders(t, m, names, sizeof(names)));
    }
    return best;
}
