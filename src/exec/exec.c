/* exec.c - what the back ends have in common: options, lanes, queue, checks of inputs.
 *
 * Lanes.  A run takes a lane number or waits for one; who waits stands in a list, in order of
 * coming, and the one who gives a lane back hands it to the first.  `lock` guards the list, the
 * lanes and the counters; it is never held while a module runs or loads, nor while a cancel watch
 * is put or taken away (watches take it). */
#include "exec/exec.h"

#include "base/clock.h"
#include "base/num.h"
#include "base/sync.h"
#include "exec/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define QUEUE_DEFAULT 64
#define LANE_NONE (-1)

struct waiter {
    struct waiter *next;
    struct exec *exec;
    pthread_cond_t cond;
    int lane;
    bool stop;
};

struct exec {
    enum exec_kind kind;
    struct exec_options options; /* complete; texts owned */
    struct backend *backend;

    struct monitor lock;
    struct waiter *first, **end; /* who waits for a lane */
    int waiting, running, modules;
    bool taken[EXEC_LANES_MAX];
};

struct exec_module {
    struct exec *exec;
    void *module;
    struct module_info info;
    int users; /* runs under way, under the exec's lock */
};

const char *exec_kind_name(enum exec_kind kind)
{
    static const char *const names[] = {"runner", "local", "fake"};
    return (size_t)kind < ARRAY_LEN(names) ? names[kind] : "unknown";
}

/* ---- what is known of a module --------------------------------------------------------------- */

bool info_alloc(struct module_info *info, int inputs, int outputs, struct err *e)
{
    /* One more than needed: calloc(0) may give NULL. */
    info->inputs = calloc((size_t)inputs + 1, sizeof(*info->inputs));
    info->outputs = calloc((size_t)outputs + 1, sizeof(*info->outputs));
    info->dims = calloc((size_t)inputs + 1, sizeof(*info->dims));
    info->input_count = inputs;
    info->output_count = outputs;
    if (info->inputs && info->outputs && info->dims)
        return true;
    info_clear(info);
    return err_set(e, ERR_MEMORY, "module: no memory for its ports");
}

void info_clear(struct module_info *info)
{
    free(info->inputs);
    free(info->outputs);
    free(info->dims);
    *info = (struct module_info){0};
}

/* ---- options --------------------------------------------------------------------------------- */

static bool check_number(const char *name, int value, int max, struct err *e)
{
    if (value >= 0 && value <= max)
        return true;
    return err_set(e, ERR_INVALID, "exec: %s = %d, allowed are 0 to %d", name, value, max);
}

int threads_of(const struct exec_options *o)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int lanes = o->lanes > 0 ? o->lanes : 1;
    if (o->threads > 0)
        return o->threads;
    return cores > lanes ? (int)num_min((size_t)(cores / lanes), EXEC_THREADS_MAX) : 1;
}

static bool copy_text(const char **text, struct err *e)
{
    if (*text && !(*text = strdup(*text)))
        return err_set(e, ERR_MEMORY, "exec: no memory");
    return true;
}

static void free_options(struct exec_options *o)
{
    free((char *)(uintptr_t)o->runtime_path);
    free((char *)(uintptr_t)o->runner_path);
    free((char *)(uintptr_t)o->modules_dir);
    free((char *)(uintptr_t)o->prepared_dir);
}

static bool take_options(struct exec_options *to, const struct exec_options *o, struct err *e)
{
    if (!check_number("threads", o->threads, EXEC_THREADS_MAX, e) ||
        !check_number("lanes", o->lanes, EXEC_LANES_MAX, e) ||
        !check_number("queue", o->queue, EXEC_QUEUE_MAX, e))
        return false;
    *to = *o;
    to->lanes = o->lanes ? o->lanes : 1;
    to->queue = o->queue ? o->queue : QUEUE_DEFAULT;
    to->threads = threads_of(o);
    const char **texts[] = {&to->runtime_path, &to->runner_path, &to->modules_dir,
                            &to->prepared_dir};
    bool ok = true;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (!ok)
            *texts[i] = NULL;
        else
            ok = copy_text(texts[i], e);
    if (!ok)
        free_options(to);
    return ok;
}

/* ---- create, destroy ------------------------------------------------------------------------- */

static bool create_backend(struct exec *x, struct err *e)
{
    switch (x->kind) {
    case EXEC_RUNNER:
        return runner_create(&x->options, &x->backend, e);
    case EXEC_LOCAL:
        return local_create(&x->options, &x->backend, e);
    case EXEC_FAKE:
        return fake_create(&x->options, &x->backend, e);
    }
    return err_set(e, ERR_INVALID, "exec: kind %d is not known", (int)x->kind);
}

