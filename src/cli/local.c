/* local.c - the same programs and modules as in a fleet, called one after the other. */
#include "cli/local.h"

#include "base/clock.h"
#include "base/file.h"
#include "cli/external.h"
#include "cli/folder.h"
#include "coord/cut.h"
#include "task/answer.h"
#include "task/generate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIDE_FILE_MAX ((size_t)64 << 20)
#define MODULES_MAX 256
#define RESULTS_MAX (PROGRAM_CALLS_MAX + REQUEST_CANDIDATES_MAX)

struct local_module {
    struct digest digest;
    struct exec_module *module;
};

/* The model as it was given; texts and graphs are owned. */
struct given {
    struct cut_source source;
    char *texts[FOLDER_FILES_MAX];
    int text_count;
};

struct local {
    struct folder folder;
    struct given given;
    struct cut *cut;
    struct exec *exec;
    struct prepare *prepare;
    char *work; /* a temporary folder: the runtime opens modules by folder */
    struct local_module modules[MODULES_MAX];
    int module_count;
    struct program **programs;
    int program_count;
};

/* ---- opening ---------------------------------------------------------------------------------------- */

static const struct folder_file *by_digest(const struct folder *f, const char *digest)
{
    for (int i = 0; i < f->count; i++)
        if (strcmp(f->files[i].digest.hex, digest) == 0)
            return &f->files[i];
    return NULL;
}

static bool side_file(void *ctx, const char *digest, char **ret, size_t *size, struct err *e)
{
    const struct local *l = ctx;
    const struct folder_file *f = by_digest(&l->folder, digest);
    if (!f)
        return err_set(e, ERR_NOT_FOUND, "side file %.12s: not in the folder", digest);
    return file_read(f->path, SIDE_FILE_MAX, ret, size, e);
}

static struct model_file *place_of(struct model_source *s, const char *name)
{
    if (strcmp(name, "config.json") == 0)
        return &s->config;
    if (strcmp(name, "preprocessor_config.json") == 0 || strcmp(name, "processor_config.json") == 0)
        return s->preprocessor.text ? NULL : &s->preprocessor;
    if (strcmp(name, "tokenizer.json") == 0)
        return &s->tokenizer;
    if (strcmp(name, "generation_config.json") == 0)
        return &s->generation;
    return strcmp(name, "s2m3.json") == 0 ? &s->s2m3 : NULL;
}

static bool read_graph(struct given *g, const struct folder *in, const struct folder_file *f,
                       struct err *e)
{
    const char *base = strrchr(f->name, '/');
    base = base ? base + 1 : f->name;
    if (g->source.file_count >= MODEL_GRAPHS_MAX)
        return err_set(e, ERR_TOO_LARGE, "more than %d .onnx files", MODEL_GRAPHS_MAX);
    struct cut_file *to = &g->source.files[g->source.file_count];
    char *path = text_format("%s/%s", in->root, f->name);
    bool ok = path ? external_open(path, &to->onnx, e) : err_set(e, ERR_MEMORY, "no memory");
    free(path);
    if (!ok)
        return false;
    g->source.file_count++;
    to->digest = f->digest;
    (void)snprintf(to->name, sizeof(to->name), "%.*s", (int)(strlen(base) - strlen(".onnx")), base);
    return true;
}

static bool read_given(struct given *g, const struct folder *f, struct err *e)
{
    g->source.model.name = f->name;
    for (int i = 0; i < f->count; i++) {
        const struct folder_file *file = &f->files[i];
        if (folder_is_graph(file)) {
            if (!read_graph(g, f, file, e))
                return false;
            continue;
        }
        struct model_file *to = place_of(&g->source.model, file->name);
        char *text;
        if (!to)
            continue;
        if (!file_read(file->path, SIDE_FILE_MAX, &text, &to->size, e))
            return false;
        g->texts[g->text_count++] = text;
        to->text = text;
        to->digest = file->digest;
    }
    return true;
}

/* Modules are named by their identity here: nobody else sees their bytes. */
static bool read_programs(struct local *l, struct err *e)
{
    struct cut_source *source = &l->given.source;
    if (!read_given(&l->given, &l->folder, e) || !cut_find(&source, 1, CUT_MIN_SHARE, &l->cut, e))
        return false;
    for (int i = 0; i < l->cut->module_count; i++)
        l->cut->modules[i].digest = l->cut->modules[i].identity;
    json_t *model = cut_model_json(l->cut, 0);
    bool ok =
        model_programs(json_object_get(model, "programs"), &l->programs, &l->program_count, e);
    json_decref(model);
    return ok;
}

static bool make_work(struct local *l, struct err *e)
{
    const char *base = getenv("TMPDIR");
    l->work = text_format("%s/s2m3-run-XXXXXX", base && *base ? base : "/tmp");
    return (l->work && mkdtemp(l->work)) || err_set(e, ERR_IO, "can't make a temporary folder");
}

