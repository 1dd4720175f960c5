/* log.h - lines on stderr for the operator: "2026-01-31T12:00:00Z info  node: text".
 * Any thread.  Only node/node.c, coord/coord.c and cli speak above debug (a gate checks). */
#pragma once

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* Lines under level are dropped; default LOG_WARN. */
void log_set_level(enum log_level level);

void log_write(enum log_level level, const char *part, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_debug(part, ...) log_write(LOG_DEBUG, part, __VA_ARGS__)
#define log_info(part, ...) log_write(LOG_INFO, part, __VA_ARGS__)
#define log_warn(part, ...) log_write(LOG_WARN, part, __VA_ARGS__)
#define log_error(part, ...) log_write(LOG_ERROR, part, __VA_ARGS__)
