/* exec.h - runs modules on this machine; the only folder that knows ONNX Runtime.
 *
 * Three back ends under one interface:
 *   EXEC_RUNNER  the runtime lives in a child process (`RUNNER_PATH runner 3`) without network and
 *                without files other than the modules'.  When it dies, calls under way fail with
 *                ERR_GONE, and it is started again with its modules; a call that comes meanwhile
 *                waits for up to EXEC_RESTART_WAIT_MS.
 *   EXEC_LOCAL   the runtime is loaded into this process.
 *   EXEC_FAKE    no runtime; module.onnx is a line of text (below).  For tests.
 *
 * A module is a folder with module.onnx and its external data files beside it.
 *
 * Fake modules.  The first line of module.onnx, words separated by one space:
 *     fake noop|add|fail|crash|sleep [MS] in NAME DTYPE DIMS ... out NAME DTYPE DIMS ...
 * DIMS are "2x-1x4", or "scalar"; -1 is dynamic and takes the size of that dim of the first input.
 *   noop   output i has the bytes of input i, as far as they reach, then zeros
 *   add    every output is the elementwise sum of all inputs (float32 only, equal shapes)
 *   fail   every run fails with ERR_UNSUPPORTED
 *   crash  every run fails with ERR_GONE, as when a runner dies
 *   sleep  waits MS milliseconds or until cancelled, then like noop
 *
 * Threads: every function may be called from any thread.  exec_run() calls run at the same time,
 * also on one module, `lanes` of them at once; the others wait in a queue (first come, first
 * served), and beyond its limit get ERR_BUSY.
 * Signals: the caller ignores SIGPIPE or not; nothing here raises it.
 *
 * Environment: ORT_DISABLE_TELEMETRY=1 is set in the process that loads the runtime, before it is
 * loaded, so EXEC_LOCAL wants to be created before other threads read the environment.
 *
 * Unresolved: a runtime that checks its stop flag between graph nodes notices a cancel only after
 * the node that runs. */
#pragma once
#include "base/cancel.h"
#include "base/digest.h"
#include "tensor/tensor.h"

#include <sys/types.h>

#define EXEC_PORTS_MAX 256 /* inputs, or outputs, of a module */
#define EXEC_LANES_MAX 64
#define EXEC_THREADS_MAX 256
#define EXEC_QUEUE_MAX 4096
#define EXEC_MODULES_MAX 1024              /* loaded at once */
#define EXEC_INLINE_MAX ((size_t)64 << 10) /* tensors of a call up to this travel in the message */
#define EXEC_RESTART_WAIT_MS 2000
#define EXEC_VERSION_MAX 32

/* Set in the environment of a runner; where it is set, no further runner is started. */
#define EXEC_RUNNER_MARK "S2M3_RUNNER"

enum exec_kind { EXEC_RUNNER, EXEC_LOCAL, EXEC_FAKE };
const char *exec_kind_name(enum exec_kind kind); /* "runner", "local", "fake" */

/* Texts are copied. */
struct exec_options {
    const char *runtime_path; /* libonnxruntime.so; NULL: $S2M3_RUNTIME, then ../lib of the program,
                                 .deps/lib of a folder above it, the system's */
    const char *runner_path;  /* program that calls exec_runner_main() for `PATH runner FD`;
                                 EXEC_RUNNER and exec_measure() need it, there is no default */
    const char *modules_dir;  /* EXEC_RUNNER: module folders lie below it, and nothing else of the
                                 disk can be read by the runner (besides libraries). Is created;
                                 NULL: there are none, so nothing can be loaded */
    const char *prepared_dir; /* what the runtime made of modules, made once; NULL: no such cache.
                                 Is created; only this user may have access to it */
    int threads;              /* within one run; 0: cores / lanes, at least 1 */
    int lanes;                /* runs at once; 0: 1 */
    int queue;                /* runs that may wait; 0: 64 */
};

struct exec;
struct exec_module;

bool exec_create(enum exec_kind kind, const struct exec_options *o, struct exec **ret,
                 struct err *e);

/* Unload all modules before.  NULL is fine. */
void exec_destroy(struct exec *x);

/* Loads FOLDER/module.onnx.  digest: the module's name, 64 hex digits; the key of what is prepared
 * (its content is not compared with it here).  The module is ready to run when this returns. */
bool exec_load(struct exec *x, const char *folder, const char *digest, struct exec_module **ret,
               struct err *e);

