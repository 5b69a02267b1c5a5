/*
 * test_scram.c - the server's side of SCRAM-SHA-256 against RFC 7677's example, and md5 against PostgreSQL's.
 *
 * RFC 7677 section 3 gives one whole exchange.  Its server nonce is not ours to choose (ours is base64 of random bytes),
 * so the exchange is played from the state behind the first message: the rest is compared byte for byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "config/password.h"
#include "proto/scram.h"

#define CLIENT_NONCE "rOprNGfwEbeRWgbNEkqO"
#define RFC_NONCE    CLIENT_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define RFC_FIRST    "n=user,r=" CLIENT_NONCE
#define RFC_SERVER   "r=" RFC_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
#define RFC_PROOF    "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define RFC_FINAL    "c=biws,r=" RFC_NONCE ",p=" RFC_PROOF
#define RFC_VERIFIED "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

static const uint8_t our_nonce[SCRAM_NONCE_BYTES] = "123456789012345678";
static struct scram_exchange exchange;
static char reply[SCRAM_MESSAGE_MAX];

/* The verifier of the RFC's user: password `pencil`, its salt, 4096 iterations. */
static void derive_rfc_verifier(struct scram_verifier *verifier)
{
    uint8_t salt[18];
    assert_int_equal(EVP_DecodeBlock(salt, (const uint8_t *)"W22ZaJ0SNY7soEsUEjb6gQ==", 24), 18);
    scram_verifier_derive(verifier, "pencil", salt, 16, 4096);
}

/* Messages come from heap copies of the exact size, so that the sanitizer sees a read beyond them. */
static enum scram_result first(const char *text, size_t length)
{
    uint8_t *copy = malloc(length + 1);
    memcpy(copy, text, length);
    copy = realloc(copy, length ? length : 1);
    reply[0] = '\0';
    enum scram_result result = scram_first(&exchange, copy, length, our_nonce, reply);
    free(copy);
    return result;
}

static enum scram_result final(const char *text, size_t length)
{
    uint8_t *copy = malloc(length + 1);
    memcpy(copy, text, length);
    copy = realloc(copy, length ? length : 1);
    reply[0] = '\0';
    enum scram_result result = scram_final(&exchange, copy, length, reply);
    free(copy);
    return result;
}

#define FIRST(literal) first(literal, sizeof(literal) - 1)
#define FINAL(literal) final(literal, sizeof(literal) - 1)

static int begin(void **state)
{
    (void)state;
    memset(&exchange, 0, sizeof(exchange));
    derive_rfc_verifier(&exchange.verifier);
    return 0;
}

/* Where the RFC's exchange stands after its server-first-message. */
static void begin_after_rfc_first(void)
{
    begin(NULL);
    snprintf(exchange.gs2_header, sizeof(exchange.gs2_header), "n,,");
    snprintf(exchange.client_first_bare, sizeof(exchange.client_first_bare), RFC_FIRST);
    snprintf(exchange.server_first, sizeof(exchange.server_first), "%s", RFC_SERVER);
    snprintf(exchange.nonce, sizeof(exchange.nonce), "%s", RFC_NONCE);
}

static void the_rfcs_exchange_succeeds_byte_for_byte(void **state)
{
    (void)state;
    begin_after_rfc_first();
    assert_int_equal(FINAL(RFC_FINAL), SCRAM_OK);
    assert_string_equal(reply, RFC_VERIFIED);
}

