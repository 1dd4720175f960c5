/* call.c - calls, their answers and deliveries as frames. */
#include "wire/call.h"

#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEADLINE_MS_MAX 86400000
#define GENERATION_MAX (1u << 20)
#define ANSWER_TEXT_MAX (4u << 20)

#define FLAG_GENERATE 1u
#define FLAG_FRESH 2u
#define FLAG_CACHED 1u
#define FLAG_EMULATED 2u
#define FLAG_TEXT 4u

/* ---- pieces --------------------------------------------------------------------------------- */

static void write_key(struct frame_out *f, const struct call_key *key)
{
    frame_text(f, key->request);
    frame_text(f, key->call);
    frame_u64(f, key->attempt);
}

static void read_key(struct frame_in *f, struct call_key *key)
{
    frame_read_text(f, "request", key->request, sizeof(key->request), false);
    frame_read_text(f, "call", key->call, sizeof(key->call), false);
    key->attempt = frame_read_u32(f, "attempt", UINT32_MAX);
}

static void read_digest(struct frame_in *f, const char *name, struct digest *to)
{
    frame_read_text(f, name, to->hex, sizeof(to->hex), false);
    if (!f->bad && !digest_valid(to->hex)) {
        err_set(f->e, ERR_INVALID, "%s: '%s' is not a SHA-256 digest", f->what, name);
        f->bad = true;
    }
}

/* ---- call ----------------------------------------------------------------------------------- */

static void write_input(struct frame_out *f, const struct call_input *in)
{
    frame_u8(f, (uint8_t)in->source);
    if (in->source == CALL_MEDIA) {
        frame_text(f, in->kind);
        frame_text(f, in->config.hex);
        frame_part(f, mem_data(in->media), mem_size(in->media));
        return;
    }
    frame_text(f, in->port);
    if (in->source == CALL_TENSOR)
        frame_tensor(f, &in->tensor);
}

static void read_input(struct frame_in *f, struct call_input *in)
{
    uint8_t source = frame_read_u8(f);
    *in = (struct call_input){.source = (enum call_source)source};
    if (!f->bad && source > CALL_MEETING) {
        err_set(f->e, ERR_INVALID, "%s: an input is of kind %u, should be 0 to %d", f->what, source,
                CALL_MEETING);
        f->bad = true;
    }
    if (f->bad)
        return;
    if (in->source == CALL_MEDIA) {
        frame_read_text(f, "kind", in->kind, sizeof(in->kind), false);
        read_digest(f, "config", &in->config);
        in->media = frame_read_part(f);
        return;
    }
    frame_read_text(f, "port", in->port, sizeof(in->port), false);
    if (in->source == CALL_TENSOR)
        frame_read_tensor(f, &in->tensor);
}

static void write_target(struct frame_out *f, const struct call_target *t)
{
    frame_text(f, t->device);
    frame_text(f, t->call);
    frame_text(f, t->output);
    frame_text(f, t->port);
    frame_u64(f, t->reserve);
}

static void read_target(struct frame_in *f, struct call_target *t)
{
    frame_read_text(f, "device", t->device, sizeof(t->device), false);
    frame_read_text(f, "call", t->call, sizeof(t->call), false);
    frame_read_text(f, "output", t->output, sizeof(t->output), false);
    frame_read_text(f, "port", t->port, sizeof(t->port), false);
    t->reserve = frame_read_u64(f, "reserve", WIRE_BODY_MAX);
}

