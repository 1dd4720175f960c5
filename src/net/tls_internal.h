/* tls_internal.h - the insides of net_tls, for server and client only. */
#pragma once
#include "net/tls.h"

#include <stddef.h>

/* What both libraries are told: nothing below TLS 1.2. */
#define NET_TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct net_tls {
    _Atomic unsigned refs;
    char *certificate_path, *key_path, *authority_path; /* owned, NULL = none */
    char *certificate, *key, *authority;                /* PEM, owned, NULL = none */
    size_t certificate_size, key_size, authority_size;
};
