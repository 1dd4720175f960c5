/* processor_audio.c - sound to input_values or input_features, as three feature extractors of
 * Hugging Face do it: raw samples (Wav2Vec2), log-mel of a fixed length in seconds (Whisper), and
 * log-mel of a fixed number of frames (AST).
 *
 * Not the same bits as numpy gives: sums of means, variances and bands are in another order and in
 * float64; the difference stays under 1e-5. */
#include "base/num.h"
#include "media/audio.h"
#include "media/mel.h"
#include "media/processor_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WHAT "preprocessor_config.json"
#define CHUNK_SECONDS_MAX 1800

enum length_rule {
    LENGTH_AS_IS, /* no padding */
    LENGTH_PADDED /* at least max_length samples */
};

struct audio_kind;

struct audio_processor {
    const struct audio_kind *kind;
    uint32_t rate;
    bool mask; /* gives attention_mask */
    bool normalize;
    bool pad_left;
    float padding_value;
    enum length_rule length;
    bool truncate;     /* to max_length */
    size_t max_length; /* samples (AST: frames); 0: none */
    size_t enough;     /* samples that are looked at; 0: all */
    struct mel *mel;   /* NULL for raw samples; owned */
    uint32_t bands, hop;
    float mean, double_std; /* AST */
};

struct audio_kind {
    const char *name;
    bool (*read)(const json_t *o, struct audio_processor *p, struct err *e);
    size_t (*outputs)(const struct audio_processor *p, struct port *ret);
    bool (*run)(const struct audio_processor *p, const struct audio *a, struct named_tensor *ret,
                struct err *e);
};

/* A filled tensor with its name, or nothing. */
static bool output_new(const char *name, enum dtype dtype, const struct shape *s,
                       struct named_tensor *ret, struct err *e)
{
    struct tensor t;
    if (!tensor_new(dtype, s, &t, e))
        return false;
    *ret = (struct named_tensor){.tensor = t};
    memcpy(ret->name, name, strlen(name) + 1);
    return true;
}

/* ---- samples of a fixed length ---- */

struct span {
    size_t total, from, count; /* samples lie at from..from+count of total, the rest is padding */
};

static struct span span_of(const struct audio_processor *p, size_t count)
{
    struct span s = {.count = count};
    if (p->truncate && p->max_length && count > p->max_length)
        s.count = p->max_length;
    s.total = p->length == LENGTH_PADDED ? num_max(s.count, p->max_length) : s.count;
    s.from = p->pad_left ? s.total - s.count : 0;
    return s;
}

static void padded_copy(const struct audio_processor *p, const struct audio *a,
                        const struct span *s, float *ret)
{
    for (size_t i = 0; i < s->total; i++)
        ret[i] = p->padding_value;
    memcpy(ret + s->from, a->samples, s->count * sizeof(*ret));
}

/* To mean 0 and variance 1 over the samples; over all, padding too, when there is no mask to tell
 * them apart, as transformers does.  In a masked one the padding keeps its value.  With a mask the
 * first `count` values are taken for the samples, also when the padding is on the left. */
static void normalize(const struct audio_processor *p, const struct span *s, float *values)
{
    bool masked = p->mask && p->length == LENGTH_PADDED;
    size_t n = masked ? s->count : s->total;
    double sum = 0.0, squares = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)values[i];
    double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += ((double)values[i] - mean) * ((double)values[i] - mean);
    double scale = 1.0 / sqrt(squares / (double)n + 1e-7);
    for (size_t i = 0; i < s->total; i++)
        values[i] = i < n ? (float)(((double)values[i] - mean) * scale) : p->padding_value;
}

static bool read_padding(const json_t *o, struct audio_processor *p, struct err *e)
{
    const json_t *v = json_object_get(o, "padding");
    const char *name = json_string_value(v);
    if (name && strcmp(name, "max_length") == 0)
        p->length = LENGTH_PADDED;
    else if (v && !json_is_boolean(v) && !json_is_null(v) &&
             !(name && (strcmp(name, "longest") == 0 || strcmp(name, "do_not_pad") == 0)))
        return err_set(e, ERR_UNSUPPORTED,
                       WHAT ": 'padding' is not max_length, longest, do_not_pad "
                            "or a truth value");
    p->truncate = p->length == LENGTH_PADDED;
    uint64_t max = 0;
    if (!json_opt_u64(o, WHAT, "max_length", PROCESSOR_SAMPLES_MAX, &max, e) ||
        !json_opt_bool(o, WHAT, "truncation", &p->truncate, e))
        return false;
    p->max_length = (size_t)max;
    if (!max && (p->length == LENGTH_PADDED || p->truncate))
        return err_set(e, ERR_INVALID, WHAT ": padding or truncation without 'max_length'");
    return true;
}

