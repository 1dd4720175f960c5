/* tok_internal.h - the parts of a tokenizer, and the steps that its files provide.
 *
 * Order of encoding: added tokens are cut out of the text; what is between them is normalized, cut
 * into pieces (pre-tokenizers), each piece becomes tokens (model); then truncation, special tokens,
 * padding.
 *
 * A component is a row of a table (its name in the file, its kind, what reads its settings) in the
 * file of its step, and a case in that step's function.
 *
 * Unresolved: Unigram, Precompiled, UnicodeScripts and CTC are not known yet.  The tokenizers library
 * has older tables of Unicode in places: characters since Unicode 9 may be other ids there.
 *
 * Ownership: every pointer of a struct is owned by it unless said otherwise. */
#pragma once
#include "base/buf.h"
#include "base/json.h"
#include "media/tokenizer.h"

#include <stdint.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define TOK_STEPS_MAX 16 /* normalizers, pre-tokenizers, decoders of one file */
#define TOK_ADDED_MAX 100000
#define TOK_ADDED_BYTES_MAX 512 /* of one added token */
#define TOK_AFFIX_MAX 256       /* bytes of a model's prefix or suffix */
#define TOK_PIECES_MAX (1u << 20)
#define TOK_TEMPLATE_MAX 64
#define TOK_WORD_MAX 100000     /* max_input_chars_per_word */
#define TOK_TYPE_MAX 1000       /* token type ids */
#define TOK_MATCH_LIMIT 1000000 /* steps of the regular expression engine for one match */
#define TOK_SEARCH_MS 3000      /* processor time of one expression over one text */
#define TOK_NORMAL_MAX (TOKENIZER_TEXT_MAX * 20) /* compatibility forms grow a text up to 18-fold */

/* ---- token <-> id ---- */

struct tok_map {     /* open addressing; keys are in one block of text */
    uint32_t *slots; /* index + 1 of an entry */
    uint32_t slot_count;
    struct tok_entry {
        uint32_t at, size; /* of the key in `text` */
        int32_t id;
    } * entries;
    uint32_t count, capacity;
    uint32_t longest; /* key, in bytes */
    char *text;
    size_t text_size, text_capacity;
};

bool tok_map_add(struct tok_map *m, const char *key, size_t size, int32_t id, struct err *e);
int32_t tok_map_get(const struct tok_map *m, const char *key, size_t size); /* -1: none */
/* The longest key that is prefix + the first bytes of text (whole characters, at least one): the
 * bytes of text, 0: none. */
size_t tok_map_longest(const struct tok_map *m, const char *prefix, const char *text, size_t size,
                       int32_t *ret_id);
void tok_map_clear(struct tok_map *m);

/* ---- steps ---- */

enum tok_norm_kind {
    NORM_LOWER,
    NORM_FORM,
    NORM_STRIP,
    NORM_ACCENTS,
    NORM_REPLACE,
    NORM_PREPEND,
    NORM_BERT,
};

struct tok_norm {
    enum tok_norm_kind kind;
    int form;                            /* NORM_FORM: options of utf8proc */
    bool left, right;                    /* NORM_STRIP */
    bool clean, chinese, accents, lower; /* NORM_BERT */
    pcre2_code *regex;                   /* NORM_REPLACE */
    char *content;                       /* NORM_REPLACE, NORM_PREPEND */
};

enum tok_behavior {
    SPLIT_REMOVED,
    SPLIT_ISOLATED,
    SPLIT_PREVIOUS,
    SPLIT_NEXT,
    SPLIT_CONTIGUOUS,
};

enum tok_split_kind {
    CUT_REGEX,
    CUT_BYTES,     /* ByteLevel: regex (may be NULL), then bytes become letters */
    CUT_METASPACE, /* spaces become `space`; regex (may be NULL) finds those */
};

enum tok_prefix { PREFIX_NEVER, PREFIX_FIRST, PREFIX_ALWAYS };

