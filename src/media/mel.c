/* mel.c - log-mel spectrograms; see mel.h.
 *
 * The Fourier transform is a plain mixed-radix one (decimation in time, one recursion level per
 * prime factor of the length): 400 = 2^4 5^2 is the usual length, so no power of two is asked for.
 * The bands are kept as (first bin, number, weights): a band touches few bins.
 *
 * Sources: the formulas of the scales are those of Slaney's Auditory Toolbox and of Kaldi; the order
 * of steps is that of transformers.audio_utils, against which tests/golden/media checks. */
#include "media/mel.h"

#include "base/num.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FACTORS_MAX 16

struct complex_number {
    double re, im;
};

struct band {
    uint32_t first, count;
    size_t weights; /* index of the first one */
};

struct mel {
    struct mel_settings set;
    uint32_t factors[FACTORS_MAX];
    struct complex_number *turns; /* fft: exp(-2 pi i k / fft); owned */
    double *window;               /* frame; owned */
    struct band *bands;           /* owned */
    double *weights;              /* owned */
};

static double to_mel(enum mel_scale scale, double hz)
{
    if (scale == MEL_KALDI)
        return 1127.0 * log(1.0 + hz / 700.0);
    return hz < 1000.0 ? 3.0 * hz / 200.0 : 15.0 + log(hz / 1000.0) * (27.0 / log(6.4));
}

static double to_hz(enum mel_scale scale, double mel)
{
    if (scale == MEL_KALDI)
        return 700.0 * (exp(mel / 1127.0) - 1.0);
    return mel < 15.0 ? 200.0 * mel / 3.0 : 1000.0 * exp((log(6.4) / 27.0) * (mel - 15.0));
}

/* The place of a bin on the axis on which the triangles are straight. */
static double bin_place(const struct mel_settings *s, uint32_t bin)
{
    if (s->scale == MEL_KALDI)
        return to_mel(s->scale, (double)s->rate / s->fft * bin);
    return (double)(s->rate / 2) / (s->fft / 2) * bin;
}

/* The corner points: band b rises from corner b to b+1 and falls to b+2. */
static double corner(const struct mel_settings *s, uint32_t i)
{
    double low = to_mel(s->scale, s->f_min), high = to_mel(s->scale, s->f_max);
    double mel = low + (high - low) / (s->bands + 1) * i;
    return s->scale == MEL_KALDI ? mel : to_hz(s->scale, mel);
}

/* Weights of band b over all bins into row; returns the first and one past the last that is not 0. */
static void band_row(const struct mel_settings *s, uint32_t b, double *row, uint32_t *first,
                     uint32_t *end)
{
    double left = corner(s, b), middle = corner(s, b + 1), right = corner(s, b + 2);
    double height = s->scale == MEL_SLANEY ? 2.0 / (right - left) : 1.0;
    *first = *end = 0;
    for (uint32_t k = 0; k <= s->fft / 2; k++) {
        double x = bin_place(s, k);
        double w = fmin((x - left) / (middle - left), (right - x) / (right - middle));
        row[k] = w > 0.0 ? w * height : 0.0;
        if (w > 0.0) {
            *first = *end ? *first : k;
            *end = k + 1;
        }
    }
}

static bool make_bands(struct mel *m, struct err *e)
{
    const struct mel_settings *s = &m->set;
    size_t bins = s->fft / 2 + 1, used = 0;
    double *row = malloc(bins * sizeof(*row));
    m->bands = calloc(s->bands, sizeof(*m->bands));
    bool ok = row && m->bands;
    for (uint32_t b = 0; ok && b < s->bands; b++) {
        uint32_t first, end;
        band_row(s, b, row, &first, &end);
        size_t count = end - first;
        double *grown = realloc(m->weights, (used + count + 1) * sizeof(*grown));
        if (!grown) {
            ok = false;
            break;
        }
        m->weights = grown;
        memcpy(grown + used, row + first, count * sizeof(*grown));
        m->bands[b] = (struct band){first, (uint32_t)count, used};
        used += count;
    }
    free(row);
    return ok || err_set(e, ERR_MEMORY, "log-mel: no memory for %u bands", s->bands);
}

