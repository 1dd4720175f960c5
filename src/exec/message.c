/* message.c - the runner's messages as bytes.  Native byte order: both ends are one machine. */
#include "exec/message.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define MAGIC 0x52334d53u /* "S3MR" */

struct head {
    uint32_t magic;
    uint8_t kind, texts, inline_data, zero;
    uint16_t inputs, outputs, tensors, zero2;
    uint32_t numbers[MESSAGE_NUMBERS];
    uint32_t size; /* of the whole packet */
    uint64_t id, data_bytes;
};

struct kind_row {
    const char *name;
    int texts;
    bool ports, tensors;
};

#define KIND_ROW(name, texts, ports, tensors) [MSG_##name] = {#name, texts, ports, tensors},
static const struct kind_row kinds[MSG_COUNT] = {MESSAGE_KINDS(KIND_ROW)};
#undef KIND_ROW

static uint64_t align_up(uint64_t n)
{
    return (n + MESSAGE_ALIGN - 1) / MESSAGE_ALIGN * MESSAGE_ALIGN;
}

void message_start(struct message *m, enum message_kind kind)
{
    m->kind = kind;
    m->id = 0;
    m->tensor_count = 0;
    m->data_bytes = 0;
    m->inline_data = false;
    m->data = NULL;
    m->info = (struct module_info){0};
    memset(m->numbers, 0, sizeof(m->numbers));
    memset(m->texts, 0, sizeof(m->texts));
}

void message_clear(struct message *m)
{
    info_clear(&m->info);
}

bool message_add_tensor(struct message *m, enum dtype dtype, const struct shape *shape,
                        struct err *e)
{
    size_t bytes;
    if (m->tensor_count == EXEC_PORTS_MAX)
        return err_set(e, ERR_TOO_LARGE, "message: more than %d tensors", EXEC_PORTS_MAX);
    if (!tensor_bytes(dtype, shape, &bytes, e))
        return err_prefix(e, "message: tensor %d", m->tensor_count);
    uint64_t offset = align_up(m->data_bytes);
    if (offset + bytes > MESSAGE_BYTES_MAX)
        return err_set(e, ERR_TOO_LARGE, "message: tensors of more than %llu bytes",
                       (unsigned long long)MESSAGE_BYTES_MAX);
    m->tensors[m->tensor_count++] =
        (struct message_tensor){.dtype = dtype, .shape = *shape, .offset = offset, .bytes = bytes};
    m->data_bytes = offset + bytes;
    m->inline_data = m->data_bytes <= EXEC_INLINE_MAX;
    return true;
}

/* ---- writing --------------------------------------------------------------------------------- */

struct writer {
    uint8_t *data;
    size_t at;
    bool full;
};

static void put(struct writer *w, const void *data, size_t size)
{
    if (w->full || size > MESSAGE_MAX - w->at) {
        w->full = true;
        return;
    }
    if (size > 0)
        memcpy(w->data + w->at, data, size);
    w->at += size;
}

/* u16 length, bytes, 0. */
static void put_text(struct writer *w, const char *text)
{
    size_t n = strlen(text);
    uint16_t length = (uint16_t)n;
    if (n > MESSAGE_TEXT_MAX)
        w->full = true;
    put(w, &length, sizeof(length));
    put(w, text, n + 1);
}

/* u8 type, u8 rank, i64 dims. */
static void put_type(struct writer *w, enum dtype dtype, const struct shape *s)
{
    uint8_t bytes[2] = {(uint8_t)dtype, (uint8_t)s->rank};
    put(w, bytes, sizeof(bytes));
    put(w, s->dims, (size_t)s->rank * sizeof(s->dims[0]));
}

static void put_ports(struct writer *w, const struct module_info *info)
{
    for (int i = 0; i < info->input_count; i++) {
        put_text(w, info->inputs[i].name);
        put_type(w, info->inputs[i].dtype, &info->inputs[i].shape);
        for (int k = 0; k < info->inputs[i].shape.rank; k++)
            put_text(w, info->dims[i].name[k]);
    }
    for (int i = 0; i < info->output_count; i++) {
        put_text(w, info->outputs[i].name);
        put_type(w, info->outputs[i].dtype, &info->outputs[i].shape);
    }
}

