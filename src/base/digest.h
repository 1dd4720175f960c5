/* digest.h - SHA-256 (GnuTLS) as the name of content: 64 lower-case hex digits. */
#pragma once
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define DIGEST_BYTES 32
#define DIGEST_HEX 64

struct digest {
    char hex[DIGEST_HEX + 1];
};

struct digest_ctx; /* owned by the caller, freed by digest_finish() */

struct digest_ctx *digest_start(void); /* NULL: out of memory */
void digest_add(struct digest_ctx *c, const void *data, size_t size);
struct digest digest_finish(struct digest_ctx *c);

struct digest digest_of(const void *data, size_t size);

/* Reads from the start to the end of fd (its offset is not used). */
bool digest_of_fd(int fd, struct digest *ret, struct err *e);

/* 64 lower-case hex digits and nothing else. */
bool digest_valid(const char *text);
