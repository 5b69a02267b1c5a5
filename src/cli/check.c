/*
 * check.c - `pgreserve check`, the doctor: see check.h.
 *
 * Is the daemon running?  Then its own listener is asked, as a client with the upstream's user and password: what it
 * holds already is known and nothing is opened beyond the cap.  Otherwise each upstream is asked as the daemon would.
 * policy/limits.h does the sums; here is what is asked in which order, and how it is said (diagnosis.h).
 */
#include "cli/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli/daemon.h"
#include "cli/diagnosis.h"
#include "cli/facts.h"
#include "cli/pooler.h"
#include "cli/reach.h"
#include "policy/refusal.h"

#define HOLDS         0
#define DOES_NOT_HOLD 1
#define UNREACHABLE   3

struct check {
    const struct config *config;
    bool is_running;
    json_t *status; /* the running daemon's; NULL when none runs, or when it tells nobody */
    struct daemon_doors doors;
};

/* ---- through the daemon ---- */

/* The pools in the order in which they are asked: those with a reservation have a connection ready, whatever the load. */
static const struct config_pool *pool_to_ask(const struct config *config, size_t turn)
{
    for (int with_reservation = 1; with_reservation >= 0; with_reservation--) {
        for (size_t i = 0; i < config->pool_count; i++) {
            if ((config->pools[i].reserved > 0) == with_reservation && turn-- == 0)
                return &config->pools[i];
        }
    }
    return NULL;
}

/* The name that a client asks for to get to this section. */
static const char *name_for_clients(const struct config_database *database)
{
    if (strcmp(database->name, "*") != 0)
        return database->name;
    return database->dbname ? database->dbname : database->user;
}

static PGconn *connect_to_pool(const struct config_pool *pool,
                               const struct config_database *database)
{
    const struct config_address *at = &pool->listen.items[0];
    char port[16];
    snprintf(port, sizeof(port), "%u", at->port);
    const char *names[] = {"host", "port",     "dbname", "connect_timeout", "application_name",
                           "user", "password", NULL};
    const char *values[] = {at->is_unix ? at->path : daemon_reachable(at->host),
                            port,
                            name_for_clients(database),
                            "20",
                            "pgreserve check",
                            database->user,
                            database->password,
                            NULL};
    return PQconnectdbParams(names, values, 0);
}

/* By the first pool that lets the upstream's user in; the failure of the first when none does. */
static PGconn *connect_through(const struct config *config, const struct config_database *database)
{
    PGconn *first = connect_to_pool(pool_to_ask(config, 0), database);
    for (size_t turn = 1; PQstatus(first) != CONNECTION_OK && turn < config->pool_count; turn++) {
        PGconn *conn = connect_to_pool(pool_to_ask(config, turn), database);
        if (PQstatus(conn) == CONNECTION_OK) {
            PQfinish(first);
            return conn;
        }
        PQfinish(conn);
    }
    return first;
}