static void pad(struct writer *w)
{
    static const uint8_t zeros[MESSAGE_ALIGN];
    put(w, zeros, (size_t)align_up(w->at) - w->at);
}

static void put_data(struct writer *w, const struct message *m, const void *const *sources)
{
    pad(w);
    for (int i = 0; i < m->tensor_count; i++) {
        pad(w);
        put(w, sources[i], (size_t)m->tensors[i].bytes);
    }
}

bool message_encode(const struct message *m, const void *const *sources, uint8_t *packet,
                    size_t *ret_size, struct err *e)
{
    const struct kind_row *row = &kinds[m->kind];
    struct head h = {
        .magic = MAGIC,
        .kind = (uint8_t)m->kind,
        .texts = (uint8_t)row->texts,
        .inline_data = m->inline_data,
        .inputs = (uint16_t)m->info.input_count,
        .outputs = (uint16_t)m->info.output_count,
        .tensors = (uint16_t)m->tensor_count,
        .id = m->id,
        .data_bytes = m->data_bytes,
    };
    memcpy(h.numbers, m->numbers, sizeof(h.numbers));
    struct writer w = {.data = packet};
    put(&w, &h, sizeof(h));
    for (int i = 0; i < row->texts; i++)
        put_text(&w, m->texts[i] ? m->texts[i] : "");
    put_ports(&w, &m->info);
    for (int i = 0; i < m->tensor_count; i++)
        put_type(&w, m->tensors[i].dtype, &m->tensors[i].shape);
    if (m->inline_data)
        put_data(&w, m, sources);
    if (w.full)
        return err_set(e, ERR_TOO_LARGE, "message %s: over %zu bytes", row->name, MESSAGE_MAX);
    h.size = (uint32_t)w.at;
    memcpy(packet, &h, sizeof(h));
    *ret_size = w.at;
    return true;
}

/* ---- reading --------------------------------------------------------------------------------- */

struct reader {
    const uint8_t *data;
    size_t at, size;
};

static const uint8_t *take(struct reader *r, size_t size)
{
    if (size > r->size - r->at)
        return NULL;
    const uint8_t *p = r->data + r->at;
    r->at += size;
    return p;
}

static bool cut_short(struct err *e)
{
    return err_set(e, ERR_INVALID, "message: ends within a field");
}

static bool take_text(struct reader *r, size_t max, const char **ret, struct err *e)
{
    uint16_t length;
    const uint8_t *p = take(r, sizeof(length));
    if (!p)
        return cut_short(e);
    memcpy(&length, p, sizeof(length));
    if (length > max)
        return err_set(e, ERR_INVALID, "message: text of %u bytes, at most %zu", length, max);
    p = take(r, (size_t)length + 1);
    if (!p)
        return cut_short(e);
    if (strnlen((const char *)p, (size_t)length + 1) != length)
        return err_set(e, ERR_INVALID, "message: text with a wrong end");
    *ret = (const char *)p;
    return true;
}

static bool take_name(struct reader *r, char *to, size_t room, struct err *e)
{
    const char *text;
    if (!take_text(r, room - 1, &text, e))
        return false;
    memcpy(to, text, strlen(text) + 1);
    return true;
}

/* dynamic: dims of -1 are allowed. */
static bool take_type(struct reader *r, bool dynamic, enum dtype *dtype, struct shape *shape,
                      struct err *e)
{
    const uint8_t *p = take(r, 2);
    if (!p)
        return cut_short(e);
    if (p[0] <= DT_NONE || p[0] >= DT_COUNT || p[1] > TENSOR_RANK_MAX)
        return err_set(e, ERR_INVALID, "message: type %u, rank %u (at most %d)", p[0], p[1],
                       TENSOR_RANK_MAX);
    *dtype = (enum dtype)p[0];
    *shape = (struct shape){.rank = p[1]};
    size_t bytes = (size_t)shape->rank * sizeof(shape->dims[0]);
    p = take(r, bytes);
    if (!p)
        return cut_short(e);
    memcpy(shape->dims, p, bytes);
    for (int i = 0; i < shape->rank; i++)
        if (shape->dims[i] < (dynamic ? -1 : 0))
            return err_set(e, ERR_INVALID, "message: dim %d is %lld", i, (long long)shape->dims[i]);
    return true;
}

