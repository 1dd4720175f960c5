/* test_slots.c - each slot of the runtime's table that we use is the function that we think.
 *
 * A wrong number calls a neighbour with our parameters.  So every slot is called here with an effect
 * that no neighbour has: numbers that come back, errors that name what was passed, threads that
 * appear.  Slots whose neighbours do the same to the eye are named at the end. */
#include "lib/cmocka.h"

#include "base/clock.h"
#include "base/file.h"
#include "exec/runtime.h"
#include "lib/temp.h"
#include "libmodel.h"

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct runtime *r;
static const struct ort_api *a;
static const char *dir;

static char *path_of(const char *name)
{
    static char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void ok(struct ort_status *s)
{
    struct err e = {0};
    if (!runtime_ok(r, s, ERR_INTERNAL, "slot", &e))
        fail_msg("%s", e.text);
}

/* The status fails with this code and its text has this word. */
static void fails(struct ort_status *s, int code, const char *word)
{
    assert_non_null(s);
    assert_int_equal(a->get_error_code(s), code);
    if (!strstr(a->get_error_message(s), word))
        fail_msg("'%s' is not in: %s", word, a->get_error_message(s));
    a->release_status(s);
}

static int threads(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    assert_non_null(d);
    for (const struct dirent *i = readdir(d); i; i = readdir(d))
        n += i->d_name[0] != '.';
    (void)closedir(d);
    return n;
}

static struct ort_session_options *options(void)
{
    struct ort_session_options *o = NULL;
    ok(a->create_session_options(&o));
    assert_non_null(o);
    return o;
}

static struct ort_session *session(struct ort_session_options *o, const char *model)
{
    struct ort_session *s = NULL;
    ok(a->create_session(r->env, path_of(model), o, &s));
    assert_non_null(s);
    a->release_session_options(o);
    return s;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void the_version_is_read(void **state)
{
    (void)state;
    assert_true(strncmp(r->version, "1.", 2) == 0);
}

static void errors_name_what_was_passed(void **state)
{
    (void)state;
    struct ort_session *s = NULL;
    struct ort_session_options *o = options();
    fails(a->create_session(r->env, path_of("absent/module.onnx"), o, &s), 3, "absent");
    fails(a->set_optimization(o, 77), 2, "optimization_level");
    a->release_session_options(o);
}

static void keys_are_kept(void **state)
{
    (void)state;
    int has = -1;
    struct ort_session_options *o = options();
    ok(a->has_session_key(o, "session.intra_op.allow_spinning", &has));
    assert_int_equal(has, 0);
    ok(a->add_session_key(o, "session.intra_op.allow_spinning", "0"));
    ok(a->has_session_key(o, "session.intra_op.allow_spinning", &has));
    assert_int_equal(has, 1);
    a->release_session_options(o);
}

/* Read back by slot 419, which tables from version 27 on have. */
static void memory_patterns_are_off(void **state)
{
    (void)state;
    struct base {
        const void *const *(*get_api)(uint32_t version);
    };
    const struct base *(*get_base)(void);
    struct ort_status *(*enabled)(const struct ort_session_options *, int *);
    void *library = dlopen(model_runtime(), RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    void *symbol = dlsym(library, "OrtGetApiBase");
    assert_non_null(symbol);
    memcpy(&get_base, &symbol, sizeof(get_base));
    const void *const *table = get_base()->get_api(27);
    assert_non_null(table);
    memcpy(&enabled, &table[419], sizeof(enabled));
    int on = -1;
    struct ort_session_options *o = options();
    ok(enabled(o, &on));
    assert_int_equal(on, 1);
    ok(a->disable_mem_pattern(o));
    ok(enabled(o, &on));
    assert_int_equal(on, 0);
    a->release_session_options(o);
    (void)dlclose(library);
}

static void threads_are_as_many_as_set(void **state)
{
    (void)state;
    int before = threads();
    struct ort_session_options *o = options();
    ok(a->set_log_level(o, ORT_LOG_FATAL));
    ok(a->set_intra_threads(o, 3));
    ok(a->set_inter_threads(o, 1));
    struct ort_session *s = session(o, "three/module.onnx");
    assert_int_equal(threads(), before + 2);
    a->release_session(s);
    assert_int_equal(threads(), before);
}

static void the_optimised_model_is_written(void **state)
{
    (void)state;
    struct ort_session_options *o = options();
    ok(a->set_optimization(o, ORT_LEVEL_ALL));
    ok(a->disable_cpu_arena(o));
    ok(a->disable_mem_pattern(o));
    char to[4096];
    (void)snprintf(to, sizeof(to), "%s", path_of("written.onnx"));
    ok(a->set_optimized_path(o, to));
    struct ort_session *s = session(o, "three/module.onnx");
    a->release_session(s);
    assert_int_equal(access(to, R_OK), 0);
}

static void expect_port(struct ort_session *s, bool output, size_t i, const char *want_name,
                        int want_type, int64_t want_dim, const char *want_dim_name)
{
    char *name = NULL;
    const char *dim_name = NULL;
    struct ort_type_info *type = NULL;
    const struct ort_tensor_info *t = NULL;
    int kind = -1, element = -1;
    size_t rank = 0;
    int64_t dim = 0;
    ok(output ? a->output_name(s, i, r->allocator, &name)
              : a->input_name(s, i, r->allocator, &name));
    assert_string_equal(name, want_name);
    ok(a->allocator_free(r->allocator, name));
    ok(output ? a->output_type(s, i, &type) : a->input_type(s, i, &type));
    ok(a->type_kind(type, &kind));
    assert_int_equal(kind, ORT_KIND_TENSOR);
    ok(a->as_tensor_info(type, &t));
    ok(a->element_type(t, &element));
    assert_int_equal(element, want_type);
    ok(a->dims_count(t, &rank));
    assert_int_equal(rank, 1);
    ok(a->dims(t, &dim, 1));
    assert_int_equal(dim, want_dim);
    ok(a->dim_names(t, &dim_name, 1));
    assert_string_equal(dim_name, want_dim_name);
    a->release_type_info(type);
}

static void ports_are_told_apart(void **state)
{
    (void)state;
    struct ort_session *s = session(options(), "three/module.onnx");
    size_t inputs = 0, outputs = 0;
    ok(a->input_count(s, &inputs));
    ok(a->output_count(s, &outputs));
    assert_int_equal(inputs, 2);
    assert_int_equal(outputs, 3);
    expect_port(s, false, 0, "x", MODEL_F32, -1, "rows");
    expect_port(s, false, 1, "n", MODEL_I64, 2, "");
    /* No output is like the input of the same number. */
    expect_port(s, true, 0, "equal", MODEL_BOOL, 2, "");
    expect_port(s, true, 1, "sum", MODEL_F32, -1, "rows");
    expect_port(s, true, 2, "twice", MODEL_I64, 2, "");
    a->release_session(s);
}

static void a_session_comes_from_bytes(void **state)
{
    (void)state;
    struct ort_session *s = NULL;
    struct ort_session_options *o = options();
    struct err e = {0};
    char *bytes;
    size_t size, count = 0;
    assert_true(file_read(path_of("three/module.onnx"), 1 << 20, &bytes, &size, &e));
    ok(a->create_session_from_bytes(r->env, bytes, size, o, &s));
    free(bytes);
    ok(a->output_count(s, &count));
    assert_int_equal(count, 3);
    a->release_session(s);
    fails(a->create_session_from_bytes(r->env, "three", 5, o, &s), 7, "protobuf");
    a->release_session_options(o);
}

static struct ort_value *value_of(void *data, size_t bytes, int64_t count, int type)
{
    struct ort_value *v = NULL;
    ok(a->tensor_over_data(r->cpu, data, bytes, &count, 1, type, &v));
    return v;
}

static void a_run_computes(void **state)
{
    (void)state;
    struct ort_session *s = session(options(), "three/module.onnx");
    float x[3] = {1, 2, 3}, *sum = NULL;
    int64_t n[2] = {5, -7}, dim = 0;
    size_t rank = 0;
    const char *in[] = {"x", "n"}, *out[] = {"sum", "twice", "equal"};
    struct ort_value *values[2] = {value_of(x, sizeof(x), 3, MODEL_F32),
                                   value_of(n, sizeof(n), 2, MODEL_I64)};
    struct ort_value *got[3] = {NULL};
    struct ort_run_options *o = NULL;
    struct ort_tensor_info *t = NULL;
    void *data = NULL;
    int is = 0;
    ok(a->create_run_options(&o));
    ok(a->run(s, o, in, (const struct ort_value *const *)values, 2, out, 3, got));
    ok(a->tensor_data(got[0], (void **)&sum));
    assert_true(sum[0] == 2 && sum[2] == 6);
    ok(a->tensor_data(got[1], &data));
    assert_int_equal(((int64_t *)data)[1], -14);
    ok(a->is_tensor(got[2], &is));
    assert_int_equal(is, 1);
    ok(a->value_info(got[0], &t));
    ok(a->dims_count(t, &rank));
    ok(a->dims(t, &dim, 1));
    assert_int_equal(dim, 3);
    a->release_tensor_info(t);
    int64_t four = 4;
    struct ort_value *no = NULL;
    fails(a->tensor_over_data(r->cpu, x, sizeof(x), &four, 1, MODEL_F32, &no), 2, "");
    for (int i = 0; i < 3; i++)
        a->release_value(got[i]);
    for (int i = 0; i < 2; i++)
        a->release_value(values[i]);
    a->release_run_options(o);
    a->release_session(s);
}

static void *stop_soon(void *options_)
{
    ok(a->set_terminate(options_));
    return NULL;
}

static void a_run_can_be_stopped(void **state)
{
    (void)state;
    struct ort_session *s = session(options(), "loop/module.onnx");
    float x = 0;
    const char *in[] = {"x"}, *out[] = {"y"};
    struct ort_value *value = value_of(&x, sizeof(x), 1, MODEL_F32), *got = NULL;
    struct ort_run_options *o = NULL;
    pthread_t t;
    ok(a->create_run_options(&o));
    assert_int_equal(pthread_create(&t, NULL, stop_soon, o), 0);
    fails(a->run(s, o, in, (const struct ort_value *const *)&value, 1, out, 1, &got), 1,
          "terminate");
    (void)pthread_join(t, NULL);
    assert_null(got);
    a->release_value(value);
    a->release_run_options(o);
    a->release_session(s);
}

static void objects_of_the_process_come_and_go(void **state)
{
    (void)state;
    struct ort_env *env = NULL;
    struct ort_memory_info *cpu = NULL;
    struct ort_allocator *allocator = NULL;
    ok(a->create_env(ORT_LOG_FATAL, "again", &env));
    assert_ptr_equal(env, r->env); /* one per process, counted */
    ok(a->disable_telemetry(env));
    a->release_env(env);
    ok(a->cpu_memory_info(ORT_ALLOCATOR_DEVICE, ORT_MEMORY_DEFAULT, &cpu));
    assert_non_null(cpu);
    a->release_memory_info(cpu);
    ok(a->default_allocator(&allocator));
    assert_ptr_equal(allocator, r->allocator);
    struct ort_session *s = session(options(), "three/module.onnx"); /* the env is still there */
    a->release_session(s);
}

int main(void)
{
    struct err e = {0};
    struct model m = {0};
    dir = temp_make();
    model_input(&m, "x", MODEL_F32, "rows");
    model_input(&m, "n", MODEL_I64, "2");
    model_output(&m, "equal", MODEL_BOOL, "2");
    model_output(&m, "sum", MODEL_F32, "rows");
    model_output(&m, "twice", MODEL_I64, "2");
    model_node(&m, "Add", "x x", "sum");
    model_node(&m, "Add", "n n", "twice");
    model_node(&m, "Equal", "n n", "equal");
    model_write(&m, path_of("three"));
    model_write_loop(path_of("loop"), INT64_C(1) << 40);
    if (!runtime_open(model_runtime(), &e) || !runtime_start(&r, &e)) {
        (void)fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    a = &r->api;
    /* Not told from a neighbour by any of these: disable_telemetry (nothing to be seen when it is
     * off already), disable_cpu_arena, set_log_level. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_version_is_read),
        cmocka_unit_test(errors_name_what_was_passed),
        cmocka_unit_test(keys_are_kept),
        cmocka_unit_test(memory_patterns_are_off),
        cmocka_unit_test(threads_are_as_many_as_set),
        cmocka_unit_test(the_optimised_model_is_written),
        cmocka_unit_test(ports_are_told_apart),
        cmocka_unit_test(a_session_comes_from_bytes),
        cmocka_unit_test(a_run_computes),
        cmocka_unit_test(a_run_can_be_stopped),
        cmocka_unit_test(objects_of_the_process_come_and_go),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_remove();
    return failed;
}
