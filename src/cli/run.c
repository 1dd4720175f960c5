/* run.c - `run`: one request, by a fleet or in this process. */
#include "base/clock.h"
#include "base/num.h"
#include "cli/fleet.h"
#include "cli/input.h"
#include "cli/local.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define RUN_MS 120000
#define BAR 40

static const char *str(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static double num(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

/* ---- printing ------------------------------------------------------------------------------------- */

static void print_row(const json_t *row)
{
    static const char *const names[] = {"label", "answer"};
    if (json_object_get(row, "generated_text")) {
        printf("%s\n", str(row, "generated_text"));
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (json_object_get(row, names[i])) {
            printf("%6.1f %%  %s\n", 100 * num(row, "score"), str(row, names[i]));
            return;
        }
    printf("%8.4f  candidate %d\n", num(row, "score"), (int)num(row, "index"));
}

static void print_answer(const json_t *answer)
{
    if (json_is_object(answer)) { /* of speech: {"text"} */
        printf("%s\n", str(answer, "text"));
        return;
    }
    bool vector = json_is_number(json_array_get(answer, 0));
    for (size_t i = 0; i < json_array_size(answer); i++) {
        const json_t *row = json_array_get(answer, i);
        if (vector)
            printf("%s%.6g", i ? " " : "", json_number_value(row));
        else
            print_row(row);
    }
    if (vector)
        printf("\n");
}

/* One line per call: where it ran, and a bar of the time from the request's start. */
static void print_trace(const json_t *trace)
{
    double total = num(trace, "total_ms");
    const json_t *spans = json_object_get(trace, "spans");
    static const char *const headers[] = {"CALL",   "DEVICE", ">START", ">WAIT",     ">PREPARE",
                                          ">QUEUE", ">RUN",   ">SEND",  ">TOTAL ms", ""};
    struct text_table *t = text_table_new(10, headers);
    for (size_t i = 0; i < json_array_size(spans); i++) {
        const json_t *s = json_array_get(spans, i);
        char cells[7][24], call[96], bar[BAR + 1];
        static const char *const keys[] = {"start_ms", "wait_ms",    "prepare_ms", "queue_ms",
                                           "run_ms",   "deliver_ms", "total_ms"};
        for (size_t k = 0; k < ARRAY_LEN(keys); k++)
            (void)snprintf(cells[k], sizeof(cells[k]), "%.2f", num(s, keys[k]));
        int from = total > 0 ? (int)(num(s, "start_ms") / total * BAR) : 0;
        int to = total > 0 ? (int)((num(s, "start_ms") + num(s, "total_ms")) / total * BAR) : 0;
        for (int k = 0; k < BAR; k++)
            bar[k] = k >= from && (k < to || k == from) ? '=' : ' ';
        bar[BAR] = 0;
        bool cached = json_is_true(json_object_get(s, "cached")),
             emulated = json_is_true(json_object_get(s, "emulated"));
        (void)snprintf(call, sizeof(call), "%s%s%s%s", str(s, "call"), cached ? " (cached)" : "",
                       emulated ? " (emulated)" : "", str(s, "error")[0] ? " FAILED" : "");
        const char *row[] = {call,     str(s, "device"), cells[0], cells[1], cells[2],
                             cells[3], cells[4],         cells[5], cells[6], bar};
        text_table_row(t, row);
    }
    text_table_print(t);
    printf("request %s: %.2f ms\n", str(trace, "request"), total);
    printf(
        "in ms; START: after the request; WAIT: for other calls' outputs; QUEUE: for a lane; SEND: "
        "of "
        "outputs;\nTOTAL: from sending the call to its answer, so with the way there and back\n");
}

static void print_all(const struct args *a, const char *task, json_t *answer, double ms,
                      const char *devices, json_t *trace)
{
    if (args_flag(a, "json")) {
        json_t *o = json_pack("{s:s,s:O,s:f,s:s}", "task", task, "answer", answer, "latency_ms", ms,
                              "devices", devices);
        if (trace)
            json_object_set(o, "trace", trace);
        cli_print_json(o);
        json_decref(o);
        return;
    }
    print_answer(answer);
    if (trace)
        print_trace(trace);
}

/* ---- by a fleet --------------------------------------------------------------------------------------- */

static bool find_model(const struct args *a, const char *task, char *to, size_t size, struct err *e)
{
    json_t *o;
    int found = 0;
    if (!fleet_json(a, "GET", "/s2m3/v1/models", NULL, RUN_MS, &o, e))
        return false;
    const json_t *models = json_object_get(o, "models");
    for (size_t i = 0; i < json_array_size(models); i++) {
        const json_t *m = json_array_get(models, i), *tasks = json_object_get(m, "tasks");
        for (size_t k = 0; k < json_array_size(tasks); k++)
            if (strcmp(json_string_value(json_array_get(tasks, k)), task) == 0) {
                (void)snprintf(to, size, "%s", str(m, "name"));
                found++;
            }
    }
    json_decref(o);
    if (found == 1)
        return true;
    return found ? err_set(e, ERR_INVALID, "%s: %d models serve it; choose one with --model", task,
                           found)
                 : err_set(e, ERR_INVALID, "%s: no model of the fleet serves it", task);
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int run_local(const struct args *a, const char *task, const char *folder)
{
    struct err e;
    struct request r;
    struct local *l;
    json_t *value = NULL;
    if (args_flag(a, "trace"))
        fprintf(stderr, "s2m3: --trace: only a fleet has one\n");
    struct exec_options o = {.runtime_path = args_text(a, "runtime"),
                             .threads = (int)args_number(a, "threads"),
                             .lanes = 1};
    if (!input_read(a, &r, &e))
        return cli_fail(&e);
    double ms = 0;
    bool ok = local_open(folder, args_text(a, "dtype"), &o, &l, &e);
    if (ok) {
        int64_t start = clock_now_ns();
        ok = local_answer(l, task, &r, &value, &e);
        ms = clock_ms_since(start);
        local_close(l);
    }
    request_clear(&r);
    if (!ok)
        return cli_fail(&e);
    print_all(a, task, value, ms, "", NULL);
    json_decref(value);
    return 0;
}

static int run_fleet(const struct args *a, const char *task)
{
    struct err e;
    struct request r;
    struct net_answer answer;
    char model[128], path[512], request[64] = "", devices[256] = "", ms[32] = "0";
    const char *given = args_text(a, "model");
    if (given)
        (void)snprintf(model, sizeof(model), "%s", given);
    else if (!find_model(a, task, model, sizeof(model), &e))
        return cli_fail(&e);
    if (!input_read(a, &r, &e))
        return cli_fail(&e);
    char *body = input_json(&r);
    request_clear(&r);
    (void)snprintf(path, sizeof(path), "/pipeline/%s/%s", task, model);
    bool ok = body
                  ? fleet_send(a, path, "application/json", body, strlen(body), RUN_MS, &answer, &e)
                  : err_set(&e, ERR_MEMORY, "no memory");
    free(body);
    if (!ok && e.code == ERR_GONE && given && is_folder(given))
        return run_local(a, task, given);
    if (!ok)
        return cli_fail(&e);
    (void)net_answer_header(&answer, "S2M3-Request", request, sizeof(request));
    (void)net_answer_header(&answer, "S2M3-Devices", devices, sizeof(devices));
    (void)net_answer_header(&answer, "S2M3-Latency-Ms", ms, sizeof(ms));
    json_t *value =
        net_answer_err(&answer, &e) ? json_parse("answer", answer.body, answer.size, &e) : NULL;
    net_answer_clear(&answer);
    json_t *trace = NULL;
    (void)snprintf(path, sizeof(path), "/s2m3/v1/traces/%s", request);
    if (value && args_flag(a, "trace") && !fleet_json(a, "GET", path, NULL, RUN_MS, &trace, &e))
        trace = NULL;
    if (value)
        print_all(a, task, value, strtod(ms, NULL), devices, trace);
    json_decref(trace);
    json_decref(value);
    return value ? 0 : cli_fail(&e);
}

/* ---- in this process -------------------------------------------------------------------------------------- */

static int run_run(const struct args *a)
{
    const char *task = args_at(a, 0), *model = args_text(a, "model");
    /* A path is a folder to answer from; a name is a model of the fleet first, then a folder. */
    if (model && strchr(model, '/') && is_folder(model))
        return run_local(a, task, model);
    if (model && strchr(model, '/'))
        return cli_fail(
            &(struct err){.code = ERR_NOT_FOUND, .text = "--model: there is no such folder"});
    return run_fleet(a, task);
}

static const struct option_row options[] = {
    {"model", OPT_TEXT, "MODEL", NULL,
     "Name in the fleet, or a folder to answer from without a fleet", NULL, 0, 0},
    INPUT_OPTIONS,
    {"trace", OPT_FLAG, NULL, NULL, "Show each call: device, queue, run and transfer time", NULL, 0,
     0},
    {"dtype", OPT_TEXT, "TYPE", "fp32", "Variant of the .onnx files, without a fleet", NULL, 0, 0},
    {"threads", OPT_NUMBER, "N", "1", "Threads of one run, without a fleet", NULL, 1, 256},
    OPTION_RUNTIME,
    OPTION_URL,
    OPTION_JSON,
    OPTION_CONFIG,
};

extern const struct command command_run;
const struct command command_run = {
    .name = "run",
    .usage = "TASK [options]",
    .summary = "One request: by the fleet, or from a model's folder",
    .options = options,
    .option_count = ARRAY_LEN(options),
    .min_args = 1,
    .max_args = 1,
    .run = run_run,
    .more = "Tasks: image-classification, visual-question-answering, image-to-text, "
            "zero-shot-image-classification,\n"
            "zero-shot-audio-classification, text-to-image-retrieval, audio-to-image-retrieval,\n"
            "image-to-image-retrieval, feature-extraction ...: what a model serves is listed by "
            "`s2m3 models`."};
