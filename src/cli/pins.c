/* pins.c - see pins.h. */
#include "cli/pins.h"

#include <stdlib.h>
#include <string.h>

bool pins_add(json_t **pins, const char *text, struct err *e)
{
    const char *equals = strrchr(text, '=');
    if (!equals || equals == text || !equals[1])
        return err_set(e, ERR_INVALID, "--pin: '%.100s' is not MODULE=DEVICE", text);
    char *module = strndup(text, (size_t)(equals - text));
    if (!*pins)
        *pins = json_object();
    json_t *list = module ? json_object_get(*pins, module) : NULL;
    if (module && !list) {
        list = json_array();
        if (json_object_set_new(*pins, module, list) != 0)
            list = NULL;
    }
    bool ok = list && json_array_append_new(list, json_string(equals + 1)) == 0;
    free(module);
    return ok || err_set(e, ERR_INVALID, "--pin: '%.100s' is not UTF-8 text", text);
}

bool pins_of_args(const struct args *a, json_t **ret, struct err *e)
{
    const char *const *texts;
    int count = args_list(a, "pin", &texts);
    *ret = NULL;
    for (int i = 0; i < count; i++)
        if (!pins_add(ret, texts[i], e)) {
            json_decref(*ret);
            *ret = NULL;
            return false;
        }
    return true;
}
