/* answer.c - a result as the JSON of the instance format. */
#include "plan/plan.h"

#include <stdlib.h>

static json_t *placement_json(const struct plan_instance *in, const struct plan_result *r)
{
    json_t *o = json_object();
    for (uint32_t m = 0; m < in->module_count; m++) {
        json_t *names = json_array();
        for (uint32_t i = 0; i < r->sites[m].count; i++)
            json_array_append_new(names, json_string(in->devices[r->sites[m].device[i]].name));
        json_object_set_new(o, in->modules[m].name, names);
    }
    return o;
}

static json_t *memory_json(const struct plan_instance *in, const struct plan_result *r)
{
    json_t *o = json_object();
    for (uint32_t d = 0; d < in->device_count; d++)
        json_object_set_new(o, in->devices[d].name, json_integer((json_int_t)r->device_bytes[d]));
    return o;
}

static json_t *requests_json(const struct plan_instance *in, const struct plan_result *r)
{
    json_t *list = json_array();
    for (uint32_t q = 0; q < in->request_count; q++) {
        const struct plan_model *m = &in->models[in->requests[q].model];
        json_t *route = json_object();
        for (uint32_t s = 0; s < m->slot_count; s++)
            json_object_set_new(route, in->modules[m->modules[s]].name,
                                json_string(in->devices[r->route[q][s]].name));
        json_t *row = json_pack("{s:s,s:s,s:f,s:o}", "model", m->name, "source",
                                in->devices[in->requests[q].source].name, "latency_ms",
                                r->latency_ms[q], "route", route);
        if (r->path)
            json_object_set_new(row, "path", json_string(r->path[q] ? r->path[q] : ""));
        json_array_append_new(list, row);
    }
    return list;
}

static json_t *explain_json(const struct plan_instance *in, const struct plan_result *r)
{
    json_t *list = json_array();
    for (uint32_t m = 0; m < in->module_count; m++)
        for (uint32_t i = 0; i < r->sites[m].count; i++)
            json_array_append_new(list, json_pack("{s:s,s:s,s:s}", "module", in->modules[m].name,
                                                  "device", in->devices[r->sites[m].device[i]].name,
                                                  "reason", r->reason[m] ? r->reason[m] : ""));
    return list;
}

static json_t *unprotected_json(const struct plan_instance *in, const struct plan_result *r)
{
    json_t *list = json_array();
    for (uint32_t m = 0; m < in->module_count; m++)
        if (r->unprotected[m])
            json_array_append_new(list, json_string(in->modules[m].name));
    return list;
}

json_t *plan_result_json(const struct plan_instance *in, const struct plan_result *r)
{
    json_t *o = json_pack(
        "{s:f,s:s,s:s,s:b,s:o,s:o,s:o,s:o,s:I}", "value", r->value, "objective",
        plan_objective_name(in->objective), "method", plan_method_name(r->method), "certified",
        r->certified, "bound", isnan(r->bound) ? json_null() : json_real(r->bound), "placement",
        placement_json(in, r), "device_memory_bytes", memory_json(in, r), "requests",
        requests_json(in, r), "evaluations", (json_int_t)r->evaluations);
    if (!o)
        return NULL;
    if (r->stopped != PLAN_NOT_STOPPED)
        json_object_set_new(o, "stopped",
                            json_string(r->stopped == PLAN_STOPPED_TIME ? "time" : "evaluations"));
    if (r->reason)
        json_object_set_new(o, "explain", explain_json(in, r));
    if (r->unprotected)
        json_object_set_new(o, "unprotected", unprotected_json(in, r));
    return o;
}

bool plan_run_json(const json_t *instance, const struct plan_options *o, json_t **answer,
                   struct err *e)
{
    struct plan_instance *in;
    struct plan_result r;
    if (!plan_instance_read(instance, &in, e))
        return false;
    bool ok = plan_solve(in, o, &r, e);
    if (ok) {
        *answer = plan_result_json(in, &r);
        ok = *answer || err_set(e, ERR_MEMORY, "no memory for an answer");
        plan_result_clear(in, &r);
    }
    plan_instance_free(in);
    return ok;
}
