/* test_server.c - the server over real sockets: routes, limits, framing, load, clients that go,
 * stopping.
 *
 * label: threads */
#include "lib_net.h"

#include "base/cancel.h"
#include "base/clock.h"
#include "base/num.h"
#include "base/sync.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void expect_status(struct fixture *f, const char *method, const char *path, int status)
{
    struct net_answer a = fixture_call(f, method, path, NULL, 0);
    if (a.status != status)
        fail_msg("%s %.100s: %d instead of %d: %s", method, path, a.status, status, a.body);
    net_answer_clear(&a);
}

static void test_values_reach_the_handler(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    fixture_start(&f, NULL);
    struct net_answer a =
        fixture_call(&f, "GET", "/echo/a%2Fb%20c?x=1&q=1%2B1+%C3%A4&q=2", NULL, 0);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "a/b c|1+1 \xC3\xA4");
    assert_string_equal(a.content_type, "text/plain");
    net_answer_clear(&a);
    a = fixture_call(&f, "GET", "/rest/a/b/c", NULL, 0);
    assert_string_equal(a.body, "a/b/c");
    net_answer_clear(&a);
    a = fixture_call(&f, "HEAD", "/echo/x", NULL, 0);
    assert_int_equal(a.status, 200);
    assert_int_equal(a.size, 0);
    net_answer_clear(&a);
    a = fixture_call(&f, "GET", "/twice", NULL, 0);
    assert_string_equal(a.body, "one");
    assert_int_equal(f.released, 1);
    net_answer_clear(&a);
    fixture_stop(&f);
}

static void test_server_answers_by_itself(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    fixture_start(&f, NULL);
    expect_status(&f, "GET", "/nothing", 404);
    expect_status(&f, "GET", "/echo", 405);
    expect_status(&f, "GET", "/none", 500);
    expect_status(&f, "GET", "/none-stream", 500);
    expect_status(&f, "GET", "/unflagged", 500);
    expect_status(&f, "GET", "/echo/%zz", 400);
    expect_status(&f, "GET", "/echo/%00", 400);
    expect_status(&f, "GET", "/echo/%ff", 400);
    expect_status(&f, "GET", "/echo/", 404);
    struct net_answer a = fixture_call(&f, "GET", "/json", NULL, 0);
    char allow[64];
    struct err e;
    assert_int_equal(a.status, 405);
    assert_true(net_answer_header(&a, "allow", allow, sizeof(allow)));
    assert_string_equal(allow, "POST");
    assert_false(net_answer_err(&a, &e));
    assert_int_equal(e.code, ERR_INVALID);
    net_answer_clear(&a);
    a = fixture_call(&f, "DELETE", "/echo", NULL, 0);
    assert_true(net_answer_header(&a, "Allow", allow, sizeof(allow)));
    assert_string_equal(allow, "POST, PUT");
    net_answer_clear(&a);
    fixture_stop(&f);
}

/* Every route of the table answers a method that is not its own with 405. */
static void test_wrong_methods(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    fixture_start(&f, NULL);
    for (size_t i = 0; i < fixture_route_count; i++)
        expect_status(&f, "PATCH", fixture_routes[i].path, 405);
    assert_int_equal(f.handled, 0);
    fixture_stop(&f);
}

