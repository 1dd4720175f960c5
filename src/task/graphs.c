/* graphs.c - roles of a model's graphs, and where each of their inputs comes from.
 *
 * First the decoders are told apart, since nothing takes their outputs and their tokens come from
 * the decode loop.  Then each input: as s2m3.json says; as a name of the loop; as the name of
 * another graph's output (before its looks: `audio_embeds` is a sound by no means); as media by its
 * name, type and rank; and what is then left by its shape. */
#include "task/model_internal.h"

#include "base/num.h"

#include <stdio.h>
#include <string.h>

static bool has(const char *name, const char *part)
{
    return strstr(name, part) != NULL;
}

/* ---- decoders ------------------------------------------------------------------------------- */

static bool is_past(const char *name)
{
    return strncmp(name, "past_", 5) == 0;
}

/* Names that only the decode loop provides. */
static bool is_loop_port(const char *name)
{
    return is_past(name) || strcmp(name, "use_cache_branch") == 0 ||
           strcmp(name, "encoder_attention_mask") == 0 || strncmp(name, "decoder_", 8) == 0;
}

/* A past, or states to look at and logits for each token.  Without the logits, a graph with states
 * is an encoder that looks at another's. */
bool model_generates(const struct model_graph *g)
{
    bool past = false, states = false, logits = false;
    for (int i = 0; i < g->input_count; i++) {
        past = past || is_past(g->inputs[i].name);
        states = states || strcmp(g->inputs[i].name, "encoder_hidden_states") == 0;
    }
    for (int i = 0; i < g->output_count; i++)
        logits =
            logits || (strcmp(g->outputs[i].name, "logits") == 0 && g->outputs[i].shape.rank == 3);
    return past || (states && logits);
}

/* ---- media ---------------------------------------------------------------------------------- */

static bool is_sound(const struct port *p)
{
    static const char *const names[] = {"input_values", "input_features", "audio", "wave",
                                        "sound",        "speech",         "pcm"};
    static const char *const others[] = {"embed", "hidden", "state", "logits", "mask", "vector"};
    if (p->dtype != DT_F32)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (has(p->name, others[i]))
            return false;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (has(p->name, names[i]))
            return true;
    return false;
}

/* Pixels by their rank, or by their name where the shape is not told. */
static bool is_picture(const struct port *p)
{
    bool type = p->dtype == DT_F32 || p->dtype == DT_U8 || p->dtype == DT_F16;
    bool colours = p->shape.rank == 4 && p->shape.dims[1] <= 3;
    return type && (colours || has(p->name, "pixel_values"));
}

static bool is_tokens(const struct port *p)
{
    bool type = p->dtype == DT_I64 || p->dtype == DT_I32;
    return type && p->shape.rank == 2 &&
           (has(p->name, "ids") || has(p->name, "mask") || has(p->name, "token"));
}

bool model_input_media(const struct port *p, enum media_kind *ret)
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

/* A mask beside sound is the feature extractor's, though it looks like a text's. */
static void masks_of_sound(const struct model_graph *g, struct graph_info *info)
{
    bool ids = false;
    for (int i = 0; i < g->input_count; i++)
        ids = ids || has(g->inputs[i].name, "ids");
    if (ids || !info->reads[MEDIA_AUDIO])
        return;
    for (int i = 0; i < g->input_count; i++)
        if (info->feeds[i].kind == FROM_MEDIA && info->feeds[i].media == MEDIA_TEXT)
            info->feeds[i].media = MEDIA_AUDIO;
    info->reads[MEDIA_TEXT] = false;
}

/* ---- connections ---------------------------------------------------------------------------- */

static int find_output(const struct model_graph *g, const char *name)
{
    for (int i = 0; i < g->output_count; i++)
        if (strcmp(g->outputs[i].name, name) == 0)
            return i;
    return -1;
}

/* "GRAPH.OUTPUT" of s2m3.json; either may hold dots. */
static bool find_by_path(const struct deduction *d, int graph, const char *path, struct feed *f)
{
    const struct model_source *s = d->source;
    for (int g = 0; g < s->graph_count; g++) {
        size_t n = strlen(s->graphs[g].name);
        if (g == graph || d->graphs[g].role == ROLE_DECODER ||
            strncmp(path, s->graphs[g].name, n) != 0 || path[n] != '.')
            continue;
        int output = find_output(&s->graphs[g], path + n + 1);
        if (output < 0)
            continue;
        *f = (struct feed){.kind = FROM_GRAPH, .graph = g, .output = output};
        return true;
    }
    return false;
}

