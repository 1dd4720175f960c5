/* write.c - a module as module.onnx with weights.bin beside it.
 *
 * The exporter's own nodes in the exporter's own order: the runtime's fusions depend on both.  Only
 * names change: ports get canonical ones (in0 ..., out0 ...), also inside of sub-graphs; what
 * looked through (Identity) or found equal is named by what it stands for.
 *
 * Constants of WRITE_INLINE bytes and more go to weights.bin, from the mapping to the file by
 * write(): never through the heap.  Constant nodes of that size become initialisers. */
#include "onnx/emit.h"
#include "onnx/module.h"
#include "onnx/relocate.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WRITE_INLINE 1024u
#define WRITE_PAGE 4096u /* alignment of large constants, for mapping */
#define WRITE_ALIGN 64u
#define WRITE_GRAPH_MAX ((size_t)1 << 30) /* bytes of module.onnx */
#define WRITE_FILE "weights.bin"

enum { GP_NODE = 1, GP_NAME = 2, GP_INIT = 5, GP_INPUT = 11, GP_OUTPUT = 12 };

struct writer {
    const struct instance *x;
    const struct share_module *module;
    const struct fgraph *g;
    struct onnx *m;
    const char *const *names; /* of inputs; NULL: canonical ones */
    uint32_t *port;           /* owned: value to port number + 1 */
    uint32_t *output;         /* owned: value to output number + 1 */
    struct inliner *inliner;  /* owned; NULL: the model holds all its bytes itself */
    const char *folder;
    int fd; /* of weights.bin, or -1 */
    uint64_t offset;
    struct err *e;
};

/* Names given to dynamic dims that have none. */
struct dim_names {
    uint64_t *ids; /* owned */
    uint32_t count;
};

/* ---- names ---- */

static bool looks_canonical(struct span s)
{
    size_t stem = s.size > 2 && memcmp(s.data, "in", 2) == 0    ? 2
                  : s.size > 3 && memcmp(s.data, "out", 3) == 0 ? 3
                                                                : 0;
    for (size_t i = stem; stem && i < s.size; i++)
        if (s.data[i] < '0' || s.data[i] > '9')
            return s.size - i >= 5 && memcmp(s.data + i, ".half", 5) == 0;
    return stem != 0;
}

/* Halves that cross as floats: see half.c. */
static bool is_wide(const struct writer *w, const struct port *p, uint32_t value)
{
    return p->dtype == DT_F32 && w->g->values.items[value].type == OT_FLOAT16;
}

/* Is it the name of a port? */
static bool is_taken(const struct writer *w, struct span s)
{
    for (size_t i = 0; w->names && i < w->module->input_count; i++)
        if (span_is(s, w->names[i]))
            return true;
    return looks_canonical(s);
}

static void name_plain(const struct writer *w, struct buf *b, uint32_t field, struct span s)
{
    char text[ONNX_NAME_MAX + 3];
    if (!is_taken(w, s) || s.size > ONNX_NAME_MAX) {
        emit_bytes(b, field, s.data, s.size);
        return;
    }
    memcpy(text, "x.", 2);
    memcpy(text + 2, s.data, s.size);
    emit_bytes(b, field, text, s.size + 2);
}

/* The name of an original value in the module. */
static void name_value(const struct writer *w, struct buf *b, uint32_t field, uint32_t id)
{
    char text[32];
    const struct gvalue *v = &w->m->values.items[id];
    uint32_t value = v->graph == ONNX_MAIN ? w->g->of_value[id] : 0;
    const struct fvalue *f = &w->g->values.items[value];
    uint32_t in = value ? w->port[value] : 0, out = value ? w->output[value] : 0;
    bool wide = in    ? is_wide(w, &w->module->inputs[in - 1], value)
                : out ? is_wide(w, &w->module->outputs[out - 1], value)
                      : false;
    if (in && w->names && !wide) {
        emit_text(b, field, w->names[in - 1]);
    } else if (in) {
        (void)snprintf(text, sizeof(text), wide ? "in%u.half" : "in%u", in - 1);
        emit_text(b, field, text);
    } else if (out) {
        (void)snprintf(text, sizeof(text), wide ? "out%u.half" : "out%u", out - 1);
        emit_text(b, field, text);
    } else if (value && f->kind == FV_NODE && f->origin != ONNX_NONE) {
        name_plain(w, b, field, w->m->values.items[f->origin].name);
    } else {
        name_plain(w, b, field, v->name);
    }
}

