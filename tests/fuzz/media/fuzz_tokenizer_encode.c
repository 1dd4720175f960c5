/* fuzz_tokenizer_encode.c - any text through tokenizers of all kinds, and back: at once, and as a
 * stream that grows by one id. */
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
    "{" SPECIAL "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
    "{\"type\":\"Metaspace\",\"prepend_scheme\":\"first\",\"split\":true},"
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?=[A-Z])|\\\\b|^.\"},"
    "\"behavior\":\"Isolated\"}]},\"padding\":{\"strategy\":{\"Fixed\":5},\"pad_id\":1,"
    "\"pad_to_multiple_of\":4},\"decoder\":{\"type\":\"Sequence\",\"decoders\":["
    "{\"type\":\"Metaspace\"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"
    "\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"unk_token\":\"[A]\",\"vocab\":{\"[A]\":0,"
    "\"a\":2,\"aa\":3,\"<0xE6>\":4,\"<0x97>\":5,\"<0xA5>\":6},\"merges\":[[\"a\",\"a\"]]}}",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STREAM_MAX 64 /* ids: decoding all beginnings is quadratic */

static void stream(const struct tokenizer *t, const struct token_ids *ids, const char *whole)
{
    struct err e;
    char *before = NULL;
    for (size_t i = 0; i <= ids->n && i <= STREAM_MAX; i++) {
        char *now;
        if (!tokenizer_stream_decode(t, ids->ids, i, true, &now, &e))
            abort();
        if ((before && strncmp(now, before, strlen(before)) != 0) ||
            strncmp(whole, now, strlen(now)) != 0)
            abort();
        free(before);
        before = now;
    }
    free(before);
}

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
    stream(t, &ids, back);
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
