/* reply.c - answers that are known as a whole.
 *
 * The handler makes the library's response object; the connection's thread queues it after the
 * handler has returned (reply_queue). */
#include "base/json.h"
#include "base/num.h"
#include "net/server_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/uio.h>

/* Parts of up to this size together are joined: one piece goes out in one packet with the head. */
#define JOIN_MAX (16u << 10)
#define RETRY_AFTER_S "1"

void net_reply_header(struct net_request *r, const char *name, const char *value)
{
    if (r->answered || r->header_count == NET_REPLY_HEADERS_MAX || strpbrk(name, "\r\n: ") ||
        strpbrk(value, "\r\n"))
        return;
    char *n = strdup(name), *v = strdup(value);
    if (!n || !v) {
        free(n);
        free(v);
        return;
    }
    r->headers[r->header_count++] = (struct net_header){n, v};
}

static void set_answer(struct net_request *r, int status, const char *content_type,
                       struct MHD_Response *response)
{
    if (response && content_type)
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    r->response = response;
    r->status = status;
    r->answered = true;
}

void net_reply(struct net_request *r, int status, const char *content_type, const void *data,
               size_t size)
{
    if (r->answered)
        return;
    set_answer(
        r, status, content_type,
        MHD_create_response_from_buffer(size, (void *)(uintptr_t)data, MHD_RESPMEM_MUST_COPY));
}

void net_reply_json(struct net_request *r, int status, json_t *value)
{
    char *text = value ? json_text(value) : NULL;
    json_decref(value);
    if (r->answered) {
        free(text);
        return;
    }
    struct MHD_Response *response =
        text ? MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE) : NULL;
    if (!response)
        free(text);
    set_answer(r, status, "application/json", response);
}

static void reply_error(struct net_request *r, int status, enum err_code code, const char *text)
{
    if (code == ERR_BUSY)
        net_reply_header(r, "Retry-After", RETRY_AFTER_S);
    net_reply_json(r, status, json_pack("{s:s, s:s}", "error", text, "code", err_name(code)));
}

void reply_stopping(struct net_request *r)
{
    net_reply_header(r, "Retry-After", RETRY_AFTER_S);
    reply_error(r, 503, ERR_GONE, "the server is stopping");
}

void net_reply_err(struct net_request *r, const struct err *err)
{
    if (err->code == ERR_CANCELLED && watcher_aborted(r->server->watcher)) {
        reply_stopping(r); /* by us: a client that went away reads no answer */
        return;
    }
    int status = err->code == ERR_NONE ? 500 : err_http(err->code);
    reply_error(r, status, err->code == ERR_NONE ? ERR_INTERNAL : err->code, err->text);
}

void reply_refuse(struct net_request *r, int status, enum err_code code, const char *format, ...)
{
    char text[ERR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    reply_error(r, status, code, text);
}

/* ---- parts ---- */

static struct MHD_Response *join_parts(const struct net_part *parts, size_t count, size_t total)
{
    char *data = malloc(total ? total : 1);
    if (!data)
        return NULL;
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].size)
            memcpy(data + at, parts[i].data, parts[i].size);
        at += parts[i].size;
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(total, data, MHD_RESPMEM_MUST_FREE);
    if (!response)
        free(data);
    return response;
}

static struct MHD_Response *borrow_parts(const struct net_part *parts, size_t count,
                                         void (*release)(void *arg), void *arg)
{
    struct MHD_IoVec list[NET_PARTS_MAX];
    unsigned n = 0;
    for (size_t i = 0; i < count; i++)
        if (parts[i].size)
            list[n++] = (struct MHD_IoVec){parts[i].data, parts[i].size};
    return MHD_create_response_from_iovec(list, n, release, arg);
}

void net_reply_parts(struct net_request *r, int status, const char *content_type,
                     const struct net_part *parts, size_t count, void (*release)(void *arg),
                     void *arg)
{
    size_t total = 0;
    bool fits = count <= NET_PARTS_MAX;
    for (size_t i = 0; fits && i < count; i++)
        fits = num_add(total, parts[i].size, &total);
    struct MHD_Response *response = NULL;
    bool borrowed = false;
    if (!r->answered && fits && total > JOIN_MAX) {
        response = borrow_parts(parts, count, release, arg);
        borrowed = response != NULL;
    } else if (!r->answered && fits) {
        response = join_parts(parts, count, total);
    }
    if (!borrowed && release)
        release(arg);
    if (!r->answered)
        set_answer(r, status, content_type, response);
}

/* ---- queueing ---- */

enum MHD_Result reply_queue(struct net_request *r)
{
    if (!r->response) {
        const char *text = r->answered ? "out of memory for the answer" : "no answer was given";
        r->answered = false;
        reply_error(r, r->status ? 503 : 500, r->status ? ERR_MEMORY : ERR_INTERNAL, text);
    }
    if (!r->response)
        return MHD_NO;
    for (int i = 0; i < r->header_count; i++)
        (void)MHD_add_response_header(r->response, r->headers[i].name, r->headers[i].value);
    unsigned most = r->server->options.max_connections;
    unsigned reserved = most > 4 * CONNECTIONS_RESERVED ? CONNECTIONS_RESERVED : 0;
    bool control = r->route && r->route->flags & NET_CONTROL;
    if (r->close || (reserved && !control && r->server->connections > most - reserved))
        (void)MHD_add_response_header(r->response, MHD_HTTP_HEADER_CONNECTION, "close");
    r->state = REQUEST_ANSWERED;
    enum MHD_Result queued = MHD_queue_response(r->connection, (unsigned)r->status, r->response);
    MHD_destroy_response(r->response);
    r->response = NULL;
    return queued;
}
