/* fleet.c - what the coordinator knows, and its rows in the state. */
#include "coord/fleet.h"

#include "base/clock.h"
#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define STRETCH_RUNS_MIN 20.0   /* runs before their times say something */
#define STRETCH_RUNS_MAX 1000.0 /* runs that count */
#define STRETCH_MAX 20.0
#define RUN_MS_UNKNOWN 10.0 /* of a module that nothing is known about: ranks all devices equally */

/* ---- growing lists ------------------------------------------------------------------------ */

/* Room for one more row; the new row is zeroed.  NULL with e set at the limit. */
static void *grow(void *list, uint32_t *count, uint32_t max, size_t row, void **ret,
                  const char *what, struct err *e)
{
    if (*count >= max) {
        err_set(e, ERR_TOO_LARGE, "fleet: more than the limit of %u %s", max, what);
        return NULL;
    }
    char *more = realloc(list, (*count + 1) * row);
    if (!more) {
        err_set(e, ERR_MEMORY, "fleet: no memory for %s", what);
        return NULL;
    }
    *ret = more + *count * row;
    memset(*ret, 0, row);
    (*count)++;
    return more;
}

#define GROW(f, list, count, max, ret, e)                                                          \
    do {                                                                                           \
        void *row_;                                                                                \
        void *more_ = grow((f)->list, &(f)->count, max, sizeof(*(f)->list), &row_, #list, e);      \
        if (more_)                                                                                 \
            (f)->list = more_;                                                                     \
        (ret) = more_ ? row_ : NULL;                                                               \
    } while (0)

/* ---- looking up --------------------------------------------------------------------------- */

struct device *fleet_device(struct fleet *f, const char *id)
{
    for (uint32_t i = 0; i < f->device_count; i++)
        if (strcmp(f->devices[i].join.id, id) == 0)
            return &f->devices[i];
    return NULL;
}

struct module *fleet_module(struct fleet *f, const char *digest)
{
    for (uint32_t i = 0; i < f->module_count; i++)
        if (strcmp(f->modules[i].digest.hex, digest) == 0)
            return &f->modules[i];
    return NULL;
}

struct model_entry *fleet_model(struct fleet *f, const char *name)
{
    for (uint32_t i = 0; i < f->model_count; i++)
        if (strcmp(f->models[i].name, name) == 0)
            return &f->models[i];
    return NULL;
}

const struct profile *fleet_profile(const struct fleet *f, const char *digest, const char *device)
{
    for (uint32_t i = 0; i < f->profile_count; i++)
        if (strcmp(f->profiles[i].module.hex, digest) == 0 &&
            strcmp(f->profiles[i].device, device) == 0)
            return &f->profiles[i];
    return NULL;
}

const struct link_entry *fleet_link(const struct fleet *f, const char *a, const char *b)
{
    const char *low = strcmp(a, b) < 0 ? a : b, *high = low == a ? b : a;
    for (uint32_t i = 0; i < f->link_count; i++)
        if (strcmp(f->links[i].a, low) == 0 && strcmp(f->links[i].b, high) == 0)
            return &f->links[i];
    return NULL;
}

const struct module_report *device_report(const struct device *d, const char *digest)
{
    for (uint32_t i = 0; i < d->last.module_count; i++)
        if (strcmp(d->last.modules[i].digest.hex, digest) == 0)
            return &d->last.modules[i];
    return NULL;
}

uint32_t fleet_users(const struct fleet *f, const char *digest)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->model_count; i++)
        for (uint32_t k = 0; k < f->models[i].module_count; k++)
            if (strcmp(f->models[i].modules[k].hex, digest) == 0) {
                n++;
                break;
            }
    return n;
}

/* ---- rows --------------------------------------------------------------------------------- */

static json_t *module_row(const struct module *m)
{
    return json_pack("{s:s,s:s,s:s,s:I,s:I,s:f,s:I,s:O*}", "digest", m->digest.hex, "identity",
                     m->identity.hex, "name", m->name, "file_bytes", (json_int_t)m->file_bytes,
                     "weight_bytes", (json_int_t)m->weight_bytes, "gflop", m->gflop, "output_bytes",
                     (json_int_t)m->output_bytes, "dims", m->dims);
}

