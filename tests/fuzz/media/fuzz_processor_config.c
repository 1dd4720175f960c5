/* fuzz_processor_config.c - preprocessor_config.json of strangers' models, and a small run of what
 * was taken: a picture of 3 x 2 pixels and a sound of a tenth of a second. */
#include "media/processor.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLES 1600
#define FUZZ_VALUES_MAX 200000 /* outputs announced larger than this are not made */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A PNG of 3 x 2 RGB pixels: the numbers 0 to 17. */
static const uint8_t picture[] = {
    0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A, 0x00, 0x00, 0x00, 0x0D, 0x49, 0x48, 0x44,
    0x52, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x02, 0x08, 0x02, 0x00, 0x00, 0x00, 0x12,
    0x16, 0xF1, 0x4D, 0x00, 0x00, 0x00, 0x1F, 0x49, 0x44, 0x41, 0x54, 0x78, 0x01, 0x01, 0x14,
    0x00, 0xEB, 0xFF, 0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x00, 0x09,
    0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x10, 0x11, 0x04, 0x01, 0x00, 0x9A, 0x21, 0x86, 0xF6,
    0x4C, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4E, 0x44, 0xAE, 0x42, 0x60, 0x82};

static void put(uint8_t *to, uint32_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

static size_t make_sound(uint8_t wav[44 + 2 * SAMPLES])
{
    memcpy(wav, "RIFF....WAVEfmt ", 16);
    put(wav + 4, 36 + 2 * SAMPLES, 4);
    put(wav + 16, 16, 4);
    put(wav + 20, 1 + (1 << 16), 4); /* whole numbers, one channel */
    put(wav + 24, 16000, 4);
    put(wav + 28, 32000, 4);
    put(wav + 32, 2 + (16 << 16), 4);
    memcpy(wav + 36, "data", 4);
    put(wav + 40, 2 * SAMPLES, 4);
    for (size_t i = 0; i < SAMPLES; i++)
        put(wav + 44 + 2 * i, (uint32_t)(i * 77 % 1000), 2);
    return 44 + 2 * SAMPLES;
}

/* What comes out must be what was announced. */
static void run(const struct processor *p, const void *media, size_t size)
{
    struct err e;
    struct port ports[PROCESSOR_OUTPUTS_MAX];
    struct named_tensor out[PROCESSOR_OUTPUTS_MAX];
    size_t announced = processor_outputs(p, ports), n;
    int64_t values = 1;
    for (int i = 0; i < ports[0].shape.rank; i++)
        values *= ports[0].shape.dims[i] < 0 ? 1 : ports[0].shape.dims[i];
    if (values > FUZZ_VALUES_MAX ||
        !processor_run(p, media, size, out, PROCESSOR_OUTPUTS_MAX, &n, &e))
        return;
    if (n != announced)
        abort();
    for (size_t i = 0; i < n; i++) {
        if (!tensor_fits(&out[i].tensor, &ports[i], &e) || strcmp(out[i].name, ports[i].name) != 0)
            abort();
        tensor_clear(&out[i].tensor);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    bool image, audio;
    struct processor *p;
    const char *config = (const char *)data;
    uint8_t wav[44 + 2 * SAMPLES];
    (void)processor_kinds(config, size, &image, &audio, &e);
    if (processor_create_image(config, size, &p, &e)) {
        run(p, picture, sizeof(picture));
        processor_destroy(p);
    }
    if (processor_create_audio(config, size, &p, &e)) {
        run(p, wav, make_sound(wav));
        processor_destroy(p);
    }
    return 0;
}
