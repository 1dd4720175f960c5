/* model.h - what a model can do, worked out from its files.
 *
 * Side files: config.json, preprocessor_config.json (or processor_config.json), tokenizer.json,
 * generation_config.json, and s2m3.json for what can't be deduced.  Graphs: the ports of each .onnx
 * file.  What is looked at, in this order:
 *
 *  1. Inputs.  Each graph input is what s2m3.json says; or a decoder's own (past, ids beside
 *     encoder states); or named like an output of another graph; or media of a kind (pixels: float
 *     of rank 4; tokens: int64 of rank 2 and their masks; sound: float by the name of a feature
 *     extractor); or it has the only shape that fits one output of an encoder, where several fit
 *     the one whose kind of media is in its name.
 *  2. Roles.  Only media: an encoder, or a whole classifier if it gives logits (by their name; or
 *     its one output has as many numbers as id2label, or config.json calls it a
 *     ...Classification).  Others' outputs: a head.  Past, or encoder states and logits of rank 3: a decoder.
 *  3. Tasks.  Head or classifier on picture + text: visual-question-answering; on one kind:
 *     KIND-classification.  Decoder behind pictures: image-to-text (with a text:
 *     visual-question-answering); behind sound: automatic-speech-recognition.  Encoders of one
 *     width and no head: similarity tasks.  An encoder of each kind alone: feature-extraction.
 *  4. Checks.  What a processor gives must have the names, types and shapes of the inputs that it
 *     is for (its first tensor may have another name where only one input can be meant); the decode loop must know each of a decoder's ports; labels must not be more than
 *     classes.  So a model that can't answer is refused when it is added.
 *
 * s2m3.json, all optional: {"tasks":[names] (only these, and feature-extraction),
 * "hypothesis_template":text with {}, "logit_scale":number (the factor of cosines),
 * "connections":{"GRAPH.INPUT":"GRAPH.OUTPUT"}}; GRAPH is a file name without .onnx.
 *
 * The factor of cosines is that of the graph that gives scores of both media (model_graph.scale).
 *
 * Unresolved: config.json of CLIP-like models holds what the factor was at the start of training
 * (logit_scale_init_value), and the trained one is in no graph when the encoders are exported
 * alone: such a model should say "logit_scale".  Masks that a processor names otherwise are
 * refused.  Sequence outputs without a vector (mean pooling) are no feature-extraction.
 *
 * A graph need not be a whole file: coord/cut.h gives the outputs of one file that depend on
 * different inputs as graphs of their own, of one name, so a whole model looks like its parts.
 *
 * Threads: pure functions. */
#pragma once
#include "task/program.h"

#define MODEL_GRAPHS_MAX 32
#define MODEL_PORTS_MAX 256
#define MODEL_SCALE_MAX 1e6

struct model_graph {
    const char *name; /* file name without folder and .onnx */
    struct digest digest;
    const struct port *inputs, *outputs; /* borrowed */
    int input_count, output_count;
    double scale; /* of scores that are a product of two vectors, as the graph has it; 0: none */
};

struct model_file {
    const char *text; /* NULL: the model has no such file */
    size_t size;
    struct digest digest;
};

struct model_source {
    const char *name;
    struct model_file config, preprocessor, tokenizer, generation, s2m3;
    struct model_graph graphs[MODEL_GRAPHS_MAX];
    int graph_count;
};

/* *ret: {"name","tasks":[…],"modules":[digests],"programs":[…],"blobs":[digests of side files that
 * devices need],"dims":{digest:{"PORT.INDEX":value}}}; dims: sizes of dynamic dims to measure a
 * module with.  Errors name the file or port and what is missing. */
bool model_deduce(const struct model_source *s, json_t **ret, struct err *e);

/* Is the graph run by the decode loop? */
bool model_generates(const struct model_graph *g);
/* Does an output of that name hold scores of classes or tokens? */
bool model_is_logits(const char *output);
/* The kind of media that an input is, by its name, type and rank; false: none. */
bool model_input_media(const struct port *input, enum media_kind *ret);

/* The programs of such an object; *ret is an array of *count, free each and the array. */
bool model_programs(const json_t *programs, struct program ***ret, int *count, struct err *e);
void model_programs_free(struct program **programs, int count);
