/* fuzz_audio.c - sound files as they come from clients: decoded, mixed, resampled.
 *
 * libsndfile 1.2.0 itself leaks libvorbis' settings when the head of an Ogg file is broken; that one
 * leak is suppressed here (see audio.c). */
#include "media/audio.h"

#include <math.h>
#include <stdlib.h>

#define FUZZ_BYTES_MAX 65536u /* keeps one run short */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:vorbis_info_init\n";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    struct audio a;
    if (size > FUZZ_BYTES_MAX || !audio_decode(data, size, 16000, 0, &a, &e))
        return 0;
    if (a.count == 0 || !isfinite(a.samples[0]) || !isfinite(a.samples[a.count - 1]))
        abort();
    audio_clear(&a);
    return 0;
}
