/* instance.c - JSON to a placement instance, or a text that says what is wrong and where.
 *
 * One list after the other in the order in which names are needed: devices, links, modules, models,
 * requests.  Name -> index tables are jansson objects.  Nothing is corrected silently: an unknown
 * field is an error too, because a misspelt option would change the plan unnoticed. */
#include "plan/instance.h"

#include "base/num.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHAT_MAX 200

struct range {
    double min, max;
    bool above; /* min itself is not allowed */
    bool whole;
};

static const struct range BYTES = {0, PLAN_BYTES_MAX, false, true};
static const struct range LANES = {1, PLAN_LANES_MAX, false, true};
static const struct range RUNS = {1, PLAN_BYTES_MAX, false, true};
static const struct range ABOVE_ZERO = {0, DBL_MAX, true, false};
static const struct range NOT_NEGATIVE = {0, DBL_MAX, false, false};

struct reader {
    struct plan_instance *in;
    json_t *devices, *modules, *models; /* name -> index; owned */
    struct err *e;
};

/* ---- values ---- */

static bool check_number(const json_t *v, const char *what, const char *key, struct range r,
                         double *ret, struct err *e)
{
    if (!json_is_number(v))
        return err_set(e, ERR_INVALID, "%s: %s is not a number", what, key);
    double x = json_number_value(v);
    bool over = json_is_integer(v) && r.whole && json_integer_value(v) > (json_int_t)r.max;
    if (!isfinite(x) || x < r.min || x > r.max || over || (r.above && x <= r.min)) {
        if (r.max >= DBL_MAX)
            return err_set(e, ERR_INVALID, "%s: %s is %.17g, allowed is %s %.17g", what, key, x,
                           r.above ? "above" : "at least", r.min);
        char *said = json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
        err_set(e, ERR_INVALID, "%s: %s is %s, allowed is %.17g to %.17g", what, key,
                said ? said : "?", r.min, r.max);
        free(said);
        return false;
    }
    if (r.whole && x != floor(x))
        return err_set(e, ERR_INVALID, "%s: %s is %.17g, not a whole number", what, key, x);
    *ret = x + 0.0; /* -0 becomes 0 */
    return true;
}

/* Absent: *ret stays as it is, unless the member is needed. */
/* One of a map: the text says which. */
static bool check_entry(const json_t *v, const char *what, const char *key, const char *name,
                        struct range r, double *ret, struct err *e)
{
    char which[WHAT_MAX];
    (void)snprintf(which, sizeof(which), "%s of '%.100s'", key, name);
    return check_number(v, what, which, r, ret, e);
}

static bool number(const json_t *o, const char *what, const char *key, struct range r, bool needed,
                   double *ret, struct err *e)
{
    const json_t *v = json_object_get(o, key);
    if (!v && needed)
        return err_set(e, ERR_INVALID, "%s: %s is missing", what, key);
    return !v || check_number(v, what, key, r, ret, e);
}

static bool flag(const json_t *o, const char *what, const char *key, bool *ret, struct err *e)
{
    const json_t *v = json_object_get(o, key);
    if (v && !json_is_boolean(v))
        return err_set(e, ERR_INVALID, "%s: %s is neither true nor false", what, key);
    if (v)
        *ret = json_is_true(v);
    return true;
}

static bool text(const json_t *o, const char *what, const char *key, const char **ret,
                 struct err *e)
{
    const json_t *v = json_object_get(o, key);
    if (!v)
        return err_set(e, ERR_INVALID, "%s: %s is missing", what, key);
    if (!json_is_string(v) || json_string_length(v) == 0)
        return err_set(e, ERR_INVALID, "%s: %s is not a text of at least one character", what, key);
    *ret = json_string_value(v);
    return true;
}

static bool list(const json_t *o, const char *what, const char *key, uint32_t min, uint32_t max,
                 const json_t **ret, uint32_t *count, struct err *e)
{
    const json_t *v = json_object_get(o, key);
    if (v && !json_is_array(v))
        return err_set(e, ERR_INVALID, "%s: %s is not a list", what, key);
    size_t n = json_array_size(v);
    if (n < min || n > max)
        return err_set(e, ERR_INVALID, "%s: %s has %zu entries, allowed are %u to %u", what, key, n,
                       min, max);
    *ret = v;
    *count = (uint32_t)n;
    return true;
}