static bool make_tables(struct mel *m, struct err *e)
{
    const struct mel_settings *s = &m->set;
    m->turns = malloc(s->fft * sizeof(*m->turns));
    m->window = malloc(s->frame * sizeof(*m->window));
    if (!m->turns || !m->window)
        return err_set(e, ERR_MEMORY, "log-mel: no memory for a length of %u", s->fft);
    for (uint32_t k = 0; k < s->fft; k++) {
        double angle = -2.0 * M_PI * k / s->fft;
        m->turns[k] = (struct complex_number){cos(angle), sin(angle)};
    }
    double steps = s->periodic ? s->frame : s->frame - 1;
    for (uint32_t k = 0; k < s->frame; k++)
        m->window[k] = 0.5 - 0.5 * cos(2.0 * M_PI * k / steps);
    return true;
}

/* The prime factors of the length, smallest first. */
static bool factorize(struct mel *m, struct err *e)
{
    uint32_t left = m->set.fft, n = 0;
    for (uint32_t p = 2; p <= MEL_PRIME_MAX && left > 1; p++)
        while (left % p == 0 && n < FACTORS_MAX) {
            m->factors[n++] = p;
            left /= p;
        }
    if (left > 1)
        return err_set(e, ERR_UNSUPPORTED,
                       "log-mel: Fourier length %u has a prime factor over the limit of %u",
                       m->set.fft, MEL_PRIME_MAX);
    return true;
}

static bool check(const struct mel_settings *s, struct err *e)
{
    if (s->fft < 4 || s->fft > MEL_FFT_MAX || s->fft % 2)
        return err_set(e, ERR_UNSUPPORTED,
                       "log-mel: Fourier length %u, should be even, from 4 to %u", s->fft,
                       MEL_FFT_MAX);
    if (s->frame < 2 || s->frame > s->fft)
        return err_set(e, ERR_INVALID, "log-mel: frame of %u samples, should be from 2 to %u",
                       s->frame, s->fft);
    if (s->hop < 1 || s->hop > s->fft)
        return err_set(e, ERR_INVALID, "log-mel: hop of %u samples, should be from 1 to %u", s->hop,
                       s->fft);
    if (s->bands < 1 || s->bands > MEL_BANDS_MAX)
        return err_set(e, ERR_INVALID, "log-mel: %u bands, should be from 1 to %u", s->bands,
                       MEL_BANDS_MAX);
    if (s->rate < 2 || !(s->f_min >= 0.0 && s->f_min < s->f_max && s->f_max <= 1e6) ||
        !(s->floor > 0.0))
        return err_set(e, ERR_INVALID, "log-mel: bands from %g to %g Hz at a rate of %u, floor %g",
                       s->f_min, s->f_max, s->rate, s->floor);
    return true;
}

bool mel_create(const struct mel_settings *s, struct mel **ret, struct err *e)
{
    if (!check(s, e))
        return false;
    struct mel *m = calloc(1, sizeof(*m));
    if (!m)
        return err_set(e, ERR_MEMORY, "log-mel: no memory");
    m->set = *s;
    if (!factorize(m, e) || !make_tables(m, e) || !make_bands(m, e)) {
        mel_destroy(m);
        return false;
    }
    *ret = m;
    return true;
}

void mel_destroy(struct mel *m)
{
    if (!m)
        return;
    free(m->turns);
    free(m->window);
    free(m->bands);
    free(m->weights);
    free(m);
}

size_t mel_frames(const struct mel *m, size_t count)
{
    const struct mel_settings *s = &m->set;
    size_t length = count + (s->centered ? s->frame / 2 * 2 : 0);
    return length < s->frame ? 0 : 1 + (length - s->frame) / s->hop;
}

/* out[0..n) = transform of in[0], in[stride], ...; n = product of the factors from level on, and
 * n x stride is the whole length. */
