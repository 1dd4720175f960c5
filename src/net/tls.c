/* tls.c - reading and checking certificate files.
 *
 * The PEM texts are kept for the server's library and the paths for the client's: its GnuTLS
 * build reads files only.  Both are checked here, so that a wrong file gives its error at the start
 * and not at the first handshake. */
#include "net/tls_internal.h"

#include "base/file.h"

#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

static bool pem_load(const char *path, char **ret_path, char **ret, size_t *ret_size, struct err *e)
{
    if (!path)
        return true;
    *ret_path = strdup(path);
    if (!*ret_path)
        return err_set(e, ERR_MEMORY, "tls: out of memory");
    return file_read(path, NET_PEM_MAX, ret, ret_size, e);
}

static gnutls_datum_t datum(char *text, size_t size)
{
    return (gnutls_datum_t){(unsigned char *)text, (unsigned)size};
}

static bool check(const struct net_tls *t, struct err *e)
{
    gnutls_certificate_credentials_t c;
    if (gnutls_certificate_allocate_credentials(&c) != 0)
        return err_set(e, ERR_MEMORY, "tls: out of memory");
    bool ok = true;
    if (t->certificate) {
        gnutls_datum_t certificate = datum(t->certificate, t->certificate_size);
        gnutls_datum_t key = datum(t->key, t->key_size);
        int r = gnutls_certificate_set_x509_key_mem(c, &certificate, &key, GNUTLS_X509_FMT_PEM);
        if (r < 0)
            ok = err_set(e, ERR_INVALID, "tls: '%s' with key '%s': %s", t->certificate_path,
                         t->key_path, gnutls_strerror(r));
    }
    if (ok && t->authority) {
        gnutls_datum_t authority = datum(t->authority, t->authority_size);
        int r = gnutls_certificate_set_x509_trust_mem(c, &authority, GNUTLS_X509_FMT_PEM);
        if (r <= 0)
            ok = err_set(e, ERR_INVALID, "tls: authority '%s': %s", t->authority_path,
                         r < 0 ? gnutls_strerror(r) : "no certificate in it");
    }
    gnutls_certificate_free_credentials(c);
    return ok;
}

struct net_tls *net_tls_load(const struct net_tls_files *files, struct err *e)
{
    if (!files->certificate != !files->key) {
        err_set(e, ERR_INVALID, "tls: certificate and key come together");
        return NULL;
    }
    struct net_tls *t = calloc(1, sizeof(*t));
    if (!t) {
        err_set(e, ERR_MEMORY, "tls: out of memory");
        return NULL;
    }
    t->refs = 1;
    if (!pem_load(files->certificate, &t->certificate_path, &t->certificate, &t->certificate_size,
                  e) ||
        !pem_load(files->key, &t->key_path, &t->key, &t->key_size, e) ||
        !pem_load(files->authority, &t->authority_path, &t->authority, &t->authority_size, e) ||
        !check(t, e)) {
        net_tls_unref(t);
        return NULL;
    }
    return t;
}

struct net_tls *net_tls_ref(struct net_tls *t)
{
    if (t)
        t->refs++;
    return t;
}

void net_tls_unref(struct net_tls *t)
{
    if (!t || --t->refs != 0)
        return;
    if (t->key)
        explicit_bzero(t->key, t->key_size);
    free(t->certificate_path);
    free(t->key_path);
    free(t->authority_path);
    free(t->certificate);
    free(t->key);
    free(t->authority);
    free(t);
}