static int status_of(uint16_t port, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int status_of(uint16_t port, const char *format, ...)
{
    static char request[200000];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(request, sizeof(request), format, args);
    va_end(args);
    return raw_status(port, request);
}

static void test_limits(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    fixture_start(&f, NULL);
    uint16_t port = net_server_port(f.server);
    char *long_text = malloc(100001);
    assert_non_null(long_text);
    memset(long_text, 'a', 100000);
    long_text[100000] = 0;
    assert_int_equal(
        status_of(port, "POST /json HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n%.5000s",
                  long_text),
        413);
    assert_int_equal(
        status_of(port, "POST /json HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n"), 413);
    assert_int_equal(
        status_of(port, "GET /ping HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"), 413);
    assert_int_equal(status_of(port, "POST /json HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
                                     "Content-Type: text/html\r\n\r\n{}"),
                     415);
    assert_int_equal(status_of(port, "POST /json HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
                                     "Content-Type: Application/JSON; charset=utf-8\r\n\r\n{}"),
                     200);
    assert_int_equal(status_of(port, "POST /sized HTTP/1.1\r\nHost: a\r\n\r\n"), 411);
    assert_int_equal(status_of(port, "GET /echo/%.9000s HTTP/1.1\r\nHost: a\r\n\r\n", long_text),
                     414);
    assert_int_equal(
        status_of(port, "GET /ping HTTP/1.1\r\nHost: a\r\nX-A: %.90000s\r\n\r\n", long_text), 431);
    char many[8000] = "";
    for (int i = 0; i < 120; i++)
        (void)snprintf(many + strlen(many), sizeof(many) - strlen(many), "X-%d: 1\r\n", i);
    assert_int_equal(status_of(port, "GET /ping HTTP/1.1\r\nHost: a\r\n%s\r\n", many), 431);
    many[0] = 0;
    for (int i = 0; i < 40; i++)
        (void)snprintf(many + strlen(many), sizeof(many) - strlen(many), "q%d=1&", i);
    assert_int_equal(status_of(port, "GET /echo/a?%s HTTP/1.1\r\nHost: a\r\n\r\n", many), 400);
    assert_int_equal(f.handled, 1);
    free(long_text);
    fixture_stop(&f);
}

/* Requests whose end two parsers could see at different places are refused, and what follows on
 * the connection is not served. */
static void test_smuggling(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    fixture_start(&f, NULL);
    static const char *const requests[] = {
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 40\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: "
        "chunked\r\n\r\n0\r\n\r\n",
        ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: "
         "chunked\r\n\r\n0\r\n\r\n"),
        "POST /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 3\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
    };
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        char text[1024], answer[8192];
        (void)snprintf(text, sizeof(text), "%sGET /ping HTTP/1.1\r\nHost: a\r\n\r\n", requests[i]);
        int fd = raw_connect(net_server_port(f.server));
        raw_send(fd, text);
        (void)raw_read_until(fd, "pong", answer, sizeof(answer));
        close(fd);
        if (strncmp(answer, "HTTP/1.1 4", 10) != 0 && strncmp(answer, "HTTP/1.1 501", 12) != 0)
            fail_msg("request %zu was answered with %.40s", i, answer);
        if (strstr(answer, "pong"))
            fail_msg("request %zu: what followed was served", i);
    }
    assert_int_equal(f.handled, 0);
    fixture_stop(&f);
}

