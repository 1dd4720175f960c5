/* frame.c - header and parts as one body. */
#include "wire/frame.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define FRAME_PREFIX 8
#define FRAME_ALIGN 8 /* the header ends with spaces, so that the first part is aligned */

static const char magic[4] = {'S', '2', 'F', '1'};

bool frame_head(json_t *header, const struct frame_part *parts, int count, char **ret,
                size_t *ret_size, struct err *e)
{
    if (count > WIRE_PARTS_MAX)
        return err_set(e, ERR_TOO_LARGE, "frame: %d parts, more than the limit of %d", count,
                       WIRE_PARTS_MAX);
    json_t *sizes = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(sizes, json_integer((json_int_t)parts[i].size));
    json_object_set_new(header, "parts", sizes);
    char *text = json_text(header);
    size_t length = text ? strlen(text) : 0;
    size_t size = (length + FRAME_ALIGN - 1) / FRAME_ALIGN * FRAME_ALIGN;
    char *out = text && size <= WIRE_HEADER_MAX ? malloc(FRAME_PREFIX + size) : NULL;
    if (!out) {
        free(text);
        return err_set(e, size > WIRE_HEADER_MAX ? ERR_TOO_LARGE : ERR_MEMORY,
                       "frame: header of %zu bytes, limit %u", size, WIRE_HEADER_MAX);
    }
    memcpy(out, magic, sizeof(magic));
    for (int i = 0; i < 4; i++)
        out[4 + i] = (char)(size >> (8 * i) & 255);
    memset(out + FRAME_PREFIX, ' ', size);
    memcpy(out + FRAME_PREFIX, text, length);
    free(text);
    *ret = out;
    *ret_size = FRAME_PREFIX + size;
    return true;
}

static bool read_parts(struct frame *f, size_t at, struct err *e)
{
    json_t *sizes;
    if (!json_need_array(f->header, "frame", "parts", WIRE_PARTS_MAX, &sizes, e))
        return false;
    size_t total = mem_size(f->mem);
    const char *data = mem_data(f->mem);
    for (size_t i = 0; i < json_array_size(sizes); i++) {
        const json_t *v = json_array_get(sizes, i);
        json_int_t n = json_is_integer(v) ? json_integer_value(v) : -1;
        if (n < 0 || (uint64_t)n > total - at)
            return err_set(e, ERR_INVALID, "frame: part %zu lies outside of the body of %zu bytes",
                           i, total);
        f->parts[f->part_count++] = (struct frame_part){data + at, (size_t)n};
        at += (size_t)n;
    }
    if (at != total)
        return err_set(e, ERR_INVALID, "frame: %zu bytes after the last part", total - at);
    return true;
}

bool frame_read(struct mem *body, struct frame *ret, struct err *e)
{
    size_t total = mem_size(body);
    const unsigned char *data = mem_data(body);
    if (total < FRAME_PREFIX || memcmp(data, magic, sizeof(magic)) != 0)
        return err_set(e, ERR_INVALID, "frame: does not begin with S2F1");
    size_t size =
        (size_t)data[4] | (size_t)data[5] << 8 | (size_t)data[6] << 16 | (size_t)data[7] << 24;
    if (size > WIRE_HEADER_MAX)
        return err_set(e, ERR_TOO_LARGE, "frame: header of %zu bytes, limit %u", size,
                       WIRE_HEADER_MAX);
    if (size > total - FRAME_PREFIX)
        return err_set(e, ERR_INVALID, "frame: header of %zu bytes in a body of %zu", size, total);
    struct frame f = {.header = json_parse("frame", (const char *)data + FRAME_PREFIX, size, e)};
    if (!f.header)
        return false;
    f.mem = mem_ref(body);
    if (!read_parts(&f, FRAME_PREFIX + size, e)) {
        frame_clear(&f);
        return false;
    }
    *ret = f;
    return true;
}

void frame_clear(struct frame *f)
{
    json_decref(f->header);
    mem_unref(f->mem);
    *f = (struct frame){0};
}

static void unref_mem(void *arg)
{
    mem_unref(arg);
}

struct mem *frame_part_mem(const struct frame *f, uint64_t index)
{
    if (index >= (uint64_t)f->part_count)
        return NULL;
    const struct frame_part *p = &f->parts[index];
    struct mem *m = mem_wrap((void *)(uintptr_t)p->data, p->size, unref_mem, f->mem);
    if (m)
        (void)mem_ref(f->mem);
    return m;
}