bool exec_create(enum exec_kind kind, const struct exec_options *o, struct exec **ret,
                 struct err *e)
{
    static const struct exec_options none;
    struct exec *x = calloc(1, sizeof(*x));
    if (!x)
        return err_set(e, ERR_MEMORY, "exec: no memory");
    x->kind = kind;
    x->end = &x->first;
    if (!take_options(&x->options, o ? o : &none, e)) {
        free(x);
        return false;
    }
    monitor_init(&x->lock);
    if (!create_backend(x, e)) {
        exec_destroy(x);
        return false;
    }
    *ret = x;
    return true;
}

void exec_destroy(struct exec *x)
{
    if (!x)
        return;
    if (x->backend)
        x->backend->ops->destroy(x->backend);
    monitor_destroy(&x->lock);
    free_options(&x->options);
    free(x);
}

struct exec_status exec_status(struct exec *x)
{
    struct exec_status s = {0};
    x->backend->ops->status(x->backend, &s);
    monitor_lock(&x->lock);
    s.running = x->running;
    s.waiting = x->waiting;
    s.modules = x->modules;
    monitor_unlock(&x->lock);
    return s;
}

/* ---- modules --------------------------------------------------------------------------------- */

static bool count_module(struct exec *x, struct err *e)
{
    monitor_lock(&x->lock);
    bool room = x->modules < EXEC_MODULES_MAX;
    if (room)
        x->modules++;
    monitor_unlock(&x->lock);
    return room || err_set(e, ERR_TOO_LARGE, "exec: %d modules are loaded, no more are allowed",
                           EXEC_MODULES_MAX);
}

static void uncount_module(struct exec *x)
{
    monitor_lock(&x->lock);
    x->modules--;
    monitor_unlock(&x->lock);
}

bool exec_load(struct exec *x, const char *folder, const char *digest, struct exec_module **ret,
               struct err *e)
{
    if (!digest_valid(digest))
        return err_set(e, ERR_INVALID, "module: '%.70s' is not a digest (64 lower-case hex digits)",
                       digest);
    if (!folder || !*folder)
        return err_set(e, ERR_INVALID, "module %.12s: no folder", digest);
    if (!count_module(x, e))
        return false;
    struct exec_module *m = calloc(1, sizeof(*m));
    bool ok = m || err_set(e, ERR_MEMORY, "module: no memory");
    ok = ok && x->backend->ops->load(x->backend, folder, digest, &m->module, &m->info, e);
    if (!ok) {
        err_prefix(e, "module %.12s", digest);
        uncount_module(x);
        if (m)
            info_clear(&m->info);
        free(m);
        return false;
    }
    m->exec = x;
    *ret = m;
    return true;
}

void exec_unload(struct exec_module *m)
{
    if (!m)
        return;
    struct exec *x = m->exec;
    monitor_lock(&x->lock);
    while (m->users > 0)
        (void)monitor_wait(&x->lock, CLOCK_NEVER);
    monitor_unlock(&x->lock);
    x->backend->ops->unload(x->backend, m->module);
    uncount_module(x);
    info_clear(&m->info);
    free(m);
}

const struct port *exec_inputs(const struct exec_module *m, int *count)
{
    *count = m->info.input_count;
    return m->info.inputs;
}

const struct port *exec_outputs(const struct exec_module *m, int *count)
{
    *count = m->info.output_count;
    return m->info.outputs;
}

/* ---- lanes ----------------------------------------------------------------------------------- */

static int free_lane(struct exec *x)
{
    for (int i = 0; i < x->options.lanes; i++)
        if (!x->taken[i])
            return i;
    return LANE_NONE;
}

static void wake_waiter(void *arg)
{
    struct waiter *w = arg;
    monitor_lock(&w->exec->lock);
    w->stop = true;
    (void)pthread_cond_signal(&w->cond);
    monitor_unlock(&w->exec->lock);
}

static void leave_queue(struct exec *x, struct waiter *w)
{
    for (struct waiter **p = &x->first; *p; p = &(*p)->next)
        if (*p == w) {
            *p = w->next;
            if (x->end == &w->next)
                x->end = p;
            return;
        }
}

/* Under the lock. */
static void put_in_queue(struct exec *x, struct waiter *w)
{
    w->next = NULL;
    *x->end = w;
    x->end = &w->next;
    x->waiting++;
}

/* Takes a lane at once if nobody waits, else joins the queue. False: the queue is full. */
static bool take_or_queue(struct exec *x, struct exec_module *m, struct waiter *w, struct err *e)
{
    int lane = x->first ? LANE_NONE : free_lane(x);
    if (lane == LANE_NONE && x->waiting >= x->options.queue)
        return err_set(e, ERR_BUSY, "run: %d runs wait already, no more are allowed", x->waiting);
    m->users++;
    w->lane = lane;
    if (lane == LANE_NONE) {
        put_in_queue(x, w);
    } else {
        x->taken[lane] = true;
        x->running++;
    }
    return true;
}

