/* lib_net.c - test routes and raw sockets. */
#include "lib_net.h"

#include "base/cancel.h"
#include "base/clock.h"
#include "base/num.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void echo_name(struct net_request *r, void *ctx)
{
    struct fixture *f = ctx;
    char text[512];
    const char *q = net_request_query(r, "q"), *name = net_request_peer_name(r);
    f->handled++;
    (void)snprintf(text, sizeof(text), "%lld",
                   (long long)clock_left_ms(net_request_deadline(r), INT64_MAX / NS_PER_MS));
    net_reply_header(r, "X-Left-Ms", text);
    net_reply_header(r, "X-Peer", name ? name : "none");
    (void)snprintf(text, sizeof(text), "%s|%s", net_request_param(r, "name"), q ? q : "-");
    net_reply(r, 200, "text/plain", text, strlen(text));
}

static void echo_body(struct net_request *r, void *ctx)
{
    struct fixture *f = ctx;
    size_t size;
    const void *data = net_request_body(r, &size);
    f->handled++;
    net_reply(r, 200, "application/octet-stream", data, size);
}

static void count_release(void *arg)
{
    struct fixture *f = arg;
    f->released++;
}

static void reply_parts(struct net_request *r, void *ctx)
{
    size_t size;
    const char *data = net_request_body(r, &size);
    /* borrowed until released: the body lives as long as the request, which is long enough */
    struct net_part parts[3] = {{data, size / 2}, {NULL, 0}, {data + size / 2, size - size / 2}};
    net_reply_parts(r, 200, "application/octet-stream", parts, 3, count_release, ctx);
}

static void keep_body(struct net_request *r, void *ctx)
{
    struct fixture *f = ctx;
    net_request_take_body(r, &f->kept);
    net_reply(r, 204, NULL, NULL, 0);
}

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool woken;
};

