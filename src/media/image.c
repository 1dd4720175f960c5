/* image.c - decoding of compressed pictures to 8-bit RGB.
 *
 * The content's first bytes choose the decoder; each decoder reads the head, checks the limits,
 * and only then takes memory for the pixels.  What is done after the library: 16-bit grey PNG is
 * clipped to 255 and CMYK is converted by the arithmetic that Pillow's convert("RGB") has.
 *
 * Not here: resizing and cropping (image_scale.c), EXIF orientation (see image.h).
 *
 * Unresolved: TurboJPEG's interface refuses JPEG files with sampling factors outside its list; they
 * are reported as broken. */
#include "media/image.h"

#include "base/num.h"

#include <spng.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>
#include <webp/decode.h>

#define PNG_CHUNK_MAX ((size_t)16 << 20) /* bytes of one chunk other than pixels, decompressed */
#define PNG_CACHE_MAX ((size_t)32 << 20) /* bytes of all of them */

struct format {
    const char *name;
    bool (*is)(const uint8_t *data, size_t size);
    bool (*probe)(const uint8_t *data, size_t size, uint32_t *w, uint32_t *h, struct err *e);
    /* pixels: w x h x 3 bytes, filled */
    bool (*decode)(const uint8_t *data, size_t size, uint32_t w, uint32_t h, uint8_t *pixels,
                   struct err *e);
};

static uint8_t mul_255(unsigned a, unsigned b) /* a*b/255, rounded, for a and b up to 255 */
{
    unsigned t = a * b + 128;
    return (uint8_t)(((t >> 8) + t) >> 8);
}

/* ---- JPEG ---- */

static bool jpeg_is(const uint8_t *data, size_t size)
{
    return size >= 3 && data[0] == 0xFF && data[1] == 0xD8 && data[2] == 0xFF;
}

static bool jpeg_failed(tjhandle h, struct err *e)
{
    return err_set(e, ERR_INVALID, "JPEG: %s", tjGetErrorStr2(h));
}

static bool jpeg_head(tjhandle h, const uint8_t *data, size_t size, int *ret_w, int *ret_h,
                      int *ret_space, struct err *e)
{
    int sub;
    if (!h)
        return err_set(e, ERR_MEMORY, "JPEG: no memory for a decoder");
    *ret_w = *ret_h = 0; /* a file of tables only is read without error and sets nothing */
    *ret_space = -1;
    if (tjDecompressHeader3(h, data, size, ret_w, ret_h, &sub, ret_space) != 0)
        return jpeg_failed(h, e);
    if (*ret_w <= 0 || *ret_h <= 0)
        return err_set(e, ERR_INVALID, "JPEG: no picture in it, or one of %d x %d", *ret_w, *ret_h);
    return true;
}

static bool jpeg_probe(const uint8_t *data, size_t size, uint32_t *w, uint32_t *h, struct err *e)
{
    int width, height, space;
    tjhandle tj = tjInitDecompress();
    bool ok = jpeg_head(tj, data, size, &width, &height, &space, e);
    if (ok) {
        *w = (uint32_t)width;
        *h = (uint32_t)height;
    }
    if (tj)
        tjDestroy(tj);
    return ok;
}

/* A warning is an error (cut off, damaged), but for stray bytes between two segments: some cameras
 * write them and every reader skips them.  TurboJPEG tells warnings apart by text only. */
static bool jpeg_pixels(tjhandle tj, const uint8_t *data, size_t size, uint8_t *out, int w, int h,
                        int format, struct err *e)
{
    int flags = TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS;
    if (tjDecompress2(tj, data, size, out, w, 0, h, format, flags) == 0)
        return true;
    if (tjGetErrorCode(tj) == TJERR_WARNING &&
        strstr(tjGetErrorStr2(tj), "extraneous bytes before marker"))
        return true;
    return jpeg_failed(tj, e);
}

