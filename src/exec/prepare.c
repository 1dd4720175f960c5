/* prepare.c - the cache of prepared modules. */
#include "exec/prepare.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/num.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define FORM 1               /* of the folder; another number: made again */
#define NOTE_MAX (16u << 10) /* bytes of prepared.json */
#define NOTE "prepared.json"

static const char *const files[] = {"module.onnx", "module.bin"};

/* ---- key ------------------------------------------------------------------------------------- */

/* What the kernels' choice depends on: the CPU's model and its features. */
static void add_cpu(struct digest_ctx *c)
{
#if defined(__x86_64__)
    unsigned a, b, x, d;
    if (__get_cpuid(1, &a, &b, &x, &d)) {
        unsigned words[] = {a, x, d}; /* not b: it holds the number of the core */
        digest_add(c, words, sizeof(words));
    }
    for (unsigned sub = 0; sub < 2; sub++)
        if (__get_cpuid_count(7, sub, &a, &b, &x, &d)) {
            unsigned words[] = {sub, a, b, x, d};
            digest_add(c, words, sizeof(words));
        }
#endif
    unsigned long caps[] = {getauxval(AT_HWCAP), getauxval(AT_HWCAP2)};
    digest_add(c, caps, sizeof(caps));
}

void prepared_key(const char *runtime_version, char ret[17])
{
    struct digest_ctx *c = digest_start();
    struct digest d = {.hex = "0000000000000000"};
    int form = FORM;
    if (c) {
        digest_add(c, runtime_version, strlen(runtime_version) + 1);
        digest_add(c, &form, sizeof(form));
        add_cpu(c);
        d = digest_finish(c);
    }
    memcpy(ret, d.hex, 16);
    ret[16] = 0;
}

bool prepared_dir_make(const char *dir, char **ret, struct err *e)
{
    *ret = NULL;
    if (!dir || !*dir)
        return true;
    if (!file_make_dirs(dir, e))
        return false;
    *ret = realpath(dir, NULL);
    return *ret || err_errno(e, ERR_IO, errno, "%s", dir);
}

/* ---- looking at an entry --------------------------------------------------------------------- */

static bool ours_alone(int fd, mode_t kind, struct stat *st)
{
    return fstat(fd, st) == 0 && (st->st_mode & S_IFMT) == kind && st->st_uid == geteuid() &&
           (st->st_mode & (S_IWGRP | S_IWOTH)) == 0 && (kind == S_IFDIR || st->st_nlink == 1);
}

/* A file of the note: name from the list, bytes and digest as noted. */
static bool file_fits(int folder, const json_t *row, bool verified)
{
    const char *name, *hex;
    uint64_t bytes;
    if (!json_need_str(row, NOTE, "name", &name, NULL) ||
        !json_need_str(row, NOTE, "digest", &hex, NULL) ||
        !json_need_u64(row, NOTE, "bytes", INT64_MAX, &bytes, NULL))
        return false;
    bool known = false;
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        known = known || strcmp(name, files[i]) == 0;
    int fd = known ? openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK) : -1;
    if (fd < 0)
        return false;
    struct stat st;
    struct digest d;
    bool ok = ours_alone(fd, S_IFREG, &st) && (uint64_t)st.st_size == bytes &&
              (verified || (digest_of_fd(fd, &d, NULL) && strcmp(d.hex, hex) == 0));
    (void)close(fd);
    return ok;
}

/* Nothing but the files of the note and the note itself. */
static bool nothing_else(const char *path, size_t noted)
{
    DIR *d = opendir(path);
    if (!d)
        return false;
    size_t seen = 0;
    for (const struct dirent *i = readdir(d); i; i = readdir(d))
        if (strcmp(i->d_name, ".") != 0 && strcmp(i->d_name, "..") != 0)
            seen++;
    (void)closedir(d);
    return seen == noted + 1;
}

enum entry_state { ENTRY_NONE, ENTRY_GOOD, ENTRY_REFUSED };

