/* infer_rare.c - shapes of operators that most models do without: Einsum, sampling, windows of
 * sound, random numbers. */
#include "onnx/infer.h"

#include <string.h>

/* ---- Einsum --------------------------------------------------------------------------------- */

#define LETTERS 52
#define LETTER_NONE (-2) /* no operand has it */

struct einsum {
    int64_t dims[LETTERS];
    int seen[LETTERS];
    struct ivalue rest; /* what `...` stands for */
    bool ok;
};

static int letter_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A'; /* before small ones, as implicit outputs are sorted */
    return c >= 'a' && c <= 'z' ? 26 + c - 'a' : -1;
}

/* The dims of one operand by its letters; term: to the next comma. */
static void einsum_operand(struct einsum *s, const char *term, size_t size, const struct ivalue *a)
{
    int letters = 0, at = 0;
    for (size_t i = 0; i < size; i++)
        letters += letter_of(term[i]) >= 0;
    if (!a || a->rank < letters) {
        s->ok = false;
        return;
    }
    for (size_t i = 0; i < size && at <= a->rank; i++) {
        int l = letter_of(term[i]);
        if (l >= 0 && at < a->rank) {
            int64_t dim = a->dims[at++];
            s->seen[l]++;
            if (s->dims[l] == LETTER_NONE || s->dims[l] == 1 || (s->dims[l] < 0 && dim > 1))
                s->dims[l] = dim;
        } else if (term[i] == '.') {
            struct ivalue rest = {.rank = a->rank - letters};
            memcpy(rest.dims, a->dims + at, (size_t)rest.rank * sizeof(rest.dims[0]));
            at += rest.rank;
            s->ok &= infer_broadcast(&s->rest, &rest);
            while (i + 1 < size && term[i + 1] == '.')
                i++;
        }
    }
    s->ok &= at == a->rank;
}

static void einsum_add(struct ivalue *out, int64_t dim, bool *ok)
{
    if (out->rank < TENSOR_RANK_MAX)
        out->dims[out->rank++] = dim;
    else
        *ok = false;
}

static void einsum_rest(struct einsum *s, struct ivalue *out)
{
    for (int i = 0; i < s->rest.rank; i++)
        einsum_add(out, s->rest.dims[i], &s->ok);
}

/* With an arrow the output's letters, without it those that are there once, sorted. */
static void einsum_output(struct einsum *s, const char *term, size_t size, bool arrow,
                          struct ivalue *out)
{
    out->rank = 0;
    if (!arrow)
        einsum_rest(s, out);
    for (int l = 0; !arrow && l < LETTERS; l++)
        if (s->seen[l] == 1)
            einsum_add(out, s->dims[l], &s->ok);
    for (size_t i = 0; arrow && i < size; i++) {
        int l = letter_of(term[i]);
        if (l >= 0)
            einsum_add(out, s->dims[l], &s->ok);
        s->ok &= l < 0 || s->dims[l] != LETTER_NONE;
        if (term[i] == '.' && (i == 0 || term[i - 1] != '.'))
            einsum_rest(s, out);
    }
    if (!s->ok)
        out->rank = -1;
}

static void einsum(struct ictx *c)
{
    const struct gattr *a = onnx_attr(c->m, c->n, "equation");
    const struct ivalue *first = ictx_in(c, 0);
    struct ivalue *out = ictx_out(c, 0);
    if (!out || !first)
        return;
    out->type = first->type;
    if (!a || a->type != AT_STRING)
        return;
    struct einsum s = {.ok = true};
    for (int l = 0; l < LETTERS; l++)
        s.dims[l] = LETTER_NONE;
    const char *text = (const char *)a->s.data;
    size_t end = a->s.size, start = 0;
    bool arrow = false;
    for (size_t i = 0; !arrow && i + 1 < a->s.size; i++)
        if (text[i] == '-' && text[i + 1] == '>') {
            arrow = true;
            end = i;
        }
    uint32_t operand = 0;
    for (size_t i = 0; i <= end; i++)
        if (i == end || text[i] == ',') {
            einsum_operand(&s, text + start, i - start, ictx_in(c, operand++));
            start = i + 1;
        }
    s.ok &= operand == c->n->in_count;
    einsum_output(&s, text + (arrow ? end + 2 : end), arrow ? a->s.size - end - 2 : 0, arrow, out);
}

/* ---- others --------------------------------------------------------------------------------- */

/* The first input's rank, dims not known. */
static struct ivalue *ranked(struct ictx *c, const struct ivalue **ret_in)
{
    const struct ivalue *a = ictx_in(c, 0);
    struct ivalue *out = ictx_out(c, 0);
    *ret_in = a;
    if (!a || !out)
        return NULL;
    out->type = a->type;
    if (a->rank < 0)
        return NULL;
    out->rank = a->rank;
    for (int i = 0; i < out->rank; i++)
        out->dims[i] = -1;
    return out;
}

static void grid_sample(struct ictx *c)
{
    const struct ivalue *a, *grid = ictx_in(c, 1);
    struct ivalue *out = ranked(c, &a);
    if (!out || a->rank < 3)
        return;
    out->dims[0] = a->dims[0];
    out->dims[1] = a->dims[1];
    for (int i = 2; grid && grid->rank == a->rank && i < a->rank; i++)
        out->dims[i] = grid->dims[i - 1];
}

