/* fleet.c - calls to the gateway at --url. */
#include "cli/fleet.h"

#include "base/clock.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PART_BYTES (4u << 20)
#define PART_MS 120000
#define DIGEST_BYTES_PER_MS 20000 /* the last part's answer comes when all has been digested */

static bool exchange(const char *base, const char *method, const char *path, const char *type,
                     const void *data, size_t size, int64_t timeout_ms, struct net_answer *ret,
                     struct err *e)
{
    struct net_client *client;
    size_t size_of_base = strlen(base);
    if (strncmp(base, "http://", 7) != 0 && strncmp(base, "https://", 8) != 0)
        return err_set(e, ERR_INVALID, "--url: '%.80s' should be http://ADDRESS:PORT", base);
    size_of_base -= base[size_of_base - 1] == '/';
    char *url = text_format("%.*s%s", (int)size_of_base, base, path);
    if (!url || !net_client_open(NULL, &client, e)) {
        free(url);
        return false;
    }
    struct net_header header = {"Content-Type", type};
    struct net_part part = {data, size};
    struct net_call call = {.method = method,
                            .url = url,
                            .headers = &header,
                            .header_count = type ? 1 : 0,
                            .parts = &part,
                            .part_count = data ? 1 : 0,
                            .deadline_ns = clock_deadline_ms(timeout_ms)};
    bool ok = net_call(client, &call, ret, e);
    if (!ok && e->code == ERR_GONE)
        err_set(e, ERR_GONE, "no fleet answers at %s (start one with: s2m3 up)", base);
    net_client_close(client);
    free(url);
    return ok;
}

bool fleet_send(const struct args *a, const char *path, const char *type, const void *data,
                size_t size, int64_t timeout_ms, struct net_answer *ret, struct err *e)
{
    return exchange(args_text(a, "url"), "POST", path, type, data, size, timeout_ms, ret, e);
}

bool fleet_json_at(const char *url, const char *method, const char *path, json_t *body,
                   int64_t timeout_ms, json_t **ret, struct err *e)
{
    struct net_answer answer;
    char *text = body ? json_text(body) : NULL;
    bool ok = exchange(url, method, path, text ? "application/json" : NULL, text,
                       text ? strlen(text) : 0, timeout_ms, &answer, e);
    json_decref(body);
    free(text);
    if (!ok)
        return false;
    *ret = net_answer_err(&answer, e) ? json_parse("answer", answer.body, answer.size, e) : NULL;
    net_answer_clear(&answer);
    return *ret != NULL;
}

bool fleet_json(const struct args *a, const char *method, const char *path, json_t *body,
                int64_t timeout_ms, json_t **ret, struct err *e)
{
    return fleet_json_at(args_text(a, "url"), method, path, body, timeout_ms, ret, e);
}

bool fleet_reachable(const struct args *a)
{
    struct net_answer answer;
    struct err e;
    if (!exchange(args_text(a, "url"), "GET", "/healthz", NULL, NULL, 0, 2000, &answer, &e))
        return false;
    net_answer_clear(&answer);
    return true;
}

static bool have_bytes(const struct args *a, const char *digest, uint64_t *have, bool *complete,
                       struct err *e)
{
    char path[128];
    json_t *o;
    (void)snprintf(path, sizeof(path), "/s2m3/v1/uploads/%s", digest);
    if (!fleet_json(a, "GET", path, NULL, PART_MS, &o, e))
        return false;
    bool ok = json_need_u64(o, "upload", "have", (uint64_t)1 << 53, have, e) &&
              json_opt_bool(o, "upload", "complete", complete, e);
    json_decref(o);
    return ok;
}

static bool put_part(const struct args *a, const struct upload *u, uint64_t at, const char *data,
                     size_t size, struct err *e)
{
    char path[160];
    struct net_answer answer;
    bool last = at + size == u->size;
    (void)snprintf(path, sizeof(path), "/s2m3/v1/uploads/%s?offset=%llu&last=%d", u->digest,
                   (unsigned long long)at, last);
    if (!exchange(args_text(a, "url"), "PUT", path, "application/octet-stream", data, size,
                  PART_MS + (last ? (int64_t)(u->size / DIGEST_BYTES_PER_MS) : 0), &answer, e))
        return false;
    bool ok = net_answer_err(&answer, e);
    net_answer_clear(&answer);
    return ok;
}

bool fleet_upload(const struct args *a, const struct upload *u, struct err *e)
{
    uint64_t at = 0;
    bool complete = false, first = true;
    if (!have_bytes(a, u->digest, &at, &complete, e))
        return false;
    if (complete)
        return true;
    char *data = malloc(PART_BYTES);
    bool ok = data || err_set(e, ERR_MEMORY, "no memory");
    if (at > u->size)
        at = 0;
    for (; ok && (at < u->size || first); first = false) {
        size_t n = u->size - at < PART_BYTES ? (size_t)(u->size - at) : PART_BYTES;
        ok = u->read(u->ctx, at, data, n, e) && put_part(a, u, at, data, n, e);
        at += n;
    }
    free(data);
    return ok;
}
