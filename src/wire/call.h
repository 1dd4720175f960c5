/* call.h - messages between a gateway and nodes while a request runs.
 *
 * A call: run this module on these inputs.  An input's value is media (a part of the frame, turned
 * into tensors by a processor on the device), a tensor (a part), or a place that another call will
 * deliver to (a meeting).  The outputs go to other calls' devices (deliver) and/or back in the
 * answer (returns).
 *
 * A delivery: this tensor is input PORT of call CALL of that request.
 *
 * Path of a call: POST /s2m3/v1/call; of a delivery: POST /s2m3/v1/deliver.  Both are frames.
 * Messages come from outside: everything is checked on reading. */
#pragma once
#include "base/digest.h"
#include "base/json.h"
#include "wire/frame.h"

/* Header field of an error answer to a call: id of the device that could not be reached with the
 * result.  Then the device that answers is well. */
#define CALL_UNREACHED_HEADER "S2M3-Unreached"

/* Names a meeting: the delivery and the waiting call must agree in all of it. */
struct call_key {
    char request[WIRE_ID_MAX];
    uint32_t attempt;
    char call[WIRE_ID_MAX];
};

enum call_source { CALL_MEDIA, CALL_TENSOR, CALL_MEETING };

struct call_input {
    enum call_source source;
    /* CALL_TENSOR and CALL_MEETING: the module's port.  CALL_MEDIA: empty; the processor names
     * its tensors. */
    char port[TENSOR_NAME_MAX];
    /* CALL_MEDIA */
    char kind[16];        /* "image", "audio" or "text" */
    struct digest config; /* blob of preprocessor_config.json or tokenizer.json */
    struct mem *media;    /* owned reference; a text as its bytes */
    struct tensor tensor; /* CALL_TENSOR, owned */
};

struct call_target {
    char device[WIRE_ID_MAX]; /* id in the routing table, never an address */
    char call[WIRE_ID_MAX];   /* the call that waits there */
    char output[TENSOR_NAME_MAX];
    char port[TENSOR_NAME_MAX]; /* the input that it becomes */
    uint64_t reserve;           /* bytes of the whole meeting there */
};

struct call {
    struct call_key key;
    char model[WIRE_NAME_MAX]; /* for generation: whose sidecars and settings */
    struct digest module;
    bool generate;        /* run the decode loop rather than the module once */
    json_t *generation;   /* settings of the loop (task/generate.h), owned, or NULL */
    bool fresh;           /* compute, whatever the cache holds */
    uint64_t deadline_ms; /* from now */
    uint64_t reserve;     /* bytes that wait at this call's meeting */
    char trace[64];       /* W3C traceparent, or empty */
    struct call_input inputs[WIRE_INPUTS_MAX];
    int input_count;
    struct call_target targets[WIRE_TARGETS_MAX];
    int target_count;
    char returns[WIRE_INPUTS_MAX][TENSOR_NAME_MAX];
    int return_count;
};

/* What happened, in ms of the device's own clock; spans of the trace. */
struct call_times {
    double wait_ms;    /* for inputs from other calls */
    double prepare_ms; /* decoding and preprocessing */
    double queue_ms;   /* for a lane */
    double run_ms;     /* on the lane, emulated waiting included */
    double deliver_ms; /* to the other devices */
    bool cached;       /* the result was there or joined another's run */
    bool emulated;
};

struct call_answer {
    struct call_times times;
    struct named_tensor outputs[WIRE_INPUTS_MAX]; /* those asked for, owned */
    int output_count;
    char *text; /* of a generation, owned, or NULL */
    uint32_t tokens;
};

struct delivery {
    struct call_key key;
    char port[TENSOR_NAME_MAX];
    uint64_t reserve;     /* bytes of the whole meeting */
    uint64_t deadline_ms; /* when it expires if nobody takes it */
    struct tensor tensor; /* owned */
};

/* Writers: a frame whose parts are borrowed from the message; frame_out_clear() is due in any case. */
bool call_write(const struct call *c, struct frame_out *ret, struct err *e);
bool call_answer_write(const struct call_answer *a, struct frame_out *ret, struct err *e);
bool delivery_write(const struct delivery *d, struct frame_out *ret, struct err *e);

/* Readers of a whole body; *ret is to be cleared by the caller when they return true. */
bool call_read(struct mem *body, struct call *ret, struct err *e);
bool call_answer_read(struct mem *body, struct call_answer *ret, struct err *e);
bool delivery_read(struct mem *body, struct delivery *ret, struct err *e);

void call_clear(struct call *c);
void call_answer_clear(struct call_answer *a);
void delivery_clear(struct delivery *d);
