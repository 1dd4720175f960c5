/* Any body as a call, an answer, a delivery: refused or taken, never a crash or a leak. */
#include "wire/call.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mem *body = mem_new(size);
    struct call *c = calloc(1, sizeof(*c));
    struct call_answer *a = calloc(1, sizeof(*a));
    struct delivery d;
    struct err e;
    if (body && c && a) {
        if (size)
            memcpy(mem_data(body), data, size);
        if (call_read(body, c, &e))
            call_clear(c);
        if (call_answer_read(body, a, &e))
            call_answer_clear(a);
        if (delivery_read(body, &d, &e))
            delivery_clear(&d);
    }
    mem_unref(body);
    free(c);
    free(a);
    return 0;
}
