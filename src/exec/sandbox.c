/* sandbox.c - Landlock and seccomp.
 *
 * The numbers of Landlock are declared here where the system's header is older than the kernel;
 * the kernel says which it knows, and rights that it does not know are left out. */
#include "exec/sandbox.h"

#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- files ----------------------------------------------------------------------------------- */

#ifndef __NR_landlock_create_ruleset
#define __NR_landlock_create_ruleset 444
#define __NR_landlock_add_rule 445
#define __NR_landlock_restrict_self 446
#endif

/* include/uapi/linux/landlock.h of Linux 6.12 */
#define FS_EXECUTE (1ULL << 0)
#define FS_WRITE_FILE (1ULL << 1)
#define FS_READ_FILE (1ULL << 2)
#define FS_READ_DIR (1ULL << 3)
#define FS_REMOVE_FILE (1ULL << 5)
#define FS_MAKE_REG (1ULL << 8)
#define FS_TRUNCATE (1ULL << 14)
#define NET_ALL 3ULL   /* bind, connect: version 4 */
#define SCOPE_ALL 3ULL /* abstract sockets, signals: version 6 */

struct ruleset_rights {
    uint64_t fs, net, scoped;
};

struct path_rights {
    uint64_t rights;
    int32_t fd;
} __attribute__((packed));

/* All rights on files that a version knows. */
static uint64_t all_fs(int version)
{
    static const int count[] = {0, 13, 14, 15, 15, 16};
    size_t v = num_min((size_t)version, ARRAY_LEN(count) - 1);
    return (1ULL << count[v]) - 1;
}

static size_t rights_size(int version)
{
    return version >= 6 ? 24 : version >= 4 ? 16 : 8;
}

/* A path that is not there, or is a file where only folders have a right, gives no error. */
static bool allow(int ruleset, const char *path, uint64_t rights, uint64_t known, struct err *e)
{
    if (!path || !*path)
        return true;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return true;
    struct path_rights p = {.rights = rights & known, .fd = fd};
    long r = syscall(__NR_landlock_add_rule, ruleset, 1 /* path beneath */, &p, 0);
    if (r != 0 && errno == EINVAL) {
        p.rights &= FS_EXECUTE | FS_READ_FILE | FS_WRITE_FILE | FS_TRUNCATE;
        r = syscall(__NR_landlock_add_rule, ruleset, 1, &p, 0);
    }
    int number = errno;
    (void)close(fd);
    return r == 0 || err_errno(e, ERR_INTERNAL, number, "sandbox: %s", path);
}

static bool allow_all(int ruleset, const struct sandbox_paths *paths, uint64_t known, struct err *e)
{
    static const char *const libraries[] = {"/usr/lib", "/usr/local/lib", "/lib", "/lib64"};
    static const char *const machine[] = {"/sys/devices/system/cpu",
                                          "/sys/devices/system/node",
                                          "/proc/cpuinfo",
                                          "/proc/meminfo",
                                          "/proc/self",
                                          "/etc/ld.so.cache",
                                          "/dev/null",
                                          "/dev/urandom"};
    const uint64_t read = FS_READ_FILE | FS_READ_DIR;
    const uint64_t write = FS_WRITE_FILE | FS_REMOVE_FILE | FS_MAKE_REG | FS_TRUNCATE;
    for (size_t i = 0; i < ARRAY_LEN(libraries); i++)
        if (!allow(ruleset, libraries[i], read | FS_EXECUTE, known, e))
            return false;
    for (size_t i = 0; i < ARRAY_LEN(machine); i++)
        if (!allow(ruleset, machine[i], read, known, e))
            return false;
    for (size_t i = 0; i < SANDBOX_READ_MAX; i++)
        if (!allow(ruleset, paths->read[i], read, known, e))
            return false;
    return allow(ruleset, paths->write, read | write, known, e);
}

static bool limit_files(const struct sandbox_paths *paths, int *version, struct err *e)
{
    long v = syscall(__NR_landlock_create_ruleset, NULL, 0, 1 /* which version? */);
    *version = v > 0 ? (int)v : 0;
    if (v <= 0)
        return true;
    struct ruleset_rights rights = {
        .fs = all_fs((int)v), .net = v >= 4 ? NET_ALL : 0, .scoped = v >= 6 ? SCOPE_ALL : 0};
    int ruleset = (int)syscall(__NR_landlock_create_ruleset, &rights, rights_size((int)v), 0);
    if (ruleset < 0)
        return err_errno(e, ERR_INTERNAL, errno, "sandbox: Landlock");
    bool ok = allow_all(ruleset, paths, rights.fs, e);
    if (ok && syscall(__NR_landlock_restrict_self, ruleset, 0) != 0)
        ok = err_errno(e, ERR_INTERNAL, errno, "sandbox: Landlock");
    (void)close(ruleset);
    return ok;
}

