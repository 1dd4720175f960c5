/* fuzz_program_json.c - programs from a routing table; what is taken comes back as it was. */
#include "task/program.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(const struct program *p)
{
    struct err e;
    json_t *o = program_to_json(p);
    struct program *q = o ? program_from_json(o, &e) : NULL;
    json_t *twice = q ? program_to_json(q) : NULL;
    if (!twice || !json_equal(o, twice))
        abort();
    json_decref(o);
    json_decref(twice);
    program_free(q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    json_t *o = json_parse("fuzz", (const char *)data, size, &e);
    struct program *p = o ? program_from_json(o, &e) : NULL;
    if (p)
        again(p);
    program_free(p);
    json_decref(o);
    return 0;
}
