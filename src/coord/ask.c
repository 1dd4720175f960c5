/* ask.c - measuring and checking on a device. */
#include "coord/ask.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_MS 300000
#define ANSWER_MAX (4u << 20)

struct asked {
    char id[WIRE_ID_MAX], url[WIRE_URL_MAX];
};

static bool choose_device(struct coord *c, struct asked *ret, struct err *e)
{
    const struct device *best = NULL;
    monitor_lock(&c->lock);
    for (uint32_t i = 0; i < c->fleet.device_count; i++) {
        const struct device *d = &c->fleet.devices[i];
        if (d->alive && (!best || d->join.memory_bytes > best->join.memory_bytes))
            best = d;
    }
    if (best) {
        memcpy(ret->id, best->join.id, sizeof(ret->id));
        memcpy(ret->url, best->join.peer_url, sizeof(ret->url));
    }
    monitor_unlock(&c->lock);
    return best || err_set(e, ERR_NO_PLACE, "no device is alive to measure and hold it");
}

/* question: owned after; NULL: no memory.  An answer is a new reference. */
static json_t *ask(struct coord *c, const struct asked *to, const char *what, json_t *question,
                   struct err *e)
{
    char address[WIRE_URL_MAX + 32];
    (void)snprintf(address, sizeof(address), "%s/s2m3/v1/%s", to->url, what);
    char *body = question ? json_text(question) : NULL;
    json_decref(question);
    if (!body) {
        err_set(e, ERR_MEMORY, "coordinator: no memory");
        return NULL;
    }
    struct net_header type = {"Content-Type", "application/json"};
    struct net_part part = {body, strlen(body)};
    struct net_call call = {.method = "POST",
                            .url = address,
                            .headers = &type,
                            .header_count = 1,
                            .parts = &part,
                            .part_count = 1,
                            .deadline_ns = clock_deadline_ms(ASK_MS),
                            .max_response = ANSWER_MAX};
    struct net_answer answer;
    bool sent = net_call(c->client, &call, &answer, e);
    free(body);
    if (!sent)
        return NULL;
    json_t *o = net_answer_err(&answer, e) ? json_parse(what, answer.body, answer.size, e) : NULL;
    net_answer_clear(&answer);
    return o;
}

bool ask_measure(struct coord *c, const struct cut_module *m, struct err *e)
{
    struct asked to;
    struct module module = {.digest = m->digest};
    struct module_report r;
    bool measured;
    monitor_lock(&c->lock);
    (void)fleet_memory(&c->fleet, &module, NULL, &measured);
    monitor_unlock(&c->lock);
    if (measured)
        return true;
    if (!choose_device(c, &to, e))
        return false;
    json_t *o = ask(c, &to, "measure",
                    json_pack("{s:s,s:O*}", "digest", m->digest.hex, "dims", m->dims), e);
    bool ok = o && module_report_read(o, &r, e);
    json_decref(o);
    if (!ok)
        return err_prefix(e, "%s%s can't be run", m->name, m->file ? ".onnx" : "");
    monitor_lock(&c->lock);
    ok = !r.measured || fleet_put_profile(&c->fleet, m->digest.hex, to.id, &r, e);
    monitor_unlock(&c->lock);
    return ok;
}

static void take_dims(struct cut *cut, const json_t *dims)
{
    for (int i = 0; i < cut->module_count; i++) {
        struct cut_module *m = &cut->modules[i];
        json_t *own = json_object_get(dims, m->digest.hex);
        if (!m->file && !m->dims && own)
            m->dims = json_incref(own);
    }
}

static bool take_differences(const json_t *answer, double *difference, char *output, struct err *e)
{
    json_t *rows;
    if (!json_need_array(answer, "check", "outputs", MODEL_PORTS_MAX, &rows, e))
        return false;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const char *name;
        double d;
        if (!json_need_str(row, "check", "name", &name, e) ||
            !json_need_num(row, "check", "difference", -1, 1e300, &d, e))
            return false;
        if (*difference >= 0 && (d < 0 || d > *difference)) {
            *difference = d;
            (void)snprintf(output, TENSOR_NAME_MAX, "%s", name);
        }
    }
    return true;
}

bool ask_check(struct coord *c, struct cut *cut, int model, double *difference,
               char output[TENSOR_NAME_MAX], struct err *e)
{
    struct asked to;
    bool *modules = calloc((size_t)cut->module_count + 1, sizeof(*modules)), ok = modules != NULL;
    *difference = 0;
    output[0] = 0;
    if (!ok)
        err_set(e, ERR_MEMORY, "coordinator: no memory");
    for (int f = 0; ok && f < cut_file_count(cut, model); f++) {
        if (!cut_file_modules(cut, model, f, modules))
            continue;
        if (!choose_device(c, &to, e)) {
            ok = false;
            break;
        }
        json_t *o = ask(c, &to, "check", cut_check(cut, model, f), e);
        ok = o && take_differences(o, difference, output, e);
        if (ok)
            take_dims(cut, json_object_get(o, "dims"));
        json_decref(o);
    }
    free(modules);
    return ok;
}
