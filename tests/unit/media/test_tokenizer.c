/* test_tokenizer.c - ids and texts against golden rows (tests/golden/tokenizer/make.py), and what is refused. */
#include "base/file.h"
#include "base/json.h"
#include "base/num.h"
#include "media/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FILE_MAX ((size_t)1 << 20)
#define SHOWN_MAX 20 /* rows that differ are all counted; the first ones are shown */

static char *load(const char *name, const char *kind, size_t *size)
{
    struct err e;
    char *data = NULL;
    const char *dir = getenv("S2M3_GOLDEN");
    char *path = text_format("%s/tokenizer/%s.%s.json", dir ? dir : "tests/golden", name, kind);
    assert_non_null(path);
    if (!file_read(path, FILE_MAX, &data, size, &e))
        fail_msg("%s", e.text);
    free(path);
    return data;
}

static struct tokenizer *open_golden(const char *name)
{
    size_t size;
    struct err e;
    struct tokenizer *t = NULL;
    char *json = load(name, "tokenizer", &size);
    if (!tokenizer_create(json, size, &t, &e))
        fail_msg("%s: %s", name, e.text);
    free(json);
    return t;
}

static bool same_list(const json_t *want, const int64_t *got, size_t n)
{
    bool same = json_array_size(want) == n;
    for (size_t i = 0; same && i < n; i++)
        same = json_integer_value(json_array_get(want, i)) == got[i];
    return same;
}

static void show_ids(const char *what, const int64_t *ids, size_t n)
{
    fprintf(stderr, "  %s:", what);
    for (size_t i = 0; i < n; i++)
        fprintf(stderr, " %lld", (long long)ids[i]);
    fprintf(stderr, "\n");
}

static bool check_encode(const struct tokenizer *t, const json_t *row, bool show)
{
    struct err e;
    struct token_ids got = {0};
    const char *text = json_string_value(json_object_get(row, "text"));
    if (!tokenizer_encode(t, text, json_string_value(json_object_get(row, "pair")), &got, &e)) {
        fprintf(stderr, "'%s': %s\n", text, e.text);
        return false;
    }
    bool same = same_list(json_object_get(row, "ids"), got.ids, got.n) &&
                same_list(json_object_get(row, "mask"), got.mask, got.n) &&
                same_list(json_object_get(row, "type_ids"), got.type_ids, got.n);
    if (!same && show) {
        char *want = json_text(row);
        fprintf(stderr, "%s\n", want);
        show_ids("ids", got.ids, got.n);
        show_ids("types", got.type_ids, got.n);
        free(want);
    }
    token_ids_clear(&got);
    return same;
}

static bool check_decode(const struct tokenizer *t, const json_t *row, bool skip, bool show)
{
    struct err e;
    char *got = NULL;
    const json_t *list = json_object_get(row, "ids");
    const char *want = json_string_value(json_object_get(row, skip ? "decoded" : "decoded_all"));
    size_t n = json_array_size(list);
    int64_t *ids = calloc(n + 1, sizeof(*ids));
    assert_non_null(ids);
    for (size_t i = 0; i < n; i++)
        ids[i] = json_integer_value(json_array_get(list, i));
    if (!tokenizer_decode(t, ids, n, skip, &got, &e))
        fail_msg("%s", e.text);
    bool same = strcmp(got, want) == 0;
    if (!same && show)
        fprintf(stderr, "decode: want '%s', got '%s'\n", want, got);
    free(ids);
    free(got);
    return same;
}

/* Of a growing list: each text begins with the one before, the last with all of it. */
static bool check_stream(const struct tokenizer *t, const json_t *row)
{
    struct err e;
    const json_t *list = json_object_get(row, "ids");
    const char *want = json_string_value(json_object_get(row, "decoded"));
    int64_t ids[512];
    size_t n = json_array_size(list);
    bool same = n <= ARRAY_LEN(ids);
    char *before = calloc(1, 1);
    assert_non_null(before);
    for (size_t i = 0; same && i <= n; i++) {
        char *now = NULL;
        if (!tokenizer_stream_decode(t, ids, i, true, &now, &e))
            fail_msg("%s", e.text);
        same = strncmp(now, before, strlen(before)) == 0;
        free(before);
        before = now;
        if (i < n)
            ids[i] = json_integer_value(json_array_get(list, i));
    }
    same = same && strncmp(want, before, strlen(before)) == 0;
    free(before);
    return same;
}