static bool module_from_row(const json_t *o, struct module *m, struct err *e)
{
    const char *digest = "", *identity = "", *name = "";
    const uint64_t max = (uint64_t)1 << 53;
    if (!json_need_str(o, "module row", "digest", &digest, e) ||
        !json_opt_str(o, "module row", "identity", &identity, e) ||
        !json_need_str(o, "module row", "name", &name, e) ||
        !json_need_u64(o, "module row", "file_bytes", max, &m->file_bytes, e) ||
        !json_need_u64(o, "module row", "weight_bytes", max, &m->weight_bytes, e) ||
        !json_need_num(o, "module row", "gflop", 0, 1e12, &m->gflop, e) ||
        !json_need_u64(o, "module row", "output_bytes", max, &m->output_bytes, e))
        return false;
    (void)snprintf(m->digest.hex, sizeof(m->digest.hex), "%s", digest);
    (void)snprintf(m->identity.hex, sizeof(m->identity.hex), "%s", identity);
    (void)snprintf(m->name, sizeof(m->name), "%s", name);
    m->dims = json_incref(json_object_get(o, "dims"));
    return true;
}

static json_t *profile_row(const struct profile *p)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:f,s:f,s:I}", "anonymous", (json_int_t)p->anonymous, "file",
                     (json_int_t)p->file, "pss", (json_int_t)p->pss, "peak", (json_int_t)p->peak,
                     "load_ms", p->load_ms, "run_ms", p->run_ms, "wall_ms", (json_int_t)p->wall_ms);
}

static bool profile_from_row(const char *key, const json_t *o, struct profile *p, struct err *e)
{
    const uint64_t max = (uint64_t)1 << 53;
    uint64_t wall = 0;
    if (sscanf(key, "%64s %63s", p->module.hex, p->device) != 2)
        return err_set(e, ERR_INVALID, "profile row: key '%.100s'", key);
    if (!json_need_u64(o, key, "anonymous", max, &p->anonymous, e) ||
        !json_need_u64(o, key, "file", max, &p->file, e) ||
        !json_need_u64(o, key, "pss", max, &p->pss, e) ||
        !json_need_u64(o, key, "peak", max, &p->peak, e) ||
        !json_need_num(o, key, "load_ms", 0, 1e9, &p->load_ms, e) ||
        !json_need_num(o, key, "run_ms", 0, 1e9, &p->run_ms, e) ||
        !json_need_u64(o, key, "wall_ms", max, &wall, e))
        return false;
    p->wall_ms = (int64_t)wall;
    return true;
}

/* Device ids, owned; the list that was there is freed. */
static bool set_ids(char (**list)[WIRE_ID_MAX], uint32_t *list_count, const char *const *devices,
                    uint32_t count, struct err *e)
{
    char(*ids)[WIRE_ID_MAX] = calloc(count + 1, WIRE_ID_MAX);
    if (!ids)
        return err_set(e, ERR_MEMORY, "fleet: no memory");
    for (uint32_t i = 0; i < count; i++)
        (void)snprintf(ids[i], WIRE_ID_MAX, "%s", devices[i]);
    free(*list);
    *list = ids;
    *list_count = count;
    return true;
}

static bool set_desired(struct module *m, const char *const *devices, uint32_t count,
                        const char *reason, struct err *e)
{
    char text[sizeof(m->reason)]; /* reason may be the module's own */
    (void)snprintf(text, sizeof(text), "%s", reason ? reason : "");
    if (!set_ids(&m->desired, &m->desired_count, devices, count, e))
        return false;
    memcpy(m->reason, text, sizeof(text));
    return true;
}

/* ---- opening ------------------------------------------------------------------------------ */

static bool load_devices(struct fleet *f, struct err *e)
{
    json_t *rows, *value;
    const char *key;
    if (!state_list(f->state, STATE_DEVICE, &rows, e))
        return false;
    bool ok = true;
    json_object_foreach(rows, key, value)
    {
        struct device *d;
        GROW(f, devices, device_count, WIRE_DEVICES_MAX, d, e);
        ok = d && join_request_read(value, &d->join, e);
        if (!ok)
            break;
        d->draining = json_is_true(json_object_get(value, "draining"));
        d->leaving = json_is_true(json_object_get(value, "leaving"));
    }
    json_decref(rows);
    return ok;
}

