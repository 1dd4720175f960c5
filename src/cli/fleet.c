/* fleet.c - calls to the gateway at --url. */
#include "cli/fleet.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/num.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PART_BYTES (4u << 20)
#define PART_MS 120000

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

static bool put_part(const struct args *a, const char *digest, uint64_t at, bool last,
                     const char *data, size_t size, struct err *e)
{
    char path[160];
    struct net_answer answer;
    (void)snprintf(path, sizeof(path), "/s2m3/v1/uploads/%s?offset=%llu&last=%d", digest,
                   (unsigned long long)at, last);
    if (!exchange(args_text(a, "url"), "PUT", path, "application/octet-stream", data, size, PART_MS,
                  &answer, e))
        return false;
    bool ok = net_answer_err(&answer, e);
    net_answer_clear(&answer);
    return ok;
}

bool fleet_upload(const struct args *a, const char *path, const char *digest, uint64_t size,
                  struct err *e)
{
    uint64_t at = 0;
    bool complete = false;
    if (!have_bytes(a, digest, &at, &complete, e))
        return false;
    if (complete)
        return true;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *data = malloc(PART_BYTES);
    bool ok = fd >= 0 && data;
    if (!ok)
        err_set(e, ERR_IO, "%s: can't be read", path);
    if (at > size)
        at = 0;
    bool first = true;
    while (ok && (at < size || first)) {
        first = false;
        ssize_t n = pread(fd, data, num_min(PART_BYTES, (size_t)(size - at)), (off_t)at);
        ok = n >= 0 && (n > 0 || size == 0 || at == size);
        if (!ok)
            err_set(e, ERR_IO, "%s: became shorter while it was read", path);
        ok = ok && put_part(a, digest, at, at + (uint64_t)n == size, data, (size_t)n, e);
        at += ok ? (uint64_t)n : 0;
    }
    free(data);
    if (fd >= 0)
        close(fd);
    return ok;
}
