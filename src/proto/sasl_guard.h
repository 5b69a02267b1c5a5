/*
 * sasl_guard.h - what a server says while it asks who we are, judged before libpq acts on it.
 *
 * SCRAM lets the server choose how often the password is hashed (RFC 5802, 5.1), and libpq does as it is told, in one call that
 * nothing ends: two thousand million rounds are an hour in which the loop serves nobody, whatever database they use.  So the
 * requests for proof are looked at first, and more rounds than SASL_GUARD_ITERATIONS_MAX end that login.
 */
#ifndef PROTO_SASL_GUARD_H
#define PROTO_SASL_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* PostgreSQL's own verifiers have 4096; this many take a tenth of a second, and are where other drivers stop too. */
#define SASL_GUARD_ITERATIONS_MAX 100000
/* libpq's own bound of a request for proof, and its five bytes of header. */
#define SASL_GUARD_MESSAGE_MAX 2001

enum sasl_guard_verdict {
    SASL_GUARD_PASS,  /* libpq may read it */
    SASL_GUARD_MORE,  /* it has not come whole: libpq must not read a part of it */
    SASL_GUARD_REFUSE /* the login ends */
};

/* Of one login to one host; zero at its beginning. */
struct sasl_guard {
    uint32_t first;  /* what it asked for first; 0: nothing yet */
    bool has_begun;  /* a message has been passed on */
    bool is_over;    /* it has sent an error */
    long iterations; /* that were refused; 0: it was something else */
};

/* Judges the next message between the start-up packet and AuthenticationOk; `bytes` is all that has come and is not read yet. */
enum sasl_guard_verdict sasl_guard_judge(struct sasl_guard *guard, const uint8_t *bytes,
                                         size_t length);

#endif
