/* oip.c - Open Inference Protocol v2 with binary tensors. */
#include "wire/oip.h"

#include "base/num.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static bool read_name(const json_t *o, const char *what, char *to, size_t size, struct err *e)
{
    const char *name;
    if (!json_need_str(o, what, "name", &name, e))
        return false;
    if (strlen(name) == 0 || strlen(name) >= size)
        return err_set(e, ERR_INVALID, "%s: 'name' has %zu characters, should be 1 to %zu", what,
                       strlen(name), size - 1);
    (void)snprintf(to, size, "%s", name);
    return true;
}

static bool read_shape(const json_t *o, const char *what, struct shape *ret, struct err *e)
{
    json_t *dims;
    if (!json_need_array(o, what, "shape", TENSOR_RANK_MAX, &dims, e))
        return false;
    ret->rank = (int)json_array_size(dims);
    for (int i = 0; i < ret->rank; i++) {
        const json_t *v = json_array_get(dims, (size_t)i);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return err_set(e, ERR_INVALID,
                           "%s: dimension %d of 'shape' is no whole number of at least 0", what, i);
        ret->dims[i] = json_integer_value(v);
    }
    return true;
}

/* Range of the whole-number types. */
static bool int_range(enum dtype t, double *min, double *max)
{
    switch (t) {
    case DT_U8:
        *min = 0;
        *max = UINT8_MAX;
        return true;
    case DT_I8:
        *min = INT8_MIN;
        *max = INT8_MAX;
        return true;
    case DT_U16:
        *min = 0;
        *max = UINT16_MAX;
        return true;
    case DT_I16:
        *min = INT16_MIN;
        *max = INT16_MAX;
        return true;
    case DT_U32:
        *min = 0;
        *max = UINT32_MAX;
        return true;
    case DT_I32:
        *min = INT32_MIN;
        *max = INT32_MAX;
        return true;
    case DT_U64:
        *min = 0;
        *max = 9.2e18;
        return true;
    case DT_I64:
        *min = -9.2e18;
        *max = 9.2e18;
        return true;
    default:
        return false;
    }
}

static bool put_value(const json_t *v, enum dtype t, char *to)
{
    double min, max;
    if (t == DT_F32 && json_is_number(v)) {
        float f = (float)json_number_value(v);
        memcpy(to, &f, sizeof(f));
        return true;
    }
    if (t == DT_F64 && json_is_number(v)) {
        double d = json_number_value(v);
        memcpy(to, &d, sizeof(d));
        return true;
    }
    if (t == DT_BOOL && (json_is_boolean(v) || json_is_integer(v))) {
        *to = json_is_true(v) || (json_is_integer(v) && json_integer_value(v) != 0);
        return true;
    }
    if (!json_is_integer(v) || !int_range(t, &min, &max))
        return false;
    json_int_t n = json_integer_value(v);
    if ((double)n < min || (double)n > max)
        return false;
    memcpy(to, &n, dtype_size(t)); /* little endian */
    return true;
}

/* data may be flat or nested; values are taken in reading order. */
static bool put_values(const json_t *v, struct tensor *t, size_t *at, int depth)
{
    size_t size = dtype_size(t->dtype);
    if (!json_is_array(v)) {
        if (*at + size > t->bytes || !put_value(v, t->dtype, (char *)t->data + *at))
            return false;
        *at += size;
        return true;
    }
    if (depth > TENSOR_RANK_MAX)
        return false;
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!put_values(json_array_get(v, i), t, at, depth + 1))
            return false;
    return true;
}

static bool read_json_tensor(const json_t *o, const char *what, enum dtype type,
                             const struct shape *shape, struct tensor *ret, struct err *e)
{
    const json_t *data = json_object_get(o, "data");
    size_t bytes, at = 0;
    if (!json_is_array(data))
        return err_set(e, ERR_INVALID, "%s: neither 'data' nor binary_data_size", what);
    if (!tensor_bytes(type, shape, &bytes, e))
        return false;
    /* What the text cannot hold is refused before memory is taken for it. */
    if (shape->rank > 0 && json_array_size(data) == 0 && bytes > 0)
        return err_set(e, ERR_INVALID, "%s: 'data' is empty", what);
    if (bytes > (size_t)64 << 20)
        return err_set(e, ERR_TOO_LARGE,
                       "%s: %zu bytes as JSON, limit 64 MiB; send it as binary data", what, bytes);
    if (!tensor_new(type, shape, ret, e))
        return false;
    if (put_values(data, ret, &at, 0) && at == bytes)
        return true;
    tensor_clear(ret);
    return err_set(e, ERR_INVALID, "%s: 'data' does not hold %zu values of type %s", what,
                   bytes / dtype_size(type), dtype_oip(type));
}

