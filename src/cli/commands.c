/* commands.c - the list of subcommands, and the two that need no file of their own. */
#include "base/num.h"
#include "base/parse.h"
#include "cli/cli.h"
#include "exec/exec.h"

#include <stdio.h>

extern const struct command command_up, command_join, command_add, command_remove, command_models,
    command_modules, command_devices, command_status, command_run, command_eval, command_doctor,
    command_inspect, command_drain, command_leave;
int cli_plan(int argc, char **argv);
extern const char cli_plan_options[];

/* What the sandboxed child process runs; nobody types this. */
static int run_runner(int argc, char **argv)
{
    uint64_t fd;
    struct err e;
    if (argc != 2 || !parse_u64("runner", argv[1], 0, 1u << 20, &fd, &e))
        return 2;
    return exec_runner_main((int)fd);
}

static const struct command command_runner = {
    .name = "runner", .usage = "FD", .summary = "Internal", .raw = run_runner, .hidden = true};

static const struct command command_plan = {
    .name = "plan",
    .usage = "[options]",
    .summary = "Where modules are and would go: of the fleet, or from numbers",
    .raw = cli_plan,
    .raw_options = cli_plan_options};

static int run_completion(const struct args *a)
{
    (void)a;
    printf("# bash: source <(s2m3 completion)\n_s2m3() {\n    local cur=${COMP_WORDS[COMP_CWORD]}\n"
           "    if [ \"$COMP_CWORD\" = 1 ]; then\n        COMPREPLY=($(compgen -W '");
    for (int i = 0; i < command_count; i++)
        if (!commands[i]->hidden)
            printf("%s%s", i ? " " : "", commands[i]->name);
    printf("' -- \"$cur\"))\n        return\n    fi\n    local words=--help\n    case "
           "${COMP_WORDS[1]} in\n");
    for (int i = 0; i < command_count; i++) {
        const struct command *c = commands[i];
        if (c->hidden || (c->option_count == 0 && !c->raw_options))
            continue;
        printf("    %s) words='--help", c->name);
        if (c->raw_options)
            printf(" %s", c->raw_options);
        for (int k = 0; k < c->option_count; k++)
            printf(" --%s", c->options[k].name);
        printf("' ;;\n");
    }
    printf(
        "    esac\n    case $cur in\n    -*) COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")) ;;\n"
        "    *) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n    esac\n}\ncomplete -F _s2m3 s2m3\n");
    return 0;
}

static const struct command command_completion = {.name = "completion",
                                                  .usage = "",
                                                  .summary = "Print a bash completion script",
                                                  .run = run_completion};

const struct command *const commands[] = {
    &command_up,         &command_join,    &command_add,    &command_remove,  &command_models,
    &command_modules,    &command_devices, &command_status, &command_run,     &command_eval,
    &command_drain,      &command_leave,   &command_plan,   &command_inspect, &command_doctor,
    &command_completion, &command_runner,
};
const int command_count = (int)ARRAY_LEN(commands);
