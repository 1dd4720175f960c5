/* test_sandbox.c - what a process may no longer do behind the sandbox, tried in a child. */
#include "lib/cmocka.h"

#include "base/file.h"
#include "base/num.h"
#include "exec/sandbox.h"
#include "lib/temp.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char inside[4096], outside[4096], made[4096];

static bool opens(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd >= 0)
        (void)close(fd);
    return fd >= 0;
}

static void *nothing(void *arg)
{
    return arg;
}

/* Each trial is true when things are as they should be. */
static bool reads_inside(void)
{
    return opens(inside, O_RDONLY);
}

static bool not_outside(void)
{
    return !opens(outside, O_RDONLY) && !opens("/etc/passwd", O_RDONLY);
}

static bool not_by_way_of_links(void)
{
    char path[9000];
    (void)snprintf(path, sizeof(path), "%s/../../outside/file", inside);
    return !opens(path, O_RDONLY);
}

static bool writes_nothing(void)
{
    char path[9000];
    (void)snprintf(path, sizeof(path), "%s.new", inside);
    return !opens(inside, O_WRONLY) && !opens(path, O_WRONLY | O_CREAT) &&
           !opens(outside, O_WRONLY) && unlink(inside) != 0;
}

static bool no_sockets(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) < 0 && socket(AF_INET6, SOCK_DGRAM, 0) < 0 &&
           socket(AF_UNIX, SOCK_STREAM, 0) < 0 && socket(AF_NETLINK, SOCK_RAW, 0) < 0;
}

static bool no_programs(void)
{
    char *argv[] = {(char[]){"/bin/true"}, NULL};
    (void)execv(argv[0], argv);
    return errno == EPERM || errno == EACCES;
}

static bool no_processes(void)
{
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    return pid < 0;
}

static bool no_signals_to_others(void)
{
    return kill(getppid(), 0) != 0 && syscall(SYS_tgkill, getppid(), getppid(), 0) != 0;
}

static bool no_tracing(void)
{
    return syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0) != 0 &&
           syscall(SYS_ptrace, 16 /* attach */, getppid(), 0, 0) != 0;
}

static bool no_way_back(void)
{
    return setuid(1) != 0 && syscall(SYS_unshare, 0) != 0 && syscall(SYS_chroot, "/") != 0 &&
           syscall(SYS_setns, 0, 0) != 0;
}

static bool computes(void)
{
    pthread_t t;
    int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    char *big = malloc((size_t)64 << 20);
    bool ok = fd >= 0 && ftruncate(fd, 4096) == 0 && big &&
              pthread_create(&t, NULL, nothing, NULL) == 0 && pthread_join(t, NULL) == 0;
    free(big);
    if (fd >= 0)
        (void)close(fd);
    return ok;
}

struct trial {
    const char *name;
    bool (*good)(void);
    bool files; /* needs Landlock */
};

static const struct trial trials[] = {
    {"reads a folder that it was given", reads_inside, true},
    {"reads nothing else", not_outside, true},
    {"reads nothing else by way of ..", not_by_way_of_links, true},
    {"writes nothing", writes_nothing, true},
    {"makes no sockets", no_sockets, false},
    {"starts no programs", no_programs, false},
    {"makes no processes", no_processes, false},
    {"signals nobody", no_signals_to_others, false},
    {"looks into nobody", no_tracing, false},
    {"gets no rights", no_way_back, false},
    {"computes, with threads and memfds", computes, false},
};

/* Exit code: 0 if all is well, 100 without a sandbox, else the trial's number + 1. */
static int try_all(const struct sandbox_paths *paths)
{
    int landlock = 0;
    struct err e = {0};
    if (!sandbox_enter(paths, &landlock, &e))
        return 100;
    for (size_t i = 0; i < ARRAY_LEN(trials); i++)
        if ((landlock > 0 || !trials[i].files) && !trials[i].good())
            return (int)i + 1;
    return 0;
}

static int in_child(int (*run)(const struct sandbox_paths *), const struct sandbox_paths *paths)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        _exit(run(paths));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void a_runner_is_shut_in(void **state)
{
    (void)state;
    char dir[5000];
    (void)snprintf(dir, sizeof(dir), "%s", inside);
    *strrchr(dir, '/') = 0;
    const struct sandbox_paths paths = {.read = {dir, "/nowhere", ""}};
    int code = in_child(try_all, &paths);
    if (code > 0)
        fail_msg("%s", code == 100 ? "no sandbox" : trials[code - 1].name);
}

static int try_writing(const struct sandbox_paths *paths)
{
    int landlock = 0;
    if (!sandbox_enter(paths, &landlock, NULL))
        return 1;
    if (!opens(made, O_WRONLY | O_CREAT | O_TRUNC))
        return 2;
    return landlock > 0 && opens(outside, O_WRONLY) ? 3 : 0;
}

static void who_prepares_writes_to_one_folder(void **state)
{
    (void)state;
    char dir[5000];
    (void)snprintf(dir, sizeof(dir), "%s", made);
    *strrchr(dir, '/') = 0;
    const struct sandbox_paths paths = {.write = dir};
    assert_int_equal(in_child(try_writing, &paths), 0);
}

/* Without the sandbox the trials fail: they can tell the difference. */
static int try_without(const struct sandbox_paths *paths)
{
    (void)paths;
    return not_outside() || no_sockets() || no_processes() || writes_nothing();
}

static void the_trials_can_fail(void **state)
{
    (void)state;
    assert_int_equal(in_child(try_without, NULL), 0);
}

int main(void)
{
    const char *dir = temp_make();
    (void)snprintf(inside, sizeof(inside), "%s/a/file", dir);
    (void)snprintf(outside, sizeof(outside), "%s/outside/file", dir);
    (void)snprintf(made, sizeof(made), "%s/made/file", dir);
    const char *const paths[] = {inside, outside, made};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        char folder[5000];
        (void)snprintf(folder, sizeof(folder), "%s", paths[i]);
        *strrchr(folder, '/') = 0;
        if (!file_make_dirs(folder, NULL) || !file_write_atomic(paths[i], "x", 1, 0600, NULL))
            return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_runner_is_shut_in),
        cmocka_unit_test(who_prepares_writes_to_one_folder),
        cmocka_unit_test(the_trials_can_fail),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_remove();
    return failed;
}
