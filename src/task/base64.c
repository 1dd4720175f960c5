/* base64.c - decoding. */
#include "task/base64.h"

#include <string.h>

static int value_of(unsigned char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

/* Returns the number of bytes, or -1. */
static long decode(const char *text, size_t size, unsigned char *to)
{
    uint32_t bits = 0;
    int have = 0;
    long n = 0;
    size_t i = 0;
    for (; i < size && text[i] != '='; i++) {
        if (text[i] == '\n' || text[i] == '\r')
            continue;
        int v = value_of((unsigned char)text[i]);
        if (v < 0)
            return -1;
        bits = bits << 6 | (uint32_t)v;
        have += 6;
        if (have >= 8) {
            have -= 8;
            to[n++] = (unsigned char)(bits >> have & 255);
        }
    }
    for (; i < size; i++)
        if (text[i] != '=' && text[i] != '\n' && text[i] != '\r')
            return -1;
    return have == 6 ? -1 : n; /* one digit left over is no byte */
}

struct mem *base64_decode(const char *text, size_t size, size_t max, const char *what, struct err *e)
{
    if (size > 5 && memcmp(text, "data:", 5) == 0) {
        const char *comma = memchr(text, ',', size < 256 ? size : 256);
        if (!comma || (size_t)(comma - text) < 7 || memcmp(comma - 7, ";base64", 7) != 0) {
            err_set(e, ERR_INVALID, "%s: a data: URL should hold ;base64", what);
            return NULL;
        }
        size -= (size_t)(comma + 1 - text);
        text = comma + 1;
    }
    if (size / 4 * 3 > max) {
        err_set(e, ERR_TOO_LARGE, "%s: more than the limit of %zu bytes", what, max);
        return NULL;
    }
    struct mem *whole = mem_new(size / 4 * 3 + 4);
    long n = whole ? decode(text, size, mem_data(whole)) : 1;
    struct mem *m = whole && n > 0 ? mem_new((size_t)n) : NULL;
    if (m)
        memcpy(mem_data(m), mem_data(whole), (size_t)n);
    else if (n > 0)
        err_set(e, ERR_MEMORY, "%s: no memory for %zu bytes", what, size);
    else
        err_set(e, ERR_INVALID, "%s: is %s base64 (URLs are not fetched)", what, n == 0 ? "empty" : "not");
    mem_unref(whole);
    return m;
}
