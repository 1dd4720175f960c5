/* external.h - .onnx files with external data, as people have them on their disks.
 *
 * Names of data files are relative to the .onnx file's folder: a file of it or of its sub-folders;
 * no "..", no absolute path.  No link is followed, but for that of a data file in a snapshot of
 * Hugging Face's cache, to a file right in blobs/ of that cache.
 *
 * To the fleet goes a bundle (store/bundle.h) in place of the file and its data: one content, one
 * digest.  It is read piece by piece out of the mapped files. */
#pragma once
#include "base/digest.h"
#include "onnx/relocate.h"
#include "store/bundle.h"

/* Opens PATH, with external data by these rules. */
bool external_open(const char *path, struct onnx **ret, struct err *e);

struct packed {
    struct onnx *model; /* owned */
    struct relocated moved;
    uint8_t footer[BUNDLE_FOOTER_BYTES];
    uint64_t size; /* of the bundle */
    uint32_t at;   /* of reading: the piece, and what of it was read */
    size_t done;
};

/* The bundle of PATH; *ret NULL: it has no external data and goes as it is. */
bool external_pack(const char *path, struct packed **ret, struct err *e);
void external_free(struct packed *p); /* NULL is fine */

struct digest external_digest(struct packed *p);

/* Sets the place to read from. */
void external_seek(struct packed *p, uint64_t offset);
/* As many of size bytes as there are left. */
size_t external_read(struct packed *p, void *to, size_t size);

/* Writes it as the runtime opens it: FOLDER/module.onnx and FOLDER/weights.bin. */
bool external_write(const struct onnx *m, const char *folder, struct err *e);
