/* call.c - calls, their answers and deliveries as frames. */
#include "wire/call.h"

#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reading state: the frame and where we are in it, so that one error text fits all. */
struct reader {
    struct frame frame;
    const char *what;
    struct err *e;
};

static bool copy_text(const struct reader *r, const json_t *o, const char *key, char *to,
                      size_t size)
{
    const char *text;
    if (!json_need_str(o, r->what, key, &text, r->e))
        return false;
    size_t n = strlen(text);
    if (n == 0 || n >= size)
        return err_set(r->e, ERR_INVALID, "%s: '%s' has %zu characters, should be 1 to %zu",
                       r->what, key, n, size - 1);
    memcpy(to, text, n + 1);
    return true;
}

static bool copy_opt_text(const struct reader *r, const json_t *o, const char *key, char *to,
                          size_t size)
{
    to[0] = 0;
    return !json_object_get(o, key) || copy_text(r, o, key, to, size);
}

static bool read_digest(const struct reader *r, const json_t *o, const char *key, struct digest *to)
{
    if (!copy_text(r, o, key, to->hex, sizeof(to->hex)))
        return false;
    if (!digest_valid(to->hex))
        return err_set(r->e, ERR_INVALID, "%s: '%s' is not a SHA-256 digest", r->what, key);
    return true;
}

static bool read_key(const struct reader *r, struct call_key *key)
{
    const json_t *o = r->frame.header;
    uint64_t attempt;
    if (!copy_text(r, o, "request", key->request, sizeof(key->request)) ||
        !copy_text(r, o, "call", key->call, sizeof(key->call)) ||
        !json_need_u64(o, r->what, "attempt", UINT32_MAX, &attempt, r->e))
        return false;
    key->attempt = (uint32_t)attempt;
    return true;
}

static void write_key(json_t *o, const struct call_key *key)
{
    json_object_set_new(o, "request", json_string(key->request));
    json_object_set_new(o, "call", json_string(key->call));
    json_object_set_new(o, "attempt", json_integer(key->attempt));
}

static struct mem *read_part(const struct reader *r, const json_t *o)
{
    uint64_t index;
    if (!json_need_u64(o, r->what, "part", WIRE_PARTS_MAX, &index, r->e))
        return NULL;
    struct mem *m = frame_part_mem(&r->frame, index);
    if (!m)
        err_set(r->e, ERR_INVALID, "%s: there is no part %d", r->what, (int)index);
    return m;
}

static bool read_shape(const struct reader *r, const json_t *o, struct shape *ret)
{
    json_t *dims;
    if (!json_need_array(o, r->what, "shape", TENSOR_RANK_MAX, &dims, r->e))
        return false;
    ret->rank = (int)json_array_size(dims);
    for (int i = 0; i < ret->rank; i++) {
        const json_t *v = json_array_get(dims, (size_t)i);
        if (!json_is_integer(v))
            return err_set(r->e, ERR_INVALID, "%s: dimension %d is not a whole number", r->what, i);
        ret->dims[i] = json_integer_value(v);
    }
    return true;
}

static bool read_tensor(const struct reader *r, const json_t *o, struct tensor *ret)
{
    const char *type;
    struct shape shape;
    if (!json_need_str(o, r->what, "dtype", &type, r->e) || !read_shape(r, o, &shape))
        return false;
    struct mem *m = read_part(r, o);
    if (!m)
        return false;
    bool ok = tensor_over(dtype_from_name(type), &shape, m, 0, mem_size(m), ret, r->e);
    mem_unref(m);
    return ok;
}

static bool add_part(const void *data, size_t size, struct frame_part *parts, int *count, json_t *o,
                     struct err *e)
{
    if (*count >= WIRE_PARTS_MAX)
        return err_set(e, ERR_TOO_LARGE, "call: more than the limit of %d parts", WIRE_PARTS_MAX);
    json_object_set_new(o, "part", json_integer(*count));
    parts[(*count)++] = (struct frame_part){data, size};
    return true;
}

static bool write_tensor(const struct tensor *t, struct frame_part *parts, int *count, json_t *o,
                         struct err *e)
{
    json_t *dims = json_array();
    for (int i = 0; i < t->shape.rank; i++)
        json_array_append_new(dims, json_integer(t->shape.dims[i]));
    json_object_set_new(o, "dtype", json_string(dtype_name(t->dtype)));
    json_object_set_new(o, "shape", dims);
    return add_part(t->data, t->bytes, parts, count, o, e);
}

