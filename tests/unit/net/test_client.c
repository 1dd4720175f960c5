/* test_client.c - the client against our server and against raw sockets that misbehave.
 *
 * label: threads */
#include "lib_net.h"

#include "base/cancel.h"
#include "base/clock.h"
#include "base/num.h"
#include "base/sync.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void expect_failure(struct fixture *f, const struct net_call *call, enum err_code code)
{
    struct err e = {0};
    struct net_answer a;
    if (net_call(f->client, call, &a, &e))
        fail_msg("%s: got an answer instead of %s", call->url, err_name(code));
    if (e.code != code)
        fail_msg("%s: %s (%s) instead of %s", call->url, err_name(e.code), e.text, err_name(code));
}

static void test_connections_are_kept(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_start(&f, NULL);
    for (int i = 0; i < 50; i++) {
        struct net_answer a = fixture_call(&f, "POST", "/echo", "abc", 3);
        assert_int_equal(a.status, 200);
        assert_int_equal(a.reused, i > 0);
        assert_true(a.total_ms >= a.first_byte_ms);
        net_answer_clear(&a);
    }
    struct net_counts counts;
    net_server_counts(f.server, &counts);
    assert_int_equal(counts.accepted, 1);
    assert_int_equal(counts.requests, 50);
    net_client_forget(f.client, f.base, 600000); /* none has been idle for so long */
    struct net_answer a = fixture_call(&f, "GET", "/ping", NULL, 0);
    assert_true(a.reused);
    net_answer_clear(&a);
    net_client_forget(f.client, f.base, 0);
    a = fixture_call(&f, "GET", "/ping", NULL, 0);
    assert_false(a.reused);
    net_answer_clear(&a);
    fixture_stop(&f);
}

/* A call that must not be repeated takes no connection that could turn out dead. */
static void test_once_takes_a_fresh_connection(void **state)
{
    (void)state;
    static struct fixture f;
    struct err e;
    struct net_answer a;
    char url[128];
    fixture_start(&f, NULL);
    (void)snprintf(url, sizeof(url), "%s/ping", f.base);
    struct net_call call = {.url = url};
    for (int i = 0; i < 4; i++) {
        call.flags = i % 2 ? NET_CALL_ONCE : 0;
        assert_true(net_call(f.client, &call, &a, &e));
        assert_int_equal(a.reused, i == 2);
        net_answer_clear(&a);
    }
    fixture_stop(&f);
}

static void test_methods_do_not_mix(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_start(&f, NULL);
    static const struct {
        const char *method, *path, *body;
        int status;
    } rows[] = {
        {"POST", "/echo", "abc", 200}, {"GET", "/ping", NULL, 200},  {"HEAD", "/ping", NULL, 200},
        {"PUT", "/echo", "xy", 200},   {"GET", "/ping", NULL, 200},  {"DELETE", "/ping", NULL, 405},
        {"POST", "/echo", NULL, 200},  {"HEAD", "/ping", NULL, 200}, {"POST", "/sized", "", 200},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *body = rows[i].body;
        struct net_answer a =
            fixture_call(&f, rows[i].method, rows[i].path, body, body ? strlen(body) : 0);
        assert_int_equal(a.status, rows[i].status);
        assert_non_null(a.body);
        assert_int_equal(a.reused, i > 0);
        if (body)
            assert_string_equal(a.body, body);
        net_answer_clear(&a);
    }
    fixture_stop(&f);
}

