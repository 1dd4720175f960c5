/* cluster.c - join, heartbeat and their answers as JSON. */
#include "wire/cluster.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define BYTES_MAX ((uint64_t)1 << 53)

static bool text(const json_t *o, const char *what, const char *key, char *to, size_t size,
                 struct err *e)
{
    const char *value = "";
    if (!json_opt_str(o, what, key, &value, e))
        return false;
    if (strlen(value) >= size)
        return err_set(e, ERR_TOO_LARGE, "%s: '%s' has %zu characters, limit %zu", what, key,
                       strlen(value), size - 1);
    memcpy(to, value, strlen(value) + 1);
    return true;
}

static bool u32(const json_t *o, const char *what, const char *key, uint64_t max, uint32_t *ret,
                struct err *e)
{
    uint64_t v = 0;
    if (!json_opt_u64(o, what, key, max, &v, e))
        return false;
    *ret = (uint32_t)v;
    return true;
}

static json_t *big(uint64_t v)
{
    return json_integer((json_int_t)(v < BYTES_MAX ? v : BYTES_MAX));
}

json_t *join_request_json(const struct join_request *m)
{
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:o,s:i,s:i,s:f,s:s}", "id", m->id, "name", m->name,
                     "peer_url", m->peer_url, "public_url", m->public_url, "runtime", m->runtime,
                     "cpu", m->cpu, "memory_bytes", big(m->memory_bytes), "lanes", (int)m->lanes,
                     "threads", (int)m->threads, "gflops", m->gflops, "emulate", m->emulate);
}

bool join_request_read(const json_t *o, struct join_request *ret, struct err *e)
{
    static const char what[] = "join";
    *ret = (struct join_request){0};
    if (!text(o, what, "id", ret->id, sizeof(ret->id), e) ||
        !text(o, what, "name", ret->name, sizeof(ret->name), e) ||
        !text(o, what, "peer_url", ret->peer_url, sizeof(ret->peer_url), e) ||
        !text(o, what, "public_url", ret->public_url, sizeof(ret->public_url), e) ||
        !text(o, what, "runtime", ret->runtime, sizeof(ret->runtime), e) ||
        !text(o, what, "cpu", ret->cpu, sizeof(ret->cpu), e) ||
        !text(o, what, "emulate", ret->emulate, sizeof(ret->emulate), e) ||
        !json_need_u64(o, what, "memory_bytes", BYTES_MAX, &ret->memory_bytes, e) ||
        !u32(o, what, "lanes", 1024, &ret->lanes, e) ||
        !u32(o, what, "threads", 1024, &ret->threads, e) ||
        !json_need_num(o, what, "gflops", 0, 1e9, &ret->gflops, e))
        return false;
    if (!ret->name[0] || !ret->peer_url[0])
        return err_set(e, ERR_INVALID, "join: 'name' and 'peer_url' are needed");
    if (ret->lanes == 0)
        return err_set(e, ERR_INVALID, "join: 'lanes' is 0, should be 1 to 1024");
    return true;
}

json_t *join_answer_json(const struct join_answer *m)
{
    return json_pack("{s:s,s:o,s:o}", "id", m->id, "heartbeat_ms", big(m->heartbeat_ms),
                     "table_version", big(m->table_version));
}

bool join_answer_read(const json_t *o, struct join_answer *ret, struct err *e)
{
    static const char what[] = "answer to join";
    *ret = (struct join_answer){0};
    if (!text(o, what, "id", ret->id, sizeof(ret->id), e) ||
        !json_need_u64(o, what, "heartbeat_ms", 60000, &ret->heartbeat_ms, e) ||
        !json_need_u64(o, what, "table_version", BYTES_MAX, &ret->table_version, e))
        return false;
    return ret->id[0] ? true : err_set(e, ERR_INVALID, "%s: 'id' is empty", what);
}

static const char *const state_names[] = {"absent", "fetching", "loading", "ready", "failed"};

const char *module_state_name(enum module_state s)
{
    return (unsigned)s < ARRAY_LEN(state_names) ? state_names[s] : "absent";
}

json_t *module_report_json(const struct module_report *m)
{
    return json_pack("{s:s,s:s,s:s,s:b,s:o,s:o,s:o,s:o,s:f,s:f,s:o,s:f}", "digest", m->digest.hex,
                     "state", module_state_name(m->state), "error", m->error, "measured",
                     (int)m->measured, "anonymous", big(m->anonymous), "file", big(m->file), "pss",
                     big(m->pss), "peak", big(m->peak), "load_ms", m->load_ms, "run_ms", m->run_ms,
                     "runs", big(m->runs), "busy_ms", m->busy_ms);
}

bool module_report_read(const json_t *o, struct module_report *ret, struct err *e)
{
    static const char what[] = "module report";
    const char *digest, *state;
    *ret = (struct module_report){0};
    if (!json_need_str(o, what, "digest", &digest, e) ||
        !json_need_str(o, what, "state", &state, e))
        return false;
    if (!digest_valid(digest))
        return err_set(e, ERR_INVALID, "%s: 'digest' is not a SHA-256 digest", what);
    memcpy(ret->digest.hex, digest, sizeof(ret->digest.hex));
    size_t s = 0;
    while (s < ARRAY_LEN(state_names) && strcmp(state_names[s], state) != 0)
        s++;
    if (s == ARRAY_LEN(state_names))
        return err_set(e, ERR_INVALID, "%s: state '%.40s' is unknown", what, state);
    ret->state = (enum module_state)s;
    return text(o, what, "error", ret->error, sizeof(ret->error), e) &&
           json_opt_bool(o, what, "measured", &ret->measured, e) &&
           json_need_u64(o, what, "anonymous", BYTES_MAX, &ret->anonymous, e) &&
           json_need_u64(o, what, "file", BYTES_MAX, &ret->file, e) &&
           json_need_u64(o, what, "pss", BYTES_MAX, &ret->pss, e) &&
           json_need_u64(o, what, "peak", BYTES_MAX, &ret->peak, e) &&
           json_need_num(o, what, "load_ms", 0, 1e9, &ret->load_ms, e) &&
           json_need_num(o, what, "run_ms", 0, 1e9, &ret->run_ms, e) &&
           json_need_u64(o, what, "runs", BYTES_MAX, &ret->runs, e) &&
           json_opt_num(o, what, "busy_ms", 0, 1e15, &ret->busy_ms, e);
}

