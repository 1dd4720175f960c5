/* generate.c - the greedy decode loop. */
#include "task/generate.h"

#include "base/num.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct loop {
    const struct generate_job *job;
    int64_t ids[GENERATE_TOKENS_MAX]; /* the start and what was generated */
    int start_count, count;
    int64_t eos[PROGRAM_STOPS_MAX];
    int eos_count;
    int max_new;
    char tokenizer[DIGEST_HEX + 1];
    bool has_past;
    int past_length;                        /* tokens that the past stands for */
    struct tensor past[GENERATE_PORTS_MAX]; /* by index of the module's inputs; owned */
    struct named_tensor inputs[GENERATE_PORTS_MAX];
    struct tensor outputs[GENERATE_PORTS_MAX];
    char *said; /* text given to on_text so far */
};

/* ---- settings ------------------------------------------------------------------------------- */

static bool read_ids(const json_t *o, const char *key, int64_t *to, int max, int *count,
                     struct err *e)
{
    json_t *list;
    if (!json_need_array(o, "generation", key, (size_t)max, &list, e))
        return false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return err_set(e, ERR_INVALID, "generation: '%s' should be token ids", key);
        to[(*count)++] = json_integer_value(v);
    }
    return true;
}

static bool read_settings(struct loop *l, struct err *e)
{
    const json_t *o = l->job->settings;
    uint64_t max_new;
    const char *tokenizer;
    if (!read_ids(o, "start", l->ids, PROGRAM_START_MAX, &l->count, e) ||
        !read_ids(o, "eos", l->eos, PROGRAM_STOPS_MAX, &l->eos_count, e) ||
        !json_need_u64(o, "generation", "max_new_tokens", PROGRAM_NEW_TOKENS_MAX, &max_new, e) ||
        !json_need_str(o, "generation", "tokenizer", &tokenizer, e))
        return false;
    if (l->count == 0 || !digest_valid(tokenizer))
        return err_set(e, ERR_INVALID, "generation: 'start' is empty or 'tokenizer' is no digest");
    memcpy(l->tokenizer, tokenizer, sizeof(l->tokenizer));
    l->start_count = l->count;
    l->max_new = (int)max_new;
    return true;
}

/* ---- ports ---------------------------------------------------------------------------------- */

enum port_kind {
    PORT_UNKNOWN,
    PORT_PAST,
    PORT_IDS,
    PORT_MASK,
    PORT_POSITIONS,
    PORT_BRANCH,
    PORT_ENCODER_MASK,
};

static const struct {
    const char *name;
    enum port_kind kind;
} port_rows[] = {
    {"input_ids", PORT_IDS},           {"decoder_input_ids", PORT_IDS},
    {"attention_mask", PORT_MASK},     {"decoder_attention_mask", PORT_MASK},
    {"position_ids", PORT_POSITIONS},  {"decoder_position_ids", PORT_POSITIONS},
    {"use_cache_branch", PORT_BRANCH}, {"encoder_attention_mask", PORT_ENCODER_MASK},
};

static enum port_kind port_kind(const char *name)
{
    if (strncmp(name, "past_", 5) == 0)
        return PORT_PAST;
    for (size_t i = 0; i < ARRAY_LEN(port_rows); i++)
        if (strcmp(name, port_rows[i].name) == 0)
            return port_rows[i].kind;
    return PORT_UNKNOWN;
}

static int output_of(const struct port *outputs, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(outputs[i].name, name) == 0)
            return i;
    return -1;
}

/* "past_key_values.0.key" -> output "present.0.key" (or "present_key_values.0.key"). */
static int present_of(const struct port *outputs, int count, const char *past)
{
    const char *tail = strchr(past, '.');
    char name[TENSOR_NAME_MAX + 24];
    if (!tail)
        return -1;
    (void)snprintf(name, sizeof(name), "present%s", tail);
    int found = output_of(outputs, count, name);
    if (found >= 0)
        return found;
    (void)snprintf(name, sizeof(name), "present_key_values%s", tail);
    return output_of(outputs, count, name);
}

