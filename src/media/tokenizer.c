/* tokenizer.c - reading a tokenizer.json, and encoding. */
#include "media/tokenizer.h"

#include "base/num.h"
#include "media/tok_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- added tokens ------------------------------------------------------------------------------------ */

static bool read_added(struct tokenizer *t, const json_t *o, struct err *e)
{
    struct tok_added *a = &t->added[t->added_count];
    const char *content;
    uint64_t id;
    if (!json_need_str(o, "added token", "content", &content, e) ||
        !json_need_u64(o, "added token", "id", TOKENIZER_VOCABULARY_MAX - 1, &id, e) ||
        !json_opt_bool(o, "added token", "special", &a->special, e) ||
        !json_opt_bool(o, "added token", "lstrip", &a->lstrip, e) ||
        !json_opt_bool(o, "added token", "rstrip", &a->rstrip, e) ||
        !json_opt_bool(o, "added token", "single_word", &a->single_word, e) ||
        !json_opt_bool(o, "added token", "normalized", &a->normalized, e))
        return false;
    a->id = (int32_t)id;
    if (!*content)
        return true; /* matches nothing */
    t->added_count++;
    a->content = strdup(content);
    a->match = strdup(content);
    a->size = strlen(content);
    return (a->content && a->match) || err_set(e, ERR_MEMORY, "tokenizer: no memory");
}

/* What is looked for in normalized text is in normal form itself. */
static bool normalize_added(struct tokenizer *t, struct err *e)
{
    for (int i = 0; i < t->added_count; i++)
        if (t->added[i].normalized && !tok_normalize(t, &t->added[i].match, &t->added[i].size, e))
            return false;
    return true;
}

static bool read_all_added(struct tokenizer *t, const json_t *root, struct err *e)
{
    json_t *list = json_object_get(root, "added_tokens");
    if (!list || json_is_null(list))
        return true;
    if (!json_need_array(root, "tokenizer", "added_tokens", TOK_ADDED_MAX, &list, e))
        return false;
    t->added = calloc(json_array_size(list) + 1, sizeof(*t->added));
    if (!t->added)
        return err_set(e, ERR_MEMORY, "tokenizer: no memory");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!read_added(t, json_array_get(list, i), e))
            return false;
    return true;
}

/* ---- special tokens around the text --------------------------------------------------------------------- */

static bool template_item(const json_t *root, const json_t *o, struct tok_item *to, int *count,
                          struct err *e)
{
    const json_t *sequence = json_object_get(o, "Sequence"),
                 *special = json_object_get(o, "SpecialToken");
    const json_t *inner = sequence ? sequence : special;
    const char *id;
    uint64_t type = 0;
    if (!json_need_str(inner, "template", "id", &id, e) ||
        !json_opt_u64(inner, "template", "type_id", 1000, &type, e))
        return false;
    if (sequence) {
        to[(*count)++] =
            (struct tok_item){.sequence = true, .which = strcmp(id, "B") == 0, .type = (int)type};
        return true;
    }
    const json_t *ids =
        json_object_get(json_object_get(json_object_get(root, "special_tokens"), id), "ids");
    if (json_array_size(ids) == 0)
        return err_set(e, ERR_INVALID, "template: special token '%.40s' has no ids", id);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        if (*count >= TOK_TEMPLATE_MAX)
            return err_set(e, ERR_TOO_LARGE, "template: more than %d items", TOK_TEMPLATE_MAX);
        json_int_t v = json_integer_value(json_array_get(ids, i));
        if (v < 0 || v >= TOKENIZER_VOCABULARY_MAX)
            return err_set(e, ERR_INVALID, "template: id of '%.40s'", id);
        to[(*count)++] = (struct tok_item){.id = (int32_t)v, .type = (int)type};
    }
    return true;
}

static bool read_template(const json_t *o, const char *key, struct tok_item *to, int *count,
                          struct err *e)
{
    json_t *list;
    if (!json_need_array(o, "template", key, TOK_TEMPLATE_MAX / 2, &list, e))
        return false;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (*count >= TOK_TEMPLATE_MAX || !template_item(o, json_array_get(list, i), to, count, e))
            return false;
    return true;
}

