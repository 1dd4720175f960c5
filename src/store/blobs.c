/* blobs.c - content by digest. */
#include "store/blobs.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/sync.h"
#include "store/bundle.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRANSFERS_MAX 64
#define SWEEP_MAX 65536

struct blobs {
    char *dir;
    struct monitor lock;
    char busy[TRANSFERS_MAX][DIGEST_HEX + 1]; /* digests with a transfer under way */
};

struct blob_transfer {
    struct blobs *blobs;
    char digest[DIGEST_HEX + 1];
    int fd;
    uint64_t size;
};

bool blobs_open(const char *data_dir, struct blobs **ret, struct err *e)
{
    struct blobs *b = calloc(1, sizeof(*b));
    if (!b || !(b->dir = strdup(data_dir))) {
        free(b);
        return err_set(e, ERR_MEMORY, "store: no memory");
    }
    monitor_init(&b->lock);
    static const char *const folders[] = {"blobs", "partial", "modules"};
    for (int i = 0; i < 3; i++) {
        char *path = text_format("%s/%s", data_dir, folders[i]);
        bool ok = path && file_make_dirs(path, e);
        free(path);
        if (!ok) {
            blobs_close(b);
            return false;
        }
    }
    *ret = b;
    return true;
}

void blobs_close(struct blobs *b)
{
    if (!b)
        return;
    monitor_destroy(&b->lock);
    free(b->dir);
    free(b);
}

const char *blobs_dir(const struct blobs *b)
{
    return b->dir;
}

static char *path_of(const struct blobs *b, const char *folder, const char *digest, struct err *e)
{
    if (!digest_valid(digest)) {
        err_set(e, ERR_INVALID, "store: '%.80s' is not a SHA-256 digest", digest ? digest : "");
        return NULL;
    }
    char *path = text_format("%s/%s/%s", b->dir, folder, digest);
    if (!path)
        err_set(e, ERR_MEMORY, "store: no memory");
    return path;
}

bool blobs_has(const struct blobs *b, const char *digest)
{
    char *path = path_of(b, "blobs", digest, NULL);
    bool there = path && file_exists(path);
    free(path);
    return there;
}

bool blobs_read(const struct blobs *b, const char *digest, int *ret, struct err *e)
{
    char *path = path_of(b, "blobs", digest, e);
    if (!path)
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    free(path);
    if (fd < 0)
        return err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "blob %.16s", digest);
    *ret = fd;
    return true;
}

bool blobs_size(const struct blobs *b, const char *digest, uint64_t *ret, struct err *e)
{
    int fd;
    struct stat st;
    if (!blobs_read(b, digest, &fd, e))
        return false;
    int r = fstat(fd, &st);
    close(fd);
    if (r != 0)
        return err_errno(e, ERR_IO, errno, "blob %.16s", digest);
    *ret = (uint64_t)st.st_size;
    return true;
}

bool blobs_load(const struct blobs *b, const char *digest, size_t max, char **ret, size_t *ret_size,
                struct err *e)
{
    char *path = path_of(b, "blobs", digest, e);
    bool ok = path && file_read(path, max, ret, ret_size, e);
    free(path);
    return ok;
}

static bool claim(struct blobs *b, const char *digest, struct err *e)
{
    char *place = NULL;
    bool taken = false;
    monitor_lock(&b->lock);
    for (int i = 0; i < TRANSFERS_MAX; i++) {
        if (!b->busy[i][0])
            place = b->busy[i];
        else if (strcmp(b->busy[i], digest) == 0)
            taken = true;
    }
    if (place && !taken)
        memcpy(place, digest, DIGEST_HEX + 1);
    monitor_unlock(&b->lock);
    if (taken)
        return err_set(e, ERR_BUSY,
                       "blob %.16s: comes by another request already; try again when that is done",
                       digest);
    return place ? true
                 : err_set(e, ERR_BUSY, "store: %d transfers at once are the limit", TRANSFERS_MAX);
}

static void release(struct blobs *b, const char *digest)
{
    monitor_lock(&b->lock);
    for (int i = 0; i < TRANSFERS_MAX; i++)
        if (strcmp(b->busy[i], digest) == 0)
            b->busy[i][0] = 0;
    monitor_unlock(&b->lock);
}

