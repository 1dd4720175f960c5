/* test_prepare.c - the cache of prepared modules: same bits, made once, never believed blindly. */
#include "lib/cmocka.h"

#include "base/file.h"
#include "exec/prepare.h"
#include "lib/temp.h"
#include "libmodel.h"
#include "librunner.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WIDTH 96
#define ROWS 5

static const char *dir;

static char *path_of(const char *name)
{
    static char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

/* Runs the net in a fresh exec; the bits of its output, and what the status said. */
static struct tensor net_output(enum exec_kind kind, const char *prepared)
{
    struct exec_options o = runner_options(dir);
    struct exec *x = NULL;
    struct exec_module *m = NULL;
    struct tensor out = {0};
    struct err e = {0};
    int64_t dims[2] = {ROWS, WIDTH};
    struct named_tensor in = runner_input("x", 2, dims, -200);
    o.prepared_dir = prepared;
    if (!exec_create(kind, &o, &x, &e) ||
        !exec_load(x, path_of("net"), model_digest('b'), &m, &e) ||
        !exec_run(m, &in, 1, NULL, &out, &e))
        fail_msg("%s", e.text);
    tensor_clear(&in.tensor);
    exec_unload(m);
    exec_destroy(x);
    return out;
}

/* The one entry below prepared/KIND; false: none, or more. */
static bool entry(const char *prepared, char *ret, size_t size)
{
    int found = 0;
    DIR *d = opendir(prepared);
    assert_non_null(d);
    for (const struct dirent *i = readdir(d); i; i = readdir(d))
        if (i->d_name[0] != '.' && strcmp(i->d_name, "lock") != 0) {
            (void)snprintf(ret, size, "%s/%s", prepared, i->d_name);
            found++;
        }
    (void)closedir(d);
    return found == 1;
}

static uint64_t changed_at(const char *folder, const char *name)
{
    char path[9000];
    struct stat st;
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (stat(path, &st) != 0)
        fail_msg("%s is not there", path);
    return (uint64_t)st.st_ino;
}

static void the_bits_are_the_same(void **state)
{
    enum exec_kind kind = *(const enum exec_kind *)*state;
    char prepared[4096], folder[8192];
    (void)snprintf(prepared, sizeof(prepared), "%s/prepared-%s", dir, exec_kind_name(kind));
    struct tensor plain = net_output(kind, NULL);
    struct tensor making = net_output(kind, prepared);
    assert_true(entry(prepared, folder, sizeof(folder)));
    uint64_t made = changed_at(folder, "module.bin");
    struct tensor later = net_output(kind, prepared);
    assert_int_equal(changed_at(folder, "module.bin"), made); /* not made again */
    assert_true(tensor_equal(&plain, &making));
    assert_true(tensor_equal(&plain, &later));
    assert_true(((float *)plain.data)[0] != 0);
    tensor_clear(&plain);
    tensor_clear(&making);
    tensor_clear(&later);
}

static void flip_byte(const char *folder, const char *name)
{
    char path[9000];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(chmod(path, 0600), 0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    char byte;
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, 100), 1);
    byte = (char)(byte ^ 0x40);
    assert_int_equal(pwrite(fd, &byte, 1, 100), 1);
    (void)close(fd);
}

static void write_foreign(const char *folder)
{
    char path[9000];
    (void)snprintf(path, sizeof(path), "%s/extra", folder);
    assert_true(file_write_atomic(path, "x", 1, 0600, NULL));
}

static void open_to_others(const char *folder)
{
    assert_int_equal(chmod(folder, 0777), 0);
}

static void flip_constants(const char *folder)
{
    flip_byte(folder, "module.bin");
}

static void flip_note(const char *folder)
{
    flip_byte(folder, "prepared.json");
}

static void hard_link(const char *folder)
{
    char from[9000];
    (void)snprintf(from, sizeof(from), "%s/module.bin", folder);
    assert_int_equal(link(from, path_of("another-name")), 0);
}

