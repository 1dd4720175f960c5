/* program.c - programs as JSON and back. */
#include "task/program.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

static const char *const kind_names[] = {"image", "audio", "text"};
static const char *const answer_names[] = {"similarity", "labels", "text", "vector"};

const char *media_kind_name(enum media_kind k)
{
    return kind_names[k];
}

bool media_kind_from_name(const char *name, enum media_kind *ret)
{
    for (int i = 0; i < MEDIA_KINDS; i++)
        if (strcmp(kind_names[i], name) == 0) {
            *ret = (enum media_kind)i;
            return true;
        }
    return false;
}

static bool id_taken(const struct program *p, const char *id)
{
    for (int i = 0; i < p->call_count; i++)
        if (strcmp(p->calls[i].id, id) == 0)
            return true;
    return false;
}

void program_name_call(const struct program *p, const char *name, struct program_call *c)
{
    const char *each = c->each ? ".each" : "";
    (void)snprintf(c->id, sizeof(c->id), "%.40s%s", name, each);
    for (int n = 2; id_taken(p, c->id); n++)
        (void)snprintf(c->id, sizeof(c->id), "%.40s%s~%d", name, each, n);
}

bool program_reads(const struct program *p, enum media_kind k, bool each)
{
    for (int i = 0; i < p->call_count; i++)
        for (int n = 0; n < p->calls[i].input_count; n++) {
            const struct program_input *in = &p->calls[i].inputs[n];
            if (in->media && in->kind == k && p->calls[i].each == each)
                return true;
        }
    return false;
}

void program_free(struct program *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->label_count; i++)
        free(p->labels[i]);
    free(p->labels);
    json_decref(p->generation);
    free(p);
}

/* ---- writing -------------------------------------------------------------------------------- */

/* An object that is being made; takes values over, and a value of NULL (a text that is not UTF-8,
 * no memory) spoils the whole.  json_pack() loses values then. */
struct writer {
    json_t *object;
    bool spoilt;
};

static struct writer writer_new(void)
{
    struct writer w = {.object = json_object()};
    w.spoilt = !w.object;
    return w;
}

static void put(struct writer *w, const char *key, json_t *value)
{
    w->spoilt |= json_object_set_new(w->object, key, value) != 0;
}

static json_t *writer_end(struct writer *w)
{
    if (!w->spoilt)
        return w->object;
    json_decref(w->object);
    return NULL;
}

/* NULL when one element is. */
static json_t *append(json_t *list, json_t *value)
{
    if (list && json_array_append_new(list, value) == 0)
        return list;
    if (!list)
        json_decref(value);
    json_decref(list);
    return NULL;
}

static json_t *input_json(const struct program_input *in)
{
    struct writer w = writer_new();
    if (in->media) {
        put(&w, "media", json_string(kind_names[in->kind]));
        put(&w, "config", json_string(in->config.hex));
        return writer_end(&w);
    }
    put(&w, "call", json_integer(in->call));
    put(&w, "output", json_string(in->output));
    put(&w, "port", json_string(in->port));
    put(&w, "bytes", json_integer((json_int_t)in->bytes));
    return writer_end(&w);
}

static json_t *call_json(const struct program_call *c)
{
    struct writer w = writer_new();
    json_t *inputs = json_array();
    for (int i = 0; i < c->input_count; i++)
        inputs = append(inputs, input_json(&c->inputs[i]));
    put(&w, "id", json_string(c->id));
    put(&w, "module", json_string(c->module.hex));
    put(&w, "each", json_boolean(c->each));
    put(&w, "generate", json_boolean(c->generate));
    put(&w, "inputs", inputs);
    return writer_end(&w);
}

static json_t *answer_json(const struct program_answer *a)
{
    struct writer w = writer_new();
    put(&w, "kind", json_string(answer_names[a->kind]));
    put(&w, "call", json_integer(a->call));
    put(&w, "output", json_string(a->output));
    if (a->kind == ANSWER_LABELS)
        put(&w, "independent", json_boolean(a->independent));
    if (a->kind != ANSWER_SIMILARITY)
        return writer_end(&w);
    put(&w, "other", json_integer(a->other));
    put(&w, "other_output", json_string(a->other_output));
    put(&w, "scale", json_real(a->scale));
    put(&w, "rank", json_boolean(a->rank));
    return writer_end(&w);
}

json_t *program_to_json(const struct program *p)
{
    struct writer w = writer_new();
    json_t *calls = json_array(), *labels = json_array();
    for (int i = 0; i < p->call_count; i++)
        calls = append(calls, call_json(&p->calls[i]));
    for (int i = 0; i < p->label_count; i++)
        labels = append(labels, json_string(p->labels[i]));
    put(&w, "task", json_string(p->task));
    put(&w, "calls", calls);
    put(&w, "answer", answer_json(&p->answer));
    if (p->hypothesis[0])
        put(&w, "hypothesis", json_string(p->hypothesis));
    if (p->generation)
        put(&w, "generation", json_incref(p->generation));
    if (p->label_count)
        put(&w, "labels", labels);
    else
        json_decref(labels);
    return writer_end(&w);
}