static bool find(const json_t *names, const char *what, const char *kind, const char *name,
                 uint32_t *ret, struct err *e)
{
    const json_t *v = json_object_get(names, name);
    if (!v)
        return err_set(e, ERR_INVALID, "%s: there is no %s '%.100s'", what, kind, name);
    *ret = (uint32_t)json_integer_value(v);
    return true;
}

/* Adds a name of a list; what becomes "devices[3] 'cam'". */
static bool add_name(json_t *names, const json_t *o, const char *key, char *what, uint32_t index,
                     char **ret, struct err *e)
{
    const char *name;
    if (!text(o, what, key, &name, e))
        return false;
    size_t used = strlen(what);
    (void)snprintf(what + used, WHAT_MAX - used, " '%.60s'", name);
    if (json_object_get(names, name))
        return err_set(e, ERR_INVALID, "%s: %s stands there twice", what, key);
    *ret = strdup(name);
    if (!*ret || json_object_set_new(names, name, json_integer(index)) != 0)
        return err_set(e, ERR_MEMORY, "no memory for names");
    return true;
}

static void *zeros(size_t count, size_t size, struct err *e)
{
    void *p = calloc(count ? count : 1, size);
    if (!p)
        err_set(e, ERR_MEMORY, "no memory for %zu entries of an instance", count);
    return p;
}

/* ---- devices and links ---- */

static bool read_device(struct reader *r, const json_t *o, uint32_t i)
{
    static const char *const keys[] = {"name", "memory_bytes", "lanes", "gflops", NULL};
    struct plan_device *d = &r->in->devices[i];
    char what[WHAT_MAX];
    double lanes = 1;
    (void)snprintf(what, sizeof(what), "devices[%u]", i);
    if (!json_only_keys(o, what, keys, r->e) ||
        !add_name(r->devices, o, "name", what, i, &d->name, r->e) ||
        !number(o, what, "memory_bytes", BYTES, true, &d->memory_bytes, r->e) ||
        !number(o, what, "lanes", LANES, false, &lanes, r->e) ||
        !number(o, what, "gflops", ABOVE_ZERO, false, &d->gflops, r->e))
        return false;
    d->lanes = (uint32_t)lanes;
    return true;
}

static bool read_link_speed(struct reader *r, const json_t *o, const char *what, uint32_t i)
{
    struct plan_link *l = &r->in->links[i];
    if (!number(o, what, "latency_ms", NOT_NEGATIVE, true, &l->latency_ms, r->e) ||
        !number(o, what, "mbit", ABOVE_ZERO, true, &l->mbit, r->e))
        return false;
    l->ms_per_byte = fmin(8 / (l->mbit * 1000), DBL_MAX); /* 0 bytes stay 0 ms on any link */
    return true;
}

static bool read_link(struct reader *r, const json_t *o, uint32_t i, uint32_t unset)
{
    static const char *const keys[] = {"a", "b", "latency_ms", "mbit", NULL};
    const char *a, *b;
    uint32_t x, y;
    char what[WHAT_MAX];
    (void)snprintf(what, sizeof(what), "links[%u]", i);
    if (!json_only_keys(o, what, keys, r->e) || !text(o, what, "a", &a, r->e) ||
        !text(o, what, "b", &b, r->e) || !find(r->devices, what, "device", a, &x, r->e) ||
        !find(r->devices, what, "device", b, &y, r->e) || !read_link_speed(r, o, what, i))
        return false;
    if (x == y)
        return err_set(r->e, ERR_INVALID, "%s: '%.100s' is linked to itself", what, a);
    uint32_t *to = &r->in->link_of[(size_t)x * r->in->device_count + y];
    if (*to != unset)
        return err_set(r->e, ERR_INVALID, "%s: '%.100s' and '%.100s' are linked twice", what, a, b);
    *to = i;
    r->in->link_of[(size_t)y * r->in->device_count + x] = i;
    return true;
}

/* The last entry of links is the default one, when there is one. */
static bool read_links(struct reader *r, const json_t *root)
{
    static const char *const keys[] = {"latency_ms", "mbit", NULL};
    struct plan_instance *in = r->in;
    const json_t *links, *def = json_object_get(root, "default_link");
    uint32_t count, unset = PLAN_NO_LINK;
    size_t cells = (size_t)in->device_count * in->device_count;
    if (!list(root, "instance", "links", 0, PLAN_DEVICES_MAX * (PLAN_DEVICES_MAX / 2), &links,
              &count, r->e))
        return false;
    in->links = zeros((size_t)count + 1, sizeof(*in->links), r->e);
    in->link_of = zeros(cells, sizeof(*in->link_of), r->e);
    if (!in->links || !in->link_of)
        return false;
    in->link_count = count;
    if (def) {
        if (!json_only_keys(def, "default_link", keys, r->e) ||
            !read_link_speed(r, def, "default_link", count))
            return false;
        unset = in->link_count++;
    }
    for (size_t i = 0; i < cells; i++)
        in->link_of[i] = unset;
    for (uint32_t i = 0; i < count; i++)
        if (!read_link(r, json_array_get(links, i), i, unset))
            return false;
    return true;
}

