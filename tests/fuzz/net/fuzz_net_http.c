/* fuzz_net_http.c - the parsers of request lines and header fields on any bytes.
 *
 * The first byte chooses the parser, the rest is its input (texts end at a zero byte).  Besides
 * staying inside its memory, each parser must keep the promise that is checked behind its call. */
#include "net/http.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char *const patterns[] = {
    "/",
    "/v2/models/{model}/infer",
    "/pipeline/{task}/{model...}",
    "/{a}/{b}/{c}/{d}/{e}",
};

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void fuzz_decode(const char *text, size_t size, bool plus)
{
    char *out = malloc(size + 1); /* decoding never makes a text longer */
    require(out != NULL);
    if (net_percent_decode(text, size, plus, out, size + 1, NULL))
        require(strlen(out) <= size);
    free(out);
}

static void fuzz_path(const char *text, size_t size)
{
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        struct net_slice s[NET_PATH_PARAMS_MAX];
        int count = 0;
        if (!net_path_match(patterns[i], text, size, s, &count))
            continue;
        require(count >= 0 && count <= NET_PATH_PARAMS_MAX);
        for (int k = 0; k < count; k++)
            require(s[k].at >= text && s[k].at + s[k].size <= text + size);
    }
}

static void fuzz_query(const char *text, size_t size)
{
    struct net_slice query = {text, size}, name, value;
    size_t rounds = 0;
    while (net_query_next(&query, &name, &value)) {
        require(name.at >= text && name.at + name.size <= text + size);
        require(value.at >= text && value.at + value.size <= text + size);
        require(++rounds <= size);
    }
    require(query.size == 0);
}

static void fuzz_host(const char *text)
{
    static const char *const names[] = {"box.home"};
    char host[NET_HOST_MAX];
    uint16_t port;
    bool allowed = net_host_allowed(text, false, names, 1);
    (void)net_host_allowed(text, true, names, 1);
    if (net_host_split(text, host, &port, NULL))
        require(host[0] && allowed == (net_host_is_loopback(host) || !strcmp(host, "box.home")));
    else
        require(!allowed);
}

static void fuzz_fields(const char *text)
{
    uint64_t n;
    if (net_length_parse(text, 1000, &n, NULL))
        require(n <= 1000 && strspn(text, "0123456789") == strlen(text));
    (void)net_type_matches(text, "application/json, image/");
    (void)net_type_matches("image/png", text);
    const char *key = net_bearer(text);
    require(!key || (key > text && key < text + strlen(text)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    char *text = malloc(size); /* the exact size, so that a step beyond is seen */
    require(text != NULL);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    switch (data[0] % 128 % 5) {
    case 0:
        fuzz_decode(text, size - 1, data[0] & 128);
        break;
    case 1:
        fuzz_path(text, size - 1);
        break;
    case 2:
        fuzz_query(text, size - 1);
        break;
    case 3:
        fuzz_host(text);
        break;
    default:
        fuzz_fields(text);
        break;
    }
    free(text);
    return 0;
}
