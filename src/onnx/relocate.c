/* relocate.c - external constants put into one file.
 *
 * The graph is walked once more as protobuf.  A message in which nothing changed is one piece, as
 * it stands; of one in which something did, the head (tag and size) is made when its content is
 * known. */
#include "onnx/relocate.h"

#include "base/num.h"
#include "onnx/emit.h"
#include "onnx/graph.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PIECES_MAX 8000000u
#define MADE_MAX ((size_t)512 << 20)
#define PAGE 4096u
#define ALIGN 64u
#define DEPTH_MAX (4 * ONNX_DEPTH_MAX + 4) /* messages in messages; graphs are three each */

/* A constant that lies outside of the .onnx file. */
struct outside {
    uint32_t tensor, file;
    uint64_t offset;        /* in its file */
    const uint8_t *message; /* its TensorProto */
    bool kept;              /* stays external, at: */
    uint64_t at;
};

struct mover {
    const struct onnx *m;
    const char *location;
    struct relocated *r;
    struct outside *list; /* owned; by place in the .onnx file while the graph is walked */
    uint32_t count;
    uint64_t bytes; /* of all pieces so far */
    struct err *e;
};

bool onnx_is_external(const struct onnx *m)
{
    return m->files.count > 1;
}

/* ---- pieces --------------------------------------------------------------------------------- */

static bool add_piece(struct mover *x, const uint8_t *data, size_t size, size_t at)
{
    struct relocated *r = x->r;
    struct relocate_piece *last = r->count > r->data_count ? &r->pieces[r->count - 1] : NULL;
    x->bytes += size;
    if (last && last->size &&
        (data ? last->data && last->data + last->size == data
              : !last->data && last->at + last->size == at)) {
        last->size += size;
        return true;
    }
    if (!pool_room((void **)&r->pieces, &r->count, &r->capacity, sizeof(*r->pieces), 1, PIECES_MAX,
                   "pieces of a model", x->e))
        return false;
    r->pieces[r->count - 1] = (struct relocate_piece){data, size, at};
    return true;
}

static bool add_raw(struct mover *x, const uint8_t *data, uint64_t size)
{
    return size == 0 || add_piece(x, data, (size_t)size, 0);
}

/* What was appended to made since `from` becomes a piece. */
static bool add_made(struct mover *x, size_t from)
{
    return buf_ok(&x->r->made, "a model's graph", x->e) &&
           (x->r->made.size == from || add_piece(x, NULL, x->r->made.size - from, from));
}

/* ---- where constants go --------------------------------------------------------------------- */

static int by_offset(const void *a, const void *b)
{
    const struct outside *x = a, *y = b;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->tensor < y->tensor ? -1 : x->tensor > y->tensor;
}

/* Constants in other files, in their order there.  One without bytes is in no file. */
static bool list_outside(struct mover *x)
{
    const struct onnx *m = x->m;
    x->list = calloc((size_t)m->tensors.count + 1, sizeof(*x->list));
    if (!x->list)
        return err_set(x->e, ERR_MEMORY, "constants: no memory");
    for (uint32_t i = 0; i < m->tensors.count; i++) {
        const struct gtensor *t = &m->tensors.items[i];
        if (t->file && t->bytes)
            x->list[x->count++] =
                (struct outside){.tensor = i,
                                 .file = t->file,
                                 .offset = (uint64_t)(t->data - m->files.items[t->file].map.data),
                                 .message = t->message.data};
    }
    uint8_t *kept = calloc((size_t)m->tensors.count + 1, 1);
    if (!kept)
        return err_set(x->e, ERR_MEMORY, "constants: no memory");
    for (uint32_t i = 0; i < m->values.count; i++) {
        const struct gvalue *v = &m->values.items[i];
        if (v->kind == VALUE_CONST && v->graph == ONNX_MAIN && v->node == ONNX_NONE)
            kept[v->index] = m->tensors.items[v->index].bytes >= RELOCATE_INLINE;
    }
    for (uint32_t i = 0; i < x->count; i++)
        x->list[i].kept = kept[x->list[i].tensor];
    free(kept);
    qsort(x->list, x->count, sizeof(*x->list), by_offset);
    return true;
}

/* The file of data, as pieces; constants that begin at one place have the same bytes (tied
 * weights), and take them once. */
