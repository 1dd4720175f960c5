/* The decode loop over a scripted step: what it feeds, what it carries, when it stops. */
#include "libtask.h"
#include "task/generate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VOCABULARY 10
#define STEPS 64

static const char tokenizer[] =
    "{'version':'1.0','truncation':null,'padding':null,'added_tokens':[{'id':0,'content':'<s>',"
    "'special':true,'lstrip':false,'rstrip':false,'single_word':false,'normalized':false}],"
    "'normalizer':null,'pre_tokenizer':{'type':'Whitespace'},'post_processor':null,'decoder':null,"
    "'model':{'type':'WordLevel','vocab':{'<s>':0,'a':1,'b':2,'c':3,'d':4,'e':5,'f':6,'g':7,'h':8,"
    "'[UNK]':9},'unk_token':'[UNK]'}}";

static const char byte_level[] =
    "{'version':'1.0','truncation':null,'padding':null,'added_tokens':[],'normalizer':null,"
    "'pre_tokenizer':{'type':'ByteLevel','add_prefix_space':false,'trim_offsets':true,'use_regex':"
    "true},'post_processor':null,'decoder':{'type':'ByteLevel','add_prefix_space':true,"
    "'trim_offsets':true,'use_regex':true},'model':{'type':'BPE','dropout':null,'unk_token':null,"
    "'continuing_subword_prefix':null,'end_of_word_suffix':null,'fuse_unk':false,'byte_fallback':"
    "false,'vocab':{'x':0,'\u00c3':1,'\u00bc':2,'y':3},'merges':[]}}";

static bool side_file(void *ctx, const char *digest, char **ret, size_t *size, struct err *e)
{
    (void)ctx;
    if (digest[0] != 'a' && digest[0] != 'b')
        return err_set(e, ERR_NOT_FOUND, "blob '%.8s'", digest);
    *ret = test_text(digest[0] == 'a' ? tokenizer : byte_level);
    *size = strlen(*ret);
    return true;
}

/* A decoder that says what the script says and remembers what it was given. */
struct script {
    int tokens[STEPS]; /* of each step; the logits favour it */
    bool cache;        /* it has a past */
    int steps;
    int64_t given[STEPS][STEPS]; /* input ids of each step */
    int64_t given_count[STEPS], past_length[STEPS], mask_length[STEPS];
    int64_t first_position[STEPS], cross_length[STEPS];
    bool branch[STEPS];
    bool nan, fail;
    int cancel_at; /* step; -1: never */
    struct cancel *cancel;
    char said[256];
    int refuse_text; /* on_text fails at that call; -1: never */
    int texts;
};

static struct port inputs[] = {
    {"input_ids", DT_I64, {2, {-1, -1}}},
    {"attention_mask", DT_I64, {2, {-1, -1}}},
    {"position_ids", DT_I64, {2, {-1, -1}}},
    {"use_cache_branch", DT_BOOL, {1, {1}}},
    {"encoder_attention_mask", DT_I64, {2, {-1, -1}}},
    {"encoder_hidden_states", DT_F32, {3, {-1, -1, 4}}},
    {"past_key_values.0.decoder.key", DT_F32, {4, {-1, 2, -1, 3}}},
    {"past_key_values.0.encoder.key", DT_F32, {4, {-1, 2, -1, 3}}},
};
static struct port outputs[] = {
    {"present.0.encoder.key", DT_F32, {4, {-1, 2, -1, 3}}},
    {"logits", DT_F32, {3, {-1, -1, VOCABULARY}}},
    {"present.0.decoder.key", DT_F32, {4, {-1, 2, -1, 3}}},
};
#define COUNT(a) ((int)(sizeof(a) / sizeof(*(a))))
#define WITHOUT_PAST 6

static struct tensor zeros(enum dtype t, int rank, int64_t a, int64_t b, int64_t c, int64_t d)
{
    struct err e;
    struct tensor made;
    struct shape s = {.rank = rank, .dims = {a, b, c, d}};
    assert_true(tensor_new(t, &s, &made, &e));
    return made;
}

static const struct tensor *input(const struct named_tensor *in, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(in[i].name, name) == 0)
            return &in[i].tensor;
    return NULL;
}

static void remember(struct script *s, const struct named_tensor *in, int count)
{
    const struct tensor *ids = input(in, count, "input_ids");
    s->given_count[s->steps] = ids->shape.dims[1];
    memcpy(s->given[s->steps], ids->data, ids->bytes);
    s->mask_length[s->steps] = input(in, count, "attention_mask")->shape.dims[1];
    s->first_position[s->steps] = *(int64_t *)input(in, count, "position_ids")->data;
    s->branch[s->steps] = *(bool *)input(in, count, "use_cache_branch")->data;
    assert_int_equal(input(in, count, "encoder_attention_mask")->shape.dims[1], 5);
    assert_int_equal(((int64_t *)input(in, count, "encoder_attention_mask")->data)[4], 1);
    const struct tensor *states = input(in, count, "encoder_hidden_states");
    assert_true(((float *)states->data)[0] == 42);
    if (s->cache) {
        s->past_length[s->steps] = input(in, count, "past_key_values.0.decoder.key")->shape.dims[2];
        s->cross_length[s->steps] =
            input(in, count, "past_key_values.0.encoder.key")->shape.dims[2];
    }
}

