/* Programs as JSON: there and back without loss, and everything that is wrong is refused. */
#include "libtask.h"

#include <stdlib.h>
#include <string.h>

#define VISION "{'id':'v','module':'@A','inputs':[{'media':'image','config':'@C'}]}"
#define TEXT "{'id':'t','module':'@B','inputs':[{'media':'text','config':'@D'}]}"
#define EACH "{'id':'t','module':'@B','each':true,'inputs':[{'media':'text','config':'@D'}]}"
#define FROM(id, port, call)                                                                       \
    "{'id':'" id "','module':'@E','inputs':[{'call':" call ",'output':'o','port':'" port           \
    "','bytes':512}]}"
#define LABELS "{'kind':'labels','call':0,'output':'logits'}"
#define PROGRAM(calls, answer, more) "{'task':'t','calls':[" calls "],'answer':" answer more "}"

/* For each candidate two calls, the second behind the first. */
#define CHAIN                                                                                      \
    PROGRAM(VISION "," EACH ",{'id':'u','module':'@E','each':true,'inputs':[{'call':1,'output':"   \
                   "'o','port':'p','bytes':4}]}",                                                  \
            "{'kind':'similarity','call':0,'output':'a','other':2,'other_output':'b','scale':1.5," \
            "'rank':false}",                                                                       \
            "")

static const char *const right[] = {
    CHAIN,
    PROGRAM(VISION, "{'kind':'vector','call':0,'output':'embeds'}", ""),
    PROGRAM(VISION, LABELS, ",'labels':['cat','Hündin','']"),
    PROGRAM(VISION, "{'kind':'labels','call':0,'output':'x','independent':true}", ""),
    PROGRAM(VISION "," EACH,
            "{'kind':'similarity','call':0,'output':'a','other':1,'other_output':'b','scale':14.5,"
            "'rank':false}",
            ",'hypothesis':'a photo of a {}.'"),
    PROGRAM(VISION ",{'id':'d','module':'@E','generate':true,'inputs':[{'call':0,'output':'h',"
                   "'port':'encoder_hidden_states','bytes':0}]}",
            "{'kind':'text','call':1,'output':''}",
            ",'generation':{'start':[2],'eos':[3],'max_new_tokens':5,'tokenizer':'@D'}"),
    PROGRAM(VISION "," TEXT ",{'id':'h','module':'@E','inputs':[{'call':0,'output':'o','port':'a',"
                   "'bytes':4},{'call':1,'output':'o','port':'b','bytes':4}]}",
            "{'kind':'labels','call':2,'output':'logits'}", ""),
};

static void there_and_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(right) / sizeof(*right); i++) {
        struct err e;
        struct program *p = test_program(right[i]);
        json_t *once = program_to_json(p);
        struct program *q = program_from_json(once, &e);
        assert_non_null(q);
        json_t *twice = program_to_json(q);
        assert_true(json_equal(once, twice));
        json_decref(once);
        json_decref(twice);
        program_free(p);
        program_free(q);
    }
}

static void fields_arrive(void **state)
{
    (void)state;
    struct program *p = test_program(right[4]);
    assert_int_equal(p->call_count, 2);
    assert_int_equal(p->calls[1].inputs[0].kind, MEDIA_TEXT);
    assert_string_equal(p->calls[1].inputs[0].config.hex, test_digest('d').hex);
    assert_true(p->calls[1].each && !p->calls[0].each);
    assert_true(p->answer.scale == 14.5);
    assert_string_equal(p->hypothesis, "a photo of a {}.");
    assert_true(program_reads(p, MEDIA_IMAGE, false) && program_reads(p, MEDIA_TEXT, true));
    assert_false(program_reads(p, MEDIA_TEXT, false) || program_reads(p, MEDIA_AUDIO, false));
    program_free(p);
    p = test_program(right[5]);
    assert_true(p->calls[1].generate);
    assert_string_equal(p->calls[1].inputs[0].port, "encoder_hidden_states");
    assert_int_equal(json_integer_value(json_object_get(p->generation, "max_new_tokens")), 5);
    program_free(p);
    p = test_program(CHAIN);
    assert_true(p->calls[2].each && p->answer.other == 2);
    program_free(p);
    p = test_program(right[2]);
    assert_int_equal(p->label_count, 3);
    assert_string_equal(p->labels[1], "Hündin");
    program_free(p);
}

