/* link.c - one libcurl handle with its connection: settings, callbacks, errors.
 *
 * Settings that were measured: a 1 MiB upload buffer (1.7 times faster at 1.2 MB than the default),
 * an empty Expect (else a second's wait against servers that don't know it), no certificate folder
 * (the default reads the whole system store at each handshake, and would trust it). */
#include "base/clock.h"
#include "base/num.h"
#include "net/client_internal.h"
#include "net/tls_internal.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define UPLOAD_BUFFER (1L << 20)
#define RECEIVE_BUFFER (128L << 10)
#define JOIN_MAX (32u << 10) /* bodies up to this size leave with the head */
#define IDLE_S 50L           /* below the 60 s after which servers close idle connections */
#define ALIVE_S 10L          /* silence after which the peer's machine is probed */
#define ALIVE_STEP_S 5L
#define UNACKED_MS 20000u /* sent and not acknowledged: the peer is gone */

/* ---- target ---- */

bool target_parse(const char *url, const char *peer_name, unsigned flags, struct target *ret,
                  struct err *e)
{
    char host[NET_HOST_MAX], authority[NET_HOST_MAX + 8];
    uint16_t port;
    bool secure = strncasecmp(url, "https://", 8) == 0;
    if (!secure && strncasecmp(url, "http://", 7) != 0)
        return err_set(e, ERR_INVALID, "call: '%.80s' is not an http or https URL", url);
    const char *at = url + (secure ? 8 : 7);
    size_t size = strcspn(at, "/?#");
    if (size >= sizeof(authority) || strlen(url) > NET_URL_MAX)
        return err_set(e, ERR_INVALID, "call: the URL is too long");
    memcpy(authority, at, size);
    authority[size] = 0;
    if (!net_host_split(authority, host, &port, e))
        return err_prefix(e, "call: '%.80s'", url);
    for (const char *c = at + size; *c; c++)
        if (*c <= ' ' || *c == 127)
            return err_set(e, ERR_INVALID, "call: a URL holds no spaces and control bytes");
    memset(ret, 0, sizeof(*ret));
    if (port == 0)
        port = secure ? 443 : 80;
    bool six = strchr(host, ':');
    (void)snprintf(ret->origin, sizeof(ret->origin), "%s://%s%s%s:%u", secure ? "https" : "http",
                   six ? "[" : "", host, six ? "]" : "", port);
    memcpy(ret->prefix, ret->origin, sizeof(ret->prefix));
    if (secure && peer_name && strcmp(peer_name, host) != 0) {
        uint16_t none;
        char name[NET_HOST_MAX];
        if (!net_host_split(peer_name, name, &none, e) || none || strchr(name, ':'))
            return err_set(e, ERR_INVALID, "call: '%.80s' is not a peer's name", peer_name);
        (void)snprintf(ret->prefix, sizeof(ret->prefix), "https://%s:%u", name, port);
        (void)snprintf(ret->connect_to, sizeof(ret->connect_to), "::%s", ret->origin + 8);
    }
    ret->path = at + size;
    ret->secure = secure;
    ret->unverified = secure && flags & NET_CALL_UNVERIFIED;
    return true;
}

bool link_fits(const struct link *l, const struct target *t)
{
    return strcmp(l->target.origin, t->origin) == 0 && strcmp(l->target.prefix, t->prefix) == 0 &&
           l->target.unverified == t->unverified;
}

bool link_is_to(const struct link *l, const char *origin)
{
    return strcmp(l->target.origin, origin) == 0;
}

/* ---- callbacks ---- */

static size_t send_more(char *ret, size_t item, size_t count, void *arg)
{
    struct transfer *t = arg;
    size_t room = item * count, done = 0;
    while (done < room && t->part < t->call->part_count) {
        const struct net_part *p = &t->call->parts[t->part];
        size_t n = num_min(p->size - t->offset, room - done);
        if (n)
            memcpy(ret + done, (const char *)p->data + t->offset, n);
        done += n;
        t->offset += n;
        if (t->offset == p->size) {
            t->part++;
            t->offset = 0;
        }
    }
    return done;
}

/* The library starts a body again from the beginning when it repeats a request. */
static int send_again(void *arg, curl_off_t offset, int origin)
{
    struct transfer *t = arg;
    if (offset != 0 || origin != SEEK_SET)
        return CURL_SEEKFUNC_CANTSEEK;
    t->part = t->offset = 0;
    return CURL_SEEKFUNC_OK;
}

