/* What a model can do, for many made-up layouts; and what is said where nothing can be made of one.
 * Graphs are written as "name: inputs -> outputs", a port as NAME=DTYPE[DIMS] with ? for dynamic. */
#include "base/parse.h"
#include "libtask.h"
#include "task/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PORTS 24

static const char pictures[] =
    "{'do_resize':true,'size':{'height':20,'width':24},'do_rescale':true,'do_normalize':true,"
    "'image_mean':[0.5,0.5,0.5],'image_std':[0.5,0.5,0.5],'image_processor_type':'"
    "ViTImageProcessor'}";
static const char sounds[] = "{'feature_extractor_type':'Wav2Vec2FeatureExtractor','sampling_rate':"
                             "16000,'do_normalize':false,"
                             "'max_length':8000,'padding':'max_length'}";
static const char both[] =
    "{'image_processor':{'do_resize':true,'size':{'height':20,'width':24},'image_processor_type':"
    "'ViTImageProcessor'},'feature_extractor':{'feature_extractor_type':"
    "'Wav2Vec2FeatureExtractor','sampling_rate':16000,'do_normalize':false,'max_length':8000,"
    "'padding':'max_length'}}";
static const char words[] =
    "{'version':'1.0','truncation':null,'padding':null,'added_tokens':[],'normalizer':null,"
    "'pre_tokenizer':{'type':'Whitespace'},'post_processor':null,'decoder':null,"
    "'model':{'type':'WordLevel','vocab':{'[UNK]':0,'a':1,'b':2},'unk_token':'[UNK]'}}";

#define EYES "eyes: pixel_values=float32[?,3,20,24] -> picture_embeds=float32[?,7]"
#define READER "reader: input_ids=int64[?,?] attention_mask=int64[?,?] -> sentence=float32[?,7]"
#define EARS "ears: input_values=float32[?,8000] -> heard=float32[?,7]"
#define STATES                                                                                     \
    "enc: pixel_values=float32[?,3,20,24] -> last_hidden_state=float32[?,9,6] pooled=float32[?,6]"
#define PAST " past_key_values.0.key=float32[?,2,?,3] past_key_values.0.value=float32[?,2,?,3]"
#define PRESENT " present.0.key=float32[?,2,?,3] present.0.value=float32[?,2,?,3]"
#define MERGED                                                                                     \
    "dec: input_ids=int64[?,?] encoder_hidden_states=float32[?,?,6]" PAST                          \
    " -> logits=float32[?,?,11]" PRESENT
#define START "{'decoder_start_token_id':1,'eos_token_id':2,'max_length':20}"

/* A model's files, as a test writes them. */
struct layout {
    const char *graphs[8];
    const char *config, *preprocessor, *tokenizer, *generation, *s2m3;
};

struct made {
    struct model_source source;
    struct port ports[8][2][PORTS];
    char names[8][64];
    char *texts[5];
};

static void read_port(const char *text, struct port *p)
{
    char name[64], type[32], dims[64] = "";
    struct err e;
    assert_true(sscanf(text, "%63[^=]=%31[a-z0-9][%63[^]]", name, type, dims) >= 2);
    (void)snprintf(p->name, sizeof(p->name), "%s", name);
    p->dtype = dtype_from_name(type);
    assert_true(p->dtype != DT_NONE);
    char *rest = dims;
    for (char *dim = strtok_r(dims, ",", &rest); dim; dim = strtok_r(NULL, ",", &rest)) {
        uint64_t n = 0;
        assert_true(dim[0] == '?' || parse_u64("dim", dim, 0, 1000000, &n, &e));
        p->shape.dims[p->shape.rank++] = dim[0] == '?' ? -1 : (int64_t)n;
    }
}

static void read_graph(struct made *m, int index, const char *text)
{
    char copy[2048], *rest, *word;
    int count[2] = {0, 0}, side = 0;
    (void)snprintf(copy, sizeof(copy), "%s", text);
    word = strtok_r(copy, " ", &rest);
    (void)snprintf(m->names[index], sizeof(m->names[index]), "%.*s", (int)strlen(word) - 1, word);
    while ((word = strtok_r(NULL, " ", &rest))) {
        if (strcmp(word, "->") == 0)
            side = 1;
        else
            read_port(word, &m->ports[index][side][count[side]++]);
    }
    m->source.graphs[index] = (struct model_graph){.name = m->names[index],
                                                   .digest = test_digest((char)('0' + index)),
                                                   .inputs = m->ports[index][0],
                                                   .outputs = m->ports[index][1],
                                                   .input_count = count[0],
                                                   .output_count = count[1]};
}