/* ---- modules ---- */

static bool read_run_times(struct reader *r, const json_t *o, const char *what, uint32_t i)
{
    struct plan_instance *in = r->in;
    const struct plan_module *m = &in->modules[i];
    double *run = &in->run_ms[(size_t)i * in->device_count];
    json_t *given = json_object_get(o, "run_ms"), *value;
    const char *name;
    if (given && !json_is_object(given))
        return err_set(r->e, ERR_INVALID, "%s: run_ms is not an object", what);
    for (uint32_t d = 0; d < in->device_count; d++) {
        double ms = m->gflop >= 0 && in->devices[d].gflops > 0
                        ? m->gflop / in->devices[d].gflops * 1000
                        : INFINITY;
        run[d] = isfinite(ms) ? ms : INFINITY;
    }
    json_object_foreach(given, name, value)
    {
        uint32_t d;
        if (!find(r->devices, what, "device", name, &d, r->e))
            return false;
        run[d] = INFINITY;
        if (!json_is_null(value) &&
            !check_entry(value, what, "run_ms", name, ABOVE_ZERO, &run[d], r->e))
            return false;
    }
    return true;
}

static bool read_module(struct reader *r, const json_t *o, uint32_t i)
{
    static const char *const keys[] = {"name",         "memory_bytes", "gflop",
                                       "output_bytes", "run_ms",       NULL};
    struct plan_module *m = &r->in->modules[i];
    char what[WHAT_MAX];
    (void)snprintf(what, sizeof(what), "modules[%u]", i);
    m->gflop = -1;
    return json_only_keys(o, what, keys, r->e) &&
           add_name(r->modules, o, "name", what, i, &m->name, r->e) &&
           number(o, what, "memory_bytes", BYTES, true, &m->memory_bytes, r->e) &&
           number(o, what, "gflop", NOT_NEGATIVE, false, &m->gflop, r->e) &&
           number(o, what, "output_bytes", BYTES, false, &m->output_bytes, r->e) &&
           read_run_times(r, o, what, i);
}

/* ---- models ---- */

/* One call of either form; ids: id -> index of the model so far. */
static bool add_call(struct reader *r, struct plan_model *m, json_t *ids, const char *what,
                     const char *id, const char *module)
{
    struct plan_call *c = &m->calls[m->call_count];
    if (json_object_get(ids, id))
        return err_set(r->e, ERR_INVALID, "%s: the call '%.100s' stands there twice", what, id);
    if (!find(r->modules, what, "module", module, &c->module, r->e))
        return false;
    c->id = strdup(id);
    if (!c->id || json_object_set_new(ids, id, json_integer(m->call_count)) != 0)
        return err_set(r->e, ERR_MEMORY, "no memory for calls");
    m->call_count++;
    return true;
}

static bool read_from(struct reader *r, struct plan_model *m, const json_t *ids, const char *what,
                      const json_t *from, uint32_t *used)
{
    uint32_t index = m->call_count - 1;
    struct plan_call *c = &m->calls[index];
    if (!json_is_array(from) || json_array_size(from) == 0)
        return err_set(r->e, ERR_INVALID, "%s: from of '%.100s' is not a list of at least one call",
                       what, c->id);
    c->from_first = *used;
    for (size_t i = 0; i < json_array_size(from); i++) {
        const char *name = json_string_value(json_array_get(from, i));
        uint32_t k = 0;
        if (!name)
            return err_set(r->e, ERR_INVALID, "%s: from of '%.100s' holds what is not a text", what,
                           c->id);
        bool source = strcmp(name, "source") == 0, twice = source && c->from_source;
        if (!source && (!find(ids, what, "earlier call", name, &k, r->e)))
            return false;
        if (!source && k == index)
            return err_set(r->e, ERR_INVALID, "%s: '%.100s' is fed by itself", what, name);
        for (uint32_t j = 0; !source && j < c->from_count; j++)
            twice |= m->from[c->from_first + j] == k;
        if (twice)
            return err_set(r->e, ERR_INVALID, "%s: from of '%.100s' names '%.100s' twice", what,
                           c->id, name);
        if (source)
            c->from_source = true;
        else
            m->from[c->from_first + c->from_count++] = k;
    }
    *used += c->from_count;
    return true;
}

