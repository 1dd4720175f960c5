/* Tensors: sizes without overflow, counted bytes, views, comparison. */
#include "base/num.h"
#include "lib/cmocka.h"
#include "tensor/tensor.h"

#include <string.h>

static void types_have_names_both_ways(void **state)
{
    (void)state;
    for (int i = 1; i < DT_COUNT; i++) {
        enum dtype t = (enum dtype)i;
        assert_int_equal(dtype_from_name(dtype_name(t)), t);
        assert_int_equal(dtype_from_oip(dtype_oip(t)), t);
        assert_int_equal(dtype_from_onnx(dtype_onnx(t)), t);
        assert_true(dtype_size(t) >= 1 && dtype_size(t) <= 8);
    }
    assert_int_equal(dtype_from_name("float"), DT_NONE);
    assert_int_equal(dtype_size((enum dtype)99), 0);
}

static void sizes(void **state)
{
    (void)state;
    struct err e;
    size_t bytes;
    struct shape good = {.rank = 3, .dims = {2, 3, 4}}, scalar = {0},
                 empty = {.rank = 2, .dims = {0, 1LL << 40}};
    assert_true(tensor_bytes(DT_F32, &good, &bytes, &e));
    assert_int_equal(bytes, 96);
    assert_int_equal(shape_count(&good), 24);
    assert_true(tensor_bytes(DT_I64, &scalar, &bytes, &e));
    assert_int_equal(bytes, 8);
    struct shape bad[] = {{.rank = 9},
                          {.rank = -1},
                          {.rank = 1, .dims = {-1}},
                          {.rank = 2, .dims = {1LL << 40, 1LL << 40}},
                          {.rank = 4, .dims = {1LL << 62, 2, 2, 0}},
                          {.rank = 1, .dims = {INT64_MAX}}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (tensor_bytes(DT_F32, &bad[i], &bytes, &e))
            fail_msg("shape %zu was taken", i);
    (void)tensor_bytes(DT_F32, &empty, &bytes, &e); /* taken or refused, but no overflow */
    assert_false(tensor_bytes(DT_NONE, &good, &bytes, &e));
}

static int released;

static void note_release(void *arg)
{
    released += *(int *)arg;
}

static void bytes_live_as_long_as_a_holder(void **state)
{
    (void)state;
    struct err e;
    int one = 1;
    static float data[6] = {1, 2, 3, 4, 5, 6};
    struct mem *m = mem_wrap(data, sizeof(data), note_release, &one);
    struct shape s = {.rank = 1, .dims = {2}};
    struct tensor a, b;
    assert_true(tensor_over(DT_F32, &s, m, 8, 8, &a, &e));
    assert_true(a.data == &data[2]); /* a view, not a copy */
    b = tensor_ref(&a);
    mem_unref(m);
    tensor_clear(&a);
    assert_int_equal(released, 0);
    assert_true(((float *)b.data)[1] == 4);
    tensor_clear(&b);
    assert_int_equal(released, 1);
    tensor_clear(&b); /* again: nothing */
    assert_int_equal(released, 1);
}

static void views_stay_inside_and_are_aligned(void **state)
{
    (void)state;
    struct err e;
    struct mem *m = mem_new(16);
    struct shape s = {.rank = 1, .dims = {2}};
    struct tensor t;
    assert_false(tensor_over(DT_F32, &s, m, 12, 8, &t, &e));
    assert_false(tensor_over(DT_F32, &s, m, 0, 4, &t, &e));
    assert_false(tensor_over(DT_F32, &s, m, SIZE_MAX, 8, &t, &e));
    memcpy((char *)mem_data(m) + 3, &(float){7}, sizeof(float));
    assert_true(tensor_over(DT_F32, &s, m, 3, 8, &t, &e));
    assert_int_equal((uintptr_t)t.data % sizeof(float), 0);
    assert_true(*(float *)t.data == 7);
    tensor_clear(&t);
    mem_unref(m);
}

static void fitting_a_port(void **state)
{
    (void)state;
    struct err e;
    struct port p = {.name = "x", .dtype = DT_F32, .shape = {.rank = 2, .dims = {-1, 3}}};
    struct shape s = {.rank = 2, .dims = {5, 3}}, other = {.rank = 2, .dims = {5, 4}};
    struct tensor t, u;
    assert_true(tensor_new(DT_F32, &s, &t, &e));
    assert_true(tensor_fits(&t, &p, &e));
    assert_true(tensor_new(DT_F32, &other, &u, &e));
    assert_false(tensor_fits(&u, &p, &e));
    assert_non_null(strstr(e.text, "[5,4]"));
    assert_false(tensor_equal(&t, &u));
    tensor_clear(&u);
    assert_true(tensor_new(DT_I32, &s, &u, &e));
    assert_false(tensor_fits(&u, &p, &e));
    assert_false(tensor_equal(&t, &u));
    tensor_clear(&t);
    tensor_clear(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_have_names_both_ways),
        cmocka_unit_test(sizes),
        cmocka_unit_test(bytes_live_as_long_as_a_holder),
        cmocka_unit_test(views_stay_inside_and_are_aligned),
        cmocka_unit_test(fitting_a_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
