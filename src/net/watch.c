/* watch.c - one thread that notices clients that went away while their request runs.
 *
 * The HTTP library does not look at a connection while its handler blocks.  epoll does: a slot per
 * connection, from its first request with a token to its end, and EPOLLRDHUP | EPOLLONESHOT on its
 * descriptor (two system calls per request would be a tenth of a small one).  An event carries slot
 * and generation, so one that was under way when the slot was given back is recognised; one that
 * comes between two requests is kept for the next.
 *
 * A client that closes only its sending side counts as gone, too.
 *
 * Threads: all functions from any thread.  Tokens fire outside the lock. */
#include "net/server_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_MAX 64
#define TICK_MS 1000
#define STOP_EVENT UINT64_MAX

struct slot {
    struct cancel *cancel; /* owned reference, of the request under way; NULL = none */
    bool gone;             /* the client closed */
    int fd;
    uint32_t generation;
    unsigned next_free;
};

struct watcher {
    int epoll_fd, stop_fd;
    pthread_t thread;
    void (*tick)(void *arg);
    void *tick_arg;
    struct monitor lock; /* protects what follows */
    bool aborted;
    unsigned count, free_head; /* free_head == count: none free */
    struct slot slots[];
};

static uint64_t slot_event(unsigned slot, uint32_t generation)
{
    return ((uint64_t)generation << 32) | slot;
}

static struct cancel *slot_token(struct watcher *w, uint64_t event)
{
    unsigned i = (unsigned)(event & UINT32_MAX);
    monitor_lock(&w->lock);
    bool same = i < w->count && w->slots[i].generation == (uint32_t)(event >> 32);
    struct cancel *c = same ? cancel_ref(w->slots[i].cancel) : NULL;
    if (same)
        w->slots[i].gone = true;
    monitor_unlock(&w->lock);
    return c;
}

static void *watch_run(void *arg)
{
    struct watcher *w = arg;
    int64_t next_ns = clock_deadline_ms(TICK_MS);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int n = epoll_wait(w->epoll_fd, events, EVENTS_MAX, TICK_MS);
        if (n < 0 && errno != EINTR)
            return NULL;
        if (clock_now_ns() >= next_ns) {
            next_ns = clock_deadline_ms(TICK_MS);
            w->tick(w->tick_arg);
        }
        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 == STOP_EVENT)
                return NULL;
            struct cancel *c = slot_token(w, events[i].data.u64);
            cancel_fire(c);
            cancel_unref(c);
        }
    }
}

static void watcher_free(struct watcher *w)
{
    if (w->epoll_fd >= 0)
        close(w->epoll_fd);
    if (w->stop_fd >= 0)
        close(w->stop_fd);
    monitor_destroy(&w->lock);
    free(w);
}

struct watcher *watcher_start(unsigned slots, void (*tick)(void *arg), void *arg, struct err *e)
{
    struct watcher *w = calloc(1, sizeof(*w) + slots * sizeof(w->slots[0]));
    if (!w) {
        err_set(e, ERR_MEMORY, "server: out of memory");
        return NULL;
    }
    monitor_init(&w->lock);
    w->count = slots;
    w->tick = tick;
    w->tick_arg = arg;
    for (unsigned i = 0; i < slots; i++)
        w->slots[i].next_free = i + 1;
    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    w->stop_fd = eventfd(0, EFD_CLOEXEC);
    struct epoll_event stop = {.events = EPOLLIN, .data.u64 = STOP_EVENT};
    if (w->epoll_fd < 0 || w->stop_fd < 0 ||
        epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, w->stop_fd, &stop) != 0) {
        err_errno(e, ERR_INTERNAL, errno, "server: watcher");
        watcher_free(w);
        return NULL;
    }
    if (!thread_start(&w->thread, "net-watch", watch_run, w, e)) {
        watcher_free(w);
        return NULL;
    }
    return w;
}

void watcher_stop(struct watcher *w)
{
    if (!w)
        return;
    (void)eventfd_write(w->stop_fd, 1);
    (void)pthread_join(w->thread, NULL);
    watcher_free(w);
}

int watcher_add(struct watcher *w, int fd)
{
    monitor_lock(&w->lock);
    unsigned i = w->free_head;
    if (i < w->count) {
        struct slot *s = &w->slots[i];
        w->free_head = s->next_free;
        s->fd = fd;
        s->gone = false;
        struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT,
                                    .data.u64 = slot_event(i, s->generation)};
        /* Can only fail for want of kernel memory: the requests then run unwatched. */
        (void)epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
    monitor_unlock(&w->lock);
    return i < w->count ? (int)i : -1;
}

static void set_token(struct watcher *w, int slot, struct cancel *c)
{
    monitor_lock(&w->lock);
    struct slot *s = &w->slots[slot];
    struct cancel *before = s->cancel;
    s->cancel = c;
    bool fire = c && (s->gone || w->aborted);
    monitor_unlock(&w->lock);
    if (fire)
        cancel_fire(c);
    cancel_unref(before);
}

void watcher_begin(struct watcher *w, int slot, struct cancel *c)
{
    if (slot >= 0)
        set_token(w, slot, cancel_ref(c));
}

void watcher_end(struct watcher *w, int slot)
{
    if (slot >= 0)
        set_token(w, slot, NULL);
}

void watcher_remove(struct watcher *w, int slot)
{
    if (slot < 0)
        return;
    set_token(w, slot, NULL);
    monitor_lock(&w->lock);
    struct slot *s = &w->slots[slot];
    (void)epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
    s->generation++;
    s->next_free = w->free_head;
    w->free_head = (unsigned)slot;
    monitor_unlock(&w->lock);
}

bool watcher_aborted(struct watcher *w)
{
    monitor_lock(&w->lock);
    bool aborted = w->aborted;
    monitor_unlock(&w->lock);
    return aborted;
}

void watcher_abort(struct watcher *w)
{
    monitor_lock(&w->lock);
    w->aborted = true;
    for (unsigned i = 0; i < w->count; i++) {
        struct cancel *c = cancel_ref(w->slots[i].cancel);
        if (!c)
            continue;
        monitor_unlock(&w->lock);
        cancel_fire(c);
        cancel_unref(c);
        monitor_lock(&w->lock);
    }
    monitor_unlock(&w->lock);
}
