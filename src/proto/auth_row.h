/*
 * auth_row.h - the answer to auth_query, read from the server's messages.
 *
 * Two columns of text, a name and its secret, and one row or none.  The server is not trusted further than that: what
 * is longer than it can be, has another shape or another name is no answer.  Pure.
 */
#ifndef PROTO_AUTH_ROW_H
#define PROTO_AUTH_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

#define AUTH_ROW_SECRET_MAX 2048 /* a SCRAM verifier has 133 */

/* Parse, Bind with `name` as a parameter in text, Describe, Execute, Sync: what libpq's PQsendQueryParams sends, but for the
 * limit of two rows. */
void auth_row_question(struct buffer *message, const char *sql, const char *name);
/* The body of a RowDescription.  NULL when it has two columns of text, else what is wrong. */
const char *auth_row_columns(const uint8_t *body, size_t length);

enum auth_row_kind {
    AUTH_ROW_BAD,    /* not of this form */
    AUTH_ROW_OTHER,  /* of another name */
    AUTH_ROW_NULL,   /* of this name, without a secret */
    AUTH_ROW_SECRET, /* copied into `secret`, with a terminating zero */
};

/* The body of a DataRow, of which nothing more is known than its length. */
enum auth_row_kind auth_row_take(const uint8_t *body, size_t length, const char *name,
                                 char secret[AUTH_ROW_SECRET_MAX + 1]);

#endif
