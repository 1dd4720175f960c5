/* libtask.h - what the tests of programs, requests and models share. */
#pragma once
#include "lib/cmocka.h"
#include "task/program.h"

/* A digest of 64 times one hex digit. */
struct digest test_digest(char hex);

/* The parsed text; ' stands for ". */
json_t *test_json(const char *text);

/* A program that must be right; ' stands for ", @A stands for a digest of a's, and so on. */
struct program *test_program(const char *text);

/* The texts with ' and @ filled in; free(). */
char *test_text(const char *text);

#define assert_err(e, wanted_code, part)                                                           \
    do {                                                                                           \
        if ((e).code != (wanted_code) || !strstr((e).text, (part)))                                \
            fail_msg("error is '%s' (%s), should hold '%s' (%s)", (e).text, err_name((e).code),    \
                     (part), err_name(wanted_code));                                               \
    } while (0)
