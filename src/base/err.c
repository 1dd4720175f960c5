/* err.c - error codes and texts. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct err_row {
    const char *name;
    int http;
};

#define ERR_ROW(id, name, http) [id] = {name, http},
static const struct err_row rows[] = {ERR_CODES(ERR_ROW)};
#undef ERR_ROW

bool err_set(struct err *e, enum err_code code, const char *format, ...)
{
    if (!e)
        return false;
    struct err out = {.code = code};
    va_list args;
    va_start(args, format);
    (void)vsnprintf(out.text, sizeof(out.text), format, args);
    va_end(args);
    *e = out; /* by way of a copy: an argument may point into e->text */
    return false;
}

bool err_errno(struct err *e, enum err_code code, int number, const char *format, ...)
{
    if (!e)
        return false;
    char head[ERR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(head, sizeof(head), format, args);
    va_end(args);
    char reason[128];
    return err_set(e, code, "%.380s: %s", head, strerror_r(number, reason, sizeof(reason)));
}

bool err_prefix(struct err *e, const char *format, ...)
{
    if (!e)
        return false;
    char head[ERR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(head, sizeof(head), format, args);
    va_end(args);
    return err_set(e, e->code, "%.200s: %.300s", head, e->text);
}

const char *err_name(enum err_code code)
{
    return (unsigned)code < ERR_CODE_COUNT ? rows[code].name : "internal";
}

enum err_code err_from_name(const char *name)
{
    for (unsigned i = 0; name && i < ERR_CODE_COUNT; i++)
        if (strcmp(rows[i].name, name) == 0)
            return (enum err_code)i;
    return ERR_INTERNAL;
}

int err_http(enum err_code code)
{
    return (unsigned)code < ERR_CODE_COUNT ? rows[code].http : 500;
}
