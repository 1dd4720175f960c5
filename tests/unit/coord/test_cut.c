/* Whole models of the demonstration cut into modules: programs, names, and the question for the check. */
#include "base/file.h"
#include "coord/cut.h"
#include "lib/cmocka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct loaded {
    struct cut_source source;
    char *texts[8];
    int count;
};

static void read_side(struct loaded *l, const char *model, const char *name, struct model_file *to)
{
    char *path = text_format("%s/%s/%s", getenv("S2M3_MODELS"), model, name);
    if (file_exists(path)) {
        struct err e;
        assert_true(file_read(path, 1u << 22, &l->texts[l->count], &to->size, &e));
        to->text = l->texts[l->count++];
        to->digest = digest_of(to->text, to->size);
    }
    free(path);
}

static struct loaded *load(const char *model, const char *const *files)
{
    struct err e;
    struct loaded *l = calloc(1, sizeof(*l));
    struct model_source *m = &l->source.model;
    m->name = model;
    read_side(l, model, "config.json", &m->config);
    read_side(l, model, "preprocessor_config.json", &m->preprocessor);
    read_side(l, model, "tokenizer.json", &m->tokenizer);
    read_side(l, model, "generation_config.json", &m->generation);
    read_side(l, model, "s2m3.json", &m->s2m3);
    for (; *files; files++) {
        struct cut_file *f = &l->source.files[l->source.file_count++];
        char *path = text_format("%s/%s/onnx/%s.onnx", getenv("S2M3_MODELS"), model, *files);
        if (!onnx_open(path, &f->onnx, &e))
            fail_msg("%s", e.text);
        (void)snprintf(f->name, sizeof(f->name), "%s", *files);
        f->digest = digest_of(path, strlen(path));
        free(path);
    }
    return l;
}

static void unload(struct loaded *l)
{
    for (int i = 0; i < l->source.file_count; i++)
        onnx_close(l->source.files[i].onnx);
    for (int i = 0; i < l->count; i++)
        free(l->texts[i]);
    free(l);
}

static const char *const whole[] = {"model", NULL};
static const char *const apart[] = {"encoder_model", "decoder_model_merged", NULL};

static struct cut *cut(struct loaded **models, int count)
{
    struct err e;
    struct cut *c;
    struct cut_source *sources[4];
    for (int i = 0; i < count; i++)
        sources[i] = &models[i]->source;
    if (!cut_find(sources, count, CUT_MIN_SHARE, &c, &e))
        fail_msg("%s", e.text);
    for (int i = 0; i < c->module_count; i++)
        c->modules[i].digest = c->modules[i].identity;
    return c;
}

/* Digests of a model's modules. */
static size_t modules_of(const struct cut *c, int model, json_t **ret)
{
    json_t *o = cut_model_json(c, model);
    *ret = json_incref(json_object_get(o, "modules"));
    json_decref(o);
    return json_array_size(*ret);
}

static size_t common(const json_t *a, const json_t *b)
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(a); i++)
        for (size_t k = 0; k < json_array_size(b); k++)
            n += (size_t)json_equal(json_array_get(a, i), json_array_get(b, k));
    return n;
}

static void towers_are_shared_and_heads_are_not(void **state)
{
    (void)state;
    struct loaded *models[] = {load("garment-search", whole), load("garment-vqa", whole),
                               load("garment-class", whole)};
    struct cut *c = cut(models, 3);
    json_t *search, *vqa, *class;
    assert_int_equal(modules_of(c, 0, &search), 2);
    assert_int_equal(modules_of(c, 1, &vqa), 3);
    assert_int_equal(modules_of(c, 2, &class), 2);
    assert_int_equal(common(search, vqa), 2);
    assert_int_equal(common(search, class), 1);
    for (int i = 0; i < c->module_count; i++)
        if (strcmp(c->modules[i].name, "text_encoder") == 0) {
            assert_int_equal(c->modules[i].input_count, 2); /* under the tokenizer's names */
            assert_true(strstr("input_ids attention_mask", c->modules[i].inputs[0].name) != NULL);
        }
    json_decref(search);
    json_decref(vqa);
    json_decref(class);
    cut_free(c);
    for (int i = 0; i < 3; i++)
        unload(models[i]);
}

/* Alone there is nothing to share: a picture's classes are one module. */
static void alone_a_model_is_cut_by_modality_only(void **state)
{
    (void)state;
    struct loaded *model = load("garment-class", whole);
    struct cut *c = cut(&model, 1);
    json_t *modules, *o = cut_model_json(c, 0), *programs = json_object_get(o, "programs");
    assert_int_equal(modules_of(c, 0, &modules), 1);
    assert_int_equal(json_array_size(programs), 2); /* classes, and the picture's vector */
    const json_t *answer = json_object_get(json_array_get(programs, 0), "answer");
    assert_string_equal(json_string_value(json_object_get(answer, "kind")), "labels");
    json_decref(modules);
    json_decref(o);
    cut_free(c);
    unload(model);
}

/* A config.json that says what the scale was before training; the graph has it as trained. */
static void scores_have_the_scale_of_the_graph(void **state)
{
    (void)state;
    static const char before[] = "{\"logit_scale_init_value\": 1.0}";
    struct loaded *model = load("garment-search", whole);
    model->source.model.config.text = before;
    model->source.model.config.size = sizeof(before) - 1;
    struct cut *c = cut(&model, 1);
    json_t *o = cut_model_json(c, 0), *programs = json_object_get(o, "programs");
    const json_t *answer = json_object_get(json_array_get(programs, 0), "answer");
    assert_string_equal(json_string_value(json_object_get(answer, "kind")), "similarity");
    assert_float_equal(json_number_value(json_object_get(answer, "scale")), 22.5907, 0.001);
    json_decref(o);
    cut_free(c);
    unload(model);
}

static void a_decoder_stays_whole(void **state)
{
    (void)state;
    struct loaded *model = load("garment-caption", apart);
    struct cut *c = cut(&model, 1);
    bool *flags = calloc((size_t)c->module_count, sizeof(bool));
    assert_true(cut_file_modules(c, 0, 0, flags));
    assert_false(cut_file_modules(c, 0, 1, flags));
    int files = 0;
    for (int i = 0; i < c->module_count; i++)
        files += c->modules[i].file && c->modules[i].used;
    assert_int_equal(files, 1);
    free(flags);
    cut_free(c);
    unload(model);
}

static void the_check_asks_for_every_output(void **state)
{
    (void)state;
    struct err e;
    struct loaded *model = load("garment-vqa", whole);
    struct cut *c = cut(&model, 1);
    json_t *o = cut_check(c, 0, 0);
    const json_t *reference = json_array_get(json_object_get(o, "references"), 0);
    assert_int_equal(json_array_size(json_object_get(reference, "outputs")), 4);
    assert_int_equal(json_array_size(json_object_get(o, "inputs")), 3);
    json_decref(o);
    struct cut_pair *pairs;
    int count;
    assert_true(cut_pairs(c, 0, 0, &pairs, &count, &e));
    assert_int_equal(count, 2); /* each tower with the head */
    cut_pairs_free(pairs, count);
    cut_free(c);
    unload(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(towers_are_shared_and_heads_are_not),
        cmocka_unit_test(alone_a_model_is_cut_by_modality_only),
        cmocka_unit_test(scores_have_the_scale_of_the_graph),
        cmocka_unit_test(a_decoder_stays_whole),
        cmocka_unit_test(the_check_asks_for_every_output),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
