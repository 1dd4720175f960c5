/* pool.c - growing arrays of a model, the table of its names, small look-ups. */
#include "onnx/graph.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

bool pool_room(void **items, uint32_t *count, uint32_t *capacity, size_t item_size, uint64_t add,
               uint64_t max, const char *what, struct err *e)
{
    uint64_t need = *count + add;
    if (add > max || need > max)
        return err_set(e, ERR_TOO_LARGE, "%s: more than the limit of %" PRIu64, what, max);
    if (need > *capacity || !*items) { /* never NULL afterwards, even for none */
        uint64_t grown = *capacity ? (uint64_t)*capacity * 2 : 16;
        if (grown < need)
            grown = need;
        if (grown > max)
            grown = max;
        void *more = realloc(*items, (size_t)grown * item_size);
        if (!more)
            return err_set(e, ERR_MEMORY, "%s: no memory for %" PRIu64, what, grown);
        *items = more;
        *capacity = (uint32_t)grown;
    }
    if (add)
        memset((char *)*items + (size_t)*count * item_size, 0, (size_t)add * item_size);
    *count = (uint32_t)need;
    return true;
}

static const struct {
    const char *name;
    unsigned bits;
} types[OT_LAST + 1] = {
    [OT_FLOAT] = {"float32", 32},
    [OT_UINT8] = {"uint8", 8},
    [OT_INT8] = {"int8", 8},
    [OT_UINT16] = {"uint16", 16},
    [OT_INT16] = {"int16", 16},
    [OT_INT32] = {"int32", 32},
    [OT_INT64] = {"int64", 64},
    [OT_STRING] = {"string", 0},
    [OT_BOOL] = {"bool", 8},
    [OT_FLOAT16] = {"float16", 16},
    [OT_DOUBLE] = {"float64", 64},
    [OT_UINT32] = {"uint32", 32},
    [OT_UINT64] = {"uint64", 64},
    [OT_COMPLEX64] = {"complex64", 64},
    [OT_COMPLEX128] = {"complex128", 128},
    [OT_BFLOAT16] = {"bfloat16", 16},
    [17] = {"float8e4m3fn", 8},
    [18] = {"float8e4m3fnuz", 8},
    [19] = {"float8e5m2", 8},
    [20] = {"float8e5m2fnuz", 8},
    [21] = {"uint4", 4},
    [22] = {"int4", 4},
    [23] = {"float4e2m1", 4},
    [24] = {"float8e8m0", 8},
    [25] = {"uint2", 2},
    [26] = {"int2", 2},
};

unsigned onnx_type_bits(int type)
{
    return type > 0 && type <= OT_LAST ? types[type].bits : 0;
}

const char *onnx_type_name(int type)
{
    return type > 0 && type <= OT_LAST ? types[type].name : "unknown";
}

uint32_t onnx_name_hash(uint32_t graph, struct span name)
{
    uint64_t h = 0xcbf29ce484222325u ^ graph;
    for (size_t i = 0; i < name.size; i++)
        h = (h ^ name.data[i]) * 0x100000001b3u;
    return (uint32_t)(h ^ (h >> 32));
}

static uint32_t lookup_own(const struct onnx *m, uint32_t graph, struct span name)
{
    if (!m->table_size)
        return ONNX_NONE;
    uint32_t mask = m->table_size - 1;
    for (uint32_t at = onnx_name_hash(graph, name) & mask; m->table[at]; at = (at + 1) & mask) {
        uint32_t id = m->table[at] - 1;
        const struct gvalue *v = &m->values.items[id];
        if (v->graph == graph && span_equal(v->name, name))
            return id;
    }
    return ONNX_NONE;
}

uint32_t onnx_lookup(const struct onnx *m, uint32_t graph, struct span name)
{
    for (; graph != ONNX_NONE; graph = m->graphs.items[graph].parent) {
        uint32_t id = lookup_own(m, graph, name);
        if (id != ONNX_NONE)
            return id;
    }
    return ONNX_NONE;
}

static void table_put(struct onnx *m, uint32_t id)
{
    const struct gvalue *v = &m->values.items[id];
    uint32_t mask = m->table_size - 1;
    uint32_t at = onnx_name_hash(v->graph, v->name) & mask;
    while (m->table[at])
        at = (at + 1) & mask;
    m->table[at] = id + 1;
}

static bool table_grow(struct onnx *m, struct err *e)
{
    uint32_t size = m->table_size ? m->table_size * 2 : 256;
    uint32_t *table = calloc(size, sizeof(*table));
    if (!table)
        return err_set(e, ERR_MEMORY, "names: no memory for %u", size);
    free(m->table);
    m->table = table;
    m->table_size = size;
    for (uint32_t id = 0; id + 1 < m->values.count; id++)
        if (m->values.items[id].name.size)
            table_put(m, id);
    return true;
}

bool onnx_define(struct onnx *m, struct gvalue value, uint32_t *ret, struct err *e)
{
    char shown[SPAN_TEXT_SIZE];
    if (value.name.size > ONNX_NAME_MAX ||
        (value.name.size && memchr(value.name.data, 0, value.name.size)))
        return err_set(e, ERR_INVALID, "name '%s': has %zu bytes (limit %d) or a zero byte",
                       span_text(value.name, shown), value.name.size, ONNX_NAME_MAX);
    if (value.name.size && onnx_lookup(m, value.graph, value.name) != ONNX_NONE)
        return err_set(e, ERR_INVALID, "value '%s': defined twice", span_text(value.name, shown));
    if (!POOL_ADD(m->values, 1, ONNX_VALUES_MAX, "values", e))
        return false;
    uint32_t id = m->values.count - 1;
    m->values.items[id] = value;
    if (m->values.count > m->table_size / 2 && !table_grow(m, e))
        return false;
    if (value.name.size)
        table_put(m, id);
    *ret = id;
    return true;
}

const struct gattr *onnx_attr(const struct onnx *m, const struct gnode *n, const char *name)
{
    for (uint32_t i = 0; i < n->attr_count; i++)
        if (span_is(m->attrs.items[n->attr_first + i].name, name))
            return &m->attrs.items[n->attr_first + i];
    return NULL;
}

int64_t onnx_attr_int(const struct onnx *m, const struct gnode *n, const char *name,
                      int64_t otherwise)
{
    const struct gattr *a = onnx_attr(m, n, name);
    return a && a->type == AT_INT && !a->ref.size ? a->i : otherwise;
}

const struct gtensor *onnx_value_tensor(const struct onnx *m, uint32_t value)
{
    if (value == ONNX_NONE || m->values.items[value].kind != VALUE_CONST)
        return NULL;
    return &m->tensors.items[m->values.items[value].index];
}

bool onnx_is_op(const struct gnode *n, const char *op)
{
    return span_is(n->op, op) && n->function == ONNX_NONE &&
           (n->domain.size == 0 || span_is(n->domain, "ai.onnx"));
}
