/* tok_text.c - UTF-8 and normalizers. */
#include "base/num.h"
#include "media/tok_internal.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define NORMAL_MAX (TOKENIZER_TEXT_MAX * 20) /* compatibility forms can grow a text 18-fold */

int tok_char(const char *text, size_t size, int32_t *ret)
{
    utf8proc_int32_t c;
    utf8proc_ssize_t n =
        utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, &c);
    *ret = n > 0 ? c : -1;
    return n > 0 ? (int)n : 1;
}

bool tok_utf8_ok(const char *text, size_t size, size_t *where)
{
    for (size_t i = 0; i < size;) {
        int32_t c;
        int n = tok_char(text + i, size - i, &c);
        if (c < 0) {
            *where = i;
            return false;
        }
        i += (size_t)n;
    }
    return true;
}

static void add_char(struct buf *b, int32_t c)
{
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t n = utf8proc_encode_char(c, bytes);
    buf_add(b, bytes, n > 0 ? (size_t)n : 0);
}

/* ---- reading ---------------------------------------------------------------------------------- */

static bool copy_text(const json_t *o, const char *key, char **ret, struct err *e)
{
    const char *text;
    if (!json_need_str(o, "normalizer", key, &text, e))
        return false;
    *ret = strdup(text);
    return *ret != NULL || err_set(e, ERR_MEMORY, "tokenizer: no memory");
}

static bool read_replace(struct tok_norm *n, const json_t *o, struct err *e)
{
    const json_t *pattern = json_object_get(o, "pattern");
    const char *plain = json_string_value(json_object_get(pattern, "String"));
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    n->kind = NORM_REPLACE;
    if (!plain && !regex)
        return err_set(e, ERR_INVALID, "normalizer Replace: 'pattern' should hold String or Regex");
    return copy_text(o, "content", &n->content, e) &&
           tok_compile(plain ? plain : regex, plain != NULL, &n->regex, e);
}

static bool read_bert(struct tok_norm *n, const json_t *o, struct err *e)
{
    n->kind = NORM_BERT;
    n->clean = n->chinese = n->lower = true;
    bool accents_given = json_is_boolean(json_object_get(o, "strip_accents"));
    if (!json_opt_bool(o, "normalizer", "clean_text", &n->clean, e) ||
        !json_opt_bool(o, "normalizer", "handle_chinese_chars", &n->chinese, e) ||
        !json_opt_bool(o, "normalizer", "lowercase", &n->lower, e) ||
        !json_opt_bool(o, "normalizer", "strip_accents", &n->accents, e))
        return false;
    if (!accents_given)
        n->accents = n->lower;
    return true;
}

