/*
 * fuzz_scram.c - both messages of a SCRAM client, for a known and an unknown user, the text form of verifiers, and what a server
 * asks of us.
 *
 * Nobody who does not know the password may get in, whatever he sends.  The nonce is fixed, so that an input can hold an
 * exchange that is right up to its proof.  And no server may have libpq hash for ever: its messages are judged, and what passes
 * is read once more as libpq reads it.
 */
#include "proto/build.h"
#include "proto/sasl_guard.h"
#include "proto/scram.h"

#include "fuzz.h"

static void play_exchange(struct fuzz_input input, bool is_known, bool has_tls)
{
    static const uint8_t nonce[SCRAM_NONCE_BYTES] = "eighteen bytes now";
    static const uint8_t secret[32] = "the secret of mock salts";
    struct scram_exchange exchange = {.may_bind_channel = has_tls, .is_plus = has_tls};
    char reply[SCRAM_MESSAGE_MAX];
    const uint8_t *message;
    size_t first = fuzz_byte(&input);
    if (is_known)
        scram_verifier_derive(&exchange.verifier, "password", (const uint8_t *)"salt", 4, 1);
    else
        scram_verifier_mock(&exchange.verifier, "nobody", secret);
    if (has_tls)
        exchange.certificate_hash_bytes = 32;
    first = fuzz_piece(&input, first, &message);
    enum scram_result result = scram_first(&exchange, message, first, nonce, reply);
    fuzz_claim(memchr(reply, 0, sizeof(reply)) != NULL, "the reply ends");
    fuzz_claim(result != SCRAM_OK, "nobody gets in by a first message");
    if (result != SCRAM_CONTINUE)
        return;
    size_t last = fuzz_piece(&input, input.left, &message);
    result = scram_final(&exchange, message, last, reply);
    fuzz_claim(memchr(reply, 0, sizeof(reply)) != NULL, "the reply ends");
    fuzz_claim(result != SCRAM_OK || is_known, "an unknown user gets in");
}

static void read_verifier(const char *text)
{
    struct scram_verifier verifier = {0};
    struct scram_verifier again = {0};
    char first[256];
    char second[256];
    if (!scram_verifier_parse(&verifier, text))
        return;
    scram_verifier_format(&verifier, first, sizeof(first));
    fuzz_claim(scram_verifier_parse(&again, first), "what is written can be read: %s", first);
    scram_verifier_format(&again, second, sizeof(second));
    fuzz_claim(strcmp(first, second) == 0, "and means the same: %s, %s", first, second);
}

/* The attributes in their order, as libpq takes them; -1 where it would give up. */
static long rounds_of(const char *text)
{
    char *end;
    for (const char *name = "rs"; *name; name++) {
        if (text[0] != *name || text[1] != '=')
            return -1;
        const char *comma = strchr(text, ',');
        if (!comma)
            return -1;
        text = comma + 1;
    }
    if (strncmp(text, "i=", 2) != 0)
        return -1;
    long rounds = strtol(text + 2, &end, 10);
    return *end == '\0' || *end == ',' ? rounds : -1;
}

/* What comes in piece by piece, with all that was not read yet before it. */
static void judge_server(struct fuzz_input input)
{
    struct sasl_guard guard = {0};
    for (int turn = 0; turn < 16 && input.left > 0; turn++) {
        const uint8_t *piece;
        size_t length = fuzz_piece(&input, fuzz_byte(&input), &piece);
        uint8_t *copy = malloc(length ? length : 1);
        memcpy(copy, piece, length);
        bool was_over = guard.is_over;
        enum sasl_guard_verdict verdict = sasl_guard_judge(&guard, copy, length);
        if (verdict == SASL_GUARD_PASS && !was_over && copy[0] == 'R') {
            size_t message = (size_t)read_u32(copy + 1) + 1;
            fuzz_claim(message >= 9 && message <= length, "only what is whole passes");
            char *text = fuzz_text(copy + 9, message - 9);
            fuzz_claim(read_u32(copy + 5) != 11 || rounds_of(text) <= SASL_GUARD_ITERATIONS_MAX,
                       "too many rounds pass: %s", text);
            free(text);
        }
        free(copy);
        if (verdict == SASL_GUARD_REFUSE)
            return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static const uint8_t salt[4] = "salt";
    struct fuzz_input input = {bytes, length};
    uint8_t way = fuzz_byte(&input);
    if (way == 8) {
        judge_server(input);
    } else if (way & 4) {
        char *text = fuzz_text(input.bytes, input.left);
        read_verifier(text);
        md5_password_matches(text, "user", salt, "md5a");
        md5_password_matches("password", "user", salt, text);
        /* a plain password may be any text: only what it is compared with is held against it */
        fuzz_claim(!password_matches_secret("md500000000000000000000000000000000", "user", text),
                   "a password whose md5 is zero");
        free(text);
    } else {
        play_exchange(input, way & 1, way & 2);
    }
    return 0;
}