/* ---- reading -------------------------------------------------------------------------------- */

static bool text(const json_t *o, const char *what, const char *key, char *to, size_t size,
                 bool empty_ok, struct err *e)
{
    const char *value;
    if (!json_need_str(o, what, key, &value, e))
        return false;
    size_t n = strlen(value);
    if (n >= size || (n == 0 && !empty_ok))
        return err_set(e, ERR_INVALID, "%s: '%s' has %zu characters, should be %d to %zu", what,
                       key, n, empty_ok ? 0 : 1, size - 1);
    memcpy(to, value, n + 1);
    return true;
}

static bool digest(const json_t *o, const char *what, const char *key, struct digest *to,
                   struct err *e)
{
    if (!text(o, what, key, to->hex, sizeof(to->hex), false, e))
        return false;
    return digest_valid(to->hex) ||
           err_set(e, ERR_INVALID, "%s: '%s' is not a SHA-256 digest", what, key);
}

static bool index_of(const json_t *o, const char *what, const char *key, int limit, int *ret,
                     struct err *e)
{
    uint64_t v;
    if (!json_need_u64(o, what, key, PROGRAM_CALLS_MAX, &v, e))
        return false;
    if ((int)v >= limit)
        return err_set(e, ERR_INVALID, "%s: '%s' is call %d, of %d", what, key, (int)v, limit);
    *ret = (int)v;
    return true;
}

static bool read_input(const json_t *o, int call, struct program_input *in, struct err *e)
{
    static const char what[] = "program: input";
    const char *kind = NULL;
    if (!json_opt_str(o, what, "media", &kind, e))
        return false;
    if (kind) {
        in->media = true;
        if (!media_kind_from_name(kind, &in->kind))
            return err_set(e, ERR_INVALID, "%s: media '%.40s' is unknown", what, kind);
        return digest(o, what, "config", &in->config, e);
    }
    return index_of(o, what, "call", call, &in->call, e) &&
           text(o, what, "output", in->output, sizeof(in->output), false, e) &&
           text(o, what, "port", in->port, sizeof(in->port), false, e) &&
           json_opt_u64(o, what, "bytes", TENSOR_BYTES_MAX, &in->bytes, e);
}

/* What holds between a call's inputs (program.h). */
static bool check_input(const struct program *p, const struct program_call *c, int index,
                        struct err *e)
{
    const struct program_input *in = &c->inputs[index];
    if (in->media) {
        for (int i = 0; i < index; i++)
            if (c->inputs[i].media && c->inputs[i].kind == in->kind)
                return err_set(e, ERR_INVALID, "program: call '%s' reads %s twice", c->id,
                               kind_names[in->kind]);
        return true;
    }
    const struct program_call *from = &p->calls[in->call];
    if (from->generate || from->each != c->each)
        return err_set(e, ERR_UNSUPPORTED, "program: call '%s' takes from '%s', which %s", c->id,
                       from->id,
                       from->generate ? "generates"
                       : from->each   ? "is made for each candidate"
                                      : "is not made for each candidate");
    for (int i = 0; i < index; i++)
        if (!c->inputs[i].media && strcmp(c->inputs[i].port, in->port) == 0)
            return err_set(e, ERR_INVALID, "program: call '%s' gets its input '%.60s' twice", c->id,
                           in->port);
    return true;
}

/* A candidate is one text or one picture. */
static bool check_each(const struct program_call *c, struct err *e)
{
    int media = 0;
    bool sound = false;
    for (int i = 0; i < c->input_count; i++) {
        media += c->inputs[i].media;
        sound = sound || (c->inputs[i].media && c->inputs[i].kind == MEDIA_AUDIO);
    }
    return !c->each || (media <= 1 && !sound && !c->generate) ||
           err_set(e, ERR_UNSUPPORTED,
                   "program: call '%s' is made for each candidate, so it should run on one text or "
                   "picture",
                   c->id);
}

static bool read_call(const json_t *o, struct program *p, struct err *e)
{
    static const char what[] = "program: call";
    struct program_call *c = &p->calls[p->call_count];
    json_t *inputs;
    if (!text(o, what, "id", c->id, sizeof(c->id), false, e) ||
        !digest(o, what, "module", &c->module, e) || !json_opt_bool(o, what, "each", &c->each, e) ||
        !json_opt_bool(o, what, "generate", &c->generate, e) ||
        !json_need_array(o, what, "inputs", PROGRAM_INPUTS_MAX, &inputs, e))
        return false;
    for (int i = 0; i < p->call_count; i++)
        if (strcmp(p->calls[i].id, c->id) == 0)
            return err_set(e, ERR_INVALID, "%s: '%s' stands there twice", what, c->id);
    if (json_array_size(inputs) == 0)
        return err_set(e, ERR_INVALID, "%s: '%s' has no inputs", what, c->id);
    for (size_t i = 0; i < json_array_size(inputs); i++, c->input_count++) {
        if (!read_input(json_array_get(inputs, i), p->call_count, &c->inputs[i], e) ||
            !check_input(p, c, (int)i, e))
            return false;
    }
    p->call_count++;
    return check_each(c, e);
}