static enum entry_state note_state(int folder, const char *path, const json_t *note,
                                   const char *digest, bool verified)
{
    const char *noted = "", *refused = NULL;
    json_t *rows;
    if (!json_need_str(note, NOTE, "digest", &noted, NULL) || strcmp(noted, digest) != 0 ||
        !json_opt_str(note, NOTE, "refused", &refused, NULL))
        return ENTRY_NONE;
    if (refused)
        return ENTRY_REFUSED;
    if (!json_need_array(note, NOTE, "files", ARRAY_LEN(files), &rows, NULL) ||
        !nothing_else(path, json_array_size(rows)))
        return ENTRY_NONE;
    for (size_t i = 0; i < json_array_size(rows); i++)
        if (!file_fits(folder, json_array_get(rows, i), verified))
            return ENTRY_NONE;
    return json_array_size(rows) > 0 ? ENTRY_GOOD : ENTRY_NONE;
}

static enum entry_state look(const char *path, const char *digest, bool verified)
{
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0)
        return ENTRY_NONE;
    struct stat st;
    enum entry_state state = ENTRY_NONE;
    char *note_path = text_format("%s/" NOTE, path);
    json_t *note = note_path && ours_alone(folder, S_IFDIR, &st)
                       ? json_parse_file(note_path, NOTE_MAX, NULL)
                       : NULL;
    if (note)
        state = note_state(folder, path, note, digest, verified);
    json_decref(note);
    free(note_path);
    (void)close(folder);
    return state;
}

/* ---- making one ------------------------------------------------------------------------------ */

static bool note_file(const char *tmp, const char *name, json_t *rows, struct err *e)
{
    char *path = text_format("%s/%s", tmp, name);
    if (!path)
        return err_set(e, ERR_MEMORY, "prepare: no memory");
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    bool missing = fd < 0 && errno == ENOENT;
    free(path);
    if (missing)
        return true;
    if (fd < 0)
        return err_errno(e, ERR_IO, errno, "prepare: %s", name);
    struct stat st;
    struct digest d;
    bool ok = fstat(fd, &st) == 0 && fchmod(fd, 0400) == 0 && fsync(fd) == 0;
    if (!ok)
        err_errno(e, ERR_IO, errno, "prepare: %s", name);
    ok = ok && digest_of_fd(fd, &d, e);
    (void)close(fd);
    if (ok && json_array_append_new(rows, json_pack("{s:s,s:I,s:s}", "name", name, "bytes",
                                                    (json_int_t)st.st_size, "digest", d.hex)) != 0)
        ok = err_set(e, ERR_MEMORY, "prepare: no memory");
    return ok;
}

static bool write_note(const char *tmp, json_t *note, struct err *e)
{
    char *text = note ? json_text(note) : NULL;
    char *path = text_format("%s/" NOTE, tmp);
    bool ok = text && path;
    if (!ok)
        err_set(e, ERR_MEMORY, "prepare: no memory");
    ok = ok && file_write_atomic(path, text, strlen(text), 0400, e);
    free(text);
    free(path);
    return ok;
}

static bool note_made(const char *tmp, const char *digest, struct err *e)
{
    json_t *rows = json_array();
    bool ok = rows || err_set(e, ERR_MEMORY, "prepare: no memory");
    for (size_t i = 0; ok && i < ARRAY_LEN(files); i++)
        ok = note_file(tmp, files[i], rows, e);
    json_t *note =
        ok ? json_pack("{s:i,s:s,s:O}", "form", FORM, "digest", digest, "files", rows) : NULL;
    ok = ok && write_note(tmp, note, e);
    json_decref(note);
    json_decref(rows);
    return ok;
}

static bool note_refused(const char *tmp, const char *digest, const char *why, struct err *e)
{
    json_t *note = json_pack("{s:i,s:s,s:s}", "form", FORM, "digest", digest, "refused", why);
    bool ok = write_note(tmp, note, e);
    json_decref(note);
    return ok;
}

