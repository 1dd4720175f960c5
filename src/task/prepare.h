/* prepare.h - media to a module's input tensors, with processors kept by the digest of their file.
 *
 * Threads: any; a processor is made once and then shared. */
#pragma once
#include "task/program.h"

#define PREPARE_PORTS_MAX 256 /* of a module; beyond, inputs go by their names alone */

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

/* Which port takes a processor's first tensor when none has its name: the only one of its type and
 * rank that is not taken; -1: there is none, or several.  taken: one per port. */
int prepare_port(const struct port *ports, int port_count, const bool *taken, enum dtype dtype,
                 int rank);

/* Makes a module's inputs of what came: a first tensor whose port has another name gets that name
 * (prepare_port()), and what the module has no port for is dropped (a mask that it ignores).
 * first: indices in inputs of what prepare_run() gave first.  Returns how many are left. */
int prepare_match(const struct port *ports, int port_count, const int *first, int first_count,
                  struct named_tensor *inputs, int count);

/* Ids to text with the tokenizer of that file, special tokens left out; free(). */
bool prepare_decode(struct prepare *p, const char *config, const int64_t *ids, size_t count,
                    char **ret, struct err *e);
