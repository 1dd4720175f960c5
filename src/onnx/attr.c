/* attr.c - attributes of nodes. */
#include "onnx/reader.h"

#include <string.h>

enum {
    AP_NAME = 1,
    AP_F = 2,
    AP_I = 3,
    AP_S = 4,
    AP_T = 5,
    AP_G = 6,
    AP_FLOATS = 7,
    AP_INTS = 8,
    AP_STRINGS = 9,
    AP_TENSORS = 10,
    AP_GRAPHS = 11,
    AP_TP = 14,
    AP_TPS = 15,
    AP_TYPE = 20,
    AP_REF = 21,
    AP_SPARSE = 22,
    AP_SPARSES = 23,
};

/* The field that holds an attribute's value, by its type. */
static uint32_t field_of(enum attr_type type)
{
    static const uint32_t fields[] = {
        [AT_FLOAT] = AP_F,       [AT_INT] = AP_I,           [AT_STRING] = AP_S,
        [AT_TENSOR] = AP_T,      [AT_GRAPH] = AP_G,         [AT_FLOATS] = AP_FLOATS,
        [AT_INTS] = AP_INTS,     [AT_STRINGS] = AP_STRINGS, [AT_TENSORS] = AP_TENSORS,
        [AT_GRAPHS] = AP_GRAPHS, [AT_SPARSE] = AP_SPARSE,   [AT_SPARSES] = AP_SPARSES,
        [AT_TYPE] = AP_TP,       [AT_TYPES] = AP_TPS};
    return fields[type];
}

static bool broken(struct reader *r, const struct gattr *a, const char *what)
{
    char shown[SPAN_TEXT_SIZE];
    return err_set(r->e, ERR_INVALID, "attribute '%s': %s", span_text(a->name, shown), what);
}

static bool head(struct reader *r, struct span message, struct gattr *a, uint32_t *ret_values)
{
    struct pb p = pb_over(message);
    struct pb_field f;
    enum pb_result got;
    uint64_t type = 0, fields = 0;
    while ((got = pb_next(&p, &f)) == PB_FIELD) {
        bool bytes = f.wire == PB_BYTES;
        if (f.number == AP_NAME && bytes && pb_once(&p, &f))
            a->name = f.bytes;
        else if (f.number == AP_REF && bytes)
            a->ref = f.bytes;
        else if (f.number == AP_TYPE && f.wire == PB_VARINT && pb_once(&p, &f))
            type = f.value;
        else if (f.number == AP_NAME || f.number == AP_TYPE || f.number == AP_REF)
            return broken(r, a, "name, type or reference is broken or given twice");
        else if (f.number >= AP_F && f.number <= AP_SPARSES && f.number != 13 && f.number != 12)
            fields |= (uint64_t)1 << f.number;
    }
    if (got == PB_BAD)
        return broken(r, a, "cut short or broken");
    if (a->name.size == 0 || a->name.size > ONNX_NAME_MAX)
        return broken(r, a, "has no name or one over the limit");
    if (type < AT_FLOAT || type > AT_TYPES)
        return broken(r, a, "type is missing or unknown");
    a->type = (enum attr_type)type;
    if (fields & ~((uint64_t)1 << field_of(a->type)))
        return broken(r, a, "holds a value of another type than it says");
    *ret_values = field_of(a->type);
    return true;
}

static bool add_float(struct reader *r, uint32_t bits)
{
    if (!POOL_ADD(r->m->floats, 1, ONNX_EDGES_MAX, "numbers in attributes", r->e))
        return false;
    memcpy(&r->m->floats.items[r->m->floats.count - 1], &bits, sizeof(bits));
    return true;
}

static bool add_int(struct reader *r, uint64_t value)
{
    if (!POOL_ADD(r->m->ints, 1, ONNX_EDGES_MAX, "numbers in attributes", r->e))
        return false;
    r->m->ints.items[r->m->ints.count - 1] = (int64_t)value;
    return true;
}

static bool take_numbers(struct reader *r, struct gattr *a, const struct pb_field *f)
{
    bool floats = a->type == AT_FLOATS;
    if (f->wire == (floats ? PB_FIXED32 : PB_VARINT))
        return floats ? add_float(r, (uint32_t)f->value) : add_int(r, f->value);
    if (f->wire != PB_BYTES)
        return broken(r, a, "broken list");
    struct pb p = pb_over(f->bytes);
    while (p.at < p.end) {
        uint64_t value;
        uint32_t bits;
        if (!floats) {
            if (!pb_varint(&p, &value))
                return broken(r, a, "broken list");
            if (!add_int(r, value))
                return false;
            continue;
        }
        if (p.end - p.at < 4)
            return broken(r, a, "broken list");
        memcpy(&bits, p.at, 4);
        p.at += 4;
        if (!add_float(r, bits))
            return false;
    }
    return true;
}