static void name_text(const struct writer *w, struct buf *b, uint32_t field, uint32_t graph,
                      struct span s)
{
    uint32_t id = s.size ? onnx_lookup(w->m, graph, s) : ONNX_NONE;
    if (id == ONNX_NONE)
        emit_bytes(b, field, s.data, s.size);
    else
        name_value(w, b, field, id);
}

/* A made value keeps its own name, even where it was found equal to another: it is no output. */
static void name_made(const struct writer *w, struct buf *b, uint32_t field, uint32_t id)
{
    uint32_t value = w->m->values.items[id].graph == ONNX_MAIN ? w->g->of_value[id] : 0;
    if (value && w->g->values.items[value].origin != id)
        name_plain(w, b, field, w->m->values.items[id].name);
    else
        name_value(w, b, field, id);
}

/* ---- nodes ---- */

static bool write_graph(struct writer *w, struct buf *out, uint32_t field, uint32_t graph);

/* A message as it is, but that its constants' bytes are in it: their file is another from now on. */
static bool copy_message(struct writer *w, struct buf *out, uint32_t field,
                         enum relocate_message kind, struct span message)
{
    struct buf inner = BUF_INIT(WRITE_GRAPH_MAX);
    if (!w->inliner) {
        emit_bytes(out, field, message.data, message.size);
        return true;
    }
    bool ok = inliner_put(w->inliner, kind, message, &inner, w->e);
    return emit_message(out, field, &inner) && ok;
}

static bool write_attr(struct writer *w, struct buf *out, const struct gattr *a)
{
    if (a->type != AT_GRAPH && a->type != AT_GRAPHS)
        return copy_message(w, out, 5, RELOCATE_ATTRIBUTE, a->message);
    struct buf inner = BUF_INIT(WRITE_GRAPH_MAX);
    struct pb p = pb_over(a->message);
    struct pb_field f;
    bool ok = true;
    while (ok && pb_next(&p, &f) == PB_FIELD) {
        if (f.number == 6 || f.number == 11)
            ok = write_graph(w, &inner, f.number, a->first);
        else
            buf_add(&inner, f.start, (size_t)(f.end - f.start));
    }
    ok = emit_message(out, 5, &inner) && ok;
    return ok;
}

static bool write_node(struct writer *w, struct buf *out, uint32_t field, uint32_t node)
{
    const struct gnode *n = &w->m->nodes.items[node];
    struct buf inner = BUF_INIT(WRITE_GRAPH_MAX);
    struct pb p = pb_over(n->message);
    struct pb_field f;
    uint32_t in = 0, made = 0, attr = 0;
    bool ok = true;
    while (ok && pb_next(&p, &f) == PB_FIELD) {
        uint32_t id;
        if (f.number == 1 && in < n->in_count) {
            id = w->m->refs.items[n->in_first + in++];
            if (id == ONNX_NONE)
                emit_bytes(&inner, 1, "", 0);
            else
                name_value(w, &inner, 1, id);
        } else if (f.number == 2 && made < n->out_count) {
            id = w->m->refs.items[n->out_first + made++];
            if (id == ONNX_NONE)
                emit_bytes(&inner, 2, "", 0);
            else
                name_made(w, &inner, 2, id);
        } else if (f.number == 5 && attr < n->attr_count) {
            ok = write_attr(w, &inner, &w->m->attrs.items[n->attr_first + attr++]);
        } else if (f.number != 6) { /* without its documentation */
            buf_add(&inner, f.start, (size_t)(f.end - f.start));
        }
    }
    return emit_message(out, field, &inner) && ok;
}

/* A ValueInfoProto or TensorProto with its name changed (both in a sub-graph). */
static void write_named(struct writer *w, struct buf *out, uint32_t field, uint32_t name_field,
                        uint32_t graph, struct span message)
{
    struct buf inner = BUF_INIT(WRITE_GRAPH_MAX);
    struct pb p = pb_over(message);
    struct pb_field f;
    while (pb_next(&p, &f) == PB_FIELD)
        if (f.number == name_field)
            name_text(w, &inner, name_field, graph, f.bytes);
        else
            buf_add(&inner, f.start, (size_t)(f.end - f.start));
    (void)emit_message(out, field, &inner);
}

