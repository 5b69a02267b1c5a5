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

/* Makes the context that clients' connections use: TLS 1.2 at least, ALPN `postgresql` accepted, client
 * certificates asked for in verify-ca, verify-full (and required there) and when auth is cert.  NULL after writing
 * what is wrong (file, OpenSSL's reason) to `error`. */
struct tls_context *tls_context_new(const struct config *config, char *error, size_t error_bytes);
void tls_context_free(struct tls_context *context);
/* A new server-side SSL for this descriptor (non-blocking, partial and moving writes on); SSL_free it. */
SSL *tls_accept(struct tls_context *context, int fd);
/* The tls-server-end-point hash (RFC 5929) of our certificate; returns its length. */
size_t tls_certificate_hash(const struct tls_context *context, uint8_t out[64]);
/* The common name of the verified client certificate; false when there is none or it holds a zero byte. */
bool tls_peer_common_name(SSL *ssl, char *out, size_t out_bytes);
/* OpenSSL's queue of errors as one short line; empties the queue. */
void tls_error_text(char *out, size_t out_bytes);

#endif
