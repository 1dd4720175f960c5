/* Answers against numbers worked out by hand. */
#include "libtask.h"
#include "task/answer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CALLS                                                                                      \
    "'calls':[{'id':'v','module':'@A','inputs':[{'media':'image','config':'@C'}]},"                \
    "{'id':'t','module':'@B','each':true,'inputs':[{'media':'text','config':'@D'}]}]"
#define SIMILARITY(task, scale, rank)                                                              \
    "{'task':'" task "'," CALLS ",'answer':{'kind':'similarity','call':0,'output':'a','other':1,"  \
    "'other_output':'b','scale':" scale ",'rank':" rank "}}"
#define LABELS(task, more)                                                                         \
    "{'task':'" task "'," CALLS ",'answer':{'kind':'labels','call':0,'output':'logits'" more "},"  \
    "'labels':['cat','dog','cow']}"
#define TEXT(task)                                                                                 \
    "{'task':'" task "','calls':[{'id':'v','module':'@A','generate':true,'inputs':[{'media':"      \
    "'image','config':'@C'}]}],'answer':{'kind':'text','call':0,'output':''},'generation':{}}"

static struct tensor row(const float *values, int64_t n)
{
    struct err e;
    struct tensor t;
    struct shape s = {.rank = 2, .dims = {1, n}};
    assert_true(tensor_new(DT_F32, &s, &t, &e));
    if (t.bytes)
        memcpy(t.data, values, t.bytes);
    return t;
}

/* The answer of a program that compares q with c; candidates are named or not. */
static json_t *compare(const char *program, const float *q, int width, const float *c, int count,
                       bool named, int top_k, struct err *e)
{
    struct program *p = test_program(program);
    struct tensor value = row(q, width), others[8];
    struct request r = {.top_k = top_k};
    json_t *o;
    for (int i = 0; i < count; i++) {
        char name[] = {(char)('a' + i), 0};
        others[i] = row(c + i * width, width);
        assert_true(request_add_candidate(&r, named ? name : NULL, "x", 1, e));
    }
    struct answer_input in = {.value = &value, .candidates = others, .candidate_count = count};
    bool ok = answer_make(p, &r, &in, &o, e);
    assert_true(ok == (o != NULL));
    for (int i = 0; i < count; i++)
        tensor_clear(&others[i]);
    tensor_clear(&value);
    request_clear(&r);
    program_free(p);
    return o;
}

static void assert_row(const json_t *list, size_t i, const char *key, const char *name,
                       double score)
{
    const json_t *o = json_array_get(list, i);
    assert_string_equal(json_string_value(json_object_get(o, key)), name);
    assert_true(fabs(json_real_value(json_object_get(o, "score")) - score) < 1e-12);
}

static void zero_shot_scores(void **state)
{
    (void)state;
    struct err e;
    const float q[] = {3, 4}, c[] = {4, 3, 3, 4, -4, 3}; /* cosines 24/25, 1, 0 */
    json_t *o = compare(SIMILARITY("zero-shot-image-classification", "2", "false"), q, 2, c, 3,
                        true, 0, &e);
    double a = exp(2 * 0.96), b = exp(2), z = exp(0), sum = a + b + z;
    assert_int_equal(json_array_size(o), 3);
    assert_row(o, 0, "label", "b", b / sum);
    assert_row(o, 1, "label", "a", a / sum);
    assert_row(o, 2, "label", "c", z / sum);
    json_decref(o);
}

static void a_large_scale_stays_finite(void **state)
{
    (void)state;
    struct err e;
    const float q[] = {1, 0}, c[] = {-1, 0, 1, 0};
    json_t *o = compare(SIMILARITY("z", "100000", "false"), q, 2, c, 2, true, 0, &e);
    assert_row(o, 0, "label", "b", 1);
    assert_row(o, 1, "label", "a", 0);
    json_decref(o);
}

