/* stream.c - answers that are made while they are sent.
 *
 * The library pulls a body on the connection's thread, a handler pushes it; so the handlers of
 * NET_STREAMS routes run on a thread of their own, and a buffer with a ceiling lies between:
 *
 *     handler's thread                         connection's thread
 *     net_stream_begin ── begun ─────────────▶ stream_run_handler returns, the head is queued
 *     net_stream_write ── data ──────────────▶ stream_pull (waits for data)
 *     net_stream_end ──── ended ─────────────▶ stream_pull says end
 *     returns            ◀── token fires ───── stream_finish (waits for the return)
 *
 * Threads: the stream's lock protects the buffer and the flags.  It is never held while a token is
 * watched or fired by us, because the token's watch takes it. */
#include "base/num.h"
#include "net/server_internal.h"

#include <stdlib.h>
#include <string.h>

#define STREAM_BLOCK 32768 /* bytes that the library pulls at once */

void connection_touch(struct net_request *r)
{
    /* the library takes the time anew when a limit is set where none was */
    (void)MHD_set_connection_option(r->connection, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
    (void)MHD_set_connection_option(r->connection, MHD_CONNECTION_OPTION_TIMEOUT,
                                    r->server->options.idle_s);
}

static void stream_wake(void *arg)
{
    struct stream *s = arg;
    monitor_lock(&s->lock);
    monitor_wake(&s->lock);
    monitor_unlock(&s->lock);
}

/* ---- connection's side ---- */

static ssize_t stream_pull(void *arg, uint64_t position, char *ret, size_t max)
{
    (void)position;
    struct net_request *r = arg;
    struct stream *s = r->stream;
    monitor_lock(&s->lock);
    while (s->start == s->end && !s->ended && !s->returned)
        (void)monitor_wait(&s->lock, CLOCK_NEVER);
    size_t n = num_min(s->end - s->start, max);
    ssize_t result = (ssize_t)n;
    if (n == 0)
        result = s->ended && s->complete ? MHD_CONTENT_READER_END_OF_STREAM
                                         : MHD_CONTENT_READER_END_WITH_ERROR;
    else
        memcpy(ret, s->data + s->start, n);
    s->start += n;
    if (s->start == s->end)
        s->start = s->end = 0;
    monitor_wake(&s->lock);
    monitor_unlock(&s->lock);
    connection_touch(r);
    return result;
}

static void *handler_run(void *arg)
{
    struct net_request *r = arg;
    struct stream *s = r->stream;
    r->route->handle(r, r->ctx);
    if (s->begun)
        cancel_unwatch(r->cancel, &s->watch);
    monitor_lock(&s->lock);
    s->returned = true;
    monitor_wake(&s->lock);
    monitor_unlock(&s->lock);
    return NULL;
}

bool stream_run_handler(struct net_request *r, struct err *e)
{
    struct stream *s = r->stream = calloc(1, sizeof(*r->stream));
    if (!s)
        return err_set(e, ERR_MEMORY, "server: out of memory");
    monitor_init(&s->lock);
    if (!thread_start(&s->thread, "net-stream", handler_run, r, e))
        return false;
    s->started = true;
    monitor_lock(&s->lock);
    while (!s->begun && !s->returned)
        (void)monitor_wait(&s->lock, CLOCK_NEVER);
    monitor_unlock(&s->lock);
    return true;
}

void stream_finish(struct net_request *r)
{
    struct stream *s = r->stream;
    if (!s)
        return;
    monitor_lock(&s->lock);
    bool writing = s->begun && !s->returned;
    monitor_unlock(&s->lock);
    if (writing)
        cancel_fire(r->cancel);
    if (s->started)
        (void)pthread_join(s->thread, NULL);
    monitor_destroy(&s->lock);
    free(s->data);
    free(s);
    r->stream = NULL;
}

/* ---- handler's side ---- */

bool net_stream_begin(struct net_request *r, int status, const char *content_type, struct err *e)
{
    struct stream *s = r->stream;
    if (!s)
        return err_set(e, ERR_INTERNAL, "%s: the route lacks NET_STREAMS", r->route->path);
    if (r->answered)
        return err_set(e, ERR_INTERNAL, "%s: answered twice", r->route->path);
    if (!net_request_cancel(r))
        return err_set(e, ERR_MEMORY, "server: out of memory");
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, stream_pull, r, NULL);
    if (!response)
        return err_set(e, ERR_MEMORY, "server: out of memory");
    if (content_type)
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
    r->response = response;
    r->status = status;
    r->answered = true;
    s->watch = (struct cancel_watch){.fired = stream_wake, .arg = s};
    cancel_watch(r->cancel, &s->watch);
    monitor_lock(&s->lock);
    s->begun = true;
    monitor_wake(&s->lock);
    monitor_unlock(&s->lock);
    return true;
}

/* Room for at least one byte at the end of the buffer; returns how many. 0: no memory. */
static size_t stream_room(struct stream *s, size_t want)
{
    if (s->start > 0) {
        memmove(s->data, s->data + s->start, s->end - s->start);
        s->end -= s->start;
        s->start = 0;
    }
    size_t need = num_min(s->end + want, NET_STREAM_BUFFER);
    if (need > s->capacity) {
        size_t capacity = num_min(num_max(need, s->capacity * 2), NET_STREAM_BUFFER);
        char *data = realloc(s->data, capacity);
        if (!data)
            return 0;
        s->data = data;
        s->capacity = capacity;
    }
    return num_min(s->capacity - s->end, want);
}

static bool stream_put(struct net_request *r, const char *data, size_t size, size_t *ret_done,
                       struct err *e)
{
    struct stream *s = r->stream;
    while (s->end - s->start == NET_STREAM_BUFFER && !cancel_fired(r->cancel))
        if (!monitor_wait(&s->lock, r->deadline_ns))
            return err_set(e, ERR_TIMEOUT, "stream: the client did not read in time");
    if (cancel_fired(r->cancel))
        return err_set(e, ERR_CANCELLED, "stream: the client has gone");
    size_t n = stream_room(s, size);
    if (n == 0)
        return err_set(e, ERR_MEMORY, "stream: out of memory");
    memcpy(s->data + s->end, data, n);
    s->end += n;
    *ret_done += n;
    monitor_wake(&s->lock);
    return true;
}

bool net_stream_write(struct net_request *r, const void *data, size_t size, struct err *e)
{
    struct stream *s = r->stream;
    if (!s || !s->begun || s->ended)
        return err_set(e, ERR_INTERNAL, "stream: not begun, or ended");
    size_t done = 0;
    bool ok = true;
    monitor_lock(&s->lock);
    while (ok && done < size)
        ok = stream_put(r, (const char *)data + done, size - done, &done, e);
    monitor_unlock(&s->lock);
    return ok;
}

void net_stream_end(struct net_request *r, bool complete)
{
    struct stream *s = r->stream;
    if (!s || !s->begun)
        return;
    monitor_lock(&s->lock);
    if (!s->ended) {
        s->ended = true;
        s->complete = complete;
    }
    monitor_wake(&s->lock);
    monitor_unlock(&s->lock);
}
