/* external.c - external data by the rules of the command line. */
#include "cli/external.h"

#include "base/file.h"
#include "base/num.h"
#include "cli/folder.h"
#include "onnx/pb.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- opening -------------------------------------------------------------------------------- */

/* Where a model's data files are looked for. */
struct place {
    char *folder; /* of the .onnx file as it was named, resolved; owned */
    char *blobs;  /* of the cache that the folder belongs to; owned; NULL: of none */
};

static const char *shown(const char *name, char buf[SPAN_TEXT_SIZE])
{
    return span_text((struct span){(const uint8_t *)name, strlen(name)}, buf);
}

/* The file is a link: fine in a snapshot of the cache, to a file right in its blobs/. */
static bool open_cached(const struct place *p, const char *name, int *ret, struct err *e)
{
    char text[SPAN_TEXT_SIZE];
    if (!p->blobs)
        return err_set(e, ERR_DENIED, "external data '%s': is a link", shown(name, text));
    char *path = text_format("%s/%s", p->folder, name), *real = path ? realpath(path, NULL) : NULL;
    size_t n = strlen(p->blobs);
    bool ok =
        real && strncmp(real, p->blobs, n) == 0 && real[n] == '/' && !strchr(real + n + 1, '/');
    if (!real)
        err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "external data '%s'",
                  shown(name, text));
    else if (!ok)
        err_set(e, ERR_DENIED, "external data '%s': is a link to %.150s, outside of %.150s",
                shown(name, text), real, p->blobs);
    if (ok && (*ret = open(real, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)) < 0)
        ok = err_errno(e, ERR_IO, errno, "%s", real);
    free(path);
    free(real);
    return ok;
}

static bool one_link(int fd, const char *name, struct err *e)
{
    struct stat st;
    char text[SPAN_TEXT_SIZE];
    if (fstat(fd, &st) != 0)
        return err_errno(e, ERR_IO, errno, "external data '%s'", shown(name, text));
    return st.st_nlink == 1 ||
           err_set(e, ERR_DENIED, "external data '%s': has %llu links, should have one",
                   shown(name, text), (unsigned long long)st.st_nlink);
}

