/* runner.c - the back end that runs modules in a child process and keeps that alive.
 *
 * Threads.  The keeper thread starts the process (it must outlive it, see link.h), loads the
 * modules again after a crash, and then waits for the process to end.  Others take a reference of
 * the link that is current.
 *
 * Locks.  modules_lock: the table of modules; held while one is loaded, and by the keeper while it
 * loads them again, so that a module is loaded on each process exactly once.  lock: the current
 * link, the counters, "broken" of modules.  modules_lock is taken first. */
#include "exec/backend.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/sync.h"
#include "exec/link.h"
#include "exec/prepare.h"
#include "exec/runtime.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CRASHES_MAX 3  /* in a row while one module is loaded: then it is left out */
#define SOON_MS 2000   /* a process that ends so soon after its start is started more slowly */
#define BACKOFF_MS 100 /* first pause; doubles */
#define BACKOFF_MAX_MS 10000

struct remote {
    uint32_t number; /* its place in the table */
    char *folder;
    struct digest digest;
    bool verified; /* what was prepared of it has been checked by this process */
    int crashes;
    struct err broken; /* code ERR_NONE: it is loaded whenever the process is up */
};

struct runner {
    struct backend backend;
    struct link_options options; /* texts kept, but the next three */
    char *runtime_path;
    char *modules_dir, *prepared_dir; /* real paths; may be NULL */
    int wake_fd;
    pthread_t keeper;
    bool keeper_started;

    pthread_mutex_t modules_lock;
    struct remote *modules[EXEC_MODULES_MAX];

    struct monitor lock;
    struct link *link;  /* NULL: being started */
    struct err failed;  /* why the first start failed */
    bool stop, settled; /* settled: the first start has succeeded or failed */
    uint32_t restarts;
    int landlock;
    char version[EXEC_VERSION_MAX];
};

/* ---- loading --------------------------------------------------------------------------------- */

/* Under modules_lock. */
static bool load_remote(struct runner *r, struct link *l, struct remote *m,
                        struct module_info *info, struct err *e)
{
    struct prepared p;
    link_prepared(&r->options, link_version(l), m->folder, m->digest.hex, m->verified, &p);
    bool ok = link_load(l, m->number, p.folder ? p.folder : m->folder,
                        p.folder ? ORT_LEVEL_NONE : ORT_LEVEL_ALL, info, e);
    if (ok && p.folder)
        m->verified = true;
    info->prepared = p.folder != NULL;
    info->prepare_ms = p.ms;
    info->prepare_peak = p.peak;
    free(p.folder);
    return ok;
}

static void set_broken(struct runner *r, struct remote *m, const struct err *why)
{
    monitor_lock(&r->lock);
    if (why)
        m->broken = *why;
    else
        m->broken.code = ERR_NONE;
    monitor_unlock(&r->lock);
}

/* False: the process died on the way. */
static bool load_again(struct runner *r, struct link *l, struct remote *m)
{
    struct module_info info = {0};
    struct err why = {0};
    if (m->crashes >= CRASHES_MAX)
        return true;
    bool ok = load_remote(r, l, m, &info, &why);
    info_clear(&info);
    if (!ok && why.code == ERR_GONE) {
        m->crashes++;
        set_broken(r, m, &why);
        return false;
    }
    m->crashes = 0;
    set_broken(r, m, ok ? NULL : &why);
    return true;
}

static bool load_all_again(struct runner *r, struct link *l)
{
    for (int i = 0; i < EXEC_MODULES_MAX; i++)
        if (r->modules[i] && !load_again(r, l, r->modules[i]))
            return false;
    return true;
}

/* ---- the keeper ------------------------------------------------------------------------------ */

static void publish(struct runner *r, struct link *l)
{
    monitor_lock(&r->lock);
    r->link = l;
    r->settled = true;
    r->landlock = link_landlock(l);
    (void)snprintf(r->version, sizeof(r->version), "%s", link_version(l));
    monitor_wake(&r->lock);
    monitor_unlock(&r->lock);
}

static void withdraw(struct runner *r)
{
    monitor_lock(&r->lock);
    r->link = NULL;
    if (!r->stop)
        r->restarts++;
    monitor_unlock(&r->lock);
}

static bool stopping(struct runner *r)
{
    monitor_lock(&r->lock);
    bool stop = r->stop;
    monitor_unlock(&r->lock);
    return stop;
}

/* The first start's failure is exec_create()'s; later ones are tried again. */
static bool give_up(struct runner *r, const struct err *why)
{
    monitor_lock(&r->lock);
    bool first = !r->settled;
    if (first) {
        r->settled = true;
        r->failed = *why;
        monitor_wake(&r->lock);
    }
    monitor_unlock(&r->lock);
    return first;
}

