/* check.c - a whole against its modules. */
#include "node/check.h"

#include "base/file.h"
#include "base/num.h"
#include "node/internal.h"
#include "node/question.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What one call gave, in all runs. */
struct called {
    struct port *ports; /* owned */
    int count;
    struct tensor *tensors; /* owned: of run r, output i at [r * count + i] */
};

struct checking {
    struct node *node;
    const struct question *question; /* kept */
    struct exec *exec;
    struct named_tensor (*inputs)[CHECK_PORTS_MAX]; /* owned: of each run */
    struct called *calls;                           /* owned */
    int call_count;
    json_t *outputs, *dims; /* the answer, owned */
    struct err *e;
};

/* ---- seeded inputs -------------------------------------------------------------------------- */

static void fill_floats(struct tensor *t, uint64_t *seed)
{
    for (size_t i = 0; i < shape_count(&t->shape); i++) {
        double v = (double)(num_random(seed) % 2000001) / 1e6 - 1;
        if (t->dtype == DT_F32)
            ((float *)t->data)[i] = (float)v;
        else if (t->dtype == DT_F64)
            ((double *)t->data)[i] = v;
        else if (t->dtype == DT_F16) /* 0.5 to 1 */
            ((uint16_t *)t->data)[i] = (uint16_t)(0x3800U | (num_random(seed) & 0x3FFU));
        else
            ((uint16_t *)t->data)[i] = (uint16_t)(0x3F00U | (num_random(seed) & 0x7FU));
    }
}

/* Small numbers: valid as ids.  Masks are ones, from the second run on with zeros behind. */
static void fill_numbers(struct tensor *t, bool mask, int run, uint64_t *seed)
{
    size_t count = shape_count(&t->shape), size = dtype_size(t->dtype);
    for (size_t i = 0; i < count; i++) {
        uint64_t v = mask ? run == 0 || i <= count / 2 : num_random(seed) % 8;
        if (t->dtype == DT_BOOL)
            v = mask ? v : v & 1;
        else if (t->dtype == DT_U8 && !mask)
            v = num_random(seed) % 256;
        memcpy((char *)t->data + i * size, &v, size); /* little endian */
    }
}

static bool make_input(struct checking *c, int index, int run)
{
    const struct question_input *from = &c->question->inputs[index];
    struct named_tensor *to = &c->inputs[run][index];
    memcpy(to->name, from->name, sizeof(to->name));
    if (!tensor_new(from->dtype, &from->shape, &to->tensor, c->e))
        return err_prefix(c->e, "check: input '%s'", from->name);
    uint64_t seed = (uint64_t)run * 1000003 + (uint64_t)index + 1;
    if (from->dtype == DT_F32 || from->dtype == DT_F64 || from->dtype == DT_F16 ||
        from->dtype == DT_BF16)
        fill_floats(&to->tensor, &seed);
    else
        fill_numbers(&to->tensor, strstr(from->name, "mask") != NULL, run, &seed);
    return true;
}

static bool make_inputs(struct checking *c)
{
    c->inputs = calloc(CHECK_RUNS, sizeof(*c->inputs));
    if (!c->inputs)
        return err_set(c->e, ERR_MEMORY, "check: no memory");
    for (int i = 0; i < c->question->input_count; i++)
        for (int run = 0; run < CHECK_RUNS; run++)
            if (!make_input(c, i, run))
                return false;
    return true;
}

/* ---- running -------------------------------------------------------------------------------- */

static const struct tensor *output_of(const struct checking *c, int call, const char *name, int run)
{
    const struct called *x = &c->calls[call];
    for (int i = 0; i < x->count; i++)
        if (strcmp(x->ports[i].name, name) == 0)
            return &x->tensors[run * x->count + i];
    return NULL;
}

/* The output of a call that was made, as a reference says it. */
static bool read_output(const struct checking *c, const struct question_ref *r, int run,
                        const struct tensor **ret)
{
    *ret = output_of(c, r->call, r->output, run);
    return *ret || err_set(c->e, ERR_INVALID, "check: call %d of %d has no output '%.60s'", r->call,
                           c->call_count, r->output);
}