static bool read_side(const json_t *o, struct audio_processor *p, struct err *e)
{
    const char *side = "right";
    if (!json_opt_str(o, WHAT, "padding_side", &side, e))
        return false;
    p->pad_left = strcmp(side, "left") == 0;
    if (!p->pad_left && strcmp(side, "right") != 0)
        return err_set(e, ERR_UNSUPPORTED,
                       WHAT ": 'padding_side' is '%.32s', should be left or right", side);
    const json_t *multiple = json_object_get(o, "pad_to_multiple_of");
    if (multiple && !json_is_null(multiple))
        return err_set(e, ERR_UNSUPPORTED,
                       WHAT ": 'pad_to_multiple_of' is set, which is not known here");
    return true;
}

/* ---- raw samples ---- */

static bool raw_read(const json_t *o, struct audio_processor *p, struct err *e)
{
    uint64_t features = 1;
    p->normalize = true;
    if (!json_opt_u64(o, WHAT, "feature_size", 1u << 16, &features, e) ||
        !json_opt_bool(o, WHAT, "do_normalize", &p->normalize, e) ||
        !json_opt_bool(o, WHAT, "return_attention_mask", &p->mask, e))
        return false;
    if (features != 1)
        return err_set(e, ERR_UNSUPPORTED, WHAT ": 'feature_size' is %d, raw samples have 1",
                       (int)features);
    if (!read_side(o, p, e) || !read_padding(o, p, e))
        return false;
    p->enough = p->truncate ? p->max_length : 0;
    return true;
}

static size_t raw_outputs(const struct audio_processor *p, struct port *ret)
{
    bool fixed = p->length == LENGTH_PADDED && p->truncate;
    const int64_t dims[2] = {1, fixed ? (int64_t)p->max_length : -1};
    ret[0] = processor_port("input_values", DT_F32, 2, dims);
    ret[1] = processor_port(PROCESSOR_MASK_NAME, DT_I64, 2, dims);
    return p->mask ? 2 : 1;
}

static bool raw_run(const struct audio_processor *p, const struct audio *a,
                    struct named_tensor *ret, struct err *e)
{
    struct span s = span_of(p, a->count);
    struct shape shape = {2, {1, (int64_t)s.total}};
    if (!output_new("input_values", DT_F32, &shape, &ret[0], e))
        return false;
    float *values = ret[0].tensor.data;
    padded_copy(p, a, &s, values);
    if (p->normalize)
        normalize(p, &s, values);
    if (!p->mask)
        return true;
    if (!output_new(PROCESSOR_MASK_NAME, DT_I64, &shape, &ret[1], e)) {
        tensor_clear(&ret[0].tensor);
        return false;
    }
    int64_t *mask = ret[1].tensor.data;
    for (size_t i = 0; i < s.count; i++)
        mask[s.from + i] = 1;
    return true;
}

/* ---- Whisper ---- */

static bool whisper_read(const json_t *o, struct audio_processor *p, struct err *e)
{
    uint64_t bands = 80, hop = 160, fft = 400, seconds = 30;
    double dither = 0.0;
    if (!json_opt_u64(o, WHAT, "feature_size", MEL_BANDS_MAX, &bands, e) ||
        !json_opt_u64(o, WHAT, "hop_length", MEL_FFT_MAX, &hop, e) ||
        !json_opt_u64(o, WHAT, "n_fft", MEL_FFT_MAX, &fft, e) ||
        !json_opt_u64(o, WHAT, "chunk_length", CHUNK_SECONDS_MAX, &seconds, e) ||
        !json_opt_num(o, WHAT, "dither", 0, 1, &dither, e) ||
        !json_opt_bool(o, WHAT, "return_attention_mask", &p->mask, e) || !read_side(o, p, e))
        return false;
    if (dither != 0.0)
        return err_set(e, ERR_UNSUPPORTED, WHAT ": 'dither' is %g, only 0 is known here", dither);
    const struct mel_settings s = {.rate = p->rate,
                                   .frame = (uint32_t)fft,
                                   .hop = (uint32_t)hop,
                                   .fft = (uint32_t)fft,
                                   .bands = (uint32_t)bands,
                                   .f_max = 8000.0,
                                   .scale = MEL_SLANEY,
                                   .log = MEL_LOG10,
                                   .floor = 1e-10,
                                   .periodic = true,
                                   .centered = true};
    p->length = LENGTH_PADDED;
    p->truncate = true;
    p->max_length = p->enough = (size_t)seconds * p->rate;
    p->bands = (uint32_t)bands;
    p->hop = (uint32_t)hop;
    if (!mel_create(&s, &p->mel, e))
        return err_prefix(e, WHAT);
    if (p->max_length <= fft || p->max_length / hop > MEL_WORK_MAX / fft)
        return err_set(e, ERR_INVALID,
                       WHAT ": 'chunk_length' %d is too short or too long for 'n_fft' "
                            "%d and 'hop_length' %d",
                       (int)seconds, (int)fft, (int)hop);
    return true;
}

