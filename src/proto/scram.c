/*
 * scram.c - the server's side of SCRAM-SHA-256 and md5: see scram.h.
 *
 * The arithmetic is OpenSSL's (HMAC, PBKDF2, SHA-256, base64, constant-time compare); here are the messages.  Each
 * attribute is taken in the order that RFC 5802 prescribes, every length is checked, and anything unexpected is
 * malformed.  The user name in the message is ignored: the start-up packet's counts, as in PostgreSQL. 
 * Passwords are bytes here; what SASLprep makes of other than ASCII is config/password.c's.
 */
#include "proto/scram.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include "base/memory.h"

#define KEY SCRAM_KEY_BYTES

static void hmac(const uint8_t key[KEY], const void *data, size_t length, uint8_t out[KEY])
{
    unsigned int written = KEY;
    memory_require(HMAC(EVP_sha256(), key, KEY, data, length, out, &written) != NULL);
}

static void sha256(const uint8_t bytes[KEY], uint8_t out[KEY])
{
    memory_require(SHA256(bytes, KEY, out) != NULL);
}

/* Base64 with its padding; `out` holds (length + 2) / 3 * 4 + 1 bytes. */
static void encode(const uint8_t *bytes, size_t length, char *out)
{
    EVP_EncodeBlock((unsigned char *)out, bytes, (int)length);
}

/* Strict base64; the number of bytes, or -1. */
static int decode(const char *text, size_t length, uint8_t *out, size_t room)
{
    uint8_t buffer[256];
    if (length == 0 || length % 4 != 0 || length / 4 * 3 > sizeof(buffer))
        return -1;
    for (size_t i = 0; i < length; i++) {
        bool is_padding = text[i] == '=' && i + 2 >= length;
        if (!is_padding && !strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                   "0123456789+/",
                                   text[i]))
            return -1;
    }
    int got = EVP_DecodeBlock(buffer, (const unsigned char *)text, (int)length);
    if (got < 0)
        return -1;
    got -= text[length - 1] == '=';
    got -= text[length - 2] == '=';
    if ((size_t)got > room)
        return -1;
    memcpy(out, buffer, (size_t)got);
    return got;
}

/* ---- verifiers ---- */

#define PREFIX       "SCRAM-SHA-256$"
#define PREFIX_BYTES (sizeof(PREFIX) - 1)

bool scram_is_secret(const char *secret)
{
    return strncmp(secret, PREFIX, PREFIX_BYTES) == 0;
}

bool scram_verifier_parse(struct scram_verifier *verifier, const char *text)
{
    *verifier = (struct scram_verifier){0};
    if (!scram_is_secret(text))
        return false;
    char *end;
    long iterations = strtol(text + PREFIX_BYTES, &end, 10);
    if (*end != ':' || iterations < 1 || iterations > 100000000)
        return false;
    const char *salt = end + 1;
    const char *stored = strchr(salt, '$');
    const char *server = stored ? strchr(stored, ':') : NULL;
    if (!server)
        return false;
    int salt_bytes = decode(salt, (size_t)(stored - salt), verifier->salt, SCRAM_SALT_MAX_BYTES);
    if (salt_bytes < 1 ||
        decode(stored + 1, (size_t)(server - stored) - 1, verifier->stored_key, KEY) != KEY ||
        decode(server + 1, strlen(server + 1), verifier->server_key, KEY) != KEY)
        return false;
    verifier->iterations = (int)iterations;
    verifier->salt_bytes = (size_t)salt_bytes;
    return true;
}

static void keys_of(const char *password, const uint8_t *salt, size_t salt_bytes, int iterations,
                    uint8_t stored[KEY], uint8_t server[KEY])
{
    uint8_t salted[KEY];
    uint8_t client[KEY];
    memory_require(PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt, (int)salt_bytes,
                                     iterations, EVP_sha256(), KEY, salted) == 1);
    hmac(salted, "Client Key", 10, client);
    sha256(client, stored);
    hmac(salted, "Server Key", 10, server);
    OPENSSL_cleanse(salted, sizeof(salted));
    OPENSSL_cleanse(client, sizeof(client));
}

void scram_verifier_derive(struct scram_verifier *verifier, const char *password,
                           const uint8_t *salt, size_t salt_bytes, int iterations)
{
    *verifier = (struct scram_verifier){.iterations = iterations, .salt_bytes = salt_bytes};
    memcpy(verifier->salt, salt, salt_bytes);
    keys_of(password, salt, salt_bytes, iterations, verifier->stored_key, verifier->server_key);
}

void scram_verifier_mock(struct scram_verifier *verifier, const char *user,
                         const uint8_t secret[32])
{
    uint8_t salt[KEY];
    *verifier = (struct scram_verifier){.iterations = SCRAM_ITERATIONS, .salt_bytes = 16};
    hmac(secret, user, strlen(user), salt);
    memcpy(verifier->salt, salt, 16);
    verifier->is_mock = true;
}

