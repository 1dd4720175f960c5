/* err.h - what went wrong, as a code for programs and a text for people.
 *
 * A function that can fail returns bool and takes a struct err last.  It returns true and leaves
 * the err alone, or fills it and returns false; err_set() returns false so that
 * `return err_set(e, ...)` reads well.  e may be NULL.  The text says which, what and the bound.
 *
 * Threads: a struct err belongs to its caller. */
#pragma once
#include <stdbool.h>

#define ERR_TEXT_MAX 512

/* One list for the enum, the names on the wire and the HTTP status. */
#define ERR_CODES(X)                                                                               \
    X(ERR_NONE, "ok", 200)                                                                         \
    X(ERR_INVALID, "invalid", 400)         /* input from outside is wrong */                       \
    X(ERR_DENIED, "denied", 403)           /* not allowed */                                       \
    X(ERR_NOT_FOUND, "not-found", 404)     /* no such model, module, file */                       \
    X(ERR_EXISTS, "exists", 409)           /* there is one already */                              \
    X(ERR_TOO_LARGE, "too-large", 413)     /* over a stated limit */                               \
    X(ERR_MEDIA_TYPE, "media-type", 415)   /* not a kind of content that is known */               \
    X(ERR_UNSUPPORTED, "unsupported", 422) /* well-formed, but can't be done */                    \
    X(ERR_CANCELLED, "cancelled", 499)     /* the caller went away */                              \
    X(ERR_INTERNAL, "internal", 500)       /* a bug of ours, or the system's refusal */            \
    X(ERR_MEMORY, "memory", 503)           /* out of memory */                                     \
    X(ERR_IO, "io", 500)                   /* file system */                                       \
    X(ERR_GONE, "gone", 502)               /* a peer or a runner died or can't be reached */       \
    X(ERR_BUSY, "busy", 503)               /* a bounded queue is full, try again */                \
    X(ERR_NO_PLACE, "no-place", 503)       /* no device left that could answer */                  \
    X(ERR_TIMEOUT, "timeout", 504)         /* the deadline passed */

#define ERR_ENUM(id, name, http) id,
enum err_code { ERR_CODES(ERR_ENUM) ERR_CODE_COUNT };
#undef ERR_ENUM

struct err {
    enum err_code code;
    char text[ERR_TEXT_MAX]; /* always terminated; cut if longer */
};

/* Fills e (unless NULL) and returns false. */
bool err_set(struct err *e, enum err_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with ": strerror(number)" at the end. */
bool err_errno(struct err *e, enum err_code code, int number, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts "prefix: " before the text that e holds, and returns false. */
bool err_prefix(struct err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Name on the wire ("not-found"), and back (ERR_INTERNAL for an unknown name). */
const char *err_name(enum err_code code);
enum err_code err_from_name(const char *name);

/* HTTP status of a code, 200 to 599. */
int err_http(enum err_code code);