static bool make_calls(struct reader *r, struct plan_model *m, size_t calls, size_t edges)
{
    m->calls = zeros(calls, sizeof(*m->calls), r->e);
    m->modules = zeros(calls, sizeof(*m->modules), r->e);
    m->from = zeros(edges, sizeof(*m->from), r->e);
    m->next = zeros(edges, sizeof(*m->next), r->e);
    return m->calls && m->modules && m->from && m->next;
}

static bool read_calls(struct reader *r, struct plan_model *m, const json_t *o, json_t *ids,
                       const char *what)
{
    static const char *const keys[] = {"id", "module", "from", NULL};
    const json_t *calls;
    uint32_t count, used = 0;
    size_t edges = 0;
    if (json_object_get(o, "encoders") || json_object_get(o, "head"))
        return err_set(r->e, ERR_INVALID, "%s: both calls and encoders or head", what);
    if (!list(o, what, "calls", 1, PLAN_CALLS_MAX, &calls, &count, r->e))
        return false;
    for (uint32_t i = 0; i < count; i++)
        edges += json_array_size(json_object_get(json_array_get(calls, i), "from"));
    if (!make_calls(r, m, count, edges))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        const json_t *c = json_array_get(calls, i);
        const char *id, *module;
        char where[WHAT_MAX + 24];
        (void)snprintf(where, sizeof(where), "%s: calls[%u]", what, i);
        if (!json_only_keys(c, where, keys, r->e) || !text(c, where, "id", &id, r->e) ||
            !text(c, where, "module", &module, r->e) || !add_call(r, m, ids, where, id, module) ||
            !read_from(r, m, ids, where, json_object_get(c, "from"), &used))
            return false;
    }
    return true;
}

/* encoders + head: one call per encoder, all feeding the head. */
static bool read_shorthand(struct reader *r, struct plan_model *m, const json_t *o, json_t *ids,
                           const char *what)
{
    const json_t *encoders, *head = json_object_get(o, "head");
    uint32_t count;
    if (head && !json_is_null(head) && json_string_length(head) == 0)
        return err_set(r->e, ERR_INVALID, "%s: head is neither a module's name nor null", what);
    bool has_head = json_is_string(head);
    if (!has_head && !json_object_get(o, "encoders"))
        return err_set(r->e, ERR_INVALID, "%s: no calls: neither calls nor encoders nor head",
                       what);
    if (!list(o, what, "encoders", has_head ? 0 : 1, PLAN_CALLS_MAX - 1, &encoders, &count, r->e) ||
        !make_calls(r, m, (size_t)count + 1, count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(encoders, i));
        if (!name)
            return err_set(r->e, ERR_INVALID, "%s: encoders[%u] is not a text", what, i);
        if (!add_call(r, m, ids, what, name, name))
            return false;
        m->calls[i].from_source = true;
        m->from[i] = i;
    }
    if (!has_head) {
        m->answer_at_source = true;
        return true;
    }
    const char *name = json_string_value(head);
    if (!add_call(r, m, ids, what, name, name))
        return false;
    m->calls[count].from_source = count == 0;
    m->calls[count].from_count = count;
    return true;
}

/* Fills next from from, and the slots. */
static void connect(struct plan_model *m)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < m->call_count; i++)
        for (uint32_t k = 0; k < m->calls[i].from_count; k++)
            m->calls[m->from[m->calls[i].from_first + k]].next_count++;
    for (uint32_t i = 0; i < m->call_count; i++) {
        m->calls[i].next_first = at;
        at += m->calls[i].next_count;
        m->calls[i].next_count = 0;
    }
    for (uint32_t i = 0; i < m->call_count; i++) {
        struct plan_call *c = &m->calls[i];
        for (uint32_t k = 0; k < c->from_count; k++) {
            struct plan_call *p = &m->calls[m->from[c->from_first + k]];
            m->next[p->next_first + p->next_count++] = i;
        }
        while (c->slot < m->slot_count && m->modules[c->slot] != c->module)
            c->slot++;
        if (c->slot == m->slot_count)
            m->modules[m->slot_count++] = c->module;
    }
}