static struct made *make(const struct layout *l)
{
    struct made *m = calloc(1, sizeof(*m));
    const char *const sides[] = {l->config, l->preprocessor, l->tokenizer, l->generation, l->s2m3};
    struct model_file *const files[] = {&m->source.config, &m->source.preprocessor,
                                        &m->source.tokenizer, &m->source.generation,
                                        &m->source.s2m3};
    m->source.name = "made";
    for (int i = 0; i < 5; i++) {
        m->texts[i] = sides[i] ? test_text(sides[i]) : NULL;
        *files[i] = (struct model_file){m->texts[i], m->texts[i] ? strlen(m->texts[i]) : 0,
                                        test_digest("cdefa"[i])};
    }
    for (int i = 0; l->graphs[i]; i++, m->source.graph_count++)
        read_graph(m, i, l->graphs[i]);
    return m;
}

static void clear(struct made *m)
{
    for (int i = 0; i < 5; i++)
        free(m->texts[i]);
    free(m);
}

static json_t *deduce(const struct layout *l)
{
    struct err e = {0};
    json_t *o = NULL;
    struct made *m = make(l);
    if (!model_deduce(&m->source, &o, &e))
        fail_msg("%s", e.text);
    clear(m);
    return o;
}

static void refuse(const struct layout *l, enum err_code code, const char *part)
{
    struct err e = {0};
    json_t *o = NULL;
    struct made *m = make(l);
    assert_false(model_deduce(&m->source, &o, &e));
    assert_null(o);
    assert_err(e, code, part);
    clear(m);
}

static void assert_tasks(const json_t *model, const char *wanted)
{
    char got[512] = "";
    const json_t *tasks = json_object_get(model, "tasks");
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        size_t n = strlen(got);
        (void)snprintf(got + n, sizeof(got) - n, "%s%s", n ? " " : "",
                       json_string_value(json_array_get(tasks, i)));
    }
    assert_string_equal(got, wanted);
}

/* The first program of a task; free it. */
static struct program *program_of(const json_t *model, const char *task)
{
    struct program **all, *found = NULL;
    struct err e;
    int count;
    assert_true(model_programs(json_object_get(model, "programs"), &all, &count, &e));
    for (int i = 0; i < count; i++)
        if (!found && strcmp(all[i]->task, task) == 0)
            found = all[i];
        else
            program_free(all[i]);
    free(all);
    if (!found)
        fail_msg("no program for %s", task);
    return found;
}

static void assert_call(const struct program *p, int index, const char *id, char module)
{
    assert_true(index < p->call_count);
    assert_string_equal(p->calls[index].id, id);
    assert_int_equal(p->calls[index].module.hex[0], module);
}

static void assert_from(const struct program *p, int call, int input, int from, const char *output,
                        const char *port, uint64_t bytes)
{
    const struct program_input *in = &p->calls[call].inputs[input];
    assert_false(in->media);
    assert_int_equal(in->call, from);
    assert_string_equal(in->output, output);
    assert_string_equal(in->port, port);
    assert_int_equal(in->bytes, bytes);
}

/* ---- similarity ----------------------------------------------------------------------------- */

