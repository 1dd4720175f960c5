/* whatif.c - see whatif.h. */
#include "plan/whatif.h"

#include "base/num.h"
#include "base/parse.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 16u

struct words {
    char text[WHATIF_TEXT_MAX]; /* cut at blanks */
    char *word[WORDS_MAX];
    uint32_t count;
    bool used[WORDS_MAX];
};

static bool split(struct words *w, const char *change, struct err *e)
{
    size_t length = strlen(change);
    *w = (struct words){0};
    if (length >= sizeof(w->text))
        return err_set(e, ERR_INVALID, "what-if: longer than %u bytes", WHATIF_TEXT_MAX - 1);
    memcpy(w->text, change, length + 1);
    for (char *p = w->text; *p;) {
        while (*p == ' ')
            *p++ = '\0';
        if (!*p)
            break;
        if (w->count == WORDS_MAX)
            return err_set(e, ERR_INVALID, "what-if: more than %u words", WORDS_MAX);
        w->word[w->count++] = p;
        p += strcspn(p, " ");
    }
    if (w->count == 0)
        return err_set(e, ERR_INVALID, "what-if: no change is said");
    w->used[0] = true;
    return true;
}

/* The value of key=..., or NULL. */
static const char *value_of(struct words *w, const char *key)
{
    size_t n = strlen(key);
    for (uint32_t i = 1; i < w->count; i++)
        if (strncmp(w->word[i], key, n) == 0 && w->word[i][n] == '=') {
            w->used[i] = true;
            return w->word[i] + n + 1;
        }
    return NULL;
}

/* The next word without '='. */
static const char *plain(struct words *w)
{
    for (uint32_t i = 1; i < w->count; i++)
        if (!w->used[i] && !strchr(w->word[i], '=')) {
            w->used[i] = true;
            return w->word[i];
        }
    return NULL;
}

static bool all_used(const struct words *w, struct err *e)
{
    for (uint32_t i = 0; i < w->count; i++)
        if (!w->used[i])
            return err_set(e, ERR_INVALID, "what-if: %s does not know '%.100s'", w->word[0],
                           w->word[i]);
    return true;
}

static json_t *named(const json_t *list, const char *name)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *o = json_array_get(list, i);
        const char *mine = json_string_value(json_object_get(o, "name"));
        if (mine && strcmp(mine, name) == 0)
            return o;
    }
    return NULL;
}

static json_t *links_of(json_t *o)
{
    json_t *links = json_object_get(o, "links");
    if (!links) {
        links = json_array();
        json_object_set_new(o, "links", links);
    }
    return links;
}

/* ---- changes ---- */

static bool set_number(struct words *w, const char *key, json_t *to, struct err *e)
{
    const char *text = value_of(w, key);
    double x;
    if (!text)
        return true;
    if (!parse_double(key, text, 0, DBL_MAX, &x, e))
        return err_prefix(e, "what-if");
    json_object_set_new(to, key,
                        x == floor(x) && x < 1e15 ? json_integer((json_int_t)x) : json_real(x));
    return true;
}

static void copy_run_times(json_t *o, const char *from, const char *to)
{
    json_t *modules = json_object_get(o, "modules");
    for (size_t i = 0; i < json_array_size(modules); i++) {
        json_t *run = json_object_get(json_array_get(modules, i), "run_ms");
        json_t *ms = json_object_get(run, from);
        if (ms)
            json_object_set(run, to, ms);
    }
}

static bool add_device(json_t *o, struct words *w, struct err *e)
{
    const char *name = value_of(w, "name"), *memory = value_of(w, "memory");
    const char *like = value_of(w, "like");
    json_t *devices = json_object_get(o, "devices"), *other = like ? named(devices, like) : NULL;
    uint64_t bytes;
    if (!name || !memory)
        return err_set(e, ERR_INVALID, "what-if: add-device needs name=NAME and memory=BYTES");
    if (!parse_bytes("memory", memory, &bytes, e))
        return err_prefix(e, "what-if");
    if (like && !other)
        return err_set(e, ERR_INVALID, "what-if: there is no device '%.100s'", like);
    json_t *link = json_object(),
           *device = json_pack("{s:s,s:I}", "name", name, "memory_bytes", (json_int_t)bytes);
    json_t *gflops = json_object_get(other, "gflops");
    if (gflops)
        json_object_set(device, "gflops", gflops);
    bool ok = set_number(w, "lanes", device, e) && set_number(w, "gflops", device, e) &&
              set_number(w, "mbit", link, e) && set_number(w, "latency_ms", link, e);
    if (ok && like)
        copy_run_times(o, like, name);
    if (ok && json_object_get(link, "mbit") && !json_object_get(link, "latency_ms"))
        json_object_set_new(link, "latency_ms", json_integer(1));
    for (size_t i = 0; ok && json_object_size(link) > 0 && i < json_array_size(devices); i++) {
        json_t *mine = json_copy(link);
        json_object_set_new(mine, "a", json_string(name));
        json_object_set(mine, "b", json_object_get(json_array_get(devices, i), "name"));
        json_array_append_new(links_of(o), mine);
    }
    if (ok)
        json_array_append(devices, device);
    json_decref(device);
    json_decref(link);
    return ok;
}

