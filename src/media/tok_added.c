/* tok_added.c - added tokens, which are cut out of a text before anything else is done with it.
 *
 * Those with `normalized` are looked for in the normal form of what the others leave over, and are
 * in normal form themselves.  At each place the longest one counts, and what it covers is not
 * looked at again.  The tokens are sorted, so that the ones that go on with the next byte are a
 * range that narrows: one pass over the text, whatever their number. */
#include "base/num.h"
#include "media/tok_internal.h"

#include <stdlib.h>
#include <string.h>

#define WHAT "added token"

/* ---- reading ------------------------------------------------------------------------------------- */

static bool read_one(struct tokenizer *t, const json_t *o, struct err *e)
{
    struct tok_added *a = &t->added[t->added_count];
    uint64_t id;
    if (!json_need_u64(o, WHAT, "id", TOKENIZER_VOCABULARY_MAX - 1, &id, e) ||
        !json_opt_bool(o, WHAT, "special", &a->special, e) ||
        !json_opt_bool(o, WHAT, "lstrip", &a->lstrip, e) ||
        !json_opt_bool(o, WHAT, "rstrip", &a->rstrip, e) ||
        !json_opt_bool(o, WHAT, "single_word", &a->single_word, e) ||
        !json_opt_bool(o, WHAT, "normalized", &a->normalized, e) ||
        !tok_read_text(o, WHAT, "content", NULL, &a->text, e))
        return false;
    t->added_count++;
    a->id = (int32_t)id;
    a->size = strlen(a->text);
    return tok_map_add(&t->added_ids, a->text, a->size, a->id, e) &&
           (!a->normalized || tok_normalize(t, &a->text, &a->size, e)) &&
           (a->size <= TOK_ADDED_BYTES_MAX ||
            err_set(e, ERR_TOO_LARGE, "added token '%.40s': %zu bytes, limit %d", a->text, a->size,
                    TOK_ADDED_BYTES_MAX));
}

static bool index_ids(struct tokenizer *t, struct err *e)
{
    for (int i = 0; i < t->added_count; i++)
        if (t->added[i].id >= t->added_id_count)
            t->added_id_count = t->added[i].id + 1;
    t->added_by_id = calloc((size_t)t->added_id_count + 1, sizeof(*t->added_by_id));
    if (!t->added_by_id)
        return err_set(e, ERR_MEMORY, "tokenizer: no memory");
    for (int i = t->added_count - 1; i >= 0; i--) /* of two with one id the first counts */
        t->added_by_id[t->added[i].id] = (uint32_t)i + 1;
    return true;
}

static int by_text(const void *a, const void *b)
{
    const struct tok_needle *x = a, *y = b;
    int r = memcmp(x->text, y->text, x->size < y->size ? x->size : y->size);
    if (r)
        return r;
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    return x->added - y->added;
}

static bool make_needles(struct tokenizer *t, bool normalized, struct tok_needles *to,
                         struct err *e)
{
    to->list = calloc((size_t)t->added_count + 1, sizeof(*to->list));
    if (!to->list)
        return err_set(e, ERR_MEMORY, "tokenizer: no memory");
    for (int i = 0; i < t->added_count; i++) {
        const struct tok_added *a = &t->added[i];
        if (a->normalized == normalized && a->size > 0) /* an empty one is nowhere */
            to->list[to->count++] = (struct tok_needle){a->text, a->size, i};
    }
    qsort(to->list, (size_t)to->count, sizeof(*to->list), by_text);
    return true;
}

bool tok_read_added(struct tokenizer *t, const json_t *root, struct err *e)
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
        if (!read_one(t, json_array_get(list, i), e))
            return false;
    return index_ids(t, e) && make_needles(t, false, &t->raw, e) &&
           make_needles(t, true, &t->normal, e);
}

void tok_added_clear(struct tokenizer *t)
{
    free(t->raw.list);
    free(t->normal.list);
    for (int i = 0; i < t->added_count; i++)
        free(t->added[i].text);
    free(t->added);
    free(t->added_by_id);
    tok_map_clear(&t->added_ids);
}

const struct tok_added *tok_added_of(const struct tokenizer *t, int64_t id)
{
    uint32_t index = id >= 0 && id < t->added_id_count ? t->added_by_id[id] : 0;
    return index ? &t->added[index - 1] : NULL;
}

/* ---- finding --------------------------------------------------------------------------------------- */

/* The first of the needles from lo to hi that has a byte of at least c at place `depth`; they have
 * the same bytes before, and none is shorter than depth + 1. */
static int lower_bound(const struct tok_needles *n, int lo, int hi, size_t depth, int c)
{
    while (lo < hi) {
        int middle = lo + (hi - lo) / 2;
        if ((unsigned char)n->list[middle].text[depth] < c)
            lo = middle + 1;
        else
            hi = middle;
    }
    return lo;
}

