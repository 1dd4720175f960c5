/* The result cache: hits, joined runs, failure handed on, bounds.  label: threads */
#include "base/clock.h"
#include "base/sync.h"
#include "lib/cmocka.h"
#include "node/cache.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static struct result one_float(float value, int64_t n)
{
    struct result r = {.count = 1};
    struct err e;
    struct shape s = {.rank = 1, .dims = {n}};
    assert_true(tensor_new(DT_F32, &s, &r.outputs[0].tensor, &e));
    *(float *)r.outputs[0].tensor.data = value;
    (void)snprintf(r.outputs[0].name, sizeof(r.outputs[0].name), "o");
    return r;
}

static struct result *scratch(void)
{
    static struct result r;
    memset(&r, 0, sizeof(r));
    return &r;
}

static void second_asker_hits(void **state)
{
    (void)state;
    struct err e;
    struct cache *c = cache_new(1 << 20);
    struct digest key = digest_of("k", 1);
    assert_int_equal(cache_get(c, &key, CLOCK_NEVER, NULL, scratch(), &e), CACHE_COMPUTE);
    struct result r = one_float(4, 1);
    cache_put(c, &key, &r);
    result_clear(&r);
    struct result *got = scratch();
    assert_int_equal(cache_get(c, &key, CLOCK_NEVER, NULL, got, &e), CACHE_HIT);
    assert_true(*(float *)got->outputs[0].tensor.data == 4);
    result_clear(got);
    cache_free(c);
}

struct joiner {
    struct cache *cache;
    struct digest key;
    atomic_int started;
    enum cache_ask got;
    float value;
};

static void *join_run(void *arg)
{
    struct joiner *j = arg;
    struct result r = {0};
    struct err e;
    atomic_store(&j->started, 1);
    j->got = cache_get(j->cache, &j->key, clock_deadline_ms(60000), NULL, &r, &e);
    if (j->got == CACHE_HIT)
        j->value = *(float *)r.outputs[0].tensor.data;
    else if (j->got == CACHE_COMPUTE)
        cache_fail(j->cache, &j->key);
    result_clear(&r);
    return NULL;
}

/* Waits, without sleeping a fixed time, until the cache counts a joined asker. */
static void until_joined(struct cache *c)
{
    struct cache_stats s = {0};
    for (int64_t end = clock_deadline_ms(60000); s.joined == 0 && clock_now_ns() < end;) {
        cache_stats(c, &s);
        sched_yield();
    }
    assert_int_equal(s.joined, 1);
}

static void equal_runs_join(void **state)
{
    (void)state;
    struct err e;
    pthread_t thread;
    struct joiner j = {.cache = cache_new(0), .key = digest_of("k", 1)};
    assert_int_equal(cache_get(j.cache, &j.key, CLOCK_NEVER, NULL, scratch(), &e), CACHE_COMPUTE);
    assert_true(thread_start(&thread, "joiner", join_run, &j, &e));
    until_joined(j.cache);
    struct result r = one_float(7, 1);
    cache_put(j.cache, &j.key, &r);
    result_clear(&r);
    pthread_join(thread, NULL);
    assert_int_equal(j.got, CACHE_HIT);
    assert_true(j.value == 7);
    cache_free(j.cache);
}

static void a_failed_run_is_taken_over(void **state)
{
    (void)state;
    struct err e;
    pthread_t thread;
    struct joiner j = {.cache = cache_new(1 << 20), .key = digest_of("k", 1)};
    assert_int_equal(cache_get(j.cache, &j.key, CLOCK_NEVER, NULL, scratch(), &e), CACHE_COMPUTE);
    assert_true(thread_start(&thread, "joiner", join_run, &j, &e));
    until_joined(j.cache);
    cache_fail(j.cache, &j.key);
    pthread_join(thread, NULL);
    assert_int_equal(j.got, CACHE_COMPUTE);
    cache_free(j.cache);
}

static void waiting_ends_with_the_caller_or_the_deadline(void **state)
{
    (void)state;
    struct err e;
    struct cache *c = cache_new(1 << 20);
    struct cancel *cancel = cancel_new();
    struct digest key = digest_of("k", 1);
    assert_int_equal(cache_get(c, &key, CLOCK_NEVER, NULL, scratch(), &e), CACHE_COMPUTE);
    assert_int_equal(cache_get(c, &key, clock_deadline_ms(5), NULL, scratch(), &e), CACHE_ERROR);
    assert_int_equal(e.code, ERR_TIMEOUT);
    cancel_fire(cancel);
    assert_int_equal(cache_get(c, &key, CLOCK_NEVER, cancel, scratch(), &e), CACHE_ERROR);
    assert_int_equal(e.code, ERR_CANCELLED);
    cancel_unref(cancel);
    cache_fail(c, &key);
    cache_free(c);
}

static void bytes_are_bounded_and_the_oldest_goes(void **state)
{
    (void)state;
    struct err e;
    struct cache *c = cache_new(10000);
    for (int i = 0; i < 20; i++) {
        struct digest key = digest_of(&i, sizeof(i));
        assert_int_equal(cache_get(c, &key, CLOCK_NEVER, NULL, scratch(), &e), CACHE_COMPUTE);
        struct result r = one_float((float)i, 500);
        cache_put(c, &key, &r);
        result_clear(&r);
    }
    struct cache_stats s;
    cache_stats(c, &s);
    assert_true(s.bytes <= 10000 && s.entries >= 3);
    int last = 19, first = 0;
    struct digest key = digest_of(&last, sizeof(last));
    struct result *got = scratch();
    assert_int_equal(cache_get(c, &key, CLOCK_NEVER, NULL, got, &e), CACHE_HIT);
    result_clear(got);
    key = digest_of(&first, sizeof(first));
    assert_int_equal(cache_get(c, &key, CLOCK_NEVER, NULL, scratch(), &e), CACHE_COMPUTE);
    cache_fail(c, &key);
    cache_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(second_asker_hits),
        cmocka_unit_test(equal_runs_join),
        cmocka_unit_test(a_failed_run_is_taken_over),
        cmocka_unit_test(waiting_ends_with_the_caller_or_the_deadline),
        cmocka_unit_test(bytes_are_bounded_and_the_oldest_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