json_t *heartbeat_json(const struct heartbeat *m)
{
    json_t *modules = json_array(), *links = json_array();
    for (uint32_t i = 0; i < m->module_count; i++)
        json_array_append_new(modules, module_report_json(&m->modules[i]));
    for (uint32_t i = 0; i < m->link_count; i++)
        json_array_append_new(links,
                              json_pack("{s:s,s:f,s:f}", "device", m->links[i].device, "latency_ms",
                                        m->links[i].latency_ms, "mbit", m->links[i].mbit));
    return json_pack("{s:s,s:o,s:o,s:o,s:i,s:i,s:o,s:o,s:o,s:o,s:o,s:O*}", "id", m->id,
                     "table_version", big(m->table_version), "footprint_bytes",
                     big(m->footprint_bytes), "base_bytes", big(m->base_bytes), "running",
                     (int)m->running, "waiting", (int)m->waiting, "requests", big(m->requests),
                     "errors", big(m->errors), "runner_restarts", big(m->runner_restarts),
                     "modules", modules, "links", links, "usage", m->usage);
}

static bool read_modules(const json_t *o, struct heartbeat *ret, struct err *e)
{
    json_t *list;
    if (!json_need_array(o, "heartbeat", "modules", WIRE_MODULES_MAX, &list, e))
        return false;
    ret->modules = calloc(json_array_size(list) + 1, sizeof(*ret->modules));
    if (!ret->modules)
        return err_set(e, ERR_MEMORY, "heartbeat: no memory");
    for (size_t i = 0; i < json_array_size(list); i++, ret->module_count++)
        if (!module_report_read(json_array_get(list, i), &ret->modules[i], e))
            return false;
    return true;
}

static bool read_links(const json_t *o, struct heartbeat *ret, struct err *e)
{
    json_t *list;
    if (!json_need_array(o, "heartbeat", "links", WIRE_DEVICES_MAX, &list, e))
        return false;
    ret->links = calloc(json_array_size(list) + 1, sizeof(*ret->links));
    if (!ret->links)
        return err_set(e, ERR_MEMORY, "heartbeat: no memory");
    for (size_t i = 0; i < json_array_size(list); i++, ret->link_count++) {
        const json_t *row = json_array_get(list, i);
        struct link_report *l = &ret->links[i];
        if (!text(row, "link report", "device", l->device, sizeof(l->device), e) ||
            !json_need_num(row, "link report", "latency_ms", 0, 1e9, &l->latency_ms, e) ||
            !json_need_num(row, "link report", "mbit", 1e-6, 1e9, &l->mbit, e))
            return false;
    }
    return true;
}

static bool read_heartbeat(const json_t *o, struct heartbeat *ret, struct err *e)
{
    static const char what[] = "heartbeat";
    json_t *usage = json_object_get(o, "usage");
    if (usage && !json_is_object(usage))
        return err_set(e, ERR_INVALID, "%s: 'usage' should be an object", what);
    ret->usage = json_incref(usage);
    return text(o, what, "id", ret->id, sizeof(ret->id), e) &&
           json_need_u64(o, what, "table_version", BYTES_MAX, &ret->table_version, e) &&
           json_need_u64(o, what, "footprint_bytes", BYTES_MAX, &ret->footprint_bytes, e) &&
           json_need_u64(o, what, "base_bytes", BYTES_MAX, &ret->base_bytes, e) &&
           u32(o, what, "running", UINT32_MAX, &ret->running, e) &&
           u32(o, what, "waiting", UINT32_MAX, &ret->waiting, e) &&
           json_need_u64(o, what, "requests", BYTES_MAX, &ret->requests, e) &&
           json_need_u64(o, what, "errors", BYTES_MAX, &ret->errors, e) &&
           json_need_u64(o, what, "runner_restarts", BYTES_MAX, &ret->runner_restarts, e) &&
           read_modules(o, ret, e) && read_links(o, ret, e);
}

bool heartbeat_read(const json_t *o, struct heartbeat *ret, struct err *e)
{
    *ret = (struct heartbeat){0};
    if (read_heartbeat(o, ret, e))
        return true;
    heartbeat_clear(ret);
    return false;
}

void heartbeat_clear(struct heartbeat *m)
{
    free(m->modules);
    free(m->links);
    json_decref(m->usage);
    *m = (struct heartbeat){0};
}

json_t *heartbeat_answer_json(const struct heartbeat_answer *m)
{
    return json_pack("{s:o,s:b,s:b}", "table_version", big(m->table_version), "unknown",
                     (int)m->unknown, "left", (int)m->left);
}

bool heartbeat_answer_read(const json_t *o, struct heartbeat_answer *ret, struct err *e)
{
    *ret = (struct heartbeat_answer){0};
    return json_need_u64(o, "answer to heartbeat", "table_version", BYTES_MAX, &ret->table_version,
                         e) &&
           json_opt_bool(o, "answer to heartbeat", "unknown", &ret->unknown, e) &&
           json_opt_bool(o, "answer to heartbeat", "left", &ret->left, e);
}
