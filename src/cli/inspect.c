/* inspect.c - `inspect`: which modules models are made of, and which of them are the same.
 *
 * Needs no fleet and runs no model.  A MODEL is a folder (all its .onnx files of one dtype) or one
 * .onnx file; a folder of several files is one model whose calls are those of its files. */
#include "cli/inspect.h"
#include "base/file.h"
#include "base/num.h"
#include "base/parse.h"
#include "cli/cli.h"
#include "cli/external.h"
#include "cli/folder.h"
#include "task/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SIDE_FILE_MAX ((size_t)64 << 20)
#define MIN_SHARE_DEFAULT "1M"

/* ---- reading ---- */

static bool add_graph(struct inspection *x, const char *path, const char *name, struct err *e)
{
    if (x->graph_count == SHARE_MODELS_MAX)
        return err_set(e, ERR_TOO_LARGE, "%s: more than %u .onnx files", path, SHARE_MODELS_MAX);
    x->files[x->graph_count] = strdup(name);
    if (!x->files[x->graph_count])
        return err_set(e, ERR_MEMORY, "no memory");
    if (!external_open(path, &x->graphs[x->graph_count], e)) {
        free(x->files[x->graph_count]);
        return false;
    }
    x->graph_count++;
    return true;
}

/* Whether a decoder's file says again what the merged one says. */
static bool is_doubled(const struct folder *f, const char *name)
{
    bool merged = false;
    for (int i = 0; i < f->count; i++)
        merged |= strstr(f->files[i].name, "decoder_model_merged") != NULL;
    return merged &&
           (strstr(name, "decoder_model.onnx") || strstr(name, "decoder_with_past_model"));
}

static struct model_file side_file(const struct folder *f, const char *name, char **ret)
{
    struct model_file file = {0};
    for (int i = 0; i < f->count; i++)
        if (strcmp(f->files[i].name, name) == 0 &&
            file_read(f->files[i].path, SIDE_FILE_MAX, ret, &file.size, NULL)) {
            file.text = *ret;
            file.digest = f->files[i].digest;
        }
    return file;
}

/* What the side files and graphs say is worked out once these have been compared. */
static bool read_source(const struct inspection *x, struct item *item, const struct folder *f,
                        struct err *e)
{
    struct cut_source *s = item->source = calloc(1, sizeof(*s));
    if (!s)
        return err_set(e, ERR_MEMORY, "no memory");
    s->model.name = item->name;
    s->model.config = side_file(f, "config.json", &item->texts[0]);
    s->model.preprocessor = side_file(f, "preprocessor_config.json", &item->texts[1]);
    if (!s->model.preprocessor.text)
        s->model.preprocessor = side_file(f, "processor_config.json", &item->texts[1]);
    s->model.tokenizer = side_file(f, "tokenizer.json", &item->texts[2]);
    s->model.generation = side_file(f, "generation_config.json", &item->texts[3]);
    s->model.s2m3 = side_file(f, "s2m3.json", &item->texts[4]);
    for (size_t i = 0; i < item->count && i < MODEL_GRAPHS_MAX; i++) {
        struct cut_file *to = &s->files[s->file_count++];
        const char *file = x->files[item->first + i], *base = strrchr(file, '/');
        base = base ? base + 1 : file;
        (void)snprintf(to->name, sizeof(to->name), "%.*s", (int)strcspn(base, "."), base);
        to->onnx = x->graphs[item->first + i];
        to->digest = digest_of(file, strlen(file));
    }
    return true;
}

/* What a model can do; none when its files do not say. */
static void find_tasks(struct inspection *x)
{
    for (size_t i = 0; i < x->item_count; i++) {
        struct item *item = &x->items[i];
        if (!item->tasks)
            item->tasks =
                item->source ? cut_tasks(item->source, x->share, item->first, NULL) : NULL;
        if (!item->tasks)
            item->tasks = json_array();
    }
}

