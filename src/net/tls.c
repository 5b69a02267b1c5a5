/*
 * tls.c - certificates towards clients: see tls.h.
 *
 * TLS 1.2 at least.  ALPN `postgresql` is accepted when offered.  Certificates of clients are asked for when a CA is
 * configured, and required in verify-ca and verify-full (where the name is compared by auth.c's `cert` method).
 */
#include "net/tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "base/memory.h"

struct tls_context {
    SSL_CTX *ssl;
    uint8_t hash[64];
    size_t hash_bytes;
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

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_bytes,
                           const unsigned char *offered, unsigned int offered_bytes, void *arg)
{
    static const unsigned char ours[] = "\012postgresql";
    unsigned char *chosen;
    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&chosen, out_bytes, ours, sizeof(ours) - 1, offered, offered_bytes) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* RFC 5929 4.1: the certificate's own hash, SHA-256 in place of md5 and SHA-1. */
static void hash_certificate(struct tls_context *context)
{
    X509 *certificate = SSL_CTX_get0_certificate(context->ssl);
    int digest_nid = NID_undef;
    unsigned int length = 0;
    if (!certificate)
        return;
    OBJ_find_sigid_algs(X509_get_signature_nid(certificate), &digest_nid, NULL);
    const EVP_MD *digest =
        digest_nid == NID_undef || digest_nid == NID_md5 || digest_nid == NID_sha1
            ? EVP_sha256()
            : EVP_get_digestbynid(digest_nid);
    if (digest && X509_digest(certificate, digest, context->hash, &length) == 1)
        context->hash_bytes = length;
}

static bool load(SSL_CTX *ssl, const struct config *config, char *error, size_t error_bytes)
{
    char reason[200];
    if (SSL_CTX_use_certificate_chain_file(ssl, config->tls_client_cert_file) != 1) {
        tls_error_text(reason, sizeof(reason));
        snprintf(error, error_bytes, "%s: %s", config->tls_client_cert_file, reason);
        return false;
    }
    if (SSL_CTX_use_PrivateKey_file(ssl, config->tls_client_key_file, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ssl) != 1) {
        tls_error_text(reason, sizeof(reason));
        snprintf(error, error_bytes, "%s: %s", config->tls_client_key_file, reason);
        return false;
    }
    if (!config->tls_client_ca_file)
        return true;
    if (SSL_CTX_load_verify_locations(ssl, config->tls_client_ca_file, NULL) != 1) {
        tls_error_text(reason, sizeof(reason));
        snprintf(error, error_bytes, "%s: %s", config->tls_client_ca_file, reason);
        return false;
    }
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
    SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(ssl, choose_protocol, NULL);
    if (!load(ssl, config, error, error_bytes)) {
        SSL_CTX_free(ssl);
        return NULL;
    }
    struct tls_context *context = memory_alloc(sizeof(*context));
    context->ssl = ssl;
    hash_certificate(context);
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

size_t tls_certificate_hash(const struct tls_context *context, uint8_t out[64])
{
    memcpy(out, context->hash, context->hash_bytes);
    return context->hash_bytes;
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
