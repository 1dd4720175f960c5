/* program.h - how one model answers one task, as data.
 *
 * A program is a small graph of calls.  A call's inputs come from the request's media (turned into
 * tensors by a processor on the device that runs the call) or from an output of an earlier call.  A
 * call marked `each` stands for one call per candidate of the request (a label's text, a picture to
 * be ranked); it has the batch size 1 each time, so its bits never depend on its neighbours.  One
 * that takes from another such call takes what that made of the same candidate.
 *
 * What program_from_json() holds to, so that nobody after it needs to look again: calls take from
 * earlier calls only, and from none that generates; what is made for each candidate goes only to
 * such calls, and they take nothing else but one text or picture (no sound); a call reads each kind
 * of media once; indices, names, digests and counts are within their bounds.
 *
 * Nothing here knows a model: task/model.h works programs out of a model's files.
 * Immutable once made; any thread.  Programs travel as JSON in the routing table and are checked
 * as input from outside when read. */
#pragma once
#include "base/digest.h"
#include "base/json.h"
#include "tensor/tensor.h"
#include "wire/limits.h"

#define PROGRAM_CALLS_MAX 32
#define PROGRAM_INPUTS_MAX 16
#define PROGRAM_LABELS_MAX 100000
#define PROGRAM_TEMPLATE_MAX 512    /* bytes of a hypothesis template, with the 0 */
#define PROGRAM_START_MAX 256       /* tokens that a generation starts with */
#define PROGRAM_NEW_TOKENS_MAX 3840 /* tokens that a generation may add */
#define PROGRAM_STOPS_MAX 64        /* tokens that end a generation */

enum media_kind { MEDIA_IMAGE, MEDIA_AUDIO, MEDIA_TEXT, MEDIA_KINDS };
const char *media_kind_name(enum media_kind k); /* "image", "audio", "text" */
bool media_kind_from_name(const char *name, enum media_kind *ret);

struct program_input {
    bool media;                   /* from the request; else from a call */
    enum media_kind kind;         /* media: which, and */
    struct digest config;         /* the processor's file */
    int call;                     /* else: index of the earlier call, */
    char output[TENSOR_NAME_MAX]; /* its output, */
    char port[TENSOR_NAME_MAX];   /* and this call's port for it */
    uint64_t bytes;               /* estimate of that output's size; 0: not known */
};

struct program_call {
    char id[WIRE_ID_MAX]; /* unique in the program */
    struct digest module;
    bool each;     /* once per candidate */
    bool generate; /* the decode loop rather than one run */
    struct program_input inputs[PROGRAM_INPUTS_MAX];
    int input_count;
};

enum answer_kind {
    ANSWER_SIMILARITY, /* query against each candidate: softmax of scaled cosines, or a ranking */
    ANSWER_LABELS,     /* softmax of logits (or a sigmoid of each), named by labels */
    ANSWER_TEXT,       /* of a generation */
    ANSWER_VECTOR,     /* an embedding */
};

struct program_answer {
    enum answer_kind kind;
    int call; /* whose output is the answer; similarity: the query's */
    char output[TENSOR_NAME_MAX];
    int other; /* similarity: the candidates' call */
    char other_output[TENSOR_NAME_MAX];
    double scale;     /* similarity: factor of the cosine before the softmax */
    bool rank;        /* similarity: a ranking of cosines, no softmax */
    bool independent; /* labels: several may be true, so a sigmoid of each logit */
};

struct program {
    char task[WIRE_NAME_MAX];
    struct program_call calls[PROGRAM_CALLS_MAX];
    int call_count;
    struct program_answer answer;
    char hypothesis
        [PROGRAM_TEMPLATE_MAX]; /* "a photo of a {}." for labels; empty: labels as they are */
    char **labels; /* ANSWER_LABELS: by class index, owned; may be fewer than classes */
    int label_count;
    json_t *generation; /* settings of the decode loop (task/generate.h), owned, or NULL */
};

/* A new reference; NULL when memory is out or a name is not UTF-8. */
json_t *program_to_json(const struct program *p);
/* A new program; NULL on failure. */
struct program *program_from_json(const json_t *o, struct err *e);
void program_free(struct program *p);

/* Gives a call an id that no other of the program has: the name of what it runs, cut so that
 * "#1000" fits behind it (one per candidate), and with a number where another call has it.
 * c->each is set. */
void program_name_call(const struct program *p, const char *name, struct program_call *c);

/* Which media the program reads once per request, and which per candidate. */
bool program_reads(const struct program *p, enum media_kind k, bool each);
