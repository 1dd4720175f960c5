/* pulse.c - joining the coordinator, heartbeats, fetching tables; between them what was kept for
 * calls that did not come, and the process's freed memory, go back to the system. */
#include "base/clock.h"
#include "base/heap.h"
#include "base/log.h"
#include "node/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define CALL_MS 2000
#define LINKS_EVERY_MS 30000
#define LINKS_FIRST_MS 1000
#define OWN_IDLE_MS 1000

static bool post(struct node *n, const char *path, json_t *body, json_t **ret, struct err *e)
{
    char url[WIRE_URL_MAX + 32];
    char *text = json_text(body);
    json_decref(body);
    if (!text)
        return err_set(e, ERR_MEMORY, "node: no memory");
    (void)snprintf(url, sizeof(url), "%s%s", n->coordinator_url, path);
    struct net_header type = {"Content-Type", "application/json"};
    struct net_part part = {text, strlen(text)};
    struct net_call call = {.method = "POST",
                            .url = url,
                            .headers = &type,
                            .header_count = 1,
                            .parts = &part,
                            .part_count = 1,
                            .deadline_ns = clock_deadline_ms(CALL_MS),
                            .max_response = 1u << 20};
    struct net_answer a;
    bool ok = net_call(n->client, &call, &a, e);
    free(text);
    if (!ok)
        return false;
    ok = net_answer_err(&a, e) && (*ret = json_parse("coordinator", a.body, a.size, e)) != NULL;
    net_answer_clear(&a);
    return ok;
}

bool node_fetch_table(struct node *n, struct err *e)
{
    char url[WIRE_URL_MAX + 32];
    (void)snprintf(url, sizeof(url), "%s/s2m3/v1/table", n->coordinator_url);
    struct net_call call = {
        .url = url, .deadline_ns = clock_deadline_ms(CALL_MS), .max_response = WIRE_TABLE_MAX};
    struct net_answer a;
    if (!net_call(n->client, &call, &a, e))
        return false;
    json_t *o = net_answer_err(&a, e) ? json_parse("table", a.body, a.size, e) : NULL;
    net_answer_clear(&a);
    struct table *t = o ? table_from_json(o, e) : NULL;
    if (t && table_slot_put(n->slot, t))
        (void)state_put(n->state, STATE_NODE, "table", o,
                        NULL); /* for a start without coordinator */
    json_decref(o);
    return t != NULL;
}

static void cpu_kind(char *to, size_t size)
{
    struct utsname u;
    (void)snprintf(to, size, "%s", uname(&u) == 0 ? u.machine : "unknown");
}

static bool join(struct node *n, struct err *e)
{
    struct join_request r = {.memory_bytes = n->options.memory_bytes,
                             .lanes = (uint32_t)n->options.lanes,
                             .threads = (uint32_t)n->options.threads,
                             .gflops = n->gflops};
    (void)snprintf(r.id, sizeof(r.id), "%s", n->id);
    (void)snprintf(r.name, sizeof(r.name), "%s", n->name);
    (void)snprintf(r.peer_url, sizeof(r.peer_url), "%s", n->peer_url);
    (void)snprintf(r.public_url, sizeof(r.public_url), "%s", n->public_url);
    (void)snprintf(r.runtime, sizeof(r.runtime), "%s", exec_status(n->exec).version);
    (void)snprintf(r.emulate, sizeof(r.emulate), "%s", n->options.emulation.text);
    cpu_kind(r.cpu, sizeof(r.cpu));
    json_t *o;
    struct join_answer a;
    if (!post(n, "/s2m3/v1/join", join_request_json(&r), &o, e))
        return false;
    bool ok = join_answer_read(o, &a, e);
    json_decref(o);
    if (ok && atomic_load(&n->has_id) && strcmp(a.id, n->id) != 0)
        ok =
            err_set(e, ERR_INVALID, "coordinator: calls this device '%s', it is '%s'", a.id, n->id);
    if (!ok)
        return false;
    json_t *id = json_string(a.id);
    ok = state_put(n->state, STATE_NODE, "id", id, e);
    json_decref(id);
    monitor_lock(&n->lock);
    if (!atomic_load(&n->has_id)) {
        memcpy(n->id, a.id, sizeof(n->id));
        atomic_store(&n->has_id, true);
    }
    n->joined = ok;
    monitor_wake(&n->lock);
    monitor_unlock(&n->lock);
    return ok && node_fetch_table(n, e);
}

