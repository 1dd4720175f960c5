/* server.h - an HTTP/1.1 server for blocking handlers.
 *
 * Routes are const tables; several owners bring theirs to one listener as groups.  Each connection
 * has a thread of its own, which calls the handler of the matching route and may block in it.  The
 * server answers by itself what never needs a handler: 404, 405 with Allow, 411, 413, 414, 415,
 * 431, 403 (Host, Origin, certificate), 401 (key), 503 with Retry-After.
 *
 * A handler answers exactly once, by one of the net_reply functions or by a stream.  A second
 * answer is dropped; no answer becomes 500.
 *
 * Ownership: everything that a net_request gives is borrowed until the handler returns, except the
 * body after net_request_take_body() and a cancel token that the handler refs.
 * Threads: a request belongs to the thread that its handler was called on. */
#pragma once
#include "net/http.h"
#include "net/tls.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cancel;
struct net_request;
struct net_server;

#define NET_CONNECTIONS_DEFAULT 2048u
#define NET_ORDINARY_DEFAULT 512u
#define NET_CONNECTION_MEMORY (64u << 10) /* per connection; also about the limit of headers */
#define NET_IDLE_S_DEFAULT 60u
#define NET_BODIES_DEFAULT ((size_t)2 << 30) /* bytes of all bodies held at once */
#define NET_TIMEOUT_MS_DEFAULT 600000        /* of one request */
#define NET_STREAM_BUFFER (256u << 10)       /* bytes of a stream that wait for a slow client */

/* Flags of a route. */
#define NET_CONTROL 1u   /* served even when ordinary requests are at their limit */
#define NET_STREAMS 2u   /* the handler may stream: it runs on a thread beside the connection's */
#define NET_ANONYMOUS 4u /* no client certificate and no key needed: joining, health */
#define NET_NEEDS_LENGTH 8u /* 411 unless the request has Content-Length or is chunked */

struct net_route {
    const char *method;
    const char *path; /* "/v2/models/{model}/infer"; "{rest...}" as the last segment */
    size_t max_body;  /* bytes; 0 = no body allowed */
    unsigned flags;
    void (*handle)(struct net_request *req, void *ctx);
    const char *summary; /* one line for the description of the API */
    const char *accepts; /* media types of the body, comma list, "image/" for a family; NULL any.
                             A body without Content-Type passes. */
    const void *data;    /* the handler's own, see net_request_route() */
};

/* Kept: the table outlives the server.  The first matching path wins, in order of groups. */
struct net_group {
    const struct net_route *routes;
    size_t count;
    void *ctx;
};

/* Told after each answered request, on its connection's thread; route is NULL if none matched. */
struct net_done {
    const struct net_route *route;
    int status;
    double ms; /* from the request line until the answer was sent */
};

struct net_server_options {
    const char *host; /* address to bind; NULL = 127.0.0.1 */
    uint16_t port;    /* 0 = any free one */
    const struct net_group *groups;
    size_t group_count;
    unsigned max_connections; /* the 0 of this and the following means the default above */
    unsigned max_ordinary;    /* requests under way of routes without NET_CONTROL */
    size_t connection_memory;
    /* A connection without a whole request header, in all (less while more than half of them are
     * taken), or one that sends or reads nothing.  timeout_ms: for a body, and for taking an answer. */
    unsigned idle_s;
    size_t max_bodies;
    int64_t timeout_ms;
    struct net_tls *tls;      /* NULL = plain */
    bool public_checks;       /* Host and Origin must be loopback or in names */
    const char *const *names; /* more allowed host names, lower case, without port */
    size_t name_count;
    const char *key; /* "Authorization: Bearer KEY" from peers that aren't loopback */
    bool (*check_key)(void *arg, const char *key); /* asked when key is NULL or another */
    void *check_arg;
    void (*done)(void *arg, const struct net_done *done);
    void *done_arg;
};

/* Raises the soft limit of open files if max_connections needs that, or takes fewer connections
 * where it can't be raised so far.  Options are copied, groups
 * and names kept. */
