/* test_privacy.c - the runtime tells nobody of itself: no file in the home folder, no socket.
 * A program of its own, because the runtime decides this when it is loaded. */
#include "lib/cmocka.h"

#include "base/file.h"
#include "lib/temp.h"
#include "libmodel.h"
#include "librunner.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char home[4096];

static int entries(const char *path)
{
    int found = 0;
    DIR *d = opendir(path);
    assert_non_null(d);
    for (const struct dirent *i = readdir(d); i; i = readdir(d))
        if (strcmp(i->d_name, ".") != 0 && strcmp(i->d_name, "..") != 0)
            found++;
    (void)closedir(d);
    return found;
}

static int sockets(void)
{
    int found = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    for (const struct dirent *i = readdir(d); i; i = readdir(d)) {
        char path[512], to[512];
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%.200s", i->d_name);
        ssize_t n = readlink(path, to, sizeof(to));
        if (n > 7 && strncmp(to, "socket:", 7) == 0)
            found++;
    }
    (void)closedir(d);
    return found;
}

static void the_runtime_is_quiet(void **state)
{
    (void)state;
    char folder[8192];
    struct exec_options o = runner_options(home);
    struct exec *x = NULL;
    struct exec_module *m = NULL;
    struct tensor out = {0};
    struct err e = {0};
    int64_t dims[1] = {1};
    struct named_tensor in = runner_input("x", 1, dims, 1);
    int before = sockets();
    (void)snprintf(folder, sizeof(folder), "%s.module", home);
    model_write_loop(folder, 20000); /* long enough for a thread to begin */
    assert_true(exec_create(EXEC_LOCAL, &o, &x, &e));
    assert_true(exec_load(x, folder, model_digest('a'), &m, &e));
    assert_true(exec_run(m, &in, 1, NULL, &out, &e));
    assert_int_equal(entries(home), 0);
    assert_int_equal(sockets(), before);
    assert_int_equal(entries("/proc/self/task"), 1); /* no thread of its own either */
    tensor_clear(&in.tensor);
    tensor_clear(&out);
    exec_unload(m);
    exec_destroy(x);
    assert_int_equal(entries(home), 0);
}

int main(void)
{
    (void)snprintf(home, sizeof(home), "%s/home", temp_make());
    if (!file_make_dirs(home, NULL) || setenv("HOME", home, 1) != 0 ||
        unsetenv("XDG_CACHE_HOME") != 0 || unsetenv("ORT_DISABLE_TELEMETRY") != 0)
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_runtime_is_quiet)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_remove();
    return failed;
}