/* Of a program that was ended while it prepared; the lock says that nobody does now. */
static void remove_leftovers(const char *dir)
{
    DIR *d = opendir(dir);
    if (!d)
        return;
    for (const struct dirent *i = readdir(d); i; i = readdir(d)) {
        if (strncmp(i->d_name, "tmp.", 4) != 0)
            continue;
        char *path = text_format("%s/%s", dir, i->d_name);
        if (path)
            (void)file_remove_tree(path, NULL);
        free(path);
    }
    (void)closedir(d);
}

/* A refusal of the runtime is remembered; a lack of memory or disk is not. */
static bool lasting(enum err_code code)
{
    return code == ERR_UNSUPPORTED || code == ERR_INVALID || code == ERR_INTERNAL;
}

static bool make_entry(const char *dir, const char *path, const char *digest, prepare_fn *make,
                       void *arg, struct prepared *ret, struct err *e)
{
    char *tmp = text_format("%s/tmp.XXXXXX", dir);
    if (!tmp)
        return err_set(e, ERR_MEMORY, "prepare: no memory");
    bool ok = mkdtemp(tmp) || err_errno(e, ERR_IO, errno, "%s", tmp);
    struct err why = {0};
    if (ok && make(arg, tmp, &ret->peak, &why))
        ok = note_made(tmp, digest, e);
    else if (ok && lasting(why.code))
        ok = file_remove_tree(tmp, e) && file_make_dirs(tmp, e) &&
             note_refused(tmp, digest, why.text, e);
    else if (ok)
        ok = err_set(e, why.code, "%s", why.text);
    ok = ok && file_remove_tree(path, e);
    if (ok && rename(tmp, path) != 0)
        ok = err_errno(e, ERR_IO, errno, "rename to %s", path);
    if (!ok)
        (void)file_remove_tree(tmp, NULL);
    free(tmp);
    return ok;
}

/* Under the lock; another process may have made it while we waited for that. */
static enum entry_state make_locked(const char *dir, const char *path, const char *digest,
                                    prepare_fn *make, void *arg, struct prepared *ret,
                                    struct err *e)
{
    enum entry_state state = look(path, digest, false);
    if (state != ENTRY_NONE)
        return state;
    remove_leftovers(dir);
    int64_t start = clock_now_ns();
    if (!make_entry(dir, path, digest, make, arg, ret, e))
        return ENTRY_NONE;
    ret->ms = clock_ms_since(start);
    return look(path, digest, true); /* digests were taken from these bytes a moment ago */
}

static enum entry_state make_alone(const char *dir, const char *path, const char *digest,
                                   prepare_fn *make, void *arg, struct prepared *ret)
{
    struct err why = {0};
    enum entry_state state = ENTRY_NONE;
    char *name = text_format("%s/lock", dir);
    int fd = name && file_make_dirs(dir, &why)
                 ? open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)
                 : -1;
    free(name);
    if (fd >= 0 && flock(fd, LOCK_EX) == 0)
        state = make_locked(dir, path, digest, make, arg, ret, &why);
    if (fd >= 0)
        (void)close(fd);
    if (state == ENTRY_NONE)
        log_debug("exec", "module %.12s is not prepared: %s", digest, why.text);
    return state;
}

void prepared_take(const char *dir, const char *runtime_version, const char *digest, bool verified,
                   prepare_fn *make, void *arg, struct prepared *ret)
{
    char key[17];
    prepared_key(runtime_version, key);
    *ret = (struct prepared){0};
    char *path = text_format("%s/%s-%s", dir, digest, key);
    if (!path)
        return;
    enum entry_state state = look(path, digest, verified);
    if (state == ENTRY_NONE)
        state = make_alone(dir, path, digest, make, arg, ret);
    if (state == ENTRY_GOOD)
        ret->folder = path;
    else
        free(path);
}