struct wrong {
    const char *text;
    enum err_code code;
    const char *part;
};

static const struct wrong wrong[] = {
    {"[]", ERR_INVALID, "'task'"},
    {"{'task':'t'}", ERR_INVALID, "'calls'"},
    {"{'task':'','calls':[],'answer':{}}", ERR_INVALID, "'task'"},
    {PROGRAM("", LABELS, ""), ERR_INVALID, "no calls"},
    {PROGRAM("{'id':'v','module':'@A','inputs':[]}", LABELS, ""), ERR_INVALID, "no inputs"},
    {PROGRAM("{'id':'v','module':'abc','inputs':[]}", LABELS, ""), ERR_INVALID, "SHA-256"},
    {PROGRAM("{'id':'v','module':'@A','inputs':[{'media':'smell','config':'@C'}]}", LABELS, ""),
     ERR_INVALID, "'smell'"},
    {PROGRAM(VISION "," VISION, LABELS, ""), ERR_INVALID, "twice"},
    {PROGRAM(FROM("h", "p", "0"), LABELS, ""), ERR_INVALID, "is call 0, of 0"},
    {PROGRAM(VISION "," FROM("h", "p", "1"), LABELS, ""), ERR_INVALID, "is call 1, of 1"},
    {PROGRAM(VISION "," FROM("h", "p", "-1"), LABELS, ""), ERR_INVALID, "'call' is -1"},
    {PROGRAM(VISION "," FROM("h", "", "0"), LABELS, ""), ERR_INVALID, "'port'"},
    {PROGRAM(EACH "," FROM("h", "p", "0"), "{'kind':'labels','call':1,'output':'o'}", ""),
     ERR_UNSUPPORTED, "made for each candidate"},
    {PROGRAM(VISION ",{'id':'t','module':'@B','each':true,'inputs':[{'call':0,'output':'o','port':"
                    "'p'}]}",
             LABELS, ""),
     ERR_UNSUPPORTED, "not made for each candidate"},
    {PROGRAM("{'id':'g','module':'@A','generate':true,'inputs':[{'media':'image','config':'@C'}]}"
             "," FROM("h", "p", "0"),
             "{'kind':'labels','call':1,'output':'o'}", ",'generation':{}"),
     ERR_UNSUPPORTED, "generates"},
    {PROGRAM("{'id':'v','module':'@A','inputs':[{'media':'image','config':'@C'},{'media':'image',"
             "'config':'@D'}]}",
             LABELS, ""),
     ERR_INVALID, "reads image twice"},
    {PROGRAM(VISION ",{'id':'h','module':'@E','inputs':[{'call':0,'output':'a','port':'p'},{'call':"
                    "0,'output':'b','port':'p'}]}",
             LABELS, ""),
     ERR_INVALID, "gets its input 'p' twice"},
    {PROGRAM(VISION ",{'id':'t','module':'@B','each':true,'inputs':[{'media':'audio','config':'@D'"
                    "}]}",
             LABELS, ""),
     ERR_UNSUPPORTED, "one text or picture"},
    {PROGRAM(EACH, LABELS, ""), ERR_INVALID, "can't come from"},
    {PROGRAM(VISION, "{'kind':'text','call':0,'output':''}", ""), ERR_INVALID, "can't come from"},
    {PROGRAM(VISION, "{'kind':'labels','call':1,'output':'o'}", ""), ERR_INVALID, "of 1"},
    {PROGRAM(VISION, "{'kind':'labels','call':0,'output':''}", ""), ERR_INVALID,
     "'output' is empty"},
    {PROGRAM(VISION, "{'kind':'guess','call':0,'output':'o'}", ""), ERR_INVALID, "'guess'"},
    {PROGRAM(VISION,
             "{'kind':'similarity','call':0,'output':'o','other':0,'other_output':'o',"
             "'scale':1}",
             ""),
     ERR_INVALID, "not a call for each"},
    {PROGRAM(VISION "," EACH,
             "{'kind':'similarity','call':0,'output':'o','other':1,'other_output':"
             "'o','scale':1e9}",
             ""),
     ERR_INVALID, "'scale'"},
    {PROGRAM(VISION, LABELS, ",'labels':['a',1]"), ERR_INVALID, "label 1"},
    {PROGRAM(VISION, LABELS, ",'labels':{}"), ERR_INVALID, "'labels'"},
    {PROGRAM(VISION, LABELS, ",'hypothesis':'no place'"), ERR_INVALID, "hold {}"},
    {PROGRAM(VISION, LABELS, ",'generation':[]"), ERR_INVALID, "'generation'"},
    {PROGRAM("{'id':'g','module':'@A','generate':true,'inputs':[{'media':'image','config':'@C'}]}",
             "{'kind':'text','call':0,'output':''}", ""),
     ERR_INVALID, "'generation' is missing"},
};

