/* bundle.h - a module of two files as one blob.
 *
 *   weights | module.onnx | footer: "S2M3BNDL", offset and size of module.onnx (64 bits, little
 *                           endian each), 8 bytes of 0
 *
 * The weights stand at the start, where module.onnx says they are: opened as weights.bin, the blob
 * itself is the file of external data, and nothing of it is copied.
 *
 * A bundle comes from outside like any other blob: what its footer says is checked against its
 * size.  Threads: pure functions on files. */
#pragma once
#include "base/err.h"

#include <stdint.h>

#define BUNDLE_ONNX_MAX ((uint64_t)1 << 30)
#define BUNDLE_WEIGHTS "weights.bin"

#define BUNDLE_FOOTER_BYTES 32

/* The footer of a bundle with so many bytes of weights and of module.onnx, for who writes one
 * himself. */
void bundle_footer(uint64_t weight_bytes, uint64_t onnx_bytes, uint8_t ret[BUNDLE_FOOTER_BYTES]);

/* Makes FOLDER/weights.bin of FOLDER/module.onnx and what is there of FOLDER/weights.bin into a
 * bundle, in place.  Without weights.bin nothing is to do: module.onnx is the blob.
 * *ret: path of the file that is the blob; free(). */
bool bundle_make(const char *folder, char **ret, struct err *e);

/* Writes FOLDER/module.onnx and links FOLDER/weights.bin if BLOB is a bundle; *ret says whether. */
bool bundle_open(const char *blob, const char *folder, bool *ret, struct err *e);
