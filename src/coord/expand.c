/* expand.c - a program of calls of groups as one of calls of modules.
 *
 * From the answer backwards: the output that is asked for leads to the module call that makes it,
 * that to what it takes, and so on; a call is made once however many take from it.  A group's own
 * inputs lead to the request's media, or to outputs of other groups. */
#include "coord/cut_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHOLE_FILE SIZE_MAX

/* Which call of which file a call of the new program is. */
struct made {
    int file;
    size_t call; /* of the share's model, or WHOLE_FILE */
    bool each;
};

struct expansion {
    const struct cut *c;
    const struct cut_model *m;
    const struct program *from;
    struct program *to;
    struct made made[PROGRAM_CALLS_MAX];
    int depth;
    struct err *e;
};

/* An output of a call of the new program. */
struct source {
    int call;
    const struct port *output;
};

static bool resolve(struct expansion *x, int call, const char *output, struct source *ret);

static const struct cut_group *group_of(const struct expansion *x, int call)
{
    for (int i = 0; i < x->m->group_count; i++)
        if (strcmp(x->m->groups[i].digest.hex, x->from->calls[call].module.hex) == 0)
            return &x->m->groups[i];
    return NULL;
}

/* -1: not yet. */
static int find_made(const struct expansion *x, const struct made *want)
{
    for (int i = 0; i < x->to->call_count; i++)
        if (x->made[i].file == want->file && x->made[i].call == want->call &&
            x->made[i].each == want->each)
            return i;
    return -1;
}

static int add_made(struct expansion *x, struct program_call *c, const struct made *made,
                    const struct cut_module *module)
{
    if (x->to->call_count >= PROGRAM_CALLS_MAX) {
        err_set(x->e, ERR_TOO_LARGE, "'%s' takes more than %d calls of modules", x->from->task,
                PROGRAM_CALLS_MAX);
        return -1;
    }
    c->module = module->identity;
    program_name_call(x->to, module->name, c);
    x->made[x->to->call_count] = *made;
    x->to->calls[x->to->call_count] = *c;
    return x->to->call_count++;
}

static bool room(const struct expansion *x, const struct program_call *c)
{
    return c->input_count < PROGRAM_INPUTS_MAX ||
           err_set(x->e, ERR_TOO_LARGE, "'%s': a module with more than %d inputs", x->from->task,
                   PROGRAM_INPUTS_MAX);
}

static bool add_source(struct expansion *x, struct program_call *c, const struct source *s,
                       const char *port)
{
    if (!room(x, c))
        return false;
    struct program_input *in = &c->inputs[c->input_count++];
    *in = (struct program_input){.call = s->call, .bytes = cut_port_bytes(s->output)};
    memcpy(in->output, s->output->name, sizeof(in->output));
    memcpy(in->port, port, TENSOR_NAME_MAX);
    return true;
}

/* Media as the call of the group has it: one processor gives ids and mask together. */
static bool add_media(struct expansion *x, struct program_call *c, const struct program_input *in)
{
    for (int i = 0; i < c->input_count; i++)
        if (c->inputs[i].media && c->inputs[i].kind == in->kind)
            return true;
    if (!room(x, c))
        return false;
    c->inputs[c->input_count++] = *in;
    return true;
}

/* The media input of a call that gives a port of the file; NULL: none. */
static const struct program_input *media_for(const struct program_call *c, const struct port *p)
{
    enum media_kind kind;
    const struct program_input *only = NULL;
    bool known = model_input_media(p, &kind);
    int count = 0;
    for (int i = 0; i < c->input_count; i++) {
        if (!c->inputs[i].media)
            continue;
        if (known && c->inputs[i].kind == kind)
            return &c->inputs[i];
        only = &c->inputs[i]; /* a mask beside sound looks like a text's */
        count++;
    }
    return count == 1 ? only : NULL;
}

/* What a port of the file is fed with in a call of a group, as an input of a new call. */
static bool add_file_input(struct expansion *x, int call, struct program_call *c,
                           const struct port *file_port, const char *port)
{
    const struct program_call *from = &x->from->calls[call];
    for (int i = 0; i < from->input_count; i++) {
        const struct program_input *in = &from->inputs[i];
        struct source s;
        if (!in->media && strcmp(in->port, file_port->name) == 0)
            return resolve(x, in->call, in->output, &s) && add_source(x, c, &s, port);
    }
    const struct program_input *media = media_for(from, file_port);
    if (!media || strcmp(port, file_port->name) != 0)
        return err_set(x->e, ERR_UNSUPPORTED,
                       "a module's input '%s' would be fed by a processor as '%s'", port,
                       file_port->name);
    return add_media(x, c, media);
}

static int make_call(struct expansion *x, int call, int file, size_t share_call);

static bool add_inputs(struct expansion *x, int call, int file, size_t share_call,
                       const struct cut_module *module, struct program_call *c)
{
    const struct share_model *s = &x->c->share->models[x->m->share[file]];
    size_t count;
    const struct port *inputs = onnx_inputs(x->m->source->files[file].onnx, &count);
    for (int i = 0; i < module->input_count; i++) {
        const struct share_ref *r = &s->calls[share_call].inputs[i];
        if (!r->call) {
            if (!add_file_input(x, call, c, &inputs[r->index], module->inputs[i].name))
                return false;
            continue;
        }
        struct source from = {.call = make_call(x, call, file, r->index)};
        if (from.call < 0)
            return false;
        from.output = &x->c->modules[s->calls[r->index].module].outputs[r->output];
        if (!add_source(x, c, &from, module->inputs[i].name))
            return false;
    }
    return true;
}

