/* server.c - listener, connections and the life of a request in the library's callbacks.
 *
 * The library (libmicrohttpd) calls back in this order: uri_logged (request line; our request is
 * made), access_request (header; admit), access_request with pieces of the body, access_request
 * with none (handle and answer), request_completed (answer sent, or connection lost).
 *
 * Refusals wait until a small body has been read and dropped, so that the connection lives on; a
 * big one is answered at once and the connection closed, as is one with "Expect".
 *
 * Threads: one per connection and the accepting one, of the library; the watcher; one per
 * streaming request.  `lock` protects the counts of running requests and `stopping`.
 *
 * Unresolved: the library takes bare LF as a line end. */
#include "net/server_internal.h"

#include "base/num.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define HANDLER_STACK (2u << 20) /* bytes of stack of a connection's thread, reserved only */
#define FILES_PER_CONNECTION 1u
#define FILES_SHARE 4 /* of the files that a process may have: one listener's connections */
#define CONNECTIONS_LEAST 8
#define FILES_BESIDE 256u  /* descriptors that the rest of the process may need */
#define ABORT_WAIT_MS 2000 /* for handlers to answer after their token fired */

/* ---- clients that are waited for ---- */

static void phase_set(struct peer *p, enum peer_phase phase)
{
    atomic_store(&p->since_ns, clock_now_ns());
    atomic_store(&p->phase, (int)phase);
}

static int64_t phase_limit_ms(const struct net_server *s, int phase)
{
    bool crowded = s->connections > s->options.max_connections / 2;
    int64_t idle_ms = (int64_t)s->options.idle_s * 1000;
    if (phase == PEER_HEAD)
        return crowded && idle_ms > CROWDED_IDLE_MS ? CROWDED_IDLE_MS : idle_ms;
    return phase == PEER_RUN ? INT64_MAX / NS_PER_MS : s->options.timeout_ms;
}

/* Ends connections whose clients are too slow.  The library closes a descriptor after it has said
 * so, by connection_changed(): one that is in the list is still the connection's. */
static void sweep(void *server)
{
    struct net_server *s = server;
    int64_t now = clock_now_ns();
    monitor_lock(&s->lock);
    for (struct peer *p = s->peers; p; p = p->next) {
        int64_t since = atomic_load(&p->since_ns);
        if ((now - since) / NS_PER_MS > phase_limit_ms(s, atomic_load(&p->phase)))
            (void)shutdown(p->fd, SHUT_RDWR);
    }
    monitor_unlock(&s->lock);
}

static void peer_link(struct net_server *s, struct peer *p, int fd)
{
    p->fd = fd;
    phase_set(p, PEER_HEAD);
    monitor_lock(&s->lock);
    p->next = s->peers;
    p->at = &s->peers;
    if (p->next)
        p->next->at = &p->next;
    s->peers = p;
    monitor_unlock(&s->lock);
}

static void peer_unlink(struct net_server *s, struct peer *p)
{
    monitor_lock(&s->lock);
    if (p->at)
        *p->at = p->next;
    if (p->next)
        p->next->at = p->at;
    monitor_unlock(&s->lock);
}

/* ---- callbacks ---- */

static void *uri_logged(void *arg, const char *uri, struct MHD_Connection *c)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct peer *p = info ? info->socket_context : NULL;
    if (!p)
        return NULL;
    request_end(p->request);
    p->request = request_begin(arg, uri, c);
    if (p->request)
        p->request->peer = p;
    return p->request;
}

static void request_completed(void *arg, struct MHD_Connection *c, void **request,
                              enum MHD_RequestTerminationCode how)
{
    (void)arg;
    (void)c;
    (void)how;
    struct net_request *r = *request;
    if (r) {
        r->peer->request = NULL;
        phase_set(r->peer, PEER_HEAD);
    }
    request_end(r);
    *request = NULL;
}