struct tok_split {
    enum tok_split_kind kind;
    pcre2_code *regex; /* what is a delimiter */
    enum tok_behavior behavior;
    bool invert;            /* the matches are the pieces, not the delimiters */
    enum tok_prefix prefix; /* a space before a piece that does not begin with one */
    char *space;            /* CUT_METASPACE */
};

struct tok_pieces { /* texts one after the other in `text` */
    char *text;
    size_t size;
    struct tok_span {
        size_t at, size;
    } * spans;
    size_t count, capacity;
    bool from_start; /* nothing of the whole text is before the first piece */
};

enum tok_model_kind { MODEL_WORDLEVEL, MODEL_WORDPIECE, MODEL_BPE };

struct tok_merge {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX: free slot */
    int32_t rank, id;
};

enum tok_decoder_kind {
    DECODE_BYTES,
    DECODE_WORDPIECE,
    DECODE_SUFFIX,
    DECODE_REPLACE,
    DECODE_FUSE,
    DECODE_STRIP,
    DECODE_FALLBACK,
    DECODE_METASPACE,
};

struct tok_decoder {
    enum tok_decoder_kind kind;
    char *a, *b; /* prefix; suffix; pattern and content; character */
    bool cleanup;
    bool drop_first; /* DECODE_METASPACE: no space at the start */
    int start, stop; /* DECODE_STRIP */
};

struct tok_item { /* of a template */
    bool sequence;
    int which;  /* 0: first text, 1: second */
    int32_t id; /* of a special token */
    int type;
};

struct tok_added {
    char *text; /* what is looked for and what it decodes to: in normal form if `normalized` */
    size_t size;
    int32_t id;
    bool special, lstrip, rstrip, single_word, normalized;
};

struct tok_needle {   /* sorted by text */
    const char *text; /* borrowed from the added token */
    size_t size;
    int added; /* index */
};

struct tok_needles {
    struct tok_needle *list;
    int count;
};

enum tok_truncation { CUT_LONGEST, CUT_FIRST, CUT_SECOND };

struct tokenizer {
    struct tok_map vocabulary;
    uint32_t *by_id; /* entry index + 1 by id */
    int32_t id_count;
    enum tok_model_kind model;
    int32_t unk;           /* -1: none */
    char *prefix, *suffix; /* WordPiece and BPE: continuing prefix; end of word suffix */
    int max_word;          /* WordPiece: characters */
    bool ignore_merges, fuse_unk, byte_fallback;
    int32_t byte_ids[256]; /* with byte_fallback: "<0x00>" to "<0xFF>", -1: none */
    struct tok_merge *merges;
    uint32_t merge_slots;

    struct tok_norm norms[TOK_STEPS_MAX];
    int norm_count;
    struct tok_split splits[TOK_STEPS_MAX];
    int split_count;
    struct tok_decoder decoders[TOK_STEPS_MAX];
    int decoder_count;
    bool has_decoder;

    struct tok_added *added;
    int added_count;
    struct tok_needles raw, normal; /* looked for before and after normalizing */
    uint32_t *added_by_id;          /* index + 1 */
    int32_t added_id_count;
    struct tok_map added_ids; /* content to id */

    struct tok_item single[TOK_TEMPLATE_MAX], pair[TOK_TEMPLATE_MAX];
    int single_count, pair_count; /* 0: texts as they are */
    bool truncates;
    size_t truncate; /* tokens, special ones included */
    bool truncate_left;
    enum tok_truncation strategy;
    bool pad, pad_left, pad_fixed;
    size_t pad_to, pad_multiple; /* with pad_fixed; 0: not */
    int32_t pad_id;
    int pad_type;
};

struct tok_list {
    int32_t *ids;
    size_t count, capacity;
};

/* tokenizer.c: a string member as a text of our own; def NULL: there has to be one. */
bool tok_read_text(const json_t *o, const char *what, const char *key, const char *def, char **ret,
                   struct err *e);

