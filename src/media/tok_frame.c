/* tok_frame.c - what is put around texts: post-processors (special tokens), truncation, padding. */
#include "base/num.h"
#include "media/tok_internal.h"

#include <stdlib.h>
#include <string.h>

#define WHAT "post-processor"

/* ---- special tokens ------------------------------------------------------------------------------ */

struct template
{
    struct tok_item *items; /* TOK_TEMPLATE_MAX */
    int *count;
};

static bool add_item(const struct template *to, struct tok_item item, struct err *e)
{
    if (*to->count >= TOK_TEMPLATE_MAX)
        return err_set(e, ERR_TOO_LARGE, "template: more than %d items", TOK_TEMPLATE_MAX);
    to->items[(*to->count)++] = item;
    return true;
}

/* The ids that the file gives for a special token. */
static bool add_special(const json_t *root, const char *name, int type, const struct template *to,
                        struct err *e)
{
    const json_t *specials = json_object_get(root, "special_tokens");
    const json_t *ids = json_object_get(json_object_get(specials, name), "ids");
    if (json_array_size(ids) == 0)
        return err_set(e, ERR_INVALID, "template: special token '%.40s' has no ids", name);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        json_int_t v = json_is_integer(id) ? json_integer_value(id) : -1;
        if (v < 0 || v >= TOKENIZER_VOCABULARY_MAX)
            return err_set(e, ERR_INVALID, "template: id of '%.40s'", name);
        if (!add_item(to, (struct tok_item){.id = (int32_t)v, .type = type}, e))
            return false;
    }
    return true;
}

static bool template_item(const json_t *root, const json_t *o, bool single,
                          const struct template *to, struct err *e)
{
    const json_t *sequence = json_object_get(o, "Sequence");
    const json_t *inner = sequence ? sequence : json_object_get(o, "SpecialToken");
    const char *id;
    uint64_t type = 0;
    if (!json_need_str(inner, "template", "id", &id, e) ||
        !json_opt_u64(inner, "template", "type_id", TOK_TYPE_MAX, &type, e))
        return false;
    if (!sequence)
        return add_special(root, id, (int)type, to, e);
    bool second = strcmp(id, "B") == 0;
    if ((!second && strcmp(id, "A") != 0) || (second && single))
        return err_set(e, ERR_INVALID, "template: sequence '%.40s'", id);
    return add_item(to, (struct tok_item){.sequence = true, .which = second, .type = (int)type}, e);
}

static bool read_list(const json_t *o, const char *key, bool single, const struct template *to,
                      struct err *e)
{
    json_t *list;
    if (!json_need_array(o, "template", key, TOK_TEMPLATE_MAX, &list, e))
        return false;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!template_item(o, json_array_get(list, i), single, to, e))
            return false;
    return true;
}

static bool read_template(struct tokenizer *t, const json_t *o, struct err *e)
{
    return read_list(o, "single", true, &(struct template){t->single, &t->single_count}, e) &&
           read_list(o, "pair", false, &(struct template){t->pair, &t->pair_count}, e);
}

/* ["[CLS]", 101] */
static bool named_id(const json_t *o, const char *key, int32_t *ret, struct err *e)
{
    const json_t *id = json_array_get(json_object_get(o, key), 1);
    json_int_t v = json_is_integer(id) ? json_integer_value(id) : -1;
    if (v < 0 || v >= TOKENIZER_VOCABULARY_MAX)
        return err_set(e, ERR_INVALID, WHAT ": '%s' should be [token, id]", key);
    *ret = (int32_t)v;
    return true;
}