static void test_many_parts(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_start(&f, NULL);
    char url[128], *data = malloc(2000000);
    assert_non_null(data);
    for (size_t i = 0; i < 2000000; i++)
        data[i] = (char)(i * 7 >> 2);
    struct net_part parts[5] = {{data, 10},
                                {data + 10, 0},
                                {data + 10, 999990},
                                {data + 1000000, 1},
                                {data + 1000001, 999999}};
    struct net_header headers[2] = {{"Content-Type", "application/octet-stream"}, {"X-Empty", ""}};
    (void)snprintf(url, sizeof(url), "%s/echo", f.base);
    for (size_t n = 1; n <= 5; n++) {
        size_t total = 0;
        for (size_t i = 0; i < n; i++)
            total += parts[i].size;
        struct err e;
        struct net_answer a;
        struct net_call call = {.method = "POST",
                                .url = url,
                                .parts = parts,
                                .part_count = n,
                                .headers = headers,
                                .header_count = 2};
        if (!net_call(f.client, &call, &a, &e))
            fail_msg("%s", e.text);
        assert_int_equal(a.size, total);
        assert_memory_equal(a.body, data, total);
        net_answer_clear(&a);
    }
    free(data);
    fixture_stop(&f);
}

static bool collect(void *arg, const void *data, size_t size)
{
    (void)data;
    size_t *total = arg;
    *total += size;
    return *total < 100000;
}

