/* link.c - a runner process and the sockets to it.
 *
 * Each lane has a socket of its own, so the thread that runs a module sends, waits and receives
 * itself; no other thread stands between.  Counted: who uses a link holds a reference, so that a
 * new process can be started while old calls still notice that theirs has ended. */
#include "exec/link.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/num.h"
#include "base/sync.h"
#include "exec/memory.h"
#include "exec/prepare.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUNNER_FD 3
#define END_MS 1000 /* for a process whose sockets were closed */
#define TICK_MS 500 /* how often a waiting run looks whether it has been cancelled for long */
#define ENV_MAX 16

struct lane_link {
    int fd;
    struct packet packet;
    struct message *message;
};

struct link {
    atomic_int refs;
    atomic_bool ended; /* killed by us, or seen to have ended */
    pid_t pid;
    int pidfd;
    int landlock;
    char version[EXEC_VERSION_MAX];
    int lane_count;
    struct lane_link lanes[EXEC_LANES_MAX];
    atomic_uint_fast64_t next_id;

    pthread_mutex_t control_lock; /* control, packet, message: one request at a time */
    int control;
    struct packet packet;
    struct message *message;

    pthread_mutex_t signal_lock;
    int signals;
    struct packet signal_packet;
};

/* ---- starting the process -------------------------------------------------------------------- */

/* glibc's heap for runs.  They get and give back the same few MiB-sized blocks again and again, aligned,
 * of which small remainders are cut off.  Kept in lists for small blocks, these remainders would part
 * the free space, no block would fit where it lay before, and the heap would grow to several times what
 * a run needs: no such lists.  Blocks of up to 32 MiB come from the heap, and its top stays while runs
 * follow one another: no run has to get its pages anew.  (The numbers are glibc's limits.) */
#define HEAP_OF_RUNS                                                                               \
    "GLIBC_TUNABLES=glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0:"                            \
    "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=1073741824"

/* The runner's environment: nothing of ours but what libraries need to be found, and what the
 * sanitizers of a test build are told. */
static void fill_environment(char *env[ENV_MAX], char *sanitizer)
{
    static char mark[] = EXEC_RUNNER_MARK "=1", quiet[] = "ORT_DISABLE_TELEMETRY=1";
    static char language[] = "LANG=C.UTF-8", heap[] = HEAP_OF_RUNS;
    static const char *const kept[] = {"LD_LIBRARY_PATH=", "TSAN_OPTIONS=", "UBSAN_OPTIONS="};
    int n = 0;
    env[n++] = mark;
    env[n++] = quiet;
    env[n++] = language;
    env[n++] = heap;
    env[n++] = sanitizer;
    for (char **v = environ; *v; v++)
        for (size_t i = 0; i < ARRAY_LEN(kept) && n < ENV_MAX - 1; i++)
            if (strncmp(*v, kept[i], strlen(kept[i])) == 0)
                env[n++] = *v;
    env[n] = NULL;
}

static int spawn(const char *path, int control, pid_t *pid)
{
    char number[12], role[] = "runner", *env[ENV_MAX];
    /* The leak check at exit wants to trace its own process, which the sandbox forbids. */
    char sanitizer[512];
    const char *asan = getenv("ASAN_OPTIONS");
    (void)snprintf(sanitizer, sizeof(sanitizer), "ASAN_OPTIONS=%.400s%sdetect_leaks=0",
                   asan ? asan : "", asan ? ":" : "");
    (void)snprintf(number, sizeof(number), "%d", RUNNER_FD);
    char *name = strdup(path);
    char *argv[] = {name, role, number, NULL};
    fill_environment(env, sanitizer);
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    (void)posix_spawn_file_actions_init(&files);
    (void)posix_spawnattr_init(&attr);
    int r = name ? 0 : ENOMEM;
    r = r ? r : posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    r = r ? r : posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    r = r ? r : posix_spawn_file_actions_adddup2(&files, control, RUNNER_FD);
    r = r ? r : posix_spawn_file_actions_addclosefrom_np(&files, RUNNER_FD + 1);
    r = r ? r : posix_spawnattr_setsigmask(&attr, &none);
    r = r ? r : posix_spawnattr_setsigdefault(&attr, &all);
    r = r ? r : posix_spawnattr_setpgroup(&attr, 0); /* a terminal's Ctrl-C is for the parent */
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP;
    r = r ? r : posix_spawnattr_setflags(&attr, flags);
    r = r ? r : posix_spawn(pid, path, &files, &attr, argv, env);
    (void)posix_spawn_file_actions_destroy(&files);
    (void)posix_spawnattr_destroy(&attr);
    free(name);
    return r;
}