static size_t stop(struct transfer *t, enum err_code why)
{
    t->failure = why;
    return 0; /* a count that the library takes as an error */
}

static size_t receive_head(char *data, size_t item, size_t count, void *arg)
{
    struct transfer *t = arg;
    size_t size = item * count;
    if (size >= 5 && memcmp(data, "HTTP/", 5) == 0) { /* the last of several heads counts */
        t->head.size = 0;
        t->answered = true;
    }
    buf_add(&t->head, data, size);
    return t->head.failed ? stop(t, ERR_TOO_LARGE) : size;
}

static size_t receive_body(char *data, size_t item, size_t count, void *arg)
{
    struct link *l = arg;
    struct transfer *t = &l->transfer;
    size_t size = item * count;
    if (t->call->on_data) {
        long status = 0;
        (void)curl_easy_getinfo(l->easy, CURLINFO_RESPONSE_CODE, &status);
        if (status < 400)
            return t->call->on_data(t->call->on_data_arg, data, size) ? size
                                                                      : stop(t, ERR_CANCELLED);
    }
    if (size > t->max - t->body.size)
        return stop(t, ERR_TOO_LARGE);
    if (t->body.size == 0) {
        curl_off_t length = -1;
        (void)curl_easy_getinfo(l->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        if (length > 0 && (uint64_t)length > t->max)
            return stop(t, ERR_TOO_LARGE);
        /* the announced size at once, but no more than comes soon anyway from a liar */
        if (length > 0)
            (void)buf_reserve(&t->body, num_min((size_t)length, 64u << 20));
    }
    buf_add(&t->body, data, size);
    return t->body.failed ? stop(t, ERR_MEMORY) : size;
}

static int socket_made(void *arg, curl_socket_t fd, curlsocktype purpose)
{
    (void)arg;
    (void)purpose;
    unsigned ms = UNACKED_MS;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
    return CURL_SOCKOPT_OK;
}

/* ---- life ---- */

static bool set_tls(struct link *l, const struct net_tls *tls)
{
    bool ok = true;
#define SET(option, value) ok = curl_easy_setopt(l->easy, (option), (value)) == CURLE_OK && ok
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_SSL_ENABLE_ALPN, 0L);
    SET(CURLOPT_CAPATH, NULL);
    SET(CURLOPT_CAINFO, tls ? tls->authority_path : NULL);
    SET(CURLOPT_SSL_VERIFYPEER, l->target.unverified ? 0L : 1L);
    SET(CURLOPT_SSL_VERIFYHOST, l->target.unverified ? 0L : 2L);
    if (tls && tls->certificate_path && !l->target.unverified) {
        SET(CURLOPT_SSLCERT, tls->certificate_path);
        SET(CURLOPT_SSLKEY, tls->key_path);
    }
    return ok;
}

static bool set_always(struct link *l, int64_t connect_ms)
{
    bool ok = true;
    SET(CURLOPT_ERRORBUFFER, l->error);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NOPROXY, "*");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_TCP_NODELAY, 1L);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_TCP_KEEPIDLE, ALIVE_S);
    SET(CURLOPT_TCP_KEEPINTVL, ALIVE_STEP_S);
    SET(CURLOPT_MAXAGE_CONN, IDLE_S);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
    SET(CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER);
    SET(CURLOPT_BUFFERSIZE, RECEIVE_BUFFER);
    SET(CURLOPT_SOCKOPTFUNCTION, socket_made);
    SET(CURLOPT_READFUNCTION, send_more);
    SET(CURLOPT_READDATA, &l->transfer);
    SET(CURLOPT_SEEKFUNCTION, send_again);
    SET(CURLOPT_SEEKDATA, &l->transfer);
    SET(CURLOPT_HEADERFUNCTION, receive_head);
    SET(CURLOPT_HEADERDATA, &l->transfer);
    SET(CURLOPT_WRITEFUNCTION, receive_body);
    SET(CURLOPT_WRITEDATA, l);
    if (l->target.connect_to[0]) {
        l->route = curl_slist_append(NULL, l->target.connect_to);
        ok = ok && l->route;
        SET(CURLOPT_CONNECT_TO, l->route);
    }
    return ok;
}

