/* hop.c - what a hop costs: 4 KB (a vector), 150 KB (a JPEG), 1.2 MB (hidden states) there, 128
 * bytes back, over loopback, on one warm connection.
 *
 * The client is on core 0 and every server on core 1, as two devices are two computers: left to
 * itself the kernel puts some pairs on one core and others not, which is worth more than what is
 * measured here.
 *
 * Four stacks take turns in the same run, so that the machine's moods hit all alike; only the
 * ratios mean something.
 *     echo     bare sockets
 *     bare     libmicrohttpd with thread per connection, libcurl, both with few settings
 *     ours     net_server and net_client
 *     streams  the same by a NET_STREAMS route (the handler has a thread of its own)
 *
 *
 * With arguments URL DIGEST INPUT OUTPUT LIMIT: the hop of a module call instead of `ours`: a 4 KB tensor to
 * the module of that digest on the node at URL, as a gateway sends it, and its output back.
 * bench/fleet starts such nodes.
 *
 * Exit 1 when ours takes more times bare than a size's limit. */
#include "base/clock.h"
#include "base/num.h"
#include "base/sync.h"
#include "lib/samples.h"
#include "net/client.h"
#include "net/server.h"
#include "wire/call.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUEST_MAX 1200000
#define ANSWER_MAX 4224
#define ROUNDS 7
#define WARM 20

/* One line of goals: ours against bare at this size. */
struct size {
    size_t bytes;
    int per_round;
    double limit;
};
static const struct size sizes[] = {{4096, 1500, 1.2}, {150000, 400, 1.15}, {1200000, 60, 1.1}};

static char request[REQUEST_MAX], answer[ANSWER_MAX];
static size_t answer_bytes = 128; /* with a module: as many as it gives back */
static size_t request_bytes;      /* of the size under way; set while no thread runs */

/* A stack: one round trip per call; false ends the benchmark. */
struct stack {
    const char *name;
    bool (*call)(void *self);
    void *self;
    struct samples samples;
};

/* ---- echo ---- */

static bool read_all(int fd, char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = recv(fd, data, size, 0);
        if (n <= 0)
            return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

static void *echo_serve(void *arg)
{
    int listen_fd = *(int *)arg, one = 1, fd = accept(listen_fd, NULL, NULL);
    static char data[REQUEST_MAX];
    if (fd < 0)
        return NULL;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    while (read_all(fd, data, request_bytes))
        if (send(fd, answer, answer_bytes, MSG_NOSIGNAL) != (ssize_t)answer_bytes)
            break;
    close(fd);
    return NULL;
}

static bool echo_call(void *self)
{
    int fd = *(int *)self;
    char data[ANSWER_MAX];
    return send(fd, request, request_bytes, MSG_NOSIGNAL) == (ssize_t)request_bytes &&
           read_all(fd, data, answer_bytes);
}

static bool echo_open(int *ret_listen, int *ret_fd)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    int one = 1;
    *ret_listen = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *ret_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return *ret_listen >= 0 && *ret_fd >= 0 &&
           bind(*ret_listen, (struct sockaddr *)&at, size) == 0 && listen(*ret_listen, 1) == 0 &&
           getsockname(*ret_listen, (struct sockaddr *)&at, &size) == 0 &&
           connect(*ret_fd, (struct sockaddr *)&at, size) == 0 &&
           setsockopt(*ret_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0;
}

/* ---- bare libraries ---- */

static enum MHD_Result bare_access(void *arg, struct MHD_Connection *c, const char *url,
                                   const char *method, const char *version, const char *data,
                                   size_t *size, void **state)
{
    (void)arg;
    (void)url;
    (void)method;
    (void)version;
    static int begun;
    static char kept[REQUEST_MAX];
    static size_t kept_bytes;
    if (!*state) {
        *state = &begun;
        return MHD_YES;
    }
    if (*size) { /* a hop keeps what it gets */
        size_t n = num_min(*size, sizeof(kept) - kept_bytes);
        memcpy(kept + kept_bytes, data, n);
        kept_bytes += n;
        *size = 0;
        return MHD_YES;
    }
    kept_bytes = 0;
    struct MHD_Response *r =
        MHD_create_response_from_buffer(answer_bytes, answer, MHD_RESPMEM_PERSISTENT);
    enum MHD_Result queued = MHD_queue_response(c, 200, r);
    MHD_destroy_response(r);
    return queued;
}

static size_t bare_receive(char *data, size_t item, size_t count, void *arg)
{
    (void)data;
    *(size_t *)arg += item * count;
    return item * count;
}

static bool bare_call(void *self)
{
    CURL *curl = self;
    size_t received = 0;
    return curl_easy_setopt(curl, CURLOPT_WRITEDATA, &received) == CURLE_OK &&
           curl_easy_perform(curl) == CURLE_OK && received == answer_bytes;
}

static CURL *bare_client(uint16_t port, struct curl_slist *no_expect)
{
    char url[64];
    CURL *curl = curl_easy_init();
    if (!curl)
        return NULL;
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/hop", port);
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request);
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)request_bytes);
    (void)curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, 1L << 20);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, no_expect);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, bare_receive);
    return curl;
}

