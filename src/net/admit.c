/* admit.c - may this request in?  Everything that is decided from its header alone.
 *
 * In this order: framing that two parsers could read differently (the connection is closed then),
 * sizes, Host and Origin, route, certificate and key, load, body, texts of path and query.  An
 * unknown path is told only to those who may know. */
#include "base/num.h"
#include "net/server_internal.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* What one walk over the header fields finds. */
struct walk {
    unsigned fields, lengths, codings, hosts, origins;
    const char *length, *coding, *host, *origin, *type, *authorization, *timeout, *expect;
};

static enum MHD_Result walk_field(void *arg, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    (void)kind;
    struct walk *w = arg;
    const char *text = value ? value : "";
    w->fields++;
    if (strcasecmp(name, "content-length") == 0) {
        w->lengths++;
        w->length = text;
    } else if (strcasecmp(name, "transfer-encoding") == 0) {
        w->codings++;
        w->coding = text;
    } else if (strcasecmp(name, "host") == 0) {
        w->hosts++;
        w->host = text;
    } else if (strcasecmp(name, "origin") == 0) {
        w->origins++;
        w->origin = text;
    } else if (strcasecmp(name, "content-type") == 0) {
        w->type = text;
    } else if (strcasecmp(name, "authorization") == 0) {
        w->authorization = text;
    } else if (strcasecmp(name, NET_TIMEOUT_HEADER) == 0) {
        w->timeout = text;
    } else if (strcasecmp(name, "expect") == 0) {
        w->expect = text;
    }
    return MHD_YES;
}

static bool refuse(struct net_request *r, int status, enum err_code code, const char *text)
{
    reply_refuse(r, status, code, "%s", text);
    return false;
}

static bool refuse_and_close(struct net_request *r, int status, enum err_code code,
                             const char *text)
{
    r->close = true;
    return refuse(r, status, code, text);
}

static bool admit_framing(struct net_request *r, const struct walk *w)
{
    struct err e;
    if (w->lengths > 1)
        return refuse_and_close(r, 400, ERR_INVALID, "more than one Content-Length");
    if (w->lengths && w->codings)
        return refuse_and_close(r, 400, ERR_INVALID, "Content-Length with Transfer-Encoding");
    if (w->codings > 1 || (w->coding && strcasecmp(w->coding, "chunked") != 0))
        return refuse_and_close(r, 501, ERR_UNSUPPORTED, "Transfer-Encoding other than chunked");
    if (w->hosts > 1)
        return refuse_and_close(r, 400, ERR_INVALID, "more than one Host");
    if (w->origins > 1)
        return refuse_and_close(r, 400, ERR_INVALID, "more than one Origin");
    r->has_length = w->lengths == 1;
    r->chunked = w->codings == 1;
    if (r->has_length && !net_length_parse(w->length, SIZE_MAX / 2, &r->body_expected, &e))
        return refuse_and_close(r, 400, ERR_INVALID, e.text);
    if (w->fields > NET_HEADERS_MAX)
        return refuse_and_close(r, 431, ERR_TOO_LARGE, "more than 100 header fields");
    if (r->query + strlen(r->query) - r->url > NET_URL_MAX)
        return refuse_and_close(r, 414, ERR_TOO_LARGE, "URL over 8192 bytes");
    /* A client that asks first would wait for our word before it sends what is to be dropped. */
    if (w->expect)
        r->expects = true;
    return true;
}

static bool admit_names(struct net_request *r, const struct walk *w)
{
    const struct net_server_options *o = &r->server->options;
    if (!o->public_checks)
        return true;
    if (!w->host || !net_host_allowed(w->host, false, o->names, o->name_count))
        return refuse(r, 403, ERR_DENIED, "Host is not a name of this server");
    if (w->origin && !net_host_allowed(w->origin, true, o->names, o->name_count))
        return refuse(r, 403, ERR_DENIED, "requests from this Origin are not allowed");
    return true;
}

/* ---- route ---- */

static bool method_fits(const char *method, const char *route_method)
{
    return strcmp(method, route_method) == 0 ||
           (strcmp(method, "HEAD") == 0 && strcmp(route_method, "GET") == 0);
}