static void the_first_reply_repeats_the_nonce_and_gives_salt_and_iterations(void **state)
{
    (void)state;
    assert_int_equal(FIRST("n,," RFC_FIRST), SCRAM_CONTINUE);
    assert_string_equal(reply, "r=" CLIENT_NONCE
                               "MTIzNDU2Nzg5MDEyMzQ1Njc4,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    begin(NULL);
    assert_int_equal(FIRST("y,,n=,r=x"), SCRAM_CONTINUE);
}

static void any_change_to_the_final_message_fails(void **state)
{
    (void)state;
    char message[] = RFC_FINAL;
    const size_t last =
        sizeof(RFC_FINAL) - 3; /* of its six bits base64 uses four, then comes the padding */
    for (size_t i = 0; i < last; i++) {
        for (int bit = 0; bit < 8; bit++) {
            char before = message[i];
            message[i] = (char)(before ^ 1 << bit);
            begin_after_rfc_first();
            if (final(message, sizeof(message) - 1) == SCRAM_OK)
                fail_msg("byte %zu bit %d", i, bit);
            message[i] = before;
        }
    }
}

static void a_final_message_cut_short_fails(void **state)
{
    (void)state;
    for (size_t length = 0; length < sizeof(RFC_FINAL) - 1; length++) {
        begin_after_rfc_first();
        if (final(RFC_FINAL, length) == SCRAM_OK)
            fail_msg("%zu bytes", length);
    }
    begin_after_rfc_first();
    assert_int_equal(FINAL(RFC_FINAL ",x=1"), SCRAM_MALFORMED);
    begin_after_rfc_first();
    assert_int_equal(final(RFC_FINAL, sizeof(RFC_FINAL)),
                     SCRAM_MALFORMED); /* a zero byte behind it */
}

static void a_malformed_first_message_says_why(void **state)
{
    (void)state;
    static const struct {
        const char *message;
        const char *why;
    } cases[] = {
        {"", "the first message is empty or too long"},
        {"n", "authorization identities are not supported"},
        {"n,", "authorization identities are not supported"},
        {"n,a=other,n=user,r=x", "authorization identities are not supported"},
        {"x,,n=user,r=x", "unexpected channel-binding flag"},
        {"p=tls-unique,,n=user,r=x", "unexpected channel-binding flag"},
        {"p=tls-server-end-point,,n=user,r=x", "unexpected channel-binding flag"},
        {"n,,r=x", "the first message has no user name attribute"},
        {"n,,m=ext,n=user,r=x", "the first message has no user name attribute"},
        {"n,,n=user", "the first message has no usable nonce"},
        {"n,,n=user,r=", "the first message has no usable nonce"},
        {"n,,n=user,r=a b", "the first message has no usable nonce"},
        {"n,,n=user,r=a\xc3\xa4", "the first message has no usable nonce"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        begin(NULL);
        if (first(cases[i].message, strlen(cases[i].message)) != SCRAM_MALFORMED)
            fail_msg("accepted: %s", cases[i].message);
        assert_string_equal(reply, cases[i].why);
    }
}

static void a_message_too_long_is_malformed(void **state)
{
    (void)state;
    char message[SCRAM_MESSAGE_MAX + 1] = "n,,n=user,r=";
    memset(message + 12, 'x', sizeof(message) - 12);
    assert_int_equal(first(message, sizeof(message)), SCRAM_MALFORMED);
    assert_int_equal(first(message, 12 + 201), SCRAM_MALFORMED);
    assert_int_equal(first(message, 12 + 200), SCRAM_CONTINUE);
    assert_int_equal(final(message, sizeof(message)), SCRAM_MALFORMED);
}

static void who_denies_an_offered_binding_is_refused(void **state)
{
    (void)state;
    exchange.may_bind_channel = true;
    assert_int_equal(FIRST("y,,n=user,r=x"), SCRAM_MALFORMED);
    assert_string_equal(reply, "channel binding was offered, the client says it was not");
    assert_int_equal(FIRST("n,,n=user,r=x"), SCRAM_CONTINUE);
    exchange.is_plus = true;
    assert_int_equal(FIRST("n,,n=user,r=x"), SCRAM_MALFORMED);
    assert_int_equal(FIRST("p=tls-unique,,n=user,r=x"), SCRAM_MALFORMED);
    assert_int_equal(FIRST("p=tls-server-end-point,,n=user,r=x"), SCRAM_CONTINUE);
}

/* The client's side, for exchanges that the RFC does not print. */
static void client_final(const char *password, const char *channel, char *message)
{
    struct scram_verifier own;
    uint8_t salted[32];
    uint8_t client_key[32];
    uint8_t signature[32];
    char encoded[64];
    char auth[4096];
    char without_proof[SCRAM_MESSAGE_MAX - 80];
    size_t written;
    snprintf(without_proof, sizeof(without_proof), "c=%s,r=%s", channel, exchange.nonce);
    snprintf(auth, sizeof(auth), "%s,%s,%s", exchange.client_first_bare, exchange.server_first,
             without_proof);
    const struct scram_verifier *verifier = &exchange.verifier;
    scram_verifier_derive(&own, password, verifier->salt, verifier->salt_bytes,
                          verifier->iterations);
    PKCS5_PBKDF2_HMAC(password, (int)strlen(password), verifier->salt, (int)verifier->salt_bytes,
                      verifier->iterations, EVP_sha256(), 32, salted);
    EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, salted, 32, (const uint8_t *)"Client Key", 10,
              client_key, 32, &written);
    EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, own.stored_key, 32, (const uint8_t *)auth,
              strlen(auth), signature, 32, &written);
    for (size_t i = 0; i < 32; i++)
        client_key[i] ^= signature[i];
    EVP_EncodeBlock((uint8_t *)encoded, client_key, 32);
    snprintf(message, SCRAM_MESSAGE_MAX, "%s,p=%s", without_proof, encoded);
}

