/*
 * property_scram.c - the right password gets in, nothing else does, whatever bytes a client sends.
 *
 * Exchanges with random passwords, salts and nonces are played to the end by a client's side written here from RFC 5802.
 * Then one thing is changed: the password, a byte of the final message, its length.  None of those may succeed, save for
 * a change that base64 does not see.  First messages of random bytes must never be answered with success.
 */
#include "proto/scram.h"

#include <string.h>

#include <openssl/evp.h>

#include "random.h"

#define EXCHANGES 2000
#define MESSAGES  50000

#define ITERATIONS 2 /* the arithmetic is the same */

static struct scram_exchange exchange;
static char reply[SCRAM_MESSAGE_MAX];

static void random_text(char *out, size_t most, bool is_printable)
{
    size_t length = 1 + (size_t)random_below((int)most - 1);
    for (size_t i = 0; i < length; i++) {
        do
            out[i] = (char)(is_printable ? 0x21 + random_below(0x5e) : 1 + random_below(255));
        while (is_printable && out[i] == ',');
    }
    out[length] = '\0';
}

static void hmac(const uint8_t key[32], const char *text, uint8_t out[32])
{
    size_t written;
    EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, key, 32, (const uint8_t *)text, strlen(text), out,
              32, &written);
}

/* client-final-message of RFC 5802 section 3 for this password. */
static void answer(const char *password, char *message)
{
    uint8_t salted[32];
    uint8_t key[32];
    uint8_t stored[32];
    uint8_t signature[32];
    char encoded[64];
    char auth[3 * SCRAM_MESSAGE_MAX];
    char bare[SCRAM_MESSAGE_MAX - 80];
    size_t length;
    snprintf(bare, sizeof(bare), "c=biws,r=%s", exchange.nonce);
    PKCS5_PBKDF2_HMAC(password, (int)strlen(password), exchange.verifier.salt,
                      (int)exchange.verifier.salt_bytes, ITERATIONS, EVP_sha256(), 32, salted);
    hmac(salted, "Client Key", key);
    EVP_Q_digest(NULL, "SHA256", NULL, key, 32, stored, &length);
    snprintf(auth, sizeof(auth), "%s,%s,%s", exchange.client_first_bare, exchange.server_first,
             bare);
    hmac(stored, auth, signature);
    for (int i = 0; i < 32; i++)
        key[i] ^= signature[i];
    EVP_EncodeBlock((uint8_t *)encoded, key, 32);
    snprintf(message, SCRAM_MESSAGE_MAX, "%s,p=%s", bare, encoded);
}

static enum scram_result finish(const char *message, size_t length)
{
    struct scram_exchange copy = exchange;
    return scram_final(&copy, (const uint8_t *)message, length, reply);
}

static void one_exchange(void)
{
    char password[80];
    char wrong[80];
    char nonce[120];
    char first[SCRAM_MESSAGE_MAX];
    char final[SCRAM_MESSAGE_MAX];
    uint8_t salt[SCRAM_SALT_MAX_BYTES];
    uint8_t ours[SCRAM_NONCE_BYTES];
    random_text(password, sizeof(password), false);
    random_text(nonce, sizeof(nonce), true);
    for (size_t i = 0; i < sizeof(salt); i++)
        salt[i] = (uint8_t)random_next();
    for (size_t i = 0; i < sizeof(ours); i++)
        ours[i] = (uint8_t)random_next();
    memset(&exchange, 0, sizeof(exchange));
    scram_verifier_derive(&exchange.verifier, password, salt,
                          1 + (size_t)random_below(SCRAM_SALT_MAX_BYTES), ITERATIONS);
    snprintf(first, sizeof(first), "%c,,n=%s,r=%s", random_chance(50) ? 'n' : 'y', "", nonce);
    bool is_biws = first[0] == 'n'; /* what answer() sends */
    CHECK(scram_first(&exchange, (uint8_t *)first, strlen(first), ours, reply) == SCRAM_CONTINUE,
          "%s: %s", first, reply);

    answer(password, final);
    enum scram_result result = finish(final, strlen(final));
    CHECK(result == (is_biws ? SCRAM_OK : SCRAM_FAILED), "%s -> %d", final, result);

    size_t length = strlen(final);
    size_t cut = (size_t)random_below((int)length);
    CHECK(finish(final, cut) != SCRAM_OK, "cut to %zu: %s", cut, final);
    size_t at =
        (size_t)random_below((int)length - 2); /* behind that are bits that base64 ignores */
    final[at] = (char)(final[at] ^ (1 << random_below(8)));
    CHECK(finish(final, length) != SCRAM_OK, "byte %zu changed: %s", at, final);

    snprintf(wrong, sizeof(wrong), "%s", password);
    wrong[random_below((int)strlen(wrong))] ^= 1;
    if (strcmp(wrong, password) != 0) {
        answer(wrong, final);
        CHECK(finish(final, strlen(final)) != SCRAM_OK, "another password");
    }
}

static void one_message(void)
{
    static const char worst[] = "n,y=p,,r=c=biws,m=a\x01\xff ";
    uint8_t message[80];
    uint8_t ours[SCRAM_NONCE_BYTES] = {0};
    size_t length = (size_t)random_below((int)sizeof(message));
    for (size_t i = 0; i < length; i++)
        message[i] = (uint8_t)worst[random_below((int)sizeof(worst))];
    memset(&exchange, 0, sizeof(exchange));
    exchange.verifier.iterations = 1;
    exchange.verifier.salt_bytes = 16;
    exchange.is_plus = random_chance(30);
    exchange.may_bind_channel = exchange.is_plus || random_chance(30);
    enum scram_result result = scram_first(&exchange, message, length, ours, reply);
    CHECK(result == SCRAM_CONTINUE || result == SCRAM_MALFORMED, "%d", result);
    CHECK(memchr(reply, 0, sizeof(reply)), "a reply without an end");
    result = scram_final(&exchange, message, length, reply);
    CHECK(result == SCRAM_FAILED || result == SCRAM_MALFORMED, "%d", result);
}

int main(int argc, char **argv)
{
    random_start(seed_from(argc, argv, 7677));
    for (random_step = 0; random_step < EXCHANGES; random_step++)
        one_exchange();
    for (random_step = 0; random_step < MESSAGES; random_step++)
        one_message();
    printf("%ld checks held\n", checks_passed);
    return 0;
}