static bool write_inner_tensor(struct writer *w, struct buf *out, uint32_t graph,
                               struct span message)
{
    struct buf whole = BUF_INIT(WRITE_GRAPH_MAX);
    bool ok = !w->inliner || inliner_put(w->inliner, RELOCATE_TENSOR, message, &whole, w->e);
    if (w->inliner)
        message = (struct span){(const uint8_t *)whole.data, whole.size};
    write_named(w, out, GP_INIT, 8, graph, message);
    ok = ok && !whole.failed;
    buf_clear(&whole);
    return ok;
}

/* A sub-graph, with the outer names that it uses changed. */
static bool write_graph(struct writer *w, struct buf *out, uint32_t field, uint32_t graph)
{
    struct buf inner = BUF_INIT(WRITE_GRAPH_MAX);
    const struct ggraph *g = &w->m->graphs.items[graph];
    struct pb p = pb_over(g->message);
    struct pb_field f;
    uint32_t node = g->node_first;
    bool ok = true;
    while (ok && pb_next(&p, &f) == PB_FIELD) {
        if (f.number == GP_NODE && node < g->node_first + g->node_count)
            ok = write_node(w, &inner, GP_NODE, node++);
        else if (f.number == GP_INIT)
            ok = write_inner_tensor(w, &inner, graph, f.bytes);
        else if (f.number == GP_INPUT || f.number == GP_OUTPUT || f.number == 13)
            write_named(w, &inner, f.number, 1, graph, f.bytes);
        else
            buf_add(&inner, f.start, (size_t)(f.end - f.start));
    }
    return emit_message(out, field, &inner) && ok;
}

/* ---- constants ---- */

static bool put_all(struct writer *w, const uint8_t *data, uint64_t size)
{
    while (size) {
        size_t part = size < ((size_t)1 << 24) ? (size_t)size : (size_t)1 << 24;
        ssize_t n = write(w->fd, data, part);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_errno(w->e, ERR_IO, errno, "%s/" WRITE_FILE, w->folder);
        data += n;
        size -= (uint64_t)n;
        w->offset += (uint64_t)n;
    }
    return true;
}

static bool put_weights(struct writer *w, const struct gtensor *t, uint64_t *ret_offset)
{
    static const uint8_t zeros[WRITE_PAGE];
    if (w->fd < 0) {
        char *path = text_format("%s/" WRITE_FILE, w->folder);
        if (!path)
            return err_set(w->e, ERR_MEMORY, "weights: no memory");
        w->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        int number = errno;
        free(path);
        if (w->fd < 0)
            return err_errno(w->e, ERR_IO, number, "%s/" WRITE_FILE, w->folder);
    }
    uint64_t align = t->bytes >= 16 * WRITE_PAGE ? WRITE_PAGE : WRITE_ALIGN;
    uint64_t gap = (align - w->offset % align) % align;
    if (!put_all(w, zeros, gap))
        return false;
    *ret_offset = w->offset;
    return put_all(w, t->data, t->bytes);
}

static bool write_tensor(struct writer *w, struct buf *out, uint32_t id)
{
    const struct gtensor *t = onnx_value_tensor(w->m, id);
    struct buf inner = BUF_INIT(WRITE_GRAPH_MAX);
    if (t->type == OT_STRING)
        return err_set(w->e, ERR_UNSUPPORTED, "text constants can't be written");
    for (int i = 0; i < t->rank; i++)
        emit_number(&inner, 1, (uint64_t)t->dims[i]);
    emit_number(&inner, 2, (uint64_t)t->type);
    name_value(w, &inner, 8, id);
    bool ok = true;
    if (t->bytes < WRITE_INLINE) {
        emit_bytes(&inner, 9, t->data, (size_t)t->bytes);
    } else {
        uint64_t offset = 0;
        ok = put_weights(w, t, &offset);
        emit_external(&inner, WRITE_FILE, offset, t->bytes);
    }
    return emit_message(out, GP_INIT, &inner) && ok;
}

