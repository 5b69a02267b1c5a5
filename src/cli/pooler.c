/*
 * pooler.c - an upstream that is itself a pooler: see pooler.h.
 *
 * Signs, from the surest to the weakest:
 *   the process that answers is not the one that the login announced (its cancel key is made up): some pooler;
 *   the hosted ones are known by their names; PgBouncer refuses start-up options that it does not know, RDS Proxy any,
 *   each in its own words, before it uses a backend for them;
 *   a setting that is gone in the next transaction, another process in it, or one process behind two of our connections:
 *   transaction mode.  Supavisor's modes have ports of their own.
 */
#include "cli/pooler.h"

#include <stdlib.h>
#include <string.h>

#define SEED "0.31415"

/* What a host's name gives away. */
static const struct {
    const char *suffix;
    const char *within; /* must stand in the name too; NULL: nothing */
    const char *make;
} hosts[] = {
    {".pooler.supabase.com", NULL, "Supavisor"},
    {".rds.amazonaws.com", ".proxy-", "RDS Proxy"},
    {".neon.tech", "-pooler.", "PgBouncer"},
};

/* What a refusal of unknown start-up options gives away. */
static const struct {
    const char *words;
    const char *make;
} refusals[] = {
    {"unsupported startup parameter", "PgBouncer"},
    {"RDS Proxy", "RDS Proxy"},
    {"Tenant or user not found", "Supavisor"},
};

static bool ends_with(const char *text, size_t length, const char *suffix)
{
    size_t wanted = strlen(suffix);
    return length >= wanted && strncasecmp(text + length - wanted, suffix, wanted) == 0;
}

/* By any of the hosts of the section. */
static const char *make_by_name(const struct config_database *database)
{
    for (const char *host = database->hosts; host && *host; host += *host == ',') {
        size_t length = strcspn(host, ",");
        for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
            if (ends_with(host, length, hosts[i].suffix) &&
                (!hosts[i].within ||
                 memmem(host, length, hosts[i].within, strlen(hosts[i].within))))
                return hosts[i].make;
        }
        host += length;
    }
    return NULL;
}

static const char *make_by_refusal(const char *message)
{
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        if (strstr(message, refusals[i].words))
            return refusals[i].make;
    }
    return NULL;
}

/* One value of one row; false when the query fails. */
static bool ask_value(PGconn *conn, const char *sql, char *out, size_t bytes)
{
    PGresult *result = PQexec(conn, sql);
    bool is_fine = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;
    if (is_fine)
        snprintf(out, bytes, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    return is_fine;
}

/* Two transactions on one connection: the same process, and the setting still there? */
static bool survives(PGconn *conn, int *pid)
{
    char before[64];
    char after[64];
    char seed[64];
    bool is_fine =
        ask_value(conn, "SELECT set_config('geqo_seed', '" SEED "', false)", seed, sizeof(seed)) &&
        ask_value(conn, "SELECT pg_backend_pid()", before, sizeof(before)) &&
        ask_value(conn, "SELECT current_setting('geqo_seed')", seed, sizeof(seed)) &&
        ask_value(conn, "SELECT pg_backend_pid()", after, sizeof(after));
    PQclear(PQexec(conn, "RESET geqo_seed"));
    *pid = is_fine ? atoi(after) : 0;
    return is_fine && strcmp(before, after) == 0 && strcmp(seed, SEED) == 0;
}

/* PgBouncer's own console tells its limit to its administrators and stats_users. */
static int ask_pgbouncer(const struct config_database *database, const char *name)
{
    int limit = LIMITS_NONE;
    PGconn *conn = facts_connect(database, "pgbouncer", NULL);
    PGresult *result = PQstatus(conn) == CONNECTION_OK ? PQexec(conn, "SHOW DATABASES") : NULL;
    int name_at = result ? PQfnumber(result, "name") : -1;
    int size_at = result ? PQfnumber(result, "pool_size") : -1;
    for (int i = 0; name_at >= 0 && size_at >= 0 && i < PQntuples(result); i++) {
        if (strcmp(PQgetvalue(result, i, name_at), name) == 0)
            limit = atoi(PQgetvalue(result, i, size_at));
    }
    PQclear(result);
    PQfinish(conn);
    return limit > 0 ? limit : LIMITS_NONE;
}

static bool has_port(const struct config_database *database, const char *port)
{
    return database->ports && strcmp(database->ports, port) == 0;
}

struct pooler pooler_find(PGconn *first, const struct facts *facts,
                          const struct config_database *database)
{
    struct pooler pooler = {.make = make_by_name(database), .limit = LIMITS_NONE};
    int first_pid = 0;
    int second_pid = 0;
    if (!pooler.make && facts->pid == PQbackendPID(first))
        return pooler;
    pooler.mode = POOLER_UNKNOWN;
    bool is_kept = survives(first, &first_pid);
    PGconn *second = facts_connect(database, NULL, "-c geqo_seed=0.5");
    if (!pooler.make)
        pooler.make = make_by_refusal(PQerrorMessage(second));
    if (PQstatus(second) != CONNECTION_OK) {
        PQfinish(second);
        second = facts_connect(database, NULL, NULL);
    }
    if (PQstatus(second) == CONNECTION_OK) {
        is_kept = survives(second, &second_pid) && is_kept && second_pid != first_pid;
        pooler.mode = is_kept ? POOLER_SESSION : POOLER_TRANSACTION;
    } else if (!is_kept) {
        pooler.mode = POOLER_TRANSACTION;
    }
    PQfinish(second);
    if (pooler.make && strcmp(pooler.make, "Supavisor") == 0 && has_port(database, "6543"))
        pooler.mode = POOLER_TRANSACTION;
    if (pooler.make && strcmp(pooler.make, "PgBouncer") == 0)
        pooler.limit = ask_pgbouncer(database, facts->database);
    if (!pooler.make)
        pooler.make = "a pooler";
    return pooler;
}

struct pooler pooler_of_kind(const char *kind, const struct config_database *database)
{
    static const struct {
        const char *kind;
        enum pooler_mode mode;
    } kinds[] = {{"pooler", POOLER_UNKNOWN},
                 {"session pooler", POOLER_SESSION},
                 {"transaction pooler", POOLER_TRANSACTION}};
    struct pooler pooler = {.make = make_by_name(database), .limit = LIMITS_NONE};
    if (pooler.make)
        pooler.mode = POOLER_UNKNOWN;
    for (size_t i = 0; kind && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kind, kinds[i].kind) == 0)
            pooler.mode = kinds[i].mode;
    }
    if (pooler.mode != POOLER_NONE && !pooler.make)
        pooler.make = "a pooler";
    return pooler;
}

