/* file.c - whole files, folders, atomic writes. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define TREE_DEPTH_MAX 32

char *text_format(const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    return n < 0 ? NULL : text;
}

static bool read_all(int fd, char *to, size_t size, struct err *e, const char *path)
{
    size_t at = 0;
    while (at < size) {
        ssize_t n = read(fd, to + at, size - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, ERR_IO, errno, "%s", path);
        if (n == 0)
            return err_set(e, ERR_IO, "%s: became shorter while it was read", path);
        at += (size_t)n;
    }
    return true;
}

bool file_read(const char *path, size_t max, char **ret, size_t *ret_size, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "%s", path);
    struct stat st;
    bool ok = false;
    char *data = NULL;
    if (fstat(fd, &st) != 0)
        err_errno(e, ERR_IO, errno, "%s", path);
    else if (!S_ISREG(st.st_mode))
        err_set(e, ERR_INVALID, "%s: is not a regular file", path);
    else if ((uint64_t)st.st_size > max)
        err_set(e, ERR_TOO_LARGE, "%s: %lld bytes, more than the limit of %zu", path,
                (long long)st.st_size, max);
    else if (!(data = malloc((size_t)st.st_size + 1)))
        err_set(e, ERR_MEMORY, "%s: no memory for %lld bytes", path, (long long)st.st_size);
    else
        ok = read_all(fd, data, (size_t)st.st_size, e, path);
    close(fd);
    if (!ok) {
        free(data);
        return false;
    }
    data[st.st_size] = 0;
    *ret = data;
    if (ret_size)
        *ret_size = (size_t)st.st_size;
    return true;
}

static bool write_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

static void sync_parent(const char *path)
{
    char *parent = strdup(path);
    char *slash = parent ? strrchr(parent, '/') : NULL;
    if (slash)
        *slash = 0;
    int fd = parent
                 ? open(slash ? (*parent ? parent : "/") : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                 : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(parent);
}

bool file_write_atomic(const char *path, const void *data, size_t size, unsigned mode,
                       struct err *e)
{
    uint64_t salt = 0;
    (void)!getrandom(&salt, sizeof(salt), 0);
    char *temporary = text_format("%s.tmp.%016llx", path, (unsigned long long)salt);
    if (!temporary)
        return err_set(e, ERR_MEMORY, "%s: no memory", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    bool ok = fd >= 0 && write_all(fd, data, size) && fsync(fd) == 0;
    int number = errno;
    if (fd >= 0)
        close(fd);
    if (ok && rename(temporary, path) != 0) {
        ok = false;
        number = errno;
    }
    if (ok)
        sync_parent(path);
    else
        (void)unlink(temporary);
    free(temporary);
    return ok || err_errno(e, ERR_IO, number, "writing %s", path);
}

bool file_make_dirs(const char *path, struct err *e)
{
    char *copy = strdup(path);
    if (!copy)
        return err_set(e, ERR_MEMORY, "%s: no memory", path);
    bool ok = true;
    for (char *p = copy + 1; ok && *copy; p++) {
        if (*p != '/' && *p)
            continue;
        char was = *p;
        *p = 0;
        if (mkdir(copy, 0700) != 0 && errno != EEXIST)
            ok = err_errno(e, ERR_IO, errno, "making folder %s", copy);
        *p = was;
        if (!was)
            break;
    }
    free(copy);
    return ok;
}

static bool remove_at(int dir, const char *name, int depth)
{
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
        return true;
    if ((errno != EISDIR && errno != EPERM) || depth >= TREE_DEPTH_MAX)
        return false;
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool ok = true;
    for (struct dirent *entry; ok && (entry = readdir(d));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            ok = remove_at(dirfd(d), entry->d_name, depth + 1);
    closedir(d);
    return ok && unlinkat(dir, name, AT_REMOVEDIR) == 0;
}

bool file_remove_tree(const char *path, struct err *e)
{
    if (remove_at(AT_FDCWD, path, 0))
        return true;
    return err_errno(e, ERR_IO, errno, "removing %s", path);
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}
