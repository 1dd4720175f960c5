/* What is refused, and that the text says what and where; what is allowed is read. */
#include "base/num.h"
#include "lib/cmocka.h"
#include "libplan.h"

#include <string.h>

#define DEVICES                                                                                    \
    "\"devices\":[{\"name\":\"a\",\"memory_bytes\":9},{\"name\":\"b\",\"memory_bytes\":9}]"
#define MODULES                                                                                    \
    "\"modules\":[{\"name\":\"v\",\"memory_bytes\":1},{\"name\":\"t\",\"memory_bytes\":1}]"
#define MODELS "\"models\":[{\"name\":\"m\",\"encoders\":[\"v\"],\"head\":\"t\"}]"
#define REST "," MODULES "," MODELS
#define MODEL(calls) "{" DEVICES "," MODULES ",\"models\":[{\"name\":\"m\"," calls "}]}"
#define REQUEST(more)                                                                              \
    "{" DEVICES REST ",\"requests\":[{\"model\":\"m\",\"source\":\"a\"," more "}]}"
#define DEVICE(more) "{\"devices\":[{\"name\":\"a\"," more "}]" REST "}"
#define LINKS(links) "{" DEVICES ",\"links\":[" links "]" REST "}"
#define LINK(a, b) "{\"a\":\"" a "\",\"b\":\"" b "\",\"latency_ms\":1,\"mbit\":1}"
#define MODULE(more)                                                                               \
    "{" DEVICES ",\"modules\":[{\"name\":\"v\",\"memory_bytes\":1," more "},"                      \
    "{\"name\":\"t\",\"memory_bytes\":1}]," MODELS "}"

struct row {
    const char *text;  /* the instance */
    const char *where; /* what the error has to say */
};

static const struct row refused[] = {
    {"[]", "not an object"},
    {"{" DEVICES REST ",\"colour\":1}", "'colour'"},
    {"{" DEVICES "," MODULES ",\"models\":[{\"name\":\"m\"}]}", "neither calls nor encoders"},
    {"{" DEVICES REST ",\"objective\":\"speed\"}", "objective"},
    {"{" DEVICES REST ",\"replicas\":1}", "replicas"},
    {"{\"devices\":[]" REST "}", "devices"},
    {"{" MODULES "," MODELS "}", "devices"},
    {"{" DEVICES ",\"modules\":[]," MODELS "}", "modules"},
    {"{" DEVICES "," MODULES ",\"models\":[]}", "models"},
    {DEVICE("\"lanes\":1"), "memory_bytes is missing"},
    {DEVICE("\"memory_bytes\":-1"), "memory_bytes"},
    {DEVICE("\"memory_bytes\":1.5"), "whole"},
    {DEVICE("\"memory_bytes\":9007199254740993"), "memory_bytes"},
    {DEVICE("\"memory_bytes\":\"1\""), "not a number"},
    {DEVICE("\"memory_bytes\":1,\"lanes\":0"), "lanes"},
    {DEVICE("\"memory_bytes\":1,\"lanes\":1025"), "lanes"},
    {DEVICE("\"memory_bytes\":1,\"gflops\":0"), "gflops"},
    {DEVICE("\"memory_bytes\":1,\"color\":0"), "'color'"},
    {"{\"devices\":[{\"name\":\"\",\"memory_bytes\":1}]" REST "}", "name"},
    {"{\"devices\":[{\"name\":\"a\",\"memory_bytes\":1},{\"name\":\"a\",\"memory_bytes\":1}]" REST
     "}",
     "devices[1]"},
    {LINKS(LINK("a", "c")), "'c'"},
    {LINKS(LINK("a", "a")), "itself"},
    {LINKS(LINK("a", "b") "," LINK("b", "a")), "twice"},
    {LINKS("{\"a\":\"a\",\"b\":\"b\",\"latency_ms\":1}"), "mbit is missing"},
    {LINKS("{\"a\":\"a\",\"b\":\"b\",\"latency_ms\":-1,\"mbit\":1}"), "latency_ms"},
    {"{" DEVICES ",\"default_link\":{\"latency_ms\":1,\"mbit\":0}" REST "}", "mbit"},
    {MODULE("\"run_ms\":{\"c\":1}"), "'c'"},
    {MODULE("\"run_ms\":{\"a\":0}"), "run_ms"},
    {MODULE("\"run_ms\":[]"), "run_ms"},
    {MODULE("\"gflop\":-1"), "gflop"},
    {MODULE("\"output_bytes\":0.5"), "output_bytes"},
    {MODEL("\"encoders\":[]"), "encoders"},
    {MODEL("\"encoders\":[\"x\"]"), "'x'"},
    {MODEL("\"encoders\":[\"v\",\"v\"]"), "twice"},
    {MODEL("\"encoders\":[\"v\"],\"head\":\"v\""), "twice"},
    {MODEL("\"encoders\":[\"v\"],\"head\":3"), "head"},
    {MODEL("\"calls\":[]"), "calls"},
    {MODEL("\"encoders\":[\"v\"],\"calls\":[]"), "both"},
    {MODEL("\"calls\":[{\"id\":\"x\",\"module\":\"v\",\"from\":[]}]"), "from"},
    {MODEL("\"calls\":[{\"id\":\"x\",\"module\":\"v\",\"from\":[\"x\"]}]"), "'x'"},
    {MODEL("\"calls\":[{\"id\":\"x\",\"module\":\"v\",\"from\":[\"y\"]},"
           "{\"id\":\"y\",\"module\":\"v\",\"from\":[\"source\"]}]"),
     "'y'"},
    {MODEL("\"calls\":[{\"id\":\"x\",\"module\":\"v\",\"from\":[\"source\",\"source\"]}]"),
     "twice"},
    {MODEL("\"calls\":[{\"id\":\"x\",\"module\":\"v\",\"from\":[\"source\"]},"
           "{\"id\":\"y\",\"module\":\"v\",\"from\":[\"source\"]}]"),
     "feeds no other"},
    {REQUEST("\"weight\":-1"), "weight"},
    {REQUEST("\"runs\":{\"v\":0}"), "runs"},
    {REQUEST("\"runs\":{\"v\":1.5}"), "runs"},
    {REQUEST("\"runs\":{\"x\":1}"), "'x'"},
    {REQUEST("\"input_bytes\":{\"x\":1}"), "'x'"},
    {REQUEST("\"rate_per_s\":\"1\""), "rate_per_s"},
    {"{" DEVICES REST ",\"requests\":[{\"model\":\"x\",\"source\":\"a\"}]}", "'x'"},
    {"{" DEVICES REST ",\"requests\":[{\"model\":\"m\",\"source\":\"x\"}]}", "'x'"},
    {"{" DEVICES REST ",\"requests\":[{\"model\":\"m\"}]}", "source is missing"},
};