/* ---- what it means ---- */

static const struct {
    const char *make; /* NULL: any other */
    enum pooler_mode mode;
    const char *text;
} meanings[] = {
    {"Supavisor", POOLER_SESSION,
     "Session mode works. Its own limit is the pool size that Supabase's dashboard shows\n"
     "(Database > Connection pooling), for each role and database, and both ports share it:\n"
     "total_connections must not exceed it.\n"},
    {"Supavisor", POOLER_TRANSACTION,
     "Transaction mode (port 6543): settings, prepared statements, LISTEN, temporary tables and\n"
     "locks do not survive a transaction there. Use its session mode, port 5432 on the same host,\n"
     "or the direct connection db.PROJECT.supabase.co.\n"},
    {"PgBouncer", POOLER_SESSION,
     "Session mode works. Its own limit is pool_size (default_pool_size) for each role and\n"
     "database, and max_db_connections: total_connections must not exceed them.\n"},
    {"PgBouncer", POOLER_TRANSACTION,
     "Transaction mode: settings, prepared statements, LISTEN, temporary tables and locks do not\n"
     "survive a transaction there. Use pool_mode = session for this database in its\n"
     "configuration, or connect to PostgreSQL itself: pgreserve does PgBouncer's work.\n"},
    {"RDS Proxy", POOLER_TRANSACTION,
     "It shares backends between transactions and pins some sessions, which the server cannot\n"
     "tell. Connect to the instance's own endpoint: pgreserve does RDS Proxy's work.\n"},
    {"RDS Proxy", POOLER_SESSION,
     "It kept our session on one backend (pinned), but may not always. Connect to the instance's\n"
     "own endpoint: pgreserve does RDS Proxy's work.\n"},
    {NULL, POOLER_SESSION,
     "Session mode works. It has a limit of its own for our role and database:\n"
     "total_connections must not exceed it.\n"},
    {NULL, POOLER_TRANSACTION,
     "Transaction mode: settings, prepared statements, LISTEN, temporary tables and locks do not\n"
     "survive a transaction there. Use its session mode, or connect to PostgreSQL itself.\n"},
    {NULL, POOLER_UNKNOWN,
     "Which mode it is in could not be found out. In transaction mode sessions break: use session\n"
     "mode, or connect to PostgreSQL itself.\n"},
};

void pooler_explain(FILE *out, const struct pooler *pooler)
{
    if (pooler->mode == POOLER_NONE)
        return;
    fprintf(out, "The upstream is %s, not PostgreSQL itself.\n", pooler->make);
    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
        if (meanings[i].mode == pooler->mode &&
            (!meanings[i].make || strcmp(meanings[i].make, pooler->make) == 0)) {
            fputs(meanings[i].text, out);
            return;
        }
    }
}