static void no_longer_believed_after(void (*harm)(const char *folder))
{
    char prepared[4096], folder[8192];
    (void)snprintf(prepared, sizeof(prepared), "%s/prepared-harm", dir);
    struct tensor first = net_output(EXEC_LOCAL, prepared);
    assert_true(entry(prepared, folder, sizeof(folder)));
    uint64_t made = changed_at(folder, "module.bin");
    harm(folder);
    struct tensor second = net_output(EXEC_LOCAL, prepared);
    assert_true(tensor_equal(&first, &second));
    assert_true(entry(prepared, folder, sizeof(folder)));
    assert_true(changed_at(folder, "module.bin") != made); /* made again */
    tensor_clear(&first);
    tensor_clear(&second);
}

static void what_was_touched_is_made_again(void **state)
{
    (void)state;
    no_longer_believed_after(flip_constants);
    no_longer_believed_after(flip_note);
    no_longer_believed_after(write_foreign);
    no_longer_believed_after(open_to_others);
    no_longer_believed_after(hard_link);
}

/* ---- the cache alone ------------------------------------------------------------------------- */

struct maker {
    int calls;
    enum err_code fails;
};

static bool make(void *arg, const char *to, uint64_t *peak, struct err *e)
{
    struct maker *m = arg;
    char path[9000];
    (void)peak;
    m->calls++;
    (void)snprintf(path, sizeof(path), "%s/module.onnx", to);
    assert_true(file_write_atomic(path, "model", 5, 0600, NULL));
    return m->fails == ERR_NONE || err_set(e, m->fails, "planted");
}

static bool take(const char *name, const char *version, struct maker *m)
{
    struct prepared p;
    prepared_take(path_of(name), version, model_digest('c'), false, make, m, &p);
    bool there = p.folder != NULL;
    free(p.folder);
    return there;
}

static void the_runtimes_version_is_part_of_the_key(void **state)
{
    (void)state;
    struct maker m = {0};
    char one[17], other[17];
    assert_true(take("versions", "1.32.0", &m));
    assert_true(take("versions", "1.32.0", &m));
    assert_int_equal(m.calls, 1);
    assert_true(take("versions", "1.33.0", &m));
    assert_int_equal(m.calls, 2);
    prepared_key("1.32.0", one);
    prepared_key("1.33.0", other);
    assert_string_not_equal(one, other);
    assert_int_equal(strlen(one), 16);
}

static void a_refusal_lasts_and_a_lack_does_not(void **state)
{
    (void)state;
    struct maker refused = {.fails = ERR_UNSUPPORTED}, lacking = {.fails = ERR_MEMORY};
    assert_false(take("refused", "1", &refused));
    assert_false(take("refused", "1", &refused));
    assert_int_equal(refused.calls, 1);
    assert_false(take("lacking", "1", &lacking));
    assert_false(take("lacking", "1", &lacking));
    assert_int_equal(lacking.calls, 2);
    lacking.fails = ERR_NONE;
    assert_true(take("lacking", "1", &lacking));
}

static void leftovers_are_removed(void **state)
{
    (void)state;
    struct maker m = {0};
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s", path_of("leftovers/tmp.abcdef"));
    assert_true(file_make_dirs(path, NULL));
    assert_true(take("leftovers", "1", &m));
    assert_false(file_exists(path));
}

int main(int argc, char **argv)
{
    static enum exec_kind local = EXEC_LOCAL, runner = EXEC_RUNNER;
    int code = runner_dispatch(argc, argv);
    if (code >= 0)
        return code;
    dir = temp_make();
    model_write_net(path_of("net"), WIDTH);
    const struct CMUnitTest tests[] = {
        {"the_bits_are_the_same (local)", the_bits_are_the_same, NULL, NULL, &local},
        {"the_bits_are_the_same (runner)", the_bits_are_the_same, NULL, NULL, &runner},
        cmocka_unit_test(what_was_touched_is_made_again),
        cmocka_unit_test(the_runtimes_version_is_part_of_the_key),
        cmocka_unit_test(a_refusal_lasts_and_a_lack_does_not),
        cmocka_unit_test(leftovers_are_removed),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_remove();
    return failed;
}
