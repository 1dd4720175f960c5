/* runner_main.c - the runner: the process that has the runtime and runs strangers' models.
 *
 * Threads.  The first thread serves the control socket: loading and unloading.  One thread per lane
 * serves that lane's socket: a run is received, computed and answered on one thread, so a call costs
 * two switches between processes and nothing else.  One thread takes cancels.  All limits of the
 * sandbox are in place before the first of them starts.
 *
 * `lock` guards the table of modules and what each lane is running; it is not held while a model
 * loads or runs.
 *
 * Memory.  What a run frees stays with the allocator, so that the next one doesn't have to get its
 * pages from the kernel again.  When a lane has waited REST_S in vain it goes back: a device at rest
 * holds its modules and nothing else.  Nothing is added to a run for that: the wait is the socket's own
 * timeout, set when the first call after a rest has been answered.
 *
 * The end: the other side of the control socket closes.  Runs are then cancelled and threads
 * joined; a parent that will not wait kills. */
#include "exec/exec.h"

#include "base/clock.h"
#include "base/heap.h"
#include "base/sync.h"
#include "exec/channel.h"
#include "exec/sandbox.h"
#include "exec/session.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define OOM_SCORE "500\n" /* of 1000: killed long before the process that answers requests */
#define REST_S 1          /* without a run: what runs have freed goes back to the system */

struct runner_module {
    struct session *session;
    struct module_info info;
    int users;
};

struct lane {
    struct runner *runner;
    int fd;
    struct packet packet;
    struct message *message;
    pthread_t thread;
    bool started;
    bool rested; /* its last wait was so long that freed memory went back; waits on for ever */
    /* under lock */
    uint64_t running, cancelled; /* ids; 0: none */
    struct cancel *cancel;
};

struct runner {
    const struct runtime *runtime;
    int control, signals;
    int threads;
    struct packet packet;
    struct message *message;
    pthread_t signal_thread;
    bool signal_started;
    int lane_count;
    struct lane *lanes;
    struct monitor lock;
    struct runner_module modules[EXEC_MODULES_MAX];
};

/* ---- answers --------------------------------------------------------------------------------- */

static bool answer(int fd, struct packet *p, struct message *m, const struct tensor *tensors,
                   struct err *e)
{
    return channel_send_tensors(fd, p, m, tensors, e);
}

static bool answer_failure(int fd, struct packet *p, struct message *m, uint64_t id,
                           const struct err *why, struct err *e)
{
    message_clear(m);
    message_start(m, MSG_FAIL);
    m->id = id;
    m->numbers[0] = (uint32_t)why->code;
    m->texts[0] = why->text;
    return answer(fd, p, m, NULL, e);
}

/* ---- lanes ----------------------------------------------------------------------------------- */

static struct runner_module *take_module(struct runner *r, uint32_t number, struct err *e)
{
    struct runner_module *m = number < EXEC_MODULES_MAX ? &r->modules[number] : NULL;
    monitor_lock(&r->lock);
    bool ok = m && m->session;
    if (ok)
        m->users++;
    monitor_unlock(&r->lock);
    if (!ok)
        err_set(e, ERR_NOT_FOUND, "runner: module %u is not loaded", number);
    return ok ? m : NULL;
}

static void give_module(struct runner *r, struct runner_module *m)
{
    monitor_lock(&r->lock);
    if (--m->users == 0)
        monitor_wake(&r->lock);
    monitor_unlock(&r->lock);
}

/* A cancel may have come before the run that it is for. */
static void begin_run(struct lane *l, uint64_t id, struct cancel *cancel)
{
    monitor_lock(&l->runner->lock);
    l->running = id;
    l->cancel = cancel;
    bool fired = l->cancelled == id;
    monitor_unlock(&l->runner->lock);
    if (fired)
        cancel_fire(cancel);
}

static void end_run(struct lane *l)
{
    monitor_lock(&l->runner->lock);
    l->running = 0;
    l->cancel = NULL;
    monitor_unlock(&l->runner->lock);
}

static bool check_inputs(const struct runner_module *m, const struct message *in,
                         const struct tensor *inputs, struct err *e)
{
    if (in->tensor_count != m->info.input_count)
        return err_set(e, ERR_INVALID, "runner: %d inputs, should be %d", in->tensor_count,
                       m->info.input_count);
    for (int i = 0; i < in->tensor_count; i++)
        if (!tensor_fits(&inputs[i], &m->info.inputs[i], e))
            return false;
    return true;
}

