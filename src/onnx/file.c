/* file.c - mapping a model and its external data.
 *
 * External data comes from strangers: its name must be a plain one, the file stands in the model's
 * folder, is opened without following links, is regular and has one link, so that a model can't
 * make us read (and store, and send) any other file of this machine.  An opener has rules of its
 * own. */
#include "onnx/reader.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME_MAX 255

static bool map_fd(struct onnx *m, int fd, const char *name, uint64_t max, bool one_link,
                   uint32_t *ret, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_errno(e, ERR_IO, errno, "%s", name);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "%s: is not a regular file", name);
    if (one_link && st.st_nlink != 1)
        return err_set(e, ERR_DENIED, "external data '%s': has %llu links, should have one", name,
                       (unsigned long long)st.st_nlink);
    if ((uint64_t)st.st_size > max)
        return err_set(e, ERR_TOO_LARGE, "%s: %lld bytes, more than the limit of %llu", name,
                       (long long)st.st_size, (unsigned long long)max);
    if (!POOL_ADD(m->files, 1, ONNX_EXTERNAL_FILES_MAX + 1, "data files", e))
        return false;
    struct gfile *f = &m->files.items[m->files.count - 1];
    f->name = strdup(name);
    if (!f->name)
        return err_set(e, ERR_MEMORY, "%s: no memory", name);
    if (!mapping_open(fd, name, &f->map, e))
        return false;
    *ret = m->files.count - 1;
    return true;
}

bool file_map_model(struct onnx *m, struct err *e)
{
    int fd = open(m->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "%s", m->path);
    uint32_t at;
    bool ok = map_fd(m, fd, m->path, ONNX_FILE_MAX, false, &at, e);
    close(fd);
    if (ok && m->files.items[at].map.size == 0)
        return err_set(e, ERR_INVALID, "%s: is empty", m->path);
    return ok;
}

static bool plain_name(struct span name)
{
    return !memchr(name.data, '/', name.size) && !span_is(name, ".") && !span_is(name, "..");
}

static int open_beside(const char *model, const char *name)
{
    const char *slash = strrchr(model, '/');
    char *folder = slash ? strndup(model, (size_t)(slash - model) + 1) : strdup(".");
    int dir = folder ? open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    int number = folder ? errno : ENOMEM;
    free(folder);
    if (dir < 0) {
        errno = number;
        return -1;
    }
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    number = errno;
    close(dir);
    errno = number;
    return fd;
}

/* *ret: a file beside the model. */
static bool open_own(const struct onnx *m, const char *name, int *ret, struct err *e)
{
    char shown[SPAN_TEXT_SIZE];
    struct span s = {(const uint8_t *)name, strlen(name)};
    if (!plain_name(s))
        return err_set(e, ERR_DENIED,
                       "external data '%s': should be a plain file name in the model's folder",
                       span_text(s, shown));
    *ret = open_beside(m->path, name);
    if (*ret < 0 && errno == ELOOP)
        return err_set(e, ERR_DENIED, "external data '%s': is a link", span_text(s, shown));
    return *ret >= 0 || err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno,
                                  "external data '%s'", span_text(s, shown));
}

bool file_map_external(struct reader *r, struct span name, uint32_t *ret)
{
    struct onnx *m = r->m;
    char shown[SPAN_TEXT_SIZE], text[FILE_NAME_MAX + 1];
    if (name.size == 0 || name.size > FILE_NAME_MAX || memchr(name.data, 0, name.size))
        return err_set(r->e, ERR_DENIED,
                       "external data '%s': should be a plain file name in the model's folder",
                       span_text(name, shown));
    memcpy(text, name.data, name.size);
    text[name.size] = 0;
    for (uint32_t i = 1; i < m->files.count; i++)
        if (strcmp(m->files.items[i].name, text) == 0) {
            *ret = i;
            return true;
        }
    int fd;
    if (!(r->opener ? r->opener->open(r->opener->ctx, text, &fd, r->e)
                    : open_own(m, text, &fd, r->e)))
        return false;
    bool ok = map_fd(m, fd, text, ONNX_EXTERNAL_MAX, !r->opener, ret, r->e);
    close(fd);
    return ok;
}

/* ---- ranges --------------------------------------------------------------------------------- */

struct range {
    uint32_t file, tensor;
    uint64_t offset, bytes;
};

static int by_offset(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static bool overlap(const struct onnx *m, const struct range *a, const struct range *b,
                    struct err *e)
{
    char one[SPAN_TEXT_SIZE], other[SPAN_TEXT_SIZE];
    return err_set(e, ERR_INVALID,
                   "constants '%s' (bytes %" PRIu64 " + %" PRIu64 ") and '%s' (bytes %" PRIu64
                   " + %" PRIu64 ") overlap in external data '%.80s'",
                   span_text(m->tensors.items[a->tensor].name, one), a->offset, a->bytes,
                   span_text(m->tensors.items[b->tensor].name, other), b->offset, b->bytes,
                   m->files.items[a->file].name);
}

bool file_check_ranges(const struct onnx *m, struct err *e)
{
    size_t count = 0;
    if (m->files.count < 2)
        return true;
    struct range *list = calloc((size_t)m->tensors.count + 1, sizeof(*list));
    if (!list)
        return err_set(e, ERR_MEMORY, "constants: no memory");
    for (uint32_t i = 0; i < m->tensors.count; i++) {
        const struct gtensor *t = &m->tensors.items[i];
        if (t->file && t->bytes)
            list[count++] = (struct range){
                t->file, i, (uint64_t)(t->data - m->files.items[t->file].map.data), t->bytes};
    }
    qsort(list, count, sizeof(*list), by_offset);
    bool ok = true;
    for (size_t i = 1; ok && i < count; i++) {
        const struct range *a = &list[i - 1], *b = &list[i];
        if (a->file == b->file && b->offset - a->offset < a->bytes &&
            (a->offset != b->offset || a->bytes != b->bytes))
            ok = overlap(m, a, b, e);
    }
    free(list);
    return ok;
}
