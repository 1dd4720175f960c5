/* ports.c - a model's inputs and outputs as ports. */
#include "onnx/reader.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PORT_ITEMS_MAX ((uint64_t)1 << 57) /* elements */

static bool read_dim(struct span message, int64_t *value, struct span *param)
{
    struct pb p = pb_over(message);
    struct pb_field f;
    enum pb_result got;
    *value = -1;
    while ((got = pb_next(&p, &f)) == PB_FIELD) {
        if (f.number == 1 && f.wire == PB_VARINT)
            *value = (int64_t)f.value;
        if (f.number == 2 && f.wire == PB_BYTES)
            *param = f.bytes;
    }
    return got == PB_END && *value >= -1;
}

bool onnx_tensor_type(struct span type, int *ret_type, int *ret_rank, int64_t dims[ONNX_RANK_MAX],
                      struct span params[ONNX_RANK_MAX])
{
    struct pb p = pb_over(type);
    struct pb_field f;
    struct span tensor = {0}, shape = {0};
    while (pb_next(&p, &f) == PB_FIELD)
        if (f.number == 1 && f.wire == PB_BYTES)
            tensor = f.bytes;
        else if (f.number != 6)
            return false;
    *ret_type = OT_NONE;
    *ret_rank = -1;
    p = pb_over(tensor);
    while (pb_next(&p, &f) == PB_FIELD)
        if (f.number == 1 && f.wire == PB_VARINT && f.value <= OT_LAST)
            *ret_type = (int)f.value;
        else if (f.number == 2 && f.wire == PB_BYTES)
            shape = f.bytes;
    if (*ret_type == OT_NONE)
        return false;
    if (!shape.data)
        return true;
    *ret_rank = 0;
    p = pb_over(shape);
    while (pb_next(&p, &f) == PB_FIELD) {
        if (f.number != 1 || f.wire != PB_BYTES)
            continue;
        struct span param = {0};
        if (*ret_rank == ONNX_RANK_MAX || !read_dim(f.bytes, &dims[*ret_rank], &param))
            return false;
        if (params)
            params[*ret_rank] = param;
        ++*ret_rank;
    }
    return true;
}

bool onnx_dims_fit(const int64_t *dims, int rank)
{
    uint64_t items = 1;
    for (int i = 0; i < rank; i++) {
        if (dims[i] > 0 && (uint64_t)dims[i] > PORT_ITEMS_MAX / items)
            return false;
        items *= dims[i] > 0 ? (uint64_t)dims[i] : 1;
    }
    return true;
}

static bool read_port(struct onnx *m, uint32_t id, struct port *port, char **names,
                      const char *what, struct err *e)
{
    const struct gvalue *v = &m->values.items[id];
    char shown[SPAN_TEXT_SIZE];
    int64_t dims[ONNX_RANK_MAX];
    struct span params[ONNX_RANK_MAX];
    int type, rank;
    if (v->name.size >= TENSOR_NAME_MAX)
        return err_set(e, ERR_TOO_LARGE, "%s '%s': name of %zu bytes, more than the limit of %d",
                       what, span_text(v->name, shown), v->name.size, TENSOR_NAME_MAX - 1);
    if (!onnx_tensor_type(v->type, &type, &rank, dims, params))
        return err_set(e, ERR_UNSUPPORTED,
                       "%s '%s': is not a tensor of a known type and at most %d dims from -1 on",
                       what, span_text(v->name, shown), ONNX_RANK_MAX);
    if (dtype_from_onnx(type) == DT_NONE)
        return err_set(e, ERR_UNSUPPORTED, "%s '%s': element type %s is not supported", what,
                       span_text(v->name, shown), onnx_type_name(type));
    if (rank > TENSOR_RANK_MAX || rank < 0)
        return err_set(e, ERR_UNSUPPORTED, "%s '%s': rank %d, should be said and be at most %d",
                       what, span_text(v->name, shown), rank, TENSOR_RANK_MAX);
    *port = (struct port){.dtype = dtype_from_onnx(type), .shape.rank = rank};
    memcpy(port->name, v->name.data, v->name.size);
    if (!onnx_dims_fit(dims, rank))
        return err_set(e, ERR_TOO_LARGE, "%s '%s': the product of its dims is over 2^57", what,
                       span_text(v->name, shown));
    for (int i = 0; i < rank; i++) {
        port->shape.dims[i] = dims[i];
        if (dims[i] >= 0 || !params[i].size)
            continue;
        if (params[i].size > ONNX_NAME_MAX)
            return err_set(e, ERR_TOO_LARGE, "%s '%s': a dim's name is over %d bytes", what,
                           span_text(v->name, shown), ONNX_NAME_MAX);
        names[i] = strndup((const char *)params[i].data, params[i].size);
        if (!names[i])
            return err_set(e, ERR_MEMORY, "dims: no memory");
    }
    return true;
}

static bool collect_params(struct onnx *m, struct err *e)
{
    size_t all = m->input_count * TENSOR_RANK_MAX;
    m->dim_params = calloc(all + 1, sizeof(*m->dim_params));
    if (!m->dim_params)
        return err_set(e, ERR_MEMORY, "dims: no memory");
    for (size_t i = 0; i < all; i++) {
        bool had = !m->dim_names[i];
        for (size_t k = 0; !had && k < m->dim_param_count; k++)
            had = strcmp(m->dim_params[k], m->dim_names[i]) == 0;
        if (!had)
            m->dim_params[m->dim_param_count++] = m->dim_names[i];
    }
    return true;
}

bool read_ports(struct onnx *m, struct err *e)
{
    const struct ggraph *g = &m->graphs.items[ONNX_MAIN];
    if (g->in_count > ONNX_PORTS_MAX || g->out_count > ONNX_PORTS_MAX || g->out_count == 0)
        return err_set(e, ERR_INVALID,
                       "%u inputs and %u outputs: at most %d, and at least one output", g->in_count,
                       g->out_count, ONNX_PORTS_MAX);
    m->inputs = calloc(g->in_count + 1, sizeof(*m->inputs));
    m->outputs = calloc(g->out_count + 1, sizeof(*m->outputs));
    m->dim_names = calloc((g->in_count + g->out_count) * TENSOR_RANK_MAX + 1, sizeof(char *));
    if (!m->inputs || !m->outputs || !m->dim_names)
        return err_set(e, ERR_MEMORY, "ports: no memory");
    m->input_count = g->in_count;
    m->output_count = g->out_count;
    for (uint32_t i = 0; i < g->in_count; i++)
        if (!read_port(m, m->refs.items[g->in_first + i], &m->inputs[i],
                       m->dim_names + (size_t)i * TENSOR_RANK_MAX, "input", e))
            return false;
    for (uint32_t i = 0; i < g->out_count; i++)
        if (!read_port(m, m->refs.items[g->out_first + i], &m->outputs[i],
                       m->dim_names + (size_t)(g->in_count + i) * TENSOR_RANK_MAX, "output", e))
            return false;
    return collect_params(m, e);
}
