/* moves.c - see moves.h. */
#include "coord/moves.h"

#include <stdio.h>
#include <string.h>

#define ROW "moves"

struct move *moves_add(struct moves *m)
{
    struct move *x = &m->rows[m->next];
    m->next = (m->next + 1) % MOVES_MAX;
    m->count += m->count < MOVES_MAX;
    m->total++;
    *x = (struct move){0};
    return x;
}

const struct move *moves_at(const struct moves *m, uint32_t i)
{
    return i < m->count ? &m->rows[(m->next + MOVES_MAX - 1 - i) % MOVES_MAX] : NULL;
}

json_t *moves_json(const struct moves *m, uint32_t max)
{
    json_t *list = json_array();
    const struct move *x;
    for (uint32_t i = 0; i < max && (x = moves_at(m, i)); i++)
        json_array_append_new(list,
                              json_pack("{s:I,s:I,s:s,s:s,s:s,s:s,s:s,s:s}", "at_ms",
                                        (json_int_t)x->wall_ms, "done_ms", (json_int_t)x->done_ms,
                                        "digest", x->module.hex, "module", x->name, "from", x->from,
                                        "to", x->to, "cause", x->cause, "why", x->why));
    return list;
}

static void text(const json_t *o, const char *key, char *to, size_t size)
{
    const char *s = json_string_value(json_object_get(o, key));
    (void)snprintf(to, size, "%s", s ? s : "");
}

bool moves_load(struct moves *m, struct state *state, struct err *e)
{
    json_t *row;
    *m = (struct moves){0};
    if (!state_get(state, STATE_FLEET, ROW, &row, e))
        return false;
    const json_t *list = json_object_get(row, "last");
    for (size_t i = json_array_size(list); i-- > 0;) {
        const json_t *o = json_array_get(list, i);
        struct move *x = moves_add(m);
        x->wall_ms = json_integer_value(json_object_get(o, "at_ms"));
        x->done_ms = json_integer_value(json_object_get(o, "done_ms"));
        text(o, "digest", x->module.hex, sizeof(x->module.hex));
        text(o, "module", x->name, sizeof(x->name));
        text(o, "from", x->from, sizeof(x->from));
        text(o, "to", x->to, sizeof(x->to));
        text(o, "cause", x->cause, sizeof(x->cause));
        text(o, "why", x->why, sizeof(x->why));
    }
    json_int_t total = json_integer_value(json_object_get(row, "total"));
    m->total = total > 0 ? (uint64_t)total : m->count;
    json_decref(row);
    return true;
}

bool moves_save(const struct moves *m, struct state *state, struct err *e)
{
    json_t *row =
        json_pack("{s:o,s:I}", "last", moves_json(m, MOVES_MAX), "total", (json_int_t)m->total);
    bool ok = row ? state_put(state, STATE_FLEET, ROW, row, e)
                  : err_set(e, ERR_MEMORY, "moves: no memory");
    json_decref(row);
    return ok;
}
