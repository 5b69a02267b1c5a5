/*
 * fuzz_auth_row.c - the answer to auth_query: the shape that the server announces, and a row.
 *
 * Nobody's password but of the name that was asked for may come out of it, and only from a row that has two whole values and
 * nothing else: what is taken is written once more, and must be the row again.
 */
#include "proto/auth_row.h"
#include "proto/build.h"

#include "fuzz.h"

static void read_columns(const uint8_t *bytes, size_t length)
{
    uint8_t *body = malloc(length ? length : 1);
    if (!body)
        abort();
    memcpy(body, bytes, length);
    const char *why = auth_row_columns(body, length);
    fuzz_claim(why || (length >= 2 + 2 * 19 && body[0] == 0 && body[1] == 2),
               "two columns have two names, two terminators and 36 bytes");
    fuzz_claim(!why || *why, "what is wrong is said");
    free(body);
}

static void read_row(const uint8_t *bytes, size_t length, const char *name)
{
    static char secret[AUTH_ROW_SECRET_MAX + 1];
    uint8_t *body = malloc(length ? length : 1);
    struct buffer again = {0};
    if (!body)
        abort();
    memcpy(body, bytes, length);
    memset(secret, 'x', sizeof(secret));
    enum auth_row_kind kind = auth_row_take(body, length, name, secret);
    if (kind == AUTH_ROW_SECRET) {
        const char *end = memchr(secret, 0, sizeof(secret));
        fuzz_claim(end && end > secret, "a secret has an end, and something before it");
        build_u16(&again, 2);
        build_u32(&again, (uint32_t)strlen(name));
        buffer_append(&again, name, strlen(name));
        build_u32(&again, (uint32_t)strlen(secret));
        buffer_append(&again, secret, strlen(secret));
        fuzz_claim(buffer_length(&again) == length &&
                       memcmp(buffer_bytes(&again), body, length) == 0,
                   "the row of %s is another", name);
        buffer_free(&again);
    } else {
        fuzz_claim(secret[0] == 'x', "where there is no secret nothing is written");
    }
    free(body);
}

/* The question is of whole messages, whatever the name. */
static void ask(const char *name)
{
    struct buffer question = {0};
    size_t at = 0;
    auth_row_question(&question, "SELECT 1", name);
    while (at < buffer_length(&question)) {
        fuzz_claim(buffer_length(&question) - at >= 5, "a header is whole");
        at += (size_t)read_u32(buffer_bytes(&question) + at + 1) + 1;
    }
    fuzz_claim(at == buffer_length(&question), "the last message ends where the question does");
    buffer_free(&question);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct fuzz_input input = {bytes, length};
    const uint8_t *piece;
    size_t name_length = fuzz_below(&input, 64);
    name_length = fuzz_piece(&input, name_length, &piece);
    char *name = fuzz_text(piece, name_length);
    size_t shape = fuzz_byte(&input);
    shape = fuzz_piece(&input, shape, &piece);
    read_columns(piece, shape);
    size_t row = fuzz_piece(&input, input.left, &piece);
    read_row(piece, row, name);
    ask(name);
    free(name);
    return 0;
}
