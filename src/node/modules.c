/* modules.c - the modules that a device holds: fetched by digest, measured, loaded, let go.
 *
 * One loader thread follows the routing table: what the table gives to this device is fetched and
 * loaded one after the other (preparing a module has a peak of its own), what it no longer gives is
 * unloaded when its last run has ended.  A failure is reported in the heartbeat and tried again. */
#include "node/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES (4u << 20)
#define FETCH_MS 600000
#define RETRY_MS 3000
#define SIDE_FILE_MAX (64u << 20)
#define MEASURED_KEPT_S 600

/* ---- fetching ------------------------------------------------------------------------------- */

static bool fetch_chunk(struct node *n, const char *digest, uint64_t at, struct blob_transfer *t,
                        size_t *got, bool *last, struct err *e)
{
    char url[WIRE_URL_MAX + 160];
    (void)snprintf(url, sizeof(url), "%s/s2m3/v1/blobs/%s?offset=%llu&size=%u", n->coordinator_url,
                   digest, (unsigned long long)at, CHUNK_BYTES);
    struct net_call call = {
        .url = url, .deadline_ns = clock_deadline_ms(FETCH_MS), .max_response = CHUNK_BYTES};
    struct net_answer a;
    if (!net_call(n->client, &call, &a, e))
        return false;
    bool ok = net_answer_err(&a, e) && blob_append(t, a.body, a.size, e);
    *got = a.size;
    *last = a.size < CHUNK_BYTES;
    net_answer_clear(&a);
    return ok;
}

bool node_fetch(struct node *n, const char *digest, struct err *e)
{
    struct blob_transfer *t;
    uint64_t at;
    if (blobs_has(n->blobs, digest))
        return true;
    if (!blobs_begin(n->blobs, digest, &t, &at, e))
        return false;
    bool ok = true, last = false;
    while (ok && !last) {
        size_t got = 0;
        ok = fetch_chunk(n, digest, at, t, &got, &last, e);
        at += got;
    }
    if (ok)
        return blob_commit(t, e);
    blob_abandon(t); /* what has come is kept for the next try */
    return err_prefix(e, "fetching %.12s", digest);
}

bool node_side_file(void *node, const char *digest, char **ret, size_t *size, struct err *e)
{
    struct node *n = node;
    return node_fetch(n, digest, e) && blobs_load(n->blobs, digest, SIDE_FILE_MAX, ret, size, e);
}

/* ---- measuring ------------------------------------------------------------------------------ */

static uint64_t minus(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* What the module adds to the process of the runtime at most (that itself is the base), so that a
 * device in service never takes more than its modules' sum: working memory counts once per lane,
 * since a module may run on all of them (and half as much again where there are several: blocks of one
 * lie between those of the other); what is mapped of the module's files counts in full, since
 * the inputs of a measurement touch few rows of a table of words, and those of a day all. */
static void from_profile(const struct node *n, const struct exec_profile *p,
                         struct module_report *r)
{
    double speed = n->options.emulation.speed;
    const struct exec_memory *x = &p->before, *y = &p->after;
    r->measured = p->count > 0;
    (void)snprintf(r->error, sizeof(r->error), "%.250s", p->run_error);
    uint64_t lanes = (uint64_t)n->options.lanes;
    uint64_t working = lanes * p->working;
    r->anonymous =
        minus(p->loaded.anonymous, x->anonymous) + working + (lanes > 1 ? working / 2 : 0);
    r->file = minus(y->mapped, x->mapped);
    r->pss = minus(y->pss, x->pss);
    r->peak = minus(y->peak, x->anonymous + x->file + x->base);
    r->load_ms = p->load_ms;
    r->run_ms = p->count ? p->run_ms[0] / (speed > 0 && speed < 1 ? speed : 1) : 0;
}

/* The key holds what the figures depend on. */
static void profile_key(struct node *n, const char *digest, char *key, size_t size)
{
    (void)snprintf(key, size, "%s %s %dx%d %s", digest, exec_status(n->exec).version,
                   n->options.lanes, n->options.threads, n->options.emulation.text);
}

/* Sizes that don't fit in are left out: the rest is guessed by exec. */
static void fill_dims(const json_t *dims, struct exec_measure_plan *plan)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)dims, key, value)
    {
        json_int_t n = json_integer_value(value);
        if (plan->dim_count >= EXEC_DIMS_MAX || n <= 0 || n > EXEC_DIM_VALUE_MAX ||
            strlen(key) >= TENSOR_NAME_MAX)
            continue;
        struct exec_dim *d = &plan->dims[plan->dim_count++];
        memcpy(d->name, key, strlen(key) + 1);
        d->value = n;
    }
}

