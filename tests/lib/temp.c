/* temp.c - one temporary folder per test program at a time. */
#include "lib/temp.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>

static char path[512];

const char *temp_make(void)
{
    const char *base = getenv("TMPDIR");
    (void)snprintf(path, sizeof(path), "%s/s2m3-test-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(path)) {
        perror(path);
        exit(1);
    }
    return path;
}

void temp_remove(void)
{
    if (path[0])
        (void)file_remove_tree(path, NULL);
    path[0] = 0;
}