/* The longest needle at the start of text; NULL: none. */
static const struct tok_needle *longest_at(const struct tok_needles *n, const char *text,
                                           size_t size)
{
    const struct tok_needle *best = NULL;
    int lo = 0, hi = n->count;
    for (size_t depth = 0; depth < size && lo < hi; depth++) {
        int c = (unsigned char)text[depth];
        if ((unsigned char)n->list[lo].text[depth] != c ||
            (unsigned char)n->list[hi - 1].text[depth] != c) {
            lo = lower_bound(n, lo, hi, depth, c);
            hi = lower_bound(n, lo, hi, depth, c + 1);
        }
        if (lo < hi && n->list[lo].size == depth + 1)
            best = &n->list[lo];
        while (lo < hi && n->list[lo].size == depth + 1)
            lo++; /* those that end here come first */
    }
    return best;
}

static bool word_at(const char *text, size_t size)
{
    int32_t c;
    (void)tok_char(text, size, &c);
    return tok_is_word(c);
}

static size_t char_before(const char *text, size_t from, size_t at)
{
    while (at > from && ((unsigned char)text[--at] & 0xC0) == 0x80) {
    }
    return at;
}

static bool stands_alone(const char *text, size_t size, size_t at, size_t n)
{
    size_t before = char_before(text, 0, at), end = at + n;
    return (at == 0 || !word_at(text + before, at - before)) &&
           (end >= size || !word_at(text + end, size - end));
}

/* The next added token from `from` on; false: none. */
static bool find(const struct tokenizer *t, const struct tok_needles *n, const char *text,
                 size_t size, size_t from, size_t *ret_at, const struct tok_needle **ret)
{
    for (size_t at = from; n->count && at < size;) {
        const struct tok_needle *x = longest_at(n, text + at, size - at);
        if (!x) {
            at++;
            continue;
        }
        if (!t->added[x->added].single_word || stands_alone(text, size, at, x->size)) {
            *ret_at = at;
            *ret = x;
            return true;
        }
        at += x->size; /* part of a longer word: not it, and nothing within it */
    }
    return false;
}

/* Where the spaces that end at `end` begin, not before `from`. */
static size_t spaces_before(const char *text, size_t from, size_t end)
{
    while (end > from) {
        int32_t c;
        size_t at = char_before(text, from, end);
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

/* ---- what is between them ---------------------------------------------------------------------------- */

/* A part of a text.  at_start: nothing of the text is before it. */
struct part {
    const char *text;
    size_t size;
    bool at_start, normal;
};

static bool part_ids(const struct tokenizer *t, struct part p, struct tok_list *ids, struct err *e);

static bool plain_ids(const struct tokenizer *t, struct part p, struct tok_list *ids, struct err *e)
{
    struct tok_pieces pieces;
    if (!tok_cut(t, p.text, p.size, p.at_start, &pieces, e))
        return false;
    bool ok = true;
    for (size_t i = 0; ok && i < pieces.count; i++)
        ok = tok_piece_ids(t, pieces.text + pieces.spans[i].at, pieces.spans[i].size, ids, e);
    tok_pieces_clear(&pieces);
    return ok;
}

static bool rest_ids(const struct tokenizer *t, struct part p, struct tok_list *ids, struct err *e)
{
    if (p.size == 0)
        return true;
    if (p.normal)
        return plain_ids(t, p, ids, e);
    char *copy = malloc(p.size + 1);
    if (!copy)
        return err_set(e, ERR_MEMORY, "tokenizer: no memory");
    memcpy(copy, p.text, p.size);
    copy[p.size] = 0;
    size_t n = p.size;
    bool ok = tok_normalize(t, &copy, &n, e) &&
              part_ids(t, (struct part){copy, n, p.at_start, true}, ids, e);
    free(copy);
    return ok;
}

static bool part_ids(const struct tokenizer *t, struct part p, struct tok_list *ids, struct err *e)
{
    const struct tok_needles *n = p.normal ? &t->normal : &t->raw;
    const struct tok_needle *x;
    size_t done = 0, from = 0, at;
    while (find(t, n, p.text, p.size, from, &at, &x)) {
        const struct tok_added *a = &t->added[x->added];
        from = at + x->size;
        /* A token before may have taken these spaces: what strips to the left then has nothing
         * left and is none; another one counts all the same. */
        size_t stop = a->rstrip ? spaces_after(p.text, from, p.size) : from;
        size_t start = !a->lstrip ? at : at < done ? done : spaces_before(p.text, done, at);
        struct part rest = {p.text + done, start > done ? start - done : 0, p.at_start && done == 0,
                            p.normal};
        if (!rest_ids(t, rest, ids, e) || (start < stop && !tok_list_add(ids, a->id, e)))
            return false;
        done = stop;
    }
    struct part rest = {p.text + done, p.size - done, p.at_start && done == 0, p.normal};
    return rest_ids(t, rest, ids, e);
}

bool tok_text_ids(const struct tokenizer *t, const char *text, struct tok_list *ids, struct err *e)
{
    size_t size = strlen(text), where;
    if (size > TOKENIZER_TEXT_MAX)
        return err_set(e, ERR_TOO_LARGE, "text: %zu bytes, limit %zu", size, TOKENIZER_TEXT_MAX);
    if (!tok_utf8_ok(text, size, &where))
        return err_set(e, ERR_INVALID, "text: byte %zu is not UTF-8", where);
    return part_ids(t, (struct part){text, size, true, false}, ids, e);
}
