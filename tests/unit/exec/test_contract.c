/* test_contract.c - what every back end keeps to, run against all three.
 * label: threads */
#include "lib/cmocka.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/num.h"
#include "lib/temp.h"
#include "libmodel.h"
#include "librunner.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS 4
#define RUNS 25
#define BIG 50000 /* rows: well over what travels within a message */

struct fixture {
    enum exec_kind kind;
    const char *dir;
    struct exec *exec;
};

static struct fixture runner = {.kind = EXEC_RUNNER}, local = {.kind = EXEC_LOCAL},
                      fake = {.kind = EXEC_FAKE};

static const char *folder(const struct fixture *f, const char *name)
{
    static char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s/%s", f->dir, exec_kind_name(f->kind), name);
    return path;
}

static void write_add(const struct fixture *f)
{
    if (f->kind == EXEC_FAKE)
        model_write_text(folder(f, "add"),
                         "fake add in x float32 -1x4 y float32 -1x4 out sum float32 -1x4\n");
    else
        model_write_add(folder(f, "add"));
}

static void write_long(const struct fixture *f)
{
    if (f->kind == EXEC_FAKE)
        model_write_text(folder(f, "long"), "fake sleep 600000 in x float32 1 out y float32 1\n");
    else
        model_write_loop(folder(f, "long"), INT64_C(1) << 40);
}

static struct exec *make(const struct fixture *f, int lanes, int queue)
{
    struct exec_options o = runner_options(f->dir);
    struct exec *x = NULL;
    struct err e = {0};
    o.lanes = lanes;
    o.queue = queue;
    if (!exec_create(f->kind, &o, &x, &e))
        fail_msg("%s", e.text);
    return x;
}

static struct exec_module *load(struct exec *x, const char *path)
{
    struct exec_module *m = NULL;
    struct err e = {0};
    if (!exec_load(x, path, model_digest('a'), &m, &e))
        fail_msg("%s", e.text);
    return m;
}

static int set_up(void **state)
{
    struct fixture *f = *state;
    f->exec = make(f, 2, 0);
    write_add(f);
    write_long(f);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    exec_destroy(f->exec);
    f->exec = NULL;
    return 0;
}

/* x + y of so many rows; false and the error if it fails. */
static bool run_add(struct exec_module *m, int64_t rows, float first, struct err *e)
{
    int64_t dims[2] = {rows, 4};
    struct named_tensor in[2] = {runner_input("y", 2, dims, first), runner_input("x", 2, dims, 1)};
    struct tensor out = {0};
    bool ok = exec_run(m, in, 2, NULL, &out, e);
    if (ok) {
        const float *sum = out.data;
        assert_int_equal(out.bytes, rows * 16);
        assert_int_equal(out.shape.dims[0], rows);
        for (int64_t i = 0; i < rows * 4; i++)
            if (sum[i] != 1 + first + (float)i + (float)i)
                fail_msg("sum %lld: %g", (long long)i, (double)sum[i]);
    }
    tensor_clear(&out);
    tensor_clear(&in[0].tensor);
    tensor_clear(&in[1].tensor);
    return ok;
}

