/* Any JSON as an instance: refused with a text, or taken; never a crash or a leak. */
#include "plan/instance.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plan_instance *in;
    struct err e = {0};
    json_t *o = json_parse("input", (const char *)data, size, &e);
    if (!o)
        return 0;
    if (plan_instance_read(o, &in, &e))
        plan_instance_free(in);
    else if (e.code == ERR_NONE || e.text[0] == '\0')
        __builtin_trap();
    json_decref(o);
    return 0;
}
