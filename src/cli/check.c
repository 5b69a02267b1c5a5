/*
 * check.c - `pgreserve check`: see check.h.
 *
 * Compares total_connections with what the upstream grants: max_connections less what it keeps for superusers, the
 * role's and the database's CONNECTION LIMIT.
 */
#include "cli/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

static long ask(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    long number = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1
                      ? atol(PQgetvalue(result, 0, 0))
                      : -1;
    PQclear(result);
    return number;
}

static PGconn *connect_upstream(const struct config_database *database)
{
    const char *keywords[40];
    const char *values[40];
    size_t count = 0;
    const char *const own[][2] = {{"host", database->hosts},
                                  {"hostaddr", database->hostaddrs},
                                  {"port", database->ports},
                                  {"dbname", database->dbname},
                                  {"user", database->user},
                                  {"password", database->password},
                                  {"fallback_application_name", "pgreserve check"}};
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        if (own[i][1]) {
            keywords[count] = own[i][0];
            values[count++] = own[i][1];
        }
    }
    for (size_t i = 0; database->keywords && database->keywords[i] && count < 38; i++) {
        keywords[count] = database->keywords[i];
        values[count++] = database->values[i];
    }
    keywords[count] = NULL;
    values[count] = NULL;
    return PQconnectdbParams(keywords, values, 0);
}

static long least(long a, long b)
{
    return b >= 0 && b < a ? b : a;
}

int check_upstream(const struct config *config)
{
    const struct config_database *database = config_find_database(config, "*");
    PGconn *conn = connect_upstream(database ? database : &config->databases[0]);
    if (PQstatus(conn) != CONNECTION_OK) {
        fprintf(stderr, "upstream unreachable: %s", PQerrorMessage(conn));
        PQfinish(conn);
        return 3;
    }
    long most = ask(conn, "SELECT setting FROM pg_settings WHERE name = 'max_connections'");
    long kept = ask(conn, "SELECT sum(setting::int) FROM pg_settings WHERE name IN "
                          "('superuser_reserved_connections', 'reserved_connections')");
    long role = ask(conn, "SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user");
    long base =
        ask(conn, "SELECT datconnlimit FROM pg_database WHERE datname = current_database()");
    long used = ask(conn, "SELECT count(*) - 1 FROM pg_stat_activity WHERE backend_type = "
                          "'client backend'");
    PQfinish(conn);
    if (most < 0 || kept < 0) {
        fprintf(stderr, "the upstream does not tell its limits: is it a pooler?\n");
        return 1;
    }
    long largest = least(least(most - kept, role), base);
    printf(
        "max_connections %ld, kept for superusers and others %ld, role limit %ld, database limit "
        "%ld, in use now %ld\n",
        most, kept, role, base, used);
    printf("largest cap that can hold: %ld; total_connections: %d\n", largest,
           config->total_connections);
    if (config->total_connections > largest) {
        printf("it does not hold: set total_connections = %ld or less\n", largest);
        return 1;
    }
    printf("it holds\n");
    return 0;
}
