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

/* Where the base64 starts: after "data:...;base64,"; NULL when a data: URL holds something else. */
static const char *content(const char *text, size_t size)
{
    if (size <= 5 || memcmp(text, "data:", 5) != 0)
        return text;
    const char *comma = memchr(text, ',', size < 256 ? size : 256);
    bool right = comma && (size_t)(comma - text) >= 7 && memcmp(comma - 7, ";base64", 7) == 0;
    return right ? comma + 1 : NULL;
}

size_t base64_peek(const char *text, size_t size, unsigned char to[BASE64_PEEK])
{
    const char *start = content(text, size);
    size_t left = start ? size - (size_t)(start - text) : 0;
    long n = left ? decode(start, left < BASE64_PEEK / 3 * 4 ? left : BASE64_PEEK / 3 * 4, to) : 0;
    return n > 0 ? (size_t)n : 0;
}

struct mem *base64_decode(const char *text, size_t size, size_t max, const char *what,
                          struct err *e)
{
    const char *start = content(text, size);
    if (!start) {
        err_set(e, ERR_INVALID, "%s: a data: URL should hold ;base64", what);
        return NULL;
    }
    size -= (size_t)(start - text);
    text = start;
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
        err_set(e, ERR_INVALID, "%s: is %s base64 (URLs are not fetched)", what,
                n == 0 ? "empty" : "not");
    mem_unref(whole);
    return m;
}
