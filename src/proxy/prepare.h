/*
 * prepare.h - prepared statements that travel: what relay_client.c asks about a message, and relay.c about an answer.
 */
#ifndef PROXY_PREPARE_H
#define PROXY_PREPARE_H

#include "proxy/proxy.h"

/* What became of a message's head. */
struct prepared_head {
    size_t taken;     /* bytes of the message that another head stands for; 0: it passes as it is */
    bool is_changed;  /* something was queued to the server, what stood before the message first */
    bool is_recorded; /* the message itself is in the server's `outstanding` already */
};

/* Whether enough of a message that is not all there is there to translate it. */
bool prepare_is_at_hand(uint8_t type, const uint8_t *bytes, size_t at_hand, uint32_t message);
/* Whether the server must have answered something else before. */
bool prepare_must_wait(const struct client *client, uint8_t type, const uint8_t *bytes,
                       size_t at_hand, uint32_t message);
/* Translates the head of a message of a linked client; `before` are bytes not yet forwarded that come first. */
struct prepared_head prepare_translate(struct client *client, uint8_t type, const uint8_t *bytes,
                                       size_t at_hand, uint32_t message, uint32_t signs,
                                       const uint8_t *before, size_t before_length);
/* The text that a message runs, of a client that waits, when it is the Bind of a statement that we know; or NULL. */
const char *prepare_bound_text(const struct client *client, const uint8_t *bytes, size_t length);
/* Where the pool's `pin` setting forbids what the signs say, another statement is queued in the place of this one, which
 * raises an error that explains; `taken` is then all of the message. */
struct prepared_head prepare_refusal(struct client *client, uint8_t type, uint32_t message,
                                     uint32_t signs, const uint8_t *before, size_t before_length);
/* Prepared statements beyond the limit, made in the middle of transactions, go. */
void prepare_trim(struct client *client, struct server *server);
/* Takes into account what `outstanding` has learned from the server's last message. */
void prepare_answered(struct server *server);
/* Whether SQL of SQL_SIGN_STATEMENT (not all of which is looked at: a plain DEALLOCATE is translated, unless the text is kept
 * as a statement with a name) speaks of a statement that the client has prepared by the protocol. */
bool prepare_is_named_in(const struct client *client, bool is_kept, const char *text,
                         size_t length);
/* Puts the client's statements on its backend under its own names, and no others: it looks at pg_prepared_statements, or
 * names them in SQL. */
void prepare_make_private(struct client *client, struct server *server);
/* A client that comes from another process of an upgrade has this statement (policy/prepared.h) under this name. */
void prepare_carry(struct client *client, const char *name, size_t name_length, const uint8_t *body,
                   size_t length, const uint8_t *under, size_t under_length, uint32_t signs);
/* The server has said DISCARD ALL or DEALLOCATE ALL. */
void prepare_all_gone(struct server *server);
/* Sends the error on with the client's own names in it.  False when there is nothing to change. */
bool prepare_translate_error(struct client *client, const uint8_t *body, size_t length);

#endif
