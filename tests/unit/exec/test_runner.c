/* test_runner.c - the runner as a process: it dies and comes back, keeps to itself, is measured.
 * label: threads */
#include "lib/cmocka.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/num.h"
#include "lib/temp.h"
#include "libmodel.h"
#include "librunner.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#endif
#define NET_WIDTH 1024 /* two matrices of 4 MiB */

static const char *dir;

static const char *path_of(const char *name)
{
    static char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static struct exec *make(void)
{
    struct exec_options o = runner_options(dir);
    struct exec *x = NULL;
    struct err e = {0};
    if (!exec_create(EXEC_RUNNER, &o, &x, &e))
        fail_msg("%s", e.text);
    return x;
}

static struct exec_module *load(struct exec *x, const char *name)
{
    struct exec_module *m = NULL;
    struct err e = {0};
    if (!exec_load(x, path_of(name), model_digest('d'), &m, &e))
        fail_msg("%s", e.text);
    return m;
}

static bool add_once(struct exec_module *m, struct err *e)
{
    int64_t dims[2] = {1, 4};
    struct named_tensor in[2] = {runner_input("x", 2, dims, 1), runner_input("y", 2, dims, 10)};
    struct tensor out = {0};
    bool ok = exec_run(m, in, 2, NULL, &out, e);
    if (ok)
        assert_true(((float *)out.data)[3] == 17);
    tensor_clear(&out);
    tensor_clear(&in[0].tensor);
    tensor_clear(&in[1].tensor);
    return ok;
}

/* ---- crashes --------------------------------------------------------------------------------- */

struct caller {
    struct exec_module *module;
    pthread_t thread;
    bool ok;
    struct err e;
};

static void *run_long(void *arg)
{
    struct caller *c = arg;
    int64_t dims[1] = {1};
    struct named_tensor in = runner_input("x", 1, dims, 0);
    struct tensor out = {0};
    c->ok = exec_run(c->module, &in, 1, NULL, &out, &c->e);
    tensor_clear(&out);
    tensor_clear(&in.tensor);
    return NULL;
}

static bool both_run(void *exec)
{
    return exec_status(exec).running == 2;
}

static void a_crash_is_survived(void **state)
{
    (void)state;
    struct exec *x = make();
    struct exec_module *m = load(x, "long"), *add = load(x, "add");
    struct caller c[2] = {{.module = m}, {.module = m}};
    struct err e = {0};
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&c[i].thread, NULL, run_long, &c[i]), 0);
    assert_true(poll_until(both_run, x));
    pid_t first = exec_status(x).pid;
    assert_int_equal(kill(first, SIGKILL), 0);
    for (int i = 0; i < 2; i++) {
        (void)pthread_join(c[i].thread, NULL);
        assert_false(c[i].ok);
        assert_int_equal(c[i].e.code, ERR_GONE);
    }
    /* Gone at first: the old process, noticed while it ended, or a slow start of the new one. */
    int64_t deadline = clock_deadline_ms(60000);
    while (!add_once(add, &e)) {
        if (e.code != ERR_GONE || clock_now_ns() > deadline)
            fail_msg("%s", e.text);
    }
    struct exec_status s = exec_status(x);
    assert_true(s.pid > 0 && s.pid != first);
    assert_int_equal(s.restarts, 1);
    assert_int_equal(s.modules, 2);
    exec_unload(m);
    exec_unload(add);
    exec_destroy(x);
}

static void many_crashes_are_survived(void **state)
{
    (void)state;
    struct exec *x = make();
    struct exec_module *add = load(x, "add");
    for (int i = 0; i < 4; i++) {
        struct err e = {0};
        pid_t pid = exec_status(x).pid;
        if (pid > 0)
            (void)kill(pid, SIGKILL);
        int64_t deadline = clock_deadline_ms(60000);
        while (!add_once(add, &e)) {
            if (e.code != ERR_GONE || clock_now_ns() > deadline)
                fail_msg("%s", e.text);
        }
    }
    exec_unload(add);
    exec_destroy(x);
}