static void test_streams_are_delivered_as_they_come(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_start(&f, NULL);
    char url[128];
    struct err e;
    struct net_answer a;
    size_t total = 0;
    (void)snprintf(url, sizeof(url), "%s/stream", f.base);
    struct net_call call = {.url = url, .on_data = collect, .on_data_arg = &total};
    assert_true(net_call(f.client, &call, &a, &e));
    assert_int_equal(a.size, 0);
    assert_true(total > 10000);
    net_answer_clear(&a);
    (void)snprintf(url, sizeof(url), "%s/endless", f.base);
    expect_failure(&f, &call, ERR_CANCELLED);
    await(&f.cancelled, 1);
    /* errors do not go to the reader */
    (void)snprintf(url, sizeof(url), "%s/nothing", f.base);
    total = 0;
    assert_true(net_call(f.client, &call, &a, &e));
    assert_int_equal(total, 0);
    assert_false(net_answer_err(&a, &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    net_answer_clear(&a);
    fixture_stop(&f);
}

struct firing {
    struct fixture *fixture;
    struct cancel *cancel;
    int round;
    int64_t fired_ns;
};

static void *fire_later(void *arg)
{
    struct firing *f = arg;
    await(&f->fixture->waiting, f->round);
    usleep(20000); /* so that the caller is inside its wait, whatever the order of threads */
    f->fired_ns = clock_now_ns();
    cancel_fire(f->cancel);
    return NULL;
}

static void test_cancel_is_noticed_at_once(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_start(&f, NULL);
    char url[128];
    struct err e;
    double best = 1e9;
    (void)snprintf(url, sizeof(url), "%s/wait", f.base);
    /* one of some rounds, because the machine may be busy */
    for (int round = 1; round <= 50 && best >= 50; round++) {
        struct firing firing = {&f, cancel_new(), round, 0};
        pthread_t thread;
        assert_true(thread_start(&thread, "fire", fire_later, &firing, &e));
        struct net_call call = {
            .url = url, .cancel = firing.cancel, .deadline_ns = clock_deadline_ms(60000)};
        expect_failure(&f, &call, ERR_CANCELLED);
        int64_t noticed = clock_now_ns();
        assert_int_equal(pthread_join(thread, NULL), 0);
        double ms = (double)(noticed - firing.fired_ns) / 1e6;
        best = ms < best ? ms : best;
        await(&f.cancelled, round); /* the server noticed, too */
        expect_failure(&f, &call, ERR_CANCELLED);
        cancel_unref(firing.cancel);
    }
    assert_true(best < 50);
    fixture_stop(&f);
}

static void test_failures(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_start(&f, NULL);
    char url[128], *body = calloc(1, 5000);
    (void)snprintf(url, sizeof(url), "%s/wait", f.base);
    expect_failure(&f, &(struct net_call){.url = url, .deadline_ns = clock_deadline_ms(30)},
                   ERR_TIMEOUT);
    expect_failure(&f, &(struct net_call){.url = url, .deadline_ns = 1}, ERR_TIMEOUT);
    (void)snprintf(url, sizeof(url), "%s/echo", f.base);
    struct net_part part = {body, 5000};
    struct net_call call = {
        .method = "POST", .url = url, .parts = &part, .part_count = 1, .max_response = 4999};
    expect_failure(&f, &call, ERR_TOO_LARGE);
    call.max_response = 5000;
    struct err e;
    struct net_answer a;
    assert_true(net_call(f.client, &call, &a, &e));
    assert_int_equal(a.size, 5000);
    net_answer_clear(&a);
    (void)snprintf(url, sizeof(url), "%s/stream", f.base);
    expect_failure(&f, &(struct net_call){.url = url, .max_response = 1000}, ERR_TOO_LARGE);
    static const char *const bad[] = {"ftp://127.0.0.1/",
                                      "127.0.0.1:80",
                                      "http://",
                                      "http://a b/",
                                      "http://u@127.0.0.1/",
                                      "http://127.0.0.1:0/",
                                      "http://127.0.0.1:70000/",
                                      "http://[::1/",
                                      "http://a/\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        expect_failure(&f, &(struct net_call){.url = bad[i]}, ERR_INVALID);
    expect_failure(&f, &(struct net_call){.url = f.base, .method = "GET /x"}, ERR_INVALID);
    struct net_header header = {"X-A", "1\r\nX-B: 2"};
    expect_failure(&f, &(struct net_call){.url = f.base, .headers = &header, .header_count = 1},
                   ERR_INVALID);
    free(body);
    fixture_stop(&f);
}

/* ---- a peer that is no server of ours ---- */

/* What the peer does with connection number i: reads a request, sends answers[i], closes. */
struct peer_script {
    int listen_fd;
    const char *const *answers;
    int count;
    size_t read_body; /* of requests on later connections than the first */
    atomic_int served;
};

#define LARGE_BODY (16u << 20)

/* Reads that many bytes, or to the end. */
static void drain(int fd, size_t size)
{
    static char block[65536];
    ssize_t n = 1;
    while (size > 0 && n > 0) {
        n = recv(fd, block, num_min(sizeof(block), size), 0);
        size -= n > 0 ? (size_t)n : 0;
    }
}

static void *peer_run(void *arg)
{
    struct peer_script *p = arg;
    for (int i = 0; i < p->count; i++) {
        int fd = accept(p->listen_fd, NULL, NULL);
        if (fd < 0)
            return NULL;
        const char *answer = p->answers[i];
        char request[4096];
        /* a '|' in the script: wait for another request there */
        for (size_t got; (got = raw_read_until(fd, "\r\n\r\n", request, sizeof(request))) > 0;) {
            p->served++;
            const char *begun = strstr(request, "\r\n\r\n");
            /* What came with the head is of the body already (it is zeros: no text). */
            if (i > 0 && p->read_body && begun)
                drain(fd, p->read_body - (got - (size_t)(begun + 4 - request)));
            size_t size = strcspn(answer, "|");
            if (size)
                (void)send(fd, answer, size, MSG_NOSIGNAL);
            if (!answer[size])
                break;
            answer += size + 1;
        }
        close(fd);
    }
    return NULL;
}

static void peer_start(struct peer_script *p, pthread_t *thread, char *url, size_t max)
{
    struct err e;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    p->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(p->listen_fd, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(p->listen_fd, 8), 0);
    assert_int_equal(getsockname(p->listen_fd, (struct sockaddr *)&at, &size), 0);
    (void)snprintf(url, max, "http://127.0.0.1:%u/x", ntohs(at.sin_port));
    assert_true(thread_start(thread, "peer", peer_run, p, &e));
}

static void peer_stop(struct peer_script *p, pthread_t thread)
{
    assert_int_equal(pthread_join(thread, NULL), 0);
    close(p->listen_fd);
}

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

/* The kept connection dies after the second request was read: sent again on a fresh one, once. */
static void test_stale_connection_is_retried(void **state)
{
    (void)state;
    static const char *const answers[] = {OK_ANSWER "|", OK_ANSWER};
    struct peer_script p = {.answers = answers, .count = 2};
    pthread_t thread;
    char url[64];
    struct err e;
    struct net_answer a;
    struct net_client *c;
    assert_true(net_client_open(NULL, &c, &e));
    peer_start(&p, &thread, url, sizeof(url));
    struct net_part part = {"body", 4};
    struct net_call call = {.url = url, .method = "POST", .parts = &part, .part_count = 1};
    for (int i = 0; i < 2; i++) {
        if (!net_call(c, &call, &a, &e))
            fail_msg("%d: %s", i, e.text);
        assert_string_equal(a.body, "ok");
        net_answer_clear(&a);
    }
    peer_stop(&p, thread);
    assert_int_equal(p.served, 3);
    assert_false(net_call(c, &call, &a, &e)); /* nobody listens any more */
    assert_int_equal(e.code, ERR_GONE);
    net_client_close(c);
}

/* The same while a large body is under way: sending breaks off, not receiving. */
static void test_stale_connection_with_a_large_body(void **state)
{
    (void)state;
    static const char *const answers[] = {OK_ANSWER "|", OK_ANSWER};
    struct peer_script p = {.answers = answers, .count = 2, .read_body = LARGE_BODY};
    pthread_t thread;
    char url[64], *body = calloc(1, LARGE_BODY);
    struct err e;
    struct net_answer a;
    struct net_client *c;
    assert_non_null(body);
    assert_true(net_client_open(NULL, &c, &e));
    peer_start(&p, &thread, url, sizeof(url));
    struct net_part part = {body, LARGE_BODY};
    for (size_t i = 0; i < 2; i++) {
        struct net_call call = {.url = url, .method = "POST", .parts = &part, .part_count = i};
        if (!net_call(c, &call, &a, &e))
            fail_msg("%zu: %s", i, e.text);
        assert_string_equal(a.body, "ok");
        net_answer_clear(&a);
    }
    peer_stop(&p, thread);
    assert_int_equal(p.served, 3);
    free(body);
    net_client_close(c);
}

/* With NET_CALL_ONCE the peer never sees a request twice. */
static void test_once_is_never_repeated(void **state)
{
    (void)state;
    static const char *const answers[] = {OK_ANSWER "|", "", OK_ANSWER};
    struct peer_script p = {.answers = answers, .count = 2};
    pthread_t thread;
    char url[64];
    struct err e;
    struct net_answer a;
    struct net_client *c;
    assert_true(net_client_open(NULL, &c, &e));
    peer_start(&p, &thread, url, sizeof(url));
    struct net_call call = {.url = url, .method = "POST"};
    assert_true(net_call(c, &call, &a, &e));
    net_answer_clear(&a);
    net_client_forget(c, url, 0); /* the peer's first connection ends here */
    call.flags = NET_CALL_ONCE;
    assert_false(net_call(c, &call, &a, &e));
    assert_int_equal(e.code, ERR_GONE);
    peer_stop(&p, thread);
    assert_int_equal(p.served, 2);
    net_client_close(c);
}

/* Answers that are cut short or are none. */
static void test_broken_answers(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n",
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 200",
        "",
    };
    struct peer_script p = {.answers = answers, .count = (int)ARRAY_LEN(answers)};
    pthread_t thread;
    char url[64];
    struct err e;
    struct net_answer a;
    struct net_client *c;
    assert_true(net_client_open(NULL, &c, &e));
    peer_start(&p, &thread, url, sizeof(url));
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct net_call call = {.url = url, .deadline_ns = clock_deadline_ms(60000)};
        if (net_call(c, &call, &a, &e))
            fail_msg("answer %zu passed: %d '%s'", i, a.status, a.body);
        assert_int_equal(e.code, ERR_GONE);
    }
    peer_stop(&p, thread);
    net_client_close(c);
}

static void test_errors_travel(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body;
        enum err_code code;
        const char *text;
    } rows[] = {
        {404, "{\"error\":\"no model 'x'\",\"code\":\"not-found\"}", ERR_NOT_FOUND, "no model 'x'"},
        {503, "{\"error\":\"full\",\"code\":\"busy\"}", ERR_BUSY, "full"},
        {503, "{\"error\":\"none left\",\"code\":\"no-place\"}", ERR_NO_PLACE, "none left"},
        {429, "{\"error\":{\"message\":\"slow down\"}}", ERR_BUSY, "slow down"},
        {502, "<html>", ERR_GONE, "HTTP status 502"},
        {500, "", ERR_INTERNAL, "HTTP status 500"},
        {401, "[]", ERR_DENIED, "HTTP status 401"},
        {418, "{\"error\":\"x\",\"code\":\"ok\"}", ERR_INTERNAL, "x"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *body = strdup(rows[i].body);
        struct net_answer a = {.status = rows[i].status, .body = body, .size = strlen(body)};
        struct err e;
        assert_false(net_answer_err(&a, &e));
        assert_int_equal(e.code, rows[i].code);
        assert_string_equal(e.text, rows[i].text);
        net_answer_clear(&a);
        net_answer_clear(&a);
    }
    assert_true(net_answer_err(&(struct net_answer){.status = 204}, NULL));
}

#define THREADS 8
#define CALLS 100

static void *call_much(void *arg)
{
    struct fixture *f = arg;
    for (int i = 0; i < CALLS; i++) {
        struct net_answer a = fixture_call(f, "POST", "/echo", &i, sizeof(i));
        assert_int_equal(a.size, sizeof(i));
        assert_memory_equal(a.body, &i, sizeof(i));
        net_answer_clear(&a);
    }
    return NULL;
}

static void test_threads_share_a_client(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_start(&f, NULL);
    pthread_t threads[THREADS];
    struct err e;
    for (int i = 0; i < THREADS; i++)
        assert_true(thread_start(&threads[i], "caller", call_much, &f, &e));
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    struct net_counts counts;
    net_server_counts(f.server, &counts);
    assert_int_equal(counts.requests, THREADS * CALLS);
    assert_true(counts.accepted <= THREADS); /* 99 of 100 calls were on warm connections */
    fixture_stop(&f);
}

static void *call_wait(void *arg)
{
    struct net_answer a = fixture_call(arg, "GET", "/wait", NULL, 0);
    net_answer_clear(&a);
    return NULL;
}

/* The connections of a burst are closed once they have been idle for a while; the one in use is
 * kept. */
static void test_old_connections_are_closed(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_start(&f, NULL);
    pthread_t threads[THREADS];
    struct err e;
    net_client_close(f.client);
    struct net_client_options options = {.idle_ms = 20};
    assert_true(net_client_open(&options, &f.client, &e));
    for (int i = 0; i < THREADS; i++)
        assert_true(thread_start(&threads[i], "caller", call_wait, &f, &e));
    await(&f.waiting, THREADS);
    cancel_fire(f.open);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    struct net_counts counts;
    int64_t end = clock_deadline_ms(60000);
    do {
        struct net_answer a = fixture_call(&f, "GET", "/ping", NULL, 0);
        net_answer_clear(&a);
        net_server_counts(f.server, &counts);
    } while (counts.connections > 1 && clock_now_ns() < end);
    assert_int_equal(counts.connections, 1);
    assert_int_equal(counts.accepted, THREADS);
    fixture_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connections_are_kept),
        cmocka_unit_test(test_once_takes_a_fresh_connection),
        cmocka_unit_test(test_methods_do_not_mix),
        cmocka_unit_test(test_many_parts),
        cmocka_unit_test(test_streams_are_delivered_as_they_come),
        cmocka_unit_test(test_cancel_is_noticed_at_once),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_stale_connection_is_retried),
        cmocka_unit_test(test_stale_connection_with_a_large_body),
        cmocka_unit_test(test_once_is_never_repeated),
        cmocka_unit_test(test_broken_answers),
        cmocka_unit_test(test_errors_travel),
        cmocka_unit_test(test_threads_share_a_client),
        cmocka_unit_test(test_old_connections_are_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
