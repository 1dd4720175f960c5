/* JSON with checks: nesting, duplicates, members of the wrong type or out of range. */
#include "base/json.h"
#include "base/num.h"
#include "lib/cmocka.h"

#include <stdlib.h>
#include <string.h>

static json_t *parse(const char *text, struct err *e)
{
    return json_parse("input", text, strlen(text), e);
}

static void refuses_what_is_not_json(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "{", "{\"a\":1,\"a\":2}", "nul", "[1,]", "{\"a\":\"\xff\"}", "1 2"};
    struct err e = {0};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        json_t *o = parse(bad[i], &e);
        if (o)
            fail_msg("'%s' was taken", bad[i]);
        assert_int_equal(e.code, ERR_INVALID);
    }
}

static void nesting_is_bounded(void **state)
{
    (void)state;
    struct err e = {0};
    char text[2 * JSON_DEPTH_MAX + 3];
    for (int depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        text[2 * depth] = 0;
        json_t *o = parse(text, &e);
        assert_true((o != NULL) == (depth <= JSON_DEPTH_MAX));
        json_decref(o);
    }
    json_t *o =
        parse("\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"", &e);
    assert_non_null(o); /* brackets in a text are no nesting */
    json_decref(o);
}

static void members(void **state)
{
    (void)state;
    struct err e;
    json_t *o = parse(
               "{\"s\":\"x\",\"n\":5,\"f\":1.5,\"b\":true,\"z\":null,\"l\":[1,2,3],\"neg\":-1}",
               &e),
           *list;
    const char *s = "unset";
    uint64_t n = 9;
    double f = 9;
    bool b = false;
    assert_true(json_need_str(o, "o", "s", &s, &e));
    assert_string_equal(s, "x");
    assert_false(json_need_str(o, "o", "n", &s, &e));
    assert_non_null(strstr(e.text, "'n'"));
    assert_false(json_need_str(o, "o", "nothing", &s, &e));
    assert_true(json_need_u64(o, "o", "n", 5, &n, &e));
    assert_false(json_need_u64(o, "o", "n", 4, &n, &e));
    assert_false(json_need_u64(o, "o", "neg", 4, &n, &e));
    assert_false(json_need_u64(o, "o", "f", 4, &n, &e));
    assert_true(json_need_num(o, "o", "n", 0, 5, &f, &e));
    assert_true(f == 5);
    assert_false(json_need_num(o, "o", "f", 2, 5, &f, &e));
    assert_true(json_opt_bool(o, "o", "b", &b, &e));
    assert_true(b);
    assert_true(json_opt_bool(o, "o", "z", &b, &e));
    assert_true(b); /* null leaves it */
    assert_false(json_opt_bool(o, "o", "s", &b, &e));
    assert_true(json_need_array(o, "o", "l", 3, &list, &e));
    assert_false(json_need_array(o, "o", "l", 2, &list, &e));
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_false(json_need_object(o, "o", "l", &list, &e));
    assert_false(json_need_str(NULL, "o", "s", &s, &e)); /* no object at all */
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(refuses_what_is_not_json),
                                       cmocka_unit_test(nesting_is_bounded),
                                       cmocka_unit_test(members)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
