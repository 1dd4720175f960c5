/* options.c - command line, environment and YAML file, from one table. */
#include "cli/options.h"

#include "base/file.h"
#include "base/parse.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define CONFIG_BYTES_MAX (1u << 20)

static int row_index(const struct command *c, const char *name, size_t length)
{
    for (int i = 0; i < c->option_count; i++)
        if (strlen(c->options[i].name) == length && strncmp(c->options[i].name, name, length) == 0)
            return i;
    return -1;
}

static bool check_value(const struct option_row *row, const char *value, struct err *e)
{
    char what[80];
    uint64_t bytes, number;
    (void)snprintf(what, sizeof(what), "--%s", row->name);
    if (row->kind == OPT_BYTES)
        return parse_bytes(what, value, &bytes, e) &&
               ((double)bytes >= row->min ||
                err_set(e, ERR_INVALID, "%s: '%.60s' is less than %.0f bytes", what, value,
                        row->min));
    if (row->kind == OPT_NUMBER)
        return parse_u64(what, value, (uint64_t)row->min, (uint64_t)row->max, &number, e);
    return true;
}

static bool add_value(struct args *a, int index, const char *value, struct err *e)
{
    const struct option_row *row = &a->command->options[index];
    struct option_value *v = &a->options[index];
    if (!check_value(row, value, e))
        return false;
    int keep = row->kind == OPT_LIST ? v->count : 0; /* the last one of a single option counts */
    if (keep >= CLI_LIST_MAX)
        return err_set(e, ERR_TOO_LARGE, "--%s: more than %d values", row->name, CLI_LIST_MAX);
    const char **values = realloc(v->values, ((size_t)keep + 1) * sizeof(*values));
    if (!values)
        return err_set(e, ERR_MEMORY, "no memory");
    v->values = values;
    values[keep] = value;
    v->count = keep + 1;
    return true;
}

static bool parse_option(struct args *a, int argc, char **argv, int *at, struct err *e)
{
    const char *name = argv[*at] + 2;
    const char *equals = strchr(name, '=');
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    int index = row_index(a->command, name, length);
    if (index < 0)
        return err_set(e, ERR_INVALID, "%s: there is no option --%.*s", a->command->name,
                       (int)length, name);
    const struct option_row *row = &a->command->options[index];
    if (row->kind == OPT_FLAG) {
        if (equals)
            return err_set(e, ERR_INVALID, "--%s takes no value", row->name);
        return add_value(a, index, "true", e);
    }
    if (!equals && *at + 1 >= argc)
        return err_set(e, ERR_INVALID, "--%s needs a value (%s)", row->name, row->arg);
    return add_value(a, index, equals ? equals + 1 : argv[++*at], e);
}

static bool parse_line(struct args *a, int argc, char **argv, bool *help, struct err *e)
{
    bool only_positional = false;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (!only_positional && strcmp(arg, "--") == 0) {
            only_positional = true;
        } else if (!only_positional && (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)) {
            *help = true;
        } else if (!only_positional && strncmp(arg, "--", 2) == 0) {
            if (!parse_option(a, argc, argv, &i, e))
                return false;
        } else if (!only_positional && arg[0] == '-' && arg[1]) {
            return err_set(e, ERR_INVALID, "%s: there is no option %.40s", a->command->name, arg);
        } else if (a->positional_count >= CLI_LIST_MAX) {
            return err_set(e, ERR_INVALID, "%s: more than %d arguments", a->command->name,
                           CLI_LIST_MAX);
        } else {
            a->positional[a->positional_count++] = arg;
        }
    }
    return true;
}

static const char *environment(const struct option_row *row)
{
    char name[80] = "S2M3_";
    size_t n = strlen(name);
    for (const char *p = row->name; *p && n < sizeof(name) - 1; p++)
        name[n++] = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    name[n] = 0;
    const char *value = getenv(name);
    if (!value && row->env)
        value = getenv(row->env);
    return value && *value ? value : NULL;
}

