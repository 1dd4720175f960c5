/* fuzz_model_deduce.c - side files and ports of strangers' models; programs that come out must be
 * ones that a gateway takes.
 *
 * Input: five side files (config, preprocessor, tokenizer, generation, s2m3), each ended by a line
 * "--" (empty: no such file), then the graphs, a line each: NAME port port > port port.  A port is
 * NAME:TYPE:DIMS, TYPE a digit (index into types), DIMS digits and '?'. */
#include "base/num.h"
#include "task/model.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PORTS 40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    struct model_source source;
    struct port ports[MODEL_GRAPHS_MAX][2][PORTS];
};

static const enum dtype types[] = {DT_F32, DT_I64, DT_I32, DT_BOOL, DT_F16,
                                   DT_U8,  DT_F64, DT_I8,  DT_U64,  DT_F32};

static void read_port(char *text, struct port *p)
{
    char *type = strchr(text, ':'), *dims = type ? strchr(type + 1, ':') : NULL;
    size_t n = type ? (size_t)(type - text) : strlen(text);
    n = num_min(n, sizeof(p->name) - 1);
    memcpy(p->name, text, n);
    p->dtype = type && type[1] >= '0' && type[1] <= '9' ? types[type[1] - '0'] : DT_F32;
    for (dims = dims ? dims + 1 : (char[]){0}; *dims && p->shape.rank < TENSOR_RANK_MAX; dims++)
        p->shape.dims[p->shape.rank++] = *dims >= '0' && *dims <= '9' ? *dims - '0' : -1;
}

static void read_graph(struct input *in, char *line)
{
    int index = in->source.graph_count++, side = 0, count[2] = {0, 0};
    char *rest, *word = strtok_r(line, " ", &rest);
    struct model_graph *g = &in->source.graphs[index];
    g->name = word ? word : "";
    memset(g->digest.hex, 'a' + index, DIGEST_HEX);
    while (word && (word = strtok_r(NULL, " ", &rest))) {
        if (strcmp(word, ">") == 0)
            side = 1;
        else if (count[side] < PORTS)
            read_port(word, &in->ports[index][side][count[side]++]);
    }
    g->inputs = in->ports[index][0];
    g->outputs = in->ports[index][1];
    g->input_count = count[0];
    g->output_count = count[1];
}

/* Cuts the text at the first line "--"; the rest, or NULL. */
static char *cut(char *text)
{
    char *end = strncmp(text, "--\n", 3) == 0 ? text : strstr(text, "\n--\n");
    if (!end)
        return NULL;
    char *rest = end + (end == text ? 3 : 4);
    *end = 0;
    return rest;
}

static void read_input(struct input *in, char *text)
{
    struct model_file *const files[] = {&in->source.config, &in->source.preprocessor,
                                        &in->source.tokenizer, &in->source.generation,
                                        &in->source.s2m3};
    in->source.name = "fuzz";
    for (size_t i = 0; i < ARRAY_LEN(files) && text; i++) {
        char *rest = cut(text);
        memset(files[i]->digest.hex, '0' + (int)i, DIGEST_HEX);
        if (*text)
            *files[i] = (struct model_file){text, strlen(text), files[i]->digest};
        text = rest;
    }
    char *lines = NULL;
    for (char *line = text ? strtok_r(text, "\n", &lines) : NULL;
         line && in->source.graph_count < MODEL_GRAPHS_MAX; line = strtok_r(NULL, "\n", &lines))
        read_graph(in, line);
}

/* There is at least one program, each can be read, and their tasks are those that are listed. */
static void look(json_t *model)
{
    struct program **all;
    struct err e;
    int count;
    const json_t *programs = json_object_get(model, "programs");
    if (!model_programs(programs, &all, &count, &e) || count < 1 ||
        json_array_size(json_object_get(model, "tasks")) < 1)
        abort();
    model_programs_free(all, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {0};
    json_t *model = NULL;
    struct input *in = calloc(1, sizeof(*in));
    char *text = malloc(size + 1);
    if (!in || !text)
        abort();
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    read_input(in, text);
    if (model_deduce(&in->source, &model, &e))
        look(model);
    else if (e.code == ERR_NONE || e.text[0] == 0)
        abort(); /* a refusal says why */
    json_decref(model);
    free(text);
    free(in);
    return 0;
}
