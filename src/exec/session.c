/* session.c - sessions of ONNX Runtime.
 *
 * Memory: the arena is off and memory patterns too (the runtime keeps one pattern per shape that it
 * has seen, without bound); prepacking stays on, quantised modules are many times slower without.
 * Outputs stay the runtime's memory and are given on without a copy. */
#include "exec/session.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/num.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAVED_BYTES_MIN "1024" /* smaller constants stay in module.onnx */

struct session {
    const struct runtime *runtime;
    struct ort_session *session;
};

/* ---- options --------------------------------------------------------------------------------- */

/* The runtime accepts unknown keys without a word, so only these are ever set. */
enum session_key {
    KEY_SPIN_INTRA,
    KEY_SPIN_INTER,
    KEY_SAVE_FILE,
    KEY_SAVE_MIN,
    KEY_SAVE_PREPACKED
};
static const char *const keys[] = {
    [KEY_SPIN_INTRA] = "session.intra_op.allow_spinning",
    [KEY_SPIN_INTER] = "session.inter_op.allow_spinning",
    [KEY_SAVE_FILE] = "session.optimized_model_external_initializers_file_name",
    [KEY_SAVE_MIN] = "session.optimized_model_external_initializers_min_size_in_bytes",
    [KEY_SAVE_PREPACKED] = "session.save_external_prepacked_constant_initializers",
};

static bool set_key(const struct runtime *r, struct ort_session_options *o, enum session_key key,
                    const char *value, struct err *e)
{
    return runtime_ok(r, r->api.add_session_key(o, keys[key], value), ERR_INTERNAL, keys[key], e);
}

static bool set_saving(const struct runtime *r, struct ort_session_options *o, const char *dir,
                       struct err *e)
{
    char *path = text_format("%s/module.onnx", dir);
    if (!path)
        return err_set(e, ERR_MEMORY, "session: no memory");
    bool ok = runtime_ok(r, r->api.set_optimized_path(o, path), ERR_INTERNAL, "save", e) &&
              set_key(r, o, KEY_SAVE_FILE, "module.bin", e) &&
              set_key(r, o, KEY_SAVE_MIN, SAVED_BYTES_MIN, e) &&
              set_key(r, o, KEY_SAVE_PREPACKED, "1", e);
    free(path);
    return ok;
}

static bool set_options(const struct runtime *r, struct ort_session_options *o, int level,
                        int threads, const char *save_dir, struct err *e)
{
    const struct ort_api *a = &r->api;
    return runtime_ok(r, a->set_log_level(o, ORT_LOG_FATAL), ERR_INTERNAL, "log", e) &&
           runtime_ok(r, a->set_optimization(o, level), ERR_INTERNAL, "optimisation", e) &&
           runtime_ok(r, a->set_intra_threads(o, threads), ERR_INTERNAL, "threads", e) &&
           runtime_ok(r, a->set_inter_threads(o, 1), ERR_INTERNAL, "threads", e) &&
           runtime_ok(r, a->disable_cpu_arena(o), ERR_INTERNAL, "arena", e) &&
           runtime_ok(r, a->disable_mem_pattern(o), ERR_INTERNAL, "pattern", e) &&
           set_key(r, o, KEY_SPIN_INTRA, "0", e) && set_key(r, o, KEY_SPIN_INTER, "0", e) &&
           (!save_dir || set_saving(r, o, save_dir, e));
}

/* ---- ports ----------------------------------------------------------------------------------- */

static bool read_dims(const struct runtime *r, const struct ort_tensor_info *t, struct port *p,
                      struct port_dims *names, struct err *e)
{
    const char *text[TENSOR_RANK_MAX] = {0};
    size_t rank;
    if (!runtime_ok(r, r->api.dims_count(t, &rank), ERR_INTERNAL, "rank", e))
        return false;
    if (rank > TENSOR_RANK_MAX)
        return err_set(e, ERR_UNSUPPORTED, "port '%s': rank %zu, at most %d", p->name, rank,
                       TENSOR_RANK_MAX);
    p->shape.rank = (int)rank;
    if (!runtime_ok(r, r->api.dims(t, p->shape.dims, rank), ERR_INTERNAL, "dims", e) ||
        !runtime_ok(r, r->api.dim_names(t, text, rank), ERR_INTERNAL, "dims", e))
        return false;
    for (size_t i = 0; i < rank; i++) {
        if (p->shape.dims[i] < 0)
            p->shape.dims[i] = -1;
        if (names && p->shape.dims[i] < 0 && text[i])
            (void)snprintf(names->name[i], DIM_NAME_MAX, "%s", text[i]);
    }
    return true;
}