bool call_write(const struct call *c, struct frame_out *ret, struct err *e)
{
    char *settings = c->generation ? json_text(c->generation) : NULL;
    unsigned flags = (c->generate ? FLAG_GENERATE : 0) | (c->fresh ? FLAG_FRESH : 0);
    frame_begin(ret, FRAME_CALL);
    write_key(ret, &c->key);
    frame_text(ret, c->module.hex);
    frame_text(ret, c->model);
    frame_text(ret, c->trace);
    frame_u64(ret, c->deadline_ms);
    frame_u64(ret, c->reserve);
    frame_u8(ret, (uint8_t)flags);
    frame_long_text(ret, settings ? settings : "", settings ? strlen(settings) : 0);
    free(settings);
    frame_u64(ret, (uint64_t)c->input_count);
    for (int i = 0; i < c->input_count; i++)
        write_input(ret, &c->inputs[i]);
    frame_u64(ret, (uint64_t)c->target_count);
    for (int i = 0; i < c->target_count; i++)
        write_target(ret, &c->targets[i]);
    frame_u64(ret, (uint64_t)c->return_count);
    for (int i = 0; i < c->return_count; i++)
        frame_text(ret, c->returns[i]);
    return frame_end(ret, "call", e);
}

static void read_generation(struct frame_in *f, struct call *c)
{
    char *text = frame_read_long_text(f, "generation", GENERATION_MAX);
    if (!f->bad && c->generate) {
        c->generation =
            json_parse("generation", *text ? text : "{}", *text ? strlen(text) : 2, f->e);
        f->bad = !json_is_object(c->generation);
        if (c->generation && f->bad)
            err_set(f->e, ERR_INVALID, "call: 'generation' should be an object");
    }
    free(text);
}

/* The counts are set as rows are read, so that call_clear() sees a half-read one. */
static void read_lists(struct frame_in *f, struct call *c)
{
    int inputs = (int)frame_read_u64(f, "inputs", WIRE_INPUTS_MAX);
    while (!f->bad && c->input_count < inputs)
        read_input(f, &c->inputs[c->input_count++]);
    int targets = (int)frame_read_u64(f, "targets", WIRE_TARGETS_MAX);
    while (!f->bad && c->target_count < targets)
        read_target(f, &c->targets[c->target_count++]);
    int returns = (int)frame_read_u64(f, "returns", WIRE_INPUTS_MAX);
    while (!f->bad && c->return_count < returns)
        frame_read_text(f, "return", c->returns[c->return_count++], TENSOR_NAME_MAX, false);
}

bool call_read(struct mem *body, struct call *ret, struct err *e)
{
    struct frame_in f;
    if (!frame_open(&f, body, FRAME_CALL, "call", e))
        return false;
    ret->input_count = ret->target_count = ret->return_count = 0;
    ret->generation = NULL;
    read_key(&f, &ret->key);
    read_digest(&f, "module", &ret->module);
    frame_read_text(&f, "model", ret->model, sizeof(ret->model), true);
    frame_read_text(&f, "trace", ret->trace, sizeof(ret->trace), true);
    ret->deadline_ms = frame_read_u64(&f, "deadline", DEADLINE_MS_MAX);
    ret->reserve = frame_read_u64(&f, "reserve", WIRE_BODY_MAX);
    uint8_t flags = frame_read_u8(&f);
    ret->generate = (flags & FLAG_GENERATE) != 0;
    ret->fresh = (flags & FLAG_FRESH) != 0;
    read_generation(&f, ret);
    read_lists(&f, ret);
    if (frame_close(&f))
        return true;
    call_clear(ret);
    return false;
}

void call_clear(struct call *c)
{
    for (int i = 0; i < c->input_count; i++) {
        mem_unref(c->inputs[i].media);
        tensor_clear(&c->inputs[i].tensor);
        c->inputs[i].media = NULL;
    }
    json_decref(c->generation);
    c->generation = NULL;
    c->input_count = c->target_count = c->return_count = 0;
}

/* ---- answer --------------------------------------------------------------------------------- */

