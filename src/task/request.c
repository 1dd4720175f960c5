/* request.c - reading requests and fitting them to a program. */
#include "task/request.h"

#include "base/buf.h"
#include "base/num.h"
#include "task/base64.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TOP_MAX 1000000

/* ---- building ------------------------------------------------------------------------------- */

static struct mem *copy_bytes(const void *data, size_t size, struct err *e)
{
    struct mem *m = mem_new(size);
    if (!m)
        err_set(e, ERR_MEMORY, "request: no memory for %zu bytes", size);
    else if (size)
        memcpy(mem_data(m), data, size);
    return m;
}

bool request_set(struct request *r, enum media_kind k, const void *data, size_t size, struct err *e)
{
    size_t max = k == MEDIA_TEXT ? REQUEST_TEXT_MAX : REQUEST_MEDIA_MAX;
    if (size > max)
        return err_set(e, ERR_TOO_LARGE, "%s: %zu bytes, more than the limit of %zu",
                       media_kind_name(k), size, max);
    if (size == 0 && k != MEDIA_TEXT)
        return err_set(e, ERR_INVALID, "%s: is empty", media_kind_name(k));
    if (r->media[k])
        return err_set(e, ERR_INVALID, "%s: given twice", media_kind_name(k));
    r->media[k] = copy_bytes(data, size, e);
    return r->media[k] != NULL;
}

static struct candidate *new_candidate(struct request *r, struct err *e)
{
    if (r->candidate_count >= REQUEST_CANDIDATES_MAX) {
        err_set(e, ERR_TOO_LARGE, "request: more than the limit of %d candidates",
                REQUEST_CANDIDATES_MAX);
        return NULL;
    }
    struct candidate *more =
        realloc(r->candidates, ((size_t)r->candidate_count + 1) * sizeof(*more));
    if (!more) {
        err_set(e, ERR_MEMORY, "request: no memory");
        return NULL;
    }
    r->candidates = more;
    more[r->candidate_count] = (struct candidate){0};
    return &more[r->candidate_count++];
}

bool request_add_candidate(struct request *r, const char *label, const void *data, size_t size,
                           struct err *e)
{
    if (label && strlen(label) > REQUEST_TEXT_MAX)
        return err_set(e, ERR_TOO_LARGE, "label: more than the limit of %u bytes",
                       REQUEST_TEXT_MAX);
    struct candidate *c = new_candidate(r, e);
    if (!c)
        return false;
    if (label && !(c->label = strdup(label)))
        return err_set(e, ERR_MEMORY, "request: no memory");
    if (!data)
        return true;
    c->media = copy_bytes(data, size, e);
    return c->media != NULL;
}

void request_clear(struct request *r)
{
    for (int k = 0; k < MEDIA_KINDS; k++)
        mem_unref(r->media[k]);
    for (int i = 0; i < r->candidate_count; i++) {
        free(r->candidates[i].label);
        mem_unref(r->candidates[i].media);
    }
    free(r->candidates);
    free(r->hypothesis);
    *r = (struct request){0};
}

/* ---- reading -------------------------------------------------------------------------------- */

static bool set_text(struct request *r, const char *what, const json_t *v, struct err *e)
{
    if (!json_is_string(v))
        return err_set(e, ERR_INVALID, "request: '%s' should be a text", what);
    return request_set(r, MEDIA_TEXT, json_string_value(v), json_string_length(v), e);
}

static bool set_media(struct request *r, enum media_kind k, const json_t *v, struct err *e)
{
    const char *what = media_kind_name(k);
    if (!json_is_string(v))
        return err_set(e, ERR_INVALID, "request: '%s' should be base64 text", what);
    if (r->media[k])
        return err_set(e, ERR_INVALID, "request: '%s' is given twice", what);
    r->media[k] =
        base64_decode(json_string_value(v), json_string_length(v), REQUEST_MEDIA_MAX, what, e);
    return r->media[k] != NULL;
}

static bool read_images(struct request *r, const json_t *o, struct err *e)
{
    json_t *list = json_object_get(o, "images");
    if (!list)
        return true;
    if (!json_need_array(o, "request", "images", REQUEST_CANDIDATES_MAX, &list, e))
        return false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        char what[40];
        (void)snprintf(what, sizeof(what), "images[%zu]", i);
        if (!json_is_string(v))
            return err_set(e, ERR_INVALID, "request: '%s' should be base64 text", what);
        struct candidate *c = new_candidate(r, e);
        if (!c)
            return false;
        c->media =
            base64_decode(json_string_value(v), json_string_length(v), REQUEST_MEDIA_MAX, what, e);
        if (!c->media)
            return false;
    }
    return true;
}

