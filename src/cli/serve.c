/* serve.c - `up` (coordinator, gateway and node in one process) and `join` (gateway and node).
 *
 * Order of starting: listeners first (with all routes), then coordinator, then node, since each
 * calls the one before by its listener.  Stopping is the reverse: the public listener drains first. */
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "base/parse.h"
#include "cli/cli.h"
#include "cli/pins.h"
#include "coord/coord.h"
#include "gateway/gateway.h"
#include "node/node.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define REDUNDANCY_MAX 8
#define JOIN_MS 15000
#define AGAIN_MS 1000    /* a SIGINT so long after the first is a second one */
#define JOIN_LOOK_MS 100 /* between two looks whether it is to end */
#define GRACE_MS 5000
#define BUFFER_OF_ITS_OWN                                                                          \
    (2 << 20) /* bytes from which on memory goes back to the system when freed */
#define GROUPS_MAX 4
#define PEER_CALLS_MAX 1536 /* of NET_CONNECTIONS_DEFAULT connections */

/* One process of a fleet; members are NULL where it has no such part. */
struct process {
    const struct args *args;
    char *data_dir;
    int lock_fd;
    sigset_t ends; /* signals that end it; blocked */
    json_t *pins;  /* of --pin, owned */
    struct blobs *blobs;
    struct net_client *client;
    struct table_slot slot;
    struct coord *coord;
    struct node *node;
    struct gateway *gateway;
    struct net_server *public_server, *peer_server;
    struct net_group public_groups[GROUPS_MAX], peer_groups[GROUPS_MAX];
    char public_url[WIRE_URL_MAX], peer_url[WIRE_URL_MAX], coordinator_url[WIRE_URL_MAX];
};

/* ---- where things are ----------------------------------------------------------------------- */

/* "127.0.0.1:7070" or "[::1]:7070" to host and port; other hosts than this machine are refused for now. */
static bool parse_address(const struct args *a, const char *what, char *host, size_t size,
                          uint16_t *port, struct err *e)
{
    const char *text = args_text(a, what);
    const char *colon = strrchr(text, ':');
    uint64_t number;
    if (!colon || (size_t)(colon - text) >= size)
        return err_set(e, ERR_INVALID, "--%s: '%.80s' should be ADDRESS:PORT", what, text);
    bool brackets = *text == '[' && colon > text + 1 && colon[-1] == ']';
    (void)snprintf(host, size, "%.*s", (int)(colon - text) - 2 * brackets, text + brackets);
    if (!parse_u64("port", colon + 1, 0, 65535, &number, e))
        return err_prefix(e, "--%s: '%.80s'", what, text);
    *port = (uint16_t)number;
    if (!net_host_is_loopback(host))
        return err_set(
            e, ERR_DENIED,
            "--%s: %s is not an address of this machine alone; listening elsewhere needs "
            "certificates and keys, which this version does not have yet",
            what, host);
    return true;
}

static bool start_listener(struct process *p, const char *what, const struct net_group *groups,
                           size_t count, bool public, struct net_server **ret, char *url,
                           struct err *e)
{
    char host[64];
    /* On the peer listener most requests under way are calls that wait for inputs: cheap, and many.
     * The rest of the connections is room for deliveries, heartbeats and pings. */
    struct net_server_options o = {.host = host,
                                   .groups = groups,
                                   .group_count = count,
                                   .public_checks = true, /* browsers reach peer ports, too */
                                   .max_ordinary = public ? 0 : PEER_CALLS_MAX};
    if (!parse_address(p->args, what, host, sizeof(host), &o.port, e))
        return false;
    if (!net_server_start(&o, ret, e))
        return err_prefix(e, "--%s %s", what, args_text(p->args, what));
    (void)snprintf(url, WIRE_URL_MAX, strchr(host, ':') ? "http://[%s]:%u" : "http://%s:%u", host,
                   (unsigned)net_server_port(*ret));
    return true;
}

/* ---- parts ---------------------------------------------------------------------------------- */

static const char *self_id(void *ctx)
{
    struct process *p = ctx;
    return p->node ? node_id(p->node) : "";
}

/* It may be meant: nothing stops a device from swapping.  Most often it is a slip. */
static void warn_of_memory(uint64_t bytes)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    uint64_t all = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : UINT64_MAX;
    if (bytes > all)
        log_warn("node", "--memory: %llu MB is more than this machine has (%llu MB)",
                 (unsigned long long)(bytes / 1000000), (unsigned long long)(all / 1000000));
}

