/* graphs.c - roles of a model's graphs, and where each of their inputs comes from. */
#include "task/model_internal.h"

#include "base/num.h"

#include <stdio.h>
#include <string.h>

static bool has(const char *name, const char *part)
{
    return strstr(name, part) != NULL;
}

static bool is_past(const char *name)
{
    return strncmp(name, "past", 4) == 0;
}

/* Names that only the decode loop provides. */
static bool is_loop_port(const char *name)
{
    return is_past(name) || strcmp(name, "use_cache_branch") == 0 ||
           strcmp(name, "encoder_attention_mask") == 0 || strncmp(name, "decoder_", 8) == 0;
}

static bool has_past(const struct model_graph *g)
{
    for (int i = 0; i < g->input_count; i++)
        if (is_past(g->inputs[i].name) || strcmp(g->inputs[i].name, "encoder_hidden_states") == 0)
            return true;
    return false;
}

static bool is_sound(const struct port *p)
{
    static const char *const names[] = {"input_values", "input_features", "audio", "wave", "sound",
                                        "speech",       "samples",        "mel",   "pcm"};
    if (p->dtype != DT_F32)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (has(p->name, names[i]))
            return true;
    return false;
}

static bool is_picture(const struct port *p)
{
    bool type = p->dtype == DT_F32 || p->dtype == DT_U8 || p->dtype == DT_F16;
    return type && (p->shape.rank == 4 || has(p->name, "pixel_values"));
}

static bool is_tokens(const struct port *p)
{
    bool type = p->dtype == DT_I64 || p->dtype == DT_I32;
    return type && p->shape.rank == 2 &&
           (has(p->name, "ids") || has(p->name, "mask") || has(p->name, "token"));
}

static bool media_of(const struct port *p, enum media_kind *ret)
{
    if (is_sound(p))
        *ret = MEDIA_AUDIO;
    else if (is_picture(p))
        *ret = MEDIA_IMAGE;
    else if (is_tokens(p))
        *ret = MEDIA_TEXT;
    else
        return false;
    return true;
}

/* ---- connections ---------------------------------------------------------------------------- */

static int find_output(const struct model_graph *g, const char *name)
{
    for (int i = 0; i < g->output_count; i++)
        if (strcmp(g->outputs[i].name, name) == 0)
            return i;
    return -1;
}

/* "graph.output" as s2m3.json writes it. */
static bool connect_by_hint(struct deduction *d, int graph, const struct port *p, struct feed *f)
{
    const struct model_source *s = d->source;
    char key[2 * TENSOR_NAME_MAX + 2];
    (void)snprintf(key, sizeof(key), "%.127s.%.127s", s->graphs[graph].name, p->name);
    const char *to =
        json_string_value(json_object_get(json_object_get(d->hints, "connections"), key));
    for (int g = 0; to && g < s->graph_count; g++) {
        size_t n = strlen(s->graphs[g].name);
        if (g == graph || strncmp(to, s->graphs[g].name, n) != 0 || to[n] != '.')
            continue;
        int output = find_output(&s->graphs[g], to + n + 1);
        if (output >= 0) {
            *f = (struct feed){.kind = FROM_GRAPH, .graph = g, .output = output};
            return true;
        }
    }
    return false;
}

static bool connect_by_name(struct deduction *d, int graph, const struct port *p, struct feed *f)
{
    const struct model_source *s = d->source;
    for (int g = 0; g < s->graph_count; g++) {
        int output = g == graph ? -1 : find_output(&s->graphs[g], p->name);
        if (output < 0)
            continue;
        *f = (struct feed){.kind = FROM_GRAPH, .graph = g, .output = output};
        return true;
    }
    return false;
}

/* Do the shapes agree in rank and in every fixed dim? */
static bool shapes_agree(const struct shape *a, const struct shape *b)
{
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dims[i] >= 0 && b->dims[i] >= 0 && a->dims[i] != b->dims[i])
            return false;
    return true;
}

/* A head's "image" or "text_features" among several outputs of one shape: the name says the kind. */
static bool kind_in_name(const char *name, const bool reads[MEDIA_KINDS])
{
    static const char *const words[MEDIA_KINDS][4] = {{"image", "vision", "pixel", "img"},
                                                      {"audio", "sound", "speech", "wave"},
                                                      {"text", "question", "txt", "token"}};
    for (int k = 0; k < MEDIA_KINDS; k++)
        for (int w = 0; reads[k] && w < 4; w++)
            if (has(name, words[k][w]))
                return true;
    return false;
}

