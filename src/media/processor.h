/* processor.h - what turns raw media into a module's input tensors.
 *
 * One struct for all kinds.  It is made from a model's sidecar and computes what the Hugging Face
 * image processor, feature extractor or tokenizer of that sidecar computes:
 *
 *   kind    made from                             outputs (each with a batch of 1 in front)
 *   image   preprocessor_config.json              pixel_values [1,3,height,width] float32
 *                                                 (uint8 when neither rescaled nor normalised)
 *   audio   preprocessor_config.json              raw samples (Wav2Vec2): input_values [1,samples]
 *                                                 log-mel (Whisper): input_features [1,mels,frames]
 *                                                 log-mel (AST): input_values [1,frames,mels]
 *                                                 and attention_mask int64 where "return_attention_mask"
 *   text    a tokenizer                           input_ids, attention_mask, token_type_ids,
 *                                                 int64 [1,tokens]
 *
 * A setting that would change the numbers and is not known here is ERR_UNSUPPORTED when the
 * processor is made, with its name; nothing is ignored in silence.
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
#define PROCESSOR_SIDE_MAX 4096     /* pixels a side of what an image processor makes */
#define PROCESSOR_SAMPLES_MAX ((size_t)1800 * 192000) /* of padding or truncation */

enum processor_kind { PROCESSOR_IMAGE, PROCESSOR_AUDIO, PROCESSOR_TEXT };

struct processor;
struct tokenizer; /* media/tokenizer.h */

/* "image", "audio", "text". */
const char *processor_kind_name(enum processor_kind kind);

/* What a preprocessor_config.json is for, from its type names and keys: PROCESSOR_IMAGE or
 * PROCESSOR_AUDIO; ERR_UNSUPPORTED when it can't be told. */
bool processor_kind_of(const char *config, size_t size, enum processor_kind *ret, struct err *e);

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
