/* Options: command line over environment over file over default; wrong values are refused. */
#include "base/file.h"
#include "base/num.h"
#include "cli/folder.h"
#include "cli/options.h"
#include "lib/cmocka.h"
#include "lib/temp.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct option_row rows[] = {
    {"size", OPT_BYTES, "SIZE", "1M", "", NULL, 0, 0},
    {"count", OPT_NUMBER, "N", "2", "", NULL, 1, 9},
    {"label", OPT_LIST, "L", NULL, "", NULL, 0, 0},
    {"fast", OPT_FLAG, NULL, NULL, "", NULL, 0, 0},
    OPTION_CONFIG,
};
static const struct command command = {.name = "x",
                                       .usage = "",
                                       .summary = "",
                                       .options = rows,
                                       .option_count = ARRAY_LEN(rows),
                                       .max_args = 1};

static struct args *parse(int argc, const char *const *argv, struct err *e)
{
    struct args *a = NULL;
    bool help;
    return options_parse(&command, argc, (char **)(uintptr_t)argv, &a, &help, e) ? a : NULL;
}

#define PARSE(e, ...)                                                                              \
    parse((int)ARRAY_LEN(((const char *[]){"x", __VA_ARGS__})),                                    \
          (const char *[]){"x", __VA_ARGS__}, e)

static void sources_in_order(void **state)
{
    (void)state;
    struct err e;
    char *file = text_format("%s/config.yaml", temp_make());
    static const char text[] = "size: 3M\ncount: 4\nlabel: [a, b]\nfast: true\nother-command: 1\n";
    assert_true(file_write_atomic(file, text, strlen(text), 0600, &e));
    struct args *a = PARSE(&e, "--config", file);
    assert_non_null(a);
    assert_int_equal(args_bytes(a, "size"), 3 << 20);
    const char *const *labels;
    assert_int_equal(args_list(a, "label", &labels), 2);
    assert_string_equal(labels[1], "b");
    assert_true(args_flag(a, "fast"));
    options_free(a);
    setenv("S2M3_SIZE", "5M", 1);
    a = PARSE(&e, "--config", file);
    assert_int_equal(args_bytes(a, "size"), 5 << 20);
    options_free(a);
    a = PARSE(&e, "--size=7M", "--label", "z", "--config", file, "word");
    assert_int_equal(args_bytes(a, "size"), 7 << 20);
    assert_int_equal(args_list(a, "label", &labels), 1);
    assert_string_equal(args_at(a, 0), "word");
    options_free(a);
    unsetenv("S2M3_SIZE");
    a = PARSE(&e, "word");
    assert_int_equal(args_bytes(a, "size"), 1 << 20);
    assert_true(args_number(a, "count") == 2);
    options_free(a);
    static const char bad[] = "size: [1M, 2M";
    assert_true(file_write_atomic(file, bad, strlen(bad), 0600, &e));
    assert_null(PARSE(&e, "--config", file));
    free(file);
    temp_remove();
}

static void refused(void **state)
{
    (void)state;
    struct err e;
    assert_null(PARSE(&e, "--nothing"));
    assert_non_null(strstr(e.text, "--nothing"));
    assert_null(PARSE(&e, "--count", "10"));
    assert_null(PARSE(&e, "--count"));
    assert_null(PARSE(&e, "--size", "many"));
    assert_null(PARSE(&e, "--fast=1"));
    assert_null(PARSE(&e, "-q"));
    assert_null(PARSE(&e, "a", "b"));
    struct args *a = PARSE(&e, "--", "--fast");
    assert_string_equal(args_at(a, 0), "--fast");
    options_free(a);
}

static void touch(const char *dir, const char *name)
{
    struct err e;
    char *path = text_format("%s/%s", dir, name);
    assert_true(file_write_atomic(path, name, strlen(name), 0600, &e));
    free(path);
}

static void folders(void **state)
{
    (void)state;
    struct err e;
    struct folder *f = calloc(1, sizeof(*f));
    const char *dir = temp_make();
    char *onnx = text_format("%s/onnx", dir), *link = text_format("%s/tokenizer.json", dir);
    assert_true(file_make_dirs(onnx, &e));
    assert_false(folder_read(dir, "fp32", f, &e)); /* no graph */
    assert_null(strstr(e.text, "PyTorch"));
    touch(dir, "model.safetensors");
    assert_false(folder_read(dir, "fp32", f, &e));
    assert_non_null(strstr(e.text, "PyTorch"));
    touch(dir, "config.json");
    touch(dir, "README.md");
    touch(dir, "onnx/model.onnx");
    touch(dir, "onnx/model_q4.onnx");
    assert_true(folder_read(dir, "fp32", f, &e));
    assert_int_equal(f->count, 2);
    assert_string_equal(f->files[1].name, "onnx/model.onnx");
    folder_clear(f);
    assert_true(folder_read(dir, "q4", f, &e));
    assert_string_equal(f->files[1].name, "onnx/model_q4.onnx");
    folder_clear(f);
    const char *cached = "models--some--small-vit/snapshots/0123abc";
    char *snapshot = text_format("%s/%s", dir, cached), *deep = text_format("%s/x", snapshot);
    assert_true(file_make_dirs(deep, &e));
    touch(snapshot, "model.onnx");
    touch(deep, "model.onnx");
    assert_true(folder_read(snapshot, "fp32", f, &e)); /* named as the model, not by its commit */
    assert_string_equal(f->name, "small-vit");
    folder_clear(f);
    assert_true(folder_read(deep, "fp32", f, &e));
    assert_string_equal(f->name, "x");
    folder_clear(f);
    free(snapshot);
    free(deep);
    assert_int_equal(symlink("/etc/passwd", link), 0);
    assert_false(folder_read(dir, "fp32", f, &e));
    assert_int_equal(e.code, ERR_DENIED);
    free(onnx);
    free(link);
    free(f);
    temp_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sources_in_order),
                                       cmocka_unit_test(refused), cmocka_unit_test(folders)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