static size_t whisper_outputs(const struct audio_processor *p, struct port *ret)
{
    int64_t frames = (int64_t)(p->max_length / p->hop);
    const int64_t dims[3] = {1, p->bands, frames}, mask[2] = {1, frames};
    ret[0] = processor_port("input_features", DT_F32, 3, dims);
    ret[1] = processor_port(PROCESSOR_MASK_NAME, DT_I64, 2, mask);
    return p->mask ? 2 : 1;
}

/* from (frames, bands) to (bands, frames): everything more than 8 (in log10) under the loudest is
 * raised to that, then the range is moved to about -1..1. */
static void whisper_scale(const float *from, size_t frames, size_t bands, float *to)
{
    float top = from[0];
    for (size_t i = 1; i < frames * bands; i++)
        top = from[i] > top ? from[i] : top;
    float bottom = top - 8.0f;
    for (size_t k = 0; k < frames; k++)
        for (size_t b = 0; b < bands; b++) {
            float v = from[k * bands + b];
            to[b * frames + k] = ((v > bottom ? v : bottom) + 4.0f) / 4.0f;
        }
}

static bool whisper_features(const struct audio_processor *p, const struct audio *a,
                             const struct span *s, float *ret, struct err *e)
{
    size_t frames = p->max_length / p->hop;
    float *samples = malloc(s->total * sizeof(*samples));
    float *logs = malloc(frames * p->bands * sizeof(*logs));
    bool ok = samples && logs;
    if (!ok)
        err_set(e, ERR_MEMORY, "log-mel: no memory for %zu samples", s->total);
    if (ok)
        padded_copy(p, a, s, samples);
    ok = ok && mel_run(p->mel, samples, s->total, frames, logs, e);
    if (ok)
        whisper_scale(logs, frames, p->bands, ret);
    free(samples);
    free(logs);
    return ok;
}

static bool whisper_run(const struct audio_processor *p, const struct audio *a,
                        struct named_tensor *ret, struct err *e)
{
    struct span s = span_of(p, a->count);
    int64_t frames = (int64_t)(p->max_length / p->hop);
    struct shape shape = {3, {1, p->bands, frames}}, mask_shape = {2, {1, frames}};
    if (!output_new("input_features", DT_F32, &shape, &ret[0], e))
        return false;
    bool ok = whisper_features(p, a, &s, ret[0].tensor.data, e);
    if (ok && p->mask) {
        ok = output_new(PROCESSOR_MASK_NAME, DT_I64, &mask_shape, &ret[1], e);
        for (int64_t k = 0; ok && k < frames; k++) {
            size_t at = (size_t)k * p->hop; /* a frame counts when its first sample does */
            ((int64_t *)ret[1].tensor.data)[k] = at >= s.from && at < s.from + s.count;
        }
    }
    if (!ok)
        tensor_clear(&ret[0].tensor);
    return ok;
}

/* ---- AST ---- */