static bool check_ends(struct reader *r, const struct plan_model *m, const char *what)
{
    for (uint32_t i = 0; !m->answer_at_source && i + 1 < m->call_count; i++)
        if (m->calls[i].next_count == 0)
            return err_set(r->e, ERR_INVALID,
                           "%s: the call '%.100s' feeds no other and is not the last one", what,
                           m->calls[i].id);
    return true;
}

static bool read_model(struct reader *r, const json_t *o, uint32_t i)
{
    static const char *const keys[] = {"name",  "encoders",         "head",
                                       "calls", "answer_at_source", NULL};
    struct plan_model *m = &r->in->models[i];
    char what[WHAT_MAX];
    (void)snprintf(what, sizeof(what), "models[%u]", i);
    json_t *ids = json_object();
    if (!ids)
        return err_set(r->e, ERR_MEMORY, "no memory for calls");
    bool ok = json_only_keys(o, what, keys, r->e) &&
              add_name(r->models, o, "name", what, i, &m->name, r->e) &&
              flag(o, what, "answer_at_source", &m->answer_at_source, r->e) &&
              (json_object_get(o, "calls") ? read_calls(r, m, o, ids, what)
                                           : read_shorthand(r, m, o, ids, what));
    json_decref(ids);
    if (!ok)
        return false;
    connect(m);
    return check_ends(r, m, what);
}

/* ---- requests ---- */

/* input_bytes and runs: call id -> number. */
static bool read_by_call(struct reader *r, const json_t *o, const char *what, const char *key,
                         const struct plan_model *m, struct range range, double absent,
                         double **ret)
{
    const json_t *given = json_object_get(o, key);
    size_t found = 0;
    *ret = zeros(m->call_count, sizeof(**ret), r->e);
    if (!*ret)
        return false;
    if (given && !json_is_object(given))
        return err_set(r->e, ERR_INVALID, "%s: %s is not an object", what, key);
    for (uint32_t i = 0; i < m->call_count; i++) {
        const json_t *v = json_object_get(given, m->calls[i].id);
        (*ret)[i] = absent;
        found += v != NULL;
        if (v && !check_entry(v, what, key, m->calls[i].id, range, &(*ret)[i], r->e))
            return false;
    }
    if (found == json_object_size(given))
        return true;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)given, name, value)
    {
        uint32_t i = 0;
        while (i < m->call_count && strcmp(m->calls[i].id, name) != 0)
            i++;
        if (i == m->call_count)
            return err_set(r->e, ERR_INVALID, "%s: %s: '%.60s' has no call '%.100s'", what, key,
                           m->name, name);
    }
    return true;
}

static bool read_request(struct reader *r, const json_t *o, uint32_t i)
{
    static const char *const keys[] = {"model",       "source", "weight",       "rate_per_s",
                                       "input_bytes", "runs",   "answer_bytes", NULL};
    struct plan_request *q = &r->in->requests[i];
    const char *model, *source;
    char what[WHAT_MAX];
    (void)snprintf(what, sizeof(what), "requests[%u]", i);
    q->weight = 1;
    if (!json_only_keys(o, what, keys, r->e) || !text(o, what, "model", &model, r->e) ||
        !text(o, what, "source", &source, r->e) ||
        !find(r->models, what, "model", model, &q->model, r->e) ||
        !find(r->devices, what, "device", source, &q->source, r->e) ||
        !number(o, what, "weight", NOT_NEGATIVE, false, &q->weight, r->e) ||
        !number(o, what, "rate_per_s", NOT_NEGATIVE, false, &q->rate_per_s, r->e) ||
        !number(o, what, "answer_bytes", BYTES, false, &q->answer_bytes, r->e))
        return false;
    const struct plan_model *m = &r->in->models[q->model];
    return read_by_call(r, o, what, "input_bytes", m, BYTES, 0, &q->input_bytes) &&
           read_by_call(r, o, what, "runs", m, RUNS, 1, &q->runs);
}

/* ---- the whole ---- */

static const char *const objective_names[] = {"latency", "burst", "load"};

const char *plan_objective_name(enum plan_objective objective)
{
    return objective_names[objective];
}

