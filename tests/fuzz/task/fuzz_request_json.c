/* fuzz_request_json.c - bodies of clients, fitted to programs of each kind.  The first byte chooses
 * the content type. */
#include "base/num.h"
#include "task/request.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const types[] = {
    "application/json",         NULL, "image/png", "audio/wav", "text/plain; charset=utf-8",
    "application/octet-stream", "x/y"};

static struct program program(const char *task, enum media_kind once, enum media_kind each)
{
    struct program p = {.call_count = each == MEDIA_KINDS ? 1 : 2, .hypothesis = "a {}."};
    memcpy(p.task, task, strlen(task) + 1);
    p.calls[0].input_count = p.calls[1].input_count = 1;
    p.calls[0].inputs[0] = (struct program_input){.media = true, .kind = once};
    p.calls[1].inputs[0] = (struct program_input){.media = true, .kind = each};
    p.calls[1].each = true;
    return p;
}

/* Every media input of the program has its bytes. */
static void look(const struct request *r, const struct program *p)
{
    for (int c = 0; c < p->call_count; c++)
        for (int i = 0; i < (p->calls[c].each ? r->candidate_count : 1); i++)
            if (!request_media(r, &p->calls[c], p->calls[c].inputs[0].kind, i))
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct program all[] = {
        program("zero-shot-image-classification", MEDIA_IMAGE, MEDIA_TEXT),
        program("text-to-image-retrieval", MEDIA_TEXT, MEDIA_IMAGE),
        program("feature-extraction", MEDIA_AUDIO, MEDIA_KINDS),
        program("feature-extraction", MEDIA_TEXT, MEDIA_KINDS),
    };
    struct program *const list[] = {&all[0], &all[1], &all[2], &all[3]};
    struct err e = {0};
    struct request r;
    if (size == 0 || !request_read(types[data[0] % ARRAY_LEN(types)], data + 1, size - 1, &r, &e))
        return 0;
    for (size_t i = 0; i <= ARRAY_LEN(list); i++) {
        const char *task = i < ARRAY_LEN(list) ? list[i]->task : NULL;
        int chosen = request_choose(list, (int)ARRAY_LEN(list), task, &r, &e);
        if (chosen >= 0 && request_fit(&r, list[chosen], &e))
            look(&r, list[chosen]);
    }
    request_clear(&r);
    return 0;
}
