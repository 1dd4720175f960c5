/* answer.h - outputs of a program's calls to the answer of its task, in the Hugging Face form.
 *
 *   similarity  [{"label","score"}…] best first (zero-shot: softmax of scaled cosines)
 *               [{"index","score"}…] best first (retrieval: cosines)
 *   labels      [{"label","score"}…], or [{"answer","score"}…] for visual-question-answering:
 *               softmax of the logits; sigmoid of each where several labels may be true or where
 *               there is only one; the five best unless the request says top_k
 *   text        [{"generated_text"}]; {"text"} for automatic-speech-recognition; [{"answer"}] for
 *               visual-question-answering
 *   vector      [numbers]
 *
 * Cosines, exponentials and sums are taken in double, in the order of the elements; of equal scores
 * the earlier comes first.  A vector or logits that are not finite have no order and are an error
 * (logits may be minus infinity: a class that a model rules out). */
#pragma once
#include "task/request.h"

struct answer_input {
    const struct tensor *value;      /* of the answer's call; NULL for a text */
    const struct tensor *candidates; /* similarity: one per candidate */
    int candidate_count;
    const char *text; /* of a generation */
};

#define ANSWER_TOP_DEFAULT 5

/* *ret: a new reference; NULL on failure. */
bool answer_make(const struct program *p, const struct request *r, const struct answer_input *in,
                 json_t **ret, struct err *e);
