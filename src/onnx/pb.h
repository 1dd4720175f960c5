/* pb.h - a walker over protobuf's wire format, in place and bounded by the bytes given.
 *
 * Why not protobuf-c: it would copy a whole model, weights included, to the heap.  This walker only
 * points into the mapping.  Nothing is assumed of the bytes: every length is checked against what
 * is left. */
#pragma once
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Bytes somewhere else; borrowed. */
struct span {
    const uint8_t *data;
    size_t size;
};

#define SPAN_LIT(text) ((struct span){(const uint8_t *)(text), sizeof(text) - 1})

enum pb_wire { PB_VARINT = 0, PB_FIXED64 = 1, PB_BYTES = 2, PB_FIXED32 = 5 };

struct pb {
    const uint8_t *at, *end;
    uint64_t seen; /* one bit per field number that pb_once() has met */
};

struct pb_field {
    uint32_t number;
    enum pb_wire wire;
    uint64_t value;       /* PB_VARINT and the fixed ones */
    struct span bytes;    /* PB_BYTES */
    const uint8_t *start; /* of the field's tag */
    const uint8_t *end;   /* one after the field */
};

enum pb_result { PB_FIELD, PB_END, PB_BAD };

static inline struct pb pb_over(struct span s)
{
    const uint8_t *from = s.data ? s.data : (const uint8_t *)"";
    return (struct pb){.at = from, .end = from + s.size};
}

/* The next field; PB_BAD: cut short, a bad tag, a group. */
enum pb_result pb_next(struct pb *p, struct pb_field *ret);

/* A varint from the front; false when cut short or over 64 bits. */
bool pb_varint(struct pb *p, uint64_t *ret);

/* false if field f (number below 64) was here before: two readers could take different ones. */
bool pb_once(struct pb *p, const struct pb_field *f);

bool span_equal(struct span a, struct span b);
bool span_is(struct span a, const char *text);

/* A name for an error text: at most 63 bytes, without control characters. Returns buf. */
#define SPAN_TEXT_SIZE 68
const char *span_text(struct span s, char buf[SPAN_TEXT_SIZE]);
