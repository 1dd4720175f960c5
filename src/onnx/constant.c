/* constant.c - constants in all the ways that a file can hold them, as packed bytes.
 *
 * raw_data and external data are used where they lie.  The typed fields (float_data, int32_data,
 * ...) are used in place when they are one packed run of the right width, else unpacked to the
 * heap, bounded by ONNX_OWNED_MAX.  A tensor that holds data in two ways is refused: another reader
 * could take the other one. */
#include "onnx/reader.h"

#include "base/num.h"
#include "base/parse.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FORGET_MIN (1u << 20)

enum {
    TP_DIMS = 1,
    TP_TYPE = 2,
    TP_SEGMENT = 3,
    TP_FLOAT = 4,
    TP_INT32 = 5,
    TP_STRING = 6,
    TP_INT64 = 7,
    TP_NAME = 8,
    TP_RAW = 9,
    TP_DOUBLE = 10,
    TP_UINT64 = 11,
    TP_EXTERNAL = 13,
    TP_LOCATION = 14,
};

/* What a first walk over a TensorProto found. */
struct proto {
    struct span message, raw, location;
    uint32_t data_field; /* the one field number that holds data, or 0 */
    bool two_fields, external;
    uint64_t offset, length;
    bool has_length, has_location, bad;
};

static bool broken(struct reader *r, const struct gtensor *t, const char *what)
{
    char shown[SPAN_TEXT_SIZE];
    return err_set(r->e, ERR_INVALID, "constant '%s': %s", span_text(t->name, shown), what);
}

static bool take_dim(struct reader *r, struct gtensor *t, uint64_t value)
{
    if (t->rank == ONNX_RANK_MAX)
        return err_set(r->e, ERR_TOO_LARGE, "constant: more than %d dims", ONNX_RANK_MAX);
    t->dims[t->rank++] = (int64_t)value;
    return true;
}

static bool take_dims(struct reader *r, struct gtensor *t, const struct pb_field *f)
{
    if (f->wire == PB_VARINT)
        return take_dim(r, t, f->value);
    if (f->wire != PB_BYTES)
        return broken(r, t, "bad dims");
    struct pb p = pb_over(f->bytes);
    while (p.at < p.end) {
        uint64_t value;
        if (!pb_varint(&p, &value))
            return broken(r, t, "bad dims");
        if (!take_dim(r, t, value))
            return false;
    }
    return true;
}

static void take_data(struct proto *d, const struct pb_field *f)
{
    if (f->wire == PB_BYTES && f->bytes.size == 0 && f->number != TP_STRING)
        return; /* an empty packed list or empty raw bytes: no data */
    if (d->data_field && (d->data_field != f->number || f->number == TP_RAW))
        d->two_fields = true;
    d->data_field = f->number;
    if (f->number == TP_RAW)
        d->raw = f->bytes;
    if (f->number == TP_RAW || f->number == TP_STRING)
        d->bad |= f->wire != PB_BYTES;
}

static bool number_of(struct span s, const char *what, uint64_t *ret, struct err *e)
{
    char text[24];
    if (s.size >= sizeof(text))
        return err_set(e, ERR_INVALID, "%s: %zu digits", what, s.size);
    if (s.size)
        memcpy(text, s.data, s.size);
    text[s.size] = 0;
    return parse_u64(what, text, 0, INT64_MAX, ret, e);
}

static bool take_external(struct reader *r, struct proto *d, struct span entry)
{
    struct pb p = pb_over(entry);
    struct pb_field f;
    struct span key = {0}, value = {0};
    enum pb_result got;
    while ((got = pb_next(&p, &f)) == PB_FIELD)
        if (f.wire == PB_BYTES && f.number == 1)
            key = f.bytes;
        else if (f.wire == PB_BYTES && f.number == 2)
            value = f.bytes;
    if (got == PB_BAD)
        return err_set(r->e, ERR_INVALID, "external data: broken entry");
    if (span_is(key, "location")) {
        if (d->has_location)
            return err_set(r->e, ERR_INVALID, "external data: two locations");
        d->has_location = true;
        d->location = value;
    } else if (span_is(key, "offset")) {
        return number_of(value, "external data: offset", &d->offset, r->e);
    } else if (span_is(key, "length")) {
        d->has_length = true;
        return number_of(value, "external data: length", &d->length, r->e);
    }
    return true;
}