static void item_clear(struct item *item)
{
    for (size_t i = 0; i < ARRAY_LEN(item->texts); i++)
        free(item->texts[i]);
    free(item->source);
    json_decref(item->tasks);
}

static bool read_folder(struct inspection *x, struct item *item, struct err *e)
{
    struct folder *f = calloc(1, sizeof(*f));
    if (!f)
        return err_set(e, ERR_MEMORY, "no memory");
    bool ok = folder_read(item->path, args_text(x->a, "dtype"), f, e);
    if (ok)
        (void)snprintf(item->name, sizeof(item->name), "%s", f->name);
    for (int i = 0; ok && i < f->count; i++) {
        if (!folder_is_graph(&f->files[i]) || is_doubled(f, f->files[i].name))
            continue;
        char *path = text_format("%s/%s", item->path, f->files[i].name);
        ok = path ? add_graph(x, path, f->files[i].name, e) : err_set(e, ERR_MEMORY, "no memory");
        free(path);
    }
    item->count = x->graph_count - item->first;
    ok = ok && read_source(x, item, f, e);
    folder_clear(f);
    free(f);
    return ok;
}

/* "dir/name/model.onnx" and "dir/name/onnx/model.onnx" are called name, "dir/x.onnx" x. */
static void name_file(struct item *item, const char *real)
{
    char *copy = strdup(real);
    char *base = copy ? strrchr(copy, '/') : NULL;
    if (base && strcmp(base, "/model.onnx") == 0) {
        *base = 0;
        char *up = strrchr(copy, '/');
        if (up && strcmp(up, "/onnx") == 0) {
            *up = 0;
            up = strrchr(copy, '/');
        }
        (void)snprintf(item->name, sizeof(item->name), "%s", up && up[1] ? up + 1 : "model");
    } else {
        char *dot = base ? strrchr(base, '.') : NULL;
        if (dot)
            *dot = 0;
        (void)snprintf(item->name, sizeof(item->name), "%s", base ? base + 1 : "model");
    }
    free(copy);
}

/* Tasks that a text of the form of s2m3.json beside a bare file says. */
static json_t *said_tasks(const char *path)
{
    char *beside = text_format("%.*s.json", (int)(strlen(path) - strlen(".onnx")), path);
    json_t *o = beside && file_exists(beside) ? json_parse_file(beside, SIDE_FILE_MAX, NULL) : NULL;
    json_t *tasks = json_incref(json_object_get(o, "tasks"));
    json_decref(o);
    free(beside);
    return json_is_array(tasks) ? tasks : json_array();
}

static bool read_file(struct inspection *x, struct item *item, struct err *e)
{
    size_t n = strlen(item->path);
    if (n < 6 || strcmp(item->path + n - 5, ".onnx") != 0)
        return err_set(e, ERR_INVALID, "%s: is neither a folder nor an .onnx file", item->path);
    char *real = realpath(item->path, NULL);
    name_file(item, real ? real : item->path);
    free(real);
    const char *base = strrchr(item->path, '/');
    item->count = 1;
    item->tasks = said_tasks(item->path);
    return add_graph(x, item->path, base ? base + 1 : item->path, e);
}

static void make_unique(struct inspection *x)
{
    for (size_t i = 1; i < x->item_count; i++) {
        unsigned same = 1;
        char name[192];
        (void)snprintf(name, sizeof(name), "%.180s", x->items[i].name);
        for (size_t k = 0; k < i; k++)
            if (strcmp(x->items[k].name, x->items[i].name) == 0) {
                (void)snprintf(x->items[i].name, sizeof(x->items[i].name), "%.170s#%u", name,
                               ++same);
                k = (size_t)-1; /* look again from the first one */
            }
    }
}