static bool is_text(const json_t *o, const char *key, const char *text)
{
    const char *mine = json_string_value(json_object_get(o, key));
    return mine && strcmp(mine, text) == 0;
}

/* Requests that came from a device come from another one, or none may have come from it. */
static bool move_sources(const json_t *requests, const char *from, const char *to, struct err *e)
{
    size_t found = 0;
    for (size_t i = 0; i < json_array_size(requests); i++) {
        json_t *q = json_array_get(requests, i);
        if (is_text(q, "source", from)) {
            found++;
            if (to)
                json_object_set_new(q, "source", json_string(to));
        }
    }
    return found == 0 || to ||
           err_set(e, ERR_INVALID,
                   "what-if: requests come from '%.100s' (%zu): say from where instead (to=DEVICE)",
                   from, found);
}

static bool remove_device(json_t *o, struct words *w, struct err *e)
{
    const char *name = value_of(w, "name"), *to = value_of(w, "to");
    json_t *devices = json_object_get(o, "devices"), *links = json_object_get(o, "links");
    json_t *modules = json_object_get(o, "modules"), *requests = json_object_get(o, "requests");
    name = name ? name : plain(w);
    if (!name || !named(devices, name))
        return err_set(e, ERR_INVALID, "what-if: remove-device: there is no device '%.100s'",
                       name ? name : "");
    if (!move_sources(requests, name, to, e))
        return false;
    for (size_t i = json_array_size(devices); i-- > 0;)
        if (is_text(json_array_get(devices, i), "name", name))
            json_array_remove(devices, i);
    for (size_t i = json_array_size(links); i-- > 0;)
        if (is_text(json_array_get(links, i), "a", name) ||
            is_text(json_array_get(links, i), "b", name))
            json_array_remove(links, i);
    for (size_t i = 0; i < json_array_size(modules); i++)
        (void)json_object_del(json_object_get(json_array_get(modules, i), "run_ms"), name);
    return true;
}

static bool set_link(json_t *o, struct words *w, struct err *e)
{
    const char *a = plain(w), *b = plain(w);
    json_t *links = links_of(o), *link = NULL;
    if (!a || !b)
        return err_set(e, ERR_INVALID, "what-if: link needs two devices");
    const json_t *devices = json_object_get(o, "devices");
    if (!named(devices, a) || !named(devices, b))
        return err_set(e, ERR_INVALID, "what-if: link: there is no device '%.100s'",
                       named(devices, a) ? b : a);
    if (strcmp(a, b) == 0)
        return err_set(e, ERR_INVALID, "what-if: link: '%.100s' needs none to itself", a);
    for (size_t i = 0; i < json_array_size(links); i++) {
        json_t *l = json_array_get(links, i);
        if ((is_text(l, "a", a) && is_text(l, "b", b)) ||
            (is_text(l, "a", b) && is_text(l, "b", a)))
            link = l;
    }
    if (!link) { /* starts as the default one */
        json_t *def = json_object_get(o, "default_link");
        link = def ? json_copy(def) : json_pack("{s:i}", "latency_ms", 1);
        json_object_set_new(link, "a", json_string(a));
        json_object_set_new(link, "b", json_string(b));
        json_array_append_new(links, link);
    }
    if (!value_of(w, "mbit") && !value_of(w, "latency_ms"))
        return err_set(e, ERR_INVALID, "what-if: link needs mbit=X or latency_ms=X");
    return set_number(w, "mbit", link, e) && set_number(w, "latency_ms", link, e);
}

/* "clip" for "clip" and "clip/image-classification". */
static bool is_task_of(const json_t *request, const char *model)
{
    const char *mine = json_string_value(json_object_get(request, "model"));
    size_t n = strlen(model);
    return mine && strncmp(mine, model, n) == 0 && (!mine[n] || mine[n] == '/');
}

