/* parse.c - texts to numbers. */
#include "base/parse.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool parse_u64(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *ret,
               struct err *e)
{
    char *end = NULL;
    errno = 0;
    unsigned long long v = isdigit((unsigned char)text[0]) ? strtoull(text, &end, 10) : 0;
    if (!end || *end || errno || v < min || v > max)
        return err_set(e, ERR_INVALID,
                       "%s: '%.60s' is not a whole number from %" PRIu64 " to %" PRIu64, what, text,
                       min, max);
    *ret = v;
    return true;
}

/* Decimal only: strtod() takes 0x10, nan and words too. */
static bool is_decimal(const char *text)
{
    return text[0] && text[strspn(text, "+-.0123456789eE")] == 0;
}

bool parse_double(const char *what, const char *text, double min, double max, double *ret,
                  struct err *e)
{
    char *end = NULL;
    errno = 0;
    double v = is_decimal(text) ? strtod(text, &end) : 0;
    if (!end || *end || !isfinite(v) || v < min || v > max)
        return err_set(e, ERR_INVALID, "%s: '%.60s' is not a number from %g to %g", what, text, min,
                       max);
    *ret = v;
    return true;
}

bool parse_bytes(const char *what, const char *text, uint64_t *ret, struct err *e)
{
    static const char suffixes[] = "KMGT";
    char *end = NULL;
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    double v = isdigit((unsigned char)text[0]) && !hex ? strtod(text, &end) : -1;
    if (end && *end) {
        const char *at = strchr(suffixes, toupper((unsigned char)*end));
        if (at)
            end++;
        for (long i = 0; at && i <= at - suffixes; i++)
            v *= 1024;
        if (*end == 'i')
            end++;
        if (*end == 'B' || *end == 'b')
            end++;
    }
    if (!end || *end || !(v >= 0) || v > 0x1p53)
        return err_set(e, ERR_INVALID, "%s: '%.60s' is not a size such as 512M or 2G", what, text);
    *ret = (uint64_t)v;
    return true;
}

char *format_bytes(char *buf, int size, double bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    int unit = 0;
    while (fabs(bytes) >= 1000 && unit < 4) {
        bytes /= 1000;
        unit++;
    }
    (void)snprintf(buf, (size_t)size, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return buf;
}
