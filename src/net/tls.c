/*
 * tls.c - certificates towards clients: see tls.h.
 *
 * TLS 1.2 at least, unless client_protocols says otherwise.  No sessions are resumed: a resumed one would not look at a
 * certificate that has been revoked, or a CA that has been changed, since.  A reload makes a new context beside the old
 * one; OpenSSL keeps the old one alive for the connections that it has accepted, which is also why what channel binding wants
 * is asked of the connection and not of the context.
 */
#include "net/tls.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "base/file.h"
#include "base/memory.h"

struct tls_context {
    SSL_CTX *ssl;
};

void tls_error_text(char *out, size_t out_bytes)
{
    unsigned long code = ERR_peek_last_error();
    if (code)
        ERR_error_string_n(code, out, out_bytes);
    else
        snprintf(out, out_bytes, "unknown error");
    ERR_clear_error();
}

static const unsigned char alpn[] = "\012postgresql";

/* What a client offers and we do not speak ends the handshake (RFC 7301 3.2), so that nobody can have a browser or a mail
 * client talk to us. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_bytes,
                           const unsigned char *offered, unsigned int offered_bytes, void *arg)
{
    unsigned char *chosen;
    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&chosen, out_bytes, alpn, sizeof(alpn) - 1, offered, offered_bytes) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

bool tls_speaks_postgresql(const SSL *ssl)
{
    const unsigned char *chosen = NULL;
    unsigned int length = 0;
    SSL_get0_alpn_selected(ssl, &chosen, &length);
    return length == sizeof(alpn) - 2 && memcmp(chosen, alpn + 1, length) == 0;
}

/* ---- settings ---- */

static const struct {
    const char *name;
    int version;
} versions[] = {{"tlsv1.0", TLS1_VERSION},
                {"tlsv1.1", TLS1_1_VERSION},
                {"tlsv1.2", TLS1_2_VERSION},
                {"tlsv1.3", TLS1_3_VERSION}};

static int version_of(const char *name)
{
    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
        if (strcasecmp(name, versions[i].name) == 0)
            return versions[i].version;
    }
    return 0;
}

/* PgBouncer's words: secure is 1.2 and up, all is everything, legacy is 1.1 and up; or a list. */
bool tls_protocols_parse(const char *text, int *least, int *most)
{
    char *copy = memory_strdup(text);
    char *at = copy;
    bool ok = true;
    *least = INT_MAX;
    *most = 0;
    for (char *word; (word = strsep(&at, ":, "));) {
        if (!*word)
            continue;
        int version = version_of(word);
        if (strcasecmp(word, "secure") == 0 || strcasecmp(word, "default") == 0)
            version = TLS1_2_VERSION;
        else if (strcasecmp(word, "all") == 0)
            version = TLS1_VERSION;
        else if (strcasecmp(word, "legacy") == 0)
            version = TLS1_1_VERSION;
        ok = ok && version != 0;
        bool is_open = version != 0 && version_of(word) == 0;
        *least = version < *least ? version : *least;
        *most = is_open ? TLS1_3_VERSION : (version > *most ? version : *most);
    }
    free(copy);
    return ok && *most != 0;
}

static bool fail(char *error, size_t error_bytes, const char *what)
{
    char reason[200];
    tls_error_text(reason, sizeof(reason));
    snprintf(error, error_bytes, "%s: %s", what, reason);
    return false;
}

static bool set_protocols(SSL_CTX *ssl, const struct config *config, char *error,
                          size_t error_bytes)
{
    int least;
    int most;
    const char *ciphers = config->tls_client_ciphers;
    if (!tls_protocols_parse(config->tls_client_protocols ? config->tls_client_protocols : "secure",
                             &least, &most)) {
        snprintf(error, error_bytes,
                 "client_protocols = %s: there are tlsv1.2 and tlsv1.3, or secure for both",
                 config->tls_client_protocols);
        return false;
    }
    SSL_CTX_set_min_proto_version(ssl, least);
    SSL_CTX_set_max_proto_version(ssl, most);
    if (least < TLS1_2_VERSION)
        SSL_CTX_set_security_level(ssl, 0); /* OpenSSL 3 has them below level 1 */
    if (ciphers && (strcasecmp(ciphers, "default") == 0 || strcasecmp(ciphers, "secure") == 0))
        ciphers = NULL;
    if (ciphers && SSL_CTX_set_cipher_list(ssl, ciphers) != 1)
        return fail(error, error_bytes, "client_ciphers");
    if (config->tls_client_tls13_ciphers &&
        SSL_CTX_set_ciphersuites(ssl, config->tls_client_tls13_ciphers) != 1)
        return fail(error, error_bytes, "client_tls13_ciphers");
    return true;
}

/* A key with a pass phrase would have OpenSSL ask for it on the terminal, in the middle of the loop. */
static int no_passphrase(char *out, int size, int is_for_writing, void *arg)
{
    (void)out;
    (void)size;
    (void)is_for_writing;
    (void)arg;
    return -1;
}

static bool load_crl(SSL_CTX *ssl, const char *file)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ssl);
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
    return lookup && X509_load_crl_file(lookup, file, X509_FILETYPE_PEM) > 0 &&
           X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL) == 1;
}