/* Four channels are stored inverted, as Adobe's programs do; Pillow takes that for granted. */
static bool jpeg_cmyk(tjhandle tj, const uint8_t *data, size_t size, int w, int h, uint8_t *pixels,
                      struct err *e)
{
    size_t count = (size_t)w * (size_t)h;
    uint8_t *cmyk = malloc(count * 4);
    if (!cmyk)
        return err_set(e, ERR_MEMORY, "JPEG: no memory for %d x %d", w, h);
    bool ok = jpeg_pixels(tj, data, size, cmyk, w, h, TJPF_CMYK, e);
    for (size_t i = 0; ok && i < count; i++) {
        unsigned k = cmyk[4 * i + 3];
        for (size_t c = 0; c < 3; c++)
            pixels[3 * i + c] = (uint8_t)(k - mul_255(255u - cmyk[4 * i + c], k));
    }
    free(cmyk);
    return ok;
}

static bool jpeg_decode(const uint8_t *data, size_t size, uint32_t w, uint32_t h, uint8_t *pixels,
                        struct err *e)
{
    int width, height, space;
    tjhandle tj = tjInitDecompress();
    bool ok = jpeg_head(tj, data, size, &width, &height, &space, e);
    if (ok && ((uint32_t)width != w || (uint32_t)height != h))
        ok = err_set(e, ERR_INTERNAL, "JPEG: the size changed between two looks");
    if (ok && (space == TJCS_CMYK || space == TJCS_YCCK))
        ok = jpeg_cmyk(tj, data, size, width, height, pixels, e);
    else if (ok)
        ok = jpeg_pixels(tj, data, size, pixels, width, height, TJPF_RGB, e);
    if (tj)
        tjDestroy(tj);
    return ok;
}

/* ---- PNG ---- */

static bool png_is(const uint8_t *data, size_t size)
{
    return size >= 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0;
}

static bool png_failed(int code, struct err *e)
{
    if (code == SPNG_EMEM)
        return err_set(e, ERR_MEMORY, "PNG: no memory");
    if (code == SPNG_EUSER_WIDTH || code == SPNG_EUSER_HEIGHT)
        return err_set(e, ERR_TOO_LARGE, "PNG: a side is over the limit of %u pixels",
                       IMAGE_SIDE_MAX);
    return err_set(e, ERR_INVALID, "PNG: %s", spng_strerror(code));
}

static bool png_open(const uint8_t *data, size_t size, spng_ctx **ret, struct spng_ihdr *ret_head,
                     struct err *e)
{
    spng_ctx *ctx = spng_ctx_new(0);
    if (!ctx)
        return err_set(e, ERR_MEMORY, "PNG: no memory for a decoder");
    int code = spng_set_image_limits(ctx, IMAGE_SIDE_MAX, IMAGE_SIDE_MAX);
    if (!code)
        code = spng_set_chunk_limits(ctx, PNG_CHUNK_MAX, PNG_CACHE_MAX);
    if (!code)
        code = spng_set_png_buffer(ctx, data, size);
    if (!code)
        code = spng_get_ihdr(ctx, ret_head);
    if (code) {
        spng_ctx_free(ctx);
        return png_failed(code, e);
    }
    *ret = ctx;
    return true;
}

static bool png_probe(const uint8_t *data, size_t size, uint32_t *w, uint32_t *h, struct err *e)
{
    spng_ctx *ctx;
    struct spng_ihdr head;
    if (!png_open(data, size, &ctx, &head, e))
        return false;
    *w = head.width;
    *h = head.height;
    spng_ctx_free(ctx);
    return true;
}

/* 16-bit grey, in place: two bytes, high first, become three equal ones.  The buffer has three
 * bytes a pixel, the samples fill its first two thirds, so the walk goes from the end. */
static void png_spread_grey16(uint8_t *pixels, size_t count)
{
    for (size_t i = count; i-- > 0;) {
        uint8_t v = pixels[2 * i] ? 255 : pixels[2 * i + 1];
        memset(pixels + 3 * i, v, 3);
    }
}

static bool png_decode(const uint8_t *data, size_t size, uint32_t w, uint32_t h, uint8_t *pixels,
                       struct err *e)
{
    spng_ctx *ctx;
    struct spng_ihdr head;
    if (!png_open(data, size, &ctx, &head, e))
        return false;
    bool grey16 = head.color_type == SPNG_COLOR_TYPE_GRAYSCALE && head.bit_depth == 16;
    size_t count = (size_t)w * h, length = 0;
    int format = grey16 ? SPNG_FMT_RAW : SPNG_FMT_RGB8;
    int code = spng_decoded_image_size(ctx, format, &length);
    bool ok = code == 0 || png_failed(code, e);
    if (ok && length != count * (grey16 ? 2 : 3))
        ok = err_set(e, ERR_INTERNAL, "PNG: %u x %u pixels in %zu bytes", w, h, length);
    if (ok && (code = spng_decode_image(ctx, pixels, length, format, 0)) != 0)
        ok = png_failed(code, e);
    if (ok && grey16)
        png_spread_grey16(pixels, count);
    spng_ctx_free(ctx);
    return ok;
}