static bool load_modules(struct fleet *f, struct err *e)
{
    json_t *rows, *value;
    const char *key;
    if (!state_list(f->state, STATE_MODULE, &rows, e))
        return false;
    bool ok = true;
    json_object_foreach(rows, key, value)
    {
        struct module *m;
        GROW(f, modules, module_count, WIRE_MODULES_MAX, m, e);
        if (!m || !module_from_row(value, m, e)) {
            ok = false;
            break;
        }
    }
    json_decref(rows);
    return ok;
}

/* Rows of module digest -> {"devices": [...], "reason"}: where it shall be, or is pinned to. */
static bool load_places(struct fleet *f, enum state_kind kind, struct err *e)
{
    json_t *rows, *value;
    const char *key;
    if (!state_list(f->state, kind, &rows, e))
        return false;
    bool ok = true;
    json_object_foreach(rows, key, value)
    {
        struct module *m = fleet_module(f, key);
        json_t *list = json_object_get(value, "devices");
        const char *ids[WIRE_DEVICES_MAX];
        uint32_t count = 0;
        for (size_t i = 0; i < json_array_size(list) && count < WIRE_DEVICES_MAX; i++) {
            const char *id = json_string_value(json_array_get(list, i));
            if (id)
                ids[count++] = id;
        }
        if (m && kind == STATE_PIN)
            ok = set_ids(&m->pins, &m->pin_count, ids, count, e);
        else if (m)
            ok = set_desired(m, ids, count, json_string_value(json_object_get(value, "reason")), e);
        if (!ok)
            break;
    }
    json_decref(rows);
    return ok;
}

/* The modules that the programs of a model name. */
static bool module_list(struct model_entry *m, struct err *e)
{
    json_t *list = json_object_get(m->model, "modules");
    m->modules = calloc(json_array_size(list) + 1, sizeof(*m->modules));
    if (!m->modules)
        return err_set(e, ERR_MEMORY, "fleet: no memory");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *digest = json_string_value(json_array_get(list, i));
        if (!digest_valid(digest))
            return err_set(e, ERR_INVALID, "model '%s': module %zu is no digest", m->name, i);
        memcpy(m->modules[m->module_count++].hex, digest, DIGEST_HEX + 1);
    }
    return true;
}

static bool load_models(struct fleet *f, struct err *e)
{
    json_t *rows, *value;
    const char *key;
    if (!state_list(f->state, STATE_MODEL, &rows, e))
        return false;
    bool ok = true;
    json_object_foreach(rows, key, value)
    {
        struct model_entry *m;
        GROW(f, models, model_count, WIRE_MODELS_MAX, m, e);
        ok = m != NULL;
        if (!ok)
            break;
        (void)snprintf(m->name, sizeof(m->name), "%s", key);
        m->model = json_incref(value);
        ok = module_list(m, e);
        if (!ok)
            break;
    }
    json_decref(rows);
    return ok;
}

static bool load_figures(struct fleet *f, struct err *e)
{
    json_t *rows, *value;
    const char *key;
    bool ok = true;
    if (!state_list(f->state, STATE_PROFILE, &rows, e))
        return false;
    json_object_foreach(rows, key, value)
    {
        struct profile *p;
        GROW(f, profiles, profile_count, STATE_ROWS_MAX, p, e);
        if (!p || !profile_from_row(key, value, p, e)) {
            ok = false;
            break;
        }
    }
    json_decref(rows);
    if (!ok || !state_list(f->state, STATE_LINK, &rows, e))
        return false;
    json_object_foreach(rows, key, value)
    {
        struct link_entry *l;
        GROW(f, links, link_count, STATE_ROWS_MAX, l, e);
        if (!l || sscanf(key, "%63s %63s", l->a, l->b) != 2 ||
            !json_need_num(value, key, "latency_ms", 0, 1e9, &l->latency_ms, e) ||
            !json_need_num(value, key, "mbit", 1e-6, 1e9, &l->mbit, e)) {
            ok = false;
            break;
        }
    }
    json_decref(rows);
    return ok;
}

