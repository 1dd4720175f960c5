/* programs.c - programs of a model from the roles of its graphs. */
#include "task/model_internal.h"

#include "base/num.h"
#include "task/generate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NEW_DEFAULT 64
#define DYNAMIC_BYTES                                                                              \
    (4u << 20) /* reserved for an output whose size is known only when it is there */

/* A program that is being made. */
struct builder {
    struct deduction *d;
    struct program *program;       /* owned */
    int graphs[PROGRAM_CALLS_MAX]; /* of which graph each call is */
    bool used[MEDIA_KINDS];
};

/* ---- calls ---------------------------------------------------------------------------------- */

static const struct model_file *file_of(const struct deduction *d, enum media_kind k)
{
    return k == MEDIA_TEXT ? &d->source->tokenizer : &d->source->preprocessor;
}

static bool need_file(struct builder *b, enum media_kind k, const char *graph)
{
    b->used[k] = true;
    return file_of(b->d, k)->text ||
           err_set(b->d->e, ERR_INVALID, "%.100s: %.100s.onnx works on %s, so %s is needed",
                   b->d->source->name, graph, media_kind_name(k),
                   k == MEDIA_TEXT ? "tokenizer.json" : "preprocessor_config.json");
}

/* The size of one output at batch 1: what a meeting reserves for it. */
static uint64_t output_bytes(const struct port *p)
{
    uint64_t n = dtype_size(p->dtype);
    bool known = true;
    for (int i = 0; i < p->shape.rank; i++) {
        int64_t dim = p->shape.dims[i];
        known = known && (dim >= 0 || i == 0);
        if (__builtin_mul_overflow(n, (uint64_t)(dim > 0 ? dim : 1), &n) || n > TENSOR_BYTES_MAX)
            return TENSOR_BYTES_MAX;
    }
    return known || n > DYNAMIC_BYTES ? n : DYNAMIC_BYTES;
}

static bool add_media(struct builder *b, struct program_call *c, enum media_kind k,
                      const char *graph)
{
    for (int i = 0; i < c->input_count; i++)
        if (c->inputs[i].media && c->inputs[i].kind == k)
            return true; /* one processor gives ids and mask together */
    if (!need_file(b, k, graph))
        return false;
    c->inputs[c->input_count++] =
        (struct program_input){.media = true, .kind = k, .config = file_of(b->d, k)->digest};
    return true;
}

static int add_call(struct builder *b, int graph, bool each);

static bool add_inputs(struct builder *b, int graph, struct program_call *c)
{
    struct deduction *d = b->d;
    const struct model_graph *g = &d->source->graphs[graph];
    for (int i = 0; i < g->input_count; i++) {
        const struct feed *f = &d->graphs[graph].feeds[i];
        if (f->kind == FROM_LOOP)
            continue;
        if (c->input_count >= PROGRAM_INPUTS_MAX)
            return err_set(d->e, ERR_TOO_LARGE, "%.100s.onnx: more than %d inputs", g->name,
                           PROGRAM_INPUTS_MAX);
        if (f->kind == FROM_MEDIA) {
            if (!add_media(b, c, f->media, g->name))
                return false;
            continue;
        }
        int from = add_call(b, f->graph, false);
        if (from < 0)
            return false;
        const struct port *out = &d->source->graphs[f->graph].outputs[f->output];
        struct program_input *in = &c->inputs[c->input_count++];
        *in = (struct program_input){.call = from, .bytes = output_bytes(out)};
        memcpy(in->output, out->name, sizeof(in->output));
        memcpy(in->port, g->inputs[i].name, sizeof(in->port));
    }
    return true;
}

/* Adds the call of a graph, and before it those that it depends on (there is no circle, and one
 * call more each time, so the depth is bounded).  Its index; -1 on failure. */
