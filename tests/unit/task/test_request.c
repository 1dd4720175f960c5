/* Requests in the forms of the Hugging Face API, and what is wrong with others. */
#include "libtask.h"
#include "task/base64.h"
#include "task/request.h"

#include <stdlib.h>
#include <string.h>

#define PNG "\x89PNG\r\n\x1a\n...."
#define PNG64 "iVBORw0KGgouLi4u"
#define WAV64 "UklGRi4uLi5XQVZF"

#define CALL(id, kind, each)                                                                       \
    "{'id':'" id "','module':'@A','each':" each ",'inputs':[{'media':'" kind "','config':'@C'}]}"
#define PROGRAM(task, calls, answer)                                                               \
    "{'task':'" task "','calls':[" calls "],'answer':" answer ",'hypothesis':'a photo of {}.'}"
#define VECTOR "{'kind':'vector','call':0,'output':'o'}"
#define SIMILAR                                                                                    \
    "{'kind':'similarity','call':0,'output':'o','other':1,'other_output':'o','scale':10}"

static const char *const programs_text[] = {
    PROGRAM("zero-shot-image-classification",
            CALL("i", "image", "false") "," CALL("t", "text", "true"), SIMILAR),
    PROGRAM("text-to-image-retrieval", CALL("t", "text", "false") "," CALL("i", "image", "true"),
            SIMILAR),
    PROGRAM("feature-extraction", CALL("i", "image", "false"), VECTOR),
    PROGRAM("feature-extraction", CALL("t", "text", "false"), VECTOR),
    PROGRAM("feature-extraction", CALL("a", "audio", "false"), VECTOR),
    PROGRAM("visual-question-answering", CALL("i", "image", "false") "," CALL("t", "text", "false"),
            "{'kind':'labels','call':1,'output':'o'}"),
};
enum { ZERO_SHOT, RETRIEVAL, OF_IMAGE, OF_TEXT, OF_AUDIO, QUESTION, COUNT };

static struct program *programs[COUNT];

static int make_programs(void **state)
{
    (void)state;
    for (int i = 0; i < COUNT; i++)
        programs[i] = test_program(programs_text[i]);
    return 0;
}

static int free_programs(void **state)
{
    (void)state;
    for (int i = 0; i < COUNT; i++)
        program_free(programs[i]);
    return 0;
}

static bool read(const char *type, const char *text, struct request *r, struct err *e)
{
    char *filled = test_text(text);
    *e = (struct err){0};
    bool ok = request_read(type, filled, strlen(filled), r, e);
    free(filled);
    return ok;
}

static struct request json(const char *text)
{
    struct err e;
    struct request r;
    if (!read("application/json; charset=utf-8", text, &r, &e))
        fail_msg("%s: %s", text, e.text);
    return r;
}

static void assert_bytes(struct mem *m, const char *wanted)
{
    assert_non_null(m);
    assert_int_equal(mem_size(m), strlen(wanted));
    assert_memory_equal(mem_data(m), wanted, strlen(wanted));
}

static int choose(const struct request *r, const char *task, struct err *e)
{
    return request_choose(programs, COUNT, task, r, e);
}

static void raw_bodies(void **state)
{
    (void)state;
    static const struct {
        const char *type, *body;
        enum media_kind kind;
    } rows[] = {
        {"image/png", PNG, MEDIA_IMAGE},
        {"IMAGE/x", "anything", MEDIA_IMAGE},
        {"audio/wav", "RIFF", MEDIA_AUDIO},
        {"text/plain; charset=utf-8", "hello", MEDIA_TEXT},
        {NULL, PNG, MEDIA_IMAGE},
        {"application/octet-stream", "OggS......", MEDIA_AUDIO},
        {"application/x-www-form-urlencoded", "\xFF\xD8\xFF\xE0", MEDIA_IMAGE},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct err e;
        struct request r;
        assert_true(request_read(rows[i].type, rows[i].body, strlen(rows[i].body), &r, &e));
        for (int k = 0; k < MEDIA_KINDS; k++)
            assert_true((r.media[k] != NULL) == ((enum media_kind)k == rows[i].kind));
        assert_bytes(r.media[rows[i].kind], rows[i].body);
        request_clear(&r);
    }
}

