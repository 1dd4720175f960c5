/* plan.c - `plan`: where modules are and would go.
 *
 * Takes an instance from a file, a pipe or the running fleet, asks plan/, prints a table or JSON.  The clock of
 * --limit-ms lives here: plan/ has none. */
#include "plan/plan.h"
#include "base/clock.h"
#include "base/num.h"
#include "base/parse.h"
#include "cli/cli.h"
#include "cli/pins.h"
#include "cli/plan_fleet.h"
#include "cli/plan_roi.h"
#include "plan/whatif.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AUTO_LIMIT_MS 1000
#define URL_DEFAULT "http://127.0.0.1:7070"
#define LIMIT_USED 0.95 /* of the limit; the rest is for the answer */
#define LIMIT_MS_MAX 86400000.0
#define REDUNDANCY_MAX 63
#define CHANGES_MAX 64
#define BYTES_PER_MB 1e6

int cli_plan(int argc, char **argv);
extern const char cli_plan_options[];

struct wish {
    const char *file; /* NULL: the fleet at url */
    const char *url;
    bool apply;
    bool unpins;     /* --unpin stands there */
    bool searches;   /* a method, a pin or a change was asked for */
    bool overloaded; /* the fleet can't bear its rates: times are of requests alone */
    struct plan_fleet fleet;
    struct plan_options o;
    double limit_ms; /* 0: none */
    int redundancy;  /* -1: not said */
    bool json;
    json_t *pins; /* owned */
    const char *changes[CHANGES_MAX];
    size_t change_count;
    const char *prices; /* --roi FILE, or NULL */
    int64_t deadline;
};

const char cli_plan_options[] =
    "--url --apply --unpin --instance --method --seed --limit-evals --limit-ms --redundancy "
    "--pin --what-if --roi --explain --json";

static const char *const usage_text =
    "usage: s2m3 plan [options]\n\n"
    "Placement of modules on devices: as it is in the running fleet, as it would be after a "
    "change,\n"
    "or from the numbers in a file.\n\n"
    "  --url URL            Gateway of the fleet (default http://127.0.0.1:7070, or S2M3_URL)\n"
    "  --instance FILE      Numbers in place of a fleet (JSON; may be a pipe)\n"
    "  --apply              Make it so: keep the pins (with --pin, --unpin) and move modules\n"
    "  --method NAME        greedy-fastest, greedy-earliest, best-greedy, local, exact, auto "
    "(default)\n"
    "  --seed N             Of the random starts (default 0)\n"
    "  --limit-evals N      Stop after so many placements looked at\n"
    "  --limit-ms N         Stop by the clock (default of auto without --limit-evals: 1000)\n"
    "  --redundancy N       Every module survives any N devices dying, where memory allows\n"
    "  --pin MODULE=DEVICE  Force a place; repeatable (several of a module: replicas)\n"
    "  --unpin MODULE       Of the fleet: leave the place to the planner again; repeatable\n"
    "  --what-if CHANGE     Before and after; repeatable: 'add-device name=nuc2 memory=8G "
    "gflops=200\n"
    "                       mbit=940', 'remove-device NAME [to=DEVICE]', 'link A B mbit=100',\n"
    "                       'rate model=M x2' (counts under the objective load)\n"
    "  --roi FILE           Prices (YAML): cost per month and break-even against a cloud\n"
    "  --explain            Why each module is where it is, and what each request waits for\n"
    "  --json               Print JSON\n\n"
    "FILE of --roi, all devices of the fleet or instance in it:\n"
    "  currency: EUR\n"
    "  months: 36\n"
    "  power_per_kwh: 0.30\n"
    "  requests_per_month: 100000\n"
    "  devices: [{name: nuc, price: 400, watts: 15}]\n"
    "  cloud: {price_per_request: 0.002, gflops: 9000, latency_ms: 40, mbit: 20}\n";

/* ---- options ---- */

static bool add_unpin(struct wish *w, const char *module, struct err *e)
{
    if (!w->pins)
        w->pins = json_object();
    w->unpins = true;
    return json_object_set_new(w->pins, module, json_array()) == 0 ||
           err_set(e, ERR_INVALID, "--unpin: '%s' is not UTF-8 text", module);
}

