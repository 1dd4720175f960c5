/* session.h - one ONNX Runtime session: a module loaded into this process. */
#pragma once
#include "exec/backend.h"
#include "exec/runtime.h"

struct session;

/* Makes a session of one addition and runs it: what the runtime takes with the first session,
 * whichever that is (8 MiB, most of it pages of its library), is then its own and no module's. */
bool session_warm_up(const struct runtime *r, struct err *e);

/* save_dir: optimise FOLDER/module.onnx and write the result there (module.onnx, module.bin) instead
 * of keeping the session; then ret may be NULL.  level: ORT_LEVEL_ALL for a model as it came,
 * ORT_LEVEL_NONE for a prepared one. */
bool session_open(const struct runtime *r, const char *folder, int level, int threads,
                  const char *save_dir, struct session **ret, struct module_info *info,
                  struct err *e);
void session_close(struct session *s); /* NULL is fine; no run may be under way */

/* Any number at once.  inputs in the order of the ports. */
bool session_run(struct session *s, const struct module_info *info, const struct tensor *inputs,
                 struct cancel *cancel, struct tensor *outputs, struct err *e);
