/* Processors kept by digest: made once, shared, bounded.  label: threads */
#include "base/sync.h"
#include "libtask.h"
#include "task/prepare.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 8
#define ROUNDS 40

static const char words[] =
    "{'version':'1.0','truncation':null,'padding':null,'added_tokens':[],'normalizer':null,"
    "'pre_tokenizer':{'type':'Whitespace'},'post_processor':null,'decoder':null,"
    "'model':{'type':'WordLevel','vocab':{'[UNK]':0,'a':1,'b':2},'unk_token':'[UNK]'}}";

struct source {
    atomic_int asked;
    bool broken;
};

static bool side_file(void *ctx, const char *digest, char **ret, size_t *size, struct err *e)
{
    struct source *s = ctx;
    atomic_fetch_add(&s->asked, 1);
    if (digest[0] == 'f')
        return err_set(e, ERR_NOT_FOUND, "blob '%.8s' is not here", digest);
    *ret = test_text(s->broken ? "{'model':1}" : words);
    *size = strlen(*ret);
    return true;
}

static int64_t second_id(struct prepare *p, char config, const char *text)
{
    struct named_tensor out[4];
    struct err e = {0};
    struct digest d = test_digest(config);
    int made;
    if (!prepare_run(p, "text", d.hex, text, strlen(text), out, 4, &made, &e))
        fail_msg("%s", e.text);
    assert_int_equal(made, 3);
    assert_string_equal(out[0].name, "input_ids");
    int64_t id = ((int64_t *)out[0].tensor.data)[1];
    for (int i = 0; i < made; i++)
        tensor_clear(&out[i].tensor);
    return id;
}

static void made_once(void **state)
{
    (void)state;
    struct source s = {0};
    struct prepare *p = prepare_new(2, side_file, &s);
    struct digest d = test_digest('a');
    struct err e;
    const int64_t ids[] = {2, 1};
    char *text;
    assert_int_equal(second_id(p, 'a', "a b"), 2);
    assert_int_equal(second_id(p, 'a', "b a"), 1);
    assert_true(prepare_decode(p, d.hex, ids, 2, &text, &e));
    assert_string_equal(text, "b a");
    free(text);
    assert_int_equal(atomic_load(&s.asked), 1);
    prepare_free(p);
    prepare_free(NULL);
}

static void the_least_recently_used_goes(void **state)
{
    (void)state;
    struct source s = {0};
    struct prepare *p = prepare_new(2, side_file, &s);
    static const char order[] = "aababcab"; /* c drops a, then a drops b, then b drops c */
    static const int asked[] = {1, 1, 2, 2, 2, 3, 4, 5};
    for (int i = 0; order[i]; i++) {
        second_id(p, order[i], "a b");
        assert_int_equal(atomic_load(&s.asked), asked[i]);
    }
    prepare_free(p);
    p = prepare_new(0, side_file, &s); /* keeps none, and works */
    assert_int_equal(second_id(p, 'a', "a b"), 2);
    assert_int_equal(second_id(p, 'a', "a b"), 2);
    prepare_free(p);
}

static void what_fails(void **state)
{
    (void)state;
    struct source s = {0};
    struct prepare *p = prepare_new(2, side_file, &s);
    struct named_tensor out[4];
    struct err e = {0};
    struct digest here = test_digest('a'), gone = test_digest('f');
    int made = 7;
    assert_false(prepare_run(p, "smell", here.hex, "a", 1, out, 4, &made, &e));
    assert_err(e, ERR_INVALID, "'smell'");
    assert_int_equal(made, 0);
    assert_false(prepare_run(p, "text", "../../etc/passwd", "a", 1, out, 4, &made, &e));
    assert_err(e, ERR_INVALID, "digest");
    assert_false(prepare_run(p, "text", gone.hex, "a", 1, out, 4, &made, &e));
    assert_err(e, ERR_NOT_FOUND, "is not here");
    assert_false(prepare_run(p, "image", here.hex, "a", 1, out, 4, &made, &e));
    assert_int_equal(made, 0);
    assert_false(prepare_run(p, "text", here.hex, "\xFF", 1, out, 4, &made, &e));
    assert_err(e, ERR_INVALID, "text: ");
    assert_false(
        prepare_run(p, "text", here.hex, "a", 1, out, 2, &made, &e)); /* no room for three */
    assert_int_equal(made, 0);
    s.broken = true;
    struct digest other = test_digest('b');
    assert_false(prepare_run(p, "text", other.hex, "a", 1, out, 4, &made, &e));
    s.broken = false; /* a failure is not kept */
    assert_int_equal(second_id(p, 'b', "a b"), 2);
    char *text;
    assert_false(prepare_decode(p, "x", NULL, 0, &text, &e));
    assert_err(e, ERR_INVALID, "digest");
    assert_false(prepare_decode(p, gone.hex, NULL, 0, &text, &e));
    assert_err(e, ERR_NOT_FOUND, "is not here");
    prepare_free(p);
}