static void check_golden(void **state)
{
    const char *name = *state;
    size_t size;
    int wrong = 0;
    struct tokenizer *t = open_golden(name);
    char *text = load(name, "rows", &size);
    json_t *rows = json_parse(name, text, size, NULL);
    assert_true(json_array_size(rows) > 100);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        wrong += !check_encode(t, row, wrong < SHOWN_MAX);
        wrong += !check_decode(t, row, true, wrong < SHOWN_MAX);
        wrong += !check_decode(t, row, false, wrong < SHOWN_MAX);
        wrong += !check_stream(t, row);
    }
    json_decref(rows);
    free(text);
    tokenizer_destroy(t);
    if (wrong)
        fail_msg("%s: %d results differ", name, wrong);
}

/* ---- what is refused -------------------------------------------------------------------------- */

struct refusal {
    const char *json, *says;
    enum err_code code;
};

static void broken_files_are_refused(void **state)
{
    (void)state;
    static const struct refusal rows[] = {
        {"{", "tokenizer", ERR_INVALID},
        {"{}", "model", ERR_INVALID},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":{}}}", "Unigram", ERR_UNSUPPORTED},
        {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":-1}}}", "'a'", ERR_INVALID},
        {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":2000000}}}", "'a'", ERR_INVALID},
        {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0},\"unk_token\":\"b\"}}", "'b'",
         ERR_INVALID},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}", "merges", ERR_INVALID},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", "row 0",
         ERR_INVALID},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a\"]}}", "merges",
         ERR_INVALID},
        {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{}},\"normalizer\":{\"type\":\"Nmt\"}}",
         "Nmt", ERR_UNSUPPORTED},
        {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{}},\"pre_tokenizer\":{\"type\":\"Magic\"}}",
         "Magic", ERR_UNSUPPORTED},
        {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{}},\"decoder\":{\"type\":\"CTC\"}}", "CTC",
         ERR_UNSUPPORTED},
        {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{}},\"post_processor\":{\"type\":\"Other\"}"
         "}",
         "Other", ERR_UNSUPPORTED},
        {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{}},\"pre_tokenizer\":{\"type\":\"Split\","
         "\"behavior\":\"Removed\","
         "\"pattern\":{\"Regex\":\"(\"}}}",
         "pattern", ERR_UNSUPPORTED},
        {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{}},\"post_processor\":{\"type\":"
         "\"TemplateProcessing\","
         "\"single\":[{\"SpecialToken\":{\"id\":\"[X]\",\"type_id\":0}}],\"pair\":[],\"special_"
         "tokens\":{}}}",
         "[X]", ERR_INVALID},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err e = {0};
        struct tokenizer *t = NULL;
        if (tokenizer_create(rows[i].json, strlen(rows[i].json), &t, &e))
            fail_msg("row %zu was read", i);
        if (e.code != rows[i].code || !strstr(e.text, rows[i].says))
            fail_msg("row %zu: code %d, '%s'", i, (int)e.code, e.text);
    }
}

static void texts_are_checked(void **state)
{
    (void)state;
    struct err e;
    struct token_ids ids;
    struct tokenizer *t = open_golden("bert");
    assert_false(tokenizer_encode(t, "ab\xFF", NULL, &ids, &e));
    assert_int_equal(e.code, ERR_INVALID);
    assert_non_null(strstr(e.text, "byte 2"));
    assert_false(tokenizer_encode(t, "a", "\xC3", &ids, &e));
    char *large = calloc(1, TOKENIZER_TEXT_MAX + 2);
    assert_non_null(large);
    memset(large, 'a', TOKENIZER_TEXT_MAX + 1);
    assert_false(tokenizer_encode(t, large, NULL, &ids, &e));
    assert_int_equal(e.code, ERR_TOO_LARGE);
    free(large);
    tokenizer_destroy(t);
}

static void unknown_ids_are_passed_over(void **state)
{
    (void)state;
    struct err e;
    char *text = NULL;
    struct tokenizer *t = open_golden("bert");
    assert_true(tokenizer_id(t, "[CLS]") == 2 && tokenizer_id(t, "no such token") == -1);
    int64_t ids[] = {-1, INT64_MIN, INT64_MAX, tokenizer_id(t, "a"), 1999999};
    assert_true(tokenizer_decode(t, ids, ARRAY_LEN(ids), false, &text, &e));
    assert_string_equal(text, "a");
    free(text);
    assert_true(tokenizer_decode(t, NULL, 0, true, &text, &e));
    assert_string_equal(text, "");
    free(text);
    tokenizer_destroy(t);
    tokenizer_destroy(NULL);
}

