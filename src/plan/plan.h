/* plan.h - which device holds which module, decided from numbers alone.
 *
 * Pure: an instance goes in, a plan comes out; no clock, no files, no state.  The same instance,
 * method, seed and evaluation limit give the same plan bit for bit.  Only `stop`, when given, may
 * end a search at another point from one time to the next; the plan is valid all the same.
 *
 * Objectives, routes, the two baselines and the answer's fields are those of the instance format.
 *
 * Errors: ERR_INVALID = the instance (badinstance) or the options are wrong; ERR_NO_PLACE = nothing
 * feasible exists (status PLAN_NOFIT: proven) or none was found (PLAN_NOTFOUND); ERR_MEMORY.
 * Threads: any number of calls at the same time. */
#pragma once
#include "plan/instance.h"

#define PLAN_REPLICAS_MAX 64u      /* devices of one module */
#define PLAN_ROUTES_MAX (1u << 16) /* replicas multiplied over the modules of one request */

enum plan_method {
    PLAN_BEST_GREEDY,
    PLAN_GREEDY_FASTEST,
    PLAN_GREEDY_EARLIEST,
    PLAN_LOCAL,
    PLAN_EXACT,
    PLAN_AUTO,
    PLAN_METHOD_COUNT
};

enum plan_status { PLAN_DONE, PLAN_NOFIT, PLAN_NOTFOUND };
enum plan_stopped { PLAN_NOT_STOPPED, PLAN_STOPPED_EVALUATIONS, PLAN_STOPPED_TIME };

struct plan_options {
    enum plan_method method;
    uint64_t seed;
    uint64_t limit_evals;    /* placements looked at, search nodes included; 0: none */
    bool (*stop)(void *ctx); /* asked now and then; true ends the search; may be NULL */
    void *stop_ctx;
    /* {"module": ["device", ...]}: places that are forced, or NULL.  More than one needs `replicas`
     * or as much redundancy. */
    const json_t *pins;
    const struct plan_sites *given; /* by module: taken as it is, nothing is searched; or NULL */
    const char *given_note; /* for reasons: why what is given need not be the best; or NULL */
    /* So many devices may die and every module still has a place; of what is given it is only said
     * where that is not so. */
    int redundancy;
    bool explain;
};

/* The devices of one module, in the order of the instance. */
struct plan_sites {
    uint32_t count;
    uint32_t device[PLAN_REPLICAS_MAX];
};

struct plan_result {
    enum plan_status status;
    enum plan_method method;
    struct plan_sites *sites; /* by module; owned */
    double value;
    double bound; /* proven lower bound on the value of any feasible placement; NAN: none */
    bool certified;
    enum plan_stopped stopped;
    uint64_t evaluations;
    double *device_bytes; /* by device; owned */
    double *latency_ms;   /* by request; owned */
    uint32_t **route;     /* by request, then slot of its model: device; owned */
    char **reason;        /* by module; owned; NULL unless options.explain */
    char **path;          /* by request: its critical path; owned; NULL unless options.explain */
    bool *unprotected;    /* by module: fewer places than redundancy asks for; owned or NULL */
};

/* "best-greedy", and back; false for an unknown name. */
const char *plan_method_name(enum plan_method method);
bool plan_method_from(const char *name, enum plan_method *ret);

/* On failure ret->status says PLAN_NOFIT or PLAN_NOTFOUND if e is ERR_NO_PLACE, and nothing in ret
 * needs clearing. */
bool plan_solve(const struct plan_instance *in, const struct plan_options *o,
                struct plan_result *ret, struct err *e);
void plan_result_clear(const struct plan_instance *in, struct plan_result *r);

/* The answer of the instance format, without elapsed_ms; NULL when memory is out. */
json_t *plan_result_json(const struct plan_instance *in, const struct plan_result *r);

/* Value of a placement by the full evaluator: INFINITY when it is not feasible.  latency_ms (by
 * request) and used (bytes by device) may be NULL. */
bool plan_evaluate(const struct plan_instance *in, const struct plan_sites *sites,
                   double *ret_value, double *latency_ms, double *used, struct err *e);

/* All of it from JSON to JSON.  *answer belongs to the caller. */
bool plan_run_json(const json_t *instance, const struct plan_options *o, json_t **answer,
                   struct err *e);
