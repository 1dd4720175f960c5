/* processor.c - one face for the kinds of processors: which kind a configuration is for, creation,
 * digest, and the way to the kind's own file. */
#include "base/num.h"
#include "media/processor_internal.h"
#include "media/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHAT "preprocessor_config.json"

const char *processor_kind_name(enum processor_kind kind)
{
    static const char *const names[] = {"image", "audio", "text"};
    return (unsigned)kind < ARRAY_LEN(names) ? names[kind] : "unknown";
}

struct port processor_port(const char *name, enum dtype dtype, int rank, const int64_t *dims)
{
    struct port p = {.dtype = dtype, .shape = {.rank = rank}};
    (void)snprintf(p.name, sizeof(p.name), "%s", name);
    memcpy(p.shape.dims, dims, (size_t)rank * sizeof(*dims));
    return p;
}

void processor_type_name(const json_t *o, const char *key, char *ret, size_t size)
{
    static const char *const endings[] = {"ImageProcessorFast", "ImageProcessor",
                                          "FeatureExtractor"};
    const char *name = json_string_value(json_object_get(o, key));
    (void)snprintf(ret, size, "%s", name ? name : "");
    size_t n = strlen(ret);
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        size_t k = strlen(endings[i]);
        if (n > k && strcmp(ret + n - k, endings[i]) == 0) {
            ret[n - k] = 0;
            return;
        }
    }
}

static json_t *parse(const char *config, size_t size, struct err *e)
{
    if (size > PROCESSOR_CONFIG_MAX) {
        err_set(e, ERR_TOO_LARGE, WHAT ": %zu bytes, more than the limit of %zu", size,
                PROCESSOR_CONFIG_MAX);
        return NULL;
    }
    json_t *root = json_parse(WHAT, config, size, e);
    if (root && !json_is_object(root)) {
        json_decref(root);
        err_set(e, ERR_INVALID, WHAT ": should be an object");
        return NULL;
    }
    return root;
}

static bool has_any(const json_t *o, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (json_object_get(o, keys[i]))
            return true;
    return false;
}

bool processor_kinds(const char *config, size_t size, bool *ret_image, bool *ret_audio,
                     struct err *e)
{
    static const char *const image_keys[] = {
        "image_processor_type", "image_processor", "image_mean",
        "do_rescale",           "do_resize",       "do_convert_rgb"};
    static const char *const audio_keys[] = {"feature_extractor", "sampling_rate"};
    char name[64];
    json_t *root = parse(config, size, e);
    if (!root)
        return false;
    processor_type_name(root, "feature_extractor_type", name, sizeof(name));
    *ret_image = has_any(root, image_keys, ARRAY_LEN(image_keys)) || image_type_known(name);
    *ret_audio = has_any(root, audio_keys, ARRAY_LEN(audio_keys)) || audio_type_known(name);
    json_decref(root);
    return true;
}

static struct digest digest_for(enum processor_kind kind, const char *config, size_t size)
{
    struct digest none = {{0}};
    const char *name = processor_kind_name(kind);
    struct digest_ctx *c = digest_start();
    if (!c)
        return none;
    digest_add(c, name, strlen(name) + 1);
    digest_add(c, config, size);
    return digest_finish(c);
}

static bool new_processor(enum processor_kind kind, const char *text, size_t size,
                          struct processor **ret, struct err *e)
{
    struct processor *p = calloc(1, sizeof(*p));
    if (p) {
        p->kind = kind;
        p->digest = digest_for(kind, text, size);
    }
    if (!p || !p->digest.hex[0]) {
        free(p);
        return err_set(e, ERR_MEMORY, "processor: no memory");
    }
    *ret = p;
    return true;
}

/* part: the object that may hold this kind's settings. */
static bool create(enum processor_kind kind, const char *part, const char *config, size_t size,
                   struct processor **ret, struct err *e)
{
    struct processor *p;
    json_t *root = parse(config, size, e);
    if (!root)
        return false;
    if (!new_processor(kind, config, size, &p, e)) {
        json_decref(root);
        return false;
    }
    const json_t *own = json_object_get(root, part);
    const json_t *o = json_is_object(own) ? own : root;
    bool ok = kind == PROCESSOR_IMAGE ? image_processor_new(o, &p->image, e)
                                      : audio_processor_new(o, &p->audio, e);
    json_decref(root);
    if (!ok) {
        free(p);
        return false;
    }
    *ret = p;
    return true;
}

bool processor_create_image(const char *config, size_t size, struct processor **ret, struct err *e)
{
    return create(PROCESSOR_IMAGE, "image_processor", config, size, ret, e);
}

bool processor_create_audio(const char *config, size_t size, struct processor **ret, struct err *e)
{
    return create(PROCESSOR_AUDIO, "feature_extractor", config, size, ret, e);
}

enum processor_kind processor_kind(const struct processor *p)
{
    return p->kind;
}

struct digest processor_digest(const struct processor *p)
{
    return p->digest;
}

bool processor_create_text(struct tokenizer *t, const struct digest *digest, struct processor **ret,
                           struct err *e)
{
    if (!new_processor(PROCESSOR_TEXT, digest->hex, strlen(digest->hex), ret, e))
        return false;
    (*ret)->text = t;
    return true;
}

const struct tokenizer *processor_tokenizer(const struct processor *p)
{
    return p->kind == PROCESSOR_TEXT ? p->text : NULL;
}

void processor_destroy(struct processor *p)
{
    if (!p)
        return;
    switch (p->kind) {
    case PROCESSOR_IMAGE:
        image_processor_free(p->image);
        break;
    case PROCESSOR_AUDIO:
        audio_processor_free(p->audio);
        break;
    case PROCESSOR_TEXT:
        tokenizer_destroy(p->text);
        break;
    }
    free(p);
}

size_t processor_outputs(const struct processor *p, struct port ret[PROCESSOR_OUTPUTS_MAX])
{
    switch (p->kind) {
    case PROCESSOR_IMAGE:
        return image_processor_outputs(p->image, ret);
    case PROCESSOR_AUDIO:
        return audio_processor_outputs(p->audio, ret);
    case PROCESSOR_TEXT:
        break;
    }
    return text_processor_outputs(ret);
}

static bool run(const struct processor *p, const void *data, size_t size, struct named_tensor *ret,
                struct err *e)
{
    switch (p->kind) {
    case PROCESSOR_IMAGE:
        return image_processor_run(p->image, data, size, ret, e);
    case PROCESSOR_AUDIO:
        return audio_processor_run(p->audio, data, size, ret, e);
    case PROCESSOR_TEXT:
        break;
    }
    return text_processor_run(p->text, data, size, ret, e);
}

bool processor_run(const struct processor *p, const void *data, size_t size,
                   struct named_tensor *ret_out, size_t max_out, size_t *ret_n, struct err *e)
{
    struct port ports[PROCESSOR_OUTPUTS_MAX];
    struct named_tensor out[PROCESSOR_OUTPUTS_MAX];
    size_t n = processor_outputs(p, ports);
    if (n > max_out)
        return err_set(e, ERR_INTERNAL, "processor: %zu outputs, room for %zu", n, max_out);
    if (!run(p, data, size, out, e))
        return false;
    memcpy(ret_out, out, n * sizeof(*out));
    *ret_n = n;
    return true;
}
