/* emit.h - protobuf fields to a buffer. */
#pragma once
#include "base/buf.h"
#include "onnx/pb.h"

void emit_varint(struct buf *b, uint64_t value);
void emit_number(struct buf *b, uint32_t field, uint64_t value);
void emit_bytes(struct buf *b, uint32_t field, const void *data, size_t size);
void emit_text(struct buf *b, uint32_t field, const char *text);
/* The content of inner as one field; inner is emptied. false: it was over its ceiling. */
bool emit_message(struct buf *b, uint32_t field, struct buf *inner);
/* Fields 13 and 14 of a TensorProto: its bytes lie in another file. */
void emit_external(struct buf *b, const char *location, uint64_t offset, uint64_t bytes);
