/* prepare.h - what the runtime made of a module, made once and kept on this device.
 *
 *   DIR/<digest>-<key>/module.onnx   optimised for this CPU
 *                      module.bin    its constants, packed as this CPU's kernels want them
 *                      prepared.json which files, bytes and digests; or why it can't be made
 *   DIR/lock                          held while one is made: one at a time on this machine
 *   DIR/tmp.*                         being made
 *
 * The files hold what kernels use without a further look, so they are never taken from outside:
 * only folders that this user owns and nobody else may write, exactly these files, digests equal
 * to those noted.  The key is (runtime version, CPU, form of this folder).  Anything that does not
 * fit is made again. */
#pragma once
#include "base/err.h"

#include <stdint.h>

struct prepared {
    char *folder;  /* owned; NULL: load the module as it came */
    double ms;     /* spent on making it; 0: was there */
    uint64_t peak; /* of the process that made it, if it was another one */
};

/* Writes module.onnx (and module.bin) of the optimised form to an empty folder. */
typedef bool prepare_fn(void *arg, const char *to, uint64_t *peak, struct err *e);

/* verified: the caller had this entry checked before, in the same run of the program; then only
 * its folder is looked at, not the bytes.  Never fails: what can't be prepared is loaded as is. */
void prepared_take(const char *dir, const char *runtime_version, const char *digest, bool verified,
                   prepare_fn *make, void *arg, struct prepared *ret);

/* Makes the cache's folder if it is missing; *ret: its real path, free(), NULL for NULL. */
bool prepared_dir_make(const char *dir, char **ret, struct err *e);

/* 16 hex digits and 0. */
void prepared_key(const char *runtime_version, char ret[17]);