void scram_verifier_format(const struct scram_verifier *verifier, char *out, size_t out_bytes)
{
    char salt[SCRAM_SALT_MAX_BYTES * 2];
    char stored[KEY * 2];
    char server[KEY * 2];
    encode(verifier->salt, verifier->salt_bytes, salt);
    encode(verifier->stored_key, KEY, stored);
    encode(verifier->server_key, KEY, server);
    snprintf(out, out_bytes, PREFIX "%d:%s$%s:%s", verifier->iterations, salt, stored, server);
}

/* ---- the exchange ---- */

static enum scram_result malformed(char *reply, const char *why)
{
    snprintf(reply, SCRAM_MESSAGE_MAX, "%s", why);
    return SCRAM_MALFORMED;
}

/* A zero-terminated copy of a message; false when it is too long or holds a zero byte. */
static bool copy_message(char *out, const uint8_t *message, size_t length)
{
    if (length == 0 || length >= SCRAM_MESSAGE_MAX || memchr(message, 0, length))
        return false;
    memcpy(out, message, length);
    out[length] = '\0';
    return true;
}

/* The value of attribute `name` at `*at`, up to the next comma; NULL when another one stands there. */
static char *attribute(char **at, char name)
{
    char *text = *at;
    if (!text || text[0] != name || text[1] != '=')
        return NULL;
    char *comma = strchr(text, ',');
    *at = comma ? comma + 1 : NULL;
    if (comma)
        *comma = '\0';
    return text + 2;
}

static bool is_printable(const char *text)
{
    if (!*text)
        return false;
    for (; *text; text++) {
        if (*text < 0x21 || *text > 0x7e)
            return false;
    }
    return true;
}

/* The gs2 header: n, y or p=..., then no authzid.  Returns what follows it, or NULL. */
static char *gs2_header(struct scram_exchange *exchange, char *message, char *reply)
{
    char *bare = strchr(message, ',');
    char *second = bare ? strchr(bare + 1, ',') : NULL;
    if (!second || second != bare + 1) {
        malformed(reply, "authorization identities are not supported");
        return NULL;
    }
    bool is_known = strncmp(message, "n,", 2) == 0 || strncmp(message, "y,", 2) == 0;
    if (exchange->is_plus)
        is_known = strncmp(message, "p=tls-server-end-point,", 23) == 0;
    else if (message[0] == 'y' && exchange->may_bind_channel) {
        malformed(reply, "channel binding was offered, the client says it was not");
        return NULL;
    }
    size_t length = (size_t)(second - message) + 1;
    if (!is_known || length >= sizeof(exchange->gs2_header)) {
        malformed(reply, "unexpected channel-binding flag");
        return NULL;
    }
    memcpy(exchange->gs2_header, message, length);
    exchange->gs2_header[length] = '\0';
    return second + 1;
}

enum scram_result scram_first(struct scram_exchange *exchange, const uint8_t *message,
                              size_t length, const uint8_t nonce[SCRAM_NONCE_BYTES], char *reply)
{
    char copy[SCRAM_MESSAGE_MAX];
    char own[SCRAM_NONCE_BYTES * 2];
    char salt[SCRAM_SALT_MAX_BYTES * 2];
    if (!copy_message(copy, message, length))
        return malformed(reply, "the first message is empty or too long");
    char *at = gs2_header(exchange, copy, reply);
    if (!at)
        return SCRAM_MALFORMED;
    snprintf(exchange->client_first_bare, sizeof(exchange->client_first_bare), "%s", at);
    if (!attribute(&at, 'n'))
        return malformed(reply, "the first message has no user name attribute");
    char *client_nonce = attribute(&at, 'r');
    if (!client_nonce || !is_printable(client_nonce) || strlen(client_nonce) > 200)
        return malformed(reply, "the first message has no usable nonce");
    encode(nonce, SCRAM_NONCE_BYTES, own);
    snprintf(exchange->nonce, sizeof(exchange->nonce), "%s%s", client_nonce, own);
    encode(exchange->verifier.salt, exchange->verifier.salt_bytes, salt);
    snprintf(exchange->server_first, sizeof(exchange->server_first), "r=%s,s=%s,i=%d",
             exchange->nonce, salt, exchange->verifier.iterations);
    snprintf(reply, SCRAM_MESSAGE_MAX, "%s", exchange->server_first);
    return SCRAM_CONTINUE;
}

/* c= must repeat the gs2 header, and with PLUS the certificate's hash behind it. */
static bool binding_matches(const struct scram_exchange *exchange, const char *channel)
{
    uint8_t expected[256 + 64];
    char text[512];
    size_t length = strlen(exchange->gs2_header);
    memcpy(expected, exchange->gs2_header, length);
    if (exchange->is_plus) {
        memcpy(expected + length, exchange->certificate_hash, exchange->certificate_hash_bytes);
        length += exchange->certificate_hash_bytes;
    }
    encode(expected, length, text);
    return strcmp(text, channel) == 0;
}