static bool random_id(const char *prefix, char *to, size_t size, struct err *e)
{
    uint64_t r;
    if (getrandom(&r, sizeof(r), 0) != (ssize_t)sizeof(r))
        return err_set(e, ERR_INTERNAL, "fleet: no random numbers");
    (void)snprintf(to, size, "%s%016llx", prefix, (unsigned long long)r);
    return true;
}

static bool load_identity(struct fleet *f, struct err *e)
{
    json_t *id, *version;
    if (!state_get(f->state, STATE_FLEET, "id", &id, e) ||
        !state_get(f->state, STATE_FLEET, "version", &version, e))
        return false;
    bool ok = true;
    if (json_is_string(id)) {
        (void)snprintf(f->id, sizeof(f->id), "%s", json_string_value(id));
    } else {
        ok = random_id("fleet-", f->id, sizeof(f->id), e);
        json_t *value = json_string(f->id);
        ok = ok && state_put(f->state, STATE_FLEET, "id", value, e);
        json_decref(value);
    }
    f->version = json_is_integer(version) ? (uint64_t)json_integer_value(version) : 0;
    json_decref(id);
    json_decref(version);
    return ok;
}

bool fleet_open(struct fleet *f, struct state *state, struct err *e)
{
    *f = (struct fleet){.state = state};
    if (load_identity(f, e) && load_devices(f, e) && load_modules(f, e) &&
        load_places(f, STATE_PLACEMENT, e) && load_places(f, STATE_PIN, e) && load_models(f, e) &&
        load_figures(f, e)) {
        fleet_unstage(f);
        return true;
    }
    fleet_close(f);
    return false;
}

void module_clear(struct module *m)
{
    free(m->desired);
    free(m->pins);
    json_decref(m->dims);
}

void model_entry_clear(struct model_entry *m)
{
    json_decref(m->model);
    free(m->modules);
}

void fleet_close(struct fleet *f)
{
    for (uint32_t i = 0; i < f->device_count; i++)
        heartbeat_clear(&f->devices[i].last);
    for (uint32_t i = 0; i < f->module_count; i++)
        module_clear(&f->modules[i]);
    for (uint32_t i = 0; i < f->model_count; i++)
        model_entry_clear(&f->models[i]);
    free(f->devices);
    free(f->modules);
    free(f->models);
    free(f->profiles);
    free(f->links);
    *f = (struct fleet){0};
}

/* ---- devices ------------------------------------------------------------------------------ */

static bool name_taken(struct fleet *f, const struct device *d, const char *name)
{
    for (uint32_t i = 0; i < f->device_count; i++)
        if (&f->devices[i] != d && strcmp(f->devices[i].join.name, name) == 0)
            return true;
    return false;
}

static void unique_name(struct fleet *f, struct device *d)
{
    char base[WIRE_NAME_MAX - 16];
    (void)snprintf(base, sizeof(base), "%.*s", (int)sizeof(base) - 1, d->join.name);
    for (int i = 2; name_taken(f, d, d->join.name); i++)
        (void)snprintf(d->join.name, sizeof(d->join.name), "%s#%d", base, i);
}

static bool save_device(struct fleet *f, const struct device *d, struct err *e)
{
    json_t *row = join_request_json(&d->join);
    json_object_set_new(row, "draining", json_boolean(d->draining));
    json_object_set_new(row, "leaving", json_boolean(d->leaving));
    bool ok = state_put(f->state, STATE_DEVICE, d->join.id, row, e);
    json_decref(row);
    return ok;
}

/* A device keeps its id for life, also when it comes to a coordinator that has forgotten it. */
static bool id_valid(const char *id)
{
    return strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(id);
}

