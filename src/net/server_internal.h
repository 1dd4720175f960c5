/* server_internal.h - what the files of the server share; not for other folders.
 *
 * Data structures: a server has connections (each with a `peer`, made when it is accepted), a
 * connection has one request at a time, a request at most one stream.  The watcher knows the
 * connections on which somebody asked for a request's cancel token.
 *
 * Life of a request: begun by its request line (request_begin), admitted or refused when the header
 * is there (admit), filled with its body, handled, answered, ended (request_end). */
#pragma once
#include "base/cancel.h"
#include "base/clock.h"
#include "base/sync.h"
#include "net/server.h"
#include "net/tls_internal.h"

#include <microhttpd.h>
#include <stdatomic.h>

/* A refused body up to this size is read and dropped, so that the connection can be kept. */
#define SWALLOW_MAX (64u << 10)
/* A chunked body that goes on this far beyond its limit is cut off. */
#define OVERRUN_MAX (1u << 20)
/* Connections that must stay free for control requests: ordinary ones are not kept open beyond. */
#define CROWDED_IDLE_MS 5000
#define CONNECTIONS_RESERVED 32u

/* ---- watch.c: one thread that notices clients going away ---- */

struct watcher;
/* tick: called by its thread about once a second; takes its time out of noticing clients. */
struct watcher *watcher_start(unsigned slots, void (*tick)(void *arg), void *arg, struct err *e);
void watcher_stop(struct watcher *w); /* accepts NULL */
/* A slot for a connection; -1 when none is free: its requests run unwatched. */
int watcher_add(struct watcher *w, int fd);
/* Until watcher_end(): fires c (which it refs) when the peer closes, or at once when it has.
 * After watcher_abort() the token fires at once.  Slot -1: nothing. */
void watcher_begin(struct watcher *w, int slot, struct cancel *c);
void watcher_end(struct watcher *w, int slot);
void watcher_remove(struct watcher *w, int slot); /* before fd is closed; -1: nothing */
/* Fires all tokens that are and will be added. */
void watcher_abort(struct watcher *w);
bool watcher_aborted(struct watcher *w);

/* ---- server.c ---- */

/* Bytes of bodies in memory.  Counted, because a taken body may outlive its server. */
struct body_budget {
    atomic_uint refs;
    atomic_size_t bytes;
    size_t max;
};
bool budget_take(struct body_budget *b, size_t bytes);
void budget_give(struct body_budget *b, size_t bytes);
void budget_unref(struct body_budget *b);

struct net_server {
    struct net_server_options options; /* set before start, then only read */
    struct net_group *groups;          /* owned copy */
    struct net_tls *tls;               /* owned reference */
    char *key;                         /* owned */
    struct MHD_Daemon *daemon;
    struct watcher *watcher;
    struct body_budget *budget; /* owned reference */
    int listen_fd;
    unsigned reserved; /* connections that count in the limit of open files */
    uint16_t port;
    atomic_uint connections;
    atomic_uint_fast64_t accepted, requests;

    struct monitor lock; /* protects what follows; woken when a count falls to 0 */
    unsigned ordinary, control;
    bool stopping;
    struct peer *peers; /* all connections */
};

enum peer_trust { PEER_UNKNOWN, PEER_NONE, PEER_REFUSED, PEER_VERIFIED };

/* What a connection's client is waited for, at most that long in all: the library's limit counts
 * from its last byte, and one byte now and then would keep a connection for ever. */
enum peer_phase {
    PEER_HEAD, /* the next request: idle_s, or CROWDED_IDLE_MS when more than half are taken */
    PEER_BODY, /* the rest of a request: the server's limit of a request */
    PEER_RUN,  /* for nothing: a handler runs, or streams its answer */
    PEER_READ, /* that it takes the answer: as PEER_BODY */
};

/* One connection.  Only its own thread touches it after it was accepted, until it is closed; but
 * phase and since_ns are looked at by the watcher, and the list is under the server's lock. */
