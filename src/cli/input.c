/* input.c - files and texts of the command line as a request, and as JSON for a gateway. */
#include "cli/input.h"

#include "base/file.h"

#include <stdlib.h>
#include <string.h>

static bool add_file(const char *path, size_t max, char **data, size_t *size, struct err *e)
{
    return file_read(path, max, data, size, e);
}

static bool set_file(struct request *r, enum media_kind k, const char *path, struct err *e)
{
    char *data;
    size_t size;
    if (!path)
        return true;
    if (!add_file(path, REQUEST_MEDIA_MAX, &data, &size, e))
        return false;
    bool ok = request_set(r, k, data, size, e);
    free(data);
    return ok;
}

static bool add_candidates(const struct args *a, struct request *r, struct err *e)
{
    const char *const *values;
    int n = args_list(a, "label", &values);
    for (int i = 0; i < n; i++)
        if (!request_add_candidate(r, values[i], NULL, 0, e))
            return false;
    n = args_list(a, "candidate", &values);
    for (int i = 0; i < n; i++) {
        char *data;
        size_t size;
        if (!add_file(values[i], REQUEST_MEDIA_MAX, &data, &size, e))
            return false;
        bool ok = request_add_candidate(r, NULL, data, size, e);
        free(data);
        if (!ok)
            return false;
    }
    return true;
}

bool input_read(const struct args *a, struct request *ret, struct err *e)
{
    const char *text = args_text(a, "text"), *hypothesis = args_text(a, "hypothesis-template");
    *ret = (struct request){.top_k = (int)args_number(a, "top-k"),
                            .max_new_tokens = (int)args_number(a, "max-new-tokens")};
    bool ok = set_file(ret, MEDIA_IMAGE, args_text(a, "image"), e) &&
              set_file(ret, MEDIA_AUDIO, args_text(a, "audio"), e) &&
              (!text || request_set(ret, MEDIA_TEXT, text, strlen(text), e)) &&
              add_candidates(a, ret, e);
    if (ok && hypothesis && !(ret->hypothesis = strdup(hypothesis)))
        ok = err_set(e, ERR_MEMORY, "no memory");
    if (!ok)
        request_clear(ret);
    return ok;
}

/* ---- as JSON ------------------------------------------------------------------------------------- */

static char *base64(const unsigned char *data, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = malloc(size / 3 * 4 + 5), *to = out;
    for (size_t i = 0; out && i < size; i += 3) {
        unsigned v = (unsigned)data[i] << 16 | (i + 1 < size ? (unsigned)data[i + 1] << 8 : 0) |
                     (i + 2 < size ? (unsigned)data[i + 2] : 0);
        *to++ = digits[v >> 18];
        *to++ = digits[v >> 12 & 63];
        *to++ = i + 1 < size ? digits[v >> 6 & 63] : '=';
        *to++ = i + 2 < size ? digits[v & 63] : '=';
    }
    if (out)
        *to = 0;
    return out;
}

static json_t *media_json(struct mem *m)
{
    char *text = base64(mem_data(m), mem_size(m));
    json_t *v = text ? json_string(text) : NULL;
    free(text);
    return v;
}

char *input_json(const struct request *r)
{
    json_t *inputs = json_object(), *parameters = json_object(), *labels = json_array(),
           *images = json_array();
    if (r->media[MEDIA_IMAGE])
        json_object_set_new(inputs, "image", media_json(r->media[MEDIA_IMAGE]));
    if (r->media[MEDIA_AUDIO])
        json_object_set_new(inputs, "audio", media_json(r->media[MEDIA_AUDIO]));
    if (r->media[MEDIA_TEXT])
        json_object_set_new(
            inputs, "text",
            json_stringn(mem_data(r->media[MEDIA_TEXT]), mem_size(r->media[MEDIA_TEXT])));
    for (int i = 0; i < r->candidate_count; i++) {
        if (r->candidates[i].label)
            json_array_append_new(labels, json_string(r->candidates[i].label));
        else
            json_array_append_new(images, media_json(r->candidates[i].media));
    }
    if (json_array_size(labels))
        json_object_set(parameters, "candidate_labels", labels);
    if (json_array_size(images))
        json_object_set(inputs, "images", images);
    if (r->top_k)
        json_object_set_new(parameters, "top_k", json_integer(r->top_k));
    if (r->max_new_tokens)
        json_object_set_new(parameters, "max_new_tokens", json_integer(r->max_new_tokens));
    if (r->hypothesis)
        json_object_set_new(parameters, "hypothesis_template", json_string(r->hypothesis));
    json_t *root = json_pack("{s:o,s:o}", "inputs", inputs, "parameters", parameters);
    char *text = root ? json_text(root) : NULL;
    json_decref(root);
    json_decref(labels);
    json_decref(images);
    return text;
}
