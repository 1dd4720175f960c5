/* Changes of an instance, and what is refused. */
#include "base/num.h"
#include "lib/cmocka.h"
#include "libplan.h"
#include "plan/whatif.h"

#include <string.h>

#define TEXT                                                                                       \
    "{\"devices\":[{\"name\":\"a\",\"memory_bytes\":100},{\"name\":\"b\",\"memory_bytes\":100}],"  \
    "\"links\":[{\"a\":\"a\",\"b\":\"b\",\"latency_ms\":1,\"mbit\":8}],"                           \
    "\"modules\":[{\"name\":\"v\",\"memory_bytes\":50,\"run_ms\":{\"a\":100,\"b\":10}}],"          \
    "\"models\":[{\"name\":\"m\",\"encoders\":[\"v\"]}],"                                          \
    "\"requests\":[{\"model\":\"m\",\"source\":\"a\",\"rate_per_s\":2,\"input_bytes\":{\"v\":"     \
    "1000}}]}"

static double value_after(const char *change)
{
    struct err e = {0};
    json_t *o = json_parse("test", TEXT, strlen(TEXT), &e), *answer = NULL;
    struct plan_options options = {.method = PLAN_EXACT};
    assert_non_null(o);
    if (change && !whatif_apply(o, change, &e))
        fail_msg("%s", e.text);
    if (!plan_run_json(o, &options, &answer, &e))
        fail_msg("%s", e.text);
    double value = json_number_value(json_object_get(answer, "value"));
    json_decref(answer);
    json_decref(o);
    return value;
}

static void changes(void **state)
{
    (void)state;
    static const struct {
        const char *change;
        double value;
    } rows[] = {
        {NULL, 13}, /* there 2, 10, back 1 */
        {"remove-device b", 100},
        {"remove-device a to=b", 10},
        {"link a b mbit=16", 12.5},
        {"link b a mbit=8 latency_ms=2", 15},
        {"add-device name=c memory=100 like=b mbit=800 latency_ms=0.5", 11.01},
        {"add-device name=c memory=40 like=b mbit=800", 13}, /* no room there */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_true(fabs(value_after(rows[i].change) - rows[i].value) < 1e-9);
}

static void rates(void **state)
{
    (void)state;
    struct err e = {0};
    json_t *o = json_parse("test", TEXT, strlen(TEXT), &e);
    assert_true(whatif_apply(o, "rate model=m x2.5", &e));
    const json_t *q = json_array_get(json_object_get(o, "requests"), 0);
    assert_true(fabs(json_number_value(json_object_get(q, "rate_per_s")) - 5) < 1e-12);
    json_decref(o);
}

static void refuses(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"", "no change"},
        {"buy a", "'buy'"},
        {"remove-device x", "'x'"},
        {"remove-device a", "to=DEVICE"},
        {"add-device name=c", "memory"},
        {"add-device name=c memory=lots", "memory"},
        {"add-device name=c memory=1 like=x", "'x'"},
        {"add-device name=c memory=1 wheels=4", "'wheels=4'"},
        {"link a", "two devices"},
        {"link a b", "mbit=X"},
        {"link a b mbit=fast", "mbit"},
        {"link a x mbit=1", "'x'"},
        {"link x a mbit=1", "'x'"},
        {"link a a mbit=1", "itself"},
        {"rate model=m", "FACTOR"},
        {"rate model=x x2", "'x'"},
        {"a b c d e f g h i j k l m n o p q", "words"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err e = {0};
        json_t *o = json_parse("test", TEXT, strlen(TEXT), &e);
        if (whatif_apply(o, rows[i][0], &e))
            fail_msg("taken: %s", rows[i][0]);
        assert_int_equal(e.code, ERR_INVALID);
        if (!strstr(e.text, rows[i][1]))
            fail_msg("'%s' does not say '%s'", e.text, rows[i][1]);
        json_decref(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(changes), cmocka_unit_test(rates),
                                       cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
