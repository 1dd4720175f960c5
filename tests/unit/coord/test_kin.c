/* Which models are cut together: by weights in common, in a row, nearest first, as many as there is room for. */
#include "base/err.h"
#include "coord/kin.h"
#include "lib/cmocka.h"

#include <stdio.h>
#include <string.h>

#define MANY 200
#define TEXT 256

/* Constants as a text: pairs of key and KiB. */
static void text_of(char to[TEXT], int count, const unsigned (*rows)[2])
{
    to[0] = 0;
    for (int i = 0; i < count; i++)
        (void)snprintf(to + strlen(to), TEXT - strlen(to), "%016x%012llx", rows[i][0],
                       (unsigned long long)rows[i][1] << 10);
}

static void counts_what_both_have(void **state)
{
    (void)state;
    char a[TEXT], b[TEXT];
    text_of(a, 3, (const unsigned[][2]){{1, 10}, {5, 20}, {9, 30}});
    text_of(b, 3, (const unsigned[][2]){{2, 10}, {5, 20}, {9, 30}});
    assert_int_equal(kin_common(a, b), 50 << 10);
    assert_int_equal(kin_common(a, a), 60 << 10);
    assert_int_equal(kin_common(a, ""), 0);
}

static void follows_rows_of_models(void **state)
{
    (void)state;
    char of[TEXT], next[TEXT], far[TEXT], small[TEXT], other[TEXT];
    text_of(of, 2, (const unsigned[][2]){{1, 500}, {4, 10}});
    text_of(next, 2, (const unsigned[][2]){{1, 500}, {2, 400}});
    text_of(far, 2, (const unsigned[][2]){{2, 400}, {3, 9000}});
    text_of(small, 2, (const unsigned[][2]){{4, 10}, {5, 9000}});
    text_of(other, 1, (const unsigned[][2]){{7, 9000}});
    struct kin_model models[] = {{.constants = far, .files = 1},
                                 {.constants = small, .files = 1},
                                 {.constants = other, .files = 1},
                                 {.constants = next, .files = 1},
                                 {.constants = NULL, .files = 1}};
    kin_choose(of, models, 4, 10);
    assert_int_equal(models[0].mark, KIN_CHOSEN); /* through the model between */
    assert_int_equal(models[1].mark, KIN_NONE);
    assert_int_equal(models[2].mark, KIN_NONE);
    assert_int_equal(models[3].mark, KIN_CHOSEN);
    kin_choose(of, models, 5, 10); /* one of which nothing is known brings all */
    for (int i = 0; i < 5; i++)
        assert_int_equal(models[i].mark, KIN_CHOSEN);
    kin_choose("", models, 4, 10);
    for (int i = 0; i < 4; i++)
        assert_int_equal(models[i].mark, KIN_NONE);
}

static void names_those_that_there_is_no_room_for(void **state)
{
    (void)state;
    static char texts[MANY][TEXT];
    struct kin_model models[MANY] = {0};
    char of[TEXT];
    int left_out = 0;
    text_of(of, 2, (const unsigned[][2]){{1, 300}, {2, 5000}});
    for (unsigned i = 0; i < MANY; i++) {
        bool near = i % 10 == 0;
        text_of(texts[i], 1, (const unsigned[][2]){{near ? 2 : 1, near ? 5000 : 300}});
        models[i] = (struct kin_model){.constants = texts[i], .files = 2};
    }
    kin_choose(of, models, MANY, 63);
    for (unsigned i = 0; i < MANY; i++)
        left_out += models[i].mark == KIN_LEFT_OUT;
    assert_int_equal(left_out, MANY - 31);
    for (unsigned i = 0; i < MANY; i += 10)
        assert_int_equal(models[i].mark, KIN_CHOSEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_what_both_have),
        cmocka_unit_test(follows_rows_of_models),
        cmocka_unit_test(names_those_that_there_is_no_room_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