/* Pause before the next start; returns early when stopped. */
static void back_off(struct runner *r, int64_t ms)
{
    int64_t deadline = clock_deadline_ms(ms);
    monitor_lock(&r->lock);
    while (!r->stop && monitor_wait(&r->lock, deadline))
        continue;
    monitor_unlock(&r->lock);
}

/* One life of the process. False: give up. */
static bool live(struct runner *r, struct err *why)
{
    struct link *l = NULL;
    if (!link_start(&r->options, &l, why))
        return !give_up(r, why);
    (void)pthread_mutex_lock(&r->modules_lock);
    bool up = load_all_again(r, l);
    if (up)
        publish(r, l);
    (void)pthread_mutex_unlock(&r->modules_lock);
    if (up) {
        (void)link_watch(l, r->wake_fd);
        withdraw(r);
    }
    link_unref(l);
    return true;
}

static void *keep(void *arg)
{
    struct runner *r = arg;
    int64_t pause = BACKOFF_MS;
    while (!stopping(r)) {
        struct err why = {0};
        int64_t start = clock_now_ns();
        if (!live(r, &why))
            break;
        if (clock_ms_since(start) > SOON_MS) {
            pause = BACKOFF_MS;
            continue;
        }
        back_off(r, pause);
        pause = pause * 2 < BACKOFF_MAX_MS ? pause * 2 : BACKOFF_MAX_MS;
    }
    return NULL;
}

/* The current link, waited for if the process is just being started; a reference. */
static struct link *take_link(struct runner *r, struct err *e)
{
    int64_t deadline = clock_deadline_ms(EXEC_RESTART_WAIT_MS);
    monitor_lock(&r->lock);
    while (!r->stop && (!r->link || link_ended(r->link)) && monitor_wait(&r->lock, deadline))
        continue;
    struct link *l = r->link && !link_ended(r->link) ? link_ref(r->link) : NULL;
    monitor_unlock(&r->lock);
    if (!l)
        err_set(e, ERR_GONE, "runner: is being started again");
    return l;
}

/* ---- back end -------------------------------------------------------------------------------- */

static void free_remote(struct remote *m)
{
    free(m->folder);
    free(m);
}

/* Under modules_lock: a place for it. */
static bool place_remote(struct runner *r, const char *folder, const char *digest,
                         struct remote **ret, struct err *e)
{
    uint32_t at = 0;
    while (at < EXEC_MODULES_MAX && r->modules[at])
        at++;
    struct remote *m = at < EXEC_MODULES_MAX ? calloc(1, sizeof(*m)) : NULL;
    if (!m)
        return err_set(e, ERR_MEMORY, "runner: no place for a module");
    m->number = at;
    memcpy(m->digest.hex, digest, DIGEST_HEX);
    m->folder = realpath(folder, NULL);
    if (!m->folder) {
        free_remote(m);
        return err_set(e, ERR_NOT_FOUND, "folder '%s': is not there", folder);
    }
    const char *root = r->modules_dir;
    size_t n = root ? strlen(root) : 0;
    if (!root || strncmp(m->folder, root, n) != 0 || m->folder[n] != '/') {
        free_remote(m);
        return err_set(e, ERR_INVALID, "folder '%s': is not below modules_dir '%s'", folder,
                       root ? root : "(none)");
    }
    *ret = m;
    return true;
}

static bool runner_load(struct backend *b, const char *folder, const char *digest, void **module,
                        struct module_info *info, struct err *e)
{
    struct runner *r = (struct runner *)b;
    struct remote *m = NULL;
    struct link *l = take_link(r, e);
    if (!l)
        return false;
    (void)pthread_mutex_lock(&r->modules_lock);
    bool ok = place_remote(r, folder, digest, &m, e) && load_remote(r, l, m, info, e);
    if (ok)
        r->modules[m->number] = m;
    (void)pthread_mutex_unlock(&r->modules_lock);
    link_unref(l);
    if (ok)
        *module = m;
    else if (m)
        free_remote(m);
    return ok;
}

static void runner_unload(struct backend *b, void *module)
{
    struct runner *r = (struct runner *)b;
    struct remote *m = module;
    (void)pthread_mutex_lock(&r->modules_lock);
    r->modules[m->number] = NULL;
    monitor_lock(&r->lock);
    struct link *l = r->link ? link_ref(r->link) : NULL;
    monitor_unlock(&r->lock);
    if (l)
        (void)link_unload(l, m->number, NULL); /* a process that has just ended has unloaded it */
    (void)pthread_mutex_unlock(&r->modules_lock);
    link_unref(l);
    free_remote(m);
}