/* tok_text.c */
bool tok_read_normalizer(struct tokenizer *t, const json_t *o, struct err *e);
void tok_norm_clear(struct tok_norm *n);
/* *text (malloc'd, size bytes) is replaced by its normal form. */
bool tok_normalize(const struct tokenizer *t, char **text, size_t *size, struct err *e);

/* tok_char.c: characters and their properties, as Unicode has them */
bool tok_utf8_ok(const char *text, size_t size, size_t *where);
/* Decodes one character; returns its bytes, and 1 with *ret = -1 where there is none. */
int tok_char(const char *text, size_t size, int32_t *ret);
void tok_char_add(struct buf *b, int32_t c);
bool tok_is_space(int32_t c);
bool tok_is_word(int32_t c);
/* The letter (UTF-8, at most 2 bytes) that stands for a byte, and back (-1). */
int tok_byte_letter(unsigned char byte, char *to);
int tok_letter_byte(int32_t letter);
#define TOK_METASPACE "\xE2\x96\x81"   /* U+2581, what Metaspace writes for a space */
#define TOK_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */
/* Bytes as text: what is no UTF-8 becomes replacement characters. */
void tok_add_valid(struct buf *b, const char *bytes, size_t size);

/* tok_regex.c */
struct tok_search {
    const pcre2_code *regex; /* borrowed */
    pcre2_match_data *match;
    pcre2_match_context *context;
    int64_t deadline_ns; /* of the thread's processor time */
    unsigned found;
    const char *text; /* borrowed */
    size_t size, from, last_end;
};
bool tok_compile(const char *pattern, bool literal, pcre2_code **ret, struct err *e);
/* {"String": s} or {"Regex": s} at key "pattern". */
bool tok_read_pattern(const json_t *o, const char *what, pcre2_code **ret, struct err *e);
bool tok_search_open(const pcre2_code *regex, struct tok_search *s, struct err *e);
void tok_search_close(struct tok_search *s);
void tok_search_text(struct tok_search *s, const char *text, size_t size);
/* The next match (it may be empty): 1, 0: none, -1: e says why not. */
int tok_search_next(struct tok_search *s, size_t *start, size_t *end, struct err *e);

/* tok_split.c */
bool tok_read_splits(struct tokenizer *t, const json_t *o, struct err *e);
void tok_split_clear(struct tok_split *s);
/* Cuts text into pieces (the caller clears them).  at_start: nothing of the text is before it. */
bool tok_cut(const struct tokenizer *t, const char *text, size_t size, bool at_start,
             struct tok_pieces *ret, struct err *e);
void tok_pieces_clear(struct tok_pieces *p);

/* tok_model.c */
bool tok_list_add(struct tok_list *l, int32_t id, struct err *e);
bool tok_read_model(struct tokenizer *t, const json_t *o, struct err *e);
bool tok_piece_ids(const struct tokenizer *t, const char *text, size_t size, struct tok_list *ids,
                   struct err *e);

/* tok_bpe.c */
bool tok_read_merges(struct tokenizer *t, const json_t *o, struct err *e);
bool tok_bpe(const struct tokenizer *t, const char *text, size_t size, struct tok_list *ids,
             struct err *e);

/* tok_added.c; reads after the normalizer, which the tokens may go through. */
bool tok_read_added(struct tokenizer *t, const json_t *root, struct err *e);
void tok_added_clear(struct tokenizer *t);
const struct tok_added *tok_added_of(const struct tokenizer *t, int64_t id); /* NULL: none */
/* All of a text but what is put around it. */
bool tok_text_ids(const struct tokenizer *t, const char *text, struct tok_list *ids, struct err *e);

/* tok_frame.c: special tokens around texts, truncation, padding */
bool tok_read_frame(struct tokenizer *t, const json_t *root, struct err *e);
/* The lists may be cut.  second: there are two texts. */
bool tok_frame(const struct tokenizer *t, struct tok_list *lists, bool second,
               struct token_ids *ret, struct err *e);

/* tok_decode.c */
bool tok_read_decoder(struct tokenizer *t, const json_t *o, struct err *e);
void tok_decoder_clear(struct tok_decoder *d);
