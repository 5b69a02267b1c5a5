/*
 * login.h - from a client's first byte to the first ReadyForQuery.
 */
#ifndef PROXY_LOGIN_H
#define PROXY_LOGIN_H

#include "proxy/proxy.h"

/* ---- auth.c: first bytes, and the exchange ---- */

/* Deals with bytes before CLIENT_READY; returns how many it took. */
size_t auth_input(struct client *client, const uint8_t *bytes, size_t length);
/* Whether there may be something to be read for auth_input, in CLIENT_STARTUP; begins direct TLS. */
bool auth_may_read(struct client *client);
/* Asks for the proof that hba_file or the configured method wants; then auth_succeeded or a FATAL. */
void auth_ask_proof(struct client *client);
/* For the proof that this method wants. */
void auth_ask_by(struct client *client, enum auth_method method);
/* SCRAM; a NULL secret is a mock exchange that fails like a wrong password. */
void auth_ask_scram(struct client *client, const char *secret);
void auth_succeeded(struct client *client);
/* What logs in to the upstream as this user; NULL when nothing is known that could. */
const char *auth_upstream_password(const struct proxy *proxy,
                                   const struct config_database *database, const char *user);
/* The plain password that users_file has for this user; NULL when it has none, or a verifier. */
const char *auth_plain_password(const struct proxy *proxy, const char *user);
/* The database whose upstream says who its user is.  For one that is not configured, which a client is told only after its
 * proof, the first; for the console the one of [database:*]; NULL when there is none at all. */
const struct config_database *auth_database(const struct client *client);
/* The password that the database's url has for this user; NULL when the user is another, or it has none. */
const char *auth_own_password(const struct config_database *database, const char *user);
/* auth_query has answered: client->lookup->secret. */
void auth_answered(struct client *client);
/* The lane that its database and user give it; the database is configured. */
struct lane *auth_lane(struct client *client);
/* Wipes what the login has left: keys, a password. */
void auth_forget_secrets(struct client *client);

/* A password in clear was held against a secret. */
void auth_clear_checked(struct client *client, bool is_right, const char *password);

/* ---- auth_clear.c ---- */

/* Does that, and calls auth_clear_checked; `secret` is NULL for nobody's. */
void auth_check_clear(struct client *client, const char *secret, const char *password);

/* ---- aside.c ---- */

struct aside {
    void (*work)(void *arg);                        /* in a thread: touches `arg` alone */
    void (*done)(struct client *client, void *arg); /* in the loop, unless the client has left */
    void (*release)(void *arg);                     /* in the loop, in any case */
};

/* Does this aside for a client in CLIENT_AUTHENTICATING that has no scram; `what` is static, `arg` is the job's from now on. */
void aside_run(struct client *client, const struct aside *what, void *arg);
/* The client does not wait for it any more. */
void aside_forget(struct client *client);
/* At the end, when no client is left. */
void asides_free(struct proxy *proxy);

/* ---- auth_rules.c ---- */

/* The line of hba_file that fits the client says what it must prove. */
void auth_by_rules(struct client *client);

/* ---- verifiers.c ---- */

/* The verifier of this user's plain password. */
void verifiers_derive(struct proxy *proxy, const char *user, const char *secret,
                      struct scram_verifier *verifier);
/* Passwords have been read: forgets what is nobody's any more, and derives in a worker what is new. */
void verifiers_refresh(struct proxy *proxy);
/* The worker shall not go on; before workers_free. */
void verifiers_stop(struct proxy *proxy);
/* After workers_free. */
void verifiers_free(struct proxy *proxy);

/* ---- open.c: a session opens ---- */

#define OPEN_STARTS_MAX                                                                            \
    256 /* clients' start-up settings that a lane remembers, and what they came to */

/* A client in CLIENT_LOGIN has its lane: opens its session, at once or when a backend is there. */
void open_begin(struct client *client);
/* Whether the client has start-up settings that nobody has had before: they must be tried on a backend. */
bool open_needs_backend(const struct client *client);
/* A backend came for a client in CLIENT_LOGIN. */
void open_granted(struct client *client, struct server *server);
/* What there was to find out is known: `error` is the server's message, or NULL; then the session is open. */
void open_settled(struct client *client, const struct error_fields *error);
/* The cancel key and the first ReadyForQuery. */
void open_ready(struct client *client);
/* What the lane's clients' start-up settings came to may be different now. */
void open_forget_starts(struct proxy *proxy, struct lane *lane);

/* ---- session_start.c ---- */

/* A StartupMessage (behind its length): limits, rights, then asks for proof. */
void session_start(struct client *client, const uint8_t *body, size_t length);
/* The user's and the database's name, from the start-up packet. */
void session_take_names(struct client *client);
/* Its lane: one of its own kind when it asks for the replication protocol. */
struct lane *session_lane(struct client *client, const struct config_database *database,
                          const char *user, const char *password);
/* Whether it asks for the replication protocol without a database. */
bool session_is_physical_replication(const struct client *client);
/* Whether its user and address may use its pool, and whether its database is one that is open; a FATAL when not.  Asked after
 * the proof, so that a stranger does not learn who may, nor which databases there are. */
bool session_may_use_pool(struct client *client);
/* The client's pool is not in the configuration any more: it is told, and let go. */
void session_end_without_pool(struct client *client);
/* The same of its database's section, when it needs a connection, or at a reload when it has none. */
void session_end_without_section(struct client *client);
/* Looks at the login's and the session's time limits. */
void auth_sweep(struct client *client);

#endif