static bool read_all(struct inspection *x, struct err *e)
{
    for (int i = 0; i < args_count(x->a); i++) {
        struct stat st;
        if (x->item_count == SHARE_MODELS_MAX)
            return err_set(e, ERR_TOO_LARGE, "more than %u models", SHARE_MODELS_MAX);
        struct item *item = &x->items[x->item_count++];
        *item = (struct item){.path = args_at(x->a, i), .first = x->graph_count};
        if (stat(item->path, &st) != 0)
            return err_set(e, ERR_NOT_FOUND, "%s: there is no such file or folder", item->path);
        if (!(S_ISDIR(st.st_mode) ? read_folder(x, item, e) : read_file(x, item, e)))
            return false;
        if (!onnx_weight_bytes_all(x->graphs + item->first, item->count, &item->source_bytes, e))
            return false;
    }
    make_unique(x);
    return true;
}

/* ---- figures ---- */

bool inspect_item_has(const struct inspection *x, const struct item *item, size_t module)
{
    for (size_t i = 0; i < item->count; i++)
        if (x->share->modules[module].models >> (item->first + i) & 1)
            return true;
    return false;
}

static uint64_t unshared_bytes(const struct inspection *x)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < x->item_count; i++)
        for (size_t k = 0; k < x->share->module_count; k++)
            if (inspect_item_has(x, &x->items[i], k))
                sum += x->share->modules[k].weight_bytes;
    return sum;
}

const char *inspect_role(enum share_role role)
{
    static const char *const names[] = {"encoder", "head", "decoder", "other"};
    return names[role];
}

static json_t *modality_names(uint32_t bits)
{
    static const char *const names[] = {"image", "audio", "text", "tensor"};
    json_t *list = json_array();
    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (bits >> i & 1)
            json_array_append_new(list, json_string(names[i]));
    return list;
}

void inspect_modalities(uint32_t bits, char *ret, size_t size)
{
    json_t *kinds = modality_names(bits);
    size_t n = 0;
    ret[0] = 0;
    for (size_t k = 0; k < json_array_size(kinds) && n < size; k++)
        n += (size_t)snprintf(ret + n, size - n, "%s%s", k ? "+" : "",
                              json_string_value(json_array_get(kinds, k)));
    json_decref(kinds);
}

/* ---- JSON ---- */

static json_t *ports_json(const struct port *ports, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *dims = json_array();
        for (int k = 0; k < ports[i].shape.rank; k++)
            json_array_append_new(dims, json_integer(ports[i].shape.dims[k]));
        json_array_append_new(list, json_pack("{s:s,s:s,s:o}", "name", ports[i].name, "dtype",
                                              dtype_name(ports[i].dtype), "shape", dims));
    }
    return list;
}

static json_t *source_json(const struct onnx *m, const struct share_ref *r, size_t call_offset)
{
    char name[32];
    size_t count;
    if (!r->call)
        return json_pack("{s:s}", "input", onnx_inputs(m, &count)[r->index].name);
    (void)snprintf(name, sizeof(name), "out%u", r->output);
    return json_pack("{s:I,s:s}", "call", (json_int_t)(r->index + call_offset), "output", name);
}

static void calls_json(const struct inspection *x, const struct item *item, json_t *calls,
                       json_t *outputs)
{
    for (size_t g = item->first; g < item->first + item->count; g++) {
        const struct share_model *sm = &x->share->models[g];
        size_t offset = json_array_size(calls), count;
        for (size_t i = 0; i < sm->call_count; i++) {
            const struct share_module *m = &x->share->modules[sm->calls[i].module];
            json_t *inputs = json_array();
            for (size_t k = 0; k < m->input_count; k++)
                json_array_append_new(inputs, source_json(sm->m, &sm->calls[i].inputs[k], offset));
            json_array_append_new(
                calls, json_pack("{s:s,s:o}", "module", m->digest.hex, "inputs", inputs));
        }
        const struct port *ports = onnx_outputs(sm->m, &count);
        for (size_t i = 0; i < count; i++) {
            json_t *from = source_json(sm->m, &sm->outputs[i], offset);
            json_object_set_new(from, "name", json_string(ports[i].name));
            if (item->count > 1)
                json_object_set_new(from, "file", json_string(x->files[g]));
            json_array_append_new(outputs, from);
        }
    }
}

