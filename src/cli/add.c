/* add.c - `add` and `remove`. */
#include "base/file.h"
#include "base/num.h"
#include "base/parse.h"
#include "cli/external.h"
#include "cli/fleet.h"
#include "cli/folder.h"
#include "cli/pins.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ADD_MS 1800000
#define TOLERANCE_MAX 1e30

static void progress(const struct folder *f, int done)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%s: %d of %d files%s", f->name, done, f->count,
                done == f->count ? "\n" : "");
}

/* ---- files to the coordinator --------------------------------------------------------------- */

static bool read_file(void *ctx, uint64_t offset, void *to, size_t size, struct err *e)
{
    const int *fd = ctx;
    for (size_t have = 0; have < size;) {
        ssize_t n = pread(*fd, (char *)to + have, size - have, (off_t)(offset + have));
        if (n <= 0)
            return n < 0 ? err_errno(e, ERR_IO, errno, "can't be read")
                         : err_set(e, ERR_IO, "became shorter while it was read");
        have += (size_t)n;
    }
    return true;
}

static bool read_bundle(void *ctx, uint64_t offset, void *to, size_t size, struct err *e)
{
    external_seek(ctx, offset);
    return external_read(ctx, to, size) == size ||
           err_set(e, ERR_INTERNAL, "a bundle of another size than it was");
}

static bool upload_plain(const struct args *a, const struct folder_file *f, struct err *e)
{
    int fd = open(f->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, ERR_IO, errno, "can't be read");
    struct upload u = {f->digest.hex, f->size, read_file, &fd};
    bool ok = fleet_upload(a, &u, e);
    close(fd);
    return ok;
}

/* A graph with external data goes as one bundle with it, under the bundle's digest. */
static bool upload_one(const struct args *a, const struct folder *f, struct folder_file *file,
                       struct err *e)
{
    struct packed *p = NULL;
    struct err changed;
    char *path = text_format("%s/%s", f->root, file->name);
    bool ok = path ? !folder_is_graph(file) || external_pack(path, &p, e)
                   : err_set(e, ERR_MEMORY, "no memory");
    free(path);
    if (!ok || !p)
        return ok && (upload_plain(a, file, e) || err_prefix(e, "%s", file->name));
    file->digest = external_digest(p);
    file->size = p->size;
    struct upload u = {file->digest.hex, p->size, read_bundle, p};
    ok = fleet_upload(a, &u, e) || err_prefix(e, "%s", file->name);
    if (!onnx_unchanged(p->model, &changed))
        ok = err_set(e, changed.code, "%s", changed.text);
    external_free(p);
    return ok;
}

static bool upload(const struct args *a, struct folder *f, struct err *e)
{
    for (int i = 0; i < f->count; i++) {
        progress(f, i);
        if (!upload_one(a, f, &f->files[i], e))
            return false;
    }
    progress(f, f->count);
    return true;
}

/* pins: may be NULL. */
static json_t *manifest(const struct folder *f, const char *name, double tolerance, bool whole,
                        json_t *pins)
{
    json_t *files = json_array();
    for (int i = 0; i < f->count; i++)
        json_array_append_new(files, json_pack("{s:s,s:s,s:I}", "path", f->files[i].name, "digest",
                                               f->files[i].digest.hex, "bytes",
                                               (json_int_t)f->files[i].size));
    return json_pack("{s:s,s:o,s:f,s:b,s:O*}", "name", name ? name : f->name, "files", files,
                     "tolerance", tolerance, "whole", (int)whole, "pins", pins);
}

static void print_added(const json_t *o)
{
    const json_t *model = json_object_get(o, "model"), *modules = json_object_get(o, "modules");
    printf("added %s: ", json_string_value(json_object_get(model, "name")));
    const json_t *tasks = json_object_get(model, "tasks");
    for (size_t i = 0; i < json_array_size(tasks); i++)
        printf("%s%s", i ? ", " : "", json_string_value(json_array_get(tasks, i)));
    printf("\n");
    static const char *const headers[] = {"MODULE", ">MEMORY", "SHARED WITH", "RUNS ON", "WHY"};
    struct text_table *t = text_table_new(5, headers);
    for (size_t i = 0; i < json_array_size(modules); i++) {
        const json_t *m = json_array_get(modules, i), *others = json_object_get(m, "shared_with");
        const json_t *devices = json_object_get(m, "devices");
        char memory[32], shared[160] = "", on[160] = "";
        size_t n = 0;
        for (size_t k = 0; k < json_array_size(others) && n < sizeof(shared); k++)
            n += (size_t)snprintf(shared + n, sizeof(shared) - n, "%s%s", k ? ", " : "",
                                  json_string_value(json_array_get(others, k)));
        n = 0;
        for (size_t k = 0; k < json_array_size(devices) && n < sizeof(on); k++)
            n += (size_t)snprintf(on + n, sizeof(on) - n, "%s%s", k ? ", " : "",
                                  json_string_value(json_array_get(devices, k)));
        (void)format_bytes(memory, sizeof(memory),
                           json_number_value(json_object_get(m, "memory_bytes")));
        const char *cells[] = {json_string_value(json_object_get(m, "name")), memory,
                               shared[0] ? shared : "-", on,
                               json_string_value(json_object_get(m, "reason"))};
        text_table_row(t, cells);
    }
    text_table_print(t);
    const json_t *moved = json_object_get(o, "moved");
    for (size_t i = 0; i < json_array_size(moved); i++)
        printf("%s%s", i ? ", " : "cut further, to share with it: ",
               json_string_value(json_array_get(moved, i)));
    const char *note = json_string_value(json_object_get(o, "note"));
    printf("%s", json_array_size(moved) ? "\n" : "");
    if (note && *note)
        printf("cut alone, not together with the other models: %s\n", note);
    const json_t *left_out = json_object_get(o, "uncompared");
    for (size_t i = 0; i < json_array_size(left_out); i++)
        printf("%s%s", i ? ", " : "not compared with these, too many have weights in common: ",
               json_string_value(json_array_get(left_out, i)));
    printf("%s", json_array_size(left_out) ? "\n" : "");
}