static bool from_environment(struct args *a, struct err *e)
{
    for (int i = 0; i < a->command->option_count; i++) {
        const char *value = a->options[i].count ? NULL : environment(&a->command->options[i]);
        if (value && !add_value(a, i, value, e))
            return err_prefix(e, "environment");
    }
    return true;
}

/* ---- the YAML file: one flat mapping, values are scalars or lists of scalars ---------------- */

struct config {
    struct args *args;
    const bool *given; /* options that the command line or the environment set */
    const char *path;
    struct err *e;
};

static bool config_value(struct config *c, const char *key, const yaml_node_t *node)
{
    int index = row_index(c->args->command, key, strlen(key));
    if (index < 0 || c->given[index])
        return true; /* another command's setting, or one that was given */
    if (node->type != YAML_SCALAR_NODE)
        return err_set(c->e, ERR_INVALID, "%s: '%s' should be a single value", c->path, key);
    char **texts =
        realloc(c->args->file_texts, ((size_t)c->args->file_text_count + 1) * sizeof(*texts));
    if (!texts)
        return err_set(c->e, ERR_MEMORY, "no memory");
    c->args->file_texts = texts;
    char *text = strdup((const char *)node->data.scalar.value);
    if (!text)
        return err_set(c->e, ERR_MEMORY, "no memory");
    texts[c->args->file_text_count++] = text;
    if (c->args->command->options[index].kind == OPT_FLAG) {
        if (strcmp(text, "false") == 0)
            return true;
        if (strcmp(text, "true") != 0)
            return err_set(c->e, ERR_INVALID, "%s: '%s' should be true or false", c->path, key);
    }
    return add_value(c->args, index, text, c->e) || err_prefix(c->e, "%s", c->path);
}

static bool config_pair(struct config *c, yaml_document_t *doc, const yaml_node_pair_t *pair)
{
    const yaml_node_t *key = yaml_document_get_node(doc, pair->key);
    const yaml_node_t *value = yaml_document_get_node(doc, pair->value);
    if (key->type != YAML_SCALAR_NODE)
        return err_set(c->e, ERR_INVALID, "%s: a key is not a text", c->path);
    const char *name = (const char *)key->data.scalar.value;
    if (value->type != YAML_SEQUENCE_NODE)
        return config_value(c, name, value);
    for (yaml_node_item_t *item = value->data.sequence.items.start;
         item < value->data.sequence.items.top; item++)
        if (!config_value(c, name, yaml_document_get_node(doc, *item)))
            return false;
    return true;
}

static bool config_text(struct config *c, const char *data, size_t size)
{
    yaml_parser_t parser;
    yaml_document_t doc;
    if (!yaml_parser_initialize(&parser))
        return err_set(c->e, ERR_MEMORY, "no memory");
    yaml_parser_set_input_string(&parser, (const unsigned char *)data, size);
    bool ok = yaml_parser_load(&parser, &doc) != 0;
    if (!ok)
        err_set(c->e, ERR_INVALID, "%s: not YAML at line %zu: %s", c->path,
                parser.problem_mark.line + 1, parser.problem ? parser.problem : "?");
    if (ok) {
        const yaml_node_t *root = yaml_document_get_root_node(&doc);
        if (root && root->type != YAML_MAPPING_NODE)
            ok = err_set(c->e, ERR_INVALID, "%s: should be a list of 'name: value'", c->path);
        for (yaml_node_pair_t *p = root && ok ? root->data.mapping.pairs.start : NULL;
             p && ok && p < root->data.mapping.pairs.top; p++)
            ok = config_pair(c, &doc, p);
        yaml_document_delete(&doc);
    }
    yaml_parser_delete(&parser);
    return ok;
}

