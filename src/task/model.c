/* model.c - what a model can do: side files in, programs out. */
#include "media/processor.h"
#include "media/tokenizer.h"
#include "task/model_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- side files ----------------------------------------------------------------------------- */

static bool parse_file(const char *name, const struct model_file *f, json_t **ret, struct err *e)
{
    if (!f->text)
        return true;
    *ret = json_parse(name, f->text, f->size, e);
    if (*ret && !json_is_object(*ret))
        return err_set(e, ERR_INVALID, "%s: should be a JSON object", name);
    return *ret != NULL;
}

static bool all_texts(const json_t *v)
{
    const char *key;
    json_t *member;
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!json_is_string(json_array_get(v, i)))
            return false;
    json_object_foreach((json_t *)(uintptr_t)v, key,
                        member) if (!json_is_string(member)) return false;
    return true;
}

/* Types and bounds; what it names is looked for where it is used. */
static bool check_hints(const json_t *hints, struct err *e)
{
    static const char what[] = "s2m3.json";
    json_t *tasks = json_object_get(hints, "tasks");
    json_t *connections = json_object_get(hints, "connections");
    const char *hypothesis = "{}";
    double scale = 1;
    if (!hints)
        return true;
    if (tasks && (!json_is_array(tasks) || !all_texts(tasks)))
        return err_set(e, ERR_INVALID, "%s: 'tasks' should be a list of names", what);
    if (connections && (!json_is_object(connections) || !all_texts(connections)))
        return err_set(e, ERR_INVALID,
                       "%s: 'connections' should be an object of \"GRAPH.INPUT\": \"GRAPH.OUTPUT\"",
                       what);
    if (!json_opt_str(hints, what, "hypothesis_template", &hypothesis, e) ||
        !json_opt_num(hints, what, "logit_scale", -MODEL_SCALE_MAX, MODEL_SCALE_MAX, &scale, e))
        return false;
    if (!strstr(hypothesis, "{}") || strlen(hypothesis) >= PROGRAM_TEMPLATE_MAX)
        return err_set(e, ERR_INVALID,
                       "%s: 'hypothesis_template' should hold {} and have at most %d bytes", what,
                       PROGRAM_TEMPLATE_MAX - 1);
    return true;
}

/* A task that s2m3.json names and that nothing came of is a mistake in one of the two. */
static bool check_tasks(const struct deduction *d)
{
    const json_t *wanted = json_object_get(d->hints, "tasks");
    for (size_t i = 0; i < json_array_size(wanted); i++) {
        const char *name = json_string_value(json_array_get(wanted, i));
        bool found = false;
        for (size_t k = 0; k < json_array_size(d->tasks); k++)
            found = found || strcmp(json_string_value(json_array_get(d->tasks, k)), name) == 0;
        if (!found)
            return err_set(d->e, ERR_INVALID,
                           "s2m3.json: task '%.80s' could not be worked out from the graphs and "
                           "side files",
                           name);
    }
    return true;
}

/* Made here once, so that `add` refuses what a device could not use. */
static bool make_processors(const struct deduction *d, struct processor *processors[MEDIA_KINDS])
{
    const struct model_file *pre = &d->source->preprocessor, *tok = &d->source->tokenizer;
    struct tokenizer *t;
    if ((d->used[MEDIA_IMAGE] &&
         !processor_create_image(pre->text, pre->size, &processors[MEDIA_IMAGE], d->e)) ||
        (d->used[MEDIA_AUDIO] &&
         !processor_create_audio(pre->text, pre->size, &processors[MEDIA_AUDIO], d->e)))
        return err_prefix(d->e, "preprocessor_config.json");
    if (!d->used[MEDIA_TEXT])
        return true;
    if (!tokenizer_create(tok->text, tok->size, &t, d->e))
        return err_prefix(d->e, "tokenizer.json");
    if (processor_create_text(t, &tok->digest, &processors[MEDIA_TEXT], d->e))
        return true;
    tokenizer_destroy(t);
    return err_prefix(d->e, "tokenizer.json");
}

/* ---- the whole ------------------------------------------------------------------------------ */

static bool result(const struct deduction *d, struct processor *const processors[MEDIA_KINDS],
                   json_t **ret)
{
    json_t *o = json_object(), *modules = json_array(), *blobs = json_array();
    for (int g = 0; g < d->source->graph_count; g++)
        json_array_append_new(modules, json_string(d->source->graphs[g].digest.hex));
    if (d->used[MEDIA_IMAGE] || d->used[MEDIA_AUDIO])
        json_array_append_new(blobs, json_string(d->source->preprocessor.digest.hex));
    if (d->used[MEDIA_TEXT])
        json_array_append_new(blobs, json_string(d->source->tokenizer.digest.hex));
    bool named = json_object_set_new(o, "name", json_string(d->source->name)) == 0;
    json_object_set(o, "tasks", d->tasks);
    json_object_set_new(o, "modules", modules);
    json_object_set(o, "programs", d->programs);
    json_object_set_new(o, "blobs", blobs);
    json_object_set_new(o, "dims", deduce_dims(d, processors));
    if (named) {
        *ret = o;
        return true;
    }
    json_decref(o);
    return err_set(d->e, ERR_INVALID, "the model's name is not UTF-8");
}

static void list_ports(const struct port *ports, int count, char *ret, size_t size)
{
    size_t n = 0;
    ret[0] = 0;
    for (int i = 0; i < count && n + 1 < size; i++)
        n += (size_t)snprintf(ret + n, size - n, "%s%.40s", i ? ", " : "", ports[i].name);
}

/* Names what the first graph takes and gives: that is what a user can compare with the tasks. */
static bool no_task(struct deduction *d)
{
    const struct model_graph *g = &d->source->graphs[0];
    char takes[96], gives[96];
    list_ports(g->inputs, g->input_count, takes, sizeof(takes));
    list_ports(g->outputs, g->output_count, gives, sizeof(gives));
    return err_set(
        d->e, ERR_UNSUPPORTED,
        "no task could be worked out from its graphs and side files (%.40s.onnx: %s -> %s)",
        g->name, takes, gives);
}

static bool deduce(struct deduction *d, json_t **ret)
{
    const struct model_source *s = d->source;
    struct processor *processors[MEDIA_KINDS] = {NULL};
    if (s->graph_count < 1 || s->graph_count > MODEL_GRAPHS_MAX)
        return err_set(d->e, ERR_INVALID, "%.100s: has %d .onnx files, should be 1 to %d", s->name,
                       s->graph_count, MODEL_GRAPHS_MAX);
    if (!parse_file("config.json", &s->config, &d->config, d->e) ||
        !parse_file("generation_config.json", &s->generation, &d->generation, d->e) ||
        !parse_file("s2m3.json", &s->s2m3, &d->hints, d->e) || !check_hints(d->hints, d->e) ||
        !deduce_graphs(d) || !deduce_programs(d) || !check_tasks(d))
        return false;
    if (json_array_size(d->programs) == 0)
        return no_task(d);
    bool ok = make_processors(d, processors) && deduce_check_ports(d, processors) &&
              result(d, processors, ret);
    for (int k = 0; k < MEDIA_KINDS; k++)
        processor_destroy(processors[k]);
    return ok;
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
