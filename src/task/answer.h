/* answer.h - outputs of a program's calls to the answer of its task, in the Hugging Face form.
 *
 *   similarity  [{"label","score"}…] best first (zero-shot: softmax of scaled cosines)
 *               [{"index","score"}…] best first (retrieval: cosines)
 *   labels      [{"label","score"}…], or [{"answer","score"}…] for visual-question-answering
 *   text        [{"generated_text"}]
 *   vector      [numbers]
 *
 * Sums are taken in double in the order of the elements; of equal scores the earlier comes first. */
#pragma once
#include "task/request.h"

struct answer_input {
    const struct tensor *value;        /* of the answer's call; NULL for a text */
    const struct tensor *candidates;   /* similarity: one per candidate */
    int candidate_count;
    const char *text;                  /* of a generation */
};

/* *ret: a new reference. */
bool answer_make(const struct program *p, const struct request *r, const struct answer_input *in, json_t **ret,
                 struct err *e);