static bool set_number(struct wish *w, const char *name, const char *value, struct err *e)
{
    uint64_t n;
    if (strcmp(name, "--limit-ms") == 0)
        return parse_double(name, value, 0.001, LIMIT_MS_MAX, &w->limit_ms, e);
    if (strcmp(name, "--redundancy") == 0) {
        if (!parse_u64(name, value, 0, REDUNDANCY_MAX, &n, e))
            return false;
        w->redundancy = (int)n;
        return true;
    }
    bool seed = strcmp(name, "--seed") == 0;
    return parse_u64(name, value, seed ? 0 : 1, UINT64_MAX, seed ? &w->o.seed : &w->o.limit_evals,
                     e);
}

static bool set_value(struct wish *w, const char *name, const char *value, struct err *e)
{
    static const char *const numbers[] = {"--seed", "--limit-evals", "--limit-ms", "--redundancy"};
    if (strcmp(name, "--instance") == 0) {
        w->file = value;
        return true;
    }
    if (strcmp(name, "--url") == 0) {
        w->url = value;
        return true;
    }
    w->searches = w->searches || strcmp(name, "--what-if") == 0 || strcmp(name, "--method") == 0 ||
                  strcmp(name, "--redundancy") == 0 || strstr(name, "pin") != NULL;
    if (strcmp(name, "--unpin") == 0)
        return add_unpin(w, value, e);
    if (strcmp(name, "--roi") == 0) {
        w->prices = value;
        return true;
    }
    if (strcmp(name, "--pin") == 0)
        return pins_add(&w->pins, value, e);
    if (strcmp(name, "--what-if") == 0) {
        if (w->change_count == CHANGES_MAX)
            return err_set(e, ERR_INVALID, "--what-if: more than %d changes", CHANGES_MAX);
        w->changes[w->change_count++] = value;
        return true;
    }
    if (strcmp(name, "--method") == 0)
        return plan_method_from(value, &w->o.method) ||
               err_set(e, ERR_INVALID, "--method: there is no '%s'", value);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (strcmp(name, numbers[i]) == 0)
            return set_number(w, name, value, e);
    return err_set(e, ERR_INVALID, "there is no option %s", name);
}

static bool parse_options(int argc, char **argv, struct wish *w, struct err *e)
{
    for (int i = 1; i < argc; i++) {
        char name[32];
        size_t length = strcspn(argv[i], "=");
        const char *value = argv[i][length] ? argv[i] + length + 1 : NULL;
        if (strncmp(argv[i], "--", 2) != 0 || length >= sizeof(name))
            return err_set(e, ERR_INVALID, "'%s' is not an option", argv[i]);
        memcpy(name, argv[i], length);
        name[length] = '\0';
        bool *flag = strcmp(name, "--json") == 0      ? &w->json
                     : strcmp(name, "--explain") == 0 ? &w->o.explain
                     : strcmp(name, "--apply") == 0   ? &w->apply
                                                      : NULL;
        if (!value && flag) {
            *flag = true;
            continue;
        }
        if (!value && i + 1 >= argc)
            return err_set(e, ERR_INVALID, "there is no option %s, or it needs a value", name);
        if (!set_value(w, name, value ? value : argv[++i], e))
            return false;
    }
    if (w->file && (w->apply || w->url))
        return err_set(e, ERR_INVALID, "--instance goes with neither --url nor --apply");
    if (w->file && w->unpins)
        return err_set(e, ERR_INVALID, "--unpin is of a fleet: --instance has no pins");
    if (w->apply && w->change_count > 0)
        return err_set(e, ERR_INVALID, "--what-if is never applied");
    if (w->limit_ms <= 0 && w->o.method == PLAN_AUTO && w->o.limit_evals == 0)
        w->limit_ms = AUTO_LIMIT_MS;
    return true;
}

/* ---- reading: a file of any kind, to its end ---- */

static bool read_all(const char *path, char **ret, size_t *ret_size, struct err *e)
{
    FILE *f = fopen(path, "rb");
    size_t size = 0, room = 0;
    char *data = NULL;
    if (!f)
        return err_errno(e, ERR_IO, errno, "%s", path);
    for (;;) {
        if (size == room) {
            room = room ? room * 2 : 65536;
            char *more = room <= 2 * PLAN_FILE_MAX ? realloc(data, room) : NULL;
            if (!more)
                break;
            data = more;
        }
        size_t n = fread(data + size, 1, room - size, f);
        if (n == 0)
            break;
        size += n;
    }
    bool ok = !ferror(f) && feof(f) && size <= PLAN_FILE_MAX;
    (void)fclose(f);
    if (ok) {
        *ret = data;
        *ret_size = size;
        return true;
    }
    free(data);
    return err_set(e, ERR_INVALID, "%s: can't be read, or is larger than %zu bytes", path,
                   PLAN_FILE_MAX);
}

