/* fuzz_image.c - pictures as they come from clients: decoded, resized and cropped. */
#include "media/image.h"

#define FUZZ_PIXELS_MAX 1000000u /* keeps one run short; the program's limit is tested elsewhere */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    struct image i, small, crop;
    uint32_t w, h;
    if (!image_probe(data, size, &w, &h, &e) || (size_t)w * h > FUZZ_PIXELS_MAX)
        return 0;
    if (!image_decode(data, size, &i, &e))
        return 0;
    uint32_t side = data[size / 2] % 40u + 1u;
    enum image_filter filter = (enum image_filter)(data[size - 1] % IMAGE_FILTER_COUNT);
    if (image_resize(&i, side, side + 3, filter, &small, &e)) {
        if (image_center_crop(&small, side + 2, side, &crop, &e))
            image_clear(&crop);
        image_clear(&small);
    }
    image_clear(&i);
    return 0;
}