static bool take_field(struct reader *r, struct gtensor *t, struct proto *d, struct pb *p,
                       const struct pb_field *f)
{
    switch (f->number) {
    case TP_DIMS:
        return take_dims(r, t, f);
    case TP_TYPE:
        if (f->wire != PB_VARINT || !pb_once(p, f) || f->value == 0 || f->value > OT_LAST)
            return broken(r, t, "element type is unknown or given twice");
        t->type = (int)f->value;
        return true;
    case TP_SEGMENT:
        return broken(r, t, "data in segments is not supported");
    case TP_FLOAT:
    case TP_INT32:
    case TP_STRING:
    case TP_INT64:
    case TP_RAW:
    case TP_DOUBLE:
    case TP_UINT64:
        take_data(d, f);
        return true;
    case TP_NAME:
        if (f->wire != PB_BYTES || !pb_once(p, f))
            return broken(r, t, "bad name");
        t->name = f->bytes;
        return true;
    case TP_EXTERNAL:
        d->external = true;
        return f->wire == PB_BYTES ? take_external(r, d, f->bytes)
                                   : broken(r, t, "bad external data");
    case TP_LOCATION:
        if (f->wire != PB_VARINT || f->value > 1 || !pb_once(p, f))
            return broken(r, t, "bad data location");
        d->external |= f->value == 1;
        return true;
    default:
        return true;
    }
}

static bool sizes(struct reader *r, struct gtensor *t)
{
    char shown[SPAN_TEXT_SIZE];
    uint64_t count = 1;
    bool empty = false;
    for (int i = 0; i < t->rank; i++) {
        if (t->dims[i] < 0)
            return err_set(r->e, ERR_INVALID, "constant '%s': dim %d is %" PRId64,
                           span_text(t->name, shown), i, t->dims[i]);
        empty |= t->dims[i] == 0;
        if (t->dims[i] && __builtin_mul_overflow(count, (uint64_t)t->dims[i], &count))
            return broken(r, t, "the product of its dims is over 2^64");
    }
    if (count > UINT64_MAX / 128)
        return broken(r, t, "the product of its dims is over 2^57");
    t->count = empty ? 0 : count;
    t->bytes = (t->count * onnx_type_bits(t->type) + 7) / 8;
    return true;
}

static bool place_external(struct reader *r, struct gtensor *t, const struct proto *d)
{
    char shown[SPAN_TEXT_SIZE];
    uint32_t file;
    if (t->type == OT_STRING)
        return broken(r, t, "strings can't be external");
    if (!d->has_location)
        return broken(r, t, "external data without a location");
    if (!file_map_external(r, d->location, &file))
        return err_prefix(r->e, "constant '%s'", span_text(t->name, shown));
    const struct gfile *f = &r->m->files.items[file];
    if (d->has_length && d->length != t->bytes)
        return err_set(r->e, ERR_INVALID,
                       "constant '%s': external length %" PRIu64
                       ", its type and dims take %" PRIu64,
                       span_text(t->name, shown), d->length, t->bytes);
    if (d->offset > f->map.size || t->bytes > f->map.size - d->offset)
        return err_set(r->e, ERR_INVALID,
                       "constant '%s': bytes %" PRIu64 " + %" PRIu64 " lie outside of '%s' (%zu)",
                       span_text(t->name, shown), d->offset, t->bytes, f->name, f->map.size);
    t->file = file;
    t->data = f->map.data ? f->map.data + d->offset : (const uint8_t *)"";
    return true;
}

/* Which typed field a type uses, and the width of its packed items there (0: varints). */
static uint32_t typed_field(int type, size_t *width)
{
    *width = 0;
    switch (type) {
    case OT_FLOAT:
    case OT_COMPLEX64:
        *width = 4;
        return TP_FLOAT;
    case OT_DOUBLE:
    case OT_COMPLEX128:
        *width = 8;
        return TP_DOUBLE;
    case OT_INT64:
        return TP_INT64;
    case OT_UINT32:
    case OT_UINT64:
        return TP_UINT64;
    case OT_STRING:
        return TP_STRING;
    default:
        return TP_INT32;
    }
}

static bool own(struct reader *r, struct gtensor *t, uint64_t bytes)
{
    if (bytes > ONNX_OWNED_MAX - r->m->owned_bytes)
        return err_set(r->e, ERR_TOO_LARGE, "constants that need unpacking: more than %zu bytes",
                       ONNX_OWNED_MAX);
    t->owned = malloc(bytes ? (size_t)bytes : 1);
    if (!t->owned)
        return err_set(r->e, ERR_MEMORY, "constant: no memory for %" PRIu64 " bytes", bytes);
    r->m->owned_bytes += (size_t)bytes;
    t->data = t->owned;
    return true;
}

/* One item of a typed field to the packed form. */
static bool put_item(struct gtensor *t, uint64_t *at, uint64_t value, size_t size)
{
    if (*at + size > t->bytes)
        return false;
    for (size_t i = 0; i < size; i++)
        t->owned[*at + i] = (uint8_t)(value >> (8 * i));
    *at += size;
    return true;
}

