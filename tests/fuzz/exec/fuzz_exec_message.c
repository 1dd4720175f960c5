/* fuzz_exec_message.c - the decoder of the runner's messages: no crash, and what it takes is
 * written back as the same bytes. */
#include "exec/message.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct message message;
static uint8_t again[MESSAGE_MAX];

static void sources_of(const struct message *m, const void *sources[EXEC_PORTS_MAX])
{
    for (int i = 0; i < m->tensor_count; i++)
        sources[i] = m->data ? m->data + m->tensors[i].offset : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const void *sources[EXEC_PORTS_MAX];
    size_t written = 0;
    struct err e;
    uint8_t *copy = malloc(size ? size : 1); /* its end is watched */
    if (!copy)
        return 0;
    if (size > 0)
        memcpy(copy, data, size);
    if (message_decode(copy, size, &message, &e)) {
        if (message.kind <= MSG_NONE || message.kind >= MSG_COUNT)
            abort();
        sources_of(&message, sources);
        /* Padding is not looked at, so sizes are compared and not bytes. */
        if (!message_encode(&message, sources, again, &written, &e) || written != size)
            abort();
        message_clear(&message);
    }
    free(copy);
    return 0;
}
