/* digest.c - SHA-256 by GnuTLS. */
#include "base/digest.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct digest_ctx {
    gnutls_hash_hd_t hash;
};

struct digest_ctx *digest_start(void)
{
    struct digest_ctx *c = malloc(sizeof(*c));
    if (c && gnutls_hash_init(&c->hash, GNUTLS_DIG_SHA256) != 0) {
        free(c);
        return NULL;
    }
    return c;
}

void digest_add(struct digest_ctx *c, const void *data, size_t size)
{
    if (size)
        (void)gnutls_hash(c->hash, data, size);
}

static struct digest to_hex(const unsigned char *bytes)
{
    static const char digits[] = "0123456789abcdef";
    struct digest d;
    for (int i = 0; i < DIGEST_BYTES; i++) {
        d.hex[2 * i] = digits[bytes[i] >> 4];
        d.hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    d.hex[DIGEST_HEX] = 0;
    return d;
}

struct digest digest_finish(struct digest_ctx *c)
{
    unsigned char bytes[DIGEST_BYTES];
    gnutls_hash_deinit(c->hash, bytes);
    free(c);
    return to_hex(bytes);
}

struct digest digest_of(const void *data, size_t size)
{
    unsigned char bytes[DIGEST_BYTES] = {0};
    (void)gnutls_hash_fast(GNUTLS_DIG_SHA256, data, size, bytes);
    return to_hex(bytes);
}

bool digest_of_fd(int fd, struct digest *ret, struct err *e)
{
    struct digest_ctx *c = digest_start();
    char *chunk = malloc(1 << 20);
    ssize_t n = -1;
    if (c && chunk) {
        off_t at = 0;
        while ((n = pread(fd, chunk, 1 << 20, at)) > 0) {
            digest_add(c, chunk, (size_t)n);
            at += n;
        }
    }
    int number = errno;
    free(chunk);
    if (c) {
        struct digest d = digest_finish(c);
        if (n == 0) {
            *ret = d;
            return true;
        }
    }
    return err_errno(e, c ? ERR_IO : ERR_MEMORY, number, "reading for a digest");
}

bool digest_valid(const char *text)
{
    return text && strlen(text) == DIGEST_HEX && strspn(text, "0123456789abcdef") == DIGEST_HEX;
}