static bool read_form(struct tok_norm *n, const char *type)
{
    static const struct {
        const char *name;
        int options;
    } rows[] = {
        {"NFC", UTF8PROC_COMPOSE},
        {"NFD", UTF8PROC_DECOMPOSE},
        {"NFKC", UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
        {"NFKD", UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strcmp(rows[i].name, type) == 0) {
            n->kind = NORM_FORM;
            n->form = rows[i].options | UTF8PROC_STABLE;
            return true;
        }
    return false;
}

static bool read_list(struct tokenizer *t, const json_t *o, struct err *e)
{
    json_t *list;
    if (!json_need_array(o, "normalizer", "normalizers", TOK_STEPS_MAX, &list, e))
        return false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const char *type = json_string_value(json_object_get(item, "type"));
        if (type && strcmp(type, "Sequence") == 0)
            return err_set(e, ERR_UNSUPPORTED, "normalizer: a Sequence in a Sequence");
        if (!tok_read_normalizer(t, item, e))
            return false;
    }
    return true;
}

bool tok_read_normalizer(struct tokenizer *t, const json_t *o, struct err *e)
{
    const char *type;
    if (!o || json_is_null(o))
        return true;
    if (!json_need_str(o, "normalizer", "type", &type, e))
        return false;
    if (strcmp(type, "Sequence") == 0)
        return read_list(t, o, e);
    if (t->norm_count >= TOK_STEPS_MAX)
        return err_set(e, ERR_TOO_LARGE, "normalizer: more than %d steps", TOK_STEPS_MAX);
    struct tok_norm *n = &t->norms[t->norm_count++];
    if (strcmp(type, "Lowercase") == 0) {
        n->kind = NORM_LOWER;
        return true;
    }
    if (strcmp(type, "StripAccents") == 0) {
        n->kind = NORM_ACCENTS;
        return true;
    }
    if (strcmp(type, "Strip") == 0) {
        n->kind = NORM_STRIP;
        n->left = n->right = true;
        return json_opt_bool(o, "normalizer", "strip_left", &n->left, e) &&
               json_opt_bool(o, "normalizer", "strip_right", &n->right, e);
    }
    if (strcmp(type, "Replace") == 0)
        return read_replace(n, o, e);
    if (strcmp(type, "Prepend") == 0) {
        n->kind = NORM_PREPEND;
        return copy_text(o, "prepend", &n->content, e);
    }
    if (strcmp(type, "BertNormalizer") == 0)
        return read_bert(n, o, e);
    return read_form(n, type) ||
           err_set(e, ERR_UNSUPPORTED, "normalizer '%.60s' is not known", type);
}

void tok_norm_clear(struct tok_norm *n)
{
    free(n->content);
    pcre2_code_free(n->regex);
}

/* ---- steps ------------------------------------------------------------------------------------- */

bool tok_is_space(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return c == '\t' || c == '\n' || c == '\r' || c == 0x0B || c == 0x0C || c == 0x85 ||
           k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP;
}

bool tok_is_word(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NL) || k == UTF8PROC_CATEGORY_PC ||
           c == 0x200C || c == 0x200D;
}

/* Full lower case of one character: the only ones that grow are the dotted capital I and final
 * sigma's plain form, as in the Unicode data that the tokenizers library uses. */
static void lower_char(struct buf *b, int32_t c)
{
    if (c == 0x130) {
        add_char(b, 'i');
        add_char(b, 0x307);
    } else {
        add_char(b, utf8proc_tolower(c));
    }
}

static void lower(const char *text, size_t size, struct buf *b)
{
    for (size_t i = 0; i < size;) {
        int32_t c;
        i += (size_t)tok_char(text + i, size - i, &c);
        lower_char(b, c);
    }
}

static void drop_marks(const char *text, size_t size, struct buf *b)
{
    for (size_t i = 0; i < size;) {
        int32_t c;
        i += (size_t)tok_char(text + i, size - i, &c);
        if (utf8proc_category(c) != UTF8PROC_CATEGORY_MN)
            add_char(b, c);
    }
}

static bool to_form(const char *text, size_t size, int form, struct buf *b, struct err *e)
{
    utf8proc_uint8_t *out = NULL;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, &out,
                                      (utf8proc_option_t)form);
    if (n < 0)
        return err_set(e, ERR_INVALID, "text: %s", utf8proc_errmsg(n));
    buf_add(b, out, (size_t)n);
    free(out);
    return true;
}

static void strip(const char *text, size_t size, bool left, bool right, struct buf *b)
{
    size_t from = 0, to = 0;
    bool inside = false;
    for (size_t i = 0; i < size;) {
        int32_t c;
        size_t n = (size_t)tok_char(text + i, size - i, &c);
        if (!tok_is_space(c)) {
            if (!inside)
                from = i;
            inside = true;
            to = i + n;
        }
        i += n;
    }
    from = left ? (inside ? from : size) : 0;
    to = right ? (inside ? to : from) : size;
    buf_add(b, text + from, to > from ? to - from : 0);
}