static void two_encoders(void **state)
{
    (void)state;
    const struct layout l = {.graphs = {EYES, READER},
                             .config = "{'logit_scale_init_value':0}",
                             .preprocessor = pictures,
                             .tokenizer = words,
                             .s2m3 = "{'hypothesis_template':'see {}'}"};
    json_t *o = deduce(&l);
    assert_tasks(o, "zero-shot-image-classification text-to-image-retrieval "
                    "image-to-image-retrieval feature-extraction");
    struct program *p = program_of(o, "zero-shot-image-classification");
    assert_int_equal(p->call_count, 2);
    assert_call(p, 0, "eyes", '0');
    assert_call(p, 1, "reader.each", '1');
    assert_true(p->calls[1].each && !p->calls[0].each && p->calls[1].input_count == 1);
    assert_string_equal(p->calls[1].inputs[0].config.hex, test_digest('e').hex);
    assert_true(p->answer.scale == 1 && !p->answer.rank && p->answer.other == 1);
    assert_string_equal(p->answer.output, "picture_embeds");
    assert_string_equal(p->answer.other_output, "sentence");
    assert_string_equal(p->hypothesis, "see {}");
    program_free(p);
    p = program_of(o, "text-to-image-retrieval");
    assert_call(p, 0, "reader", '1');
    assert_call(p, 1, "eyes.each", '0');
    assert_true(p->answer.rank && p->hypothesis[0] == 0);
    program_free(p);
    p = program_of(o, "image-to-image-retrieval");
    assert_call(p, 1, "eyes.each", '0');
    program_free(p);
    json_t *wanted = test_json("['@D','@E']");
    assert_true(json_equal(json_object_get(o, "blobs"), wanted));
    json_decref(wanted);
    wanted = test_json("{'@A':{},'@B':{'input_ids.1':8,'attention_mask.1':8}}");
    const json_t *dims = json_object_get(o, "dims");
    assert_true(json_equal(json_object_get(dims, test_digest('1').hex),
                           json_object_get(wanted, test_digest('b').hex)));
    json_decref(wanted);
    json_decref(o);
}

static void sound_beside_pictures(void **state)
{
    (void)state;
    const struct layout l = {.graphs = {READER, EARS, EYES},
                             .preprocessor = both,
                             .tokenizer = words,
                             .s2m3 = "{'logit_scale':12.5}"};
    json_t *o = deduce(&l);
    assert_tasks(o, "zero-shot-image-classification zero-shot-audio-classification "
                    "text-to-image-retrieval audio-to-image-retrieval image-to-image-retrieval "
                    "feature-extraction");
    struct program *p = program_of(o, "zero-shot-audio-classification");
    assert_call(p, 0, "ears", '1');
    assert_int_equal(p->calls[0].inputs[0].kind, MEDIA_AUDIO);
    assert_true(p->answer.scale == 12.5);
    program_free(p);
    json_decref(o);
}

static void only_the_tasks_that_are_wanted(void **state)
{
    (void)state;
    struct layout l = {.graphs = {EYES, READER},
                       .preprocessor = pictures,
                       .tokenizer = words,
                       .s2m3 = "{'tasks':['text-to-image-retrieval']}"};
    json_t *o = deduce(&l);
    assert_tasks(o, "text-to-image-retrieval feature-extraction");
    json_decref(o);
    l.s2m3 = "{'tasks':['image-to-text']}";
    refuse(&l, ERR_INVALID, "task 'image-to-text' could not be worked out");
}

static void other_widths_are_not_compared(void **state)
{
    (void)state;
    const struct layout l = {.graphs = {EYES, "reader: input_ids=int64[?,?] -> v=float32[?,8]"},
                             .preprocessor = pictures,
                             .tokenizer = words};
    json_t *o = deduce(&l);
    assert_tasks(o, "image-to-image-retrieval feature-extraction");
    json_decref(o);
}

/* ---- heads ---------------------------------------------------------------------------------- */

static void questions(void **state)
{
    (void)state;
    const struct layout l = {
        .graphs = {"judge: sentence=float32[?,7] picture_embeds=float32[?,7] -> out=float32[?,3]",
                   EYES, READER},
        .config = "{'id2label':{'1':'no','0':'yes','2':'maybe'}}",
        .preprocessor = pictures,
        .tokenizer = words};
    json_t *o = deduce(&l);
    assert_tasks(o, "visual-question-answering feature-extraction");
    struct program *p = program_of(o, "visual-question-answering");
    assert_int_equal(p->call_count, 3);
    assert_call(p, 0, "reader", '2');
    assert_call(p, 1, "eyes", '1');
    assert_call(p, 2, "judge", '0');
    assert_from(p, 2, 0, 0, "sentence", "sentence", 28);
    assert_from(p, 2, 1, 1, "picture_embeds", "picture_embeds", 28);
    assert_int_equal(p->answer.kind, ANSWER_LABELS);
    assert_int_equal(p->answer.call, 2);
    assert_string_equal(p->labels[1], "no");
    program_free(p);
    json_decref(o);
}