static bool place_data(struct mover *x)
{
    static const uint8_t zeros[PAGE];
    const struct outside *last = NULL, *placed = NULL;
    for (uint32_t i = 0; i < x->count; i++) {
        struct outside *o = &x->list[i];
        const struct gtensor *t = &x->m->tensors.items[o->tensor];
        if (!last || last->file != o->file || last->offset != o->offset)
            placed = NULL;
        last = o;
        if (!o->kept)
            continue;
        if (!placed) {
            uint64_t align = t->bytes >= 16 * PAGE ? PAGE : ALIGN;
            if (!add_raw(x, zeros, (align - x->bytes % align) % align))
                return false;
            o->at = x->bytes;
            if (!add_raw(x, t->data, t->bytes))
                return false;
            placed = o;
        }
        o->at = placed->at;
    }
    x->r->data_bytes = x->bytes;
    x->r->data_count = x->r->count;
    return true;
}

/* ---- the graph ------------------------------------------------------------------------------ */

/* Which fields of a message hold others that may hold constants. */
static const struct {
    enum relocate_message message;
    uint32_t field;
    enum relocate_message inner;
} fields[] = {
    {RELOCATE_MODEL, 7, RELOCATE_GRAPH},       {RELOCATE_MODEL, 25, RELOCATE_FUNCTION},
    {RELOCATE_FUNCTION, 7, RELOCATE_NODE},     {RELOCATE_GRAPH, 1, RELOCATE_NODE},
    {RELOCATE_GRAPH, 5, RELOCATE_TENSOR},      {RELOCATE_NODE, 5, RELOCATE_ATTRIBUTE},
    {RELOCATE_ATTRIBUTE, 5, RELOCATE_TENSOR},  {RELOCATE_ATTRIBUTE, 6, RELOCATE_GRAPH},
    {RELOCATE_ATTRIBUTE, 10, RELOCATE_TENSOR}, {RELOCATE_ATTRIBUTE, 11, RELOCATE_GRAPH},
};

static int by_message(const void *a, const void *b)
{
    const uint8_t *x = ((const struct outside *)a)->message,
                  *y = ((const struct outside *)b)->message;
    return x < y ? -1 : x > y;
}

static const struct outside *find_outside(const struct mover *x, struct span message)
{
    struct outside key = {.message = message.data};
    return x->count ? bsearch(&key, x->list, x->count, sizeof(*x->list), by_message) : NULL;
}

/* Where a constant's bytes are from now on, in place of fields 13 and 14.  One that is not listed
 * has none. */
static bool put_place(struct mover *x, const struct outside *o)
{
    struct buf *made = &x->r->made;
    size_t from = made->size;
    const struct gtensor *t = o ? &x->m->tensors.items[o->tensor] : NULL;
    if (!t)
        return true;
    if (!o->kept) {
        emit_varint(made, 9u << 3 | PB_BYTES); /* raw_data */
        emit_varint(made, t->bytes);
        return add_made(x, from) && add_raw(x, t->data, t->bytes);
    }
    emit_external(made, x->location, o->at, t->bytes);
    return add_made(x, from);
}

static bool put_tensor(struct mover *x, struct span message, bool *changed)
{
    struct pb p = pb_over(message);
    struct pb_field f;
    *changed = false;
    while (pb_next(&p, &f) == PB_FIELD) {
        if (f.number == 13 || f.number == 14)
            *changed |= f.number == 13 || f.value == 1;
        else if (!add_raw(x, f.start, (uint64_t)(f.end - f.start)))
            return false;
    }
    return !*changed || put_place(x, find_outside(x, message));
}

static bool put_message(struct mover *x, enum relocate_message kind, struct span message, int depth,
                        bool *changed);

/* A field that holds a message: its head goes before what is known only later. */
static bool put_field(struct mover *x, enum relocate_message inner, const struct pb_field *f,
                      int depth, bool *changed)
{
    struct relocated *r = x->r;
    uint64_t before = x->bytes;
    uint32_t head = r->count;
    bool inner_changed = false;
    if (!pool_room((void **)&r->pieces, &r->count, &r->capacity, sizeof(*r->pieces), 1, PIECES_MAX,
                   "pieces of a model", x->e) ||
        !put_message(x, inner, f->bytes, depth + 1, &inner_changed))
        return false;
    if (!inner_changed) {
        r->count = head;
        x->bytes = before;
        return add_raw(x, f->start, (uint64_t)(f->end - f->start));
    }
    struct buf *made = &r->made;
    size_t from = made->size;
    emit_varint(made, (uint64_t)f->number << 3 | PB_BYTES);
    emit_varint(made, x->bytes - before);
    r->pieces[head] = (struct relocate_piece){.size = made->size - from, .at = from};
    x->bytes += made->size - from;
    *changed = true;
    return buf_ok(made, "a model's graph", x->e);
}