bool fleet_join(struct fleet *f, const struct join_request *r, struct device **ret, struct err *e)
{
    struct device *d = r->id[0] ? fleet_device(f, r->id) : NULL;
    bool fresh = !d;
    if (!id_valid(r->id))
        return err_set(e, ERR_INVALID, "join: id '%s' should hold a-z, 0-9 and '-' only", r->id);
    if (fresh) {
        GROW(f, devices, device_count, WIRE_DEVICES_MAX, d, e);
        if (!d)
            return false;
    }
    char id[WIRE_ID_MAX];
    memcpy(id, r->id, sizeof(id));
    d->join = *r;
    if (!id[0] && !random_id("dev-", id, sizeof(id), e)) {
        f->device_count--;
        return false;
    }
    (void)snprintf(d->join.id, sizeof(d->join.id), "%s", id);
    unique_name(f, d);
    if (d->leaving) /* it wants to stay after all */
        d->draining = d->leaving = false;
    if (!save_device(f, d, e)) {
        f->device_count -= fresh;
        return false;
    }
    d->alive = true;
    d->heard_ns = clock_now_ns();
    heartbeat_clear(&d->last); /* a new process: what it held before is not loaded */
    d->table_version = 0;
    *ret = d;
    return true;
}

static bool put_link(struct fleet *f, const char *a, const struct link_report *r, struct err *e)
{
    const char *b = r->device;
    if (strcmp(a, b) == 0 || !fleet_device(f, b))
        return true; /* gone meanwhile */
    struct link_entry *l = (struct link_entry *)(uintptr_t)fleet_link(f, a, b);
    if (!l) {
        GROW(f, links, link_count, STATE_ROWS_MAX, l, e);
        if (!l)
            return false;
        (void)snprintf(l->a, sizeof(l->a), "%s", strcmp(a, b) < 0 ? a : b);
        (void)snprintf(l->b, sizeof(l->b), "%s", strcmp(a, b) < 0 ? b : a);
    }
    l->latency_ms = r->latency_ms;
    l->mbit = r->mbit;
    l->wall_ms = clock_wall_ms();
    char key[2 * WIRE_ID_MAX];
    (void)snprintf(key, sizeof(key), "%s %s", l->a, l->b);
    json_t *row = json_pack("{s:f,s:f,s:I}", "latency_ms", l->latency_ms, "mbit", l->mbit,
                            "wall_ms", (json_int_t)l->wall_ms);
    bool ok = state_put(f->state, STATE_LINK, key, row, e);
    json_decref(row);
    return ok;
}

bool fleet_put_profile(struct fleet *f, const char *digest, const char *device,
                       const struct module_report *r, struct err *e)
{
    struct profile *p = (struct profile *)(uintptr_t)fleet_profile(f, digest, device);
    if (!p) {
        GROW(f, profiles, profile_count, STATE_ROWS_MAX, p, e);
        if (!p)
            return false;
        (void)snprintf(p->module.hex, sizeof(p->module.hex), "%s", digest);
        (void)snprintf(p->device, sizeof(p->device), "%s", device);
    } else if (p->anonymous == r->anonymous && p->file == r->file && p->run_ms == r->run_ms) {
        return true; /* each heartbeat repeats it: nothing new to write */
    }
    p->anonymous = r->anonymous;
    p->file = r->file;
    p->pss = r->pss;
    p->peak = r->peak;
    p->load_ms = r->load_ms;
    p->run_ms = r->run_ms;
    p->wall_ms = clock_wall_ms();
    char key[DIGEST_HEX + WIRE_ID_MAX + 2];
    (void)snprintf(key, sizeof(key), "%s %s", digest, device);
    json_t *row = profile_row(p);
    bool ok = state_put(f->state, STATE_PROFILE, key, row, e);
    json_decref(row);
    return ok;
}

void fleet_measured_again(struct fleet *f, const char *digest, const char *device)
{
    struct profile *p = (struct profile *)(uintptr_t)fleet_profile(f, digest, device);
    if (p) {
        p->wall_ms = clock_wall_ms();
        p->again++;
    }
}

/* What has been run since the device's last heartbeat. */
static void note_runs(struct fleet *f, const struct device *d, const struct module_report *now)
{
    struct module *m = fleet_module(f, now->digest.hex);
    const struct module_report *was = device_report(d, now->digest.hex);
    if (!m || !was || now->run_ms <= 0 || now->runs < was->runs || now->busy_ms < was->busy_ms)
        return;
    if (now->run_ms != was->run_ms) { /* the ratio was to another figure */
        m->served_ms = m->measured_ms = 0;
        m->stretch_known = false;
    }
    m->served_ms += now->busy_ms - was->busy_ms;
    m->measured_ms += (double)(now->runs - was->runs) * now->run_ms;
    if (m->measured_ms > STRETCH_RUNS_MAX * now->run_ms) { /* old ones fade */
        m->served_ms /= 2;
        m->measured_ms /= 2;
    }
    m->stretch_known = m->stretch_known || m->measured_ms >= STRETCH_RUNS_MIN * now->run_ms;
}

