/* answer.c - scores, rankings, labels. */
#include "task/answer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct scored {
    double score;
    int index;
};

static int better(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->index - y->index;
}

/* One row of numbers: every dim but the last is 1. */
static bool floats(const struct tensor *t, const char *what, size_t *count, struct err *e)
{
    char shape[128];
    int64_t last = t->shape.rank > 0 ? t->shape.dims[t->shape.rank - 1] : 0;
    *count = t->bytes / sizeof(float);
    if (t->dtype != DT_F32 || *count == 0 || last < 0 || (size_t)last != *count)
        return err_set(e, ERR_UNSUPPORTED, "%s: should be one row of float32 values, is %s%s", what,
                       dtype_name(t->dtype), shape_text(&t->shape, shape, sizeof(shape)));
    return true;
}

/* NaN when a value is not finite; 0 beside a zero vector. */
static double cosine(const float *a, const float *b, size_t n)
{
    double dot = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        dot += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    double norm = sqrt(aa) * sqrt(bb);
    return norm > 0 || isnan(norm) ? dot / norm : 0;
}

static void sigmoid(struct scored *s, int n)
{
    for (int i = 0; i < n; i++)
        s[i].score = 1 / (1 + exp(-s[i].score));
}

/* The largest score is finite. */
static void softmax(struct scored *s, int n)
{
    double max = s[0].score, sum = 0;
    for (int i = 1; i < n; i++)
        max = s[i].score > max ? s[i].score : max;
    for (int i = 0; i < n; i++) {
        s[i].score = exp(s[i].score - max);
        sum += s[i].score;
    }
    for (int i = 0; i < n; i++)
        s[i].score /= sum;
}

static int kept(const struct request *r, int n)
{
    return r->top_k > 0 && r->top_k < n ? r->top_k : n;
}

static bool similarities(const struct program *p, const struct answer_input *in, struct scored *s,
                         struct err *e)
{
    size_t n, m;
    if (!floats(in->value, "embedding", &n, e))
        return false;
    for (int i = 0; i < in->candidate_count; i++) {
        if (!floats(&in->candidates[i], "embedding", &m, e))
            return false;
        if (m != n)
            return err_set(e, ERR_UNSUPPORTED, "embeddings: %zu and %zu wide, can't be compared", n,
                           m);
        double c = cosine(in->value->data, in->candidates[i].data, n);
        if (!isfinite(c))
            return err_set(e, ERR_UNSUPPORTED, "embeddings: hold values that are not finite");
        s[i] = (struct scored){p->answer.rank ? c : c * p->answer.scale, i};
    }
    return true;
}

static bool similarity(const struct program *p, const struct request *r,
                       const struct answer_input *in, json_t **ret, struct err *e)
{
    int n = in->candidate_count;
    if (n < 1 || n != r->candidate_count)
        return err_set(e, ERR_INVALID, "answer: %d results for %d candidates", n,
                       r->candidate_count);
    struct scored *s = calloc((size_t)n, sizeof(*s));
    if (!s)
        return err_set(e, ERR_MEMORY, "answer: no memory");
    bool ok = similarities(p, in, s, e);
    if (ok) {
        if (!p->answer.rank)
            softmax(s, n);
        qsort(s, (size_t)n, sizeof(*s), better);
        *ret = json_array();
        for (int i = 0; i < kept(r, n); i++) {
            const char *label = r->candidates[s[i].index].label;
            json_array_append_new(
                *ret, label ? json_pack("{s:s,s:f}", "label", label, "score", s[i].score)
                            : json_pack("{s:i,s:f}", "index", s[i].index, "score", s[i].score));
        }
    }
    free(s);
    return ok;
}

static json_t *label_row(const struct program *p, const struct scored *s)
{
    char name[32];
    const char *label = name;
    if (s->index < p->label_count)
        label = p->labels[s->index];
    else
        (void)snprintf(name, sizeof(name), "LABEL_%d", s->index);
    const char *key = strcmp(p->task, "visual-question-answering") == 0 ? "answer" : "label";
    return json_pack("{s:s,s:f}", key, label, "score", s->score);
}

static bool read_logits(const float *from, struct scored *s, size_t n, struct err *e)
{
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        if (isnan(from[i]) || from[i] == INFINITY)
            return err_set(e, ERR_UNSUPPORTED, "logits: number %zu is not finite", i);
        any = any || isfinite(from[i]);
        s[i] = (struct scored){(double)from[i], (int)i};
    }
    return any || err_set(e, ERR_UNSUPPORTED, "logits: all are minus infinity");
}

static bool labels(const struct program *p, const struct request *r, const struct answer_input *in,
                   json_t **ret, struct err *e)
{
    size_t n;
    if (!floats(in->value, "logits", &n, e))
        return false;
    if (n > PROGRAM_LABELS_MAX)
        return err_set(e, ERR_TOO_LARGE, "logits: %zu classes, limit %d", n, PROGRAM_LABELS_MAX);
    struct scored *s = calloc(n, sizeof(*s));
    if (!s)
        return err_set(e, ERR_MEMORY, "answer: no memory");
    if (!read_logits(in->value->data, s, n, e)) {
        free(s);
        return false;
    }
    (p->answer.independent || n == 1 ? sigmoid : softmax)(s, (int)n);
    qsort(s, n, sizeof(*s), better);
    *ret = json_array();
    int count =
        r->top_k > 0 ? kept(r, (int)n) : (int)(n < ANSWER_TOP_DEFAULT ? n : ANSWER_TOP_DEFAULT);
    for (int i = 0; i < count; i++)
        json_array_append_new(*ret, label_row(p, &s[i]));
    free(s);
    return true;
}

static bool vector(const struct answer_input *in, json_t **ret, struct err *e)
{
    size_t n;
    if (!floats(in->value, "embedding", &n, e))
        return false;
    *ret = json_array();
    for (size_t i = 0; i < n; i++) {
        float v = ((const float *)in->value->data)[i];
        json_array_append_new(*ret, isfinite(v) ? json_real((double)v) : json_null());
    }
    return true;
}

static bool generated(const struct program *p, const char *text, json_t **ret, struct err *e)
{
    if (strcmp(p->task, "automatic-speech-recognition") == 0)
        *ret = json_pack("{s:s}", "text", text);
    else if (strcmp(p->task, "visual-question-answering") == 0)
        *ret = json_pack("[{s:s}]", "answer", text);
    else
        *ret = json_pack("[{s:s}]", "generated_text", text);
    return *ret || err_set(e, ERR_UNSUPPORTED, "generation: gave a text that is not UTF-8");
}

bool answer_make(const struct program *p, const struct request *r, const struct answer_input *in,
                 json_t **ret, struct err *e)
{
    *ret = NULL;
    switch (p->answer.kind) {
    case ANSWER_SIMILARITY:
        return similarity(p, r, in, ret, e);
    case ANSWER_LABELS:
        return labels(p, r, in, ret, e);
    case ANSWER_VECTOR:
        return vector(in, ret, e);
    case ANSWER_TEXT:
        return generated(p, in->text, ret, e);
    }
    return err_set(e, ERR_INTERNAL, "answer: kind %d", (int)p->answer.kind);
}