/* The daemon's word on one upstream; NULL when it has none. */
static const json_t *upstream_status(const struct check *check, const char *section)
{
    size_t i;
    const json_t *upstream;
    json_array_foreach(json_object_get(check->status, "upstreams"), i, upstream)
    {
        const char *name = json_string_value(json_object_get(upstream, "database"));
        if (name && strcmp(name, section) == 0)
            return upstream;
    }
    return NULL;
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

static bool same_server(const struct config_database *a, const struct config_database *b)
{
    return same_text(a->hosts, b->hosts) && same_text(a->hostaddrs, b->hostaddrs) &&
           same_text(a->ports, b->ports);
}

/* How many connections the daemon has at the section's server: all, or only those of the section's user or database. */
enum whose { ALL, SAME_USER, SAME_DATABASE };

static int count_ours(const struct check *check, const struct config_database *database,
                      enum whose whose)
{
    const struct config *config = check->config;
    int count = 0;
    for (size_t i = 0; i < config->database_count; i++) {
        const struct config_database *other = &config->databases[i];
        if (!same_server(other, database) ||
            (whose == SAME_USER && !same_text(other->user, database->user)) ||
            (whose == SAME_DATABASE && !same_text(other->dbname, database->dbname)))
            continue;
        const json_t *upstream = upstream_status(check, other->name);
        count += (int)json_integer_value(json_object_get(upstream, "open"));
    }
    return count;
}

/* The asking connection is one of the daemon's own and has not been counted. */
static int without_ours(int counted, int ours)
{
    int others = counted + 1 - ours;
    return others > 0 ? others : 0;
}

#define ASK_TRIES 5
#define FULL                                                                                       \
    "The upstream is full: not even this question gets a connection. Somebody holds what "         \
    "total_connections counts on.\n"

/* Without its word, all connections of its user are taken for the daemon's. */
static bool ask_through_blindly(PGconn *conn, struct facts *facts)
{
    struct limits_server *limits = &facts->limits;
    if (!facts_ask(conn, facts))
        return false;
    limits->others -= limits->others_of_role;
    limits->others_of_database -= limits->others_of_role < limits->others_of_database
                                      ? limits->others_of_role
                                      : limits->others_of_database;
    limits->others_of_role = 0;
    printf("The daemon does not tell how it stands (no [admin] http): every connection of its user "
           "is taken for its own.\n");
    return true;
}

static void ask_daemon_again(struct check *check)
{
    char why[1024];
    json_t *status = daemon_ask(&check->doors, why, sizeof(why));
    if (!status)
        return;
    json_decref(check->status);
    check->status = status;
}

/* Counts at the server and at the daemon are of one moment when the daemon's did not change meanwhile. */
static bool ask_through(struct check *check, PGconn *conn, const struct config_database *database,
                        struct facts *facts)
{
    if (!check->status)
        return ask_through_blindly(conn, facts);
    for (int i = 0; i < ASK_TRIES; i++) {
        int before = count_ours(check, database, ALL);
        if (!facts_ask(conn, facts))
            return false;
        ask_daemon_again(check);
        if (before == count_ours(check, database, ALL))
            break;
    }
    struct limits_server *limits = &facts->limits;
    limits->others = without_ours(limits->others, count_ours(check, database, ALL));
    limits->others_of_role =
        without_ours(limits->others_of_role, count_ours(check, database, SAME_USER));
    limits->others_of_database =
        without_ours(limits->others_of_database, count_ours(check, database, SAME_DATABASE));
    return true;
}

/* ---- one upstream ---- */

/* The daemon's own words for a wait that was in vain (contract 6). */
static bool is_wait_in_vain(const char *message)
{
    const char *limit = strstr(message, " limit of size ");
    return limit && strstr(limit, " reached, connection timed out");
}

/* Nothing came in the daemon's time or in ours: neither means that nobody is there. */
static int explain_wait(const json_t *ceiling)
{
    if (json_is_integer(ceiling))
        printf(FULL);
    else
        printf("Every connection of the pools is in use: not even this question gets one. SHOW "
               "HOLDERS on the admin port says who has them.\n");
    diagnosis_ceiling(ceiling);
    return DOES_NOT_HOLD;
}

static int explain_failure(struct check *check, PGconn *conn,
                           const struct config_database *database)
{
    const char *message = PQerrorMessage(conn);
    printf("\n[database:%s] ", database->name);
    facts_put_message(stdout, message, database);
    putchar('\n');
    if (refusal_of(NULL, message) != REFUSAL_OTHER) {
        printf(FULL);
        return DOES_NOT_HOLD;
    }
    if (check->is_running) {
        ask_daemon_again(check);
        const json_t *ceiling = json_object_get(upstream_status(check, database->name), "ceiling");
        if (is_wait_in_vain(message) ||
            (json_is_integer(ceiling) && strstr(message, "timeout expired")))
            return explain_wait(ceiling);
    }
    if (check->is_running)
        printf("It was asked through the running daemon, on pool %s.\n",
               pool_to_ask(check->config, 0)->name);
    if (!check->is_running || strstr(message, "could not connect to upstream"))
        reach_explain(stdout, database, message);
    return UNREACHABLE;
}

static int check_one(struct check *check, const struct config_database *database, int *largest)
{
    struct facts facts;
    struct pooler pooler;
    PGconn *conn = check->is_running ? connect_through(check->config, database)
                                     : facts_connect(database, NULL, NULL);
    bool is_answered =
        PQstatus(conn) == CONNECTION_OK &&
        (check->is_running ? ask_through(check, conn, database, &facts) : facts_ask(conn, &facts));
    if (!is_answered) {
        int status = explain_failure(check, conn, database);
        PQfinish(conn);
        return status;
    }
    const json_t *known = upstream_status(check, database->name);
    pooler = check->is_running
                 ? pooler_of_kind(json_string_value(json_object_get(known, "kind")), database)
                 : pooler_find(conn, &facts, database);
    PQfinish(conn);
    facts.limits.pooler_limit = pooler.limit;
    struct limits_verdict verdict = limits_judge(&facts.limits);
    diagnosis_facts(&facts, &verdict, database, check->is_running);
    pooler_explain(stdout, &pooler);
    diagnosis_ceiling(json_object_get(known, "ceiling"));
    if (verdict.largest < *largest)
        *largest = verdict.largest;
    return pooler.mode == POOLER_TRANSACTION ? DOES_NOT_HOLD : HOLDS;
}

static bool is_repeated(const struct config *config, size_t index)
{
    const struct config_database *database = &config->databases[index];
    for (size_t i = 0; i < index; i++) {
        const struct config_database *other = &config->databases[i];
        if (same_server(other, database) && same_text(other->dbname, database->dbname) &&
            same_text(other->user, database->user))
            return true;
    }
    return false;
}

int check_upstream(const struct config *config)
{
    struct check check = {.config = config};
    char why[1024];
    int status = HOLDS;
    int largest = config->total_connections + 1000000;
    daemon_doors_of(&check.doors, config);
    check.status = daemon_ask(&check.doors, why, sizeof(why));
    check.is_running = check.status || daemon_listens(&pool_to_ask(config, 0)->listen.items[0]);
    diagnosis_configuration(config, check.is_running);
    for (size_t i = 0; i < config->database_count; i++) {
        if (is_repeated(config, i))
            continue;
        int one = check_one(&check, &config->databases[i], &largest);
        status = one > status ? one : status;
    }
    if (status != UNREACHABLE && largest <= config->total_connections + 999999 &&
        !diagnosis_verdict(config, largest))
        status = DOES_NOT_HOLD;
    json_decref(check.status);
    daemon_doors_free(&check.doors);
    return status;
}
