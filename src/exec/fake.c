/* fake.c - the back end without a runtime, for tests of everything above exec.
 * The form of its modules is described in exec.h. */
#include "exec/backend.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"
#include "base/sync.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FAKE_FILE_MAX 65536
#define FAKE_SLEEP_MAX 600000 /* ms */

enum fake_work { FAKE_NOOP, FAKE_ADD, FAKE_FAIL, FAKE_CRASH, FAKE_SLEEP };
static const char *const works[] = {"noop", "add", "fail", "crash", "sleep"};

struct fake_module {
    enum fake_work work;
    uint64_t sleep_ms;
};

/* ---- reading the line ------------------------------------------------------------------------ */

struct words {
    char *rest;
};

static char *next_word(struct words *w)
{
    char *word = w->rest;
    if (!word || !*word)
        return NULL;
    char *end = strchr(word, ' ');
    w->rest = end ? end + 1 : NULL;
    if (end)
        *end = 0;
    return word;
}

static bool read_dim(const char *text, int64_t *ret, struct err *e)
{
    if (strcmp(text, "-1") == 0) {
        *ret = -1;
        return true;
    }
    uint64_t value;
    if (!parse_u64("fake dim", text, 0, INT32_MAX, &value, e))
        return false;
    *ret = (int64_t)value;
    return true;
}

static bool read_dims(char *text, struct shape *ret, struct err *e)
{
    *ret = (struct shape){0};
    if (strcmp(text, "scalar") == 0)
        return true;
    while (text) {
        char *end = strchr(text, 'x');
        if (end)
            *end = 0;
        if (ret->rank == TENSOR_RANK_MAX)
            return err_set(e, ERR_INVALID, "fake dims: more than %d", TENSOR_RANK_MAX);
        if (!read_dim(text, &ret->dims[ret->rank++], e))
            return false;
        text = end ? end + 1 : NULL;
    }
    return true;
}

static bool read_port(struct words *w, char *name, struct port *ret, struct err *e)
{
    char *type = next_word(w), *dims = next_word(w);
    if (!dims || !*name || strlen(name) >= TENSOR_NAME_MAX)
        return err_set(e, ERR_INVALID, "fake port '%.60s': need NAME DTYPE DIMS", name);
    (void)snprintf(ret->name, sizeof(ret->name), "%s", name);
    ret->dtype = dtype_from_name(type);
    if (ret->dtype == DT_NONE)
        return err_set(e, ERR_INVALID, "fake port '%s': type '%.20s' is not known", name, type);
    return read_dims(dims, &ret->shape, e);
}

/* "in" ports, then "out" ports. */
static bool read_ports(struct words *w, struct module_info *info, struct err *e)
{
    struct port *ports = NULL;
    int *count = NULL;
    for (char *word = next_word(w); word; word = next_word(w)) {
        if (strcmp(word, "in") == 0 || strcmp(word, "out") == 0) {
            bool in = word[0] == 'i';
            ports = in ? info->inputs : info->outputs;
            count = in ? &info->input_count : &info->output_count;
        } else if (!ports || *count == EXEC_PORTS_MAX) {
            return err_set(e, ERR_INVALID, "fake: '%.20s' where 'in' or 'out' was due (at most %d)",
                           word, EXEC_PORTS_MAX);
        } else if (!read_port(w, word, &ports[(*count)++], e)) {
            return false;
        }
    }
    return info->output_count > 0 || err_set(e, ERR_INVALID, "fake: no outputs");
}

static bool read_work(struct words *w, struct fake_module *m, struct err *e)
{
    const char *mark = next_word(w), *work = next_word(w);
    if (!work || strcmp(mark, "fake") != 0)
        return err_set(e, ERR_INVALID, "fake: does not begin with 'fake WORK'");
    for (int i = FAKE_NOOP; i <= FAKE_SLEEP; i++) {
        if (strcmp(work, works[i]) != 0)
            continue;
        m->work = (enum fake_work)i;
        if (m->work != FAKE_SLEEP)
            return true;
        const char *ms = next_word(w);
        return parse_u64("fake sleep", ms ? ms : "", 0, FAKE_SLEEP_MAX, &m->sleep_ms, e);
    }
    return err_set(e, ERR_INVALID, "fake: work '%.20s' is not known", work);
}

static bool fake_load(struct backend *b, const char *folder, const char *digest, void **module,
                      struct module_info *info, struct err *e)
{
    (void)b, (void)digest;
    int64_t start = clock_now_ns();
    char *path = text_format("%s/module.onnx", folder), *text = NULL;
    size_t size;
    bool ok = path && file_read(path, FAKE_FILE_MAX, &text, &size, e);
    if (!path)
        err_set(e, ERR_MEMORY, "fake: no memory");
    struct fake_module *m = calloc(1, sizeof(*m));
    if (ok && m && info_alloc(info, EXEC_PORTS_MAX, EXEC_PORTS_MAX, e)) {
        text[strcspn(text, "\n")] = 0;
        struct words w = {.rest = text};
        info->input_count = info->output_count = 0;
        ok = read_work(&w, m, e) && read_ports(&w, info, e);
    } else if (ok) {
        ok = err_set(e, ERR_MEMORY, "fake: no memory");
    }
    free(path);
    free(text);
    if (ok)
        *module = m;
    else
        free(m);
    info->load_ms = clock_ms_since(start);
    return ok;
}