static int add_call(struct builder *b, int graph, bool each)
{
    struct deduction *d = b->d;
    struct program *p = b->program;
    for (int i = 0; i < p->call_count; i++)
        if (b->graphs[i] == graph && p->calls[i].each == each)
            return i;
    const struct model_graph *g = &d->source->graphs[graph];
    struct program_call c = {.each = each, .module = g->digest};
    c.generate = d->graphs[graph].role == ROLE_DECODER;
    if (!add_inputs(b, graph, &c))
        return -1;
    if (p->call_count >= PROGRAM_CALLS_MAX) {
        err_set(d->e, ERR_TOO_LARGE, "%.100s: '%s' takes more than %d calls", d->source->name,
                p->task, PROGRAM_CALLS_MAX);
        return -1;
    }
    program_name_call(p, g->name, &c);
    d->graphs[graph].called = true;
    b->graphs[p->call_count] = graph;
    p->calls[p->call_count] = c;
    return p->call_count++;
}

/* ---- whole programs ------------------------------------------------------------------------- */

static bool wanted(const struct deduction *d, const char *task)
{
    const json_t *list = json_object_get(d->hints, "tasks");
    if (!list)
        return true;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), task) == 0)
            return true;
    return strcmp(task, "feature-extraction") == 0;
}

static bool begin(struct builder *b, struct deduction *d, const char *task)
{
    *b = (struct builder){.d = d, .program = calloc(1, sizeof(*b->program))};
    if (!b->program)
        return err_set(d->e, ERR_MEMORY, "program: no memory");
    (void)snprintf(b->program->task, sizeof(b->program->task), "%s", task);
    return true;
}

static void list_task(struct deduction *d, const char *task)
{
    for (size_t i = 0; i < json_array_size(d->tasks); i++)
        if (strcmp(json_string_value(json_array_get(d->tasks, i)), task) == 0)
            return;
    json_array_append_new(d->tasks, json_string(task));
}

/* Reads it once as those will who get it: what they would refuse is refused here. */
static bool check(const struct program *p, json_t **ret, struct err *e)
{
    json_t *o = program_to_json(p);
    if (!o)
        return err_set(e, ERR_INVALID, "%s: a name in a graph is not UTF-8", p->task);
    struct program *again = program_from_json(o, e);
    if (!again) {
        json_decref(o);
        return false;
    }
    program_free(again);
    *ret = o;
    return true;
}

/* Takes the program over, if it was made; beyond the limit the later ones are left out. */
static bool end(struct builder *b, bool made)
{
    struct deduction *d = b->d;
    json_t *o = NULL;
    bool ok = made && check(b->program, &o, d->e);
    if (ok && json_array_size(d->programs) < WIRE_PROGRAMS_MAX) {
        list_task(d, b->program->task);
        json_array_append(d->programs, o);
        for (int k = 0; k < MEDIA_KINDS; k++)
            d->used[k] |= b->used[k];
    }
    json_decref(o);
    program_free(b->program);
    return ok;
}

static const struct port *result_port(const struct deduction *d, int graph)
{
    return &d->source->graphs[graph].outputs[d->graphs[graph].result];
}

static void copy_name(char to[TENSOR_NAME_MAX], const struct port *p)
{
    memcpy(to, p->name, TENSOR_NAME_MAX);
}

/* ---- labels --------------------------------------------------------------------------------- */

/* id2label: {"0": name, ...} without gaps; none at all is fine, more than classes is a mistake. */
static bool read_labels(struct builder *b, int64_t classes)
{
    struct program *p = b->program;
    struct err *e = b->d->e;
    const json_t *map = json_object_get(b->d->config, "id2label");
    size_t n = json_object_size(map);
    if (n > PROGRAM_LABELS_MAX || (classes >= 0 && n > (size_t)classes))
        return err_set(
            e, ERR_INVALID, "config.json: id2label has %zu entries, the limit is %lld", n,
            classes >= 0 && classes < PROGRAM_LABELS_MAX ? (long long)classes : PROGRAM_LABELS_MAX);
    p->labels = calloc(n + 1, sizeof(*p->labels));
    for (size_t i = 0; p->labels && i < n; i++) {
        char key[24];
        (void)snprintf(key, sizeof(key), "%zu", i);
        const char *label = json_string_value(json_object_get(map, key));
        if (!label)
            return err_set(e, ERR_INVALID, "config.json: id2label has %zu entries and none for %s",
                           n, key);
        p->labels[i] = strdup(label);
        if (!p->labels[i])
            break;
        p->label_count++;
    }
    return (p->labels && p->label_count == (int)n) || err_set(e, ERR_MEMORY, "program: no memory");
}

