/* processor.h - what turns raw media into a module's input tensors.
 *
 * One struct for all kinds.  It is made from a model's sidecar and computes what the Hugging Face
 * image processor (the one on Pillow and numpy; a "Fast" one may differ by a step of 8 bits),
 * feature extractor or tokenizer of that sidecar computes:
 *
 *   kind    made from                             outputs (each with a batch of 1 in front)
 *   image   preprocessor_config.json              pixel_values [1,3,height,width] float32
 *                                                 (uint8 when neither rescaled nor normalised)
 *   audio   preprocessor_config.json              raw samples (Wav2Vec2): input_values [1,samples]
 *                                                 log-mel (Whisper): input_features [1,mels,frames]
 *                                                 log-mel (AST): input_values [1,frames,mels]
 *                                                 and attention_mask int64 where the extractor has
 *                                                 "return_attention_mask" (not AST)
 *   text    a tokenizer                           input_ids, attention_mask, token_type_ids,
 *                                                 int64 [1,tokens]
 *
 * Where one file holds both kinds, each may stand in an object of its own: "image_processor" and
 * "feature_extractor" (the form of processor_config.json); else the keys stand side by side.
 * Keys: those of the processor classes.  Raw samples also take "padding" ("max_length", "longest",
 * "do_not_pad", true, false), "max_length" in samples and "truncation" (by default on when padding
 * is "max_length", so that the length is fixed), which transformers takes at the call.
 *
 * A type name that is not known, or a switch that would change the numbers and is not known, is
 * ERR_UNSUPPORTED when the processor is made, with its name; other keys have no effect in
 * transformers and none here.
 *
 * Ownership: processor_destroy() frees.  Threads: immutable after creation, so any number of
 * threads may run one at the same time. */
#pragma once
#include "base/digest.h"
#include "base/err.h"
#include "tensor/tensor.h"

#include <stddef.h>

#define PROCESSOR_CONFIG_MAX ((size_t)1 << 20) /* bytes of a preprocessor_config.json */
#define PROCESSOR_OUTPUTS_MAX 4
#define PROCESSOR_SIDE_MAX 4096 /* pixels a side of what an image processor makes */
#define PROCESSOR_SAMPLES_MAX ((size_t)1800 * 192000) /* of padding or truncation */

enum processor_kind { PROCESSOR_IMAGE, PROCESSOR_AUDIO, PROCESSOR_TEXT };

struct processor;
struct tokenizer; /* media/tokenizer.h */

/* "image", "audio", "text". */
const char *processor_kind_name(enum processor_kind kind);

/* What a preprocessor_config.json holds settings for: images, sound or both, by its type names and
 * keys.  ERR_INVALID when it is not JSON; neither is no error. */
bool processor_kinds(const char *config, size_t size, bool *ret_image, bool *ret_audio,
                     struct err *e);

/* config: the text of preprocessor_config.json, borrowed. */
bool processor_create_image(const char *config, size_t size, struct processor **ret, struct err *e);
bool processor_create_audio(const char *config, size_t size, struct processor **ret, struct err *e);

/* t: moved on success, destroyed with the processor.  digest: of the text it was made from. */
bool processor_create_text(struct tokenizer *t, const struct digest *digest, struct processor **ret,
                           struct err *e);

void processor_destroy(struct processor *p); /* p may be NULL */

enum processor_kind processor_kind(const struct processor *p);

/* SHA-256 over the kind and the configuration text: part of cache keys. */
struct digest processor_digest(const struct processor *p);

/* The tokenizer of a text processor, borrowed; NULL for other kinds. */
const struct tokenizer *processor_tokenizer(const struct processor *p);

/* Names, types and shapes (-1: depends on the media) of what processor_run() gives, in its order.
 * Returns how many, at most PROCESSOR_OUTPUTS_MAX. */
size_t processor_outputs(const struct processor *p, struct port ret[PROCESSOR_OUTPUTS_MAX]);

/* data: one picture or sound file, or UTF-8 text; borrowed.  max_out: room in ret_out, which must
 * hold all outputs (PROCESSOR_OUTPUTS_MAX is enough).  The tensors become the caller's
 * (tensor_clear()); on failure there are none. */
bool processor_run(const struct processor *p, const void *data, size_t size,
                   struct named_tensor *ret_out, size_t max_out, size_t *ret_n, struct err *e);