/* The coordinator has let this device go: the same end as by a signal. */
static void end_process(void *ctx)
{
    (void)ctx;
    log_info("node", "has left the fleet");
    (void)kill(getpid(), SIGTERM);
}

/* Requests at the gateway of a process that has no node to report them. */
static json_t *own_usage(void *ctx)
{
    struct process *p = ctx;
    struct heartbeat h = {0};
    gateway_add_counters(p->gateway, &h);
    return h.usage;
}

static bool create_node(struct process *p, struct err *e)
{
    const struct args *a = p->args;
    warn_of_memory(args_bytes(a, "memory"));
    struct node_options o = {
        .name = args_text(a, "name"),
        .data_dir = p->data_dir,
        .blobs = p->blobs,
        .shared_blobs = p->coord != NULL,
        .coordinator_url = p->coordinator_url,
        .memory_bytes = args_bytes(a, "memory"),
        .threads = (int)args_number(a, "threads"),
        .lanes = (int)args_number(a, "lanes"),
        .exec_kind = args_flag(a, "in-process") ? EXEC_LOCAL : EXEC_RUNNER,
        .runtime_path = args_text(a, "runtime"),
        .runner_path = "/proc/self/exe",
        .cache_bytes = num_max(args_bytes(a, "cache"), 1), /* 0 would be the node's default */
        .add_counters = gateway_add_counters,
        .counters_ctx = p->gateway,
        .on_left = end_process,
    };
    return emulation_parse(args_text(a, "emulate"), &o.emulation, e) &&
           node_create(&o, p->client, &p->slot, &p->node, e);
}

/* Two processes would tear each other's files.  The lock ends with the process, however that ends. */
static bool lock_data(struct process *p, struct err *e)
{
    char *path = text_format("%s/lock", p->data_dir);
    if (!path)
        return err_set(e, ERR_MEMORY, "no memory");
    p->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = p->lock_fd >= 0 && flock(p->lock_fd, LOCK_EX | LOCK_NB) == 0;
    if (!ok && p->lock_fd >= 0 && errno == EWOULDBLOCK)
        err_set(e, ERR_BUSY, "data folder '%s': another s2m3 is using it (--data-dir)",
                p->data_dir);
    else if (!ok)
        err_errno(e, ERR_IO, errno, "%s", path);
    free(path);
    return ok;
}

/* Names of devices are printed and logged on all machines of the fleet, and travel as JSON. */
static bool check_name(const struct args *a, struct err *e)
{
    const char *name = args_text(a, "name");
    size_t size = name ? strlen(name) : 0, plain = 0;
    if (!name)
        return true;
    while (plain < size && (unsigned char)name[plain] >= ' ' && name[plain] != 127)
        plain++;
    json_t *text = json_string(name); /* NULL: not UTF-8 */
    bool ok = text && size > 0 && size < WIRE_NAME_MAX && plain == size && name[0] != ' ' &&
              name[size - 1] != ' ';
    json_decref(text);
    return ok || err_set(e, ERR_INVALID,
                         "--name: should be 1 to %d bytes of UTF-8 without control characters, "
                         "and no space at its ends",
                         WIRE_NAME_MAX - 1);
}

/* "http://ADDRESS:PORT", also with a slash behind it; without it in p. */
static bool check_coordinator(struct process *p, struct err *e)
{
    char authority[WIRE_URL_MAX - 7], host[NET_HOST_MAX];
    uint16_t port;
    const char *url = args_text(p->args, "coordinator");
    if (!url)
        return err_set(e, ERR_INVALID,
                       "join: --coordinator is needed (the address that `s2m3 up` prints)");
    size_t size = strlen(url);
    size -= size > 0 && url[size - 1] == '/';
    bool ok = size < sizeof(p->coordinator_url) && strncmp(url, "http://", 7) == 0;
    if (ok)
        (void)snprintf(authority, sizeof(authority), "%.*s", (int)size - 7, url + 7);
    if (!ok || !net_host_split(authority, host, &port, NULL) || port == 0)
        return err_set(e, ERR_INVALID, "--coordinator: '%.80s' should be http://ADDRESS:PORT", url);
    (void)snprintf(p->coordinator_url, sizeof(p->coordinator_url), "http://%s", authority);
    return true;
}