static bool measure_now(struct node *n, const char *digest, const json_t *dims,
                        struct module_report *ret, struct err *e)
{
    char *folder;
    struct exec_measure_plan plan = {.batches = {1}, .batch_count = 1};
    fill_dims(dims, &plan);
    struct exec_profile p;
    struct exec_options o = {.runtime_path = n->runtime_path,
                             .runner_path = n->runner_path,
                             .threads = n->options.threads,
                             .lanes = 1};
    char *prepared = NULL;
    if (asprintf(&prepared, "%s/prepared", n->data_dir) < 0)
        return err_set(e, ERR_MEMORY, "node: no memory");
    o.prepared_dir = prepared;
    bool ok = blobs_module_folder(n->blobs, digest, &folder, e);
    if (ok) {
        ok = exec_measure(&o, folder, digest, &plan, &p, e);
        free(folder);
    }
    free(prepared);
    if (ok)
        from_profile(n, &p, ret);
    return ok;
}

bool node_measure(struct node *n, const char *digest, const json_t *dims, bool again,
                  struct module_report *ret, struct err *e)
{
    char key[256];
    json_t *row = NULL;
    profile_key(n, digest, key, sizeof(key));
    /* Fetched under the lock too: a sweep would take a blob that no table names yet. */
    (void)pthread_mutex_lock(&n->measure_lock);
    bool ok = again || state_get(n->state, STATE_PROFILE, key, &row, e);
    if (ok && row) {
        ok = module_report_read(row, ret, e);
    } else if (ok) {
        *ret = (struct module_report){0};
        (void)snprintf(ret->digest.hex, sizeof(ret->digest.hex), "%s", digest);
        ok = node_fetch(n, digest, e) &&
             (n->options.exec_kind == EXEC_FAKE || measure_now(n, digest, dims, ret, e));
        json_t *fresh = ok ? module_report_json(ret) : NULL;
        ok = ok && state_put(n->state, STATE_PROFILE, key, fresh, e);
        json_decref(fresh);
    }
    json_decref(row);
    (void)pthread_mutex_unlock(&n->measure_lock);
    return ok;
}

void node_keep_run_ms(struct node *n, const char *digest, double run_ms)
{
    char key[256];
    struct err e;
    json_t *row = NULL;
    struct module_report kept;
    profile_key(n, digest, key, sizeof(key));
    if (pthread_mutex_trylock(&n->measure_lock) != 0)
        return; /* something is being measured, which takes long: the next window says it again */
    bool ok = state_get(n->state, STATE_PROFILE, key, &row, &e) && row &&
              module_report_read(row, &kept, &e);
    json_decref(row);
    if (ok) {
        kept.run_ms = run_ms;
        row = module_report_json(&kept);
        ok = row && state_put(n->state, STATE_PROFILE, key, row, &e);
        json_decref(row);
        if (!ok)
            log_debug("node", "%.12s: its time is not kept", digest);
    }
    (void)pthread_mutex_unlock(&n->measure_lock);
}

/* ---- taking and giving ---------------------------------------------------------------------- */

static struct held_module *find(struct node *n, const char *digest)
{
    struct held_module *m = n->modules;
    while (m && strcmp(m->report.digest.hex, digest) != 0)
        m = m->next;
    return m;
}

static bool on_its_way(const struct held_module *m)
{
    return m && m->wanted && m->report.state != MODULE_FAILED;
}

