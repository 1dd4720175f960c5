/* test_image.c - decoding, resizing and cropping give Pillow's bits (tests/golden/media), broken
 * and hostile content gives errors. */
#include "base/digest.h"
#include "libmedia.h"
#include "media/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect(const struct image *i, const json_t *row)
{
    assert_int_equal(i->width, media_number(row, "width"));
    assert_int_equal(i->height, media_number(row, "height"));
    struct digest d = digest_of(i->pixels, (size_t)i->width * i->height * 3);
    if (strcmp(d.hex, media_text(row, "sha256")) != 0) {
        char *text = json_text(row);
        print_error("differs, first pixel %d %d %d: %s\n", i->pixels[0], i->pixels[1], i->pixels[2],
                    text);
        free(text);
        fail();
    }
}

static struct image decode_row(const json_t *row)
{
    struct err e;
    struct image i = {0};
    size_t size;
    char *data = media_load_input(row, &size);
    if (!image_decode(data, size, &i, &e))
        fail_msg("%s: %s", media_text(row, "file"), e.text);
    free(data);
    return i;
}

static void decodes_like_pillow(void **state)
{
    (void)state;
    json_t *root = media_golden("image.json"), *rows = json_object_get(root, "decode"), *row;
    size_t k;
    assert_true(json_array_size(rows) > 20);
    json_array_foreach(rows, k, row)
    {
        struct image i = decode_row(row);
        expect(&i, row);
        image_clear(&i);
    }
    json_decref(root);
}

/* src repeated across and down. */
static void tile(struct image *i, uint32_t across, uint32_t down)
{
    struct image t = {.width = i->width * across, .height = i->height * down};
    t.pixels = malloc((size_t)t.width * t.height * 3);
    assert_non_null(t.pixels);
    for (size_t y = 0; y < t.height; y++)
        for (size_t x = 0; x < across; x++)
            memcpy(t.pixels + (y * t.width + x * i->width) * 3,
                   i->pixels + y % i->height * i->width * 3, (size_t)i->width * 3);
    image_clear(i);
    *i = t;
}

static void resizes_like_pillow(void **state)
{
    (void)state;
    json_t *root = media_golden("image.json"), *rows = json_object_get(root, "resize"), *row;
    size_t k;
    assert_true(json_array_size(rows) > 80);
    json_array_foreach(rows, k, row)
    {
        struct image i = decode_row(row), out;
        json_t *tiles = json_object_get(row, "tile");
        if (tiles)
            tile(&i, (uint32_t)json_integer_value(json_array_get(tiles, 0)),
                 (uint32_t)json_integer_value(json_array_get(tiles, 1)));
        assert_true(image_resize(&i, media_number(row, "width"), media_number(row, "height"),
                                 (enum image_filter)media_number(row, "filter"), &out, NULL));
        expect(&out, row);
        image_clear(&i);
        image_clear(&out);
    }
    json_decref(root);
}

static void resize_refuses(void **state)
{
    (void)state;
    struct err e;
    uint8_t pixels[3 * 4] = {0};
    struct image src = {.width = 2, .height = 2, .pixels = pixels}, out;
    assert_false(image_resize(&src, 0, 5, IMAGE_BICUBIC, &out, &e));
    assert_int_equal(e.code, ERR_INVALID);
    assert_false(image_resize(&src, IMAGE_SIDE_MAX + 1, 5, IMAGE_BICUBIC, &out, &e));
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_false(image_resize(&src, 60000, 60000, IMAGE_NEAREST, &out, &e));
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_false(image_resize(&src, 5, 5, IMAGE_FILTER_COUNT, &out, &e));
    assert_int_equal(e.code, ERR_UNSUPPORTED);
    assert_false(image_center_crop(&src, 3, 0, &out, &e));
    assert_int_equal(e.code, ERR_INVALID);
}

/* Odd differences: the surplus is cut with the smaller half first, the lack padded with the
 * greater half first. */
static void crops_and_pads(void **state)
{
    (void)state;
    uint8_t pixels[4 * 1 * 3];
    for (size_t i = 0; i < sizeof(pixels); i++)
        pixels[i] = (uint8_t)(10 + i);
    struct image src = {.width = 4, .height = 1, .pixels = pixels}, out;
    assert_true(image_center_crop(&src, 1, 4, &out, NULL));
    assert_int_equal(out.width, 1);
    assert_int_equal(out.height, 4);
    const uint8_t want[12] = {0, 0, 0, 0, 0, 0, 13, 14, 15, 0, 0, 0};
    assert_memory_equal(out.pixels, want, sizeof(want));
    image_clear(&out);
}