/* The past of the first step: dynamic dims are the batch (first: 1) and the length (0).  Another
 * dynamic dim, or a length that is fixed, can't be told from the port. */
static bool empty_past(const struct port *p, struct tensor *ret, struct err *e)
{
    struct shape s = p->shape;
    int lengths = 0;
    for (int i = 0; i < s.rank; i++) {
        lengths += i > 0 && s.dims[i] < 0;
        if (s.dims[i] < 0)
            s.dims[i] = i == 0 ? 1 : 0;
    }
    if (lengths != 1)
        return err_set(e, ERR_UNSUPPORTED,
                       "decoder: input '%s' should have one dynamic dim beside the batch, has %d",
                       p->name, lengths);
    return tensor_new(p->dtype, &s, ret, e);
}

/* ints() and cache_branch() make no other types. */
static bool check_input(const struct port *p, const struct port *outputs, int output_count,
                        struct err *e)
{
    enum port_kind kind = port_kind(p->name);
    if (kind == PORT_UNKNOWN)
        return err_set(e, ERR_UNSUPPORTED, "decoder: nothing is known about its input '%s'",
                       p->name);
    if (kind == PORT_PAST)
        return present_of(outputs, output_count, p->name) >= 0 ||
               err_set(e, ERR_UNSUPPORTED,
                       "decoder: input '%s' has no output 'present...' to carry on with", p->name);
    if (kind == PORT_BRANCH)
        return (p->dtype == DT_BOOL && p->shape.rank == 1) ||
               err_set(e, ERR_UNSUPPORTED, "decoder: input '%s' should be bool of rank 1", p->name);
    return (p->dtype == DT_I64 && p->shape.rank == 2) ||
           err_set(e, ERR_UNSUPPORTED, "decoder: input '%s' should be int64 of rank 2", p->name);
}

bool generate_check(const struct port *inputs, const bool *given, int input_count,
                    const struct port *outputs, int output_count, struct err *e)
{
    struct tensor t;
    bool ids = false;
    for (int i = 0; i < input_count; i++) {
        if (given[i])
            continue;
        enum port_kind kind = port_kind(inputs[i].name);
        ids = ids || kind == PORT_IDS;
        if (!check_input(&inputs[i], outputs, output_count, e) ||
            (kind == PORT_PAST && !empty_past(&inputs[i], &t, e)))
            return false;
        if (kind == PORT_PAST)
            tensor_clear(&t);
    }
    int logits = output_of(outputs, output_count, "logits");
    if (logits < 0 || outputs[logits].dtype != DT_F32 || outputs[logits].shape.rank != 3)
        return err_set(e, ERR_UNSUPPORTED,
                       "decoder: should give 'logits' [batch,tokens,vocabulary] float32");
    return ids || err_set(e, ERR_UNSUPPORTED, "decoder: has no input for token ids");
}

static const struct tensor *given(const struct loop *l, const char *name)
{
    for (int i = 0; i < l->job->input_count; i++)
        if (strcmp(l->job->inputs[i].name, name) == 0)
            return &l->job->inputs[i].tensor;
    return NULL;
}

static bool start_past(struct loop *l, struct err *e)
{
    for (int i = 0; i < l->job->module_input_count; i++) {
        const struct port *p = &l->job->module_inputs[i];
        if (given(l, p->name) || port_kind(p->name) != PORT_PAST)
            continue;
        l->has_past = true;
        if (!empty_past(p, &l->past[i], e))
            return false;
    }
    return true;
}

/* [1,n] of first, first + step, ... */
static bool ints(int64_t n, int64_t first, int64_t step, struct tensor *ret, struct err *e)
{
    struct shape s = {.rank = 2, .dims = {1, n}};
    if (!tensor_new(DT_I64, &s, ret, e))
        return false;
    for (int64_t i = 0; i < n; i++)
        ((int64_t *)ret->data)[i] = first + i * step;
    return true;
}