struct held_module *node_take_module(struct node *n, const char *digest, int64_t deadline_ns,
                                     struct cancel *cancel, struct err *e)
{
    monitor_lock(&n->lock);
    struct held_module *m = find(n, digest);
    /* A call may come a moment before the load has ended: it waits for that, not for a miracle. */
    while (!n->stop && on_its_way(m) && m->report.state != MODULE_READY &&
           clock_now_ns() < deadline_ns && !cancel_fired(cancel)) {
        int64_t soon = clock_now_ns() + 50 * NS_PER_MS;
        (void)monitor_wait(&n->lock, soon < deadline_ns ? soon : deadline_ns);
        m = find(n, digest);
    }
    if (m && m->report.state == MODULE_READY) {
        m->users++;
    } else {
        err_set(e, m && m->report.error[0] ? ERR_UNSUPPORTED : ERR_NOT_FOUND,
                "module %.12s: %s on device %s%s%s", digest,
                m ? module_state_name(m->report.state) : "is not held", n->name,
                m && m->report.error[0] ? ": " : "", m ? m->report.error : "");
        m = NULL;
    }
    monitor_unlock(&n->lock);
    return m;
}

void node_give_module(struct node *n, struct held_module *m)
{
    monitor_lock(&n->lock);
    m->users--; /* nobody is woken: the loader looks again by itself */
    monitor_unlock(&n->lock);
}

/* ---- following the table -------------------------------------------------------------------- */

static void set_state(struct node *n, struct held_module *m, enum module_state s, const char *error)
{
    monitor_lock(&n->lock);
    m->report.state = s;
    (void)snprintf(m->report.error, sizeof(m->report.error), "%.250s", error);
    m->retry_ns = clock_now_ns() + RETRY_MS * NS_PER_MS;
    monitor_wake(&n->lock);
    monitor_unlock(&n->lock);
}

/* Marks what the table gives to this device; new ones are added to the list. */
static void mark_wanted(struct node *n, const struct table *t)
{
    monitor_lock(&n->lock);
    for (struct held_module *m = n->modules; m; m = m->next)
        m->wanted = false;
    for (uint32_t i = 0; i < t->module_count; i++) {
        if (!table_holds(t, node_id(n), &t->modules[i]))
            continue;
        struct held_module *m = find(n, t->modules[i].digest.hex);
        if (!m && (m = calloc(1, sizeof(*m)))) {
            m->report.digest = t->modules[i].digest;
            m->dims = json_incref(t->modules[i].dims);
            m->next = n->modules;
            n->modules = m;
        }
        if (m)
            m->wanted = true;
    }
    monitor_unlock(&n->lock);
}

/* A call carries at most so many inputs and outputs. */
static bool ports_fit(const struct exec_module *m, struct err *e)
{
    int in, out;
    (void)exec_inputs(m, &in);
    (void)exec_outputs(m, &out);
    return (in <= WIRE_INPUTS_MAX && out <= WIRE_INPUTS_MAX) ||
           err_set(e, ERR_UNSUPPORTED, "%d inputs and %d outputs, limit %d", in, out,
                   WIRE_INPUTS_MAX);
}

static bool load_module(struct node *n, struct held_module *m, struct err *e)
{
    char *folder;
    struct module_report figures;
    const char *digest = m->report.digest.hex;
    set_state(n, m, MODULE_FETCHING, "");
    if (!node_fetch(n, digest, e) || !blobs_module_folder(n->blobs, digest, &folder, e))
        return false;
    set_state(n, m, MODULE_LOADING, "");
    bool ok = node_measure(n, digest, m->dims, false, &figures, e) &&
              exec_load(n->exec, folder, digest, &m->module, e);
    free(folder);
    if (ok && !ports_fit(m->module, e)) {
        exec_unload(m->module);
        m->module = NULL;
        ok = false;
    }
    if (ok) {
        monitor_lock(&n->lock);
        figures.state = m->report.state;
        figures.error[0] = 0; /* why it could not be timed: no reason not to serve it */
        figures.runs = m->report.runs;
        figures.busy_ms = m->report.busy_ms;
        m->report = figures;
        monitor_unlock(&n->lock);
    }
    return ok;
}

/* Side files that programs need on devices come with the table, so that requests go on when the
 * coordinator is away. */
static void fetch_side_files(struct node *n, const struct table *t)
{
    struct err e;
    for (uint32_t i = 0; i < t->model_count; i++)
        for (uint32_t k = 0; k < t->models[i].blob_count; k++)
            if (!node_fetch(n, t->models[i].blobs[k].hex, &e))
                log_debug("node", "side file: %s", e.text);
}

