/* question.h - the question of POST /s2m3/v1/check, read and checked (node/check.h has its form).
 *
 * It comes over the network: nothing of it is believed.  What can be known without running
 * anything is known afterwards: sizes within limits, references to what stands before them.
 *
 * Ownership: the question owns all its arrays.  Threads: pure functions. */
#pragma once
#include "base/digest.h"
#include "base/json.h"
#include "tensor/tensor.h"

#define CHECK_RUNS 3
#define CHECK_CALLS_MAX 1024
#define CHECK_PORTS_MAX 256
#define CHECK_BYTES_MAX ((size_t)1 << 30) /* of all inputs in all runs */

struct question_input {
    char name[TENSOR_NAME_MAX];
    enum dtype dtype;
    struct shape shape;
};

/* What a port takes: an input, or an output of an earlier call. */
struct question_ref {
    char port[TENSOR_NAME_MAX]; /* of an output of a reference: its own name */
    int input;                  /* -1: of a call */
    int call;
    char output[TENSOR_NAME_MAX]; /* whether the call has it is known when it has run */
};

/* A module to run: a call, or a reference with outputs to compare. */
struct question_run {
    struct digest module;
    struct question_ref *refs, *outputs;
    int ref_count, output_count;
};

struct question {
    struct question_input *inputs;
    struct question_run *calls, *references;
    int input_count, call_count, reference_count;
};

/* On failure there is nothing to clear. */
bool question_read(const json_t *o, struct question *ret, struct err *e);
void question_clear(struct question *q);
