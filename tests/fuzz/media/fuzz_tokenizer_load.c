/* fuzz_tokenizer_load.c - tokenizer.json of strangers' models, and a small run of what was taken. */
#include "media/tokenizer.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    struct tokenizer *t;
    struct token_ids ids;
    char *text;
    if (!tokenizer_create((const char *)data, size, &t, &e))
        return 0;
    if (tokenizer_encode(t, "a Red circle, it's 12 caf\xC3\xA9 [SEP] ", "b <mask>", &ids, &e)) {
        if (tokenizer_decode(t, ids.ids, ids.n, false, &text, &e))
            free(text);
        if (tokenizer_stream_decode(t, ids.ids, ids.n, false, &text, &e))
            free(text);
        token_ids_clear(&ids);
    }
    tokenizer_destroy(t);
    return 0;
}