static enum scram_result log_in(const char *password)
{
    char message[SCRAM_MESSAGE_MAX];
    assert_int_equal(FIRST("n,," RFC_FIRST), SCRAM_CONTINUE);
    client_final(password, "biws", message);
    return final(message, strlen(message));
}

static void the_right_password_gets_in_and_no_other(void **state)
{
    (void)state;
    assert_int_equal(log_in("pencil"), SCRAM_OK);
    begin(NULL);
    assert_int_equal(log_in("Pencil"), SCRAM_FAILED);
    begin(NULL);
    assert_int_equal(log_in(""), SCRAM_FAILED);
}

static void another_nonce_fails(void **state)
{
    (void)state;
    char message[SCRAM_MESSAGE_MAX];
    assert_int_equal(FIRST("n,," RFC_FIRST), SCRAM_CONTINUE);
    snprintf(exchange.nonce, sizeof(exchange.nonce), "%s", CLIENT_NONCE "another");
    client_final("pencil", "biws", message);
    snprintf(exchange.nonce, sizeof(exchange.nonce), "%s", CLIENT_NONCE "ours");
    assert_int_equal(final(message, strlen(message)), SCRAM_FAILED);
}

static void a_channel_is_bound_to_its_certificate(void **state)
{
    (void)state;
    char message[SCRAM_MESSAGE_MAX];
    char channel[256];
    static const char header[] = "p=tls-server-end-point,,";
    uint8_t bound[sizeof(header) - 1 + 32];
    exchange.may_bind_channel = exchange.is_plus = true;
    exchange.certificate_hash_bytes = 32;
    memset(exchange.certificate_hash, 7, 32);
    memcpy(bound, header, sizeof(header) - 1);
    memset(bound + sizeof(header) - 1, 7, 32);
    EVP_EncodeBlock((uint8_t *)channel, bound, sizeof(bound));
    assert_int_equal(FIRST("p=tls-server-end-point,," RFC_FIRST), SCRAM_CONTINUE);
    client_final("pencil", channel, message);
    struct scram_exchange before = exchange;
    assert_int_equal(final(message, strlen(message)), SCRAM_OK);
    exchange = before;
    exchange.certificate_hash[0] = 8; /* somebody in between has another certificate */
    assert_int_equal(final(message, strlen(message)), SCRAM_FAILED);
}

