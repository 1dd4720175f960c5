/* memory.h - what a process uses, told apart by mapping.  Private to exec. */
#pragma once
#include "exec/exec.h"

/* Reads /proc/PID/smaps and status.  module_dirs: resident pages of files below either of the two
 * (real paths; NULL: none) are the module's, of other files base. */
bool memory_read(pid_t pid, const char *module_dir, const char *prepared_dir,
                 struct exec_memory *ret, struct err *e);

/* From now on VmHWM counts anew. */
bool memory_reset_peak(pid_t pid, struct err *e);