/* What can be said before anything is made: the rest of the errors is not about usage. */
static bool check_options(struct process *p, bool coordinator, struct err *e)
{
    const struct args *a = p->args;
    char host[64];
    uint16_t port;
    struct emulation emulation;
    const char *dir = args_text(a, "data-dir");
    if (dir && !*dir)
        return err_set(e, ERR_INVALID, "--data-dir: is empty, should be a folder");
    return (coordinator || check_coordinator(p, e)) && check_name(a, e) &&
           parse_address(a, "listen", host, sizeof(host), &port, e) &&
           parse_address(a, "peer-listen", host, sizeof(host), &port, e) &&
           (emulation_parse(args_text(a, "emulate"), &emulation, e) ||
            (strncmp(e->text, "--", 2) != 0 && err_prefix(e, "--emulate"))) &&
           pins_of_args(a, &p->pins, e);
}

static bool create_parts(struct process *p, bool coordinator, struct err *e)
{
    p->data_dir = cli_data_dir(p->args);
    if (!p->data_dir)
        return err_set(e, ERR_MEMORY, "no memory");
    if (!file_make_dirs(p->data_dir, e) || !lock_data(p, e) ||
        !blobs_open(p->data_dir, &p->blobs, e) || !net_client_open(NULL, &p->client, e))
        return false;
    struct gateway_options g = {.client = p->client,
                                .slot = &p->slot,
                                .self_id = self_id,
                                .ctx = p,
                                .timeout_ms = (uint64_t)args_number(p->args, "timeout") * 1000};
    struct coord_options c = {
        .data_dir = p->data_dir, .blobs = p->blobs, .client = p->client, .slot = &p->slot};
    if (coordinator) {
        c.pins = p->pins;
        c.redundancy = (int)args_number(p->args, "redundancy");
        c.own_usage = args_flag(p->args, "no-node") ? own_usage : NULL;
        c.usage_ctx = p;
    }
    return gateway_create(&g, &p->gateway, e) && (!coordinator || coord_create(&c, &p->coord, e));
}

static void add_group(struct net_group *groups, size_t *count, const struct net_route *routes,
                      int rows, void *ctx)
{
    groups[(*count)++] = (struct net_group){.routes = routes, .count = (size_t)rows, .ctx = ctx};
}

/* The listeners are up before the node exists in `join`, because the node's coordinator calls back;
 * the node is made first, so that its routes have their context. */
static bool listen_all(struct process *p, struct err *e)
{
    size_t public = 0, peer = 0;
    int n;
    const struct net_route *rows = gateway_routes(&n);
    add_group(p->public_groups, &public, rows, n, p->gateway);
    if (p->coord) {
        rows = coord_user_routes(&n);
        add_group(p->public_groups, &public, rows, n, p->coord);
        add_group(p->peer_groups, &peer, rows, n, p->coord);
        rows = coord_cluster_routes(&n);
        add_group(p->peer_groups, &peer, rows, n, p->coord);
    } else {
        rows = gateway_relay_routes(&n);
        add_group(p->public_groups, &public, rows, n, p->gateway);
    }
    if (p->node) {
        rows = node_routes(&n);
        /* Before the coordinator's: both have /s2m3/v1/table, by different methods. */
        add_group(p->peer_groups, &peer, rows, n, p->node);
    }
    return start_listener(p, "peer-listen", p->peer_groups, peer, false, &p->peer_server,
                          p->peer_url, e) &&
           start_listener(p, "listen", p->public_groups, public, true, &p->public_server,
                          p->public_url, e);
}

static bool say_ready(struct process *p, struct err *e)
{
    const char *path = args_text(p->args, "ready-file");
    json_t *o = json_pack("{s:s,s:s,s:i}", "public_url", p->public_url, "peer_url", p->peer_url,
                          "pid", (int)getpid());
    char *text = json_text(o);
    json_decref(o);
    bool ok = text && (!path || file_write_atomic(path, text, strlen(text), 0644, e));
    free(text);
    if (ok && p->coord)
        printf("s2m3 is up: %s\nothers join with: s2m3 join --coordinator %s\n", p->public_url,
               p->peer_url);
    else if (ok)
        printf("s2m3 has joined %s; gateway: %s\n", p->coordinator_url, p->public_url);
    (void)fflush(stdout);
    return ok;
}

