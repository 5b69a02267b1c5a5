/*
 * sasl_guard.c - judges a server's requests for proof: see sasl_guard.h.
 *
 * Between our look and libpq's more may come in, which libpq then reads unseen.  That must be of no use to anybody, hence:
 *
 *   - libpq reads only what begins with a whole message, so what is looked at next begins with one too.  Where a server has
 *     slipped in a part of one, the rest does not look like a message, because the client's nonce, which it must repeat, is
 *     made of letters, and four letters are no length;
 *   - after the first request only what belongs to the same exchange may come, so that there is no message to be seen behind
 *     which the next is hidden: the number of rounds stands in an answer to the nonce, which libpq sends after its one read.
 */
#include "proto/sasl_guard.h"

#include <string.h>

#include "proto/build.h"

#define AUTH_OK           0
#define AUTH_GSS          7
#define AUTH_GSS_CONTINUE 8
#define AUTH_SSPI         9
#define AUTH_CONTINUE     11
#define AUTH_FINAL        12

#define HEADER    9u     /* type, length, which request */
#define ERROR_MAX 30000u /* libpq's own bound */

/* The attribute i= of a server-first-message: "r=...,s=...,i=4096"; -1 when there is none that is a number.  What does not
 * begin so is another mechanism's, or the end of a login, and asks for none. */
static long iterations_of(const uint8_t *text, size_t length)
{
    if (length < 2 || memcmp(text, "r=", 2) != 0)
        return 0;
    for (size_t at = 0; at + 2 < length; at++) {
        if ((at > 0 && text[at - 1] != ',') || text[at] != 'i' || text[at + 1] != '=')
            continue;
        long number = 0;
        for (at += 2; at < length && text[at] >= '0' && text[at] <= '9'; at++) {
            if (number <= SASL_GUARD_ITERATIONS_MAX)
                number = number * 10 + (text[at] - '0');
        }
        return at == length || text[at] == ',' ? number : -1;
    }
    return -1;
}

static bool belongs(const struct sasl_guard *guard, uint32_t request)
{
    switch (request) {
    case AUTH_OK:
    case AUTH_CONTINUE:
    case AUTH_FINAL:
        return true;
    case AUTH_GSS_CONTINUE:
        return guard->first == AUTH_GSS || guard->first == AUTH_SSPI;
    default:
        return false;
    }
}

static enum sasl_guard_verdict judge_request(struct sasl_guard *guard, const uint8_t *bytes,
                                             size_t length)
{
    uint32_t message = read_u32(bytes + 1);
    if (message < HEADER - 1 || message > SASL_GUARD_MESSAGE_MAX - 1)
        return SASL_GUARD_REFUSE;
    if (length < (size_t)message + 1)
        return SASL_GUARD_MORE;
    uint32_t request = read_u32(bytes + 5);
    if (guard->first != 0 && !belongs(guard, request))
        return SASL_GUARD_REFUSE;
    if (guard->first == 0)
        guard->first = request;
    guard->has_begun = true;
    if (request != AUTH_CONTINUE)
        return SASL_GUARD_PASS;
    guard->iterations = iterations_of(bytes + HEADER, message + 1 - HEADER);
    if (guard->iterations < 0 || guard->iterations > SASL_GUARD_ITERATIONS_MAX)
        return SASL_GUARD_REFUSE;
    guard->iterations = 0;
    return SASL_GUARD_PASS;
}

/* The end of the login, which libpq may read in parts.  A server that could not even start a process says so in the words of
 * the protocol before 3.0, which have no length. */
static enum sasl_guard_verdict judge_error(struct sasl_guard *guard, const uint8_t *bytes,
                                           size_t length)
{
    if (guard->has_begun && length < 5)
        return SASL_GUARD_MORE;
    if (guard->has_begun && (read_u32(bytes + 1) < 4 || read_u32(bytes + 1) > ERROR_MAX))
        return SASL_GUARD_REFUSE;
    guard->is_over = true;
    return SASL_GUARD_PASS;
}

/* Whole, as far as we look. */
static enum sasl_guard_verdict judge_version(struct sasl_guard *guard, const uint8_t *bytes,
                                             size_t length)
{
    uint32_t message = read_u32(bytes + 1);
    if (message < HEADER - 1 || message > SASL_GUARD_MESSAGE_MAX - 1 || guard->has_begun)
        return SASL_GUARD_REFUSE;
    if (length < (size_t)message + 1)
        return SASL_GUARD_MORE;
    guard->has_begun = true;
    return SASL_GUARD_PASS;
}

enum sasl_guard_verdict sasl_guard_judge(struct sasl_guard *guard, const uint8_t *bytes,
                                         size_t length)
{
    guard->iterations = 0;
    if (guard->is_over)
        return SASL_GUARD_PASS;
    if (length < HEADER)
        return length > 0 && bytes[0] == 'E' ? judge_error(guard, bytes, length) : SASL_GUARD_MORE;
    switch (bytes[0]) {
    case 'R':
        return judge_request(guard, bytes, length);
    case 'E':
        return judge_error(guard, bytes, length);
    case 'v': /* NegotiateProtocolVersion */
        return judge_version(guard, bytes, length);
    default:
        return SASL_GUARD_REFUSE;
    }
}