uint64_t node_process_memory(pid_t pid, const char *field)
{
    unsigned long long kb = 0;
    char line[256], path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    FILE *f = fopen(path, "re");
    size_t n = strlen(field);
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, field, n) == 0 && sscanf(line + n, ": %llu kB", &kb) == 1)
            break;
    if (f)
        (void)fclose(f);
    return kb * 1024;
}

/* What is reported; links are taken out. */
static bool gather(struct node *n, struct heartbeat *h)
{
    *h = (struct heartbeat){.table_version = table_slot_version(n->slot)};
    lanes_stats(n->lanes, &h->running, &h->waiting);
    h->runner_restarts = exec_status(n->exec).restarts;
    h->footprint_bytes = node_process_memory(getpid(), "Anonymous");
    monitor_lock(&n->lock);
    memcpy(h->id, n->id, sizeof(h->id));
    h->base_bytes = n->base_bytes;
    for (struct held_module *m = n->modules; m; m = m->next)
        h->module_count++;
    h->modules = calloc(h->module_count + 1, sizeof(*h->modules));
    h->links = calloc(n->link_count + 1, sizeof(*h->links));
    bool ok = h->modules && h->links;
    uint32_t i = 0;
    for (struct held_module *m = n->modules; ok && m; m = m->next)
        h->modules[i++] = m->report;
    if (ok) {
        memcpy(h->links, n->links, n->link_count * sizeof(*h->links));
        h->link_count = n->link_count;
        n->link_count = 0;
    }
    monitor_unlock(&n->lock);
    if (n->options.add_counters)
        n->options.add_counters(n->options.counters_ctx, h);
    return ok;
}

static bool beat(struct node *n, struct err *e)
{
    struct heartbeat h;
    struct heartbeat_answer a = {0};
    json_t *o = NULL;
    bool ok = gather(n, &h) || err_set(e, ERR_MEMORY, "node: no memory");
    ok = ok && post(n, "/s2m3/v1/heartbeat", heartbeat_json(&h), &o, e) &&
         heartbeat_answer_read(o, &a, e);
    json_decref(o);
    heartbeat_clear(&h);
    if (!ok)
        return false;
    if (a.left) {
        monitor_lock(&n->lock);
        n->joined = false;
        n->left = true;
        monitor_unlock(&n->lock);
        if (n->options.on_left)
            n->options.on_left(n->options.left_ctx);
    } else if (a.unknown) {
        monitor_lock(&n->lock);
        n->joined = false;
        monitor_unlock(&n->lock);
    } else if (a.table_version != table_slot_version(n->slot)) {
        return node_fetch_table(n, e);
    }
    return true;
}

static bool pause_beat(struct node *n, int64_t ms)
{
    monitor_lock(&n->lock);
    int64_t end = clock_deadline_ms(ms);
    while (!n->stop && clock_now_ns() < end)
        (void)monitor_wait(&n->lock, end);
    bool stop = n->stop;
    monitor_unlock(&n->lock);
    return !stop;
}

static bool is_joined(struct node *n)
{
    monitor_lock(&n->lock);
    bool joined = n->joined;
    monitor_unlock(&n->lock);
    return joined;
}

/* What is kept for the next call goes when none comes: a connection to this device itself costs its
 * server a thread and 64 KiB, and is made anew in no time. */
static void rest(struct node *n, struct heap_watch *heap)
{
    net_client_forget(n->client, n->peer_url, OWN_IDLE_MS);
    if (!heap_watch_look(heap))
        return;
    node_free_works(n);
    heap_watch_give(heap);
}

void *node_pulse_run(void *node)
{
    struct node *n = node;
    int64_t links_ns = clock_deadline_ms(LINKS_FIRST_MS);
    struct heap_watch heap = {0};
    do {
        struct err e = {0};
        rest(n, &heap);
        if (n->left) /* written by this thread only */
            continue;
        bool ok = is_joined(n) ? beat(n, &e) : join(n, &e);
        if (!ok) {
            log_debug("node", "coordinator: %s", e.text);
            monitor_lock(&n->lock);
            n->join_error = e;
            monitor_unlock(&n->lock);
        }
        if (ok && clock_now_ns() >= links_ns) {
            node_measure_links(n);
            links_ns = clock_deadline_ms(LINKS_EVERY_MS);
        }
    } while (pause_beat(n, CLUSTER_HEARTBEAT_MS));
    return NULL;
}
