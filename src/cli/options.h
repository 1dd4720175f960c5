/* options.h - the values of a command's options, from all four sources. */
#pragma once
#include "cli/cli.h"

struct option_value {
    const char **values; /* texts, borrowed from argv, the environment or the file */
    int count;
};

struct args {
    const struct command *command;
    struct option_value *options; /* one per row of the command */
    const char *positional[CLI_LIST_MAX];
    int positional_count;
    char **file_texts; /* owned texts of the configuration file */
    int file_text_count;
};

/* argv[0] is the command's name. help: true when --help was asked for. */
bool options_parse(const struct command *c, int argc, char **argv, struct args **ret, bool *help,
                   struct err *e);
void options_free(struct args *a);