/* Finds the route; allow collects the methods of the paths that fit. */
static void find_route(struct net_request *r, const char *method, struct net_slice *params,
                       char *allow, size_t allow_max)
{
    size_t size = strlen(r->path);
    for (size_t g = 0; g < r->server->options.group_count; g++) {
        const struct net_group *group = &r->server->groups[g];
        for (size_t i = 0; i < group->count; i++) {
            const struct net_route *route = &group->routes[i];
            int count = 0;
            if (!net_path_match(route->path, r->path, size, params, &count))
                continue;
            if (method_fits(method, route->method)) {
                r->route = route;
                r->ctx = group->ctx;
                r->param_count = count;
                return;
            }
            size_t used = strlen(allow);
            if (!strstr(allow, route->method) && used + strlen(route->method) + 3 < allow_max)
                (void)snprintf(allow + used, allow_max - used, "%s%s", used ? ", " : "",
                               route->method);
        }
    }
}

/* ---- who is it ---- */

static enum peer_trust verify_certificate(gnutls_session_t session, char *name, size_t name_max)
{
    unsigned count = 0, status = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    if (!chain || count == 0)
        return PEER_NONE;
    gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
                                     .data = (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT};
    if (gnutls_certificate_verify_peers(session, &purpose, 1, &status) != 0 || status != 0)
        return PEER_REFUSED;
    gnutls_x509_crt_t certificate;
    if (gnutls_x509_crt_init(&certificate) != 0)
        return PEER_REFUSED;
    size_t size = name_max;
    bool ok = gnutls_x509_crt_import(certificate, &chain[0], GNUTLS_X509_FMT_DER) == 0 &&
              gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name,
                                            &size) == 0 &&
              strlen(name) == size;
    gnutls_x509_crt_deinit(certificate);
    return ok ? PEER_VERIFIED : PEER_REFUSED;
}

/* The library asks for a client certificate but takes any answer: looked at here, once per
 * connection. */
static bool admit_certificate(struct net_request *r)
{
    const struct net_tls *tls = r->server->tls;
    struct peer *p = r->peer;
    bool anonymous = r->route && r->route->flags & NET_ANONYMOUS;
    if (!tls || !tls->authority)
        return true;
    if (p->trust == PEER_UNKNOWN) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
        p->trust =
            info ? verify_certificate(info->tls_session, p->name, sizeof(p->name)) : PEER_REFUSED;
    }
    if (p->trust == PEER_VERIFIED || anonymous)
        return true;
    return refuse_and_close(r, 403, ERR_DENIED,
                            p->trust == PEER_NONE
                                ? "a client certificate is needed"
                                : "the client certificate is not of this fleet's authority");
}

/* In a time that depends on the length of the given text only. */
static bool same_secret(const char *given, const char *secret)
{
    size_t given_size = strlen(given), size = strlen(secret);
    unsigned differ = given_size != size;
    for (size_t i = 0; i < given_size; i++)
        differ |= (unsigned char)given[i] ^ (unsigned char)secret[size ? i % size : 0];
    return differ == 0;
}

static bool admit_key(struct net_request *r, const struct walk *w)
{
    const struct net_server *s = r->server;
    if ((!s->key && !s->options.check_key) || r->peer->loopback ||
        (r->route && r->route->flags & NET_ANONYMOUS))
        return true;
    const char *key = w->authorization ? net_bearer(w->authorization) : NULL;
    if (key && ((s->key && same_secret(key, s->key)) ||
                (s->options.check_key && s->options.check_key(s->options.check_arg, key))))
        return true;
    net_reply_header(r, "WWW-Authenticate", "Bearer");
    return refuse(r, 401, ERR_DENIED,
                  key ? "the key is not known" : "a key is needed: Authorization: Bearer KEY");
}

/* ---- load, body, texts ---- */

static bool refuse_stopping(struct net_request *r)
{
    r->close = true;
    reply_stopping(r);
    return false;
}

static bool admit_load(struct net_request *r)
{
    struct net_server *s = r->server;
    bool control = r->route->flags & NET_CONTROL, stopping;
    monitor_lock(&s->lock);
    stopping = s->stopping;
    r->counted = control || (!stopping && s->ordinary < s->options.max_ordinary);
    if (r->counted)
        *(control ? &s->control : &s->ordinary) += 1;
    monitor_unlock(&s->lock);
    if (r->counted)
        return true;
    if (stopping)
        return refuse_stopping(r);
    reply_refuse(r, 503, ERR_BUSY, "%u requests are under way, the limit", s->options.max_ordinary);
    return false;
}

