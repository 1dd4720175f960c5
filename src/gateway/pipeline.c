/* pipeline.c - /pipeline/{task}/{model} and /models/{model}, the Hugging Face forms. */
#include "base/cancel.h"
#include "base/clock.h"
#include "gateway/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define TIMEOUT_MS_DEFAULT 60000
/* Tables that a request may try: one that is older than the fleet is not its last word. */
#define USAGE_COLUMNS 7
#define TABLE_RETRIES 48
#define RETRY_MS 100 /* and between two looks at the same one, growing by as much */
#define RETRY_MS_MAX 500

/* A request as it is answered. */
struct ask {
    struct gateway *gateway;
    struct net_request *http;
    const char *task; /* NULL: what the model does with such an input */
    const char *model;
    struct request request;
    char id[WIRE_ID_MAX];
    bool fresh;
    bool counted; /* in the usage */
    uint32_t attempt;
    int64_t start_ns, deadline_ns;
    struct err lost; /* see struct flight */
};

static void new_id(char *to, size_t size)
{
    uint64_t r[2] = {0};
    (void)!getrandom(r, sizeof(r), 0);
    (void)snprintf(to, size, "%016llx%016llx", (unsigned long long)r[0], (unsigned long long)r[1]);
}

/* Adds to the row [asked, answered, runs, bytes, timed, us, around] of a task. */
static void count_usage(struct gateway *g, const char *model, const char *task,
                        const json_int_t more[USAGE_COLUMNS])
{
    char key[2 * WIRE_NAME_MAX];
    (void)snprintf(key, sizeof(key), "%.127s\t%.127s", model, task);
    monitor_lock(&g->lock);
    json_t *row = json_object_get(g->usage, key);
    if (!row && json_object_size(g->usage) < WIRE_MODELS_MAX) {
        row = json_pack("[i,i,i,i,i,i,i]", 0, 0, 0, 0, 0, 0, 0);
        if (json_object_set_new(g->usage, key, row) != 0)
            row = NULL;
    }
    for (size_t i = 0; row && i < USAGE_COLUMNS; i++)
        (void)json_integer_set(json_array_get(row, i),
                               json_integer_value(json_array_get(row, i)) + more[i]);
    monitor_unlock(&g->lock);
}

static json_int_t query_bytes(const struct request *r)
{
    size_t bytes = 0;
    for (int k = 0; k < MEDIA_KINDS; k++)
        bytes += r->media[k] ? mem_size(r->media[k]) : 0;
    return (json_int_t)bytes;
}

static void count_answered(const struct ask *a, const char *task, const struct flight *f)
{
    bool timed = !f->from_cache && *f->attempt <= 1;
    json_int_t us = (clock_now_ns() - f->start_ns) / 1000;
    json_int_t around = us - (json_int_t)(f->modelled_ms * 1000);
    count_usage(a->gateway, a->model, task,
                (json_int_t[]){0, 1, f->runs, query_bytes(&a->request), timed, timed ? us : 0,
                               timed && around > 0 ? around : 0});
}

/* One table's worth of attempts.  *known: the version that was tried; *hope_ms: see struct flight. */
static bool try_table(struct ask *a, struct trace **trace, json_t **ret, uint64_t *known,
                      int *hope_ms, struct err *e)
{
    struct gateway *g = a->gateway;
    struct book *b = gateway_book(g);
    if (!b) {
        *hope_ms = ROUTE_NOTICE_MS;
        return err_set(e, ERR_NO_PLACE, "gateway: there is no routing table yet");
    }
    *known = b->table->version;
    int model = book_model(b, a->model);
    bool ok = model >= 0 && b->programs[model];
    if (!ok)
        err_set(e, model < 0 ? ERR_NOT_FOUND : ERR_INTERNAL, "model '%.80s': %s", a->model,
                model < 0 ? "there is none of that name" : "its programs can't be read");
    int chosen =
        ok ? request_choose(b->programs[model], b->counts[model], a->task, &a->request, e) : -1;
    if (chosen >= 0) {
        const struct program *p = b->programs[model][chosen];
        if (!*trace)
            *trace = trace_begin(g->traces, a->id, p->task, a->model);
        struct flight f = {.gateway = g,
                           .table = b->table,
                           .program = p,
                           .request = &a->request,
                           .id = a->id,
                           .fresh = a->fresh,
                           .start_ns = a->start_ns,
                           .deadline_ns = a->deadline_ns,
                           .cancel = net_request_cancel(a->http),
                           .attempt = &a->attempt,
                           .trace = *trace,
                           .lost = &a->lost};
        ok = request_fit(&a->request, p, e);
        if (ok && !a->counted) /* what is asked for, also when devices can't keep up with it */
            count_usage(g, a->model, p->task, (json_int_t[]){1, 0, 0, 0, 0, 0, 0});
        a->counted = a->counted || ok;
        ok = ok && flight_run(&f, ret, e);
        if (ok)
            count_answered(a, p->task, &f);
        *hope_ms = f.hope_ms;
    }
    book_unref(b);
    return ok && chosen >= 0;
}

