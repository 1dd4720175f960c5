/* model.h - what a model can do, worked out from its files.
 *
 * Side files: config.json, preprocessor_config.json (or processor_config.json), tokenizer.json,
 * generation_config.json, and s2m3.json for what can't be deduced.  Graphs: the ports of each .onnx
 * file.  What is looked at, in this order:
 *
 *  1. Inputs.  Each graph input is media of a kind (pixels: float of rank 4; tokens: int64 of rank 2
 *     and their masks; sound: float by the name of a feature extractor), a decoder's own (past, ids
 *     beside encoder states), or it is named like an output of another graph, or has the only shape
 *     that fits one.
 *  2. Roles.  Only media: an encoder, or a whole classifier if it gives logits.  Only others'
 *     outputs: a head.  Past or encoder states: a decoder.
 *  3. Tasks.  Head or classifier on picture + text: visual-question-answering; on one kind:
 *     KIND-classification.  Decoder behind pictures: image-to-text; behind sound:
 *     automatic-speech-recognition.  Encoders of one width and no head: similarity tasks.  Each
 *     encoder alone: feature-extraction.
 *
 * s2m3.json, all optional: {"tasks":[names], "hypothesis_template":text, "logit_scale":number,
 * "connections":{"HEAD.INPUT":"GRAPH.OUTPUT"}}; GRAPH and HEAD are file names without .onnx.
 *
 * Threads: pure functions. */
#pragma once
#include "task/program.h"

#define MODEL_GRAPHS_MAX 16
#define MODEL_PORTS_MAX 256

struct model_graph {
    const char *name; /* file name without folder and .onnx */
    struct digest digest;
    const struct port *inputs, *outputs; /* borrowed */
    int input_count, output_count;
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
 * devices need],"dims":{digest:{"PORT.INDEX":value}}}: sizes of dynamic dims to measure a module with.  Errors name the file or port and what is missing. */
bool model_deduce(const struct model_source *s, json_t **ret, struct err *e);

/* The programs of such an object; *ret is an array of *count, free each and the array. */
bool model_programs(const json_t *programs, struct program ***ret, int *count, struct err *e);
void model_programs_free(struct program **programs, int count);
