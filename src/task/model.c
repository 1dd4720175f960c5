/* model.c - programs of a model from the roles of its graphs. */
#include "task/model.h"

#include "base/num.h"
#include "media/processor.h"
#include "media/tokenizer.h"
#include "task/model_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NEW_DEFAULT 64
#define DYNAMIC_BYTES                                                                              \
    (4u << 20) /* reserved for an output whose size is known only when it is there */

/* ---- pieces of programs ----------------------------------------------------------------------- */

static const struct model_file *file_of(const struct deduction *d, enum media_kind k)
{
    return k == MEDIA_TEXT ? &d->source->tokenizer : &d->source->preprocessor;
}

static bool need_file(struct deduction *d, enum media_kind k, const char *graph)
{
    if (file_of(d, k)->text)
        return true;
    return err_set(d->e, ERR_INVALID, "%s: %s.onnx reads %s, so %s is needed", d->source->name,
                   graph, media_kind_name(k),
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

static struct program *new_program(struct deduction *d, const char *task)
{
    struct program *p = calloc(1, sizeof(*p));
    if (!p)
        err_set(d->e, ERR_MEMORY, "program: no memory");
    else
        (void)snprintf(p->task, sizeof(p->task), "%s", task);
    return p;
}

static int find_call(const struct program *p, const char *id)
{
    for (int i = 0; i < p->call_count; i++)
        if (strcmp(p->calls[i].id, id) == 0)
            return i;
    return -1;
}

static bool add_media(struct deduction *d, struct program_call *c, enum media_kind k,
                      const char *graph)
{
    for (int i = 0; i < c->input_count; i++)
        if (c->inputs[i].media && c->inputs[i].kind == k)
            return true; /* one processor gives ids and mask together */
    if (!need_file(d, k, graph))
        return false;
    c->inputs[c->input_count++] =
        (struct program_input){.media = true, .kind = k, .config = file_of(d, k)->digest};
    return true;
}

/* Adds the call of a graph, and those that it depends on before it.  -1 on failure. */
static int add_call(struct deduction *d, struct program *p, int graph, const char *suffix,
                    bool each)
{
    const struct model_graph *g = &d->source->graphs[graph];
    struct program_call c = {
        .each = each, .module = g->digest, .generate = d->graphs[graph].role == ROLE_DECODER};
    (void)snprintf(c.id, sizeof(c.id), "%.40s%.16s", g->name, suffix);
    int known = find_call(p, c.id);
    if (known >= 0)
        return known;
    for (int i = 0; i < g->input_count; i++) {
        const struct feed *f = &d->graphs[graph].feeds[i];
        if (f->kind == FROM_LOOP)
            continue;
        if (c.input_count >= PROGRAM_INPUTS_MAX) {
            err_set(d->e, ERR_TOO_LARGE, "%s.onnx: more than %d inputs", g->name,
                    PROGRAM_INPUTS_MAX);
            return -1;
        }
        if (f->kind == FROM_MEDIA) {
            if (!add_media(d, &c, f->media, g->name))
                return -1;
            continue;
        }
        int from = f->graph == graph ? -1 : add_call(d, p, f->graph, "", false);
        if (from < 0)
            return -1;
        const struct port *out = &d->source->graphs[f->graph].outputs[f->output];
        struct program_input *in = &c.inputs[c.input_count++];
        *in = (struct program_input){.call = from, .bytes = output_bytes(out)};
        memcpy(in->output, out->name, sizeof(in->output));
        memcpy(in->port, g->inputs[i].name, sizeof(in->port));
    }
    if (p->call_count >= PROGRAM_CALLS_MAX || c.input_count == 0) {
        err_set(d->e, ERR_UNSUPPORTED, "%s.onnx: more than %d calls, or a call without inputs",
                g->name, PROGRAM_CALLS_MAX);
        return -1;
    }
    p->calls[p->call_count] = c;
    return p->call_count++;
}

static bool wanted(const struct deduction *d, const char *task)
{
    const json_t *list = json_object_get(d->hints, "tasks");
    if (!json_is_array(list))
        return true;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name && strcmp(name, task) == 0)
            return true;
    }
    return strcmp(task, "feature-extraction") == 0;
}