/* OpenSSL would wait for a pipe's writer, and at a reload everybody with it. */
static const char *first_pipe(const struct config *config)
{
    const char *const files[] = {config->tls_client_cert_file, config->tls_client_key_file,
                                 config->tls_client_ca_file, config->tls_client_crl_file};
    struct stat about;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (files[i] && stat(files[i], &about) == 0 && S_ISFIFO(about.st_mode))
            return files[i];
    }
    return NULL;
}

static bool load(SSL_CTX *ssl, const struct config *config, char *error, size_t error_bytes)
{
    const char *pipe = first_pipe(config);
    if (pipe) {
        snprintf(error, error_bytes, "%s: %s", pipe, file_reason(FILE_NOT_REGULAR));
        return false;
    }
    SSL_CTX_set_default_passwd_cb(ssl, no_passphrase);
    if (SSL_CTX_use_certificate_chain_file(ssl, config->tls_client_cert_file) != 1)
        return fail(error, error_bytes, config->tls_client_cert_file);
    if (SSL_CTX_use_PrivateKey_file(ssl, config->tls_client_key_file, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ssl) != 1)
        return fail(error, error_bytes, config->tls_client_key_file);
    if (!config->tls_client_ca_file)
        return true;
    if (SSL_CTX_load_verify_locations(ssl, config->tls_client_ca_file, NULL) != 1)
        return fail(error, error_bytes, config->tls_client_ca_file);
    if (config->tls_client_crl_file && !load_crl(ssl, config->tls_client_crl_file))
        return fail(error, error_bytes, config->tls_client_crl_file);
    SSL_CTX_set_client_CA_list(ssl, SSL_load_client_CA_file(config->tls_client_ca_file));
    int mode = SSL_VERIFY_PEER;
    if (config->tls_client_mode >= TLS_CLIENT_VERIFY_CA)
        mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(ssl, mode, NULL);
    return true;
}

struct tls_context *tls_context_new(const struct config *config, char *error, size_t error_bytes)
{
    SSL_CTX *ssl = SSL_CTX_new(TLS_server_method());
    if (!ssl) {
        tls_error_text(error, error_bytes);
        return NULL;
    }
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ssl, 0);
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(ssl, choose_protocol, NULL);
    if (!set_protocols(ssl, config, error, error_bytes) || !load(ssl, config, error, error_bytes)) {
        SSL_CTX_free(ssl);
        return NULL;
    }
    struct tls_context *context = memory_alloc(sizeof(*context));
    context->ssl = ssl;
    return context;
}

void tls_context_free(struct tls_context *context)
{
    if (!context)
        return;
    SSL_CTX_free(context->ssl);
    free(context);
}

SSL *tls_accept(struct tls_context *context, int fd)
{
    SSL *ssl = SSL_new(context->ssl);
    if (ssl && SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        ssl = NULL;
    }
    return ssl;
}

/* RFC 5929 4.1: the hash of its signature's algorithm, SHA-256 in place of md5 and SHA-1. */
size_t tls_certificate_hash(SSL *ssl, uint8_t out[64])
{
    X509 *certificate = SSL_get_certificate(ssl);
    int nid = NID_undef;
    unsigned int length = 0;
    if (!certificate || X509_get_signature_info(certificate, &nid, NULL, NULL, NULL) != 1 ||
        nid == NID_undef)
        return 0;
    const EVP_MD *digest =
        nid == NID_md5 || nid == NID_sha1 ? EVP_sha256() : EVP_get_digestbynid(nid);
    if (!digest || X509_digest(certificate, digest, out, &length) != 1)
        return 0;
    return length;
}

bool tls_peer_is_verified(SSL *ssl)
{
    X509 *certificate = SSL_get1_peer_certificate(ssl);
    bool is_shown = certificate != NULL;
    X509_free(certificate);
    return is_shown && SSL_get_verify_result(ssl) == X509_V_OK;
}

bool tls_peer_common_name(SSL *ssl, char *out, size_t out_bytes)
{
    X509 *certificate = SSL_get1_peer_certificate(ssl);
    if (!certificate)
        return false;
    int length = -1;
    if (SSL_get_verify_result(ssl) == X509_V_OK)
        length = X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, out,
                                           (int)out_bytes);
    X509_free(certificate);
    return length > 0 && strlen(out) == (size_t)length && (size_t)length < out_bytes - 1;
}

bool tls_peer_distinguished_name(SSL *ssl, char *out, size_t out_bytes)
{
    X509 *certificate = SSL_get1_peer_certificate(ssl);
    BIO *text = BIO_new(BIO_s_mem());
    int length = -1;
    if (certificate && text && SSL_get_verify_result(ssl) == X509_V_OK &&
        X509_NAME_print_ex(text, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) >= 0 &&
        BIO_pending(text) < (int)out_bytes)
        length = BIO_read(text, out, (int)out_bytes - 1);
    BIO_free(text);
    X509_free(certificate);
    if (length <= 0)
        return false;
    out[length] = '\0';
    return strlen(out) == (size_t)length;
}