static bool start_process(struct link *l, const char *path, struct err *e)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return err_errno(e, ERR_INTERNAL, errno, "runner: socket pair");
    int r = spawn(path, pair[1], &l->pid);
    (void)close(pair[1]);
    l->control = pair[0];
    struct timeval patience = {.tv_sec = LINK_LOAD_S};
    if (r == 0 && setsockopt(l->control, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0)
        return err_errno(e, ERR_INTERNAL, errno, "runner: socket");
    if (r != 0) {
        l->pid = 0;
        return err_errno(e, ERR_INTERNAL, r, "runner '%s'", path);
    }
    l->pidfd = (int)syscall(SYS_pidfd_open, l->pid, 0);
    return l->pidfd >= 0 || err_errno(e, ERR_INTERNAL, errno, "runner: pidfd");
}

/* Makes the lanes' and the signals' sockets; theirs[] are the runner's ends. */
static bool make_sockets(struct link *l, int theirs[MESSAGE_FDS_MAX], int *count, struct err *e)
{
    struct timeval tick = {.tv_usec = TICK_MS * 1000};
    *count = 0;
    for (int i = 0; i <= l->lane_count; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
            return err_errno(e, ERR_INTERNAL, errno, "runner: socket pair");
        theirs[(*count)++] = pair[1];
        if (i == 0) {
            /* A cancel is sent while a token's lock is held: it must not wait for the runner. */
            l->signals = pair[0];
            if (fcntl(l->signals, F_SETFL, O_NONBLOCK) != 0)
                return err_errno(e, ERR_INTERNAL, errno, "runner: socket");
            continue;
        }
        struct lane_link *lane = &l->lanes[i - 1];
        lane->fd = pair[0];
        lane->message = calloc(1, sizeof(*lane->message));
        if (!lane->message)
            return err_set(e, ERR_MEMORY, "runner: no memory");
        if (!packet_init(&lane->packet, e))
            return false;
        if (setsockopt(lane->fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof(tick)) != 0)
            return err_errno(e, ERR_INTERNAL, errno, "runner: socket");
    }
    return true;
}

static bool send_hello(struct link *l, const struct link_options *o, struct err *e)
{
    int theirs[MESSAGE_FDS_MAX], count;
    struct message *m = l->message;
    bool ok = make_sockets(l, theirs, &count, e);
    message_start(m, MSG_HELLO);
    m->texts[0] = o->runtime_path;
    m->texts[1] = o->read_dir;
    m->texts[2] = o->prepared_dir;
    m->texts[3] = o->write_dir;
    m->numbers[0] = (uint32_t)o->threads;
    m->numbers[1] = (uint32_t)l->lane_count;
    ok = ok && message_encode(m, NULL, l->packet.data, &l->packet.size, e);
    if (ok) {
        memcpy(l->packet.fds, theirs, (size_t)count * sizeof(theirs[0]));
        l->packet.fd_count = count;
        ok = packet_send(l->control, &l->packet, e);
        l->packet.fd_count = 0;
    }
    for (int i = 0; i < count; i++)
        (void)close(theirs[i]);
    return ok;
}

/* The runner's FAIL as an error; its text and code are checked like everything from there. */
static bool failure(const struct message *m, struct err *e)
{
    uint32_t code = m->numbers[0];
    if (code == ERR_NONE || code >= ERR_CODE_COUNT)
        code = ERR_INTERNAL;
    return err_set(e, (enum err_code)code, "%s", m->texts[0]);
}