static void list_task(struct deduction *d, const char *task)
{
    for (size_t i = 0; i < json_array_size(d->tasks); i++)
        if (strcmp(json_string_value(json_array_get(d->tasks, i)), task) == 0)
            return;
    json_array_append_new(d->tasks, json_string(task));
}

/* Takes the program over. */
static bool give_program(struct deduction *d, struct program *p)
{
    if (json_array_size(d->programs) < WIRE_PROGRAMS_MAX) {
        json_array_append_new(d->programs, program_to_json(p));
        list_task(d, p->task);
    }
    program_free(p);
    return true;
}

static bool fail_program(struct program *p)
{
    program_free(p);
    return false;
}

/* ---- labels ----------------------------------------------------------------------------------- */

static bool read_labels(struct deduction *d, struct program *p)
{
    const json_t *map = json_object_get(d->config, "id2label");
    size_t n = json_object_size(map);
    if (n > PROGRAM_LABELS_MAX)
        return err_set(d->e, ERR_TOO_LARGE, "config.json: id2label has %zu entries, limit %d", n,
                       PROGRAM_LABELS_MAX);
    p->labels = calloc(n + 1, sizeof(*p->labels));
    for (size_t i = 0; p->labels && i < n; i++) {
        char key[24];
        (void)snprintf(key, sizeof(key), "%zu", i);
        const char *label = json_string_value(json_object_get(map, key));
        if (!label)
            return err_set(d->e, ERR_INVALID,
                           "config.json: id2label has %zu entries and none for %s", n, key);
        p->labels[i] = strdup(label);
        if (!p->labels[i])
            break;
        p->label_count++;
    }
    return p->label_count == (int)n || err_set(d->e, ERR_MEMORY, "program: no memory");
}

static const char *label_task(const bool behind[MEDIA_KINDS])
{
    if (behind[MEDIA_IMAGE] && behind[MEDIA_TEXT])
        return "visual-question-answering";
    if (behind[MEDIA_IMAGE])
        return "image-classification";
    return behind[MEDIA_AUDIO] ? "audio-classification" : "text-classification";
}

static bool label_program(struct deduction *d, int graph)
{
    const char *task = label_task(d->graphs[graph].behind);
    int output = d->graphs[graph].embedding;
    if (!wanted(d, task))
        return true;
    if (output < 0)
        return err_set(d->e, ERR_UNSUPPORTED,
                       "%s.onnx: has no float output of rank 2 to take labels from",
                       d->source->graphs[graph].name);
    struct program *p = new_program(d, task);
    if (!p)
        return false;
    int call = add_call(d, p, graph, "", false);
    if (call < 0 || !read_labels(d, p))
        return fail_program(p);
    p->answer = (struct program_answer){.kind = ANSWER_LABELS, .call = call};
    memcpy(p->answer.output, d->source->graphs[graph].outputs[output].name,
           sizeof(p->answer.output));
    return give_program(d, p);
}

/* ---- generation ------------------------------------------------------------------------------- */

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

static bool generation_settings(struct deduction *d, struct program *p)
{
    const json_t *first = setting(d, "decoder_start_token_id");
    first = first ? first : setting(d, "bos_token_id");
    json_t *start = id_list(first), *eos = id_list(setting(d, "eos_token_id"));
    const json_t *max = setting(d, "max_new_tokens");
    max = max ? max : setting(d, "max_length");
    if (json_array_size(start) == 0 || json_array_size(eos) == 0) {
        json_decref(start);
        json_decref(eos);
        return err_set(d->e, ERR_INVALID,
                       "generation_config.json (or config.json): decoder_start_token_id and "
                       "eos_token_id are needed");
    }
    add_forced(d, start);
    json_int_t limit = json_is_integer(max) && json_integer_value(max) > 0 ? json_integer_value(max)
                                                                           : MAX_NEW_DEFAULT;
    p->generation =
        json_pack("{s:o,s:o,s:I,s:s}", "start", start, "eos", eos, "max_new_tokens",
                  limit < 448 ? limit : 448, "tokenizer", d->source->tokenizer.digest.hex);
    return p->generation != NULL || err_set(d->e, ERR_MEMORY, "program: no memory");
}