static const char *label_task(const bool behind[MEDIA_KINDS])
{
    if (behind[MEDIA_IMAGE] && behind[MEDIA_TEXT])
        return "visual-question-answering";
    if (behind[MEDIA_IMAGE])
        return "image-classification";
    return behind[MEDIA_AUDIO] ? "audio-classification" : "text-classification";
}

static bool several_labels(const struct deduction *d)
{
    const char *type = json_string_value(json_object_get(d->config, "problem_type"));
    return type && strcmp(type, "multi_label_classification") == 0;
}

static bool label_program(struct deduction *d, int graph)
{
    const char *task = label_task(d->graphs[graph].behind);
    struct builder b;
    if (!wanted(d, task))
        return true;
    if (d->graphs[graph].result < 0)
        return err_set(d->e, ERR_UNSUPPORTED,
                       "%.100s.onnx: has no float32 output of rank 2 to take labels from",
                       d->source->graphs[graph].name);
    if (!begin(&b, d, task))
        return false;
    const struct port *result = result_port(d, graph);
    int call = add_call(&b, graph, false);
    struct program_answer *a = &b.program->answer;
    *a = (struct program_answer){.kind = ANSWER_LABELS, .call = call};
    a->independent = several_labels(d);
    copy_name(a->output, result);
    return end(&b, call >= 0 && read_labels(&b, result->shape.dims[1]));
}

/* ---- generation ----------------------------------------------------------------------------- */

/* generation_config.json first, then config.json, then its "decoder". */
static const json_t *setting(const struct deduction *d, const char *key)
{
    const json_t *v = json_object_get(d->generation, key);
    if (!v || json_is_null(v))
        v = json_object_get(d->config, key);
    if (!v || json_is_null(v))
        v = json_object_get(json_object_get(d->config, "decoder"), key);
    return json_is_null(v) ? NULL : v;
}

static json_t *id_list(const json_t *v)
{
    json_t *list = json_array();
    if (json_is_integer(v))
        json_array_append(list, (json_t *)(uintptr_t)v);
    for (size_t i = 0; i < json_array_size(v); i++)
        json_array_append(list, json_array_get(v, i));
    return list;
}

/* Whisper and the like force the first tokens: [[1, id], [2, id]]. */
static void add_forced(const struct deduction *d, json_t *start)
{
    const json_t *forced = setting(d, "forced_decoder_ids");
    for (size_t i = 0; i < json_array_size(forced); i++) {
        json_t *id = json_array_get(json_array_get(forced, i), 1);
        if (json_is_integer(id))
            json_array_append(start, id);
    }
}

static bool check_ids(const json_t *list, const char *what, size_t max, struct err *e)
{
    size_t n = json_array_size(list);
    if (n == 0 || n > max)
        return err_set(e, ERR_INVALID,
                       "generation_config.json (or config.json): %s should be 1 to %zu token ids, "
                       "are %zu",
                       what, max, n);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return err_set(e, ERR_INVALID,
                           "generation_config.json (or config.json): %s holds what is no token id",
                           what);
    }
    return true;
}

/* max_length counts the start, max_new_tokens does not. */
static json_int_t new_tokens(const struct deduction *d, size_t start)
{
    const json_t *new = setting(d, "max_new_tokens"), *all = setting(d, "max_length");
    json_int_t n = MAX_NEW_DEFAULT;
    if (json_is_integer(new))
        n = json_integer_value(new);
    else if (json_is_integer(all) && json_integer_value(all) > (json_int_t)start)
        n = json_integer_value(all) - (json_int_t)start;
    return n < 1 ? MAX_NEW_DEFAULT : n < PROGRAM_NEW_TOKENS_MAX ? n : PROGRAM_NEW_TOKENS_MAX;
}