/* What is computed from shapes that are known: a few integers. */
static bool write_shape(struct writer *w, struct buf *out, uint32_t id)
{
    const struct fvalue *v = &w->g->values.items[w->g->of_value[id]];
    const struct fconst *c = &w->g->known->consts.items[v->index];
    struct buf inner = BUF_INIT(WRITE_GRAPH_MAX);
    for (int i = 0; i < c->rank; i++)
        emit_number(&inner, 1, (uint64_t)c->dims[i]);
    emit_number(&inner, 2, (uint64_t)c->type);
    name_value(w, &inner, 8, id);
    emit_bytes(&inner, 9, c->data, (size_t)c->bytes);
    return emit_message(out, GP_INIT, &inner);
}

/* Constant nodes that become initialisers; also all that can't be copied as they are. */
static bool as_initialiser(const struct writer *w, uint32_t node, uint32_t *ret_id)
{
    const struct gnode *n = &w->m->nodes.items[node];
    if (!onnx_is_op(n, "Constant") || !n->out_count)
        return false;
    *ret_id = w->m->refs.items[n->out_first];
    const struct gtensor *t = *ret_id == ONNX_NONE ? NULL : onnx_value_tensor(w->m, *ret_id);
    return t && t->type != OT_STRING && t->bytes >= WRITE_INLINE;
}

/* ---- the model ---- */

static bool is_input_dim(const struct onnx *m, struct span name)
{
    for (size_t i = 0; i < m->input_count; i++)
        for (int k = 0; k < m->inputs[i].shape.rank; k++)
            if (m->inputs[i].shape.dims[k] < 0 && span_is(name, onnx_dim_param(m, false, i, k)))
                return true;
    return false;
}

/* An input's dim that the exporter names as one of this value's. */
static bool said_dim(const struct writer *w, struct buf *dim, uint32_t value, int k)
{
    const struct fvalue *v = &w->g->values.items[value];
    struct span params[ONNX_RANK_MAX] = {{0}};
    int64_t dims[ONNX_RANK_MAX];
    int type, rank;
    if (v->origin == ONNX_NONE || !w->m->values.items[v->origin].type.size ||
        !onnx_tensor_type(w->m->values.items[v->origin].type, &type, &rank, dims, params) ||
        rank != v->rank || !params[k].size || !is_input_dim(w->m, params[k]))
        return false;
    emit_bytes(dim, 2, params[k].data, params[k].size);
    return true;
}

/* Dims that are equal in the whole model keep one name, the exporter's where it has one: the
 * runtime decides by them what it may fuse. */
static void name_dim(const struct writer *w, struct buf *dim, uint32_t value, int k,
                     struct dim_names *names)
{
    const struct fgraph *g = w->g;
    uint64_t id = g->values.items[value].names[k];
    char text[24];
    if (said_dim(w, dim, value, k))
        return;
    for (size_t i = 0; id && i < w->m->input_count; i++) {
        uint32_t input = g->of_value[w->m->refs.items[w->m->graphs.items[ONNX_MAIN].in_first + i]];
        for (int j = 0; j < g->values.items[input].rank; j++)
            if (g->values.items[input].names[j] == id && *onnx_dim_param(w->m, false, i, j)) {
                emit_text(dim, 2, onnx_dim_param(w->m, false, i, j));
                return;
            }
    }
    if (!id)
        return;
    uint32_t at = 0;
    while (at < names->count && names->ids[at] != id)
        at++;
    if (at == names->count)
        names->ids[names->count++] = id;
    (void)snprintf(text, sizeof(text), "d%u", at);
    emit_text(dim, 2, text);
}

static void write_port(const struct writer *w, struct buf *out, uint32_t field, const char *name,
                       const struct port *p, uint32_t value, struct dim_names *names)
{
    struct buf info = BUF_INIT(65536), type = BUF_INIT(65536), tensor = BUF_INIT(65536),
               shape = BUF_INIT(65536);
    for (int i = 0; i < p->shape.rank; i++) {
        struct buf dim = BUF_INIT(ONNX_NAME_MAX + 64);
        if (p->shape.dims[i] >= 0)
            emit_number(&dim, 1, (uint64_t)p->shape.dims[i]);
        else
            name_dim(w, &dim, value, i, names);
        (void)emit_message(&shape, 1, &dim);
    }
    emit_number(&tensor, 1, (uint64_t)dtype_onnx(p->dtype));
    (void)emit_message(&tensor, 2, &shape);
    (void)emit_message(&type, 1, &tensor);
    emit_text(&info, 1, name);
    (void)emit_message(&info, 2, &type);
    (void)emit_message(out, field, &info);
}