struct oip_reader {
    struct mem *body;
    size_t binary_at; /* next byte of the binary part */
    struct err *e;
};

static bool read_input(struct oip_reader *r, const json_t *o, size_t index,
                       struct named_tensor *ret)
{
    char what[64];
    const char *type;
    struct shape shape;
    uint64_t size = UINT64_MAX;
    (void)snprintf(what, sizeof(what), "input %zu", index);
    if (!read_name(o, what, ret->name, sizeof(ret->name), r->e) ||
        !json_need_str(o, what, "datatype", &type, r->e) || !read_shape(o, what, &shape, r->e))
        return false;
    enum dtype dtype = dtype_from_oip(type);
    if (dtype == DT_NONE)
        return err_set(r->e, ERR_UNSUPPORTED, "input '%s': datatype '%.20s' is not taken",
                       ret->name, type);
    json_t *parameters = json_object_get(o, "parameters");
    if (!json_opt_u64(parameters, what, "binary_data_size", TENSOR_BYTES_MAX, &size, r->e))
        return false;
    if (size == UINT64_MAX)
        return read_json_tensor(o, what, dtype, &shape, &ret->tensor, r->e);
    if (!tensor_over(dtype, &shape, r->body, r->binary_at, (size_t)size, &ret->tensor, r->e))
        return err_prefix(r->e, "input '%s'", ret->name);
    r->binary_at += (size_t)size;
    return true;
}

static bool read_outputs(const json_t *root, struct oip_request *ret, struct err *e)
{
    json_t *list = json_object_get(root, "outputs");
    if (!list)
        return true;
    if (!json_need_array(root, "request", "outputs", WIRE_INPUTS_MAX, &list, e))
        return false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *o = json_array_get(list, i);
        struct oip_output *out = &ret->outputs[i];
        out->binary = ret->binary_default;
        if (!read_name(o, "output", out->name, sizeof(out->name), e) ||
            !json_opt_bool(json_object_get(o, "parameters"), "output", "binary_data", &out->binary,
                           e))
            return false;
        ret->output_count++;
    }
    return true;
}

static bool read_request(struct oip_reader *r, const json_t *root, struct oip_request *ret)
{
    const char *id = "";
    json_t *inputs;
    if (!json_opt_str(root, "request", "id", &id, r->e) ||
        !json_need_array(root, "request", "inputs", WIRE_INPUTS_MAX, &inputs, r->e) ||
        !json_opt_bool(json_object_get(root, "parameters"), "request", "binary_data_output",
                       &ret->binary_default, r->e))
        return false;
    (void)snprintf(ret->id, sizeof(ret->id), "%s", id);
    for (size_t i = 0; i < json_array_size(inputs); i++) {
        if (!read_input(r, json_array_get(inputs, i), i, &ret->inputs[i]))
            return false;
        ret->input_count++;
    }
    if (r->binary_at != mem_size(r->body))
        return err_set(r->e, ERR_INVALID,
                       "request: %zu bytes of binary data are described, %zu came", r->binary_at,
                       mem_size(r->body));
    return read_outputs(root, ret, r->e);
}

bool oip_request_read(struct mem *body, size_t json_size, struct oip_request *ret, struct err *e)
{
    memset(ret, 0, sizeof(*ret));
    if (json_size > mem_size(body) || json_size > WIRE_TABLE_MAX)
        return err_set(e, ERR_INVALID, "request: %s is %zu, the body has %zu bytes (limit %u)",
                       OIP_LENGTH_HEADER, json_size, mem_size(body), WIRE_TABLE_MAX);
    json_t *root = json_parse("request", mem_data(body), json_size, e);
    if (!root)
        return false;
    struct oip_reader r = {.body = body, .binary_at = json_size, .e = e};
    bool ok = read_request(&r, root, ret);
    json_decref(root);
    if (!ok)
        oip_request_clear(ret);
    return ok;
}

void oip_request_clear(struct oip_request *r)
{
    for (int i = 0; i < WIRE_INPUTS_MAX; i++)
        tensor_clear(&r->inputs[i].tensor);
    memset(r, 0, sizeof(*r));
}