static void names_that_say_only_the_kind(void **state)
{
    (void)state;
    struct layout l = {
        .graphs =
            {EYES, READER,
             "judge: image_side=float32[?,7] question_side=float32[?,7] -> logits=float32[?,3]"},
        .preprocessor = pictures,
        .tokenizer = words};
    json_t *o = deduce(&l);
    struct program *p = program_of(o, "visual-question-answering");
    assert_from(p, 2, 0, 0, "picture_embeds", "image_side", 28);
    assert_from(p, 2, 1, 1, "sentence", "question_side", 28);
    program_free(p);
    json_decref(o);
    l.graphs[2] = "judge: left=float32[?,7] right=float32[?,7] -> logits=float32[?,3]";
    refuse(&l, ERR_UNSUPPORTED, "nothing gives its input 'left'");
    l.s2m3 = "{'connections':{'judge.left':'reader.sentence','judge.right':'eyes.picture_embeds'}}";
    o = deduce(&l);
    p = program_of(o, "visual-question-answering");
    assert_from(p, 2, 0, 0, "sentence", "left", 28);
    program_free(p);
    json_decref(o);
    l.s2m3 = "{'connections':{'judge.left':'reader.word','judge.right':'eyes.picture_embeds'}}";
    refuse(&l, ERR_INVALID, "has the output 'reader.word'");
}

static void a_head_on_sound_and_pictures(void **state)
{
    (void)state;
    const struct layout l = {
        .graphs = {"ears: input_values=float32[?,8000] -> audio_embeds=float32[?,5]",
                   "tell: audio_embeds=float32[?,5] -> logits=float32[?,4]"},
        .preprocessor = sounds};
    json_t *o = deduce(&l);
    assert_tasks(o, "audio-classification feature-extraction");
    struct program *p = program_of(o, "audio-classification");
    assert_from(p, 1, 0, 0, "audio_embeds", "audio_embeds", 20);
    program_free(p);
    json_decref(o);
}

/* An input that looks like a picture and has the name of an output is that output. */
static void names_come_before_looks(void **state)
{
    (void)state;
    const struct layout l = {
        .graphs = {"enc: pixel_values=float32[?,3,20,24] -> maps=float32[?,2,5,5]",
                   "head: maps=float32[?,2,5,5] -> logits=float32[?,2]"},
        .preprocessor = pictures};
    json_t *o = deduce(&l);
    struct program *p = program_of(o, "image-classification");
    assert_from(p, 1, 0, 0, "maps", "maps", 200);
    program_free(p);
    json_decref(o);
}

static void a_head_that_reads_a_text_itself(void **state)
{
    (void)state;
    const struct layout l = {
        .graphs = {STATES, "fuse: input_ids=int64[?,?] encoder_hidden_states=float32[?,?,6] -> "
                           "answer_logits=float32[?,3]"},
        .preprocessor = pictures,
        .tokenizer = words};
    json_t *o = deduce(&l);
    struct program *p = program_of(o, "visual-question-answering");
    assert_true(p->calls[1].inputs[0].media && p->calls[1].inputs[0].kind == MEDIA_TEXT);
    assert_from(p, 1, 1, 0, "last_hidden_state", "encoder_hidden_states", 216);
    program_free(p);
    json_decref(o);
}