static bool read_ref(const struct checking *c, const struct question_ref *r, int run,
                     struct named_tensor *to)
{
    const struct tensor *t = NULL;
    if (r->input >= 0)
        t = &c->inputs[run][r->input].tensor;
    else if (!read_output(c, r, run, &t))
        return false;
    memcpy(to->name, r->port, sizeof(to->name));
    to->tensor = *t; /* borrowed for the run */
    return true;
}

static void note_dims(struct checking *c, const char *digest, const struct exec_module *m,
                      const struct named_tensor *inputs, int count)
{
    int ports;
    const struct port *p = exec_inputs(m, &ports);
    json_t *dims = json_object();
    for (int i = 0; i < ports; i++)
        for (int k = 0; k < count; k++)
            for (int d = 1; strcmp(p[i].name, inputs[k].name) == 0 && d < p[i].shape.rank; d++) {
                char key[TENSOR_NAME_MAX + 16];
                (void)snprintf(key, sizeof(key), "%s.%d", p[i].name, d);
                if (p[i].shape.dims[d] < 0 && inputs[k].tensor.shape.rank == p[i].shape.rank)
                    json_object_set_new(dims, key, json_integer(inputs[k].tensor.shape.dims[d]));
            }
    json_object_set_new(c->dims, digest, dims);
}

static bool run_all(struct checking *c, struct exec_module *m, const struct question_run *q,
                    struct called *ret)
{
    struct named_tensor inputs[CHECK_PORTS_MAX];
    const struct port *ports = exec_outputs(m, &ret->count);
    size_t count = (size_t)ret->count;
    ret->ports = calloc(count + 1, sizeof(*ports));
    ret->tensors = calloc(CHECK_RUNS * count + 1, sizeof(*ret->tensors));
    if (!ret->ports || !ret->tensors)
        return err_set(c->e, ERR_MEMORY, "check: no memory");
    memcpy(ret->ports, ports, count * sizeof(*ports));
    for (int run = 0; run < CHECK_RUNS; run++) {
        for (int i = 0; i < q->ref_count; i++)
            if (!read_ref(c, &q->refs[i], run, &inputs[i]))
                return false;
        if (run == 0)
            note_dims(c, q->module.hex, m, inputs, q->ref_count);
        if (!exec_run(m, inputs, q->ref_count, NULL, ret->tensors + (size_t)run * count, c->e))
            return false;
    }
    return true;
}

/* Loads the module of a call or a reference, runs it on all inputs, and lets it go. */
static bool run_module(struct checking *c, const struct question_run *q, struct called *ret)
{
    const char *digest = q->module.hex;
    char *folder;
    struct exec_module *m;
    if (!node_fetch(c->node, digest, c->e) ||
        !blobs_module_folder(c->node->blobs, digest, &folder, c->e))
        return false;
    bool ok = exec_load(c->exec, folder, digest, &m, c->e);
    free(folder);
    if (ok) {
        ok = run_all(c, m, q, ret);
        exec_unload(m);
    }
    return ok || err_prefix(c->e, "module %.12s", digest);
}

static void clear_called(struct called *x)
{
    for (int i = 0; x->tensors && i < CHECK_RUNS * x->count; i++)
        tensor_clear(&x->tensors[i]);
    free(x->tensors);
    free(x->ports);
    *x = (struct called){0};
}

/* ---- comparing ------------------------------------------------------------------------------ */

/* The largest difference; infinite where shapes or kinds differ or something is no number. */
static double difference(const struct tensor *a, const struct tensor *b)
{
    double worst = 0;
    if (tensor_equal(a, b))
        return 0;
    if (a->dtype != b->dtype || !shape_equal(&a->shape, &b->shape) ||
        (a->dtype != DT_F32 && a->dtype != DT_F64))
        return INFINITY;
    for (size_t i = 0; i < shape_count(&a->shape); i++) {
        double x = a->dtype == DT_F32 ? (double)((float *)a->data)[i] : ((double *)a->data)[i];
        double y = b->dtype == DT_F32 ? (double)((float *)b->data)[i] : ((double *)b->data)[i];
        double d = fabs(x - y);
        if (isnan(x) && isnan(y))
            continue;
        worst = isnan(d) ? INFINITY : d > worst ? d : worst;
    }
    return worst > 0 ? worst : 1e-45; /* other bits of the same numbers: of zeros, of NaNs */
}

