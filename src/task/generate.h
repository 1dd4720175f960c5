/* generate.h - the greedy decode loop, on the device of the decoder.
 *
 * The decoder's ports are told apart by name, as Hugging Face exports name them:
 *   input_ids [1,n]            the new tokens
 *   attention_mask [1,past+n]  ones;  position_ids [1,n];  use_cache_branch [1] bool
 *   encoder_hidden_states      given by another call;  encoder_attention_mask: ones beside it
 *   past_key_values.N.…        [1,heads,P,dim], P = 0 on the first step; present.N.… is the next one
 *   logits [1,n,vocabulary]    output
 * A decoder without past gets all tokens each time.
 *
 * Settings (JSON, checked here): {"start":[ids], "eos":[ids], "max_new_tokens":n,
 * "tokenizer":digest}.
 *
 * Greedy: the largest logit, the lowest id of equals.  It stops at an end token, after
 * max_new_tokens, at GENERATE_TOKENS_MAX, or when cancelled (ERR_CANCELLED).
 *
 * Threads: one job runs on its caller's thread; jobs know nothing of one another.
 *
 * Unresolved: beams, penalties, and lists of tokens that a generation_config.json forbids. */
#pragma once
#include "base/cancel.h"
#include "task/prepare.h"

#define GENERATE_TOKENS_MAX (PROGRAM_START_MAX + PROGRAM_NEW_TOKENS_MAX)
#define GENERATE_PORTS_MAX 256

struct generate_job {
    const json_t *settings;
    const struct named_tensor *inputs; /* that stay the same in all steps; borrowed */
    int input_count;
    const struct port *module_inputs, *module_outputs;
    int module_input_count, module_output_count;
    struct cancel *cancel;
    struct prepare *prepare; /* for the text */
    /* One run: outputs in the order of module_outputs, owned by the loop. */
    bool (*step)(void *ctx, const struct named_tensor *inputs, int count, struct tensor *outputs,
                 struct err *e);
    /* The text grew by this: whole characters, and together the text that comes out.  False stops
     * the loop with e.  May be NULL. */
    bool (*on_text)(void *ctx, const char *text, struct err *e);
    void *ctx;
};

/* Can the loop run a decoder with these ports?  given: those inputs that stay the same and come from
 * elsewhere.  ERR_UNSUPPORTED names the port. */
bool generate_check(const struct port *inputs, const bool *given, int input_count,
                    const struct port *outputs, int output_count, struct err *e);

/* *text: free(); *tokens: how many were generated, the end token not counted. */
bool generate_run(struct generate_job *job, char **text, uint32_t *tokens, struct err *e);
