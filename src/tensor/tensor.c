/* tensor.c - types, shapes, counted bytes. */
#include "tensor/tensor.h"

#include "base/num.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dtype_row {
    const char *json, *oip;
    int onnx;
    size_t size;
};

#define TENSOR_ROW(id, json, oip, onnx, size) [id] = {json, oip, onnx, size},
static const struct dtype_row rows[DT_COUNT] = {[DT_NONE] = {"none", "NONE", 0, 0},
                                                TENSOR_TYPES(TENSOR_ROW)};
#undef TENSOR_ROW

struct mem {
    atomic_uint refs;
    size_t size;
    void *data;
    void (*release)(void *arg);
    void *arg;
};

static const struct dtype_row *row(enum dtype t)
{
    return &rows[(unsigned)t < DT_COUNT ? t : DT_NONE];
}

const char *dtype_name(enum dtype t)
{
    return row(t)->json;
}

const char *dtype_oip(enum dtype t)
{
    return row(t)->oip;
}

int dtype_onnx(enum dtype t)
{
    return row(t)->onnx;
}

size_t dtype_size(enum dtype t)
{
    return row(t)->size;
}

enum dtype dtype_from_name(const char *name)
{
    for (int i = 1; i < DT_COUNT; i++)
        if (strcmp(rows[i].json, name) == 0)
            return (enum dtype)i;
    return DT_NONE;
}

enum dtype dtype_from_oip(const char *name)
{
    for (int i = 1; i < DT_COUNT; i++)
        if (strcmp(rows[i].oip, name) == 0)
            return (enum dtype)i;
    return DT_NONE;
}

enum dtype dtype_from_onnx(int number)
{
    for (int i = 1; i < DT_COUNT; i++)
        if (rows[i].onnx == number)
            return (enum dtype)i;
    return DT_NONE;
}

struct mem *mem_wrap(void *data, size_t size, void (*release)(void *arg), void *arg)
{
    struct mem *m = malloc(sizeof(*m));
    if (!m)
        return NULL;
    *m = (struct mem){.size = size, .data = data, .release = release, .arg = arg};
    atomic_init(&m->refs, 1);
    return m;
}

struct mem *mem_new(size_t size)
{
    void *data = calloc(1, size ? size : 1);
    struct mem *m = data ? mem_wrap(data, size, free, data) : NULL;
    if (!m)
        free(data);
    return m;
}

struct mem *mem_ref(struct mem *m)
{
    if (m)
        atomic_fetch_add(&m->refs, 1);
    return m;
}

void mem_unref(struct mem *m)
{
    if (!m || atomic_fetch_sub(&m->refs, 1) != 1)
        return;
    if (m->release)
        m->release(m->arg);
    free(m);
}

void *mem_data(struct mem *m)
{
    return m->data;
}

size_t mem_size(const struct mem *m)
{
    return m->size;
}

bool tensor_bytes(enum dtype t, const struct shape *s, size_t *ret, struct err *e)
{
    size_t bytes = dtype_size(t);
    if (bytes == 0)
        return err_set(e, ERR_INVALID, "tensor: unknown element type %d", (int)t);
    if (s->rank < 0 || s->rank > TENSOR_RANK_MAX)
        return err_set(e, ERR_INVALID, "tensor: rank %d, more than the limit of %d", s->rank,
                       TENSOR_RANK_MAX);
    bool empty = false;
    for (int i = 0; i < s->rank; i++) {
        if (s->dims[i] < 0)
            return err_set(e, ERR_INVALID, "tensor: dimension %d is %" PRId64, i, s->dims[i]);
        if (s->dims[i] == 0)
            empty = true;
        else if (!num_mul(bytes, (size_t)s->dims[i], &bytes) || bytes > TENSOR_BYTES_MAX)
            return err_set(e, ERR_TOO_LARGE, "tensor: more than the limit of %zu bytes",
                           TENSOR_BYTES_MAX);
    }
    *ret = empty ? 0 : bytes;
    return true;
}

