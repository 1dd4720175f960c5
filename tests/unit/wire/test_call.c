/* Calls, answers and deliveries: what is written is read again, what is broken is refused. */
#include "base/num.h"
#include "lib/cmocka.h"
#include "wire/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define D1 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define D2 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* The body as a peer gets it; clears the frame. */
static struct mem *join_body(struct frame_out *f)
{
    size_t total = f->head.size;
    for (int i = 0; i < f->part_count; i++)
        total += f->parts[i].size;
    struct mem *m = mem_new(total);
    char *to = mem_data(m);
    memcpy(to, f->head.data, f->head.size);
    to += f->head.size;
    for (int i = 0; i < f->part_count; i++) {
        if (f->parts[i].size)
            memcpy(to, f->parts[i].data, f->parts[i].size);
        to += f->parts[i].size;
    }
    frame_out_clear(f);
    return m;
}

static struct tensor floats(int n)
{
    struct tensor t;
    struct shape s = {.rank = 2, .dims = {1, n}};
    struct err e;
    assert_true(tensor_new(DT_F32, &s, &t, &e));
    for (int i = 0; i < n; i++)
        ((float *)t.data)[i] = (float)i * 0.5f;
    return t;
}

static struct call *sample_call(void)
{
    struct call *c = calloc(1, sizeof(*c));
    *c = (struct call){.key = {.request = "r1", .attempt = 2, .call = "head"},
                       .deadline_ms = 5000,
                       .reserve = 4096,
                       .input_count = 3,
                       .target_count = 1,
                       .return_count = 1};
    (void)snprintf(c->module.hex, sizeof(c->module.hex), "%s", D1);
    c->inputs[0] = (struct call_input){.source = CALL_MEDIA, .kind = "text"};
    (void)snprintf(c->inputs[0].config.hex, sizeof(c->inputs[0].config.hex), "%s", D2);
    c->inputs[0].media = mem_new(5);
    memcpy(mem_data(c->inputs[0].media), "hello", 5);
    c->inputs[1] = (struct call_input){.source = CALL_TENSOR, .port = "x", .tensor = floats(7)};
    c->inputs[2] = (struct call_input){.source = CALL_MEETING, .port = "y"};
    c->targets[0] = (struct call_target){
        .device = "dev-1", .call = "next", .output = "o", .port = "p", .reserve = 64};
    (void)snprintf(c->returns[0], sizeof(c->returns[0]), "logits");
    return c;
}

static struct mem *call_body(const struct call *c)
{
    struct err e;
    struct frame_out out;
    assert_true(call_write(c, &out, &e));
    return join_body(&out);
}

static void call_survives_the_wire(void **state)
{
    (void)state;
    struct err e;
    struct call *in = sample_call(), *out = calloc(1, sizeof(*out));
    struct mem *body = call_body(in);
    assert_true(call_read(body, out, &e));
    mem_unref(body);
    assert_string_equal(out->key.request, "r1");
    assert_int_equal(out->key.attempt, 2);
    assert_string_equal(out->module.hex, D1);
    assert_int_equal(out->input_count, 3);
    assert_int_equal(out->inputs[0].source, CALL_MEDIA);
    assert_int_equal(mem_size(out->inputs[0].media), 5);
    assert_memory_equal(mem_data(out->inputs[0].media), "hello", 5);
    assert_true(tensor_equal(&out->inputs[1].tensor, &in->inputs[1].tensor));
    assert_string_equal(out->inputs[2].port, "y");
    assert_string_equal(out->targets[0].device, "dev-1");
    assert_int_equal(out->targets[0].reserve, 64);
    assert_string_equal(out->returns[0], "logits");
    assert_false(out->generate);
    call_clear(in);
    call_clear(out);
    free(in);
    free(out);
}

/* Every cut of a valid message is an error, never a crash or a leak. */
static void every_truncation_is_refused(void **state)
{
    (void)state;
    struct call *in = sample_call(), *out = calloc(1, sizeof(*out));
    struct mem *body = call_body(in);
    for (size_t n = 0; n < mem_size(body); n++) {
        struct err e = {0};
        struct mem *part = mem_new(n);
        memcpy(mem_data(part), mem_data(body), n);
        assert_false(call_read(part, out, &e));
        assert_true(e.text[0] != 0);
        mem_unref(part);
    }
    mem_unref(body);
    call_clear(in);
    free(in);
    free(out);
}

