/* prepare.h - media to a module's input tensors, with processors kept by the digest of their file.
 *
 * Threads: any; a processor is made once and then shared. */
#pragma once
#include "task/program.h"

struct prepare;
struct tokenizer;

/* side_file: gives the content of a blob (free()).  max: processors kept; the least recently used
 * go first. */
struct prepare *prepare_new(int max,
                            bool (*side_file)(void *ctx, const char *digest, char **ret,
                                              size_t *size, struct err *e),
                            void *ctx);
void prepare_free(struct prepare *p); /* accepts NULL; nobody may be inside */

/* kind: "image", "audio", "text".  Appends at most room tensors to out; *made says how many. */
bool prepare_run(struct prepare *p, const char *kind, const char *config, const void *data,
                 size_t size, struct named_tensor *out, int room, int *made, struct err *e);

/* Ids to text with the tokenizer of that file, special tokens left out; free(). */
bool prepare_decode(struct prepare *p, const char *config, const int64_t *ids, size_t count,
                    char **ret, struct err *e);
