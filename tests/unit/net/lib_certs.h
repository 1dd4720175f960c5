/* lib_certs.h - authorities and certificates that a test makes for itself. */
#pragma once
#include "net/tls.h"

/* A folder with an authority's certificate and certificates that it signed, all made now. */
struct certs {
    char folder[64];
    void *authority, *authority_key; /* GnuTLS objects */
};

void certs_make(struct certs *c, const char *authority_name);
/* Writes FOLDER/NAME.crt and .key: common name NAME, for 127.0.0.1 and DNS name NAME. */
void certs_issue(struct certs *c, const char *name);
/* name NULL: no certificate; trust NULL: no authority.  The files stay until certs_remove(). */
struct net_tls *certs_tls(const struct certs *c, const char *name, const struct certs *trust);
void certs_remove(struct certs *c);
