/* audio.c - sound files to one channel of float32 at a wanted rate.
 *
 * A stream: blocks of frames are read from memory through libsndfile's virtual I/O, averaged over
 * the channels and, if the rate differs, pushed through soxr; only the result is kept whole.  The
 * result grows with what was really read, so a head that promises hours costs nothing.
 *
 * libsndfile reads many more formats; the content's first bytes decide which are let through to it.
 * A file that ends early without saying so (WAV) gives what is there.
 *
 * Unresolved: libsndfile 1.2.0 leaks about 6 KiB when it refuses an Ogg Vorbis file with a broken
 * head, and its MP3 reader writes notes on damaged frames to stderr; neither can be stopped from
 * here. */
#include "media/audio.h"

#include "base/num.h"

#include <math.h>
#include <sndfile.h>
#include <soxr.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_FRAMES 4096
#define BLOCK_OUT 16384 /* samples that the resampler gives at once */
#define SAMPLE_MAX 1e6f /* far beyond any sound; the resampler overflows on huge floats */
#define GROW_MIN ((size_t)1 << 14)

struct source {
    const uint8_t *data; /* borrowed */
    sf_count_t size, at;
};

struct sink {
    float *samples; /* owned */
    size_t count, capacity;
    size_t max;    /* no more than this: an error */
    size_t enough; /* from here on the rest is dropped */
};

static sf_count_t source_length(void *arg)
{
    const struct source *s = arg;
    return s->size;
}

static sf_count_t source_seek(sf_count_t offset, int whence, void *arg)
{
    struct source *s = arg;
    sf_count_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? s->at : s->size, to;
    if (__builtin_add_overflow(from, offset, &to) || to < 0)
        return -1;
    s->at = to > s->size ? s->size : to;
    return s->at;
}

static sf_count_t source_read(void *to, sf_count_t count, void *arg)
{
    struct source *s = arg;
    sf_count_t left = s->size - s->at;
    sf_count_t n = count < left ? count : left;
    if (n <= 0)
        return 0;
    memcpy(to, s->data + s->at, (size_t)n);
    s->at += n;
    return n;
}

static sf_count_t source_tell(void *arg)
{
    const struct source *s = arg;
    return s->at;
}

static bool starts(const uint8_t *data, size_t size, const char *with, size_t at)
{
    size_t n = strlen(with);
    return size >= at + n && memcmp(data + at, with, n) == 0;
}

static bool known(const uint8_t *d, size_t n)
{
    if ((starts(d, n, "RIFF", 0) || starts(d, n, "RF64", 0)) && starts(d, n, "WAVE", 8))
        return true;
    if (starts(d, n, "fLaC", 0) || starts(d, n, "OggS", 0) || starts(d, n, "ID3", 0))
        return true;
    /* MPEG audio: 11 bits of synchronisation, a layer that is not the reserved one */
    return n >= 4 && d[0] == 0xFF && (d[1] & 0xE0) == 0xE0 && (d[1] & 0x06) != 0;
}

static bool kind_ok(int format)
{
    switch (format & SF_FORMAT_TYPEMASK) {
    case SF_FORMAT_WAV:
    case SF_FORMAT_WAVEX:
    case SF_FORMAT_RF64:
    case SF_FORMAT_FLAC:
    case SF_FORMAT_OGG:
    case SF_FORMAT_MPEG:
        return true;
    default:
        return false;
    }
}

static bool check_info(const SF_INFO *info, struct err *e)
{
    if (!kind_ok(info->format))
        return err_set(e, ERR_MEDIA_TYPE,
                       "audio: kind 0x%x of sound file, known are WAV, FLAC, Ogg and MP3",
                       (unsigned)info->format);
    if (info->channels < 1 || info->channels > AUDIO_CHANNELS_MAX)
        return err_set(e, ERR_UNSUPPORTED, "audio: %d channels, should be from 1 to %d",
                       info->channels, AUDIO_CHANNELS_MAX);
    if (info->samplerate < (int)AUDIO_RATE_MIN || info->samplerate > (int)AUDIO_RATE_MAX)
        return err_set(e, ERR_UNSUPPORTED, "audio: rate of %d Hz, should be from %u to %u",
                       info->samplerate, AUDIO_RATE_MIN, AUDIO_RATE_MAX);
    return true;
}

static bool too_long(struct err *e)
{
    return err_set(e, ERR_TOO_LARGE, "audio: longer than the limit of %u seconds",
                   AUDIO_SECONDS_MAX);
}

static bool sink_add(struct sink *s, const float *samples, size_t count, struct err *e)
{
    count = num_min(count, s->enough - s->count);
    if (count > s->max - s->count)
        return too_long(e);
    if (s->count + count > s->capacity) {
        size_t want = num_max(num_max(GROW_MIN, s->capacity * 2), s->count + count);
        float *grown = realloc(s->samples, want * sizeof(*grown));
        if (!grown)
            return err_set(e, ERR_MEMORY, "audio: no memory for %zu samples", want);
        s->samples = grown;
        s->capacity = want;
    }
    if (count)
        memcpy(s->samples + s->count, samples, count * sizeof(*samples));
    s->count += count;
    return true;
}

