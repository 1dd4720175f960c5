/* client.h - HTTP/1.1 calls to other machines, blocking, over warm connections.
 *
 * A client keeps idle connections per peer; a call takes one (or makes one) and gives it back.
 * No proxies, no redirects, no system trust store, http and https only.
 *
 * A status of 400 and above is an answer, not an error of the call: net_answer_err() makes an err
 * of it.  Errors of net_call():
 *   ERR_INVALID    the call itself (URL, method, sizes)
 *   ERR_GONE       the peer can't be reached, broke off, or is not who it should be
 *   ERR_TIMEOUT    the deadline passed
 *   ERR_CANCELLED  the cancel token fired, or on_data said stop
 *   ERR_TOO_LARGE  the answer is over max_response
 *   ERR_MEMORY
 *
 * Threads: any number may call at once. */
#pragma once
#include "net/http.h"
#include "net/tls.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cancel;
struct net_client;

#define NET_RESPONSE_DEFAULT ((size_t)1 << 30) /* bytes of an answer's body */
#define NET_ANSWER_HEADERS_MAX (64u << 10)     /* bytes of an answer's header fields */
#define NET_CONNECT_MS_DEFAULT 3000
#define NET_IDLE_PEER_DEFAULT 64u /* idle connections kept per peer */
#define NET_IDLE_ALL_DEFAULT 512u
#define NET_IDLE_MS_DEFAULT 20000 /* below the idle limit of servers, see server.h */

struct net_client_options {
    struct net_tls *tls;    /* NULL: https fails unless the call is NET_CALL_UNVERIFIED */
    int64_t connect_ms;     /* 0 = default */
    unsigned idle_per_peer; /* 0 = default */
    unsigned idle_all;      /* 0 = default */
    int64_t idle_ms;        /* an idle connection is closed after that; 0 = default */
};

/* options may be NULL. */
bool net_client_open(const struct net_client_options *options, struct net_client **ret,
                     struct err *e);
void net_client_close(struct net_client *c); /* no call may be under way; accepts NULL */

/* Drops the connections to a peer that have been idle for so long: 0, because it is known to be gone;
 * or earlier than those to others, because a new one costs little.  url as in calls. */
void net_client_forget(struct net_client *c, const char *url, int64_t idle_ms);

/* Flags of a call. */
#define NET_CALL_ONCE                                                                              \
    1u /* must not be sent twice: on a fresh connection, never repeated.
                                  Without it a call that met a stale connection, and got nothing
                                  of an answer, is sent again once on a fresh one. */
#define NET_CALL_UNVERIFIED                                                                        \
    2u /* the peer's certificate is not looked at: only for content that is
                                  checked by a digest known from elsewhere */

struct net_call {
    const char *method;               /* NULL = GET */
    const char *url;                  /* http://… or https://… */
    const char *peer_name;            /* name in the peer's certificate; NULL = the URL's host */
    const struct net_header *headers; /* Content-Type among them */
    size_t header_count;
    const struct net_part *parts; /* the body, sent without being joined */
    size_t part_count;
    int64_t deadline_ns;   /* clock.h; 0 = none */
    size_t max_response;   /* bytes; 0 = default */
    struct cancel *cancel; /* borrowed; noticed at once; NULL = none */
    unsigned flags;
    /* Gets the body of an answer below 400 as it comes, instead of net_answer.body; false stops. */
    bool (*on_data)(void *arg, const void *data, size_t size);
    void *on_data_arg;
};

struct net_answer {
    int status;
    char content_type[128]; /* "" when absent; longer ones are cut */
    char *body;             /* owned, an uncounted 0 follows; never NULL after success */
    size_t size;
    double connect_ms;    /* 0 on a warm connection; TLS included */
    double first_byte_ms; /* of the answer, from the call's start */
    double total_ms;
    bool reused; /* the connection was warm */
    char *head;  /* owned: header fields as received */
};

/* Fills *ret only on success; then net_answer_clear() is due. */
bool net_call(struct net_client *c, const struct net_call *call, struct net_answer *ret,
              struct err *e);

/* Copies the first value of a header field of the answer; false when absent or too long. */
bool net_answer_header(const struct net_answer *a, const char *name, char *ret, size_t max);

/* status below 400: true.  Else the JSON error body as an err (its code by name, or from the
 * status when the body is something else), and false. */
bool net_answer_err(const struct net_answer *a, struct err *e);

void net_answer_clear(struct net_answer *a); /* accepts a zeroed one, and twice */
