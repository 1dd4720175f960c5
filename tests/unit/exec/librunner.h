/* librunner.h - test programs that are their own runner. */
#pragma once
#include "exec/exec.h"

/* First thing in main: if this is `PROGRAM runner FD`, serves and gives the exit code; else -1. */
int runner_dispatch(int argc, char **argv);

/* Path of this program. */
const char *runner_self(void);

/* Options with the runtime, this program as runner and a folder for modules below dir. */
struct exec_options runner_options(const char *dir);

/* Polls until done(arg) or 20 s have passed. */
bool poll_until(bool (*done)(void *arg), void *arg);

/* "x" etc. with float32 values of the given shape; values: first, first + 1, ... */
struct named_tensor runner_input(const char *name, int rank, const int64_t *dims, float first);