/* Index of the new call, made with all that it depends on; -1 on failure.  Each level of depth is a
 * call that is not made yet, so the depth is bounded as their number. */
static int make_call(struct expansion *x, int call, int file, size_t share_call)
{
    const struct made made = {file, share_call, x->from->calls[call].each};
    int known = find_made(x, &made);
    if (known >= 0)
        return known;
    if (x->depth >= PROGRAM_CALLS_MAX) {
        err_set(x->e, ERR_TOO_LARGE, "'%s' takes more than %d calls of modules", x->from->task,
                PROGRAM_CALLS_MAX);
        return -1;
    }
    const struct share_model *s = &x->c->share->models[x->m->share[file]];
    const struct cut_module *module = &x->c->modules[s->calls[share_call].module];
    struct program_call *c = calloc(1, sizeof(*c));
    if (!c) {
        err_set(x->e, ERR_MEMORY, "program: no memory");
        return -1;
    }
    c->each = made.each;
    x->depth++;
    bool ok = add_inputs(x, call, file, share_call, module, c);
    x->depth--;
    int index = ok ? add_made(x, c, &made, module) : -1;
    free(c);
    return index;
}

static int make_whole(struct expansion *x, int call, const struct cut_group *g)
{
    const struct program_call *from = &x->from->calls[call];
    const struct made made = {g->file, WHOLE_FILE, from->each};
    int known = find_made(x, &made);
    struct program_call *c = known < 0 ? calloc(1, sizeof(*c)) : NULL;
    if (!c) {
        if (known < 0)
            err_set(x->e, ERR_MEMORY, "program: no memory");
        return known;
    }
    bool ok = true;
    c->each = from->each;
    c->generate = from->generate;
    for (int i = 0; ok && i < from->input_count; i++) {
        const struct program_input *in = &from->inputs[i];
        struct source s;
        ok = in->media ? add_media(x, c, in)
                       : resolve(x, in->call, in->output, &s) && add_source(x, c, &s, in->port);
    }
    int index = ok ? add_made(x, c, &made, &x->c->modules[x->m->whole[g->file]]) : -1;
    free(c);
    return index;
}

/* output "": of a generation, which has none. */
static bool resolve(struct expansion *x, int call, const char *output, struct source *ret)
{
    const struct cut_group *g = group_of(x, call);
    size_t count;
    if (!g)
        return err_set(x->e, ERR_INTERNAL, "program: a call of no graph");
    const struct port *outputs = onnx_outputs(x->m->source->files[g->file].onnx, &count);
    int index = cut_find_port(outputs, (int)count, output);
    if (index < 0 && *output)
        return err_set(x->e, ERR_INTERNAL, "program: there is no output '%s'", output);
    if (g->whole) {
        ret->call = make_whole(x, call, g);
        ret->output = index < 0 ? NULL : &outputs[index];
        return ret->call >= 0;
    }
    const struct share_model *s = &x->c->share->models[x->m->share[g->file]];
    const struct share_ref *r = index < 0 ? NULL : &s->outputs[index];
    if (!r || !r->call)
        return err_set(x->e, ERR_UNSUPPORTED, "output '%s' is an input as it is", output);
    ret->call = make_call(x, call, g->file, r->index);
    ret->output = &x->c->modules[s->calls[r->index].module].outputs[r->output];
    return ret->call >= 0;
}

static bool expand_answer(struct expansion *x)
{
    const struct program_answer *from = &x->from->answer;
    struct program_answer *to = &x->to->answer;
    struct source s;
    *to = *from;
    if (!resolve(x, from->call, from->output, &s))
        return false;
    to->call = s.call;
    if (s.output)
        memcpy(to->output, s.output->name, sizeof(to->output));
    if (from->kind != ANSWER_SIMILARITY)
        return true;
    if (!resolve(x, from->other, from->other_output, &s))
        return false;
    to->other = s.call;
    if (s.output)
        memcpy(to->other_output, s.output->name, sizeof(to->other_output));
    return true;
}

static bool copy_rest(struct expansion *x)
{
    struct program *to = x->to;
    memcpy(to->task, x->from->task, sizeof(to->task));
    memcpy(to->hypothesis, x->from->hypothesis, sizeof(to->hypothesis));
    to->generation = json_incref(x->from->generation);
    to->labels = calloc((size_t)x->from->label_count + 1, sizeof(*to->labels));
    for (int i = 0; to->labels && i < x->from->label_count; i++) {
        to->labels[i] = strdup(x->from->labels[i]);
        if (!to->labels[i])
            break;
        to->label_count++;
    }
    return (to->labels && to->label_count == x->from->label_count) ||
           err_set(x->e, ERR_MEMORY, "program: no memory");
}

struct program *cut_expand(const struct cut *c, const struct cut_model *m, const struct program *p,
                           struct err *e)
{
    struct expansion *x = calloc(1, sizeof(*x));
    struct program *to = calloc(1, sizeof(*to));
    bool ok = (x && to) || err_set(e, ERR_MEMORY, "program: no memory");
    if (ok) {
        *x = (struct expansion){.c = c, .m = m, .from = p, .to = to, .e = e};
        ok = copy_rest(x) && expand_answer(x);
    }
    free(x);
    if (ok)
        return to;
    program_free(to);
    return NULL;
}
