/* fuzz_tokenizer_encode.c - any text through tokenizers of three kinds, and back. */
#include "base/num.h"
#include "media/tokenizer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SPECIAL                                                                                    \
    "\"added_tokens\":[{\"id\":0,\"content\":\"[A]\",\"special\":true},"                           \
    "{\"id\":1,\"content\":\"ab\",\"single_word\":true,\"lstrip\":true,\"rstrip\":true,"           \
    "\"normalized\":true}],"

static const char *const files[] = {
    "{" SPECIAL
    "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"
    "\"strip_accents\":null,\"lowercase\":true},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
    "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},"
    "\"truncation\":{\"max_length\":9,\"direction\":\"Left\"},"
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[A]\",\"continuing_subword_prefix\":\"##\","
    "\"max_input_chars_per_word\":20,\"vocab\":{\"[A]\":0,\"a\":2,\"##a\":3,\"ab\":4,\"##b\":5,\"."
    "\":6}}}",
    "{" SPECIAL "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},"
    "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s+\"},\"content\":\" "
    "\"},{\"type\":\"Strip\"}]},"
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true},\"decoder\":{\"type\":"
    "\"ByteLevel\"},"
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"[A]\",\"fuse_unk\":true,"
    "\"vocab\":{\"[A]\":0,\"a\":2,\"b\":3,\"ab\":4,\"abab\":5},\"merges\":[\"a b\",\"ab ab\"]}}",
    "{" SPECIAL "\"normalizer\":{\"type\":\"Lowercase\"},\"pre_tokenizer\":{\"type\":\"Sequence\","
    "\"pretokenizers\":["
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a-c]\"},\"behavior\":\"MergedWithNext\"},"
    "{\"type\":\"Punctuation\"},{\"type\":\"Digits\",\"individual_digits\":false}]},"
    "\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"[A]\",\"vocab\":{\"[A]\":0,\"a\":2}}}",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(const struct tokenizer *t, const char *text)
{
    struct err e;
    struct token_ids ids;
    char *back;
    if (!tokenizer_encode(t, text, NULL, &ids, &e))
        return;
    for (size_t i = 0; i < ids.n; i++)
        if (ids.ids[i] < 0 || ids.ids[i] > 6 || ids.mask[i] < 0 || ids.mask[i] > 1)
            abort();
    if (!tokenizer_decode(t, ids.ids, ids.n, true, &back, &e))
        abort();
    free(back);
    token_ids_clear(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tokenizer *made[ARRAY_LEN(files)]; /* reachable until the end: made once */
    struct err e;
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        if (!made[i] && !tokenizer_create(files[i], strlen(files[i]), &made[i], &e))
            abort();
        run(made[i], text);
    }
    free(text);
    return 0;
}
