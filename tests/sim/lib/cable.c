/* cable.c - forwarding by one thread and poll(). */
#include "sim/lib/cable.h"

#include "base/clock.h"
#include "base/sync.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct pair {
    int ends[2]; /* the caller's side, the device's side */
    bool asked;  /* the last bytes came from the caller */
};

enum order { CUT = 'c', SHUT = 's' };

struct cable {
    int listener, stop[2]; /* CUT or SHUT in stop[1] */
    struct monitor lock;   /* of what follows */
    bool shut;
    uint16_t port;
    _Atomic uint16_t to;
    struct pair pairs[CABLE_PAIRS_MAX];
    int count;
    pthread_t thread;
    bool running;
};

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
}

static bool listen_any(struct cable *c)
{
    struct sockaddr_in a = loopback(0);
    socklen_t size = sizeof(a);
    c->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->listener < 0 || bind(c->listener, (struct sockaddr *)&a, sizeof(a)) != 0 ||
        listen(c->listener, 128) != 0 ||
        getsockname(c->listener, (struct sockaddr *)&a, &size) != 0)
        return false;
    c->port = ntohs(a.sin_port);
    return true;
}

static void take_caller(struct cable *c)
{
    struct sockaddr_in to = loopback(c->to);
    int from = accept(c->listener, NULL, NULL);
    int device = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (from >= 0 && device >= 0 && c->count < CABLE_PAIRS_MAX &&
        connect(device, (struct sockaddr *)&to, sizeof(to)) == 0) {
        c->pairs[c->count++] = (struct pair){{from, device}, false};
        return;
    }
    if (from >= 0)
        (void)close(from);
    if (device >= 0)
        (void)close(device);
}

/* What has come on one end goes out on the other; false when the connection has ended. */
static bool forward(int from, int to)
{
    char bytes[65536];
    ssize_t n = read(from, bytes, sizeof(bytes));
    for (ssize_t at = 0; at < n;) {
        ssize_t sent = send(to, bytes + at, (size_t)(n - at), MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += sent;
    }
    return n > 0;
}

static void close_pair(const struct pair *p)
{
    (void)close(p->ends[0]);
    (void)close(p->ends[1]);
}

static void pump(struct cable *c, const struct pollfd *polled)
{
    int kept = 0;
    for (int i = 0; i < c->count; i++) {
        bool alive = true;
        for (int k = 0; k < 2; k++)
            if (alive && polled[2 * i + k].revents) {
                alive = forward(c->pairs[i].ends[k], c->pairs[i].ends[!k]);
                c->pairs[i].asked = k == 0;
            }
        if (alive)
            c->pairs[kept++] = c->pairs[i];
        else
            close_pair(&c->pairs[i]);
    }
    c->count = kept;
}

static void shut(struct cable *c)
{
    int kept = 0;
    for (int i = 0; i < c->count; i++)
        if (c->pairs[i].asked)
            c->pairs[kept++] = c->pairs[i];
        else
            close_pair(&c->pairs[i]);
    c->count = kept;
    (void)close(c->listener);
    c->listener = -1; /* poll() passes over it */
    monitor_lock(&c->lock);
    c->shut = true;
    monitor_wake(&c->lock);
    monitor_unlock(&c->lock);
}

static void *run(void *cable)
{
    struct cable *c = cable;
    for (;;) {
        struct pollfd list[2 * CABLE_PAIRS_MAX + 2];
        for (int i = 0; i < 2 * c->count; i++)
            list[i] = (struct pollfd){.fd = c->pairs[i / 2].ends[i % 2], .events = POLLIN};
        struct pollfd *listener = &list[2 * c->count], *stop = listener + 1;
        *listener = (struct pollfd){.fd = c->listener, .events = POLLIN};
        *stop = (struct pollfd){.fd = c->stop[0], .events = POLLIN};
        if (poll(list, (nfds_t)(2 * c->count + 2), -1) < 0)
            continue;
        if (stop->revents) {
            char order = CUT;
            (void)!read(c->stop[0], &order, 1);
            if (order == CUT)
                return NULL;
            shut(c);
            continue;
        }
        bool called = listener->revents != 0;
        pump(c, list);
        if (called)
            take_caller(c);
    }
}

bool cable_open(uint16_t to_port, struct cable **ret, struct err *e)
{
    struct cable *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(e, ERR_MEMORY, "cable: no memory");
    monitor_init(&c->lock);
    c->to = to_port;
    c->listener = c->stop[0] = c->stop[1] = -1;
    if (!listen_any(c) || pipe(c->stop) != 0)
        err_set(e, ERR_IO, "cable: no socket");
    else
        c->running = thread_start(&c->thread, "cable", run, c, e);
    if (!c->running) {
        cable_close(c);
        return false;
    }
    *ret = c;
    return true;
}

void cable_plug(struct cable *c, uint16_t to_port)
{
    c->to = to_port;
}

uint16_t cable_port(const struct cable *c)
{
    return c->port;
}

static void say(struct cable *c, char order)
{
    (void)!write(c->stop[1], &order, 1);
}

void cable_shut(struct cable *c)
{
    say(c, SHUT);
    monitor_lock(&c->lock);
    while (!c->shut)
        monitor_wait(&c->lock, CLOCK_NEVER);
    monitor_unlock(&c->lock);
}

void cable_cut(struct cable *c)
{
    if (!c->running)
        return;
    say(c, CUT);
    (void)pthread_join(c->thread, NULL);
    c->running = false;
    for (int i = 0; i < c->count; i++)
        close_pair(&c->pairs[i]);
    c->count = 0;
    if (c->listener >= 0)
        (void)close(c->listener);
    c->listener = -1;
}

void cable_close(struct cable *c)
{
    if (!c)
        return;
    cable_cut(c);
    for (int i = 0; i < 2; i++)
        if (c->stop[i] >= 0)
            (void)close(c->stop[i]);
    if (c->listener >= 0)
        (void)close(c->listener);
    monitor_destroy(&c->lock);
    free(c);
}
