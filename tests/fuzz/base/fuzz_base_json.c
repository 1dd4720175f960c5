/* Any text as JSON, then read by name: refused or taken, never a crash. */
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    const char *s;
    uint64_t n;
    double f;
    json_t *list, *o = json_parse("input", (const char *)data, size, &e);
    if (!o)
        return 0;
    (void)json_need_str(o, "o", "a", &s, &e);
    (void)json_need_u64(o, "o", "a", 100, &n, &e);
    (void)json_need_num(o, "o", "a", 0, 1, &f, &e);
    (void)json_need_array(o, "o", "a", 3, &list, &e);
    json_decref(o);
    return 0;
}