static bool generation_settings(struct builder *b)
{
    const struct deduction *d = b->d;
    const json_t *first = setting(d, "decoder_start_token_id");
    json_t *start = id_list(first ? first : setting(d, "bos_token_id"));
    json_t *eos = id_list(setting(d, "eos_token_id"));
    add_forced(d, start);
    if (!check_ids(start, "decoder_start_token_id", PROGRAM_START_MAX, d->e) ||
        !check_ids(eos, "eos_token_id", PROGRAM_STOPS_MAX, d->e)) {
        json_decref(start);
        json_decref(eos);
        return false;
    }
    b->program->generation =
        json_pack("{s:I,s:s,s:o,s:o}", "max_new_tokens", new_tokens(d, json_array_size(start)),
                  "tokenizer", d->source->tokenizer.digest.hex, "start", start, "eos", eos);
    return b->program->generation || err_set(d->e, ERR_MEMORY, "program: no memory");
}

static const char *text_task(const bool behind[MEDIA_KINDS])
{
    if (behind[MEDIA_IMAGE])
        return behind[MEDIA_TEXT] ? "visual-question-answering" : "image-to-text";
    return behind[MEDIA_AUDIO] ? "automatic-speech-recognition" : NULL;
}

/* Exports often hold a decoder in three files: for the first step, for the later ones, and both.
 * The last serves best; one that only looks back at a past can't begin. */
static int fitness(const struct deduction *d, int graph)
{
    const struct model_graph *g = &d->source->graphs[graph];
    bool past = false;
    for (int i = 0; i < g->input_count; i++)
        past = past || strncmp(g->inputs[i].name, "past_", 5) == 0;
    if (!text_task(d->graphs[graph].behind))
        return 0;
    return past ? 2 : 1;
}

/* Is there a decoder for the same task that serves better, or as well and comes before it? */
static bool outdone(const struct deduction *d, int graph)
{
    const char *task = text_task(d->graphs[graph].behind);
    for (int g = 0; g < d->source->graph_count; g++) {
        const char *other = text_task(d->graphs[g].behind);
        if (g == graph || d->graphs[g].role != ROLE_DECODER ||
            (task && (!other || strcmp(task, other))))
            continue;
        int more = fitness(d, g) - fitness(d, graph);
        if (more > 0 || (more == 0 && g < graph))
            return true;
    }
    return false;
}

static bool check_decoder(const struct deduction *d, int graph)
{
    const struct model_graph *g = &d->source->graphs[graph];
    bool given[MODEL_PORTS_MAX];
    for (int i = 0; i < g->input_count; i++)
        given[i] = d->graphs[graph].feeds[i].kind != FROM_LOOP;
    return generate_check(g->inputs, given, g->input_count, g->outputs, g->output_count, d->e) ||
           err_prefix(d->e, "%.100s.onnx", g->name);
}

static bool text_program(struct deduction *d, int graph)
{
    const char *name = d->source->graphs[graph].name, *task = text_task(d->graphs[graph].behind);
    struct builder b;
    if (outdone(d, graph))
        return true;
    if (!task)
        return err_set(d->e, ERR_UNSUPPORTED,
                       "%.100s.onnx: a decoder without an encoder before it is not served yet",
                       name);
    if (!wanted(d, task))
        return true;
    if (!check_decoder(d, graph) || !begin(&b, d, task))
        return false;
    int call = need_file(&b, MEDIA_TEXT, name) ? add_call(&b, graph, false) : -1;
    b.program->answer = (struct program_answer){.kind = ANSWER_TEXT, .call = call};
    return end(&b, call >= 0 && generation_settings(&b));
}

/* ---- similarity ----------------------------------------------------------------------------- */

static bool takes_all(const struct model_graph *g, const struct model_graph *of)
{
    for (int i = 0; i < of->input_count; i++) {
        bool found = false;
        for (int k = 0; k < g->input_count; k++)
            found = found || strcmp(g->inputs[k].name, of->inputs[i].name) == 0;
        if (!found)
            return false;
    }
    return true;
}

/* The factor of cosines: s2m3.json says it plainly; a graph of both may have it, as trained;
 * config.json has what it was before training, as a logarithm. */
static double scale_of(const struct deduction *d, int query, int other)
{
    const json_t *given = json_object_get(d->hints, "logit_scale");
    const json_t *log_scale = json_object_get(d->config, "logit_scale_init_value");
    const struct model_graph *graphs = d->source->graphs;
    if (given)
        return json_number_value(given);
    for (int g = 0; g < d->source->graph_count; g++)
        if (graphs[g].scale > 0 && graphs[g].scale <= MODEL_SCALE_MAX &&
            takes_all(&graphs[g], &graphs[query]) && takes_all(&graphs[g], &graphs[other]))
            return graphs[g].scale;
    double s = json_is_number(log_scale) ? exp(json_number_value(log_scale)) : 100.0;
    return isfinite(s) && s <= MODEL_SCALE_MAX ? s : 100.0;
}

