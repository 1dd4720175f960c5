/* What a gateway takes to be under way on a device. */
#include "gateway/load.h"
#include "lib/cmocka.h"

static void own_work_is_shared_by_lanes(void **state)
{
    (void)state;
    struct load *l = load_new();
    load_begin(l, "a", 30);
    load_begin(l, "a", 10);
    assert_true(load_queue_ms(l, "a", 1) == 40);
    assert_true(load_queue_ms(l, "a", 2) == 20);
    assert_true(load_queue_ms(l, "b", 1) == 0);
    load_end(l, "a", 30);
    load_end(l, "a", 10);
    assert_true(load_queue_ms(l, "a", 1) == 0);
    load_free(l);
}

static void what_a_call_waited_is_others_work(void **state)
{
    (void)state;
    struct load *l = load_new();
    load_begin(l, "a", 5);
    load_waited(l, "a", 1e6);
    double first = load_queue_ms(l, "a", 1), second = load_queue_ms(l, "a", 1);
    assert_true(first > 5 && first <= 1e6); /* not 5 more: the wait has own work in it */
    assert_true(second <= first);           /* it is worked off */
    load_waited(l, "a", 0);
    assert_true(load_queue_ms(l, "a", 1) == 5);
    load_free(l);
}

static void generations_have_the_steps_of_late(void **state)
{
    (void)state;
    struct load *l = load_new();
    assert_true(load_mean_steps(l) == 1);
    load_steps(l, 10);
    assert_true(load_mean_steps(l) == 10);
    for (int i = 0; i < 100; i++)
        load_steps(l, 4);
    assert_true(load_mean_steps(l) > 3.99 && load_mean_steps(l) < 4.01);
    load_free(l);
}

static void what_failed_is_shunned_until_it_works(void **state)
{
    (void)state;
    struct load *l = load_new();
    assert_false(load_shunned(l, "a"));
    assert_true(load_down_ms(l, "a") == 0);
    load_failed(l, "a");
    assert_true(load_shunned(l, "a"));
    assert_false(load_shunned(l, "b"));
    load_worked(l, "a");
    assert_true(load_down_ms(l, "a") == 0);
    load_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_work_is_shared_by_lanes),
        cmocka_unit_test(what_a_call_waited_is_others_work),
        cmocka_unit_test(what_failed_is_shunned_until_it_works),
        cmocka_unit_test(generations_have_the_steps_of_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
