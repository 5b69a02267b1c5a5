/*
 * session_start.c - what a StartupMessage asks for, and whether it may have it.
 *
 * The protocol's version is agreed, then come the limits (clients in all, of a pool, a user, an address); for the console who may
 * see it and who may command it.  Then auth.c asks for proof, and only who has given it learns whether the pool's lists of users
 * and networks have him, and whether there is such a database, as with PostgreSQL.  Also the time limits of a client: of its login, its queries and transactions, its idleness.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/memory.h"
#include "proto/build.h"
#include "proto/sqlstate.h"
#include "proxy/cancel.h"
#include "proxy/clear.h"
#include "proxy/client_query.h"
#include "proxy/control.h"
#include "proxy/events.h"
#include "proxy/login.h"
#include "proxy/proxy.h"
#include "proxy/settle.h"

static void negotiate_version(struct client *client)
{
    const struct startup *startup = client->startup;
    struct buffer message = {0};
    client->minor = startup->minor > STARTUP_MINOR_NEWEST ? STARTUP_MINOR_NEWEST : startup->minor;
    if (client->minor == startup->minor && startup->unknown_option_count == 0)
        return;
    size_t mark = build_begin(&message, 'v');
    build_u32(&message, 3u << 16 | client->minor);
    build_u32(&message, (uint32_t)startup->unknown_option_count);
    for (size_t i = 0; i < startup->unknown_option_count; i++)
        build_text(&message, startup->unknown_options[i]);
    build_end(&message, mark);
    stream_write_buffer(&client->stream, &message);
}

static int count_clients(const struct client *client, bool by_user)
{
    int count = 0;
    const struct client *other;
    TAILQ_FOREACH (other, &client->proxy->clients, link) {
        if (other == client || other->pool != client->pool || !other->is_counted)
            continue;
        if (by_user)
            count += strcmp(other->user, client->user) == 0;
        else if (other->address.any.sa_family == client->address.any.sa_family) {
            const union client_address *a = &other->address;
            const union client_address *b = &client->address;
            count +=
                client->address.any.sa_family == AF_INET6
                    ? memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof(a->in6.sin6_addr)) == 0
                    : a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
        }
    }
    return count;
}

/* `key` stands in the section of this pool, or of none. */
static bool refuse_limit(struct client *client, const char *which, int limit, const char *key,
                         const char *pool)
{
    char *text = memory_printf("no more connections allowed (%s of %d reached)", which, limit);
    char *hint = memory_printf("Raise %s in [%s%s], or close connections that nobody uses.", key,
                               pool ? "pool:" : "pgreserve", pool ? pool : "");
    client_fatal(client, SQLSTATE_TOO_MANY_CONNECTIONS, text, NULL, hint);
    free(hint);
    free(text);
    return false;
}

/* The limits on clients; administrators are never kept out by them. */
static bool within_limits(struct client *client)
{
    const struct config_pool *pool = client->pool->config;
    if (client->proxy->client_count > client->proxy->config->max_clients && pool->reserved == 0)
        return refuse_limit(client, "max_clients", client->proxy->config->max_clients,
                            "max_clients", NULL);
    if (pool->max_clients > 0 && client->pool->clients >= pool->max_clients)
        return refuse_limit(client, "max_clients of this pool", pool->max_clients, "max_clients",
                            pool->name);
    if (pool->max_clients_per_user > 0 && count_clients(client, true) >= pool->max_clients_per_user)
        return refuse_limit(client, "max_clients_per_user", pool->max_clients_per_user,
                            "max_clients_per_user", pool->name);
    if (pool->max_clients_per_address > 0 && !client->is_unix &&
        count_clients(client, false) >= pool->max_clients_per_address)
        return refuse_limit(client, "max_clients_per_address", pool->max_clients_per_address,
                            "max_clients_per_address", pool->name);
    return true;
}

static bool find_database(struct client *client)
{
    if (config_find_database(client->proxy->config, client->database))
        return true;
    char *text = memory_printf("database \"%s\" does not exist", client->database);
    client_fatal(client, SQLSTATE_INVALID_CATALOG_NAME, text, NULL, NULL);
    free(text);
    return false;
}