static void of_equal_scores_the_first_comes_first(void **state)
{
    (void)state;
    struct err e;
    const float q[] = {1, 1}, c[] = {0, 1, 1, 0, 2, 0, 0, 3};
    json_t *o = compare(SIMILARITY("z", "10", "false"), q, 2, c, 4, true, 2, &e);
    assert_int_equal(json_array_size(o), 2); /* top_k */
    assert_row(o, 0, "label", "a", 0.25);
    assert_row(o, 1, "label", "b", 0.25);
    json_decref(o);
}

static void retrieval_ranks_cosines(void **state)
{
    (void)state;
    struct err e;
    const float q[] = {0, 2}, c[] = {0, 0, 5, 0, 0, 1, 3, 4}; /* a zero vector has the cosine 0 */
    const char *rank = SIMILARITY("text-to-image-retrieval", "100", "true");
    json_t *o = compare(rank, q, 2, c, 4, false, 0, &e);
    static const int order[] = {2, 3, 0, 1};
    static const double score[] = {1, 0.8, 0, 0};
    for (size_t i = 0; i < 4; i++) {
        const json_t *row_i = json_array_get(o, i);
        assert_int_equal(json_integer_value(json_object_get(row_i, "index")), order[i]);
        assert_true(fabs(json_real_value(json_object_get(row_i, "score")) - score[i]) < 1e-12);
    }
    json_decref(o);
}

static void embeddings_that_cannot_be_compared(void **state)
{
    (void)state;
    struct err e = {0};
    const char *p = SIMILARITY("z", "10", "false");
    const float q[] = {1, NAN}, c[] = {1, 2}, big[] = {INFINITY, 1};
    assert_null(compare(p, q, 2, c, 1, true, 0, &e));
    assert_err(e, ERR_UNSUPPORTED, "not finite");
    assert_null(compare(p, c, 2, big, 1, true, 0, &e));
    assert_err(e, ERR_UNSUPPORTED, "not finite");
    assert_null(compare(p, c, 2, c, 0, true, 0, &e));
    assert_err(e, ERR_INVALID, "0 results");
    assert_null(compare(p, c, 0, c, 1, true, 0, &e));
    assert_err(e, ERR_UNSUPPORTED, "float32");
}

static json_t *classify(const char *program, const float *logits, int n, int top_k, struct err *e)
{
    struct program *p = test_program(program);
    struct tensor value = row(logits, n);
    struct request r = {.top_k = top_k};
    struct answer_input in = {.value = &value};
    json_t *o;
    bool ok = answer_make(p, &r, &in, &o, e);
    assert_true(ok == (o != NULL));
    tensor_clear(&value);
    program_free(p);
    return o;
}

static void labels_of_logits(void **state)
{
    (void)state;
    struct err e;
    const float logits[] = {1, 3, 2, -1, 0, 3};
    double sum = exp(1) + 2 * exp(3) + exp(2) + exp(-1) + exp(0);
    json_t *o = classify(LABELS("image-classification", ""), logits, 6, 0, &e);
    assert_int_equal(json_array_size(o), ANSWER_TOP_DEFAULT);
    assert_row(o, 0, "label", "dog", exp(3) / sum);
    assert_row(o, 1, "label", "LABEL_5", exp(3) / sum); /* more classes than names */
    assert_row(o, 2, "label", "cow", exp(2) / sum);
    json_decref(o);
    o = classify(LABELS("visual-question-answering", ""), logits, 6, 1, &e);
    assert_int_equal(json_array_size(o), 1);
    assert_row(o, 0, "answer", "dog", exp(3) / sum);
    json_decref(o);
    o = classify(LABELS("image-classification", ""), logits, 6, 100, &e);
    assert_int_equal(json_array_size(o), 6);
    json_decref(o);
}

static void independent_labels(void **state)
{
    (void)state;
    struct err e;
    const float logits[] = {0, 2}, one[] = {-1};
    json_t *o = classify(LABELS("t", ",'independent':true"), logits, 2, 0, &e);
    assert_row(o, 0, "label", "dog", 1 / (1 + exp(-2)));
    assert_row(o, 1, "label", "cat", 0.5);
    json_decref(o);
    o = classify(LABELS("t", ""), one, 1, 0, &e);
    assert_row(o, 0, "label", "cat", 1 / (1 + exp(1)));
    json_decref(o);
}