static bool new_ids(const struct loop *l, int from, struct tensor *ret, struct err *e)
{
    if (!ints(l->count - from, 0, 0, ret, e))
        return false;
    memcpy(ret->data, l->ids + from, (size_t)(l->count - from) * sizeof(int64_t));
    return true;
}

static bool cache_branch(const struct loop *l, struct tensor *ret, struct err *e)
{
    struct shape s = {.rank = 1, .dims = {1}};
    if (!tensor_new(DT_BOOL, &s, ret, e))
        return false;
    *(bool *)ret->data = l->past_length > 0;
    return true;
}

/* The mask beside the encoder's states: ones, as many as there are states. */
static bool encoder_mask(const struct loop *l, struct tensor *ret, struct err *e)
{
    const struct tensor *states = given(l, "encoder_hidden_states");
    if (!states || states->shape.rank != 3)
        return err_set(e, ERR_UNSUPPORTED,
                       "decoder: 'encoder_attention_mask' without 'encoder_hidden_states' "
                       "[1,states,width]");
    return ints(states->shape.dims[1], 1, 0, ret, e);
}

static bool fill_input(const struct loop *l, int index, struct tensor *ret, struct err *e)
{
    const char *name = l->job->module_inputs[index].name;
    int from = l->has_past ? l->past_length : 0;
    const struct tensor *fixed = given(l, name);
    if (fixed) {
        *ret = tensor_ref(fixed);
        return true;
    }
    switch (port_kind(name)) {
    case PORT_PAST:
        *ret = tensor_ref(&l->past[index]);
        return true;
    case PORT_IDS:
        return new_ids(l, from, ret, e);
    case PORT_MASK:
        return ints(l->count, 1, 0, ret, e);
    case PORT_POSITIONS:
        return ints(l->count - from, from, 1, ret, e);
    case PORT_BRANCH:
        return cache_branch(l, ret, e);
    case PORT_ENCODER_MASK:
        return encoder_mask(l, ret, e);
    case PORT_UNKNOWN:
        break;
    }
    return err_set(e, ERR_INTERNAL, "decoder: input '%s'", name); /* generate_check() saw to it */
}

/* ---- steps ---------------------------------------------------------------------------------- */

static void clear_step(struct loop *l)
{
    for (int i = 0; i < l->job->module_input_count; i++)
        tensor_clear(&l->inputs[i].tensor);
    for (int i = 0; i < l->job->module_output_count; i++)
        tensor_clear(&l->outputs[i]);
}

static bool run_step(struct loop *l, struct err *e)
{
    for (int i = 0; i < l->job->module_input_count; i++) {
        memcpy(l->inputs[i].name, l->job->module_inputs[i].name, sizeof(l->inputs[i].name));
        if (!fill_input(l, i, &l->inputs[i].tensor, e))
            return false;
    }
    return l->job->step(l->job->ctx, l->inputs, l->job->module_input_count, l->outputs, e);
}

/* With a cache branch the encoder's own keys come out empty after the first step: those stay. */
static void carry_past(struct loop *l)
{
    for (int i = 0; i < l->job->module_input_count; i++) {
        if (!l->past[i].mem)
            continue;
        int from = present_of(l->job->module_outputs, l->job->module_output_count,
                              l->job->module_inputs[i].name);
        bool cross = strstr(l->job->module_inputs[i].name, ".encoder.") != NULL;
        if (cross && l->past_length > 0)
            continue;
        tensor_clear(&l->past[i]);
        l->past[i] = tensor_ref(&l->outputs[from]);
    }
    l->past_length = l->count;
}

