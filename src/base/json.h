/* json.h - jansson with checks.
 *
 * Readers take the object, the key and what it belongs to, and fail with ERR_INVALID and a text
 * that says which key, what was there and what is allowed.  Values that are returned are borrowed
 * from the object. */
#pragma once
#include "base/err.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_DEPTH_MAX 64 /* JSON_PARSER_MAX_DEPTH of jansson is 2048: too deep for small stacks */

/* Parses a whole text: duplicates refused, nesting at most JSON_DEPTH_MAX. NULL on failure. */
json_t *json_parse(const char *what, const char *data, size_t size, struct err *e);

/* A file of at most max bytes. */
json_t *json_parse_file(const char *path, size_t max, struct err *e);

/* Compact text, free(); NULL only when memory is out. */
char *json_text(const json_t *value);

/* Whether o is an object without other members than these (ended by NULL). */
bool json_only_keys(const json_t *o, const char *what, const char *const *keys, struct err *e);

/* Required members. */
bool json_need_str(const json_t *o, const char *what, const char *key, const char **ret,
                   struct err *e);
bool json_need_u64(const json_t *o, const char *what, const char *key, uint64_t max, uint64_t *ret,
                   struct err *e);
bool json_need_num(const json_t *o, const char *what, const char *key, double min, double max,
                   double *ret, struct err *e);
bool json_need_array(const json_t *o, const char *what, const char *key, size_t max, json_t **ret,
                     struct err *e);
bool json_need_object(const json_t *o, const char *what, const char *key, json_t **ret,
                      struct err *e);

/* Optional members: absent or null leaves *ret as it is; another type is an error. */
bool json_opt_str(const json_t *o, const char *what, const char *key, const char **ret,
                  struct err *e);
bool json_opt_u64(const json_t *o, const char *what, const char *key, uint64_t max, uint64_t *ret,
                  struct err *e);
bool json_opt_num(const json_t *o, const char *what, const char *key, double min, double max,
                  double *ret, struct err *e);
bool json_opt_bool(const json_t *o, const char *what, const char *key, bool *ret, struct err *e);