static void streams_end_with_whole_characters(void **state)
{
    (void)state;
    struct err e;
    struct token_ids ids;
    struct tokenizer *t = open_golden("bytes");
    assert_true(
        tokenizer_encode(t, "a\U0001F680 b\u65E5", NULL, &ids, &e)); /* bytes of their own */
    size_t lengths[32] = {0};
    assert_true(ids.n > 4 && ids.n < ARRAY_LEN(lengths));
    for (size_t i = 0; i <= ids.n; i++) {
        char *text = NULL;
        assert_true(tokenizer_stream_decode(t, ids.ids, i, true, &text, &e));
        assert_null(strstr(text, "\xEF\xBF\xBD"));
        lengths[i] = strlen(text);
        assert_true(strncmp(text, "a\U0001F680 b\u65E5", lengths[i]) == 0);
        free(text);
    }
    assert_int_equal(lengths[2], 1); /* half of a character is held back */
    token_ids_clear(&ids);
    tokenizer_destroy(t);
}

/* ---- small cases, each as the tokenizers library has it ------------------------------------------ */

#define TINY_BPE                                                                                   \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"aa\":2},\"merges\":[\"a a\"]}"

static struct tokenizer *open_text(const char *json)
{
    struct err e;
    struct tokenizer *t = NULL;
    if (!tokenizer_create(json, strlen(json), &t, &e))
        fail_msg("%s: %s", json, e.text);
    return t;
}

struct ids_case {
    const char *text;
    int64_t ids[8];
    size_t n;
};

static void check_ids(const char *json, const char *pair, const struct ids_case *c)
{
    struct err e;
    struct token_ids got;
    struct tokenizer *t = open_text(json);
    if (!tokenizer_encode(t, c->text, pair, &got, &e))
        fail_msg("'%s': %s", c->text, e.text);
    if (got.n != c->n || memcmp(got.ids, c->ids, c->n * sizeof(*c->ids)) != 0) {
        show_ids("ids", got.ids, got.n);
        fail_msg("'%s': other ids", c->text);
    }
    token_ids_clear(&got);
    tokenizer_destroy(t);
}