static bool connect_by_shape(struct deduction *d, int graph, const struct port *p, struct feed *f)
{
    const struct model_source *s = d->source;
    int found = 0, named = 0;
    struct feed by_name = {0};
    for (int g = 0; g < s->graph_count; g++) {
        if (g == graph || d->graphs[g].role != ROLE_ENCODER)
            continue;
        for (int o = 0; o < s->graphs[g].output_count; o++) {
            const struct port *out = &s->graphs[g].outputs[o];
            if (out->dtype != p->dtype || !shapes_agree(&out->shape, &p->shape))
                continue;
            *f = (struct feed){.kind = FROM_GRAPH, .graph = g, .output = o};
            found++;
            if (kind_in_name(p->name, d->graphs[g].reads)) {
                by_name = *f;
                named++;
            }
        }
    }
    if (found != 1 && named == 1)
        *f = by_name;
    return found == 1 || named == 1;
}

/* ---- roles ---------------------------------------------------------------------------------- */

static bool has_logits(const struct model_graph *g)
{
    for (int i = 0; i < g->output_count; i++)
        if (has(g->outputs[i].name, "logits"))
            return true;
    return false;
}

/* Feeds that need no other graph; false when some are left. */
static bool own_feeds(struct deduction *d, int graph)
{
    const struct model_graph *g = &d->source->graphs[graph];
    struct graph_info *info = &d->graphs[graph];
    bool decoder = has_past(g), whole = true;
    for (int i = 0; i < g->input_count; i++) {
        const struct port *p = &g->inputs[i];
        struct feed *f = &info->feeds[i];
        if (decoder && (is_loop_port(p->name) || is_tokens(p))) {
            f->kind = FROM_LOOP;
        } else if (!decoder && media_of(p, &f->media)) {
            f->kind = FROM_MEDIA;
            info->reads[f->media] = true;
        } else {
            f->kind = FROM_GRAPH;
            f->graph = -1;
            whole = false;
        }
    }
    info->role = decoder         ? ROLE_DECODER
                 : !whole        ? ROLE_HEAD
                 : has_logits(g) ? ROLE_CLASSIFIER
                                 : ROLE_ENCODER;
    return whole;
}

static bool connect_graph(struct deduction *d, int graph)
{
    const struct model_graph *g = &d->source->graphs[graph];
    for (int i = 0; i < g->input_count; i++) {
        struct feed *f = &d->graphs[graph].feeds[i];
        if (f->kind != FROM_GRAPH)
            continue;
        const struct port *p = &g->inputs[i];
        if (!connect_by_hint(d, graph, p, f) && !connect_by_name(d, graph, p, f) &&
            !connect_by_shape(d, graph, p, f))
            return err_set(d->e, ERR_UNSUPPORTED,
                           "%s.onnx: nothing gives its input '%s'; s2m3.json may say so: "
                           "\"connections\": {\"%s.%s\": \"GRAPH.OUTPUT\"}",
                           g->name, p->name, g->name, p->name);
    }
    return true;
}

/* The output that is a vector: by name, else the first float of rank 2. */
static int vector_output(const struct model_graph *g)
{
    int first = -1;
    for (int i = 0; i < g->output_count; i++) {
        const struct port *p = &g->outputs[i];
        if (p->dtype != DT_F32 || p->shape.rank != 2)
            continue;
        if (has(p->name, "embeds") || has(p->name, "logits"))
            return i;
        if (first < 0)
            first = i;
    }
    return first;
}

/* What each graph depends on through others; as many rounds as there can be steps. */
static void spread_media(struct deduction *d)
{
    int n = d->source->graph_count;
    for (int g = 0; g < n; g++)
        memcpy(d->graphs[g].behind, d->graphs[g].reads, sizeof(d->graphs[g].behind));
    for (int round = 0; round < n; round++)
        for (int g = 0; g < n; g++)
            for (int i = 0; i < d->source->graphs[g].input_count; i++) {
                const struct feed *f = &d->graphs[g].feeds[i];
                for (int k = 0; f->kind == FROM_GRAPH && k < MEDIA_KINDS; k++)
                    d->graphs[g].behind[k] |= d->graphs[f->graph].behind[k];
            }
}

bool deduce_graphs(struct deduction *d)
{
    const struct model_source *s = d->source;
    for (int g = 0; g < s->graph_count; g++) {
        if (s->graphs[g].input_count > MODEL_PORTS_MAX ||
            s->graphs[g].output_count > MODEL_PORTS_MAX)
            return err_set(d->e, ERR_TOO_LARGE, "%s.onnx: more than %d ports", s->graphs[g].name,
                           MODEL_PORTS_MAX);
        (void)own_feeds(d, g);
        d->graphs[g].embedding = vector_output(&s->graphs[g]);
    }
    for (int g = 0; g < s->graph_count; g++)
        if (!connect_graph(d, g))
            return false;
    spread_media(d);
    return true;
}