static bool set_rate(json_t *o, struct words *w, struct err *e)
{
    const char *model = value_of(w, "model"), *by = plain(w);
    json_t *requests = json_object_get(o, "requests");
    double factor;
    size_t found = 0, rated = 0;
    if (!model || !by || by[0] != 'x')
        return err_set(e, ERR_INVALID, "what-if: rate needs model=NAME and xFACTOR");
    if (!parse_double("factor", by + 1, 0, 1e9, &factor, e))
        return err_prefix(e, "what-if");
    for (size_t i = 0; i < json_array_size(requests); i++) {
        json_t *q = json_array_get(requests, i), *rate = json_object_get(q, "rate_per_s");
        if (!is_task_of(q, model))
            continue;
        found++;
        if (json_number_value(rate) > 0) {
            json_object_set_new(q, "rate_per_s", json_real(json_number_value(rate) * factor));
            rated++;
        }
    }
    return rated > 0 || err_set(e, ERR_INVALID,
                                found > 0 ? "what-if: no request of '%.100s' has a rate_per_s"
                                          : "what-if: there is no request of a model '%.100s'",
                                model);
}

bool whatif_apply(json_t *o, const char *change, struct err *e)
{
    static const struct {
        const char *name;
        bool (*apply)(json_t *o, struct words *w, struct err *e);
    } rows[] = {{"add-device", add_device},
                {"remove-device", remove_device},
                {"link", set_link},
                {"rate", set_rate}};
    struct words w;
    if (!split(&w, change, e))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strcmp(rows[i].name, w.word[0]) == 0)
            return rows[i].apply(o, &w, e) && all_used(&w, e);
    return err_set(e, ERR_INVALID,
                   "what-if: '%.100s' is none of add-device, remove-device, link, rate", w.word[0]);
}

/* ---- side by side ---- */

/* Mean over the requests of a model by weight (by number when all weigh nothing). */
static double task_ms(const struct plan_instance *in, const struct plan_result *r, uint32_t model)
{
    double sum = 0, weights = 0, plain_sum = 0;
    uint32_t count = 0;
    for (uint32_t q = 0; q < in->request_count; q++)
        if (in->requests[q].model == model) {
            sum += in->requests[q].weight * r->latency_ms[q];
            weights += in->requests[q].weight;
            plain_sum += r->latency_ms[q];
            count++;
        }
    return weights > 0 ? sum / weights : count > 0 ? plain_sum / count : NAN;
}

static double headroom(const struct plan_instance *in, const struct plan_result *r)
{
    double sum = 0;
    for (uint32_t d = 0; d < in->device_count; d++)
        sum += in->devices[d].memory_bytes - r->device_bytes[d];
    return sum;
}

static json_t *pair(double before, double after)
{
    return json_pack("{s:f,s:f}", "before", before, "after", after);
}

static json_t *names_of(const struct plan_instance *in, const struct plan_sites *s)
{
    json_t *names = json_array();
    for (uint32_t i = 0; i < s->count; i++)
        json_array_append_new(names, json_string(in->devices[s->device[i]].name));
    return names;
}

/* Modules that stand elsewhere afterwards. */
static json_t *moves(const struct plan_instance *before, const struct plan_result *x,
                     const struct plan_instance *after, const struct plan_result *y)
{
    json_t *list = json_array();
    for (uint32_t m = 0; m < before->module_count && m < after->module_count; m++) {
        json_t *a = names_of(before, &x->sites[m]), *b = names_of(after, &y->sites[m]);
        if (!json_equal(a, b))
            json_array_append_new(list,
                                  json_pack("{s:s,s:O,s:O}", "module", before->modules[m].name,
                                            "before", a, "after", b));
        json_decref(a);
        json_decref(b);
    }
    return list;
}

/* Whether rates were changed that the objective does not look at.  Changes add no requests and take
 * none away. */
static bool unheard_rates(const struct plan_instance *before, const struct plan_instance *after)
{
    if (after->objective == PLAN_LOAD)
        return false;
    for (uint32_t q = 0; q < before->request_count && q < after->request_count; q++) {
        double a = before->requests[q].rate_per_s, b = after->requests[q].rate_per_s;
        if (a < b || a > b)
            return true;
    }
    return false;
}

json_t *whatif_compare(const struct plan_instance *before, const struct plan_result *x,
                       const struct plan_instance *after, const struct plan_result *y)
{
    json_t *tasks = json_array();
    /* Changes add no models or modules and take none away: the order is the same. */
    for (uint32_t m = 0; m < before->model_count && m < after->model_count; m++) {
        double a = task_ms(before, x, m), b = task_ms(after, y, m);
        if (isfinite(a) && isfinite(b))
            json_array_append_new(tasks, json_pack("{s:s,s:f,s:f}", "model", before->models[m].name,
                                                   "before_ms", a, "after_ms", b));
    }
    json_t *note =
        unheard_rates(before, after)
            ? json_sprintf("the objective '%s' does not depend on rates (only 'load' does)",
                           plan_objective_name(after->objective))
            : NULL;
    return json_pack("{s:o,s:o,s:o,s:o,s:o*}", "value", pair(x->value, y->value), "headroom_bytes",
                     pair(headroom(before, x), headroom(after, y)), "tasks", tasks, "moves",
                     moves(before, x, after, y), "note", note);
}
