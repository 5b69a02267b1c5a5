/*
 * reset.h - which of a session's start-up settings a statement's text may have reset.
 *
 * On a backend that others use the server knows nothing of a client's start-up packet, to which RESET goes back (protocol 55.2.1), so
 * they are put in force again behind it.  That must not show: where nothing of them was reset nothing is sent, and
 * where one statement alone has reset them it is known how, and a plain SET takes no snapshot from the transaction.
 *
 * Pure.
 */
#ifndef POLICY_RESET_H
#define POLICY_RESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/session.h"

/* A number below RESET_ALL is a setting of the base, the first is 0: the text is one statement that resets it. */
enum reset {
    RESET_ALL = 253, /* the text is one statement that resets them all */
    RESET_SOME,      /* it may reset any: the server must look */
    RESET_NOTHING
};

/* `text` is that of statements among which is a RESET, SET .. TO DEFAULT or DISCARD. */
uint8_t reset_of(const struct settings *base, const char *text, size_t length);
/* Whether the word is in the text, in any case of letters, wherever it stands. */
bool reset_mentions(const char *text, size_t length, const char *word);

#endif
