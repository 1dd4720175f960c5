/* eval.c - `eval`: many requests, their accuracy against truth and against reference answers.
 *
 * A case is a line of JSON: {"id","task","model","image"?,"audio"?,"text"?,"labels"?,"truth"?,
 * "reference"?}; paths are relative to the file. */
#include "base/clock.h"
#include "base/file.h"
#include "base/num.h"
#include "cli/fleet.h"
#include "cli/input.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CASES_BYTES_MAX ((size_t)256 << 20)
#define CASE_MS 60000
#define TASKS_MAX 32
#define SHOWN_MAX 10

struct tally {
    char task[128];
    int cases, failed, truths, right, references, same;
    double ms;
};

struct eval {
    const struct args *args;
    char *folder; /* of the cases file */
    struct tally tallies[TASKS_MAX];
    int count;
    int shown;
};

static struct tally *tally_of(struct eval *v, const char *task)
{
    for (int i = 0; i < v->count; i++)
        if (strcmp(v->tallies[i].task, task) == 0)
            return &v->tallies[i];
    if (v->count == TASKS_MAX)
        return NULL;
    struct tally *t = &v->tallies[v->count++];
    (void)snprintf(t->task, sizeof(t->task), "%s", task);
    return t;
}

static bool read_media(const struct eval *v, const json_t *row, const char *key, enum media_kind k,
                       struct request *r, struct err *e)
{
    const char *name = json_string_value(json_object_get(row, key));
    char *data;
    size_t size;
    if (!name)
        return true;
    char *path = text_format("%s/%s", v->folder, name);
    bool ok = path && file_read(path, REQUEST_MEDIA_MAX, &data, &size, e);
    free(path);
    if (!ok)
        return false;
    ok = request_set(r, k, data, size, e);
    free(data);
    return ok;
}

static bool read_case(const struct eval *v, const json_t *row, struct request *r, struct err *e)
{
    const char *text = json_string_value(json_object_get(row, "text"));
    const json_t *labels = json_object_get(row, "labels");
    *r = (struct request){0};
    if (!read_media(v, row, "image", MEDIA_IMAGE, r, e) ||
        !read_media(v, row, "audio", MEDIA_AUDIO, r, e) ||
        (text && !request_set(r, MEDIA_TEXT, text, strlen(text), e)))
        return false;
    for (size_t i = 0; i < json_array_size(labels); i++) {
        const char *label = json_string_value(json_array_get(labels, i));
        if (label && !request_add_candidate(r, label, NULL, 0, e))
            return false;
    }
    return true;
}

/* The best answer as text. */
static void best_answer(const json_t *answer, char *to, size_t size)
{
    static const char *const names[] = {"label", "answer", "generated_text", "text"};
    const json_t *first = json_is_object(answer) ? answer : json_array_get(answer, 0);
    to[0] = 0;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *text = json_string_value(json_object_get(first, names[i]));
        if (text)
            (void)snprintf(to, size, "%s", text);
    }
}

static bool ask(const struct eval *v, const json_t *row, char *to, size_t size, struct err *e)
{
    struct request r;
    struct net_answer a;
    char path[512];
    const char *task, *model;
    if (!json_need_str(row, "case", "task", &task, e) ||
        !json_need_str(row, "case", "model", &model, e))
        return false;
    bool ok = read_case(v, row, &r, e);
    char *body = ok ? input_json(&r) : NULL;
    request_clear(&r);
    if (!ok)
        return false;
    (void)snprintf(path, sizeof(path), "/pipeline/%s/%s", task, model);
    ok = body && fleet_send(v->args, path, "application/json", body, strlen(body), CASE_MS, &a, e);
    free(body);
    if (!ok)
        return false;
    json_t *answer = net_answer_err(&a, e) ? json_parse("answer", a.body, a.size, e) : NULL;
    net_answer_clear(&a);
    if (answer)
        best_answer(answer, to, size);
    json_decref(answer);
    return answer != NULL;
}

static void show(struct eval *v, const json_t *row, const char *what, const char *got,
                 const char *wanted)
{
    const char *id = json_string_value(json_object_get(row, "id"));
    if (v->shown++ < SHOWN_MAX)
        fprintf(stderr, "%s: %s '%s'%s%s%s\n", id ? id : "?", what, got,
                wanted ? ", reference '" : "", wanted ? wanted : "", wanted ? "'" : "");
}

static bool run_case(struct eval *v, const json_t *row, struct err *e)
{
    char got[4096];
    const char *truth = json_string_value(json_object_get(row, "truth"));
    const char *reference = json_string_value(json_object_get(row, "reference"));
    const char *task;
    if (!json_need_str(row, "case", "task", &task, e))
        return false;
    struct tally *t = tally_of(v, task);
    if (!t)
        return err_set(e, ERR_TOO_LARGE, "cases: more than %d tasks", TASKS_MAX);
    int64_t start = clock_now_ns();
    bool ok = ask(v, row, got, sizeof(got), e);
    t->ms += clock_ms_since(start);
    t->cases++;
    t->truths += truth != NULL;
    t->references += reference != NULL;
    if (!ok) {
        t->failed++;
        show(v, row, "failed:", e->text, NULL);
        return true;
    }
    t->right += truth && strcmp(truth, got) == 0;
    bool same = reference && strcmp(reference, got) == 0;
    t->same += same;
    if (reference && !same)
        show(v, row, "answer", got, reference);
    return true;
}

