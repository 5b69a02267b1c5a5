/*
 * tls.h - the certificate side of TLS towards clients, and the few OpenSSL calls that stream.c needs.
 */
#ifndef NET_TLS_H
#define NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <openssl/ssl.h>
#include "config/config.h"

struct tls_context;

/* Makes the context that clients' connections use.  Protocols, ciphers, certificate, CA and CRL are the configuration's; ALPN
 * is answered with `postgresql`, any other is refused; client certificates are asked for when there is a CA, and required in
 * verify-ca and verify-full.  NULL after writing what is wrong (file, OpenSSL's reason) to `error`. */
struct tls_context *tls_context_new(const struct config *config, char *error, size_t error_bytes);
/* Connections that were accepted with it go on. */
void tls_context_free(struct tls_context *context);
/* A new server-side SSL for this descriptor (non-blocking, partial and moving writes on); SSL_free it. */
SSL *tls_accept(struct tls_context *context, int fd);
/* Whether `name` is known to client_protocols. */
bool tls_protocols_parse(const char *text, int *least, int *most);
/* The tls-server-end-point hash (RFC 5929) of the certificate that this connection was given; returns its length, 0 when
 * its signature's algorithm has no hash (Ed25519): then there is no channel binding. */
size_t tls_certificate_hash(SSL *ssl, uint8_t out[64]);
/* Whether the client asked for `postgresql` by ALPN. */
bool tls_speaks_postgresql(const SSL *ssl);
/* Whether the client has shown a certificate that the CA vouches for. */
bool tls_peer_is_verified(SSL *ssl);
/* The common name of the verified client certificate; false when there is none or it holds a zero byte. */
bool tls_peer_common_name(SSL *ssl, char *out, size_t out_bytes);
/* Its whole name, as RFC 2253 writes it; false when there is none, or it is longer than `out`. */
bool tls_peer_distinguished_name(SSL *ssl, char *out, size_t out_bytes);
/* OpenSSL's queue of errors as one short line; empties the queue. */
void tls_error_text(char *out, size_t out_bytes);

#endif