static bool unpack_field(struct gtensor *t, const struct pb_field *f, size_t width, size_t size,
                         uint64_t *at)
{
    if (f->wire != PB_BYTES)
        return (f->wire == PB_VARINT) == (width == 0) && put_item(t, at, f->value, size);
    struct pb p = pb_over(f->bytes);
    while (p.at < p.end) {
        uint64_t value = 0;
        if (width == 0) {
            if (!pb_varint(&p, &value))
                return false;
        } else {
            if ((size_t)(p.end - p.at) < width)
                return false;
            memcpy(&value, p.at, width);
            p.at += width;
        }
        if (!put_item(t, at, value, size))
            return false;
    }
    return true;
}

static bool place_typed(struct reader *r, struct gtensor *t, const struct proto *d)
{
    size_t width, size = onnx_type_bits(t->type) / 8;
    uint32_t field = typed_field(t->type, &width);
    if (d->data_field != field)
        return broken(r, t, "its data stands in a field of another element type");
    if (width)
        size = width; /* complex numbers are two items */
    if (size == 0)
        size = 1; /* packed types: one byte an item */
    struct pb p = pb_over(d->message);
    struct pb_field f;
    while (pb_next(&p, &f) == PB_FIELD)
        if (width && f.number == field && f.wire == PB_BYTES && f.bytes.size == t->bytes) {
            t->data = f.bytes.data;
            break;
        }
    if (t->data) { /* in place: only if nothing else stands in the field */
        while (pb_next(&p, &f) == PB_FIELD)
            if (f.number == field)
                return broken(r, t, "more data than its type and dims take");
        return true;
    }
    uint64_t at = 0;
    if (t->bytes > d->message.size * 8)
        return broken(r, t, "less data than its type and dims take");
    if (!own(r, t, t->bytes))
        return false;
    p = pb_over(d->message);
    while (pb_next(&p, &f) == PB_FIELD)
        if (f.number == field && !unpack_field(t, &f, width, size, &at))
            return broken(r, t, "more data than its type and dims take, or broken data");
    return at == t->bytes || broken(r, t, "less data than its type and dims take");
}

static bool place_strings(struct reader *r, struct gtensor *t, const struct proto *d)
{
    struct pb p = pb_over(d->message);
    struct pb_field f;
    uint64_t count = 0, bytes = 0, at = 0;
    while (pb_next(&p, &f) == PB_FIELD)
        if (f.number == TP_STRING) {
            count++;
            bytes += 8 + f.bytes.size;
        }
    if (count != t->count)
        return broken(r, t, "as many strings as its dims say are not there");
    if (!own(r, t, bytes))
        return false;
    t->bytes = bytes;
    p = pb_over(d->message);
    while (pb_next(&p, &f) == PB_FIELD)
        if (f.number == TP_STRING) {
            if (!put_item(t, &at, f.bytes.size, 8) || f.bytes.size > t->bytes - at)
                return broken(r, t, "changes while it is read");
            if (f.bytes.size)
                memcpy(t->owned + at, f.bytes.data, f.bytes.size);
            at += f.bytes.size;
        }
    return true;
}

static bool place(struct reader *r, struct gtensor *t, const struct proto *d)
{
    char shown[SPAN_TEXT_SIZE];
    if (d->two_fields || (d->external && d->data_field))
        return broken(r, t, "holds data in two ways at once");
    if (d->bad)
        return broken(r, t, "broken data field");
    if (d->external)
        return place_external(r, t, d);
    if (t->type == OT_STRING)
        return place_strings(r, t, d);
    if (d->data_field && d->data_field != TP_RAW)
        return place_typed(r, t, d);
    if (d->raw.size != t->bytes)
        return err_set(r->e, ERR_INVALID,
                       "constant '%s': holds %zu bytes, its type and dims take %" PRIu64,
                       span_text(t->name, shown), d->raw.size, t->bytes);
    t->data = d->raw.size ? d->raw.data : (const uint8_t *)"";
    return true;
}

bool read_tensor(struct reader *r, struct span message, uint32_t at)
{
    struct gtensor t = {.message = message};
    struct proto d = {.message = message};
    struct pb p = pb_over(message);
    struct pb_field f;
    enum pb_result got;
    while ((got = pb_next(&p, &f)) == PB_FIELD)
        if (!take_field(r, &t, &d, &p, &f))
            return false;
    if (got == PB_BAD)
        return broken(r, &t, "cut short or broken");
    if (t.type == 0)
        return broken(r, &t, "has no element type");
    bool ok = sizes(r, &t) && place(r, &t, &d);
    r->m->tensors.items[at] = t;
    return ok;
}

