/* doctor.c - `doctor`: is everything there that s2m3 needs on this machine? */
#include "base/num.h"
#include "base/parse.h"
#include "cli/fleet.h"
#include "exec/exec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct report {
    json_t *rows;
    bool failed;
};

static void note(struct report *r, const char *what, bool ok, const char *detail)
{
    json_array_append_new(
        r->rows, json_pack("{s:s,s:b,s:s}", "check", what, "ok", (int)ok, "detail", detail));
    r->failed = r->failed || !ok;
}

static void check_runtime(struct report *r, const struct args *a)
{
    struct err e;
    struct exec *x;
    char text[300];
    struct exec_options o = {
        .runtime_path = args_text(a, "runtime"), .runner_path = "/proc/self/exe", .threads = 1};
    if (!exec_create(EXEC_RUNNER, &o, &x, &e)) {
        note(r, "ONNX Runtime", false, e.text);
        return;
    }
    struct exec_status s = exec_status(x);
    (void)snprintf(text, sizeof(text), "version %s, in a child process", s.version);
    note(r, "ONNX Runtime", true, text);
    note(r, "runner without network (seccomp)", s.no_network,
         s.no_network ? "on" : "the kernel does not offer it");
    (void)snprintf(text, sizeof(text),
                   s.landlock ? "version %d"
                              : "not offered by this kernel: the runner may read files (%d)",
                   s.landlock);
    note(r, "runner without files (Landlock)", true, text);
    exec_destroy(x);
}

static void check_data(struct report *r, const struct args *a)
{
    char text[300], *dir = cli_data_dir(a);
    bool there = dir && access(dir, F_OK) == 0, ok = !there || access(dir, W_OK) == 0;
    (void)snprintf(text, sizeof(text), "%.200s%s", dir ? dir : "no memory",
                   !ok     ? ": can't be written to"
                   : there ? ""
                           : " (made at the first start)");
    note(r, "data folder", ok, text);
    free(dir);
}

static void check_machine(struct report *r)
{
    char text[128], size[32];
    long pages = sysconf(_SC_AVPHYS_PAGES), page = sysconf(_SC_PAGESIZE),
         cores = sysconf(_SC_NPROCESSORS_ONLN);
    (void)snprintf(text, sizeof(text), "%ld cores, %s free", cores,
                   format_bytes(size, sizeof(size), (double)pages * (double)page));
    note(r, "machine", cores > 0, text);
}

static void check_fleet(struct report *r, const struct args *a)
{
    bool up = fleet_reachable(a);
    char text[300];
    (void)snprintf(text, sizeof(text), "%s at %.200s", up ? "answers" : "none runs",
                   args_text(a, "url"));
    note(r, "fleet", true, text);
}

static int run_doctor(const struct args *a)
{
    struct report r = {.rows = json_array()};
    check_machine(&r);
    check_runtime(&r, a);
    check_data(&r, a);
    check_fleet(&r, a);
    if (args_flag(a, "json")) {
        json_t *o = json_pack("{s:b,s:O}", "ok", (int)!r.failed, "checks", r.rows);
        cli_print_json(o);
        json_decref(o);
    }
    for (size_t i = 0; !args_flag(a, "json") && i < json_array_size(r.rows); i++) {
        const json_t *row = json_array_get(r.rows, i);
        printf("%-5s %-34s %s\n", json_is_true(json_object_get(row, "ok")) ? "ok" : "FAIL",
               json_string_value(json_object_get(row, "check")),
               json_string_value(json_object_get(row, "detail")));
    }
    json_decref(r.rows);
    return r.failed ? 1 : 0;
}

static const struct option_row options[] = {OPTION_DATA, OPTION_RUNTIME, OPTION_URL, OPTION_JSON,
                                            OPTION_CONFIG};

extern const struct command command_doctor;
const struct command command_doctor = {.name = "doctor",
                                       .usage = "[options]",
                                       .summary =
                                           "Is everything there that s2m3 needs on this machine?",
                                       .options = options,
                                       .option_count = ARRAY_LEN(options),
                                       .max_args = 0,
                                       .run = run_doctor};