static void test_chunked_bodies(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    fixture_start(&f, NULL);
    char answer[4096];
    int fd = raw_connect(net_server_port(f.server));
    raw_send(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n");
    (void)raw_read_until(fd, "abc0123456789abcdef", answer, sizeof(answer));
    assert_non_null(strstr(answer, "abc0123456789abcdef"));
    /* over the limit of PUT: 16 bytes */
    raw_send(fd, "PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "10\r\n0123456789abcdef\r\n1\r\nx\r\n0\r\n\r\n");
    (void)raw_read_until(fd, "}", answer, sizeof(answer));
    assert_non_null(strstr(answer, "413"));
    close(fd);
    fixture_stop(&f);
}

/* The library closes the connection of a query that does not fit its memory without a word to
 * us; the leak sanitizer tells whether the request that its line began has ended all the same. */
static void test_a_dropped_header_leaves_nothing(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    static char request[20000];
    fixture_start(&f, NULL);
    char *to = request + snprintf(request, sizeof(request), "GET /echo/a?");
    for (int i = 0; i < 2000; i++)
        to += snprintf(to, 8, "a=b&");
    (void)snprintf(to, 64, " HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 0; i < 3; i++)
        assert_int_not_equal(raw_status(net_server_port(f.server), request), 200);
    assert_int_equal(f.handled, 0);
    expect_status(&f, "GET", "/echo/a", 200);
    fixture_stop(&f);
}

/* A chunked body has no announced length: one that never ends is cut off. */
static void test_an_endless_body_is_cut_off(void **state)
{
    (void)state;
    static struct fixture f;
    static char chunk[65536 + 16];
    fixture_start(&f, NULL);
    (void)snprintf(chunk, sizeof(chunk), "10000\r\n%065536d\r\n", 0);
    int fd = raw_connect(net_server_port(f.server));
    raw_send(fd, "PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    ssize_t n = 1;
    for (int i = 0; i < 1000 && n > 0; i++) /* 64 MB */
        n = send(fd, chunk, strlen(chunk), MSG_NOSIGNAL);
    assert_true(n < 0);
    close(fd);
    fixture_stop(&f);
}

static void test_a_refused_small_body_keeps_the_connection(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    fixture_start(&f, NULL);
    char answer[4096];
    int fd = raw_connect(net_server_port(f.server));
    raw_send(fd, "POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
                 "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n");
    (void)raw_read_until(fd, "pong", answer, sizeof(answer));
    assert_non_null(strstr(answer, "404"));
    assert_non_null(strstr(answer, "pong"));
    close(fd);
    fixture_stop(&f);
}

static void test_bodies(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    fixture_start(&f, NULL);
    char *data = malloc(FIXTURE_BODY_MAX);
    assert_non_null(data);
    for (size_t i = 0; i < FIXTURE_BODY_MAX; i++)
        data[i] = (char)(i * 31 >> 3);
    static const size_t sizes[] = {1, 100, 20000, 150000, 1200000, FIXTURE_BODY_MAX};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct net_answer a = fixture_call(&f, "POST", "/echo", data, sizes[i]);
        assert_int_equal(a.status, 200);
        assert_int_equal(a.size, sizes[i]);
        assert_memory_equal(a.body, data, sizes[i]);
        net_answer_clear(&a);
        a = fixture_call(&f, "POST", "/parts", data, sizes[i]);
        assert_int_equal(a.size, sizes[i]);
        assert_memory_equal(a.body, data, sizes[i]);
        net_answer_clear(&a);
    }
    struct net_answer a = fixture_call(&f, "POST", "/keep", data, 100000);
    assert_int_equal(a.status, 204);
    net_answer_clear(&a);
    assert_int_equal(f.kept.size, 100000);
    assert_memory_equal(f.kept.data, data, 100000);
    struct net_counts counts;
    net_server_counts(f.server, &counts);
    assert_true(counts.bodies >= 100000);
    f.kept.release(f.kept.arg);
    free(data);
    /* the last request's end may come a little after its answer */
    int64_t deadline = clock_deadline_ms(60000);
    do
        net_server_counts(f.server, &counts);
    while (counts.bodies > 0 && clock_now_ns() < deadline);
    assert_int_equal(counts.bodies, 0);
    fixture_stop(&f);
    assert_int_equal(f.released, (int)ARRAY_LEN(sizes));
}

static void test_body_budget(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    fixture_start(&f, &(struct net_server_options){.max_bodies = 1500000});
    char *data = calloc(1, 1000000);
    struct net_answer a = fixture_call(&f, "POST", "/keep", data, 1000000);
    assert_int_equal(a.status, 204);
    net_answer_clear(&a);
    a = fixture_call(&f, "POST", "/echo", data, 1000000);
    assert_int_equal(a.status, 503);
    net_answer_clear(&a);
    f.kept.release(f.kept.arg);
    a = fixture_call(&f, "POST", "/echo", data, 1000000);
    assert_int_equal(a.status, 200);
    net_answer_clear(&a);
    free(data);
    fixture_stop(&f);
}

static void test_streaming(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    fixture_start(&f, NULL);
    for (int round = 0; round < 2; round++) {
        struct net_answer a = fixture_call(&f, "GET", "/stream", NULL, 0);
        assert_int_equal(a.status, 200);
        assert_string_equal(a.content_type, "text/event-stream");
        assert_non_null(strstr(a.body, "data: 0\n\ndata: 1\n\n"));
        assert_string_equal(a.body + a.size - 11, "data: 999\n\n");
        assert_int_equal(a.reused, round == 1);
        net_answer_clear(&a);
    }
    char url[128];
    struct err e;
    struct net_answer a;
    (void)snprintf(url, sizeof(url), "%s/broken", f.base);
    assert_false(net_call(f.client, &(struct net_call){.url = url}, &a, &e));
    assert_int_equal(e.code, ERR_GONE);
    fixture_stop(&f);
}

static void test_client_gone_ends_a_stream(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    fixture_start(&f, NULL);
    char some[1024];
    int fd = raw_connect(net_server_port(f.server));
    raw_send(fd, "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n");
    (void)raw_read_until(fd, "\r\n\r\n", some, sizeof(some));
    close(fd);
    await(&f.cancelled, 1);
    /* a client that wants the head alone ends it, too */
    expect_status(&f, "HEAD", "/endless", 200);
    await(&f.cancelled, 2);
    fixture_stop(&f);
}

static void test_client_gone_fires_the_token(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    fixture_start(&f, NULL);
    int fd = raw_connect(net_server_port(f.server));
    raw_send(fd, "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    await(&f.waiting, 1);
    assert_int_equal(f.cancelled, 0);
    int64_t start = clock_now_ns();
    close(fd);
    await(&f.cancelled, 1);
    assert_true(clock_ms_since(start) < 30000);
    fixture_stop(&f);
}

/* The connection is watched once, its requests one after the other. */
static void test_client_gone_fires_the_token_of_a_later_request(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    static const char ask[] = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";
    char some[1024];
    fixture_start(&f, NULL);
    int fd = raw_connect(net_server_port(f.server));
    raw_send(fd, ask);
    await(&f.waiting, 1);
    cancel_fire(f.open);
    (void)raw_read_until(fd, "done", some, sizeof(some));
    assert_int_equal(f.cancelled, 0);
    cancel_unref(f.open);
    f.open = cancel_new();
    raw_send(fd, ask);
    await(&f.waiting, 2);
    assert_int_equal(f.cancelled, 0);
    close(fd);
    await(&f.cancelled, 1);
    fixture_stop(&f);
}

static void note_done(void *arg, const struct net_done *done)
{
    atomic_int *sum = arg;
    *sum += done->status;
    assert_true(done->ms >= 0);
    assert_int_equal(done->route != NULL, done->status != 404);
}

static void test_done_is_told(void **state)
{
    (void)state;
    static struct fixture f;
    static atomic_int sum;
    fixture_start(&f, &(struct net_server_options){.done = note_done, .done_arg = &sum});
    expect_status(&f, "GET", "/ping", 200);
    expect_status(&f, "GET", "/nothing", 404);
    expect_status(&f, "GET", "/stream", 200);
    fixture_stop(&f);
    assert_int_equal(sum, 804);
}

static uint64_t left_ms(struct fixture *f, int64_t deadline_ns)
{
    char url[128], text[32];
    struct err e;
    struct net_answer a;
    uint64_t ms;
    (void)snprintf(url, sizeof(url), "%s/echo/x", f->base);
    assert_true(
        net_call(f->client, &(struct net_call){.url = url, .deadline_ns = deadline_ns}, &a, &e));
    assert_true(net_answer_header(&a, "X-Left-Ms", text, sizeof(text)));
    assert_true(net_length_parse(text, UINT64_MAX, &ms, NULL));
    net_answer_clear(&a);
    return ms;
}

/* The caller's deadline reaches the handler; the server's own limit is the ceiling. */
static void test_deadlines_travel(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_start(&f, &(struct net_server_options){.timeout_ms = 100000});
    uint64_t ms = left_ms(&f, 0);
    assert_true(ms > 80000 && ms <= 100000);
    ms = left_ms(&f, clock_deadline_ms(1000000));
    assert_true(ms > 80000 && ms <= 100000);
    ms = left_ms(&f, clock_deadline_ms(30000));
    assert_true(ms > 10000 && ms <= 30000);
    assert_int_equal(status_of(net_server_port(f.server),
                               "GET /echo/x HTTP/1.1\r\nHost: a\r\n" NET_TIMEOUT_HEADER
                               ": soon\r\n\r\n"),
                     400);
    fixture_stop(&f);
}

static void test_six(void **state)
{
    (void)state;
    static struct fixture f;
    struct err e;
    struct net_answer a;
    char url[128];
    struct net_server *s;
    if (!net_server_start(&(struct net_server_options){.host = "::1"}, &s, &e))
        skip(); /* a machine without IPv6 */
    net_server_stop(s, 0);
    fixture_start(&f, &(struct net_server_options){.host = "::1", .public_checks = true});
    (void)snprintf(url, sizeof(url), "http://[::1]:%u/ping", net_server_port(f.server));
    if (!net_call(f.client, &(struct net_call){.url = url}, &a, &e))
        fail_msg("%s", e.text);
    assert_int_equal(a.status, 200);
    net_answer_clear(&a);
    fixture_stop(&f);
}

static void test_load_limit(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    fixture_start(&f, &(struct net_server_options){.max_ordinary = 2});
    int fds[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = raw_connect(net_server_port(f.server));
        raw_send(fds[i], "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    await(&f.waiting, 2);
    struct net_answer a = fixture_call(&f, "GET", "/echo/x", NULL, 0);
    char after[16];
    struct err e;
    assert_int_equal(a.status, 503);
    assert_true(net_answer_header(&a, "Retry-After", after, sizeof(after)));
    assert_false(net_answer_err(&a, &e));
    assert_int_equal(e.code, ERR_BUSY);
    net_answer_clear(&a);
    expect_status(&f, "GET", "/ping", 200);
    cancel_fire(f.open);
    for (int i = 0; i < 2; i++) {
        char answer[1024];
        (void)raw_read_until(fds[i], "done", answer, sizeof(answer));
        assert_non_null(strstr(answer, "done"));
        close(fds[i]);
    }
    expect_status(&f, "GET", "/echo/x", 200);
    fixture_stop(&f);
}

#define MANY 1000

static void test_a_thousand_waiting_connections(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    fixture_start(&f, &(struct net_server_options){.max_ordinary = MANY});
    int *fds = calloc(MANY, sizeof(*fds));
    assert_non_null(fds);
    for (int i = 0; i < MANY; i++) {
        fds[i] = raw_connect(net_server_port(f.server));
        raw_send(fds[i], "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    await(&f.waiting, MANY);
    struct net_counts counts;
    net_server_counts(f.server, &counts);
    assert_int_equal(counts.ordinary, MANY);
    for (int i = 0; i < 20; i++)
        expect_status(&f, "GET", "/ping", 200);
    expect_status(&f, "GET", "/echo/x", 503);
    for (int i = 0; i < MANY; i++)
        close(fds[i]);
    await(&f.cancelled, MANY);
    free(fds);
    fixture_stop(&f);
}

static void *stop_later(void *arg)
{
    struct fixture *f = arg;
    net_server_stop(f->server, 10000);
    return NULL;
}

/* Stopping waits for a running request, whose client gets its answer; new clients are refused. */
static void test_graceful_stop(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    struct err e;
    fixture_start(&f, NULL);
    int busy = raw_connect(net_server_port(f.server)),
        idle = raw_connect(net_server_port(f.server));
    char answer[4096];
    raw_send(idle, "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n");
    (void)raw_read_until(idle, "pong", answer, sizeof(answer));
    raw_send(busy, "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    await(&f.waiting, 1);
    pthread_t thread;
    assert_true(thread_start(&thread, "stop", stop_later, &f, &e));
    /* a kept connection is told so as soon as stopping has begun */
    do {
        raw_send(idle, "GET /echo/x HTTP/1.1\r\nHost: a\r\n\r\n");
        (void)raw_read_until(idle, "\r\n\r\n", answer, sizeof(answer));
    } while (strstr(answer, "HTTP/1.1 200"));
    assert_non_null(strstr(answer, "503"));
    assert_non_null(strstr(answer, "Retry-After"));
    close(idle);
    char url[128];
    struct net_answer a;
    struct net_call late = {.url = url, .deadline_ns = clock_deadline_ms(60000)};
    (void)snprintf(url, sizeof(url), "%s/ping", f.base);
    /* the first may still be taken by the library's thread, which then closes it */
    for (int i = 0; i < 2; i++)
        assert_false(net_call(f.client, &late, &a, &e));
    assert_int_equal(e.code, ERR_GONE);
    cancel_fire(f.open);
    (void)raw_read_until(busy, "done", answer, sizeof(answer));
    assert_non_null(strstr(answer, "done"));
    close(busy);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(f.cancelled, 0);
    net_client_close(f.client);
    cancel_unref(f.open);
}

/* The idle limit ends connections that nobody uses, not requests that take longer than it. */
static void test_idle_limit(void **state)
{
    (void)state;
    static struct fixture f;
    /* so long that a busy machine does not let the kept connection wait for it */
    fixture_start(&f, &(struct net_server_options){.idle_s = 2});
    char answer[1024];
    int idle = raw_connect(net_server_port(f.server)),
        busy = raw_connect(net_server_port(f.server));
    int pause = raw_connect(net_server_port(f.server));
    raw_send(busy, "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    raw_send(pause, "GET /pause HTTP/1.1\r\nHost: a\r\n\r\n");
    await(&f.waiting, 2);
    int64_t start = clock_now_ns();
    assert_int_equal(raw_read_until(idle, "never", answer, sizeof(answer)), 0);
    assert_true(clock_ms_since(start) < 30000);
    close(idle);
    while (clock_ms_since(start) < 4000) /* what is tested is time itself */
        usleep(100000);
    cancel_fire(f.open);
    (void)raw_read_until(busy, "done", answer, sizeof(answer));
    assert_non_null(strstr(answer, "done"));
    raw_send(busy, "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n");
    (void)raw_read_until(busy, "pong", answer, sizeof(answer));
    assert_non_null(strstr(answer, "pong"));
    close(busy);
    (void)raw_read_until(pause, "after\r\n0\r\n\r\n", answer, sizeof(answer));
    assert_non_null(strstr(answer, "before"));
    assert_non_null(strstr(answer, "after\r\n0\r\n\r\n"));
    close(pause);
    fixture_stop(&f);
}

/* One byte now and then is no request: the limit is for the whole header, and for a whole body. */
static void test_trickle(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_start(&f, &(struct net_server_options){.idle_s = 1, .timeout_ms = 1000});
    uint16_t port = net_server_port(f.server);
    int head = raw_connect(port), body = raw_connect(port);
    raw_send(head, "GET /ping HTTP/1.1\r\nHost: a\r\nX: ");
    raw_send(body, "POST /json HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n");
    int64_t start = clock_now_ns();
    bool head_ended = false, body_ended = false;
    while ((!head_ended || !body_ended) && clock_ms_since(start) < 60000) {
        usleep(100000); /* what is tested is time itself */
        head_ended = head_ended || send(head, "x", 1, MSG_NOSIGNAL) < 0;
        body_ended = body_ended || send(body, "x", 1, MSG_NOSIGNAL) < 0;
    }
    assert_true(head_ended && body_ended);
    close(head);
    close(body);
    expect_status(&f, "GET", "/ping", 200);
    fixture_stop(&f);
}

/* When more than half of the connections are taken, those without a request have to go. */
static void test_crowded(void **state)
{
    (void)state;
    static struct fixture f;
    enum { MOST = 16 };
    fixture_start(&f, &(struct net_server_options){.max_connections = MOST});
    int fds[MOST];
    for (int i = 0; i < MOST; i++)
        fds[i] = raw_connect(net_server_port(f.server));
    char answer[64];
    for (int i = 0; i < MOST / 2; i++)
        (void)raw_read_until(fds[i], "never", answer, sizeof(answer)); /* ends by the server */
    struct net_counts counts;
    do { /* its threads have ended a moment later */
        usleep(10000);
        net_server_counts(f.server, &counts);
    } while (counts.connections > MOST / 2);
    expect_status(&f, "GET", "/ping", 200);
    for (int i = 0; i < MOST; i++)
        close(fds[i]);
    fixture_stop(&f);
}

static void test_stop_without_grace_fires_tokens(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    fixture_start(&f, NULL);
    int fd = raw_connect(net_server_port(f.server));
    raw_send(fd, "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    await(&f.waiting, 1);
    net_client_close(f.client);
    net_server_stop(f.server, 0);
    assert_int_equal(f.cancelled, 1);
    char answer[1024];
    (void)raw_read_until(fd, "done", answer, sizeof(answer));
    assert_non_null(strstr(answer, "done"));
    close(fd);
    cancel_unref(f.open);
}

static void test_public_checks(void **state)
{
    (void)state;
    static struct fixture f; /* static: a failing test leaves threads behind */
    static const char *const names[] = {"box.home"};
    fixture_start(
        &f, &(struct net_server_options){.public_checks = true, .names = names, .name_count = 1});
    uint16_t port = net_server_port(f.server);
    static const struct {
        const char *fields;
        int status;
    } rows[] = {
        {"Host: localhost:7070", 200},
        {"Host: 127.0.0.1", 200},
        {"Host: [::1]:7070", 200},
        {"Host: BOX.home", 200},
        {"Host: evil.example", 403},
        {"Host: localhost.evil.example", 403},
        {"Host: 10.0.0.1", 403},
        {"Host: localhost\r\nOrigin: http://localhost:3000", 200},
        {"Host: localhost\r\nOrigin: https://evil.example", 403},
        {"Host: localhost\r\nOrigin: null", 403},
        {"Host: localhost\r\nOrigin: https://evil.example\r\nOrigin: http://localhost", 400},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (status_of(port, "GET /ping HTTP/1.1\r\n%s\r\n\r\n", rows[i].fields) != rows[i].status)
            fail_msg("%s", rows[i].fields);
    fixture_stop(&f);
}

/* An address of this machine that is not loopback; false when there is none. */
static bool own_address(char *ret, size_t max)
{
    struct ifaddrs *list, *at;
    bool found = false;
    if (getifaddrs(&list) != 0)
        return false;
    for (at = list; at && !found; at = at->ifa_next) {
        if (!at->ifa_addr || at->ifa_addr->sa_family != AF_INET || !(at->ifa_flags & IFF_UP))
            continue;
        const struct sockaddr_in *four = (const void *)at->ifa_addr;
        found =
            inet_ntop(AF_INET, &four->sin_addr, ret, (socklen_t)max) && !net_host_is_loopback(ret);
    }
    freeifaddrs(list);
    return found;
}

static bool knows_key(void *arg, const char *key)
{
    (void)arg;
    return strcmp(key, "second") == 0;
}

static void test_keys(void **state)
{
    (void)state;
    char address[64], url[128];
    if (!own_address(address, sizeof(address)))
        skip();
    static struct fixture f;
    fixture_start(&f, &(struct net_server_options){
                          .host = "0.0.0.0", .key = "first", .check_key = knows_key});
    static const struct {
        const char *path, *value;
        int status;
    } rows[] = {
        {"echo/x", "Bearer first", 200},      {"echo/x", "bearer second", 200},
        {"echo/x", "Bearer firs", 401},       {"echo/x", "Bearer first1", 401},
        {"echo/x", "Bearer firstfirst", 401}, {"echo/x", "Basic first", 401},
        {"nothing", "Bearer third", 401},     {"nothing", "Bearer first", 404},
        {"open", "Bearer third", 200},
    };
    struct err e;
    struct net_answer a;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct net_header header = {"Authorization", rows[i].value};
        (void)snprintf(url, sizeof(url), "http://%s:%u/%s", address, net_server_port(f.server),
                       rows[i].path);
        struct net_call call = {.url = url, .headers = &header, .header_count = 1};
        if (!net_call(f.client, &call, &a, &e))
            fail_msg("%s", e.text);
        if (a.status != rows[i].status)
            fail_msg("%s with %s: %d", rows[i].path, rows[i].value, a.status);
        net_answer_clear(&a);
    }
    (void)snprintf(url, sizeof(url), "http://%s:%u/echo/x", address, net_server_port(f.server));
    assert_true(net_call(f.client, &(struct net_call){.url = url}, &a, &e));
    assert_int_equal(a.status, 401);
    net_answer_clear(&a);
    expect_status(&f, "GET", "/echo/x", 200); /* by way of loopback */
    fixture_stop(&f);
}

static void test_wrong_options(void **state)
{
    (void)state;
    struct err e;
    struct net_server *s;
    assert_false(net_server_start(&(struct net_server_options){.host = "256.1.1.1.1"}, &s, &e));
    static struct fixture f; /* static: a failing test leaves threads behind */
    fixture_start(&f, NULL);
    assert_false(
        net_server_start(&(struct net_server_options){.port = net_server_port(f.server)}, &s, &e));
    fixture_stop(&f);
    net_server_stop(NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_reach_the_handler),
        cmocka_unit_test(test_server_answers_by_itself),
        cmocka_unit_test(test_wrong_methods),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_smuggling),
        cmocka_unit_test(test_chunked_bodies),
        cmocka_unit_test(test_a_dropped_header_leaves_nothing),
        cmocka_unit_test(test_an_endless_body_is_cut_off),
        cmocka_unit_test(test_a_refused_small_body_keeps_the_connection),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_body_budget),
        cmocka_unit_test(test_streaming),
        cmocka_unit_test(test_client_gone_ends_a_stream),
        cmocka_unit_test(test_client_gone_fires_the_token),
        cmocka_unit_test(test_client_gone_fires_the_token_of_a_later_request),
        cmocka_unit_test(test_done_is_told),
        cmocka_unit_test(test_deadlines_travel),
        cmocka_unit_test(test_six),
        cmocka_unit_test(test_load_limit),
        cmocka_unit_test(test_a_thousand_waiting_connections),
        cmocka_unit_test(test_graceful_stop),
        cmocka_unit_test(test_idle_limit),
        cmocka_unit_test(test_trickle),
        cmocka_unit_test(test_crowded),
        cmocka_unit_test(test_stop_without_grace_fires_tokens),
        cmocka_unit_test(test_public_checks),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_wrong_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
