/* rates.h - how often each task is asked for, by the device whose gateway is asked.
 *
 * Heartbeats bring counts; rates_tick() makes a rate of them in which what came t seconds ago
 * weighs exp(-t / RATES_WINDOW_S).  `planned` is the rate that the last plan was made with: a plan
 * is due when one of them has grown or shrunk by RATES_CHANGE.
 *
 * No clock and no lock of its own: time is passed in, the caller holds the fleet's lock. */
#pragma once
#include "base/json.h"
#include "wire/limits.h"

#include <stdint.h>

#define RATES_WINDOW_S 30.0
#define RATES_PERIOD_S 5.0 /* between two ticks, and two questions whether rates have changed */
#define RATES_CHANGE 1.5   /* factor */
#define RATES_FLOOR 0.01   /* per s: what is asked for less is planned for as if it were this */
#define RATES_MATTER 0.1   /* per s: a rate below says nothing, it may be one request */
#define RATES_MAX 4096u    /* rows; what comes on top is not counted */
#define RATES_EFFORTS 200
#define RATES_AROUND 31u

struct rate {
    char model[WIRE_NAME_MAX], task[WIRE_NAME_MAX];
    char device[WIRE_ID_MAX]; /* whose gateway; empty: the coordinator's own */
    double count;             /* since the last tick */
    double per_s, planned;
    double timed, timed_ms; /* requests without help of a cache, and ms of them (coord/truth.h) */
};

/* How much work a request of a task brings, by what was answered. */
struct effort {
    char model[WIRE_NAME_MAX], task[WIRE_NAME_MAX];
    double answered, runs, bytes; /* of late: halved at RATES_EFFORTS answers */
    double
        around_ms[RATES_AROUND]; /* of late, see rates_around_ms(): a mean per heartbeat, a ring */
    uint32_t around_count;       /* ever */
};

struct rates {
    struct rate *rows; /* owned */
    uint32_t count;
    struct effort *efforts; /* owned */
    uint32_t effort_count;
    int64_t ticked_ns; /* 0: not yet */
};

void rates_clear(struct rates *r);

/* usage: of a heartbeat (wire/cluster.h), or NULL; what can't be read is left out. */
void rates_count(struct rates *r, const char *device, const json_t *usage);

/* Runs of one request's call that is made once per candidate or token, on average; guess: what to
 * say as long as none was answered. */
double rates_runs(const struct rates *r, const char *model, const char *task, double guess);

/* Bytes of one request's media, likewise. */
double rates_bytes(const struct rates *r, const char *model, const char *task, double guess);

/* ms of a request around its runs: what is neither a wait for a lane nor a run nor a transfer but is part
 * of its latency: reading, decoding and preparing what was sent, handing over, waking up.
 * The planner's model does not know of it; it is about the same in every placement.  The median of what the
 * last heartbeats said (one request may have met with a busy machine); 0: not known. */
double rates_around_ms(const struct rates *r, const char *model, const char *task);

/* [{"model","task","ms"}], of those that are known; NULL: no memory. */
json_t *rates_around_json(const struct rates *r);

/* Takes the counts since the last tick into the rates; rows that have faded away are dropped. */
void rates_tick(struct rates *r, int64_t now_ns);

/* The row that has changed most since the last plan, or NULL: none by RATES_CHANGE. */
const struct rate *rates_changed(const struct rates *r);

/* A plan has been made with the rates as they are. */
void rates_planned(struct rates *r);