static bool read_type(const struct runtime *r, const struct ort_type_info *type, struct port *p,
                      struct port_dims *names, struct err *e)
{
    const struct ort_tensor_info *t = NULL;
    int kind, element;
    if (!runtime_ok(r, r->api.type_kind(type, &kind), ERR_INTERNAL, "type", e) ||
        !runtime_ok(r, r->api.as_tensor_info(type, &t), ERR_INTERNAL, "type", e))
        return false;
    if (kind != ORT_KIND_TENSOR || !t)
        return err_set(e, ERR_UNSUPPORTED, "port '%s': is no tensor", p->name);
    if (!runtime_ok(r, r->api.element_type(t, &element), ERR_INTERNAL, "type", e))
        return false;
    p->dtype = dtype_from_onnx(element);
    if (p->dtype == DT_NONE)
        return err_set(e, ERR_UNSUPPORTED, "port '%s': element type %d is not supported", p->name,
                       element);
    return read_dims(r, t, p, names, e);
}

static bool read_port(const struct session *s, bool output, size_t i, struct port *p,
                      struct port_dims *names, struct err *e)
{
    const struct runtime *r = s->runtime;
    char *name = NULL;
    if (!runtime_ok(r,
                    output ? r->api.output_name(s->session, i, r->allocator, &name)
                           : r->api.input_name(s->session, i, r->allocator, &name),
                    ERR_INTERNAL, "port", e))
        return false;
    bool fits = strlen(name) < TENSOR_NAME_MAX;
    (void)snprintf(p->name, sizeof(p->name), "%s", name);
    struct ort_status *freed = r->api.allocator_free(r->allocator, name);
    if (!runtime_ok(r, freed, ERR_INTERNAL, "port", e))
        return false;
    if (!fits)
        return err_set(e, ERR_UNSUPPORTED, "port '%s...': name over %d bytes", p->name,
                       TENSOR_NAME_MAX - 1);
    struct ort_type_info *type = NULL;
    if (!runtime_ok(r,
                    output ? r->api.output_type(s->session, i, &type)
                           : r->api.input_type(s->session, i, &type),
                    ERR_INTERNAL, "port", e))
        return false;
    bool ok = read_type(r, type, p, names, e);
    r->api.release_type_info(type);
    return ok;
}

static bool read_ports(const struct session *s, struct module_info *info, struct err *e)
{
    const struct runtime *r = s->runtime;
    size_t inputs, outputs;
    if (!runtime_ok(r, r->api.input_count(s->session, &inputs), ERR_INTERNAL, "inputs", e) ||
        !runtime_ok(r, r->api.output_count(s->session, &outputs), ERR_INTERNAL, "outputs", e))
        return false;
    if (inputs > EXEC_PORTS_MAX || outputs > EXEC_PORTS_MAX)
        return err_set(e, ERR_TOO_LARGE, "%zu inputs and %zu outputs, at most %d each", inputs,
                       outputs, EXEC_PORTS_MAX);
    if (!info_alloc(info, (int)inputs, (int)outputs, e))
        return false;
    for (size_t i = 0; i < inputs; i++)
        if (!read_port(s, false, i, &info->inputs[i], &info->dims[i], e))
            return false;
    for (size_t i = 0; i < outputs; i++)
        if (!read_port(s, true, i, &info->outputs[i], NULL, e))
            return false;
    return true;
}

/* ---- loading --------------------------------------------------------------------------------- */

static bool make_session(struct session *s, const char *path, int level, int threads,
                         const char *save_dir, struct err *e)
{
    const struct runtime *r = s->runtime;
    struct ort_session_options *o = NULL;
    if (!runtime_ok(r, r->api.create_session_options(&o), ERR_INTERNAL, "options", e))
        return false;
    bool ok = set_options(r, o, level, threads, save_dir, e) &&
              runtime_ok(r, r->api.create_session(r->env, path, o, &s->session), ERR_UNSUPPORTED,
                         "load", e);
    r->api.release_session_options(o);
    return ok;
}

bool session_open(const struct runtime *r, const char *folder, int level, int threads,
                  const char *save_dir, struct session **ret, struct module_info *info,
                  struct err *e)
{
    int64_t start = clock_now_ns();
    struct session *s = calloc(1, sizeof(*s));
    char *path = text_format("%s/module.onnx", folder);
    bool ok = s && path;
    if (!ok)
        err_set(e, ERR_MEMORY, "session: no memory");
    if (s)
        s->runtime = r;
    ok = ok && make_session(s, path, level, threads, save_dir, e) &&
         (!ret || read_ports(s, info, e));
    free(path);
    if (ok && ret)
        *ret = s;
    else
        session_close(s);
    /* What loading needed for a while goes back to the system, not to the allocator's lists. */
    (void)malloc_trim(0);
    if (ok && ret)
        info->load_ms = clock_ms_since(start);
    return ok;
}

