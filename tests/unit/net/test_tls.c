/* test_tls.c - mutual TLS with certificates made here: with, without and with a foreign one.
 *
 * label: threads */
#include "lib_certs.h"
#include "lib_net.h"

#include "base/clock.h"
#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct set {
    struct certs ours, foreign;
};

static int setup(void **state)
{
    static struct set set;
    certs_make(&set.ours, "our authority");
    /* the same name: a client sends only certificates of the names that the server asks for */
    certs_make(&set.foreign, "our authority");
    certs_issue(&set.ours, "node-1");
    certs_issue(&set.ours, "node-2");
    certs_issue(&set.foreign, "node-2");
    *state = &set;
    return 0;
}

static int teardown(void **state)
{
    struct set *set = *state;
    certs_remove(&set->ours);
    certs_remove(&set->foreign);
    return 0;
}

static void start(struct fixture *f, struct net_tls *server_tls)
{
    fixture_start(f, &(struct net_server_options){.tls = server_tls});
}

#define TEXT_MAX 256

/* Calls by a client with these settings; returns the status, or -code.  ret_text: the X-Peer field
 * of a good answer, the body of another. */
static int try(struct fixture *f, struct net_tls *tls, const char *path, const char *peer_name,
               unsigned flags, char *ret_text)
{
    struct err e;
    struct net_answer a;
    struct net_client *c;
    char url[128];
    assert_true(net_client_open(&(struct net_client_options){.tls = tls}, &c, &e));
    (void)snprintf(url, sizeof(url), "%s%s", f->base, path);
    struct net_call call = {.url = url,
                            .peer_name = peer_name,
                            .flags = flags,
                            .deadline_ns = clock_deadline_ms(20000)};
    int result = 0;
    for (int i = 0; i < 2; i++) { /* twice: the second time on the kept connection */
        if (!net_call(c, &call, &a, &e)) {
            result = -(int)e.code;
            break;
        }
        result = a.status;
        if (ret_text && a.status >= 300)
            (void)snprintf(ret_text, TEXT_MAX, "%s", a.body);
        else if (ret_text)
            assert_true(net_answer_header(&a, "X-Peer", ret_text, TEXT_MAX));
        assert_int_equal(a.reused, i == 1 && a.status < 300);
        net_answer_clear(&a);
    }
    net_client_close(c);
    return result;
}

static void test_mutual(void **state)
{
    struct set *set = *state;
    static struct fixture f;
    char peer[TEXT_MAX];
    struct net_tls *server = certs_tls(&set->ours, "node-1", &set->ours);
    struct net_tls *good = certs_tls(&set->ours, "node-2", &set->ours);
    struct net_tls *none = certs_tls(&set->ours, NULL, &set->ours);
    struct net_tls *foreign = certs_tls(&set->foreign, "node-2", &set->ours);
    struct net_tls *wrong_trust = certs_tls(&set->ours, "node-2", &set->foreign);
    start(&f, server);
    assert_int_equal(try(&f, good, "/echo/x", NULL, 0, peer), 200);
    assert_string_equal(peer, "node-2");
    assert_int_equal(try(&f, none, "/echo/x", NULL, 0, peer), 403);
    assert_non_null(strstr(peer, "is needed"));
    assert_int_equal(try(&f, foreign, "/echo/x", NULL, 0, peer), 403);
    assert_non_null(strstr(peer, "not of this fleet"));
    assert_int_equal(f.handled, 2);
    /* an unknown path is no way to learn anything */
    assert_int_equal(try(&f, none, "/nothing", NULL, 0, NULL), 403);
    /* joining needs no certificate */
    assert_int_equal(try(&f, none, "/open", NULL, 0, NULL), 200);
    assert_int_equal(try(&f, foreign, "/open", NULL, 0, NULL), 200);
    /* the client looks, too: at the authority and at the name */
    assert_int_equal(try(&f, wrong_trust, "/echo/x", NULL, 0, NULL), -ERR_GONE);
    assert_int_equal(try(&f, NULL, "/open", NULL, 0, NULL), -ERR_GONE);
    assert_int_equal(try(&f, NULL, "/open", NULL, NET_CALL_UNVERIFIED, NULL), 200);
    assert_int_equal(try(&f, good, "/echo/x", "node-1", 0, peer), 200);
    assert_string_equal(peer, "node-2");
    assert_int_equal(try(&f, good, "/echo/x", "node-2", 0, NULL), -ERR_GONE);
    fixture_stop(&f);
    net_tls_unref(server);
    net_tls_unref(good);
    net_tls_unref(none);
    net_tls_unref(foreign);
    net_tls_unref(wrong_trust);
}

