/* measure.c - what a module costs: memory and time, in a process of its own.
 *
 * Order: process with the runtime, sample; module loaded, sample; runs, sample.  The peak is counted
 * anew before each step, so that of the last one is what runs need together with the module.  What is prepared is prepared first and by another process, so that its
 * memory is not in the figures of the runs. */
#include "exec/exec.h"

#include "base/clock.h"
#include "base/num.h"
#include "exec/link.h"
#include "exec/memory.h"
#include "exec/prepare.h"
#include "exec/runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS_DEFAULT 5
#define MAX_MS_DEFAULT 2000
#define GUESS_PICTURE 224 /* height, width */
#define MODULE_NUMBER 0

/* For dims of which nothing is known: tokens, a short text, one, frames, samples of sound.  The first
 * with which the model runs. */
static const int guesses[] = {16, 4, 1, 128, 1000, 16000};

struct measuring {
    const struct exec_measure_plan *plan;
    struct link *link;
    const char *folder, *prepared_dir; /* real paths */
    struct module_info info;
    size_t guess; /* which of them */
    bool guessed; /* some dim needed one */
    struct exec_profile profile;
};

/* ---- dims ------------------------------------------------------------------------------------ */

static bool given(const struct exec_measure_plan *p, const char *name, int64_t *ret)
{
    for (int i = 0; i < p->dim_count; i++)
        if (strcmp(p->dims[i].name, name) == 0) {
            *ret = p->dims[i].value;
            return true;
        }
    return false;
}

/* Exporters name a dim that is a sum "a + b". */
static int64_t named_dim(struct measuring *m, const char *name, int batch)
{
    int64_t value;
    char part[DIM_NAME_MAX];
    if (given(m->plan, name, &value))
        return value;
    const char *plus = strstr(name, " + ");
    if (plus) {
        (void)snprintf(part, sizeof(part), "%.*s", (int)(plus - name), name);
        value = named_dim(m, part, batch) + named_dim(m, plus + 3, batch);
        return value < EXEC_DIM_VALUE_MAX ? value : EXEC_DIM_VALUE_MAX;
    }
    if (strstr(name, "batch"))
        return batch;
    if (strstr(name, "height") || strstr(name, "width"))
        return GUESS_PICTURE;
    m->guessed = true;
    return guesses[m->guess];
}

static int64_t choose_dim(struct measuring *m, int port, int dim, int batch)
{
    const struct port *p = &m->info.inputs[port];
    const char *name = m->info.dims[port].name[dim];
    char place[TENSOR_NAME_MAX + 16];
    int64_t value;
    (void)snprintf(place, sizeof(place), "%s.%d", p->name, dim);
    if (given(m->plan, place, &value))
        return value;
    if (dim == 0 && !given(m->plan, name, &value))
        return batch;
    return named_dim(m, name, batch);
}

/* Small different numbers for floats (zeros and denormals have a speed of their own), ones for
 * masks, zeros for other integers: valid as indices. */
static void fill(struct tensor *t, const char *name)
{
    uint64_t seed = 1;
    if (t->dtype == DT_F32) {
        float *f = t->data;
        for (size_t i = 0; i < t->bytes / sizeof(*f); i++)
            f[i] = (float)(num_random(&seed) % 2000) / 1000.0F - 1.0F;
    } else if (t->dtype == DT_F64) {
        double *d = t->data;
        for (size_t i = 0; i < t->bytes / sizeof(*d); i++)
            d[i] = (double)(num_random(&seed) % 2000) / 1000.0 - 1.0;
    } else if (t->dtype == DT_I64 && strstr(name, "mask")) {
        int64_t *n = t->data;
        for (size_t i = 0; i < t->bytes / sizeof(*n); i++)
            n[i] = 1;
    }
}

