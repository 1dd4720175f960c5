/* frame.h - one JSON header and some binary parts as one HTTP body.
 *
 *     "S2F1" | u32 little endian: bytes of JSON | JSON | part 0 | part 1 | ...
 *
 * The JSON object's member "parts" lists the sizes in bytes; they must add up exactly.
 * Content type: application/x-s2m3-frame. */
#pragma once
#include "base/err.h"
#include "base/json.h"
#include "tensor/tensor.h"
#include "wire/limits.h"

#define FRAME_CONTENT_TYPE "application/x-s2m3-frame"

struct frame_part {
    const void *data; /* borrowed */
    size_t size;
};

/* A frame that was read: `header` is owned, parts point into `mem` (one reference). */
struct frame {
    json_t *header;
    struct mem *mem;
    struct frame_part parts[WIRE_PARTS_MAX];
    int part_count;
};

/* Builds what stands before the parts: sets "parts" in header and gives the bytes (free()).
 * The caller then sends *ret and each part in turn. */
bool frame_head(json_t *header, const struct frame_part *parts, int count, char **ret,
                size_t *ret_size, struct err *e);

/* Reads a whole body. Takes one more reference of body. */
bool frame_read(struct mem *body, struct frame *ret, struct err *e);

void frame_clear(struct frame *f);

/* A part as counted bytes of its own reference (no copy); NULL if there is no such part. */
struct mem *frame_part_mem(const struct frame *f, uint64_t index);