/* frames x channels to frames, in place. */
static bool mix(float *samples, size_t frames, size_t channels, struct err *e)
{
    float scale = 1.0f / (float)channels;
    for (size_t f = 0; f < frames; f++) {
        float sum = 0.0f;
        for (size_t c = 0; c < channels; c++)
            sum += samples[f * channels + c];
        sum *= scale;
        if (!(fabsf(sum) <= SAMPLE_MAX))
            return err_set(e, ERR_INVALID, "audio: a sample is not a number from %g to %g",
                           (double)-SAMPLE_MAX, (double)SAMPLE_MAX);
        samples[f] = sum;
    }
    return true;
}

/* in: NULL flushes what the resampler still holds. */
static bool push(soxr_t resampler, const float *in, size_t frames, float *out, struct sink *sink,
                 struct err *e)
{
    if (!resampler)
        return sink_add(sink, in, in ? frames : 0, e);
    size_t used = 0, took, made;
    do {
        soxr_error_t error = soxr_process(resampler, in ? in + used : NULL, in ? frames - used : 0,
                                          &took, out, BLOCK_OUT, &made);
        if (error || (in && !took && !made))
            return err_set(e, ERR_INTERNAL, "audio: resampling: %s",
                           error ? error : "stands still");
        if (!sink_add(sink, out, made, e))
            return false;
        used += took;
    } while (in ? used < frames : made > 0);
    return true;
}

static bool stream(SNDFILE *file, const SF_INFO *info, soxr_t resampler, struct sink *sink,
                   struct err *e)
{
    size_t channels = (size_t)info->channels;
    float *block = malloc(BLOCK_FRAMES * channels * sizeof(*block));
    float *out = resampler ? malloc(BLOCK_OUT * sizeof(*out)) : NULL;
    bool ok = block && (out || !resampler);
    if (!ok)
        err_set(e, ERR_MEMORY, "audio: no memory for a block");
    size_t total = 0, max = (size_t)AUDIO_SECONDS_MAX * (size_t)info->samplerate;
    while (ok && sink->count < sink->enough) {
        sf_count_t n = sf_readf_float(file, block, BLOCK_FRAMES);
        if (n <= 0)
            break;
        total += (size_t)n;
        ok = total <= max || too_long(e);
        ok = ok && mix(block, (size_t)n, channels, e) &&
             push(resampler, block, (size_t)n, out, sink, e);
    }
    if (ok && sf_error(file) != SF_ERR_NO_ERROR)
        ok = err_set(e, ERR_INVALID, "audio: %s", sf_strerror(file));
    if (ok)
        ok = push(resampler, NULL, 0, out, sink, e);
    free(block);
    free(out);
    return ok;
}

static bool decode(SNDFILE *file, const SF_INFO *info, uint32_t rate, size_t max, struct audio *ret,
                   struct err *e)
{
    if (!check_info(info, e))
        return false;
    if (info->frames > (sf_count_t)AUDIO_SECONDS_MAX * info->samplerate &&
        info->frames != SF_COUNT_MAX)
        return too_long(e);
    soxr_t resampler = NULL;
    if ((uint32_t)info->samplerate != rate) {
        soxr_error_t error = NULL;
        soxr_io_spec_t io = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
        soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);
        soxr_runtime_spec_t runtime = soxr_runtime_spec(1);
        resampler = soxr_create(info->samplerate, rate, 1, &error, &io, &quality, &runtime);
        if (!resampler || error)
            return err_set(e, ERR_MEMORY, "audio: no resampler from %d to %u Hz: %s",
                           info->samplerate, rate, error ? error : "no memory");
    }
    struct sink sink = {.max = (size_t)AUDIO_SECONDS_MAX * rate + rate,
                        .enough = max ? max : SIZE_MAX};
    bool ok = stream(file, info, resampler, &sink, e);
    soxr_delete(resampler);
    if (ok && sink.count == 0)
        ok = err_set(e, ERR_INVALID, "audio: the file holds no samples");
    if (!ok) {
        free(sink.samples);
        return false;
    }
    *ret = (struct audio){.samples = sink.samples, .count = sink.count, .rate = rate};
    return true;
}

bool audio_decode(const void *data, size_t size, uint32_t rate, size_t max, struct audio *ret,
                  struct err *e)
{
    if (size > AUDIO_FILE_MAX)
        return err_set(e, ERR_TOO_LARGE, "audio: %zu bytes, more than the limit of %zu", size,
                       AUDIO_FILE_MAX);
    if (rate < AUDIO_RATE_MIN || rate > AUDIO_RATE_MAX)
        return err_set(e, ERR_INVALID, "audio: wanted rate %u, should be from %u to %u", rate,
                       AUDIO_RATE_MIN, AUDIO_RATE_MAX);
    if (!known(data, size))
        return err_set(e, ERR_MEDIA_TYPE,
                       "audio: %zu bytes that are neither WAV, FLAC, Ogg nor MP3", size);
    struct source source = {.data = data, .size = (sf_count_t)size};
    SF_VIRTUAL_IO io = {.get_filelen = source_length,
                        .seek = source_seek,
                        .read = source_read,
                        .tell = source_tell};
    SF_INFO info = {0};
    SNDFILE *file = sf_open_virtual(&io, SFM_READ, &info, &source);
    if (!file)
        return err_set(e, ERR_INVALID, "audio: %s", sf_strerror(NULL));
    bool ok = decode(file, &info, rate, max, ret, e);
    sf_close(file);
    return ok;
}

void audio_clear(struct audio *a)
{
    free(a->samples);
    *a = (struct audio){0};
}
