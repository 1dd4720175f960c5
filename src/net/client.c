/* client.c - calls by libcurl over kept connections.
 *
 * A `link` is a curl handle with one connection to one peer.  Idle links lie in a small hash table
 * by peer; a call takes the one that was used last, so few stay in use and the others age: those
 * of a burst are closed by later calls, because a link holds a MiB of buffers.  Each link has a multi handle of its own, because only that can be woken from another thread: that is
 * how a cancel token ends a call at once.
 *
 * Bodies of a few KB are joined and sent with the head in one packet; larger ones are read from
 * their parts by the library's upload buffer.
 *
 * Threads: `lock` protects the table; a link belongs to the call that took it. */
#include "net/client.h"

#include "base/cancel.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/num.h"
#include "base/sync.h"
#include "net/client_internal.h"

#include <curl/curl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 64u
#define POLL_MS 1000
#define TRIM_LINKS 16 /* closed at once: the end of a burst */

struct net_client {
    struct net_tls *tls; /* owned reference */
    int64_t connect_ms, idle_ms;
    unsigned idle_per_peer, idle_all;

    struct monitor lock; /* protects what follows */
    struct link *idle[BUCKETS];
    unsigned idle_count;
    int64_t look_ns; /* when old links are looked for again */
};

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static void library_start(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

bool net_client_open(const struct net_client_options *options, struct net_client **ret,
                     struct err *e)
{
    (void)pthread_once(&library_once, library_start);
    struct net_client *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(e, ERR_MEMORY, "client: out of memory");
    monitor_init(&c->lock);
    c->connect_ms = options && options->connect_ms ? options->connect_ms : NET_CONNECT_MS_DEFAULT;
    c->idle_per_peer =
        options && options->idle_per_peer ? options->idle_per_peer : NET_IDLE_PEER_DEFAULT;
    c->idle_all = options && options->idle_all ? options->idle_all : NET_IDLE_ALL_DEFAULT;
    c->idle_ms = options && options->idle_ms ? options->idle_ms : NET_IDLE_MS_DEFAULT;
    c->tls = options ? net_tls_ref(options->tls) : NULL;
    *ret = c;
    return true;
}

/* Takes the idle links of a peer (NULL: of all) that were idle before a time out of the table and
 * closes them. */
static void drop_idle(struct net_client *c, const char *origin, int64_t before_ns)
{
    struct link *dropped = NULL;
    monitor_lock(&c->lock);
    for (unsigned b = 0; b < BUCKETS; b++)
        for (struct link **at = &c->idle[b]; *at;) {
            struct link *l = *at;
            if ((origin && !link_is_to(l, origin)) || l->idle_ns >= before_ns) {
                at = &l->next;
                continue;
            }
            *at = l->next;
            l->next = dropped;
            dropped = l;
            c->idle_count--;
        }
    monitor_unlock(&c->lock);
    unsigned count = 0;
    for (struct link *l; (l = dropped); count++) {
        dropped = l->next;
        link_free(l);
    }
    if (count >= TRIM_LINKS)
        (void)malloc_trim(0); /* MiB lie between small blocks that live on */
}

void net_client_close(struct net_client *c)
{
    if (!c)
        return;
    drop_idle(c, NULL, CLOCK_NEVER);
    net_tls_unref(c->tls);
    monitor_destroy(&c->lock);
    free(c);
}

void net_client_forget(struct net_client *c, const char *url, int64_t idle_ms)
{
    struct target t;
    if (target_parse(url, NULL, 0, &t, NULL))
        drop_idle(c, t.origin, idle_ms > 0 ? clock_now_ns() - idle_ms * NS_PER_MS : CLOCK_NEVER);
}

static unsigned bucket_of(const struct target *t)
{
    uint32_t h = 2166136261u; /* FNV-1a, public domain */
    for (const char *at = t->origin; *at; at++)
        h = (h ^ (unsigned char)*at) * 16777619u;
    return h % BUCKETS;
}

static struct link *take_link(struct net_client *c, const struct target *t, struct err *e)
{
    struct link *found = NULL;
    monitor_lock(&c->lock);
    for (struct link **at = &c->idle[bucket_of(t)]; *at; at = &(*at)->next)
        if (link_fits(*at, t)) {
            found = *at;
            *at = found->next;
            c->idle_count--;
            break;
        }
    monitor_unlock(&c->lock);
    return found ? found : link_new(t, c->tls, c->connect_ms, e);
}

static void give_link(struct net_client *c, struct link *l, const struct target *t)
{
    unsigned b = bucket_of(t), same = 0;
    int64_t now = clock_now_ns();
    monitor_lock(&c->lock);
    for (const struct link *other = c->idle[b]; other; other = other->next)
        same += link_fits(other, t) ? 1 : 0;
    bool keep = same < c->idle_per_peer && c->idle_count < c->idle_all;
    if (keep) {
        l->idle_ns = now;
        l->next = c->idle[b];
        c->idle[b] = l;
        c->idle_count++;
    }
    bool look = now >= c->look_ns;
    if (look)
        c->look_ns = now + c->idle_ms * NS_PER_MS / 4;
    monitor_unlock(&c->lock);
    if (!keep)
        link_free(l);
    if (look)
        drop_idle(c, NULL, now - c->idle_ms * NS_PER_MS);
}

/* ---- a call ---- */

static bool check_call(const struct net_call *call, struct err *e)
{
    const char *m = call->method ? call->method : "GET";
    size_t total = 0;
    if (!*m || strlen(m) > 16 || strspn(m, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(m))
        return err_set(e, ERR_INVALID, "call: method '%.20s'", m);
    if (call->part_count > NET_PARTS_MAX)
        return err_set(e, ERR_INVALID, "call: %zu parts, limit %d", call->part_count,
                       NET_PARTS_MAX);
    for (size_t i = 0; i < call->part_count; i++)
        if (!num_add(total, call->parts[i].size, &total) || total > INT64_MAX / 2)
            return err_set(e, ERR_INVALID, "call: the sizes of its parts overflow");
    for (size_t i = 0; i < call->header_count; i++)
        if (strpbrk(call->headers[i].name, "\r\n: ") || strpbrk(call->headers[i].value, "\r\n"))
            return err_set(e, ERR_INVALID, "call: header '%.40s' holds a line end",
                           call->headers[i].name);
    return true;
}

static void wake_multi(void *arg)
{
    (void)curl_multi_wakeup(arg);
}

/* Drives the transfer to its end, the deadline or the token's firing. */
static bool drive(struct link *l, const struct net_call *call, int64_t deadline, CURLcode *ret,
                  struct err *e)
{
    int running = 1;
    for (;;) {
        if (cancel_fired(call->cancel))
            return err_set(e, ERR_CANCELLED, "%s: cancelled", l->target.origin);
        int64_t left = clock_left_ms(deadline, POLL_MS);
        if (left <= 0)
            return err_set(e, ERR_TIMEOUT, "%s: the deadline passed", l->target.origin);
        if (curl_multi_perform(l->multi, &running) != CURLM_OK)
            return err_set(e, ERR_INTERNAL, "%s: curl_multi_perform", l->target.origin);
        if (!running)
            break;
        (void)curl_multi_poll(l->multi, NULL, 0, (int)left, NULL);
    }
    int pending;
    *ret = CURLE_OK;
    for (CURLMsg *m; (m = curl_multi_info_read(l->multi, &pending));)
        if (m->msg == CURLMSG_DONE)
            *ret = m->data.result;
    return true;
}

/* One attempt; false with *ret_stale when a kept connection turned out dead before any answer. */
static bool attempt(struct link *l, const struct net_call *call, int64_t deadline, bool fresh,
                    bool *ret_stale, struct err *e)
{
    CURLcode code = CURLE_OK;
    *ret_stale = false;
    l->fresh = fresh;
    if (!net_link_prepare(l, call, deadline, e))
        return false;
    if (curl_multi_add_handle(l->multi, l->easy) != CURLM_OK)
        return err_set(e, ERR_MEMORY, "%s: curl_multi_add_handle", l->target.origin);
    struct cancel_watch watch = {.fired = wake_multi, .arg = l->multi};
    cancel_watch(call->cancel, &watch);
    bool ok = drive(l, call, deadline, &code, e);
    cancel_unwatch(call->cancel, &watch);
    (void)curl_multi_remove_handle(l->multi, l->easy);
    if (!ok)
        return false;
    if (code == CURLE_OK && l->transfer.failure == ERR_NONE)
        return true;
    long connects = 1;
    (void)curl_easy_getinfo(l->easy, CURLINFO_NUM_CONNECTS, &connects);
    *ret_stale =
        connects == 0 && !l->transfer.answered &&
        (code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING);
    return link_error(l, code, e);
}

bool net_call(struct net_client *c, const struct net_call *call, struct net_answer *ret,
              struct err *e)
{
    struct target t;
    if (!check_call(call, e) || !target_parse(call->url, call->peer_name, call->flags, &t, e))
        return false;
    int64_t deadline = call->deadline_ns ? call->deadline_ns : CLOCK_NEVER;
    if (cancel_fired(call->cancel))
        return err_set(e, ERR_CANCELLED, "%s: cancelled", t.origin);
    if (clock_left_ms(deadline, POLL_MS) <= 0)
        return err_set(e, ERR_TIMEOUT, "%s: the deadline passed", t.origin);
    struct link *l = take_link(c, &t, e);
    if (!l)
        return false;
    bool stale, once = call->flags & NET_CALL_ONCE;
    bool ok = attempt(l, call, deadline, once, &stale, e);
    if (!ok && stale && !once)
        ok = attempt(l, call, deadline, true, &stale, e);
    if (ok)
        ok = link_answer(l, ret, e);
    link_reset(l);
    /* after a failure the connection is in an unknown state: never kept */
    if (ok)
        give_link(c, l, &t);
    else
        link_free(l);
    return ok;
}

/* ---- answers ---- */

bool net_answer_header(const struct net_answer *a, const char *name, char *ret, size_t max)
{
    size_t size = strlen(name);
    for (const char *line = a->head; line && *line;) {
        size_t length = strcspn(line, "\r\n");
        if (length > size && line[size] == ':' && curl_strnequal(line, name, size)) {
            const char *value = line + size + 1;
            length -= size + 1;
            while (length > 0 && (*value == ' ' || *value == '\t')) {
                value++;
                length--;
            }
            while (length > 0 && (value[length - 1] == ' ' || value[length - 1] == '\t'))
                length--;
            if (length >= max)
                return false;
            memcpy(ret, value, length);
            ret[length] = 0;
            return true;
        }
        line += length;
        line += strspn(line, "\r\n");
    }
    return false;
}

static enum err_code code_of_status(int status)
{
    if (status == 429)
        return ERR_BUSY;
    for (int i = 1; i < ERR_CODE_COUNT; i++)
        if (err_http((enum err_code)i) == status && status != 503 && status != 500)
            return (enum err_code)i;
    if (status == 503)
        return ERR_BUSY;
    if (status == 401)
        return ERR_DENIED;
    return status >= 500 ? ERR_INTERNAL : ERR_INVALID;
}

bool net_answer_err(const struct net_answer *a, struct err *e)
{
    if (a->status < 400)
        return true;
    json_t *root = a->size ? json_parse("answer", a->body, a->size, NULL) : NULL;
    const json_t *error = json_object_get(root, "error");
    /* others nest it: {"error": {"message": text}} */
    const char *text =
        json_string_value(json_is_object(error) ? json_object_get(error, "message") : error);
    const char *name = json_string_value(json_object_get(root, "code"));
    enum err_code code = name ? err_from_name(name) : code_of_status(a->status);
    if (code == ERR_NONE)
        code = ERR_INTERNAL;
    if (text)
        err_set(e, code, "%s", text);
    else
        err_set(e, code, "HTTP status %d", a->status);
    json_decref(root);
    return false;
}

void net_answer_clear(struct net_answer *a)
{
    free(a->body);
    free(a->head);
    *a = (struct net_answer){0};
}