static bool run_lines(struct eval *v, char *data, int limit, struct err *e)
{
    int number = 0, done = 0;
    for (char *line; (line = strsep(&data, "\n")) && (limit == 0 || done < limit);) {
        number++;
        if (!*line)
            continue;
        json_t *row = json_parse("cases", line, strlen(line), e);
        bool ok = row && run_case(v, row, e);
        json_decref(row);
        if (!ok)
            return err_prefix(e, "line %d", number);
        if (++done % 50 == 0 && isatty(STDERR_FILENO))
            fprintf(stderr, "\r%d cases", done);
    }
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r");
    return true;
}

static json_t *result_json(const struct eval *v, struct tally *sum)
{
    json_t *tasks = json_array();
    for (int i = 0; i < v->count; i++) {
        const struct tally *t = &v->tallies[i];
        sum->cases += t->cases;
        sum->failed += t->failed;
        sum->same += t->same;
        sum->references += t->references;
        sum->right += t->right;
        sum->truths += t->truths;
        json_array_append_new(tasks,
                              json_pack("{s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:f}", "task", t->task,
                                        "cases", t->cases, "failed", t->failed, "truths", t->truths,
                                        "right", t->right, "references", t->references, "same",
                                        t->same, "mean_ms", t->ms / t->cases));
    }
    return json_pack("{s:i,s:i,s:i,s:i,s:i,s:i,s:o}", "cases", sum->cases, "failed", sum->failed,
                     "truths", sum->truths, "right", sum->right, "references", sum->references,
                     "same", sum->same, "tasks", tasks);
}

static void print_result(const struct eval *v)
{
    static const char *const headers[] = {
        "TASK", ">CASES", ">RIGHT", ">ACCURACY", ">SAME AS REFERENCE", ">FAILED", ">MEAN ms"};
    struct text_table *t = text_table_new(7, headers);
    for (int i = 0; i < v->count; i++) {
        const struct tally *x = &v->tallies[i];
        char cells[6][48];
        (void)snprintf(cells[0], sizeof(cells[0]), "%d", x->cases);
        (void)snprintf(cells[1], sizeof(cells[1]), "%d of %d", x->right, x->truths);
        (void)snprintf(cells[2], sizeof(cells[2]), "%.1f %%",
                       x->truths ? 100.0 * x->right / x->truths : 0);
        (void)snprintf(cells[3], sizeof(cells[3]), "%d of %d", x->same, x->references);
        (void)snprintf(cells[4], sizeof(cells[4]), "%d", x->failed);
        (void)snprintf(cells[5], sizeof(cells[5]), "%.2f", x->ms / x->cases);
        const char *row[] = {x->task, cells[0], cells[1], cells[2], cells[3], cells[4], cells[5]};
        text_table_row(t, row);
    }
    text_table_print(t);
}

extern const struct command command_eval;

static int run_eval(const struct args *a)
{
    struct err e;
    const char *path = args_text(a, "cases");
    char *data;
    size_t size;
    if (!path)
        return cli_usage(&command_eval, &(struct err){.code = ERR_INVALID,
                                                      .text = "eval: --cases FILE is needed"});
    struct eval *v = calloc(1, sizeof(*v));
    if (!v || !file_read(path, CASES_BYTES_MAX, &data, &size, &e)) {
        free(v);
        return cli_fail(&e);
    }
    const char *slash = strrchr(path, '/');
    v->args = a;
    v->folder = slash ? text_format("%.*s", (int)(slash - path), path) : strdup(".");
    bool ok = v->folder && run_lines(v, data, (int)args_number(a, "limit"), &e);
    free(data);
    struct tally sum = {0};
    json_t *o = ok ? result_json(v, &sum) : NULL;
    if (ok && args_flag(a, "json"))
        cli_print_json(o);
    else if (ok)
        print_result(v);
    json_decref(o);
    free(v->folder);
    free(v);
    if (!ok)
        return cli_fail(&e);
    return sum.failed == 0 && sum.same == sum.references ? 0 : 1;
}

static const struct option_row options[] = {
    {"cases", OPT_TEXT, "FILE", NULL, "Cases, one JSON object per line", NULL, 0, 0},
    {"limit", OPT_NUMBER, "N", "0", "Only the first N; 0: all", NULL, 0, 1e9},
    OPTION_URL,
    OPTION_JSON,
    OPTION_CONFIG,
};

const struct command command_eval = {
    .name = "eval",
    .usage = "--cases FILE [options]",
    .summary = "Accuracy of the fleet on many cases",
    .options = options,
    .option_count = ARRAY_LEN(options),
    .max_args = 0,
    .run = run_eval,
    .more = "Exit 0 only if no case failed and every answer equals its reference."};
