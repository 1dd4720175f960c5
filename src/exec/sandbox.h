/* sandbox.h - what a runner may still do once it has opened the runtime's library.
 *
 * Landlock: reads files below the given folders, libraries and a few files about the machine;
 * writes below one folder, or nowhere; connects to nothing, signals nobody outside.
 * seccomp: a list of system calls that computing needs; no sockets, no programs, no processes.
 *
 * Kernels without Landlock get the second half alone; the caller is told. */
#pragma once
#include "base/err.h"

#define SANDBOX_READ_MAX 4

struct sandbox_paths {
    const char *read[SANDBOX_READ_MAX]; /* folders; NULL or "" is none */
    const char *write;                  /* folder; NULL or "" is none */
};

/* For the calling thread and those that it starts from now on; there is no way back.
 * *landlock: version in use, 0 without.  ERR_INTERNAL: system calls can't be limited. */
bool sandbox_enter(const struct sandbox_paths *paths, int *landlock, struct err *e);