/* Makes FOLDER/module.onnx: a link to the user's file, or the module cut out of it. */
static bool make_module(struct local *l, const char *digest, const char *folder, struct err *e)
{
    int index = cut_module_by_identity(l->cut, digest);
    if (index < 0)
        return err_set(e, ERR_NOT_FOUND, "module %.12s: not in the folder", digest);
    if (!file_make_dirs(folder, e))
        return false;
    const struct cut_file *whole = l->cut->modules[index].file;
    if (!whole)
        return cut_write(l->cut, index, folder, e);
    if (onnx_is_external(whole->onnx))
        return external_write(whole->onnx, folder, e);
    const struct folder_file *f = by_digest(&l->folder, digest);
    char *file = text_format("%s/module.onnx", folder);
    bool ok = f && file && symlink(f->path, file) == 0;
    free(file);
    return ok || err_set(e, ERR_IO, "can't write to %s", l->work);
}

static bool load_module(struct local *l, const char *digest, struct exec_module **ret,
                        struct err *e)
{
    for (int i = 0; i < l->module_count; i++)
        if (strcmp(l->modules[i].digest.hex, digest) == 0) {
            *ret = l->modules[i].module;
            return true;
        }
    if (l->module_count >= MODULES_MAX)
        return err_set(e, ERR_TOO_LARGE, "more than %d modules", MODULES_MAX);
    char *folder = text_format("%s/%s", l->work, digest);
    struct local_module *m = &l->modules[l->module_count];
    bool ok = folder ? make_module(l, digest, folder, e) : err_set(e, ERR_MEMORY, "no memory");
    ok = ok && exec_load(l->exec, folder, digest, &m->module, e);
    free(folder);
    if (!ok)
        return false;
    (void)snprintf(m->digest.hex, sizeof(m->digest.hex), "%s", digest);
    l->module_count++;
    *ret = m->module;
    return true;
}

bool local_open(const char *folder, const char *dtype, const struct exec_options *options,
                struct local **ret, struct err *e)
{
    struct local *l = calloc(1, sizeof(*l));
    if (!l)
        return err_set(e, ERR_MEMORY, "no memory");
    bool ok = folder_read(folder, dtype, &l->folder, e) && make_work(l, e) && read_programs(l, e) &&
              exec_create(EXEC_LOCAL, options, &l->exec, e);
    l->prepare = ok ? prepare_new(16, side_file, l) : NULL;
    if (!ok || !l->prepare) {
        local_close(l);
        return ok ? err_set(e, ERR_MEMORY, "no memory") : false;
    }
    *ret = l;
    return true;
}

void local_close(struct local *l)
{
    if (!l)
        return;
    for (int i = 0; i < l->module_count; i++)
        exec_unload(l->modules[i].module);
    exec_destroy(l->exec);
    prepare_free(l->prepare);
    model_programs_free(l->programs, l->program_count);
    cut_free(l->cut);
    for (int i = 0; i < l->given.source.file_count; i++)
        onnx_close(l->given.source.files[i].onnx);
    for (int i = 0; i < l->given.text_count; i++)
        free(l->given.texts[i]);
    folder_clear(&l->folder);
    if (l->work)
        (void)file_remove_tree(l->work, NULL);
    free(l->work);
    free(l);
}

/* ---- answering ---------------------------------------------------------------------------------------- */

/* Outputs of one call. */
struct outputs {
    const struct port *ports;
    int count;
    struct tensor *tensors; /* owned */
};

struct run {
    struct local *local;
    const struct program *program;
    const struct request *request;
    struct outputs calls[PROGRAM_CALLS_MAX]; /* of calls made per candidate: the present one's */
    struct tensor *candidates;               /* what the answer takes of each candidate */
    char *text;
    uint32_t tokens;
    struct exec_module *generating;
};

static void clear_outputs(struct outputs *o)
{
    for (int i = 0; o->tensors && i < o->count; i++)
        tensor_clear(&o->tensors[i]);
    free(o->tensors);
    *o = (struct outputs){0};
}

static const struct tensor *find_output(const struct outputs *o, const char *name, struct err *e)
{
    for (int i = 0; i < o->count; i++)
        if (strcmp(o->ports[i].name, name) == 0)
            return &o->tensors[i];
    err_set(e, ERR_NOT_FOUND, "a module has no output '%s'", name);
    return NULL;
}

/* first: of each processor's tensors. */
static bool gather_inputs(struct run *r, const struct program_call *c, int item,
                          struct named_tensor *inputs, int max, int *count, int *first,
                          int *first_count, struct err *e)
{
    for (int i = 0; i < c->input_count; i++) {
        const struct program_input *in = &c->inputs[i];
        int made = 0;
        if (in->media) {
            struct mem *m = request_media(r->request, c, in->kind, item);
            if (!prepare_run(r->local->prepare, media_kind_name(in->kind), in->config.hex,
                             mem_data(m), mem_size(m), inputs + *count, max - *count, &made, e))
                return false;
            if (made > 0)
                first[(*first_count)++] = *count;
            *count += made;
            continue;
        }
        const struct tensor *t = find_output(&r->calls[in->call], in->output, e);
        if (!t || *count >= max)
            return false;
        memcpy(inputs[*count].name, in->port, sizeof(inputs[*count].name));
        inputs[(*count)++].tensor = tensor_ref(t);
    }
    return true;
}

