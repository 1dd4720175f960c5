/* exec_calls.c - what a call through the runner adds to a call in this process.
 *
 * A no-op module (one addition) with 4 KB and with 1.2 MB of tensors, median and 95th percentile in
 * microseconds: in this process, through the runner, and the difference. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"
#include "exec/exec.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RUNS 2000
#define FOLDER "exec-calls-module"

/* y = x + x for x float32 [n]: ir 8, opset 17, written out as protobuf. */
static const unsigned char model[] = {
    0x08, 8,   0x3a, 55, 0x0a, 14,  0x0a, 1,    'x',  0x0a, 1,    'x',  0x12,
    1,    'y', 0x22, 3,  'A',  'd', 'd',  0x12, 1,    'g',  0x5a, 16,   0x0a,
    1,    'x', 0x12, 11, 0x0a, 9,   0x08, 1,    0x12, 5,    0x0a, 3,    0x12,
    1,    'n', 0x62, 16, 0x0a, 1,   'y',  0x12, 11,   0x0a, 9,    0x08, 1,
    0x12, 5,   0x0a, 3,  0x12, 1,   'n',  0x42, 4,    0x0a, 0,    0x10, 17};

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median and 95th percentile in us; negative on failure. */
static bool measure(struct exec_module *m, size_t floats, double ret[2], struct err *e)
{
    static double us[RUNS];
    struct shape shape = {.rank = 1, .dims = {(int64_t)floats}};
    struct named_tensor in = {.name = "x"};
    if (!tensor_new(DT_F32, &shape, &in.tensor, e))
        return false;
    bool ok = true;
    for (int i = -RUNS / 10; ok && i < RUNS; i++) {
        struct tensor out = {0};
        int64_t start = clock_now_ns();
        ok = exec_run(m, &in, 1, NULL, &out, e);
        if (i >= 0)
            us[i] = (double)(clock_now_ns() - start) / 1e3;
        tensor_clear(&out);
    }
    tensor_clear(&in.tensor);
    qsort(us, RUNS, sizeof(us[0]), by_size);
    ret[0] = us[RUNS / 2];
    ret[1] = us[RUNS * 95 / 100];
    return ok;
}

static bool measure_kind(enum exec_kind kind, const struct exec_options *o, double ret[2][2],
                         struct err *e)
{
    char digest[DIGEST_HEX + 1] = {0};
    char folder[PATH_MAX + 64];
    struct exec *x = NULL;
    struct exec_module *m = NULL;
    memset(digest, 'a', DIGEST_HEX);
    (void)snprintf(folder, sizeof(folder), "%s/" FOLDER, o->modules_dir);
    bool ok = exec_create(kind, o, &x, e) && exec_load(x, folder, digest, &m, e) &&
              measure(m, 1024, ret[0], e) && measure(m, 300000, ret[1], e);
    exec_unload(m);
    exec_destroy(x);
    return ok;
}

static bool all(const char *self, const char *dir, struct err *e)
{
    static const char *const sizes[2] = {"4 KB", "1.2 MB"};
    struct exec_options o = {.runner_path = self, .modules_dir = dir, .threads = 1, .lanes = 1};
    double local[2][2] = {{0}}, runner[2][2] = {{0}};
    if (!measure_kind(EXEC_LOCAL, &o, local, e) || !measure_kind(EXEC_RUNNER, &o, runner, e))
        return false;
    for (int i = 0; i < 2; i++)
        (void)printf("%-7s in process %7.1f us (95%%: %.1f), runner %7.1f us (95%%: %.1f), "
                     "added %.1f us\n",
                     sizes[i], local[i][0], local[i][1], runner[i][0], runner[i][1],
                     runner[i][0] - local[i][0]);
    return true;
}

int main(int argc, char **argv)
{
    uint64_t fd;
    struct err e = {0};
    if (argc == 3 && strcmp(argv[1], "runner") == 0)
        return parse_u64("descriptor", argv[2], 3, INT_MAX, &fd, &e) ? exec_runner_main((int)fd)
                                                                     : 2;
    char self[PATH_MAX] = {0}, dir[] = "/tmp/exec-calls.XXXXXX", path[PATH_MAX];
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) <= 0 || !mkdtemp(dir))
        return 1;
    (void)snprintf(path, sizeof(path), "%s/" FOLDER, dir);
    bool ok = file_make_dirs(path, &e);
    (void)snprintf(path, sizeof(path), "%s/" FOLDER "/module.onnx", dir);
    ok = ok && file_write_atomic(path, model, sizeof(model), 0600, &e) && all(self, dir, &e);
    if (!ok)
        (void)fprintf(stderr, "%s\n", e.text);
    (void)file_remove_tree(dir, NULL);
    return ok ? 0 : 1;
}
