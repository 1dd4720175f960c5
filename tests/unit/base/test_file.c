/* Files: bounds, atomic writes, trees that are removed without following links. */
#include "base/digest.h"
#include "base/file.h"
#include "base/json.h"
#include "lib/cmocka.h"
#include "lib/temp.h"

#include <fcntl.h>
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

static void what_reads_files(void **state)
{
    (void)state;
    struct err e;
    struct digest d;
    char *path = text_format("%s/f.json", temp_make());
    char *big = calloc(1, 3 << 20); /* more than one read of digest_of_fd() */
    assert_non_null(big);
    memset(big, ' ', 3 << 20);
    big[0] = '[';
    big[(3 << 20) - 1] = ']';
    assert_true(file_write_atomic(path, big, 3 << 20, 0600, &e));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(lseek(fd, 7, SEEK_SET), 7); /* its place does not matter, and stays */
    assert_true(digest_of_fd(fd, &d, &e));
    assert_string_equal(d.hex, digest_of(big, 3 << 20).hex);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 7);
    close(fd);
    assert_false(digest_of_fd(fd, &d, &e));
    json_t *o = json_parse_file(path, 3 << 20, &e);
    assert_true(json_is_array(o));
    json_decref(o);
    assert_null(json_parse_file(path, (3 << 20) - 1, &e));
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_true(file_write_atomic(path, "[1", 2, 0600, &e));
    assert_null(json_parse_file(path, 100, &e));
    assert_int_equal(e.code, ERR_INVALID);
    assert_non_null(strstr(e.text, path)); /* says which file */
    free(big);
    free(path);
    temp_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole_files), cmocka_unit_test(trees),
                                       cmocka_unit_test(what_reads_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