/* ["[CLS]", 101] */
static bool named_id(const json_t *o, const char *key, int32_t *ret, struct err *e)
{
    const json_t *id = json_array_get(json_object_get(o, key), 1);
    json_int_t v = json_is_integer(id) ? json_integer_value(id) : -1;
    if (v < 0 || v >= TOKENIZER_VOCABULARY_MAX)
        return err_set(e, ERR_INVALID, "post-processor: '%s' should be [token, id]", key);
    *ret = (int32_t)v;
    return true;
}

static bool read_cls_sep(struct tokenizer *t, const json_t *o, bool roberta, struct err *e)
{
    int32_t cls, sep;
    if (!named_id(o, "cls", &cls, e) || !named_id(o, "sep", &sep, e))
        return false;
    const struct tok_item single[] = {{.id = cls}, {.sequence = true}, {.id = sep}};
    memcpy(t->single, single, sizeof(single));
    t->single_count = 3;
    int second = roberta ? 0 : 1;
    const struct tok_item pair[] = {{.id = cls},
                                    {.sequence = true},
                                    {.id = sep},
                                    {.id = sep},
                                    {.sequence = true, .which = 1, .type = second},
                                    {.id = sep, .type = second}};
    for (int i = 0; i < 6; i++)
        if (roberta || i != 3)
            t->pair[t->pair_count++] = pair[i];
    return true;
}

static bool read_post(struct tokenizer *t, const json_t *o, struct err *e)
{
    const char *type;
    json_t *list;
    if (!o || json_is_null(o))
        return true;
    if (!json_need_str(o, "post-processor", "type", &type, e))
        return false;
    if (strcmp(type, "Sequence") == 0) {
        if (!json_need_array(o, "post-processor", "processors", TOK_STEPS_MAX, &list, e))
            return false;
        for (size_t i = 0; i < json_array_size(list); i++) {
            const char *inner = json_string_value(json_object_get(json_array_get(list, i), "type"));
            if (inner && strcmp(inner, "Sequence") == 0)
                return err_set(e, ERR_UNSUPPORTED, "post-processor: a Sequence in a Sequence");
            if (!read_post(t, json_array_get(list, i), e))
                return false;
        }
        return true;
    }
    if (strcmp(type, "ByteLevel") == 0)
        return true; /* only moves offsets, which are not given */
    if (t->single_count)
        return err_set(e, ERR_UNSUPPORTED, "post-processor: more than one that adds tokens");
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_template(o, "single", t->single, &t->single_count, e) &&
               read_template(o, "pair", t->pair, &t->pair_count, e);
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0)
        return read_cls_sep(t, o, type[0] == 'R', e);
    return err_set(e, ERR_UNSUPPORTED, "post-processor '%.60s' is not known", type);
}

/* ---- length ---------------------------------------------------------------------------------------------- */

static bool direction(const json_t *o, const char *what, bool *left, struct err *e)
{
    const char *text = "Right";
    if (!json_opt_str(o, what, "direction", &text, e))
        return false;
    *left = strcmp(text, "Left") == 0;
    return *left || strcmp(text, "Right") == 0 ||
           err_set(e, ERR_INVALID, "%s: direction '%.20s'", what, text);
}

static bool read_length(struct tokenizer *t, const json_t *root, struct err *e)
{
    const json_t *cut = json_object_get(root, "truncation"),
                 *pad = json_object_get(root, "padding");
    uint64_t max = 0, id = 0, type = 0, multiple = 0, fixed = 0;
    if (json_is_object(cut)) {
        if (!json_need_u64(cut, "truncation", "max_length", TOKENIZER_IDS_MAX, &max, e) ||
            !direction(cut, "truncation", &t->truncate_left, e))
            return false;
        t->truncate = (size_t)max;
    }
    if (!json_is_object(pad))
        return true;
    const json_t *strategy = json_object_get(pad, "strategy");
    t->pad = true;
    if (json_is_object(strategy) &&
        !json_need_u64(strategy, "padding", "Fixed", TOKENIZER_IDS_MAX, &fixed, e))
        return false;
    if (!direction(pad, "padding", &t->pad_left, e) ||
        !json_opt_u64(pad, "padding", "pad_to_multiple_of", 65536, &multiple, e) ||
        !json_opt_u64(pad, "padding", "pad_id", TOKENIZER_VOCABULARY_MAX, &id, e) ||
        !json_opt_u64(pad, "padding", "pad_type_id", 1000, &type, e))
        return false;
    t->pad_to = (size_t)fixed;
    t->pad_multiple = (size_t)multiple;
    t->pad_id = (int32_t)id;
    t->pad_type = (int)type;
    return true;
}

