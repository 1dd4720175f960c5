/* libmedia.h - golden files of tests/golden/media for the tests of pictures, sound, processors. */
#pragma once
#include "base/json.h"

#include <stddef.h>
#include <stdint.h>

/* A file below tests/golden/media; free().  A missing one fails the test. */
char *media_load(const char *name, size_t *size);

/* The input file that a row names ("file"); free(). */
char *media_load_input(const json_t *row, size_t *size);

/* The floats that a row names ("out"), at least count; free(). */
float *media_load_floats(const json_t *row, size_t count);

/* A JSON file below tests/golden/media; json_decref(). */
json_t *media_golden(const char *name);

uint32_t media_number(const json_t *row, const char *key);
const char *media_text(const json_t *row, const char *key);
