/* mapping.c - mapped files, and the handler of SIGBUS that fills in what is gone. */
#include "base/mapping.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the handler may look at at any time: a range that is guarded has a size. */
struct guard {
    _Atomic uintptr_t from;
    _Atomic size_t size;
    _Atomic bool lost;
};

static struct guard guards[MAPPINGS_MAX];
static _Atomic uint32_t guards_end; /* no guard from here on */
static _Atomic uint32_t watched;
static uintptr_t page;
static struct sigaction before;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- the handler ---------------------------------------------------------------------------- */

static struct guard *guard_of(uintptr_t at)
{
    uint32_t end = atomic_load(&guards_end);
    for (uint32_t i = 0; i < end; i++) {
        size_t size = atomic_load(&guards[i].size);
        if (size && at - atomic_load(&guards[i].from) < size)
            return &guards[i];
    }
    return NULL;
}

/* mmap() is a bare system call: fine in a handler. */
static void on_bus(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    int saved = errno;
    uintptr_t at = (uintptr_t)info->si_addr;
    struct guard *g = info->si_code > 0 ? guard_of(at) : NULL; /* > 0: by the kernel */
    if (g) {
        uintptr_t from = at & ~(page - 1);
        size_t size = atomic_load(&g->from) + atomic_load(&g->size) - from;
        atomic_store(&g->lost, true);
        if (mmap((void *)from, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
            MAP_FAILED)
            g = NULL;
    }
    if (!g)
        (void)sigaction(SIGBUS, &before, NULL); /* the access faults once more, there */
    errno = saved;
}

/* Sets it, unless it is set.  Under the lock. */
static void set_handler(void)
{
    struct sigaction now, ours = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_RESTART};
    (void)sigaction(SIGBUS, NULL, &now);
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_bus)
        return;
    before = now;
    page = (uintptr_t)sysconf(_SC_PAGESIZE);
    (void)sigemptyset(&ours.sa_mask);
    (void)sigaction(SIGBUS, &ours, NULL);
}

/* ---- mappings ------------------------------------------------------------------------------- */

/* Number + 1 of a free guard that takes the range, or 0. */
static uint32_t guard_take(const void *data, size_t size)
{
    static uint32_t next;
    uint32_t ret = 0;
    (void)pthread_mutex_lock(&lock);
    set_handler();
    for (uint32_t tries = 0; !ret && tries < MAPPINGS_MAX; tries++) {
        struct guard *g = &guards[next];
        if (!atomic_load(&g->size)) {
            atomic_store(&g->lost, false);
            atomic_store(&g->from, (uintptr_t)data);
            atomic_store(&g->size, size);
            ret = next + 1;
            if (ret > atomic_load(&guards_end))
                atomic_store(&guards_end, ret);
        }
        next = (next + 1) % MAPPINGS_MAX;
    }
    (void)pthread_mutex_unlock(&lock);
    return ret;
}

static int64_t changed_ns(const struct stat *st)
{
    return (int64_t)st->st_mtim.tv_sec * NS_PER_S + st->st_mtim.tv_nsec;
}

static int watch(int fd)
{
    if (atomic_fetch_add(&watched, 1) < MAPPINGS_WATCHED) {
        int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (own >= 0)
            return own;
    }
    (void)atomic_fetch_sub(&watched, 1);
    return -1;
}

bool mapping_open(int fd, const char *name, struct mapping *ret, struct err *e)
{
    struct stat st;
    *ret = (struct mapping){.fd = -1};
    if (fstat(fd, &st) != 0)
        return err_errno(e, ERR_IO, errno, "%s", name);
    if (st.st_size == 0)
        return true;
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return err_errno(e, ERR_IO, errno, "mapping %s", name);
    ret->guard = guard_take(data, (size_t)st.st_size);
    if (!ret->guard) {
        (void)munmap(data, (size_t)st.st_size);
        return err_set(e, ERR_TOO_LARGE, "mapping %s: more than %u files", name, MAPPINGS_MAX);
    }
    ret->data = data;
    ret->size = (size_t)st.st_size;
    ret->changed_ns = changed_ns(&st);
    ret->fd = watch(fd);
    return true;
}

bool mapping_check(const struct mapping *m, const char *name, struct err *e)
{
    struct stat st;
    if (!m->guard)
        return true;
    if (atomic_load(&guards[m->guard - 1].lost))
        return err_set(e, ERR_IO, "%s: was cut short, or can't be read, while it was in use", name);
    if (m->fd >= 0 && (fstat(m->fd, &st) != 0 || (size_t)st.st_size != m->size ||
                       changed_ns(&st) != m->changed_ns))
        return err_set(e, ERR_IO, "%s: was changed while it was in use", name);
    return true;
}

void mapping_close(struct mapping *m)
{
    if (m->guard) {
        atomic_store(&guards[m->guard - 1].size, 0);
        (void)munmap((void *)(uintptr_t)m->data, m->size);
        if (m->fd >= 0) {
            close(m->fd);
            (void)atomic_fetch_sub(&watched, 1);
        }
    }
    *m = (struct mapping){.fd = -1};
}