static bool take_ports(struct reader *r, const struct head *h, struct module_info *info,
                       struct err *e)
{
    if (!info_alloc(info, h->inputs, h->outputs, e))
        return false;
    for (int i = 0; i < info->input_count; i++) {
        struct port *p = &info->inputs[i];
        if (!take_name(r, p->name, sizeof(p->name), e) ||
            !take_type(r, true, &p->dtype, &p->shape, e))
            return false;
        for (int k = 0; k < p->shape.rank; k++)
            if (!take_name(r, info->dims[i].name[k], DIM_NAME_MAX, e))
                return false;
    }
    for (int i = 0; i < info->output_count; i++) {
        struct port *p = &info->outputs[i];
        if (!take_name(r, p->name, sizeof(p->name), e) ||
            !take_type(r, true, &p->dtype, &p->shape, e))
            return false;
    }
    return true;
}

static bool check_head(const struct head *h, size_t size, struct err *e)
{
    if (h->magic != MAGIC || h->size != size || h->zero || h->zero2)
        return err_set(e, ERR_INVALID, "message: is not one of ours");
    if (h->kind <= MSG_NONE || h->kind >= MSG_COUNT)
        return err_set(e, ERR_INVALID, "message: kind %u, at most %d", h->kind, MSG_COUNT - 1);
    const struct kind_row *row = &kinds[h->kind];
    if (h->texts != row->texts || (!row->ports && (h->inputs || h->outputs)) ||
        (!row->tensors && (h->tensors || h->data_bytes)) || h->inline_data > 1)
        return err_set(e, ERR_INVALID, "message %s: has parts that it can't have", row->name);
    if (h->inputs > EXEC_PORTS_MAX || h->outputs > EXEC_PORTS_MAX || h->tensors > EXEC_PORTS_MAX)
        return err_set(e, ERR_INVALID, "message %s: %u inputs, %u outputs, %u tensors, at most %d",
                       row->name, h->inputs, h->outputs, h->tensors, EXEC_PORTS_MAX);
    return true;
}

static bool take_tensors(struct reader *r, const struct head *h, struct message *ret, struct err *e)
{
    for (int i = 0; i < h->tensors; i++) {
        enum dtype dtype;
        struct shape shape;
        if (!take_type(r, false, &dtype, &shape, e) || !message_add_tensor(ret, dtype, &shape, e))
            return false;
    }
    if (ret->data_bytes != h->data_bytes || ret->inline_data != (bool)h->inline_data)
        return err_set(e, ERR_INVALID, "message: %llu bytes of tensors, should be %llu",
                       (unsigned long long)h->data_bytes, (unsigned long long)ret->data_bytes);
    return true;
}

static bool take_data(struct reader *r, struct message *ret, struct err *e)
{
    if (!ret->inline_data)
        return true;
    if (!take(r, (size_t)align_up(r->at) - r->at))
        return cut_short(e);
    ret->data = take(r, (size_t)ret->data_bytes);
    return ret->data || cut_short(e);
}

bool message_decode(const uint8_t *packet, size_t size, struct message *ret, struct err *e)
{
    struct head h;
    struct reader r = {.data = packet, .size = size};
    message_start(ret, MSG_NONE);
    const uint8_t *p = size <= MESSAGE_MAX ? take(&r, sizeof(h)) : NULL;
    if (!p)
        return err_set(e, ERR_INVALID, "message: %zu bytes, allowed are %zu to %zu", size,
                       sizeof(h), MESSAGE_MAX);
    memcpy(&h, p, sizeof(h));
    if (!check_head(&h, size, e))
        return false;
    ret->kind = (enum message_kind)h.kind;
    ret->id = h.id;
    memcpy(ret->numbers, h.numbers, sizeof(ret->numbers));
    bool ok = true;
    for (int i = 0; ok && i < h.texts; i++)
        ok = take_text(&r, MESSAGE_TEXT_MAX, &ret->texts[i], e);
    ok = ok && (!kinds[h.kind].ports || take_ports(&r, &h, &ret->info, e)) &&
         take_tensors(&r, &h, ret, e) && take_data(&r, ret, e);
    if (ok && r.at != r.size)
        ok = err_set(e, ERR_INVALID, "message: %zu bytes left over", r.size - r.at);
    if (!ok)
        message_clear(ret);
    return ok;
}