/* A module that is no longer there after a restart gives its own reason, others go on. */
static void a_lost_module_does_not_stop_others(void **state)
{
    (void)state;
    struct exec *x = make();
    model_write_add(path_of("lost"));
    struct exec_module *lost = load(x, "lost"), *add = load(x, "add");
    struct err e = {0};
    assert_true(file_remove_tree(path_of("lost"), NULL));
    assert_true(add_once(lost, &e)); /* loaded, so it still runs */
    (void)kill(exec_status(x).pid, SIGKILL);
    while (!add_once(add, &e))
        assert_int_equal(e.code, ERR_GONE);
    assert_false(add_once(lost, &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    exec_unload(lost);
    exec_unload(add);
    exec_destroy(x);
}

/* A module's number is free again as soon as it is unloaded, however near its last run was. */
static void loading_and_unloading_goes_on(void **state)
{
    (void)state;
    struct exec *x = make();
    struct exec_module *other = load(x, "add");
    for (int i = 0; i < 100; i++) {
        struct err e = {0};
        struct exec_module *m = load(x, "add");
        if (!add_once(m, &e))
            fail_msg("%s", e.text);
        exec_unload(m);
    }
    assert_int_equal(exec_status(x).restarts, 0);
    exec_unload(other);
    exec_destroy(x);
}

/* ---- boundaries ------------------------------------------------------------------------------ */

static void only_below_the_modules_folder(void **state)
{
    (void)state;
    struct exec_options o = runner_options(path_of("add"));
    struct exec *x = NULL;
    struct exec_module *m = NULL;
    struct err e = {0};
    assert_true(exec_create(EXEC_RUNNER, &o, &x, &e));
    assert_false(exec_load(x, path_of("long"), model_digest('d'), &m, &e));
    assert_int_equal(e.code, ERR_INVALID);
    exec_destroy(x);
}

/* Within its folder by name, outside by link: the kernel refuses, not we. */
static void links_out_of_the_folder_are_not_followed(void **state)
{
    (void)state;
    char link[5000], target[5000];
    (void)snprintf(target, sizeof(target), "%s/module.onnx", path_of("add"));
    assert_true(file_make_dirs(path_of("walled/linked"), NULL));
    (void)snprintf(link, sizeof(link), "%s/module.onnx", path_of("walled/linked"));
    assert_int_equal(symlink(target, link), 0);
    struct exec_options o = runner_options(path_of("walled"));
    struct exec *x = NULL;
    struct exec_module *m = NULL;
    struct err e = {0};
    assert_true(exec_create(EXEC_RUNNER, &o, &x, &e));
    if (exec_status(x).landlock > 0)
        assert_false(exec_load(x, path_of("walled/linked"), model_digest('d'), &m, &e));
    exec_unload(m);
    exec_destroy(x);
}

static void a_runner_starts_no_runner(void **state)
{
    (void)state;
    struct exec_options o = runner_options(dir);
    struct exec *x = NULL;
    struct exec_profile p;
    struct err e = {0};
    assert_int_equal(setenv(EXEC_RUNNER_MARK, "1", 1), 0);
    assert_false(exec_create(EXEC_RUNNER, &o, &x, &e));
    assert_int_equal(e.code, ERR_INVALID);
    e = (struct err){0};
    assert_false(exec_measure(&o, path_of("add"), model_digest('d'), NULL, &p, &e));
    assert_int_equal(e.code, ERR_INVALID);
    assert_int_equal(unsetenv(EXEC_RUNNER_MARK), 0);
}

/* The process has our sockets and nothing else of ours; no sockets of a network. */
static void the_runner_has_no_descriptors_of_ours(void **state)
{
    (void)state;
    int leak = dup(0); /* without close-on-exec */
    struct exec *x = make();
    struct exec_module *m = load(x, "add");
    struct err e = {0};
    char fds[64], path[512], to[512];
    assert_true(add_once(m, &e));
    (void)snprintf(fds, sizeof(fds), "/proc/%d/fd", (int)exec_status(x).pid);
    DIR *d = opendir(fds);
    assert_non_null(d);
    int sockets = 0, others = 0;
    for (const struct dirent *i = readdir(d); i; i = readdir(d)) {
        (void)snprintf(path, sizeof(path), "%s/%.200s", fds, i->d_name);
        ssize_t n = i->d_name[0] == '.' ? -1 : readlink(path, to, sizeof(to) - 1);
        if (n < 0 || (strlen(i->d_name) == 1 && i->d_name[0] <= '2'))
            continue;
        to[n] = 0;
        if (strncmp(to, "socket:", 7) == 0)
            sockets++;
        else
            others++;
    }
    (void)closedir(d);
    assert_int_equal(sockets, 4); /* control, cancels, two lanes */
    assert_int_equal(others, 0);
    (void)close(leak);
    exec_unload(m);
    exec_destroy(x);
}

static void the_runner_is_killed_first(void **state)
{
    (void)state;
    struct exec *x = make();
    char path[64], *text = NULL;
    size_t size;
    (void)snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)exec_status(x).pid);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    size_t n = getline(&text, &size, f) > 0 ? strlen(text) : 0;
    (void)fclose(f);
    assert_true(n > 0);
    assert_string_equal(text, "500\n");
    free(text);
    exec_destroy(x);
}

