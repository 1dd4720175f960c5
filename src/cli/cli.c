/* cli.c - dispatch, help, errors and tables. */
#include "cli/cli.h"

#include "base/file.h"
#include "base/heap.h"
#include "cli/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool json_wanted; /* for the form of errors */

static const struct command *find_command(const char *name)
{
    for (int i = 0; i < command_count; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static void print_option(const struct option_row *o)
{
    char left[64];
    (void)snprintf(left, sizeof(left), "--%s%s%s", o->name, o->arg ? " " : "",
                   o->arg ? o->arg : "");
    printf("  %-26s %s", left, o->help);
    if (o->kind == OPT_LIST)
        printf(" (may be repeated)");
    if (o->def)
        printf(" (default %s)", o->def);
    printf("\n");
}

static void help_all(void)
{
    printf("s2m3 %s: one inference service out of several small machines\n\n"
           "Usage: s2m3 COMMAND [options]\n\nCommands:\n",
           S2M3_VERSION);
    for (int i = 0; i < command_count; i++)
        if (!commands[i]->hidden)
            printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
    printf("\nOptions can be set by S2M3_... variables and in a YAML file (--config) too.\n"
           "s2m3 COMMAND --help tells more; s2m3 --version prints the version.\n"
           "First try, without a fleet: s2m3 run image-classification --model DIR --image FILE\n");
}

void cli_help(const struct command *c)
{
    if (!c) {
        help_all();
        return;
    }
    const char *end = c->summary[strlen(c->summary) - 1] == '?' ? "" : ".";
    printf("Usage: s2m3 %s%s%s\n\n%s%s\n", c->name, c->usage[0] ? " " : "", c->usage, c->summary,
           end);
    if (c->option_count)
        printf("\nOptions:\n");
    for (int i = 0; i < c->option_count; i++)
        print_option(&c->options[i]);
    if (c->more)
        printf("\n%s\n", c->more);
}

int cli_fail(const struct err *e)
{
    fprintf(stderr, "s2m3: %s\n", e->text);
    if (json_wanted) {
        json_t *o =
            json_pack("{s:{s:s,s:s}}", "error", "code", err_name(e->code), "message", e->text);
        cli_print_json(o);
        json_decref(o);
    }
    return 1;
}

char *cli_data_dir(const struct args *a)
{
    const char *given = args_text(a, "data-dir");
    const char *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    if (given)
        return strdup(given);
    if (xdg && *xdg)
        return text_format("%s/s2m3", xdg);
    return text_format("%s/.local/share/s2m3", home && *home ? home : ".");
}

int cli_usage(const struct command *c, const struct err *e)
{
    fprintf(stderr, "s2m3: %s\nUsage: s2m3 %s %s\n(s2m3 %s --help tells more)\n", e->text, c->name,
            c->usage, c->name);
    return 2;
}

void cli_print_json(const json_t *value)
{
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(10));
    printf("%s\n", text ? text : "null");
    free(text);
}

static int run_command(const struct command *c, int argc, char **argv)
{
    if (c->raw)
        return c->raw(argc, argv);
    struct args *a;
    struct err e;
    bool help;
    if (!options_parse(c, argc, argv, &a, &help, &e))
        return cli_usage(c, &e);
    int code = 0;
    json_wanted = args_flag(a, "json");
    if (help)
        cli_help(c);
    else
        code = c->run(a);
    options_free(a);
    return code;
}

int cli_main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "--help";
    if (strcmp(name, "--version") == 0) {
        printf("s2m3 %s\n", S2M3_VERSION);
        return 0;
    }
    const struct command *c = find_command(name);
    if (!c) {
        const char *topic = strcmp(name, "help") == 0 && argc > 2 ? argv[2] : NULL;
        const struct command *about = topic ? find_command(topic) : NULL;
        if (about || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 ||
            strcmp(name, "help") == 0) {
            cli_help(about);
            return argc > 1 ? 0 : 2;
        }
        fprintf(stderr, "s2m3: there is no command '%s'; s2m3 --help lists them\n", name);
        return 2;
    }
    heap_setup();
    int code = run_command(c, argc - 1, argv + 1);
    if (fflush(stdout) != 0 && code == 0)
        code = 1;
    return code;
}

/* ---- tables --------------------------------------------------------------------------------- */

#define COLUMNS_MAX 16
#define CELL_MAX 160

struct text_table {
    int columns;
    int rows;
    bool right[COLUMNS_MAX];
    int width[COLUMNS_MAX];
    char (*cells)[CELL_MAX]; /* row after row */
};

/* Columns on a terminal, taking each UTF-8 character as one. */
static int text_width(const char *text)
{
    int n = 0;
    for (; *text; text++)
        if (((unsigned char)*text & 0xC0) != 0x80)
            n++;
    return n;
}

struct text_table *text_table_new(int columns, const char *const *headers)
{
    struct text_table *t = calloc(1, sizeof(*t));
    if (!t || columns > COLUMNS_MAX) {
        free(t);
        return NULL;
    }
    const char *names[COLUMNS_MAX];
    t->columns = columns;
    for (int i = 0; i < columns; i++) {
        t->right[i] = headers[i][0] == '>';
        names[i] = headers[i] + (t->right[i] ? 1 : 0);
    }
    text_table_row(t, names);
    return t;
}

void text_table_row(struct text_table *t, const char *const *cells)
{
    if (!t)
        return;
    size_t count = (size_t)(t->rows + 1) * (size_t)t->columns;
    char(*more)[CELL_MAX] = realloc(t->cells, count * CELL_MAX);
    if (!more)
        return;
    t->cells = more;
    for (int i = 0; i < t->columns; i++) {
        char *cell = t->cells[t->rows * t->columns + i];
        (void)snprintf(cell, CELL_MAX, "%s", cells[i] ? cells[i] : "");
        int width = text_width(cell);
        t->width[i] = width > t->width[i] ? width : t->width[i];
    }
    t->rows++;
}

void text_table_print(struct text_table *t)
{
    for (int r = 0; t && r < t->rows; r++) {
        for (int i = 0; i < t->columns; i++) {
            const char *cell = t->cells[r * t->columns + i];
            int pad = t->width[i] - text_width(cell);
            bool last = i == t->columns - 1;
            if (t->right[i])
                printf("%*s%s%s", pad, "", cell, last ? "" : "  ");
            else
                printf("%s%*s", cell, last ? 0 : pad + 2, "");
        }
        printf("\n");
    }
    if (t)
        free(t->cells);
    free(t);
}