static bool read_inputs_object(struct request *r, const json_t *o, struct err *e)
{
    static const char *const known[] = {"image", "audio", "text", "question", "query", "images"};
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)o, key, v)
    {
        size_t k = 0;
        while (k < ARRAY_LEN(known) && strcmp(known[k], key) != 0)
            k++;
        if (k == ARRAY_LEN(known))
            return err_set(e, ERR_INVALID, "request: 'inputs' has no '%.60s'", key);
        bool ok = k == 0   ? set_media(r, MEDIA_IMAGE, v, e)
                  : k == 1 ? set_media(r, MEDIA_AUDIO, v, e)
                  : k == 5 ? true
                           : set_text(r, key, v, e);
        if (!ok)
            return false;
    }
    return read_images(r, o, e);
}

/* A lone text may be media in base64 or plain text: what it is follows from the program
 * (request_choose), so it is kept as text first. */
static bool read_inputs(struct request *r, const json_t *v, struct err *e)
{
    if (json_is_object(v))
        return read_inputs_object(r, v, e);
    if (!json_is_string(v))
        return err_set(e, ERR_INVALID, "request: 'inputs' should be a text or an object");
    r->lone = true;
    r->media[MEDIA_TEXT] = copy_bytes(json_string_value(v), json_string_length(v), e);
    return r->media[MEDIA_TEXT] != NULL;
}

/* "cat, dog": without the spaces around each. */
static bool split_labels(struct request *r, const char *text, struct err *e)
{
    for (const char *at = text;; at++) {
        char label[256];
        at += strspn(at, " ");
        size_t n = strcspn(at, ","), used = n;
        while (used > 0 && at[used - 1] == ' ')
            used--;
        if (used == 0 || used >= sizeof(label))
            return err_set(e, ERR_INVALID,
                           "parameters: candidate_labels: a label between commas should have 1 to "
                           "%zu bytes, has %zu",
                           sizeof(label) - 1, used);
        memcpy(label, at, used);
        label[used] = 0;
        if (!request_add_candidate(r, label, NULL, 0, e))
            return false;
        at += n;
        if (!*at)
            return true;
    }
}

static bool read_labels(struct request *r, const json_t *parameters, struct err *e)
{
    json_t *list = json_object_get(parameters, "candidate_labels");
    if (!list || json_is_null(list))
        return true;
    if (r->candidate_count)
        return err_set(e, ERR_INVALID, "request: has both 'images' and 'candidate_labels'");
    if (json_is_string(list))
        return split_labels(r, json_string_value(list), e);
    if (!json_need_array(parameters, "parameters", "candidate_labels", REQUEST_CANDIDATES_MAX,
                         &list, e))
        return false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *label = json_string_value(json_array_get(list, i));
        if (!label || !*label)
            return err_set(e, ERR_INVALID, "parameters: candidate_labels[%zu] is no text", i);
        if (!request_add_candidate(r, label, NULL, 0, e))
            return false;
    }
    return true;
}

/* Different tasks keep the same number in different places. */
static bool read_new_tokens(struct request *r, const json_t *p, struct err *e)
{
    static const char *const inside[] = {"generate_kwargs", "generation_parameters"};
    uint64_t tokens = 0;
    for (size_t i = 0; i < ARRAY_LEN(inside); i++) {
        const json_t *o = json_object_get(p, inside[i]);
        if (json_is_object(o) &&
            !json_opt_u64(o, inside[i], "max_new_tokens", PROGRAM_NEW_TOKENS_MAX, &tokens, e))
            return false;
    }
    if (!json_opt_u64(p, "parameters", "max_new_tokens", PROGRAM_NEW_TOKENS_MAX, &tokens, e))
        return false;
    r->max_new_tokens = (int)tokens;
    return true;
}

static bool read_parameters(struct request *r, const json_t *root, struct err *e)
{
    json_t *p = json_object_get(root, "parameters");
    uint64_t top_k = 0;
    const char *hypothesis = NULL;
    if (!p || json_is_null(p))
        return true;
    if (!json_need_object(root, "request", "parameters", &p, e) ||
        !json_opt_u64(p, "parameters", "top_k", TOP_MAX, &top_k, e) || !read_new_tokens(r, p, e) ||
        !json_opt_str(p, "parameters", "hypothesis_template", &hypothesis, e))
        return false;
    r->top_k = (int)top_k;
    if (hypothesis && strlen(hypothesis) >= PROGRAM_TEMPLATE_MAX)
        return err_set(e, ERR_TOO_LARGE,
                       "parameters: 'hypothesis_template' has more than %d characters",
                       PROGRAM_TEMPLATE_MAX - 1);
    if (hypothesis && !(r->hypothesis = strdup(hypothesis)))
        return err_set(e, ERR_MEMORY, "request: no memory");
    return read_labels(r, p, e);
}