static bool read_answer(const json_t *o, struct program *p, struct err *e)
{
    static const char what[] = "program: answer";
    struct program_answer *a = &p->answer;
    const char *kind;
    if (!json_need_str(o, what, "kind", &kind, e) ||
        !index_of(o, what, "call", p->call_count, &a->call, e) ||
        !text(o, what, "output", a->output, sizeof(a->output), true, e))
        return false;
    size_t k = 0;
    while (k < ARRAY_LEN(answer_names) && strcmp(answer_names[k], kind) != 0)
        k++;
    if (k == ARRAY_LEN(answer_names))
        return err_set(e, ERR_INVALID, "%s: kind '%.40s' is unknown", what, kind);
    a->kind = (enum answer_kind)k;
    if (a->kind != ANSWER_TEXT && a->output[0] == 0)
        return err_set(e, ERR_INVALID, "%s: 'output' is empty", what);
    if ((a->kind == ANSWER_TEXT) != p->calls[a->call].generate || p->calls[a->call].each)
        return err_set(e, ERR_INVALID, "%s: '%s' can't come from call '%s'", what, kind,
                       p->calls[a->call].id);
    if (a->kind != ANSWER_SIMILARITY)
        return json_opt_bool(o, what, "independent", &a->independent, e);
    if (!index_of(o, what, "other", p->call_count, &a->other, e) ||
        !text(o, what, "other_output", a->other_output, sizeof(a->other_output), false, e) ||
        !json_need_num(o, what, "scale", -1e6, 1e6, &a->scale, e) ||
        !json_opt_bool(o, what, "rank", &a->rank, e))
        return false;
    return p->calls[a->other].each ||
           err_set(e, ERR_INVALID, "%s: 'other' is not a call for each candidate", what);
}

/* A template's place for the label must be there, or every label would be the same text. */
static bool read_hypothesis(const json_t *o, struct program *p, struct err *e)
{
    const char *hypothesis = "";
    if (!json_opt_str(o, "program", "hypothesis", &hypothesis, e))
        return false;
    size_t n = strlen(hypothesis);
    if (n >= sizeof(p->hypothesis) || (n && !strstr(hypothesis, "{}")))
        return err_set(e, ERR_INVALID,
                       "program '%s': 'hypothesis' should hold {} and have at most %zu bytes",
                       p->task, sizeof(p->hypothesis) - 1);
    memcpy(p->hypothesis, hypothesis, n + 1);
    return true;
}

/* The settings themselves are read where the loop runs. */
static bool read_generation(const json_t *o, struct program *p, struct err *e)
{
    json_t *generation = json_object_get(o, "generation");
    if (generation && !json_is_object(generation))
        return err_set(e, ERR_INVALID, "program '%s': 'generation' should be an object", p->task);
    p->generation = json_incref(generation);
    for (int i = 0; i < p->call_count; i++)
        if (p->calls[i].generate && !generation)
            return err_set(e, ERR_INVALID,
                           "program '%s': call '%s' generates, and 'generation' is missing",
                           p->task, p->calls[i].id);
    return true;
}

static bool read_labels(const json_t *o, struct program *p, struct err *e)
{
    json_t *list = json_object_get(o, "labels");
    if (!list)
        return true;
    if (!json_need_array(o, "program", "labels", PROGRAM_LABELS_MAX, &list, e))
        return false;
    p->labels = calloc(json_array_size(list) + 1, sizeof(*p->labels));
    for (size_t i = 0; p->labels && i < json_array_size(list); i++) {
        const char *label = json_string_value(json_array_get(list, i));
        if (!label)
            return err_set(e, ERR_INVALID, "program: label %zu is not a text", i);
        p->labels[i] = strdup(label);
        if (!p->labels[i])
            return err_set(e, ERR_MEMORY, "program: no memory");
        p->label_count++;
    }
    return p->labels != NULL || err_set(e, ERR_MEMORY, "program: no memory");
}

static bool read_program(const json_t *o, struct program *p, struct err *e)
{
    json_t *calls, *answer;
    if (!text(o, "program", "task", p->task, sizeof(p->task), false, e) ||
        !json_need_array(o, "program", "calls", PROGRAM_CALLS_MAX, &calls, e) ||
        !json_need_object(o, "program", "answer", &answer, e) || !read_hypothesis(o, p, e))
        return false;
    if (json_array_size(calls) == 0)
        return err_set(e, ERR_INVALID, "program '%s': has no calls", p->task);
    for (size_t i = 0; i < json_array_size(calls); i++)
        if (!read_call(json_array_get(calls, i), p, e))
            return false;
    return read_answer(answer, p, e) && read_generation(o, p, e) && read_labels(o, p, e);
}

struct program *program_from_json(const json_t *o, struct err *e)
{
    struct program *p = calloc(1, sizeof(*p));
    if (!p) {
        err_set(e, ERR_MEMORY, "program: no memory");
        return NULL;
    }
    if (!read_program(o, p, e)) {
        program_free(p);
        return NULL;
    }
    return p;
}