/* DISABLE on the console: nobody new. */
static bool is_disabled(struct client *client)
{
    const char *database = client->database;
    if (!control_is_disabled(client->proxy, client->pool, database))
        return false;
    char *text = memory_printf("database \"%s\" does not allow new connections in pool \"%s\"",
                               database, client->pool->name);
    client_fatal(client, SQLSTATE_CANNOT_CONNECT_NOW, text, NULL,
                 "An administrator has disabled it.");
    free(text);
    return true;
}

bool session_may_use_pool(struct client *client)
{
    const struct config_pool *pool = client->pool->config;
    bool is_near = client->is_unix || config_networks_allow(&pool->networks, &client->address.any);
    if (is_near && config_names_allow(&pool->users, client->user))
        return find_database(client) && !is_disabled(client);
    char *text = memory_printf("user \"%s\" is not allowed on pool \"%s\"", client->user,
                               client->pool->name);
    door_leave(client); /* who it is has been proved: no failed proof is counted */
    client_fatal(client, SQLSTATE_INVALID_AUTHORIZATION, text, NULL, NULL);
    free(text);
    return false;
}

/* The console's doorkeeper: which database, which user, which rights. */
static void start_console(struct client *client)
{
    const struct config *config = client->proxy->config;
    const char *user = client->user;
    const char *database = client->database;
    if (strcmp(database, "pgbouncer") != 0 && strcmp(database, "pgreserve") != 0) {
        char *text = memory_printf("database \"%s\" does not exist", database);
        client_fatal(client, SQLSTATE_INVALID_CATALOG_NAME, text, NULL,
                     "The admin console's database is called pgreserve.");
        free(text);
        return;
    }
    struct ucred peer = {0};
    socklen_t peer_bytes = sizeof(peer);
    if (client->is_unix &&
        getsockopt(client->stream.fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_bytes) == 0 &&
        peer.uid == getuid()) {
        client->is_administrator = true;
        auth_succeeded(client);
        return;
    }
    const struct config_database *upstream = config_find_database(config, "*");
    if (!upstream && config->database_count > 0)
        upstream = &config->databases[0];
    if (config->admin_users.count > 0)
        client->is_administrator = config_names_contain(&config->admin_users, user);
    else
        client->is_administrator = upstream && upstream->user && strcmp(upstream->user, user) == 0;
    client->is_stranger =
        !client->is_administrator && !config_names_contain(&config->admin_stats_users, user);
    auth_ask_proof(client);
}

static bool tls_is_missing(const struct client *client)
{
    return client->proxy->config->tls_client_mode >= TLS_CLIENT_REQUIRE && !client->stream.ssl &&
           !client->is_unix;
}

/* The user's and the database's, which outlive the rest of the packet, in one allocation: each costs a client 32 bytes. */
void session_take_names(struct client *client)
{
    const struct startup *startup = client->startup;
    size_t user = strlen(startup->user) + 1;
    size_t database = strlen(startup->database) + 1;
    client->user = memory_alloc(user + database);
    client->database = client->user + user;
    memcpy(client->user, startup->user, user);
    memcpy(client->database, startup->database, database);
}

/* Only printable ASCII, as PostgreSQL has it, and no more than a name's 63 bytes. */
static void take_application_name(struct client *client)
{
    const char *name = client->startup->application_name;
    client_set_application_name(client, name ? name : "");
    for (char *at = client->application_name; *at; at++) {
        if (*at < ' ' || *at > '~')
            *at = '?';
    }
}

static bool wants_replication(const struct client *client)
{
    return startup_replication(client->startup->replication) != STARTUP_REPLICATION_NONE;
}

bool session_is_physical_replication(const struct client *client)
{
    return startup_replication(client->startup->replication) == STARTUP_REPLICATION_PHYSICAL;
}

static bool replication_is_valid(struct client *client)
{
    const char *value = client->startup->replication;
    if (startup_replication(value) != STARTUP_REPLICATION_INVALID)
        return true;
    char *text = memory_printf("invalid value for parameter \"replication\": \"%s\"", value);
    client_fatal(client, SQLSTATE_INVALID_PARAMETER, text, NULL,
                 "Valid values are: \"false\", 0, \"true\", 1, \"database\".");
    free(text);
    return false;
}

