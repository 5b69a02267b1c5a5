/*
 * hash_password.h - `pgreserve hash-password`: a password in, its SCRAM verifier out (contract 3).
 */
#ifndef CLI_HASH_PASSWORD_H
#define CLI_HASH_PASSWORD_H

/* Reads from stdin (no echo on a terminal), prints to stdout.  0, or 1 when there is no password. */
int hash_password_command(void);

#endif