bool call_answer_write(const struct call_answer *a, struct frame_out *ret, struct err *e)
{
    const struct call_times *t = &a->times;
    unsigned flags = (t->cached ? FLAG_CACHED : 0) | (t->emulated ? FLAG_EMULATED : 0) |
                     (a->text ? FLAG_TEXT : 0);
    frame_begin(ret, FRAME_ANSWER);
    frame_double(ret, t->wait_ms);
    frame_double(ret, t->prepare_ms);
    frame_double(ret, t->queue_ms);
    frame_double(ret, t->run_ms);
    frame_double(ret, t->deliver_ms);
    frame_u8(ret, (uint8_t)flags);
    frame_u64(ret, a->tokens);
    frame_long_text(ret, a->text ? a->text : "", a->text ? strlen(a->text) : 0);
    frame_u64(ret, (uint64_t)a->output_count);
    for (int i = 0; i < a->output_count; i++) {
        frame_text(ret, a->outputs[i].name);
        frame_tensor(ret, &a->outputs[i].tensor);
    }
    return frame_end(ret, "answer of a call", e);
}

static void read_times(struct frame_in *f, struct call_times *t)
{
    t->wait_ms = frame_read_double(f, "wait_ms");
    t->prepare_ms = frame_read_double(f, "prepare_ms");
    t->queue_ms = frame_read_double(f, "queue_ms");
    t->run_ms = frame_read_double(f, "run_ms");
    t->deliver_ms = frame_read_double(f, "deliver_ms");
}

bool call_answer_read(struct mem *body, struct call_answer *ret, struct err *e)
{
    struct frame_in f;
    if (!frame_open(&f, body, FRAME_ANSWER, "answer of a call", e))
        return false;
    ret->output_count = 0;
    read_times(&f, &ret->times);
    uint8_t flags = frame_read_u8(&f);
    ret->times.cached = (flags & FLAG_CACHED) != 0;
    ret->times.emulated = (flags & FLAG_EMULATED) != 0;
    ret->tokens = frame_read_u32(&f, "tokens", UINT32_MAX);
    ret->text = frame_read_long_text(&f, "text", ANSWER_TEXT_MAX);
    if (!(flags & FLAG_TEXT)) {
        free(ret->text);
        ret->text = NULL;
    }
    int outputs = (int)frame_read_u64(&f, "outputs", WIRE_INPUTS_MAX);
    while (!f.bad && ret->output_count < outputs) {
        struct named_tensor *out = &ret->outputs[ret->output_count++];
        frame_read_text(&f, "name", out->name, sizeof(out->name), false);
        frame_read_tensor(&f, &out->tensor);
    }
    if (frame_close(&f))
        return true;
    call_answer_clear(ret);
    return false;
}

void call_answer_clear(struct call_answer *a)
{
    for (int i = 0; i < a->output_count; i++)
        tensor_clear(&a->outputs[i].tensor);
    free(a->text);
    a->text = NULL;
    a->output_count = 0;
}

/* ---- delivery ------------------------------------------------------------------------------- */

bool delivery_write(const struct delivery *d, struct frame_out *ret, struct err *e)
{
    frame_begin(ret, FRAME_DELIVERY);
    write_key(ret, &d->key);
    frame_text(ret, d->port);
    frame_u64(ret, d->reserve);
    frame_u64(ret, d->deadline_ms);
    frame_tensor(ret, &d->tensor);
    return frame_end(ret, "delivery", e);
}

bool delivery_read(struct mem *body, struct delivery *ret, struct err *e)
{
    struct frame_in f;
    if (!frame_open(&f, body, FRAME_DELIVERY, "delivery", e))
        return false;
    read_key(&f, &ret->key);
    frame_read_text(&f, "port", ret->port, sizeof(ret->port), false);
    ret->reserve = frame_read_u64(&f, "reserve", WIRE_BODY_MAX);
    ret->deadline_ms = frame_read_u64(&f, "deadline", DEADLINE_MS_MAX);
    frame_read_tensor(&f, &ret->tensor);
    if (frame_close(&f))
        return true;
    tensor_clear(&ret->tensor);
    return false;
}

void delivery_clear(struct delivery *d)
{
    tensor_clear(&d->tensor);
}