bool net_server_start(const struct net_server_options *options, struct net_server **ret,
                      struct err *e);
uint16_t net_server_port(const struct net_server *s);

/* Stops accepting, refuses new requests with 503, waits up to grace_ms for those under way, then
 * fires their cancel tokens and waits for the handlers' return.  Frees s.  NULL is fine. */
void net_server_stop(struct net_server *s, int64_t grace_ms);

struct net_counts {
    unsigned connections;       /* open now */
    unsigned ordinary, control; /* requests under way */
    uint64_t accepted;          /* connections ever */
    uint64_t requests;          /* ever */
    size_t bodies;              /* bytes held */
};
void net_server_counts(struct net_server *s, struct net_counts *ret);

/* ---- the request ---- */

const struct net_route *net_request_route(const struct net_request *r);
const char *net_request_method(const struct net_request *r);
const char *net_request_path(const struct net_request *r);       /* raw, without query */
const char *net_request_query_text(const struct net_request *r); /* raw, "" when there is none */

/* Decoded value of a {name} of the route; NULL: the route has no such name. */
const char *net_request_param(const struct net_request *r, const char *name);
/* Decoded first value of a query name; NULL: absent. */
const char *net_request_query(const struct net_request *r, const char *name);
/* First value of a header field, case of the name ignored; NULL: absent. */
const char *net_request_header(struct net_request *r, const char *name);

const char *net_request_peer(const struct net_request *r); /* address as text, without port */
/* Common name of the verified client certificate; NULL: none, or no authority is set. */
const char *net_request_peer_name(const struct net_request *r);

/* The whole body, never NULL (an empty one has size 0); a 0 that is not counted follows. */
const void *net_request_body(const struct net_request *r, size_t *ret_size);

/* Takes the body over, without a copy: release(arg) when done, from any thread.  Its bytes count
 * against max_bodies until then.  release is never NULL.  May outlive the request and the
 * server. */
struct net_body {
    const void *data;
    size_t size;
    void (*release)(void *arg);
    void *arg;
};
void net_request_take_body(struct net_request *r, struct net_body *ret);

/* Fires when the client goes away or the server gives up waiting for the handler.  Borrowed;
 * cancel_ref() to keep it. */
struct cancel *net_request_cancel(struct net_request *r);
int64_t net_request_deadline(const struct net_request *r); /* clock.h */

/* ---- the answer ---- */

/* A further header field of the answer, before answering; name and value are copied.  Line ends
 * in either: dropped. */
void net_reply_header(struct net_request *r, const char *name, const char *value);

/* data is copied. content_type may be NULL. */
void net_reply(struct net_request *r, int status, const char *content_type, const void *data,
               size_t size);
/* value is stolen, also on failure. */
void net_reply_json(struct net_request *r, int status, json_t *value);
/* {"error": text, "code": name} with err_http(); Retry-After with ERR_BUSY. */
void net_reply_err(struct net_request *r, const struct err *err);
/* The list of parts is copied, their memory borrowed until release(arg), which is called exactly
 * once, from any thread, also when nothing could be sent.  At most NET_PARTS_MAX parts. */
void net_reply_parts(struct net_request *r, int status, const char *content_type,
                     const struct net_part *parts, size_t count, void (*release)(void *arg),
                     void *arg);

/* An answer whose length is not known yet (chunked), for routes with NET_STREAMS: begin, any
 * number of writes, end.  write waits while NET_STREAM_BUFFER bytes wait for the client; false
 * (ERR_CANCELLED, ERR_TIMEOUT) when the client has gone or the deadline passed: stop then.
 * end(false) breaks the connection off, so that the client sees that the answer is incomplete. */
bool net_stream_begin(struct net_request *r, int status, const char *content_type, struct err *e);
bool net_stream_write(struct net_request *r, const void *data, size_t size, struct err *e);
void net_stream_end(struct net_request *r, bool complete);
