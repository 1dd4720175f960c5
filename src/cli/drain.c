/* drain.c - `drain` and `leave`: everything off a device, and waiting until it is so. */
#include "base/clock.h"
#include "base/num.h"
#include "cli/fleet.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ORDER_MS 120000
#define ASK_MS 10000
#define PAUSE_NS 200000000L

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

/* The device's row, a new reference; *ret NULL: there is none (any more).  id, or, when that is
 * NULL, the one whose gateway --url is. */
static bool find(const struct args *a, const char *id, json_t **ret, struct err *e)
{
    json_t *o;
    if (!fleet_json(a, "GET", "/s2m3/v1/devices", NULL, ASK_MS, &o, e))
        return false;
    const json_t *list = json_object_get(o, "devices");
    *ret = NULL;
    for (size_t i = 0; i < json_array_size(list) && !*ret; i++) {
        json_t *d = json_array_get(list, i);
        if (strcmp(text(d, id ? "id" : "public_url"), id ? id : args_text(a, "url")) == 0)
            *ret = json_incref(d);
    }
    json_decref(o);
    return true;
}

/* Until the device holds nothing, or is gone. */
static bool wait_empty(const struct args *a, const char *id, bool until_gone, struct err *e)
{
    int64_t end = clock_deadline_ms((int64_t)args_number(a, "timeout") * 1000);
    size_t left = 1;
    for (;;) {
        json_t *d;
        if (!find(a, id, &d, e))
            return false;
        left = json_array_size(json_object_get(d, "modules"));
        bool done = !d || (!until_gone && left == 0);
        json_decref(d);
        if (done)
            return true;
        if (clock_now_ns() >= end)
            return err_set(e, ERR_TIMEOUT,
                           "after %.0f s it still holds %zu modules; they go on moving",
                           args_number(a, "timeout"), left);
        (void)nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
}

/* The device that is meant: the argument, else the one whose gateway is asked. */
static bool name_of(const struct args *a, char *to, size_t size, struct err *e)
{
    json_t *d;
    if (args_count(a) > 0) {
        (void)snprintf(to, size, "%s", args_at(a, 0));
        return true;
    }
    if (!find(a, NULL, &d, e))
        return false;
    (void)snprintf(to, size, "%s", text(d, "id"));
    json_decref(d);
    return to[0] ||
           err_set(e, ERR_INVALID, "which device? (none of the fleet has its gateway at %s)",
                   args_text(a, "url"));
}

static int order(const struct args *a, bool leave, bool off)
{
    struct err e;
    json_t *o = NULL;
    char name[256];
    if (!name_of(a, name, sizeof(name), &e))
        return cli_fail(&e);
    bool force = leave && args_flag(a, "force");
    json_t *body = json_pack("{s:s,s:b,s:b}", "device", name, "off", (int)off, "force", (int)force);
    if (!fleet_json(a, "POST", leave ? "/s2m3/v1/devices/leave" : "/s2m3/v1/devices/drain", body,
                    ORDER_MS, &o, &e))
        return cli_fail(&e);
    bool gone = json_is_true(json_object_get(o, "gone"));
    bool ok = gone || off || wait_empty(a, text(o, "id"), leave, &e);
    if (ok && args_flag(a, "json"))
        cli_print_json(o);
    else if (ok)
        printf("%s %s\n", text(o, "device"),
               leave ? "has left the fleet"
               : off ? "is used again"
                     : "holds no modules any more; its gateway still answers");
    json_decref(o);
    return ok ? 0 : cli_fail(&e);
}

static int run_drain(const struct args *a)
{
    return order(a, false, args_flag(a, "off"));
}

static int run_leave(const struct args *a)
{
    return order(a, true, false);
}

#define OPTION_TIMEOUT                                                                             \
    {                                                                                              \
        "timeout", OPT_NUMBER, "S", "180", "Longest time to wait for the moves", NULL, 1, 86400    \
    }

static const struct option_row drain_options[] = {
    {"off", OPT_FLAG, NULL, NULL, "Use the device again", NULL, 0, 0},
    OPTION_TIMEOUT,
    OPTION_URL,
    OPTION_JSON,
    OPTION_CONFIG,
};

static const struct option_row leave_options[] = {
    {"force", OPT_FLAG, NULL, NULL, "At once, also when modules find no place elsewhere", NULL, 0,
     0},
    OPTION_TIMEOUT,
    OPTION_URL,
    OPTION_JSON,
    OPTION_CONFIG,
};

extern const struct command command_drain, command_leave;
const struct command command_drain = {
    .name = "drain",
    .usage = "DEVICE [options]",
    .summary = "Move all modules off a device; it stays a gateway",
    .options = drain_options,
    .option_count = ARRAY_LEN(drain_options),
    .min_args = 1,
    .max_args = 1,
    .run = run_drain,
    .more = "Nothing is interrupted: modules serve elsewhere before they go here.  `drain DEVICE "
            "--off` undoes it."};
const struct command command_leave = {
    .name = "leave",
    .usage = "[DEVICE] [options]",
    .summary = "End a device's membership once its modules have moved",
    .options = leave_options,
    .option_count = ARRAY_LEN(leave_options),
    .min_args = 0,
    .max_args = 1,
    .run = run_leave,
    .more = "Without DEVICE the one whose gateway --url is.  Its `s2m3 join` ends by itself.  A "
            "device that is\nnot alive is forgotten at once."};
