/* link.h - one runner process, seen from its parent: started, asked, ended.  Private to exec. */
#pragma once
#include "exec/channel.h"

#define LINK_START_MS 30000  /* until it says that it is ready */
#define LINK_LOAD_S 900      /* for loading or preparing one module */
#define LINK_CANCEL_MS 30000 /* a cancelled run that goes on for longer ends with its process */

struct link_options {
    const char *runner_path, *runtime_path;          /* the runtime's real path */
    const char *read_dir, *prepared_dir, *write_dir; /* what it may touch; NULL: nothing */
    int threads, lanes;
};

struct link;

/* Starts the process and waits until it is ready.  Must be called by a thread that lives as long as
 * the process shall: the kernel ends the process with the thread that started it.
 * ERR_INVALID in a runner. */
bool link_start(const struct link_options *o, struct link **ret, struct err *e);

struct link *link_ref(struct link *l);
/* The last one closes the sockets, waits a moment for the process to end, and kills it. */
void link_unref(struct link *l);

void link_kill(struct link *l); /* SIGKILL; calls under way fail with ERR_GONE */
bool link_ended(const struct link *l);

/* Waits until the process has ended (true) or something can be read from wake_fd (false). */
bool link_watch(const struct link *l, int wake_fd);

pid_t link_pid(const struct link *l);
const char *link_version(const struct link *l);
int link_landlock(const struct link *l);

/* One after another; ERR_GONE when the process dies meanwhile.  level: ORT_LEVEL_... */
bool link_load(struct link *l, uint32_t number, const char *folder, int level,
               struct module_info *info, struct err *e);
bool link_unload(struct link *l, uint32_t number, struct err *e);
bool link_prepare(struct link *l, const char *folder, const char *to, struct err *e);

/* One at a time per lane. */
bool link_run(struct link *l, int lane, uint32_t number, const struct module_info *info,
              const struct tensor *inputs, struct cancel *cancel, struct tensor *outputs,
              struct err *e);

/* prepared_take() with a process of its own that makes it.  o: runner, runtime, prepared_dir,
 * threads. */
struct prepared;
void link_prepared(const struct link_options *o, const char *version, const char *folder,
                   const char *digest, bool verified, struct prepared *ret);
