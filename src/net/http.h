/* http.h - what server and client share: pieces of memory, header fields, limits, and the pure
 * parsers of everything that a stranger writes into a request line or a header field.
 *
 * The parsers touch nothing but their arguments: they are what the fuzz targets drive. */
#pragma once
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define NET_URL_MAX 8192         /* bytes of path and query; longer: 414 */
#define NET_PATH_PARAMS_MAX 4    /* {names} in one route */
#define NET_QUERY_MAX 32         /* name=value pairs; more: 400 */
#define NET_HEADERS_MAX 100      /* header fields of a request; more: 431 */
#define NET_REPLY_HEADERS_MAX 16 /* header fields that a handler may add */
#define NET_PARTS_MAX 130        /* pieces of one body that is sent */
#define NET_HOST_MAX 256         /* a host name or address, with the 0 */

/* How long a request may take, in ms, as the client says; the server's own limit is the ceiling. */
#define NET_TIMEOUT_HEADER "S2M3-Timeout-Ms"

/* A piece of memory to send, borrowed until the function that takes it says otherwise. */
struct net_part {
    const void *data;
    size_t size;
};

struct net_header {
    const char *name;
    const char *value;
};

/* A text inside another one, not terminated. */
struct net_slice {
    const char *at;
    size_t size;
};

/* %XX decoding of size bytes into ret (room for max bytes, the 0 included).  plus: '+' is a space,
 * as in queries.  Refused: a broken escape, a zero byte, bytes that are no UTF-8, too long. */
bool net_percent_decode(const char *text, size_t size, bool plus, char *ret, size_t max,
                        struct err *e);

/* Does the raw (still encoded) path fit a pattern such as "/v2/models/{model}/infer"?  A {name}
 * takes one segment of at least one byte; a last segment "{name...}" takes the rest, empty
 * included.  ret (NET_PATH_PARAMS_MAX places, in order of the pattern) gets the raw values. */
bool net_path_match(const char *pattern, const char *path, size_t size, struct net_slice *ret,
                    int *ret_count);

/* The next name=value of a raw query: moves *query on, false at the end.  Empty pairs are passed
 * over; a name without '=' has an empty value. */
bool net_query_next(struct net_slice *query, struct net_slice *ret_name,
                    struct net_slice *ret_value);

/* Splits "name", "name:80", "1.2.3.4:80", "[::1]:80" into the host (lower case, without brackets
 * and a closing dot) and the port (0 when there is none). */
bool net_host_split(const char *text, char ret_host[NET_HOST_MAX], uint16_t *ret_port,
                    struct err *e);

/* localhost, *.localhost, 127.0.0.0/8, ::1 and its mapped form. host: as net_host_split gives it. */
bool net_host_is_loopback(const char *host);

/* Is the value of a Host field (or, with origin, of an Origin field) loopback or on the list? */
bool net_host_allowed(const char *value, bool origin, const char *const *names, size_t count);

/* Content-Length as a number: digits only, no sign, no list. */
bool net_length_parse(const char *text, uint64_t max, uint64_t *ret, struct err *e);

/* Does the media type of a Content-Type value equal one of a comma list ("application/json,
 * image/", where an entry that ends with '/' takes the whole family)? */
bool net_type_matches(const char *value, const char *list);

/* The token of "Bearer TOKEN" (case of the word ignored), or NULL. */
const char *net_bearer(const char *value);