static bool make_inputs(struct measuring *m, int batch, struct tensor *ret, struct err *e)
{
    for (int i = 0; i < m->info.input_count; i++) {
        const struct port *p = &m->info.inputs[i];
        struct shape shape = p->shape;
        for (int k = 0; k < shape.rank; k++)
            if (shape.dims[k] < 0)
                shape.dims[k] = choose_dim(m, i, k, batch);
        if (!tensor_new(p->dtype, &shape, &ret[i], e))
            return err_prefix(e, "input '%s'", p->name);
        fill(&ret[i], p->name);
    }
    return true;
}

/* ---- runs ------------------------------------------------------------------------------------ */

static bool run_once(struct measuring *m, const struct tensor *inputs, double *ms, struct err *e)
{
    struct tensor outputs[EXEC_PORTS_MAX];
    memset(outputs, 0, (size_t)m->info.output_count * sizeof(*outputs));
    int64_t start = clock_now_ns();
    if (!link_run(m->link, 0, MODULE_NUMBER, &m->info, inputs, NULL, outputs, e))
        return false;
    *ms = clock_ms_since(start);
    for (int i = 0; i < m->info.output_count; i++)
        tensor_clear(&outputs[i]);
    return true;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool run_batch(struct measuring *m, const struct tensor *inputs, double *median,
                      struct err *e)
{
    double ms[EXEC_RUNS_MAX];
    int runs = m->plan->runs ? m->plan->runs : RUNS_DEFAULT, n = 0;
    int64_t deadline = clock_deadline_ms(m->plan->max_ms ? m->plan->max_ms : MAX_MS_DEFAULT);
    if (!run_once(m, inputs, &ms[0], e))
        return false;
    do {
        if (!run_once(m, inputs, &ms[n++], e))
            return false;
    } while (n < runs && clock_now_ns() < deadline);
    qsort(ms, (size_t)n, sizeof(ms[0]), by_size);
    *median = n % 2 ? ms[n / 2] : (ms[n / 2 - 1] + ms[n / 2]) / 2;
    return true;
}

static bool try_batch(struct measuring *m, int batch, double *median, struct err *e)
{
    struct tensor inputs[EXEC_PORTS_MAX] = {0};
    bool ok = make_inputs(m, batch, inputs, e) && run_batch(m, inputs, median, e);
    for (int i = 0; i < m->info.input_count; i++)
        tensor_clear(&inputs[i]);
    return ok;
}

/* A size that does not run is noted and passed over; only the end of the process ends it all.  A
 * guess is changed until one size has run, then it stays. */
static bool measure_batch(struct measuring *m, int batch, struct err *e)
{
    struct exec_profile *p = &m->profile;
    struct err why = {0};
    double median = 0;
    size_t first = m->guess;
    bool ok = try_batch(m, batch, &median, &why);
    while (!ok && why.code != ERR_GONE && p->count == 0 && m->guessed &&
           m->guess + 1 < ARRAY_LEN(guesses)) {
        m->guess++;
        ok = try_batch(m, batch, &median, &why);
    }
    if (ok) {
        p->guess = m->guessed ? guesses[m->guess] : 0;
        p->batches[p->count] = batch;
        p->run_ms[p->count++] = median;
        return true;
    }
    m->guess = first;
    if (why.code == ERR_GONE)
        return err_set(e, ERR_GONE, "batch %d: %s", batch, why.text);
    (void)snprintf(p->run_error, sizeof(p->run_error), "batch %d: %.400s", batch, why.text);
    return true;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static bool sample(const struct measuring *m, struct exec_memory *ret, struct err *e)
{
    pid_t pid = link_pid(m->link);
    return memory_read(pid, m->folder, m->prepared_dir, ret, e) && memory_reset_peak(pid, e);
}

static bool measure(struct measuring *m, const struct link_options *o, const char *digest,
                    struct err *e)
{
    struct exec_profile *p = &m->profile;
    struct prepared prepared;
    link_prepared(o, link_version(m->link), m->folder, digest, false, &prepared);
    p->prepared = prepared.folder != NULL;
    p->prepare_ms = prepared.ms;
    p->prepare_peak = prepared.peak;
    bool ok = sample(m, &p->before, e) &&
              link_load(m->link, MODULE_NUMBER, p->prepared ? prepared.folder : m->folder,
                        p->prepared ? ORT_LEVEL_NONE : ORT_LEVEL_ALL, &m->info, e);
    free(prepared.folder);
    p->load_ms = m->info.load_ms;
    ok = ok && sample(m, &p->loaded, e);
    static const int one[] = {1};
    const int *batches = m->plan->batch_count ? m->plan->batches : one;
    int count = m->plan->batch_count ? m->plan->batch_count : 1;
    for (int i = 0; ok && i < count; i++)
        ok = measure_batch(m, batches[i], e);
    ok = ok && sample(m, &p->after, e);
    /* At the peak all pages of files that runs need were there: they stay. */
    uint64_t resting = p->after.base + p->after.file + p->loaded.anonymous;
    p->working = p->after.peak > resting ? p->after.peak - resting : 0;
    return ok;
}

static bool check_plan(const struct exec_measure_plan *p, struct err *e)
{
    if (p->batch_count < 0 || p->batch_count > EXEC_BATCHES_MAX || p->dim_count < 0 ||
        p->dim_count > EXEC_DIMS_MAX || p->runs < 0 || p->runs > EXEC_RUNS_MAX || p->max_ms < 0)
        return err_set(
            e, ERR_INVALID, "measure: %d batch sizes (at most %d), %d dims (%d), %d runs (%d)",
            p->batch_count, EXEC_BATCHES_MAX, p->dim_count, EXEC_DIMS_MAX, p->runs, EXEC_RUNS_MAX);
    for (int i = 0; i < p->batch_count; i++)
        if (p->batches[i] < 1 || p->batches[i] > EXEC_DIM_VALUE_MAX)
            return err_set(e, ERR_INVALID, "measure: batch size %d, allowed are 1 to %d",
                           p->batches[i], EXEC_DIM_VALUE_MAX);
    for (int i = 0; i < p->dim_count; i++)
        if (p->dims[i].value < 0 || p->dims[i].value > EXEC_DIM_VALUE_MAX)
            return err_set(e, ERR_INVALID, "measure: dim '%s' = %lld, allowed are 0 to %d",
                           p->dims[i].name, (long long)p->dims[i].value, EXEC_DIM_VALUE_MAX);
    return true;
}

bool exec_measure(const struct exec_options *o, const char *folder, const char *digest,
                  const struct exec_measure_plan *plan, struct exec_profile *ret, struct err *e)
{
    static const struct exec_measure_plan plain;
    struct measuring m = {.plan = plan ? plan : &plain};
    if (!check_plan(m.plan, e))
        return false;
    if (!digest_valid(digest))
        return err_set(e, ERR_INVALID, "module: '%.70s' is not a digest", digest);
    char *real = realpath(folder, NULL), *prepared = NULL, *runtime = NULL;
    bool ok = real || err_set(e, ERR_NOT_FOUND, "folder '%s': is not there", folder);
    ok = ok && prepared_dir_make(o->prepared_dir, &prepared, e) &&
         runtime_find(o->runtime_path, &runtime, e);
    m.folder = real;
    m.prepared_dir = prepared;
    struct link_options l = {.runner_path = o->runner_path,
                             .runtime_path = runtime,
                             .read_dir = real,
                             .prepared_dir = prepared,
                             .threads = threads_of(o),
                             .lanes = 1};
    ok = ok && link_start(&l, &m.link, e) && measure(&m, &l, digest, e);
    if (ok)
        *ret = m.profile;
    link_unref(m.link);
    info_clear(&m.info);
    free(real);
    free(prepared);
    free(runtime);
    return ok || err_prefix(e, "measure %.12s", digest);
}
