/* test_processor.c - processors give what the Hugging Face processors gave (tests/golden/media):
 * pictures bit by bit, sound within 1e-5; settings that are not known are refused by name. */
#include "base/file.h"
#include "libmedia.h"
#include "media/processor.h"
#include "media/tokenizer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define AUDIO_BOUND 1e-5

static struct processor *make(enum processor_kind kind, const char *config)
{
    struct err e;
    struct processor *p = NULL;
    bool ok = kind == PROCESSOR_IMAGE ? processor_create_image(config, strlen(config), &p, &e)
                                      : processor_create_audio(config, strlen(config), &p, &e);
    if (!ok)
        fail_msg("%s: %s", config, e.text);
    assert_int_equal(processor_kind(p), kind);
    return p;
}

/* The processor of a row, run over its file; the outputs must be the announced ones. */
static size_t run_row(enum processor_kind kind, const json_t *row, struct named_tensor *out)
{
    struct err e;
    struct port ports[PROCESSOR_OUTPUTS_MAX];
    size_t size, n = 0;
    char *config = json_text(json_object_get(row, "config"));
    char *data = media_load_input(row, &size);
    struct processor *p = make(kind, config);
    if (!processor_run(p, data, size, out, PROCESSOR_OUTPUTS_MAX, &n, &e))
        fail_msg("%s: %s", config, e.text);
    assert_int_equal(n, processor_outputs(p, ports));
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(out[i].name, ports[i].name);
        if (!tensor_fits(&out[i].tensor, &ports[i], &e))
            fail_msg("%s: %s", config, e.text);
    }
    processor_destroy(p);
    free(config);
    free(data);
    return n;
}

static void expect_shape(const json_t *row, const char *key, const struct tensor *t)
{
    json_t *shape = json_object_get(row, key);
    assert_int_equal(t->shape.rank, json_array_size(shape));
    for (int i = 0; i < t->shape.rank; i++)
        assert_int_equal(t->shape.dims[i], json_integer_value(json_array_get(shape, (size_t)i)));
}

static void clear(struct named_tensor *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        tensor_clear(&out[i].tensor);
}

static void pictures_bit_by_bit(void **state)
{
    (void)state;
    json_t *root = media_golden("image.json"), *rows = json_object_get(root, "processor"), *row;
    size_t k;
    assert_true(json_array_size(rows) > 25);
    json_array_foreach(rows, k, row)
    {
        struct named_tensor out[PROCESSOR_OUTPUTS_MAX];
        assert_int_equal(run_row(PROCESSOR_IMAGE, row, out), 1);
        const struct tensor *t = &out[0].tensor;
        assert_string_equal(dtype_name(t->dtype), media_text(row, "dtype"));
        expect_shape(row, "shape", t);
        struct digest d = digest_of(t->data, t->bytes);
        if (strcmp(d.hex, media_text(row, "sha256")) != 0) {
            char *text = json_text(row);
            print_error("differs: %s\n", text);
            free(text);
            fail();
        }
        clear(out, 1);
    }
    json_decref(root);
}

static void sound_within_bound(void **state)
{
    (void)state;
    json_t *root = media_golden("audio.json"), *rows = json_object_get(root, "processor"), *row;
    size_t k;
    assert_true(json_array_size(rows) > 10);
    json_array_foreach(rows, k, row)
    {
        struct named_tensor out[PROCESSOR_OUTPUTS_MAX];
        size_t n = run_row(PROCESSOR_AUDIO, row, out), count = shape_count(&out[0].tensor.shape);
        assert_string_equal(out[0].name, media_text(row, "name"));
        expect_shape(row, "shape", &out[0].tensor);
        const float *have = out[0].tensor.data;
        float *want = media_load_floats(row, count);
        for (size_t i = 0; i < count; i++)
            if (!(fabs((double)have[i] - (double)want[i]) <= AUDIO_BOUND))
                fail_msg("%s: value %zu is %g, want %g", media_text(row, "out"), i, (double)have[i],
                         (double)want[i]);
        assert_int_equal(n, json_object_get(row, "mask_shape") ? 2 : 1);
        if (n == 2) {
            int64_t sum = 0;
            expect_shape(row, "mask_shape", &out[1].tensor);
            assert_string_equal(out[1].name, "attention_mask");
            for (size_t i = 0; i < shape_count(&out[1].tensor.shape); i++)
                sum += ((const int64_t *)out[1].tensor.data)[i];
            assert_int_equal(sum, media_number(row, "mask_sum"));
        }
        clear(out, n);
        free(want);
    }
    json_decref(root);
}

