/* client_internal.h - what client.c and link.c share; not for other folders. */
#pragma once
#include "base/buf.h"
#include "net/client.h"

#include <curl/curl.h>

/* Where a call goes: everything that two calls must have in common to share a connection. */
struct target {
    char origin[NET_HOST_MAX + 16];     /* "https://host:port", as given, lower case */
    char prefix[NET_HOST_MAX + 16];     /* the same with the certificate's name as the host */
    char connect_to[NET_HOST_MAX + 16]; /* "::host:port" when the two differ, else "" */
    const char *path;                   /* borrowed from the URL: "/path?query", or "" */
    bool secure, unverified;
};

bool target_parse(const char *url, const char *peer_name, unsigned flags, struct target *ret,
                  struct err *e);

/* One transfer: what goes out and what has come in. */
struct transfer {
    const struct net_call *call; /* borrowed */
    size_t part, offset;         /* next byte to send */
    size_t max;                  /* bytes of the answer's body */
    struct buf body, head;
    bool answered;         /* a status line came */
    enum err_code failure; /* why a callback stopped the transfer */
};

struct link {
    struct link *next;
    int64_t idle_ns;           /* when it became idle */
    CURL *easy;                /* owned */
    CURLM *multi;              /* owned */
    struct curl_slist *route;  /* owned; connect_to as the library wants it */
    struct curl_slist *fields; /* owned; of the transfer */
    char *joined;              /* owned; a small body in one piece */
    struct target target;      /* path unset */
    bool fresh;                /* this attempt must not use a kept connection */
    struct transfer transfer;
    char error[CURL_ERROR_SIZE];
};

struct link *link_new(const struct target *t, const struct net_tls *tls, int64_t connect_ms,
                      struct err *e);
void link_free(struct link *l); /* accepts NULL */
bool link_fits(const struct link *l, const struct target *t);
bool link_is_to(const struct link *l, const char *origin);

/* Sets the handle for one attempt of a call. */
bool net_link_prepare(struct link *l, const struct net_call *call, int64_t deadline_ns,
                      struct err *e);
/* The failure of an attempt as an err; returns false. */
bool link_error(const struct link *l, CURLcode code, struct err *e);
/* Moves the answer out. */
bool link_answer(struct link *l, struct net_answer *ret, struct err *e);
/* Lets go of everything that belongs to the call. */
void link_reset(struct link *l);