/* ---- life ------------------------------------------------------------------------------------------------- */

static bool read_all(struct tokenizer *t, const json_t *root, struct err *e)
{
    return tok_read_model(t, json_object_get(root, "model"), e) && tok_index_ids(t, e) &&
           read_all_added(t, root, e) &&
           tok_read_normalizer(t, json_object_get(root, "normalizer"), e) &&
           normalize_added(t, e) && tok_read_splits(t, json_object_get(root, "pre_tokenizer"), e) &&
           read_post(t, json_object_get(root, "post_processor"), e) &&
           tok_read_decoder(t, json_object_get(root, "decoder"), e) && read_length(t, root, e);
}

bool tokenizer_create(const char *json, size_t size, struct tokenizer **ret, struct err *e)
{
    if (size > TOKENIZER_FILE_MAX)
        return err_set(e, ERR_TOO_LARGE, "tokenizer: %zu bytes, limit %zu", size,
                       TOKENIZER_FILE_MAX);
    json_t *root = json_parse("tokenizer", json, size, e);
    if (!root)
        return false;
    struct tokenizer *t = calloc(1, sizeof(*t));
    bool ok = t ? read_all(t, root, e) : err_set(e, ERR_MEMORY, "tokenizer: no memory");
    json_decref(root);
    if (!ok) {
        tokenizer_destroy(t);
        return false;
    }
    *ret = t;
    return true;
}

void tokenizer_destroy(struct tokenizer *t)
{
    if (!t)
        return;
    tok_map_clear(&t->vocabulary);
    for (int i = 0; i < t->norm_count; i++)
        tok_norm_clear(&t->norms[i]);
    for (int i = 0; i < t->split_count; i++)
        pcre2_code_free(t->splits[i].regex);
    for (int i = 0; i < t->decoder_count; i++) {
        free(t->decoders[i].a);
        free(t->decoders[i].b);
    }
    for (int i = 0; i < t->added_count; i++) {
        free(t->added[i].content);
        free(t->added[i].match);
    }
    free(t->added);
    free(t->by_id);
    free(t->prefix);
    free(t->suffix);
    free(t->merges);
    free(t);
}

int64_t tokenizer_id(const struct tokenizer *t, const char *token)
{
    for (int i = 0; i < t->added_count; i++)
        if (strcmp(t->added[i].content, token) == 0)
            return t->added[i].id;
    return tok_map_get(&t->vocabulary, token, strlen(token));
}

/* ---- encoding ----------------------------------------------------------------------------------------------- */

static bool is_word(const char *text, size_t size)
{
    int32_t c;
    (void)tok_char(text, size, &c);
    return tok_is_word(c);
}

static bool stands_alone(const char *text, size_t size, size_t at, size_t n)
{
    size_t before = at;
    while (before > 0 && ((unsigned char)text[--before] & 0xC0) == 0x80) {
    }
    return (at == 0 || !is_word(text + before, at - before)) &&
           (at + n >= size || !is_word(text + at + n, size - at - n));
}

/* Where a is next in text, from `from` on; size: nowhere. */
static size_t find_added(const struct tok_added *a, const char *text, size_t size, size_t from)
{
    while (a->size && a->size <= size - from) {
        const char *found = memmem(text + from, size - from, a->match, a->size);
        if (!found)
            break;
        from = (size_t)(found - text);
        if (!a->single_word || stands_alone(text, size, from, a->size))
            return from;
        from++;
    }
    return size;
}

/* Added tokens of one text: where each is next.  Each is looked for anew only when it has been
 * passed, so that a text full of one of them does not make the search for the others quadratic. */
struct finder {
    const struct tokenizer *t;
    const char *text;
    size_t size;
    bool normalized;
    size_t *next; /* by added token; owned */
};

static bool finder_open(struct finder *f, struct err *e)
{
    size_t n = (size_t)f->t->added_count;
    bool any = false;
    f->next = NULL;
    for (size_t i = 0; i < n && !any; i++)
        any = f->t->added[i].normalized == f->normalized;
    if (!any)
        return true;
    f->next = malloc(n * sizeof(*f->next));
    if (!f->next)
        return err_set(e, ERR_MEMORY, "tokenizer: no memory");
    for (size_t i = 0; i < n; i++) {
        const struct tok_added *a = &f->t->added[i];
        f->next[i] = a->normalized == f->normalized ? find_added(a, f->text, f->size, 0) : f->size;
    }
    return true;
}