struct worker {
    struct prepare *prepare;
    int number;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < ROUNDS; i++)
        assert_int_equal(second_id(w->prepare, "abcde"[(i + w->number) % 5], "a b"), 2);
    return NULL;
}

/* Two are kept and five are asked for, so that some are dropped while they run elsewhere. */
static void many_threads(void **state)
{
    (void)state;
    struct source s = {0};
    struct err e;
    struct prepare *p = prepare_new(2, side_file, &s);
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){p, i};
        assert_true(thread_start(&threads[i], "worker", work, &workers[i], &e));
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    prepare_free(p);
}

static struct port port(const char *name, enum dtype dtype, int rank)
{
    struct port p = {.dtype = dtype, .shape = {.rank = rank, .dims = {1, 1, 1, 1}}};
    (void)snprintf(p.name, sizeof(p.name), "%s", name);
    return p;
}

static struct named_tensor some(const char *name, enum dtype dtype, int rank)
{
    struct named_tensor t = {0};
    struct shape s = {.rank = rank, .dims = {1, 1, 1, 1}};
    (void)snprintf(t.name, sizeof(t.name), "%s", name);
    assert_true(tensor_new(dtype, &s, &t.tensor, NULL));
    return t;
}

static void clear(struct named_tensor *t, int count)
{
    for (int i = 0; i < count; i++)
        tensor_clear(&t[i].tensor);
}

/* A picture and a text for a module that calls both otherwise; the mask that it has no port for
 * must not take one. */
static void first_tensors_may_have_other_names(void **state)
{
    (void)state;
    const struct port ports[] = {port("x", DT_I64, 2), port("states", DT_F32, 2),
                                 port("images", DT_F32, 4), port("weights", DT_F32, 4)};
    struct named_tensor in[] = {some("weights", DT_F32, 4), some("pixel_values", DT_F32, 4),
                                some("input_ids", DT_I64, 2), some("attention_mask", DT_I64, 2),
                                some("states", DT_F32, 2)};
    const int first[] = {1, 2};
    int kept = prepare_match(ports, 4, first, 2, in, 5);
    assert_int_equal(kept, 4);
    assert_string_equal(in[0].name, "weights");
    assert_string_equal(in[1].name, "images");
    assert_string_equal(in[2].name, "x");
    assert_string_equal(in[3].name, "states");
    clear(in, kept);
}

static void names_are_not_guessed(void **state)
{
    (void)state;
    const struct port ports[] = {port("a", DT_F32, 4), port("b", DT_F32, 4),
                                 port("input_ids", DT_I64, 2), port("other", DT_I64, 2)};
    struct named_tensor in[] = {some("pixel_values", DT_F32, 4), some("input_ids", DT_I64, 2),
                                some("attention_mask", DT_I64, 2)};
    const int first[] = {0, 1};
    assert_int_equal(prepare_match(ports, 4, first, 2, in, 3), 1);
    assert_string_equal(in[0].name, "input_ids");
    clear(in, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(made_once),
        cmocka_unit_test(the_least_recently_used_goes),
        cmocka_unit_test(what_fails),
        cmocka_unit_test(first_tensors_may_have_other_names),
        cmocka_unit_test(names_are_not_guessed),
        cmocka_unit_test(many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
