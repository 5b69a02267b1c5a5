/*
 * scram.h - the server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677, protocol 55.3) and md5.
 *
 * Pure: no I/O; random bytes come in as arguments.  Unknown users get a mock exchange that cannot be told
 * from a wrong password.  Channel binding is tls-server-end-point (RFC 5929) when the caller gives the
 * certificate's hash.
 */
#ifndef PROTO_SCRAM_H
#define PROTO_SCRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCRAM_KEY_BYTES      32
#define SCRAM_SALT_MAX_BYTES 64
#define SCRAM_NONCE_BYTES    18
#define SCRAM_MESSAGE_MAX    1024
#define SCRAM_ITERATIONS     4096

/* What the server keeps instead of a password. */
struct scram_verifier {
    int iterations;
    size_t salt_bytes;
    uint8_t salt[SCRAM_SALT_MAX_BYTES];
    uint8_t stored_key[SCRAM_KEY_BYTES];
    uint8_t server_key[SCRAM_KEY_BYTES];
    bool is_mock; /* made for a user that does not exist: never matches */
};

/* Whether the secret says that it is a verifier, be it well-formed or not. */
bool scram_is_secret(const char *secret);
/* "SCRAM-SHA-256$<iterations>:<salt>$<stored>:<server>"; false when it is not one. */
bool scram_verifier_parse(struct scram_verifier *verifier, const char *text);
/* Derives one from a plain password, taken as the bytes that it is (PBKDF2); `salt_bytes` up to SCRAM_SALT_MAX_BYTES. */
void scram_verifier_derive(struct scram_verifier *verifier, const char *password,
                           const uint8_t *salt, size_t salt_bytes, int iterations);
/* For an unknown user: the salt comes from HMAC(secret, name), so that it is the same every time. */
void scram_verifier_mock(struct scram_verifier *verifier, const char *user,
                         const uint8_t secret[32]);
/* Text form; `out` must hold 256 bytes. */
void scram_verifier_format(const struct scram_verifier *verifier, char *out, size_t out_bytes);

enum scram_result { SCRAM_CONTINUE, SCRAM_OK, SCRAM_FAILED, SCRAM_MALFORMED };

/* One exchange; plain data, no pointers to free. */
struct scram_exchange {
    struct scram_verifier verifier;
    bool may_bind_channel; /* TLS is on and the PLUS mechanism was offered */
    bool is_plus;          /* the client chose SCRAM-SHA-256-PLUS */
    uint8_t certificate_hash[64];
    size_t certificate_hash_bytes;
    char gs2_header[256]; /* as the client sent it, to compare with c= later */
    char client_first_bare[SCRAM_MESSAGE_MAX];
    char server_first[SCRAM_MESSAGE_MAX];
    char nonce[256]; /* client's + ours */
};

/* The client's first message (without the mechanism's name and length prefix).  `nonce` is
 * SCRAM_NONCE_BYTES random bytes.  On SCRAM_CONTINUE `reply` (SCRAM_MESSAGE_MAX bytes, zero-terminated) is the
 * server-first-message to send as AuthenticationSASLContinue.  On SCRAM_MALFORMED `reply` says what was wrong. */
enum scram_result scram_first(struct scram_exchange *exchange, const uint8_t *message,
                              size_t length, const uint8_t nonce[SCRAM_NONCE_BYTES], char *reply);
/* The client's final message.  On SCRAM_OK `reply` is the server-final-message (AuthenticationSASLFinal). */
enum scram_result scram_final(struct scram_exchange *exchange, const uint8_t *message,
                              size_t length, char *reply);

/* "md5" + hex(md5(hex(md5(password + user)) + salt)); `secret` is plain or "md5..." itself.  Compares in
 * constant time what the client sent (zero-terminated). */
bool md5_password_matches(const char *secret, const char *user, const uint8_t salt[4],
                          const char *response);
/* "md5" and 32 hex digits. */
bool md5_is_secret(const char *secret);
/* True when the plain password gives this secret, whatever its form (plain, md5, SCRAM verifier). */
bool password_matches_secret(const char *secret, const char *user, const char *password);

#endif