static const char *const taken[] = {
    "{" DEVICES REST "}",
    DEVICE("\"memory_bytes\":9007199254740992,\"lanes\":1024,\"gflops\":0.1"),
    DEVICE("\"memory_bytes\":1e3"),
    LINKS(LINK("b", "a")),
    MODULE("\"run_ms\":{\"a\":null,\"b\":0.5},\"gflop\":0"),
    MODEL("\"encoders\":[\"v\",\"t\"]"),
    MODEL("\"encoders\":[],\"head\":\"v\""),
    MODEL("\"calls\":[{\"id\":\"x\",\"module\":\"v\",\"from\":[\"source\"]},"
          "{\"id\":\"y\",\"module\":\"v\",\"from\":[\"source\"]}],\"answer_at_source\":true"),
    REQUEST("\"runs\":{\"v\":3},\"input_bytes\":{\"v\":7}"),
};

static void refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        struct plan_instance *in;
        struct err e = {0};
        json_t *o = json_parse("test", refused[i].text, strlen(refused[i].text), &e);
        assert_non_null(o);
        if (plan_instance_read(o, &in, &e))
            fail_msg("taken: %s", refused[i].text);
        assert_int_equal(e.code, ERR_INVALID);
        if (!strstr(e.text, refused[i].where))
            fail_msg("'%s' does not say '%s'", e.text, refused[i].where);
        json_decref(o);
    }
}

static void takes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        struct err e = {0};
        json_t *o = json_parse("test", taken[i], strlen(taken[i]), &e);
        assert_non_null(o);
        plan_instance_free(read_instance(o));
    }
}

/* ---- options and refusals of the solver ---- */

static json_t *solve_text(const char *text, const struct plan_options *o, struct err *e)
{
    json_t *in = json_parse("test", text, strlen(text), e), *answer = NULL;
    assert_non_null(in);
    if (!plan_run_json(in, o, &answer, e))
        answer = NULL;
    json_decref(in);
    return answer;
}