static bool proof_matches(const struct scram_exchange *exchange, const char *auth_message,
                          const uint8_t proof[KEY])
{
    uint8_t signature[KEY];
    uint8_t client[KEY];
    uint8_t stored[KEY];
    hmac(exchange->verifier.stored_key, auth_message, strlen(auth_message), signature);
    for (size_t i = 0; i < KEY; i++)
        client[i] = proof[i] ^ signature[i];
    sha256(client, stored);
    bool is_equal = CRYPTO_memcmp(stored, exchange->verifier.stored_key, KEY) == 0;
    OPENSSL_cleanse(client, sizeof(client));
    return is_equal && !exchange->verifier.is_mock;
}

enum scram_result scram_final(struct scram_exchange *exchange, const uint8_t *message,
                              size_t length, char *reply)
{
    char copy[SCRAM_MESSAGE_MAX];
    char auth_message[3 * SCRAM_MESSAGE_MAX];
    uint8_t proof[KEY];
    uint8_t signature[KEY];
    char encoded[KEY * 2];
    if (!copy_message(copy, message, length))
        return malformed(reply, "the final message is empty or too long");
    char *without_proof = strstr(copy, ",p=");
    if (!without_proof)
        return malformed(reply, "the final message has no proof");
    for (char *next; (next = strstr(without_proof + 1, ",p="));)
        without_proof = next;
    snprintf(auth_message, sizeof(auth_message), "%s,%s,%.*s", exchange->client_first_bare,
             exchange->server_first, (int)(without_proof - copy), copy);
    char *last = without_proof + 1;
    *without_proof = '\0';
    char *at = copy;
    char *channel = attribute(&at, 'c');
    char *nonce = channel ? attribute(&at, 'r') : NULL;
    if (!nonce || (at && at[0] == 'm'))
        return malformed(reply, "the final message lacks c= or r=");
    char *proof_text = attribute(&last, 'p');
    if (!proof_text || last || decode(proof_text, strlen(proof_text), proof, KEY) != KEY)
        return malformed(reply, "the proof is not 32 bytes of base64 at the end");
    if (!binding_matches(exchange, channel) || strcmp(nonce, exchange->nonce) != 0 ||
        !proof_matches(exchange, auth_message, proof))
        return SCRAM_FAILED;
    hmac(exchange->verifier.server_key, auth_message, strlen(auth_message), signature);
    encode(signature, KEY, encoded);
    snprintf(reply, SCRAM_MESSAGE_MAX, "v=%s", encoded);
    return SCRAM_OK;
}

/* ---- md5 ---- */

/* False where there is no MD5, as in OpenSSL's FIPS mode: then no password is right. */
static bool md5_hex(const void *a, size_t a_bytes, const void *b, size_t b_bytes, char out[33])
{
    uint8_t digest[EVP_MAX_MD_SIZE] = {0};
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool is_done = context && EVP_DigestInit_ex(context, EVP_md5(), NULL) == 1 &&
                   EVP_DigestUpdate(context, a, a_bytes) == 1 &&
                   EVP_DigestUpdate(context, b, b_bytes) == 1 &&
                   EVP_DigestFinal_ex(context, digest, NULL) == 1;
    EVP_MD_CTX_free(context);
    for (size_t i = 0; i < 16; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return is_done;
}

bool md5_is_secret(const char *secret)
{
    return strncmp(secret, "md5", 3) == 0 && strlen(secret) == 35 &&
           strspn(secret + 3, "0123456789abcdef") == 32;
}

bool md5_password_matches(const char *secret, const char *user, const uint8_t salt[4],
                          const char *response)
{
    char inner[33];
    char outer[33];
    if (md5_is_secret(secret))
        memcpy(inner, secret + 3, 33);
    else if (!md5_hex(secret, strlen(secret), user, strlen(user), inner))
        return false;
    return md5_hex(inner, 32, salt, 4, outer) && strncmp(response, "md5", 3) == 0 &&
           strlen(response) == 35 && CRYPTO_memcmp(response + 3, outer, 32) == 0;
}

bool password_matches_secret(const char *secret, const char *user, const char *password)
{
    struct scram_verifier verifier;
    uint8_t stored[KEY];
    uint8_t server[KEY];
    char hex[33];
    if (scram_verifier_parse(&verifier, secret)) {
        keys_of(password, verifier.salt, verifier.salt_bytes, verifier.iterations, stored, server);
        return CRYPTO_memcmp(stored, verifier.stored_key, KEY) == 0;
    }
    if (md5_is_secret(secret))
        return md5_hex(password, strlen(password), user, strlen(user), hex) &&
               CRYPTO_memcmp(hex, secret + 3, 32) == 0;
    return strlen(secret) == strlen(password) &&
           CRYPTO_memcmp(secret, password, strlen(secret)) == 0;
}
