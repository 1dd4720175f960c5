/* trace.c - a ring of traces. */
#include "gateway/trace.h"

#include "base/sync.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct trace {
    struct traces *ring;
    char request[WIRE_ID_MAX], task[WIRE_NAME_MAX], model[WIRE_NAME_MAX];
    double total_ms;
    char error[200];
    struct span *spans;
    int count;
    int holders; /* the ring and the request; under the ring's lock */
};

struct traces {
    struct monitor lock;
    struct trace *ring[TRACES_MAX];
    unsigned at;
};

struct traces *traces_new(void)
{
    struct traces *t = calloc(1, sizeof(*t));
    if (t)
        monitor_init(&t->lock);
    return t;
}

static void drop(struct trace *t)
{
    if (!t || --t->holders > 0)
        return;
    free(t->spans);
    free(t);
}

void traces_free(struct traces *t)
{
    if (!t)
        return;
    for (int i = 0; i < TRACES_MAX; i++)
        drop(t->ring[i]);
    monitor_destroy(&t->lock);
    free(t);
}

struct trace *trace_begin(struct traces *t, const char *request, const char *task,
                          const char *model)
{
    struct trace *x = calloc(1, sizeof(*x));
    if (!x)
        return NULL;
    x->ring = t;
    x->holders = 2;
    (void)snprintf(x->request, sizeof(x->request), "%s", request);
    (void)snprintf(x->task, sizeof(x->task), "%s", task);
    (void)snprintf(x->model, sizeof(x->model), "%s", model);
    monitor_lock(&t->lock);
    struct trace **place = &t->ring[t->at++ % TRACES_MAX];
    drop(*place);
    *place = x;
    monitor_unlock(&t->lock);
    return x;
}

void trace_add(struct trace *t, const struct span *s)
{
    if (!t)
        return;
    monitor_lock(&t->ring->lock);
    if (t->count < TRACE_SPANS_MAX) {
        struct span *more = realloc(t->spans, ((size_t)t->count + 1) * sizeof(*more));
        if (more) {
            t->spans = more;
            more[t->count++] = *s;
        }
    }
    monitor_unlock(&t->ring->lock);
}

void trace_devices(struct trace *t, char *to, size_t size)
{
    size_t n = 0;
    to[0] = 0;
    if (!t)
        return;
    monitor_lock(&t->ring->lock);
    for (int i = 0; i < t->count; i++) {
        bool seen = t->spans[i].error[0] != 0;
        for (int k = 0; k < i && !seen; k++)
            seen = !t->spans[k].error[0] && strcmp(t->spans[k].device, t->spans[i].device) == 0;
        if (!seen && n < size)
            n += (size_t)snprintf(to + n, size - n, "%s%s", n ? "," : "", t->spans[i].device);
    }
    monitor_unlock(&t->ring->lock);
}

void trace_end(struct trace *t, double total_ms, const char *error)
{
    if (!t)
        return;
    struct traces *ring = t->ring;
    monitor_lock(&ring->lock);
    t->total_ms = total_ms;
    (void)snprintf(t->error, sizeof(t->error), "%s", error ? error : "");
    drop(t);
    monitor_unlock(&ring->lock);
}

static json_t *span_json(const struct span *s)
{
    return json_pack("{s:s,s:s,s:s,s:s,s:i,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:b,s:b,s:s}", "call",
                     s->call, "module", s->module, "digest", s->digest, "device", s->device,
                     "attempt", (int)s->attempt, "start_ms", s->start_ms, "total_ms", s->total_ms,
                     "wait_ms", s->times.wait_ms, "prepare_ms", s->times.prepare_ms, "queue_ms",
                     s->times.queue_ms, "run_ms", s->times.run_ms, "deliver_ms",
                     s->times.deliver_ms, "cached", (int)s->times.cached, "emulated",
                     (int)s->times.emulated, "error", s->error);
}

json_t *traces_json(struct traces *t, const char *request)
{
    json_t *o = NULL;
    monitor_lock(&t->lock);
    for (int i = 0; i < TRACES_MAX && !o; i++) {
        const struct trace *x = t->ring[i];
        if (!x || strcmp(x->request, request) != 0)
            continue;
        json_t *spans = json_array();
        for (int k = 0; k < x->count; k++)
            json_array_append_new(spans, span_json(&x->spans[k]));
        o = json_pack("{s:s,s:s,s:s,s:f,s:s,s:o}", "request", x->request, "task", x->task, "model",
                      x->model, "total_ms", x->total_ms, "error", x->error, "spans", spans);
    }
    monitor_unlock(&t->lock);
    return o;
}