#define ROOM(a, b)                                                                                 \
    "{\"devices\":[{\"name\":\"a\",\"memory_bytes\":" a "},{\"name\":\"b\",\"memory_bytes\":" b    \
    "}],\"default_link\":{\"latency_ms\":1,\"mbit\":100},\"modules\":["                            \
    "{\"name\":\"v\",\"memory_bytes\":60,\"run_ms\":{\"a\":5,\"b\":1}},"                           \
    "{\"name\":\"t\",\"memory_bytes\":50,\"run_ms\":{\"a\":4,\"b\":1}}]," MODELS                   \
    ",\"requests\":[{\"model\":\"m\",\"source\":\"a\"}]}"

static void forced_places(void **state)
{
    (void)state;
    static const enum plan_method methods[] = {PLAN_BEST_GREEDY,     PLAN_GREEDY_FASTEST,
                                               PLAN_GREEDY_EARLIEST, PLAN_LOCAL,
                                               PLAN_EXACT,           PLAN_AUTO};
    json_t *pins = json_pack("{s:[s]}", "v", "a");
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        struct plan_options o = {.method = methods[i], .pins = pins, .explain = true};
        struct err e = {0};
        json_t *answer = solve_text(ROOM("200", "200"), &o, &e);
        assert_non_null(answer);
        const json_t *v = json_object_get(json_object_get(answer, "placement"), "v");
        assert_int_equal(json_array_size(v), 1);
        assert_string_equal(json_string_value(json_array_get(v, 0)), "a");
        assert_int_equal(json_array_size(json_object_get(answer, "explain")), 2);
        json_decref(answer);
    }
    json_decref(pins);
}

/* Two places of one module are for replicas, or for spare places. */
static void forced_twice(void **state)
{
    (void)state;
    json_t *pins = json_pack("{s:[s,s]}", "v", "b", "a"),
           *same = json_pack("{s:[s,s]}", "v", "a", "a");
    struct plan_options o = {.method = PLAN_AUTO, .pins = pins};
    struct err e = {0};
    assert_null(solve_text(ROOM("200", "200"), &o, &e));
    assert_int_equal(e.code, ERR_INVALID);
    assert_non_null(strstr(e.text, "'v' has 2 devices, 1 allowed"));
    o.redundancy = 1;
    json_t *answer = solve_text(ROOM("200", "200"), &o, &e);
    assert_non_null(answer);
    assert_int_equal(json_array_size(json_object_get(json_object_get(answer, "placement"), "v")),
                     2);
    json_decref(answer);
    struct plan_options once = {.method = PLAN_AUTO, .pins = same};
    answer = solve_text(ROOM("200", "200"), &once, &e);
    assert_non_null(answer);
    assert_int_equal(json_array_size(json_object_get(json_object_get(answer, "placement"), "v")),
                     1);
    json_decref(answer);
    json_decref(pins);
    json_decref(same);
}

static void says_what_is_missing(void **state)
{
    (void)state;
    struct plan_options o = {.method = PLAN_AUTO};
    struct err e = {0};
    assert_null(solve_text(ROOM("55", "52"), &o, &e));
    assert_int_equal(e.code, ERR_NO_PLACE);
    assert_non_null(strstr(e.text, "'v'"));
    assert_non_null(strstr(e.text, "5 bytes short"));
    assert_null(solve_text(ROOM("60", "49"), &o, &e));
    assert_non_null(strstr(e.text, "1 bytes short"));
    struct plan_options baseline = {.method = PLAN_GREEDY_FASTEST};
    assert_null(solve_text(ROOM("55", "52"), &baseline, &e));
    assert_int_equal(e.code, ERR_NO_PLACE);
}

static void spare_places(void **state)
{
    (void)state;
    struct plan_options o = {.method = PLAN_AUTO, .redundancy = 1};
    struct err e = {0};
    json_t *answer = solve_text(ROOM("200", "200"), &o, &e);
    assert_non_null(answer);
    assert_int_equal(json_array_size(json_object_get(json_object_get(answer, "placement"), "v")),
                     2);
    assert_int_equal(json_array_size(json_object_get(answer, "unprotected")), 0);
    json_decref(answer);
    answer = solve_text(ROOM("110", "55"), &o, &e); /* room for a second t only */
    assert_non_null(answer);
    const json_t *bare = json_object_get(answer, "unprotected");
    assert_int_equal(json_array_size(bare), 1);
    assert_string_equal(json_string_value(json_array_get(bare, 0)), "v");
    json_decref(answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(refuses),
                                       cmocka_unit_test(takes),
                                       cmocka_unit_test(forced_places),
                                       cmocka_unit_test(forced_twice),
                                       cmocka_unit_test(says_what_is_missing),
                                       cmocka_unit_test(spare_places)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
