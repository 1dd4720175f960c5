/* request.c - one request: its memory, its body and what handlers ask about it. */
#include "base/num.h"
#include "net/server_internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BODY_START (4u << 20) /* most of a body that is reserved at once */

struct net_request *request_begin(struct net_server *s, const char *url, struct MHD_Connection *c)
{
    struct net_request *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->url = strdup(url);
    if (!r->url) {
        free(r);
        return NULL;
    }
    r->server = s;
    r->connection = c;
    r->start_ns = clock_now_ns();
    r->deadline_ns = r->start_ns + s->options.timeout_ms * NS_PER_MS;
    char *mark = strchr(r->url, '?');
    if (mark)
        *mark++ = 0;
    r->path = r->url;
    r->query = mark ? mark : r->url + strlen(r->url);
    s->requests++;
    return r;
}

static void request_uncount(struct net_request *r)
{
    struct net_server *s = r->server;
    monitor_lock(&s->lock);
    unsigned *count = r->route->flags & NET_CONTROL ? &s->control : &s->ordinary;
    if (--*count == 0 && s->stopping)
        monitor_wake(&s->lock);
    monitor_unlock(&s->lock);
}

void request_unwatch(struct net_request *r)
{
    if (r->watched)
        watcher_end(r->server->watcher, r->peer->watch_slot);
    r->watched = false;
}

void request_end(struct net_request *r)
{
    if (!r)
        return;
    struct net_server *s = r->server;
    stream_finish(r);
    request_unwatch(r);
    if (s->options.done && r->status) {
        struct net_done done = {r->route, r->status, clock_ms_since(r->start_ns)};
        s->options.done(s->options.done_arg, &done);
    }
    if (r->response)
        MHD_destroy_response(r->response);
    free(r->body);
    free(r->taken);
    budget_give(s->budget, r->body_size);
    for (int i = 0; i < r->header_count; i++) {
        free((char *)(uintptr_t)r->headers[i].name);
        free((char *)(uintptr_t)r->headers[i].value);
    }
    cancel_unref(r->cancel);
    free(r->decoded);
    free(r->url);
    if (r->counted)
        request_uncount(r);
    free(r);
}

/* ---- body ---- */

bool budget_take(struct body_budget *b, size_t bytes)
{
    if (atomic_fetch_add(&b->bytes, bytes) + bytes <= b->max)
        return true;
    atomic_fetch_sub(&b->bytes, bytes);
    return false;
}

void budget_give(struct body_budget *b, size_t bytes)
{
    atomic_fetch_sub(&b->bytes, bytes);
}

void budget_unref(struct body_budget *b)
{
    if (b && atomic_fetch_sub(&b->refs, 1) == 1)
        free(b);
}

/* Room for size bytes and a 0.  The announced length is reserved at once up to BODY_START (pages
 * that are never written cost nothing) and reached by doubling beyond. */
static bool body_grow(struct net_request *r, size_t size)
{
    size_t capacity = num_max(r->body_capacity * 2, BODY_START);
    if (r->has_length)
        capacity = num_min(capacity, (size_t)r->body_expected + 1);
    capacity = num_max(capacity, size + 1);
    if (!r->taken)
        r->taken = calloc(1, sizeof(*r->taken));
    char *data = r->taken ? realloc(r->body, capacity) : NULL;
    if (!data)
        return false;
    r->body = data;
    r->body_capacity = capacity;
    return true;
}

bool request_body_add(struct net_request *r, const char *data, size_t size, struct err *e)
{
    struct body_budget *budget = r->server->budget;
    if (size > r->route->max_body - r->body_size)
        return err_set(e, ERR_TOO_LARGE, "body: over the limit of %zu bytes", r->route->max_body);
    if (!budget_take(budget, size))
        return err_set(e, ERR_BUSY, "server: request bodies hold %zu bytes, the limit",
                       budget->max);
    if (r->body_size + size + 1 > r->body_capacity && !body_grow(r, r->body_size + size)) {
        budget_give(budget, size);
        return err_set(e, ERR_MEMORY, "server: no memory for a body of %zu bytes",
                       r->body_size + size);
    }
    memcpy(r->body + r->body_size, data, size);
    r->body_size += size;
    r->body[r->body_size] = 0;
    return true;
}

const void *net_request_body(const struct net_request *r, size_t *ret_size)
{
    *ret_size = r->body_size;
    return r->body ? r->body : "";
}

static void taken_release(void *arg)
{
    struct taken_body *t = arg;
    budget_give(t->budget, t->size);
    budget_unref(t->budget);
    free(t->data);
    free(t);
}

static void nothing_release(void *arg)
{
    (void)arg;
}

void net_request_take_body(struct net_request *r, struct net_body *ret)
{
    *ret = (struct net_body){"", 0, nothing_release, NULL};
    if (!r->body)
        return;
    struct taken_body *t = r->taken;
    atomic_fetch_add(&r->server->budget->refs, 1);
    *t = (struct taken_body){r->server->budget, r->body, r->body_size};
    *ret = (struct net_body){r->body, r->body_size, taken_release, t};
    r->body = NULL;
    r->taken = NULL;
    r->body_size = r->body_capacity = 0;
}

/* ---- accessors ---- */

const struct net_route *net_request_route(const struct net_request *r)
{
    return r->route;
}

const char *net_request_method(const struct net_request *r)
{
    return r->route->method;
}

const char *net_request_path(const struct net_request *r)
{
    return r->path;
}

const char *net_request_query_text(const struct net_request *r)
{
    return r->query;
}

/* Does the i-th {name} of the pattern have this name? */
static bool pattern_names(const char *pattern, int i, const char *name)
{
    for (const char *at = strchr(pattern, '{'); at; at = strchr(at + 1, '{'))
        if (i-- == 0) {
            size_t size = strlen(name);
            return strncmp(at + 1, name, size) == 0 &&
                   (at[1 + size] == '}' || strcmp(at + 1 + size, "...}") == 0);
        }
    return false;
}

const char *net_request_param(const struct net_request *r, const char *name)
{
    for (int i = 0; i < r->param_count; i++)
        if (pattern_names(r->route->path, i, name))
            return r->params[i];
    return NULL;
}

const char *net_request_query(const struct net_request *r, const char *name)
{
    for (int i = 0; i < r->pair_count; i++)
        if (strcmp(r->pairs[i].name, name) == 0)
            return r->pairs[i].value;
    return NULL;
}

const char *net_request_header(struct net_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

const char *net_request_peer(const struct net_request *r)
{
    return r->peer->address;
}

const char *net_request_peer_name(const struct net_request *r)
{
    return r->peer->trust == PEER_VERIFIED ? r->peer->name : NULL;
}

struct cancel *net_request_cancel(struct net_request *r)
{
    if (r->cancel)
        return r->cancel;
    r->cancel = cancel_new();
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (r->cancel && info) {
        if (r->peer->watch_slot < 0)
            r->peer->watch_slot = watcher_add(r->server->watcher, info->connect_fd);
        watcher_begin(r->server->watcher, r->peer->watch_slot, r->cancel);
        r->watched = true;
    }
    return r->cancel;
}

int64_t net_request_deadline(const struct net_request *r)
{
    return r->deadline_ns;
}
