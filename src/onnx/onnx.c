/* onnx.c - opening, closing and small questions. */
#include "onnx/onnx.h"

#include "onnx/reader.h"

#include <stdlib.h>
#include <string.h>

bool onnx_open(const char *path, struct onnx **ret, struct err *e)
{
    return onnx_open_with(path, NULL, ret, e);
}

bool onnx_open_with(const char *path, const struct onnx_opener *opener, struct onnx **ret,
                    struct err *e)
{
    struct onnx *m = calloc(1, sizeof(*m));
    struct reader r = {.m = m, .opener = opener, .top = ONNX_NONE, .e = e};
    if (m)
        m->path = strdup(path);
    if (!m || !m->path) {
        onnx_close(m);
        return err_set(e, ERR_MEMORY, "%s: no memory", path);
    }
    /* lists of attributes that hold nothing point here: never NULL */
    struct err changed;
    bool ok = POOL_ADD(m->ints, 0, 1, "numbers", e) && POOL_ADD(m->floats, 0, 1, "numbers", e) &&
              POOL_ADD(m->spans, 0, 1, "texts", e) && file_map_model(m, e) &&
              ((read_model(&r) && read_ports(m, e) && file_check_ranges(m, e)) ||
               err_prefix(e, "%s", path));
    free(r.captures.items);
    if (!onnx_unchanged(m, &changed))
        ok = err_set(e, changed.code, "%s", changed.text);
    if (!ok) {
        onnx_close(m);
        return false;
    }
    *ret = m;
    return true;
}

bool onnx_unchanged(const struct onnx *m, struct err *e)
{
    for (uint32_t i = 0; i < m->files.count; i++)
        if (!mapping_check(&m->files.items[i].map, m->files.items[i].name, e))
            return i > 0 && err_prefix(e, "%s: external data", m->path);
    return true;
}

void onnx_close(struct onnx *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; i < m->files.count; i++) {
        mapping_close(&m->files.items[i].map);
        free(m->files.items[i].name);
    }
    for (uint32_t i = 0; i < m->tensors.count; i++)
        free(m->tensors.items[i].owned);
    if (m->dim_names)
        for (size_t i = 0; i < (m->input_count + m->output_count) * TENSOR_RANK_MAX; i++)
            free(m->dim_names[i]);
    free(m->dim_names);
    free((void *)m->dim_params);
    free(m->inputs);
    free(m->outputs);
    free(m->table);
    free(m->files.items);
    free(m->graphs.items);
    free(m->nodes.items);
    free(m->values.items);
    free(m->tensors.items);
    free(m->attrs.items);
    free(m->refs.items);
    free(m->ints.items);
    free(m->floats.items);
    free(m->spans.items);
    free(m->opsets.items);
    free(m->path);
    free(m);
}

const struct port *onnx_inputs(const struct onnx *m, size_t *count)
{
    *count = m->input_count;
    return m->inputs;
}

const struct port *onnx_outputs(const struct onnx *m, size_t *count)
{
    *count = m->output_count;
    return m->outputs;
}

const char *onnx_dim_param(const struct onnx *m, bool output, size_t port, int dim)
{
    size_t ports = output ? m->output_count : m->input_count;
    if (port >= ports || dim < 0 || dim >= TENSOR_RANK_MAX)
        return "";
    const char *name =
        m->dim_names[(port + (output ? m->input_count : 0)) * TENSOR_RANK_MAX + (size_t)dim];
    return name ? name : "";
}

const char *const *onnx_dim_params(const struct onnx *m, size_t *count)
{
    *count = m->dim_param_count;
    return m->dim_params;
}

/* Order of tensors by digest, to count each content once. */
static int by_digest(const void *a, const void *b)
{
    const struct gtensor *x = *(const struct gtensor *const *)a,
                         *y = *(const struct gtensor *const *)b;
    return strcmp(x->digest.hex, y->digest.hex);
}

bool onnx_weight_bytes_all(struct onnx *const *models, size_t count, uint64_t *ret, struct err *e)
{
    size_t all = 0, n = 0;
    for (size_t k = 0; k < count; k++)
        all += models[k]->values.count;
    const struct gtensor **order = calloc(all + 1, sizeof(*order));
    if (!order)
        return err_set(e, ERR_MEMORY, "weights: no memory");
    bool ok = true;
    for (size_t k = 0; ok && k < count; k++)
        for (uint32_t i = 0; ok && i < models[k]->values.count; i++) {
            const struct gvalue *v = &models[k]->values.items[i];
            if (v->kind != VALUE_CONST)
                continue;
            ok = onnx_tensor_digest(models[k], v->index, e);
            order[n++] = &models[k]->tensors.items[v->index];
        }
    if (ok && n)
        qsort(order, n, sizeof(*order), by_digest);
    uint64_t bytes = 0;
    for (size_t i = 0; ok && i < n; i++)
        if (i == 0 || strcmp(order[i]->digest.hex, order[i - 1]->digest.hex) != 0)
            bytes += order[i]->bytes;
    free(order);
    if (ok)
        *ret = bytes;
    return ok;
}

bool onnx_weight_bytes(struct onnx *m, uint64_t *ret, struct err *e)
{
    if (!m->has_weight_bytes && !onnx_weight_bytes_all(&m, 1, &m->weight_bytes, e))
        return false;
    m->has_weight_bytes = true;
    *ret = m->weight_bytes;
    return true;
}

bool onnx_batchable(const struct onnx *m)
{
    const char *name = NULL;
    for (size_t i = 0; i < m->input_count + m->output_count; i++) {
        bool output = i >= m->input_count;
        size_t at = output ? i - m->input_count : i;
        const struct shape *s = output ? &m->outputs[at].shape : &m->inputs[at].shape;
        const char *param = onnx_dim_param(m, output, at, 0);
        if (s->rank == 0 || s->dims[0] >= 0)
            return false;
        if (*param && name && strcmp(param, name) != 0)
            return false;
        if (*param)
            name = param;
    }
    return m->input_count > 0;
}

size_t onnx_node_count(const struct onnx *m)
{
    return m->graphs.items[ONNX_MAIN].node_count;
}
