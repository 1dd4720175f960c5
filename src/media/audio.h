/* audio.h - sound as one channel of float32 samples at a wanted rate.
 *
 * WAV, FLAC, Ogg (Vorbis, Opus) and MP3 through libsndfile, told by content, never by name.
 * Channels are averaged to one, then resampled with soxr at its high quality setting when the rate
 * differs.  Integer samples are scaled to -1..1.
 *
 * Ownership: audio_clear() frees the samples.  Threads: no state, any thread.
 * Errors: ERR_MEDIA_TYPE for other content, ERR_INVALID for broken content or none,
 * ERR_TOO_LARGE over a limit below, checked before memory is taken. */
#pragma once
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define AUDIO_FILE_MAX ((size_t)64 << 20) /* bytes of a sound file */
#define AUDIO_SECONDS_MAX 1800u           /* 30 minutes */
#define AUDIO_RATE_MIN 1000u              /* samples per second */
#define AUDIO_RATE_MAX 192000u
#define AUDIO_CHANNELS_MAX 8

struct audio {
    float *samples; /* count, finite; owned */
    size_t count;   /* at least 1 */
    uint32_t rate;  /* samples per second */
};

/* rate: wanted samples per second.  max: samples after which reading stops (what follows them is not
 * looked at), 0 for all; the ones given are the same either way.  On failure *ret is untouched. */
bool audio_decode(const void *data, size_t size, uint32_t rate, size_t max, struct audio *ret,
                  struct err *e);

void audio_clear(struct audio *a); /* of a zeroed or cleared one: nothing */