/* The last folder of a name, one after the other without following links; -1 with e set. */
static int open_folder(const struct place *p, const char *name, const char **ret_last,
                       struct err *e)
{
    char text[SPAN_TEXT_SIZE], part[256];
    int dir = open(p->folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        err_errno(e, ERR_IO, errno, "%s", p->folder);
    while (dir >= 0) {
        size_t n = strcspn(name, "/");
        (void)snprintf(part, sizeof(part), "%.*s", (int)n, name);
        *ret_last = name;
        if (!name[n])
            break;
        int below = openat(dir, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (below < 0)
            err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_DENIED, errno,
                      "external data: folder '%s' (links are not followed)", shown(part, text));
        close(dir);
        dir = below;
        name += n + 1;
    }
    return dir;
}

/* Parts with something in them, none "." or ".."; so no absolute path either. */
static bool stays_inside(const char *name)
{
    for (;;) {
        size_t n = strcspn(name, "/");
        if (n == 0 || (n == 1 && name[0] == '.') || (n == 2 && strncmp(name, "..", 2) == 0))
            return false;
        if (!name[n])
            return true;
        name += n + 1;
    }
}

static bool open_data(void *ctx, const char *name, int *ret, struct err *e)
{
    const struct place *p = ctx;
    char text[SPAN_TEXT_SIZE];
    const char *last;
    if (!stays_inside(name))
        return err_set(e, ERR_DENIED,
                       "external data '%s': should be a file name within the model's folder, "
                       "without '..'",
                       shown(name, text));
    int dir = open_folder(p, name, &last, e);
    if (dir < 0)
        return false;
    *ret = openat(dir, last, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int number = errno;
    close(dir);
    if (*ret < 0 && number == ELOOP)
        return open_cached(p, name, ret, e);
    if (*ret < 0)
        return err_errno(e, number == ENOENT ? ERR_NOT_FOUND : ERR_IO, number, "external data '%s'",
                         shown(name, text));
    if (one_link(*ret, name, e))
        return true;
    close(*ret);
    return false;
}

bool external_open(const char *path, struct onnx **ret, struct err *e)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? text_format("%.*s", (int)(slash - path) + 1, path) : strdup(".");
    struct place p = {.folder = folder ? realpath(folder, NULL) : NULL};
    p.blobs = p.folder ? folder_cache_blobs(p.folder) : NULL;
    struct onnx_opener opener = {open_data, &p};
    bool ok = p.folder ? onnx_open_with(path, &opener, ret, e)
                       : err_errno(e, ERR_NOT_FOUND, errno, "%s", path);
    free(folder);
    free(p.folder);
    free(p.blobs);
    return ok;
}

/* ---- the bundle ----------------------------------------------------------------------------- */

bool external_pack(const char *path, struct packed **ret, struct err *e)
{
    struct packed *p = calloc(1, sizeof(*p));
    *ret = NULL;
    if (!p)
        return err_set(e, ERR_MEMORY, "no memory");
    bool ok = external_open(path, &p->model, e);
    if (!ok || !onnx_is_external(p->model)) {
        external_free(p);
        return ok;
    }
    ok = onnx_relocate(p->model, BUNDLE_WEIGHTS, &p->moved, e);
    if (ok && p->moved.graph_bytes > BUNDLE_ONNX_MAX)
        ok = err_set(e, ERR_TOO_LARGE,
                     "%s: the graph with its small constants: %llu bytes, more than the limit of "
                     "%llu",
                     path, (unsigned long long)p->moved.graph_bytes,
                     (unsigned long long)BUNDLE_ONNX_MAX);
    if (!ok) {
        external_free(p);
        return false;
    }
    bundle_footer(p->moved.data_bytes, p->moved.graph_bytes, p->footer);
    p->size = p->moved.data_bytes + p->moved.graph_bytes + BUNDLE_FOOTER_BYTES;
    *ret = p;
    return true;
}

void external_free(struct packed *p)
{
    if (!p)
        return;
    relocated_clear(&p->moved);
    onnx_close(p->model);
    free(p);
}

/* The piece that reading is at: those of the model, and the footer. */
static struct relocate_piece piece(const struct packed *p)
{
    return p->at < p->moved.count
               ? p->moved.pieces[p->at]
               : (struct relocate_piece){.data = p->footer, .size = BUNDLE_FOOTER_BYTES};
}

void external_seek(struct packed *p, uint64_t offset)
{
    p->at = 0;
    while (p->at < p->moved.count && offset >= p->moved.pieces[p->at].size)
        offset -= p->moved.pieces[p->at++].size;
    p->done = (size_t)num_min(offset, piece(p).size);
}

size_t external_read(struct packed *p, void *to, size_t size)
{
    size_t have = 0;
    while (have < size && p->at <= p->moved.count) {
        struct relocate_piece x = piece(p);
        size_t n = num_min(size - have, x.size - p->done);
        memcpy((char *)to + have, x.data + p->done, n);
        have += n;
        p->done += n;
        if (p->done == x.size) {
            p->at++;
            p->done = 0;
        }
    }
    return have;
}

struct digest external_digest(struct packed *p)
{
    struct digest none = {{0}};
    struct digest_ctx *d = digest_start();
    if (!d)
        return none;
    for (uint32_t i = 0; i < p->moved.count; i++)
        digest_add(d, p->moved.pieces[i].data, p->moved.pieces[i].size);
    digest_add(d, p->footer, BUNDLE_FOOTER_BYTES);
    return digest_finish(d);
}

static bool write_pieces(const char *folder, const char *name, const struct relocate_piece *pieces,
                         uint32_t count, struct err *e)
{
    char *path = text_format("%s/%s", folder, name);
    FILE *f = path ? fopen(path, "wbxe") : NULL;
    bool ok = f != NULL;
    for (uint32_t i = 0; ok && i < count; i++)
        ok = fwrite(pieces[i].data, 1, pieces[i].size, f) == pieces[i].size;
    if (f)
        ok = fclose(f) == 0 && ok;
    if (!ok)
        err_errno(e, ERR_IO, errno, "%s/%s", folder, name);
    free(path);
    return ok;
}

bool external_write(const struct onnx *m, const char *folder, struct err *e)
{
    struct relocated r;
    if (!onnx_relocate(m, BUNDLE_WEIGHTS, &r, e))
        return false;
    bool ok =
        write_pieces(folder, BUNDLE_WEIGHTS, r.pieces, r.data_count, e) &&
        write_pieces(folder, "module.onnx", r.pieces + r.data_count, r.count - r.data_count, e);
    relocated_clear(&r);
    return ok && onnx_unchanged(m, e);
}
