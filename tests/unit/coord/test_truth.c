/* Predictions beside what was measured: what counts as wrong, and what bounds the rows. */
#include "coord/rates.h"
#include "coord/truth.h"
#include "lib/cmocka.h"

#include <stdio.h>

static void twice_in_a_row_is_wrong(void **state)
{
    (void)state;
    struct truth t = {0};
    struct prediction *p = truth_note(&t, "m", "t", "dev-1", 10, 20, 10, 1);
    assert_non_null(p);
    assert_int_equal(p->off, 1);
    p = truth_note(&t, "m", "t", "dev-1", 10, 19, 12, 2);
    assert_true(p->off >= TRUTH_WRONG);
    assert_true(p->predicted_ms == 10 && p->measured_ms == 19 && p->answers == 12);
    p = truth_note(&t, "m", "t", "dev-1", 20, 19, 10, 3); /* right again */
    assert_int_equal(p->off, 0);
    assert_int_equal(t.count, 1);
    p = truth_note(&t, "m", "t", "dev-2", 30, 20, 10,
                   4); /* another gateway, and too much is off, too */
    assert_int_equal(p->off, 1);
    assert_int_equal(t.count, 2);
    truth_clear(&t);
}

static void parts_of_a_millisecond_are_not(void **state)
{
    (void)state;
    struct truth t = {0};
    struct prediction *p = truth_note(&t, "m", "t", "dev-1", 0.5, 1.4, 10, 1);
    assert_int_equal(p->off, 0);
    p = truth_note(&t, "m", "t", "dev-1", 100, 120, 10, 1); /* less than a quarter */
    assert_int_equal(p->off, 0);
    truth_clear(&t);
}

static void rows_are_bounded(void **state)
{
    (void)state;
    struct truth t = {0};
    char name[32];
    for (unsigned i = 0; i < TRUTH_MAX + 5; i++) {
        (void)snprintf(name, sizeof(name), "m%u", i);
        bool kept = truth_note(&t, name, "t", "d", 1, 1, 10, 1) != NULL;
        assert_int_equal(kept, i < TRUTH_MAX);
    }
    truth_clear(&t);
}

static void only_what_no_cache_helped_is_timed(void **state)
{
    (void)state;
    struct rates r = {0};
    json_t *usage = json_pack("{s:[i,i,i,i,i,i],s:[i,i,i,i,i,i]}", "m\tt", 5, 5, 0, 0, 2, 9000,
                              "m\tu", 3, 3, 0, 0, 0, 0);
    rates_count(&r, "dev-1", usage);
    json_decref(usage);
    assert_int_equal(r.count, 2);
    assert_true(r.rows[0].timed == 2 && r.rows[0].timed_ms == 9);
    assert_true(r.rows[1].timed == 0 && r.rows[1].timed_ms == 0);
    rates_clear(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twice_in_a_row_is_wrong),
        cmocka_unit_test(parts_of_a_millisecond_are_not),
        cmocka_unit_test(rows_are_bounded),
        cmocka_unit_test(only_what_no_cache_helped_is_timed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
