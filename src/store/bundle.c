/* bundle.c - a module of two files as one blob. */
#include "store/bundle.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 65536u /* of any machine */
static const char magic[8] = {'S', '2', 'M', '3', 'B', 'N', 'D', 'L'};

static void put_u64(uint8_t *to, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_u64(const uint8_t *from)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | from[i];
    return v;
}

/* ---- making --------------------------------------------------------------------------------- */

static bool write_all(int fd, const void *data, size_t size)
{
    const char *p = data;
    while (size) {
        ssize_t n = write(fd, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        size -= (size_t)n;
    }
    return true;
}

void bundle_footer(uint64_t weight_bytes, uint64_t onnx_bytes, uint8_t ret[BUNDLE_FOOTER_BYTES])
{
    memset(ret, 0, BUNDLE_FOOTER_BYTES);
    memcpy(ret, magic, sizeof(magic));
    put_u64(ret + 8, weight_bytes);
    put_u64(ret + 16, onnx_bytes);
}

static bool append(const char *weights, const char *onnx, size_t size, struct err *e)
{
    int fd = open(weights, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    uint8_t footer[BUNDLE_FOOTER_BYTES];
    bool ok = fd >= 0 && fstat(fd, &st) == 0;
    if (ok) {
        bundle_footer((uint64_t)st.st_size, size, footer);
        ok = write_all(fd, onnx, size) && write_all(fd, footer, sizeof(footer)) && fsync(fd) == 0;
    }
    if (!ok)
        err_errno(e, ERR_IO, errno, "%s", weights);
    if (fd >= 0)
        close(fd);
    return ok;
}

bool bundle_make(const char *folder, char **ret, struct err *e)
{
    char *onnx = text_format("%s/module.onnx", folder);
    char *weights = onnx ? text_format("%s/" BUNDLE_WEIGHTS, folder) : NULL;
    char *data = NULL;
    size_t size;
    bool ok = weights != NULL || err_set(e, ERR_MEMORY, "store: no memory"), two = false;
    if (ok && file_exists(weights)) {
        two = true;
        ok = file_read(onnx, BUNDLE_ONNX_MAX, &data, &size, e) && append(weights, data, size, e);
    }
    free(data);
    free(two ? onnx : weights);
    if (!ok) {
        free(two ? weights : onnx);
        return false;
    }
    *ret = two ? weights : onnx;
    return true;
}

/* ---- opening -------------------------------------------------------------------------------- */

/* *size 0: no bundle. */
static bool read_footer(int fd, const char *blob, uint64_t *offset, uint64_t *size, struct err *e)
{
    struct stat st;
    uint8_t footer[BUNDLE_FOOTER_BYTES];
    *offset = *size = 0;
    if (fstat(fd, &st) != 0)
        return err_errno(e, ERR_IO, errno, "%s", blob);
    if (st.st_size < BUNDLE_FOOTER_BYTES)
        return true;
    uint64_t body = (uint64_t)st.st_size - BUNDLE_FOOTER_BYTES;
    if (pread(fd, footer, sizeof(footer), (off_t)body) != BUNDLE_FOOTER_BYTES)
        return err_errno(e, ERR_IO, errno, "%s", blob);
    if (memcmp(footer, magic, sizeof(magic)) != 0)
        return true;
    *offset = get_u64(footer + 8);
    *size = get_u64(footer + 16);
    return (*size > 0 && *size <= BUNDLE_ONNX_MAX && *offset <= body && *size == body - *offset) ||
           err_set(e, ERR_INVALID, "%s: the bundle's footer does not agree with its size", blob);
}

/* By a mapping: a graph may hold weights, and they don't belong on the heap. */
static bool extract(int fd, uint64_t offset, uint64_t size, const char *file, struct err *e)
{
    uint64_t from = offset & ~(uint64_t)(PAGE - 1);
    size_t mapped = (size_t)(offset - from + size);
    char *data = mmap(NULL, mapped, PROT_READ, MAP_PRIVATE, fd, (off_t)from);
    if (data == MAP_FAILED)
        return err_errno(e, ERR_IO, errno, "mapping for %s", file);
    bool ok = file_write_atomic(file, data + (offset - from), size, 0400, e);
    (void)munmap(data, mapped);
    return ok;
}

bool bundle_open(const char *blob, const char *folder, bool *ret, struct err *e)
{
    char *onnx = text_format("%s/module.onnx", folder);
    char *weights = onnx ? text_format("%s/" BUNDLE_WEIGHTS, folder) : NULL;
    uint64_t offset = 0, size = 0;
    int fd = weights ? open(blob, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    bool ok = fd >= 0 || err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "%s", blob);
    ok = ok && read_footer(fd, blob, &offset, &size, e);
    /* module.onnx last: where it stands, the folder is whole. */
    if (ok && size > 0 && link(blob, weights) != 0 && errno != EEXIST)
        ok = err_errno(e, ERR_IO, errno, "%s", weights);
    ok = ok && (size == 0 || extract(fd, offset, size, onnx, e));
    if (fd >= 0)
        close(fd);
    free(onnx);
    free(weights);
    *ret = size > 0;
    return ok;
}