/* ---- signals -------------------------------------------------------------------------------- */

/* Before any thread is there, so that all of them leave these signals to wait_for_end().  What was
 * ignored stays so (nohup), or it would be waited for all the same. */
static void block_signals(sigset_t *ret)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    (void)sigemptyset(ret);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        struct sigaction now;
        if (sigaction(ends[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
            (void)sigaddset(ret, ends[i]);
    }
    (void)pthread_sigmask(SIG_BLOCK, ret, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

/* Has one come that wait_for_end() would take? */
static bool end_pending(const sigset_t *ends)
{
    sigset_t pending;
    (void)sigpending(&pending);
    for (int i = 1; i < NSIG; i++)
        if (sigismember(ends, i) == 1 && sigismember(&pending, i) == 1)
            return true;
    return false;
}

/* The second Ctrl-C is for those who can't wait for what is under way.  One that comes at once is
 * the first one's: a terminal and a program around this one both send it. */
static void *wait_for_impatience(void *ends)
{
    int64_t start = clock_now_ns();
    int number;
    for (;;)
        if (sigwait(ends, &number) == 0 && number == SIGINT && clock_ms_since(start) > AGAIN_MS)
            _exit(128 + SIGINT);
    return NULL;
}

static void wait_for_end(sigset_t *ends)
{
    pthread_t thread;
    int number;
    (void)sigwait(ends, &number);
    if (thread_start(&thread, "s2m3-again", wait_for_impatience, ends, NULL))
        (void)pthread_detach(thread);
}

/* Whoever stops a device that looks for its coordinator does not want to wait for the end of that. */
static bool wait_joined(struct process *p, struct err *e)
{
    int64_t end = clock_deadline_ms(JOIN_MS);
    for (;;) {
        int64_t slice = clock_deadline_ms(JOIN_LOOK_MS);
        if (node_wait_joined(p->node, slice < end ? slice : end, e))
            return true;
        if (end_pending(&p->ends))
            return err_set(e, ERR_CANCELLED, "stopped by a signal while joining %s",
                           p->coordinator_url);
        if (e->code != ERR_TIMEOUT || clock_now_ns() >= end)
            return false;
    }
}

static bool start_all(struct process *p, struct err *e)
{
    if (!listen_all(p, e))
        return false;
    if (p->coord)
        (void)snprintf(p->coordinator_url, sizeof(p->coordinator_url), "%s", p->peer_url);
    if (p->node)
        node_set_coordinator(p->node, p->coordinator_url);
    if (p->coord && !coord_start(p->coord, p->peer_url, e))
        return false;
    if (!p->node)
        return true;
    return node_start(p->node, p->peer_url, p->public_url, e) && wait_joined(p, e);
}

static void stop_all(struct process *p, bool leave)
{
    net_server_stop(p->public_server, GRACE_MS);
    if (p->node)
        node_stop(p->node, leave);
    if (p->coord)
        coord_stop(p->coord);
    net_server_stop(p->peer_server, GRACE_MS);
    node_free(p->node);
    coord_free(p->coord);
    gateway_free(p->gateway);
    if (p->client)
        net_client_close(p->client);
    blobs_close(p->blobs);
    table_slot_destroy(&p->slot);
    free(p->data_dir);
    json_decref(p->pins);
    if (p->lock_fd >= 0)
        (void)close(p->lock_fd);
}

extern const struct command command_up, command_join;

static int serve(const struct args *a, bool coordinator)
{
    struct err e = {0};
    static struct process process; /* static: groups and slot outlive every thread */
    struct process *p = &process;
    p->args = a;
    p->lock_fd = -1;
    log_set_level(args_flag(a, "verbose") ? LOG_DEBUG : LOG_INFO);
    /* Parts of uploads and modules leave no holes between small blocks that live on; models that
     * run in this very process need the heap as it is, for speed. */
    if (!args_flag(a, "in-process"))
        (void)mallopt(M_MMAP_THRESHOLD, BUFFER_OF_ITS_OWN);
    block_signals(&p->ends);
    table_slot_init(&p->slot);
    if (!check_options(p, coordinator, &e))
        return cli_usage(coordinator ? &command_up : &command_join, &e);
    bool want_node = !coordinator || !args_flag(a, "no-node");
    bool ok =
        create_parts(p, coordinator, &e) && (!want_node || create_node(p, &e)) && start_all(p, &e);
    ok = ok && say_ready(p, &e);
    if (ok)
        wait_for_end(&p->ends);
    stop_all(p, ok && !coordinator);
    return ok ? 0 : cli_fail(&e);
}

static int run_up(const struct args *a)
{
    return serve(a, true);
}

static int run_join(const struct args *a)
{
    return serve(a, false);
}

#define SERVE_OPTIONS                                                                              \
    {"listen", OPT_TEXT, "ADDRESS", "127.0.0.1:7070", "Public listener; port 0 takes a free one",  \
     NULL,     0,        0},                                                                       \
        {"peer-listen", OPT_TEXT, "ADDRESS", "127.0.0.1:0", "Listener for the other devices",      \
         NULL,          0,        0},                                                              \
        {"name", OPT_TEXT, "NAME", NULL, "Name of this device (default: the host's name)",         \
         NULL,   0,        0},                                                                     \
        {"memory",                                                                                 \
         OPT_BYTES,                                                                                \
         "SIZE",                                                                                   \
         NULL,                                                                                     \
         "Memory that modules may take here, e.g. 512M (default: what is free)",                   \
         NULL,                                                                                     \
         1 << 20,                                                                                  \
         0},                                                                                       \
        {"threads", OPT_NUMBER, "N", "0", "Threads of one run; 0: cores divided by lanes",         \
         NULL,      0,          1024},                                                             \
        {"lanes", OPT_NUMBER, "N", "1", "Runs at once", NULL, 1, 1024},                            \
        {"emulate",                                                                                \
         OPT_TEXT,                                                                                 \
         "LIST",                                                                                   \
         NULL,                                                                                     \
         "Wait as a slower device would: speed=0.25,link_mbit=100,link_ms=20",                     \
         NULL,                                                                                     \
         0,                                                                                        \
         0},                                                                                       \
        {"cache", OPT_BYTES, "SIZE", "64M", "Memory for results of modules", NULL, 0, 0},          \
        {"timeout", OPT_NUMBER, "S", "60", "Longest time of a request", NULL, 1, 3600},            \
        {"in-process",                                                                             \
         OPT_FLAG,                                                                                 \
         NULL,                                                                                     \
         NULL,                                                                                     \
         "Run models in this process instead of a sandboxed child",                                \
         NULL,                                                                                     \
         0,                                                                                        \
         0},                                                                                       \
        {"ready-file", OPT_TEXT, "FILE", NULL, "Write the addresses there (JSON) once all is up",  \
         NULL,         0,        0},                                                               \
        {"verbose", OPT_FLAG, NULL, NULL, "Log details", NULL, 0, 0}, OPTION_DATA, OPTION_RUNTIME, \
        OPTION_CONFIG

static const struct option_row up_options[] = {
    SERVE_OPTIONS,
    {"redundancy", OPT_NUMBER, "N", "0",
     "So many devices may die and every module still has a place, where memory allows", NULL, 0,
     REDUNDANCY_MAX},
    {"pin", OPT_LIST, "MODULE=DEVICE", NULL,
     "Where a module has to be, now or when either of the two comes", NULL, 0, 0},
    {"no-node", OPT_FLAG, NULL, NULL, "Coordinator and gateway only: this machine runs no modules",
     NULL, 0, 0},
};

static const struct option_row join_options[] = {
    {"coordinator", OPT_TEXT, "URL", NULL, "Address that `s2m3 up` prints", NULL, 0, 0},
    SERVE_OPTIONS,
};

const struct command command_up = {
    .name = "up",
    .usage = "[options]",
    .summary = "Start a fleet: coordinator, gateway and node in one process",
    .options = up_options,
    .option_count = ARRAY_LEN(up_options),
    .run = run_up,
    .more = "Runs until SIGINT, SIGTERM or SIGHUP; a second SIGINT does not wait for requests.  "
            "State and modules stay in the data folder."};
const struct command command_join = {
    .name = "join",
    .usage = "--coordinator URL [options]",
    .summary = "Join a fleet with this device: gateway and node",
    .options = join_options,
    .option_count = ARRAY_LEN(join_options),
    .run = run_join,
    .more = "Runs until SIGINT, SIGTERM or SIGHUP, then leaves the fleet; "
            "a second SIGINT does not wait for requests."};