static void json_without_a_type(void **state)
{
    (void)state;
    struct err e;
    struct request r;
    assert_true(read("application/x-www-form-urlencoded", "{'inputs':'hello'}", &r, &e));
    assert_bytes(r.media[MEDIA_TEXT], "hello");
    request_clear(&r);
}

static void one_string(void **state)
{
    (void)state;
    static const struct {
        const char *inputs, *task;
        int wanted;
        enum media_kind kind;
        const char *bytes;
    } rows[] = {
        {"hello", "feature-extraction", OF_TEXT, MEDIA_TEXT, "hello"},
        {"abcd", "feature-extraction", OF_TEXT, MEDIA_TEXT, "abcd"},
        {PNG64, "feature-extraction", OF_IMAGE, MEDIA_IMAGE, PNG},
        {"data:image/png;base64," PNG64, NULL, OF_IMAGE, MEDIA_IMAGE, PNG},
        {WAV64, NULL, OF_AUDIO, MEDIA_AUDIO, "RIFF....WAVE"},
        {"hello", NULL, OF_TEXT, MEDIA_TEXT, "hello"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct err e;
        char text[128];
        (void)snprintf(text, sizeof(text), "{'inputs':'%s'}", rows[i].inputs);
        struct request r = json(text);
        for (int round = 0; round < 2; round++) { /* a request is tried again on the next table */
            int chosen = choose(&r, rows[i].task, &e);
            assert_int_equal(chosen, rows[i].wanted);
            assert_true(request_fit(&r, programs[chosen], &e));
            assert_bytes(request_media(&r, &programs[chosen]->calls[0], rows[i].kind, 0),
                         rows[i].bytes);
        }
        request_clear(&r);
    }
}

static void a_string_for_a_program_without_texts_is_base64(void **state)
{
    (void)state;
    struct err e;
    struct request r = json("{'inputs':'YWJj'}");
    assert_int_equal(request_choose(programs, 3, "feature-extraction", &r, &e), OF_IMAGE);
    assert_true(request_fit(&r, programs[OF_IMAGE], &e));
    assert_bytes(r.media[MEDIA_IMAGE], "abc");
    request_clear(&r);
    r = json("{'inputs':'https://example.org/a.png'}");
    assert_int_equal(request_choose(programs, 3, "feature-extraction", &r, &e), OF_IMAGE);
    assert_false(request_fit(&r, programs[OF_IMAGE], &e));
    assert_err(e, ERR_INVALID, "URLs are not fetched");
    request_clear(&r);
}

static void zero_shot(void **state)
{
    (void)state;
    struct err e;
    struct request r =
        json("{'inputs':'" PNG64 "','parameters':{'candidate_labels':['cat','big dog'],"
             "'top_k':3,'unknown':1}}");
    assert_int_equal(choose(&r, "zero-shot-image-classification", &e), ZERO_SHOT);
    assert_int_equal(choose(&r, NULL, &e), ZERO_SHOT);
    assert_true(request_fit(&r, programs[ZERO_SHOT], &e));
    assert_int_equal(r.candidate_count, 2);
    assert_int_equal(r.top_k, 3);
    const struct program_call *each = &programs[ZERO_SHOT]->calls[1];
    assert_bytes(request_media(&r, each, MEDIA_TEXT, 0), "a photo of cat.");
    assert_bytes(request_media(&r, each, MEDIA_TEXT, 1), "a photo of big dog.");
    assert_bytes(request_media(&r, &programs[ZERO_SHOT]->calls[0], MEDIA_IMAGE, 0), PNG);
    request_clear(&r);
}

static void labels_in_one_text_and_the_clients_template(void **state)
{
    (void)state;
    struct err e;
    struct request r = json("{'inputs':{'image':'" PNG64 "'},'parameters':{'candidate_labels':"
                            "'cat ,  big dog','hypothesis_template':'see {}!'}}");
    assert_true(request_fit(&r, programs[ZERO_SHOT], &e));
    assert_int_equal(r.candidate_count, 2);
    assert_string_equal(r.candidates[0].label, "cat");
    assert_bytes(r.candidates[1].media, "see big dog!");
    request_clear(&r);
    r = json("{'inputs':{'image':'" PNG64 "'},'parameters':{'candidate_labels':['a'],"
             "'hypothesis_template':'same'}}");
    assert_false(request_fit(&r, programs[ZERO_SHOT], &e));
    assert_err(e, ERR_INVALID, "no {}");
    request_clear(&r);
}

static void questions_and_retrieval(void **state)
{
    (void)state;
    struct err e;
    struct request r = json("{'inputs':{'question':'what?','image':'data:image/png;base64," PNG64
                            "'},'parameters':{'generate_kwargs':{'max_new_tokens':7}}}");
    assert_int_equal(choose(&r, "visual-question-answering", &e), QUESTION);
    assert_int_equal(r.max_new_tokens, 7);
    assert_bytes(r.media[MEDIA_TEXT], "what?");
    assert_bytes(r.media[MEDIA_IMAGE], PNG);
    request_clear(&r);
    r = json("{'inputs':{'query':'red','images':['YWJj','ZGVm']}}");
    assert_int_equal(choose(&r, "text-to-image-retrieval", &e), RETRIEVAL);
    assert_true(request_fit(&r, programs[RETRIEVAL], &e));
    assert_bytes(request_media(&r, &programs[RETRIEVAL]->calls[1], MEDIA_IMAGE, 1), "def");
    request_clear(&r);
}

static void what_is_missing_is_said(void **state)
{
    (void)state;
    static const struct {
        const char *text, *task, *part;
        enum err_code code;
    } rows[] = {
        {"{'inputs':{'image':'" PNG64 "'}}", "zero-shot-image-classification", "'candidate_labels'",
         ERR_INVALID},
        {"{'inputs':{'image':'" PNG64 "'}}", "visual-question-answering", "'text'", ERR_INVALID},
        {"{'inputs':'" PNG64 "'}", "visual-question-answering", "'text'", ERR_INVALID},
        {"{'inputs':'what?'}", "visual-question-answering", "'image'", ERR_INVALID},
        {"{'inputs':{'text':'a'}}", "text-to-image-retrieval", "'images'", ERR_INVALID},
        {"{'inputs':{'text':'a'},'parameters':{'candidate_labels':['x']}}",
         "text-to-image-retrieval", "'images'", ERR_INVALID},
        {"{'inputs':'a'}", "object-detection",
         "serves zero-shot-image-classification, text-to-image-retrieval, feature-extraction, "
         "visual",
         ERR_NOT_FOUND},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct err e = {0};
        struct request r = json(rows[i].text);
        assert_int_equal(choose(&r, rows[i].task, &e), -1);
        assert_err(e, rows[i].code, rows[i].part);
        request_clear(&r);
    }
}

static void wrong_bodies(void **state)
{
    (void)state;
    static const struct {
        const char *type, *text, *part;
        enum err_code code;
    } rows[] = {
        {"application/json", "", "not JSON", ERR_INVALID},
        {"application/json", "{", "not JSON", ERR_INVALID},
        {"application/json", "[]", "'inputs' is missing", ERR_INVALID},
        {"application/json", "{'inputs':3}", "'inputs'", ERR_INVALID},
        {"application/json", "{'inputs':{'picture':'x'}}", "no 'picture'", ERR_INVALID},
        {"application/json", "{'inputs':{'image':1}}", "'image'", ERR_INVALID},
        {"application/json", "{'inputs':{'image':'a'}}", "image: is not base64", ERR_INVALID},
        {"application/json", "{'inputs':{'image':''}}", "image: is empty base64", ERR_INVALID},
        {"application/json", "{'inputs':{'image':'data:image/png,abc'}}", ";base64", ERR_INVALID},
        {"application/json", "{'inputs':{'text':'a','question':'b'}}", "twice", ERR_INVALID},
        {"application/json", "{'inputs':{'images':['YWJj',2]}}", "images[1]", ERR_INVALID},
        {"application/json", "{'inputs':'a','inputs':'b'}", "duplicate", ERR_INVALID},
        {"application/json", "{'inputs':'a','parameters':[]}", "'parameters'", ERR_INVALID},
        {"application/json", "{'inputs':'a','parameters':{'top_k':-1}}", "'top_k'", ERR_INVALID},
        {"application/json", "{'inputs':'a','parameters':{'max_new_tokens':3841}}", "0 to 3840",
         ERR_INVALID},
        {"application/json", "{'inputs':'a','parameters':{'candidate_labels':['']}}",
         "candidate_labels[0]", ERR_INVALID},
        {"application/json", "{'inputs':'a','parameters':{'candidate_labels':'a,,b'}}", "1 to 255",
         ERR_INVALID},
        {"application/json",
         "{'inputs':{'images':['YWJj']},'parameters':{'candidate_labels':['a']}}", "both",
         ERR_INVALID},
        {"application/jsonl", "{'inputs':'a'}", "Content-Type", ERR_MEDIA_TYPE},
        {"video/mp4", "x", "Content-Type", ERR_MEDIA_TYPE},
        {"image/png", "", "image: is empty", ERR_INVALID},
        {NULL, "hello", "not JSON", ERR_INVALID},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct err e;
        struct request r;
        assert_false(read(rows[i].type, rows[i].text, &r, &e));
        assert_err(e, rows[i].code, rows[i].part);
        assert_null(r.media[MEDIA_TEXT]);
    }
}

static void sizes_are_bounded(void **state)
{
    (void)state;
    struct err e = {0};
    struct request r = {0};
    char *text = calloc(1, REQUEST_TEXT_MAX + 2);
    memset(text, 'a', REQUEST_TEXT_MAX + 1);
    assert_false(request_set(&r, MEDIA_TEXT, text, REQUEST_TEXT_MAX + 1, &e));
    assert_err(e, ERR_TOO_LARGE, "65536");
    assert_false(request_add_candidate(&r, text, NULL, 0, &e));
    assert_err(e, ERR_TOO_LARGE, "label");
    assert_false(request_read("image/png", text, REQUEST_BODY_MAX + 1, &r, &e));
    assert_err(e, ERR_TOO_LARGE, "request: 134217729");
    assert_null(base64_decode("YWJjZGVm", 8, 5, "image", &e));
    assert_err(e, ERR_TOO_LARGE, "limit of 5");
    free(text);
    for (int i = 0; i < REQUEST_CANDIDATES_MAX; i++)
        assert_true(request_add_candidate(&r, "x", NULL, 0, &e));
    assert_false(request_add_candidate(&r, "x", NULL, 0, &e));
    assert_err(e, ERR_TOO_LARGE, "1000 candidates");
    request_clear(&r);
}

static void base64_as_rfc_4648(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"Zg==", "f"},
        {"Zm8=", "fo"},
        {"Zm9v", "foo"},
        {"Zm9vYg==", "foob"},
        {"Zm9vYg", "foob"},
        {"Zm9v\r\nYmFy", "foobar"},
        {"-_-_", "\xFB\xFF\xBF"},
        {"+/+/", "\xFB\xFF\xBF"},
    };
    static const char *const wrong[] = {"Z",           "Zm9vY",  "Zm 9", "Zg==x",
                                        "Z\xC3\xBC==", "data:,", "===="};
    struct err e;
    unsigned char peek[BASE64_PEEK];
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct mem *m = base64_decode(rows[i][0], strlen(rows[i][0]), 100, "x", &e);
        assert_bytes(m, rows[i][1]);
        mem_unref(m);
        assert_int_equal(base64_peek(rows[i][0], strlen(rows[i][0]), peek), strlen(rows[i][1]));
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        assert_null(base64_decode(wrong[i], strlen(wrong[i]), 100, "x", &e));
    assert_int_equal(base64_peek("YWJjZGVmZ2hpamtsbW5vcA==", 24, peek), BASE64_PEEK);
    assert_memory_equal(peek, "abcdefghijkl", BASE64_PEEK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(raw_bodies),
        cmocka_unit_test(json_without_a_type),
        cmocka_unit_test(one_string),
        cmocka_unit_test(a_string_for_a_program_without_texts_is_base64),
        cmocka_unit_test(zero_shot),
        cmocka_unit_test(labels_in_one_text_and_the_clients_template),
        cmocka_unit_test(questions_and_retrieval),
        cmocka_unit_test(what_is_missing_is_said),
        cmocka_unit_test(wrong_bodies),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(base64_as_rfc_4648),
    };
    return cmocka_run_group_tests(tests, make_programs, free_programs);
}
