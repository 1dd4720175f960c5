/* image.h - pictures as 8-bit RGB: decoding, resizing, cropping.
 *
 * Everything here gives the bits that Pillow 12 gives: decoding as Image.open().convert("RGB"),
 * resizing as Image.resize() (antialiased, fixed point), the centre crop as the image processors of
 * Hugging Face transformers do it.  For JPEG this holds where both use libjpeg-turbo's accurate
 * integer DCT and its smooth chroma upsampling; other libjpeg versions may differ by one step.
 * For 16-bit grey PNG it means: values over 255 are white (Pillow clips, it does not scale).
 * Alpha is dropped, not blended.  The EXIF orientation is not applied: neither does Pillow unless
 * it is asked to, nor do the image processors.
 *
 * Formats, told by content, never by name: JPEG (grey, YCbCr, RGB, CMYK, YCCK), PNG (all), WebP
 * (lossy and lossless stills; animations are ERR_UNSUPPORTED).
 *
 * Ownership: image_clear() frees the pixels.  Threads: no state, any thread.
 * Errors: ERR_MEDIA_TYPE for other content, ERR_INVALID for broken or truncated content,
 * ERR_TOO_LARGE over a limit below, checked before memory is taken. */
#pragma once
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define IMAGE_FILE_MAX ((size_t)64 << 20)   /* bytes of a compressed picture */
#define IMAGE_PIXELS_MAX ((size_t)64 << 20) /* width x height */
#define IMAGE_SIDE_MAX 65500u               /* pixels, what JPEG can */

struct image {
    uint32_t width, height; /* pixels, at least 1 */
    uint8_t *pixels;        /* height x width x 3, RGB, rows without gaps; owned */
};

/* The numbers are those of Pillow and of "resample" in a preprocessor_config.json. */
enum image_filter {
    IMAGE_NEAREST = 0,
    IMAGE_LANCZOS = 1,
    IMAGE_BILINEAR = 2,
    IMAGE_BICUBIC = 3,
    IMAGE_BOX = 4,
    IMAGE_HAMMING = 5,
    IMAGE_FILTER_COUNT
};

/* Width and height from the file's head, within the limits; little memory is used. */
bool image_probe(const void *data, size_t size, uint32_t *ret_width, uint32_t *ret_height,
                 struct err *e);

/* On failure *ret is untouched. */
bool image_decode(const void *data, size_t size, struct image *ret, struct err *e);

/* A new picture of width x height; *ret must not be src. */
bool image_resize(const struct image *src, uint32_t width, uint32_t height,
                  enum image_filter filter, struct image *ret, struct err *e);

/* A new picture of width x height from the middle of src, black where src is smaller. */
bool image_center_crop(const struct image *src, uint32_t width, uint32_t height, struct image *ret,
                       struct err *e);

void image_clear(struct image *i); /* of a zeroed or cleared one: nothing */
