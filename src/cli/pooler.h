/*
 * pooler.h - an upstream that is itself a pooler: which, in which mode, and what that allows (contract 3).
 */
#ifndef CLI_POOLER_H
#define CLI_POOLER_H

#include <stdio.h>

#include "cli/facts.h"

enum pooler_mode {
    POOLER_NONE,       /* PostgreSQL itself */
    POOLER_UNKNOWN,    /* a pooler whose mode could not be found out */
    POOLER_SESSION,    /* each connection of ours keeps a backend: works */
    POOLER_TRANSACTION /* sessions break */
};

struct pooler {
    enum pooler_mode mode;
    const char *make; /* "PgBouncer", "Supavisor", "RDS Proxy", "a pooler"; NULL for none */
    int limit;        /* its own limit for our role and database, when it tells; else LIMITS_NONE */
};

/* Looks through the first connection, which facts_ask has been asked over, and opens a second one when there are signs of
 * a pooler. */
struct pooler pooler_find(PGconn *first, const struct facts *facts,
                          const struct config_database *database);
/* The same from what the running daemon found out ("kind" of an upstream in its status); NULL: it does not know. */
struct pooler pooler_of_kind(const char *kind, const struct config_database *database);
/* What it means for pgreserve, in lines of text; nothing for POOLER_NONE. */
void pooler_explain(FILE *out, const struct pooler *pooler);

#endif