static void a_mock_user_looks_like_any_other_and_never_matches(void **state)
{
    (void)state;
    static const uint8_t secret[32] = "the daemon's own secret";
    struct scram_verifier again;
    struct scram_verifier other;
    scram_verifier_mock(&exchange.verifier, "nobody", secret);
    scram_verifier_mock(&again, "nobody", secret);
    scram_verifier_mock(&other, "somebody", secret);
    assert_int_equal(exchange.verifier.iterations, SCRAM_ITERATIONS);
    assert_memory_equal(exchange.verifier.salt, again.salt, 16);
    assert_memory_not_equal(exchange.verifier.salt, other.salt, 16);
    assert_int_equal(log_in("pencil"), SCRAM_FAILED);
}

static void a_verifier_survives_its_text(void **state)
{
    (void)state;
    char text[256];
    struct scram_verifier read;
    scram_verifier_format(&exchange.verifier, text, sizeof(text));
    assert_true(scram_verifier_parse(&read, text));
    assert_memory_equal(&read, &exchange.verifier, sizeof(read));
}

static void what_is_no_verifier_is_a_plain_password(void **state)
{
    (void)state;
#define STORED "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    static const char *const wrong[] = {
        "",
        "pencil",
        "SCRAM-SHA-256$",
        "SCRAM-SHA-256$4096",
        "SCRAM-SHA-256$4096:c2FsdA==",
        "SCRAM-SHA-256$4096:c2FsdA==$" STORED,
        "SCRAM-SHA-256$0:c2FsdA==$" STORED ":" STORED,
        "SCRAM-SHA-256$-1:c2FsdA==$" STORED ":" STORED,
        "SCRAM-SHA-256$4096:$" STORED ":" STORED,
        "SCRAM-SHA-256$4096:c2F!dA==$" STORED ":" STORED,
        "SCRAM-SHA-256$4096:c2FsdA==$AAAA:" STORED,
        "SCRAM-SHA-256$4096:c2FsdA==$" STORED ":" STORED "AAAA",
        "SCRAM-SHA-1$4096:c2FsdA==$" STORED ":" STORED,
    };
    struct scram_verifier verifier;
    assert_true(scram_verifier_parse(&verifier, "SCRAM-SHA-256$4096:c2FsdA==$" STORED ":" STORED));
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        if (scram_verifier_parse(&verifier, wrong[i]))
            fail_msg("accepted: %s", wrong[i]);
    }
}

static void passwords_are_prepared_as_clients_prepare_them(void **state)
{
    (void)state;
    /* U+FB01, the ligature, becomes "fi", and a no-break space becomes a space (RFC 4013); libpq sends those. */
    assert_true(password_verifier(&exchange.verifier, "con\xef\xac\x81g\xc2\xa0rc"));
    assert_int_equal(log_in("config rc"), SCRAM_OK);
    assert_true(password_verifier(&exchange.verifier, "not \xff UTF-8"));
    assert_int_equal(log_in("not \xff UTF-8"), SCRAM_OK);
    assert_true(password_verifier(&exchange.verifier, "plain"));
    assert_int_equal(log_in("plain"), SCRAM_OK);
}

static void only_a_hash_is_an_md5_secret(void **state)
{
    (void)state;
    assert_true(md5_is_secret("md59d792a3a8853c2411afb9163d088c036"));
    assert_false(md5_is_secret("md5"));
    assert_false(md5_is_secret("md5cracker"));
    assert_false(md5_is_secret("md59d792a3a8853c2411afb9163d088c03g"));
}

