/* mapping.h - a file mapped for reading that others may change meanwhile.
 *
 * A page of a mapped file that is gone (cut short, or not readable any more) raises SIGBUS, which
 * ends a process.  Of these mappings it reads as zeros instead, and mapping_check() says so: whoever
 * has read asks it before believing anything.  What is read twice must be bounded both times.
 *
 * Threads: a mapping may be read by several; open, check and close by one.  The handler of SIGBUS is
 * set by opening; faults elsewhere go to the one that was there before. */
#pragma once
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define MAPPINGS_MAX 65536u /* of a process at a time */
#define MAPPINGS_WATCHED                                                                           \
    256u /* of them so many are watched for changes, too; others for loss only */

struct mapping {
    const uint8_t *data; /* NULL: empty */
    size_t size;
    int64_t changed_ns; /* private: time of the last change of the content */
    int fd;             /* private: of the file, or -1 */
    uint32_t guard;     /* private: its number + 1, or 0 */
};

/* Maps the regular file behind fd, which stays the caller's.  name: for errors. */
bool mapping_open(int fd, const char *name, struct mapping *ret, struct err *e);

/* ERR_IO: bytes were lost, or the content was changed since. */
bool mapping_check(const struct mapping *m, const char *name, struct err *e);

/* A zeroed mapping is fine. */
void mapping_close(struct mapping *m);