struct link *link_new(const struct target *t, const struct net_tls *tls, int64_t connect_ms,
                      struct err *e)
{
    struct link *l = calloc(1, sizeof(*l));
    if (!l) {
        err_set(e, ERR_MEMORY, "client: out of memory");
        return NULL;
    }
    l->target = *t;
    l->target.path = NULL;
    l->easy = curl_easy_init();
    l->multi = curl_multi_init();
    bool ok = l->easy && l->multi &&
              curl_multi_setopt(l->multi, CURLMOPT_MAXCONNECTS, 1L) == CURLM_OK &&
              set_always(l, connect_ms) && (!t->secure || set_tls(l, tls));
    if (ok)
        return l;
    err_set(e, ERR_INTERNAL, "client: the HTTP library refused a setting");
    link_free(l);
    return NULL;
}

void link_free(struct link *l)
{
    if (!l)
        return;
    link_reset(l);
    if (l->easy)
        curl_easy_cleanup(l->easy);
    if (l->multi)
        (void)curl_multi_cleanup(l->multi);
    curl_slist_free_all(l->route);
    free(l);
}

void link_reset(struct link *l)
{
    curl_slist_free_all(l->fields);
    l->fields = NULL;
    free(l->joined);
    l->joined = NULL;
    buf_clear(&l->transfer.body);
    buf_clear(&l->transfer.head);
    l->transfer = (struct transfer){0};
}

/* ---- one attempt ---- */

static bool add_field(struct link *l, const char *text)
{
    struct curl_slist *list = curl_slist_append(l->fields, text);
    if (list)
        l->fields = list;
    return list;
}

static bool set_fields(struct link *l, const struct net_call *call, int64_t deadline, bool body,
                       struct err *e)
{
    char line[1024];
    bool ok = add_field(l, "Expect:") && add_field(l, "Accept:"), typed = false;
    for (size_t i = 0; ok && i < call->header_count; i++) {
        const struct net_header *h = &call->headers[i];
        int n = snprintf(line, sizeof(line), *h->value ? "%s: %s" : "%s;", h->name, h->value);
        if (n < 0 || (size_t)n >= sizeof(line))
            return err_set(e, ERR_INVALID, "call: header '%.40s' is over %zu bytes", h->name,
                           sizeof(line) - 1);
        typed = typed || strcasecmp(h->name, "content-type") == 0;
        ok = add_field(l, line);
    }
    if (ok && body && !typed)
        ok = add_field(l, "Content-Type:"); /* else the library says it is a form */
    if (ok && deadline != CLOCK_NEVER) {
        (void)snprintf(line, sizeof(line), NET_TIMEOUT_HEADER ": %lld",
                       (long long)clock_left_ms(deadline, INT64_MAX / NS_PER_MS / 4));
        ok = add_field(l, line);
    }
    return ok || err_set(e, ERR_MEMORY, "call: out of memory");
}

/* The whole body in one piece: as it is, joined, or not at all when it is large. */
static bool one_piece(struct link *l, const struct net_call *call, size_t total, const char **ret)
{
    *ret = call->part_count == 1 ? call->parts[0].data : NULL;
    if (total == 0)
        *ret = "";
    if (*ret || total > JOIN_MAX)
        return true;
    l->joined = malloc(total);
    if (!l->joined)
        return false;
    (void)send_more(l->joined, 1, total, &l->transfer);
    *ret = l->joined;
    return true;
}

static bool set_method(struct link *l, const struct net_call *call, struct err *e)
{
    const char *method = call->method ? call->method : "GET", *piece = NULL;
    size_t total = 0;
    for (size_t i = 0; i < call->part_count; i++)
        total += call->parts[i].size;
    bool post = strcmp(method, "POST") == 0, body = total > 0 || post || strcmp(method, "PUT") == 0;
    bool plain = post || strcmp(method, "GET") == 0, ok = true;
    SET(CURLOPT_HTTPGET, 1L); /* takes back what the call before set */
    SET(CURLOPT_CUSTOMREQUEST, plain && !(body && !post) ? NULL : method);
    if (strcmp(method, "HEAD") == 0)
        SET(CURLOPT_NOBODY, 1L);
    if (body) {
        if (!one_piece(l, call, total, &piece))
            return err_set(e, ERR_MEMORY, "call: out of memory");
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDS, piece);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)total);
    }
    return ok || err_set(e, ERR_INTERNAL, "call: the HTTP library refused a setting");
}