static void handle(struct net_request *r)
{
    struct err e;
    if (r->route->flags & NET_STREAMS) {
        if (!stream_run_handler(r, &e))
            net_reply_err(r, &e);
        return;
    }
    r->route->handle(r, r->ctx);
    request_unwatch(r); /* what follows is the library's to notice */
}

static enum MHD_Result first_call(struct net_request *r, const char *method)
{
    r->state = REQUEST_BODY;
    phase_set(r->peer, PEER_BODY);
    if (request_admit(r, method))
        return MHD_YES;
    r->state = REQUEST_SWALLOW;
    bool early = r->close || r->body_expected > SWALLOW_MAX || r->expects;
    if (!early)
        return MHD_YES;
    r->close = true;
    return reply_queue(r);
}

static enum MHD_Result body_call(struct net_request *r, const char *data, size_t size)
{
    struct err e;
    if (r->state == REQUEST_BODY) {
        if (request_body_add(r, data, size, &e))
            return MHD_YES;
        r->state = REQUEST_SWALLOW;
        r->close = true;
        net_reply_err(r, &e);
    }
    r->swallowed += size;
    return r->swallowed > OVERRUN_MAX ? MHD_NO : MHD_YES;
}

static enum MHD_Result access_request(void *arg, struct MHD_Connection *c, const char *url,
                                      const char *method, const char *version, const char *data,
                                      size_t *size, void **request)
{
    (void)arg;
    (void)c;
    (void)url;
    (void)version;
    struct net_request *r = *request;
    if (!r)
        return MHD_NO;
    if (r->state == REQUEST_NEW)
        return first_call(r, method);
    if (*size) {
        size_t n = *size;
        *size = 0;
        return body_call(r, data, n);
    }
    if (r->state == REQUEST_ANSWERED)
        return MHD_YES;
    if (r->state == REQUEST_BODY) {
        phase_set(r->peer, PEER_RUN);
        handle(r);
        if (!r->stream)
            phase_set(r->peer, PEER_READ);
    }
    connection_touch(r); /* the handler may have taken longer than idle_s */
    return reply_queue(r);
}

/* ---- connections ---- */

static void peer_address(const struct sockaddr *address, struct peer *p)
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *four = (const void *)address;
        (void)inet_ntop(AF_INET, &four->sin_addr, p->address, sizeof(p->address));
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const void *)address;
        (void)inet_ntop(AF_INET6, &six->sin6_addr, p->address, sizeof(p->address));
    }
    p->loopback = net_host_is_loopback(p->address);
}

static void connection_changed(void *arg, struct MHD_Connection *c, void **context,
                               enum MHD_ConnectionNotificationCode what)
{
    struct net_server *s = arg;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        struct peer *gone = *context;
        if (gone) {
            peer_unlink(s, gone);
            request_end(gone->request);
            watcher_remove(s->watcher, gone->watch_slot);
        }
        free(gone);
        *context = NULL;
        s->connections--;
        return;
    }
    s->connections++;
    s->accepted++;
    struct peer *p = calloc(1, sizeof(*p));
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (p && info && info->client_addr)
        peer_address(info->client_addr, p);
    info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (p) {
        p->watch_slot = -1;
        peer_link(s, p, info ? info->connect_fd : -1);
    }
    *context = p;
}

/* ---- start ---- */

