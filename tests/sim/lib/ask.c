/* ask.c - requests, calls, deliveries to a simulated fleet, and a lane that is held. */
#include "base/cancel.h"
#include "base/clock.h"
#include "lib/cmocka.h"
#include "sim/lib/sim.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TINY 0x1p-149 /* the smallest float32: bits 1 */

static bool post(struct sim *s, const char *base, const char *path, const char *type,
                 const struct net_part *parts, size_t count, struct cancel *cancel,
                 struct net_answer *ret, struct err *e)
{
    char url[WIRE_URL_MAX + 256];
    (void)snprintf(url, sizeof(url), "%s%s", base, path);
    struct net_header header = {"Content-Type", type};
    struct net_call call = {.method = parts ? "POST" : "GET",
                            .url = url,
                            .headers = &header,
                            .header_count = parts ? 1 : 0,
                            .parts = parts,
                            .part_count = count,
                            .deadline_ns = clock_deadline_ms(3 * SIM_WAIT_MS),
                            .cancel = cancel};
    return net_call(s->client, &call, ret, e);
}

/* ---- by way of a gateway --------------------------------------------------------------------- */

void sim_reply_clear(struct sim_reply *r)
{
    json_decref(r->body);
    *r = (struct sim_reply){0};
}

struct sim_reply sim_ask(struct sim *s, int device, const char *model, const char *text,
                         struct cancel *cancel)
{
    struct sim_reply r = {0};
    struct net_answer a;
    char path[256];
    struct net_part part = {text, strlen(text)};
    (void)snprintf(path, sizeof(path), "/models/%s", model);
    r.sent =
        post(s, s->devices[device].public_url, path, "text/plain", &part, 1, cancel, &a, &r.error);
    if (!r.sent)
        return r;
    r.status = a.status;
    r.body = json_loadb(a.body, a.size, JSON_DECODE_ANY, NULL);
    (void)net_answer_header(&a, "S2M3-Request", r.request, sizeof(r.request));
    (void)net_answer_header(&a, "S2M3-Devices", r.devices, sizeof(r.devices));
    (void)net_answer_header(&a, "Retry-After", r.retry_after, sizeof(r.retry_after));
    net_answer_clear(&a);
    return r;
}

double sim_number(const json_t *vector, size_t i)
{
    const json_t *v = json_array_get(vector, i);
    return json_is_number(v) ? json_number_value(v) / TINY : -1;
}

json_t *sim_trace(struct sim *s, int device, const char *request)
{
    struct err e;
    struct net_answer a;
    char path[128];
    (void)snprintf(path, sizeof(path), "/s2m3/v1/traces/%s", request);
    if (!post(s, s->devices[device].public_url, path, NULL, NULL, 0, NULL, &a, &e))
        fail_msg("%s", e.text);
    json_t *o = json_loadb(a.body, a.size, 0, NULL);
    net_answer_clear(&a);
    return o;
}

static void *run_asking(void *asking)
{
    struct sim_asking *a = asking;
    a->reply = sim_ask(a->sim, a->device, a->model, a->text, a->cancel);
    return NULL;
}

void sim_ask_start(struct sim *s, struct sim_asking *a, int device, const char *model,
                   const char *text)
{
    struct err e;
    *a = (struct sim_asking){
        .sim = s, .device = device, .model = model, .text = text, .cancel = cancel_new()};
    if (!a->cancel || !thread_start(&a->thread, "ask", run_asking, a, &e))
        fail_msg("no thread");
}

void sim_ask_end(struct sim_asking *a)
{
    (void)pthread_join(a->thread, NULL);
    cancel_unref(a->cancel);
}

/* ---- straight to a node ---------------------------------------------------------------------- */

/* Sends a frame; false with the error of the way or of the answer. */
static bool post_frame(struct sim *s, int device, const char *path, const struct frame_out *f,
                       struct cancel *cancel, struct net_answer *ret, struct err *e)
{
    struct net_part body[WIRE_PARTS_MAX + 1] = {{f->head.data, f->head.size}};
    for (int i = 0; i < f->part_count; i++)
        body[i + 1] = (struct net_part){f->parts[i].data, f->parts[i].size};
    if (!post(s, s->devices[device].peer_url, path, FRAME_CONTENT_TYPE, body,
              (size_t)f->part_count + 1, cancel, ret, e))
        return false;
    if (net_answer_err(ret, e))
        return true;
    net_answer_clear(ret);
    return false;
}

bool sim_call(struct sim *s, int device, const struct call *c, struct cancel *cancel,
              struct call_answer *ret, struct err *e)
{
    struct frame_out out;
    struct net_answer a;
    bool ok = call_write(c, &out, e) && post_frame(s, device, "/s2m3/v1/call", &out, cancel, &a, e);
    frame_out_clear(&out);
    if (!ok)
        return false;
    struct mem *m = mem_wrap(a.body, a.size, free, a.body);
    a.body = m ? NULL : a.body;
    ok = m ? call_answer_read(m, ret, e) : err_set(e, ERR_MEMORY, "no memory");
    mem_unref(m);
    net_answer_clear(&a);
    return ok;
}

bool sim_deliver(struct sim *s, int device, const struct delivery *d, struct err *e)
{
    struct frame_out out;
    struct net_answer a;
    bool ok =
        delivery_write(d, &out, e) && post_frame(s, device, "/s2m3/v1/deliver", &out, NULL, &a, e);
    frame_out_clear(&out);
    if (ok)
        net_answer_clear(&a);
    return ok;
}

bool sim_ping(struct sim *s, int device, struct err *e)
{
    struct net_answer a;
    if (!post(s, s->devices[device].peer_url, "/s2m3/v1/ping", NULL, NULL, 0, NULL, &a, e))
        return false;
    bool ok = net_answer_err(&a, e);
    net_answer_clear(&a);
    return ok;
}

/* ---- a held lane ----------------------------------------------------------------------------- */

static void *run_block(void *block)
{
    struct sim_block *b = block;
    struct err e;
    struct shape one = {.rank = 1, .dims = {1}};
    struct call_answer a = {0};
    struct call *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    (void)snprintf(c->key.request, sizeof(c->key.request), "block");
    (void)snprintf(c->key.call, sizeof(c->key.call), "block");
    c->key.attempt = 1;
    c->module = b->module;
    c->fresh = true;
    c->deadline_ms = 600000;
    c->input_count = 1;
    c->inputs[0].source = CALL_TENSOR;
    (void)snprintf(c->inputs[0].port, sizeof(c->inputs[0].port), "x");
    if (tensor_new(DT_U8, &one, &c->inputs[0].tensor, &e) &&
        sim_call(b->sim, b->device, c, b->cancel, &a, &e))
        call_answer_clear(&a);
    call_clear(c);
    free(c);
    return NULL;
}

void sim_block(struct sim *s, struct sim_block *b, int device, const struct sim_module *module)
{
    struct err e;
    *b = (struct sim_block){
        .sim = s, .device = device, .module = module->digest, .cancel = cancel_new()};
    if (!b->cancel || !thread_start(&b->thread, "block", run_block, b, &e))
        fail_msg("no thread");
    sim_wait_lanes(s, device, 1, 0);
}

void sim_unblock(struct sim_block *b)
{
    cancel_fire(b->cancel);
    (void)pthread_join(b->thread, NULL);
    cancel_unref(b->cancel);
}