/* What the exporter says of the shapes of values inside: fusions depend on that too. */
static void write_infos(struct writer *w, struct buf *out)
{
    for (uint32_t i = 0; i < w->x->written.count; i++) {
        const struct gnode *n = &w->m->nodes.items[w->x->written.items[i]];
        for (uint32_t k = 0; k < n->out_count; k++) {
            uint32_t id = w->m->refs.items[n->out_first + k];
            struct buf info = BUF_INIT(WRITE_GRAPH_MAX);
            if (id == ONNX_NONE || !w->m->values.items[id].type.size ||
                w->output[w->g->of_value[id]] || onnx_is_op(n, "Constant"))
                continue;
            name_made(w, &info, 1, id);
            emit_bytes(&info, 2, w->m->values.items[id].type.data,
                       w->m->values.items[id].type.size);
            (void)emit_message(out, 13, &info);
        }
    }
}

/* Initialisers that are inputs, too, stay so. */
static void write_defaults(const struct writer *w, struct buf *out)
{
    for (uint32_t i = 0; i < w->x->inits.count; i++) {
        uint32_t id = w->x->inits.items[i];
        struct buf info = BUF_INIT(WRITE_GRAPH_MAX);
        if (!onnx_value_tensor(w->m, id)->is_input)
            continue;
        name_value(w, &info, 1, id);
        emit_bytes(&info, 2, w->m->values.items[id].type.data, w->m->values.items[id].type.size);
        (void)emit_message(out, GP_INPUT, &info);
    }
}

static bool write_ports(const struct writer *w, struct buf *out)
{
    size_t dims = (w->module->input_count + w->module->output_count) * TENSOR_RANK_MAX;
    struct dim_names names = {.ids = calloc(dims + 1, sizeof(uint64_t))};
    if (!names.ids)
        return err_set(w->e, ERR_MEMORY, "module: no memory");
    for (size_t i = 0; i < w->module->input_count; i++)
        write_port(w, out, GP_INPUT, w->names ? w->names[i] : w->module->inputs[i].name,
                   &w->module->inputs[i], w->x->ports.items[i], &names);
    for (size_t i = 0; i < w->module->output_count; i++)
        write_port(w, out, GP_OUTPUT, w->module->outputs[i].name, &w->module->outputs[i],
                   w->x->outputs.items[i], &names);
    write_defaults(w, out);
    free(names.ids);
    return true;
}

static void write_op(struct buf *out, const char *op, const char *from, const char *into, int to)
{
    struct buf n = BUF_INIT(65536), attr = BUF_INIT(1024);
    emit_text(&n, 1, from);
    emit_text(&n, 2, into);
    emit_text(&n, 4, op);
    emit_text(&attr, 1, "to");
    emit_number(&attr, 3, (uint64_t)to);
    emit_number(&attr, 20, AT_INT);
    if (to != OT_NONE)
        (void)emit_message(&n, 5, &attr);
    buf_clear(&attr);
    (void)emit_message(out, GP_NODE, &n);
}

/* Between a port and the value inside of the module, if that is of halves: see half.c. */
static void write_cast(struct writer *w, struct buf *out, bool input, uint32_t number)
{
    const struct port *p = input ? &w->module->inputs[number] : &w->module->outputs[number];
    uint32_t value = input ? w->x->ports.items[number] : w->x->outputs.items[number];
    const char *name = input && w->names ? w->names[number] : p->name;
    char inside[32], between[32];
    if (!is_wide(w, p, value))
        return;
    uint32_t first = input ? number : w->output[value] - 1; /* another: goes out as halves, too */
    (void)snprintf(inside, sizeof(inside), "%s%u%s", input ? "in" : "out", first,
                   first == number ? ".half" : "");
    (void)snprintf(between, sizeof(between), "%s%u.half.half", input ? "in" : "out", number);
    bool sum = first != number || half_needs_sum(w->g, w->x, input, value);
    if (input) {
        write_op(out, "Cast", name, sum ? between : inside, OT_FLOAT16);
        if (sum)
            write_op(out, "Sum", between, inside, OT_NONE);
    } else {
        if (sum)
            write_op(out, "Sum", inside, between, OT_NONE);
        write_op(out, "Cast", sum ? between : inside, name, OT_FLOAT);
    }
}