static bool listen_open(struct net_server *s, struct err *e)
{
    const char *host = s->options.host ? s->options.host : "127.0.0.1";
    char port[8];
    (void)snprintf(port, sizeof(port), "%u", s->options.port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
    int r = getaddrinfo(host, port, &hints, &list);
    if (r != 0)
        return err_set(e, ERR_INVALID, "listen on '%.100s': %s", host, gai_strerror(r));
    int one = 1, fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
              bind(fd, list->ai_addr, list->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0;
    int number = errno;
    freeaddrinfo(list);
    struct sockaddr_storage bound;
    socklen_t size = sizeof(bound);
    if (!ok || getsockname(fd, (struct sockaddr *)&bound, &size) != 0) {
        if (fd >= 0)
            close(fd);
        return err_errno(e, ERR_INTERNAL, number, "listen on %.100s port %s", host, port);
    }
    s->listen_fd = fd;
    s->port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                : ((struct sockaddr_in *)&bound)->sin_port);
    return true;
}

/* Connections that the listeners of this process may have together. */
static atomic_uint connections_of_all;

/* A soft limit of 1024 open files is common and far below max_connections.  Where it can't be raised
 * as far, there are fewer connections: those over the limit are refused then, not left waiting. */
static void reserve_files(struct net_server_options *o)
{
    struct rlimit limit;
    rlim_t all = atomic_load(&connections_of_all) + o->max_connections;
    rlim_t need = all * FILES_PER_CONNECTION + FILES_BESIDE;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < need) {
        limit.rlim_cur =
            limit.rlim_max == RLIM_INFINITY || limit.rlim_max > need ? need : limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            (void)getrlimit(RLIMIT_NOFILE, &limit);
        rlim_t share = limit.rlim_cur / FILES_SHARE;
        if (limit.rlim_cur < need && share < o->max_connections)
            o->max_connections = (unsigned)num_max((size_t)share, CONNECTIONS_LEAST);
    }
    atomic_fetch_add(&connections_of_all, o->max_connections);
}

static bool daemon_start(struct net_server *s, struct err *e)
{
    const struct net_server_options *o = &s->options;
    struct MHD_OptionItem list[24];
    size_t n = 0;
#define OPTION(option, number, pointer)                                                            \
    list[n++] = (struct MHD_OptionItem){(option), (intptr_t)(number), (void *)(uintptr_t)(pointer)}
    OPTION(MHD_OPTION_LISTEN_SOCKET, s->listen_fd, NULL);
    OPTION(MHD_OPTION_CONNECTION_LIMIT, o->max_connections, NULL);
    OPTION(MHD_OPTION_CONNECTION_MEMORY_LIMIT, o->connection_memory, NULL);
    OPTION(MHD_OPTION_CONNECTION_TIMEOUT, o->idle_s, NULL);
    OPTION(MHD_OPTION_THREAD_STACK_SIZE, HANDLER_STACK, NULL);
    OPTION(MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL);
    OPTION(MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)uri_logged, s);
    OPTION(MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)request_completed, s);
    OPTION(MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)connection_changed, s);
    unsigned flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD |
                     MHD_USE_POLL | MHD_USE_ITC;
    if (s->tls) {
        flags |= MHD_USE_TLS;
        OPTION(MHD_OPTION_HTTPS_MEM_CERT, 0, s->tls->certificate);
        OPTION(MHD_OPTION_HTTPS_MEM_KEY, 0, s->tls->key);
        OPTION(MHD_OPTION_HTTPS_PRIORITIES, 0, NET_TLS_PRIORITIES);
        if (s->tls->authority)
            OPTION(MHD_OPTION_HTTPS_MEM_TRUST, 0, s->tls->authority);
    }
    OPTION(MHD_OPTION_END, 0, NULL);
#undef OPTION
    s->daemon = MHD_start_daemon(flags, 0, NULL, NULL, access_request, s, MHD_OPTION_ARRAY, list,
                                 MHD_OPTION_END);
    return s->daemon ||
           err_set(e, ERR_INTERNAL, "server: the HTTP library did not start on port %u", s->port);
}

static void server_free(struct net_server *s)
{
    watcher_stop(s->watcher);
    atomic_fetch_sub(&connections_of_all, s->reserved);
    if (s->listen_fd >= 0)
        close(s->listen_fd);
    net_tls_unref(s->tls);
    budget_unref(s->budget);
    monitor_destroy(&s->lock);
    free(s->groups);
    free(s->key);
    free(s);
}