/* An encoder of one kind of media with a vector; -1: none. */
static int encoder_of(const struct deduction *d, enum media_kind k)
{
    for (int g = 0; g < d->source->graph_count; g++) {
        const struct graph_info *info = &d->graphs[g];
        int kinds = 0;
        for (int i = 0; i < MEDIA_KINDS; i++)
            kinds += info->reads[i];
        if (info->role == ROLE_ENCODER && info->result >= 0 && kinds == 1 && info->reads[k])
            return g;
    }
    return -1;
}

static bool same_width(const struct deduction *d, int a, int b)
{
    int64_t x = result_port(d, a)->shape.dims[1], y = result_port(d, b)->shape.dims[1];
    return x < 0 || y < 0 || x == y;
}

struct similarity_row {
    const char *task;
    enum media_kind query, candidates;
    bool rank;
};

static const struct similarity_row similarity_rows[] = {
    {"zero-shot-image-classification", MEDIA_IMAGE, MEDIA_TEXT, false},
    {"zero-shot-audio-classification", MEDIA_AUDIO, MEDIA_TEXT, false},
    {"text-to-image-retrieval", MEDIA_TEXT, MEDIA_IMAGE, true},
    {"audio-to-image-retrieval", MEDIA_AUDIO, MEDIA_IMAGE, true},
    {"image-to-image-retrieval", MEDIA_IMAGE, MEDIA_IMAGE, true},
};

static bool similarity_program(struct deduction *d, const struct similarity_row *row)
{
    int query = encoder_of(d, row->query), other = encoder_of(d, row->candidates);
    struct builder b;
    if (query < 0 || other < 0 || !same_width(d, query, other) || !wanted(d, row->task))
        return true;
    if (!begin(&b, d, row->task))
        return false;
    int call = add_call(&b, query, false);
    int each = call < 0 ? -1 : add_call(&b, other, true);
    struct program_answer *a = &b.program->answer;
    *a = (struct program_answer){.kind = ANSWER_SIMILARITY, .call = call, .other = each};
    a->scale = scale_of(d, query, other);
    a->rank = row->rank;
    copy_name(a->output, result_port(d, query));
    copy_name(a->other_output, result_port(d, other));
    const char *hypothesis = json_string_value(json_object_get(d->hints, "hypothesis_template"));
    if (!row->rank && hypothesis)
        (void)snprintf(b.program->hypothesis, sizeof(b.program->hypothesis), "%s", hypothesis);
    return end(&b, each >= 0);
}

/* ---- the whole ------------------------------------------------------------------------------ */

static bool vector_program(struct deduction *d, int graph)
{
    struct builder b;
    if (!begin(&b, d, "feature-extraction"))
        return false;
    int call = add_call(&b, graph, false);
    b.program->answer = (struct program_answer){.kind = ANSWER_VECTOR, .call = call};
    copy_name(b.program->answer.output, result_port(d, graph));
    return end(&b, call >= 0);
}

bool deduce_programs(struct deduction *d)
{
    bool headed = false, ok = true;
    int n = d->source->graph_count;
    for (int g = 0; ok && g < n; g++) {
        enum role role = d->graphs[g].role;
        headed = headed || role != ROLE_ENCODER;
        if (role == ROLE_HEAD || role == ROLE_CLASSIFIER)
            ok = label_program(d, g);
        else if (role == ROLE_DECODER)
            ok = text_program(d, g);
    }
    for (size_t i = 0; ok && !headed && i < ARRAY_LEN(similarity_rows); i++)
        ok = similarity_program(d, &similarity_rows[i]);
    for (int k = 0; k < MEDIA_KINDS; k++)
        for (int g = 0; ok && g < n; g++)
            if (encoder_of(d, (enum media_kind)k) == g)
                ok = vector_program(d, g);
    return ok;
}