static bool step(void *ctx, const struct named_tensor *inputs, int count, struct tensor *outputs,
                 struct err *e)
{
    struct run *r = ctx;
    return exec_run(r->generating, inputs, count, NULL, outputs, e);
}

static bool generate(struct run *r, struct exec_module *m, const struct named_tensor *inputs,
                     int count, struct err *e)
{
    json_t *settings = json_deep_copy(r->program->generation);
    if (r->request->max_new_tokens > 0)
        json_object_set_new(settings, "max_new_tokens", json_integer(r->request->max_new_tokens));
    struct generate_job job = {.settings = settings,
                               .inputs = inputs,
                               .input_count = count,
                               .prepare = r->local->prepare,
                               .step = step,
                               .ctx = r};
    job.module_inputs = exec_inputs(m, &job.module_input_count);
    job.module_outputs = exec_outputs(m, &job.module_output_count);
    r->generating = m;
    bool ok = generate_run(&job, &r->text, &r->tokens, e);
    json_decref(settings);
    return ok;
}

static bool run_call(struct run *r, int call, int item, struct err *e)
{
    const struct program_call *c = &r->program->calls[call];
    struct named_tensor inputs[WIRE_INPUTS_MAX] = {0};
    struct exec_module *m;
    int count = 0, first[PROGRAM_INPUTS_MAX], first_count = 0, port_count;
    if (!load_module(r->local, c->module.hex, &m, e))
        return false;
    bool ok = gather_inputs(r, c, item, inputs, WIRE_INPUTS_MAX, &count, first, &first_count, e);
    struct outputs o = {0};
    o.ports = exec_outputs(m, &o.count);
    o.tensors = calloc((size_t)o.count + 1, sizeof(*o.tensors));
    ok = ok && (o.tensors || err_set(e, ERR_MEMORY, "no memory"));
    if (ok && c->generate) {
        ok = generate(r, m, inputs, count, e);
    } else if (ok) {
        const struct port *ports = exec_inputs(m, &port_count);
        count = prepare_match(ports, port_count, first, first_count, inputs, count);
        ok = exec_run(m, inputs, count, NULL, o.tensors, e);
    }
    for (int i = 0; i < count; i++)
        tensor_clear(&inputs[i].tensor);
    if (ok && c->each && call == r->program->answer.other) {
        const struct tensor *t = find_output(&o, r->program->answer.other_output, e);
        ok = t != NULL;
        if (ok)
            r->candidates[item] = tensor_ref(t);
    }
    clear_outputs(&r->calls[call]);
    r->calls[call] = o;
    return ok;
}

static bool run_program(struct run *r, json_t **ret, struct err *e)
{
    const struct program *p = r->program;
    bool ok = true;
    for (int c = 0; ok && c < p->call_count; c++)
        ok = p->calls[c].each || run_call(r, c, 0, e);
    for (int i = 0; ok && i < r->request->candidate_count; i++)
        for (int c = 0; ok && c < p->call_count; c++)
            ok = !p->calls[c].each || run_call(r, c, i, e);
    struct answer_input in = {.candidates = r->candidates,
                              .candidate_count = r->request->candidate_count,
                              .text = r->text};
    if (ok && p->answer.kind != ANSWER_TEXT) {
        in.value = find_output(&r->calls[p->answer.call], p->answer.output, e);
        ok = in.value != NULL;
    }
    return ok && answer_make(p, r->request, &in, ret, e);
}

bool local_answer(struct local *l, const char *task, struct request *request, json_t **ret,
                  struct err *e)
{
    int chosen = request_choose(l->programs, l->program_count, task, request, e);
    if (chosen < 0 || !request_fit(request, l->programs[chosen], e))
        return false;
    struct run *r = calloc(1, sizeof(*r));
    if (r)
        r->candidates = calloc((size_t)request->candidate_count + 1, sizeof(*r->candidates));
    if (!r || !r->candidates) {
        free(r);
        return err_set(e, ERR_MEMORY, "no memory");
    }
    r->local = l;
    r->program = l->programs[chosen];
    r->request = request;
    bool ok = run_program(r, ret, e);
    for (int c = 0; c < PROGRAM_CALLS_MAX; c++)
        clear_outputs(&r->calls[c]);
    for (int i = 0; i < request->candidate_count; i++)
        tensor_clear(&r->candidates[i]);
    free(r->candidates);
    free(r->text);
    free(r);
    return ok;
}