static bool read_json(const void *body, size_t size, struct request *r, struct err *e)
{
    json_t *root = json_parse("request", body, size, e);
    if (!root)
        return false;
    const json_t *inputs = json_object_get(root, "inputs");
    bool ok = inputs ? read_inputs(r, inputs, e) && read_parameters(r, root, e)
                     : err_set(e, ERR_INVALID, "request: 'inputs' is missing");
    json_decref(root);
    return ok;
}

/* What media begin with.  A picture of a kind that is not known here goes through as JSON and is
 * refused there, so this need not be complete. */
static bool sniff(const unsigned char *data, size_t size, enum media_kind *ret)
{
    static const struct {
        enum media_kind kind;
        unsigned offset, size;
        const char *magic;
    } rows[] = {
        {MEDIA_IMAGE, 0, 3, "\xFF\xD8\xFF"}, {MEDIA_IMAGE, 0, 4, "\x89PNG"},
        {MEDIA_IMAGE, 8, 4, "WEBP"},         {MEDIA_AUDIO, 8, 4, "WAVE"},
        {MEDIA_AUDIO, 0, 4, "fLaC"},         {MEDIA_AUDIO, 0, 4, "OggS"},
        {MEDIA_AUDIO, 0, 3, "ID3"},          {MEDIA_AUDIO, 0, 2, "\xFF\xFB"},
        {MEDIA_AUDIO, 0, 2, "\xFF\xF3"},     {MEDIA_AUDIO, 0, 2, "\xFF\xF2"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (size >= rows[i].offset + rows[i].size &&
            memcmp(data + rows[i].offset, rows[i].magic, rows[i].size) == 0) {
            *ret = rows[i].kind;
            return true;
        }
    return false;
}

/* Does the Content-Type name this type, whatever parameters follow? */
static bool is_type(const char *type, const char *name)
{
    size_t n = strlen(name);
    if (strncasecmp(type, name, n) != 0)
        return false;
    return name[n - 1] == '/' || type[n] == 0 || type[n] == ';' || type[n] == ' ';
}

static bool read_unnamed(const void *body, size_t size, struct request *r, struct err *e)
{
    enum media_kind k;
    if (sniff(body, size, &k))
        return request_set(r, k, body, size, e);
    return read_json(body, size, r, e);
}

bool request_read(const char *type, const void *body, size_t size, struct request *ret,
                  struct err *e)
{
    bool ok;
    *ret = (struct request){0};
    if (size > REQUEST_BODY_MAX)
        return err_set(e, ERR_TOO_LARGE, "request: %zu bytes, more than the limit of %zu", size,
                       REQUEST_BODY_MAX);
    if (!type || is_type(type, "application/octet-stream") ||
        is_type(type, "application/x-www-form-urlencoded"))
        ok = read_unnamed(body, size, ret, e);
    else if (is_type(type, "application/json"))
        ok = read_json(body, size, ret, e);
    else if (is_type(type, "image/"))
        ok = request_set(ret, MEDIA_IMAGE, body, size, e);
    else if (is_type(type, "audio/"))
        ok = request_set(ret, MEDIA_AUDIO, body, size, e);
    else if (is_type(type, "text/plain"))
        ok = request_set(ret, MEDIA_TEXT, body, size, e);
    else
        ok = err_set(
            e, ERR_MEDIA_TYPE,
            "Content-Type '%.60s': should be application/json, image/..., audio/... or text/plain",
            type);
    if (!ok)
        request_clear(ret);
    return ok;
}

/* ---- choosing ------------------------------------------------------------------------------- */

/* Texts of labels stand for candidate texts; pictures for candidate pictures. */
static bool has_candidates(const struct request *r, const struct program *p)
{
    if (r->candidate_count == 0)
        return false;
    bool labels = r->candidates[0].label != NULL;
    return labels ? program_reads(p, MEDIA_TEXT, true) : program_reads(p, MEDIA_IMAGE, true);
}

/* What is missing for this program; has: the media that count as there. */
static const char *lacks(const struct request *r, const struct program *p,
                         const bool has[MEDIA_KINDS])
{
    for (int k = 0; k < MEDIA_KINDS; k++)
        if (program_reads(p, (enum media_kind)k, false) && !has[k])
            return media_kind_name((enum media_kind)k);
    bool each = program_reads(p, MEDIA_TEXT, true) || program_reads(p, MEDIA_IMAGE, true);
    if (each && !has_candidates(r, p))
        return program_reads(p, MEDIA_TEXT, true) ? "candidate_labels" : "images";
    return NULL;
}

/* The ways to look at a request's media, best first; a request that is not one lone string has
 * one.  Returns how many. */
static int ways(const struct request *r, bool has[3][MEDIA_KINDS])
{
    unsigned char start[BASE64_PEEK];
    enum media_kind k;
    int n = 0;
    memset(has, 0, 3 * sizeof(has[0]));
    struct mem *text = r->lone ? r->media[MEDIA_TEXT] : NULL;
    if (text && sniff(start, base64_peek(mem_data(text), mem_size(text), start), &k))
        has[n++][k] = true;
    for (int i = 0; i < MEDIA_KINDS; i++)
        has[n][i] = r->media[i] != NULL && (!text || i == MEDIA_TEXT);
    n++;
    if (text)
        has[n][MEDIA_IMAGE] = has[n][MEDIA_AUDIO] = true;
    return text ? n + 1 : n;
}

/* One string can't be two media. */
static bool reads_two(const struct program *p)
{
    return program_reads(p, MEDIA_IMAGE, false) && program_reads(p, MEDIA_AUDIO, false);
}

static void list_tasks(struct program *const *programs, int count, char *to, size_t size)
{
    size_t n = 0;
    to[0] = 0;
    for (int i = 0; i < count && n < size; i++) {
        bool seen = false;
        for (int k = 0; k < i; k++)
            seen = seen || strcmp(programs[k]->task, programs[i]->task) == 0;
        if (!seen)
            n += (size_t)snprintf(to + n, size - n, "%s%s", n ? ", " : "", programs[i]->task);
    }
}

int request_choose(struct program *const *programs, int count, const char *task,
                   const struct request *r, struct err *e)
{
    const char *missing = NULL;
    char tasks[300];
    bool has[3][MEDIA_KINDS];
    int n = ways(r, has);
    for (int way = 0; way < n; way++)
        for (int i = 0; i < count; i++) {
            if (task && strcmp(programs[i]->task, task) != 0)
                continue;
            const char *lack =
                r->lone && reads_two(programs[i]) ? "audio" : lacks(r, programs[i], has[way]);
            if (!lack)
                return i;
            missing = missing ? missing : lack;
        }
    list_tasks(programs, count, tasks, sizeof(tasks));
    if (missing)
        err_set(e, ERR_INVALID, "request: '%s' is missing%s%s", missing, task ? " for " : "",
                task ? task : "");
    else
        err_set(e, ERR_NOT_FOUND, "task '%.80s': the model serves %s", task ? task : "", tasks);
    return -1;
}

/* ---- fitting -------------------------------------------------------------------------------- */

static bool fill_template(const char *hypothesis, const char *label, struct mem **ret,
                          struct err *e)
{
    struct buf b = BUF_INIT(REQUEST_TEXT_MAX * 2);
    const char *at = strstr(hypothesis, "{}");
    if (at) {
        buf_add(&b, hypothesis, (size_t)(at - hypothesis));
        buf_str(&b, label);
        buf_str(&b, at + 2);
    } else {
        buf_str(&b, label);
    }
    bool ok = buf_ok(&b, "label", e);
    *ret = ok ? copy_bytes(b.data, b.size, e) : NULL;
    buf_clear(&b);
    return *ret != NULL;
}

static bool lone_media(struct request *r, const struct program *p, struct err *e)
{
    if (!r->lone || program_reads(p, MEDIA_TEXT, false))
        return true;
    for (int k = 0; k < MEDIA_TEXT; k++) {
        if (!program_reads(p, (enum media_kind)k, false) || r->media[k])
            continue;
        struct mem *text = r->media[MEDIA_TEXT];
        r->media[k] = base64_decode(mem_data(text), mem_size(text), REQUEST_MEDIA_MAX,
                                    media_kind_name((enum media_kind)k), e);
        if (!r->media[k])
            return false;
    }
    return true;
}

bool request_fit(struct request *r, const struct program *p, struct err *e)
{
    if (!lone_media(r, p, e))
        return false;
    const struct mem *text = r->media[MEDIA_TEXT];
    if (text && program_reads(p, MEDIA_TEXT, false) && mem_size(text) > REQUEST_TEXT_MAX)
        return err_set(e, ERR_TOO_LARGE, "text: %zu bytes, more than the limit of %u",
                       mem_size(text), REQUEST_TEXT_MAX);
    const char *hypothesis = r->hypothesis      ? r->hypothesis
                             : p->hypothesis[0] ? p->hypothesis
                                                : "{}";
    if (r->hypothesis && !strstr(hypothesis, "{}"))
        return err_set(e, ERR_INVALID, "parameters: 'hypothesis_template' has no {}");
    for (int i = 0; i < r->candidate_count; i++) {
        struct candidate *c = &r->candidates[i];
        if (c->label && !c->media && !fill_template(hypothesis, c->label, &c->media, e))
            return false;
    }
    return true;
}

struct mem *request_media(const struct request *r, const struct program_call *c, enum media_kind k,
                          int item)
{
    return c->each ? r->candidates[item].media : r->media[k];
}