/* ---- WebP ---- */

static bool webp_is(const uint8_t *data, size_t size)
{
    return size >= 12 && memcmp(data, "RIFF", 4) == 0 && memcmp(data + 8, "WEBP", 4) == 0;
}

static bool webp_probe(const uint8_t *data, size_t size, uint32_t *w, uint32_t *h, struct err *e)
{
    WebPBitstreamFeatures f;
    if (WebPGetFeatures(data, size, &f) != VP8_STATUS_OK || f.width <= 0 || f.height <= 0)
        return err_set(e, ERR_INVALID, "WebP: the head is broken or cut off");
    if (f.has_animation)
        return err_set(e, ERR_UNSUPPORTED, "WebP: an animation, only stills are read");
    *w = (uint32_t)f.width;
    *h = (uint32_t)f.height;
    return true;
}

static bool webp_decode(const uint8_t *data, size_t size, uint32_t w, uint32_t h, uint8_t *pixels,
                        struct err *e)
{
    size_t length = (size_t)w * h * 3;
    if (!WebPDecodeRGBInto(data, size, pixels, length, (int)(w * 3)))
        return err_set(e, ERR_INVALID, "WebP: the pixels are broken or cut off");
    return true;
}

/* ---- all ---- */

static const struct format formats[] = {
    {"JPEG", jpeg_is, jpeg_probe, jpeg_decode},
    {"PNG", png_is, png_probe, png_decode},
    {"WebP", webp_is, webp_probe, webp_decode},
};

static const struct format *format_of(const void *data, size_t size, struct err *e)
{
    if (size > IMAGE_FILE_MAX) {
        err_set(e, ERR_TOO_LARGE, "image: %zu bytes, more than the limit of %zu", size,
                IMAGE_FILE_MAX);
        return NULL;
    }
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        if (formats[i].is(data, size))
            return &formats[i];
    err_set(e, ERR_MEDIA_TYPE, "image: %zu bytes that are neither JPEG, PNG nor WebP", size);
    return NULL;
}

static bool head(const struct format *f, const void *data, size_t size, uint32_t *w, uint32_t *h,
                 struct err *e)
{
    if (!f->probe(data, size, w, h, e))
        return false;
    if (*w > IMAGE_SIDE_MAX || *h > IMAGE_SIDE_MAX || (size_t)*w * *h > IMAGE_PIXELS_MAX)
        return err_set(e, ERR_TOO_LARGE, "%s: %u x %u pixels, limits are %u a side and %zu in all",
                       f->name, *w, *h, IMAGE_SIDE_MAX, IMAGE_PIXELS_MAX);
    return true;
}

bool image_probe(const void *data, size_t size, uint32_t *ret_width, uint32_t *ret_height,
                 struct err *e)
{
    uint32_t w, h;
    const struct format *f = format_of(data, size, e);
    if (!f || !head(f, data, size, &w, &h, e))
        return false;
    *ret_width = w;
    *ret_height = h;
    return true;
}

bool image_decode(const void *data, size_t size, struct image *ret, struct err *e)
{
    uint32_t w, h;
    const struct format *f = format_of(data, size, e);
    if (!f || !head(f, data, size, &w, &h, e))
        return false;
    uint8_t *pixels = malloc((size_t)w * h * 3);
    if (!pixels)
        return err_set(e, ERR_MEMORY, "%s: no memory for %u x %u pixels", f->name, w, h);
    if (!f->decode(data, size, w, h, pixels, e)) {
        free(pixels);
        return false;
    }
    *ret = (struct image){.width = w, .height = h, .pixels = pixels};
    return true;
}

void image_clear(struct image *i)
{
    free(i->pixels);
    *i = (struct image){0};
}