static bool run_module(struct lane *l, struct runner_module *m, struct tensor *inputs,
                       struct tensor *outputs, struct err *e)
{
    struct cancel *cancel = cancel_new();
    if (!cancel)
        return err_set(e, ERR_MEMORY, "runner: no memory");
    bool ok = check_inputs(m, l->message, inputs, e);
    if (ok) {
        begin_run(l, l->message->id, cancel);
        ok = session_run(m->session, &m->info, inputs, cancel, outputs, e);
        end_run(l);
    }
    cancel_unref(cancel);
    return ok;
}

static bool answer_run(struct lane *l, int count, const struct tensor *outputs, uint64_t id,
                       struct err *e)
{
    struct err why = {0};
    message_start(l->message, MSG_RESULT);
    l->message->id = id;
    bool ok = true;
    for (int i = 0; ok && i < count; i++)
        ok = message_add_tensor(l->message, outputs[i].dtype, &outputs[i].shape, &why);
    ok = ok && answer(l->fd, &l->packet, l->message, outputs, &why);
    if (ok)
        return true;
    return answer_failure(l->fd, &l->packet, l->message, id, &why, e);
}

static bool serve_run(struct lane *l, struct err *e)
{
    struct tensor inputs[EXEC_PORTS_MAX], outputs[EXEC_PORTS_MAX];
    struct err why = {0};
    uint64_t id = l->message->id;
    int out_count = 0;
    struct runner_module *m = NULL;
    bool ok = channel_take_tensors(&l->packet, l->message, false, inputs, &why) &&
              (m = take_module(l->runner, l->message->numbers[0], &why));
    if (ok) {
        out_count = m->info.output_count;
        memset(outputs, 0, (size_t)out_count * sizeof(*outputs));
        ok = run_module(l, m, inputs, outputs, &why);
    }
    channel_done(&l->packet); /* inputs are views */
    bool sent = ok ? answer_run(l, out_count, outputs, id, e)
                   : answer_failure(l->fd, &l->packet, l->message, id, &why, e);
    for (int i = 0; ok && i < out_count; i++)
        tensor_clear(&outputs[i]);
    if (m)
        give_module(l->runner, m);
    return sent;
}