static bool text_program(struct deduction *d, int graph)
{
    const struct graph_info *g = &d->graphs[graph];
    const char *task = g->behind[MEDIA_IMAGE] ? "image-to-text" : "automatic-speech-recognition";
    if (!g->behind[MEDIA_IMAGE] && !g->behind[MEDIA_AUDIO])
        return err_set(d->e, ERR_UNSUPPORTED,
                       "%s.onnx: a decoder without an encoder before it is not served yet",
                       d->source->graphs[graph].name);
    if (!wanted(d, task))
        return true;
    if (!need_file(d, MEDIA_TEXT, d->source->graphs[graph].name))
        return false;
    struct program *p = new_program(d, task);
    if (!p)
        return false;
    int call = add_call(d, p, graph, "", false);
    if (call < 0 || !generation_settings(d, p))
        return fail_program(p);
    p->answer = (struct program_answer){.kind = ANSWER_TEXT, .call = call};
    return give_program(d, p);
}

/* ---- similarity ------------------------------------------------------------------------------- */

static double scale_of(const struct deduction *d)
{
    const json_t *given = json_object_get(d->hints, "logit_scale");
    const json_t *log_scale = json_object_get(d->config, "logit_scale_init_value");
    if (json_is_number(given))
        return json_number_value(given);
    double s = json_is_number(log_scale) ? exp(json_number_value(log_scale)) : 100.0;
    return isfinite(s) && fabs(s) <= 1e6 ? s : 100.0;
}

/* An encoder of one kind of media with a vector; -1: none. */
static int encoder_of(const struct deduction *d, enum media_kind k)
{
    for (int g = 0; g < d->source->graph_count; g++) {
        const struct graph_info *info = &d->graphs[g];
        int kinds = 0;
        for (int i = 0; i < MEDIA_KINDS; i++)
            kinds += info->reads[i];
        if (info->role == ROLE_ENCODER && info->embedding >= 0 && kinds == 1 && info->reads[k])
            return g;
    }
    return -1;
}

static const struct port *vector_port(const struct deduction *d, int graph)
{
    return &d->source->graphs[graph].outputs[d->graphs[graph].embedding];
}

static bool same_width(const struct deduction *d, int a, int b)
{
    int64_t x = vector_port(d, a)->shape.dims[1], y = vector_port(d, b)->shape.dims[1];
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
    int a = encoder_of(d, row->query), b = encoder_of(d, row->candidates);
    if (a < 0 || b < 0 || !same_width(d, a, b) || !wanted(d, row->task))
        return true;
    struct program *p = new_program(d, row->task);
    if (!p)
        return false;
    int query = add_call(d, p, a, "", false);
    int each = query < 0 ? -1 : add_call(d, p, b, ".each", true);
    if (each < 0)
        return fail_program(p);
    p->answer = (struct program_answer){.kind = ANSWER_SIMILARITY,
                                        .call = query,
                                        .other = each,
                                        .scale = scale_of(d),
                                        .rank = row->rank};
    memcpy(p->answer.output, vector_port(d, a)->name, sizeof(p->answer.output));
    memcpy(p->answer.other_output, vector_port(d, b)->name, sizeof(p->answer.other_output));
    const char *hypothesis = json_string_value(json_object_get(d->hints, "hypothesis_template"));
    if (!row->rank && hypothesis && strlen(hypothesis) < sizeof(p->hypothesis))
        (void)snprintf(p->hypothesis, sizeof(p->hypothesis), "%s", hypothesis);
    return give_program(d, p);
}

static bool vector_program(struct deduction *d, int graph)
{
    struct program *p = new_program(d, "feature-extraction");
    if (!p)
        return false;
    int call = add_call(d, p, graph, "", false);
    if (call < 0)
        return fail_program(p);
    p->answer = (struct program_answer){.kind = ANSWER_VECTOR, .call = call};
    memcpy(p->answer.output, vector_port(d, graph)->name, sizeof(p->answer.output));
    return give_program(d, p);
}

bool deduce_programs(struct deduction *d)
{
    bool headed = false, ok = true;
    for (int g = 0; ok && g < d->source->graph_count; g++) {
        enum role role = d->graphs[g].role;
        headed = headed || role != ROLE_ENCODER;
        if (role == ROLE_HEAD || role == ROLE_CLASSIFIER)
            ok = label_program(d, g);
        else if (role == ROLE_DECODER)
            ok = text_program(d, g);
    }
    for (size_t i = 0; ok && !headed && i < ARRAY_LEN(similarity_rows); i++)
        ok = similarity_program(d, &similarity_rows[i]);
    for (int g = 0; ok && g < d->source->graph_count; g++)
        if (d->graphs[g].role == ROLE_ENCODER && d->graphs[g].embedding >= 0)
            ok = vector_program(d, g);
    return ok;
}

