/* tls.h - certificate, key and authority of a listener or a client, from files.
 *
 * With an authority a server demands a client certificate of that authority, and a client trusts
 * that authority alone (never the system's store).  Names: a certificate's common name is the
 * device id that net_request_peer_name() gives; a client checks the name that it called.
 *
 * Ownership: counted; servers and clients take their own reference.  Threads: read-only. */
#pragma once
#include "base/err.h"

struct net_tls;

#define NET_PEM_MAX (256u << 10) /* bytes of one PEM file */

/* Paths of PEM files; NULL = none.  certificate and key come together.  The files must stay in
 * place while the settings are in use. */
struct net_tls_files {
    const char *certificate;
    const char *key;
    const char *authority;
};

/* Reads and checks the files: they parse, the key belongs to the certificate. */
struct net_tls *net_tls_load(const struct net_tls_files *files, struct err *e);

struct net_tls *net_tls_ref(struct net_tls *t);
void net_tls_unref(struct net_tls *t); /* accepts NULL */