static void one_graph_for_all(void **state)
{
    (void)state;
    struct layout l = {
        .graphs = {"model: pixel_values=float32[?,3,20,24] -> image_embeds=float32[?,9]"
                   " logits=float32[?,2]"},
        .config = "{'id2label':{'0':'x','1':'y'},'problem_type':"
                  "'multi_label_classification'}",
        .preprocessor = pictures};
    json_t *o = deduce(&l);
    assert_tasks(o, "image-classification");
    struct program *p = program_of(o, "image-classification");
    assert_string_equal(p->answer.output, "logits");
    assert_true(p->answer.independent);
    program_free(p);
    json_decref(o);
    l.config = "{'id2label':{'0':'x','1':'y','2':'z'}}";
    refuse(&l, ERR_INVALID, "has 3 entries, the limit is 2");
    l.config = "{'id2label':{'0':'x','2':'z'}}";
    refuse(&l, ERR_INVALID, "none for 1");
    l.config = NULL;
    l.graphs[0] = "m: input_ids=int64[?,?] -> logits=float32[?,2]";
    l.tokenizer = words;
    o = deduce(&l);
    assert_tasks(o, "text-classification");
    json_decref(o);
    l.graphs[0] = "ctc: input_values=float32[?,8000] -> logits=float32[?,50,32]";
    l.preprocessor = sounds;
    refuse(&l, ERR_UNSUPPORTED, "no float32 output of rank 2");
}

/* Texts of one length: the tokenizer has to pad to it. */
static void a_fixed_length_of_texts(void **state)
{
    (void)state;
    static const char padded[] =
        "{'version':'1.0','truncation':{'direction':'Right','max_length':5,'strategy':'"
        "LongestFirst',"
        "'stride':0},'padding':{'strategy':{'Fixed':5},'direction':'Right','pad_to_multiple_of':"
        "null,"
        "'pad_id':0,'pad_type_id':0,'pad_token':'[UNK]'},'added_tokens':[],'normalizer':null,"
        "'pre_tokenizer':{'type':'Whitespace'},'post_processor':null,'decoder':null,"
        "'model':{'type':'WordLevel','vocab':{'[UNK]':0,'a':1,'b':2},'unk_token':'[UNK]'}}";
    struct layout l = {.graphs = {"m: input_ids=int64[?,5] -> logits=float32[?,2]"},
                       .config = "{'id2label':{'0':'x','1':'y'}}",
                       .tokenizer = words};
    refuse(&l, ERR_UNSUPPORTED, "has a fixed length of 5 tokens, tokenizer.json makes 1");
    l.tokenizer = padded;
    json_t *o = deduce(&l);
    assert_tasks(o, "text-classification");
    json_decref(o);
}

static void a_whole_contrastive_model_asks_no_questions(void **state)
{
    (void)state;
    const struct layout l = {
        .graphs = {"model: pixel_values=float32[?,3,20,24] input_ids=int64[?,?] -> "
                   "logits_per_image=float32[?,?] image_embeds=float32[?,7]"},
        .preprocessor = pictures,
        .tokenizer = words};
    refuse(&l, ERR_UNSUPPORTED, "no task could be worked out");
}

/* ---- decoders ------------------------------------------------------------------------------- */

static void captions(void **state)
{
    (void)state;
    const struct layout l = {.graphs = {MERGED, STATES},
                             .config = "{'decoder':{'bos_token_id':1},'max_length':5}",
                             .preprocessor = pictures,
                             .tokenizer = words,
                             .generation = "{'decoder_start_token_id':null,'eos_token_id':[2,3],"
                                           "'forced_decoder_ids':[[1,7],[2,null]]}"};
    json_t *o = deduce(&l);
    assert_tasks(o, "image-to-text feature-extraction");
    struct program *p = program_of(o, "image-to-text");
    assert_call(p, 0, "enc", '1');
    assert_call(p, 1, "dec", '0');
    assert_true(p->calls[1].generate && p->calls[1].input_count == 1);
    assert_from(p, 1, 0, 0, "last_hidden_state", "encoder_hidden_states", 216);
    json_t *wanted = test_json("{'start':[1,7],'eos':[2,3],'max_new_tokens':3,'tokenizer':'@E'}");
    assert_true(json_equal(p->generation, wanted)); /* max_length counts the start */
    json_decref(wanted);
    program_free(p);
    const json_t *dims = json_object_get(json_object_get(o, "dims"), test_digest('0').hex);
    assert_int_equal(json_integer_value(json_object_get(dims, "past_key_values.0.key.2")), 4);
    assert_int_equal(json_integer_value(json_object_get(dims, "encoder_hidden_states.1")), 9);
    assert_int_equal(json_integer_value(json_object_get(dims, "input_ids.1")), 1);
    json_decref(o);
}

