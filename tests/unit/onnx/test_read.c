/* test_read.c - the reader: ports, constants in all forms, figures, refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "libgolden.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void says_its_ports(void **state)
{
    (void)state;
    struct onnx *m = small_model("behind_a");
    size_t inputs, outputs, params;
    const struct port *in = onnx_inputs(m, &inputs), *out = onnx_outputs(m, &outputs);
    assert_int_equal(inputs, 2);
    assert_int_equal(outputs, 1);
    assert_string_equal(in[0].name, "x");
    assert_int_equal(in[0].dtype, DT_F32);
    assert_int_equal(in[0].shape.rank, 3);
    assert_int_equal(in[0].shape.dims[0], -1);
    assert_int_equal(in[0].shape.dims[2], 8);
    assert_int_equal(in[1].dtype, DT_I64);
    assert_string_equal(out[0].name, "y");
    assert_string_equal(onnx_dim_param(m, false, 1, 1), "words");
    assert_string_equal(onnx_dim_param(m, true, 0, 0), "batch");
    assert_string_equal(onnx_dim_param(m, false, 0, 1), "");
    assert_string_equal(onnx_dim_param(m, false, 9, 0), "");
    const char *const *names = onnx_dim_params(m, &params);
    assert_int_equal(params, 2);
    assert_string_equal(names[0], "batch");
    assert_string_equal(names[1], "words");
    assert_true(onnx_batchable(m));
    onnx_close(m);
}

static void counts_work(void **state)
{
    (void)state;
    struct onnx *m = small_model("form_raw"); /* (batch, 5, 8) x (8, 24) */
    assert_true(onnx_flops(m, NULL, 0) == 2.0 * 5 * 8 * 24);
    struct onnx_dim dims[] = {{"batch", 3}};
    assert_true(onnx_flops(m, dims, 1) == 3 * 2.0 * 5 * 8 * 24);
    onnx_close(m);
    m = small_model("nested_if"); /* which branch runs is not known */
    assert_true(onnx_flops(m, NULL, 0) < 0);
    assert_false(onnx_batchable(m));
    onnx_close(m);
}

static void weighs_each_content_once(void **state)
{
    (void)state;
    static const char *const forms[] = {"form_raw",      "form_typed",    "form_node",
                                        "form_identity", "form_external", "form_turned"};
    uint64_t bytes;
    struct err e;
    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        struct onnx *m = small_model(forms[i]);
        assert_true(onnx_weight_bytes(m, &bytes, &e));
        assert_int_equal(bytes, 8 * 24 * 4);
        onnx_close(m);
    }
    struct onnx *m = small_model("nested_if"); /* two branches' Constant nodes */
    assert_true(onnx_weight_bytes(m, &bytes, &e));
    assert_int_equal(bytes, 2 * 24 * 24 * 4);
    onnx_close(m);
    struct onnx *two[] = {small_model("form_raw"), small_model("form_external")};
    assert_true(onnx_weight_bytes_all(two, 2, &bytes, &e));
    assert_int_equal(bytes, 8 * 24 * 4);
    onnx_close(two[0]);
    onnx_close(two[1]);
}

/* Each line of hostile/expected.txt: file, tab, part of the error. */
static void refuses_what_is_broken(void **state)
{
    (void)state;
    FILE *list = fopen(golden("hostile", "expected.txt"), "r");
    assert_non_null(list);
    char line[512], file[300];
    unsigned count = 0, wrong = 0;
    while (fgets(line, sizeof(line), list)) {
        char *tab = strchr(line, '\t');
        assert_non_null(tab);
        *tab = 0;
        char *text = tab + 1;
        text[strcspn(text, "\n")] = 0;
        (void)snprintf(file, sizeof(file), "%.200s.onnx", line);
        struct onnx *m = NULL;
        struct err e = {0};
        if (onnx_open(golden("hostile", file), &m, &e)) {
            print_error("%s was taken\n", file);
            onnx_close(m);
            wrong++;
        } else if (!strstr(e.text, text) || e.code == ERR_NONE || e.code == ERR_INTERNAL) {
            print_error("%s: '%s' does not say '%s'\n", file, e.text, text);
            wrong++;
        }
        count++;
    }
    fclose(list);
    assert_int_equal(wrong, 0);
    assert_true(count > 30);
}