static bool wait_ready(struct link *l, struct err *e)
{
    struct pollfd p = {.fd = l->control, .events = POLLIN};
    int64_t deadline = clock_deadline_ms(LINK_START_MS);
    int r;
    do
        r = poll(&p, 1, (int)clock_left_ms(deadline, LINK_START_MS));
    while (r < 0 && errno == EINTR);
    if (r == 0)
        return err_set(e, ERR_TIMEOUT, "runner: is not ready after %d ms", LINK_START_MS);
    if (!channel_receive(l->control, &l->packet, l->message, e))
        return false;
    if (l->message->kind == MSG_FAIL)
        return failure(l->message, e);
    if (l->message->kind != MSG_READY || strlen(l->message->texts[0]) >= sizeof(l->version))
        return err_set(e, ERR_GONE, "runner: a wrong first answer");
    memcpy(l->version, l->message->texts[0], strlen(l->message->texts[0]) + 1);
    l->landlock = (int)(l->message->numbers[0] & 0xff);
    return true;
}

bool link_start(const struct link_options *o, struct link **ret, struct err *e)
{
    if (getenv(EXEC_RUNNER_MARK))
        return err_set(e, ERR_INVALID, "runner: not started from within a runner");
    if (!o->runner_path || !strchr(o->runner_path, '/'))
        return err_set(e, ERR_INVALID, "runner: no path of its program (with a '/') was given");
    struct link *l = calloc(1, sizeof(*l));
    if (!l)
        return err_set(e, ERR_MEMORY, "runner: no memory");
    atomic_init(&l->refs, 1);
    l->control = l->signals = l->pidfd = -1;
    l->lane_count = o->lanes;
    for (int i = 0; i < EXEC_LANES_MAX; i++)
        l->lanes[i].fd = -1;
    (void)pthread_mutex_init(&l->control_lock, NULL);
    (void)pthread_mutex_init(&l->signal_lock, NULL);
    l->message = calloc(1, sizeof(*l->message));
    bool ok = l->message || err_set(e, ERR_MEMORY, "runner: no memory");
    ok = ok && packet_init(&l->packet, e) && packet_init(&l->signal_packet, e) &&
         start_process(l, o->runner_path, e) && send_hello(l, o, e) && wait_ready(l, e);
    if (ok)
        *ret = l;
    else
        link_unref(l);
    return ok;
}

/* ---- the end --------------------------------------------------------------------------------- */

struct link *link_ref(struct link *l)
{
    atomic_fetch_add(&l->refs, 1);
    return l;
}

void link_kill(struct link *l)
{
    atomic_store(&l->ended, true);
    if (l->pidfd >= 0)
        (void)syscall(SYS_pidfd_send_signal, l->pidfd, SIGKILL, NULL, 0);
}

bool link_ended(const struct link *l)
{
    return atomic_load(&l->ended);
}

static bool wait_end(const struct link *l, int wake_fd, int timeout_ms)
{
    struct pollfd p[2] = {{.fd = l->pidfd, .events = POLLIN}, {.fd = wake_fd, .events = POLLIN}};
    int r;
    do
        r = poll(p, wake_fd >= 0 ? 2 : 1, timeout_ms);
    while (r < 0 && errno == EINTR);
    return p[0].revents != 0;
}

bool link_watch(const struct link *l, int wake_fd)
{
    return wait_end(l, wake_fd, -1);
}

static void close_fd(int fd)
{
    if (fd >= 0)
        (void)close(fd);
}

