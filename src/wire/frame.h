/* frame.h - one small header and some binary parts as one HTTP body.
 *
 *     "S2F2" | u32 bytes of the whole head | u8 kind of message | u16 parts | u64 size of each part
 *            | fields of the message | zeros to a multiple of 8 | part 0 | part 1 | ...
 *
 * Little endian; a text is u16 bytes and then those, without a 0.  The head is binary because it
 * is written and read twice per call: as JSON that cost more than the hop itself.
 * Content type: application/x-s2m3-frame. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "tensor/tensor.h"
#include "wire/limits.h"

#define FRAME_CONTENT_TYPE "application/x-s2m3-frame"

enum frame_kind { FRAME_CALL = 1, FRAME_ANSWER, FRAME_DELIVERY };

struct frame_part {
    const void *data; /* borrowed */
    size_t size;
};

/* ---- writing ---- */

/* A frame that is being written: head, then parts[0..part_count). */
struct frame_out {
    struct buf head;
    struct frame_part parts[WIRE_PARTS_MAX];
    int part_count;
    bool failed; /* a limit was passed; said by frame_end() */
};

void frame_begin(struct frame_out *f, enum frame_kind kind);
void frame_u8(struct frame_out *f, uint8_t v);
void frame_u64(struct frame_out *f, uint64_t v);
void frame_double(struct frame_out *f, double v);
void frame_text(struct frame_out *f, const char *text);
/* The next part; the reader takes parts in the same order. */
void frame_part(struct frame_out *f, const void *data, size_t size);
void frame_tensor(struct frame_out *f, const struct tensor *t);

/* Completes the head: f->head.data, f->head.size.  Then frame_out_clear() is due, also after a
 * failure. */
bool frame_end(struct frame_out *f, const char *what, struct err *e);
void frame_out_clear(struct frame_out *f);

/* ---- reading ---- */

/* A frame that is being read.  A field that is not there, too long or out of range sets e once and
 * `bad`; reads after that give zeros, so that a run of reads needs one look at the end. */
struct frame_in {
    struct mem *mem; /* borrowed */
    const char *what;
    const unsigned char *at, *end; /* of the fields */
    size_t part_at;                /* offset of the next part */
    const unsigned char *sizes;    /* of the parts */
    int part_count, part_next;
    bool bad;
    struct err *e;
};

bool frame_open(struct frame_in *f, struct mem *body, enum frame_kind kind, const char *what,
                struct err *e);
uint8_t frame_read_u8(struct frame_in *f);
uint32_t frame_read_u32(struct frame_in *f, const char *name, uint32_t max);
uint64_t frame_read_u64(struct frame_in *f, const char *name, uint64_t max);
double frame_read_double(struct frame_in *f, const char *name); /* 0 to 1e9 */
/* Into to[size], with a 0.  may_be_empty: else at least one byte.  A text holds no 0. */
void frame_read_text(struct frame_in *f, const char *name, char *to, size_t size,
                     bool may_be_empty);
/* A longer text of at most max bytes; free().  NULL when bad. */
char *frame_read_long_text(struct frame_in *f, const char *name, size_t max);
void frame_long_text(struct frame_out *f, const char *text, size_t size);
/* The next part as counted bytes (no copy); NULL when bad. */
struct mem *frame_read_part(struct frame_in *f);
void frame_read_tensor(struct frame_in *f, struct tensor *ret); /* cleared when bad */
/* Everything read, nothing left over. */
bool frame_close(struct frame_in *f);