static enum err_code refusal(enum processor_kind kind, const char *config, const char *names)
{
    struct err e = {0};
    struct processor *p = NULL;
    bool ok = kind == PROCESSOR_IMAGE ? processor_create_image(config, strlen(config), &p, &e)
                                      : processor_create_audio(config, strlen(config), &p, &e);
    processor_destroy(p);
    if (ok)
        fail_msg("taken: %s", config);
    if (!strstr(e.text, names))
        fail_msg("'%s' does not name '%s'", e.text, names);
    return e.code;
}

static void unknown_settings_are_named(void **state)
{
    (void)state;
    static const struct {
        enum processor_kind kind;
        enum err_code code;
        const char *names, *config;
    } rows[] = {
        {PROCESSOR_IMAGE, ERR_UNSUPPORTED, "Strange",
         "{\"image_processor_type\":\"StrangeImageProcessor\"}"},
        {PROCESSOR_IMAGE, ERR_UNSUPPORTED, "do_pad",
         "{\"image_processor_type\":\"CLIPImageProcessor\",\"do_pad\":true}"},
        {PROCESSOR_IMAGE, ERR_UNSUPPORTED, "resample",
         "{\"image_processor_type\":\"ViTImageProcessor\",\"resample\":6}"},
        {PROCESSOR_IMAGE, ERR_UNSUPPORTED, "size",
         "{\"image_processor_type\":\"ViTImageProcessor\",\"size\":{\"longest_edge\":5}}"},
        {PROCESSOR_IMAGE, ERR_UNSUPPORTED, "size", "{\"size\":224}"},
        {PROCESSOR_IMAGE, ERR_INVALID, "size", "{\"size\":{\"height\":0,\"width\":5}}"},
        {PROCESSOR_IMAGE, ERR_INVALID, "size", "{\"size\":{\"height\":5000,\"width\":5}}"},
        {PROCESSOR_IMAGE, ERR_INVALID, "size", "{\"do_resize\":true}"},
        {PROCESSOR_IMAGE, ERR_INVALID, "image_std",
         "{\"image_mean\":[0,0,0],\"image_std\":[1,0,1]}"},
        {PROCESSOR_IMAGE, ERR_UNSUPPORTED, "image_mean",
         "{\"image_mean\":[0,0],\"image_std\":[1,1]}"},
        {PROCESSOR_IMAGE, ERR_INVALID, "image_mean", "{\"do_normalize\":true}"},
        {PROCESSOR_IMAGE, ERR_INVALID, "do_rescale", "{\"do_rescale\":1}"},
        {PROCESSOR_IMAGE, ERR_UNSUPPORTED, "data_format", "{\"data_format\":\"channels_last\"}"},
        {PROCESSOR_IMAGE, ERR_INVALID, "object", "[1]"},
        {PROCESSOR_IMAGE, ERR_INVALID, "not JSON", "{\"size\""},
        {PROCESSOR_AUDIO, ERR_UNSUPPORTED, "Clap",
         "{\"feature_extractor_type\":\"ClapFeatureExtractor\"}"},
        {PROCESSOR_AUDIO, ERR_UNSUPPORTED, "dither",
         "{\"feature_extractor_type\":\"WhisperFeatureExtractor\",\"dither\":0.1}"},
        {PROCESSOR_AUDIO, ERR_INVALID, "hop",
         "{\"feature_extractor_type\":\"WhisperFeatureExtractor\",\"hop_length\":0}"},
        {PROCESSOR_AUDIO, ERR_UNSUPPORTED, "prime",
         "{\"feature_extractor_type\":\"WhisperFeatureExtractor\",\"n_fft\":2018}"},
        {PROCESSOR_AUDIO, ERR_INVALID, "chunk_length",
         "{\"feature_extractor_type\":\"WhisperFeatureExtractor\",\"chunk_length\":0}"},
        {PROCESSOR_AUDIO, ERR_INVALID, "chunk_length",
         "{\"feature_extractor_type\":\"WhisperFeatureExtractor\",\"chunk_length\":1800,\"hop_"
         "length\":1}"},
        {PROCESSOR_AUDIO, ERR_UNSUPPORTED, "padding",
         "{\"feature_extractor_type\":\"Wav2Vec2FeatureExtractor\",\"padding\":\"some\"}"},
        {PROCESSOR_AUDIO, ERR_INVALID, "max_length",
         "{\"feature_extractor_type\":\"Wav2Vec2FeatureExtractor\",\"padding\":\"max_length\"}"},
        {PROCESSOR_AUDIO, ERR_INVALID, "sampling_rate",
         "{\"feature_extractor_type\":\"ASTFeatureExtractor\",\"sampling_rate\":7}"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        if (refusal(rows[i].kind, rows[i].config, rows[i].names) != rows[i].code)
            fail_msg("other code for %s", rows[i].config);
}

/* Both kinds in one file, side by side and in objects of their own; old type names. */
static void kinds_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *config;
        bool image, audio;
    } rows[] = {
        {"{\"image_processor_type\":\"CLIPImageProcessorFast\"}", true, false},
        {"{\"feature_extractor_type\":\"ViTFeatureExtractor\"}", true, false},
        {"{\"feature_extractor_type\":\"WhisperFeatureExtractor\"}", false, true},
        {"{\"feature_extractor_type\":\"Wav2Vec2FeatureExtractor\",\"size\":{\"height\":8,"
         "\"width\":8},"
         "\"image_mean\":0.5,\"image_std\":0.5}",
         true, true},
        {"{\"image_processor\":{\"image_processor_type\":\"ViTImageProcessor\"},"
         "\"feature_extractor\":{\"feature_extractor_type\":\"Wav2Vec2FeatureExtractor\"}}",
         true, true},
        {"{}", false, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        bool image, audio;
        assert_true(processor_kinds(rows[i].config, strlen(rows[i].config), &image, &audio, NULL));
        if (image != rows[i].image || audio != rows[i].audio)
            fail_msg("%s: image %d, audio %d", rows[i].config, image, audio);
        if (image)
            processor_destroy(make(PROCESSOR_IMAGE, rows[i].config));
        if (audio)
            processor_destroy(make(PROCESSOR_AUDIO, rows[i].config));
    }
    bool image, audio;
    assert_false(processor_kinds("[]", 2, &image, &audio, NULL));
}

static void digest_is_of_kind_and_text(void **state)
{
    (void)state;
    const char *both = "{\"image_processor\":{},\"feature_extractor\":"
                       "{\"feature_extractor_type\":\"Wav2Vec2FeatureExtractor\"}}";
    struct processor *a = make(PROCESSOR_IMAGE, both), *b = make(PROCESSOR_IMAGE, both);
    struct processor *c = make(PROCESSOR_AUDIO, both), *d = make(PROCESSOR_IMAGE, "{}");
    struct digest da = processor_digest(a);
    assert_true(digest_valid(da.hex));
    assert_string_equal(da.hex, processor_digest(b).hex);
    assert_string_not_equal(da.hex, processor_digest(c).hex);
    assert_string_not_equal(da.hex, processor_digest(d).hex);
    processor_destroy(a);
    processor_destroy(b);
    processor_destroy(c);
    processor_destroy(d);
    processor_destroy(NULL);
}

static void bad_media_is_an_error(void **state)
{
    (void)state;
    struct err e;
    struct named_tensor out[PROCESSOR_OUTPUTS_MAX];
    size_t n = 0, size;
    struct processor *p = make(PROCESSOR_IMAGE, "{\"size\":{\"shortest_edge\":4096}}");
    assert_false(processor_run(p, "no picture", 10, out, PROCESSOR_OUTPUTS_MAX, &n, &e));
    assert_int_equal(e.code, ERR_MEDIA_TYPE);
    char *wide = media_load("in/wide.png", &size); /* 150 x 40: the longer side becomes 15360 */
    assert_false(processor_run(p, wide, size, out, PROCESSOR_OUTPUTS_MAX, &n, &e));
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_false(processor_run(p, wide, size, out, 0, &n, &e));
    free(wide);
    processor_destroy(p);
    p = make(PROCESSOR_AUDIO, "{\"feature_extractor_type\":\"WhisperFeatureExtractor\"}");
    assert_false(processor_run(p, "no sound", 8, out, PROCESSOR_OUTPUTS_MAX, &n, &e));
    assert_int_equal(e.code, ERR_MEDIA_TYPE);
    processor_destroy(p);
}

static const char tokenizer_json[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[],"
    "\"normalizer\":{\"type\":\"Lowercase\"},\"pre_tokenizer\":{\"type\":\"Whitespace\"},"
    "\"post_processor\":null,\"decoder\":null,\"model\":{\"type\":\"WordLevel\","
    "\"vocab\":{\"[UNK]\":0,\"a\":7,\"red\":5,\"shoe\":3},\"unk_token\":\"[UNK]\"}}";

static void text_becomes_ids(void **state)
{
    (void)state;
    struct err e;
    struct tokenizer *t;
    struct processor *p;
    struct digest d = digest_of(tokenizer_json, strlen(tokenizer_json));
    if (!tokenizer_create(tokenizer_json, strlen(tokenizer_json), &t, &e))
        fail_msg("%s", e.text);
    assert_true(processor_create_text(t, &d, &p, &e));
    assert_int_equal(processor_kind(p), PROCESSOR_TEXT);
    assert_ptr_equal(processor_tokenizer(p), t);

    struct port ports[PROCESSOR_OUTPUTS_MAX];
    struct named_tensor out[PROCESSOR_OUTPUTS_MAX];
    static const char *const names[] = {"input_ids", "attention_mask", "token_type_ids"};
    static const int64_t want[3][4] = {{7, 5, 0, 3}, {1, 1, 1, 1}, {0, 0, 0, 0}};
    size_t n = 0;
    assert_int_equal(processor_outputs(p, ports), 3);
    /* what follows the given bytes is not looked at */
    assert_true(processor_run(p, "A red big shoe!", 14, out, PROCESSOR_OUTPUTS_MAX, &n, &e));
    assert_int_equal(n, 3);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(out[i].name, names[i]);
        assert_true(tensor_fits(&out[i].tensor, &ports[i], &e));
        assert_int_equal(out[i].tensor.shape.dims[1], 4);
        assert_memory_equal(out[i].tensor.data, want[i], sizeof(want[i]));
    }
    clear(out, n);
    assert_false(processor_run(p, "a\0b", 3, out, PROCESSOR_OUTPUTS_MAX, &n, &e));
    assert_int_equal(e.code, ERR_INVALID);
    assert_false(processor_run(p, "a", TOKENIZER_TEXT_MAX + 1, out, PROCESSOR_OUTPUTS_MAX, &n, &e));
    assert_int_equal(e.code, ERR_TOO_LARGE);
    processor_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_bit_by_bit),        cmocka_unit_test(sound_within_bound),
        cmocka_unit_test(unknown_settings_are_named), cmocka_unit_test(kinds_are_told_apart),
        cmocka_unit_test(digest_is_of_kind_and_text), cmocka_unit_test(bad_media_is_an_error),
        cmocka_unit_test(text_becomes_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
