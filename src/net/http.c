/* http.c - the pure parsers of request lines and header fields.
 *
 * They take pointer and length, never write to their input, and answer with slices of it or into
 * buffers whose size is given. */
#include "net/http.h"

#include "base/parse.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Bytes of the well-formed UTF-8 character at text, 0 if there is none (overlong forms,
 * surrogates and what is above U+10FFFF are none).  Source: RFC 3629, section 4. */
static size_t utf8_length(const unsigned char *text, size_t size)
{
    unsigned char c = text[0];
    size_t n = c < 0x80 ? 1 : c < 0xC2 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF5 ? 4 : 0;
    if (n == 0 || n > size)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    if ((c == 0xE0 && text[1] < 0xA0) || (c == 0xED && text[1] > 0x9F) ||
        (c == 0xF0 && text[1] < 0x90) || (c == 0xF4 && text[1] > 0x8F))
        return 0;
    return n;
}

static bool utf8_check(const char *text, size_t size)
{
    for (size_t i = 0; i < size;) {
        size_t n = utf8_length((const unsigned char *)text + i, size - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

bool net_percent_decode(const char *text, size_t size, bool plus, char *ret, size_t max,
                        struct err *e)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c == '%') {
            int high = size - i > 2 ? hex_value(text[i + 1]) : -1;
            int low = high >= 0 ? hex_value(text[i + 2]) : -1;
            if (low < 0)
                return err_set(e, ERR_INVALID, "url: broken %%-escape at byte %zu", i);
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if (c == 0)
            return err_set(e, ERR_INVALID, "url: a zero byte is not allowed");
        if (n + 1 >= max)
            return err_set(e, ERR_INVALID, "url: a part is longer than %zu bytes", max - 1);
        ret[n++] = c;
    }
    if (max == 0)
        return err_set(e, ERR_INVALID, "url: no room");
    ret[n] = 0;
    if (!utf8_check(ret, n))
        return err_set(e, ERR_INVALID, "url: a part is not UTF-8");
    return true;
}

/* The segment that starts at `at`, up to the next '/' or the end. */
static struct net_slice segment(const char *at, const char *end)
{
    const char *slash = memchr(at, '/', (size_t)(end - at));
    return (struct net_slice){at, (size_t)((slash ? slash : end) - at)};
}

static bool is_param(struct net_slice s)
{
    return s.size >= 2 && s.at[0] == '{' && s.at[s.size - 1] == '}';
}

static bool is_rest(struct net_slice s)
{
    return is_param(s) && s.size >= 5 && memcmp(s.at + s.size - 4, "...}", 4) == 0;
}

bool net_path_match(const char *pattern, const char *path, size_t size, struct net_slice *ret,
                    int *ret_count)
{
    const char *pattern_end = pattern + strlen(pattern);
    const char *path_end = path + size;
    int count = 0;
    if (size == 0 || path[0] != '/' || pattern[0] != '/')
        return false;
    for (;;) {
        /* both stand on the '/' before a segment */
        struct net_slice want = segment(pattern + 1, pattern_end);
        struct net_slice have = segment(path + 1, path_end);
        if (is_param(want)) {
            if (count == NET_PATH_PARAMS_MAX)
                return false;
            bool rest = is_rest(want);
            if (rest)
                have.size = (size_t)(path_end - have.at);
            else if (have.size == 0)
                return false;
            ret[count++] = have;
        } else if (want.size != have.size || memcmp(want.at, have.at, want.size) != 0) {
            return false;
        }
        pattern = want.at + want.size;
        path = have.at + have.size;
        if (pattern == pattern_end || path == path_end)
            break;
    }
    *ret_count = count;
    return pattern == pattern_end && path == path_end;
}

bool net_query_next(struct net_slice *query, struct net_slice *ret_name,
                    struct net_slice *ret_value)
{
    while (query->size > 0) {
        const char *at = query->at;
        const char *amp = memchr(at, '&', query->size);
        size_t size = amp ? (size_t)(amp - at) : query->size;
        size_t used = amp ? size + 1 : size;
        query->at += used;
        query->size -= used;
        if (size == 0)
            continue;
        const char *eq = memchr(at, '=', size);
        size_t name = eq ? (size_t)(eq - at) : size;
        *ret_name = (struct net_slice){at, name};
        *ret_value =
            eq ? (struct net_slice){eq + 1, size - name - 1} : (struct net_slice){at + size, 0};
        return true;
    }
    return false;
}

/* The bytes of a host name or an address; '_' is common in container names. */
static bool host_byte(char c, bool bracketed)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
        return true;
    return bracketed ? c == ':' || c == '.' : c == '.' || c == '-' || c == '_';
}