/* ---- ours ---- */

static void answer_hop(struct net_request *r, void *ctx)
{
    (void)ctx;
    net_reply(r, 200, "application/octet-stream", answer, answer_bytes);
}

static const struct net_route routes[] = {
    {.method = "POST", .path = "/hop", .max_body = REQUEST_MAX, .handle = answer_hop},
    {.method = "POST",
     .path = "/streams",
     .max_body = REQUEST_MAX,
     .flags = NET_STREAMS,
     .handle = answer_hop},
};

struct ours {
    struct net_client *client;
    char url[64];
};

static bool ours_call(void *self)
{
    const struct ours *o = self;
    struct net_part part = {request, request_bytes};
    struct net_call call = {.method = "POST", .url = o->url, .parts = &part, .part_count = 1};
    struct net_answer a;
    if (!net_call(o->client, &call, &a, NULL))
        return false;
    bool ok = a.status == 200 && a.size == answer_bytes;
    net_answer_clear(&a);
    return ok;
}

/* ---- a module on a node ---- */

struct module_hop {
    struct net_client *client;
    char url[300];
    struct call call;
};

static bool module_call(void *self)
{
    struct module_hop *m = self;
    struct frame_out out;
    struct net_answer a;
    static struct call_answer got;
    bool ok = call_write(&m->call, &out, NULL);
    struct net_part parts[2] = {{out.head.data, out.head.size},
                                {m->call.inputs[0].tensor.data, m->call.inputs[0].tensor.bytes}};
    struct net_header type = {"Content-Type", FRAME_CONTENT_TYPE};
    struct net_call call = {.method = "POST",
                            .url = m->url,
                            .headers = &type,
                            .header_count = 1,
                            .parts = parts,
                            .part_count = 2};
    ok = ok && net_call(m->client, &call, &a, NULL);
    frame_out_clear(&out);
    if (!ok)
        return false;
    struct mem *body = a.status == 200 ? mem_wrap(a.body, a.size, free, a.body) : NULL;
    if (body)
        a.body = NULL;
    ok = body && call_answer_read(body, &got, NULL) && got.output_count == 1;
    mem_unref(body);
    if (ok)
        call_answer_clear(&got);
    net_answer_clear(&a);
    return ok;
}

/* The input is (1,3,18,19) float32, which is 4 KB. */
static bool module_open(struct module_hop *m, char **argv)
{
    struct shape s = {.rank = 4, .dims = {1, 3, 18, 19}};
    struct call *c = &m->call;
    if (strlen(argv[2]) != DIGEST_HEX || strlen(argv[3]) >= TENSOR_NAME_MAX ||
        strlen(argv[4]) >= TENSOR_NAME_MAX)
        return false;
    (void)snprintf(m->url, sizeof(m->url), "%.250s/s2m3/v1/call", argv[1]);
    (void)snprintf(c->key.request, sizeof(c->key.request), "bench");
    (void)snprintf(c->key.call, sizeof(c->key.call), "noop");
    memcpy(c->module.hex, argv[2], sizeof(c->module.hex));
    c->deadline_ms = 10000;
    c->fresh = true;
    c->input_count = 1;
    c->inputs[0].source = CALL_TENSOR;
    memcpy(c->inputs[0].port, argv[3], strlen(argv[3]) + 1);
    c->return_count = 1;
    (void)snprintf(c->returns[0], sizeof(c->returns[0]), "%s", argv[4]);
    return tensor_new(DT_F32, &s, &c->inputs[0].tensor, NULL);
}

/* ---- cores ---- */

/* The calling thread, and those that it makes from now on.  With one core: nothing. */
static void stay_on(int core)
{
    cpu_set_t set;
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
        return;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    (void)pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

/* ---- run ---- */

static bool run_rounds(struct stack *stacks, size_t count, int per_round)
{
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < count; i++)
            for (int n = 0; n < WARM + per_round; n++) {
                int64_t start = clock_now_ns();
                if (!stacks[i].call(stacks[i].self))
                    return false;
                if (n >= WARM)
                    samples_add(&stacks[i].samples, start, clock_now_ns());
            }
    return true;
}

