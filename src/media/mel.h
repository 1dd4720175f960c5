/* mel.h - log-mel spectrograms as transformers.audio_utils.spectrogram computes them: frames of
 * the samples, each windowed, its power spectrum, weighted sums of it over triangular bands, and
 * their logarithm.
 *
 * Arithmetic: float64 throughout, but the spectrum is rounded to float32 before its power is taken
 * and so is the result; sums may be in another order than numpy's, so results agree within 1e-5.
 *
 * Ownership: mel_destroy() frees.  Threads: immutable after creation, any thread. */
#pragma once
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define MEL_BANDS_MAX 512u
#define MEL_FFT_MAX 8192u
#define MEL_PRIME_MAX 13u /* largest prime factor of an FFT length */
/* frames x FFT length of one run: bounds its time (a second or two) */
#define MEL_WORK_MAX ((size_t)1 << 26)

enum mel_scale {
    MEL_SLANEY, /* linear up to 1 kHz, then logarithmic; bands of equal area */
    MEL_KALDI   /* 1127 ln(1 + f/700); triangles in mel, not in Hz; bands of equal height */
};

enum mel_log { MEL_LOG10, MEL_LN };

struct mel_settings {
    uint32_t rate;       /* samples per second */
    uint32_t frame, hop; /* samples */
    uint32_t fft;        /* at least frame; the frame is followed by zeros */
    uint32_t bands;
    double f_min, f_max; /* Hz */
    enum mel_scale scale;
    enum mel_log log;
    double floor;       /* of a band's power, before the logarithm; over 0 */
    bool periodic;      /* Hann window as for frame + 1 samples, without its last one */
    bool centered;      /* frame k lies around sample k*hop; the ends are mirrored */
    bool remove_mean;   /* of each frame, before the next step */
    double preemphasis; /* 0: none */
};

struct mel;

/* ERR_INVALID or ERR_UNSUPPORTED with the setting that is out of bounds. */
bool mel_create(const struct mel_settings *s, struct mel **ret, struct err *e);
void mel_destroy(struct mel *m); /* m may be NULL */

/* How many frames `count` samples give; may be 0. */
size_t mel_frames(const struct mel *m, size_t count);

/* The first `frames` frames (at most mel_frames()) into ret (frames, bands).  A centred one needs
 * more samples than half a frame. */
bool mel_run(const struct mel *m, const float *samples, size_t count, size_t frames, float *ret,
             struct err *e);
