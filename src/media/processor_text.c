/* processor_text.c - a text to input_ids, attention_mask and token_type_ids with a tokenizer. */
#include "base/num.h"
#include "media/processor_internal.h"
#include "media/tokenizer.h"

#include <stdlib.h>
#include <string.h>

/* The order of the outputs; tokens() gives their values in the same order. */
static const char *const names[] = {"input_ids", PROCESSOR_MASK_NAME, "token_type_ids"};

size_t text_processor_outputs(struct port *ret)
{
    const int64_t dims[2] = {1, -1};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        ret[i] = processor_port(names[i], DT_I64, 2, dims);
    return ARRAY_LEN(names);
}

static bool to_tensors(const struct token_ids *ids, struct named_tensor *ret, struct err *e)
{
    const int64_t *const values[] = {ids->ids, ids->mask, ids->type_ids};
    struct shape s = {2, {1, (int64_t)ids->n}};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct tensor t;
        if (!tensor_new(DT_I64, &s, &t, e)) {
            while (i-- > 0)
                tensor_clear(&ret[i].tensor);
            return false;
        }
        if (ids->n)
            memcpy(t.data, values[i], t.bytes);
        ret[i] = (struct named_tensor){.tensor = t};
        memcpy(ret[i].name, names[i], strlen(names[i]) + 1);
    }
    return true;
}

bool text_processor_run(const struct tokenizer *t, const void *data, size_t size,
                        struct named_tensor *ret_out, struct err *e)
{
    struct token_ids ids = {0};
    if (size > TOKENIZER_TEXT_MAX)
        return err_set(e, ERR_TOO_LARGE, "text: %zu bytes, more than the limit of %zu", size,
                       (size_t)TOKENIZER_TEXT_MAX);
    if (size && memchr(data, 0, size))
        return err_set(e, ERR_INVALID, "text: holds a character 0");
    char *text = malloc(size + 1);
    if (!text)
        return err_set(e, ERR_MEMORY, "text: no memory for %zu bytes", size);
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    bool ok = tokenizer_encode(t, text, NULL, &ids, e);
    free(text);
    ok = ok && to_tensors(&ids, ret_out, e);
    token_ids_clear(&ids);
    return ok;
}