bool net_link_prepare(struct link *l, const struct net_call *call, int64_t deadline_ns,
                      struct err *e)
{
    char url[NET_URL_MAX + NET_HOST_MAX + 32];
    struct target t;
    link_reset(l);
    l->error[0] = 0;
    l->transfer.call = call;
    l->transfer.max = call->max_response ? call->max_response : NET_RESPONSE_DEFAULT;
    l->transfer.body.max = l->transfer.max < SIZE_MAX ? l->transfer.max + 1 : SIZE_MAX;
    l->transfer.head.max = NET_ANSWER_HEADERS_MAX;
    if (!target_parse(call->url, call->peer_name, call->flags, &t, e))
        return false;
    (void)snprintf(url, sizeof(url), "%s%s%s", l->target.prefix, *t.path == '/' ? "" : "/", t.path);
    bool ok = true;
    SET(CURLOPT_URL, url);
    SET(CURLOPT_FRESH_CONNECT, l->fresh ? 1L : 0L);
    if (!ok)
        return err_set(e, ERR_MEMORY, "call: out of memory");
    bool body =
        call->part_count > 0 ||
        (call->method && (strcmp(call->method, "POST") == 0 || strcmp(call->method, "PUT") == 0));
    if (!set_method(l, call, e) || !set_fields(l, call, deadline_ns, body, e))
        return false;
    SET(CURLOPT_HTTPHEADER, l->fields);
    return ok || err_set(e, ERR_MEMORY, "call: out of memory");
}
#undef SET

bool link_error(const struct link *l, CURLcode code, struct err *e)
{
    const char *origin = l->target.origin;
    const char *text = l->error[0] ? l->error : curl_easy_strerror(code);
    switch (l->transfer.failure) {
    case ERR_NONE:
        break;
    case ERR_TOO_LARGE:
        return err_set(e, ERR_TOO_LARGE, "%s: the answer is over %zu bytes", origin,
                       l->transfer.max);
    case ERR_CANCELLED:
        return err_set(e, ERR_CANCELLED, "%s: stopped by its reader", origin);
    default:
        return err_set(e, ERR_MEMORY, "%s: no memory for the answer", origin);
    }
    if (code == CURLE_OUT_OF_MEMORY)
        return err_set(e, ERR_MEMORY, "%s: out of memory", origin);
    if (code == CURLE_URL_MALFORMAT) /* CURLE_UNSUPPORTED_PROTOCOL is an answer that is no HTTP */
        return err_set(e, ERR_INVALID, "%s: %s", origin, text);
    return err_set(e, ERR_GONE, "%s: %s", origin, text);
}

static double info_ms(CURL *easy, CURLINFO which)
{
    curl_off_t us = 0;
    (void)curl_easy_getinfo(easy, which, &us);
    return (double)us / 1000.0;
}

bool link_answer(struct link *l, struct net_answer *ret, struct err *e)
{
    struct net_answer a = {0};
    long status = 0, connects = 0;
    char *type = NULL;
    (void)curl_easy_getinfo(l->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(l->easy, CURLINFO_NUM_CONNECTS, &connects);
    (void)curl_easy_getinfo(l->easy, CURLINFO_CONTENT_TYPE, &type);
    a.status = (int)status;
    if (type)
        (void)snprintf(a.content_type, sizeof(a.content_type), "%s", type);
    a.reused = connects == 0;
    if (!a.reused)
        a.connect_ms = info_ms(l->easy, l->target.secure ? CURLINFO_APPCONNECT_TIME_T
                                                         : CURLINFO_CONNECT_TIME_T);
    a.first_byte_ms = info_ms(l->easy, CURLINFO_STARTTRANSFER_TIME_T);
    a.total_ms = info_ms(l->easy, CURLINFO_TOTAL_TIME_T);
    buf_add(&l->transfer.body, "", 0); /* an empty body is a text, too */
    a.size = l->transfer.body.size;
    a.body = buf_take(&l->transfer.body);
    a.head = buf_take(&l->transfer.head);
    if (!a.body || !a.head) {
        net_answer_clear(&a);
        return err_set(e, ERR_MEMORY, "%s: no memory for the answer", l->target.origin);
    }
    *ret = a;
    return true;
}
