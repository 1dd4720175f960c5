/* Mapped files that others cut short or change: zeros and an error, never the end of the process. */
#include "base/file.h"
#include "base/mapping.h"
#include "lib/cmocka.h"
#include "lib/temp.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 5u

static size_t page;

/* A file of PAGES pages of ones. */
static int make_file(void)
{
    char *path = text_format("%s/f", temp_make()), *ones = malloc(PAGES * page);
    assert_non_null(path);
    assert_non_null(ones);
    memset(ones, 1, PAGES * page);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, ones, PAGES * page), PAGES * page);
    free(ones);
    free(path);
    return fd;
}

static uint64_t sum(const struct mapping *m)
{
    uint64_t n = 0;
    for (size_t i = 0; i < m->size; i++)
        n += ((const volatile uint8_t *)m->data)[i];
    return n;
}

static void is_whole_while_nothing_happens(void **state)
{
    (void)state;
    struct mapping m, none = {0};
    struct err e;
    int fd = make_file();
    assert_true(mapping_open(fd, "f", &m, &e));
    close(fd); /* the mapping stays */
    assert_int_equal(sum(&m), PAGES * page);
    assert_true(mapping_check(&m, "f", &e));
    assert_true(mapping_check(&none, "f", &e));
    mapping_close(&m);
    mapping_close(&none);
    temp_remove();
}

static void reads_zeros_where_a_file_was_cut(void **state)
{
    (void)state;
    struct mapping m, other;
    struct err e;
    int fd = make_file();
    assert_true(mapping_open(fd, "f", &m, &e));
    assert_true(mapping_open(fd, "f", &other, &e));
    assert_int_equal(ftruncate(fd, (off_t)(3 * page)), 0);
    assert_int_equal(sum(&m), 3 * page);
    assert_int_equal(ftruncate(fd, (off_t)page), 0); /* and again */
    assert_int_equal(sum(&m), page);
    assert_false(mapping_check(&m, "f", &e));
    assert_int_equal(e.code, ERR_IO);
    assert_non_null(strstr(e.text, "f: was cut short"));
    mapping_close(&m);
    assert_int_equal(sum(&other), page);
    assert_false(mapping_check(&other, "f", &e));
    mapping_close(&other);
    assert_true(mapping_open(fd, "f", &m, &e)); /* as it is now */
    assert_int_equal(sum(&m), page);
    assert_true(mapping_check(&m, "f", &e));
    mapping_close(&m);
    close(fd);
    temp_remove();
}

static void says_that_a_file_was_changed(void **state)
{
    (void)state;
    struct mapping m;
    struct err e;
    int fd = make_file();
    assert_true(mapping_open(fd, "f", &m, &e));
    assert_int_equal(pwrite(fd, "x", 1, 0), 1);
    /* a clock of files may be coarse: later in any case */
    assert_int_equal(futimens(fd, (struct timespec[2]){{.tv_sec = 1}, {.tv_sec = 1}}), 0);
    assert_false(mapping_check(&m, "f", &e));
    assert_non_null(strstr(e.text, "f: was changed"));
    mapping_close(&m);
    close(fd);
    temp_remove();
}

static unsigned open_files(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void watches_a_bounded_number(void **state)
{
    (void)state;
    static struct mapping all[MAPPINGS_WATCHED + 10];
    struct err e;
    int fd = make_file();
    unsigned opened = open_files();
    for (size_t i = 0; i < MAPPINGS_WATCHED + 10; i++)
        assert_true(mapping_open(fd, "f", &all[i], &e));
    assert_int_equal(open_files(), opened + MAPPINGS_WATCHED);
    assert_int_equal(ftruncate(fd, (off_t)page), 0);
    for (size_t i = 0; i < MAPPINGS_WATCHED + 10; i++) {
        assert_int_equal(sum(&all[i]), page);
        assert_false(mapping_check(&all[i], "f", &e));
        mapping_close(&all[i]);
    }
    assert_int_equal(open_files(), opened);
    close(fd);
    temp_remove();
}

/* What has nothing to do with our mappings ends a process as ever. */
static void other_faults_stay_faults(void **state)
{
    (void)state;
    struct mapping m;
    int fd = make_file();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)signal(SIGBUS, SIG_DFL);
        if (!mapping_open(fd, "f", &m, NULL))
            _exit(0);
        (void)raise(SIGBUS);
        (void)raise(SIGBUS);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    close(fd);
    temp_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_whole_while_nothing_happens),
        cmocka_unit_test(reads_zeros_where_a_file_was_cut),
        cmocka_unit_test(says_that_a_file_was_changed),
        cmocka_unit_test(watches_a_bounded_number),
        cmocka_unit_test(other_faults_stay_faults),
    };
    page = (size_t)sysconf(_SC_PAGESIZE);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
