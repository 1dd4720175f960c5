/* base64.h - media inside of JSON (RFC 4648; line ends are passed over, padding is optional). */
#pragma once
#include "tensor/tensor.h"

/* Text of size bytes to counted bytes; NULL with e set. A "data:...;base64," prefix is passed over. */
struct mem *base64_decode(const char *text, size_t size, size_t max, const char *what,
                          struct err *e);

/* The first bytes of it, at most BASE64_PEEK, to tell what it holds; 0 when it is not base64. */
#define BASE64_PEEK 12
size_t base64_peek(const char *text, size_t size, unsigned char to[BASE64_PEEK]);
