/* frame.c - head and parts as one body. */
#include "wire/frame.h"

#include "base/num.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_FIXED 11 /* magic, size of the head, kind, number of parts */
#define FRAME_ALIGN 8  /* so that the first part is aligned for any type */

static const char magic[4] = {'S', '2', 'F', '2'};

/* ---- writing ------------------------------------------------------------------------------ */

static void put(struct frame_out *f, uint64_t v, int bytes)
{
    unsigned char b[8];
    for (int i = 0; i < bytes; i++)
        b[i] = (unsigned char)(v >> (8 * i) & 255);
    buf_add(&f->head, b, (size_t)bytes);
}

/* The sizes of the parts come before the fields, and are known last: room for them is made in
 * frame_end() by moving the fields up. */
void frame_begin(struct frame_out *f, enum frame_kind kind)
{
    f->head = (struct buf)BUF_INIT(WIRE_HEADER_MAX);
    f->part_count = 0;
    f->failed = false;
    buf_add(&f->head, magic, sizeof(magic));
    put(f, 0, 4);
    put(f, (uint64_t)kind, 1);
    put(f, 0, 2);
}

void frame_u8(struct frame_out *f, uint8_t v)
{
    put(f, v, 1);
}

void frame_u64(struct frame_out *f, uint64_t v)
{
    put(f, v, 8);
}

void frame_double(struct frame_out *f, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    put(f, bits, 8);
}

void frame_text(struct frame_out *f, const char *text)
{
    size_t n = strlen(text);
    if (n > UINT16_MAX)
        f->failed = true;
    put(f, n, 2);
    buf_add(&f->head, text, n);
}

void frame_long_text(struct frame_out *f, const char *text, size_t size)
{
    put(f, size, 4);
    buf_add(&f->head, text, size);
}

void frame_part(struct frame_out *f, const void *data, size_t size)
{
    if (f->part_count >= WIRE_PARTS_MAX) {
        f->failed = true;
        return;
    }
    f->parts[f->part_count++] = (struct frame_part){data, size};
}

void frame_tensor(struct frame_out *f, const struct tensor *t)
{
    put(f, (uint64_t)t->dtype, 1);
    put(f, (uint64_t)t->shape.rank, 1);
    for (int i = 0; i < t->shape.rank; i++)
        put(f, (uint64_t)t->shape.dims[i], 8);
    frame_part(f, t->data, t->bytes);
}

bool frame_end(struct frame_out *f, const char *what, struct err *e)
{
    static const unsigned char zeros[FRAME_ALIGN];
    size_t table = 8 * (size_t)f->part_count, fields = f->head.size - FRAME_FIXED;
    if (f->failed)
        return err_set(e, ERR_TOO_LARGE, "%s: more than %d parts, or a text of more than %d bytes",
                       what, WIRE_PARTS_MAX, UINT16_MAX);
    char *room = buf_reserve(&f->head, table);
    if (room) {
        f->head.size += table;
        memmove(f->head.data + FRAME_FIXED + table, f->head.data + FRAME_FIXED, fields);
        for (int i = 0; i < f->part_count; i++)
            for (int b = 0; b < 8; b++)
                f->head.data[FRAME_FIXED + 8 * i + b] =
                    (char)((uint64_t)f->parts[i].size >> (8 * b) & 255);
        buf_add(&f->head, zeros, (FRAME_ALIGN - f->head.size % FRAME_ALIGN) % FRAME_ALIGN);
    }
    if (!buf_ok(&f->head, what, e))
        return false;
    for (int b = 0; b < 4; b++)
        f->head.data[4 + b] = (char)(f->head.size >> (8 * b) & 255);
    f->head.data[9] = (char)(f->part_count & 255);
    f->head.data[10] = (char)(f->part_count >> 8);
    return true;
}

void frame_out_clear(struct frame_out *f)
{
    buf_clear(&f->head);
    f->part_count = 0;
}

/* ---- reading ------------------------------------------------------------------------------ */

static uint64_t get(const unsigned char *at, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)at[i] << (8 * i);
    return v;
}

static void fail(struct frame_in *f, const char *name, const char *why)
{
    if (!f->bad)
        err_set(f->e, ERR_INVALID, "%s: '%s' %s", f->what, name, why);
    f->bad = true;
}

static uint64_t take(struct frame_in *f, const char *name, int bytes)
{
    if (f->bad || f->end - f->at < bytes) {
        fail(f, name, "is missing");
        return 0;
    }
    uint64_t v = get(f->at, bytes);
    f->at += bytes;
    return v;
}

static bool parts_fit(const struct frame_in *f, size_t total)
{
    size_t at = f->part_at;
    for (int i = 0; i < f->part_count; i++) {
        uint64_t size = get(f->sizes + 8 * i, 8);
        if (size > total - at)
            return false;
        at += (size_t)size;
    }
    return at == total;
}