static const char *const source_names[] = {"media", "tensor", "meeting"};

static bool write_input(const struct call_input *in, json_t *list, struct frame_part *parts,
                        int *count, struct err *e)
{
    json_t *o = json_object();
    json_array_append_new(list, o);
    json_object_set_new(o, "from", json_string(source_names[in->source]));
    if (in->source != CALL_MEDIA)
        json_object_set_new(o, "port", json_string(in->port));
    if (in->source == CALL_TENSOR)
        return write_tensor(&in->tensor, parts, count, o, e);
    if (in->source == CALL_MEETING)
        return true;
    json_object_set_new(o, "kind", json_string(in->kind));
    json_object_set_new(o, "config", json_string(in->config.hex));
    return add_part(mem_data(in->media), mem_size(in->media), parts, count, o, e);
}

static void write_target(const struct call_target *t, json_t *list)
{
    json_t *o = json_object();
    json_object_set_new(o, "device", json_string(t->device));
    json_object_set_new(o, "call", json_string(t->call));
    json_object_set_new(o, "output", json_string(t->output));
    json_object_set_new(o, "port", json_string(t->port));
    json_object_set_new(o, "reserve", json_integer((json_int_t)t->reserve));
    json_array_append_new(list, o);
}

bool call_write(const struct call *c, json_t **header, struct frame_part *parts, int *count,
                struct err *e)
{
    json_t *o = json_object();
    *count = 0;
    write_key(o, &c->key);
    json_object_set_new(o, "module", json_string(c->module.hex));
    json_object_set_new(o, "deadline_ms", json_integer((json_int_t)c->deadline_ms));
    json_object_set_new(o, "reserve", json_integer((json_int_t)c->reserve));
    if (c->model[0])
        json_object_set_new(o, "model", json_string(c->model));
    if (c->trace[0])
        json_object_set_new(o, "trace", json_string(c->trace));
    json_object_set_new(o, "fresh", json_boolean(c->fresh));
    if (c->generate)
        json_object_set_new(o, "generate",
                            c->generation ? json_incref(c->generation) : json_object());
    json_t *inputs = json_array(), *targets = json_array(), *returns = json_array();
    json_object_set_new(o, "inputs", inputs);
    json_object_set_new(o, "deliver", targets);
    json_object_set_new(o, "return", returns);
    for (int i = 0; i < c->input_count; i++)
        if (!write_input(&c->inputs[i], inputs, parts, count, e)) {
            json_decref(o);
            return false;
        }
    for (int i = 0; i < c->target_count; i++)
        write_target(&c->targets[i], targets);
    for (int i = 0; i < c->return_count; i++)
        json_array_append_new(returns, json_string(c->returns[i]));
    *header = o;
    return true;
}

static bool read_input(const struct reader *r, const json_t *o, struct call_input *in)
{
    const char *from;
    if (!json_need_str(o, r->what, "from", &from, r->e))
        return false;
    size_t source = 0;
    while (source < ARRAY_LEN(source_names) && strcmp(source_names[source], from) != 0)
        source++;
    if (source == ARRAY_LEN(source_names))
        return err_set(r->e, ERR_INVALID,
                       "%s: an input is from '%.40s', should be media, tensor or meeting", r->what,
                       from);
    in->source = (enum call_source)source;
    if (in->source != CALL_MEDIA && !copy_text(r, o, "port", in->port, sizeof(in->port)))
        return false;
    if (in->source == CALL_TENSOR)
        return read_tensor(r, o, &in->tensor);
    if (in->source == CALL_MEETING)
        return true;
    if (!copy_text(r, o, "kind", in->kind, sizeof(in->kind)) ||
        !read_digest(r, o, "config", &in->config))
        return false;
    in->media = read_part(r, o);
    return in->media != NULL;
}

static bool read_target(const struct reader *r, const json_t *o, struct call_target *t)
{
    return copy_text(r, o, "device", t->device, sizeof(t->device)) &&
           copy_text(r, o, "call", t->call, sizeof(t->call)) &&
           copy_text(r, o, "output", t->output, sizeof(t->output)) &&
           copy_text(r, o, "port", t->port, sizeof(t->port)) &&
           json_need_u64(o, r->what, "reserve", WIRE_BODY_MAX, &t->reserve, r->e);
}