/* Every byte of the head set to each of some values: refused with a reason or taken, no crash. */
static void every_broken_byte_is_seen_or_harmless(void **state)
{
    (void)state;
    static const unsigned char values[] = {0, 1, 127, 128, 255};
    struct call *in = sample_call(), *out = calloc(1, sizeof(*out));
    struct mem *body = call_body(in);
    int refused = 0;
    for (size_t n = 0; n < mem_size(body); n++)
        for (size_t v = 0; v < ARRAY_LEN(values); v++) {
            struct err e = {0};
            struct mem *part = mem_new(mem_size(body));
            memcpy(mem_data(part), mem_data(body), mem_size(body));
            ((unsigned char *)mem_data(part))[n] = values[v];
            if (call_read(part, out, &e)) {
                call_clear(out);
            } else {
                assert_true(e.text[0] != 0);
                refused++;
            }
            mem_unref(part);
        }
    assert_true(refused > 200);
    mem_unref(body);
    call_clear(in);
    free(in);
    free(out);
}

/* Whole messages with one field wrong, written by the writer itself. */
static void wrong_fields_are_named(void **state)
{
    (void)state;
    struct err e = {0};
    struct call *in = sample_call(), *out = calloc(1, sizeof(*out));
    in->key.request[0] = 0;
    struct mem *body = call_body(in);
    assert_false(call_read(body, out, &e));
    assert_non_null(strstr(e.text, "request"));
    mem_unref(body);
    (void)snprintf(in->key.request, sizeof(in->key.request), "r");
    in->module.hex[0] = 'Z';
    body = call_body(in);
    assert_false(call_read(body, out, &e));
    assert_non_null(strstr(e.text, "module"));
    mem_unref(body);
    in->module.hex[0] = 'a';
    in->reserve = UINT64_MAX;
    body = call_body(in);
    assert_false(call_read(body, out, &e));
    assert_non_null(strstr(e.text, "reserve"));
    mem_unref(body);
    in->reserve = 1;
    in->inputs[1].tensor.shape.dims[1] = 8; /* more than there are bytes */
    body = call_body(in);
    assert_false(call_read(body, out, &e));
    assert_non_null(strstr(e.text, "bytes"));
    struct delivery d;
    assert_false(delivery_read(body, &d, &e)); /* another kind of message */
    assert_non_null(strstr(e.text, "kind"));
    mem_unref(body);
    call_clear(in);
    free(in);
    free(out);
}

static void answer_and_delivery_survive(void **state)
{
    (void)state;
    struct err e;
    struct frame_out frame;
    struct call_answer *a = calloc(1, sizeof(*a)), *b = calloc(1, sizeof(*b));
    a->times = (struct call_times){.run_ms = 1.5, .cached = true};
    a->text = strdup("a red shoe");
    a->tokens = 4;
    a->output_count = 1;
    (void)snprintf(a->outputs[0].name, sizeof(a->outputs[0].name), "o");
    a->outputs[0].tensor = floats(3);
    assert_true(call_answer_write(a, &frame, &e));
    struct mem *body = join_body(&frame);
    assert_true(call_answer_read(body, b, &e));
    mem_unref(body);
    assert_string_equal(b->text, "a red shoe");
    assert_true(b->times.cached);
    assert_true(b->times.run_ms == 1.5);
    assert_true(tensor_equal(&a->outputs[0].tensor, &b->outputs[0].tensor));
    call_answer_clear(a);
    call_answer_clear(b);
    free(a);
    free(b);

    struct delivery d = {.key = {.request = "r", .call = "c", .attempt = 1},
                         .port = "p",
                         .reserve = 100,
                         .deadline_ms = 10,
                         .tensor = floats(5)},
                    back;
    assert_true(delivery_write(&d, &frame, &e));
    body = join_body(&frame);
    assert_true(delivery_read(body, &back, &e));
    mem_unref(body);
    assert_true(tensor_equal(&d.tensor, &back.tensor));
    assert_string_equal(back.port, "p");
    delivery_clear(&d);
    delivery_clear(&back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(call_survives_the_wire),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_broken_byte_is_seen_or_harmless),
        cmocka_unit_test(wrong_fields_are_named),
        cmocka_unit_test(answer_and_delivery_survive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