/* *found: s2m3.json says something of this input.  False when that leads nowhere. */
static bool connect_by_hint(struct deduction *d, int graph, const struct port *p, struct feed *f,
                            bool *found)
{
    char key[2 * TENSOR_NAME_MAX + 2];
    (void)snprintf(key, sizeof(key), "%.127s.%.127s", d->source->graphs[graph].name, p->name);
    const char *path =
        json_string_value(json_object_get(json_object_get(d->hints, "connections"), key));
    *found = path != NULL;
    return !path || find_by_path(d, graph, path, f) ||
           err_set(d->e, ERR_INVALID,
                   "s2m3.json: connection '%.150s': no other graph than a decoder has the output "
                   "'%.150s'",
                   key, path);
}

static bool connect_by_name(const struct deduction *d, int graph, const char *name, struct feed *f)
{
    const struct model_source *s = d->source;
    for (int g = 0; g < s->graph_count; g++) {
        int output =
            g == graph || d->graphs[g].role == ROLE_DECODER ? -1 : find_output(&s->graphs[g], name);
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

/* How much speaks for an output of an encoder, beyond its shape. */
static int likeness(const struct deduction *d, const struct port *p, int graph,
                    const struct port *out)
{
    if (kind_in_name(p->name, d->graphs[graph].reads))
        return 2;
    return strcmp(p->name, "encoder_hidden_states") == 0 &&
           strcmp(out->name, "last_hidden_state") == 0;
}

/* The only output that the shape allows, or the only one among those with the best likeness. */
static bool connect_by_shape(const struct deduction *d, int graph, const struct port *p,
                             struct feed *f)
{
    const struct model_source *s = d->source;
    int best = -1, count = 0;
    for (int g = 0; g < s->graph_count; g++) {
        if (g == graph || d->graphs[g].role != ROLE_ENCODER)
            continue;
        for (int o = 0; o < s->graphs[g].output_count; o++) {
            const struct port *out = &s->graphs[g].outputs[o];
            if (out->dtype != p->dtype || !shapes_agree(&out->shape, &p->shape))
                continue;
            int like = likeness(d, p, g, out);
            count = like > best ? 1 : count + (like == best);
            if (like > best)
                *f = (struct feed){.kind = FROM_GRAPH, .graph = g, .output = o};
            best = like > best ? like : best;
        }
    }
    return count == 1;
}

/* ---- roles ---------------------------------------------------------------------------------- */

/* "logits_per_image" is a similarity of two media, no class. */
bool model_is_logits(const char *name)
{
    return has(name, "logits") && !has(name, "logits_per");
}

static bool has_logits(const struct model_graph *g)
{
    for (int i = 0; i < g->output_count; i++)
        if (model_is_logits(g->outputs[i].name))
            return true;
    return false;
}

/* One output whatever its name: a number for each label, or the model's class says what it is. */
static bool has_labels(const struct deduction *d, const struct model_graph *g)
{
    static const char end[] = "Classification";
    const struct port *p = &g->outputs[0];
    if (g->output_count != 1 || p->dtype != DT_F32 || p->shape.rank != 2)
        return false;
    size_t labels = json_object_size(json_object_get(d->config, "id2label"));
    if (labels > 1 && p->shape.dims[1] >= 0 && (uint64_t)p->shape.dims[1] == labels)
        return true;
    const json_t *classes = json_object_get(d->config, "architectures");
    const char *class = json_string_value(json_array_get(classes, 0));
    size_t size = class ? strlen(class) : 0, tail = sizeof(end) - 1;
    return size > tail && strcmp(class + size - tail, end) == 0;
}

/* The vector of an encoder or the logits of the others: by name, else the first float of rank 2. */
static int result_of(const struct model_graph *g, enum role role)
{
    int first = -1;
    for (int i = 0; i < g->output_count; i++) {
        const struct port *p = &g->outputs[i];
        if (p->dtype != DT_F32 || p->shape.rank != 2 || has(p->name, "logits_per"))
            continue;
        if (role == ROLE_ENCODER ? has(p->name, "embed") : model_is_logits(p->name))
            return i;
        if (first < 0)
            first = i;
    }
    return first;
}

/* One input's source as far as names and looks say; what is left has graph -1. */
static bool own_feed(struct deduction *d, int graph, int input)
{
    struct graph_info *info = &d->graphs[graph];
    struct feed *f = &info->feeds[input];
    const struct port *p = &d->source->graphs[graph].inputs[input];
    bool decoder = info->role == ROLE_DECODER, found;
    if (!connect_by_hint(d, graph, p, f, &found))
        return false;
    if (found)
        return true;
    if (decoder && (is_loop_port(p->name) || is_tokens(p))) {
        *f = (struct feed){.kind = FROM_LOOP};
    } else if (!connect_by_name(d, graph, p->name, f)) {
        *f = (struct feed){.kind = FROM_GRAPH, .graph = -1};
        if (model_input_media(p, &f->media)) {
            f->kind = FROM_MEDIA;
            info->reads[f->media] = true;
        }
    }
    return true;
}

static bool own_feeds(struct deduction *d, int graph)
{
    const struct model_graph *g = &d->source->graphs[graph];
    struct graph_info *info = &d->graphs[graph];
    bool media_only = true;
    for (int i = 0; i < g->input_count; i++) {
        if (!own_feed(d, graph, i))
            return false;
        media_only = media_only && info->feeds[i].kind == FROM_MEDIA;
    }
    masks_of_sound(g, info);
    if (info->role != ROLE_DECODER)
        info->role = !media_only                         ? ROLE_HEAD
                     : has_logits(g) || has_labels(d, g) ? ROLE_CLASSIFIER
                                                         : ROLE_ENCODER;
    info->result = result_of(g, info->role);
    return true;
}

static bool connect_rest(struct deduction *d, int graph)
{
    const struct model_graph *g = &d->source->graphs[graph];
    for (int i = 0; i < g->input_count; i++) {
        struct feed *f = &d->graphs[graph].feeds[i];
        const struct port *p = &g->inputs[i];
        if (f->kind != FROM_GRAPH || f->graph >= 0 || connect_by_shape(d, graph, p, f))
            continue;
        return err_set(d->e, ERR_UNSUPPORTED,
                       "%.100s.onnx: nothing gives its input '%.100s'; s2m3.json may say so: "
                       "\"connections\": {\"%.100s.%.100s\": \"GRAPH.OUTPUT\"}",
                       g->name, p->name, g->name, p->name);
    }
    return true;
}

/* ---- the whole ------------------------------------------------------------------------------ */

/* Puts what a graph depends on into `behind`, once what it takes from has that.  True if it could. */
static bool settle(struct deduction *d, int graph, const bool settled[MODEL_GRAPHS_MAX])
{
    struct graph_info *info = &d->graphs[graph];
    int n = d->source->graphs[graph].input_count;
    for (int i = 0; i < n; i++)
        if (info->feeds[i].kind == FROM_GRAPH && !settled[info->feeds[i].graph])
            return false;
    memcpy(info->behind, info->reads, sizeof(info->behind));
    for (int i = 0; i < n; i++)
        for (int k = 0; info->feeds[i].kind == FROM_GRAPH && k < MEDIA_KINDS; k++)
            info->behind[k] |= d->graphs[info->feeds[i].graph].behind[k];
    return true;
}

/* In rounds; a round that settles nothing has met a circle. */
static bool spread_media(struct deduction *d)
{
    bool settled[MODEL_GRAPHS_MAX] = {false};
    int left = d->source->graph_count, before;
    do {
        before = left;
        for (int g = 0; g < d->source->graph_count; g++)
            if (!settled[g] && settle(d, g, settled)) {
                settled[g] = true;
                left--;
            }
    } while (left > 0 && left < before);
    for (int g = 0; left > 0 && g < d->source->graph_count; g++)
        if (!settled[g])
            return err_set(d->e, ERR_INVALID,
                           "%.100s.onnx: takes from itself, through other graphs",
                           d->source->graphs[g].name);
    return true;
}

bool deduce_graphs(struct deduction *d)
{
    const struct model_source *s = d->source;
    for (int g = 0; g < s->graph_count; g++) {
        if (s->graphs[g].input_count > MODEL_PORTS_MAX ||
            s->graphs[g].output_count > MODEL_PORTS_MAX)
            return err_set(d->e, ERR_TOO_LARGE, "%.100s.onnx: more than %d ports",
                           s->graphs[g].name, MODEL_PORTS_MAX);
        if (model_generates(&s->graphs[g]))
            d->graphs[g].role = ROLE_DECODER;
    }
    for (int g = 0; g < s->graph_count; g++)
        if (!own_feeds(d, g))
            return false;
    for (int g = 0; g < s->graph_count; g++)
        if (!connect_rest(d, g))
            return false;
    return spread_media(d);
}
