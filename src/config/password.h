/*
 * password.h - what is kept of a plain password: its SCRAM verifier.
 */
#ifndef CONFIG_PASSWORD_H
#define CONFIG_PASSWORD_H

#include <stdbool.h>

#include "proto/scram.h"

/* Derives the verifier with a random salt, the password after SASLprep (RFC 4013) where that applies and as bytes
 * elsewhere, like PostgreSQL.  Takes milliseconds.  False when there are no random bytes. */
bool password_verifier(struct scram_verifier *verifier, const char *password);

#endif