/* ---- sizes to measure with ---------------------------------------------------------------------- */

#define TEXT_TOKENS 8 /* of a text whose length is not fixed */
#define PAST_TOKENS 4

/* The size of one dynamic dim as a request would bring it; 0: nothing is known. */
static int64_t media_dim(const struct processor *p, const struct port *port, int dim)
{
    struct port outputs[PROCESSOR_OUTPUTS_MAX];
    size_t n = processor_outputs(p, outputs);
    for (size_t i = 0; i < n && i < PROCESSOR_OUTPUTS_MAX; i++)
        if (strcmp(outputs[i].name, port->name) == 0 && outputs[i].shape.rank == port->shape.rank)
            return outputs[i].shape.dims[dim] > 0 ? outputs[i].shape.dims[dim] : 0;
    return 0;
}

static int64_t dim_of(const struct deduction *d, struct processor *const processors[MEDIA_KINDS],
                      int graph, int input, int dim)
{
    const struct feed *f = &d->graphs[graph].feeds[input];
    const struct port *port = &d->source->graphs[graph].inputs[input];
    if (f->kind == FROM_GRAPH) {
        int64_t n = d->source->graphs[f->graph].outputs[f->output].shape.dims[dim];
        return n > 0 ? n : 0;
    }
    if (f->kind == FROM_LOOP) {
        bool past = strncmp(port->name, "past", 4) == 0, mask = strstr(port->name, "mask") != NULL;
        return past ? PAST_TOKENS : mask ? PAST_TOKENS + 1 : 1;
    }
    int64_t n = processors[f->media] ? media_dim(processors[f->media], port, dim) : 0;
    return n > 0 ? n : f->media == MEDIA_TEXT ? TEXT_TOKENS : 0;
}

static json_t *measuring_dims(const struct deduction *d,
                              struct processor *const processors[MEDIA_KINDS])
{
    json_t *all = json_object();
    for (int g = 0; g < d->source->graph_count; g++) {
        const struct model_graph *m = &d->source->graphs[g];
        json_t *dims = json_object();
        for (int i = 0; i < m->input_count; i++)
            for (int k = 1; k < m->inputs[i].shape.rank; k++) {
                char key[TENSOR_NAME_MAX + 16];
                int64_t n = m->inputs[i].shape.dims[k] < 0 ? dim_of(d, processors, g, i, k) : 0;
                (void)snprintf(key, sizeof(key), "%s.%d", m->inputs[i].name, k);
                if (n > 0)
                    json_object_set_new(dims, key, json_integer(n));
            }
        json_object_set_new(all, m->digest.hex, dims);
    }
    return all;
}

/* ---- the whole ---------------------------------------------------------------------------------- */

static bool parse_file(const char *name, const struct model_file *f, json_t **ret, struct err *e)
{
    if (!f->text)
        return true;
    *ret = json_parse(name, f->text, f->size, e);
    if (*ret && !json_is_object(*ret))
        return err_set(e, ERR_INVALID, "%s: should be a JSON object", name);
    return *ret != NULL;
}

/* Side files are tried here, so that `add` refuses what a device could not use. */
static bool make_processors(const struct model_source *s, const bool used[MEDIA_KINDS],
                            struct processor *processors[MEDIA_KINDS], struct err *e)
{
    struct tokenizer *t;
    if ((used[MEDIA_IMAGE] && !processor_create_image(s->preprocessor.text, s->preprocessor.size,
                                                      &processors[MEDIA_IMAGE], e)) ||
        (used[MEDIA_AUDIO] && !processor_create_audio(s->preprocessor.text, s->preprocessor.size,
                                                      &processors[MEDIA_AUDIO], e)))
        return err_prefix(e, "preprocessor_config.json");
    if (!used[MEDIA_TEXT])
        return true;
    if (!tokenizer_create(s->tokenizer.text, s->tokenizer.size, &t, e))
        return err_prefix(e, "tokenizer.json");
    if (processor_create_text(t, &s->tokenizer.digest, &processors[MEDIA_TEXT], e))
        return true;
    tokenizer_destroy(t);
    return err_prefix(e, "tokenizer.json");
}