static void end_process(struct link *l)
{
    if (l->pid <= 0)
        return;
    if (l->pidfd < 0 || !wait_end(l, -1, END_MS)) {
        /* Not reaped yet, so the number is still its own. */
        (void)kill(l->pid, SIGKILL);
    }
    while (waitpid(l->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}

void link_unref(struct link *l)
{
    if (!l || atomic_fetch_sub(&l->refs, 1) != 1)
        return;
    close_fd(l->control);
    close_fd(l->signals);
    for (int i = 0; i < l->lane_count; i++)
        close_fd(l->lanes[i].fd);
    end_process(l);
    close_fd(l->pidfd);
    for (int i = 0; i < l->lane_count; i++) {
        packet_clear(&l->lanes[i].packet);
        free(l->lanes[i].message);
    }
    packet_clear(&l->packet);
    packet_clear(&l->signal_packet);
    free(l->message);
    (void)pthread_mutex_destroy(&l->control_lock);
    (void)pthread_mutex_destroy(&l->signal_lock);
    free(l);
}

pid_t link_pid(const struct link *l)
{
    return l->pid;
}

const char *link_version(const struct link *l)
{
    return l->version;
}

int link_landlock(const struct link *l)
{
    return l->landlock;
}

/* ---- requests -------------------------------------------------------------------------------- */

/* A runner that talks nonsense can't be trusted with anything: it is ended. */
static bool nonsense(struct link *l, struct err *e)
{
    link_kill(l);
    return err_set(e, ERR_GONE, "runner: gave a wrong answer and was ended");
}

/* Its sockets close before a dying process has ended: nobody shall be given to it meanwhile. */
static bool lost(struct link *l, const struct err *why, struct err *e)
{
    if (why->code == ERR_GONE)
        link_kill(l);
    return err_set(e, why->code, "%s", why->text);
}

/* Ends a process whose answer breaks the rules. */
static bool receive_answer(struct link *l, int fd, struct packet *p, struct message *m,
                           struct err *e)
{
    struct err why = {0};
    if (channel_receive(fd, p, m, &why))
        return true;
    if (why.code == ERR_INVALID || why.code == ERR_TOO_LARGE)
        return nonsense(l, e);
    return lost(l, &why, e);
}

/* Under control_lock: l->message is sent; afterwards it holds the answer of the wanted kind. */
static bool ask(struct link *l, enum message_kind want, struct err *e)
{
    uint64_t id = atomic_fetch_add(&l->next_id, 1) + 1;
    struct err why = {0};
    l->message->id = id;
    if (!channel_send(l->control, &l->packet, l->message, NULL, -1, &why))
        return lost(l, &why, e);
    if (!receive_answer(l, l->control, &l->packet, l->message, &why)) {
        if (why.code == ERR_TIMEOUT)
            link_kill(l);
        return err_set(e, why.code, "%s", why.text);
    }
    if (l->message->id != id)
        return nonsense(l, e);
    if (l->message->kind == MSG_FAIL)
        return failure(l->message, e);
    return l->message->kind == want || nonsense(l, e);
}

bool link_load(struct link *l, uint32_t number, const char *folder, int level,
               struct module_info *info, struct err *e)
{
    (void)pthread_mutex_lock(&l->control_lock);
    message_start(l->message, MSG_LOAD);
    l->message->texts[0] = folder;
    l->message->numbers[0] = number;
    l->message->numbers[1] = (uint32_t)level;
    bool ok = ask(l, MSG_LOADED, e);
    if (ok) {
        *info = l->message->info;
        info->load_ms = l->message->numbers[0] / 1000.0;
        l->message->info = (struct module_info){0};
    }
    message_clear(l->message);
    (void)pthread_mutex_unlock(&l->control_lock);
    return ok;
}

bool link_unload(struct link *l, uint32_t number, struct err *e)
{
    (void)pthread_mutex_lock(&l->control_lock);
    message_start(l->message, MSG_UNLOAD);
    l->message->numbers[0] = number;
    bool ok = ask(l, MSG_DONE, e);
    message_clear(l->message);
    (void)pthread_mutex_unlock(&l->control_lock);
    return ok;
}

bool link_prepare(struct link *l, const char *folder, const char *to, struct err *e)
{
    (void)pthread_mutex_lock(&l->control_lock);
    message_start(l->message, MSG_PREPARE);
    l->message->texts[0] = folder;
    l->message->texts[1] = to;
    bool ok = ask(l, MSG_DONE, e);
    message_clear(l->message);
    (void)pthread_mutex_unlock(&l->control_lock);
    return ok;
}

/* ---- runs ------------------------------------------------------------------------------------ */

struct run_watch {
    struct link *link;
    int lane;
    uint64_t id;
    atomic_int_fast64_t since; /* when it was cancelled; 0: not */
};

static void send_cancel(void *arg)
{
    struct run_watch *w = arg;
    struct link *l = w->link;
    struct message *m = calloc(1, sizeof(*m));
    atomic_store(&w->since, clock_now_ns());
    if (!m)
        return;
    message_start(m, MSG_CANCEL);
    m->id = w->id;
    m->numbers[0] = (uint32_t)w->lane;
    (void)pthread_mutex_lock(&l->signal_lock);
    (void)channel_send(l->signals, &l->signal_packet, m, NULL, -1, NULL);
    (void)pthread_mutex_unlock(&l->signal_lock);
    free(m);
}

static bool receive_run(struct link *l, struct lane_link *lane, struct run_watch *w, struct err *e)
{
    for (;;) {
        struct err why = {0};
        if (receive_answer(l, lane->fd, &lane->packet, lane->message, &why))
            return lane->message->id == w->id || nonsense(l, e);
        if (why.code != ERR_TIMEOUT)
            return err_set(e, why.code, "%s", why.text);
        int64_t since = atomic_load(&w->since);
        if (since != 0 && clock_ms_since(since) > LINK_CANCEL_MS) {
            link_kill(l);
            return err_set(e, ERR_CANCELLED, "run: cancelled, and its runner ended with it");
        }
    }
}

static bool take_result(struct link *l, struct lane_link *lane, const struct module_info *info,
                        struct tensor *outputs, struct err *e)
{
    struct message *m = lane->message;
    struct err why = {0};
    bool ok = m->kind == MSG_RESULT && m->tensor_count == info->output_count;
    for (int i = 0; ok && i < info->output_count; i++)
        ok = m->tensors[i].dtype == info->outputs[i].dtype;
    if (!ok)
        return nonsense(l, e);
    if (channel_take_tensors(&lane->packet, m, true, outputs, &why))
        return true;
    if (why.code == ERR_INVALID)
        return nonsense(l, e);
    return err_set(e, why.code, "%s", why.text);
}

static bool send_run(struct lane_link *lane, uint64_t id, uint32_t number,
                     const struct module_info *info, const struct tensor *inputs, struct err *e)
{
    message_start(lane->message, MSG_RUN);
    lane->message->id = id;
    lane->message->numbers[0] = number;
    for (int i = 0; i < info->input_count; i++)
        if (!message_add_tensor(lane->message, inputs[i].dtype, &inputs[i].shape, e))
            return false;
    return channel_send_tensors(lane->fd, &lane->packet, lane->message, inputs, e);
}

bool link_run(struct link *l, int lane_number, uint32_t number, const struct module_info *info,
              const struct tensor *inputs, struct cancel *cancel, struct tensor *outputs,
              struct err *e)
{
    struct lane_link *lane = &l->lanes[lane_number];
    uint64_t id = atomic_fetch_add(&l->next_id, 1) + 1;
    struct run_watch w = {.link = l, .lane = lane_number, .id = id};
    struct cancel_watch watch = {.fired = send_cancel, .arg = &w};
    struct err why = {0};
    if (!send_run(lane, id, number, info, inputs, &why))
        return lost(l, &why, e);
    cancel_watch(cancel, &watch);
    bool ok = receive_run(l, lane, &w, e);
    cancel_unwatch(cancel, &watch);
    if (ok && lane->message->kind == MSG_FAIL) {
        packet_forget(&lane->packet);
        ok = failure(lane->message, e);
    } else if (ok)
        ok = take_result(l, lane, info, outputs, e);
    packet_close_fds(&lane->packet);
    message_clear(lane->message);
    return ok;
}

/* ---- preparing ------------------------------------------------------------------------------- */

struct preparing {
    const struct link_options *options;
    const char *folder;
};

/* In a process that may write to the new folder alone, and that ends with all that it used. */
static bool prepare_apart(void *arg, const char *to, uint64_t *peak, struct err *e)
{
    const struct preparing *p = arg;
    struct link_options o = *p->options;
    struct link *l;
    o.read_dir = p->folder;
    o.prepared_dir = NULL;
    o.write_dir = to;
    o.lanes = 1;
    if (!link_start(&o, &l, e))
        return false;
    bool ok = link_prepare(l, p->folder, to, e);
    struct exec_memory m;
    if (ok && memory_read(link_pid(l), NULL, NULL, &m, NULL))
        *peak = m.peak;
    link_unref(l);
    return ok;
}

void link_prepared(const struct link_options *o, const char *version, const char *folder,
                   const char *digest, bool verified, struct prepared *ret)
{
    struct preparing p = {.options = o, .folder = folder};
    *ret = (struct prepared){0};
    if (o->prepared_dir)
        prepared_take(o->prepared_dir, version, digest, verified, prepare_apart, &p, ret);
}