double fleet_stretch(const struct module *m)
{
    if (!m->stretch_known || m->measured_ms <= 0)
        return 1;
    double x = m->served_ms / m->measured_ms;
    return x < 1 ? 1 : x > STRETCH_MAX ? STRETCH_MAX : x;
}

bool fleet_heartbeat(struct fleet *f, struct device *d, struct heartbeat *h, struct err *e)
{
    bool ok = true;
    for (uint32_t i = 0; i < h->module_count; i++)
        note_runs(f, d, &h->modules[i]);
    for (uint32_t i = 0; ok && i < h->module_count; i++)
        if (h->modules[i].measured && fleet_module(f, h->modules[i].digest.hex))
            ok = fleet_put_profile(f, h->modules[i].digest.hex, d->join.id, &h->modules[i], e);
    for (uint32_t i = 0; ok && i < h->link_count; i++)
        ok = put_link(f, d->join.id, &h->links[i], e);
    heartbeat_clear(&d->last);
    d->last = *h;
    *h = (struct heartbeat){0};
    d->alive = true;
    d->heard_ns = clock_now_ns();
    return ok;
}

bool fleet_drain(struct fleet *f, struct device *d, bool draining, bool leaving, struct err *e)
{
    struct device before = *d;
    d->draining = draining;
    d->leaving = leaving;
    if (save_device(f, d, e))
        return true;
    *d = before;
    return false;
}

bool fleet_forget(struct fleet *f, const char *id, struct err *e)
{
    struct device *d = fleet_device(f, id);
    if (!d)
        return err_set(e, ERR_NOT_FOUND, "device '%.60s': there is none", id);
    if (!state_remove(f->state, STATE_DEVICE, id, e))
        return false;
    heartbeat_clear(&d->last);
    *d = f->devices[--f->device_count];
    return true;
}

/* ---- models ------------------------------------------------------------------------------- */

static bool add_rows(struct fleet *f, const char *name, const json_t *model,
                     const struct module *modules, uint32_t count, struct err *e)
{
    bool ok = state_put(f->state, STATE_MODEL, name, model, e);
    for (uint32_t i = 0; ok && i < count; i++) {
        struct module m = modules[i];
        if (fleet_module(f, m.digest.hex))
            continue;
        m.dims = json_object_get(json_object_get(model, "dims"), m.digest.hex);
        json_t *row = module_row(&m);
        ok = state_put(f->state, STATE_MODULE, modules[i].digest.hex, row, e);
        json_decref(row);
    }
    return ok;
}

bool fleet_add_model(struct fleet *f, const char *name, json_t *model, const struct module *modules,
                     uint32_t count, struct err *e)
{
    struct model_entry *m = NULL;
    if (fleet_model(f, name)) {
        json_decref(model);
        return err_set(e, ERR_EXISTS, "model '%s': there is one already; remove it first", name);
    }
    GROW(f, models, model_count, WIRE_MODELS_MAX, m, e);
    if (!m) {
        json_decref(model);
        return false;
    }
    (void)snprintf(m->name, sizeof(m->name), "%s", name);
    m->model = model;
    bool ok = module_list(m, e) && state_begin(f->state, e);
    if (ok) {
        bool rows = add_rows(f, name, model, modules, count, e);
        ok = state_end(f->state, rows, rows ? e : NULL) && rows;
    }
    if (!ok) {
        model_entry_clear(m);
        f->model_count--;
        return false;
    }
    for (uint32_t i = 0; ok && i < count; i++) {
        struct module *fresh = NULL;
        if (fleet_module(f, modules[i].digest.hex))
            continue;
        GROW(f, modules, module_count, WIRE_MODULES_MAX, fresh, e);
        ok = fresh != NULL;
        if (ok) {
            *fresh = modules[i];
            fresh->desired = NULL;
            fresh->desired_count = 0;
            fresh->pins = NULL;
            fresh->pin_count = 0;
            fresh->dims =
                json_incref(json_object_get(json_object_get(m->model, "dims"), fresh->digest.hex));
        }
    }
    return ok;
}

