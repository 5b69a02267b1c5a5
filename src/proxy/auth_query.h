/*
 * auth_query.h - whom the users file does not know, the upstream is asked for.
 *
 * auth_query.c keeps the questions and who waits for their answers; asker.c has the connection that carries them.
 */
#ifndef PROXY_AUTH_QUERY_H
#define PROXY_AUTH_QUERY_H

#include "proxy/proxy.h"

struct auth_question;

/* A client whose secret is asked for, or was; it hangs on the client until its login is over. */
struct auth_lookup {
    struct client *client;
    struct auth_question *question; /* NULL: answered */
    TAILQ_ENTRY(auth_lookup) link;
    uint8_t method; /* enum auth_method, that goes on when the answer is there */
    uint8_t step;   /* of the exchange, that goes on after a second question */
    bool is_from_cache;
    bool wants_fresh; /* nothing from the cache */
    char *key;        /* of the cache */
    char *secret;     /* NULL: nobody's */
    char *response;   /* to the md5 or clear challenge, when it did not fit what the cache had */
};
TAILQ_HEAD(auth_lookup_list, auth_lookup);

/* One name, for all who wait for it at one pool. */
struct auth_question {
    TAILQ_ENTRY(auth_question) link;
    struct auth_lookup_list lookups;
    char *name;
    char *key;
    int64_t since_us;
    int64_t sent_us;  /* 0: not on its way */
    bool is_late;     /* it has been looked at when it was */
    bool was_retried; /* its connection was found dead once */
    bool
        is_outdated; /* given up, or older than a reload: nobody joins it, its answer is not kept */
    bool has_columns; /* the answer, so far */
    int rows;
    char *secret;
    char *failure; /* why it is none, for the log */
};
TAILQ_HEAD(auth_question_list, auth_question);

/* A lane that asks, and its one connection; lane->asker. */
struct asker {
    struct pool_waiter waiter; /* first: it stands in the pool's queue like a client's */
    struct lane *lane;
    struct server *server; /* while it has the connection */
    struct auth_question_list questions;
    bool is_asking; /* the first one is on its way */
    bool was_cancelled;
};

/* Why there is no answer. */
enum auth_failure {
    AUTH_FAILURE_UPSTREAM, /* no connection */
    AUTH_FAILURE_FULL,     /* none was free */
    AUTH_FAILURE_QUERY,    /* the server did not like it, or what it said makes no sense */
    AUTH_FAILURE_TIME
};

/* ---- auth_query.c: for auth.c ---- */

/* Whether the upstream must be asked before this client's proof can be. */
bool auth_query_is_needed(const struct client *client);
/* Asks, or joins who asks for the same name already.  auth_answered() is called later, or the client is told why not. */
void auth_query_begin(struct client *client, enum auth_method method);
/* Whether an answer is being waited for. */
bool auth_query_is_open(const struct client *client);
/* A response to the challenge of `step` was wrong.  True when what it was held against came from the cache: then the upstream
 * is asked once, and auth_answered() called; else it is wrong. */
bool auth_query_ask_anew(struct client *client, uint8_t step, const char *response);
/* A proof was wrong that cannot be held against another secret (SCRAM's, made with the old salt): the next is not held against
 * this one. */
void auth_query_distrust(struct client *client);
/* The client's login is over, or it has gone. */
void auth_query_leave(struct client *client);

/* ---- auth_query.c: for the others ---- */

/* At each tick: answers from the cache who has waited too long, ends questions that take too long. */
void auth_query_tick(struct proxy *proxy);
/* The configuration has changed: what is known is forgotten. */
void auth_query_reloaded(struct proxy *proxy);
/* Whether the client's question cannot be asked any more: the process hands over, and opens nothing. */
bool auth_query_waits_in_vain(const struct client *client);

/* The first client that waits for what the asker is told; NULL when all have gone. */
const struct client *auth_query_first_client(const struct asker *asker);

/* ---- auth_query.c: for asker.c ---- */

/* The answer is complete; the question is freed. */
void auth_question_answered(struct asker *asker, struct auth_question *question);
/* There is none; likewise.  `why` is for the log, NULL when it stands there already. */
void auth_question_failed(struct asker *asker, struct auth_question *question,
                          enum auth_failure failure, const char *why);
/* Tells who waits for it; the question stays, and nobody joins it any more. */
void auth_question_give_up(struct asker *asker, struct auth_question *question,
                           enum auth_failure failure, const char *why);
void auth_question_free(struct auth_question *question);

/* ---- asker.c ---- */

struct asker *asker_new(struct lane *lane);
void asker_free(struct asker *asker);
/* Whether its lane must stay. */
bool asker_is_used(const struct asker *asker);
/* There is a question more: gets the connection, or waits for it. */
void asker_wake(struct asker *asker);
/* The connection is there (BUSY). */
void asker_granted(struct asker *asker, struct server *server);
/* Its place in the queue was not reached in time; it has left it. */
void asker_timed_out(struct asker *asker);
/* Its lane's login failed, and nothing lives there; it has left the queue. */
void asker_upstream_failed(struct asker *asker);
/* A message from the connection that it has; without a body (`length` 0) when it is too long. */
void asker_message(struct server *server, uint8_t type, uint8_t *body, size_t length);
/* Everything owed on its connection has been answered. */
void asker_settled(struct server *server);
/* Its connection is lost, or told to go. */
void asker_lost(struct server *server);
void asker_tick(struct asker *asker);

#endif
