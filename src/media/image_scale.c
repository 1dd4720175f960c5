/* image_scale.c - resizing and centre cropping of 8-bit RGB pictures.
 *
 * Resizing filters rows, then columns.  The weights of an output pixel are the filter's values at
 * the centres of the input pixels below it, stretched by the scale when the picture shrinks, made
 * to sum up to 1, and rounded to whole numbers of 2^-22; sums start at a half and are cut, so a
 * pixel is rounded once after each pass.  Only that order and that rounding give Pillow's bits.
 *
 * Source of the method: Pillow's documentation of its filters and the shape of its results; checked
 * bit by bit against it in tests/golden/media. */
#include "base/num.h"
#include "media/image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHT_BITS 22 /* 32 bits less 8 of the sample and 2 of room for the sum */

static double box_at(double x)
{
    return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
}

static double bilinear_at(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double hamming_at(double x)
{
    x = fabs(x);
    if (x == 0.0)
        return 1.0;
    if (x >= 1.0)
        return 0.0;
    x *= M_PI;
    return sin(x) / x * (0.54 + 0.46 * cos(x));
}

/* Keys' cubic with a = -0.5. */
static double bicubic_at(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0)
        return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

static double sinc(double x)
{
    if (x == 0.0)
        return 1.0;
    x *= M_PI;
    return sin(x) / x;
}

static double lanczos_at(double x)
{
    return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
}

static const struct kernel {
    double (*at)(double x);
    double support; /* 0 outside of -support..support */
} kernels[IMAGE_FILTER_COUNT] = {
    [IMAGE_LANCZOS] = {lanczos_at, 3.0}, [IMAGE_BILINEAR] = {bilinear_at, 1.0},
    [IMAGE_BICUBIC] = {bicubic_at, 2.0}, [IMAGE_BOX] = {box_at, 0.5},
    [IMAGE_HAMMING] = {hamming_at, 1.0},
};

/* For each output position the first input position, how many, and their weights. */
struct taps {
    struct {
        uint32_t first, count;
    } * at;           /* out; owned */
    int32_t *weights; /* out x stride; owned */
    size_t stride;
};

static void taps_clear(struct taps *t)
{
    free(t->at);
    free(t->weights);
}

static int32_t fixed(double w)
{
    double scaled = w * (1 << WEIGHT_BITS);
    return (int32_t)(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
}

/* row: room for t->stride values. */
static void taps_fill(struct taps *t, uint32_t o, uint32_t in, double scale, const struct kernel *k,
                      double *row)
{
    double stretch = scale < 1.0 ? 1.0 : scale;
    double support = k->support * stretch, inverse = 1.0 / stretch;
    double center = (o + 0.5) * scale;
    int first = (int)(center - support + 0.5), last = (int)(center + support + 0.5);
    if (first < 0)
        first = 0;
    if (last > (int)in)
        last = (int)in;
    int count = last > first ? last - first : 0;
    double sum = 0.0;
    for (int i = 0; i < count; i++) {
        row[i] = k->at((i + first - center + 0.5) * inverse);
        sum += row[i];
    }
    int32_t *weights = t->weights + o * t->stride;
    for (int i = 0; i < count; i++)
        weights[i] = fixed(sum != 0.0 ? row[i] / sum : row[i]);
    t->at[o].first = (uint32_t)first;
    t->at[o].count = (uint32_t)count;
}

static bool taps_make(uint32_t in, uint32_t out, const struct kernel *k, struct taps *ret,
                      struct err *e)
{
    double scale = (double)in / out;
    double support = k->support * (scale < 1.0 ? 1.0 : scale);
    struct taps t = {.stride = (size_t)ceil(support) * 2 + 1};
    double *row = malloc(t.stride * sizeof(*row));
    t.at = malloc(out * sizeof(*t.at));
    t.weights = malloc(out * t.stride * sizeof(*t.weights));
    bool ok = row && t.at && t.weights;
    for (uint32_t o = 0; ok && o < out; o++)
        taps_fill(&t, o, in, scale, k, row);
    free(row);
    if (!ok) {
        taps_clear(&t);
        return err_set(e, ERR_MEMORY, "resize: no memory for the weights from %u to %u", in, out);
    }
    *ret = t;
    return true;
}

static uint8_t cut(int32_t sum)
{
    int32_t v = sum >> WEIGHT_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void filter_rows(const struct image *src, struct image *dst, const struct taps *t)
{
    for (uint32_t y = 0; y < dst->height; y++) {
        const uint8_t *from = src->pixels + (size_t)y * src->width * 3;
        uint8_t *to = dst->pixels + (size_t)y * dst->width * 3;
        for (uint32_t x = 0; x < dst->width; x++) {
            const int32_t *w = t->weights + x * t->stride;
            const uint8_t *p = from + (size_t)t->at[x].first * 3;
            int32_t r = 1 << (WEIGHT_BITS - 1), g = r, b = r;
            for (uint32_t i = 0; i < t->at[x].count; i++, p += 3) {
                r += p[0] * w[i];
                g += p[1] * w[i];
                b += p[2] * w[i];
            }
            *to++ = cut(r);
            *to++ = cut(g);
            *to++ = cut(b);
        }
    }
}

static void filter_columns(const struct image *src, struct image *dst, const struct taps *t)
{
    size_t row = (size_t)src->width * 3;
    for (uint32_t y = 0; y < dst->height; y++) {
        const int32_t *w = t->weights + y * t->stride;
        const uint8_t *from = src->pixels + t->at[y].first * row;
        uint8_t *to = dst->pixels + y * row;
        for (size_t x = 0; x < row; x++) {
            int32_t sum = 1 << (WEIGHT_BITS - 1);
            for (uint32_t i = 0; i < t->at[y].count; i++)
                sum += from[i * row + x] * w[i];
            to[x] = cut(sum);
        }
    }
}

static bool image_new(uint32_t width, uint32_t height, struct image *ret, struct err *e)
{
    if (width == 0 || height == 0)
        return err_set(e, ERR_INVALID, "resize: %u x %u pixels, must be at least 1 x 1", width,
                       height);
    if (width > IMAGE_SIDE_MAX || height > IMAGE_SIDE_MAX ||
        (size_t)width * height > IMAGE_PIXELS_MAX)
        return err_set(e, ERR_TOO_LARGE,
                       "resize: %u x %u pixels, limits are %u a side and %zu in all", width, height,
                       IMAGE_SIDE_MAX, IMAGE_PIXELS_MAX);
    uint8_t *pixels = calloc((size_t)width * height, 3);
    if (!pixels)
        return err_set(e, ERR_MEMORY, "resize: no memory for %u x %u pixels", width, height);
    *ret = (struct image){.width = width, .height = height, .pixels = pixels};
    return true;
}

static bool copy(const struct image *src, struct image *ret, struct err *e)
{
    if (!image_new(src->width, src->height, ret, e))
        return false;
    memcpy(ret->pixels, src->pixels, (size_t)src->width * src->height * 3);
    return true;
}

static bool rows_resized(const struct image *src, uint32_t width, const struct kernel *k,
                         struct image *ret, struct err *e)
{
    struct taps t;
    struct image dst;
    if (width == src->width)
        return copy(src, ret, e);
    if (!taps_make(src->width, width, k, &t, e))
        return false;
    bool ok = image_new(width, src->height, &dst, e);
    if (ok) {
        filter_rows(src, &dst, &t);
        *ret = dst;
    }
    taps_clear(&t);
    return ok;
}

static bool columns_resized(const struct image *src, uint32_t height, const struct kernel *k,
                            struct image *ret, struct err *e)
{
    struct taps t;
    struct image dst;
    if (height == src->height)
        return copy(src, ret, e);
    if (!taps_make(src->height, height, k, &t, e))
        return false;
    bool ok = image_new(src->width, height, &dst, e);
    if (ok) {
        filter_columns(src, &dst, &t);
        *ret = dst;
    }
    taps_clear(&t);
    return ok;
}

/* The position is summed up step by step, not multiplied: the rounding of the sum decides which
 * neighbour is taken at exact halves. */
static uint32_t *nearest_places(uint32_t in, uint32_t out)
{
    uint32_t *place = malloc(out * sizeof(*place));
    double step = (double)in / out, at = step * 0.5;
    for (uint32_t o = 0; place && o < out; o++, at += step)
        place[o] = at < in ? (uint32_t)at : in - 1;
    return place;
}

static bool nearest(const struct image *src, uint32_t width, uint32_t height, struct image *ret,
                    struct err *e)
{
    struct image dst;
    if (!image_new(width, height, &dst, e))
        return false;
    uint32_t *xs = nearest_places(src->width, width), *ys = nearest_places(src->height, height);
    bool ok = xs && ys;
    for (uint32_t y = 0; ok && y < height; y++) {
        const uint8_t *from = src->pixels + (size_t)ys[y] * src->width * 3;
        uint8_t *to = dst.pixels + (size_t)y * width * 3;
        for (uint32_t x = 0; x < width; x++)
            memcpy(to + (size_t)x * 3, from + (size_t)xs[x] * 3, 3);
    }
    free(xs);
    free(ys);
    if (!ok) {
        image_clear(&dst);
        return err_set(e, ERR_MEMORY, "resize: no memory for %u x %u pixels", width, height);
    }
    *ret = dst;
    return true;
}

bool image_resize(const struct image *src, uint32_t width, uint32_t height,
                  enum image_filter filter, struct image *ret, struct err *e)
{
    struct image middle, dst;
    if ((unsigned)filter >= IMAGE_FILTER_COUNT)
        return err_set(e, ERR_UNSUPPORTED, "resize: filter %d, known are 0 to %d", (int)filter,
                       IMAGE_FILTER_COUNT - 1);
    if (width == src->width && height == src->height)
        return copy(src, ret, e);
    if (filter == IMAGE_NEAREST)
        return nearest(src, width, height, ret, e);
    /* The result is checked before work is done on the way to it. */
    if (!image_new(width, height, &dst, e))
        return false;
    image_clear(&dst);
    if (!rows_resized(src, width, &kernels[filter], &middle, e))
        return false;
    bool ok = columns_resized(&middle, height, &kernels[filter], &dst, e);
    image_clear(&middle);
    if (ok)
        *ret = dst;
    return ok;
}

/* Where the cut along one side lies: from `from` in the source and `to` in the result, n pixels.
 * What the source lacks is split with the greater half before it, what it has too much is split
 * with the smaller half before it, as transformers.image_transforms.center_crop does. */
static uint32_t crop_span(uint32_t have, uint32_t want, uint32_t *from, uint32_t *to)
{
    *from = have > want ? (have - want) / 2 : 0;
    *to = want > have ? (want - have) - (want - have) / 2 : 0;
    return have < want ? have : want;
}

bool image_center_crop(const struct image *src, uint32_t width, uint32_t height, struct image *ret,
                       struct err *e)
{
    struct image dst;
    uint32_t from_x, from_y, to_x, to_y;
    if (!image_new(width, height, &dst, e))
        return false;
    uint32_t w = crop_span(src->width, width, &from_x, &to_x);
    uint32_t h = crop_span(src->height, height, &from_y, &to_y);
    for (uint32_t y = 0; y < h; y++)
        memcpy(dst.pixels + ((size_t)(to_y + y) * width + to_x) * 3,
               src->pixels + ((size_t)(from_y + y) * src->width + from_x) * 3, (size_t)w * 3);
    *ret = dst;
    return true;
}
