/* buf.h - a growing byte buffer with a ceiling.
 *
 * Ownership: the struct owns data; buf_clear() frees it.  A failed append (ceiling or memory)
 * leaves what is there and sets `failed`; later appends do nothing, so a run of appends needs one
 * look at the end. */
#pragma once
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data; /* size bytes, then a 0 that is not counted; NULL when empty */
    size_t size;
    size_t capacity;
    size_t max; /* ceiling in bytes */
    bool failed;
};

#define BUF_INIT(ceiling)                                                                          \
    {                                                                                              \
        .max = (ceiling)                                                                           \
    }

void buf_add(struct buf *b, const void *data, size_t size);
void buf_str(struct buf *b, const char *text);
void buf_fmt(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Room for size more bytes; NULL on failure.  The caller fills them and adds to b->size. */
char *buf_reserve(struct buf *b, size_t size);

/* ERR_TOO_LARGE with the ceiling if an append failed, else true. */
bool buf_ok(const struct buf *b, const char *what, struct err *e);

/* Gives the data to the caller (free()); NULL if nothing was written or an append failed. */
char *buf_take(struct buf *b);

void buf_clear(struct buf *b);