/* 0: for ever. */
static void wait_at_most(const struct lane *l, int seconds)
{
    struct timeval t = {.tv_sec = seconds};
    (void)setsockopt(l->fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
}

/* While another lane runs it is left to that one. */
static void give_back(struct runner *r)
{
    bool running = false;
    monitor_lock(&r->lock);
    for (int i = 0; i < r->lane_count; i++)
        running = running || r->lanes[i].running != 0;
    monitor_unlock(&r->lock);
    if (!running)
        heap_give_back();
}

static bool next_call(struct lane *l, struct err *e)
{
    if (channel_receive(l->fd, &l->packet, l->message, e))
        return true;
    if (e->code != ERR_TIMEOUT)
        return false;
    l->rested = true;
    wait_at_most(l, 0);
    give_back(l->runner);
    return channel_receive(l->fd, &l->packet, l->message, e);
}

static void *lane_run(void *arg)
{
    struct lane *l = arg;
    struct err e = {0};
    l->rested = true;
    while (next_call(l, &e)) {
        if (l->message->kind != MSG_RUN || !serve_run(l, &e))
            break;
        packet_close_fds(&l->packet);
        if (l->rested)
            wait_at_most(l, REST_S);
        l->rested = false;
    }
    return NULL;
}

static void *signals_run(void *arg)
{
    struct runner *r = arg;
    struct packet p;
    struct err e = {0};
    struct message *m = calloc(1, sizeof(*m));
    if (m && packet_init(&p, &e)) {
        while (channel_receive(r->signals, &p, m, &e) && m->kind == MSG_CANCEL) {
            if (m->numbers[0] >= (uint32_t)r->lane_count)
                continue;
            struct lane *l = &r->lanes[m->numbers[0]];
            monitor_lock(&r->lock);
            l->cancelled = m->id;
            struct cancel *c = l->running == m->id ? cancel_ref(l->cancel) : NULL;
            monitor_unlock(&r->lock);
            cancel_fire(c);
            cancel_unref(c);
        }
        packet_clear(&p);
    }
    free(m);
    return NULL;
}

/* ---- control --------------------------------------------------------------------------------- */

static bool load(struct runner *r, struct message *m, struct err *e)
{
    uint32_t number = m->numbers[0];
    struct session *s = NULL;
    struct module_info info = {0};
    if (number >= EXEC_MODULES_MAX || r->modules[number].session)
        return err_set(e, ERR_INVALID, "runner: module number %u is in use or over %d", number,
                       EXEC_MODULES_MAX - 1);
    if (!session_open(r->runtime, m->texts[0], (int)m->numbers[1], r->threads, NULL, &s, &info,
                      e)) {
        info_clear(&info);
        return false;
    }
    size_t size; /* texts of m are used up, so its packet may be written over */
    message_start(m, MSG_LOADED);
    m->numbers[0] = (uint32_t)(info.load_ms * 1000);
    m->info = info;
    if (!message_encode(m, NULL, r->packet.data, &size, e)) {
        session_close(s);
        return false;
    }
    monitor_lock(&r->lock);
    r->modules[number].info = info;
    r->modules[number].session = s;
    monitor_unlock(&r->lock);
    return true;
}

/* A run's answer may be away before its lane has let go of the module: waits for that. */
static bool unload(struct runner *r, struct message *m, struct err *e)
{
    uint32_t number = m->numbers[0];
    struct session *s = NULL;
    struct module_info info = {0};
    monitor_lock(&r->lock);
    if (number < EXEC_MODULES_MAX) {
        while (r->modules[number].users > 0)
            (void)monitor_wait(&r->lock, CLOCK_NEVER);
        s = r->modules[number].session;
        info = r->modules[number].info;
        r->modules[number] = (struct runner_module){0};
    }
    monitor_unlock(&r->lock);
    session_close(s);
    info_clear(&info);
    message_start(m, MSG_DONE);
    return s || err_set(e, ERR_INVALID, "runner: module %u is not loaded", number);
}

static bool prepare(struct runner *r, struct message *m, struct err *e)
{
    bool ok = session_open(r->runtime, m->texts[0], ORT_LEVEL_ALL, r->threads, m->texts[1], NULL,
                           NULL, e);
    message_start(m, MSG_DONE);
    return ok;
}

static bool serve_control(struct runner *r, struct err *e)
{
    struct message *m = r->message;
    struct err why = {0};
    uint64_t id = m->id;
    bool ok;
    switch (m->kind) {
    case MSG_LOAD:
        ok = load(r, m, &why);
        break;
    case MSG_UNLOAD:
        ok = unload(r, m, &why);
        break;
    case MSG_PREPARE:
        ok = prepare(r, m, &why);
        break;
    default:
        return err_set(e, ERR_INVALID, "runner: message %d on the control socket", (int)m->kind);
    }
    m->id = id;
    bool sent = ok ? answer(r->control, &r->packet, m, NULL, e)
                   : answer_failure(r->control, &r->packet, m, id, &why, e);
    m->info = (struct module_info){0}; /* the module's */
    return sent;
}

/* ---- start and end --------------------------------------------------------------------------- */

/* Best effort, each of them: a runner without them still works. */
static void calm_down(void)
{
    struct rlimit none = {0};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)signal(SIGPIPE, SIG_IGN);
    heap_setup();
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = write(fd, OOM_SCORE, strlen(OOM_SCORE));
        (void)n;
        (void)close(fd);
    }
}

static bool take_sockets(struct runner *r, struct err *e)
{
    struct packet *p = &r->packet;
    if (p->fd_count < 2 || p->fd_count != (int)r->message->numbers[1] + 1)
        return err_set(e, ERR_INVALID, "runner: %d sockets, should be %u", p->fd_count,
                       r->message->numbers[1] + 1);
    r->lane_count = p->fd_count - 1;
    r->lanes = calloc((size_t)r->lane_count, sizeof(*r->lanes));
    if (!r->lanes)
        return err_set(e, ERR_MEMORY, "runner: no memory");
    r->signals = p->fds[0];
    for (int i = 0; i < r->lane_count; i++)
        r->lanes[i] = (struct lane){.runner = r, .fd = p->fds[i + 1]};
    p->fd_count = 0;
    return true;
}