static bool read_lists(const struct reader *r, struct call *c)
{
    const json_t *o = r->frame.header;
    json_t *inputs, *targets, *returns;
    if (!json_need_array(o, r->what, "inputs", WIRE_INPUTS_MAX, &inputs, r->e) ||
        !json_need_array(o, r->what, "deliver", WIRE_TARGETS_MAX, &targets, r->e) ||
        !json_need_array(o, r->what, "return", WIRE_INPUTS_MAX, &returns, r->e))
        return false;
    for (size_t i = 0; i < json_array_size(inputs); i++) {
        c->input_count++; /* first, so that call_clear() sees a half-read one */
        if (!read_input(r, json_array_get(inputs, i), &c->inputs[i]))
            return false;
    }
    for (size_t i = 0; i < json_array_size(targets); i++, c->target_count++)
        if (!read_target(r, json_array_get(targets, i), &c->targets[i]))
            return false;
    for (size_t i = 0; i < json_array_size(returns); i++, c->return_count++) {
        const char *name = json_string_value(json_array_get(returns, i));
        if (!name || strlen(name) >= TENSOR_NAME_MAX)
            return err_set(r->e, ERR_INVALID, "%s: 'return' lists what is no name of an output",
                           r->what);
        (void)snprintf(c->returns[i], TENSOR_NAME_MAX, "%s", name);
    }
    return true;
}

static bool read_call(const struct reader *r, struct call *c)
{
    const json_t *o = r->frame.header;
    json_t *generation = json_object_get(o, "generate");
    if (generation && !json_is_object(generation))
        return err_set(r->e, ERR_INVALID, "%s: 'generate' should be an object", r->what);
    c->generate = generation != NULL;
    c->generation = json_incref(generation);
    return read_key(r, &c->key) && read_digest(r, o, "module", &c->module) &&
           copy_opt_text(r, o, "model", c->model, sizeof(c->model)) &&
           copy_opt_text(r, o, "trace", c->trace, sizeof(c->trace)) &&
           json_need_u64(o, r->what, "deadline_ms", 86400000, &c->deadline_ms, r->e) &&
           json_need_u64(o, r->what, "reserve", WIRE_BODY_MAX, &c->reserve, r->e) &&
           json_opt_bool(o, r->what, "fresh", &c->fresh, r->e) && read_lists(r, c);
}

bool call_read(struct mem *body, struct call *ret, struct err *e)
{
    struct reader r = {.what = "call", .e = e};
    if (!frame_read(body, &r.frame, e))
        return false;
    memset(ret, 0, sizeof(*ret));
    bool ok = read_call(&r, ret);
    frame_clear(&r.frame);
    if (!ok)
        call_clear(ret);
    return ok;
}

void call_clear(struct call *c)
{
    for (int i = 0; i < c->input_count; i++) {
        mem_unref(c->inputs[i].media);
        tensor_clear(&c->inputs[i].tensor);
    }
    json_decref(c->generation);
    memset(c, 0, sizeof(*c));
}

static void write_times(json_t *o, const struct call_times *t)
{
    json_object_set_new(o, "times",
                        json_pack("{s:f,s:f,s:f,s:f,s:f,s:b,s:b}", "wait_ms", t->wait_ms,
                                  "prepare_ms", t->prepare_ms, "queue_ms", t->queue_ms, "run_ms",
                                  t->run_ms, "deliver_ms", t->deliver_ms, "cached", (int)t->cached,
                                  "emulated", (int)t->emulated));
}

static bool read_times(const struct reader *r, struct call_times *t)
{
    json_t *o;
    const double max = 1e9;
    return json_need_object(r->frame.header, r->what, "times", &o, r->e) &&
           json_need_num(o, r->what, "wait_ms", 0, max, &t->wait_ms, r->e) &&
           json_need_num(o, r->what, "prepare_ms", 0, max, &t->prepare_ms, r->e) &&
           json_need_num(o, r->what, "queue_ms", 0, max, &t->queue_ms, r->e) &&
           json_need_num(o, r->what, "run_ms", 0, max, &t->run_ms, r->e) &&
           json_need_num(o, r->what, "deliver_ms", 0, max, &t->deliver_ms, r->e) &&
           json_opt_bool(o, r->what, "cached", &t->cached, r->e) &&
           json_opt_bool(o, r->what, "emulated", &t->emulated, r->e);
}