static bool ast_read(const json_t *o, struct audio_processor *p, struct err *e)
{
    uint64_t bands = 128, frames = 1024;
    double mean = -4.2677393, std = 4.5689974;
    p->normalize = true;
    if (!json_opt_u64(o, WHAT, "num_mel_bins", MEL_BANDS_MAX, &bands, e) ||
        !json_opt_u64(o, WHAT, "max_length", MEL_WORK_MAX / 512, &frames, e) ||
        !json_opt_bool(o, WHAT, "do_normalize", &p->normalize, e) ||
        !json_opt_num(o, WHAT, "mean", -1e6, 1e6, &mean, e) ||
        !json_opt_num(o, WHAT, "std", 1e-6, 1e6, &std, e))
        return false;
    if (!frames)
        return err_set(e, ERR_INVALID, WHAT ": 'max_length' is 0");
    const struct mel_settings s = {.rate = p->rate,
                                   .frame = 400,
                                   .hop = 160,
                                   .fft = 512,
                                   .bands = (uint32_t)bands,
                                   .f_min = 20.0,
                                   .f_max = p->rate / 2,
                                   .scale = MEL_KALDI,
                                   .log = MEL_LN,
                                   .floor = 1.192092955078125e-07,
                                   .remove_mean = true,
                                   .preemphasis = 0.97};
    p->max_length = (size_t)frames;
    p->enough = (size_t)(frames - 1) * s.hop + s.frame;
    p->bands = (uint32_t)bands;
    p->mean = (float)mean;
    p->double_std = (float)(std * 2.0);
    return mel_create(&s, &p->mel, e) || err_prefix(e, WHAT);
}

static size_t ast_outputs(const struct audio_processor *p, struct port *ret)
{
    const int64_t dims[3] = {1, (int64_t)p->max_length, p->bands};
    ret[0] = processor_port("input_values", DT_F32, 3, dims);
    return 1;
}

/* Frames that are missing are 0 before the normalisation. */
static bool ast_run(const struct audio_processor *p, const struct audio *a,
                    struct named_tensor *ret, struct err *e)
{
    struct shape shape = {3, {1, (int64_t)p->max_length, p->bands}};
    if (!output_new("input_values", DT_F32, &shape, ret, e))
        return false;
    float *values = ret->tensor.data;
    size_t frames = num_min(mel_frames(p->mel, a->count), p->max_length);
    if (!mel_run(p->mel, a->samples, a->count, frames, values, e)) {
        tensor_clear(&ret->tensor);
        return false;
    }
    for (size_t i = 0; p->normalize && i < p->max_length * p->bands; i++)
        values[i] = (values[i] - p->mean) / p->double_std;
    return true;
}

/* ---- all ---- */

static const struct audio_kind kinds[] = {
    {"Wav2Vec2", raw_read, raw_outputs, raw_run},
    {"Whisper", whisper_read, whisper_outputs, whisper_run},
    {"AST", ast_read, ast_outputs, ast_run},
};

static const struct audio_kind *kind_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

bool audio_type_known(const char *name)
{
    return kind_of(name) != NULL;
}

bool audio_processor_new(const json_t *o, struct audio_processor **ret, struct err *e)
{
    char name[64];
    uint64_t rate = 16000;
    double padding = 0.0;
    processor_type_name(o, "feature_extractor_type", name, sizeof(name));
    const struct audio_kind *kind = kind_of(name);
    if (!kind)
        return err_set(e, ERR_UNSUPPORTED, WHAT ": feature extractor '%s' is not known", name);
    if (!json_opt_u64(o, WHAT, "sampling_rate", AUDIO_RATE_MAX, &rate, e) ||
        !json_opt_num(o, WHAT, "padding_value", -1e6, 1e6, &padding, e))
        return false;
    if (rate < AUDIO_RATE_MIN)
        return err_set(e, ERR_INVALID, WHAT ": 'sampling_rate' is %d, should be from %u to %u",
                       (int)rate, AUDIO_RATE_MIN, AUDIO_RATE_MAX);
    struct audio_processor *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(e, ERR_MEMORY, WHAT ": no memory");
    p->kind = kind;
    p->rate = (uint32_t)rate;
    p->padding_value = (float)padding;
    if (!kind->read(o, p, e)) {
        audio_processor_free(p);
        return false;
    }
    *ret = p;
    return true;
}

void audio_processor_free(struct audio_processor *p)
{
    if (!p)
        return;
    mel_destroy(p->mel);
    free(p);
}

size_t audio_processor_outputs(const struct audio_processor *p, struct port *ret)
{
    return p->kind->outputs(p, ret);
}

bool audio_processor_run(const struct audio_processor *p, const void *data, size_t size,
                         struct named_tensor *ret_out, struct err *e)
{
    struct audio a;
    if (!audio_decode(data, size, p->rate, p->enough, &a, e))
        return false;
    bool ok = p->kind->run(p, &a, ret_out, e);
    audio_clear(&a);
    return ok;
}
