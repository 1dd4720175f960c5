/* blobs.h - content by digest on disk, and the modules that a device holds.
 *
 *   DATA/blobs/<digest>               a file's bytes, mode 0400 once complete
 *   DATA/partial/<digest>             what has come so far of a transfer; resumed after a restart
 *   DATA/modules/<digest>/            a module as the runtime opens it: module.onnx is a hard link to
 *                                     the blob, or (store/bundle.h) weights.bin is, and module.onnx
 *                                     is written beside it
 *   DATA/work/                        a module that is being written
 *   DATA/prepared/<digest>-<key>/     what the runtime made of it (exec/prepare.h); only swept here
 *
 * A blob appears under its name only when its bytes gave the digest; then it is never written
 * again.  Names come from digest_valid() alone, so no path from outside reaches the disk.
 *
 * Threads: any; two transfers of one digest at once are refused with ERR_BUSY. */
#pragma once
#include "base/digest.h"

#include <stdint.h>
#include <sys/types.h>

#define BLOB_BYTES_MAX ((uint64_t)1 << 40)

struct blobs;

bool blobs_open(const char *data_dir, struct blobs **ret, struct err *e);
void blobs_close(struct blobs *b);

bool blobs_has(const struct blobs *b, const char *digest);
bool blobs_size(const struct blobs *b, const char *digest, uint64_t *ret, struct err *e);

/* Opens for reading; the caller closes *ret. */
bool blobs_read(const struct blobs *b, const char *digest, int *ret, struct err *e);

/* The whole of a small blob; free(). */
bool blobs_load(const struct blobs *b, const char *digest, size_t max, char **ret, size_t *ret_size,
                struct err *e);

/* A transfer: begin says how many bytes are there already; append; commit verifies the digest
 * (a wrong one removes what was gathered) and makes the blob appear; abandon keeps the bytes for
 * a later begin, unless the disk refused some: then append has given back the room. commit and abandon free the transfer. */
struct blob_transfer;
bool blobs_begin(struct blobs *b, const char *digest, struct blob_transfer **ret, uint64_t *have,
                 struct err *e);
bool blob_append(struct blob_transfer *t, const void *data, size_t size, struct err *e);
bool blob_commit(struct blob_transfer *t, struct err *e);
void blob_abandon(struct blob_transfer *t);

/* Whole content at once. */
bool blobs_put(struct blobs *b, const void *data, size_t size, struct digest *ret, struct err *e);

/* A module that write() puts into FOLDER (module.onnx, and weights.bin if it has that) becomes a
 * blob.  One at a time. */
bool blobs_write_module(struct blobs *b,
                        bool (*write)(void *ctx, const char *folder, struct err *e), void *ctx,
                        struct digest *ret, struct err *e);
/* Removes a blob that was written for a moment, and its module's folder. */
void blobs_drop(struct blobs *b, const char *digest);

/* Makes the module's folder from its blob and gives the folder's path (free()). */
bool blobs_module_folder(struct blobs *b, const char *digest, char **ret, struct err *e);
void blobs_module_remove(struct blobs *b, const char *digest);

/* For blobs_sweep(): young, when somebody is about to use the blob; old, once it is in use. */
void blobs_touch(struct blobs *b, const char *digest, bool young);

/* Removes blobs and partial transfers for which keep() says no; returns how many.  age_s: seconds
 * since the last byte came or blobs_touch(); by the wall clock, so it may be negative. */
int blobs_sweep(struct blobs *b, bool (*keep)(void *ctx, const char *digest, int64_t age_s),
                void *ctx);
/* The same for the folders of modules and of what was prepared from them. */
int blobs_sweep_modules(struct blobs *b, bool (*keep)(void *ctx, const char *digest, int64_t age_s),
                        void *ctx);

const char *blobs_dir(const struct blobs *b);