static bool replace(const struct tok_norm *n, const char *text, size_t size, struct buf *b,
                    struct err *e)
{
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(n->regex, NULL);
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    if (!match || !context) {
        pcre2_match_data_free(match);
        pcre2_match_context_free(context);
        return err_set(e, ERR_MEMORY, "tokenizer: no memory");
    }
    (void)pcre2_set_match_limit(context, TOK_MATCH_LIMIT);
    size_t at = 0, from = 0;
    int r = 0;
    while (from <= size && (r = pcre2_match(n->regex, (PCRE2_SPTR)text, size, from,
                                            PCRE2_NO_UTF_CHECK, match, context)) > 0) {
        const PCRE2_SIZE *v = pcre2_get_ovector_pointer(match);
        if (v[1] <= v[0]) { /* empty: pass over one character */
            from = v[1] < size ? v[1] + (size_t)tok_char(text + v[1], size - v[1], &(int32_t){0})
                               : size + 1;
            continue;
        }
        buf_add(b, text + at, v[0] - at);
        buf_str(b, n->content);
        at = from = v[1];
    }
    buf_add(b, text + at, size - at);
    pcre2_match_data_free(match);
    pcre2_match_context_free(context);
    return r > 0 || r == PCRE2_ERROR_NOMATCH ||
           err_set(e, ERR_INVALID, "text: too hard for the normalizer's pattern");
}

static bool is_chinese(int32_t c)
{
    static const int32_t ranges[][2] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
                                        {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF},
                                        {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
        if (c >= ranges[i][0] && c <= ranges[i][1])
            return true;
    return false;
}

static bool is_control(int32_t c)
{
    if (c == '\t' || c == '\n' || c == '\r')
        return false;
    utf8proc_category_t k = utf8proc_category(c);
    return k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF ||
           k == UTF8PROC_CATEGORY_CO; /* unassigned stay */
}

static void bert_clean(const struct tok_norm *n, const char *text, size_t size, struct buf *b)
{
    for (size_t i = 0; i < size;) {
        int32_t c;
        i += (size_t)tok_char(text + i, size - i, &c);
        if (n->clean && (c == 0 || c == 0xFFFD || is_control(c)))
            continue;
        if (n->clean && tok_is_space(c))
            c = ' ';
        bool chinese = n->chinese && is_chinese(c);
        if (chinese)
            add_char(b, ' ');
        add_char(b, c);
        if (chinese)
            add_char(b, ' ');
    }
}

static bool bert(const struct tok_norm *n, const char *text, size_t size, struct buf *b,
                 struct err *e)
{
    struct buf clean = BUF_INIT(NORMAL_MAX), plain = BUF_INIT(NORMAL_MAX);
    bert_clean(n, text, size, &clean);
    bool ok = buf_ok(&clean, "text", e);
    if (ok && n->accents) {
        struct buf apart = BUF_INIT(NORMAL_MAX);
        ok = to_form(clean.data ? clean.data : "", clean.size, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE,
                     &apart, e);
        drop_marks(apart.data, apart.size, &plain);
        buf_clear(&apart);
    } else {
        buf_add(&plain, clean.data, clean.size);
    }
    if (n->lower)
        lower(plain.data, plain.size, b);
    else
        buf_add(b, plain.data, plain.size);
    buf_clear(&clean);
    buf_clear(&plain);
    return ok;
}

static bool apply(const struct tok_norm *n, const char *text, size_t size, struct buf *b,
                  struct err *e)
{
    switch (n->kind) {
    case NORM_LOWER:
        lower(text, size, b);
        return true;
    case NORM_FORM:
        return to_form(text, size, n->form, b, e);
    case NORM_STRIP:
        strip(text, size, n->left, n->right, b);
        return true;
    case NORM_ACCENTS:
        drop_marks(text, size, b);
        return true;
    case NORM_REPLACE:
        return replace(n, text, size, b, e);
    case NORM_PREPEND:
        if (size)
            buf_str(b, n->content);
        buf_add(b, text, size);
        return true;
    case NORM_BERT:
        return bert(n, text, size, b, e);
    }
    return true;
}

bool tok_normalize(const struct tokenizer *t, char **text, size_t *size, struct err *e)
{
    for (int i = 0; i < t->norm_count; i++) {
        struct buf b = BUF_INIT(NORMAL_MAX);
        bool ok = apply(&t->norms[i], *text, *size, &b, e) && buf_ok(&b, "text", e);
        size_t n = b.size;
        char *fresh = ok ? (b.data ? buf_take(&b) : calloc(1, 1)) : NULL;
        buf_clear(&b);
        if (!fresh)
            return ok ? err_set(e, ERR_MEMORY, "tokenizer: no memory") : false;
        free(*text);
        *text = fresh;
        *size = n;
    }
    return true;
}