bool fleet_remove_model(struct fleet *f, const char *name, struct err *e)
{
    struct model_entry *m = fleet_model(f, name);
    if (!m)
        return err_set(e, ERR_NOT_FOUND, "model '%.80s': there is none", name);
    if (!state_begin(f->state, e))
        return false;
    struct model_entry gone = *m;
    *m = f->models[--f->model_count];
    bool rows = state_remove(f->state, STATE_MODEL, gone.name, e);
    for (uint32_t i = 0; rows && i < gone.module_count; i++)
        if (fleet_users(f, gone.modules[i].hex) == 0)
            rows = state_remove(f->state, STATE_MODULE, gone.modules[i].hex, e) &&
                   state_remove(f->state, STATE_PLACEMENT, gone.modules[i].hex, e) &&
                   state_remove(f->state, STATE_PIN, gone.modules[i].hex, e);
    bool ok = state_end(f->state, rows, rows ? e : NULL) && rows;
    if (!ok) {
        f->models[f->model_count++] =
            gone; /* the row that was there moved: order does not matter */
        return false;
    }
    for (uint32_t i = 0; i < f->module_count;) {
        if (fleet_users(f, f->modules[i].digest.hex) == 0) {
            module_clear(&f->modules[i]);
            f->modules[i] = f->modules[--f->module_count];
        } else {
            i++;
        }
    }
    model_entry_clear(&gone);
    return true;
}

bool fleet_place(struct fleet *f, struct module *m, const char *const *devices, uint32_t count,
                 const char *reason, struct err *e)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(list, json_string(devices[i]));
    json_t *row = json_pack("{s:o,s:s}", "devices", list, "reason", reason ? reason : "");
    bool ok = row && state_put(f->state, STATE_PLACEMENT, m->digest.hex, row, e);
    json_decref(row);
    return ok && set_desired(m, devices, count, reason, e);
}

bool fleet_pin(struct fleet *f, struct module *m, const char *const *devices, uint32_t count,
               struct err *e)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(list, json_string(devices[i]));
    json_t *row = json_pack("{s:o}", "devices", list);
    bool ok = row && (count > 0 ? state_put(f->state, STATE_PIN, m->digest.hex, row, e)
                                : state_remove(f->state, STATE_PIN, m->digest.hex, e));
    json_decref(row);
    return ok && set_ids(&m->pins, &m->pin_count, devices, count, e);
}

/* ---- figures ------------------------------------------------------------------------------ */

uint64_t fleet_memory(const struct fleet *f, const struct module *m, const char *device,
                      bool *measured)
{
    const struct profile *p = device ? fleet_profile(f, m->digest.hex, device) : NULL;
    for (uint32_t i = 0; !p && i < f->profile_count; i++)
        if (strcmp(f->profiles[i].module.hex, m->digest.hex) == 0)
            p = &f->profiles[i];
    *measured = p != NULL;
    return p ? p->anonymous + p->file : m->file_bytes;
}

double fleet_run_ms(struct fleet *f, const struct module *m, const struct device *d, bool *measured)
{
    const struct profile *here = fleet_profile(f, m->digest.hex, d->join.id);
    *measured = here && here->run_ms > 0;
    if (*measured)
        return here->run_ms;
    /* Another device's time by the ratio of calibrated speeds. */
    for (uint32_t i = 0; i < f->profile_count; i++) {
        const struct profile *p = &f->profiles[i];
        if (strcmp(p->module.hex, m->digest.hex) != 0 || p->run_ms <= 0)
            continue;
        const struct device *other = fleet_device(f, p->device);
        if (other && other->join.gflops > 0 && d->join.gflops > 0)
            return p->run_ms * other->join.gflops / d->join.gflops;
    }
    if (m->gflop > 0 && d->join.gflops > 0)
        return m->gflop / d->join.gflops * 1000;
    return RUN_MS_UNKNOWN;
}