/* ---- measuring ------------------------------------------------------------------------------- */

static void measures_memory_and_time(void **state)
{
    (void)state;
    struct exec_options o = runner_options(dir);
    struct exec_profile p = {0}, q = {0};
    struct exec_measure_plan plan = {.batches = {1, 8}, .batch_count = 2, .runs = 3};
    struct err e = {0};
    const uint64_t weights = 2u * NET_WIDTH * NET_WIDTH * 4;
    if (!exec_measure(&o, path_of("net"), model_digest('e'), &plan, &p, &e))
        fail_msg("%s", e.text);
    assert_int_equal(p.count, 2);
    assert_int_equal(p.batches[1], 8);
    assert_true(p.run_ms[0] > 0 && p.run_ms[1] > 0 && p.load_ms > 0);
    assert_false(p.prepared);
    assert_string_equal(p.run_error, "");
    assert_true(p.before.base > (4u << 20) && p.before.anonymous > 0 && p.before.pss > 0);
    assert_true(p.loaded.anonymous >= p.before.anonymous + weights * 9 / 10);
    assert_true(p.loaded.peak >= p.loaded.anonymous);
    /* Prepared: the weights are pages of a file. */
    o.prepared_dir = path_of("prepared");
    if (!exec_measure(&o, path_of("net"), model_digest('e'), &plan, &q, &e))
        fail_msg("%s", e.text);
    assert_true(q.prepared && q.prepare_ms > 0 && q.prepare_peak > 0);
#ifndef SANITIZED /* sanitizers keep what was freed */
    assert_true(q.after.anonymous < q.before.anonymous + weights / 2);
#endif
    assert_true(q.after.file > weights * 9 / 10);
    assert_true(q.before.file == 0);
    o.prepared_dir = path_of("prepared");
    assert_true(exec_measure(&o, path_of("net"), model_digest('e'), &plan, &q, &e));
    assert_true(q.prepared && q.prepare_ms == 0);
}

#define TABLE_ROWS 8192
#define TABLE_WIDTH 256

/* A table of words: a run uses a row of it, a day all. */
static void a_table_counts_in_full(void **state)
{
    (void)state;
    struct exec_options o = runner_options(dir);
    struct exec_profile p = {0};
    struct err e = {0};
    struct model m = {0};
    const uint64_t bytes = 4u * TABLE_ROWS * TABLE_WIDTH;
    float *rows = calloc(TABLE_ROWS, TABLE_WIDTH * sizeof(float));
    assert_non_null(rows);
    model_input(&m, "x", MODEL_I64, "batch");
    model_output(&m, "y", MODEL_F32, "batch 256");
    model_f32(&m, "w", "8192 256", rows);
    model_node(&m, "Gather", "w x", "y");
    model_write(&m, path_of("table"));
    free(rows);
    o.prepared_dir = path_of("prepared");
    if (!exec_measure(&o, path_of("table"), model_digest('a'), NULL, &p, &e))
        fail_msg("%s", e.text);
    assert_true(p.prepared && p.count == 1);
    assert_true(p.after.file < bytes / 2);
    assert_true(p.after.mapped >= bytes && p.after.mapped < bytes + bytes / 4);
}

