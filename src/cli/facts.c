/*
 * facts.c - what an upstream says about itself: see facts.h.
 *
 * Two queries, which every PostgreSQL from 10 on answers to every role.  A role that may not look at others' sessions
 * sees that they are there and whose they are, but not of which kind: then a few of the server's own may be counted.
 */
#include "cli/facts.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static const char limits_sql[] =
    "SELECT current_setting('max_connections'), current_setting('superuser_reserved_connections'),"
    " coalesce(current_setting('reserved_connections', true), '0'),"
    " r.rolconnlimit, d.datconnlimit, r.rolsuper::int,"
    " coalesce((SELECT pg_has_role(oid, 'usage') FROM pg_roles"
    "           WHERE rolname = 'pg_use_reserved_connections'), false)::int,"
    " current_setting('server_version'), r.rolname, d.datname,"
    " (r.rolsuper OR pg_has_role('pg_read_all_stats', 'usage'))::int, pg_backend_pid()"
    " FROM pg_roles r, pg_database d"
    " WHERE r.rolname = session_user AND d.datname = current_database()";

/* Processes without a user or a database are the server's own. */
#define CLIENTS                                                                                    \
    " FROM pg_stat_activity a LEFT JOIN pg_roles u ON u.oid = a.usesysid"                          \
    " WHERE a.usesysid IS NOT NULL AND a.datid IS NOT NULL AND a.pid <> pg_backend_pid()"          \
    " AND coalesce(a.backend_type, 'client backend') = 'client backend'"

static const char counts_sql[] =
    "SELECT count(*), count(*) FILTER (WHERE u.rolname = session_user),"
    " count(*) FILTER (WHERE a.datname = current_database())" CLIENTS;

static const char users_sql[] =
    "SELECT coalesce(u.rolname, '?'), coalesce(a.application_name, ''), count(*)" CLIENTS
    " GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2";

/* ---- connecting ---- */

#define KEYWORDS_MAX 64

struct keywords {
    const char *names[KEYWORDS_MAX + 1];
    const char *values[KEYWORDS_MAX + 1];
    size_t count;
};

static void add(struct keywords *keywords, const char *name, const char *value)
{
    if (!value || !*value || keywords->count >= KEYWORDS_MAX)
        return;
    keywords->names[keywords->count] = name;
    keywords->values[keywords->count++] = value;
}

PGconn *facts_connect(const struct config_database *database, const char *dbname,
                      const char *options)
{
    struct keywords keywords = {.count = 0};
    bool has_timeout = false;
    for (size_t i = 0; database->keywords && database->keywords[i]; i++) {
        add(&keywords, database->keywords[i], database->values[i]);
        has_timeout |= strcmp(database->keywords[i], "connect_timeout") == 0;
    }
    add(&keywords, "host", database->hosts);
    add(&keywords, "hostaddr", database->hostaddrs);
    add(&keywords, "port", database->ports);
    add(&keywords, "dbname", dbname ? dbname : database->dbname);
    add(&keywords, "user", database->user);
    add(&keywords, "password", database->password);
    add(&keywords, "options", options);
    add(&keywords, "connect_timeout", has_timeout ? NULL : "10");
    add(&keywords, "fallback_application_name", "pgreserve check");
    return PQconnectdbParams(keywords.names, keywords.values, 0);
}

/* ---- asking ---- */

static int number(const PGresult *result, int column)
{
    return atoi(PQgetvalue(result, 0, column));
}

static void copy(char *out, size_t bytes, const char *text)
{
    snprintf(out, bytes, "%s", text);
}

static bool ask_limits(PGconn *conn, struct facts *facts)
{
    PGresult *result = PQexec(conn, limits_sql);
    bool is_fine = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;
    if (is_fine) {
        facts->limits = (struct limits_server){.max_connections = number(result, 0),
                                               .kept_for_superusers = number(result, 1),
                                               .kept_for_members = number(result, 2),
                                               .role_limit = number(result, 3),
                                               .database_limit = number(result, 4),
                                               .pooler_limit = LIMITS_NONE,
                                               .is_superuser = number(result, 5) != 0,
                                               .is_member = number(result, 6) != 0};
        copy(facts->version, sizeof(facts->version), PQgetvalue(result, 0, 7));
        copy(facts->user, sizeof(facts->user), PQgetvalue(result, 0, 8));
        copy(facts->database, sizeof(facts->database), PQgetvalue(result, 0, 9));
        facts->sees_all = number(result, 10) != 0;
        facts->pid = number(result, 11);
    }
    PQclear(result);
    return is_fine;
}

static bool ask_counts(PGconn *conn, struct facts *facts)
{
    PGresult *result = PQexec(conn, counts_sql);
    bool is_fine = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;
    if (is_fine) {
        facts->limits.others = number(result, 0);
        facts->limits.others_of_role = number(result, 1);
        facts->limits.others_of_database = number(result, 2);
    }
    PQclear(result);
    return is_fine;
}

static bool ask_users(PGconn *conn, struct facts *facts)
{
    PGresult *result = PQexec(conn, users_sql);
    bool is_fine = PQresultStatus(result) == PGRES_TUPLES_OK;
    for (int i = 0; is_fine && i < PQntuples(result); i++) {
        int connections = atoi(PQgetvalue(result, i, 2));
        if (facts->user_count == FACTS_USERS) {
            facts->others_unlisted += connections;
            continue;
        }
        struct facts_user *user = &facts->users[facts->user_count++];
        copy(user->user, sizeof(user->user), PQgetvalue(result, i, 0));
        copy(user->application, sizeof(user->application), PQgetvalue(result, i, 1));
        user->connections = connections;
    }
    PQclear(result);
    return is_fine;
}

bool facts_ask(PGconn *conn, struct facts *facts)
{
    *facts = (struct facts){.user_count = 0};
    return ask_limits(conn, facts) && ask_counts(conn, facts) && ask_users(conn, facts);
}

/* ---- printing ---- */

void facts_put_text(FILE *out, const char *text)
{
    for (; *text; text++)
        fputc((unsigned char)*text >= 0x20 && (unsigned char)*text < 0x7f ? *text : '?', out);
}

void facts_put_message(FILE *out, const char *message, const struct config_database *database)
{
    char *line = memory_strndup(message, strcspn(message, "\n"));
    size_t secret = database->password ? strlen(database->password) : 0;
    for (char *at = line; secret >= 4 && (at = strstr(at, database->password));)
        memset(at, '*', secret);
    facts_put_text(out, line);
    free(line);
}