static json_t *item_json(const struct inspection *x, const struct item *item)
{
    json_t *calls = json_array(), *outputs = json_array(), *modules = json_array();
    calls_json(x, item, calls, outputs);
    for (size_t i = 0; i < json_array_size(calls); i++) {
        json_t *digest = json_object_get(json_array_get(calls, i), "module");
        bool had = false;
        for (size_t k = 0; k < json_array_size(modules); k++)
            had |= json_equal(json_array_get(modules, k), digest);
        if (!had)
            json_array_append(modules, digest);
    }
    return json_pack("{s:s,s:s,s:O,s:I,s:o,s:o,s:o}", "name", item->name, "path", item->path,
                     "tasks", item->tasks, "source_bytes", (json_int_t)item->source_bytes,
                     "modules", modules, "calls", calls, "outputs", outputs);
}

static json_t *module_json(const struct inspection *x, size_t at)
{
    const struct share_module *m = &x->share->modules[at];
    json_t *models = json_array();
    for (size_t i = 0; i < x->item_count; i++)
        if (inspect_item_has(x, &x->items[i], at))
            json_array_append_new(models, json_string(x->items[i].name));
    json_t *gflops = isfinite(m->flops) ? json_real(m->flops / 1e9) : json_null();
    return json_pack("{s:s,s:o,s:s,s:s,s:o,s:I,s:I,s:o,s:o,s:o}", "digest", m->digest.hex,
                     "modalities", modality_names(m->modalities), "role", inspect_role(m->role),
                     "proof", m->by_pattern ? "pattern" : "exact", "models", models, "nodes",
                     (json_int_t)m->nodes, "weight_bytes", (json_int_t)m->weight_bytes, "inputs",
                     ports_json(m->inputs, m->input_count), "outputs",
                     ports_json(m->outputs, m->output_count), "gflops", gflops);
}

static const char *item_of(const struct inspection *x, size_t graph)
{
    for (size_t i = 0; i < x->item_count; i++)
        if (graph >= x->items[i].first && graph < x->items[i].first + x->items[i].count)
            return x->items[i].name;
    return "";
}

/* The whole sentence; false: the two are parts of one model. */
static bool near_text(const struct inspection *x, const struct share_near *n, char *ret,
                      size_t size)
{
    const char *one = item_of(x, n->models[0]), *two = item_of(x, n->models[1]);
    char bytes[32];
    if (one == two)
        return false;
    (void)format_bytes(bytes, sizeof(bytes), (double)n->bytes);
    if (n->kind == SHARE_NEAR_CHANGED)
        (void)snprintf(ret, size, "`%s` differs from `%s` %s", two, one, n->why);
    else if (n->kind == SHARE_NEAR_ROUNDING)
        (void)snprintf(ret, size, "`%s` %s (those of `%s`)", two, n->why, one);
    else
        (void)snprintf(ret, size, "`%s` and `%s` have %u more tensor%s in common (%s): %s", one,
                       two, n->tensors, n->tensors == 1 ? "" : "s", bytes, n->why);
    return true;
}

static json_t *near_json(const struct inspection *x)
{
    static const char *const kinds[] = {"form", "changed", "rounding"};
    json_t *list = json_array();
    for (size_t i = 0; i < x->share->near_count; i++) {
        const struct share_near *n = &x->share->near[i];
        char text[768];
        if (!near_text(x, n, text, sizeof(text)))
            continue;
        json_t *o = json_pack("{s:[ss],s:s,s:I,s:I,s:s}", "models", item_of(x, n->models[0]),
                              item_of(x, n->models[1]), "kind", kinds[n->kind], "tensors",
                              (json_int_t)n->tensors, "bytes", (json_int_t)n->bytes, "why", text);
        if (n->kind == SHARE_NEAR_CHANGED)
            json_object_set_new(o, "of", json_integer(n->of));
        json_array_append_new(list, o);
    }
    return list;
}