static json_t *read_json(const char *path, struct err *e)
{
    char *data;
    size_t size;
    if (!read_all(path, &data, &size, e))
        return NULL;
    json_t *root = json_parse(path, data, size, e);
    free(data);
    return root;
}

/* ---- printing ---- */

/* All digits: two programs compare their values. */
static void print_json(const json_t *o)
{
    (void)json_dumpf(o, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    (void)fputc('\n', stdout);
}

/* Names are cut to a length in messages: what is left of a cut character becomes '?', and so do
 * control characters of a name: a terminal would obey them. */
static void mend_text(char *text)
{
    for (size_t i = 0; text[i];) {
        unsigned char c = (unsigned char)text[i];
        size_t need = c < 0x20 || c == 0x7f ? 0
                      : c < 0x80            ? 1
                      : c < 0xc2            ? 0
                      : c < 0xe0            ? 2
                      : c < 0xf0            ? 3
                      : c < 0xf5            ? 4
                                            : 0;
        size_t have = 1;
        while (have < need && ((unsigned char)text[i + have] & 0xc0) == 0x80)
            have++;
        if (have == need)
            i += need;
        else
            text[i++] = '?';
    }
}

static int fail(const struct wish *w, const char *code, struct err *e)
{
    mend_text(e->text);
    if (w->json) {
        json_t *o = json_pack("{s:{s:s,s:s}}", "error", "code", code, "message", e->text);
        if (!o) /* the message holds what is not UTF-8 */
            o = json_pack("{s:{s:s,s:s}}", "error", "code", code, "message", "not UTF-8 text");
        print_json(o);
        json_decref(o);
    } else {
        (void)fprintf(stderr, "s2m3 plan: %s: %s\n", code, e->text);
    }
    return 1;
}

static void print_modules(const struct plan_instance *in, const struct plan_result *r)
{
    static const char *const headers[] = {"MODULE", "DEVICES", "WHY"};
    struct text_table *t = text_table_new(r->reason ? 3 : 2, headers);
    for (uint32_t m = 0; m < in->module_count; m++) {
        char devices[512] = "";
        for (uint32_t i = 0; i < r->sites[m].count; i++) {
            size_t used = strlen(devices);
            (void)snprintf(devices + used, sizeof(devices) - used, "%s%s", i ? ", " : "",
                           in->devices[r->sites[m].device[i]].name);
        }
        const char *cells[] = {in->modules[m].name, devices, r->reason ? r->reason[m] : ""};
        text_table_row(t, cells);
    }
    text_table_print(t);
}

static void print_devices(const struct plan_instance *in, const struct plan_result *r)
{
    static const char *const headers[] = {"DEVICE", ">USED MB", ">OF", ">MODULES"};
    struct text_table *t = text_table_new(4, headers);
    for (uint32_t d = 0; d < in->device_count; d++) {
        char used[40], all[40], modules[16];
        uint32_t count = 0;
        for (uint32_t m = 0; m < in->module_count; m++)
            for (uint32_t i = 0; i < r->sites[m].count; i++)
                count += r->sites[m].device[i] == d;
        (void)snprintf(used, sizeof(used), "%.1f", r->device_bytes[d] / BYTES_PER_MB);
        (void)snprintf(all, sizeof(all), "%.1f", in->devices[d].memory_bytes / BYTES_PER_MB);
        (void)snprintf(modules, sizeof(modules), "%u", count);
        const char *cells[] = {in->devices[d].name, used, all, modules};
        text_table_row(t, cells);
    }
    text_table_print(t);
}

/* f: NULL, or of what fleet: then also what requests take around their runs. */
static void print_requests(const struct plan_instance *in, const struct plan_result *r,
                           const struct plan_fleet *f)
{
    static const char *const headers[] = {"MODEL", "SOURCE", ">WEIGHT", ">MS", ">AROUND"};
    struct text_table *t = text_table_new(f ? 5 : 4, headers);
    for (uint32_t q = 0; q < in->request_count; q++) {
        char ms[40], weight[40], around[40];
        const char *model = in->models[in->requests[q].model].name;
        (void)snprintf(ms, sizeof(ms), "%.3f", r->latency_ms[q]);
        (void)snprintf(weight, sizeof(weight), "%g", in->requests[q].weight);
        double ms_around = f ? plan_fleet_around_ms(f, model) : 0;
        (void)snprintf(around, sizeof(around), ms_around > 0 ? "%.3f" : "-", ms_around);
        const char *cells[] = {model, in->devices[in->requests[q].source].name, weight, ms, around};
        text_table_row(t, cells);
    }
    text_table_print(t);
    if (f)
        printf("MS: waits, runs and transfers, predicted; AROUND: what else is part of a request "
               "(reading,\npreparing, handing over), measured\n");
}

static void print_paths(const struct plan_instance *in, const struct plan_result *r)
{
    for (uint32_t q = 0; r->path && q < in->request_count; q++)
        printf("%s%s: %s\n", q == 0 ? "\nwhat each request waits for:\n" : "",
               in->models[in->requests[q].model].name, r->path[q]);
}

/* What redundancy asks for and memory (or a pin) does not allow; placing: or not known yet. */
static void print_unprotected(const struct plan_instance *in, const struct plan_result *r,
                              bool placing)
{
    for (uint32_t m = 0; r->unprotected && m < in->module_count; m++)
        if (r->unprotected[m])
            printf("not protected%s: %s (%u place%s)\n", placing ? " yet" : ", no room",
                   in->modules[m].name, r->sites[m].count, r->sites[m].count == 1 ? "" : "s");
}

static void print_result(const struct plan_instance *in, const struct plan_result *r,
                         const char *method, const struct plan_fleet *f)
{
    printf("%s: %.6g ms (sum of weight x time)", plan_objective_name(in->objective), r->value);
    if (r->certified)
        printf(", proven to be the least");
    else if (!isnan(r->bound) && r->bound > 0)
        printf(", at most %.3g %% above the least", 100 * (r->value / r->bound - 1));
    printf(" (%s)\n\n", method);
    print_modules(in, r);
    print_unprotected(in, r, f && f->placing);
    printf("\n");
    print_devices(in, r);
    if (in->request_count > 0) {
        printf("\n");
        print_requests(in, r, f);
        print_paths(in, r);
    }
}

/* ---- the command ---- */

static bool out_of_time(void *ctx)
{
    const struct wish *w = ctx;
    return clock_now_ns() >= w->deadline;
}

/* One instance and its plan. */
struct solved {
    struct plan_instance *in;
    struct plan_result r;
    bool done;                /* r is there */
    struct plan_sites *given; /* the fleet's own placement, owned; NULL: planned */
};

static void solved_clear(struct solved *x)
{
    if (x->done)
        plan_result_clear(x->in, &x->r);
    plan_instance_free(x->in);
    free(x->given);
}

static const char *method_of(const struct solved *x)
{
    return x->given ? "as it is" : plan_method_name(x->r.method);
}

/* as_is: the fleet's placement, nothing is searched.  *code is the one of the contract when it
 * fails. */
static bool solve(struct wish *w, const json_t *root, bool as_is, int64_t start, struct solved *ret,
                  const char **code, struct err *e)
{
    *ret = (struct solved){0};
    *code = "badinstance";
    if (!plan_instance_read(root, &ret->in, e))
        return false;
    *code = "notfound";
    if (as_is && !plan_fleet_sites(&w->fleet, ret->in, &ret->given, e))
        return false;
    *code = "badinstance";
    w->o.given = ret->given;
    w->o.given_note = "a fleet moves only what pays for its move";
    if (w->limit_ms > 0) {
        w->deadline = start + (int64_t)(w->limit_ms * LIMIT_USED * 1e6);
        w->o.stop = out_of_time;
        w->o.stop_ctx = w;
    }
    w->o.pins = as_is ? w->fleet.pins : w->pins;
    w->o.redundancy = as_is || w->redundancy < 0 ? w->fleet.redundancy : w->redundancy;
    ret->done = plan_solve(ret->in, &w->o, &ret->r, e);
    if (!ret->done && e->code == ERR_NO_PLACE)
        *code = ret->r.status == PLAN_NOFIT ? "nofit" : "notfound";
    return ret->done;
}

static json_t *answer_json(const struct solved *x, int64_t start)
{
    json_t *o = plan_result_json(x->in, &x->r);
    if (o)
        json_object_set_new(o, "elapsed_ms", json_real(clock_ms_since(start)));
    if (o && x->given)
        json_object_set_new(o, "method", json_string("as-is"));
    return o;
}

static void print_overloaded(const struct wish *w)
{
    if (w->overloaded)
        printf("\noverloaded: more is asked for than these places can bear; times are those of "
               "requests alone\n");
}

static void add_change(struct text_table *t, const char *what, const json_t *before,
                       const json_t *after, double unit, const char *name)
{
    char a[48], b[48];
    (void)snprintf(a, sizeof(a), "%.6g %s", json_number_value(before) / unit, name);
    (void)snprintf(b, sizeof(b), "%.6g %s", json_number_value(after) / unit, name);
    const char *cells[] = {what, a, b};
    text_table_row(t, cells);
}

static void add_pair(struct text_table *t, const char *what, const json_t *pair, double unit,
                     const char *name)
{
    add_change(t, what, json_object_get(pair, "before"), json_object_get(pair, "after"), unit,
               name);
}

static void print_names(const json_t *names)
{
    for (size_t i = 0; i < json_array_size(names); i++)
        printf("%s%s", i > 0 ? ", " : "", json_string_value(json_array_get(names, i)));
}

static void print_compared(const json_t *o)
{
    static const char *const headers[] = {"", ">BEFORE", ">AFTER"};
    const json_t *tasks = json_object_get(o, "tasks"), *moves = json_object_get(o, "moves");
    struct text_table *t = text_table_new(3, headers);
    add_pair(t, "weight x time, sum", json_object_get(o, "value"), 1, "ms");
    add_pair(t, "memory left", json_object_get(o, "headroom_bytes"), BYTES_PER_MB, "MB");
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        const json_t *task = json_array_get(tasks, i);
        add_change(t, json_string_value(json_object_get(task, "model")),
                   json_object_get(task, "before_ms"), json_object_get(task, "after_ms"), 1, "ms");
    }
    text_table_print(t);
    const char *note = json_string_value(json_object_get(o, "note"));
    if (note)
        printf("\n%s\n", note);
    printf("\n%s\n", json_array_size(moves) > 0 ? "what would move:" : "nothing would move");
    for (size_t i = 0; i < json_array_size(moves); i++) {
        const json_t *m = json_array_get(moves, i);
        printf("%s: ", json_string_value(json_object_get(m, "module")));
        print_names(json_object_get(m, "before"));
        printf(" -> ");
        print_names(json_object_get(m, "after"));
        printf("\n");
    }
}