/* For a moment x[batch,width] is there 8 times more. */
static void working_memory_is_told_apart(void **state)
{
    (void)state;
    struct exec_options o = runner_options(dir);
    struct exec_profile p = {0};
    struct exec_measure_plan plan = {.batches = {8}, .batch_count = 1, .runs = 2};
    struct err e = {0};
    struct model m = {0};
    const uint64_t bytes = UINT64_C(8) * 8 * EXEC_DIM_VALUE_MAX * sizeof(float);
    plan.dims[plan.dim_count++] = (struct exec_dim){.name = "width", .value = EXEC_DIM_VALUE_MAX};
    model_input(&m, "x", MODEL_F32, "batch width");
    model_output(&m, "y", MODEL_F32, "1 1");
    static const char *const ops[] = {"Relu", "Abs", "Neg", "Exp", "Sigmoid", "Tanh", "Sin", "Cos"};
    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        model_node(&m, ops[i], "x", ops[i]);
    model_node(&m, "Sum", "Relu Abs Neg Exp Sigmoid Tanh Sin Cos", "s");
    model_node(&m, "ReduceMax", "s", "y");
    model_write(&m, path_of("wide"));
    if (!exec_measure(&o, path_of("wide"), model_digest('b'), &plan, &p, &e))
        fail_msg("%s", e.text);
    assert_int_equal(p.count, 1);
    assert_true(p.working > bytes * 9 / 10);
#ifndef SANITIZED
    assert_true(p.working < bytes * 2);
#endif
    assert_true(p.loaded.anonymous < p.before.anonymous + bytes / 2);
}

/* x[batch,cols] times a matrix of so many rows. */
static void write_rows(const char *name, int rows)
{
    static const float zeros[64];
    struct model m = {0};
    char dims[32];
    (void)snprintf(dims, sizeof(dims), "%d 2", rows);
    model_input(&m, "x", MODEL_F32, "batch cols");
    model_output(&m, "y", MODEL_F32, "batch 2");
    model_f32(&m, "w", dims, zeros);
    model_node(&m, "MatMul", "x w", "y");
    model_write(&m, path_of(name));
}

static void dims_can_be_given(void **state)
{
    (void)state;
    struct exec_options o = runner_options(dir);
    struct exec_profile p = {0};
    struct exec_measure_plan plan = {.dims = {{.name = "cols", .value = 3}}, .dim_count = 1};
    struct err e = {0};
    write_rows("rows", 3); /* none of the guesses */
    write_rows("four", 4); /* one of them */
    assert_true(exec_measure(&o, path_of("rows"), model_digest('f'), &plan, &p, &e));
    assert_int_equal(p.count, 1);
    assert_int_equal(p.guess, 0);
    plan.dim_count = 0; /* no guess suits it: said, not failed */
    assert_true(exec_measure(&o, path_of("rows"), model_digest('f'), &plan, &p, &e));
    assert_int_equal(p.count, 0);
    assert_true(strlen(p.run_error) > 0 && p.loaded.anonymous > 0);
    assert_true(exec_measure(&o, path_of("four"), model_digest('f'), &plan, &p, &e));
    assert_int_equal(p.count, 1);
    assert_int_equal(p.guess, 4);
    plan.dim_count = 1;
    (void)snprintf(plan.dims[0].name, sizeof(plan.dims[0].name), "x.1");
    assert_true(exec_measure(&o, path_of("rows"), model_digest('f'), &plan, &p, &e));
    assert_int_equal(p.count, 1);
    plan.batch_count = EXEC_BATCHES_MAX + 1;
    assert_false(exec_measure(&o, path_of("rows"), model_digest('f'), &plan, &p, &e));
    assert_int_equal(e.code, ERR_INVALID);
}

int main(int argc, char **argv)
{
    int code = runner_dispatch(argc, argv);
    if (code >= 0)
        return code;
    dir = temp_make();
    model_write_add(path_of("add"));
    model_write_loop(path_of("long"), INT64_C(1) << 40);
    model_write_net(path_of("net"), NET_WIDTH);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_is_survived),
        cmocka_unit_test(many_crashes_are_survived),
        cmocka_unit_test(a_lost_module_does_not_stop_others),
        cmocka_unit_test(loading_and_unloading_goes_on),
        cmocka_unit_test(only_below_the_modules_folder),
        cmocka_unit_test(links_out_of_the_folder_are_not_followed),
        cmocka_unit_test(a_runner_starts_no_runner),
        cmocka_unit_test(the_runner_has_no_descriptors_of_ours),
        cmocka_unit_test(the_runner_is_killed_first),
        cmocka_unit_test(measures_memory_and_time),
        cmocka_unit_test(a_table_counts_in_full),
        cmocka_unit_test(working_memory_is_told_apart),
        cmocka_unit_test(dims_can_be_given),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_remove();
    return failed;
}