/* cls A sep sep B sep, the middle sep only where twice is said; type: of what belongs to B. */
static bool read_cls_sep(struct tokenizer *t, const json_t *o, bool twice, int type, struct err *e)
{
    int32_t cls, sep;
    const struct template single = {t->single, &t->single_count}, pair = {t->pair, &t->pair_count};
    if (!named_id(o, "cls", &cls, e) || !named_id(o, "sep", &sep, e))
        return false;
    for (int i = 0; i < 2; i++) {
        const struct template *to = i ? &pair : &single;
        if (!add_item(to, (struct tok_item){.id = cls}, e) ||
            !add_item(to, (struct tok_item){.sequence = true}, e) ||
            !add_item(to, (struct tok_item){.id = sep}, e))
            return false;
    }
    return (!twice || add_item(&pair, (struct tok_item){.id = sep}, e)) &&
           add_item(&pair, (struct tok_item){.sequence = true, .which = 1, .type = type}, e) &&
           add_item(&pair, (struct tok_item){.id = sep, .type = type}, e);
}

static bool read_bert(struct tokenizer *t, const json_t *o, struct err *e)
{
    return read_cls_sep(t, o, false, 1, e);
}

static bool read_roberta(struct tokenizer *t, const json_t *o, struct err *e)
{
    return read_cls_sep(t, o, true, 0, e);
}

static const struct post_row {
    const char *type;
    bool (*read)(struct tokenizer *t, const json_t *o, struct err *e);
} rows[] = {
    {"TemplateProcessing", read_template},
    {"BertProcessing", read_bert},
    {"RobertaProcessing", read_roberta},
    {"ByteLevel", NULL}, /* moves offsets only, which are not given here */
};

static bool read_post(struct tokenizer *t, const json_t *o, struct err *e)
{
    const char *type;
    json_t *list;
    if (!o || json_is_null(o))
        return true;
    if (!json_need_str(o, WHAT, "type", &type, e))
        return false;
    if (strcmp(type, "Sequence") == 0) {
        if (!json_need_array(o, WHAT, "processors", TOK_STEPS_MAX, &list, e))
            return false;
        for (size_t i = 0; i < json_array_size(list); i++)
            if (!read_post(t, json_array_get(list, i), e))
                return false;
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (strcmp(rows[i].type, type) != 0)
            continue;
        if (rows[i].read && t->single_count)
            return err_set(e, ERR_UNSUPPORTED, WHAT ": more than one that adds tokens");
        return !rows[i].read || rows[i].read(t, o, e);
    }
    return err_set(e, ERR_UNSUPPORTED, WHAT " '%.60s' is not known", type);
}

/* ---- length ---------------------------------------------------------------------------------------- */

/* One of names, the first when absent; *ret: its index. */
static bool choice(const json_t *o, const char *what, const char *key, const char *const *names,
                   int count, int *ret, struct err *e)
{
    const char *text = names[0];
    if (!json_opt_str(o, what, key, &text, e))
        return false;
    for (*ret = 0; *ret < count; (*ret)++)
        if (strcmp(names[*ret], text) == 0)
            return true;
    return err_set(e, ERR_UNSUPPORTED, "%s: %s '%.20s'", what, key, text);
}

static const char *const directions[] = {"Right", "Left"};

static bool read_truncation(struct tokenizer *t, const json_t *o, struct err *e)
{
    static const char *const names[] = {"LongestFirst", "OnlyFirst", "OnlySecond"};
    uint64_t max;
    int left, strategy;
    if (!json_is_object(o))
        return true;
    if (!json_need_u64(o, "truncation", "max_length", UINT64_MAX, &max, e) ||
        !choice(o, "truncation", "direction", directions, 2, &left, e) ||
        !choice(o, "truncation", "strategy", names, 3, &strategy, e))
        return false;
    t->truncates = true;
    t->truncate = max > SIZE_MAX ? SIZE_MAX : (size_t)max;
    t->truncate_left = left;
    t->strategy = (enum tok_truncation)strategy;
    return true;
}