static void logits_without_order(void **state)
{
    (void)state;
    struct err e = {0};
    const float nan[] = {1, NAN}, inf[] = {1, INFINITY}, none[] = {-INFINITY, -INFINITY};
    const float ruled_out[] = {-INFINITY, 1};
    const char *p = LABELS("t", "");
    assert_null(classify(p, nan, 2, 0, &e));
    assert_err(e, ERR_UNSUPPORTED, "number 1");
    assert_null(classify(p, inf, 2, 0, &e));
    assert_err(e, ERR_UNSUPPORTED, "not finite");
    assert_null(classify(p, none, 2, 0, &e));
    assert_err(e, ERR_UNSUPPORTED, "minus infinity");
    json_t *o = classify(p, ruled_out, 2, 0, &e);
    assert_row(o, 0, "label", "dog", 1);
    assert_row(o, 1, "label", "cat", 0);
    json_decref(o);
}

static void a_row_is_one_row(void **state)
{
    (void)state;
    struct err e = {0};
    struct program *p = test_program(LABELS("t", ""));
    struct request r = {0};
    struct tensor t;
    json_t *o;
    struct shape s = {.rank = 3, .dims = {1, 2, 3}};
    assert_true(tensor_new(DT_F32, &s, &t, &e));
    struct answer_input in = {.value = &t};
    assert_false(answer_make(p, &r, &in, &o, &e));
    assert_err(e, ERR_UNSUPPORTED, "[1,2,3]");
    tensor_clear(&t);
    s = (struct shape){.rank = 2, .dims = {1, 3}};
    assert_true(tensor_new(DT_I64, &s, &t, &e));
    assert_false(answer_make(p, &r, &in, &o, &e));
    assert_err(e, ERR_UNSUPPORTED, "int64");
    tensor_clear(&t);
    program_free(p);
}

static void texts(void **state)
{
    (void)state;
    static const struct {
        const char *program, *wanted;
    } rows[] = {
        {TEXT("image-to-text"), "[{'generated_text':'a \\u00fc'}]"},
        {TEXT("automatic-speech-recognition"), "{'text':'a \\u00fc'}"},
        {TEXT("visual-question-answering"), "[{'answer':'a \\u00fc'}]"},
    };
    struct request r = {0};
    struct err e = {0};
    json_t *o;
    for (size_t i = 0; i < 3; i++) {
        struct program *p = test_program(rows[i].program);
        struct answer_input in = {.text = "a ü"};
        assert_true(answer_make(p, &r, &in, &o, &e));
        json_t *wanted = test_json(rows[i].wanted);
        assert_true(json_equal(o, wanted));
        json_decref(wanted);
        json_decref(o);
        in.text = "\xFF";
        assert_false(answer_make(p, &r, &in, &o, &e));
        assert_err(e, ERR_UNSUPPORTED, "UTF-8");
        program_free(p);
    }
}

static void vectors(void **state)
{
    (void)state;
    struct err e;
    const float v[] = {0.5f, -2};
    json_t *o =
        classify("{'task':'feature-extraction'," CALLS ",'answer':{'kind':'vector','call':0,"
                 "'output':'x'}}",
                 v, 2, 0, &e);
    assert_int_equal(json_array_size(o), 2);
    assert_true(json_real_value(json_array_get(o, 0)) == 0.5);
    assert_true(json_real_value(json_array_get(o, 1)) == -2);
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_shot_scores),
        cmocka_unit_test(a_large_scale_stays_finite),
        cmocka_unit_test(of_equal_scores_the_first_comes_first),
        cmocka_unit_test(retrieval_ranks_cosines),
        cmocka_unit_test(embeddings_that_cannot_be_compared),
        cmocka_unit_test(labels_of_logits),
        cmocka_unit_test(independent_labels),
        cmocka_unit_test(logits_without_order),
        cmocka_unit_test(a_row_is_one_row),
        cmocka_unit_test(texts),
        cmocka_unit_test(vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
