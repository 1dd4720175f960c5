/* pb.c - protobuf's wire format. */
#include "onnx/pb.h"

#include <string.h>

#define FIELD_NUMBER_MAX ((1u << 29) - 1)

bool pb_varint(struct pb *p, uint64_t *ret)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (p->at == p->end)
            return false;
        uint8_t byte = *p->at++;
        if (shift == 63 && byte > 1)
            return false;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret = value;
            return true;
        }
    }
    return false;
}

static bool fixed(struct pb *p, size_t size, uint64_t *ret)
{
    if ((size_t)(p->end - p->at) < size)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value |= (uint64_t)p->at[i] << (8 * i);
    p->at += size;
    *ret = value;
    return true;
}

static bool bytes(struct pb *p, struct span *ret)
{
    uint64_t size;
    if (!pb_varint(p, &size) || size > (uint64_t)(p->end - p->at))
        return false;
    *ret = (struct span){p->at, (size_t)size};
    p->at += size;
    return true;
}

enum pb_result pb_next(struct pb *p, struct pb_field *ret)
{
    if (p->at == p->end)
        return PB_END;
    uint64_t tag;
    *ret = (struct pb_field){.start = p->at};
    if (!pb_varint(p, &tag) || tag >> 3 == 0 || tag >> 3 > FIELD_NUMBER_MAX)
        return PB_BAD;
    ret->number = (uint32_t)(tag >> 3);
    bool ok = false;
    switch (tag & 7) {
    case PB_VARINT:
        ret->wire = PB_VARINT;
        ok = pb_varint(p, &ret->value);
        break;
    case PB_FIXED64:
        ret->wire = PB_FIXED64;
        ok = fixed(p, 8, &ret->value);
        break;
    case PB_BYTES:
        ret->wire = PB_BYTES;
        ok = bytes(p, &ret->bytes);
        break;
    case PB_FIXED32:
        ret->wire = PB_FIXED32;
        ok = fixed(p, 4, &ret->value);
        break;
    default:
        break;
    }
    ret->end = p->at;
    return ok ? PB_FIELD : PB_BAD;
}

bool pb_once(struct pb *p, const struct pb_field *f)
{
    uint64_t bit = (uint64_t)1 << (f->number & 63);
    bool first = !(p->seen & bit);
    p->seen |= bit;
    return first;
}

bool span_equal(struct span a, struct span b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

bool span_is(struct span a, const char *text)
{
    return a.size == strlen(text) && (a.size == 0 || memcmp(a.data, text, a.size) == 0);
}

const char *span_text(struct span s, char buf[SPAN_TEXT_SIZE])
{
    size_t n = s.size < 63 ? s.size : 63;
    for (size_t i = 0; i < n; i++)
        buf[i] = s.data[i] < 0x20 || s.data[i] == 0x7f ? '?' : (char)s.data[i];
    memcpy(buf + n, s.size > 63 ? "..." : "", s.size > 63 ? 4 : 1);
    return buf;
}
