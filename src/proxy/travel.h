/*
 * travel.h - what of a session gets from one backend to the next: its settings (settle.c) and its prepared statements
 * (prepare.c).
 *
 * The second half of proxy.h, which includes it: one story of its own, about the same structures.
 */
#ifndef PROXY_TRAVEL_H
#define PROXY_TRAVEL_H

#include "proxy/proxy.h"

/* ---- settle.c: what a session holds, and how it gets to the next backend ---- */

/* Whether the client shares backends: not in session mode, nor for replication. */
bool settle_is_shared(const struct client *client);
/* A client has its name: what must be in force for it. */
void settle_begin(struct client *client);
void settle_client_free(struct client *client);
void settle_server_free(struct server *server);
/* Puts the client's settings in force on its new backend, ahead of its first message, in the same write. */
void settle_link(struct client *client, struct server *server);
/* Takes the signs of a statement's text into account; `text` is NULL when not all of it is there. */
void settle_note_signs(struct client *client, uint32_t signs, const char *text, size_t length);
/* Reads what matters beyond signs: set_config()'s targets (a mask of enum sql_config), names of custom settings. */
uint32_t settle_learn_names(struct proxy *proxy, uint32_t signs, const char *text, size_t length);
/* Restores start-up settings behind the RESET that has just been sent. */
void settle_restore(struct client *client, struct server *server,
                    enum outstanding_injection injection);
/* The client asks for the value that it drew last: a stranger's is forgotten first.  Whether something was queued. */
bool settle_own_sequences(struct client *client, struct server *server);
/* Asks the server what the session holds: those of `asks` (enum pin), and more when the rules say so. */
void settle_ask(struct client *client, struct server *server, uint32_t asks);
/* A fresh backend is asked whether its database has triggers, now and then. */
void settle_ask_triggers(struct server *server);
/* A row of the answer. */
void settle_row(struct server *server, const uint8_t *body, size_t length);
/* The answer is complete: settings and pins are as it says. */
void settle_answered(struct server *server);
/* An error came in answer to a query of ours while a client is linked. */
void settle_failed(struct server *server, enum outstanding_injection injection,
                   const char *sqlstate, const char *message);
/* A ParameterStatus; whether it goes to the client. */
bool settle_parameter(struct server *server, enum outstanding_injection injection, const char *name,
                      const char *value);
/* What was reported around a RESET and its restoring: what is true in the end goes to the client. */
void settle_restored(struct server *server);
/* DISCARD ALL by us: nothing is in force but what the login brought. */
void settle_forget(struct server *server);
/* Ties the client to its backend for these reasons (enum pin) too; 0 changes nothing. */
void settle_pin(struct client *client, uint32_t pins);
/* Exactly these. */
void settle_set_pins(struct client *client, uint32_t pins);
/* Looks at a linked, idle client's pins: may one of them have gone? */
void settle_sweep(struct client *client);

/* ---- prepare.c: prepared statements that travel ---- */

/* What became of a message's head. */
struct prepared_head {
    size_t taken;     /* bytes of the message that another head stands for; 0: it passes as it is */
    bool is_changed;  /* something was queued to the server, what stood before the message first */
    bool is_recorded; /* the message itself is in the server's `outstanding` already */
};

/* Whether enough of the message is there to translate it. */
bool prepare_is_at_hand(uint8_t type, const uint8_t *bytes, size_t at_hand, uint32_t message);
/* Whether the server must have answered something else before. */
bool prepare_must_wait(const struct client *client, uint8_t type, const uint8_t *bytes,
                       size_t at_hand, uint32_t message);
/* Translates the head of a message of a linked client; `before` are bytes not yet forwarded that come first. */
struct prepared_head prepare_translate(struct client *client, uint8_t type, const uint8_t *bytes,
                                       size_t at_hand, uint32_t message, uint32_t signs,
                                       const uint8_t *before, size_t before_length);
/* Where the pool's `pin` setting forbids what the signs say, another statement is queued in the place of this one, which
 * raises an error that explains; `taken` is then all of the message. */
struct prepared_head prepare_refusal(struct client *client, uint8_t type, uint32_t message,
                                     uint32_t signs, const uint8_t *before, size_t before_length);
/* Prepared statements beyond the limit, made in the middle of transactions, go. */
void prepare_trim(struct client *client, struct server *server);
/* Takes into account what `outstanding` has learned from the server's last message. */
void prepare_answered(struct server *server);
/* Puts the client's statements on its backend under its own names, and no others: it looks at pg_prepared_statements. */
void prepare_make_private(struct client *client, struct server *server);
/* The server has said DISCARD ALL or DEALLOCATE ALL. */
void prepare_all_gone(struct server *server);
/* Sends the error on with the client's own names in it.  False when there is nothing to change. */
bool prepare_translate_error(struct client *client, const uint8_t *body, size_t length);

#endif