static void transform(const struct mel *m, const double *in, size_t stride,
                      struct complex_number *out, size_t n, size_t level)
{
    if (n == 1) {
        out[0] = (struct complex_number){in[0], 0.0};
        return;
    }
    size_t p = m->factors[level], part = n / p, whole = m->set.fft;
    struct complex_number t[MEL_PRIME_MAX];
    for (size_t q = 0; q < p; q++)
        transform(m, in + q * stride, stride * p, out + q * part, part, level + 1);
    for (size_t k = 0; k < part; k++) {
        for (size_t q = 0; q < p; q++)
            t[q] = out[q * part + k];
        for (size_t r = 0; r < p; r++) {
            struct complex_number sum = t[0];
            size_t step = (k + r * part) * stride, turn = 0;
            for (size_t q = 1; q < p; q++) {
                turn += step; /* step < whole, so one subtraction is enough */
                turn -= turn >= whole ? whole : 0;
                struct complex_number w = m->turns[turn];
                sum.re += t[q].re * w.re - t[q].im * w.im;
                sum.im += t[q].re * w.im + t[q].im * w.re;
            }
            out[k + r * part] = sum;
        }
    }
}

/* The sample at place i, which may lie before the first or after the last: mirrored there. */
static double sample_at(const float *samples, size_t count, int64_t i)
{
    int64_t last = (int64_t)count - 1;
    if (i < 0)
        i = -i;
    if (i > last)
        i = 2 * last - i;
    return (double)samples[i];
}

static void cut_frame(const struct mel *m, const float *samples, size_t count, size_t k,
                      double *buffer)
{
    const struct mel_settings *s = &m->set;
    int64_t start = (int64_t)(k * s->hop) - (s->centered ? s->frame / 2 : 0);
    double sum = 0.0;
    for (uint32_t i = 0; i < s->frame; i++)
        sum += buffer[i] = sample_at(samples, count, start + i);
    double mean = s->remove_mean ? sum / s->frame : 0.0;
    for (uint32_t i = 0; i < s->frame; i++)
        buffer[i] -= mean;
    if (s->preemphasis != 0.0) {
        for (uint32_t i = s->frame; i-- > 1;)
            buffer[i] -= s->preemphasis * buffer[i - 1];
        buffer[0] *= 1.0 - s->preemphasis;
    }
    for (uint32_t i = 0; i < s->frame; i++)
        buffer[i] *= m->window[i];
}

static void band_logs(const struct mel *m, const double *power, float *ret)
{
    for (uint32_t b = 0; b < m->set.bands; b++) {
        const struct band *band = &m->bands[b];
        const double *w = m->weights + band->weights;
        double sum = 0.0;
        for (uint32_t k = 0; k < band->count; k++)
            sum += w[k] * power[band->first + k];
        sum = sum > m->set.floor ? sum : m->set.floor;
        ret[b] = (float)(m->set.log == MEL_LOG10 ? log10(sum) : log(sum));
    }
}

static bool check_run(const struct mel *m, size_t count, size_t frames, struct err *e)
{
    if (frames > MEL_WORK_MAX / m->set.fft)
        return err_set(e, ERR_TOO_LARGE, "log-mel: %zu frames, the limit is %zu at a length of %u",
                       frames, MEL_WORK_MAX / m->set.fft, m->set.fft);
    if (frames > mel_frames(m, count) || (m->set.centered && frames && count <= m->set.frame / 2))
        return err_set(e, ERR_INVALID, "log-mel: %zu samples are too few for %zu frames of %u",
                       count, frames, m->set.frame);
    return true;
}

bool mel_run(const struct mel *m, const float *samples, size_t count, size_t frames, float *ret,
             struct err *e)
{
    const struct mel_settings *s = &m->set;
    size_t bins = s->fft / 2 + 1;
    if (!check_run(m, count, frames, e))
        return false;
    double *buffer = calloc(s->fft, sizeof(*buffer)), *power = malloc(bins * sizeof(*power));
    struct complex_number *spectrum = malloc(s->fft * sizeof(*spectrum));
    bool ok = buffer && power && spectrum;
    for (size_t k = 0; ok && k < frames; k++) {
        cut_frame(m, samples, count, k, buffer);
        transform(m, buffer, 1, spectrum, s->fft, 0);
        for (size_t i = 0; i < bins; i++) {
            double re = (double)(float)spectrum[i].re, im = (double)(float)spectrum[i].im;
            power[i] = re * re + im * im;
        }
        band_logs(m, power, ret + k * s->bands);
    }
    free(buffer);
    free(power);
    free(spectrum);
    return ok || err_set(e, ERR_MEMORY, "log-mel: no memory for a frame of %u", s->fft);
}