static bool step(void *ctx, const struct named_tensor *in, int count, struct tensor *out,
                 struct err *e)
{
    struct script *s = ctx;
    assert_true(s->steps < STEPS);
    remember(s, in, count);
    int64_t n = s->given_count[s->steps], past = s->past_length[s->steps];
    out[0] = zeros(DT_F32, 4, 1, 2, past ? 0 : 5, 3); /* a cache branch gives nothing new */
    if (s->fail) /* outputs that are there already must be freed */
        return err_set(e, ERR_GONE, "the runner died");
    out[1] = zeros(DT_F32, 3, 1, n, VOCABULARY, 0);
    out[2] = zeros(DT_F32, 4, 1, 2, past + n, 3);
    float *row = (float *)out[1].data + (n - 1) * VOCABULARY;
    for (int i = 0; i < VOCABULARY; i++)
        row[i] = s->nan || i == 0 ? NAN : -1;
    if (!s->nan)
        row[s->tokens[s->steps]] = row[9] = 2; /* 9 equals it and comes later */
    s->steps++;
    if (s->steps == s->cancel_at)
        cancel_fire(s->cancel);
    return true;
}

static bool on_text(void *ctx, const char *text, struct err *e)
{
    struct script *s = ctx;
    if (s->texts++ == s->refuse_text)
        return err_set(e, ERR_GONE, "nobody listens");
    size_t n = strlen(s->said);
    (void)snprintf(s->said + n, sizeof(s->said) - n, "%s|", text);
    return true;
}

/* Runs the script; *text is "" on failure. */
static bool run(struct script *s, const char *settings, char text[256], uint32_t *tokens,
                struct err *e)
{
    struct prepare *prepare = prepare_new(4, side_file, NULL);
    struct named_tensor states = {.name = "encoder_hidden_states",
                                  .tensor = zeros(DT_F32, 3, 1, 5, 4, 0)};
    *(float *)states.tensor.data = 42;
    json_t *o = test_json(settings);
    struct generate_job job = {.settings = o,
                               .inputs = &states,
                               .input_count = 1,
                               .module_inputs = inputs,
                               .module_outputs = outputs,
                               .module_input_count = s->cache ? COUNT(inputs) : WITHOUT_PAST,
                               .module_output_count = COUNT(outputs),
                               .cancel = s->cancel,
                               .prepare = prepare,
                               .step = step,
                               .on_text = on_text,
                               .ctx = s};
    char *got = NULL;
    *e = (struct err){0};
    bool ok = generate_run(&job, &got, tokens, e);
    (void)snprintf(text, 256, "%s", ok ? got : "");
    if (ok)
        free(got);
    json_decref(o);
    tensor_clear(&states.tensor);
    prepare_free(prepare);
    return ok;
}

#define SETTINGS(start, eos, max)                                                                  \
    "{'start':[" start "],'eos':[" eos "],'max_new_tokens':" max ",'tokenizer':'@A'}"

static void with_a_cache_each_step_gets_the_new_token(void **state)
{
    (void)state;
    struct script s = {.tokens = {3, 1, 4, 7}, .cache = true, .refuse_text = -1};
    struct err e;
    char text[256];
    uint32_t tokens = 0;
    assert_true(run(&s, SETTINGS("0,8", "7", "20"), text, &tokens, &e));
    assert_string_equal(text, "c a d");
    assert_string_equal(s.said, "c| a| d|");
    assert_int_equal(tokens, 3);
    assert_int_equal(s.steps, 4);
    static const int64_t count[] = {2, 1, 1, 1}, past[] = {0, 2, 3, 4}, id[] = {0, 3, 1, 4};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(s.given_count[i], count[i]);
        assert_int_equal(s.given[i][0], id[i]);
        assert_int_equal(s.past_length[i], past[i]);
        assert_int_equal(s.mask_length[i], past[i] + count[i]);
        assert_int_equal(s.first_position[i], past[i]);
        assert_true(s.branch[i] == (i > 0));
        assert_int_equal(s.cross_length[i], i ? 5 : 0); /* the encoder's keys stay */
    }
    assert_int_equal(s.given[0][1], 8);
}

static void without_a_cache_each_step_gets_all(void **state)
{
    (void)state;
    struct script s = {.tokens = {3, 1, 7}, .refuse_text = -1};
    struct err e;
    char text[256];
    uint32_t tokens;
    assert_true(run(&s, SETTINGS("0", "7,6", "20"), text, &tokens, &e));
    assert_string_equal(text, "c a");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(s.given_count[i], i + 1);
        assert_int_equal(s.given[i][0], 0);
        assert_int_equal(s.first_position[i], 0);
        assert_false(s.branch[i]);
    }
    assert_int_equal(s.given[2][2], 1);
}