static bool read_head(struct reader *r, const json_t *root)
{
    static const char *const keys[] = {"name",  "objective", "replicas", "devices",  "default_link",
                                       "links", "modules",   "models",   "requests", NULL};
    const json_t *name = json_object_get(root, "name");
    const char *objective = "latency";
    struct plan_instance *in = r->in;
    if (!json_only_keys(root, "instance", keys, r->e))
        return false;
    if (name && !json_is_string(name))
        return err_set(r->e, ERR_INVALID, "instance: name is not a text");
    in->name = strdup(name ? json_string_value(name) : "");
    if (!in->name)
        return err_set(r->e, ERR_MEMORY, "no memory for names");
    if (json_object_get(root, "objective") &&
        !text(root, "instance", "objective", &objective, r->e))
        return false;
    int i = 0;
    while (i < (int)ARRAY_LEN(objective_names) && strcmp(objective_names[i], objective) != 0)
        i++;
    if (i == (int)ARRAY_LEN(objective_names))
        return err_set(r->e, ERR_INVALID,
                       "instance: objective is '%.60s', allowed are latency, burst and load",
                       objective);
    in->objective = (enum plan_objective)i;
    return flag(root, "instance", "replicas", &in->replicas, r->e);
}

static bool read_lists(struct reader *r, const json_t *root)
{
    struct plan_instance *in = r->in;
    const json_t *devices, *modules, *models, *requests;
    if (!list(root, "instance", "devices", 1, PLAN_DEVICES_MAX, &devices, &in->device_count,
              r->e) ||
        !(in->devices = zeros(in->device_count, sizeof(*in->devices), r->e)))
        return false;
    for (uint32_t i = 0; i < in->device_count; i++)
        if (!read_device(r, json_array_get(devices, i), i))
            return false;
    if (!read_links(r, root) ||
        !list(root, "instance", "modules", 1, PLAN_MODULES_MAX, &modules, &in->module_count, r->e))
        return false;
    size_t cells = (size_t)in->module_count * in->device_count;
    if (cells > PLAN_RUN_CELLS_MAX)
        return err_set(r->e, ERR_INVALID, "instance: %u modules x %u devices, the limit is %u",
                       in->module_count, in->device_count, PLAN_RUN_CELLS_MAX);
    in->modules = zeros(in->module_count, sizeof(*in->modules), r->e);
    in->run_ms = zeros(cells, sizeof(*in->run_ms), r->e);
    if (!in->modules || !in->run_ms)
        return false;
    for (uint32_t i = 0; i < in->module_count; i++)
        if (!read_module(r, json_array_get(modules, i), i))
            return false;
    if (!list(root, "instance", "models", 1, PLAN_MODELS_MAX, &models, &in->model_count, r->e) ||
        !(in->models = zeros(in->model_count, sizeof(*in->models), r->e)))
        return false;
    for (uint32_t i = 0; i < in->model_count; i++)
        if (!read_model(r, json_array_get(models, i), i))
            return false;
    if (!list(root, "instance", "requests", 0, PLAN_REQUESTS_MAX, &requests, &in->request_count,
              r->e) ||
        !(in->requests = zeros(in->request_count, sizeof(*in->requests), r->e)))
        return false;
    for (uint32_t i = 0; i < in->request_count; i++)
        if (!read_request(r, json_array_get(requests, i), i))
            return false;
    return true;
}

bool plan_instance_read(const json_t *o, struct plan_instance **ret, struct err *e)
{
    struct reader r = {
        .devices = json_object(), .modules = json_object(), .models = json_object(), .e = e};
    r.in = zeros(1, sizeof(*r.in), e);
    bool ok = r.in && r.devices && r.modules && r.models && read_head(&r, o) && read_lists(&r, o);
    json_decref(r.devices);
    json_decref(r.modules);
    json_decref(r.models);
    if (ok)
        *ret = r.in;
    else
        plan_instance_free(r.in);
    return ok;
}

static void free_model(struct plan_model *m)
{
    for (uint32_t i = 0; m->calls && i < m->call_count; i++)
        free(m->calls[i].id);
    free(m->calls);
    free(m->from);
    free(m->next);
    free(m->modules);
    free(m->name);
}

void plan_instance_free(struct plan_instance *in)
{
    if (!in)
        return;
    for (uint32_t i = 0; in->devices && i < in->device_count; i++)
        free(in->devices[i].name);
    for (uint32_t i = 0; in->modules && i < in->module_count; i++)
        free(in->modules[i].name);
    for (uint32_t i = 0; in->models && i < in->model_count; i++)
        free_model(&in->models[i]);
    for (uint32_t i = 0; in->requests && i < in->request_count; i++) {
        free(in->requests[i].input_bytes);
        free(in->requests[i].runs);
    }
    free(in->devices);
    free(in->modules);
    free(in->models);
    free(in->requests);
    free(in->links);
    free(in->link_of);
    free(in->run_ms);
    free(in->name);
    free(in);
}