void session_close(struct session *s)
{
    if (!s)
        return;
    if (s->session)
        s->runtime->api.release_session(s->session);
    free(s);
    (void)malloc_trim(0);
}

/* ---- running --------------------------------------------------------------------------------- */

struct run {
    const struct runtime *runtime;
    struct ort_run_options *options;
    const char *input_names[EXEC_PORTS_MAX], *output_names[EXEC_PORTS_MAX];
    struct ort_value *inputs[EXEC_PORTS_MAX], *outputs[EXEC_PORTS_MAX];
};

static void stop_run(void *arg)
{
    struct run *run = arg;
    struct ort_status *s = run->runtime->api.set_terminate(run->options);
    (void)runtime_ok(run->runtime, s, ERR_INTERNAL, "stop", NULL);
}

static bool fill_run(struct run *run, const struct module_info *info, const struct tensor *inputs,
                     struct err *e)
{
    static int64_t nothing; /* an address for tensors without elements */
    const struct runtime *r = run->runtime;
    for (int i = 0; i < info->input_count; i++) {
        const struct tensor *t = &inputs[i];
        run->input_names[i] = info->inputs[i].name;
        if (!runtime_ok(r,
                        r->api.tensor_over_data(r->cpu, t->bytes ? t->data : &nothing, t->bytes,
                                                t->shape.dims, (size_t)t->shape.rank,
                                                dtype_onnx(t->dtype), &run->inputs[i]),
                        ERR_INTERNAL, info->inputs[i].name, e))
            return false;
    }
    for (int i = 0; i < info->output_count; i++)
        run->output_names[i] = info->outputs[i].name;
    return runtime_ok(r, r->api.create_run_options(&run->options), ERR_INTERNAL, "run", e);
}

static bool output_shape(const struct runtime *r, const struct ort_value *v, enum dtype *dtype,
                         struct shape *shape, struct err *e)
{
    int is_tensor = 0, element = 0;
    size_t rank = 0;
    struct ort_tensor_info *t = NULL;
    if (!runtime_ok(r, r->api.is_tensor(v, &is_tensor), ERR_INTERNAL, "output", e))
        return false;
    if (!is_tensor)
        return err_set(e, ERR_UNSUPPORTED, "output: is no tensor");
    if (!runtime_ok(r, r->api.value_info(v, &t), ERR_INTERNAL, "output", e))
        return false;
    bool ok = runtime_ok(r, r->api.element_type(t, &element), ERR_INTERNAL, "output", e) &&
              runtime_ok(r, r->api.dims_count(t, &rank), ERR_INTERNAL, "output", e);
    if (ok && rank > TENSOR_RANK_MAX)
        ok = err_set(e, ERR_UNSUPPORTED, "output: rank %zu, at most %d", rank, TENSOR_RANK_MAX);
    ok = ok && runtime_ok(r, r->api.dims(t, shape->dims, rank), ERR_INTERNAL, "output", e);
    r->api.release_tensor_info(t);
    shape->rank = (int)rank;
    *dtype = dtype_from_onnx(element);
    return ok && (*dtype != DT_NONE || err_set(e, ERR_UNSUPPORTED, "output: type %d", element));
}

struct held_value {
    const struct runtime *runtime;
    struct ort_value *value;
};

static void release_held(void *arg)
{
    struct held_value *h = arg;
    h->runtime->api.release_value(h->value);
    free(h);
}

/* Takes over *v on success. */
static bool wrap_output(const struct runtime *r, struct ort_value **v, enum dtype dtype,
                        const struct shape *shape, void *data, size_t bytes, struct tensor *ret,
                        struct err *e)
{
    struct held_value *h = malloc(sizeof(*h));
    if (!h)
        return err_set(e, ERR_MEMORY, "output: no memory");
    *h = (struct held_value){.runtime = r, .value = *v};
    struct mem *m = mem_wrap(data, bytes, release_held, h);
    if (!m) {
        free(h);
        return err_set(e, ERR_MEMORY, "output: no memory");
    }
    *v = NULL;
    bool ok = tensor_over(dtype, shape, m, 0, bytes, ret, e);
    mem_unref(m);
    return ok;
}

/* An output may be an input passed through: then its bytes are the caller's and are copied. */
static bool lies_in_input(const void *data, const struct tensor *inputs, int count)
{
    uintptr_t at = (uintptr_t)data;
    for (int i = 0; i < count; i++)
        if (at >= (uintptr_t)inputs[i].data && at < (uintptr_t)inputs[i].data + inputs[i].bytes)
            return true;
    return false;
}

