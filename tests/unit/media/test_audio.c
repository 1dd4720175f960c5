/* test_audio.c - sound files become the samples that they were made from, at any rate; broken and
 * hostile content gives errors. */
#include "libmedia.h"
#include "media/audio.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RATE 16000u

static void put(uint8_t *to, uint32_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

/* A WAV head: format 1 is whole numbers, 3 floats. */
static void wav_head(uint8_t head[44], uint32_t format, uint32_t channels, uint32_t rate,
                     uint32_t bits, uint32_t data_bytes)
{
    memcpy(head, "RIFF....WAVEfmt ", 16);
    put(head + 4, 36 + data_bytes, 4);
    put(head + 16, 16, 4);
    put(head + 20, format, 2);
    put(head + 22, channels, 2);
    put(head + 24, rate, 4);
    put(head + 28, rate * channels * bits / 8, 4);
    put(head + 32, channels * bits / 8, 2);
    put(head + 34, bits, 2);
    memcpy(head + 36, "data", 4);
    put(head + 40, data_bytes, 4);
}

/* One channel of 16 bits: a tone of half the full level. free(). */
static uint8_t *wav_tone(uint32_t rate, double hz, size_t count, size_t *size)
{
    uint8_t *wav = malloc(44 + 2 * count);
    assert_non_null(wav);
    wav_head(wav, 1, 1, rate, 16, (uint32_t)(2 * count));
    for (size_t i = 0; i < count; i++) {
        double v = 16384.0 * sin(2.0 * M_PI * hz * (double)i / rate);
        put(wav + 44 + 2 * i, (uint32_t)(int32_t)lround(v), 2);
    }
    *size = 44 + 2 * count;
    return wav;
}

static double distance(const float *a, const float *b, size_t n)
{
    double worst = 0.0;
    for (size_t i = 0; i < n; i++)
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

static void decodes_each_kind(void **state)
{
    (void)state;
    json_t *root = media_golden("audio.json"), *rows = json_object_get(root, "decode"), *row;
    size_t k;
    assert_true(json_array_size(rows) >= 6);
    json_array_foreach(rows, k, row)
    {
        struct err e;
        struct audio a;
        size_t size, count = media_number(row, "count");
        char *data = media_load_input(row, &size);
        float *want = media_load_floats(row, count);
        if (!audio_decode(data, size, RATE, 0, &a, &e))
            fail_msg("%s: %s", media_text(row, "file"), e.text);
        assert_int_equal(a.count, count);
        assert_int_equal(a.rate, RATE);
        double off = distance(a.samples, want, count);
        if (!(off <= json_number_value(json_object_get(row, "bound"))))
            fail_msg("%s: off by %g", media_text(row, "file"), off);
        audio_clear(&a);
        free(data);
        free(want);
    }
    json_decref(root);
}

/* MP3 adds some samples at both ends, so only its level and length are looked at. */
static void decodes_mp3(void **state)
{
    (void)state;
    struct err e;
    struct audio a;
    size_t size, plain_size;
    char *data = media_load("in/sound.mp3", &size);
    float *plain = (float *)(void *)media_load("out/sound.f32", &plain_size);
    if (!audio_decode(data, size, RATE, 0, &a, &e))
        fail_msg("%s", e.text);
    assert_in_range(a.count, 4096, 4096 + 2400);
    double want = 0.0, have = 0.0;
    for (size_t i = 0; i < plain_size / sizeof(*plain); i++)
        want += (double)plain[i] * (double)plain[i];
    for (size_t i = 0; i < a.count; i++)
        have += (double)a.samples[i] * (double)a.samples[i];
    assert_true(have > 0.8 * want && have < 1.2 * want);
    audio_clear(&a);
    free(data);
    free(plain);
}

/* The tone comes out as the same tone at the other rate, away from the ends. */
static void resamples(void **state)
{
    (void)state;
    static const uint32_t rates[] = {8000, 11025, 22050, 44100, 48000, 192000};
    for (size_t r = 0; r < sizeof(rates) / sizeof(*rates); r++) {
        struct err e;
        struct audio a;
        size_t size, count = rates[r] / 2;
        uint8_t *wav = wav_tone(rates[r], 1000.0, count, &size);
        if (!audio_decode(wav, size, RATE, 0, &a, &e))
            fail_msg("%s", e.text);
        assert_in_range(a.count, RATE / 2 - 1, RATE / 2 + 1);
        for (size_t i = 500; i + 500 < a.count; i++) {
            double want = 0.5 * sin(2.0 * M_PI * 1000.0 * (double)i / RATE);
            if (!(fabs((double)a.samples[i] - want) < 1e-3))
                fail_msg("from %u Hz, sample %zu: %g, want %g", rates[r], i, (double)a.samples[i],
                         want);
        }
        audio_clear(&a);
        free(wav);
    }
}

static void rejects_other_content(void **state)
{
    (void)state;
    struct err e;
    struct audio a;
    assert_false(audio_decode("", 0, RATE, 0, &a, &e));
    assert_int_equal(e.code, ERR_MEDIA_TYPE);
    assert_false(audio_decode("FORM....AIFFCOMM", 16, RATE, 0, &a, &e));
    assert_int_equal(e.code, ERR_MEDIA_TYPE);
    assert_false(audio_decode("\x89PNG\r\n\x1a\n", 8, RATE, 0, &a, &e));
    assert_int_equal(e.code, ERR_MEDIA_TYPE);
    assert_false(audio_decode("RIFF\x10\0\0\0WAVEjunk", 16, RATE, 0, &a, &e));
    assert_int_equal(e.code, ERR_INVALID);
    char *big = calloc(1, AUDIO_FILE_MAX + 1);
    assert_non_null(big);
    assert_false(audio_decode(big, AUDIO_FILE_MAX + 1, RATE, 0, &a, &e));
    assert_int_equal(e.code, ERR_TOO_LARGE);
    free(big);
}

static enum err_code code_of(const uint8_t *wav, size_t size, uint32_t rate)
{
    struct err e;
    struct audio a;
    if (!audio_decode(wav, size, rate, 0, &a, &e))
        return e.code;
    audio_clear(&a);
    return ERR_NONE;
}

static void limits_hold(void **state)
{
    (void)state;
    size_t size;
    uint8_t *wav = wav_tone(16000, 440.0, 1000, &size);
    assert_int_equal(code_of(wav, size, RATE), ERR_NONE);
    assert_int_equal(code_of(wav, size, 0), ERR_INVALID);
    assert_int_equal(code_of(wav, size, AUDIO_RATE_MAX + 1), ERR_INVALID);
    assert_int_equal(code_of(wav, 44, RATE), ERR_INVALID); /* no samples */
    wav_head(wav, 1, 1, 500, 16, 2000);
    assert_int_equal(code_of(wav, size, RATE), ERR_UNSUPPORTED);
    wav_head(wav, 1, AUDIO_CHANNELS_MAX + 1, 16000, 16, 2000);
    assert_int_equal(code_of(wav, size, RATE), ERR_UNSUPPORTED);
    wav_head(wav, 3, 1, 16000, 32, 2000);
    put(wav + 44 + 400, 0x7FC00000, 4); /* not a number */
    assert_int_equal(code_of(wav, size, RATE), ERR_INVALID);
    free(wav);
    /* 31 minutes at 1000 Hz and 8 bits: a file within its limit, a sound over its own */
    size_t count = 31 * 60 * 1000;
    uint8_t *lengthy = malloc(44 + count);
    assert_non_null(lengthy);
    memset(lengthy, 128, 44 + count);
    wav_head(lengthy, 1, 1, 1000, 8, (uint32_t)count);
    assert_int_equal(code_of(lengthy, 44 + count, RATE), ERR_TOO_LARGE);
    free(lengthy);
}

/* A head that promises more than there is gives what is there. */
static void cut_off_wav_gives_the_rest(void **state)
{
    (void)state;
    struct audio a;
    size_t size;
    uint8_t *wav = wav_tone(16000, 440.0, 1000, &size);
    wav_head(wav, 1, 1, 16000, 16, 0x7FFFFFF0);
    assert_true(audio_decode(wav, size - 500, RATE, 0, &a, NULL));
    assert_int_equal(a.count, 750);
    audio_clear(&a);
    free(wav);
}

/* Reading may stop early, with or without a change of rate: the samples are the same. */
static void stops_when_enough(void **state)
{
    (void)state;
    static const uint32_t rates[] = {16000, 44100};
    for (size_t r = 0; r < 2; r++) {
        struct audio all, some;
        size_t size;
        uint8_t *wav = wav_tone(rates[r], 700.0, 60000, &size);
        assert_true(audio_decode(wav, size, RATE, 0, &all, NULL));
        assert_true(audio_decode(wav, size, RATE, 5001, &some, NULL));
        assert_int_equal(some.count, 5001);
        assert_memory_equal(all.samples, some.samples, 5001 * sizeof(float));
        audio_clear(&some);
        assert_true(audio_decode(wav, size, RATE, all.count + 5, &some, NULL));
        assert_int_equal(some.count, all.count);
        audio_clear(&some);
        audio_clear(&all);
        free(wav);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_each_kind), cmocka_unit_test(decodes_mp3),
        cmocka_unit_test(resamples),         cmocka_unit_test(rejects_other_content),
        cmocka_unit_test(limits_hold),       cmocka_unit_test(cut_off_wav_gives_the_rest),
        cmocka_unit_test(stops_when_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