bool call_answer_write(const struct call_answer *a, json_t **header, struct frame_part *parts,
                       int *count, struct err *e)
{
    json_t *o = json_object(), *outputs = json_array();
    *count = 0;
    write_times(o, &a->times);
    json_object_set_new(o, "outputs", outputs);
    for (int i = 0; i < a->output_count; i++) {
        json_t *t = json_object();
        json_array_append_new(outputs, t);
        json_object_set_new(t, "name", json_string(a->outputs[i].name));
        if (!write_tensor(&a->outputs[i].tensor, parts, count, t, e)) {
            json_decref(o);
            return false;
        }
    }
    if (a->text) {
        json_object_set_new(o, "text", json_string(a->text));
        json_object_set_new(o, "tokens", json_integer(a->tokens));
    }
    *header = o;
    return true;
}

static bool read_answer(const struct reader *r, struct call_answer *a)
{
    const json_t *o = r->frame.header;
    json_t *outputs;
    const char *text = NULL;
    uint64_t tokens = 0;
    if (!read_times(r, &a->times) ||
        !json_need_array(o, r->what, "outputs", WIRE_INPUTS_MAX, &outputs, r->e) ||
        !json_opt_str(o, r->what, "text", &text, r->e) ||
        !json_opt_u64(o, r->what, "tokens", UINT32_MAX, &tokens, r->e))
        return false;
    a->tokens = (uint32_t)tokens;
    if (text && !(a->text = strdup(text)))
        return err_set(r->e, ERR_MEMORY, "%s: no memory", r->what);
    for (size_t i = 0; i < json_array_size(outputs); i++) {
        const json_t *t = json_array_get(outputs, i);
        struct named_tensor *out = &a->outputs[i];
        if (!copy_text(r, t, "name", out->name, sizeof(out->name)) ||
            !read_tensor(r, t, &out->tensor))
            return false;
        a->output_count++;
    }
    return true;
}

bool call_answer_read(struct mem *body, struct call_answer *ret, struct err *e)
{
    struct reader r = {.what = "answer of a call", .e = e};
    if (!frame_read(body, &r.frame, e))
        return false;
    memset(ret, 0, sizeof(*ret));
    bool ok = read_answer(&r, ret);
    frame_clear(&r.frame);
    if (!ok)
        call_answer_clear(ret);
    return ok;
}

void call_answer_clear(struct call_answer *a)
{
    for (int i = 0; i < a->output_count; i++)
        tensor_clear(&a->outputs[i].tensor);
    free(a->text);
    memset(a, 0, sizeof(*a));
}

bool delivery_write(const struct delivery *d, json_t **header, struct frame_part *parts, int *count,
                    struct err *e)
{
    json_t *o = json_object();
    *count = 0;
    write_key(o, &d->key);
    json_object_set_new(o, "port", json_string(d->port));
    json_object_set_new(o, "reserve", json_integer((json_int_t)d->reserve));
    json_object_set_new(o, "deadline_ms", json_integer((json_int_t)d->deadline_ms));
    if (!write_tensor(&d->tensor, parts, count, o, e)) {
        json_decref(o);
        return false;
    }
    *header = o;
    return true;
}

static bool read_delivery(const struct reader *r, struct delivery *d)
{
    const json_t *o = r->frame.header;
    return read_key(r, &d->key) && copy_text(r, o, "port", d->port, sizeof(d->port)) &&
           json_need_u64(o, r->what, "reserve", WIRE_BODY_MAX, &d->reserve, r->e) &&
           json_need_u64(o, r->what, "deadline_ms", 86400000, &d->deadline_ms, r->e) &&
           read_tensor(r, o, &d->tensor);
}

bool delivery_read(struct mem *body, struct delivery *ret, struct err *e)
{
    struct reader r = {.what = "delivery", .e = e};
    if (!frame_read(body, &r.frame, e))
        return false;
    memset(ret, 0, sizeof(*ret));
    bool ok = read_delivery(&r, ret);
    frame_clear(&r.frame);
    if (!ok)
        delivery_clear(ret);
    return ok;
}

void delivery_clear(struct delivery *d)
{
    tensor_clear(&d->tensor);
    memset(d, 0, sizeof(*d));
}
