/* request.h - what a client asks, in the forms of the Hugging Face inference API.
 *
 *   raw body with Content-Type image/... or audio/...: that one input; text/plain: a text
 *   {"inputs": X, "parameters": {...}} as application/json
 *     X = "base64" or "data:...;base64,..."      the one input of an image or audio task
 *     X = "text"                                 the one input of a text task
 *     X = {"image":…, "audio":…, "text":…, "question":…, "query":…, "images":[…]}
 *   parameters: candidate_labels (a list, or one text with commas), hypothesis_template, top_k,
 *     max_new_tokens (also within generate_kwargs or generation_parameters); others have no effect
 *   no Content-Type, application/octet-stream or application/x-www-form-urlencoded (what curl
 *     says by itself): JSON if it begins like an object, else media told by its first bytes
 *
 * URLs are never fetched.  Limits: below; everything is checked before the program is followed.
 * Ownership: a request owns its media. */
#pragma once
#include "task/program.h"

#define REQUEST_CANDIDATES_MAX 1000
#define REQUEST_TEXT_MAX (64u << 10)         /* bytes of one text */
#define REQUEST_MEDIA_MAX ((size_t)64 << 20) /* bytes of one picture or sound */
#define REQUEST_BODY_MAX ((size_t)128 << 20)

struct candidate {
    char *label;       /* for people: the label, or NULL for a picture */
    struct mem *media; /* text with the template filled in, or a picture */
};

struct request {
    struct mem *media[MEDIA_KINDS]; /* the query's, NULL where there is none */
    struct candidate *candidates;
    int candidate_count;
    int top_k;          /* 0: all */
    int max_new_tokens; /* 0: the model's own */
    char *hypothesis;   /* template given by the client, or NULL */
    bool lone;          /* "inputs" was one string: a text, or a medium in base64 */
};

/* Reads a body, borrowed.  type: Content-Type, may be NULL.  On failure *ret is empty. */
bool request_read(const char *type, const void *body, size_t size, struct request *ret,
                  struct err *e);
void request_clear(struct request *r);

/* Which of a model's programs answers: the one of that task whose media the request has.  task
 * NULL: the first whose media fit.  A single string counts as what it begins like: a picture or a
 * sound in base64 first, then a text, then base64 of whatever the program reads.  -1 with e set: ERR_NOT_FOUND when the model does not serve
 * that task (the text names those it does), ERR_INVALID when media are missing. */
int request_choose(struct program *const *programs, int count, const char *task,
                   const struct request *r, struct err *e);

/* Fills in what the program decides: the texts of labels through the template.  Then each media
 * input of the program has its bytes in the request. */
bool request_fit(struct request *r, const struct program *p, struct err *e);

/* Bytes for a call's media input; borrowed. */
struct mem *request_media(const struct request *r, const struct program_call *c, enum media_kind k,
                          int item);

/* Adds an input, copied.  A candidate with a label is a text (data NULL: made of the label by
 * request_fit()), one without a picture. */
bool request_set(struct request *r, enum media_kind k, const void *data, size_t size,
                 struct err *e);
bool request_add_candidate(struct request *r, const char *label, const void *data, size_t size,
                           struct err *e);