static void used_media(const struct deduction *d, bool used[MEDIA_KINDS])
{
    for (int g = 0; g < d->source->graph_count; g++) {
        for (int k = 0; k < MEDIA_KINDS; k++)
            used[k] |= d->graphs[g].reads[k];
        used[MEDIA_TEXT] |= d->graphs[g].role == ROLE_DECODER;
    }
}

static json_t *result(const struct deduction *d, const bool used[MEDIA_KINDS], json_t *dims)
{
    json_t *modules = json_array(), *blobs = json_array();
    for (int g = 0; g < d->source->graph_count; g++)
        json_array_append_new(modules, json_string(d->source->graphs[g].digest.hex));
    if (used[MEDIA_IMAGE] || used[MEDIA_AUDIO])
        json_array_append_new(blobs, json_string(d->source->preprocessor.digest.hex));
    if (used[MEDIA_TEXT])
        json_array_append_new(blobs, json_string(d->source->tokenizer.digest.hex));
    return json_pack("{s:s,s:O,s:o,s:O,s:o,s:o}", "name", d->source->name, "tasks", d->tasks,
                     "modules", modules, "programs", d->programs, "blobs", blobs, "dims", dims);
}

static bool deduce(struct deduction *d, json_t **ret)
{
    const struct model_source *s = d->source;
    bool used[MEDIA_KINDS] = {false};
    if (s->graph_count == 0)
        return err_set(d->e, ERR_INVALID, "%s: has no .onnx file", s->name);
    if (!parse_file("config.json", &s->config, &d->config, d->e) ||
        !parse_file("generation_config.json", &s->generation, &d->generation, d->e) ||
        !parse_file("s2m3.json", &s->s2m3, &d->hints, d->e) || !deduce_graphs(d) ||
        !deduce_programs(d))
        return false;
    if (json_array_size(d->programs) == 0)
        return err_set(d->e, ERR_UNSUPPORTED,
                       "%s: no task could be worked out from its graphs and side files", s->name);
    used_media(d, used);
    struct processor *processors[MEDIA_KINDS] = {NULL};
    bool ok = make_processors(s, used, processors, d->e);
    json_t *dims = ok ? measuring_dims(d, processors) : NULL;
    for (int k = 0; k < MEDIA_KINDS; k++)
        processor_destroy(processors[k]);
    if (!ok)
        return false;
    *ret = result(d, used, dims);
    return *ret != NULL || err_set(d->e, ERR_INVALID, "%s: a name is not UTF-8", s->name);
}

bool model_deduce(const struct model_source *s, json_t **ret, struct err *e)
{
    struct deduction *d = calloc(1, sizeof(*d));
    if (!d)
        return err_set(e, ERR_MEMORY, "model: no memory");
    d->source = s;
    d->programs = json_array();
    d->tasks = json_array();
    d->e = e;
    bool ok = deduce(d, ret);
    json_decref(d->config);
    json_decref(d->generation);
    json_decref(d->hints);
    json_decref(d->programs);
    json_decref(d->tasks);
    free(d);
    return ok;
}

bool model_programs(const json_t *programs, struct program ***ret, int *count, struct err *e)
{
    size_t n = json_array_size(programs);
    if (n > WIRE_PROGRAMS_MAX)
        return err_set(e, ERR_TOO_LARGE, "model: %zu programs, limit %d", n, WIRE_PROGRAMS_MAX);
    struct program **list = calloc(n + 1, sizeof(struct program *));
    if (!list)
        return err_set(e, ERR_MEMORY, "model: no memory");
    *count = 0;
    for (size_t i = 0; i < n; i++) {
        list[i] = program_from_json(json_array_get(programs, i), e);
        if (!list[i]) {
            model_programs_free(list, *count);
            return false;
        }
        (*count)++;
    }
    *ret = list;
    return true;
}

void model_programs_free(struct program **programs, int count)
{
    for (int i = 0; i < count; i++)
        program_free(programs[i]);
    free(programs);
}
