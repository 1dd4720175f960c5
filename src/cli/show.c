/* show.c - `models`, `modules`, `devices`, `status`: what the coordinator reports, as tables. */
#include "base/num.h"
#include "base/parse.h"
#include "cli/fleet.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define CELL 160
#define SHOW_MS 10000

static const char *str(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static double num(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

/* "a, b, c" of a list of texts or of objects' member. */
static void join_list(const json_t *list, const char *key, char *to)
{
    size_t n = 0;
    to[0] = 0;
    for (size_t i = 0; i < json_array_size(list) && n < CELL - 1; i++) {
        const json_t *v = json_array_get(list, i);
        const char *text = key ? str(v, key) : json_string_value(v);
        n += (size_t)snprintf(to + n, CELL - n, "%s%s", i ? ", " : "", text ? text : "");
    }
}

static int fetch(const struct args *a, const char *path, json_t **ret)
{
    struct err e;
    if (!fleet_json(a, "GET", path, NULL, SHOW_MS, ret, &e))
        return cli_fail(&e);
    if (!args_flag(a, "json"))
        return -1; /* go on with a table */
    cli_print_json(*ret);
    json_decref(*ret);
    return 0;
}

static int run_models(const struct args *a)
{
    json_t *o;
    int code = fetch(a, "/s2m3/v1/models", &o);
    if (code >= 0)
        return code;
    static const char *const headers[] = {"MODEL", "READY", "CHECKED", "TASKS", "MODULES"};
    struct text_table *t = text_table_new(ARRAY_LEN(headers), headers);
    const json_t *list = json_object_get(o, "models");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *m = json_array_get(list, i);
        char tasks[CELL], modules[CELL], checked[CELL];
        (void)snprintf(checked, sizeof(checked), "%.60s", str(m, "checked"));
        size_t n = strlen(checked);
        if (num(m, "difference") > 0)
            n += (size_t)snprintf(checked + n, sizeof(checked) - n, ", within %.3g",
                                  num(m, "difference"));
        if (json_object_get(m, "uncompared"))
            (void)snprintf(checked + n, sizeof(checked) - n, ", not compared with %zu models",
                           json_array_size(json_object_get(m, "uncompared")));
        join_list(json_object_get(m, "tasks"), NULL, tasks);
        join_list(json_object_get(m, "modules"), "name", modules);
        const char *cells[] = {str(m, "name"),
                               json_is_true(json_object_get(m, "ready")) ? "yes" : "no", checked,
                               tasks, modules};
        text_table_row(t, cells);
    }
    text_table_print(t);
    if (json_array_size(list) == 0)
        printf("(none yet; add one with: s2m3 add DIR)\n");
    json_decref(o);
    return 0;
}

static void places(const json_t *list, char *to)
{
    size_t n = 0;
    to[0] = 0;
    for (size_t i = 0; i < json_array_size(list) && n < CELL - 1; i++) {
        const json_t *d = json_array_get(list, i);
        const char *state = str(d, "state");
        char what[64];
        if (strcmp(state, "ready") == 0)
            (void)snprintf(what, sizeof(what), "%.1f ms%s", num(d, "run_ms"),
                           json_is_true(json_object_get(d, "measured")) ? "" : " predicted");
        else
            (void)snprintf(what, sizeof(what), "%.60s", state);
        n += (size_t)snprintf(to + n, CELL - n, "%s%s (%s)", i ? ", " : "", str(d, "device"), what);
    }
}

static int run_modules(const struct args *a)
{
    json_t *o;
    int code = fetch(a, "/s2m3/v1/modules", &o);
    if (code >= 0)
        return code;
    static const char *const headers[] = {"MODULE",  "DIGEST",  ">WEIGHTS",
                                          ">MEMORY", "USED BY", "RUNS ON"};
    struct text_table *t = text_table_new(6, headers);
    const json_t *list = json_object_get(o, "modules");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *m = json_array_get(list, i);
        char digest[16], weights[32], memory[48], models[CELL], on[CELL], size[32];
        (void)snprintf(digest, sizeof(digest), "%.12s", str(m, "digest"));
        (void)format_bytes(weights, sizeof(weights), num(m, "weight_bytes"));
        (void)snprintf(memory, sizeof(memory), "%s%s",
                       format_bytes(size, sizeof(size), num(m, "memory_bytes")),
                       json_is_true(json_object_get(m, "memory_measured")) ? "" : " predicted");
        join_list(json_object_get(m, "models"), NULL, models);
        places(json_object_get(m, "devices"), on);
        const char *cells[] = {str(m, "name"), digest, weights,
                               memory,         models, on[0] ? on : "nowhere: no room"};
        text_table_row(t, cells);
    }
    text_table_print(t);
    json_decref(o);
    return 0;
}