static void must_add(struct exec_module *m, int64_t rows, float first)
{
    struct err e = {0};
    if (!run_add(m, rows, first, &e))
        fail_msg("%s", e.text);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void says_what_it_is(void **state)
{
    struct fixture *f = *state;
    struct exec_status s = exec_status(f->exec);
    assert_int_equal(s.kind, f->kind);
    assert_true(s.pid > 0);
    assert_true((s.pid == getpid()) == (f->kind != EXEC_RUNNER));
    assert_true(f->kind == EXEC_FAKE ? strcmp(s.version, "none") == 0
                                     : strncmp(s.version, "1.", 2) == 0);
    assert_int_equal(s.restarts, 0);
    assert_int_equal(s.modules, 0);
}

static void tells_the_ports(void **state)
{
    struct fixture *f = *state;
    struct exec_module *m = load(f->exec, folder(f, "add"));
    int inputs, outputs;
    const struct port *in = exec_inputs(m, &inputs), *out = exec_outputs(m, &outputs);
    assert_int_equal(inputs, 2);
    assert_int_equal(outputs, 1);
    assert_string_equal(in[0].name, "x");
    assert_string_equal(in[1].name, "y");
    assert_string_equal(out[0].name, "sum");
    assert_int_equal(in[1].dtype, DT_F32);
    assert_int_equal(in[1].shape.rank, 2);
    assert_int_equal(in[1].shape.dims[0], -1);
    assert_int_equal(in[1].shape.dims[1], 4);
    assert_int_equal(exec_status(f->exec).modules, 1);
    exec_unload(m);
    assert_int_equal(exec_status(f->exec).modules, 0);
}

static void refuses_what_it_cannot_load(void **state)
{
    struct fixture *f = *state;
    struct exec_module *m = NULL;
    struct err e = {0};
    assert_false(exec_load(f->exec, folder(f, "nowhere"), model_digest('a'), &m, &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    model_write_text(folder(f, "broken"), "not a model");
    assert_false(exec_load(f->exec, folder(f, "broken"), model_digest('a'), &m, &e));
    assert_int_equal(e.code, ERR_INVALID);
    assert_false(exec_load(f->exec, folder(f, "add"), "../../etc", &m, &e));
    assert_int_equal(e.code, ERR_INVALID);
    assert_int_equal(exec_status(f->exec).modules, 0);
    m = load(f->exec, folder(f, "add")); /* and goes on */
    must_add(m, 1, 5);
    exec_unload(m);
}

static void runs_any_batch(void **state)
{
    struct fixture *f = *state;
    struct exec_module *m = load(f->exec, folder(f, "add"));
    must_add(m, 1, 0);
    must_add(m, 3, 7);
    must_add(m, 0, 0);
    must_add(m, 1024, 2); /* two inputs of 16 KiB: within the message */
    must_add(m, 2048, 2); /* inputs of exactly 64 KiB together */
    must_add(m, 2049, 2);
    must_add(m, BIG, 3);
    must_add(m, 1, 4);
    exec_unload(m);
}

static void expect_refused(struct exec_module *m, struct named_tensor *in, int count)
{
    struct tensor out = {0};
    struct err e = {0};
    assert_false(exec_run(m, in, count, NULL, &out, &e));
    assert_int_equal(e.code, ERR_INVALID);
    assert_null(out.data);
    for (int i = 0; i < count; i++)
        tensor_clear(&in[i].tensor);
}

static void refuses_wrong_inputs(void **state)
{
    struct fixture *f = *state;
    struct exec_module *m = load(f->exec, folder(f, "add"));
    int64_t right[2] = {1, 4}, wrong[2] = {1, 5}, rank[1] = {4};
    struct named_tensor one[] = {runner_input("x", 2, right, 0)};
    expect_refused(m, one, 1);
    struct named_tensor twice[] = {runner_input("x", 2, right, 0), runner_input("x", 2, right, 0)};
    expect_refused(m, twice, 2);
    struct named_tensor name[] = {runner_input("x", 2, right, 0), runner_input("z", 2, right, 0)};
    expect_refused(m, name, 2);
    struct named_tensor dims[] = {runner_input("x", 2, right, 0), runner_input("y", 2, wrong, 0)};
    expect_refused(m, dims, 2);
    struct named_tensor ranks[] = {runner_input("x", 2, right, 0), runner_input("y", 1, rank, 0)};
    expect_refused(m, ranks, 2);
    struct named_tensor type[] = {runner_input("x", 2, right, 0), runner_input("y", 2, right, 0)};
    type[1].tensor.dtype = DT_I32;
    expect_refused(m, type, 2);
    struct named_tensor cut[] = {runner_input("x", 2, right, 0), runner_input("y", 2, right, 0)};
    cut[1].tensor.bytes -= 4;
    expect_refused(m, cut, 2);
    must_add(m, 2, 1);
    exec_unload(m);
}

static void a_run_that_fails_harms_nothing(void **state)
{
    struct fixture *f = *state;
    struct exec_module *m = load(f->exec, folder(f, "add"));
    int64_t two[2] = {2, 4}, three[2] = {3, 4};
    struct named_tensor in[] = {runner_input("x", 2, two, 0), runner_input("y", 2, three, 0)};
    struct tensor out = {0};
    struct err e = {0};
    assert_false(exec_run(m, in, 2, NULL, &out, &e)); /* each fits its port, together they do not */
    assert_true(e.code == ERR_UNSUPPORTED || e.code == ERR_INVALID);
    assert_null(out.data);
    tensor_clear(&in[0].tensor);
    tensor_clear(&in[1].tensor);
    must_add(m, 2, 1);
    exec_unload(m);
}

static void outputs_outlive_everything(void **state)
{
    struct fixture *f = *state;
    struct exec *x = make(f, 1, 0);
    struct exec_module *m = load(x, folder(f, "add"));
    int64_t dims[2] = {BIG, 4}, small[2] = {1, 4};
    struct named_tensor in[2] = {runner_input("x", 2, dims, 0), runner_input("y", 2, dims, 0)};
    struct named_tensor little[2] = {runner_input("x", 2, small, 0),
                                     runner_input("y", 2, small, 9)};
    struct tensor big = {0}, out = {0};
    struct err e = {0};
    assert_true(exec_run(m, in, 2, NULL, &big, &e));
    assert_true(exec_run(m, little, 2, NULL, &out, &e));
    for (int i = 0; i < 2; i++) {
        tensor_clear(&in[i].tensor);
        tensor_clear(&little[i].tensor);
    }
    exec_unload(m);
    exec_destroy(x);
    assert_true(((float *)big.data)[BIG * 4 - 1] == 2.0F * (BIG * 4 - 1));
    assert_true(((float *)out.data)[3] == 15);
    tensor_clear(&big);
    tensor_clear(&out);
}

/* ---- several at once ------------------------------------------------------------------------- */

struct worker {
    struct exec_module *module;
    struct cancel *cancel;
    pthread_t thread;
    bool ok;
    struct err e;
};

static void *add_many(void *arg)
{
    struct worker *w = arg;
    w->ok = true;
    for (int i = 0; i < RUNS && w->ok; i++)
        w->ok = run_add(w->module, i % 5 == 0 ? 5000 : 1 + i, (float)i, &w->e);
    return NULL;
}

static void runs_at_the_same_time(void **state)
{
    struct fixture *f = *state;
    struct exec_module *m = load(f->exec, folder(f, "add")), *n = load(f->exec, folder(f, "add"));
    struct worker w[THREADS] = {0};
    for (int i = 0; i < THREADS; i++) {
        w[i].module = i % 2 ? m : n;
        assert_int_equal(pthread_create(&w[i].thread, NULL, add_many, &w[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        (void)pthread_join(w[i].thread, NULL);
        if (!w[i].ok)
            fail_msg("%s", w[i].e.text);
    }
    exec_unload(m);
    exec_unload(n);
}

static void *run_long(void *arg)
{
    struct worker *w = arg;
    int64_t dims[1] = {1};
    struct named_tensor in = runner_input("x", 1, dims, 0);
    struct tensor out = {0};
    w->ok = exec_run(w->module, &in, 1, w->cancel, &out, &w->e);
    tensor_clear(&out);
    tensor_clear(&in.tensor);
    return NULL;
}

static void start_long(struct worker *w, struct exec_module *m)
{
    *w = (struct worker){.module = m, .cancel = cancel_new()};
    assert_non_null(w->cancel);
    assert_int_equal(pthread_create(&w->thread, NULL, run_long, w), 0);
}

static void expect_cancelled(struct worker *w)
{
    (void)pthread_join(w->thread, NULL);
    assert_false(w->ok);
    if (w->e.code != ERR_CANCELLED)
        fail_msg("%s: %s", err_name(w->e.code), w->e.text);
    cancel_unref(w->cancel);
}

struct awaited {
    struct exec *exec;
    int running, waiting;
};

static bool is_so(void *arg)
{
    const struct awaited *a = arg;
    struct exec_status s = exec_status(a->exec);
    return s.running == a->running && s.waiting == a->waiting;
}

static void await(struct exec *x, int running, int waiting)
{
    struct awaited a = {.exec = x, .running = running, .waiting = waiting};
    if (!poll_until(is_so, &a))
        fail_msg("not %d running and %d waiting", running, waiting);
}

static void a_run_can_be_cancelled(void **state)
{
    struct fixture *f = *state;
    struct exec_module *m = load(f->exec, folder(f, "long"));
    struct worker w;
    start_long(&w, m);
    await(f->exec, 1, 0);
    int64_t start = clock_now_ns();
    cancel_fire(w.cancel);
    expect_cancelled(&w);
    assert_true(clock_ms_since(start) < 60000); /* alone it takes ten minutes */
    /* A token that has fired before. */
    w = (struct worker){.module = m, .cancel = cancel_new()};
    cancel_fire(w.cancel);
    (void)run_long(&w);
    assert_false(w.ok);
    assert_int_equal(w.e.code, ERR_CANCELLED);
    cancel_unref(w.cancel);
    exec_unload(m);
}

static void lanes_and_queue_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct exec *x = make(f, 1, 2);
    struct exec_module *m = load(x, folder(f, "long")), *add = load(x, folder(f, "add"));
    struct worker w[3];
    struct err e = {0};
    start_long(&w[0], m);
    await(x, 1, 0);
    start_long(&w[1], m);
    await(x, 1, 1);
    start_long(&w[2], m);
    await(x, 1, 2);
    assert_false(run_add(add, 1, 0, &e));
    assert_int_equal(e.code, ERR_BUSY);
    cancel_fire(w[2].cancel); /* the last one, while it waits */
    expect_cancelled(&w[2]);
    await(x, 1, 1);
    cancel_fire(w[0].cancel); /* the lane goes to the one that waits */
    expect_cancelled(&w[0]);
    await(x, 1, 0);
    cancel_fire(w[1].cancel);
    expect_cancelled(&w[1]);
    must_add(add, 1, 0);
    exec_unload(m);
    exec_unload(add);
    exec_destroy(x);
}

static atomic_bool unloaded;

static void *unload(void *module)
{
    exec_unload(module);
    atomic_store(&unloaded, true);
    return NULL;
}

static void unloading_waits_for_runs(void **state)
{
    struct fixture *f = *state;
    struct exec_module *m = load(f->exec, folder(f, "long"));
    struct worker w;
    pthread_t t;
    atomic_store(&unloaded, false);
    start_long(&w, m);
    await(f->exec, 1, 0);
    assert_int_equal(pthread_create(&t, NULL, unload, m), 0);
    assert_false(atomic_load(&unloaded));
    cancel_fire(w.cancel);
    expect_cancelled(&w);
    (void)pthread_join(t, NULL);
    assert_true(atomic_load(&unloaded));
}

/* ---- options --------------------------------------------------------------------------------- */

static void options_are_checked(void **state)
{
    struct fixture *f = *state;
    struct exec *x = NULL;
    struct err e = {0};
    struct exec_options o = runner_options(f->dir);
    o.lanes = EXEC_LANES_MAX + 1;
    assert_false(exec_create(f->kind, &o, &x, &e));
    assert_int_equal(e.code, ERR_INVALID);
    o = runner_options(f->dir);
    o.threads = -1;
    assert_false(exec_create(f->kind, &o, &x, &e));
    if (f->kind == EXEC_FAKE)
        return;
    o = runner_options(f->dir);
    o.runtime_path = "/nowhere/libonnxruntime.so";
    assert_false(exec_create(f->kind, &o, &x, &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    if (f->kind != EXEC_RUNNER)
        return;
    o = runner_options(f->dir);
    o.runner_path = NULL;
    assert_false(exec_create(f->kind, &o, &x, &e));
    o = runner_options(f->dir);
    o.runner_path = "/nowhere/s2m3";
    assert_false(exec_create(f->kind, &o, &x, &e));
    o = runner_options(f->dir);
    o.modules_dir = NULL;
    assert_true(exec_create(f->kind, &o, &x, &e)); /* to ask for its status */
    struct exec_module *m = NULL;
    assert_false(exec_load(x, folder(f, "add"), model_digest('a'), &m, &e));
    assert_int_equal(e.code, ERR_INVALID);
    exec_destroy(x);
}

#define CASE(test, fixture)                                                                        \
    {                                                                                              \
#test " (" #fixture ")", test, set_up, tear_down, &(fixture)                               \
    }
#define CASES(test) CASE(test, fake), CASE(test, local), CASE(test, runner)

int main(int argc, char **argv)
{
    int code = runner_dispatch(argc, argv);
    if (code >= 0)
        return code;
    runner.dir = local.dir = fake.dir = temp_make();
    const struct CMUnitTest tests[] = {
        CASES(says_what_it_is),
        CASES(tells_the_ports),
        CASES(refuses_what_it_cannot_load),
        CASES(runs_any_batch),
        CASES(refuses_wrong_inputs),
        CASES(a_run_that_fails_harms_nothing),
        CASES(outputs_outlive_everything),
        CASES(runs_at_the_same_time),
        CASES(a_run_can_be_cancelled),
        CASES(lanes_and_queue_are_bounded),
        CASES(unloading_waits_for_runs),
        CASES(options_are_checked),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_remove();
    return failed;
}