static bool from_file(struct args *a, struct err *e)
{
    int index = row_index(a->command, "config", 6);
    const char *path = index >= 0 && a->options[index].count ? a->options[index].values[0] : NULL;
    if (!path)
        return true;
    char *data;
    size_t size;
    bool *given = calloc((size_t)a->command->option_count + 1, sizeof(*given));
    if (!given)
        return err_set(e, ERR_MEMORY, "no memory");
    for (int i = 0; i < a->command->option_count; i++)
        given[i] = a->options[i].count > 0;
    struct config c = {.args = a, .given = given, .path = path, .e = e};
    bool ok = file_read(path, CONFIG_BYTES_MAX, &data, &size, e);
    if (ok) {
        ok = config_text(&c, data, size);
        free(data);
    }
    free(given);
    return ok;
}

static bool fill_defaults(struct args *a, struct err *e)
{
    for (int i = 0; i < a->command->option_count; i++) {
        const char *def = a->command->options[i].def;
        if (def && a->options[i].count == 0 && !add_value(a, i, def, e))
            return false;
    }
    return true;
}

bool options_parse(const struct command *c, int argc, char **argv, struct args **ret, bool *help,
                   struct err *e)
{
    struct args *a = calloc(1, sizeof(*a));
    *help = false;
    if (!a || !(a->options = calloc((size_t)c->option_count + 1, sizeof(*a->options)))) {
        free(a);
        return err_set(e, ERR_MEMORY, "no memory");
    }
    a->command = c;
    bool ok = parse_line(a, argc, argv, help, e) &&
              (*help || (from_environment(a, e) && from_file(a, e) && fill_defaults(a, e)));
    if (ok && !*help && (a->positional_count < c->min_args || a->positional_count > c->max_args))
        ok = err_set(e, ERR_INVALID, "%s: %d argument%s, should be %s%d", c->name,
                     a->positional_count, a->positional_count == 1 ? "" : "s",
                     a->positional_count < c->min_args && c->min_args < c->max_args ? "at least "
                     : c->min_args < c->max_args                                    ? "at most "
                                                                                    : "",
                     a->positional_count < c->min_args ? c->min_args : c->max_args);
    if (!ok) {
        options_free(a);
        return false;
    }
    *ret = a;
    return true;
}

void options_free(struct args *a)
{
    if (!a)
        return;
    for (int i = 0; i < a->command->option_count; i++)
        free(a->options[i].values);
    for (int i = 0; i < a->file_text_count; i++)
        free(a->file_texts[i]);
    free(a->file_texts);
    free(a->options);
    free(a);
}

/* ---- values --------------------------------------------------------------------------------- */

static const struct option_value *value_of(const struct args *a, const char *name)
{
    int index = row_index(a->command, name, strlen(name));
    return index >= 0 ? &a->options[index] : NULL;
}

bool args_flag(const struct args *a, const char *name)
{
    const struct option_value *v = value_of(a, name);
    return v && v->count && strcmp(v->values[0], "false") != 0 && strcmp(v->values[0], "0") != 0;
}

const char *args_text(const struct args *a, const char *name)
{
    const struct option_value *v = value_of(a, name);
    return v && v->count ? v->values[0] : NULL;
}

int args_list(const struct args *a, const char *name, const char *const **ret)
{
    const struct option_value *v = value_of(a, name);
    *ret = v ? v->values : NULL;
    return v ? v->count : 0;
}

uint64_t args_bytes(const struct args *a, const char *name)
{
    uint64_t bytes = 0;
    const char *text = args_text(a, name);
    if (text)
        (void)parse_bytes(name, text, &bytes, NULL); /* checked when it was taken */
    return bytes;
}

double args_number(const struct args *a, const char *name)
{
    double number = 0;
    const char *text = args_text(a, name);
    if (text)
        (void)parse_double(name, text, -1e300, 1e300, &number, NULL);
    return number;
}

int args_count(const struct args *a)
{
    return a->positional_count;
}

const char *args_at(const struct args *a, int index)
{
    return index < a->positional_count ? a->positional[index] : NULL;
}