static void copy_file(const char *from, const char *to)
{
    char data[8192];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_non_null(in);
    assert_non_null(out);
    size_t n = fread(data, 1, sizeof(data), in);
    assert_int_equal(fwrite(data, 1, n, out), n);
    fclose(in);
    fclose(out);
}

static void external_data_must_be_a_file_of_its_own(void **state)
{
    (void)state;
    char folder[] = "/tmp/s2m3-onnx-XXXXXX", model[64], data[64], other[64];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(model, sizeof(model), "%s/m.onnx", folder);
    (void)snprintf(data, sizeof(data), "%s/form_external.bin", folder);
    (void)snprintf(other, sizeof(other), "%s/other.bin", folder);
    copy_file(golden("small", "form_external.onnx"), model);
    copy_file(golden("small", "form_external.bin"), other);
    struct onnx *m = NULL;
    struct err e = {0};
    assert_int_equal(symlink("other.bin", data), 0);
    assert_false(onnx_open(model, &m, &e));
    assert_int_equal(e.code, ERR_DENIED);
    assert_int_equal(unlink(data), 0);
    assert_int_equal(link(other, data), 0);
    assert_false(onnx_open(model, &m, &e));
    assert_int_equal(e.code, ERR_DENIED);
    assert_int_equal(unlink(other), 0); /* one link is left: fine */
    assert_true(onnx_open(model, &m, &e));
    onnx_close(m);
    unlink(data);
    unlink(model);
    rmdir(folder);
}

/* A data file that is cut short or written to while the model is open is an error of what reads it;
 * the process lives. */
static void says_that_a_file_changed_under_it(void **state)
{
    (void)state;
    char folder[] = "/tmp/s2m3-onnx-XXXXXX", model[64], data[64];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(model, sizeof(model), "%s/m.onnx", folder);
    (void)snprintf(data, sizeof(data), "%s/form_external.bin", folder);
    for (int how = 0; how < 4; how++) {
        struct onnx *m = NULL;
        struct share *s = NULL;
        struct err e = {0};
        copy_file(golden("small", "form_external.onnx"), model);
        copy_file(golden("small", "form_external.bin"), data);
        assert_true(onnx_open(model, &m, &e));
        if (how % 2)
            assert_true(share_find(&m, 1, 0, &s, &e));
        int fd = open(data, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        if (how < 2)
            assert_int_equal(ftruncate(fd, 0), 0);
        else
            assert_int_equal(write(fd, "changed", 7), 7);
        assert_int_equal(futimens(fd, (struct timespec[2]){{.tv_sec = 1}, {.tv_sec = 1}}), 0);
        close(fd);
        assert_false(s ? share_write(s, 0, folder, &e) : share_find(&m, 1, 0, &s, &e));
        assert_int_equal(e.code, ERR_IO);
        assert_non_null(strstr(e.text, how == 2 || how == 3 ? "was changed" : "was cut short"));
        assert_non_null(strstr(e.text, "form_external.bin"));
        share_free(s);
        onnx_close(m);
    }
    assert_true(file_remove_tree(folder, NULL));
}

/* Every file cut at every length is refused or read, without a crash. */
static void survives_being_cut(void **state)
{
    (void)state;
    char folder[] = "/tmp/s2m3-onnx-XXXXXX", path[64], data[8192];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/m.onnx", folder);
    FILE *in = fopen(golden("small", "nested_function.onnx"), "rb");
    assert_non_null(in);
    size_t size = fread(data, 1, sizeof(data), in);
    fclose(in);
    for (size_t n = 0; n < size; n++) {
        FILE *out = fopen(path, "wb");
        assert_non_null(out);
        fwrite(data, 1, n, out);
        fclose(out);
        struct onnx *m = NULL;
        struct err e;
        if (onnx_open(path, &m, &e))
            onnx_close(m);
    }
    unlink(path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_its_ports),
        cmocka_unit_test(counts_work),
        cmocka_unit_test(weighs_each_content_once),
        cmocka_unit_test(refuses_what_is_broken),
        cmocka_unit_test(external_data_must_be_a_file_of_its_own),
        cmocka_unit_test(says_that_a_file_changed_under_it),
        cmocka_unit_test(survives_being_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