static void fake_unload(struct backend *b, void *module)
{
    (void)b;
    free(module);
}

/* ---- running --------------------------------------------------------------------------------- */

static bool out_shape(const struct port *p, const struct tensor *inputs, int count,
                      struct shape *ret, struct err *e)
{
    *ret = p->shape;
    for (int i = 0; i < p->shape.rank; i++) {
        if (p->shape.dims[i] >= 0)
            continue;
        if (count == 0 || i >= inputs[0].shape.rank)
            return err_set(e, ERR_UNSUPPORTED, "output '%s': dim %d is not in the first input",
                           p->name, i);
        ret->dims[i] = inputs[0].shape.dims[i];
    }
    return true;
}

static bool add_all(const struct tensor *inputs, int count, struct tensor *out, struct err *e)
{
    float *sum = out->data;
    for (int k = 0; k < count; k++) {
        const float *in = inputs[k].data;
        if (inputs[k].dtype != DT_F32 || out->dtype != DT_F32 || inputs[k].bytes != out->bytes)
            return err_set(e, ERR_UNSUPPORTED, "add: float32 of equal shapes only");
        for (size_t i = 0; i < out->bytes / sizeof(*sum); i++)
            sum[i] += in[i];
    }
    return true;
}

struct sleeper {
    struct monitor lock;
    bool stop;
};

static void wake_sleeper(void *arg)
{
    struct sleeper *s = arg;
    monitor_lock(&s->lock);
    s->stop = true;
    monitor_wake(&s->lock);
    monitor_unlock(&s->lock);
}

static bool sleep_for(uint64_t ms, struct cancel *cancel, struct err *e)
{
    struct sleeper s = {.stop = false};
    monitor_init(&s.lock);
    struct cancel_watch watch = {.fired = wake_sleeper, .arg = &s};
    cancel_watch(cancel, &watch);
    int64_t deadline = clock_deadline_ms((int64_t)ms);
    monitor_lock(&s.lock);
    bool waiting = true;
    while (!s.stop && waiting)
        waiting = monitor_wait(&s.lock, deadline);
    bool stopped = s.stop;
    monitor_unlock(&s.lock);
    cancel_unwatch(cancel, &watch);
    monitor_destroy(&s.lock);
    return !stopped || err_set(e, ERR_CANCELLED, "run: cancelled");
}

static bool fill_outputs(const struct fake_module *m, const struct module_info *info,
                         const struct tensor *inputs, struct tensor *outputs, struct err *e)
{
    for (int i = 0; i < info->output_count; i++) {
        struct shape shape;
        if (!out_shape(&info->outputs[i], inputs, info->input_count, &shape, e) ||
            !tensor_new(info->outputs[i].dtype, &shape, &outputs[i], e))
            return false;
        if (m->work == FAKE_ADD && !add_all(inputs, info->input_count, &outputs[i], e))
            return false;
        if (m->work != FAKE_ADD && i < info->input_count) {
            size_t bytes = inputs[i].bytes < outputs[i].bytes ? inputs[i].bytes : outputs[i].bytes;
            if (bytes > 0)
                memcpy(outputs[i].data, inputs[i].data, bytes);
        }
    }
    return true;
}

static bool fake_run(struct backend *b, void *module, const struct module_info *info, int lane,
                     const struct tensor *inputs, struct cancel *cancel, struct tensor *outputs,
                     struct err *e)
{
    (void)b, (void)lane;
    const struct fake_module *m = module;
    if (m->work == FAKE_FAIL)
        return err_set(e, ERR_UNSUPPORTED, "fake: this module always fails");
    if (m->work == FAKE_CRASH)
        return err_set(e, ERR_GONE, "fake: this module always crashes");
    if (cancel_fired(cancel))
        return err_set(e, ERR_CANCELLED, "run: cancelled");
    if (m->work == FAKE_SLEEP && !sleep_for(m->sleep_ms, cancel, e))
        return false;
    if (fill_outputs(m, info, inputs, outputs, e))
        return true;
    for (int i = 0; i < info->output_count; i++)
        tensor_clear(&outputs[i]);
    return false;
}

/* ---- back end -------------------------------------------------------------------------------- */

static void fake_status(struct backend *b, struct exec_status *s)
{
    (void)b;
    s->kind = EXEC_FAKE;
    s->pid = getpid();
    (void)snprintf(s->version, sizeof(s->version), "none");
}

static void fake_destroy(struct backend *b)
{
    free(b);
}

static const struct backend_ops fake_ops = {
    .load = fake_load,
    .unload = fake_unload,
    .run = fake_run,
    .status = fake_status,
    .destroy = fake_destroy,
};

bool fake_create(const struct exec_options *o, struct backend **ret, struct err *e)
{
    (void)o;
    struct backend *b = calloc(1, sizeof(*b));
    if (!b)
        return err_set(e, ERR_MEMORY, "fake: no memory");
    b->ops = &fake_ops;
    *ret = b;
    return true;
}
