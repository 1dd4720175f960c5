/* base64.h - media inside of JSON (RFC 4648; line ends are passed over, padding is optional). */
#pragma once
#include "tensor/tensor.h"

/* Text of size bytes to counted bytes; NULL with e set. A "data:...;base64," prefix is passed over. */
struct mem *base64_decode(const char *text, size_t size, size_t max, const char *what, struct err *e);