/* What a device that is gone said last belongs to the news that there is no other. */
static bool fail(struct ask *a, struct err *e)
{
    if (e->code == ERR_NO_PLACE && a->lost.code != ERR_NONE)
        err_set(e, ERR_NO_PLACE, "%.280s; lost: %.200s", e->text, a->lost.text);
    return false;
}

/* A request whose module has no living place waits while there is hope for one, within its
 * deadline. */
static bool answer(struct ask *a, struct trace **trace, json_t **ret, struct err *e)
{
    for (int i = 0; i < TABLE_RETRIES; i++) {
        uint64_t known = 0;
        int hope_ms = 0;
        if (try_table(a, trace, ret, &known, &hope_ms, e))
            return true;
        int64_t now = clock_now_ns(), end = a->start_ns + hope_ms * NS_PER_MS;
        end = end < a->deadline_ns ? end : a->deadline_ns;
        if ((e->code != ERR_NO_PLACE && e->code != ERR_GONE) || now >= end ||
            cancel_fired(net_request_cancel(a->http)))
            break;
        int64_t slice = clock_deadline_ms(i < 4 ? (i + 1) * RETRY_MS : RETRY_MS_MAX);
        table_unref(table_slot_wait(a->gateway->options.slot, known, slice < end ? slice : end));
    }
    return fail(a, e);
}

static void reply(struct ask *a, struct trace *trace, json_t *value, const struct err *e)
{
    char devices[512], ms[32];
    trace_devices(trace, devices, sizeof(devices));
    (void)snprintf(ms, sizeof(ms), "%.3f", clock_ms_since(a->start_ns));
    net_reply_header(a->http, "S2M3-Request", a->id);
    net_reply_header(a->http, "S2M3-Devices", devices);
    net_reply_header(a->http, "S2M3-Latency-Ms", ms);
    if (value)
        net_reply_json(a->http, 200, value);
    else
        net_reply_err(a->http, e);
}

/* Said before the body is looked at: a wrong name is the more useful news. */
static bool knows_model(struct gateway *g, const char *model, struct err *e)
{
    struct table *t = table_slot_get(g->options.slot);
    bool known = !t || table_find_model(t, model) != NULL;
    table_unref(t);
    return known || err_set(e, ERR_NOT_FOUND, "model '%.80s': there is none of that name", model);
}

void gateway_handle_pipeline(struct net_request *r, void *gateway)
{
    struct gateway *g = gateway;
    struct ask a = {.gateway = g,
                    .http = r,
                    .task = net_request_param(r, "task"),
                    .model = net_request_param(r, "model"),
                    .start_ns = clock_now_ns()};
    struct err e = {0};
    struct trace *trace = NULL;
    json_t *value = NULL;
    size_t size;
    const void *body = net_request_body(r, &size);
    const char *cache = net_request_header(r, "Cache-Control");
    uint64_t timeout = g->options.timeout_ms ? g->options.timeout_ms : TIMEOUT_MS_DEFAULT;
    int64_t own = clock_deadline_ms((int64_t)timeout), asked = net_request_deadline(r);
    a.deadline_ns = own < asked ? own : asked;
    a.fresh = cache && (strstr(cache, "no-store") || strstr(cache, "no-cache"));
    new_id(a.id, sizeof(a.id));
    atomic_fetch_add(&g->counters.requests, 1);
    atomic_fetch_add(&g->counters.under_way, 1);
    bool ok = knows_model(g, a.model, &e) &&
              request_read(net_request_header(r, "Content-Type"), body, size, &a.request, &e) &&
              answer(&a, &trace, &value, &e);
    if (!ok)
        atomic_fetch_add(&g->counters.errors, 1);
    atomic_fetch_add(&g->counters.latency_us,
                     (unsigned long long)(clock_ms_since(a.start_ns) * 1000));
    atomic_fetch_sub(&g->counters.under_way, 1);
    reply(&a, trace, ok ? value : NULL, &e);
    trace_end(trace, clock_ms_since(a.start_ns), ok ? NULL : e.text);
    request_clear(&a.request);
}

void gateway_handle_trace(struct net_request *r, void *gateway)
{
    struct gateway *g = gateway;
    struct err e;
    json_t *o = traces_json(g->traces, net_request_param(r, "id"));
    if (o) {
        net_reply_json(r, 200, o);
        return;
    }
    err_set(&e, ERR_NOT_FOUND, "trace '%.64s': not among the last %d requests of this gateway",
            net_request_param(r, "id"), TRACES_MAX);
    net_reply_err(r, &e);
}
