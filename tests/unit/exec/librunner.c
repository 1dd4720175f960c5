/* librunner.c - see librunner.h. */
#include "librunner.h"

#include "base/clock.h"
#include "base/parse.h"
#include "libmodel.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAIT_MS 60000

int runner_dispatch(int argc, char **argv)
{
    uint64_t fd;
    if (argc < 2 || strcmp(argv[1], "runner") != 0)
        return -1;
    if (argc != 3 || !parse_u64("descriptor", argv[2], 3, INT_MAX, &fd, NULL))
        return 2;
    return exec_runner_main((int)fd);
}

const char *runner_self(void)
{
    static char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (n <= 0)
        abort();
    path[n] = 0;
    return path;
}

struct exec_options runner_options(const char *dir)
{
    return (struct exec_options){.runtime_path = model_runtime(),
                                 .runner_path = runner_self(),
                                 .modules_dir = dir,
                                 .threads = 1,
                                 .lanes = 2};
}

bool poll_until(bool (*done)(void *arg), void *arg)
{
    int64_t deadline = clock_deadline_ms(WAIT_MS);
    while (!done(arg)) {
        if (clock_now_ns() > deadline)
            return false;
        (void)sched_yield();
    }
    return true;
}

struct named_tensor runner_input(const char *name, int rank, const int64_t *dims, float first)
{
    struct named_tensor n = {0};
    struct shape shape = {.rank = rank};
    struct err e;
    (void)snprintf(n.name, sizeof(n.name), "%s", name);
    for (int i = 0; i < rank; i++)
        shape.dims[i] = dims[i];
    if (!tensor_new(DT_F32, &shape, &n.tensor, &e))
        abort();
    float *values = n.tensor.data;
    for (size_t i = 0; i < n.tensor.bytes / sizeof(*values); i++)
        values[i] = first + (float)i;
    return n;
}