static void speech(void **state)
{
    (void)state;
    const struct layout l = {
        .graphs = {"enc: input_values=float32[?,8000] -> last_hidden_state=float32[?,?,6]",
                   "dec: decoder_input_ids=int64[?,?] encoder_hidden_states=float32[?,?,6] "
                   "encoder_attention_mask=int64[?,?] -> logits=float32[?,?,11]"},
        .preprocessor = sounds,
        .tokenizer = words,
        .generation = START};
    json_t *o = deduce(&l);
    assert_tasks(o, "automatic-speech-recognition");
    struct program *p = program_of(o, "automatic-speech-recognition");
    assert_from(p, 1, 0, 0, "last_hidden_state", "encoder_hidden_states", 4 << 20);
    program_free(p);
    json_decref(o);
}

static void of_three_decoders_the_one_that_does_both(void **state)
{
    (void)state;
    struct layout l = {
        .graphs = {STATES,
                   "first: input_ids=int64[?,?] encoder_hidden_states=float32[?,?,6] -> "
                   "logits=float32[?,?,11]" PRESENT,
                   "later: input_ids=int64[?,?]" PAST " -> logits=float32[?,?,11]" PRESENT, MERGED},
        .preprocessor = pictures,
        .tokenizer = words,
        .generation = START};
    json_t *o = deduce(&l);
    struct program *p = program_of(o, "image-to-text");
    assert_call(p, 1, "dec", '3');
    program_free(p);
    assert_int_equal(json_array_size(json_object_get(o, "programs")), 2);
    json_decref(o);
    char same[1024]; /* of two that serve as well the first */
    (void)snprintf(same, sizeof(same), "again%s", strchr(MERGED, ':'));
    l.graphs[4] = same;
    o = deduce(&l);
    p = program_of(o, "image-to-text");
    assert_call(p, 1, "dec", '3');
    program_free(p);
    assert_int_equal(json_array_size(json_object_get(o, "programs")), 2);
    json_decref(o);
    l.graphs[3] = l.graphs[4] = NULL;
    o = deduce(&l);
    p = program_of(o, "image-to-text");
    assert_call(p, 1, "first", '1');
    program_free(p);
    json_decref(o);
    l.graphs[0] = l.graphs[2];
    l.graphs[1] = NULL;
    refuse(&l, ERR_UNSUPPORTED, "without an encoder");
}

