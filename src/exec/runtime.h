/* runtime.h - the ONNX Runtime library of this process: found, opened once, never closed.
 * Threads: any. */
#pragma once
#include "base/err.h"
#include "exec/ort.h"

struct runtime {
    struct ort_api api;
    struct ort_env *env;
    struct ort_memory_info *cpu;
    struct ort_allocator *allocator; /* of names; never released */
    char version[32];
};

/* Path (or, from the system, plain name) of the library; option as in exec_options.  free(). */
bool runtime_find(const char *option, char **ret, struct err *e);

/* First half: dlopen, version, table.  A second library in one process is refused. */
bool runtime_open(const char *path, struct err *e);

/* Second half: the environment, which may make threads. *ret stays valid for ever. */
bool runtime_start(const struct runtime **ret, struct err *e);

/* Turns a status into an error (and releases it): true if it was NULL.
 * otherwise: the code for failures that the runtime does not classify. */
bool runtime_ok(const struct runtime *r, struct ort_status *s, enum err_code otherwise,
                const char *what, struct err *e);