static json_t *get_value(enum dtype t, const char *from)
{
    if (t == DT_F32) {
        float f;
        memcpy(&f, from, sizeof(f));
        return isfinite(f) ? json_real((double)f) : json_null();
    }
    if (t == DT_F64) {
        double d;
        memcpy(&d, from, sizeof(d));
        return isfinite(d) ? json_real(d) : json_null();
    }
    if (t == DT_BOOL)
        return json_boolean(*from != 0);
    int64_t n = 0;
    memcpy(&n, from, dtype_size(t));
    int shift = (int)(64 - 8 * dtype_size(t));
    if (t == DT_I8 || t == DT_I16 || t == DT_I32)
        n = (int64_t)((uint64_t)n << shift) >> shift;
    return json_integer(n);
}

static bool write_output(const struct named_tensor *out, bool binary, json_t *list,
                         struct frame_part *parts, int *count, struct err *e)
{
    const struct tensor *t = &out->tensor;
    json_t *o = json_object(), *dims = json_array();
    json_array_append_new(list, o);
    for (int i = 0; i < t->shape.rank; i++)
        json_array_append_new(dims, json_integer(t->shape.dims[i]));
    json_object_set_new(o, "name", json_string(out->name));
    json_object_set_new(o, "datatype", json_string(dtype_oip(t->dtype)));
    json_object_set_new(o, "shape", dims);
    if (binary || t->dtype == DT_F16 || t->dtype == DT_BF16) {
        if (*count >= WIRE_PARTS_MAX)
            return err_set(e, ERR_TOO_LARGE, "answer: more than the limit of %d parts",
                           WIRE_PARTS_MAX);
        json_object_set_new(o, "parameters",
                            json_pack("{s:I}", "binary_data_size", (json_int_t)t->bytes));
        parts[(*count)++] = (struct frame_part){t->data, t->bytes};
        return true;
    }
    json_t *data = json_array();
    size_t size = dtype_size(t->dtype);
    for (size_t at = 0; at < t->bytes; at += size)
        json_array_append_new(data, get_value(t->dtype, (const char *)t->data + at));
    json_object_set_new(o, "data", data);
    return true;
}

static const struct named_tensor *find_output(const struct named_tensor *outputs, int count,
                                              const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(outputs[i].name, name) == 0)
            return &outputs[i];
    return NULL;
}

static bool write_outputs(const struct oip_request *request, const struct named_tensor *outputs,
                          int count, json_t *list, struct frame_part *parts, int *part_count,
                          struct err *e)
{
    for (int i = 0; i < request->output_count; i++) {
        const struct oip_output *want = &request->outputs[i];
        const struct named_tensor *out = find_output(outputs, count, want->name);
        if (!out)
            return err_set(e, ERR_NOT_FOUND, "output '%s': the module has no such output",
                           want->name);
        if (!write_output(out, want->binary, list, parts, part_count, e))
            return false;
    }
    for (int i = 0; request->output_count == 0 && i < count; i++)
        if (!write_output(&outputs[i], request->binary_default, list, parts, part_count, e))
            return false;
    return true;
}

bool oip_answer_write(const char *model, const struct oip_request *request,
                      const struct named_tensor *outputs, int count, json_t **header,
                      struct frame_part *parts, int *part_count, struct err *e)
{
    json_t *o = json_object(), *list = json_array();
    *part_count = 0;
    json_object_set_new(o, "model_name", json_string(model));
    json_object_set_new(o, "model_version", json_string("1"));
    if (request->id[0])
        json_object_set_new(o, "id", json_string(request->id));
    json_object_set_new(o, "outputs", list);
    if (!write_outputs(request, outputs, count, list, parts, part_count, e)) {
        json_decref(o);
        return false;
    }
    *header = o;
    return true;
}

static json_t *ports_json(const struct port *ports, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        json_t *dims = json_array();
        for (int d = 0; d < ports[i].shape.rank; d++)
            json_array_append_new(dims, json_integer(ports[i].shape.dims[d]));
        json_array_append_new(list, json_pack("{s:s,s:s,s:o}", "name", ports[i].name, "datatype",
                                              dtype_oip(ports[i].dtype), "shape", dims));
    }
    return list;
}

json_t *oip_metadata(const char *name, const struct port *inputs, int input_count,
                     const struct port *outputs, int output_count)
{
    return json_pack("{s:s,s:s,s:[s],s:o,s:o}", "name", name, "platform", "onnxruntime_onnx",
                     "versions", "1", "inputs", ports_json(inputs, input_count), "outputs",
                     ports_json(outputs, output_count));
}