size_t shape_count(const struct shape *s)
{
    size_t n = 1;
    for (int i = 0; i < s->rank; i++)
        n *= (size_t)s->dims[i];
    return n;
}

bool shape_fits(const struct shape *want, const struct shape *have)
{
    if (want->rank != have->rank)
        return false;
    for (int i = 0; i < want->rank; i++)
        if (want->dims[i] >= 0 && want->dims[i] != have->dims[i])
            return false;
    return true;
}

bool shape_equal(const struct shape *a, const struct shape *b)
{
    return a->rank == b->rank &&
           memcmp(a->dims, b->dims, (size_t)a->rank * sizeof(a->dims[0])) == 0;
}

const char *shape_text(const struct shape *s, char *buf, size_t size)
{
    size_t n = (size_t)snprintf(buf, size, "[");
    for (int i = 0; i < s->rank && n < size; i++)
        n += (size_t)snprintf(buf + n, size - n, "%s%" PRId64, i ? "," : "", s->dims[i]);
    if (n < size)
        (void)snprintf(buf + n, size - n, "]");
    return buf;
}

bool tensor_new(enum dtype t, const struct shape *s, struct tensor *ret, struct err *e)
{
    size_t bytes;
    if (!tensor_bytes(t, s, &bytes, e))
        return false;
    struct mem *m = mem_new(bytes);
    if (!m)
        return err_set(e, ERR_MEMORY, "tensor: no memory for %zu bytes", bytes);
    *ret = (struct tensor){.dtype = t, .shape = *s, .data = m->data, .bytes = bytes, .mem = m};
    return true;
}

bool tensor_over(enum dtype t, const struct shape *s, struct mem *m, size_t offset, size_t size,
                 struct tensor *ret, struct err *e)
{
    size_t bytes;
    char text[128];
    if (!tensor_bytes(t, s, &bytes, e))
        return false;
    if (offset > m->size || size > m->size - offset)
        return err_set(e, ERR_INVALID, "tensor: bytes %zu to %zu lie outside of %zu", offset,
                       offset + size, m->size);
    if (bytes != size)
        return err_set(e, ERR_INVALID, "tensor: %s of %s takes %zu bytes, got %zu",
                       shape_text(s, text, sizeof(text)), dtype_name(t), bytes, size);
    char *data = (char *)m->data + offset;
    if ((uintptr_t)data % dtype_size(t) != 0) {
        if (!tensor_new(t, s, ret, e))
            return false;
        if (size)
            memcpy(ret->data, data, size);
        return true;
    }
    *ret = (struct tensor){.dtype = t, .shape = *s, .data = data, .bytes = size, .mem = mem_ref(m)};
    return true;
}

struct tensor tensor_ref(const struct tensor *t)
{
    (void)mem_ref(t->mem);
    return *t;
}

void tensor_clear(struct tensor *t)
{
    mem_unref(t->mem);
    *t = (struct tensor){0};
}

bool tensor_equal(const struct tensor *a, const struct tensor *b)
{
    return a->dtype == b->dtype && shape_equal(&a->shape, &b->shape) && a->bytes == b->bytes &&
           (a->bytes == 0 || memcmp(a->data, b->data, a->bytes) == 0);
}

bool tensor_fits(const struct tensor *t, const struct port *p, struct err *e)
{
    char want[128], have[128];
    if (t->dtype != p->dtype)
        return err_set(e, ERR_INVALID, "input '%s': is %s, should be %s", p->name,
                       dtype_name(t->dtype), dtype_name(p->dtype));
    if (!shape_fits(&p->shape, &t->shape))
        return err_set(e, ERR_INVALID, "input '%s': shape %s, should be %s (-1: any)", p->name,
                       shape_text(&t->shape, have, sizeof(have)),
                       shape_text(&p->shape, want, sizeof(want)));
    return true;
}