static void wrong_ones_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        struct err e = {0};
        json_t *o = test_json(wrong[i].text);
        assert_null(program_from_json(o, &e));
        assert_err(e, wrong[i].code, wrong[i].part);
        json_decref(o);
    }
}

static void counts_are_bounded(void **state)
{
    (void)state;
    struct err e = {0};
    json_t *o = test_json(PROGRAM(VISION, LABELS, ""));
    json_t *calls = json_object_get(o, "calls"), *call = json_array_get(calls, 0);
    json_t *inputs = json_object_get(call, "inputs");
    for (int i = 0; i < PROGRAM_INPUTS_MAX; i++)
        json_array_append(inputs, json_array_get(inputs, 0));
    assert_null(program_from_json(o, &e));
    assert_err(e, ERR_TOO_LARGE, "17 entries");
    for (int i = 0; i < PROGRAM_CALLS_MAX; i++)
        json_array_append(calls, call);
    assert_null(program_from_json(o, &e));
    assert_err(e, ERR_TOO_LARGE, "'calls' has 33 entries");
    json_decref(o);
    o = test_json(PROGRAM(VISION, LABELS, ""));
    json_t *labels = json_array();
    for (int i = 0; i <= PROGRAM_LABELS_MAX; i++)
        json_array_append_new(labels, json_string("x"));
    json_object_set_new(o, "labels", labels);
    assert_null(program_from_json(o, &e));
    assert_err(e, ERR_TOO_LARGE, "100001 entries");
    json_decref(o);
}

/* One byte fewer fits. */
static void names_are_bounded(void **state)
{
    (void)state;
    static const struct {
        size_t max;
        const char *part;
    } rows[] = {{WIRE_ID_MAX, "'id'"}, {TENSOR_NAME_MAX, "'output'"}};
    for (int i = 0; i < 2; i++)
        for (size_t over = 0; over < 2; over++) {
            struct err e = {0};
            char name[TENSOR_NAME_MAX + 1] = "";
            memset(name, 'x', rows[i].max - 1 + over);
            json_t *o = test_json(PROGRAM(VISION, LABELS, ""));
            json_object_set_new(i ? json_object_get(o, "answer")
                                  : json_array_get(json_object_get(o, "calls"), 0),
                                i ? "output" : "id", json_string(name));
            struct program *p = program_from_json(o, &e);
            assert_true((p != NULL) == (over == 0));
            if (over)
                assert_err(e, ERR_INVALID, rows[i].part);
            program_free(p);
            json_decref(o);
        }
}

static void a_name_that_is_not_utf8_gives_no_json(void **state)
{
    (void)state;
    struct program *p = test_program(right[0]);
    p->calls[0].id[0] = (char)0xFF;
    assert_null(program_to_json(p));
    p->calls[0].id[0] = 'v';
    p->answer.output[0] = (char)0xC3;
    assert_null(program_to_json(p));
    program_free(p);
    p = test_program(right[2]);
    p->labels[0][0] = (char)0xFF;
    assert_null(program_to_json(p));
    program_free(p);
    program_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(fields_arrive),
        cmocka_unit_test(wrong_ones_are_refused),
        cmocka_unit_test(counts_are_bounded),
        cmocka_unit_test(names_are_bounded),
        cmocka_unit_test(a_name_that_is_not_utf8_gives_no_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
