/* Open Inference Protocol: requests in JSON and with binary tensors, answers, refusals. */
#include "base/num.h"
#include "lib/cmocka.h"
#include "wire/oip.h"

#include <stdlib.h>
#include <string.h>

static struct mem *body_of(const char *json, const void *binary, size_t size)
{
    size_t n = strlen(json);
    struct mem *m = mem_new(n + size);
    memcpy(mem_data(m), json, n);
    if (size)
        memcpy((char *)mem_data(m) + n, binary, size);
    return m;
}

static void reads_nested_and_flat_json(void **state)
{
    (void)state;
    static const char *const forms[] = {
        "{\"id\":\"7\",\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[2,2],\"data\":["
        "1,2,3,4]}]}",
        "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[2,2],\"data\":[[1,2],[3,4]]}"
        "]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        struct oip_request *r = calloc(1, sizeof(*r));
        struct err e;
        struct mem *body = body_of(forms[i], NULL, 0);
        assert_true(oip_request_read(body, mem_size(body), r, &e));
        assert_int_equal(r->input_count, 1);
        assert_true(((float *)r->inputs[0].tensor.data)[3] == 4.0f);
        oip_request_clear(r);
        mem_unref(body);
        free(r);
    }
}

static void reads_binary_and_answers_as_asked(void **state)
{
    (void)state;
    const int64_t values[2] = {-5, 1LL << 40};
    const char *json =
        "{\"id\":\"q\",\"inputs\":[{\"name\":\"ids\",\"datatype\":\"INT64\",\"shape\":[1,2],"
        "\"parameters\":{\"binary_data_size\":16}}],\"outputs\":[{\"name\":\"o\",\"parameters\":"
        "{\"binary_data\":true}},{\"name\":\"p\"}]}";
    struct oip_request *r = calloc(1, sizeof(*r));
    struct err e;
    struct mem *body = body_of(json, values, sizeof(values));
    assert_true(oip_request_read(body, strlen(json), r, &e));
    assert_memory_equal(r->inputs[0].tensor.data, values, sizeof(values));

    struct named_tensor outputs[2] = {{.name = "p"}, {.name = "o"}};
    outputs[0].tensor = tensor_ref(&r->inputs[0].tensor);
    outputs[1].tensor = tensor_ref(&r->inputs[0].tensor);
    json_t *header;
    struct frame_part parts[WIRE_PARTS_MAX];
    int count;
    assert_true(oip_answer_write("m", r, outputs, 2, &header, parts, &count, &e));
    assert_int_equal(count, 1);
    assert_int_equal(parts[0].size, 16);
    json_t *list = json_object_get(header, "outputs");
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "name")), "o");
    json_t *data = json_object_get(json_array_get(list, 1), "data");
    assert_int_equal(json_integer_value(json_array_get(data, 0)), -5);
    assert_int_equal(json_integer_value(json_array_get(data, 1)), 1LL << 40);
    json_decref(header);

    assert_false(oip_answer_write("m", r, outputs, 1, &header, parts, &count, &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    tensor_clear(&outputs[0].tensor);
    tensor_clear(&outputs[1].tensor);
    oip_request_clear(r);
    mem_unref(body);
    free(r);
}

static void refuses_what_does_not_fit(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"inputs\":{}}",
        "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[3],\"data\":[1,2]}]}",
        "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1,2]}]}",
        "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"UINT8\",\"shape\":[1],\"data\":[300]}]}",
        "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"INT8\",\"shape\":[1],\"data\":[1.5]}]}",
        "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"BYTES\",\"shape\":[1],\"data\":[\"a\"]}]}",
        "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1],\"data\":[1]}]}",
        "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[4294967296,4294967296],"
        "\"data\":[1]}]}",
        "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1000000000],\"data\":[]}]}",
        "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1],\"parameters\":{\"binary_"
        "data_size\":4}}]}",
        "{\"inputs\":[{\"name\":\"\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1]}]}",
    };
    struct oip_request *r = calloc(1, sizeof(*r));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err e = {0};
        struct mem *body = body_of(bad[i], NULL, 0);
        if (oip_request_read(body, mem_size(body), r, &e))
            fail_msg("row %zu was taken", i);
        assert_true(err_http(e.code) >= 400 && err_http(e.code) < 500);
        mem_unref(body);
    }
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_nested_and_flat_json),
        cmocka_unit_test(reads_binary_and_answers_as_asked),
        cmocka_unit_test(refuses_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