static void it_stops(void **state)
{
    (void)state;
    struct script s = {.tokens = {1, 1, 1, 1, 1}, .cache = true, .refuse_text = -1};
    struct err e;
    char text[256];
    uint32_t tokens;
    assert_true(run(&s, SETTINGS("0", "7", "3"), text, &tokens, &e));
    assert_string_equal(text, "a a a");
    assert_int_equal(tokens, 3);
    assert_int_equal(s.steps, 3);
    s = (struct script){.tokens = {7}, .refuse_text = -1};
    assert_true(run(&s, SETTINGS("0", "7", "3"), text, &tokens, &e));
    assert_string_equal(text, "");
    assert_int_equal(tokens, 0);
    s = (struct script){.refuse_text = -1};
    assert_true(run(&s, SETTINGS("0", "7", "0"), text, &tokens, &e));
    assert_int_equal(s.steps, 0);
}

static void it_is_cancelled(void **state)
{
    (void)state;
    struct script s = {.tokens = {1, 2, 3, 4, 5}, .cache = true, .cancel_at = 2, .refuse_text = -1};
    struct err e;
    char text[256];
    uint32_t tokens;
    s.cancel = cancel_new();
    assert_false(run(&s, SETTINGS("0", "7", "9"), text, &tokens, &e));
    assert_err(e, ERR_CANCELLED, "went away");
    assert_int_equal(s.steps, 2);
    cancel_unref(s.cancel);
}

static void failures_come_through(void **state)
{
    (void)state;
    struct err e;
    char text[256];
    uint32_t tokens;
    struct script s = {.tokens = {1, 2}, .cache = true, .fail = true, .refuse_text = -1};
    assert_false(run(&s, SETTINGS("0", "7", "9"), text, &tokens, &e));
    assert_err(e, ERR_GONE, "runner died");
    s = (struct script){.cache = true, .nan = true, .refuse_text = -1};
    assert_false(run(&s, SETTINGS("0", "7", "9"), text, &tokens, &e));
    assert_err(e, ERR_UNSUPPORTED, "not numbers");
    s = (struct script){.tokens = {1, 2, 3}, .refuse_text = 1};
    assert_false(run(&s, SETTINGS("0", "7", "9"), text, &tokens, &e));
    assert_err(e, ERR_GONE, "nobody listens");
    assert_int_equal(s.steps, 2);
}

static void half_characters_wait(void **state)
{
    (void)state;
    struct err e;
    char text[256];
    uint32_t tokens;
    struct script s = {.tokens = {1, 2, 3, 7}, .refuse_text = -1}; /* C3, BC: one u umlaut */
    const char *settings = "{'start':[0],'eos':[7],'max_new_tokens':9,'tokenizer':'@B'}";
    assert_true(run(&s, settings, text, &tokens, &e));
    assert_string_equal(text, "üy");
    assert_string_equal(s.said, "ü|y|");
    s = (struct script){.tokens = {3, 1, 7}, .refuse_text = -1}; /* the second half never comes */
    assert_true(run(&s, settings, text, &tokens, &e));
    assert_string_equal(text, "y\xEF\xBF\xBD");
    assert_string_equal(s.said, "y|\xEF\xBF\xBD|");
}

static void settings_are_checked(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"{}", "'start'"},
        {SETTINGS("", "7", "1"), "'start' is empty"},
        {SETTINGS("-1", "7", "1"), "'start' should be token ids"},
        {SETTINGS("0", "'x'", "1"), "'eos' should be token ids"},
        {SETTINGS("0", "7", "3841"), "0 to 3840"},
        {SETTINGS("0", "7", "-1"), "'max_new_tokens'"},
        {"{'start':[0],'eos':[7],'max_new_tokens':1,'tokenizer':'x'}", "no digest"},
        {"{'start':[0],'eos':[7],'max_new_tokens':1,'tokenizer':'@C'}", "blob"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct script s = {.tokens = {1}, .refuse_text = -1};
        struct err e;
        char text[256];
        uint32_t tokens;
        assert_false(run(&s, rows[i][0], text, &tokens, &e));
        assert_err(e, i == 7 ? ERR_NOT_FOUND : ERR_INVALID, rows[i][1]);
    }
    struct generate_job job = {.module_inputs = inputs,
                               .module_outputs = outputs,
                               .module_input_count = GENERATE_PORTS_MAX + 1};
    struct err e = {0};
    assert_false(generate_run(&job, NULL, NULL, &e));
    assert_err(e, ERR_TOO_LARGE, "256 ports");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_a_cache_each_step_gets_the_new_token),
        cmocka_unit_test(without_a_cache_each_step_gets_all),
        cmocka_unit_test(it_stops),
        cmocka_unit_test(it_is_cancelled),
        cmocka_unit_test(failures_come_through),
        cmocka_unit_test(half_characters_wait),
        cmocka_unit_test(settings_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