static bool report(struct stack *stacks, size_t count, const struct size *size)
{
    double echo = samples_at(&stacks[0].samples, 0.5);
    double bare = samples_at(&stacks[1].samples, 0.5), ours = samples_at(&stacks[2].samples, 0.5);
    printf("%zu bytes there, %zu back, %d x %d requests\n", size->bytes, answer_bytes, ROUNDS,
           size->per_round);
    printf("%-8s %8s %8s %8s %8s\n", "stack", "p50 us", "p99 us", "/ echo", "/ bare");
    for (size_t i = 0; i < count; i++) {
        double p50 = samples_at(&stacks[i].samples, 0.5);
        printf("%-8s %8.1f %8.1f %8.2f %8.2f\n", stacks[i].name, p50,
               samples_at(&stacks[i].samples, 0.99), p50 / echo, p50 / bare);
    }
    bool ok = ours <= size->limit * bare;
    printf("%s / bare %.2f, limit %.2f: %s\n", stacks[2].name, ours / bare, size->limit,
           ok ? "ok" : "over");
    return ok;
}

/* Runs the given stacks beside echo and bare on one size. */
static bool run_size(const struct size *size, CURL *curl, const struct stack *more,
                     size_t more_count, bool *ret_ok)
{
    int listen_fd, fd;
    pthread_t thread;
    request_bytes = size->bytes;
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)request_bytes);
    stay_on(1);
    bool served =
        echo_open(&listen_fd, &fd) && thread_start(&thread, "echo", echo_serve, &listen_fd, NULL);
    stay_on(0);
    if (!served)
        return false;
    struct stack stacks[4] = {{"echo", echo_call, &fd, {0}}, {"bare", bare_call, curl, {0}}};
    size_t count = 2 + num_min(more_count, 2);
    bool ok = true;
    for (size_t i = 2; i < count; i++)
        stacks[i] = more[i - 2];
    for (size_t i = 0; i < count; i++)
        ok = samples_init(&stacks[i].samples) && ok;
    ok = ok && run_rounds(stacks, count, size->per_round);
    if (ok)
        *ret_ok = report(stacks, count, size) && *ret_ok;
    for (size_t i = 0; i < count; i++)
        samples_free(&stacks[i].samples);
    close(fd);
    (void)pthread_join(thread, NULL);
    close(listen_fd);
    return ok;
}

int main(int argc, char **argv)
{
    static struct module_hop module;
    struct err e = {0};
    struct ours plain, streams;
    struct net_server *server;
    struct net_group group = {routes, ARRAY_LEN(routes), NULL};
    struct net_server_options options = {.groups = &group, .group_count = 1};
    stay_on(1);
    if (!net_client_open(NULL, &plain.client, &e) || !net_server_start(&options, &server, &e)) {
        fprintf(stderr, "hop: %s\n", e.text);
        return 1;
    }
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL,
        NULL, bare_access, NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)NET_CONNECTION_MEMORY,
        MHD_OPTION_END);
    const union MHD_DaemonInfo *info =
        daemon ? MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT) : NULL;
    struct curl_slist *no_expect = curl_slist_append(NULL, "Expect:");
    stay_on(0);
    CURL *curl = info && no_expect ? bare_client(info->port, no_expect) : NULL;
    streams.client = plain.client;
    unsigned port = net_server_port(server);
    (void)snprintf(plain.url, sizeof(plain.url), "http://127.0.0.1:%u/hop", port);
    (void)snprintf(streams.url, sizeof(streams.url), "http://127.0.0.1:%u/streams", port);
    struct stack net[] = {{"ours", ours_call, &plain, {0}}, {"streams", ours_call, &streams, {0}}};
    struct stack node[] = {{"module", module_call, &module, {0}}};
    module.client = plain.client;
    bool ran = curl != NULL, ok = true;
    if (argc == 6) {
        struct size size = {4096, 1500, strtod(argv[5], NULL)};
        answer_bytes = ANSWER_MAX;
        ran = ran && module_open(&module, argv) && run_size(&size, curl, node, 1, &ok);
    }
    for (size_t i = 0; argc != 6 && ran && i < ARRAY_LEN(sizes); i++)
        ran = run_size(&sizes[i], curl, net, ARRAY_LEN(net), &ok);
    call_clear(&module.call);
    if (!ran)
        fprintf(stderr, "hop: a call failed\n");
    curl_easy_cleanup(curl);
    curl_slist_free_all(no_expect);
    if (daemon)
        MHD_stop_daemon(daemon);
    net_client_close(plain.client);
    net_server_stop(server, 1000);
    return ran && ok ? 0 : 1;
}