static const char *state_of(const json_t *d)
{
    if (!json_is_true(json_object_get(d, "alive")))
        return "NO";
    if (json_is_true(json_object_get(d, "leaving")))
        return "leaving";
    return json_is_true(json_object_get(d, "draining")) ? "drained" : "yes";
}

static int run_devices(const struct args *a)
{
    json_t *o;
    int code = fetch(a, "/s2m3/v1/devices", &o);
    if (code >= 0)
        return code;
    static const char *const headers[] = {"DEVICE",   "ALIVE",  ">MEMORY",  ">USED",  ">RUNTIME",
                                          ">GFLOP/S", ">LANES", "EMULATED", "MODULES"};
    struct text_table *t = text_table_new(9, headers);
    const json_t *list = json_object_get(o, "devices");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *d = json_array_get(list, i);
        char memory[32], used[32], base[32], gflops[32], lanes[16], modules[CELL];
        (void)format_bytes(memory, sizeof(memory), num(d, "memory_bytes"));
        (void)format_bytes(used, sizeof(used), num(d, "used_bytes"));
        (void)format_bytes(base, sizeof(base), num(d, "base_bytes"));
        (void)snprintf(gflops, sizeof(gflops), "%.1f", num(d, "gflops"));
        (void)snprintf(lanes, sizeof(lanes), "%.0f", num(d, "lanes"));
        join_list(json_object_get(d, "modules"), "name", modules);
        const char *cells[] = {str(d, "name"), state_of(d),        memory, used, base, gflops,
                               lanes,          str(d, "emulated"), modules};
        text_table_row(t, cells);
    }
    text_table_print(t);
    json_decref(o);
    return 0;
}

static void print_moves(const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *m = json_array_get(list, i);
        char when[32] = "";
        time_t at = (time_t)(num(m, "at_ms") / 1000);
        struct tm parts;
        if (localtime_r(&at, &parts))
            (void)strftime(when, sizeof(when), "%H:%M:%S", &parts);
        printf("%s %s  %s: %s -> %s%s (%s; %s)\n", i ? "         " : "moves    ", when,
               str(m, "module"), str(m, "from")[0] ? str(m, "from") : "nowhere", str(m, "to"),
               num(m, "done_ms") > 0 ? "" : ", on its way", str(m, "cause"), str(m, "why"));
    }
}

static int run_status(const struct args *a)
{
    json_t *o;
    char shared[32], unshared[32];
    int code = fetch(a, "/s2m3/v1/status", &o);
    if (code >= 0)
        return code;
    double s = num(o, "memory_shared_bytes"), u = num(o, "memory_unshared_bytes");
    printf("devices   %.0f of %.0f alive\n", num(o, "devices_alive"), num(o, "devices"));
    printf("models    %.0f of %.0f ready, made of %.0f modules\n", num(o, "models_ready"),
           num(o, "models"), num(o, "modules"));
    printf("memory    %s for modules; %s if no module were shared (%.0f %% saved)\n",
           format_bytes(shared, sizeof(shared), s), format_bytes(unshared, sizeof(unshared), u),
           u > 0 ? 100 * (1 - s / u) : 0);
    printf("requests  %.0f, of which %.0f failed\n", num(o, "requests"), num(o, "errors"));
    printf("table     version %.0f of %s\n", num(o, "table_version"), str(o, "fleet"));
    if (str(o, "last_plan")[0])
        printf("plan      %s\n", str(o, "last_plan"));
    print_moves(json_object_get(o, "moves"));
    json_decref(o);
    return 0;
}

static const struct option_row options[] = {OPTION_URL, OPTION_JSON, OPTION_CONFIG};

#define SHOW(id, text)                                                                             \
    const struct command command_##id = {.name = #id,                                              \
                                         .usage = "[options]",                                     \
                                         .summary = text,                                          \
                                         .options = options,                                       \
                                         .option_count = ARRAY_LEN(options),                       \
                                         .run = run_##id}

extern const struct command command_models, command_modules, command_devices, command_status;
SHOW(models, "List the models of the fleet");
SHOW(modules, "List modules: memory, who shares them, where they run");
SHOW(devices, "List devices: memory, speed, what they hold");
SHOW(status, "The fleet in a few lines");
