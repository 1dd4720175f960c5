/* local.c - the back end that runs modules in this process. */
#include "exec/backend.h"

#include "exec/prepare.h"
#include "exec/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct local {
    struct backend backend;
    const struct exec_options *options; /* kept */
    char *prepared_dir;                 /* real path, or NULL */
    const struct runtime *runtime;
};

struct making {
    const struct local *local;
    const char *folder;
};

static bool make_prepared(void *arg, const char *to, uint64_t *peak, struct err *e)
{
    const struct making *m = arg;
    *peak = 0;
    return session_open(m->local->runtime, m->folder, ORT_LEVEL_ALL, m->local->options->threads, to,
                        NULL, NULL, e);
}

static bool local_load(struct backend *b, const char *folder, const char *digest, void **module,
                       struct module_info *info, struct err *e)
{
    struct local *l = (struct local *)b;
    struct prepared p = {0};
    struct making making = {.local = l, .folder = folder};
    struct session *s = NULL;
    if (l->prepared_dir)
        prepared_take(l->prepared_dir, l->runtime->version, digest, false, make_prepared, &making,
                      &p);
    bool ok = session_open(l->runtime, p.folder ? p.folder : folder,
                           p.folder ? ORT_LEVEL_NONE : ORT_LEVEL_ALL, l->options->threads, NULL, &s,
                           info, e);
    info->prepared = p.folder != NULL;
    info->prepare_ms = p.ms;
    free(p.folder);
    if (ok)
        *module = s;
    return ok;
}

static void local_unload(struct backend *b, void *module)
{
    (void)b;
    session_close(module);
}

static bool local_run(struct backend *b, void *module, const struct module_info *info, int lane,
                      const struct tensor *inputs, struct cancel *cancel, struct tensor *outputs,
                      struct err *e)
{
    (void)b, (void)lane;
    return session_run(module, info, inputs, cancel, outputs, e);
}

static void local_status(struct backend *b, struct exec_status *s)
{
    const struct local *l = (const struct local *)b;
    s->kind = EXEC_LOCAL;
    s->pid = getpid();
    (void)snprintf(s->version, sizeof(s->version), "%s", l->runtime->version);
}

static void local_destroy(struct backend *b)
{
    free(((struct local *)b)->prepared_dir);
    free(b);
}

static const struct backend_ops local_ops = {
    .load = local_load,
    .unload = local_unload,
    .run = local_run,
    .status = local_status,
    .destroy = local_destroy,
};

bool local_create(const struct exec_options *o, struct backend **ret, struct err *e)
{
    char *path = NULL;
    struct local *l = calloc(1, sizeof(*l));
    if (!l)
        return err_set(e, ERR_MEMORY, "exec: no memory");
    *l = (struct local){.backend.ops = &local_ops, .options = o};
    bool ok = runtime_find(o->runtime_path, &path, e) && runtime_open(path, e) &&
              runtime_start(&l->runtime, e) && session_warm_up(l->runtime, e) &&
              prepared_dir_make(o->prepared_dir, &l->prepared_dir, e);
    free(path);
    if (ok)
        *ret = &l->backend;
    else
        local_destroy(&l->backend);
    return ok;
}
