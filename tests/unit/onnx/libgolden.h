/* libgolden.h - the small models of tests/golden/onnx. */
#pragma once
#include "onnx/share.h"

/* Path of a file below tests/golden/onnx; the buffer is reused by the fourth call after. */
const char *golden(const char *folder, const char *name);

/* Opens small/NAME.onnx, or ends the test. */
struct onnx *small_model(const char *name);

/* Looks for sharing among up to 8 small models. */
struct found {
    struct onnx *models[8];
    size_t count;
    struct share *share;
};
struct found find_in(size_t count, const char *const *names, uint64_t min_share);
void found_done(struct found *f);
