/* test_http.c - the pure parsers of request lines and header fields. */
#include "net/http.h"

#include "base/num.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_percent_decoding(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool plus;
        const char *want; /* NULL: refused */
    } rows[] = {
        {"", false, ""},
        {"abc", false, "abc"},
        {"a%20b", false, "a b"},
        {"a+b", false, "a+b"},
        {"a+b", true, "a b"},
        {"%41%6a%6A", false, "Ajj"},
        {"%", false, NULL},
        {"%4", false, NULL},
        {"%4g", false, NULL},
        {"%00", false, NULL},
        {"%c3%a4", false, "\xC3\xA4"},
        {"%c3", false, NULL},
        {"%c0%80", false, NULL},
        {"%ed%a0%80", false, NULL},
        {"%f4%90%80%80", false, NULL},
        {"%f0%9f%98%80", false, "\xF0\x9F\x98\x80"},
        {"\xff", false, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char out[16];
        struct err e = {0};
        bool ok = net_percent_decode(rows[i].text, strlen(rows[i].text), rows[i].plus, out,
                                     sizeof(out), &e);
        if (ok != (rows[i].want != NULL))
            fail_msg("'%s': %d", rows[i].text, ok);
        if (ok)
            assert_string_equal(out, rows[i].want);
        else
            assert_int_equal(e.code, ERR_INVALID);
    }
    char out[4];
    assert_true(net_percent_decode("abc", 3, false, out, 4, NULL));
    assert_false(net_percent_decode("abcd", 4, false, out, 4, NULL));
    assert_false(net_percent_decode("", 0, false, out, 0, NULL));
}

static void test_path_matching(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *path;
        int count; /* -1: no match */
        const char *first, *second;
    } rows[] = {
        {"/", "/", 0, 0, 0},
        {"/", "", -1, 0, 0},
        {"/", "/a", -1, 0, 0},
        {"/a", "/a", 0, 0, 0},
        {"/a", "/a/", -1, 0, 0},
        {"/a", "/ab", -1, 0, 0},
        {"/ab", "/a", -1, 0, 0},
        {"/a", "a", -1, 0, 0},
        {"/v2/models/{m}/infer", "/v2/models/clip/infer", 1, "clip", 0},
        {"/v2/models/{m}/infer", "/v2/models//infer", -1, 0, 0},
        {"/v2/models/{m}/infer", "/v2/models/a/b/infer", -1, 0, 0},
        {"/v2/models/{m}/infer", "/v2/models/a/infer/", -1, 0, 0},
        {"/v2/models/{m}", "/v2/models/", -1, 0, 0},
        {"/pipeline/{task}/{model}", "/pipeline/a/b%2Fc", 2, "a", "b%2Fc"},
        {"/models/{model...}", "/models/org/name", 1, "org/name", 0},
        {"/models/{model...}", "/models/", 1, "", 0},
        {"/models/{model...}", "/models", -1, 0, 0},
        {"/{a}/{b...}", "/x/y/z", 2, "x", "y/z"},
        {"/{a}/{b}/{c}/{d}/{e}", "/1/2/3/4/5", -1, 0, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct net_slice s[NET_PATH_PARAMS_MAX];
        int count = -1;
        if (!net_path_match(rows[i].pattern, rows[i].path, strlen(rows[i].path), s, &count))
            count = -1;
        if (count != rows[i].count)
            fail_msg("%s with %s: %d", rows[i].pattern, rows[i].path, count);
        if (count > 0)
            assert_true(s[0].size == strlen(rows[i].first) &&
                        memcmp(s[0].at, rows[i].first, s[0].size) == 0);
        if (count > 1)
            assert_true(s[1].size == strlen(rows[i].second) &&
                        memcmp(s[1].at, rows[i].second, s[1].size) == 0);
    }
}

static void test_queries(void **state)
{
    (void)state;
    const char *text = "&a=1&&b&c==x&=v&";
    struct net_slice query = {text, strlen(text)}, name, value;
    static const char *const want[][2] = {{"a", "1"}, {"b", ""}, {"c", "=x"}, {"", "v"}};
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_true(net_query_next(&query, &name, &value));
        assert_int_equal(name.size, strlen(want[i][0]));
        assert_memory_equal(name.at, want[i][0], name.size);
        assert_int_equal(value.size, strlen(want[i][1]));
        assert_memory_equal(value.at, want[i][1], value.size);
    }
    assert_false(net_query_next(&query, &name, &value));
    assert_int_equal(query.size, 0);
}