static bool open_up(struct runner *r, int *landlock, struct err *e)
{
    const struct message *m = r->message;
    char *runtime = strdup(m->texts[0]);
    struct sandbox_paths paths = {.read = {m->texts[1], m->texts[2]}, .write = m->texts[3]};
    r->threads = (int)m->numbers[0];
    bool ok = r->threads >= 1 && r->threads <= EXEC_THREADS_MAX;
    if (!ok)
        err_set(e, ERR_INVALID, "runner: %d threads, allowed are 1 to %d", r->threads,
                EXEC_THREADS_MAX);
    else if (!runtime)
        ok = err_set(e, ERR_MEMORY, "runner: no memory");
    ok = ok && runtime_open(runtime, e) && sandbox_enter(&paths, landlock, e) &&
         runtime_start(&r->runtime, e) && session_warm_up(r->runtime, e);
    free(runtime);
    return ok;
}

static bool start_lane(struct lane *l, struct err *e)
{
    l->message = calloc(1, sizeof(*l->message));
    if (!l->message)
        return err_set(e, ERR_MEMORY, "runner: no memory");
    if (!packet_init(&l->packet, e) || !thread_start(&l->thread, "lane", lane_run, l, e))
        return false;
    l->started = true;
    return true;
}

static bool start_threads(struct runner *r, struct err *e)
{
    for (int i = 0; i < r->lane_count; i++)
        if (!start_lane(&r->lanes[i], e))
            return false;
    r->signal_started = thread_start(&r->signal_thread, "signals", signals_run, r, e);
    return r->signal_started;
}

static bool greet(struct runner *r, struct err *e)
{
    struct err why = {0};
    int landlock = 0;
    if (!channel_receive(r->control, &r->packet, r->message, e))
        return false;
    if (r->message->kind != MSG_HELLO)
        return err_set(e, ERR_INVALID, "runner: no greeting");
    bool ok = take_sockets(r, &why) && open_up(r, &landlock, &why) && start_threads(r, &why);
    if (!ok) {
        (void)answer_failure(r->control, &r->packet, r->message, 0, &why, e);
        return err_set(e, why.code, "%s", why.text);
    }
    message_start(r->message, MSG_READY);
    r->message->texts[0] = r->runtime->version;
    r->message->numbers[0] = (uint32_t)landlock;
    r->message->numbers[1] = 1;
    return answer(r->control, &r->packet, r->message, NULL, e);
}

static void stop_lanes(struct runner *r)
{
    for (int i = 0; i < r->lane_count; i++) {
        struct lane *l = &r->lanes[i];
        (void)shutdown(l->fd, SHUT_RDWR);
        monitor_lock(&r->lock);
        struct cancel *c = cancel_ref(l->cancel);
        monitor_unlock(&r->lock);
        cancel_fire(c);
        cancel_unref(c);
        if (l->started)
            (void)pthread_join(l->thread, NULL);
        packet_clear(&l->packet);
        free(l->message);
        (void)close(l->fd);
    }
    if (r->lanes) {
        (void)shutdown(r->signals, SHUT_RDWR);
        if (r->signal_started)
            (void)pthread_join(r->signal_thread, NULL);
        (void)close(r->signals);
    }
    free(r->lanes);
}

int exec_runner_main(int fd)
{
    struct err e = {0};
    calm_down();
    struct runner *r = calloc(1, sizeof(*r));
    if (!r)
        return 1;
    r->control = fd;
    monitor_init(&r->lock);
    r->message = calloc(1, sizeof(*r->message));
    bool ok = r->message && packet_init(&r->packet, &e) && greet(r, &e);
    while (ok && channel_receive(r->control, &r->packet, r->message, &e))
        if (!serve_control(r, &e))
            break;
    stop_lanes(r);
    for (int i = 0; i < EXEC_MODULES_MAX; i++) {
        session_close(r->modules[i].session);
        info_clear(&r->modules[i].info);
    }
    packet_clear(&r->packet);
    free(r->message);
    monitor_destroy(&r->lock);
    free(r);
    return ok ? 0 : 1;
}
