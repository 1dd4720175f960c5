#include "libtask.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct digest test_digest(char hex)
{
    struct digest d;
    memset(d.hex, hex, DIGEST_HEX);
    d.hex[DIGEST_HEX] = 0;
    return d;
}

char *test_text(const char *text)
{
    char *to = calloc(1, strlen(text) * 33 + 1), *at = to;
    assert_non_null(to);
    for (; *text; text++) {
        if (*text == '@' && isupper((unsigned char)text[1])) {
            memset(at, tolower((unsigned char)*++text), DIGEST_HEX);
            at += DIGEST_HEX;
        } else {
            *at++ = *text == '\'' ? '"' : *text;
        }
    }
    return to;
}

json_t *test_json(const char *text)
{
    struct err e;
    char *filled = test_text(text);
    json_t *o = json_parse("test", filled, strlen(filled), &e);
    if (!o)
        fail_msg("%s in %s", e.text, filled);
    free(filled);
    return o;
}

struct program *test_program(const char *text)
{
    struct err e;
    json_t *o = test_json(text);
    struct program *p = program_from_json(o, &e);
    if (!p)
        fail_msg("%s", e.text);
    json_decref(o);
    return p;
}