static bool from_list(struct reader *r, const struct gattr *a, uint32_t at)
{
    const struct onnx *m = r->m;
    struct gtensor t = {.rank = 1, .count = a->count};
    bool single = a->type == AT_FLOAT || a->type == AT_INT || a->type == AT_STRING;
    if (single) {
        t.rank = 0;
        t.count = 1;
    }
    t.dims[0] = (int64_t)t.count;
    if (a->type == AT_STRING || a->type == AT_STRINGS) {
        t.type = OT_STRING;
        const struct span *s = single ? &a->s : m->spans.items + a->first;
        for (uint64_t i = 0; i < t.count; i++)
            t.bytes += 8 + s[i].size;
        if (!own(r, &t, t.bytes))
            return false;
        uint64_t to = 0;
        for (uint64_t i = 0; i < t.count; i++) {
            put_item(&t, &to, s[i].size, 8);
            if (s[i].size)
                memcpy(t.owned + to, s[i].data, s[i].size);
            to += s[i].size;
        }
        r->m->tensors.items[at] = t;
        return true;
    }
    bool ints = a->type == AT_INT || a->type == AT_INTS;
    t.type = ints ? OT_INT64 : OT_FLOAT;
    t.bytes = t.count * (ints ? sizeof(int64_t) : sizeof(float));
    if (!own(r, &t, t.bytes))
        return false;
    const void *from = ints ? (single ? (const void *)&a->i : m->ints.items + a->first)
                            : (single ? (const void *)&a->f : m->floats.items + a->first);
    if (t.bytes)
        memcpy(t.owned, from, (size_t)t.bytes);
    r->m->tensors.items[at] = t;
    return true;
}

bool read_constant_node(struct reader *r, const struct gnode *node, uint32_t *ret)
{
    char shown[SPAN_TEXT_SIZE];
    *ret = ONNX_NONE;
    if (!onnx_is_op(node, "Constant"))
        return true;
    if (node->attr_count != 1 || node->in_count != 0 || node->out_count != 1)
        return err_set(r->e, ERR_INVALID,
                       "Constant node '%s': should have one attribute and one output",
                       span_text(node->name, shown));
    struct gattr a = r->m->attrs.items[node->attr_first];
    if (a.ref.size)
        return true; /* in a function: the caller says which */
    if (a.type == AT_TENSOR && span_is(a.name, "value")) {
        *ret = a.first;
        return true;
    }
    static const struct {
        const char *name;
        enum attr_type type;
    } forms[] = {{"value_float", AT_FLOAT},   {"value_floats", AT_FLOATS},
                 {"value_int", AT_INT},       {"value_ints", AT_INTS},
                 {"value_string", AT_STRING}, {"value_strings", AT_STRINGS}};
    for (size_t i = 0; i < ARRAY_LEN(forms); i++)
        if (span_is(a.name, forms[i].name) && a.type == forms[i].type) {
            if (!POOL_ADD(r->m->tensors, 1, ONNX_VALUES_MAX, "constants", r->e))
                return false;
            *ret = r->m->tensors.count - 1;
            return from_list(r, &a, *ret);
        }
    return err_set(r->e, ERR_UNSUPPORTED,
                   "Constant node '%s': attribute '%.*s' is of no known form",
                   span_text(node->name, shown), (int)num_min(a.name.size, 32),
                   (const char *)(a.name.size ? a.name.data : (const uint8_t *)""));
}

/* Gives a large constant's mapped pages back: reading 5 GB must not keep 5 GB. */
static void forget(const struct gtensor *t)
{
    uintptr_t page = 4096, from = ((uintptr_t)t->data + page - 1) & ~(page - 1);
    uintptr_t to = ((uintptr_t)t->data + (uintptr_t)t->bytes) & ~(page - 1);
    if (!t->owned && t->bytes >= FORGET_MIN && to > from)
        (void)madvise((void *)from, to - from, MADV_DONTNEED);
}

bool onnx_tensor_digest(struct onnx *m, uint32_t tensor, struct err *e)
{
    struct gtensor *t = &m->tensors.items[tensor];
    if (t->has_digest)
        return true;
    struct digest_ctx *c = digest_start();
    if (!c)
        return err_set(e, ERR_MEMORY, "digest: no memory");
    int64_t head[2 + ONNX_RANK_MAX] = {t->type, t->rank};
    memcpy(head + 2, t->dims, (size_t)t->rank * sizeof(t->dims[0]));
    digest_add(c, head, sizeof(head[0]) * (size_t)(2 + t->rank));
    digest_add(c, t->data, (size_t)t->bytes);
    t->digest = digest_finish(c);
    t->has_digest = true;
    forget(t);
    return true;
}