static double saving(const struct inspection *x)
{
    uint64_t all = unshared_bytes(x);
    return all ? 1 - (double)x->share->shared_bytes / (double)all : 0;
}

static void print_json(const struct inspection *x)
{
    json_t *models = json_array(), *modules = json_array();
    for (size_t i = 0; i < x->item_count; i++)
        json_array_append_new(models, item_json(x, &x->items[i]));
    for (size_t i = 0; i < x->share->module_count; i++)
        json_array_append_new(modules, module_json(x, i));
    json_t *o =
        json_pack("{s:o,s:o,s:o,s:I,s:I,s:f}", "models", models, "modules", modules, "near_misses",
                  near_json(x), "unshared_bytes", (json_int_t)unshared_bytes(x), "shared_bytes",
                  (json_int_t)x->share->shared_bytes, "saving", saving(x));
    cli_print_json(o);
    json_decref(o);
}

/* ---- text ---- */

static void list_models(const struct inspection *x, size_t module, char *buf, size_t size)
{
    size_t n = 0;
    buf[0] = 0;
    for (size_t i = 0; i < x->item_count && n < size; i++)
        if (inspect_item_has(x, &x->items[i], module))
            n += (size_t)snprintf(buf + n, size - n, "%s%s", n ? ", " : "", x->items[i].name);
}

static void print_modules(const struct inspection *x)
{
    static const char *const headers[] = {"MODULE",   "ROLE",   "OF",    ">NODES",
                                          ">WEIGHTS", ">GFLOP", "MODELS"};
    struct text_table *t = text_table_new(ARRAY_LEN(headers), headers);
    for (size_t i = 0; i < x->share->module_count; i++) {
        const struct share_module *m = &x->share->modules[i];
        char digest[16], nodes[24], bytes[32], flops[32] = "?", models[160], of[64] = "";
        (void)snprintf(digest, sizeof(digest), "%.12s", m->digest.hex);
        (void)snprintf(nodes, sizeof(nodes), "%zu", m->nodes);
        (void)format_bytes(bytes, sizeof(bytes), (double)m->weight_bytes);
        if (isfinite(m->flops))
            (void)snprintf(flops, sizeof(flops), "%.3g", m->flops / 1e9);
        inspect_modalities(m->modalities, of, sizeof(of));
        list_models(x, i, models, sizeof(models));
        const char *cells[] = {digest, inspect_role(m->role), of, nodes, bytes, flops, models};
        text_table_row(t, cells);
    }
    text_table_print(t);
}

static void tasks_text(const struct item *item, char *ret, size_t size)
{
    size_t n = 0;
    (void)snprintf(ret, size, "-");
    for (size_t i = 0; i < json_array_size(item->tasks) && n < size; i++) {
        const char *task = json_string_value(json_array_get(item->tasks, i));
        n += (size_t)snprintf(ret + n, size - n, "%s%.60s", i ? ", " : "", task ? task : "?");
    }
}