static bool take_output(const struct runtime *r, struct ort_value **v, const struct tensor *inputs,
                        int input_count, struct tensor *ret, struct err *e)
{
    enum dtype dtype = DT_NONE;
    struct shape shape = {0};
    size_t bytes;
    void *data = NULL;
    if (!output_shape(r, *v, &dtype, &shape, e) || !tensor_bytes(dtype, &shape, &bytes, e) ||
        !runtime_ok(r, r->api.tensor_data(*v, &data), ERR_INTERNAL, "output", e))
        return false;
    if (bytes > 0 && !lies_in_input(data, inputs, input_count))
        return wrap_output(r, v, dtype, &shape, data, bytes, ret, e);
    if (!tensor_new(dtype, &shape, ret, e))
        return false;
    if (bytes > 0)
        memcpy(ret->data, data, bytes);
    return true;
}

static bool run_watched(struct session *s, struct run *run, const struct module_info *info,
                        struct cancel *cancel, struct err *e)
{
    const struct runtime *r = run->runtime;
    struct cancel_watch watch = {.fired = stop_run, .arg = run};
    cancel_watch(cancel, &watch);
    struct ort_status *status = r->api.run(
        s->session, run->options, run->input_names, (const struct ort_value *const *)run->inputs,
        (size_t)info->input_count, run->output_names, (size_t)info->output_count, run->outputs);
    cancel_unwatch(cancel, &watch);
    if (runtime_ok(r, status, ERR_UNSUPPORTED, "run", e))
        return true;
    if (cancel_fired(cancel))
        return err_set(e, ERR_CANCELLED, "run: cancelled");
    return false;
}

bool session_run(struct session *s, const struct module_info *info, const struct tensor *inputs,
                 struct cancel *cancel, struct tensor *outputs, struct err *e)
{
    struct run run = {.runtime = s->runtime};
    const struct ort_api *a = &s->runtime->api;
    bool ok = fill_run(&run, info, inputs, e) && run_watched(s, &run, info, cancel, e);
    for (int i = 0; ok && i < info->output_count; i++)
        if (!(ok = take_output(s->runtime, &run.outputs[i], inputs, info->input_count, &outputs[i],
                               e)))
            err_prefix(e, "output '%s'", info->outputs[i].name);
    for (int i = 0; i < info->input_count; i++)
        if (run.inputs[i])
            a->release_value(run.inputs[i]);
    for (int i = 0; i < info->output_count; i++)
        if (run.outputs[i])
            a->release_value(run.outputs[i]);
    if (run.options)
        a->release_run_options(run.options);
    for (int i = 0; !ok && i < info->output_count; i++)
        tensor_clear(&outputs[i]);
    return ok;
}

/* ---- the first session ----------------------------------------------------------------------- */

/* y = x + x for x float32 [n]: ir 8, opset 17, written out as protobuf. */
static const unsigned char addition[] = {
    0x08, 8,   0x3a, 55, 0x0a, 14,  0x0a, 1,    'x',  0x0a, 1,    'x',  0x12,
    1,    'y', 0x22, 3,  'A',  'd', 'd',  0x12, 1,    'g',  0x5a, 16,   0x0a,
    1,    'x', 0x12, 11, 0x0a, 9,   0x08, 1,    0x12, 5,    0x0a, 3,    0x12,
    1,    'n', 0x62, 16, 0x0a, 1,   'y',  0x12, 11,   0x0a, 9,    0x08, 1,
    0x12, 5,   0x0a, 3,  0x12, 1,   'n',  0x42, 4,    0x0a, 0,    0x10, 17};

static bool run_addition(struct session *s, struct err *e)
{
    struct module_info info = {0};
    struct tensor x = {0}, y = {0};
    const struct shape one = {.rank = 1, .dims = {1}};
    bool ok = read_ports(s, &info, e) && tensor_new(DT_F32, &one, &x, e) &&
              session_run(s, &info, &x, NULL, &y, e);
    tensor_clear(&x);
    tensor_clear(&y);
    info_clear(&info);
    return ok;
}

bool session_warm_up(const struct runtime *r, struct err *e)
{
    struct session s = {.runtime = r};
    struct ort_session_options *o = NULL;
    if (!runtime_ok(r, r->api.create_session_options(&o), ERR_INTERNAL, "options", e))
        return false;
    bool ok =
        set_options(r, o, ORT_LEVEL_ALL, 1, NULL, e) &&
        runtime_ok(
            r, r->api.create_session_from_bytes(r->env, addition, sizeof(addition), o, &s.session),
            ERR_INTERNAL, "first session", e) &&
        run_addition(&s, e);
    r->api.release_session_options(o);
    if (s.session)
        r->api.release_session(s.session);
    (void)malloc_trim(0);
    return ok;
}
