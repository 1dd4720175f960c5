/* calibrate.c - how fast this machine multiplies, as a number to rank devices with.
 *
 * A plain blocked product of two 192 x 192 float matrices, repeated for a few tens of ms; the best
 * round counts, since other programs only ever make one slower.  ONNX Runtime's kernels are
 * faster by a factor that is about the same on machines of one kind; figures of modules are
 * measured where they run, this one only fills the gaps. */
#include "base/clock.h"
#include "node/internal.h"

#include <stdlib.h>

#define SIDE 192
#define ROUNDS_MS 40

static void multiply(const float *a, const float *b, float *c)
{
    for (int i = 0; i < SIDE; i++)
        for (int k = 0; k < SIDE; k++) {
            float x = a[i * SIDE + k];
            for (int j = 0; j < SIDE; j++)
                c[i * SIDE + j] += x * b[k * SIDE + j];
        }
}

double node_calibrate(int threads)
{
    float *m = calloc(3 * SIDE * SIDE, sizeof(*m));
    if (!m)
        return 1;
    for (int i = 0; i < 2 * SIDE * SIDE; i++)
        m[i] = (float)(i % 7) * 0.25f;
    double best = 1e9, flop = 2.0 * SIDE * SIDE * SIDE;
    for (int64_t end = clock_now_ns() + ROUNDS_MS * NS_PER_MS; clock_now_ns() < end;) {
        int64_t start = clock_now_ns();
        multiply(m, m + SIDE * SIDE, m + 2 * SIDE * SIDE);
        double ms = clock_ms_since(start);
        best = ms < best ? ms : best;
    }
    /* The sum is used, so that the loop is not thought away. */
    float keep = m[2 * SIDE * SIDE];
    free(m);
    return keep < 0 ? 1 : flop / (best * 1e6) * threads;
}
