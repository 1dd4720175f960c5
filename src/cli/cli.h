/* cli.h - subcommands as rows, and their options as tables.
 *
 * One file per subcommand with one const row; commands.c lists the rows.  Exit codes: 0 done, 1 it
 * failed (the reason on stderr), 2 wrong usage.  Only cli prints and exits. */
#pragma once
#include "base/err.h"
#include "base/json.h"

#include <stdint.h>

#define CLI_LIST_MAX 4096 /* values of a repeated option, positional arguments */

enum option_kind { OPT_FLAG, OPT_TEXT, OPT_LIST, OPT_BYTES, OPT_NUMBER };

/* One row is the --flag, the S2M3_ variable, the key of the configuration file, the default and the
 * help.  The command line wins over the environment, that over the file, that over the default. */
struct option_row {
    const char *name; /* "data-dir": --data-dir, S2M3_DATA_DIR, data-dir: in the file */
    enum option_kind kind;
    const char *arg; /* "DIR" in the help; NULL for a flag */
    const char *def; /* NULL: none */
    const char *help;
    const char *env; /* another name of the variable, or NULL */
    double min, max; /* OPT_NUMBER: whole ones; OPT_BYTES: min only */
};

struct args;

struct command {
    const char *name;
    const char *usage;   /* "TASK [options]" */
    const char *summary; /* one line */
    const char *more;    /* further help, or NULL */
    const struct option_row *options;
    int option_count;
    int min_args, max_args; /* positional */
    int (*run)(const struct args *a);
    int (*raw)(int argc, char **argv); /* instead of run: does its own parsing (argv[0] = name) */
    const char *raw_options;           /* with raw: what completion offers, or NULL */
    bool hidden;
};

extern const struct command *const commands[];
extern const int command_count;

/* Values.  A text or list option that was not given has no values. */
bool args_flag(const struct args *a, const char *name);
const char *args_text(const struct args *a, const char *name); /* NULL: none */
int args_list(const struct args *a, const char *name, const char *const **ret);
uint64_t args_bytes(const struct args *a, const char *name); /* 0: none */
double args_number(const struct args *a, const char *name);
int args_count(const struct args *a); /* positional */
const char *args_at(const struct args *a, int index);

/* Parses and runs; the whole program but for main(). */
int cli_main(int argc, char **argv);

/* Help of one command or of all, on stdout. */
void cli_help(const struct command *c);

/* Prints "s2m3: text" on stderr and returns 1 (or with --json in force the error as JSON on stdout
 * besides). */
int cli_fail(const struct err *e);
/* --data-dir, or where data belong by default; malloc'd, NULL: no memory. */
char *cli_data_dir(const struct args *a);
int cli_usage(const struct command *c, const struct err *e); /* returns 2 */

void cli_print_json(const json_t *value); /* indented, with a newline */

/* A table for people: columns padded to their widest cell; numbers are right-aligned when the
 * header begins with '>'. */
struct text_table;
struct text_table *text_table_new(int columns, const char *const *headers);
void text_table_row(struct text_table *t, const char *const *cells);
void text_table_print(struct text_table *t); /* and frees it */

/* Options that several commands share. */
#define OPTION_JSON                                                                                \
    {                                                                                              \
        "json", OPT_FLAG, NULL, NULL, "Print JSON", NULL, 0, 0                                     \
    }
#define OPTION_URL                                                                                 \
    {                                                                                              \
        "url", OPT_TEXT, "URL", "http://127.0.0.1:7070", "Gateway to talk to", "S2M3_URL", 0, 0    \
    }
#define OPTION_DATA                                                                                \
    {                                                                                              \
        "data-dir", OPT_TEXT, "DIR", NULL,                                                         \
            "Where state and modules are kept (default $XDG_DATA_HOME/s2m3 or "                    \
            "~/.local/share/s2m3)",                                                                \
            "S2M3_DATA", 0, 0                                                                      \
    }
#define OPTION_RUNTIME                                                                             \
    {                                                                                              \
        "runtime", OPT_TEXT, "FILE", NULL,                                                         \
            "libonnxruntime.so to load (default: beside the program, or the system's)",            \
            "S2M3_RUNTIME", 0, 0                                                                   \
    }
#define OPTION_CONFIG                                                                              \
    {                                                                                              \
        "config", OPT_TEXT, "FILE", NULL, "YAML file with settings (keys are option names)",       \
            "S2M3_CONFIG", 0, 0                                                                    \
    }
