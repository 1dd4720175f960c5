/* Errors, numbers from texts, growing buffers, digests. */
#include "base/buf.h"
#include "base/digest.h"
#include "base/num.h"
#include "base/parse.h"
#include "lib/cmocka.h"

#include <stdlib.h>
#include <string.h>

static void errors_keep_their_text(void **state)
{
    (void)state;
    struct err e;
    assert_false(err_set(&e, ERR_TOO_LARGE, "%s: %d", "body", 7));
    assert_string_equal(e.text, "body: 7");
    assert_int_equal(err_http(e.code), 413);
    assert_false(err_prefix(&e, "file %d", 3));
    assert_string_equal(e.text, "file 3: body: 7");
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_false(err_set(&e, ERR_IO, "again: %s", e.text)); /* an argument inside of e itself */
    assert_string_equal(e.text, "again: file 3: body: 7");
    assert_false(err_set(NULL, ERR_IO, "nobody listens"));
    char big[2000];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = 0;
    assert_false(err_set(&e, ERR_IO, "%s", big));
    assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
    for (int i = 0; i < ERR_CODE_COUNT; i++)
        assert_int_equal(err_from_name(err_name((enum err_code)i)), i);
    assert_int_equal(err_from_name("no such"), ERR_INTERNAL);
}

static void whole_numbers_or_nothing(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "-1", "+1", " 1", "1 ", "0x1", "1e3", "11", "18446744073709551616"};
    struct err e;
    uint64_t v = 77;
    assert_true(parse_u64("n", "10", 0, 10, &v, &e));
    assert_int_equal(v, 10);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (parse_u64("n", bad[i], 0, 10, &v, &e))
            fail_msg("'%s' was taken", bad[i]);
    assert_true(parse_u64("n", "18446744073709551615", 0, UINT64_MAX, &v, &e));
    assert_true(v == UINT64_MAX);
}

static void real_numbers(void **state)
{
    (void)state;
    static const char *const bad[] = {"",   "nan", "inf", "1e999", "1.5x",
                                      " 1", "1 ",  "11",  "0x1",   "infinity"};
    struct err e;
    double v;
    assert_true(parse_double("n", "1.5e0", 0, 10, &v, &e));
    assert_true(v == 1.5);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (parse_double("n", bad[i], 0, 10, &v, &e))
            fail_msg("'%s' was taken", bad[i]);
}

static void sizes_with_suffixes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"0", 0},     {"4096", 4096}, {"512M", 512u << 20}, {"1.5G", 3ull << 29},
                {"2k", 2048}, {"1KiB", 1024}, {"3MB", 3u << 20},    {"1T", 1ull << 40}};
    static const char *const bad[] = {"", "M", "-1", "1X", "1MM", "1M ", "0x1", "9999999T", "nan"};
    struct err e;
    uint64_t v;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(parse_bytes("n", good[i].text, &v, &e));
        assert_true(v == good[i].bytes);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (parse_bytes("n", bad[i], &v, &e))
            fail_msg("'%s' was taken", bad[i]);
    char text[32];
    assert_string_equal(format_bytes(text, sizeof(text), 20100000), "20.1 MB");
    assert_string_equal(format_bytes(text, sizeof(text), 999), "999 B");
}

static void buffers_have_a_ceiling(void **state)
{
    (void)state;
    struct err e;
    struct buf b = BUF_INIT(10);
    buf_str(&b, "hello");
    buf_fmt(&b, "%d", 42);
    assert_true(buf_ok(&b, "b", &e));
    assert_string_equal(b.data, "hello42");
    buf_str(&b, "too much");
    buf_str(&b, "x"); /* nothing more after a failure */
    assert_false(buf_ok(&b, "b", &e));
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_string_equal(b.data, "hello42");
    assert_null(buf_take(&b));
    struct buf c = BUF_INIT(1 << 20);
    for (int i = 0; i < 1000; i++)
        buf_add(&c, "abc\0", 4);
    assert_int_equal(c.size, 4000);
    char *data = buf_take(&c);
    assert_int_equal(data[3999], 0);
    assert_int_equal(data[3998], 'c');
    free(data);
    buf_clear(&c);
}

static void digests(void **state)
{
    (void)state;
    /* FIPS 180-2, appendix B.1. */
    static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    struct digest d = digest_of("abc", 3);
    assert_string_equal(d.hex, abc);
    struct digest_ctx *c = digest_start();
    digest_add(c, "a", 1);
    digest_add(c, "", 0);
    digest_add(c, "bc", 2);
    d = digest_finish(c);
    assert_string_equal(d.hex, abc);
    assert_true(digest_valid(abc));
    assert_false(digest_valid("BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
    assert_false(digest_valid("ba78"));
    assert_false(digest_valid(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_keep_their_text), cmocka_unit_test(whole_numbers_or_nothing),
        cmocka_unit_test(real_numbers),           cmocka_unit_test(sizes_with_suffixes),
        cmocka_unit_test(buffers_have_a_ceiling), cmocka_unit_test(digests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