static void decoders_that_cannot_run(void **state)
{
    (void)state;
    struct layout l = {.graphs = {STATES, NULL},
                       .preprocessor = pictures,
                       .tokenizer = words,
                       .generation = START};
    static const char *const rows[][2] = {
        {"dec: input_ids=int64[?,?] encoder_hidden_states=float32[?,?,6]" PAST
         " -> logits=float32[?,?,11] present.0.key=float32[?,2,?,3]",
         "'past_key_values.0.value' has no output"},
        {"dec: input_ids=int64[?,?] encoder_hidden_states=float32[?,?,6] "
         "past_key_values.0.key=float32[?,?,?,3] -> logits=float32[?,?,11] "
         "present.0.key=float32[?,?,?,3]",
         "one dynamic dim beside the batch, has 2"},
        {"dec: input_ids=int32[?,?] encoder_hidden_states=float32[?,?,6]" PAST
         " -> logits=float32[?,?,11]" PRESENT,
         "'input_ids' should be int64"},
        {"dec: input_ids=int64[?,?] encoder_hidden_states=float32[?,?,6]" PAST
         " -> scores=float32[?,?,11]" PRESENT,
         "should give 'logits'"},
        {"dec: decoder_ids=int64[?,?] encoder_hidden_states=float32[?,?,6]" PAST
         " -> logits=float32[?,?,11]" PRESENT,
         "nothing is known about its input 'decoder_ids'"},
        {"dec: attention_mask=int64[?,?] encoder_hidden_states=float32[?,?,6]" PAST
         " -> logits=float32[?,?,11]" PRESENT,
         "no input for token ids"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        l.graphs[1] = rows[i][0];
        refuse(&l, ERR_UNSUPPORTED, rows[i][1]);
    }
    l.graphs[1] = MERGED;
    l.generation = "{'eos_token_id':2}";
    refuse(&l, ERR_INVALID, "decoder_start_token_id should be 1 to 256");
    l.generation = "{'decoder_start_token_id':1,'eos_token_id':[2,'x']}";
    refuse(&l, ERR_INVALID, "eos_token_id holds");
    l.generation = START;
    l.tokenizer = NULL;
    refuse(&l, ERR_INVALID, "dec.onnx works on text, so tokenizer.json");
}

/* ---- all kinds of wrong --------------------------------------------------------------------- */

static void files_that_are_missing_or_broken(void **state)
{
    (void)state;
    struct layout l = {.graphs = {EYES}};
    refuse(&l, ERR_INVALID, "eyes.onnx works on image, so preprocessor_config.json is needed");
    l.preprocessor = "{'do_resize':3}";
    refuse(&l, ERR_INVALID, "preprocessor_config.json");
    l.preprocessor = pictures;
    l.config = "[]";
    refuse(&l, ERR_INVALID, "config.json: should be a JSON object");
    l.config = "{";
    refuse(&l, ERR_INVALID, "config.json: not JSON");
    l.config = NULL;
    l.graphs[0] = READER;
    l.tokenizer = "{'model':{'type':'Magic'}}";
    refuse(&l, ERR_UNSUPPORTED, "tokenizer.json");
    l.graphs[0] = NULL;
    refuse(&l, ERR_INVALID, "0 .onnx files");
}

static void hints_are_checked(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"{'tasks':'x'}", "'tasks'"},
        {"{'tasks':[1]}", "'tasks'"},
        {"{'connections':[]}", "'connections'"},
        {"{'connections':{'a.b':1}}", "'connections'"},
        {"{'hypothesis_template':'no place'}", "hold {}"},
        {"{'hypothesis_template':1}", "'hypothesis_template'"},
        {"{'logit_scale':'100'}", "'logit_scale'"},
        {"{'logit_scale':1e7}", "'logit_scale'"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        const struct layout l = {.graphs = {EYES}, .preprocessor = pictures, .s2m3 = rows[i][0]};
        refuse(&l, ERR_INVALID, rows[i][1]);
    }
}

static void ports_must_fit_their_processor(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"e: one=float32[?,3,20,24] two=float32[?,3,20,24] -> v=float32[?,7]",
         "'one' is none of what the image"},
        {"e: images=float32[?,3,24,20] -> v=float32[?,7]",
         "'images' is float32[-1,3,24,20], the image processor gives float32[1,3,20,24]"},
        {"e: pixel_values=float32[?,3,24,20] -> v=float32[?,7]",
         "is float32[-1,3,24,20], the image processor gives float32[1,3,20,24]"},
        {"e: pixel_values=uint8[?,3,20,24] -> v=float32[?,7]", "is uint8"},
        {"e: input_ids=int32[?,?] -> v=float32[?,7]", "is int32"},
        {"e: input_ids=int64[?,?] position_ids=int64[?,?] -> v=float32[?,7]",
         "'position_ids' is none of what the text processor gives (input_ids, attention_mask"},
        {"e: input_features=float32[?,80,100] -> v=float32[?,7]", "gives (input_values"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        const struct layout l = {.graphs = {rows[i][0]}, .preprocessor = both, .tokenizer = words};
        refuse(&l, ERR_UNSUPPORTED, rows[i][1]);
    }
}

/* Where only one input can be meant, and one output with a number for each label. */
static void names_that_nobody_else_uses(void **state)
{
    (void)state;
    struct layout l = {.graphs = {"net: images=float32[?,3,20,24] -> scores=float32[?,3]"},
                       .config = "{'id2label':{'0':'a','1':'b','2':'c'}}",
                       .preprocessor = pictures};
    json_t *o = deduce(&l);
    assert_tasks(o, "image-classification");
    json_decref(o);
    l.config = "{'id2label':{'0':'a','1':'b'}}"; /* then it is a vector */
    o = deduce(&l);
    assert_tasks(o, "image-to-image-retrieval feature-extraction");
    json_decref(o);
    l.config = "{'architectures':['ResNetForImageClassification']}";
    o = deduce(&l);
    assert_tasks(o, "image-classification");
    json_decref(o);
    l = (struct layout){
        .graphs = {"reader: tokens=int64[?,?] attention_mask=int64[?,?] -> v=float32[?,7]"},
        .tokenizer = words};
    o = deduce(&l);
    assert_tasks(o, "feature-extraction");
    json_decref(o);
}