bool blobs_begin(struct blobs *b, const char *digest, struct blob_transfer **ret, uint64_t *have,
                 struct err *e)
{
    char *path = path_of(b, "partial", digest, e);
    if (!path || !claim(b, digest, e)) {
        free(path);
        return false;
    }
    struct blob_transfer *t = calloc(1, sizeof(*t));
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat st;
    if (!t || fd < 0 || fstat(fd, &st) != 0 || lseek(fd, 0, SEEK_END) < 0) {
        err_errno(e, ERR_IO, errno, "%s", path);
        if (fd >= 0)
            close(fd);
        free(t);
        free(path);
        release(b, digest);
        return false;
    }
    free(path);
    *t = (struct blob_transfer){.blobs = b, .fd = fd, .size = (uint64_t)st.st_size};
    memcpy(t->digest, digest, sizeof(t->digest));
    *ret = t;
    *have = t->size;
    return true;
}

bool blob_append(struct blob_transfer *t, const void *data, size_t size, struct err *e)
{
    if (size > BLOB_BYTES_MAX - t->size)
        return err_set(e, ERR_TOO_LARGE, "blob %.16s: over the limit of %llu bytes", t->digest,
                       (unsigned long long)BLOB_BYTES_MAX);
    const char *p = data;
    while (size) {
        ssize_t n = write(t->fd, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            int why = errno;
            /* A full disk has no room for halves. */
            if (ftruncate(t->fd, 0) == 0 && lseek(t->fd, 0, SEEK_SET) == 0)
                t->size = 0;
            return err_errno(e, ERR_IO, why, "blob %.16s", t->digest);
        }
        p += n;
        size -= (size_t)n;
        t->size += (uint64_t)n;
    }
    return true;
}

static void end_transfer(struct blob_transfer *t)
{
    close(t->fd);
    release(t->blobs, t->digest);
    free(t);
}

void blob_abandon(struct blob_transfer *t)
{
    end_transfer(t);
}

bool blob_commit(struct blob_transfer *t, struct err *e)
{
    struct digest have;
    char *from = path_of(t->blobs, "partial", t->digest, e);
    char *to = path_of(t->blobs, "blobs", t->digest, e);
    bool ok = from && to && digest_of_fd(t->fd, &have, e);
    if (ok && strcmp(have.hex, t->digest) != 0) {
        (void)unlink(from);
        ok = err_set(e, ERR_INVALID, "blob %.16s: %llu bytes came, their digest is %.16s",
                     t->digest, (unsigned long long)t->size, have.hex);
    }
    if (ok && (fchmod(t->fd, 0400) != 0 || fsync(t->fd) != 0 || rename(from, to) != 0))
        ok = err_errno(e, ERR_IO, errno, "%s", to);
    free(from);
    free(to);
    end_transfer(t);
    return ok;
}

bool blobs_put(struct blobs *b, const void *data, size_t size, struct digest *ret, struct err *e)
{
    *ret = digest_of(data, size);
    if (blobs_has(b, ret->hex))
        return true;
    char *path = path_of(b, "blobs", ret->hex, e);
    bool ok = path && file_write_atomic(path, data, size, 0400, e);
    free(path);
    return ok;
}

static bool take_module(struct blobs *b, const char *folder, struct digest *ret, struct err *e)
{
    char *file = NULL, *to = NULL;
    int fd = -1;
    bool ok = bundle_make(folder, &file, e);
    if (ok && (fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) < 0)
        ok = err_errno(e, ERR_IO, errno, "%s", file);
    ok = ok && digest_of_fd(fd, ret, e) && (to = path_of(b, "blobs", ret->hex, e));
    if (ok && (fchmod(fd, 0400) != 0 || fsync(fd) != 0 || rename(file, to) != 0))
        ok = err_errno(e, ERR_IO, errno, "%s", to);
    if (fd >= 0)
        close(fd);
    free(file);
    free(to);
    return ok;
}

bool blobs_write_module(struct blobs *b,
                        bool (*write)(void *ctx, const char *folder, struct err *e), void *ctx,
                        struct digest *ret, struct err *e)
{
    char *folder = text_format("%s/work", b->dir);
    if (!folder)
        return err_set(e, ERR_MEMORY, "store: no memory");
    bool ok = file_remove_tree(folder, e) && file_make_dirs(folder, e) && write(ctx, folder, e) &&
              take_module(b, folder, ret, e);
    (void)file_remove_tree(folder, NULL);
    free(folder);
    return ok;
}