static void md5_is_postgresqls(void **state)
{
    (void)state;
    /* select 'md5' || md5('secret' || 'ann'); then md5 of that hash and the salt 01 02 03 04 */
    static const uint8_t salt[4] = {1, 2, 3, 4};
    static const char stored[] = "md59d792a3a8853c2411afb9163d088c036";
    char inner[33];
    char response[36];
    uint8_t digest[EVP_MAX_MD_SIZE];
    uint8_t salted[36];
    size_t length;
    EVP_Q_digest(NULL, "MD5", NULL, "secretann", 9, digest, &length);
    for (size_t i = 0; i < 16; i++)
        snprintf(inner + 2 * i, 3, "%02x", digest[i]);
    assert_string_equal(inner, stored + 3);
    memcpy(salted, inner, 32);
    memcpy(salted + 32, salt, 4);
    EVP_Q_digest(NULL, "MD5", NULL, salted, sizeof(salted), digest, &length);
    snprintf(response, sizeof(response), "md5");
    for (size_t i = 0; i < 16; i++)
        snprintf(response + 3 + 2 * i, 3, "%02x", digest[i]);
    assert_true(md5_password_matches("secret", "ann", salt, response));
    assert_true(md5_password_matches(stored, "ann", salt, response));
    assert_false(md5_password_matches("secret", "bob", salt, response));
    assert_false(md5_password_matches("wrong", "ann", salt, response));
    response[20] ^= 1;
    assert_false(md5_password_matches("secret", "ann", salt, response));
    assert_false(md5_password_matches("secret", "ann", salt, ""));
    assert_false(md5_password_matches("secret", "ann", salt, "md5"));
}

static void a_plain_password_is_compared_with_any_secret(void **state)
{
    (void)state;
    char text[256];
    scram_verifier_format(&exchange.verifier, text, sizeof(text));
    assert_true(password_matches_secret(text, "ann", "pencil"));
    assert_false(password_matches_secret(text, "ann", "pen"));
    assert_true(password_matches_secret("secret", "ann", "secret"));
    assert_false(password_matches_secret("secret", "ann", "secrets"));
    assert_false(password_matches_secret("secret", "ann", ""));
    assert_true(password_matches_secret("md59d792a3a8853c2411afb9163d088c036", "ann", "secret"));
    assert_false(password_matches_secret("md59d792a3a8853c2411afb9163d088c036", "bob", "secret"));
}

/* OpenSSL in FIPS mode has none, and what it leaves in place of a hash must not let anybody in. */
static void without_md5_no_md5_password_is_right(void **state)
{
    static const uint8_t salt[4] = {1, 2, 3, 4};
    static const char zeros[] = "md500000000000000000000000000000000";
    (void)state;
    assert_int_equal(EVP_set_default_properties(NULL, "fips=yes"), 1);
    bool is_let_in = md5_password_matches("secret", "ann", salt, zeros) ||
                     md5_password_matches(zeros, "ann", salt, zeros) ||
                     password_matches_secret(zeros, "ann", "anything");
    assert_int_equal(EVP_set_default_properties(NULL, ""), 1);
    assert_false(is_let_in);
}

#define TEST(name) cmocka_unit_test_setup(name, begin)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_rfcs_exchange_succeeds_byte_for_byte),
        TEST(the_first_reply_repeats_the_nonce_and_gives_salt_and_iterations),
        TEST(any_change_to_the_final_message_fails),
        TEST(a_final_message_cut_short_fails),
        TEST(a_malformed_first_message_says_why),
        TEST(a_message_too_long_is_malformed),
        TEST(who_denies_an_offered_binding_is_refused),
        TEST(the_right_password_gets_in_and_no_other),
        TEST(another_nonce_fails),
        TEST(a_channel_is_bound_to_its_certificate),
        TEST(a_mock_user_looks_like_any_other_and_never_matches),
        TEST(a_verifier_survives_its_text),
        TEST(what_is_no_verifier_is_a_plain_password),
        TEST(passwords_are_prepared_as_clients_prepare_them),
        TEST(only_a_hash_is_an_md5_secret),
        TEST(md5_is_postgresqls),
        TEST(without_md5_no_md5_password_is_right),
        TEST(a_plain_password_is_compared_with_any_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
