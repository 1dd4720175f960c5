/* links.c - round trip and bandwidth to the other devices, at low cost.
 *
 * Each pair is measured by the device whose id is smaller: the round trip as the smallest of a few
 * pings, the bandwidth with one body of 256 KiB.  Emulated waiting is part of what is measured. */
#include "base/clock.h"
#include "node/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PINGS 5
#define ECHO_BYTES (256u << 10)
#define LINK_MS 3000

static bool exchange(struct node *n, const char *url, const char *path, const void *data,
                     size_t size, double *ms)
{
    char address[WIRE_URL_MAX + 32];
    struct err e;
    struct net_answer a;
    struct net_part part = {data, size};
    (void)snprintf(address, sizeof(address), "%s%s", url, path);
    struct net_call call = {.method = data ? "POST" : "GET",
                            .url = address,
                            .parts = &part,
                            .part_count = data ? 1 : 0,
                            .deadline_ns = clock_deadline_ms(LINK_MS),
                            .max_response = 4096};
    int64_t start = clock_now_ns();
    node_emulate_link(n, size); /* the other end waits for its own */
    if (!net_call(n->client, &call, &a, &e))
        return false;
    node_emulate_link(n, 0);
    *ms = clock_ms_since(start);
    bool ok = a.status == 200;
    net_answer_clear(&a);
    return ok;
}

static bool measure(struct node *n, const struct table_device *d, struct link_report *ret)
{
    double ms, best = 1e9;
    for (int i = 0; i < PINGS; i++) {
        if (!exchange(n, d->peer_url, "/s2m3/v1/ping", NULL, 0, &ms))
            return false;
        best = ms < best ? ms : best;
    }
    char *data = calloc(1, ECHO_BYTES);
    bool ok = data && exchange(n, d->peer_url, "/s2m3/v1/echo", data, ECHO_BYTES, &ms);
    free(data);
    if (!ok)
        return false;
    double transfer = ms - best > 0.01 ? ms - best : 0.01;
    (void)snprintf(ret->device, sizeof(ret->device), "%s", d->id);
    ret->latency_ms = best / 2; /* one way: tau counts it per transfer */
    ret->mbit = 8.0 * ECHO_BYTES / (transfer * 1000);
    return true;
}

void node_measure_links(struct node *n)
{
    struct table *t = table_slot_get(n->slot);
    for (uint32_t i = 0; t && i < t->device_count && !n->stop; i++) {
        const struct table_device *d = &t->devices[i];
        struct link_report r;
        if (!d->alive || strcmp(node_id(n), d->id) >= 0 || !measure(n, d, &r))
            continue;
        monitor_lock(&n->lock);
        if (n->link_count < sizeof(n->links) / sizeof(n->links[0]))
            n->links[n->link_count++] = r;
        monitor_unlock(&n->lock);
    }
    table_unref(t);
}
