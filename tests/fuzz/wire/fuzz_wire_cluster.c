/* Any JSON as a table, a join, a heartbeat. */
#include "wire/cluster.h"
#include "wire/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    json_t *o = json_parse("input", (const char *)data, size, &e);
    if (!o)
        return 0;
    struct join_request join;
    struct join_answer answer;
    struct heartbeat h;
    struct heartbeat_answer ha;
    table_unref(table_from_json(o, &e));
    (void)join_request_read(o, &join, &e);
    (void)join_answer_read(o, &answer, &e);
    (void)heartbeat_answer_read(o, &ha, &e);
    if (heartbeat_read(o, &h, &e))
        heartbeat_clear(&h);
    json_decref(o);
    return 0;
}