static bool best_token(struct loop *l, int64_t *ret, struct err *e)
{
    int index = output_of(l->job->module_outputs, l->job->module_output_count, "logits");
    const struct tensor *logits = &l->outputs[index];
    if (logits->dtype != DT_F32 || logits->shape.rank != 3 || logits->bytes == 0)
        return err_set(e, ERR_UNSUPPORTED,
                       "decoder: its 'logits' are not [1,tokens,vocabulary] float32");
    int64_t width = logits->shape.dims[2];
    const float *row = (const float *)logits->data + (logits->shape.dims[1] - 1) * width;
    int64_t best = -1;
    for (int64_t i = 0; i < width; i++)
        if (!isnan(row[i]) && (best < 0 || row[i] > row[best]))
            best = i;
    *ret = best;
    return best >= 0 || err_set(e, ERR_UNSUPPORTED, "decoder: its logits are not numbers");
}

static bool is_end(const struct loop *l, int64_t id)
{
    for (int i = 0; i < l->eos_count; i++)
        if (l->eos[i] == id)
            return true;
    return false;
}

static bool decode(struct loop *l, char **ret, struct err *e)
{
    return prepare_decode(l->job->prepare, l->tokenizer, l->ids + l->start_count,
                          (size_t)(l->count - l->start_count), ret, e);
}

/* Gives on what the text grew by.  A text that ends within a character (the replacement sign) or
 * that changed before its end waits for the next token. */
static bool say(struct loop *l, bool last, struct err *e)
{
    char *now;
    if (!l->job->on_text)
        return true;
    if (!decode(l, &now, e))
        return false;
    size_t had = l->said ? strlen(l->said) : 0, n = strlen(now);
    bool broken = !last && n >= 3 && strcmp(now + n - 3, "\xEF\xBF\xBD") == 0;
    bool grows = n > had && !broken && (!had || strncmp(now, l->said, had) == 0);
    bool ok = !grows || l->job->on_text(l->job->ctx, now + had, e);
    if (grows) {
        free(l->said);
        l->said = now;
    } else {
        free(now);
    }
    return ok;
}

static bool loop_run(struct loop *l, struct err *e)
{
    for (int n = 0; n < l->max_new && l->count < GENERATE_TOKENS_MAX; n++) {
        int64_t id;
        if (cancel_fired(l->job->cancel))
            return err_set(e, ERR_CANCELLED, "generation: the caller went away");
        bool ok = run_step(l, e) && best_token(l, &id, e);
        if (ok && l->has_past)
            carry_past(l);
        clear_step(l);
        if (!ok)
            return false;
        if (is_end(l, id))
            break;
        l->ids[l->count++] = id;
        if (!say(l, false, e))
            return false;
    }
    return say(l, true, e);
}

static bool check_job(const struct generate_job *job, struct err *e)
{
    bool fixed[GENERATE_PORTS_MAX] = {false};
    if (job->module_input_count > GENERATE_PORTS_MAX ||
        job->module_output_count > GENERATE_PORTS_MAX)
        return err_set(e, ERR_TOO_LARGE, "decoder: more than the limit of %d ports",
                       GENERATE_PORTS_MAX);
    for (int i = 0; i < job->module_input_count; i++)
        for (int k = 0; k < job->input_count; k++)
            fixed[i] = fixed[i] || strcmp(job->inputs[k].name, job->module_inputs[i].name) == 0;
    return generate_check(job->module_inputs, fixed, job->module_input_count, job->module_outputs,
                          job->module_output_count, e);
}

bool generate_run(struct generate_job *job, char **text, uint32_t *tokens, struct err *e)
{
    if (!check_job(job, e))
        return false;
    struct loop *l = calloc(1, sizeof(*l));
    if (!l)
        return err_set(e, ERR_MEMORY, "generation: no memory");
    l->job = job;
    bool ok = read_settings(l, e) && start_past(l, e) && loop_run(l, e) && decode(l, text, e);
    if (ok)
        *tokens = (uint32_t)(l->count - l->start_count);
    clear_step(l);
    for (int i = 0; i < job->module_input_count; i++)
        tensor_clear(&l->past[i]);
    free(l->said);
    free(l);
    return ok;
}