bool net_host_split(const char *text, char ret_host[NET_HOST_MAX], uint16_t *ret_port,
                    struct err *e)
{
    bool bracketed = text[0] == '[';
    const char *at = text + (bracketed ? 1 : 0);
    size_t size = 0;
    while (host_byte(at[size], bracketed))
        size++;
    const char *next = at + size;
    if (bracketed && *next++ != ']')
        return err_set(e, ERR_INVALID, "host: no closing bracket");
    if (!bracketed && size > 0 && at[size - 1] == '.')
        size--;
    if (size == 0 || size >= NET_HOST_MAX)
        return err_set(e, ERR_INVALID, "host: %zu bytes of name (1 to %d)", size, NET_HOST_MAX - 1);
    uint64_t port = 0;
    if (*next == ':' && !parse_u64("host: port", next + 1, 1, 65535, &port, e))
        return false;
    if (*next != ':' && *next != 0)
        return err_set(e, ERR_INVALID, "host: byte 0x%02x is not allowed", (unsigned char)*next);
    for (size_t i = 0; i < size; i++)
        ret_host[i] = at[i] >= 'A' && at[i] <= 'Z' ? (char)(at[i] + 32) : at[i];
    ret_host[size] = 0;
    *ret_port = (uint16_t)port;
    return true;
}

bool net_host_is_loopback(const char *host)
{
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, host, &four) == 1)
        return (ntohl(four.s_addr) >> 24) == 127;
    if (inet_pton(AF_INET6, host, &six) == 1)
        return IN6_IS_ADDR_LOOPBACK(&six) || (IN6_IS_ADDR_V4MAPPED(&six) && six.s6_addr[12] == 127);
    size_t size = strlen(host);
    static const char local[] = "localhost";
    size_t tail = sizeof(local) - 1;
    if (size < tail || strcmp(host + size - tail, local) != 0)
        return false;
    return size == tail || host[size - tail - 1] == '.';
}

bool net_host_allowed(const char *value, bool origin, const char *const *names, size_t count)
{
    if (origin) {
        if (strncasecmp(value, "http://", 7) == 0)
            value += 7;
        else if (strncasecmp(value, "https://", 8) == 0)
            value += 8;
        else
            return false;
    }
    char host[NET_HOST_MAX];
    uint16_t port;
    if (!net_host_split(value, host, &port, NULL))
        return false;
    if (net_host_is_loopback(host))
        return true;
    for (size_t i = 0; i < count; i++)
        if (strcmp(host, names[i]) == 0)
            return true;
    return false;
}

bool net_length_parse(const char *text, uint64_t max, uint64_t *ret, struct err *e)
{
    uint64_t n = 0;
    if (text[0] == 0)
        return err_set(e, ERR_INVALID, "content-length: empty");
    for (const char *c = text; *c; c++) {
        if (*c < '0' || *c > '9')
            return err_set(e, ERR_INVALID, "content-length: '%.40s' is not a number", text);
        uint64_t digit = (uint64_t)(*c - '0');
        if (__builtin_mul_overflow(n, 10u, &n) || __builtin_add_overflow(n, digit, &n) || n > max)
            return err_set(e, ERR_TOO_LARGE,
                           "content-length: %.40s is over the limit of %llu bytes", text,
                           (unsigned long long)max);
    }
    *ret = n;
    return true;
}

static struct net_slice trim(const char *at, size_t size)
{
    while (size > 0 && (*at == ' ' || *at == '\t')) {
        at++;
        size--;
    }
    while (size > 0 && (at[size - 1] == ' ' || at[size - 1] == '\t'))
        size--;
    return (struct net_slice){at, size};
}

bool net_type_matches(const char *value, const char *list)
{
    struct net_slice type = trim(value, strcspn(value, ";"));
    while (*list) {
        size_t size = strcspn(list, ",");
        struct net_slice entry = trim(list, size);
        bool family = entry.size > 0 && entry.at[entry.size - 1] == '/';
        if (entry.size > 0 && (family ? type.size > entry.size : type.size == entry.size) &&
            strncasecmp(type.at, entry.at, entry.size) == 0)
            return true;
        list += size + (list[size] == ',' ? 1 : 0);
    }
    return false;
}

const char *net_bearer(const char *value)
{
    if (strncasecmp(value, "bearer", 6) != 0 || (value[6] != ' ' && value[6] != '\t'))
        return NULL;
    value += 7;
    while (*value == ' ' || *value == '\t')
        value++;
    return *value ? value : NULL;
}