static bool write_main(struct writer *w, struct buf *out)
{
    uint32_t id;
    for (uint32_t i = 0; i < w->module->input_count; i++)
        write_cast(w, out, true, i);
    for (uint32_t i = 0; i < w->x->written.count; i++)
        if (!as_initialiser(w, w->x->written.items[i], &id) &&
            !write_node(w, out, GP_NODE, w->x->written.items[i]))
            return false;
    for (uint32_t i = 0; i < w->module->output_count; i++)
        write_cast(w, out, false, i);
    emit_text(out, GP_NAME, "module");
    for (uint32_t i = 0; i < w->x->inits.count; i++)
        if (!write_tensor(w, out, w->x->inits.items[i]))
            return false;
    for (uint32_t i = 0; i < w->x->shapes.count; i++)
        if (!write_shape(w, out, w->x->shapes.items[i]))
            return false;
    for (uint32_t i = 0; i < w->x->written.count; i++)
        if (as_initialiser(w, w->x->written.items[i], &id) && !write_tensor(w, out, id))
            return false;
    write_infos(w, out);
    return write_ports(w, out);
}

static bool write_model(struct writer *w, struct buf *out)
{
    struct buf graph = BUF_INIT(WRITE_GRAPH_MAX);
    struct pb p =
        pb_over((struct span){w->m->files.items[0].map.data, w->m->files.items[0].map.size});
    struct pb_field f;
    /* before IR 4 initialisers had to be inputs as well */
    emit_number(out, 1, (uint64_t)(w->m->ir_version < 4 ? 4 : w->m->ir_version));
    emit_text(out, 2, "s2m3");
    while (pb_next(&p, &f) == PB_FIELD)
        if (f.number == 8) /* operator sets */
            buf_add(out, f.start, (size_t)(f.end - f.start));
        else if (f.number == 25 && !copy_message(w, out, 25, RELOCATE_FUNCTION, f.bytes))
            return false;
    if (!write_main(w, &graph)) {
        buf_clear(&graph);
        return false;
    }
    return emit_message(out, 7, &graph) ||
           err_set(w->e, ERR_TOO_LARGE, "module.onnx: over %zu bytes", WRITE_GRAPH_MAX);
}

static bool writer_init(struct writer *w)
{
    size_t values = w->g->values.count + 1u;
    w->port = calloc(values, sizeof(*w->port));
    w->output = calloc(values, sizeof(*w->output));
    if (!w->port || !w->output)
        return err_set(w->e, ERR_MEMORY, "module: no memory");
    for (uint32_t i = 0; i < w->x->ports.count; i++)
        w->port[w->x->ports.items[i]] = i + 1;
    for (uint32_t i = w->x->outputs.count; i-- > 0;)
        w->output[w->x->outputs.items[i]] = i + 1; /* of two, the first */
    return true;
}

bool share_write(const struct share *s, size_t i, const char *folder, struct err *e)
{
    return share_write_as(s, i, NULL, folder, e);
}

bool share_write_as(const struct share *s, size_t i, const char *const *names, const char *folder,
                    struct err *e)
{
    const struct module_detail *d = s->modules[i].detail;
    return module_write(&d->x, d->m, &s->modules[i], names, folder, e);
}

bool module_write(const struct instance *x, const struct wmodel *m,
                  const struct share_module *module, const char *const *names, const char *folder,
                  struct err *e)
{
    struct writer w = {.x = x,
                       .module = module,
                       .g = m->g,
                       .m = m->g->m,
                       .names = names,
                       .folder = folder,
                       .fd = -1,
                       .e = e};
    struct buf out = BUF_INIT(WRITE_GRAPH_MAX);
    bool ok = inliner_new(w.m, &w.inliner, e) && writer_init(&w) && write_model(&w, &out) &&
              buf_ok(&out, "module.onnx", e);
    if (w.fd >= 0) {
        if (ok && fsync(w.fd) != 0)
            ok = err_errno(e, ERR_IO, errno, "%s/" WRITE_FILE, folder);
        close(w.fd);
    }
    char *path = ok ? text_format("%s/module.onnx", folder) : NULL;
    if (ok && !path)
        ok = err_set(e, ERR_MEMORY, "module: no memory");
    ok = ok && onnx_unchanged(w.m, e) && file_write_atomic(path, out.data, out.size, 0600, e);
    free(path);
    buf_clear(&out);
    free(w.port);
    free(w.output);
    inliner_free(w.inliner);
    return ok;
}