void blobs_drop(struct blobs *b, const char *digest)
{
    char *path = path_of(b, "blobs", digest, NULL);
    if (path)
        (void)unlink(path);
    free(path);
    blobs_module_remove(b, digest);
}

/* Makes what of the folder is missing. */
static bool fill_module(const char *blob, const char *folder, const char *file, const char *digest,
                        struct err *e)
{
    bool bundle;
    if (file_exists(file))
        return true;
    if (!bundle_open(blob, folder, &bundle, e))
        return err_prefix(e, "module %.16s", digest);
    return bundle || link(blob, file) == 0 || errno == EEXIST ||
           err_errno(e, ERR_IO, errno, "module %.16s", digest);
}

bool blobs_module_folder(struct blobs *b, const char *digest, char **ret, struct err *e)
{
    char *folder = path_of(b, "modules", digest, e);
    char *blob = folder ? path_of(b, "blobs", digest, e) : NULL;
    char *file = blob ? text_format("%s/module.onnx", folder) : NULL;
    bool ok = file && file_make_dirs(folder, e) && fill_module(blob, folder, file, digest, e);
    free(blob);
    free(file);
    if (!ok) {
        free(folder);
        return false;
    }
    *ret = folder;
    return true;
}

void blobs_module_remove(struct blobs *b, const char *digest)
{
    char *folder = path_of(b, "modules", digest, NULL);
    if (folder)
        (void)file_remove_tree(folder, NULL);
    free(folder);
}

void blobs_touch(struct blobs *b, const char *digest, bool young)
{
    static const struct timespec long_ago[2] = {{0}, {0}};
    char *path = path_of(b, "blobs", digest, NULL);
    if (path)
        (void)utimensat(AT_FDCWD, path, young ? NULL : long_ago, AT_SYMLINK_NOFOLLOW);
    free(path);
}

typedef bool keep_fn(void *ctx, const char *digest, int64_t age_s);

/* Entries are named DIGEST, or DIGEST-MORE where those are folders. */
static bool digest_of_entry(const char *name, bool folders, char ret[DIGEST_HEX + 1])
{
    size_t n = strlen(name);
    if (n > DIGEST_HEX && folders && name[DIGEST_HEX] == '-')
        n = DIGEST_HEX;
    (void)snprintf(ret, DIGEST_HEX + 1, "%.*s", DIGEST_HEX, name);
    return n == DIGEST_HEX && digest_valid(ret);
}

static bool remove_entry(const char *path, int dir, const char *name, bool folders)
{
    if (!folders)
        return unlinkat(dir, name, 0) == 0;
    char *folder = text_format("%s/%s", path, name);
    bool ok = folder && file_remove_tree(folder, NULL);
    free(folder);
    return ok;
}

static int sweep_folder(struct blobs *b, const char *folder, bool folders, keep_fn *keep, void *ctx)
{
    char *path = text_format("%s/%s", b->dir, folder);
    DIR *d = path ? opendir(path) : NULL;
    int removed = 0, seen = 0;
    for (struct dirent *entry; d && seen < SWEEP_MAX && (entry = readdir(d)); seen++) {
        char digest[DIGEST_HEX + 1];
        struct stat st;
        if (digest_of_entry(entry->d_name, folders, digest) &&
            fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            !keep(ctx, digest, clock_wall_ms() / 1000 - (int64_t)st.st_mtime) &&
            remove_entry(path, dirfd(d), entry->d_name, folders))
            removed++;
    }
    if (d)
        closedir(d);
    free(path);
    return removed;
}

int blobs_sweep(struct blobs *b, keep_fn *keep, void *ctx)
{
    return sweep_folder(b, "blobs", false, keep, ctx) +
           sweep_folder(b, "partial", false, keep, ctx);
}

int blobs_sweep_modules(struct blobs *b, keep_fn *keep, void *ctx)
{
    return sweep_folder(b, "modules", true, keep, ctx) +
           sweep_folder(b, "prepared", true, keep, ctx);
}