static void print_changed(const struct wish *w, const json_t *compared, const struct solved *after,
                          const json_t *roi)
{
    print_compared(compared);
    if (after->r.reason) {
        printf("\nafterwards:\n");
        print_modules(after->in, &after->r);
        print_paths(after->in, &after->r);
    }
    print_unprotected(after->in, &after->r, false);
    print_overloaded(w);
    if (roi)
        plan_roi_print(roi);
}

/* Plans the changed instance as well and shows both; costs are those after the change. */
static int run_changed(struct wish *w, json_t *root, const struct solved *before, int64_t start)
{
    struct solved after;
    struct err e;
    const char *code = "badinstance";
    json_t *changes = json_array();
    bool ok = true;
    for (size_t i = 0; ok && i < w->change_count; i++) {
        ok = whatif_apply(root, w->changes[i], &e);
        json_array_append_new(changes, json_string(w->changes[i]));
    }
    after = (struct solved){0};
    ok = ok && (solve(w, root, false, clock_now_ns(), &after, &code, &e) ||
                err_prefix(&e, w->change_count > 0 ? "after the change" : "planned anew"));
    json_t *answer = ok ? answer_json(&after, start) : NULL, *roi = NULL;
    if (ok && w->prices && !plan_roi(w->prices, root, answer, &roi, &e)) {
        ok = false;
        code = "badinstance";
    }
    int exit_code = ok ? 0 : fail(w, code, &e);
    if (ok) {
        json_t *o = whatif_compare(before->in, &before->r, after.in, &after.r);
        if (w->overloaded)
            json_object_set_new(o, "overloaded", json_true());
        json_object_set(o, "changes", changes);
        if (roi)
            json_object_set(answer, "roi", roi);
        json_t *both = json_pack("{s:O,s:o,s:O}", "what_if", o, "before",
                                 answer_json(before, start), "after", answer);
        if (w->json)
            print_json(both);
        else
            print_changed(w, o, &after, roi);
        json_decref(both);
        json_decref(o);
    }
    json_decref(roi);
    json_decref(answer);
    json_decref(changes);
    solved_clear(&after);
    return exit_code;
}

