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
    uint64_t memory;
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
        ret->memory = best->join.memory_bytes;
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
                            .cancel = c->ending,
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

bool ask_measure_again(struct coord *c, struct ask_again *a, struct err *e)
{
    struct asked to = {0};
    struct module_report r;
    json_t *dims = NULL;
    monitor_lock(&c->lock);
    const struct device *d = fleet_device(&c->fleet, a->device);
    const struct module *m = fleet_module(&c->fleet, a->module.hex);
    const struct profile *p = fleet_profile(&c->fleet, a->module.hex, a->device);
    bool there = d && d->alive && m && p;
    if (there) {
        memcpy(to.id, d->join.id, sizeof(to.id));
        memcpy(to.url, d->join.peer_url, sizeof(to.url));
        dims = json_incref(m->dims);
        a->was_ms = p->run_ms;
    }
    monitor_unlock(&c->lock);
    if (!there)
        return err_set(e, ERR_NOT_FOUND, "it is not there any more");
    json_t *o =
        ask(c, &to, "measure",
            json_pack("{s:s,s:o*,s:b}", "digest", a->module.hex, "dims", dims, "again", 1), e);
    bool ok = o && module_report_read(o, &r, e) &&
              (r.measured || err_set(e, ERR_UNSUPPORTED, "it can't be timed: %.200s", r.error));
    json_decref(o);
    a->now_ms = ok ? r.run_ms : 0;
    monitor_lock(&c->lock);
    ok = ok && fleet_put_profile(&c->fleet, a->module.hex, to.id, &r, e);
    fleet_measured_again(&c->fleet, a->module.hex, a->device);
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

static bool take_differences(const json_t *answer, struct checked *to, struct err *e)
{
    json_t *rows;
    if (!json_need_array(answer, "check", "outputs", CUT_PAIRS_MAX * MODEL_PORTS_MAX, &rows, e))
        return false;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const char *name;
        double d;
        if (!json_need_str(row, "check", "name", &name, e) ||
            !json_need_num(row, "check", "difference", -1, 1e300, &d, e))
            return false;
        if (to->difference >= 0 && (d < 0 || d > to->difference)) {
            to->difference = d;
            (void)snprintf(to->output, sizeof(to->output), "%s", name);
        }
    }
    return true;
}

struct pair_writer {
    const struct cut *cut;
    int model, file;
    struct cut_pair *pair;
};

static bool write_pair(void *ctx, const char *folder, struct err *e)
{
    struct pair_writer *w = ctx;
    return cut_write_pair(w->cut, w->model, w->file, w->pair, folder, e);
}

static bool is_module(struct coord *c, const char *digest)
{
    monitor_lock(&c->lock);
    bool is = fleet_module(&c->fleet, digest) != NULL;
    monitor_unlock(&c->lock);
    return is;
}

/* The joined pairs are there for the check only. */
static json_t *check_pairs(struct coord *c, const struct asked *to, const struct cut *cut,
                           int model, int file, struct err *e)
{
    struct cut_pair *pairs;
    int count, written = 0;
    if (!cut_pairs(cut, model, file, &pairs, &count, e))
        return NULL;
    bool ok = true;
    while (ok && written < count) {
        struct pair_writer w = {cut, model, file, &pairs[written]};
        ok = blobs_write_module(c->blobs, write_pair, &w, &pairs[written].digest, e);
        written += ok;
    }
    json_t *o = ok ? ask(c, to, "check", cut_check_pairs(cut, model, file, pairs, count), e) : NULL;
    for (int i = 0; i < written; i++)
        if (!is_module(c, pairs[i].digest.hex))
            blobs_drop(c->blobs, pairs[i].digest.hex);
    cut_pairs_free(pairs, count);
    return o;
}

static bool check_file(struct coord *c, struct cut *cut, int model, int file, struct checked *ret,
                       struct err *e)
{
    struct asked to;
    if (!choose_device(c, &to, e))
        return false;
    bool pairwise = cut_file_bytes(cut, model, file) > to.memory;
    json_t *o = pairwise ? check_pairs(c, &to, cut, model, file, e)
                         : ask(c, &to, "check", cut_check(cut, model, file), e);
    bool ok = o && take_differences(o, ret, e);
    if (ok)
        take_dims(cut, json_object_get(o, "dims"));
    ret->pairwise = ret->pairwise || pairwise;
    json_decref(o);
    return ok;
}

bool ask_check(struct coord *c, struct cut *cut, int model, struct checked *ret, struct err *e)
{
    bool *modules = calloc((size_t)cut->module_count + 1, sizeof(*modules)), ok = modules != NULL;
    *ret = (struct checked){0};
    if (!ok)
        err_set(e, ERR_MEMORY, "coordinator: no memory");
    for (int f = 0; ok && f < cut_file_count(cut, model); f++)
        ok = !cut_file_modules(cut, model, f, modules) || check_file(c, cut, model, f, ret, e);
    free(modules);
    return ok;
}
