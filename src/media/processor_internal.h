/* processor_internal.h - what the kinds of processors share; only for src/media/processor*.c. */
#pragma once
#include "base/json.h"
#include "media/processor.h"

#define PROCESSOR_MASK_NAME "attention_mask"

struct image_processor;
struct audio_processor;

struct processor {
    enum processor_kind kind;
    struct digest digest;
    union { /* by kind; owned */
        struct image_processor *image;
        struct audio_processor *audio;
        struct tokenizer *text;
    };
};

/* The type name of the object for a kind, without the ending that only says that it is one
 * ("CLIPImageProcessorFast" -> "CLIP"), or "" when it has none.  size: room in ret. */
void processor_type_name(const json_t *o, const char *key, char *ret, size_t size);

/* Whether a type name (already stripped) is one of the kind's classes. */
bool image_type_known(const char *name);
bool audio_type_known(const char *name);

bool image_processor_new(const json_t *o, struct image_processor **ret, struct err *e);
void image_processor_free(struct image_processor *p);
size_t image_processor_outputs(const struct image_processor *p, struct port *ret);
bool image_processor_run(const struct image_processor *p, const void *data, size_t size,
                         struct named_tensor *ret_out, struct err *e);

bool audio_processor_new(const json_t *o, struct audio_processor **ret, struct err *e);
void audio_processor_free(struct audio_processor *p);
size_t audio_processor_outputs(const struct audio_processor *p, struct port *ret);
/* ret_out: room for as many as audio_processor_outputs() says. */
bool audio_processor_run(const struct audio_processor *p, const void *data, size_t size,
                         struct named_tensor *ret_out, struct err *e);

size_t text_processor_outputs(struct port *ret);
bool text_processor_run(const struct tokenizer *t, const void *data, size_t size,
                        struct named_tensor *ret_out, struct err *e);

/* A port with this name; dims: -1 for what depends on the media. */
struct port processor_port(const char *name, enum dtype dtype, int rank, const int64_t *dims);