static void truncated_is_an_error(void **state)
{
    (void)state;
    struct err e;
    json_t *root = media_golden("image.json"), *rows = json_object_get(root, "decode"), *row;
    size_t k;
    json_array_foreach(rows, k, row)
    {
        struct image i;
        size_t size;
        char *data = media_load_input(row, &size);
        const size_t lengths[] = {size * 3 / 4, size / 2, size / 5, 20};
        for (size_t n = 0; n < sizeof(lengths) / sizeof(*lengths); n++) {
            assert_false(image_decode(data, lengths[n], &i, &e));
            if (e.code != ERR_INVALID)
                fail_msg("%s, %zu bytes of %zu: %s", media_text(row, "file"), lengths[n], size,
                         e.text);
        }
        free(data);
    }
    json_decref(root);
}

static void other_content_is_named(void **state)
{
    (void)state;
    struct err e;
    struct image i;
    uint32_t w, h;
    assert_false(image_decode("GIF89a and more", 15, &i, &e));
    assert_int_equal(e.code, ERR_MEDIA_TYPE);
    assert_false(image_decode("", 0, &i, &e));
    assert_int_equal(e.code, ERR_MEDIA_TYPE);
    assert_false(image_probe("\xFF\xD8", 2, &w, &h, &e));
    assert_int_equal(e.code, ERR_MEDIA_TYPE);
    char *big = calloc(1, IMAGE_FILE_MAX + 1);
    assert_non_null(big);
    assert_false(image_decode(big, IMAGE_FILE_MAX + 1, &i, &e));
    assert_int_equal(e.code, ERR_TOO_LARGE);
    free(big);
}

/* A head that promises more pixels than the limit, in a file of a few bytes. */
static void bomb_is_refused_before_memory(void **state)
{
    (void)state;
    struct err e;
    struct image i;
    uint32_t w, h;
    /* IHDR 40000 x 40000, 8-bit RGB, with its checksum */
    static const uint8_t png[] = {0x89, 'P',  'N', 'G', 13,  10, 26, 10,   0,    0,    0,
                                  13,   'I',  'H', 'D', 'R', 0,  0,  0x9C, 0x40, 0,    0,
                                  0x9C, 0x40, 8,   2,   0,   0,  0,  0xDE, 0x6E, 0x99, 0x52};
    assert_false(image_decode(png, sizeof(png), &i, &e));
    if (e.code != ERR_TOO_LARGE)
        fail_msg("%s", e.text);
    assert_false(image_probe(png, sizeof(png), &w, &h, &e));
    size_t size;
    char *jpeg = media_load("in/rgb.jpg", &size);
    for (size_t k = 0; k + 9 < size; k++) /* SOF0: length 17, 8 bits, height, width */
        if (memcmp(jpeg + k, "\xFF\xC0\x00\x11\x08", 5) == 0)
            memset(jpeg + k + 5, 0xEE, 4);
    assert_false(image_decode(jpeg, size, &i, &e));
    assert_int_equal(e.code, ERR_TOO_LARGE);
    free(jpeg);
}

static void probe_reads_the_head(void **state)
{
    (void)state;
    json_t *root = media_golden("image.json"), *rows = json_object_get(root, "decode"), *row;
    size_t k;
    json_array_foreach(rows, k, row)
    {
        uint32_t w = 0, h = 0;
        size_t size;
        char *data = media_load_input(row, &size);
        assert_true(image_probe(data, size, &w, &h, NULL));
        assert_int_equal(w, media_number(row, "width"));
        assert_int_equal(h, media_number(row, "height"));
        free(data);
    }
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_like_pillow),
        cmocka_unit_test(resizes_like_pillow),
        cmocka_unit_test(resize_refuses),
        cmocka_unit_test(crops_and_pads),
        cmocka_unit_test(truncated_is_an_error),
        cmocka_unit_test(other_content_is_named),
        cmocka_unit_test(bomb_is_refused_before_memory),
        cmocka_unit_test(probe_reads_the_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
