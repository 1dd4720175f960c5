/* Files: bounds, atomic writes, trees that are removed without following links. */
#include "base/file.h"
#include "lib/cmocka.h"
#include "lib/temp.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void whole_files(void **state)
{
    (void)state;
    struct err e;
    char *path = text_format("%s/f", temp_make()), *data;
    size_t size;
    assert_false(file_read(path, 10, &data, &size, &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_true(file_write_atomic(path, "hello", 5, 0640, &e));
    assert_true(file_write_atomic(path, "other", 5, 0640, &e)); /* over what is there */
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_true(file_read(path, 5, &data, &size, &e));
    assert_string_equal(data, "other");
    free(data);
    assert_false(file_read(path, 4, &data, &size, &e));
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_false(file_read("/dev/zero", 4, &data, &size, &e));
    assert_int_equal(e.code, ERR_INVALID);
    free(path);
    temp_remove();
}

static void trees(void **state)
{
    (void)state;
    struct err e;
    const char *root = temp_make();
    char *deep = text_format("%s/a/b/c", root), *keep = text_format("%s/keep", root);
    char *link = text_format("%s/a/link", root), *top = text_format("%s/a", root);
    assert_true(file_make_dirs(deep, &e));
    assert_true(file_make_dirs(deep, &e)); /* again: fine */
    assert_true(file_make_dirs(keep, &e));
    assert_int_equal(symlink(keep, link), 0);
    assert_true(file_remove_tree(top, &e));
    assert_false(file_exists(top));
    assert_true(file_exists(keep)); /* the link went, not what it pointed to */
    assert_true(file_remove_tree(top, &e));
    free(deep);
    free(keep);
    free(link);
    free(top);
    temp_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole_files), cmocka_unit_test(trees)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
