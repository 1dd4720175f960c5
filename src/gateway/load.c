/* load.c - work under way per device.  Few devices: a list is enough. */
#include "gateway/load.h"

#include "base/clock.h"
#include "base/sync.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row {
    char device[WIRE_ID_MAX];
    double pending_ms;
    double waited_ms;  /* by the last call that was answered, */
    int64_t waited_ns; /* and when that was */
    int64_t shun_until_ns;
    int64_t down_ns, failed_ns; /* first and last failure since the last answer; 0: none */
};

struct load {
    struct monitor lock;
    struct row rows[WIRE_DEVICES_MAX];
    int count;
    double steps; /* mean of generations of late; 0: none yet */
};

#define STEPS_WEIGHT 0.2 /* of the newest generation in the mean */

struct load *load_new(void)
{
    struct load *l = calloc(1, sizeof(*l));
    if (l)
        monitor_init(&l->lock);
    return l;
}

void load_free(struct load *l)
{
    if (!l)
        return;
    monitor_destroy(&l->lock);
    free(l);
}

/* With the lock held.  When the list is full the last row is taken again: devices that have left
 * long ago. */
static struct row *row(struct load *l, const char *device)
{
    for (int i = 0; i < l->count; i++)
        if (strcmp(l->rows[i].device, device) == 0)
            return &l->rows[i];
    struct row *r = &l->rows[l->count < WIRE_DEVICES_MAX ? l->count++ : WIRE_DEVICES_MAX - 1];
    *r = (struct row){0};
    (void)snprintf(r->device, sizeof(r->device), "%s", device);
    return r;
}

static void add(struct load *l, const char *device, double ms)
{
    monitor_lock(&l->lock);
    struct row *r = row(l, device);
    r->pending_ms = r->pending_ms + ms > 1e-9 ? r->pending_ms + ms : 0;
    monitor_unlock(&l->lock);
}

void load_begin(struct load *l, const char *device, double ms)
{
    add(l, device, ms);
}

void load_end(struct load *l, const char *device, double ms)
{
    add(l, device, -ms);
}

void load_waited(struct load *l, const char *device, double queue_ms)
{
    monitor_lock(&l->lock);
    struct row *r = row(l, device);
    r->waited_ms = queue_ms;
    r->waited_ns = clock_now_ns();
    monitor_unlock(&l->lock);
}

double load_queue_ms(struct load *l, const char *device, double lanes)
{
    monitor_lock(&l->lock);
    const struct row *r = row(l, device);
    double own = r->pending_ms / lanes, waited = r->waited_ms;
    int64_t since = r->waited_ns;
    monitor_unlock(&l->lock);
    double all = waited > 0 ? waited - clock_ms_since(since) : 0;
    return all > own ? all : own;
}

void load_steps(struct load *l, double steps)
{
    monitor_lock(&l->lock);
    l->steps = l->steps > 0 ? (1 - STEPS_WEIGHT) * l->steps + STEPS_WEIGHT * steps : steps;
    monitor_unlock(&l->lock);
}

double load_mean_steps(struct load *l)
{
    monitor_lock(&l->lock);
    double steps = l->steps;
    monitor_unlock(&l->lock);
    return steps > 1 ? steps : 1;
}

void load_failed(struct load *l, const char *device)
{
    monitor_lock(&l->lock);
    struct row *r = row(l, device);
    int64_t now = clock_now_ns();
    if (!r->down_ns || now - r->failed_ns > LOAD_FORGET_MS * NS_PER_MS)
        r->down_ns = now;
    r->failed_ns = now;
    r->shun_until_ns = clock_deadline_ms(LOAD_SHUN_MS);
    monitor_unlock(&l->lock);
}

void load_worked(struct load *l, const char *device)
{
    monitor_lock(&l->lock);
    row(l, device)->down_ns = 0;
    monitor_unlock(&l->lock);
}

double load_down_ms(struct load *l, const char *device)
{
    monitor_lock(&l->lock);
    int64_t since = row(l, device)->down_ns;
    monitor_unlock(&l->lock);
    return since ? clock_ms_since(since) : 0;
}

int load_shunned(struct load *l, const char *device)
{
    monitor_lock(&l->lock);
    int shunned = row(l, device)->shun_until_ns > clock_now_ns();
    monitor_unlock(&l->lock);
    return shunned;
}