static void fill_defaults(struct net_server_options *o)
{
    o->max_connections = o->max_connections ? o->max_connections : NET_CONNECTIONS_DEFAULT;
    o->max_ordinary = o->max_ordinary ? o->max_ordinary : NET_ORDINARY_DEFAULT;
    o->connection_memory = o->connection_memory ? o->connection_memory : NET_CONNECTION_MEMORY;
    o->idle_s = o->idle_s ? o->idle_s : NET_IDLE_S_DEFAULT;
    o->max_bodies = o->max_bodies ? o->max_bodies : NET_BODIES_DEFAULT;
    o->timeout_ms = o->timeout_ms ? o->timeout_ms : NET_TIMEOUT_MS_DEFAULT;
}

static bool copy_options(struct net_server *s, const struct net_server_options *options,
                         struct err *e)
{
    s->options = *options;
    fill_defaults(&s->options);
    s->tls = net_tls_ref(options->tls);
    s->groups = calloc(options->group_count ? options->group_count : 1, sizeof(*s->groups));
    s->key = options->key ? strdup(options->key) : NULL;
    s->budget = calloc(1, sizeof(*s->budget));
    if (!s->groups || (options->key && !s->key) || !s->budget)
        return err_set(e, ERR_MEMORY, "server: out of memory");
    for (size_t i = 0; i < options->group_count; i++)
        s->groups[i] = options->groups[i];
    s->budget->refs = 1;
    s->budget->max = s->options.max_bodies;
    if (s->tls && !s->tls->certificate)
        return err_set(e, ERR_INVALID, "server: TLS needs a certificate");
    return true;
}

bool net_server_start(const struct net_server_options *options, struct net_server **ret,
                      struct err *e)
{
    struct net_server *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(e, ERR_MEMORY, "server: out of memory");
    monitor_init(&s->lock);
    s->listen_fd = -1;
    bool ok = copy_options(s, options, e) && listen_open(s, e);
    if (ok) {
        reserve_files(&s->options);
        s->reserved = s->options.max_connections;
        s->watcher = watcher_start(s->options.max_connections, sweep, s, e);
        ok = s->watcher && daemon_start(s, e);
    }
    if (!ok) {
        server_free(s);
        return false;
    }
    *ret = s;
    return true;
}

uint16_t net_server_port(const struct net_server *s)
{
    return s->port;
}

/* ---- stop ---- */

static bool wait_for_requests(struct net_server *s, int64_t ms)
{
    int64_t deadline = clock_deadline_ms(ms < 0 ? 0 : ms);
    monitor_lock(&s->lock);
    bool more = true;
    while (more && s->ordinary + s->control > 0)
        more = monitor_wait(&s->lock, deadline);
    bool none = s->ordinary + s->control == 0;
    monitor_unlock(&s->lock);
    return none;
}

void net_server_stop(struct net_server *s, int64_t grace_ms)
{
    if (!s)
        return;
    monitor_lock(&s->lock);
    s->stopping = true;
    monitor_unlock(&s->lock);
    /* The listening socket is ours from here on; shut down, it refuses clients at once. */
    (void)MHD_quiesce_daemon(s->daemon);
    (void)shutdown(s->listen_fd, SHUT_RDWR);
    if (!wait_for_requests(s, grace_ms)) {
        watcher_abort(s->watcher);
        (void)wait_for_requests(s, ABORT_WAIT_MS);
    }
    MHD_stop_daemon(s->daemon);
    server_free(s);
}

void net_server_counts(struct net_server *s, struct net_counts *ret)
{
    monitor_lock(&s->lock);
    *ret = (struct net_counts){.ordinary = s->ordinary, .control = s->control};
    monitor_unlock(&s->lock);
    ret->connections = s->connections;
    ret->accepted = s->accepted;
    ret->requests = s->requests;
    ret->bodies = s->budget->bytes;
}