/* Waits for the runs under way; no new one may be started meanwhile.  NULL is fine. */
void exec_unload(struct exec_module *m);

/* Belong to the module.  -1: dynamic dim. */
const struct port *exec_inputs(const struct exec_module *m, int *count);
const struct port *exec_outputs(const struct exec_module *m, int *count);

/* One run.  inputs: each input port exactly once, in any order; they are only borrowed.
 * outputs: room for one tensor per output port, in their order; filled on success, cleared by the
 * caller.  cancel may be NULL.
 * ERR_INVALID: inputs that do not fit the ports; ERR_BUSY: queue full; ERR_CANCELLED; ERR_GONE:
 * the runner died, try again; ERR_UNSUPPORTED: the runtime could not compute this. */
bool exec_run(struct exec_module *m, const struct named_tensor *inputs, int count,
              struct cancel *cancel, struct tensor *outputs, struct err *e);

struct exec_status {
    enum exec_kind kind;
    char version[EXEC_VERSION_MAX]; /* of the runtime; "none" for the fake */
    pid_t pid;                      /* of the runner; this process for the others; 0: restarting */
    uint32_t restarts;              /* of the runner since exec_create() */
    int running, waiting;           /* runs */
    int modules;
    bool no_network; /* the runner can't make sockets (seccomp) */
    int landlock;    /* version of the kernel's file sandbox in use; 0: none */
};
struct exec_status exec_status(struct exec *x);

/* ---- measuring ------------------------------------------------------------------------------- */

#define EXEC_BATCHES_MAX 16
#define EXEC_DIMS_MAX 64
#define EXEC_DIM_VALUE_MAX 65536
#define EXEC_RUNS_MAX 1000

/* Of one process, in bytes (/proc/PID/smaps). */
struct exec_memory {
    uint64_t anonymous; /* private to it, not reclaimable */
    uint64_t file;      /* resident pages of the module's files, prepared ones included */
    uint64_t mapped;    /* what of these files is mapped, so may become resident */
    uint64_t base;      /* resident pages of libraries and the program */
    uint64_t pss;       /* all of it, shared pages divided among those who share */
    uint64_t peak;      /* VmHWM since the sample before */
};

struct exec_dim {
    char name[TENSOR_NAME_MAX]; /* the dim's name in the model, or "PORT.INDEX" */
    int64_t value;              /* 0 to EXEC_DIM_VALUE_MAX */
};

struct exec_measure_plan {
    int batches[EXEC_BATCHES_MAX]; /* sizes of the first dim where that is dynamic */
    int batch_count;
    struct exec_dim dims[EXEC_DIMS_MAX]; /* other dynamic dims; what is not named gets a guess by
                                            its name ("a + b" is the sum; heights and widths 224;
                                            else the first of a short list that runs) */
    int dim_count;
    int runs;   /* per batch size; 0: 5 */
    int max_ms; /* per batch size: no further run starts later than this; 0: 2000 */
};

struct exec_profile {
    struct exec_memory before; /* runtime up and run once, module not loaded */
    struct exec_memory loaded;
    struct exec_memory after; /* after all runs; its peak is that of the runs */
    uint64_t working;         /* what a run takes beside the module, and lets go */
    double load_ms;           /* without preparing */
    double prepare_ms;        /* 0: nothing was to do */
    uint64_t prepare_peak;    /* peak of the process that prepared; 0: nothing was to do */
    bool prepared;            /* what was loaded is the prepared form */
    int count;                /* batch sizes that ran, in the plan's order */
    int batches[EXEC_BATCHES_MAX];
    double run_ms[EXEC_BATCHES_MAX]; /* median; the first run of a size is not counted */
    int guess;                       /* value of the dims that nothing was known of; 0: none */
    char run_error[ERR_TEXT_MAX];    /* why a batch size did not run (the guess of a dim may not
                                        suit the model); empty: all ran */
};

/* Measures in a child process of its own; takes as long as loading and the runs do.
 * plan NULL: batch 1.  Options as for EXEC_RUNNER (modules_dir is not needed). */
bool exec_measure(const struct exec_options *o, const char *folder, const char *digest,
                  const struct exec_measure_plan *plan, struct exec_profile *ret, struct err *e);

/* ---- the runner's side ----------------------------------------------------------------------- */

/* What `PROGRAM runner FD` calls first of all, before it makes threads.  Returns the exit code. */
int exec_runner_main(int fd);
