/* Blobs by digest (resumed, verified) and the coordinator's rows (kept over a restart). */
#include "base/file.h"
#include "lib/cmocka.h"
#include "lib/temp.h"
#include "store/blobs.h"
#include "store/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void a_transfer_goes_on_after_a_break(void **state)
{
    (void)state;
    struct err e;
    struct blobs *b;
    struct blob_transfer *t;
    uint64_t have;
    assert_true(blobs_open(temp_make(), &b, &e));
    struct digest d = digest_of("hello world", 11);
    assert_true(blobs_begin(b, d.hex, &t, &have, &e));
    assert_int_equal(have, 0);
    struct blob_transfer *second;
    assert_false(blobs_begin(b, d.hex, &second, &have, &e));
    assert_int_equal(e.code, ERR_BUSY);
    assert_true(blob_append(t, "hello ", 6, &e));
    blob_abandon(t);
    assert_false(blobs_has(b, d.hex));
    assert_true(blobs_begin(b, d.hex, &t, &have, &e));
    assert_int_equal(have, 6);
    assert_true(blob_append(t, "world", 5, &e));
    assert_true(blob_commit(t, &e));
    assert_true(blobs_has(b, d.hex));
    char *data, *folder;
    size_t size;
    assert_true(blobs_load(b, d.hex, 100, &data, &size, &e));
    assert_int_equal(size, 11);
    assert_memory_equal(data, "hello world", 11);
    free(data);
    assert_false(blobs_load(b, d.hex, 10, &data, &size, &e));
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_true(blobs_module_folder(b, d.hex, &folder, &e));
    char *file = text_format("%s/module.onnx", folder);
    struct stat st;
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_nlink, 2); /* one copy on disk */
    free(file);
    free(folder);
    blobs_module_remove(b, d.hex);
    blobs_close(b);
    temp_remove();
}

static bool write_two(void *ctx, const char *folder, struct err *e)
{
    const char *weights = ctx;
    char *graph = text_format("%s/module.onnx", folder),
         *data = text_format("%s/weights.bin", folder);
    bool ok = file_write_atomic(graph, "graph", 5, 0600, e) &&
              (!weights || file_write_atomic(data, weights, strlen(weights), 0600, e));
    free(graph);
    free(data);
    return ok;
}

static void expect_file(const char *folder, const char *name, const char *start, nlink_t links)
{
    struct err e;
    struct stat st;
    char *data, *path = text_format("%s/%s", folder, name);
    size_t size;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_nlink, links);
    assert_true(file_read(path, 1000, &data, &size, &e));
    assert_memory_equal(data, start, strlen(start));
    free(data);
    free(path);
}

/* Graph and weights are one blob, and nothing of the weights is copied when it is opened. */
static void a_module_of_two_files_is_one_blob(void **state)
{
    (void)state;
    struct err e;
    struct blobs *b;
    struct digest two, one;
    char *folder, *weights = strdup("the weights");
    assert_true(blobs_open(temp_make(), &b, &e));
    assert_true(blobs_write_module(b, write_two, weights, &two, &e));
    assert_true(blobs_module_folder(b, two.hex, &folder, &e));
    expect_file(folder, "module.onnx", "graph", 1);
    expect_file(folder, "weights.bin", "the weightsgraphS2M3BNDL", 2);
    free(folder);
    assert_true(blobs_write_module(b, write_two, NULL, &one, &e));
    assert_string_equal(one.hex, digest_of("graph", 5).hex);
    assert_true(blobs_module_folder(b, one.hex, &folder, &e));
    expect_file(folder, "module.onnx", "graph", 2);
    free(folder);
    blobs_drop(b, two.hex);
    assert_false(blobs_has(b, two.hex));
    free(weights);
    blobs_close(b);
    temp_remove();
}

/* A footer from outside says anything. */
static void a_broken_bundle_is_refused(void **state)
{
    (void)state;
    struct err e;
    struct blobs *b;
    assert_true(blobs_open(temp_make(), &b, &e));
    static const uint64_t wrong[][2] = {{0, 0},  {0, 9},           {4, 5},
                                        {11, 0}, {UINT64_MAX, 11}, {0, UINT64_MAX}};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        char bytes[10 + 32] = "0123456789S2M3BNDL", *folder;
        struct digest d;
        memcpy(bytes + 18, &wrong[i][0], 8);
        memcpy(bytes + 26, &wrong[i][1], 8);
        memset(bytes + 34, 0, 8);
        assert_true(blobs_put(b, bytes, sizeof(bytes), &d, &e));
        assert_false(blobs_module_folder(b, d.hex, &folder, &e));
        assert_int_equal(e.code, ERR_INVALID);
    }
    blobs_close(b);
    temp_remove();
}