/* A setting as it stands in `options`: a blank or a backslash in it has a backslash before it. */
static void append_option(struct buffer *options, const char *name, const char *value)
{
    buffer_append(options, "-c ", 3);
    buffer_append(options, name, strlen(name));
    buffer_append(options, "=", 1);
    for (; *value; value++) {
        if (*value == ' ' || *value == '\\')
            buffer_append(options, "\\", 1);
        buffer_append(options, value, 1);
    }
    buffer_append(options, " ", 1);
}

struct lane *session_lane(struct client *client, const struct config_database *database,
                          const char *user, const char *password)
{
    const char *name = client->database;
    if (!wants_replication(client))
        return proxy_lane(client->pool, database, name, user, password, NULL);
    struct buffer options = {0};
    append_option(&options, "application_name", client->application_name);
    for (size_t i = 0; i < client->startup->setting_count; i++)
        append_option(&options, client->startup->settings[i].name,
                      client->startup->settings[i].value);
    buffer_append(&options, "", 1);
    struct lane_replication replication = {client->startup->replication,
                                           (const char *)buffer_bytes(&options)};
    struct lane *lane = proxy_lane(client->pool, database, name, user, password, &replication);
    buffer_free(&options);
    return lane;
}

/* Its address has failed too often: it is not even asked. */
static bool must_wait(struct client *client)
{
    const struct config *config = client->proxy->config;
    int64_t wait_us = door_wait(client);
    if (wait_us == 0)
        return false;
    char *text =
        memory_printf("too many failed logins from this address (max_failures of %d in %g s)",
                      config->max_failures, (double)config->failure_window_us / (double)CLOCK_S);
    char *hint = memory_printf("Try again in %lld s.", (long long)(wait_us / CLOCK_S + 1));
    client_fatal(client, SQLSTATE_TOO_MANY_CONNECTIONS, text, NULL, hint);
    free(hint);
    free(text);
    return true;
}

void session_end_without_pool(struct client *client)
{
    char *hint =
        memory_printf("Pool \"%s\" has been taken out of the configuration.", client->pool->name);
    client_shut_down(client, hint);
    free(hint);
}

void session_end_without_section(struct client *client)
{
    char *hint =
        memory_printf("What the configuration says of database \"%s\" has changed: connect "
                      "again.",
                      client->database);
    client_shut_down(client, hint);
    free(hint);
}

void session_start(struct client *client, const uint8_t *body, size_t length)
{
    char error[256];
    client_forget_startup(client);
    client->startup = memory_alloc(sizeof(*client->startup));
    if (!startup_parse(client->startup, body, length, error, sizeof(error))) {
        if (client->startup->has_no_user)
            client_fatal(client, SQLSTATE_INVALID_AUTHORIZATION, error, NULL, NULL);
        else if (!client->startup->has_bad_options)
            client_protocol_error(client, error, length + 4);
        else
            client_fatal(client, SQLSTATE_SYNTAX_ERROR, error, NULL,
                         client->startup->has_unknown_argument
                             ? "Try \"postgres --help\" for more information."
                             : NULL);
        return;
    }
    session_take_names(client);
    take_application_name(client);
    if (!replication_is_valid(client))
        return;
    negotiate_version(client);
    if (client->proxy->state != PROXY_RUNNING) {
        client_shut_down(client, NULL);
        return;
    }
    if (tls_is_missing(client)) {
        client_fatal(client, SQLSTATE_INVALID_AUTHORIZATION, "TLS is required on this address",
                     NULL, "Connect with sslmode=require.");
        return;
    }
    if (must_wait(client))
        return;
    if (!client->pool) {
        start_console(client);
        return;
    }
    if (!client->pool->config) {
        session_end_without_pool(client);
        return;
    }
    if (!within_limits(client)) {
        client_close(client);
        return;
    }
    client->is_counted = true;
    client->pool->clients++;
    auth_ask_proof(client);
}

/* ---- time limits ---- */

static void end_for(struct client *client, const char *sqlstate, const char *what, int64_t limit_us)
{
    char *text = memory_printf("terminating connection due to %s of %g s", what,
                               (double)limit_us / (double)CLOCK_S);
    client_fatal(client, sqlstate, text, NULL, NULL);
    free(text);
}

