/* fuzz_node_question.c - the question of a check: what was read refers to what there is, within its
 * limits. */
#include "node/question.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_at_refs(const struct question *q, const struct question_ref *refs, int count,
                         int calls, bool outputs)
{
    if (count > CHECK_PORTS_MAX)
        abort();
    for (int i = 0; i < count; i++) {
        const struct question_ref *r = &refs[i];
        bool input = r->input >= 0 && r->input < q->input_count && r->call < 0 && !outputs;
        bool call = r->input < 0 && r->call >= 0 && r->call < calls;
        if (input == call || !memchr(r->port, 0, sizeof(r->port)) ||
            !memchr(r->output, 0, sizeof(r->output)))
            abort();
    }
}

static void look(const struct question *q)
{
    size_t sum = 0;
    for (int i = 0; i < q->input_count; i++) {
        size_t bytes;
        struct err e;
        if (!tensor_bytes(q->inputs[i].dtype, &q->inputs[i].shape, &bytes, &e))
            abort();
        sum += bytes * CHECK_RUNS;
    }
    if (sum > CHECK_BYTES_MAX || q->input_count > CHECK_PORTS_MAX ||
        q->call_count > CHECK_CALLS_MAX || q->reference_count > CHECK_CALLS_MAX)
        abort();
    for (int i = 0; i < q->call_count; i++) {
        look_at_refs(q, q->calls[i].refs, q->calls[i].ref_count, i, false);
        if (!digest_valid(q->calls[i].module.hex))
            abort();
    }
    for (int i = 0; i < q->reference_count; i++) {
        const struct question_run *r = &q->references[i];
        look_at_refs(q, r->refs, r->ref_count, q->call_count, false);
        look_at_refs(q, r->outputs, r->output_count, q->call_count, true);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {0};
    struct question q;
    json_t *o = json_parse("check", (const char *)data, size, &e);
    if (o && question_read(o, &q, &e)) {
        look(&q);
        question_clear(&q);
    } else if (e.code == ERR_NONE || e.code == ERR_INTERNAL || !e.text[0]) {
        abort(); /* a refusal says why, and that it is not our fault */
    }
    json_decref(o);
    return 0;
}