/* One plan, with its costs when prices are given. */
static int show(struct wish *w, const json_t *root, const struct solved *x, int64_t start)
{
    struct err e;
    json_t *answer = answer_json(x, start), *roi = NULL;
    if (!w->file)
        json_object_set(answer, "around", json_object_get(w->fleet.whole, "around"));
    if (answer && w->fleet.placing)
        json_object_set_new(answer, "placing", json_true());
    if (answer && w->overloaded)
        json_object_set_new(answer, "overloaded", json_true());
    if (w->prices && !plan_roi(w->prices, root, answer, &roi, &e)) {
        json_decref(answer);
        return fail(w, "badinstance", &e);
    }
    if (w->json) {
        if (roi)
            json_object_set(answer, "roi", roi);
        print_json(answer);
    } else {
        print_result(x->in, &x->r, method_of(x), w->file ? NULL : &w->fleet);
        print_overloaded(w);
        if (x->given)
            plan_fleet_print(&w->fleet);
        if (roi)
            plan_roi_print(roi);
    }
    json_decref(roi);
    json_decref(answer);
    return 0;
}

/* The instance, a new reference that may be changed. */
static json_t *fetch(struct wish *w, struct err *e)
{
    const char *from_environment = getenv("S2M3_URL");
    json_t *all = NULL;
    if (w->file)
        return read_json(w->file, e);
    if (!w->url)
        w->url = from_environment && *from_environment ? from_environment : URL_DEFAULT;
    if (!(w->apply ? plan_fleet_apply(w->url, w->pins, &w->fleet, e)
                   : plan_fleet_fetch(w->url, &w->fleet, e)) ||
        (!w->apply && !plan_fleet_pins(&w->fleet, w->pins, &all, e)))
        return NULL;
    json_decref(w->pins);
    w->pins = all;
    if (json_array_size(json_object_get(w->fleet.instance, "modules")) == 0) {
        err_set(e, ERR_NOT_FOUND, "the fleet has no models yet (s2m3 add DIR)");
        return NULL;
    }
    json_t *root = json_deep_copy(w->fleet.instance);
    if (!root)
        err_set(e, ERR_MEMORY, "no memory");
    return root;
}