static bool read_padding(struct tokenizer *t, const json_t *o, struct err *e)
{
    uint64_t id = 0, type = 0, multiple = 0, fixed = 0;
    int left;
    if (!json_is_object(o))
        return true;
    const json_t *strategy = json_object_get(o, "strategy");
    if (json_is_object(strategy) &&
        !json_need_u64(strategy, "padding", "Fixed", TOKENIZER_IDS_MAX, &fixed, e))
        return false;
    if (!choice(o, "padding", "direction", directions, 2, &left, e) ||
        !json_opt_u64(o, "padding", "pad_to_multiple_of", TOKENIZER_IDS_MAX, &multiple, e) ||
        !json_opt_u64(o, "padding", "pad_id", TOKENIZER_VOCABULARY_MAX - 1, &id, e) ||
        !json_opt_u64(o, "padding", "pad_type_id", TOK_TYPE_MAX, &type, e))
        return false;
    t->pad = true;
    t->pad_left = left;
    t->pad_fixed = json_is_object(strategy);
    t->pad_to = (size_t)fixed;
    t->pad_multiple = (size_t)multiple;
    t->pad_id = (int32_t)id;
    t->pad_type = (int)type;
    return true;
}

bool tok_read_frame(struct tokenizer *t, const json_t *root, struct err *e)
{
    return read_post(t, json_object_get(root, "post_processor"), e) &&
           read_truncation(t, json_object_get(root, "truncation"), e) &&
           read_padding(t, json_object_get(root, "padding"), e);
}

/* ---- framing ---------------------------------------------------------------------------------------- */

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
    if (t->truncate_left && keep)
        memmove(l->ids, l->ids + (l->count - keep), keep * sizeof(*l->ids));
    l->count = keep;
}

/* Longest first: the shorter text keeps what it has, up to half of the room; what half a token
 * leaves over goes to the longer one, or to the second where they are as long. */
static void cut_longest(const struct tokenizer *t, struct tok_list *lists, size_t room)
{
    struct tok_list *small = &lists[0], *large = &lists[1];
    if (small->count > large->count) {
        small = &lists[1];
        large = &lists[0];
    }
    size_t keep = small->count <= room / 2 ? small->count : room / 2;
    cut_list(t, small, keep);
    cut_list(t, large, room - keep);
}

static bool truncate_lists(const struct tokenizer *t, struct tok_list *lists, bool second,
                           size_t special, struct err *e)
{
    size_t room = t->truncate > special ? t->truncate - special : 0;
    size_t n = lists[0].count + lists[1].count;
    if (!t->truncates || n <= room)
        return true;
    if (t->strategy == CUT_LONGEST) {
        if (second)
            cut_longest(t, lists, room);
        else
            cut_list(t, &lists[0], room);
        return true;
    }
    struct tok_list *l = &lists[t->strategy == CUT_SECOND];
    if (l->count <= n - room)
        return err_set(e, ERR_INVALID, "text: %zu tokens, limit %zu, and the %s text can't be cut",
                       n, room, t->strategy == CUT_SECOND ? "second" : "first");
    cut_list(t, l, l->count - (n - room));
    return true;
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

/* The multiple is that of the fixed length, where there is one, however long the text is. */
static size_t padded(const struct tokenizer *t, size_t n)
{
    if (!t->pad)
        return n;
    size_t want = t->pad_fixed ? t->pad_to : n;
    if (t->pad_multiple && want % t->pad_multiple)
        want += t->pad_multiple - want % t->pad_multiple;
    return want > n ? want : n;
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
    size_t n = special_count(items, count);
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
    size_t at = t->pad_left ? pad : 0;
    for (int i = 0; i < count; i++) {
        const struct tok_list *l = &lists[items[i].which];
        if (!items[i].sequence)
            put(ret, at++, items[i].id, items[i].type);
        for (size_t k = 0; items[i].sequence && k < l->count; k++)
            put(ret, at++, l->ids[k], items[i].type);
    }
    return true;
}

bool tok_frame(const struct tokenizer *t, struct tok_list *lists, bool second,
               struct token_ids *ret, struct err *e)
{
    static const struct tok_item bare[] = {{.sequence = true},
                                           {.sequence = true, .which = 1, .type = 1}};
    const struct tok_item *items = second ? t->pair : t->single;
    int count = second ? t->pair_count : t->single_count;
    if (count == 0) {
        items = bare;
        count = second ? 2 : 1;
    }
    return truncate_lists(t, lists, second, special_count(items, count), e) &&
           assemble(t, lists, items, count, ret, e);
}
