/* share.c - the steps of share_find() in their order, and what holds their data. */
#include "onnx/share.h"

#include "onnx/module.h"

#include <stdlib.h>

#define CROSSING_PART 1000u /* a tensor that crosses costs this part of the largest model, */
#define CROSSING_MIN 256u   /* but at least and at most so many bytes */
#define CROSSING_MAX 65536u

bool work_model_init(struct work *w, struct wmodel *m)
{
    size_t nodes = m->g->nodes.count + 1u, values = m->g->values.count + 1u;
    m->cls = calloc(nodes, sizeof(*m->cls));
    m->code = calloc(values, sizeof(*m->code));
    m->token = calloc(values, sizeof(*m->token));
    m->mask = calloc(values, sizeof(*m->mask));
    m->group = calloc(m->g->m->input_count + 1u, sizeof(*m->group));
    return (m->cls && m->code && m->token && m->mask && m->group) ||
           err_set(w->e, ERR_MEMORY, "models: no memory");
}

void work_clear(struct work *w)
{
    for (uint32_t i = 0; w->models && i < w->model_count; i++) {
        struct wmodel *m = &w->models[i];
        fold_free(m->g);
        free(m->cls);
        free(m->code);
        free(m->token);
        free(m->mask);
        free(m->group);
    }
    for (uint32_t i = 0; i < w->spare.count; i++)
        fold_free(w->spare.items[i]);
    free(w->spare.items);
    free(w->models);
    known_done(&w->known);
    intern_done(&w->leaves);
    intern_done(&w->class_ids);
    intern_done(&w->locals);
    free(w->classes.items);
    free(w->edges.items);
    free(w->tokens.items);
    free(w->sorted);
    free(w->joined);
}

/* Exports of two kinds, one with all axes fixed and one with dynamic ones, differ wherever shapes
 * are computed: only what adopt.c makes one can be matched. */
static bool has_dynamic_dims(const struct onnx *m)
{
    for (size_t i = 0; i < m->input_count; i++)
        for (int k = 0; k < m->inputs[i].shape.rank; k++)
            if (m->inputs[i].shape.dims[k] < 0)
                return true;
    return false;
}

static bool steps(struct work *w, struct onnx *const *models, struct share *s)
{
    uint64_t largest = 0;
    for (uint32_t i = 0; i < w->model_count; i++) {
        uint64_t bytes;
        if (!fold_graph(models[i], &w->known, NULL, &w->models[i].g, w->e) ||
            !onnx_weight_bytes(models[i], &bytes, w->e))
            return err_prefix(w->e, "%s", models[i]->path);
        w->models[i].dynamic = has_dynamic_dims(models[i]);
        largest = bytes > largest ? bytes : largest;
    }
    w->crossing = largest / CROSSING_PART;
    w->crossing = w->crossing < CROSSING_MIN   ? CROSSING_MIN
                  : w->crossing > CROSSING_MAX ? CROSSING_MAX
                                               : w->crossing;
    bool cycle;
    if (!work_adopt(w))
        return false;
    for (uint32_t i = 0; i < w->model_count; i++)
        if (!work_model_init(w, &w->models[i]))
            return false;
    if (!work_classes(w) || !work_edges(w, &cycle))
        return false;
    if (cycle)
        return err_set(w->e, ERR_INTERNAL, "the union of the models has a cycle");
    return work_match(w) && work_colours(w) && work_cuts(w) && work_regions(w) &&
           work_modules(w, s);
}

/* One run; *whole: models that stay whole, gains the one that could not be split; *apart likewise:
 * models that take no other form. */
static bool attempt(struct onnx *const *models, size_t count, const struct share_options *o,
                    uint64_t *whole, uint64_t *apart, struct share **ret, struct err *e)
{
    struct share *s = calloc(1, sizeof(*s));
    struct work *w = calloc(1, sizeof(*w));
    if (!s || !w) {
        free(s);
        free(w);
        return err_set(e, ERR_MEMORY, "sharing: no memory");
    }
    s->work = w;
    s->models = calloc(count, sizeof(*s->models));
    s->model_count = count;
    w->models = calloc(count, sizeof(*w->models));
    w->model_count = (uint32_t)count;
    w->next_token = 1;
    w->min_share = o->min_share;
    w->fixed_axes = o->fixed_axes;
    w->whole = *whole;
    w->apart = *apart;
    w->e = e;
    bool ok = (s->models && w->models) || err_set(e, ERR_MEMORY, "sharing: no memory");
    ok = ok && steps(w, models, s);
    w->e = NULL;
    *whole |= w->unsplit;
    *apart |= w->unadopted;
    if (!ok) {
        share_free(s);
        return false;
    }
    *ret = s;
    return true;
}

bool share_find(struct onnx *const *models, size_t count, uint64_t min_share, struct share **ret,
                struct err *e)
{
    struct share_options o = {.min_share = min_share};
    return share_find_as(models, count, &o, ret, e);
}

static bool unchanged(struct onnx *const *models, size_t count, struct err *e)
{
    for (size_t i = 0; i < count; i++)
        if (!onnx_unchanged(models[i], e))
            return false;
    return true;
}

bool share_find_as(struct onnx *const *models, size_t count, const struct share_options *options,
                   struct share **ret, struct err *e)
{
    if (count == 0 || count > SHARE_MODELS_MAX)
        return err_set(e, ERR_INVALID, "%zu models: should be from 1 to %u", count,
                       SHARE_MODELS_MAX);
    struct err local = {0};
    uint64_t whole = 0, apart = 0, before[2];
    do {
        before[0] = whole;
        before[1] = apart;
        struct share *found;
        if (attempt(models, count, options, &whole, &apart, &found, &local)) {
            bool ok = unchanged(models, count, e);
            if (ok)
                *ret = found;
            else
                share_free(found);
            return ok;
        }
    } while (whole != before[0] || apart != before[1]);
    return unchanged(models, count, e) && err_set(e, local.code, "%s", local.text);
}

void share_free(struct share *s)
{
    if (!s)
        return;
    for (size_t i = 0; s->models && i < s->model_count; i++) {
        for (size_t k = 0; k < s->models[i].call_count; k++) {
            free(s->models[i].calls[k].inputs);
            call_detail_free(s->models[i].calls[k].detail);
        }
        free(s->models[i].calls);
        free(s->models[i].modules);
        free(s->models[i].outputs);
    }
    for (size_t i = 0; i < s->module_count; i++) {
        free(s->modules[i].inputs);
        free(s->modules[i].outputs);
        module_detail_free(s->modules[i].detail);
    }
    free(s->models);
    free(s->modules);
    free(s->near);
    if (s->work)
        work_clear(s->work);
    free(s->work);
    free(s);
}