static void test_hosts(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host; /* NULL: refused */
        uint16_t port;
        bool loopback;
    } rows[] = {
        {"localhost", "localhost", 0, true},
        {"LocalHost.:80", "localhost", 80, true},
        {"app.localhost", "app.localhost", 0, true},
        {"notlocalhost", "notlocalhost", 0, false},
        {"127.0.0.1:7070", "127.0.0.1", 7070, true},
        {"127.8.9.1", "127.8.9.1", 0, true},
        {"127.1", "127.1", 0, false},
        {"0.0.0.0", "0.0.0.0", 0, false},
        {"[::1]:1", "::1", 1, true},
        {"[::ffff:127.0.0.1]", "::ffff:127.0.0.1", 0, true},
        {"[::ffff:10.0.0.1]", "::ffff:10.0.0.1", 0, false},
        {"[fe80::1]", "fe80::1", 0, false},
        {"a_b-c.example", "a_b-c.example", 0, false},
        {"127.0.0.1.evil.example", "127.0.0.1.evil.example", 0, false},
        {"", NULL, 0, false},
        {".", NULL, 0, false},
        {":80", NULL, 0, false},
        {"a:", NULL, 0, false},
        {"a:0", NULL, 0, false},
        {"a:65536", NULL, 0, false},
        {"a:8 0", NULL, 0, false},
        {"a b", NULL, 0, false},
        {"u@a", NULL, 0, false},
        {"a/b", NULL, 0, false},
        {"::1", NULL, 0, false},
        {"[::1", NULL, 0, false},
        {"[]", NULL, 0, false},
        {"[::1]x", NULL, 0, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char host[NET_HOST_MAX];
        uint16_t port = 1;
        bool ok = net_host_split(rows[i].text, host, &port, NULL);
        if (ok != (rows[i].host != NULL))
            fail_msg("'%s': %d", rows[i].text, ok);
        if (!ok)
            continue;
        assert_string_equal(host, rows[i].host);
        assert_int_equal(port, rows[i].port);
        if (net_host_is_loopback(host) != rows[i].loopback)
            fail_msg("'%s': loopback", rows[i].text);
    }
    char name[NET_HOST_MAX + 2];
    memset(name, 'a', sizeof(name));
    name[NET_HOST_MAX] = 0;
    char host[NET_HOST_MAX];
    uint16_t port;
    assert_false(net_host_split(name, host, &port, NULL));
    name[NET_HOST_MAX - 1] = 0;
    assert_true(net_host_split(name, host, &port, NULL));
}

static void test_allowed_hosts(void **state)
{
    (void)state;
    static const char *const names[] = {"box.home", "10.0.0.7"};
    assert_true(net_host_allowed("box.home:80", false, names, 2));
    assert_true(net_host_allowed("10.0.0.7", false, names, 2));
    assert_true(net_host_allowed("https://box.home", true, names, 2));
    assert_false(net_host_allowed("https://box.home", false, names, 2));
    assert_false(net_host_allowed("box.home", true, names, 2));
    assert_false(net_host_allowed("file://localhost", true, names, 2));
    assert_false(net_host_allowed("http://localhost/x", true, names, 2));
    assert_false(net_host_allowed("box.home.evil", false, names, 2));
    assert_false(net_host_allowed("10.0.0.8", false, names, 2));
}

static void test_lengths(void **state)
{
    (void)state;
    uint64_t n;
    assert_true(net_length_parse("0", 0, &n, NULL));
    assert_int_equal(n, 0);
    assert_true(net_length_parse("18446744073709551615", UINT64_MAX, &n, NULL));
    assert_true(n == UINT64_MAX);
    assert_true(net_length_parse("00012", 12, &n, NULL));
    assert_false(net_length_parse("13", 12, &n, NULL));
    static const char *const bad[] = {"",
                                      "+1",
                                      "-1",
                                      " 1",
                                      "1 ",
                                      "1,1",
                                      "0x1",
                                      "1.0",
                                      "18446744073709551616",
                                      "99999999999999999999999999"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (net_length_parse(bad[i], UINT64_MAX, &n, NULL))
            fail_msg("'%s' passed", bad[i]);
}

static void test_types_and_keys(void **state)
{
    (void)state;
    assert_true(net_type_matches("application/json", "application/json"));
    assert_true(
        net_type_matches(" Application/JSON ; charset=utf-8", "text/plain, application/json"));
    assert_true(net_type_matches("image/png", "audio/, image/"));
    assert_false(net_type_matches("image/", "image/"));
    assert_false(net_type_matches("application/jsonx", "application/json"));
    assert_false(net_type_matches("application/jso", "application/json"));
    assert_false(net_type_matches("", ""));
    assert_false(net_type_matches("", ","));
    assert_string_equal(net_bearer("Bearer abc"), "abc");
    assert_string_equal(net_bearer("bEARER \t abc d"), "abc d");
    assert_null(net_bearer("Bearer"));
    assert_null(net_bearer("Bearer "));
    assert_null(net_bearer("Bearerabc"));
    assert_null(net_bearer("Basic abc"));
    assert_null(net_bearer(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percent_decoding), cmocka_unit_test(test_path_matching),
        cmocka_unit_test(test_queries),          cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_allowed_hosts),    cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_types_and_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