static void wrong_bytes_never_appear(void **state)
{
    (void)state;
    struct err e;
    struct blobs *b;
    struct blob_transfer *t;
    uint64_t have;
    assert_true(blobs_open(temp_make(), &b, &e));
    struct digest d = digest_of("good", 4);
    assert_true(blobs_begin(b, d.hex, &t, &have, &e));
    assert_true(blob_append(t, "evil", 4, &e));
    assert_false(blob_commit(t, &e));
    assert_int_equal(e.code, ERR_INVALID);
    assert_false(blobs_has(b, d.hex));
    assert_true(blobs_begin(b, d.hex, &t, &have, &e));
    assert_int_equal(have, 0); /* the wrong bytes are gone */
    blob_abandon(t);
    assert_false(blobs_begin(b, "../../etc/passwd", &t, &have, &e));
    assert_int_equal(e.code, ERR_INVALID);
    blobs_close(b);
    temp_remove();
}

/* What a sweep here keeps: one digest, and all that is younger than so many seconds. */
struct kept {
    const char *digest;
    int64_t seconds;
};

static bool keep(void *ctx, const char *digest, int64_t age_s)
{
    const struct kept *k = ctx;
    return strcmp(k->digest, digest) == 0 || age_s < k->seconds;
}

static void sweep_keeps_what_is_wanted_or_young(void **state)
{
    (void)state;
    struct err e;
    struct blobs *b;
    struct blob_transfer *t;
    struct digest a, c, d, young = digest_of("young", 5);
    uint64_t have;
    assert_true(blobs_open(temp_make(), &b, &e));
    assert_true(blobs_put(b, "a", 1, &a, &e));
    assert_true(blobs_put(b, "c", 1, &c, &e));
    assert_true(blobs_put(b, "d", 1, &d, &e));
    assert_true(blobs_begin(b, young.hex, &t, &have, &e));
    blob_abandon(t);
    struct kept k = {a.hex, 60};
    assert_int_equal(blobs_sweep(b, keep, &k), 0);
    blobs_touch(b, a.hex, false);
    blobs_touch(b, c.hex, false);
    blobs_touch(b, d.hex, false);
    blobs_touch(b, d.hex, true);
    assert_int_equal(blobs_sweep(b, keep, &k), 1);
    assert_true(blobs_has(b, a.hex) && blobs_has(b, d.hex));
    assert_false(blobs_has(b, c.hex));
    k.seconds = -3600; /* nothing is that young */
    assert_int_equal(blobs_sweep(b, keep, &k), 2);
    assert_true(blobs_has(b, a.hex));
    blobs_close(b);
    temp_remove();
}

static void folders_of_modules_are_swept(void **state)
{
    (void)state;
    struct err e;
    struct blobs *b;
    struct digest a, c;
    char *folder;
    assert_true(blobs_open(temp_make(), &b, &e));
    assert_true(blobs_put(b, "a", 1, &a, &e));
    assert_true(blobs_put(b, "c", 1, &c, &e));
    const char *digests[] = {a.hex, c.hex};
    for (int i = 0; i < 2; i++) {
        assert_true(blobs_module_folder(b, digests[i], &folder, &e));
        free(folder);
        folder = text_format("%s/prepared/%s-0123", blobs_dir(b), digests[i]);
        assert_true(file_make_dirs(folder, &e));
        free(folder);
    }
    char *lock = text_format("%s/prepared/lock", blobs_dir(b));
    assert_true(file_write_atomic(lock, "", 0, 0600, &e));
    struct kept k = {a.hex, -3600};
    assert_int_equal(blobs_sweep_modules(b, keep, &k), 2);
    assert_int_equal(blobs_sweep_modules(b, keep, &k), 0);
    assert_true(file_exists(lock) && blobs_has(b, c.hex));
    free(lock);
    blobs_close(b);
    temp_remove();
}

static void rows_outlive_the_process(void **state)
{
    (void)state;
    struct err e;
    struct state *s;
    json_t *v, *all;
    char *path = text_format("%s/state.db", temp_make());
    assert_true(state_open(path, &s, &e));
    v = json_pack("{s:i}", "n", 1);
    assert_true(state_put(s, STATE_MODEL, "m", v, &e));
    json_decref(v);
    assert_true(state_begin(s, &e));
    v = json_pack("{s:i}", "n", 2);
    assert_true(state_put(s, STATE_MODEL, "m", v, &e));
    assert_true(state_put(s, STATE_MODEL, "other", v, &e));
    json_decref(v);
    assert_true(state_end(s, false, &e)); /* rolled back */
    state_close(s);

    assert_true(state_open(path, &s, &e));
    assert_true(state_list(s, STATE_MODEL, &all, &e));
    assert_int_equal(json_object_size(all), 1);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(all, "m"), "n")), 1);
    json_decref(all);
    assert_true(state_get(s, STATE_DEVICE, "m", &v, &e));
    assert_null(v); /* kinds are apart */
    assert_true(state_remove(s, STATE_MODEL, "m", &e));
    assert_true(state_get(s, STATE_MODEL, "m", &v, &e));
    assert_null(v);
    state_close(s);
    free(path);
    temp_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_transfer_goes_on_after_a_break),
        cmocka_unit_test(a_module_of_two_files_is_one_blob),
        cmocka_unit_test(a_broken_bundle_is_refused),
        cmocka_unit_test(wrong_bytes_never_appear),
        cmocka_unit_test(sweep_keeps_what_is_wanted_or_young),
        cmocka_unit_test(folders_of_modules_are_swept),
        cmocka_unit_test(rows_outlive_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
