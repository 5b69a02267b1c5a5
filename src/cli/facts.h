/*
 * facts.h - what an upstream says about itself: its limits, who uses them, and which pooler it is (contract 3).
 *
 * Asked over a connection that is opened as the daemon opens its own, or over the running daemon's listener, which opens
 * nothing beyond the cap.  Texts are the server's: print them with facts_put_text.
 */
#ifndef CLI_FACTS_H
#define CLI_FACTS_H

#include <stdbool.h>
#include <stdio.h>

#include <libpq-fe.h>

#include "config/config.h"
#include "policy/limits.h"

#define FACTS_USERS 8

struct facts_user {
    char user[64];
    char application[64];
    int connections;
};

struct facts {
    struct limits_server limits; /* others count everybody but the asking connection */
    char version[64];
    char user[64];
    char database[64];
    bool sees_all;                        /* may tell clients' connections from other processes */
    int pid;                              /* of the process that answered */
    struct facts_user users[FACTS_USERS]; /* who holds most, the asking connection left out */
    int user_count;
    int others_unlisted;
};

/* A connection as the daemon would open it, to another database when `dbname` is not NULL, with `options` of the command line
 * when that is not NULL.  Never NULL; look at PQstatus. */
PGconn *facts_connect(const struct config_database *database, const char *dbname,
                      const char *options);
/* False with libpq's message in the connection when the upstream does not answer these questions. */
bool facts_ask(PGconn *conn, struct facts *facts);
/* The text with nothing in it that a terminal would obey. */
void facts_put_text(FILE *out, const char *text);
/* A message of libpq or the server: its first line, without the section's password. */
void facts_put_message(FILE *out, const char *message, const struct config_database *database);

#endif
