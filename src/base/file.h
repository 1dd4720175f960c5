/* file.h - whole files, folders and atomic writes.
 * Errors name the path.  Memory that is returned belongs to the caller. */
#pragma once
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* The whole of a regular file of at most max bytes; *ret ends with an uncounted 0. free(). */
bool file_read(const char *path, size_t max, char **ret, size_t *ret_size, struct err *e);

/* Writes PATH.tmp.RANDOM beside it, fsync, rename, fsync of the folder. mode e.g. 0600. */
bool file_write_atomic(const char *path, const void *data, size_t size, unsigned mode,
                       struct err *e);

/* mkdir -p with mode 0700 for what is new. */
bool file_make_dirs(const char *path, struct err *e);

/* rm -r of a folder or file within our own data; a missing one is fine.  Follows no link. */
bool file_remove_tree(const char *path, struct err *e);

bool file_exists(const char *path);

/* asprintf for paths and other texts; NULL only when memory is out. */
char *text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
