/* parse.h - texts to numbers, whole text or nothing.
 * what: the name that the error text uses.  Errors: ERR_INVALID with what, value and bounds. */
#pragma once
#include "base/err.h"

#include <stdint.h>

bool parse_u64(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *ret,
               struct err *e);
bool parse_double(const char *what, const char *text, double min, double max, double *ret,
                  struct err *e);

/* Bytes with a suffix: "512M", "1.5G", "4096" (K, M, G, T are powers of 1024; B and iB allowed). */
bool parse_bytes(const char *what, const char *text, uint64_t *ret, struct err *e);

/* Bytes for people: "20.1 MB" (powers of 1000). Returns buf. */
char *format_bytes(char *buf, int size, double bytes);
