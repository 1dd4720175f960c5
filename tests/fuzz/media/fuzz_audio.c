/* fuzz_audio.c - sound files as they come from clients: decoded, mixed, resampled. */
#include "media/audio.h"

#include <math.h>
#include <stdlib.h>

#define FUZZ_BYTES_MAX 65536u /* keeps one run short */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    struct audio a;
    if (size > FUZZ_BYTES_MAX || !audio_decode(data, size, 16000, &a, &e))
        return 0;
    if (a.count == 0 || !isfinite(a.samples[0]) || !isfinite(a.samples[a.count - 1]))
        abort();
    audio_clear(&a);
    return 0;
}