/* ---- system calls ---------------------------------------------------------------------------- */

/* Names, so that those that a CPU does not have are passed over. */
static const char *const allowed[] = {
    /* memory */
    "mmap",
    "mmap2",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "brk",
    "mlock",
    "munlock",
    "mincore",
    "memfd_create",
    "membarrier",
    "mbind",
    "get_mempolicy",
    /* threads and time */
    "futex",
    "futex_time64",
    "futex_waitv",
    "set_robust_list",
    "rseq",
    "set_tid_address",
    "gettid",
    "sched_yield",
    "sched_getaffinity",
    "sched_setaffinity",
    "sched_getparam",
    "sched_getscheduler",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "getcpu",
    "clock_gettime",
    "clock_getres",
    "clock_nanosleep",
    "nanosleep",
    "gettimeofday",
    "time",
    "restart_syscall",
    "exit",
    "exit_group",
    "getrusage",
    "times",
    /* signals to itself */
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigpending",
    "sigaltstack",
    /* descriptors; which files is Landlock's matter */
    "read",
    "write",
    "readv",
    "writev",
    "pread64",
    "pwrite64",
    "preadv",
    "pwritev",
    "close",
    "lseek",
    "_llseek",
    "fstat",
    "fstat64",
    "newfstatat",
    "fstatat64",
    "stat",
    "lstat",
    "stat64",
    "lstat64",
    "statx",
    "statfs",
    "fstatfs",
    "open",
    "openat",
    "access",
    "faccessat",
    "faccessat2",
    "readlink",
    "readlinkat",
    "getdents64",
    "getcwd",
    "dup",
    "dup2",
    "dup3",
    "fcntl",
    "fcntl64",
    "ftruncate",
    "ftruncate64",
    "fallocate",
    "fsync",
    "fdatasync",
    "fadvise64",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
    "flock",
    "copy_file_range",
    "sendfile",
    /* the sockets that it has been given */
    "sendmsg",
    "recvmsg",
    "sendto",
    "recvfrom",
    "shutdown",
    "poll",
    "ppoll",
    "getsockopt",
    "setsockopt",
    /* who and where am I */
    "getpid",
    "getppid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "uname",
    "sysinfo",
    "getrandom",
    "getrlimit",
    "ugetrlimit",
    "arch_prctl",
    "riscv_hwprobe",
};

static bool allow_calls(scmp_filter_ctx ctx, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(allowed); i++) {
        int number = seccomp_syscall_resolve_name(allowed[i]);
        if (number < 0)
            continue;
        int r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, number, 0);
        if (r != 0)
            return err_errno(e, ERR_INTERNAL, -r, "sandbox: rule for %s", allowed[i]);
    }
    return true;
}

/* Calls that are allowed in some forms only. */
static bool allow_forms(scmp_filter_ctx ctx, struct err *e)
{
    const struct scmp_arg_cmp thread = {.arg = 0,
                                        .op = SCMP_CMP_MASKED_EQ,
                                        .datum_a = CLONE_THREAD,
                                        .datum_b = CLONE_THREAD},
                              own = {.arg = 0,
                                     .op = SCMP_CMP_EQ,
                                     .datum_a = (scmp_datum_t)getpid()},
                              me = {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = 0},
                              only_get = {.arg = 2, .op = SCMP_CMP_EQ, .datum_a = 0},
                              name = {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = PR_SET_NAME},
                              vma = {.arg = 0,
                                     .op = SCMP_CMP_EQ,
                                     .datum_a = 0x53564d41 /* PR_SET_VMA */};
    int r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, thread);
    /* "Not there": the C library then uses clone, whose flags can be looked at. */
    r = r ? r : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    r = r ? r : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, own);
    r = r ? r : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2, me, only_get);
    r = r ? r : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, name);
    r = r ? r : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, vma);
    return r == 0 || err_errno(e, ERR_INTERNAL, -r, "sandbox: rules");
}

static bool limit_calls(struct err *e)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!ctx)
        return err_set(e, ERR_MEMORY, "sandbox: no memory");
    bool ok = allow_calls(ctx, e) && allow_forms(ctx, e);
    int r = ok ? seccomp_load(ctx) : 0;
    if (r != 0)
        ok = err_errno(e, ERR_INTERNAL, -r, "sandbox: seccomp");
    seccomp_release(ctx);
    return ok;
}

bool sandbox_enter(const struct sandbox_paths *paths, int *landlock, struct err *e)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return err_errno(e, ERR_INTERNAL, errno, "sandbox: no_new_privs");
    return limit_files(paths, landlock, e) && limit_calls(e);
}