static void added_tokens_are_cut_out_first(void **state)
{
    (void)state;
    static const char json[] =
        "{\"added_tokens\":[{\"id\":4,\"content\":\"ab\"},{\"id\":5,\"content\":\"abc\"},"
        "{\"id\":6,\"content\":\"wo\",\"single_word\":true},{\"id\":7,\"content\":\"o\"},"
        "{\"id\":8,\"content\":\" \",\"lstrip\":true,\"rstrip\":true},"
        "{\"id\":9,\"content\":\"<m>\",\"rstrip\":true},{\"id\":10,\"content\":\"\\t\"}],"
        "\"pre_tokenizer\":{\"type\":\"Whitespace\"},\"model\":{\"type\":\"WordLevel\","
        "\"unk_token\":\"u\",\"vocab\":{\"u\":0,\"a\":1,\"b\":2,\"c\":3}}}";
    static const struct ids_case rows[] = {
        {"abcab", {5, 4}, 2},           /* the longest one */
        {"abab", {4, 4}, 2},            /* again and again */
        {"two", {0}, 1},                /* not within a word, nor what is within it */
        {"wo", {6}, 1},                 /* a word */
        {"a wo b", {1, 8, 6, 8, 2}, 5}, /* a word among others */
        {"two o", {0, 8, 7}, 3},        /* looked for again behind it */
        {"a  b", {1, 8, 2}, 3},         /* takes the spaces around it */
        {"<m>  a", {9, 1}, 2},          /* they can be taken already */
        {"<m> \ta", {9, 10, 1}, 3},     /* which does not matter to one that doesn't strip */
        {"a \t b", {1, 8, 10, 8, 2}, 5},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_ids(json, NULL, &rows[i]);
}

static void the_second_of_equals_keeps_the_odd_token(void **state)
{
    (void)state;
    check_ids("{\"truncation\":{\"max_length\":5}," TINY_BPE "}", "bbbbbb",
              &(struct ids_case){"ababab", {0, 1, 1, 1, 1}, 5});
}

static void only_the_start_of_a_text_is_first(void **state)
{
    (void)state;
    static const char json[] = /* all kinds of marks go; 1: a, 2: the sign of Metaspace and a */
        "{\"normalizer\":{\"type\":\"StripAccents\"},\"pre_tokenizer\":{\"type\":\"Sequence\","
        "\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},"
        "{\"type\":\"Metaspace\",\"prepend_scheme\":\"first\"}]},\"model\":{\"type\":\"WordLevel\","
        "\"unk_token\":\"u\",\"vocab\":{\"u\":0,\"a\":1,\"\u2581a\":2}}}";
    static const struct ids_case rows[] = {
        {"a", {2}, 1},
        {" a", {1}, 1},
        {"a a", {2, 1}, 2},
        {"a\u0488\u0903\u0301", {2}, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_ids(json, NULL, &rows[i]);
}

static void check_text(const char *json, const struct ids_case *c, bool streamed)
{
    struct err e;
    char *got = NULL;
    struct tokenizer *t = open_text(json);
    bool ok = streamed ? tokenizer_stream_decode(t, c->ids, c->n, false, &got, &e)
                       : tokenizer_decode(t, c->ids, c->n, false, &got, &e);
    if (!ok)
        fail_msg("%s", e.text);
    assert_string_equal(got, c->text);
    free(got);
    tokenizer_destroy(t);
}

static void bytes_that_are_no_text_are_replaced(void **state)
{
    (void)state;
    static const char json[] = /* bytes F0 9F ED A0 80, a, CC; then a token that is no bytes */
        "{\"added_tokens\":[{\"id\":7,\"content\":\"a\u4E2D\u0141\"}],"
        "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{"
        "\"\u00F0\":0,\"\u0141\":1,\"\u00ED\":2,\"\u0142\":3,\"\u0122\":4,\"a\":5,\"\u00CC\":6}}}";
    static const struct ids_case rows[] = {
        {"\uFFFDa", {0, 1, 5}, 3},                         /* the start of a character is one */
        {"\uFFFD\uFFFD\uFFFD\uFFFDa", {0, 4, 4, 4, 5}, 5}, /* too low for four bytes: each is one */
        {"\uFFFD\uFFFD\uFFFD", {2, 3, 4}, 3},              /* half of a pair of UTF-16 */
        {"\uFFFDa", {6, 5}, 2},
        {"a\u4E2D\u0141", {7}, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_text(json, &rows[i], false);
    check_text(json, &(struct ids_case){"", {0, 1}, 2}, true);
}

static void runs_of_byte_tokens_are_held_back(void **state)
{
    (void)state;
    static const char json[] =
        "{\"decoder\":{\"type\":\"ByteFallback\"},\"model\":{\"type\":\"BPE\",\"merges\":[],"
        "\"vocab\":{\"u\":0,\"<0xE6>\":1,\"<0x97>\":2,\"<0xA5>\":3,\"a\":4}}}";
    static const struct {
        struct ids_case whole, streamed;
    } rows[] = {
        {{"\u65E5", {1, 2, 3}, 3}, {"", {1, 2, 3}, 3}},
        {{"\uFFFD\uFFFD", {1, 2}, 2}, {"", {1, 2}, 2}},
        {{"\uFFFD\uFFFDa", {1, 2, 4}, 3}, {"\uFFFD\uFFFDa", {1, 2, 4}, 3}},
        {{"\uFFFD\uFFFD\uFFFD\uFFFD", {1, 2, 3, 1}, 4}, {"", {1, 2, 3, 1}, 4}},
        {{"\u65E5a", {1, 2, 3, 4}, 4}, {"\u65E5a", {1, 2, 3, 4}, 4}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        check_text(json, &rows[i].whole, false);
        check_text(json, &rows[i].streamed, true);
    }
}

/* ---- bounds ------------------------------------------------------------------------------------ */

#define SPLIT(regex)                                                                               \
    "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":"     \
    "\"" regex "\"}}," TINY_BPE "}"

static char *repeated(const char *unit, size_t total)
{
    size_t n = strlen(unit);
    char *text = calloc(1, total + 1);
    assert_non_null(text);
    for (size_t i = 0; i + n <= total; i += n)
        memcpy(text + i, unit, n);
    return text;
}

/* Each is quadratic or worse without its bound; with it, an answer comes in seconds. */
static void hard_texts_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json, *unit;
        enum err_code code;
    } rows[] = {
        {SPLIT("(a*)*b"), "a", ERR_INVALID},
        {SPLIT("a(?=[^c]*c)"), "a", ERR_INVALID},
        {"{" TINY_BPE "}", "a", ERR_TOO_LARGE},
        {"{\"normalizer\":{\"type\":\"NFC\"}," TINY_BPE "}", "\u0301\u0316", ERR_TOO_LARGE},
        {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"}," TINY_BPE "}", "a b", ERR_TOO_LARGE},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err e = {0};
        struct token_ids ids;
        struct tokenizer *t = open_text(rows[i].json);
        char *text = repeated(rows[i].unit, TOKENIZER_TEXT_MAX);
        if (tokenizer_encode(t, text, NULL, &ids, &e))
            fail_msg("row %zu was taken", i);
        if (e.code != rows[i].code)
            fail_msg("row %zu: code %d, '%s'", i, (int)e.code, e.text);
        free(text);
        tokenizer_destroy(t);
    }
}

static void long_texts_are_taken(void **state)
{
    (void)state;
    struct err e = {0};
    struct token_ids ids;
    struct tokenizer *t = open_text("{\"truncation\":{\"max_length\":77}," TINY_BPE "}");
    char *text = repeated("aab", (size_t)1 << 18);
    if (!tokenizer_encode(t, text, NULL, &ids, &e))
        fail_msg("%s", e.text);
    assert_int_equal(ids.n, 77);
    assert_true(ids.ids[0] == 2 && ids.ids[1] == 1);
    token_ids_clear(&ids);
    free(text);
    tokenizer_destroy(t);
}

static void patterns_that_mean_something_else_are_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {
        SPLIT("[a&&b]"),  SPLIT("[a[b]]"),         SPLIT("a{1,2}+"),
        SPLIT("[\\\\W]"), SPLIT("\\\\p{Nothing}"),
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err e = {0};
        struct tokenizer *t = NULL;
        if (tokenizer_create(rows[i], strlen(rows[i]), &t, &e))
            fail_msg("row %zu was read", i);
        assert_int_equal(e.code, ERR_UNSUPPORTED);
    }
}

static void texts_that_cannot_be_cut_are_refused(void **state)
{
    (void)state;
    struct err e = {0};
    struct token_ids ids;
    struct tokenizer *t =
        open_text("{\"truncation\":{\"max_length\":4,\"strategy\":\"OnlySecond\"}," TINY_BPE "}");
    assert_false(tokenizer_encode(t, "ababab", "ab", &ids, &e));
    assert_int_equal(e.code, ERR_INVALID);
    assert_true(tokenizer_encode(t, "ab", "ababab", &ids, &e));
    assert_int_equal(ids.n, 4);
    token_ids_clear(&ids);
    tokenizer_destroy(t);
}

#define GOLDEN(n)                                                                                  \
    {                                                                                              \
        .name = "golden " n, .test_func = check_golden, .initial_state = (char[])                  \
        {                                                                                          \
            n                                                                                      \
        }                                                                                          \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        GOLDEN("wordlevel"),
        GOLDEN("wordlevel_left"),
        GOLDEN("bytes"),
        GOLDEN("roberta"),
        GOLDEN("clip"),
        GOLDEN("bert"),
        GOLDEN("bert_cased"),
        GOLDEN("suffix"),
        GOLDEN("split_isolated"),
        GOLDEN("split_merged_with_previous"),
        GOLDEN("split_merged_with_next"),
        GOLDEN("split_contiguous"),
        GOLDEN("llama"),
        GOLDEN("metaspace"),
        GOLDEN("edges"),
        cmocka_unit_test(broken_files_are_refused),
        cmocka_unit_test(texts_are_checked),
        cmocka_unit_test(unknown_ids_are_passed_over),
        cmocka_unit_test(streams_end_with_whole_characters),
        cmocka_unit_test(added_tokens_are_cut_out_first),
        cmocka_unit_test(the_second_of_equals_keeps_the_odd_token),
        cmocka_unit_test(only_the_start_of_a_text_is_first),
        cmocka_unit_test(bytes_that_are_no_text_are_replaced),
        cmocka_unit_test(runs_of_byte_tokens_are_held_back),
        cmocka_unit_test(hard_texts_are_refused),
        cmocka_unit_test(long_texts_are_taken),
        cmocka_unit_test(patterns_that_mean_something_else_are_refused),
        cmocka_unit_test(texts_that_cannot_be_cut_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
