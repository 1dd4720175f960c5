/* libmedia.c - see libmedia.h. */
#include "libmedia.h"

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define FILE_MAX ((size_t)1 << 20)

char *media_load(const char *name, size_t *size)
{
    struct err e;
    char *data = NULL;
    const char *dir = getenv("S2M3_GOLDEN");
    char *path = text_format("%s/media/%s", dir ? dir : "tests/golden", name);
    assert_non_null(path);
    if (!file_read(path, FILE_MAX, &data, size, &e))
        fail_msg("%s", e.text);
    free(path);
    return data;
}

static char *load_from(const char *folder, const char *file, size_t *size)
{
    assert_non_null(file);
    char *name = text_format("%s/%s", folder, file);
    assert_non_null(name);
    char *data = media_load(name, size);
    free(name);
    return data;
}

char *media_load_input(const json_t *row, size_t *size)
{
    return load_from("in", media_text(row, "file"), size);
}

float *media_load_floats(const json_t *row, size_t count)
{
    size_t size;
    float *values = (float *)(void *)load_from("out", media_text(row, "out"), &size);
    assert_true(size >= count * sizeof(*values));
    return values;
}

json_t *media_golden(const char *name)
{
    size_t size;
    char *text = media_load(name, &size);
    json_t *root = json_parse(name, text, size, NULL);
    free(text);
    assert_non_null(root);
    return root;
}

uint32_t media_number(const json_t *row, const char *key)
{
    return (uint32_t)json_integer_value(json_object_get(row, key));
}

const char *media_text(const json_t *row, const char *key)
{
    return json_string_value(json_object_get(row, key));
}