static void wait_in_queue(struct exec *x, struct waiter *w, struct cancel *cancel)
{
    struct cancel_watch watch = {.fired = wake_waiter, .arg = w};
    cancel_watch(cancel, &watch);
    monitor_lock(&x->lock);
    while (w->lane == LANE_NONE && !w->stop)
        (void)monitor_wait_on(&x->lock, &w->cond, CLOCK_NEVER);
    if (w->lane == LANE_NONE) {
        leave_queue(x, w);
        x->waiting--;
    }
    monitor_unlock(&x->lock);
    cancel_unwatch(cancel, &watch);
}

static void done_with(struct exec *x, struct exec_module *m)
{
    if (--m->users == 0)
        monitor_wake(&x->lock);
}

static bool enter_lane(struct exec_module *m, struct cancel *cancel, int *ret, struct err *e)
{
    struct exec *x = m->exec;
    struct waiter w = {.exec = x};
    condition_init(&w.cond);
    monitor_lock(&x->lock);
    bool ok = take_or_queue(x, m, &w, e);
    bool queued = ok && w.lane == LANE_NONE;
    monitor_unlock(&x->lock);
    if (queued)
        wait_in_queue(x, &w, cancel);
    (void)pthread_cond_destroy(&w.cond);
    if (ok && w.lane == LANE_NONE) {
        monitor_lock(&x->lock);
        done_with(x, m);
        monitor_unlock(&x->lock);
        return err_set(e, ERR_CANCELLED, "run: cancelled while it waited");
    }
    *ret = w.lane;
    return ok;
}

static void leave_lane(struct exec_module *m, int lane)
{
    struct exec *x = m->exec;
    monitor_lock(&x->lock);
    struct waiter *w = x->first;
    if (w) {
        leave_queue(x, w);
        x->waiting--;
        w->lane = lane;
        (void)pthread_cond_signal(&w->cond);
    } else {
        x->taken[lane] = false;
        x->running--;
    }
    done_with(x, m);
    monitor_unlock(&x->lock);
}

/* ---- running --------------------------------------------------------------------------------- */

static int find_port(const struct module_info *info, const char *name)
{
    for (int i = 0; i < info->input_count; i++)
        if (strcmp(info->inputs[i].name, name) == 0)
            return i;
    return -1;
}

static bool tensor_whole(const struct named_tensor *n, struct err *e)
{
    size_t bytes;
    if (!tensor_bytes(n->tensor.dtype, &n->tensor.shape, &bytes, e))
        return err_prefix(e, "input '%s'", n->name);
    if (bytes != n->tensor.bytes || (bytes > 0 && !n->tensor.data))
        return err_set(e, ERR_INVALID, "input '%s': %zu bytes, its shape needs %zu", n->name,
                       n->tensor.bytes, bytes);
    return true;
}

/* Inputs into the order of the ports; borrowed. */
static bool order_inputs(const struct module_info *info, const struct named_tensor *inputs,
                         int count, struct tensor *ret, struct err *e)
{
    bool seen[EXEC_PORTS_MAX] = {false};
    if (count < 0 || count > EXEC_PORTS_MAX)
        return err_set(e, ERR_INVALID, "run: %d inputs, at most %d", count, EXEC_PORTS_MAX);
    for (int i = 0; i < count; i++) {
        int at = find_port(info, inputs[i].name);
        if (at < 0)
            return err_set(e, ERR_INVALID, "input '%s': the module has none of that name",
                           inputs[i].name);
        if (seen[at])
            return err_set(e, ERR_INVALID, "input '%s': given twice", inputs[i].name);
        if (!tensor_whole(&inputs[i], e) || !tensor_fits(&inputs[i].tensor, &info->inputs[at], e))
            return false;
        seen[at] = true;
        ret[at] = inputs[i].tensor;
    }
    for (int i = 0; i < info->input_count; i++)
        if (!seen[i])
            return err_set(e, ERR_INVALID, "input '%s': is missing", info->inputs[i].name);
    return true;
}

bool exec_run(struct exec_module *m, const struct named_tensor *inputs, int count,
              struct cancel *cancel, struct tensor *outputs, struct err *e)
{
    struct tensor ordered[EXEC_PORTS_MAX];
    struct backend *b = m->exec->backend;
    int lane;
    if (!order_inputs(&m->info, inputs, count, ordered, e))
        return false;
    if (cancel_fired(cancel))
        return err_set(e, ERR_CANCELLED, "run: cancelled");
    if (!enter_lane(m, cancel, &lane, e))
        return false;
    if (m->info.output_count > 0)
        memset(outputs, 0, (size_t)m->info.output_count * sizeof(*outputs));
    bool ok = b->ops->run(b, m->module, &m->info, lane, ordered, cancel, outputs, e);
    leave_lane(m, lane);
    return ok;
}