static bool runner_run(struct backend *b, void *module, const struct module_info *info, int lane,
                       const struct tensor *inputs, struct cancel *cancel, struct tensor *outputs,
                       struct err *e)
{
    struct runner *r = (struct runner *)b;
    struct remote *m = module;
    struct link *l = take_link(r, e);
    if (!l)
        return false;
    monitor_lock(&r->lock);
    struct err broken = m->broken;
    monitor_unlock(&r->lock);
    bool ok = broken.code == ERR_NONE ||
              err_set(e, broken.code, "after a restart of the runner: %s", broken.text);
    ok = ok && link_run(l, lane, m->number, info, inputs, cancel, outputs, e);
    link_unref(l);
    return ok;
}

static void runner_status(struct backend *b, struct exec_status *s)
{
    struct runner *r = (struct runner *)b;
    monitor_lock(&r->lock);
    s->kind = EXEC_RUNNER;
    s->pid = r->link && !link_ended(r->link) ? link_pid(r->link) : 0;
    s->restarts = r->restarts;
    s->landlock = r->landlock;
    s->no_network = true; /* a runner without it does not say that it is ready */
    (void)snprintf(s->version, sizeof(s->version), "%s", r->version);
    monitor_unlock(&r->lock);
}

static void runner_destroy(struct backend *b)
{
    struct runner *r = (struct runner *)b;
    monitor_lock(&r->lock);
    r->stop = true;
    monitor_wake(&r->lock);
    monitor_unlock(&r->lock);
    if (r->wake_fd >= 0)
        (void)eventfd_write(r->wake_fd, 1);
    if (r->keeper_started)
        (void)pthread_join(r->keeper, NULL);
    if (r->wake_fd >= 0)
        (void)close(r->wake_fd);
    monitor_destroy(&r->lock);
    (void)pthread_mutex_destroy(&r->modules_lock);
    free(r->runtime_path);
    free(r->modules_dir);
    free(r->prepared_dir);
    free(r);
}

static const struct backend_ops runner_ops = {
    .load = runner_load,
    .unload = runner_unload,
    .run = runner_run,
    .status = runner_status,
    .destroy = runner_destroy,
};

static bool fill_options(struct runner *r, const struct exec_options *o, struct err *e)
{
    if (!o->runner_path)
        return err_set(e, ERR_INVALID, "exec: a runner needs runner_path");
    if (o->modules_dir) {
        /* It must be there when the runner shuts itself in. */
        if (!file_make_dirs(o->modules_dir, e))
            return false;
        r->modules_dir = realpath(o->modules_dir, NULL);
        if (!r->modules_dir)
            return err_set(e, ERR_NOT_FOUND, "modules_dir '%s': is not there", o->modules_dir);
    }
    if (!runtime_find(o->runtime_path, &r->runtime_path, e) ||
        !prepared_dir_make(o->prepared_dir, &r->prepared_dir, e))
        return false;
    r->options = (struct link_options){.runner_path = o->runner_path,
                                       .runtime_path = r->runtime_path,
                                       .read_dir = r->modules_dir,
                                       .prepared_dir = r->prepared_dir,
                                       .threads = o->threads,
                                       .lanes = o->lanes};
    return true;
}

static bool wait_first(struct runner *r, struct err *e)
{
    monitor_lock(&r->lock);
    while (!r->settled)
        (void)monitor_wait(&r->lock, CLOCK_NEVER);
    struct err why = r->failed;
    monitor_unlock(&r->lock);
    return why.code == ERR_NONE || err_set(e, why.code, "%s", why.text);
}

bool runner_create(const struct exec_options *o, struct backend **ret, struct err *e)
{
    if (getenv(EXEC_RUNNER_MARK))
        return err_set(e, ERR_INVALID, "exec: a runner starts no runner");
    struct runner *r = calloc(1, sizeof(*r));
    if (!r)
        return err_set(e, ERR_MEMORY, "exec: no memory");
    r->backend.ops = &runner_ops;
    monitor_init(&r->lock);
    (void)pthread_mutex_init(&r->modules_lock, NULL);
    r->wake_fd = eventfd(0, EFD_CLOEXEC);
    bool ok = r->wake_fd >= 0 || err_set(e, ERR_INTERNAL, "exec: no event descriptor");
    ok = ok && fill_options(r, o, e);
    r->keeper_started = ok && thread_start(&r->keeper, "runner", keep, r, e);
    ok = r->keeper_started && wait_first(r, e);
    if (ok)
        *ret = &r->backend;
    else
        runner_destroy(&r->backend);
    return ok;
}
