/* fleet.h - talking to a running fleet from the command line. */
#pragma once
#include "cli/cli.h"
#include "net/client.h"

/* One JSON exchange with the gateway at --url.  body may be NULL (stolen otherwise); *ret is a new
 * reference. */
bool fleet_json(const struct args *a, const char *method, const char *path, json_t *body,
                int64_t timeout_ms, json_t **ret, struct err *e);

/* The same with the gateway at that URL. */
bool fleet_json_at(const char *url, const char *method, const char *path, json_t *body,
                   int64_t timeout_ms, json_t **ret, struct err *e);

/* What is uploaded; read() fills all of size, which lies within. */
struct upload {
    const char *digest;
    uint64_t size;
    bool (*read)(void *ctx, uint64_t offset, void *to, size_t size, struct err *e);
    void *ctx;
};

/* Uploads in parts; goes on where an earlier upload stopped. */
bool fleet_upload(const struct args *a, const struct upload *u, struct err *e);

/* A body of any type; *ret is to be cleared. */
bool fleet_send(const struct args *a, const char *path, const char *type, const void *data,
                size_t size, int64_t timeout_ms, struct net_answer *ret, struct err *e);

/* Is anything listening at --url? */
bool fleet_reachable(const struct args *a);