/* Large bodies, streams and going clients over TLS as over plain connections. */
static void test_traffic(void **state)
{
    struct set *set = *state;
    static struct fixture f;
    struct err e;
    struct net_answer a;
    struct net_client *c;
    char url[128];
    struct net_tls *tls = certs_tls(&set->ours, "node-1", &set->ours);
    start(&f, tls);
    assert_true(net_client_open(&(struct net_client_options){.tls = tls}, &c, &e));
    char *data = malloc(FIXTURE_BODY_MAX);
    assert_non_null(data);
    for (size_t i = 0; i < FIXTURE_BODY_MAX; i++)
        data[i] = (char)(i * 13 >> 4);
    struct net_part parts[2] = {{data, 1000}, {data + 1000, FIXTURE_BODY_MAX - 1000}};
    struct net_call call = {.method = "POST",
                            .url = url,
                            .parts = parts,
                            .part_count = 2,
                            .deadline_ns = clock_deadline_ms(60000)};
    static const char *const paths[] = {"/echo", "/parts"};
    for (int i = 0; i < 2; i++) {
        (void)snprintf(url, sizeof(url), "%s%s", f.base, paths[i]);
        if (!net_call(c, &call, &a, &e))
            fail_msg("%s", e.text);
        assert_int_equal(a.size, FIXTURE_BODY_MAX);
        assert_memory_equal(a.body, data, FIXTURE_BODY_MAX);
        net_answer_clear(&a);
    }
    (void)snprintf(url, sizeof(url), "%s/stream", f.base);
    struct net_call stream = {.url = url};
    assert_true(net_call(c, &stream, &a, &e));
    assert_string_equal(a.body + a.size - 11, "data: 999\n\n");
    net_answer_clear(&a);
    (void)snprintf(url, sizeof(url), "%s/wait", f.base);
    for (int ms = 300; f.waiting == 0 && ms < 60000; ms *= 2) { /* until it got as far as that */
        struct net_call wait = {.url = url, .deadline_ns = clock_deadline_ms(ms)};
        assert_false(net_call(c, &wait, &a, &e));
        assert_int_equal(e.code, ERR_TIMEOUT);
    }
    await(&f.cancelled, 1);
    free(data);
    net_client_close(c);
    fixture_stop(&f);
    net_tls_unref(tls);
}

static void expect_refused(const char *certificate, const char *key, const char *authority)
{
    struct err e = {0};
    struct net_tls *t = net_tls_load(&(struct net_tls_files){certificate, key, authority}, &e);
    assert_null(t);
    assert_true(e.code != ERR_NONE);
}

static void test_wrong_files(void **state)
{
    struct set *set = *state;
    char *one = text_format("%s/node-1.crt", set->ours.folder);
    char *one_key = text_format("%s/node-1.key", set->ours.folder);
    char *two_key = text_format("%s/node-2.key", set->ours.folder);
    expect_refused(one, NULL, NULL);
    expect_refused(NULL, one_key, NULL);
    expect_refused(one, two_key, NULL);
    expect_refused(one_key, one_key, NULL);
    expect_refused("/nonexistent", one_key, NULL);
    expect_refused(NULL, NULL, one_key);
    struct err e;
    struct net_server *s;
    struct net_tls *t = certs_tls(&set->ours, NULL, &set->ours);
    assert_false(net_server_start(&(struct net_server_options){.tls = t}, &s, &e));
    net_tls_unref(t);
    net_tls_unref(NULL);
    free(one);
    free(one_key);
    free(two_key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutual),
        cmocka_unit_test(test_traffic),
        cmocka_unit_test(test_wrong_files),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