struct peer {
    struct peer *next, **at; /* at: what points to it */
    int fd;
    atomic_int phase;
    atomic_int_fast64_t since_ns;
    char address[64];
    bool loopback;
    enum peer_trust trust; /* looked at once, at the first request that needs it */
    char name[NET_HOST_MAX];
    int watch_slot; /* -1: none yet */
    /* Owned, from its request line to request_completed.  The library leaves that out for requests
     * that it drops by itself (a header over its memory): they end with their connection. */
    struct net_request *request;
};

struct query_pair {
    char *name, *value; /* into net_request.decoded */
};

/* What the connection's thread and a streaming handler's thread share. */
struct stream {
    struct monitor lock; /* protects what follows */
    bool begun;          /* the answer's head may go out */
    bool returned;       /* the handler is done, with or without a stream */
    bool ended, complete;
    char *data; /* owned; bytes start .. end wait for the client */
    size_t start, end, capacity;

    struct cancel_watch watch; /* set by the handler's thread */
    pthread_t thread;
    bool started, joined;
};

enum request_state { REQUEST_NEW, REQUEST_BODY, REQUEST_SWALLOW, REQUEST_ANSWERED };

/* A body that its handler keeps. */
struct taken_body {
    struct body_budget *budget; /* owned reference */
    char *data;                 /* owned */
    size_t size;
};

struct net_request {
    struct net_server *server;
    struct MHD_Connection *connection;
    struct peer *peer; /* kept by the connection */
    enum request_state state;
    int64_t start_ns, deadline_ns;

    char *url;         /* owned: path, 0, query, 0 */
    const char *path;  /* into url */
    const char *query; /* into url */
    char *decoded;     /* owned: the values below */
    char *params[NET_PATH_PARAMS_MAX];
    int param_count;
    struct query_pair pairs[NET_QUERY_MAX];
    int pair_count;

    const struct net_route *route; /* NULL until matched */
    void *ctx;
    bool counted; /* among ordinary or control */

    char *body;               /* owned until taken */
    struct taken_body *taken; /* owned; made with the body, so that taking can't fail */
    size_t body_size, body_capacity;
    uint64_t body_expected; /* Content-Length; 0 also when chunked */
    bool has_length, chunked, expects;
    size_t swallowed; /* bytes of a refused body */

    struct cancel *cancel; /* owned; made when asked for */
    bool watched;          /* cancel is with the watcher */

    struct MHD_Response *response; /* owned until queued */
    int status;
    bool answered, close;
    struct net_header headers[NET_REPLY_HEADERS_MAX]; /* owned texts */
    int header_count;

    struct stream *stream; /* owned; only with NET_STREAMS */
};

/* ---- request.c ---- */

struct net_request *request_begin(struct net_server *s, const char *url, struct MHD_Connection *c);
void request_end(struct net_request *r); /* frees; accepts NULL */
void request_unwatch(struct net_request *r);
bool request_body_add(struct net_request *r, const char *data, size_t size, struct err *e);

/* ---- admit.c ---- */

/* Looks at the whole header.  false: refused, an answer is set, r->close when the connection must
 * not be used any more. */
bool request_admit(struct net_request *r, const char *method);

/* ---- reply.c ---- */

void reply_refuse(struct net_request *r, int status, enum err_code code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* What a client is told for which there is no time left: it may ask another server. */
void reply_stopping(struct net_request *r);
/* Gives the answer to the library; 500 when there is none. */
enum MHD_Result reply_queue(struct net_request *r);

/* ---- stream.c ---- */

/* Calls the handler on a thread of its own and returns when it has returned or begun a stream. */
bool stream_run_handler(struct net_request *r, struct err *e);
/* The connection is done with the request: ends the stream and waits for the handler. */
void stream_finish(struct net_request *r);
/* Starts the clock of the connection's idle limit again. */
void connection_touch(struct net_request *r);
