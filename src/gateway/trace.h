/* trace.h - what a request's calls did, kept for the last TRACES_MAX requests.
 *
 * Threads: spans of one request are added by its call threads; any thread may read. */
#pragma once
#include "base/json.h"
#include "wire/call.h"

#define TRACES_MAX 256
#define TRACE_SPANS_MAX 256

struct span {
    char call[WIRE_ID_MAX];
    char module[WIRE_NAME_MAX]; /* name for people */
    char digest[13];
    char device[WIRE_NAME_MAX];
    uint32_t attempt;
    double start_ms, total_ms; /* since the request came; as the gateway saw it */
    struct call_times times;   /* as the device saw it */
    char error[160];           /* empty: it went well */
};

struct trace;  /* one request's, counted */
struct traces; /* the ring */

struct traces *traces_new(void);
void traces_free(struct traces *t);

/* A new trace in the ring; one reference for the caller.  NULL: no memory (tracing then does
 * nothing). */
struct trace *trace_begin(struct traces *t, const char *request, const char *task,
                          const char *model);
void trace_add(struct trace *t, const struct span *s);
void trace_end(struct trace *t, double total_ms, const char *error); /* gives the reference up */

/* Names of the devices that took part, "a,b"; call before trace_end(). */
void trace_devices(struct trace *t, char *to, size_t size);

/* {"request","task","model","total_ms","error","spans":[...]}, or NULL: not known (any more). */
json_t *traces_json(struct traces *t, const char *request);
