/* json.c - jansson with checks. */
#include "base/json.h"

#include "base/file.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Depth of brackets outside strings, before jansson recurses over them. */
static bool depth_ok(const char *data, size_t size)
{
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        char c = data[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if ((c == '[' || c == '{') && ++depth > JSON_DEPTH_MAX) {
            return false;
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return true;
}

json_t *json_parse(const char *what, const char *data, size_t size, struct err *e)
{
    if (!depth_ok(data, size)) {
        err_set(e, ERR_INVALID, "%s: JSON nested deeper than %d", what, JSON_DEPTH_MAX);
        return NULL;
    }
    json_error_t error;
    json_t *root = json_loadb(data, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (!root)
        err_set(e, ERR_INVALID, "%s: not JSON at line %d, column %d: %s", what, error.line,
                error.column, error.text);
    return root;
}

json_t *json_parse_file(const char *path, size_t max, struct err *e)
{
    char *data;
    size_t size;
    if (!file_read(path, max, &data, &size, e))
        return NULL;
    json_t *root = json_parse(path, data, size, e);
    free(data);
    return root;
}

char *json_text(const json_t *value)
{
    return json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
}

static const char *type_name(const json_t *v)
{
    static const char *const names[] = {"an object", "an array", "a string", "a whole number",
                                        "a number",  "true",     "false",    "null"};
    return v ? names[json_typeof(v)] : "nothing";
}

static bool wrong(const json_t *v, const char *what, const char *key, const char *wanted,
                  struct err *e)
{
    return err_set(e, ERR_INVALID, "%s: '%s' should be %s, is %s", what, key, wanted, type_name(v));
}

static const json_t *member(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_null(v) ? NULL : v;
}

bool json_only_keys(const json_t *o, const char *what, const char *const *keys, struct err *e)
{
    const char *key;
    json_t *value;
    if (!json_is_object(o))
        return err_set(e, ERR_INVALID, "%s: not an object", what);
    json_object_foreach((json_t *)(uintptr_t)o, key, value)
    {
        int i = 0;
        while (keys[i] && strcmp(keys[i], key) != 0)
            i++;
        if (!keys[i])
            return err_set(e, ERR_INVALID, "%s: unknown field '%.100s'", what, key);
    }
    return true;
}

bool json_need_str(const json_t *o, const char *what, const char *key, const char **ret,
                   struct err *e)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_string(v))
        return wrong(v, what, key, "a string", e);
    *ret = json_string_value(v);
    return true;
}

bool json_need_u64(const json_t *o, const char *what, const char *key, uint64_t max, uint64_t *ret,
                   struct err *e)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v))
        return wrong(v, what, key, "a whole number", e);
    json_int_t n = json_integer_value(v);
    if (n < 0 || (uint64_t)n > max)
        return err_set(e, ERR_INVALID, "%s: '%s' is %lld, should be from 0 to %" PRIu64, what, key,
                       (long long)n, max);
    *ret = (uint64_t)n;
    return true;
}

bool json_need_num(const json_t *o, const char *what, const char *key, double min, double max,
                   double *ret, struct err *e)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_number(v))
        return wrong(v, what, key, "a number", e);
    double n = json_number_value(v);
    if (!isfinite(n) || n < min || n > max)
        return err_set(e, ERR_INVALID, "%s: '%s' is %g, should be from %g to %g", what, key, n, min,
                       max);
    *ret = n;
    return true;
}

bool json_need_array(const json_t *o, const char *what, const char *key, size_t max, json_t **ret,
                     struct err *e)
{
    json_t *v = json_object_get(o, key);
    if (!json_is_array(v))
        return wrong(v, what, key, "an array", e);
    if (json_array_size(v) > max)
        return err_set(e, ERR_TOO_LARGE, "%s: '%s' has %zu entries, more than the limit of %zu",
                       what, key, json_array_size(v), max);
    *ret = v;
    return true;
}

bool json_need_object(const json_t *o, const char *what, const char *key, json_t **ret,
                      struct err *e)
{
    json_t *v = json_object_get(o, key);
    if (!json_is_object(v))
        return wrong(v, what, key, "an object", e);
    *ret = v;
    return true;
}

bool json_opt_str(const json_t *o, const char *what, const char *key, const char **ret,
                  struct err *e)
{
    return !member(o, key) || json_need_str(o, what, key, ret, e);
}

bool json_opt_u64(const json_t *o, const char *what, const char *key, uint64_t max, uint64_t *ret,
                  struct err *e)
{
    return !member(o, key) || json_need_u64(o, what, key, max, ret, e);
}

bool json_opt_num(const json_t *o, const char *what, const char *key, double min, double max,
                  double *ret, struct err *e)
{
    return !member(o, key) || json_need_num(o, what, key, min, max, ret, e);
}

bool json_opt_bool(const json_t *o, const char *what, const char *key, bool *ret, struct err *e)
{
    const json_t *v = member(o, key);
    if (v && !json_is_boolean(v))
        return wrong(v, what, key, "true or false", e);
    if (v)
        *ret = json_is_true(v);
    return true;
}