/* The first added token from `from` on (the longest of those at one place); NULL: none. */
static const struct tok_added *first_added(struct finder *f, size_t from, size_t *at)
{
    const struct tok_added *best = NULL;
    for (int i = 0; f->next && i < f->t->added_count; i++) {
        const struct tok_added *a = &f->t->added[i];
        if (f->next[i] < from)
            f->next[i] = find_added(a, f->text, f->size, from);
        if (f->next[i] >= f->size)
            continue;
        if (!best || f->next[i] < *at || (f->next[i] == *at && a->size > best->size)) {
            best = a;
            *at = f->next[i];
        }
    }
    return best;
}

static bool plain_ids(const struct tokenizer *t, const char *text, size_t size,
                      struct tok_list *ids, struct err *e)
{
    struct tok_pieces p;
    if (size == 0)
        return true;
    if (!tok_cut(t, text, size, &p, e))
        return false;
    bool ok = true;
    for (size_t i = 0; ok && i < p.count; i++)
        ok = tok_piece_ids(t, p.text + p.spans[i].at, p.spans[i].size, ids, e);
    tok_pieces_clear(&p);
    return ok;
}

/* Where the spaces that end at `end` begin, not before `from`. */
static size_t spaces_before(const char *text, size_t from, size_t end)
{
    while (end > from) {
        size_t at = end - 1;
        int32_t c;
        while (at > from && ((unsigned char)text[at] & 0xC0) == 0x80)
            at--;
        (void)tok_char(text + at, end - at, &c);
        if (!tok_is_space(c))
            break;
        end = at;
    }
    return end;
}

static size_t spaces_after(const char *text, size_t from, size_t size)
{
    while (from < size) {
        int32_t c;
        size_t n = (size_t)tok_char(text + from, size - from, &c);
        if (!tok_is_space(c))
            break;
        from += n;
    }
    return from;
}

static bool stretch_ids(const struct tokenizer *t, const char *text, size_t size, bool normalized,
                        struct tok_list *ids, struct err *e);

/* Between added tokens that are matched in the raw text: normalize, then those matched after it. */
static bool normal_ids(const struct tokenizer *t, const char *text, size_t size,
                       struct tok_list *ids, struct err *e)
{
    char *copy = malloc(size + 1);
    if (!copy)
        return err_set(e, ERR_MEMORY, "tokenizer: no memory");
    memcpy(copy, text, size);
    copy[size] = 0;
    size_t n = size;
    bool ok = tok_normalize(t, &copy, &n, e) && stretch_ids(t, copy, n, true, ids, e);
    free(copy);
    return ok;
}

static bool stretch_ids(const struct tokenizer *t, const char *text, size_t size, bool normalized,
                        struct tok_list *ids, struct err *e)
{
    struct finder f = {.t = t, .text = text, .size = size, .normalized = normalized};
    bool (*between)(const struct tokenizer *, const char *, size_t, struct tok_list *,
                    struct err *) = normalized ? plain_ids : normal_ids;
    size_t from = 0, at = 0;
    const struct tok_added *a;
    bool ok = finder_open(&f, e);
    while (ok && (a = first_added(&f, from, &at))) {
        size_t end = a->lstrip ? spaces_before(text, from, at) : at;
        ok = between(t, text + from, end - from, ids, e) && tok_list_add(ids, a->id, e);
        from = at + a->size;
        if (a->rstrip)
            from = spaces_after(text, from, size);
    }
    free(f.next);
    return ok && (from >= size || between(t, text + from, size - from, ids, e));
}

static bool text_ids(const struct tokenizer *t, const char *text, struct tok_list *ids,
                     struct err *e)
{
    size_t size = strlen(text), where;
    if (size > TOKENIZER_TEXT_MAX)
        return err_set(e, ERR_TOO_LARGE, "text: %zu bytes, limit %zu", size, TOKENIZER_TEXT_MAX);
    if (!tok_utf8_ok(text, size, &where))
        return err_set(e, ERR_INVALID, "text: byte %zu is not UTF-8", where);
    return stretch_ids(t, text, size, false, ids, e);
}

