/* tok_internal.h - the parts of a tokenizer, and the steps that its files provide.
 *
 * Order of encoding: added tokens are cut out of the text; what is between them is normalized, cut
 * into pieces (pre-tokenizers), each piece becomes tokens (model); then truncation, special tokens,
 * padding. */
#pragma once
#include "base/buf.h"
#include "base/json.h"
#include "media/tokenizer.h"

#include <stdint.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define TOK_STEPS_MAX 16
#define TOK_ADDED_MAX 100000
#define TOK_PIECES_MAX (1u << 20)
#define TOK_MATCH_LIMIT 1000000 /* of the regular expression engine, per text */
#define TOK_TEMPLATE_MAX 64

/* ---- token <-> id ---- */

struct tok_map {     /* open addressing; keys are in one block of text */
    uint32_t *slots; /* index + 1 of an entry */
    uint32_t slot_count;
    struct tok_entry {
        uint32_t at, size; /* of the key in `text` */
        int32_t id;
    } * entries;
    uint32_t count, capacity;
    char *text;
    size_t text_size, text_capacity;
};

bool tok_map_add(struct tok_map *m, const char *key, size_t size, int32_t id, struct err *e);
int32_t tok_map_get(const struct tok_map *m, const char *key, size_t size); /* -1: none */
void tok_map_clear(struct tok_map *m);

/* ---- steps ---- */

enum tok_norm_kind {
    NORM_LOWER,
    NORM_FORM,
    NORM_STRIP,
    NORM_ACCENTS,
    NORM_REPLACE,
    NORM_PREPEND,
    NORM_BERT
};

struct tok_norm {
    enum tok_norm_kind kind;
    int form;                            /* NORM_FORM: options of utf8proc */
    bool left, right;                    /* NORM_STRIP */
    bool clean, chinese, accents, lower; /* NORM_BERT */
    pcre2_code *regex;                   /* NORM_REPLACE */
    char *content;                       /* NORM_REPLACE, NORM_PREPEND */
};

enum tok_behavior { SPLIT_REMOVED, SPLIT_ISOLATED, SPLIT_PREVIOUS, SPLIT_NEXT, SPLIT_CONTIGUOUS };

struct tok_split {
    pcre2_code *regex; /* what is a delimiter */
    enum tok_behavior behavior;
    bool invert;       /* the matches are the pieces, not the delimiters */
    bool bytes;        /* afterwards bytes become letters (ByteLevel); regex may be NULL */
    bool prefix_space; /* ByteLevel: a space before the first piece */
};

struct tok_pieces { /* texts one after the other in `text` */
    char *text;
    size_t size;
    struct tok_span {
        size_t at, size;
    } * spans;
    size_t count, capacity;
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
    DECODE_STRIP
};

struct tok_decoder {
    enum tok_decoder_kind kind;
    char *a, *b; /* prefix; suffix; pattern and content; character */
    bool cleanup;
    int start, stop; /* DECODE_STRIP */
};

struct tok_item { /* of a template */
    bool sequence;
    int which;  /* 0: first text, 1: second */
    int32_t id; /* of a special token */
    int type;
};

struct tok_added {
    char *content;
    char *match; /* what is looked for: the content, in normal form where that is meant */
    size_t size; /* of match */
    int32_t id;
    bool special, lstrip, rstrip, single_word, normalized;
};

struct tokenizer {
    struct tok_map vocabulary;
    uint32_t *by_id; /* entry index + 1 by id */
    int32_t id_count;
    enum tok_model_kind model;
    int32_t unk;           /* -1: none */
    char *prefix, *suffix; /* WordPiece and BPE: continuing prefix; end of word suffix */
    int max_word;          /* WordPiece: characters */
    bool ignore_merges, fuse_unk;
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
    struct tok_item single[TOK_TEMPLATE_MAX], pair[TOK_TEMPLATE_MAX];
    int single_count, pair_count; /* 0: texts as they are */

    size_t truncate; /* 0: not */
    bool truncate_left;
    size_t pad_to, pad_multiple; /* 0: not */
    bool pad, pad_left;
    int32_t pad_id;
    int pad_type;
};

/* tok_text.c */
bool tok_read_normalizer(struct tokenizer *t, const json_t *o, struct err *e);
void tok_norm_clear(struct tok_norm *n);
/* *text (size bytes) is replaced by its normal form. */
bool tok_normalize(const struct tokenizer *t, char **text, size_t *size, struct err *e);
bool tok_utf8_ok(const char *text, size_t size, size_t *where);
/* Decodes one character; returns its bytes. */
int tok_char(const char *text, size_t size, int32_t *ret);
bool tok_is_space(int32_t c); /* White_Space of Unicode */
bool tok_is_word(int32_t c);  /* letters, marks, digits and letter numbers, connectors, joiners */

/* tok_split.c */
bool tok_compile(const char *pattern, bool literal, pcre2_code **ret, struct err *e);
bool tok_read_splits(struct tokenizer *t, const json_t *o, struct err *e);
/* Cuts text into pieces; pieces are cleared by the caller. */
bool tok_cut(const struct tokenizer *t, const char *text, size_t size, struct tok_pieces *ret,
             struct err *e);
void tok_pieces_clear(struct tok_pieces *p);
/* The letter (UTF-8, at most 2 bytes) that stands for a byte, and back (-1). */
int tok_byte_letter(unsigned char byte, char *to);
int tok_letter_byte(int32_t letter);

/* tok_model.c */
struct tok_list {
    int32_t *ids;
    size_t count, capacity;
};
bool tok_list_add(struct tok_list *l, int32_t id, struct err *e);
bool tok_read_model(struct tokenizer *t, const json_t *o, struct err *e);
bool tok_piece_ids(const struct tokenizer *t, const char *text, size_t size, struct tok_list *ids,
                   struct err *e);
bool tok_index_ids(struct tokenizer *t, struct err *e);

/* tok_decode.c */
bool tok_read_decoder(struct tokenizer *t, const json_t *o, struct err *e);
