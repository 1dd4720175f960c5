/* A module's figure falls to what its calls really take, and stays where it was not too high. */
#include "lib/cmocka.h"
#include "node/times.h"

static double after(double figure, const double *ms, uint32_t count)
{
    struct run_times t = {0};
    for (uint32_t i = 0; i < count; i++)
        (void)times_add(&t, ms[i], &figure);
    return figure;
}

static void test_a_figure_too_high_becomes_the_mean(void **state)
{
    (void)state;
    static const double ms[TIMES_CALLS] = {3, 1, 2, 20, 2.5, 1.5, 2.25, 1.75, 2};
    assert_true(after(8, ms, TIMES_CALLS) == 4); /* one in nine that waits counts */
    assert_true(after(1, ms, TIMES_CALLS) == 1); /* the coordinator's to raise */
}

static void test_about_right_or_too_few_stays(void **state)
{
    (void)state;
    static const double ms[TIMES_CALLS] = {2, 2, 2, 2, 2, 2, 2, 2, 2};
    assert_true(after(2.4, ms, TIMES_CALLS) == 2.4);
    assert_true(after(1.7, ms, TIMES_CALLS) == 1.7);
    assert_true(after(8, ms, TIMES_CALLS - 1) == 8);
}

static void test_each_window_is_its_own(void **state)
{
    (void)state;
    struct run_times t = {0};
    double figure = 8;
    for (uint32_t i = 0; i < TIMES_CALLS - 1; i++)
        assert_false(times_add(&t, 5, &figure));
    assert_true(times_add(&t, 5, &figure) && figure == 5);
    for (uint32_t i = 0; i < TIMES_CALLS - 1; i++)
        assert_false(times_add(&t, 1, &figure));
    assert_true(times_add(&t, 1, &figure) && figure == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_figure_too_high_becomes_the_mean),
        cmocka_unit_test(test_about_right_or_too_few_stays),
        cmocka_unit_test(test_each_window_is_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