extern const struct command command_add, command_remove;

static int run_add(const struct args *a)
{
    struct err e;
    json_t *o, *pins = NULL;
    struct folder *f = calloc(1, sizeof(*f));
    if (!f)
        return cli_fail(&(struct err){.code = ERR_MEMORY, .text = "no memory"});
    double tolerance = 0;
    const char *given = args_text(a, "tolerance");
    if ((given && !parse_double("--tolerance", given, 0, TOLERANCE_MAX, &tolerance, &e)) ||
        !pins_of_args(a, &pins, &e)) {
        free(f);
        return cli_usage(&command_add, &e);
    }
    bool ok = folder_read(args_at(a, 0), args_text(a, "dtype"), f, &e) && upload(a, f, &e) &&
              fleet_json(a, "POST", "/s2m3/v1/models",
                         manifest(f, args_text(a, "name"), tolerance, args_flag(a, "whole"), pins),
                         ADD_MS, &o, &e);
    folder_clear(f);
    free(f);
    json_decref(pins);
    if (!ok)
        return cli_fail(&e);
    if (args_flag(a, "json"))
        cli_print_json(o);
    else
        print_added(o);
    json_decref(o);
    return 0;
}

static int run_remove(const struct args *a)
{
    struct err e;
    json_t *o;
    char path[512];
    const char *name = args_at(a, 0);
    if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") !=
        strlen(name))
        return cli_fail(
            &(struct err){.code = ERR_INVALID,
                          .text = "remove: a model's name has letters, digits, '-', '_' and '.'"});
    (void)snprintf(path, sizeof(path), "/s2m3/v1/models/%s", name);
    if (!fleet_json(a, "DELETE", path, NULL, ADD_MS, &o, &e))
        return cli_fail(&e);
    if (args_flag(a, "json"))
        cli_print_json(o);
    else
        printf("removed %s\n", name);
    json_decref(o);
    return 0;
}

static const struct option_row add_options[] = {
    {"name", OPT_TEXT, "NAME", NULL, "Name in the fleet (default: the folder's)", NULL, 0, 0},
    {"dtype", OPT_TEXT, "TYPE", "fp32",
     "Which of several variants of the .onnx files: fp32, fp16, int8, q4 ...", NULL, 0, 0},
    {"tolerance", OPT_TEXT, "X", "0",
     "Largest difference of an output that cutting into modules may make; 0: the same bits", NULL,
     0, 0},
    {"whole", OPT_FLAG, NULL, NULL, "Don't cut it: each .onnx file is one module", NULL, 0, 0},
    {"pin", OPT_LIST, "MODULE=DEVICE", NULL, "Where a module of it has to be", NULL, 0, 0},
    OPTION_URL,
    OPTION_JSON,
    OPTION_CONFIG,
};
static const struct option_row remove_options[] = {OPTION_URL, OPTION_JSON, OPTION_CONFIG};

const struct command command_add = {
    .name = "add",
    .usage = "DIR [options]",
    .summary = "Add a model: a folder in Hugging Face ONNX layout",
    .options = add_options,
    .option_count = ARRAY_LEN(add_options),
    .min_args = 1,
    .max_args = 1,
    .run = run_add,
    .more = "The folder holds config.json, preprocessor_config.json, tokenizer.json as far as the "
            "model has\n"
            "them, and onnx/*.onnx, with files of external data beside these (model.onnx_data) or\n"
            "in folders below.  What is the same in several models is kept once."};
const struct command command_remove = {.name = "remove",
                                       .usage = "MODEL [options]",
                                       .summary =
                                           "Remove a model, and the modules that no other uses",
                                       .options = remove_options,
                                       .option_count = ARRAY_LEN(remove_options),
                                       .min_args = 1,
                                       .max_args = 1,
                                       .run = run_remove};