static void print_text(const struct inspection *x)
{
    static const char *const headers[] = {"MODEL", ">WEIGHTS", ">MODULES", ">CALLS", "TASKS"};
    struct text_table *t = text_table_new(ARRAY_LEN(headers), headers);
    char apart[32], together[32];
    for (size_t i = 0; i < x->item_count; i++) {
        char bytes[32], modules[24], calls[24], tasks[512];
        json_t *o = item_json(x, &x->items[i]);
        (void)format_bytes(bytes, sizeof(bytes), (double)x->items[i].source_bytes);
        (void)snprintf(modules, sizeof(modules), "%zu",
                       json_array_size(json_object_get(o, "modules")));
        (void)snprintf(calls, sizeof(calls), "%zu", json_array_size(json_object_get(o, "calls")));
        json_decref(o);
        tasks_text(&x->items[i], tasks, sizeof(tasks));
        const char *cells[] = {x->items[i].name, bytes, modules, calls, tasks};
        text_table_row(t, cells);
    }
    text_table_print(t);
    printf("\n");
    print_modules(x);
    bool said = false;
    for (size_t i = 0; i < x->share->near_count; i++) {
        char text[768];
        if (!near_text(x, &x->share->near[i], text, sizeof(text)))
            continue;
        printf("%s%s\n", said ? "" : "\n", text);
        said = true;
    }
    printf("\nWithout sharing %s, with sharing %s: %.1f %% saved\n",
           format_bytes(apart, sizeof(apart), (double)unshared_bytes(x)),
           format_bytes(together, sizeof(together), (double)x->share->shared_bytes),
           100 * saving(x));
}

/* ---- the command ---- */

static bool write_modules(const struct inspection *x, const char *dir, struct err *e)
{
    for (size_t i = 0; i < x->share->module_count; i++) {
        char *folder = text_format("%s/%s", dir, x->share->modules[i].digest.hex);
        bool ok = folder ? file_make_dirs(folder, e) && share_write(x->share, i, folder, e)
                         : err_set(e, ERR_MEMORY, "no memory");
        free(folder);
        if (!ok)
            return err_prefix(e, "writing module %zu", i);
    }
    return true;
}

static int run_inspect(const struct args *a)
{
    struct err e;
    struct inspection *x = calloc(1, sizeof(*x));
    if (!x)
        return cli_fail(&(struct err){.code = ERR_MEMORY, .text = "no memory"});
    x->a = a;
    const char *dir = args_text(a, "write");
    struct share_options o = {.min_share = args_bytes(a, "min-share"), .fixed_axes = true};
    bool ok = read_all(x, &e) && share_find_as(x->graphs, x->graph_count, &o, &x->share, &e) &&
              (!dir || write_modules(x, dir, &e));
    if (ok)
        find_tasks(x);
    const char *picture = args_text(a, "dot");
    ok = ok && (!picture || inspect_dot(x, picture, &e));
    if (ok && args_flag(a, "json"))
        print_json(x);
    else if (ok && !(picture && strcmp(picture, "-") == 0))
        print_text(x);
    share_free(x->share);
    for (size_t i = 0; i < x->graph_count; i++) {
        onnx_close(x->graphs[i]);
        free(x->files[i]);
    }
    for (size_t i = 0; i < x->item_count; i++)
        item_clear(&x->items[i]);
    free(x);
    return ok ? 0 : cli_fail(&e);
}

static const struct option_row inspect_options[] = {
    OPTION_JSON,
    {"min-share", OPT_BYTES, "BYTES", MIN_SHARE_DEFAULT,
     "Bytes that sharing must save to make a module; 0: whatever is common", NULL, 0, 0},
    {"write", OPT_TEXT, "DIR", NULL, "Write each module to DIR/DIGEST/module.onnx", NULL, 0, 0},
    {"dot", OPT_TEXT, "FILE", NULL,
     "Draw the modules: in graphviz's language (- for standard output), or a picture to FILE.svg",
     NULL, 0, 0},
    {"dtype", OPT_TEXT, "TYPE", "fp32", "Which files of a folder: fp32, fp16, int8, q4, ...", NULL,
     0, 0},
};

extern const struct command command_inspect;
const struct command command_inspect = {
    .name = "inspect",
    .usage = "[--json] [--min-share BYTES] [--write DIR] [--dot FILE] MODEL...",
    .summary = "Show the modules of models and what they share",
    .more = "MODEL is a folder or an .onnx file.  Nothing is run and no fleet is needed.",
    .options = inspect_options,
    .option_count = ARRAY_LEN(inspect_options),
    .min_args = 1,
    .max_args = (int)SHARE_MODELS_MAX,
    .run = run_inspect,
};