static void sweep_linked(struct client *client, const struct config_pool *pool, int64_t now_us)
{
    struct server *server = client->server;
    bool is_running = server->outstanding.count > 0;
    if (pool->query_timeout_us > 0 && is_running && client->query_timeout_us == 0 &&
        now_us - client->request_us > pool->query_timeout_us) {
        client->query_timeout_us = pool->query_timeout_us;
        cancel_server(server);
    }
    /* between an Execute and its Sync, too, a transaction goes on */
    bool is_in_transaction = is_running || server->status != 'I' || server->outstanding.is_open;
    if (pool->transaction_timeout_us > 0 && is_in_transaction &&
        now_us - client->transaction_us > pool->transaction_timeout_us)
        end_for(client, SQLSTATE_TRANSACTION_TIMEOUT, "transaction_timeout",
                pool->transaction_timeout_us);
    else if (pool->idle_in_transaction_timeout_us > 0 && !is_running && server->status != 'I' &&
             now_us - client->answered_us > pool->idle_in_transaction_timeout_us)
        end_for(client, SQLSTATE_IDLE_IN_TRANSACTION_TIMEOUT, "idle_in_transaction_timeout",
                pool->idle_in_transaction_timeout_us);
    else if (pool->client_idle_timeout_us > 0 && !is_running && server->status == 'I' &&
             now_us - client->answered_us > pool->client_idle_timeout_us)
        end_for(client, SQLSTATE_IDLE_SESSION_TIMEOUT, "client_idle_timeout",
                pool->client_idle_timeout_us);
}

static void warn_of_leak(struct client *client, const struct config_pool *pool)
{
    int64_t held_us = client->proxy->now_us - client->linked_us;
    if (client->was_warned || pool->leak_warning_us <= 0 || held_us < pool->leak_warning_us)
        return;
    char pins[160];
    char query[CLIENT_QUERY_BYTES];
    client->was_warned = true;
    pin_names(client->pins, pins, sizeof(pins));
    stats_count(client->pool->stats.total, POOL_STAT_LEAK_WARNINGS);
    log_client(LOG_LEVEL_WARNING, client, "connection held for long",
               LOG_FIELD_SECONDS("held", (double)held_us / (double)CLOCK_S),
               LOG_FIELD_NUMBER("pid", client->server->pid),
               LOG_FIELD_KIND("application", client->application_name),
               LOG_FIELD_KIND("state", client_doing(client)), LOG_FIELD_TEXT("pinned_by", pins),
               LOG_FIELD_TEXT("last_query", client_query_text(client, query)));
}

void auth_sweep(struct client *client)
{
    int64_t now_us = client->proxy->now_us;
    const struct config_pool *pool = client->pool ? client->pool->config : NULL;
    int64_t login_us = pool ? pool->login_timeout_us : 15 * CLOCK_S;
    switch (client->state) {
    case CLIENT_STARTUP:
    case CLIENT_AUTHENTICATING:
        if (login_us > 0 && now_us - client->answered_us > login_us) /* of both together */
            client_fatal(client, SQLSTATE_QUERY_CANCELED, "canceling authentication due to timeout",
                         NULL, NULL);
        break;
    case CLIENT_LINKED:
        if (!pool || !client->server)
            break;
        warn_of_leak(client, pool);
        proxy_clear_databases(client);
        settle_sweep(client);
        if (client->state == CLIENT_LINKED)
            sweep_linked(client, pool, now_us);
        break;
    case CLIENT_READY:
        if (client->settings && client->settings->idle_session_us > 0 &&
            now_us - client->answered_us > client->settings->idle_session_us)
            client_fatal(client, SQLSTATE_IDLE_SESSION_TIMEOUT,
                         "terminating connection due to idle-session timeout", NULL, NULL);
        else if (pool && pool->client_idle_timeout_us > 0 &&
                 now_us - client->answered_us > pool->client_idle_timeout_us)
            end_for(client, SQLSTATE_IDLE_SESSION_TIMEOUT, "client_idle_timeout",
                    pool->client_idle_timeout_us);
        break;
    default:
        break;
    }
}
