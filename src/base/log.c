/* log.c - one write per line, so that lines of several threads never mix. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static _Atomic int threshold = LOG_WARN;

void log_set_level(enum log_level level)
{
    atomic_store(&threshold, (int)level);
}

void log_write(enum log_level level, const char *part, const char *format, ...)
{
    static const char *const names[] = {"debug", "info ", "warn ", "error"};
    if ((int)level < atomic_load(&threshold))
        return;
    char line[1200];
    time_t now = time(NULL);
    struct tm tm;
    (void)gmtime_r(&now, &tm);
    size_t n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%SZ ", &tm);
    n += (size_t)snprintf(line + n, sizeof(line) - n, "%s %s: ", names[level], part);
    va_list args;
    va_start(args, format);
    int m = vsnprintf(line + n, sizeof(line) - n - 1, format, args);
    va_end(args);
    if (m < 0)
        return;
    n = n + (size_t)m < sizeof(line) - 2 ? n + (size_t)m : sizeof(line) - 2;
    line[n++] = '\n';
    ssize_t r = write(STDERR_FILENO, line, n);
    (void)r; /* nowhere to report it */
}
