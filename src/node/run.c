/* run.c - one run of a module: lane, runtime, emulated slowness, repeat after a crash. */
#include "node/internal.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

#define REPEAT_MAX 4 /* runs lost to a dying runner before the caller hears of it */
#define REPEAT_PAUSE_MS 100

/* Interruptible: returns early when the caller goes away. */
static void pause_ms(double ms, struct cancel *cancel)
{
    int64_t end = clock_now_ns() + (int64_t)(ms * 1e6);
    while (!cancel_fired(cancel)) {
        int64_t left = end - clock_now_ns();
        if (left <= 0)
            return;
        int64_t slice = left < 20 * NS_PER_MS ? left : 20 * NS_PER_MS;
        struct timespec t = {.tv_sec = 0, .tv_nsec = (long)slice};
        (void)nanosleep(&t, NULL);
    }
}

bool node_emulated(const struct node *n)
{
    return n->options.emulation.text[0] != 0;
}

void node_emulate_link(const struct node *n, size_t bytes)
{
    const struct emulation *em = &n->options.emulation;
    double ms = em->link_ms;
    if (em->link_mbit > 0)
        ms += 8.0 * (double)bytes / (em->link_mbit * 1000);
    if (ms > 0)
        pause_ms(ms, NULL);
}

static bool run_on_lane(struct node *n, struct held_module *m, const struct named_tensor *inputs,
                        int count, struct cancel *cancel, struct tensor *outputs, double *ret_ms,
                        struct err *e)
{
    int64_t start = clock_now_ns();
    bool ok = exec_run(m->module, inputs, count, cancel, outputs, e);
    double ms = clock_ms_since(start), speed = n->options.emulation.speed;
    if (ok && speed > 0 && speed < 1) {
        pause_ms(ms / speed - ms, cancel);
        ms = clock_ms_since(start);
    }
    *ret_ms = ms;
    return ok;
}

static void name_outputs(struct held_module *m, const struct tensor *outputs, struct result *ret)
{
    int count;
    const struct port *ports = exec_outputs(m->module, &count);
    ret->count = count;
    for (int i = 0; i < count; i++) {
        memcpy(ret->outputs[i].name, ports[i].name, sizeof(ports[i].name));
        ret->outputs[i].tensor = outputs[i];
    }
}

bool node_run(struct node *n, struct held_module *m, const struct named_tensor *inputs, int count,
              int64_t deadline_ns, struct cancel *cancel, struct result *ret,
              struct call_times *times, struct err *e)
{
    struct tensor outputs[WIRE_INPUTS_MAX] = {0};
    double ms = 0;
    for (int attempt = 1;; attempt++) {
        int64_t start = clock_now_ns();
        if (!lane_enter(n->lanes, deadline_ns, cancel, e))
            return false;
        times->queue_ms += clock_ms_since(start);
        bool ok = run_on_lane(n, m, inputs, count, cancel, outputs, &ms, e);
        lane_leave(n->lanes);
        times->run_ms += ms;
        if (ok)
            break;
        if (e->code != ERR_GONE || attempt >= REPEAT_MAX || clock_now_ns() >= deadline_ns)
            return false;
        pause_ms(REPEAT_PAUSE_MS, cancel); /* the runner is being started again */
    }
    name_outputs(m, outputs, ret);
    monitor_lock(&n->lock);
    m->report.runs++;
    m->report.busy_ms += ms;
    monitor_unlock(&n->lock);
    return true;
}