bool node_measure_again(struct node *n, const char *digest, const json_t *dims,
                        struct module_report *ret, struct err *e)
{
    if (!node_measure(n, digest, dims, true, ret, e))
        return false;
    monitor_lock(&n->lock);
    struct held_module *m = find(n, digest);
    if (m && m->report.measured && ret->measured) {
        struct module_report figures = *ret;
        figures.state = m->report.state;
        memcpy(figures.error, m->report.error, sizeof(figures.error));
        figures.runs = m->report.runs;
        figures.busy_ms = m->report.busy_ms;
        m->report = figures;
        m->times = (struct run_times){0};
    }
    monitor_unlock(&n->lock);
    return true;
}

static struct held_module *next_to_load(struct node *n)
{
    monitor_lock(&n->lock);
    struct held_module *m = n->modules;
    int64_t now = clock_now_ns();
    while (m && !(m->wanted && (m->report.state == MODULE_ABSENT ||
                                (m->report.state == MODULE_FAILED && m->retry_ns <= now))))
        m = m->next;
    monitor_unlock(&n->lock);
    return m;
}

/* Takes one module that is no longer wanted and unused out of the list; NULL: none. */
static struct held_module *take_unwanted(struct node *n, bool all)
{
    monitor_lock(&n->lock);
    struct held_module **at = &n->modules;
    while (*at && ((*at)->users || ((*at)->wanted && !all)))
        at = &(*at)->next;
    struct held_module *m = *at;
    if (m)
        *at = m->next;
    monitor_unlock(&n->lock);
    return m;
}

static void let_go(struct node *n, bool all)
{
    for (struct held_module *m; (m = take_unwanted(n, all)); free(m)) {
        json_decref(m->dims);
        if (m->module)
            exec_unload(m->module);
        if (!all)
            blobs_module_remove(n->blobs, m->report.digest.hex);
    }
}

void node_unload_all(struct node *n)
{
    let_go(n, true);
}

static bool keep_blob(void *ctx, const char *digest, int64_t age_s)
{
    (void)age_s;
    const struct table *t = ctx;
    for (uint32_t i = 0; i < t->model_count; i++)
        for (uint32_t k = 0; k < t->models[i].blob_count; k++)
            if (strcmp(t->models[i].blobs[k].hex, digest) == 0)
                return true;
    return table_find_module(t, digest) != NULL;
}

struct keeping {
    struct node *node;
    const struct table *table;
};

/* What was measured a moment ago for a model to come is in no table yet. */
static bool keep_module(void *ctx, const char *digest, int64_t age_s)
{
    const struct keeping *k = ctx;
    monitor_lock(&k->node->lock);
    bool held = find(k->node, digest) != NULL;
    monitor_unlock(&k->node->lock);
    return held || age_s < MEASURED_KEPT_S || table_find_module(k->table, digest);
}

static void follow(struct node *n, struct table *t)
{
    struct err e;
    mark_wanted(n, t);
    let_go(n, false);
    fetch_side_files(n, t);
    for (struct held_module *m; !n->stop && (m = next_to_load(n));) {
        if (load_module(n, m, &e))
            set_state(n, m, MODULE_READY, "");
        else
            set_state(n, m, MODULE_FAILED, e.text);
    }
    if (pthread_mutex_trylock(&n->measure_lock) == 0) {
        if (!n->options.shared_blobs)
            (void)blobs_sweep(n->blobs, keep_blob, t);
        (void)blobs_sweep_modules(n->blobs, keep_module, &(struct keeping){n, t});
        (void)pthread_mutex_unlock(&n->measure_lock);
    }
}

/* Waits until this device has an id (a first join may be under way, or the coordinator away): a
 * table says nothing to a device without.  One that it remembers is followed without joining, so
 * that requests go on after a restart while the coordinator is away. */
static bool wait_for_id(struct node *n)
{
    monitor_lock(&n->lock);
    while (!n->stop && !atomic_load(&n->has_id))
        (void)monitor_wait(&n->lock, CLOCK_NEVER);
    bool stop = n->stop;
    monitor_unlock(&n->lock);
    return !stop;
}

void *node_loader_run(void *node)
{
    struct node *n = node;
    uint64_t seen = 0;
    while (wait_for_id(n)) {
        /* Woken by a new table; else now and then for what failed before. */
        struct table *t = table_slot_wait(n->slot, seen, clock_deadline_ms(500));
        if (t && !n->stop) {
            seen = t->version;
            follow(n, t);
        }
        table_unref(t);
        meetings_expire(n->meetings);
    }
    return NULL;
}
