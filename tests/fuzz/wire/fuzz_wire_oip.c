/* Any body as an inference request; the first two bytes give the size of the JSON. */
#include "wire/oip.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t json = (size_t)data[0] | (size_t)data[1] << 8;
    struct mem *body = mem_new(size - 2);
    struct oip_request *r = calloc(1, sizeof(*r));
    struct err e;
    if (body && r) {
        memcpy(mem_data(body), data + 2, size - 2);
        if (oip_request_read(body, json, r, &e))
            oip_request_clear(r);
    }
    mem_unref(body);
    free(r);
    return 0;
}