static size_t special_count(const struct tok_item *items, int count)
{
    size_t n = 0;
    for (int i = 0; i < count; i++)
        n += !items[i].sequence;
    return n;
}

static void cut_list(const struct tokenizer *t, struct tok_list *l, size_t keep)
{
    if (l->count <= keep)
        return;
    if (t->truncate_left)
        memmove(l->ids, l->ids + (l->count - keep), keep * sizeof(*l->ids));
    l->count = keep;
}

/* Longest first: the longer of two texts gives way. */
static void truncate_lists(const struct tokenizer *t, struct tok_list *a, struct tok_list *b,
                           size_t special)
{
    if (t->truncate == 0)
        return;
    size_t room = t->truncate > special ? t->truncate - special : 0;
    if (a->count + b->count <= room)
        return;
    if (b->count == 0) {
        cut_list(t, a, room);
        return;
    }
    size_t small = a->count < b->count ? a->count : b->count;
    size_t half = room / 2;
    if (small <= half) {
        cut_list(t, a->count > b->count ? a : b, room - small);
    } else {
        cut_list(t, a, half + (a->count >= b->count ? room % 2 : 0));
        cut_list(t, b, room - a->count);
    }
}

void token_ids_clear(struct token_ids *t)
{
    free(t->ids);
    *t = (struct token_ids){0};
}

static bool make_room(struct token_ids *ret, size_t n, struct err *e)
{
    if (n > TOKENIZER_IDS_MAX)
        return err_set(e, ERR_TOO_LARGE, "text: %zu tokens, limit %d", n, TOKENIZER_IDS_MAX);
    ret->ids = calloc(3 * n + 1, sizeof(*ret->ids)); /* one block for the three rows */
    if (!ret->ids)
        return err_set(e, ERR_MEMORY, "tokenizer: no memory");
    ret->mask = ret->ids + n;
    ret->type_ids = ret->ids + 2 * n;
    ret->n = n;
    return true;
}

static size_t padded(const struct tokenizer *t, size_t n)
{
    size_t want = t->pad && t->pad_to > n ? t->pad_to : n;
    if (t->pad && t->pad_multiple && want % t->pad_multiple)
        want += t->pad_multiple - want % t->pad_multiple;
    return want;
}

static void put(struct token_ids *ret, size_t at, int64_t id, int type)
{
    ret->ids[at] = id;
    ret->mask[at] = 1;
    ret->type_ids[at] = type;
}

static bool assemble(const struct tokenizer *t, const struct tok_list *lists,
                     const struct tok_item *items, int count, struct token_ids *ret, struct err *e)
{
    size_t n = special_count(items, count), at = 0;
    for (int i = 0; i < count; i++)
        n += items[i].sequence ? lists[items[i].which].count : 0;
    size_t whole = padded(t, n), pad = whole - n;
    if (!make_room(ret, whole, e))
        return false;
    for (size_t i = 0; i < pad; i++) {
        size_t place = t->pad_left ? i : n + i;
        ret->ids[place] = t->pad_id;
        ret->type_ids[place] = t->pad_type;
    }
    at = t->pad_left ? pad : 0;
    for (int i = 0; i < count; i++) {
        const struct tok_list *l = &lists[items[i].which];
        if (!items[i].sequence)
            put(ret, at++, items[i].id, items[i].type);
        for (size_t k = 0; items[i].sequence && k < l->count; k++)
            put(ret, at++, l->ids[k], items[i].type);
    }
    return true;
}

bool tokenizer_encode(const struct tokenizer *t, const char *text, const char *pair,
                      struct token_ids *ret, struct err *e)
{
    static const struct tok_item bare[] = {{.sequence = true},
                                           {.sequence = true, .which = 1, .type = 1}};
    struct tok_list lists[2] = {{0}, {0}};
    const struct tok_item *items = pair ? t->pair : t->single;
    int count = pair ? t->pair_count : t->single_count;
    if (count == 0) {
        items = bare;
        count = pair ? 2 : 1;
    }
    bool ok = text_ids(t, text, &lists[0], e) && (!pair || text_ids(t, pair, &lists[1], e));
    if (ok) {
        truncate_lists(t, &lists[0], &lists[1], special_count(items, count));
        ok = assemble(t, lists, items, count, ret, e);
    }
    free(lists[0].ids);
    free(lists[1].ids);
    return ok;
}
