/* given.h - a model as it was given to `add`: its files in the store, read for cutting.
 *
 * Threads: one at a time. */
#pragma once
#include "coord/cut.h"
#include "coord/internal.h"

#define GIVEN_FILES_MAX 64

struct given {
    char name[WIRE_NAME_MAX];
    struct cut_source source;
    json_t *files;                /* [{"path","digest"}], owned */
    char *texts[GIVEN_FILES_MAX]; /* of side files, owned */
    int text_count;
};

/* files: [{"path","digest"}], as in a manifest; all of them uploaded.  Errors name the file. */
bool given_read(struct coord *c, const char *name, json_t *files, struct given **ret,
                struct err *e);
/* Whether a file of that path is a graph. */
bool given_is_graph(const char *path);
void given_free(struct given *g); /* NULL is fine */
