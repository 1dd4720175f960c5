/* memory.c - /proc/PID/smaps, status and clear_refs (proc(5)). */
#include "exec/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 8192

enum mapping_kind { MAP_ANONYMOUS_KIND, MAP_MODULE, MAP_BASE };

static bool below(const char *path, const char *dir)
{
    size_t n = dir ? strlen(dir) : 0;
    return n > 0 && strncmp(path, dir, n) == 0 && path[n] == '/';
}

/* A mapping's first line: "from-to perms offset dev inode   path". */
static bool mapping_start(const char *line, const char **path)
{
    unsigned long from, to;
    int at = 0;
    if (sscanf(line, "%lx-%lx %*4s %*x %*x:%*x %*u %n", &from, &to, &at) != 2 || at == 0)
        return false;
    *path = line + at;
    return true;
}

static enum mapping_kind kind_of(const char *path, const char *module_dir, const char *prepared_dir)
{
    /* Tensors in memfds are memory that nobody can drop, like the heap. */
    if (path[0] != '/' || strncmp(path, "/memfd:", 7) == 0)
        return MAP_ANONYMOUS_KIND;
    return below(path, module_dir) || below(path, prepared_dir) ? MAP_MODULE : MAP_BASE;
}

/* "Rss:     12 kB" in bytes. */
static bool field(const char *line, const char *name, uint64_t *ret)
{
    size_t n = strlen(name);
    if (strncmp(line, name, n) != 0 || line[n] != ':')
        return false;
    *ret = strtoull(line + n + 1, NULL, 10) * 1024;
    return true;
}

static void add_mapping(struct exec_memory *m, enum mapping_kind kind, uint64_t size, uint64_t rss,
                        uint64_t anonymous)
{
    if (kind == MAP_ANONYMOUS_KIND)
        anonymous = rss;
    m->anonymous += anonymous;
    if (kind == MAP_MODULE) {
        m->file += rss - anonymous;
        m->mapped += size - anonymous;
    } else if (kind == MAP_BASE) {
        m->base += rss - anonymous;
    }
}

static void read_smaps(FILE *f, const char *module_dir, const char *prepared_dir,
                       struct exec_memory *m)
{
    char line[LINE_MAX_BYTES];
    enum mapping_kind kind = MAP_ANONYMOUS_KIND;
    uint64_t size = 0, rss = 0, value;
    while (fgets(line, sizeof(line), f)) {
        const char *path;
        if (field(line, "Size", &value))
            size = value;
        else if (field(line, "Rss", &value))
            rss = value;
        else if (field(line, "Pss", &value))
            m->pss += value;
        else if (field(line, "Anonymous", &value)) /* comes after Rss */
            add_mapping(m, kind, size, rss, value);
        else if (mapping_start(line, &path))
            kind = kind_of(path, module_dir, prepared_dir);
    }
}

static FILE *open_of(pid_t pid, const char *name, const char *mode, struct err *e)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    FILE *f = fopen(path, mode);
    if (!f)
        err_errno(e, ERR_GONE, errno, "%s", path);
    return f;
}

bool memory_read(pid_t pid, const char *module_dir, const char *prepared_dir,
                 struct exec_memory *ret, struct err *e)
{
    struct exec_memory m = {0};
    char line[LINE_MAX_BYTES];
    FILE *f = open_of(pid, "smaps", "re", e);
    if (!f)
        return false;
    read_smaps(f, module_dir, prepared_dir, &m);
    (void)fclose(f);
    f = open_of(pid, "status", "re", e);
    if (!f)
        return false;
    while (fgets(line, sizeof(line), f))
        (void)field(line, "VmHWM", &m.peak);
    (void)fclose(f);
    if (m.peak == 0)
        return err_set(e, ERR_GONE, "process %d: has ended", (int)pid);
    *ret = m;
    return true;
}

bool memory_reset_peak(pid_t pid, struct err *e)
{
    FILE *f = open_of(pid, "clear_refs", "we", e);
    if (!f)
        return false;
    bool ok = fputs("5", f) >= 0;
    ok = fclose(f) == 0 && ok;
    return ok || err_errno(e, ERR_IO, errno, "process %d: clear_refs", (int)pid);
}