bool frame_open(struct frame_in *f, struct mem *body, enum frame_kind kind, const char *what,
                struct err *e)
{
    size_t total = mem_size(body);
    const unsigned char *data = mem_data(body);
    *f = (struct frame_in){.mem = body, .what = what, .e = e};
    if (total < FRAME_FIXED || memcmp(data, magic, sizeof(magic)) != 0)
        return err_set(e, ERR_INVALID, "%s: the body does not begin with S2F2", what);
    size_t head = (size_t)get(data + 4, 4);
    size_t parts = (size_t)get(data + 9, 2);
    if (head > WIRE_HEADER_MAX || head > total || head % FRAME_ALIGN != 0)
        return err_set(e, ERR_INVALID, "%s: a head of %zu bytes in a body of %zu (limit %u)", what,
                       head, total, WIRE_HEADER_MAX);
    if (data[8] != kind)
        return err_set(e, ERR_INVALID, "%s: the body is a message of kind %d, should be %d", what,
                       data[8], (int)kind);
    if (parts > WIRE_PARTS_MAX || FRAME_FIXED + 8 * parts > head)
        return err_set(e, ERR_INVALID, "%s: %zu parts, limit %d", what, parts, WIRE_PARTS_MAX);
    f->part_count = (int)parts;
    f->sizes = data + FRAME_FIXED;
    f->at = f->sizes + 8 * parts;
    f->end = data + head;
    f->part_at = head;
    return parts_fit(f, total) ||
           err_set(e, ERR_INVALID, "%s: the parts do not add up to the body's %zu bytes", what,
                   total);
}

uint8_t frame_read_u8(struct frame_in *f)
{
    return (uint8_t)take(f, "a field", 1);
}

uint32_t frame_read_u32(struct frame_in *f, const char *name, uint32_t max)
{
    return (uint32_t)frame_read_u64(f, name, max) * (uint32_t)!f->bad;
}

uint64_t frame_read_u64(struct frame_in *f, const char *name, uint64_t max)
{
    uint64_t v = take(f, name, 8);
    if (!f->bad && v > max)
        fail(f, name, "is over its limit");
    return f->bad ? 0 : v;
}

double frame_read_double(struct frame_in *f, const char *name)
{
    uint64_t bits = take(f, name, 8);
    double v;
    memcpy(&v, &bits, sizeof(v));
    if (!f->bad && !(v >= 0 && v <= 1e9))
        fail(f, name, "is no time");
    return f->bad ? 0 : v;
}

void frame_read_text(struct frame_in *f, const char *name, char *to, size_t size, bool may_be_empty)
{
    size_t n = (size_t)take(f, name, 2);
    to[0] = 0;
    if (f->bad)
        return;
    if ((size_t)(f->end - f->at) < n)
        fail(f, name, "is cut off");
    else if (n >= size || (n == 0 && !may_be_empty))
        fail(f, name, n ? "is too long" : "is empty");
    else if (memchr(f->at, 0, n))
        fail(f, name, "holds a zero byte");
    if (f->bad)
        return;
    memcpy(to, f->at, n);
    to[n] = 0;
    f->at += n;
}

char *frame_read_long_text(struct frame_in *f, const char *name, size_t max)
{
    size_t n = (size_t)take(f, name, 4);
    if (!f->bad && (n > max || n > (size_t)(f->end - f->at)))
        fail(f, name, "is too long");
    if (f->bad)
        return NULL;
    char *text = malloc(n + 1);
    if (!text) {
        fail(f, name, "finds no memory");
        return NULL;
    }
    memcpy(text, f->at, n);
    text[n] = 0;
    f->at += n;
    return text;
}

static void unref_mem(void *arg)
{
    mem_unref(arg);
}

/* Offset and size of the next part. */
static bool next_part(struct frame_in *f, size_t *at, size_t *size)
{
    if (!f->bad && f->part_next >= f->part_count)
        fail(f, "part", "is missing");
    if (f->bad)
        return false;
    *at = f->part_at;
    *size = (size_t)get(f->sizes + 8 * f->part_next++, 8);
    f->part_at += *size;
    return true;
}

struct mem *frame_read_part(struct frame_in *f)
{
    size_t at, size;
    if (!next_part(f, &at, &size))
        return NULL;
    struct mem *m = mem_wrap((char *)mem_data(f->mem) + at, size, unref_mem, f->mem);
    if (m)
        (void)mem_ref(f->mem);
    else
        fail(f, "part", "finds no memory");
    return m;
}

void frame_read_tensor(struct frame_in *f, struct tensor *ret)
{
    struct shape s = {0};
    size_t at, size;
    enum dtype type = (enum dtype)take(f, "type of a tensor", 1);
    s.rank = (int)take(f, "rank of a tensor", 1);
    *ret = (struct tensor){0};
    if (!f->bad && s.rank > TENSOR_RANK_MAX)
        fail(f, "rank of a tensor", "is over its limit");
    for (int i = 0; !f->bad && i < s.rank; i++)
        s.dims[i] = (int64_t)take(f, "dimension of a tensor", 8);
    if (next_part(f, &at, &size) && !tensor_over(type, &s, f->mem, at, size, ret, f->e))
        f->bad = true;
}

bool frame_close(struct frame_in *f)
{
    for (; !f->bad && f->at < f->end; f->at++)
        if (*f->at != 0 || f->end - f->at >= FRAME_ALIGN)
            fail(f, "head", "has bytes left over");
    if (!f->bad && f->part_next != f->part_count)
        fail(f, "parts", "are left over");
    return !f->bad;
}