static bool admit_body(struct net_request *r, const struct walk *w)
{
    const struct net_route *route = r->route;
    bool body = r->chunked || r->body_expected > 0;
    if (route->flags & NET_NEEDS_LENGTH && !r->chunked && !r->has_length)
        return refuse(r, 411, ERR_INVALID, "Content-Length is needed");
    if (r->body_expected > route->max_body || (r->chunked && route->max_body == 0)) {
        reply_refuse(r, 413, ERR_TOO_LARGE, "body: over the limit of %zu bytes", route->max_body);
        return false;
    }
    if (body && route->accepts && w->type && !net_type_matches(w->type, route->accepts)) {
        reply_refuse(r, 415, ERR_MEDIA_TYPE, "body: '%.80s' is not one of %s", w->type,
                     route->accepts);
        return false;
    }
    return true;
}

/* Decodes the slices one behind the other into r->decoded. */
static bool decode_next(char **at, char *end, struct net_slice s, bool plus, char **ret,
                        struct err *e)
{
    if (!net_percent_decode(s.at, s.size, plus, *at, (size_t)(end - *at), e))
        return false;
    *ret = *at;
    *at += strlen(*at) + 1;
    return true;
}

static bool decode_texts(struct net_request *r, const struct net_slice *params, struct err *e)
{
    struct net_slice query = {r->query, strlen(r->query)}, name, value;
    /* decoding never makes a text longer; each text has a 0 */
    size_t size = strlen(r->path) + query.size + NET_PATH_PARAMS_MAX + 2 * NET_QUERY_MAX + 1;
    if (r->param_count == 0 && query.size == 0)
        return true;
    char *at = r->decoded = malloc(size);
    if (!at)
        return err_set(e, ERR_MEMORY, "server: out of memory");
    for (int i = 0; i < r->param_count; i++)
        if (!decode_next(&at, r->decoded + size, params[i], false, &r->params[i], e))
            return false;
    while (net_query_next(&query, &name, &value)) {
        if (r->pair_count == NET_QUERY_MAX)
            return err_set(e, ERR_INVALID, "url: more than %d query values", NET_QUERY_MAX);
        struct query_pair *p = &r->pairs[r->pair_count];
        if (!decode_next(&at, r->decoded + size, name, true, &p->name, e) ||
            !decode_next(&at, r->decoded + size, value, true, &p->value, e))
            return false;
        r->pair_count++;
    }
    return true;
}

static bool admit_timeout(struct net_request *r, const struct walk *w, struct err *e)
{
    uint64_t ms = 0;
    if (!w->timeout)
        return true;
    if (!net_length_parse(w->timeout, INT64_MAX / NS_PER_MS / 2, &ms, e))
        return err_set(e, ERR_INVALID, NET_TIMEOUT_HEADER ": '%.40s' is not a number of ms",
                       w->timeout);
    int64_t deadline = r->start_ns + (int64_t)ms * NS_PER_MS;
    if (deadline < r->deadline_ns)
        r->deadline_ns = deadline;
    return true;
}

bool request_admit(struct net_request *r, const char *method)
{
    struct walk w = {0};
    struct net_slice params[NET_PATH_PARAMS_MAX];
    char allow[128] = "";
    struct err e;
    (void)MHD_get_connection_values(r->connection, MHD_HEADER_KIND, walk_field, &w);
    if (!admit_framing(r, &w) || !admit_names(r, &w))
        return false;
    find_route(r, method, params, allow, sizeof(allow));
    if (!admit_certificate(r) || !admit_key(r, &w))
        return false;
    if (!r->route && allow[0]) {
        net_reply_header(r, "Allow", allow);
        return refuse(r, 405, ERR_INVALID, "method is not one of this path");
    }
    if (!r->route)
        return refuse(r, 404, ERR_NOT_FOUND, "no such path");
    if (!admit_load(r) || !admit_body(r, &w))
        return false;
    if (!decode_texts(r, params, &e) || !admit_timeout(r, &w, &e))
        return refuse(r, err_http(e.code), e.code, e.text);
    return true;
}
