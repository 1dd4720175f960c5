/* plan_set.c - every method on a folder of instances: how often the optimum, mean and worst gap, time.
 *
 *   bench_plan_set [--write] [FOLDER]      FOLDER: bench/plan/95
 *   bench_plan_set --gap FOLDER            only auto, a second each, and how far its own bound is away
 *
 * The optimum of each is that of `exact`, which must certify it; --write keeps them in
 * FOLDER/optima.json, otherwise they are compared with what is there.  Exit 1 when one is not
 * certified, takes more than a second, or differs. */
#include "base/clock.h"
#include "base/file.h"
#include "base/num.h"
#include "plan/plan.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INSTANCES_MAX 1000
#define SECOND_MS 1000.0
#define GAP_LIMIT_MS 950.0 /* as the command line with its second */

static const enum plan_method methods[] = {
    PLAN_GREEDY_FASTEST, PLAN_GREEDY_EARLIEST, PLAN_BEST_GREEDY, PLAN_LOCAL, PLAN_AUTO, PLAN_EXACT};

struct row {
    int found, optimal;
    double gap_sum, gap_worst, ms_sum, ms_worst;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_folder(const char *folder, char **names)
{
    DIR *d = opendir(folder);
    int count = 0;
    if (!d)
        return 0;
    for (struct dirent *x = readdir(d); x && count < INSTANCES_MAX; x = readdir(d)) {
        size_t n = strlen(x->d_name);
        if (n > 5 && strcmp(x->d_name + n - 5, ".json") == 0 &&
            strcmp(x->d_name, "optima.json") != 0)
            names[count++] = strdup(x->d_name);
    }
    (void)closedir(d);
    qsort(names, (size_t)count, sizeof(*names), compare_names);
    return count;
}

static struct plan_instance *read_one(const char *folder, const char *name)
{
    struct plan_instance *in = NULL;
    struct err e = {0};
    char *path = text_format("%s/%s", folder, name);
    json_t *o = path ? json_parse_file(path, PLAN_FILE_MAX, &e) : NULL;
    if (!o || !plan_instance_read(o, &in, &e))
        (void)fprintf(stderr, "%s: %s\n", name, e.text);
    json_decref(o);
    free(path);
    return in;
}

/* false: exact did not certify it. */
static bool run_all(const struct plan_instance *in, struct row *rows, double *best)
{
    double value[ARRAY_LEN(methods)];
    bool certified = false;
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        struct plan_options o = {.method = methods[i]};
        struct plan_result r;
        struct err e;
        int64_t start = clock_now_ns();
        bool ok = plan_solve(in, &o, &r, &e);
        double ms = clock_ms_since(start);
        value[i] = ok ? r.value : INFINITY;
        rows[i].ms_sum += ms;
        rows[i].ms_worst = fmax(rows[i].ms_worst, ms);
        certified = ok && r.certified && ms < SECOND_MS; /* of the last method: exact */
        if (ok)
            plan_result_clear(in, &r);
    }
    *best = value[ARRAY_LEN(methods) - 1];
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (!isfinite(value[i]))
            continue;
        double gap = *best > 0 ? value[i] / *best - 1 : 0;
        rows[i].found++;
        rows[i].optimal += gap <= 1e-9;
        rows[i].gap_sum += gap;
        rows[i].gap_worst = fmax(rows[i].gap_worst, gap);
    }
    return certified;
}

static void print_rows(const struct row *rows, int count)
{
    printf("%-16s %9s %9s %10s %10s %9s %9s\n", "method", "found", "optimal", "mean gap",
           "worst gap", "mean ms", "worst ms");
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        const struct row *r = &rows[i];
        printf("%-16s %4d / %2d %4d / %2d %9.3f%% %9.2f%% %9.2f %9.2f\n",
               plan_method_name(methods[i]), r->found, count, r->optimal, count,
               r->found ? 100 * r->gap_sum / r->found : 0, 100 * r->gap_worst, r->ms_sum / count,
               r->ms_worst);
    }
}

/* ---- --gap ---- */

struct gap {
    int count, certified, none; /* none: no placement */
    double sum, worst, ms_worst;
};

static bool late(void *ctx)
{
    return clock_now_ns() >= *(int64_t *)ctx;
}

static void add_gap(const struct plan_instance *in, struct gap *g)
{
    int64_t start = clock_now_ns(), end = start + (int64_t)(GAP_LIMIT_MS * 1e6);
    struct plan_options o = {.method = PLAN_AUTO, .stop = late, .stop_ctx = &end};
    struct plan_result r;
    struct err e;
    if (!plan_solve(in, &o, &r, &e)) {
        g->none++;
        return;
    }
    double gap = r.bound > 0 ? r.value / r.bound - 1 : INFINITY;
    g->ms_worst = fmax(g->ms_worst, clock_ms_since(start));
    g->count++;
    g->certified += r.certified;
    g->sum += gap;
    g->worst = fmax(g->worst, gap);
    plan_result_clear(in, &r);
}

static int print_gaps(const char *folder, char **names, int count)
{
    struct gap gaps[3] = {0};
    for (int i = 0; i < count; i++) {
        struct plan_instance *in = read_one(folder, names[i]);
        if (in)
            add_gap(in, &gaps[in->objective]);
        plan_instance_free(in);
        free(names[i]);
    }
    printf("%-10s %10s %10s %10s %10s %10s\n", "objective", "instances", "certified", "mean gap",
           "worst gap", "worst ms");
    for (int i = 0; i < 3; i++)
        if (gaps[i].count > 0)
            printf("%-10s %10d %10d %9.3f%% %9.2f%% %10.0f\n",
                   plan_objective_name((enum plan_objective)i), gaps[i].count, gaps[i].certified,
                   100 * gaps[i].sum / gaps[i].count, 100 * gaps[i].worst, gaps[i].ms_worst);
    return count == 0;
}

int main(int argc, char **argv)
{
    bool write = argc > 1 && strcmp(argv[1], "--write") == 0;
    const char *folder = argc > 1 + write ? argv[1 + write] : "bench/plan/95";
    char *names[INSTANCES_MAX];
    if (argc == 3 && strcmp(argv[1], "--gap") == 0)
        return print_gaps(argv[2], names, list_folder(argv[2], names));
    int count = list_folder(folder, names), bad = count == 0;
    struct row rows[ARRAY_LEN(methods)] = {0};
    struct err e = {0};
    char *path = text_format("%s/optima.json", folder);
    json_t *optima = write ? json_object() : json_parse_file(path, PLAN_FILE_MAX, &e);
    for (int i = 0; i < count; i++) {
        struct plan_instance *in = read_one(folder, names[i]);
        double best = 0, known = json_number_value(json_object_get(optima, names[i]));
        if (!in || !run_all(in, rows, &best) || (!write && fabs(best - known) > 1e-9 * known)) {
            printf("%s: not certified within a second, or not the optimum that is known: %.12g, "
                   "%.12g\n",
                   names[i], best, known);
            bad = 1;
        }
        if (write)
            json_object_set_new(optima, names[i], json_real(best));
        plan_instance_free(in);
        free(names[i]);
    }
    char *text = write ? json_dumps(optima, JSON_INDENT(1) | JSON_SORT_KEYS) : NULL;
    if (text && !file_write_atomic(path, text, strlen(text), 0644, &e))
        (void)fprintf(stderr, "%s\n", e.text);
    free(text);
    free(path);
    json_decref(optima);
    if (count > 0)
        print_rows(rows, count);
    return bad;
}
