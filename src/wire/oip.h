/* oip.h - Open Inference Protocol v2: infer requests and answers, JSON with the binary extension.
 *
 * With the extension the body is JSON and, behind it, the bytes of the tensors in order; the HTTP
 * header Inference-Header-Content-Length gives the size of the JSON.  Tensors of type BYTES are not
 * taken (no module has such a port). */
#pragma once
#include "base/json.h"
#include "tensor/tensor.h"
#include "wire/frame.h"

#define OIP_LENGTH_HEADER "Inference-Header-Content-Length"

struct oip_output {
    char name[TENSOR_NAME_MAX];
    bool binary;
};

struct oip_request {
    char id[WIRE_ID_MAX];
    struct named_tensor inputs[WIRE_INPUTS_MAX]; /* owned */
    int input_count;
    struct oip_output outputs[WIRE_INPUTS_MAX];
    int output_count;    /* 0: all */
    bool binary_default; /* for outputs that are not listed */
};

/* json_size: value of the length header, or the whole body's size when there is none. */
bool oip_request_read(struct mem *body, size_t json_size, struct oip_request *ret, struct err *e);
void oip_request_clear(struct oip_request *r);

/* The answer: JSON header (owned by the caller) and the binary parts (borrowed from outputs).
 * An output that was asked for and is not among `outputs` is ERR_NOT_FOUND. */
bool oip_answer_write(const char *model, const struct oip_request *request,
                      const struct named_tensor *outputs, int count, json_t **header,
                      struct frame_part *parts, int *part_count, struct err *e);

/* Metadata of a module: {"name","platform","versions","inputs":[{name,datatype,shape}],"outputs"}. */
json_t *oip_metadata(const char *name, const struct port *inputs, int input_count,
                     const struct port *outputs, int output_count);
