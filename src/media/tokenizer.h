/* tokenizer.h - text to token ids and back, as a tokenizer.json says.
 *
 * Reads the format of the Hugging Face `tokenizers` library.  Known components: normalizers
 * (Sequence, Lowercase, NFC, NFD, NFKC, NFKD, Strip, StripAccents, Replace, Prepend, BertNormalizer),
 * pre-tokenizers (Sequence, Whitespace, WhitespaceSplit, ByteLevel, Split, Punctuation, Digits,
 * CharDelimiterSplit, BertPreTokenizer, Metaspace), models (WordLevel, WordPiece, BPE),
 * post-processors (Sequence, TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel),
 * decoders (Sequence, WordPiece, BPEDecoder, ByteLevel, ByteFallback, Metaspace, Replace, Fuse,
 * Strip, none), added tokens, truncation, padding.  Another component is ERR_UNSUPPORTED with its
 * name.
 *
 * Threads: immutable after creation. */
#pragma once
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define TOKENIZER_FILE_MAX ((size_t)64 << 20)
#define TOKENIZER_VOCABULARY_MAX 2000000
#define TOKENIZER_TEXT_MAX ((size_t)1 << 20)
#define TOKENIZER_IDS_MAX 65536
#define TOKENIZER_WORD_MAX (1u << 18) /* characters of one piece for BPE, bytes if it falls back */

struct tokenizer;

/* json: borrowed.  ERR_INVALID: broken; ERR_UNSUPPORTED: names what is not known. */
bool tokenizer_create(const char *json, size_t size, struct tokenizer **ret, struct err *e);
void tokenizer_destroy(struct tokenizer *t); /* accepts NULL */

/* n rows of each; owned: token_ids_clear(). */
struct token_ids {
    int64_t *ids, *mask, *type_ids;
    size_t n;
};
void token_ids_clear(struct token_ids *t);

/* With special tokens, truncation and padding as the file says.  pair: NULL, or the second text.
 * Texts are UTF-8 and end with 0; invalid UTF-8 is ERR_INVALID with the offset. */
bool tokenizer_encode(const struct tokenizer *t, const char *text, const char *pair,
                      struct token_ids *ret, struct err *e);

/* Ids to text; unknown ids are passed over.  free(). */
bool tokenizer_decode(const struct tokenizer *t, const int64_t *ids, size_t n, bool skip_special,
                      char **ret, struct err *e);

/* The same for a list that still grows: the part of its text that no further id can change, so that
 * each answer begins with the one before, and none ends within a character.  (That holds for
 * decoders that go token by token, as those of all models known to us; a WordPiece, Replace or
 * BPEDecoder behind a Fuse may still change the last characters.)  The whole text at the end is
 * tokenizer_decode()'s.  free(). */
bool tokenizer_stream_decode(const struct tokenizer *t, const int64_t *ids, size_t n,
                             bool skip_special, char **ret, struct err *e);

/* Id of a token, or -1. */
int64_t tokenizer_id(const struct tokenizer *t, const char *token);
