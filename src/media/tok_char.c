/* tok_char.c - UTF-8, properties of characters, and the letters that stand for bytes. */
#include "base/num.h"
#include "media/tok_internal.h"

#include <utf8proc.h>

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

void tok_char_add(struct buf *b, int32_t c)
{
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t n = utf8proc_encode_char(c, bytes);
    buf_add(b, bytes, n > 0 ? (size_t)n : 0);
}

/* White_Space of Unicode. */
bool tok_is_space(int32_t c)
{
    if (c < 0x80)
        return c == ' ' || (c >= '\t' && c <= '\r');
    utf8proc_category_t k = utf8proc_category(c);
    return c == 0x85 || k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL ||
           k == UTF8PROC_CATEGORY_ZP;
}

/* \w of Unicode's annex on regular expressions (UTS 18): letters, marks, digits, connectors,
 * joiners, and the few symbols that count as letters. */
bool tok_is_word(int32_t c)
{
    static const int32_t symbols[][2] = {{0x200C, 0x200D},
                                         {0x24B6, 0x24E9},
                                         {0x1F130, 0x1F149},
                                         {0x1F150, 0x1F169},
                                         {0x1F170, 0x1F189}};
    utf8proc_category_t k = utf8proc_category(c);
    if ((k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NL) || k == UTF8PROC_CATEGORY_PC)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(symbols); i++)
        if (c >= symbols[i][0] && c <= symbols[i][1])
            return true;
    return false;
}

/* ---- bytes as letters --------------------------------------------------------------------------
 *
 * Bytes that are printable keep their letter; the others take those from 256 on, in order. */

static bool is_plain(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) ||
           (byte >= 0xAE && byte <= 0xFF);
}

/* The bytes that are not plain come in three runs: 0 to 32, 127 to 160, and 173. */
static int letter_of(int byte)
{
    if (is_plain(byte))
        return byte;
    return 256 + (byte <= 32 ? byte : byte <= 160 ? byte - 127 + 33 : 67);
}

int tok_byte_letter(unsigned char byte, char *to)
{
    int c = letter_of(byte);
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    to[0] = (char)(0xC0 | c >> 6);
    to[1] = (char)(0x80 | (c & 63));
    return 2;
}

int tok_letter_byte(int32_t letter)
{
    if (letter >= 0 && letter < 256)
        return is_plain(letter) ? letter : -1;
    int n = letter - 256;
    if (n < 0 || n > 67)
        return -1;
    return n <= 32 ? n : n <= 66 ? n - 33 + 127 : 173;
}

/* ---- bytes that may be no text ------------------------------------------------------------------ */

/* How many bytes at the start of what is no character become one replacement: as many as could
 * have been the start of one (Unicode, section 3.9, "maximal subparts"). */
static size_t broken_size(const unsigned char *p, size_t size)
{
    unsigned char low = 0x80, high = 0xBF;
    size_t want = p[0] >= 0xF0 && p[0] <= 0xF4   ? 4
                  : p[0] >= 0xE0 && p[0] <= 0xEF ? 3
                  : p[0] >= 0xC2 && p[0] <= 0xDF ? 2
                                                 : 1;
    if (p[0] == 0xE0)
        low = 0xA0;
    else if (p[0] == 0xED)
        high = 0x9F;
    else if (p[0] == 0xF0)
        low = 0x90;
    else if (p[0] == 0xF4)
        high = 0x8F;
    size_t n = 1;
    while (n < want && n < size && p[n] >= low && p[n] <= high) {
        n++;
        low = 0x80;
        high = 0xBF;
    }
    return n;
}

void tok_add_valid(struct buf *b, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size;) {
        int32_t c;
        size_t n = (size_t)tok_char(bytes + i, size - i, &c);
        if (c < 0) {
            n = broken_size((const unsigned char *)bytes + i, size - i);
            buf_str(b, TOK_REPLACEMENT);
        } else {
            buf_add(b, bytes + i, n);
        }
        i += n;
    }
}