static void waiter_wake(void *arg)
{
    struct waiter *w = arg;
    pthread_mutex_lock(&w->lock);
    w->woken = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

/* Until the client goes (false) or the test lets it on. */
static bool wait_for_test(struct fixture *f, struct cancel *c)
{
    struct waiter w = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct cancel_watch by_client = {.fired = waiter_wake, .arg = &w}, by_test = by_client;
    cancel_watch(c, &by_client);
    cancel_watch(f->open, &by_test);
    f->waiting++;
    pthread_mutex_lock(&w.lock);
    while (!w.woken)
        pthread_cond_wait(&w.cond, &w.lock);
    pthread_mutex_unlock(&w.lock);
    cancel_unwatch(c, &by_client);
    cancel_unwatch(f->open, &by_test);
    if (cancel_fired(c))
        f->cancelled++;
    return !cancel_fired(c);
}

static void wait_open(struct net_request *r, void *ctx)
{
    (void)wait_for_test(ctx, net_request_cancel(r));
    net_reply(r, 200, "text/plain", "done", 4);
}

static void stream_pause(struct net_request *r, void *ctx)
{
    struct err e;
    if (net_stream_begin(r, 200, "text/plain", &e) && net_stream_write(r, "before ", 7, &e) &&
        wait_for_test(ctx, net_request_cancel(r)) && net_stream_write(r, "after", 5, &e))
        net_stream_end(r, true);
}

static void ping(struct net_request *r, void *ctx)
{
    (void)ctx;
    net_reply(r, 200, "text/plain", "pong", 4);
}

static void stream_count(struct net_request *r, void *ctx)
{
    (void)ctx;
    struct err e;
    if (!net_stream_begin(r, 200, "text/event-stream", &e)) {
        net_reply_err(r, &e);
        return;
    }
    for (int i = 0; i < 1000; i++) {
        char line[32];
        int n = snprintf(line, sizeof(line), "data: %d\n\n", i);
        if (!net_stream_write(r, line, (size_t)n, &e))
            return;
    }
    net_stream_end(r, true);
}

static void stream_endless(struct net_request *r, void *ctx)
{
    struct fixture *f = ctx;
    struct err e;
    static const char block[8192];
    f->waiting++;
    if (!net_stream_begin(r, 200, "application/octet-stream", &e))
        return;
    while (net_stream_write(r, block, sizeof(block), &e))
        ;
    if (e.code == ERR_CANCELLED)
        f->cancelled++;
}

static void stream_broken(struct net_request *r, void *ctx)
{
    (void)ctx;
    struct err e;
    if (net_stream_begin(r, 200, "text/plain", &e) && net_stream_write(r, "half", 4, &e))
        net_stream_end(r, false);
}

static void stream_unflagged(struct net_request *r, void *ctx)
{
    (void)ctx;
    struct err e;
    if (!net_stream_begin(r, 200, "text/plain", &e))
        net_reply_err(r, &e);
}

static void no_answer(struct net_request *r, void *ctx)
{
    (void)r;
    (void)ctx;
}

static void two_answers(struct net_request *r, void *ctx)
{
    struct net_part part = {"two", 3};
    net_reply(r, 200, "text/plain", "one", 3);
    net_reply(r, 500, "text/plain", "two", 3);
    net_reply_parts(r, 500, NULL, &part, 1, count_release, ctx);
    net_reply_json(r, 500, json_object());
}

static void echo_rest(struct net_request *r, void *ctx)
{
    (void)ctx;
    const char *path = net_request_param(r, "path");
    net_reply(r, 200, "text/plain", path, strlen(path));
}

const struct net_route fixture_routes[] = {
    {.method = "GET", .path = "/echo/{name}", .handle = echo_name, .summary = "name and query"},
    {.method = "POST", .path = "/echo", .max_body = FIXTURE_BODY_MAX, .handle = echo_body},
    {.method = "PUT", .path = "/echo", .max_body = 16, .handle = echo_body},
    {.method = "POST", .path = "/parts", .max_body = FIXTURE_BODY_MAX, .handle = reply_parts},
    {.method = "POST", .path = "/keep", .max_body = FIXTURE_BODY_MAX, .handle = keep_body},
    {.method = "GET", .path = "/wait", .handle = wait_open},
    {.method = "GET", .path = "/pause", .flags = NET_STREAMS, .handle = stream_pause},
    {.method = "GET", .path = "/ping", .flags = NET_CONTROL, .handle = ping},
    {.method = "GET", .path = "/stream", .flags = NET_STREAMS, .handle = stream_count},
    {.method = "GET", .path = "/endless", .flags = NET_STREAMS, .handle = stream_endless},
    {.method = "GET", .path = "/broken", .flags = NET_STREAMS, .handle = stream_broken},
    {.method = "GET", .path = "/unflagged", .handle = stream_unflagged},
    {.method = "GET", .path = "/none", .handle = no_answer},
    {.method = "GET", .path = "/none-stream", .flags = NET_STREAMS, .handle = no_answer},
    {.method = "GET", .path = "/twice", .handle = two_answers},
    {.method = "POST",
     .path = "/json",
     .max_body = 4096,
     .handle = echo_body,
     .accepts = "application/json"},
    {.method = "POST",
     .path = "/sized",
     .max_body = 4096,
     .flags = NET_NEEDS_LENGTH,
     .handle = echo_body},
    {.method = "GET", .path = "/rest/{path...}", .handle = echo_rest},
    {.method = "GET", .path = "/open", .flags = NET_ANONYMOUS, .handle = ping},
};
const size_t fixture_route_count = ARRAY_LEN(fixture_routes);

void fixture_start(struct fixture *f, const struct net_server_options *options)
{
    struct err e;
    struct net_server_options o = options ? *options : (struct net_server_options){0};
    memset(f, 0, sizeof(*f));
    f->open = cancel_new();
    assert_non_null(f->open);
    struct net_group group = {fixture_routes, fixture_route_count, f};
    o.groups = &group;
    o.group_count = 1;
    if (!net_server_start(&o, &f->server, &e) || !net_client_open(NULL, &f->client, &e))
        fail_msg("%s", e.text);
    (void)snprintf(f->base, sizeof(f->base), "%s://127.0.0.1:%u", o.tls ? "https" : "http",
                   net_server_port(f->server));
}

void fixture_stop(struct fixture *f)
{
    net_client_close(f->client);
    net_server_stop(f->server, 5000);
    cancel_unref(f->open);
    f->open = NULL;
}

struct net_answer fixture_call(struct fixture *f, const char *method, const char *path,
                               const void *body, size_t size)
{
    struct err e;
    char url[NET_URL_MAX];
    struct net_answer a = {0};
    (void)snprintf(url, sizeof(url), "%s%s", f->base, path);
    struct net_part part = {body, size};
    struct net_call call = {.method = method,
                            .url = url,
                            .parts = &part,
                            .part_count = body ? 1 : 0,
                            .deadline_ns = clock_deadline_ms(20000)};
    if (!net_call(f->client, &call, &a, &e))
        fail_msg("%s %.200s: %s", method, path, e.text);
    return a;
}

void await(const atomic_int *value, int want)
{
    int64_t deadline = clock_deadline_ms(90000);
    while (*value < want) {
        if (clock_now_ns() > deadline)
            fail_msg("waited for %d, is %d", want, *value);
        sched_yield();
    }
}

int raw_connect(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = 10};
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

void raw_send(int fd, const char *text)
{
    size_t size = strlen(text);
    assert_int_equal(send(fd, text, size, MSG_NOSIGNAL), (ssize_t)size);
}

size_t raw_read_until(int fd, const char *text, char *ret, size_t max)
{
    size_t size = 0;
    ret[0] = 0;
    while (size + 1 < max && !strstr(ret, text)) {
        ssize_t n = recv(fd, ret + size, max - 1 - size, 0);
        if (n <= 0)
            break;
        size += (size_t)n;
        ret[size] = 0;
    }
    return size;
}

int raw_status(uint16_t port, const char *request)
{
    char answer[4096];
    int fd = raw_connect(port);
    raw_send(fd, request);
    size_t n = raw_read_until(fd, "\r\n\r\n", answer, sizeof(answer));
    close(fd);
    return n > 12 && strncmp(answer, "HTTP/1.", 7) == 0 ? (int)strtol(answer + 9, NULL, 10) : 0;
}