static void circles_end(void **state)
{
    (void)state;
    struct layout l = {.graphs = {"a: x=float32[?,3] -> y=float32[?,3]",
                                  "b: y=float32[?,3] -> x=float32[?,3]", EYES},
                       .preprocessor = pictures};
    refuse(&l, ERR_INVALID, "a.onnx: takes from itself");
    l.graphs[0] = "a: x=float32[?,3] -> x=float32[?,3]";
    l.graphs[1] = NULL;
    refuse(&l, ERR_UNSUPPORTED, "nothing gives its input 'x'");
}

static void names_may_be_long_or_equal(void **state)
{
    (void)state;
#define LONG "a_name_of_more_than_forty_characters_and_then_"
    const struct layout l = {.graphs = {LONG
                                        "one: pixel_values=float32[?,3,20,24] -> p=float32[?,7]",
                                        LONG "two: input_ids=int64[?,?] -> t=float32[?,7]",
                                        "h: p=float32[?,7] t=float32[?,7] -> logits=float32[?,2]"},
                             .preprocessor = pictures,
                             .tokenizer = words};
    json_t *o = deduce(&l);
    struct program *p = program_of(o, "visual-question-answering");
    assert_int_equal(p->call_count, 3);
    assert_string_equal(p->calls[0].id, "a_name_of_more_than_forty_characters_and");
    assert_string_equal(p->calls[1].id, "a_name_of_more_than_forty_characters_and~2");
    assert_from(p, 2, 1, 1, "t", "t", 28);
    program_free(p);
    json_decref(o);
}

static void one_encoder_used_twice_is_called_once(void **state)
{
    (void)state;
    const struct layout l = {
        .graphs = {"enc: pixel_values=float32[?,3,20,24] -> p=float32[?,7] q=float32[?,9]",
                   "h: p=float32[?,7] q=float32[?,9] -> logits=float32[?,2]"},
        .preprocessor = pictures};
    json_t *o = deduce(&l);
    struct program *p = program_of(o, "image-classification");
    assert_int_equal(p->call_count, 2);
    assert_from(p, 1, 1, 0, "q", "q", 36);
    program_free(p);
    json_decref(o);
}

static void a_name_that_is_not_utf8(void **state)
{
    (void)state;
    const struct layout l = {.graphs = {"\xFF: pixel_values=float32[?,3,20,24] -> v=float32[?,7]"},
                             .preprocessor = pictures};
    refuse(&l, ERR_INVALID, "UTF-8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_encoders),
        cmocka_unit_test(sound_beside_pictures),
        cmocka_unit_test(only_the_tasks_that_are_wanted),
        cmocka_unit_test(other_widths_are_not_compared),
        cmocka_unit_test(questions),
        cmocka_unit_test(names_that_say_only_the_kind),
        cmocka_unit_test(a_head_on_sound_and_pictures),
        cmocka_unit_test(names_come_before_looks),
        cmocka_unit_test(a_head_that_reads_a_text_itself),
        cmocka_unit_test(one_graph_for_all),
        cmocka_unit_test(a_fixed_length_of_texts),
        cmocka_unit_test(a_whole_contrastive_model_asks_no_questions),
        cmocka_unit_test(captions),
        cmocka_unit_test(speech),
        cmocka_unit_test(of_three_decoders_the_one_that_does_both),
        cmocka_unit_test(decoders_that_cannot_run),
        cmocka_unit_test(files_that_are_missing_or_broken),
        cmocka_unit_test(hints_are_checked),
        cmocka_unit_test(ports_must_fit_their_processor),
        cmocka_unit_test(names_that_nobody_else_uses),
        cmocka_unit_test(circles_end),
        cmocka_unit_test(names_may_be_long_or_equal),
        cmocka_unit_test(one_encoder_used_twice_is_called_once),
        cmocka_unit_test(a_name_that_is_not_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
