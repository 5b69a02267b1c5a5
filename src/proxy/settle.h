/*
 * settle.h - what a session holds, and how its settings get to the next backend (settle.c).
 */
#ifndef PROXY_SETTLE_H
#define PROXY_SETTLE_H

#include "proxy/proxy.h"

#define SETTLE_SETTINGS_MAX                                                                        \
    65536 /* bytes of one session's settings, or of what it was told, with the names */

/* Whether the client shares backends: not in session mode, nor for replication. */
static inline bool settle_is_shared(const struct client *client)
{
    const struct config_pool *config = client->pool->config;
    return config && config->mode != POOL_MODE_SESSION && !client->lane->is_replication;
}
/* A client has its name: what must be in force for it. */
void settle_begin(struct client *client);
void settle_client_free(struct client *client);
void settle_server_free(struct server *server);
/* Puts the client's settings in force on its new backend, ahead of its first message, in the same write. */
void settle_link(struct client *client, struct server *server);
/* Takes the signs of a statement's text into account; `text` is NULL when not all of it is there. */
void settle_note_signs(struct client *client, uint32_t signs, const char *text, size_t length);
/* The text has prepared a statement under a name of the client's own: what runs it later says nothing of what it does. */
void settle_note_prepared(struct client *client, uint32_t signs);
/* One of those runs. */
void settle_note_executed(struct client *client);
/* Reads what matters beyond signs: set_config()'s targets (a mask of enum sql_config), names of custom settings. */
uint32_t settle_learn_names(struct proxy *proxy, uint32_t signs, const char *text, size_t length);
/* Custom settings among these are asked for from now on. */
void settle_learn_customs(struct proxy *proxy, const struct settings *settings);
/* Queues a query of ours, which it takes over. */
void settle_queue(struct server *server, struct buffer *sql, enum outstanding_injection injection);
/* Begins a query of ours that must not wait as the client's own transactions may. */
void settle_level(struct buffer *sql, const struct client *client);
/* A free backend is idle for as long as nobody needs it: the server must not end it for that. */
void settle_note_idle(struct server *server, const struct settings *settings);
/* Restores start-up settings behind the RESET that has just been sent. */
void settle_restore(struct client *client, struct server *server,
                    enum outstanding_injection injection);
/* Somebody asks for what his session drew from a sequence: draws are looked for from now on. */
void settle_begin_currval(struct lane *lane);
/* The client asks for the value that it drew last: a stranger's is forgotten first.  Whether something was queued. */
bool settle_own_sequences(struct client *client, struct server *server);
/* The same for a single statement, but that the client's unnamed statement and portals stay what they are: it runs in the
 * middle of its transactions, or beside what nobody else keeps. */
void settle_queue_aside(struct server *server, const char *sql,
                        enum outstanding_injection injection);
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
                   const struct error_fields *error);
/* A ParameterStatus; whether it goes to the client. */
bool settle_parameter(struct server *server, enum outstanding_injection injection, const char *name,
                      const char *value);
/* What was reported around a RESET and its restoring: what is true in the end goes to the client. */
void settle_restored(struct server *server);
/* DISCARD ALL by us: nothing is in force but what the login brought. */
void settle_forget(struct server *server);
/* What matters of a text where the backend is the client's until it leaves (session mode): RESET, and what DISCARD ALL does not
 * undo. */
void settle_note_own(struct client *client, uint32_t signs, const char *text, size_t length);
/* Ties the client to its backend for these reasons (enum pin) too; 0 changes nothing. */
void settle_pin(struct client *client, uint32_t pins);
/* Exactly these. */
void settle_set_pins(struct client *client, uint32_t pins);
/* Looks at a linked, idle client's pins: may one of them have gone? */
void settle_sweep(struct client *client);

#endif
