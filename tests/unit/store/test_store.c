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
        cmocka_unit_test(wrong_bytes_never_appear),
        cmocka_unit_test(sweep_keeps_what_is_wanted_or_young),
        cmocka_unit_test(folders_of_modules_are_swept),
        cmocka_unit_test(rows_outlive_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
