/* lib_certs.c - certificates made with GnuTLS: P-256, valid for a day. */
#include "lib_certs.h"

#include "base/file.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static gnutls_x509_privkey_t key_new(void)
{
    gnutls_x509_privkey_t key;
    assert_int_equal(gnutls_x509_privkey_init(&key), 0);
    assert_int_equal(gnutls_x509_privkey_generate(
                         key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
                     0);
    return key;
}

static gnutls_x509_crt_t certificate_new(const char *name, gnutls_x509_privkey_t key)
{
    static unsigned char serial;
    gnutls_x509_crt_t crt;
    serial++;
    assert_int_equal(gnutls_x509_crt_init(&crt), 0);
    assert_int_equal(gnutls_x509_crt_set_version(crt, 3), 0);
    assert_int_equal(gnutls_x509_crt_set_serial(crt, &serial, 1), 0);
    assert_int_equal(gnutls_x509_crt_set_activation_time(crt, time(NULL) - 60), 0);
    assert_int_equal(gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 86400), 0);
    assert_int_equal(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                                   (unsigned)strlen(name)),
                     0);
    assert_int_equal(gnutls_x509_crt_set_key(crt, key), 0);
    return crt;
}

static void write_pem(const struct certs *c, const char *name, const char *end, gnutls_datum_t *pem)
{
    struct err e;
    char *path = text_format("%s/%s.%s", c->folder, name, end);
    assert_non_null(path);
    if (!file_write_atomic(path, pem->data, pem->size, 0600, &e))
        fail_msg("%s", e.text);
    gnutls_free(pem->data);
    free(path);
}

void certs_make(struct certs *c, const char *authority_name)
{
    (void)snprintf(c->folder, sizeof(c->folder), "/tmp/s2m3-certs-XXXXXX");
    assert_non_null(mkdtemp(c->folder));
    gnutls_x509_privkey_t key = key_new();
    gnutls_x509_crt_t crt = certificate_new(authority_name, key);
    assert_int_equal(gnutls_x509_crt_set_basic_constraints(crt, 1, 0), 0);
    assert_int_equal(gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_KEY_CERT_SIGN), 0);
    assert_int_equal(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0), 0);
    gnutls_datum_t pem;
    assert_int_equal(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem), 0);
    write_pem(c, "authority", "crt", &pem);
    c->authority = crt;
    c->authority_key = key;
}

void certs_issue(struct certs *c, const char *name)
{
    static const unsigned char loopback[4] = {127, 0, 0, 1};
    gnutls_x509_privkey_t key = key_new();
    gnutls_x509_crt_t crt = certificate_new(name, key);
    assert_int_equal(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, loopback, 4,
                                                          GNUTLS_FSAN_SET),
                     0);
    assert_int_equal(gnutls_x509_crt_set_subject_alt_name(
                         crt, GNUTLS_SAN_DNSNAME, name, (unsigned)strlen(name), GNUTLS_FSAN_APPEND),
                     0);
    assert_int_equal(
        gnutls_x509_crt_sign2(crt, c->authority, c->authority_key, GNUTLS_DIG_SHA256, 0), 0);
    gnutls_datum_t pem;
    assert_int_equal(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem), 0);
    write_pem(c, name, "crt", &pem);
    assert_int_equal(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem), 0);
    write_pem(c, name, "key", &pem);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}

struct net_tls *certs_tls(const struct certs *c, const char *name, const struct certs *trust)
{
    struct err e;
    char *certificate = name ? text_format("%s/%s.crt", c->folder, name) : NULL;
    char *key = name ? text_format("%s/%s.key", c->folder, name) : NULL;
    char *authority = trust ? text_format("%s/authority.crt", trust->folder) : NULL;
    struct net_tls *t = net_tls_load(&(struct net_tls_files){certificate, key, authority}, &e);
    if (!t)
        fail_msg("%s", e.text);
    free(certificate);
    free(key);
    free(authority);
    return t;
}

void certs_remove(struct certs *c)
{
    struct err e;
    gnutls_x509_crt_deinit(c->authority);
    gnutls_x509_privkey_deinit(c->authority_key);
    if (!file_remove_tree(c->folder, &e))
        fail_msg("%s", e.text);
}
