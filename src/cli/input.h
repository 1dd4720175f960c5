/* input.h - the options of `run` as a request. */
#pragma once
#include "cli/cli.h"
#include "task/request.h"

/* --image, --text, --audio, --label, --candidate, --hypothesis-template, --top-k, --max-new-tokens. */
bool input_read(const struct args *a, struct request *ret, struct err *e);

/* The same as a body of the Hugging Face form (JSON text, free()). */
char *input_json(const struct request *r);

#define INPUT_OPTIONS                                                                              \
    {"image", OPT_TEXT, "FILE", NULL, "Picture (JPEG, PNG, WebP)", NULL, 0, 0},                    \
        {"audio", OPT_TEXT, "FILE", NULL, "Sound (WAV, FLAC, Ogg, MP3)", NULL, 0, 0},              \
        {"text", OPT_TEXT, "TEXT", NULL, "Question, query or text", NULL, 0, 0},                   \
        {"label", OPT_LIST, "LABEL", NULL, "Candidate label of a zero-shot task", NULL, 0, 0},     \
        {"candidate", OPT_LIST, "FILE", NULL, "Picture to be ranked by a retrieval task",          \
         NULL,        0,        0},                                                                \
        {"hypothesis-template",                                                                    \
         OPT_TEXT,                                                                                 \
         "TEXT",                                                                                   \
         NULL,                                                                                     \
         "Sentence around a label, with {} for it",                                                \
         NULL,                                                                                     \
         0,                                                                                        \
         0},                                                                                       \
        {"top-k", OPT_NUMBER, "N", NULL, "How many answers", NULL, 1, 100000},                     \
    {                                                                                              \
        "max-new-tokens", OPT_NUMBER, "N", NULL, "Longest generated text", NULL, 1, 4096           \
    }