static bool take_tensor(struct reader *r, struct gattr *a, struct span message)
{
    /* a list's tensors stand in one run: read_tensor adds none of its own */
    if (!POOL_ADD(r->m->tensors, 1, ONNX_VALUES_MAX, "constants", r->e))
        return false;
    uint32_t at = r->m->tensors.count - 1;
    if (a->count++ == 0)
        a->first = at;
    return read_tensor(r, message, at);
}

/* Sub-graphs of a list do not stand in one run (each may hold more), so their ids go to refs at the
 * end; a list of one is that graph itself. */
static bool take_graph(struct reader *r, uint32_t node, struct gattr *a, struct span message)
{
    uint32_t graph;
    if (a->count++ > 0)
        return err_set(r->e, ERR_UNSUPPORTED, "an attribute with a list of several graphs");
    if (!read_graph(r, message, r->m->nodes.items[node].graph, &graph))
        return false;
    a->first = graph;
    return true;
}

static bool take_value(struct reader *r, uint32_t node, struct gattr *a, const struct pb_field *f)
{
    bool bytes = f->wire == PB_BYTES;
    switch (a->type) {
    case AT_FLOAT: {
        uint32_t bits = (uint32_t)f->value;
        memcpy(&a->f, &bits, sizeof(bits));
        return f->wire == PB_FIXED32 || broken(r, a, "broken number");
    }
    case AT_INT:
        a->i = (int64_t)f->value;
        return f->wire == PB_VARINT || broken(r, a, "broken number");
    case AT_STRING:
        a->s = f->bytes;
        return bytes || broken(r, a, "broken text");
    case AT_TENSOR:
    case AT_TENSORS:
        return bytes ? take_tensor(r, a, f->bytes) : broken(r, a, "broken tensor");
    case AT_GRAPH:
    case AT_GRAPHS:
        return bytes ? take_graph(r, node, a, f->bytes) : broken(r, a, "broken graph");
    case AT_FLOATS:
    case AT_INTS:
        return take_numbers(r, a, f);
    case AT_STRINGS:
        if (!bytes)
            return broken(r, a, "broken text");
        if (!POOL_ADD(r->m->spans, 1, ONNX_EDGES_MAX, "texts in attributes", r->e))
            return false;
        r->m->spans.items[r->m->spans.count - 1] = f->bytes;
        return true;
    case AT_SPARSE:
    case AT_SPARSES:
        return err_set(r->e, ERR_UNSUPPORTED, "sparse tensors are not supported");
    case AT_TYPE:
    case AT_TYPES:
        return true; /* part of message, which is all that identity needs */
    }
    return true;
}

static uint32_t list_end(const struct onnx *m, enum attr_type type)
{
    return type == AT_FLOATS ? m->floats.count : type == AT_INTS ? m->ints.count : m->spans.count;
}

bool read_attr(struct reader *r, uint32_t node, struct span message, uint32_t at)
{
    struct gattr a = {.message = message};
    uint32_t field;
    if (!head(r, message, &a, &field))
        return false;
    bool list = a.type == AT_FLOATS || a.type == AT_INTS || a.type == AT_STRINGS;
    bool single = a.type == AT_FLOAT || a.type == AT_INT || a.type == AT_STRING ||
                  a.type == AT_TENSOR || a.type == AT_GRAPH;
    if (list)
        a.first = list_end(r->m, a.type);
    struct pb p = pb_over(message);
    struct pb_field f;
    while (pb_next(&p, &f) == PB_FIELD) {
        if (f.number != field)
            continue;
        if (single && !pb_once(&p, &f))
            return broken(r, &a, "value given twice");
        if (!take_value(r, node, &a, &f))
            return false;
    }
    if (list)
        a.count = list_end(r->m, a.type) - a.first;
    if ((a.type == AT_TENSOR || a.type == AT_GRAPH) && a.count == 0 && a.ref.size == 0)
        return broken(r, &a, "has no value");
    r->m->attrs.items[at] = a;
    return true;
}
