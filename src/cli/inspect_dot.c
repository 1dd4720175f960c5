/* inspect_dot.c - the picture of `inspect`: modules as boxes, calls as arrows between them.
 *
 * A module is drawn once, however many models call it; what is shared is filled.  Arrows say the
 * shape of what flows, and, where not all models of both ends have the call, whose it is. */
#include "cli/inspect.h"

#include "base/file.h"
#include "base/parse.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define DOT_BYTES_MAX ((size_t)64 << 20)

extern char **environ;

struct arrow {
    int64_t from, to; /* modules; inputs and outputs have names */
    const char *input, *output;
    uint32_t port;   /* of the module that it comes to (or of from, for an output) */
    uint64_t models; /* items that have it */
};

struct arrows {
    struct arrow *list; /* owned */
    size_t count, capacity;
};

static bool add(struct arrows *a, struct arrow x, struct err *e)
{
    for (size_t i = 0; i < a->count; i++) {
        struct arrow *y = &a->list[i];
        bool same = y->from == x.from && y->to == x.to && y->port == x.port &&
                    !y->input == !x.input && !y->output == !x.output;
        if (same && (!x.input || strcmp(x.input, y->input) == 0) &&
            (!x.output || strcmp(x.output, y->output) == 0)) {
            y->models |= x.models;
            return true;
        }
    }
    if (a->count == a->capacity) {
        size_t grown = a->capacity ? 2 * a->capacity : 64;
        void *more = realloc(a->list, grown * sizeof(*a->list));
        if (!more)
            return err_set(e, ERR_MEMORY, "arrows: no memory");
        a->list = more;
        a->capacity = grown;
    }
    a->list[a->count++] = x;
    return true;
}

static bool collect_graph(const struct inspection *x, size_t item, size_t graph, struct arrows *a,
                          struct err *e)
{
    const struct share_model *m = &x->share->models[graph];
    size_t count;
    const struct port *inputs = onnx_inputs(m->m, &count), *outputs = onnx_outputs(m->m, &count);
    bool ok = true;
    for (size_t k = 0; k < m->call_count; k++)
        for (size_t i = 0; ok && i < x->share->modules[m->calls[k].module].input_count; i++) {
            const struct share_ref *r = &m->calls[k].inputs[i];
            struct arrow y = {.from = r->call ? (int64_t)m->calls[r->index].module : -1,
                              .to = m->calls[k].module,
                              .input = r->call ? NULL : inputs[r->index].name,
                              .port = (uint32_t)i,
                              .models = (uint64_t)1 << item};
            ok = add(a, y, e);
        }
    for (size_t i = 0; ok && i < count; i++) {
        const struct share_ref *r = &m->outputs[i];
        struct arrow y = {.from = r->call ? (int64_t)m->calls[r->index].module : -1,
                          .to = -1,
                          .input = r->call ? NULL : inputs[r->index].name,
                          .output = outputs[i].name,
                          .port = r->output,
                          .models = (uint64_t)1 << item};
        ok = add(a, y, e);
    }
    return ok;
}

static void put_quoted(struct buf *b, const char *text)
{
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            buf_add(b, "\\", 1);
        buf_add(b, (unsigned char)*text < ' ' ? " " : text, 1);
    }
}

static void put_models(const struct inspection *x, struct buf *b, uint64_t models)
{
    bool first = true;
    for (size_t i = 0; i < x->item_count; i++)
        if (models >> i & 1) {
            buf_str(b, first ? "" : ", ");
            put_quoted(b, x->items[i].name);
            first = false;
        }
}

static void put_shape(struct buf *b, const struct port *p)
{
    buf_fmt(b, "%s ", dtype_name(p->dtype));
    for (int i = 0; i < p->shape.rank; i++) {
        buf_str(b, i ? " x " : "");
        if (p->shape.dims[i] < 0)
            buf_str(b, "?");
        else
            buf_fmt(b, "%lld", (long long)p->shape.dims[i]);
    }
}

static void put_module(const struct inspection *x, struct buf *b, size_t at, uint64_t models)
{
    const struct share_module *m = &x->share->modules[at];
    char bytes[32], kinds[64];
    inspect_modalities(m->modalities, kinds, sizeof(kinds));
    bool shared = models & (models - 1);
    buf_fmt(b, "  m%zu [shape=box, style=\"rounded%s\", label=\"%.12s\\n%s%s%s\\n%s, %zu nodes\\n",
            at, shared ? ",filled\", fillcolor=\"#cfe8cf" : "", m->digest.hex,
            inspect_role(m->role), *kinds ? " " : "", kinds,
            format_bytes(bytes, (int)sizeof(bytes), (double)m->weight_bytes), m->nodes);
    put_models(x, b, models);
    buf_fmt(b, "\", tooltip=\"%s\"];\n", m->digest.hex);
}

