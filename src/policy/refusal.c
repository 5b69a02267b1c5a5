/*
 * refusal.c - what an upstream's refusal of a login means: see refusal.h.
 *
 * The words are those of PostgreSQL 12 to 18, Supavisor (EMAXCONN..., MaxClientsInSessionMode), PgBouncer, RDS Proxy and
 * pgpool.  A server that speaks another language is still known by its SQLSTATE where libpq hands it on.
 */
#include "policy/refusal.h"

#include <string.h>

#include "proto/sqlstate.h"

static const struct {
    const char *words;
    enum refusal means;
} known[] = {
    {"too many connections for role", REFUSAL_FULL_ROLE},
    {"too many connections for database", REFUSAL_FULL_DATABASE},
    {"too many clients already", REFUSAL_FULL_SERVER},
    {"remaining connection slots", REFUSAL_FULL_SERVER},
    {"too many connections", REFUSAL_FULL_SERVER},
    {"EMAXCONN", REFUSAL_FULL_POOLER},
    {"MaxClientsInSessionMode", REFUSAL_FULL_POOLER},
    {"max clients reached", REFUSAL_FULL_POOLER},
    {"max client connections reached", REFUSAL_FULL_POOLER},
    {"no more connections allowed", REFUSAL_FULL_POOLER},
    {"timed-out waiting to acquire database connection", REFUSAL_FULL_POOLER},
};

enum refusal refusal_of(const char *sqlstate, const char *message)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcasestr(message, known[i].words))
            return known[i].means;
    }
    if (sqlstate && strcmp(sqlstate, SQLSTATE_TOO_MANY_CONNECTIONS) == 0)
        return REFUSAL_FULL_SERVER;
    return REFUSAL_OTHER;
}
