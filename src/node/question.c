/* question.c - reading the question of a check. */
#include "node/question.h"

#include <stdlib.h>
#include <string.h>

static bool read_name(const json_t *o, const char *what, const char *key, char ret[TENSOR_NAME_MAX],
                      struct err *e)
{
    const char *name;
    if (!json_need_str(o, what, key, &name, e))
        return false;
    if (strlen(name) >= TENSOR_NAME_MAX)
        return err_set(e, ERR_INVALID, "%s: %s of over %d bytes", what, key, TENSOR_NAME_MAX - 1);
    memcpy(ret, name, strlen(name) + 1);
    return true;
}

static void *room(size_t count, size_t size, struct err *e)
{
    void *p = calloc(count + 1, size);
    if (!p)
        err_set(e, ERR_MEMORY, "check: no memory");
    return p;
}

/* ---- inputs --------------------------------------------------------------------------------- */

static bool read_input(const json_t *o, struct question_input *ret, size_t *bytes, struct err *e)
{
    static const char what[] = "check: input";
    const char *type;
    json_t *dims;
    size_t own;
    if (!read_name(o, what, "name", ret->name, e) || !json_need_str(o, what, "dtype", &type, e) ||
        !json_need_array(o, what, "shape", TENSOR_RANK_MAX, &dims, e))
        return false;
    ret->dtype = dtype_from_name(type);
    if (ret->dtype == DT_NONE)
        return err_set(e, ERR_INVALID, "%s '%s': dtype '%.20s' is unknown", what, ret->name, type);
    for (size_t i = 0; i < json_array_size(dims); i++) {
        const json_t *dim = json_array_get(dims, i);
        if (!json_is_integer(dim))
            return err_set(e, ERR_INVALID, "%s '%s': dim %zu is no number", what, ret->name, i);
        ret->shape.dims[ret->shape.rank++] = json_integer_value(dim);
    }
    if (!tensor_bytes(ret->dtype, &ret->shape, &own, e))
        return err_prefix(e, "%s '%s'", what, ret->name);
    if (own > (CHECK_BYTES_MAX - *bytes) / CHECK_RUNS)
        return err_set(e, ERR_TOO_LARGE, "%ss: over %zu bytes", what, CHECK_BYTES_MAX);
    *bytes += own * CHECK_RUNS;
    return true;
}

static bool read_inputs(const json_t *o, struct question *q, struct err *e)
{
    json_t *rows;
    size_t bytes = 0;
    if (!json_need_array(o, "check", "inputs", CHECK_PORTS_MAX, &rows, e) ||
        !(q->inputs = room(json_array_size(rows), sizeof(*q->inputs), e)))
        return false;
    for (size_t i = 0; i < json_array_size(rows); i++)
        if (!read_input(json_array_get(rows, i), &q->inputs[q->input_count++], &bytes, e))
            return false;
    return true;
}

/* ---- runs ----------------------------------------------------------------------------------- */

/* name: the key of the port's name; calls: how many stand before it. */
static bool read_ref(const json_t *o, const char *name, const struct question *q, int calls,
                     struct question_ref *ret, struct err *e)
{
    uint64_t n;
    bool input = json_object_get(o, "input") != NULL;
    if (!read_name(o, "check", name, ret->port, e) ||
        !json_need_u64(o, "check", input ? "input" : "call", CHECK_CALLS_MAX, &n, e))
        return false;
    int most = input ? q->input_count : calls;
    if (n >= (uint64_t)most)
        return err_set(e, ERR_INVALID, "check: '%s' takes %s %d, there are %d before it", ret->port,
                       input ? "input" : "call", (int)n, most);
    ret->input = input ? (int)n : -1;
    ret->call = input ? -1 : (int)n;
    return input || read_name(o, "check", "output", ret->output, e);
}

static bool read_refs(const json_t *o, const char *key, const char *name, const struct question *q,
                      int calls, struct question_ref **ret, int *count, struct err *e)
{
    json_t *rows;
    if (!json_need_array(o, "check", key, CHECK_PORTS_MAX, &rows, e) ||
        !(*ret = room(json_array_size(rows), sizeof(**ret), e)))
        return false;
    for (size_t i = 0; i < json_array_size(rows); i++)
        if (!read_ref(json_array_get(rows, i), name, q, calls, &(*ret)[(*count)++], e))
            return false;
    return true;
}

static bool read_run(const json_t *o, const struct question *q, int calls, bool reference,
                     struct question_run *ret, struct err *e)
{
    const char *digest;
    if (!json_need_str(o, "check", "module", &digest, e))
        return false;
    if (!digest_valid(digest))
        return err_set(e, ERR_INVALID, "check: module '%.80s' is no SHA-256 digest", digest);
    memcpy(ret->module.hex, digest, sizeof(ret->module.hex));
    if (!read_refs(o, "inputs", "port", q, calls, &ret->refs, &ret->ref_count, e))
        return false;
    if (!reference)
        return true;
    if (!read_refs(o, "outputs", "name", q, calls, &ret->outputs, &ret->output_count, e))
        return false;
    for (int i = 0; i < ret->output_count; i++)
        if (ret->outputs[i].input >= 0)
            return err_set(e, ERR_INVALID, "check: output '%s' should be compared with a call's",
                           ret->outputs[i].port);
    return true;
}

static bool read_runs(const json_t *o, const char *key, struct question *q, bool reference,
                      struct question_run **ret, int *count, struct err *e)
{
    json_t *rows;
    if (!json_need_array(o, "check", key, CHECK_CALLS_MAX, &rows, e) ||
        !(*ret = room(json_array_size(rows), sizeof(**ret), e)))
        return false;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        struct question_run *run = &(*ret)[(*count)++];
        if (!read_run(json_array_get(rows, i), q, reference ? q->call_count : *count - 1, reference,
                      run, e))
            return false;
    }
    return true;
}

bool question_read(const json_t *o, struct question *ret, struct err *e)
{
    struct question q = {0};
    bool ok = read_inputs(o, &q, e) &&
              read_runs(o, "calls", &q, false, &q.calls, &q.call_count, e) &&
              read_runs(o, "references", &q, true, &q.references, &q.reference_count, e);
    if (!ok) {
        question_clear(&q);
        return false;
    }
    *ret = q;
    return true;
}

static void clear_runs(struct question_run *runs, int count)
{
    for (int i = 0; i < count; i++) {
        free(runs[i].refs);
        free(runs[i].outputs);
    }
    free(runs);
}

void question_clear(struct question *q)
{
    clear_runs(q->calls, q->call_count);
    clear_runs(q->references, q->reference_count);
    free(q->inputs);
    *q = (struct question){0};
}