static int run(struct wish *w)
{
    int64_t start = clock_now_ns();
    struct solved x = {0};
    struct err e;
    const char *code = w->file ? "badinstance" : "notfound";
    json_t *root = fetch(w, &e);
    int exit_code = 0;
    bool ok = root && solve(w, root, !w->file, start, &x, &code, &e);
    if (root && !ok && !w->file && e.code == ERR_NO_PLACE) {
        w->overloaded = true;
        json_object_set_new(root, "objective", json_string("latency"));
        solved_clear(&x);
        ok = solve(w, root, true, start, &x, &code, &e);
    }
    if (!ok)
        exit_code = fail(w, code, &e);
    else if (w->change_count > 0 || (!w->file && !w->apply && w->searches))
        exit_code = run_changed(w, root, &x, start);
    else
        exit_code = show(w, root, &x, start);
    json_decref(root);
    solved_clear(&x);
    plan_fleet_clear(&w->fleet);
    return exit_code;
}

int cli_plan(int argc, char **argv)
{
    struct wish w = {.o = {.method = PLAN_AUTO}, .redundancy = -1};
    struct err e;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            (void)fputs(usage_text, stdout);
            return 0;
        }
    int code = 2;
    if (parse_options(argc, argv, &w, &e))
        code = run(&w);
    else
        (void)fprintf(stderr, "s2m3 plan: %s\n%s", e.text, usage_text);
    json_decref(w.pins);
    return code;
}