static void put_arrow(const struct inspection *x, struct buf *b, const struct arrow *a,
                      const uint64_t *owners)
{
    const struct share_module *m = a->to >= 0     ? &x->share->modules[a->to]
                                   : a->from >= 0 ? &x->share->modules[a->from]
                                                  : NULL;
    uint64_t all = a->from >= 0 ? owners[a->from] : a->models;
    if (a->from >= 0)
        buf_fmt(b, "  m%lld", (long long)a->from);
    else {
        buf_str(b, "  \"in ");
        put_quoted(b, a->input);
        buf_str(b, "\"");
    }
    buf_str(b, " -> ");
    if (a->to >= 0)
        buf_fmt(b, "m%lld", (long long)a->to);
    else {
        buf_str(b, "\"out ");
        put_models(x, b, a->models);
        buf_str(b, ": ");
        put_quoted(b, a->output);
        buf_str(b, "\"");
    }
    buf_str(b, " [label=\"");
    if (m)
        put_shape(b, a->to >= 0 ? &m->inputs[a->port] : &m->outputs[a->port]);
    if (a->to >= 0 && (all & owners[a->to]) != a->models && a->from >= 0) {
        buf_str(b, "\\n");
        put_models(x, b, a->models);
    }
    buf_str(b, "\"];\n");
}

/* Inputs as ovals, outputs as plain text; each name once. */
static void put_ends(const struct inspection *x, struct buf *b, const struct arrows *a)
{
    for (size_t i = 0; i < a->count; i++) {
        if (a->list[i].input) {
            buf_str(b, "  \"in ");
            put_quoted(b, a->list[i].input);
            buf_str(b, "\" [shape=oval, label=\"");
            put_quoted(b, a->list[i].input);
            buf_str(b, "\"];\n");
        }
        if (a->list[i].output) {
            buf_str(b, "  \"out ");
            put_models(x, b, a->list[i].models);
            buf_str(b, ": ");
            put_quoted(b, a->list[i].output);
            buf_str(b, "\" [shape=plaintext, label=\"");
            put_models(x, b, a->list[i].models);
            buf_str(b, ": ");
            put_quoted(b, a->list[i].output);
            buf_str(b, "\"];\n");
        }
    }
}

static bool draw(const struct inspection *x, struct buf *b, struct err *e)
{
    struct arrows a = {0};
    uint64_t *owners = calloc(x->share->module_count + 1, sizeof(*owners));
    bool ok = owners || err_set(e, ERR_MEMORY, "picture: no memory");
    for (size_t i = 0; ok && i < x->item_count; i++)
        for (size_t g = x->items[i].first; ok && g < x->items[i].first + x->items[i].count; g++)
            ok = collect_graph(x, i, g, &a, e);
    buf_str(b, "digraph modules {\n  rankdir=TB;\n  node [fontname=\"sans-serif\", fontsize=11];\n"
               "  edge [fontname=\"sans-serif\", fontsize=9];\n");
    for (size_t i = 0; ok && i < x->share->module_count; i++) {
        for (size_t k = 0; k < x->item_count; k++)
            owners[i] |= (uint64_t)inspect_item_has(x, &x->items[k], i) << k;
        put_module(x, b, i, owners[i]);
    }
    if (ok)
        put_ends(x, b, &a);
    for (size_t i = 0; ok && i < a.count; i++)
        put_arrow(x, b, &a.list[i], owners);
    buf_str(b, "}\n");
    free(owners);
    free(a.list);
    return ok && buf_ok(b, "picture", e);
}

/* Runs graphviz over what is in one file, to another. */
static bool run_graphviz(const char *from, const char *to, struct err *e)
{
    char *argv[] = {"dot", "-Tsvg", "-o", strdup(to), strdup(from), NULL};
    pid_t pid;
    int status = -1,
        r = argv[3] && argv[4] ? posix_spawnp(&pid, "dot", NULL, NULL, argv, environ) : ENOMEM;
    free(argv[3]);
    free(argv[4]);
    if (r)
        return err_set(e, ERR_UNSUPPORTED,
                       "%s: drawing takes graphviz's program `dot` (%s); another ending than .svg "
                       "writes its language instead",
                       to, strerror(r));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return (WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
           err_set(e, ERR_IO, "%s: graphviz's `dot` failed", to);
}

bool inspect_dot(const struct inspection *x, const char *file, struct err *e)
{
    struct buf b = BUF_INIT(DOT_BYTES_MAX);
    size_t n = strlen(file);
    bool svg = n > 4 && strcmp(file + n - 4, ".svg") == 0, ok = draw(x, &b, e);
    if (ok && strcmp(file, "-") == 0) {
        ok = fwrite(b.data, 1, b.size, stdout) == b.size ||
             err_errno(e, ERR_IO, errno, "writing the picture");
    } else if (ok) {
        char *path = svg ? text_format("%s.dot", file) : strdup(file);
        ok = path ? file_write_atomic(path, b.data, b.size, 0644, e)
                  : err_set(e, ERR_MEMORY, "picture: no memory");
        ok = ok && (!svg || run_graphviz(path, file, e));
        if (svg && path)
            (void)unlink(path);
        free(path);
    }
    buf_clear(&b);
    return ok;
}