/* Compress, Unique: along an axis, or all elements in a row. */
static void some_of(struct ictx *c)
{
    const struct ivalue *a;
    struct ivalue *out = ranked(c, &a);
    const struct gattr *at = onnx_attr(c->m, c->n, "axis");
    for (uint32_t i = 1; i < c->n->out_count; i++) /* Unique: places and counts */
        if (ictx_out(c, i))
            *ictx_out(c, i) = (struct ivalue){.type = OT_INT64, .rank = 1, .dims = {-1}};
    if (!out)
        return;
    int64_t axis = at ? at->i < 0 ? at->i + a->rank : at->i : 0;
    for (int i = 0; at && i < a->rank; i++)
        out->dims[i] = i == axis ? -1 : a->dims[i];
    if (!at)
        out->rank = 1;
}

static int said_type(const struct ictx *c, const char *attr, int otherwise)
{
    int64_t type = onnx_attr_int(c->m, c->n, attr, otherwise);
    return type > OT_NONE && type <= OT_LAST ? (int)type : OT_NONE;
}

static void like(struct ictx *c)
{
    const struct ivalue *a;
    struct ivalue *out = ranked(c, &a);
    if (!out)
        return;
    memcpy(out->dims, a->dims, sizeof(out->dims));
    out->type = said_type(c, "dtype", a->type);
}

static void random_of_shape(struct ictx *c)
{
    struct ivalue *out = ictx_out(c, 0);
    if (!out)
        return;
    out->type = said_type(c, "dtype", OT_FLOAT);
    out->rank = infer_axes(c, "shape", UINT32_MAX, out->dims, TENSOR_RANK_MAX);
}

static void boxes_left(struct ictx *c) /* NonMaxSuppression */
{
    struct ivalue *out = ictx_out(c, 0);
    if (out)
        *out = (struct ivalue){.type = OT_INT64, .rank = 2, .dims = {-1, 3}};
}

static void roi_align(struct ictx *c)
{
    const struct ivalue *a, *boxes = ictx_in(c, 1);
    struct ivalue *out = ranked(c, &a);
    if (!out || a->rank != 4)
        return;
    out->dims[0] = boxes && boxes->rank > 0 ? boxes->dims[0] : -1;
    out->dims[1] = a->dims[1];
    out->dims[2] = onnx_attr_int(c->m, c->n, "output_height", 1);
    out->dims[3] = onnx_attr_int(c->m, c->n, "output_width", 1);
}

static void spectrum(struct ictx *c) /* DFT, STFT: real and imaginary parts come last */
{
    const struct ivalue *a;
    struct ivalue *out = ranked(c, &a);
    if (!out || a->rank < 2)
        return;
    out->rank = span_is(c->n->op, "STFT") ? 4 : a->rank;
    for (int i = 1; i < out->rank; i++)
        out->dims[i] = -1;
    out->dims[0] = a->dims[0];
    if (span_is(c->n->op, "STFT"))
        out->dims[3] = 2;
}

static void window(struct ictx *c) /* HannWindow and the like, MelWeightMatrix */
{
    struct ivalue *out = ictx_out(c, 0);
    if (!out)
        return;
    out->type = said_type(c, "output_datatype", OT_FLOAT);
    out->rank = span_is(c->n->op, "MelWeightMatrix") ? 2 : 1;
    out->dims[0] = out->dims[1] = -1;
}

static void deform_conv(struct ictx *c)
{
    const struct ivalue *a, *w = ictx_in(c, 1), *offset = ictx_in(c, 2);
    struct ivalue *out = ranked(c, &a);
    if (!out || a->rank < 3)
        return;
    out->dims[0] = a->dims[0];
    out->dims[1] = w && w->rank == a->rank ? w->dims[0] : -1;
    for (int i = 2; offset && offset->rank == a->rank && i < a->rank; i++)
        out->dims[i] = offset->dims[i];
}

/* Of ai.onnx: query, key and value as (batch, steps, heads x size) or (batch, heads, steps, size). */
static void attention(struct ictx *c)
{
    const struct ivalue *a, *v = ictx_in(c, 2);
    if (span_is(c->n->domain, "com.microsoft")) {
        infer_ms_attention(c);
        return;
    }
    struct ivalue *out = ranked(c, &a);
    if (!out)
        return;
    for (int i = 0; i + 1 < a->rank; i++)
        out->dims[i] = a->dims[i];
    int64_t heads = onnx_attr_int(c->m, c->n, "q_num_heads", 0),
            groups = onnx_attr_int(c->m, c->n, "kv_num_heads", heads);
    bool same = a->rank == 4 || (a->rank == 3 && heads > 0 && groups == heads);
    if (same && v && v->rank == a->rank)
        out->dims[a->rank - 1] = v->dims[a->rank - 1];
    for (uint32_t i = 1; i < c->n->out_count; i++)
        if (ictx_out(c, i))
            *ictx_out(c, i) =
                (struct ivalue){.type = a->type, .rank = 4, .dims = {a->dims[0], -1, -1, -1}};
}

const struct infer_row infer_rare_rows[] = {
    {"Einsum", einsum},
    {"GridSample", grid_sample},
    {"Compress", some_of},
    {"Unique", some_of},
    {"EyeLike", like},
    {"Bernoulli", like},
    {"RandomNormalLike", like},
    {"RandomUniformLike", like},
    {"RandomNormal", random_of_shape},
    {"RandomUniform", random_of_shape},
    {"NonMaxSuppression", boxes_left},
    {"RoiAlign", roi_align},
    {"DFT", spectrum},
    {"STFT", spectrum},
    {"HannWindow", window},
    {"HammingWindow", window},
    {"BlackmanWindow", window},
    {"MelWeightMatrix", window},
    {"DeformConv", deform_conv},
    {"Attention", attention},
    {NULL, NULL},
};