static bool put_message(struct mover *x, enum relocate_message kind, struct span message, int depth,
                        bool *changed)
{
    struct pb p = pb_over(message);
    struct pb_field f;
    if (kind == RELOCATE_TENSOR)
        return put_tensor(x, message, changed);
    if (depth > DEPTH_MAX)
        return err_set(x->e, ERR_TOO_LARGE, "messages in messages: more than %d", DEPTH_MAX);
    while (pb_next(&p, &f) == PB_FIELD) {
        size_t i = 0;
        while (i < ARRAY_LEN(fields) &&
               (f.wire != PB_BYTES || fields[i].message != kind || fields[i].field != f.number))
            i++;
        if (!(i < ARRAY_LEN(fields) ? put_field(x, fields[i].inner, &f, depth, changed)
                                    : add_raw(x, f.start, (uint64_t)(f.end - f.start))))
            return false;
    }
    return true;
}

static bool move_all(struct mover *x)
{
    const struct mapping *file = &x->m->files.items[0].map;
    struct relocated *r = x->r;
    bool changed;
    if (!list_outside(x) || !place_data(x))
        return false;
    qsort(x->list, x->count, sizeof(*x->list), by_message);
    if (!put_message(x, RELOCATE_MODEL, (struct span){file->data, file->size}, 0, &changed))
        return false;
    r->graph_bytes = x->bytes - r->data_bytes;
    if (r->graph_bytes > ONNX_FILE_MAX)
        return err_set(x->e, ERR_TOO_LARGE,
                       "the graph with its small constants: %" PRIu64
                       " bytes, more than the limit of %" PRIu64,
                       r->graph_bytes, ONNX_FILE_MAX);
    for (uint32_t i = 0; i < r->count; i++)
        if (!r->pieces[i].data)
            r->pieces[i].data = (const uint8_t *)r->made.data + r->pieces[i].at;
    return true;
}

bool onnx_relocate(const struct onnx *m, const char *location, struct relocated *ret, struct err *e)
{
    *ret = (struct relocated){.made = BUF_INIT(MADE_MAX)};
    struct mover x = {.m = m, .location = location, .r = ret, .e = e};
    bool ok = move_all(&x) || err_prefix(e, "%s", m->path);
    free(x.list);
    if (!ok)
        relocated_clear(ret);
    return ok;
}

/* ---- parts -------------------------------------------------------------------------------- */

struct inliner {
    const struct onnx *m; /* kept */
    struct outside *list; /* owned; by message; none of them kept */
    uint32_t count;
};

bool inliner_new(const struct onnx *m, struct inliner **ret, struct err *e)
{
    *ret = NULL;
    if (!onnx_is_external(m))
        return true;
    struct inliner *n = calloc(1, sizeof(*n));
    struct mover x = {.m = m, .e = e};
    if (!n || !list_outside(&x)) {
        free(x.list);
        free(n);
        return n ? false : err_set(e, ERR_MEMORY, "constants: no memory");
    }
    for (uint32_t i = 0; i < x.count; i++)
        x.list[i].kept = false;
    qsort(x.list, x.count, sizeof(*x.list), by_message);
    *n = (struct inliner){m, x.list, x.count};
    *ret = n;
    return true;
}

void inliner_free(struct inliner *x)
{
    if (x)
        free(x->list);
    free(x);
}

bool inliner_put(const struct inliner *n, enum relocate_message kind, struct span message,
                 struct buf *out, struct err *e)
{
    struct relocated r = {.made = BUF_INIT(MADE_MAX)};
    struct mover x = {.m = n->m, .r = &r, .list = n->list, .count = n->count, .e = e};
    bool changed, ok = put_message(&x, kind, message, 1, &changed);
    for (uint32_t i = 0; ok && i < r.count; i++)
        buf_add(out,
                r.pieces[i].data ? (const void *)r.pieces[i].data : r.made.data + r.pieces[i].at,
                r.pieces[i].size);
    relocated_clear(&r);
    return ok;
}

void relocated_clear(struct relocated *r)
{
    free(r->pieces);
    buf_clear(&r->made);
    *r = (struct relocated){0};
}
