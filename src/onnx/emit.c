/* emit.c - protobuf fields to a buffer. */
#include "onnx/emit.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void emit_varint(struct buf *b, uint64_t value)
{
    uint8_t bytes[10];
    size_t n = 0;
    do {
        bytes[n++] = (uint8_t)(value & 0x7f) | (value > 0x7f ? 0x80 : 0);
        value >>= 7;
    } while (value);
    buf_add(b, bytes, n);
}

void emit_number(struct buf *b, uint32_t field, uint64_t value)
{
    emit_varint(b, (uint64_t)field << 3 | PB_VARINT);
    emit_varint(b, value);
}

void emit_bytes(struct buf *b, uint32_t field, const void *data, size_t size)
{
    emit_varint(b, (uint64_t)field << 3 | PB_BYTES);
    emit_varint(b, size);
    buf_add(b, data, size);
}

void emit_text(struct buf *b, uint32_t field, const char *text)
{
    emit_bytes(b, field, text, strlen(text));
}

bool emit_message(struct buf *b, uint32_t field, struct buf *inner)
{
    bool ok = !inner->failed;
    if (ok)
        emit_bytes(b, field, inner->data ? inner->data : "", inner->size);
    buf_clear(inner);
    return ok;
}

static void external_entry(struct buf *b, const char *key, const char *value)
{
    struct buf inner = BUF_INIT(1024);
    emit_text(&inner, 1, key);
    emit_text(&inner, 2, value);
    (void)emit_message(b, 13, &inner);
}

void emit_external(struct buf *b, const char *location, uint64_t offset, uint64_t bytes)
{
    char number[24];
    external_entry(b, "location", location);
    (void)snprintf(number, sizeof(number), "%" PRIu64, offset);
    external_entry(b, "offset", number);
    (void)snprintf(number, sizeof(number), "%" PRIu64, bytes);
    external_entry(b, "length", number);
    emit_number(b, 14, 1);
}