static bool compare_output(struct checking *c, const struct called *whole,
                           const struct question_ref *r)
{
    const char *name = r->port;
    double worst = 0;
    int index = 0;
    while (index < whole->count && strcmp(whole->ports[index].name, name) != 0)
        index++;
    if (index == whole->count)
        return err_set(c->e, ERR_INVALID, "check: there is no output '%.60s'", name);
    for (int run = 0; run < CHECK_RUNS; run++) {
        const struct tensor *part;
        if (!read_output(c, r, run, &part))
            return false;
        double d = difference(&whole->tensors[run * whole->count + index], part);
        worst = d > worst ? d : worst;
    }
    json_array_append_new(c->outputs, json_pack("{s:s,s:b,s:f}", "name", name, "equal", worst == 0,
                                                "difference", isfinite(worst) ? worst : -1.0));
    return true;
}

static bool compare(struct checking *c, const struct question_run *reference)
{
    struct called whole = {0};
    bool ok = run_module(c, reference, &whole);
    for (int i = 0; ok && i < reference->output_count; i++)
        ok = compare_output(c, &whole, &reference->outputs[i]);
    clear_called(&whole);
    return ok;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static bool make_exec(struct checking *c)
{
    const struct node *n = c->node;
    char *modules = text_format("%s/modules", n->data_dir);
    char *prepared = text_format("%s/prepared", n->data_dir);
    struct exec_options o = {.runtime_path = n->runtime_path,
                             .runner_path = n->runner_path,
                             .modules_dir = modules,
                             .prepared_dir = prepared,
                             .threads = n->options.threads,
                             .lanes = 1};
    bool ok = modules && prepared ? exec_create(EXEC_RUNNER, &o, &c->exec, c->e)
                                  : err_set(c->e, ERR_MEMORY, "check: no memory");
    free(modules);
    free(prepared);
    return ok;
}

static bool check(struct checking *c)
{
    const struct question *q = c->question;
    if (!make_inputs(c) || !make_exec(c))
        return false;
    c->calls = calloc((size_t)q->call_count + 1, sizeof(*c->calls));
    if (!c->calls)
        return err_set(c->e, ERR_MEMORY, "check: no memory");
    for (int i = 0; i < q->call_count; i++, c->call_count++)
        if (!run_module(c, &q->calls[i], &c->calls[i])) {
            c->call_count++; /* what it had made is cleared */
            return false;
        }
    for (int i = 0; i < q->reference_count; i++)
        if (!compare(c, &q->references[i]))
            return false;
    return true;
}

static void clear_checking(struct checking *c)
{
    for (int i = 0; i < c->call_count; i++)
        clear_called(&c->calls[i]);
    for (int run = 0; c->inputs && run < CHECK_RUNS; run++)
        for (int i = 0; i < CHECK_PORTS_MAX; i++)
            tensor_clear(&c->inputs[run][i].tensor);
    free(c->calls);
    free(c->inputs);
    exec_destroy(c->exec);
    json_decref(c->outputs);
    json_decref(c->dims);
}

void node_handle_check(struct net_request *r, void *node)
{
    struct node *n = node;
    struct err e = {0};
    size_t size;
    const void *data = net_request_body(r, &size);
    json_t *o = json_parse("check", data, size, &e), *answer = NULL;
    struct question q = {0};
    bool ok = o && question_read(o, &q, &e);
    json_decref(o);
    struct checking c = {
        .node = n, .question = &q, .outputs = json_array(), .dims = json_object(), .e = &e};
    /* A sweep would take modules that no table names yet, and memory for one such thing is enough. */
    (void)pthread_mutex_lock(&n->measure_lock);
    ok = ok && (n->options.exec_kind == EXEC_FAKE || check(&c));
    if (ok)
        answer = json_pack("{s:O,s:O}", "outputs", c.outputs, "dims", c.dims);
    clear_checking(&c);
    (void)pthread_mutex_unlock(&n->measure_lock);
    question_clear(&q);
    if (ok)
        net_reply_json(r, 200, answer);
    else
        net_reply_err(r, &e);
}
