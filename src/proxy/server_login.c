/*
 * server_login.c - the upstream login, by libpq, without blocking the loop.
 *
 * Names are resolved aside (net/resolve.h); PQconnectPoll does passwords, TLS, several hosts, service files and
 * target_session_attrs.  Its socket may be another one after every step, so the event is made anew each time; what the server
 * asks for is looked at before libpq does it (login_guard.h).  A host that takes more than its part of connect_timeout
 * is left out, and libpq begins anew with the others (net/hosts.h).  A login that fails tells the pool's rules, which back off, and
 * fails the waiters of its lane when nothing lives there, unless the upstream only said that it is full (contract 12).
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/memory.h"
#include "base/process.h"
#include "proto/sqlstate.h"
#include "proxy/auth_query.h"
#include "proxy/defaults.h"
#include "proxy/events.h"
#include "proxy/login.h"
#include "proxy/login_guard.h"
#include "proxy/proxy.h"
#include "proxy/settle.h"
#include "proxy/upgrade.h"
#include "proxy/upstream.h"

#define LOGIN_FAILED_GRACE_US (50 * CLOCK_MS) /* the refused backend is on its way out */
#define HOST_LEAST_US         CLOCK_S         /* a login over a wide network, TLS included */

/* libpq before 17 does not give the SQLSTATE of a failed login; the common ones are known by their words. */
static const char *sqlstate_of_text(const char *message)
{
    static const struct {
        const char *words;
        const char *sqlstate;
    } known[] = {
        {"password authentication failed", SQLSTATE_INVALID_PASSWORD},
        {"too many clients already", SQLSTATE_TOO_MANY_CONNECTIONS},
        {"remaining connection slots", SQLSTATE_TOO_MANY_CONNECTIONS},
        {"too many connections for", SQLSTATE_TOO_MANY_CONNECTIONS},
        {"the database system is", SQLSTATE_CANNOT_CONNECT_NOW},
        {"is not currently accepting connections", "55000"},
        {"no pg_hba.conf entry", SQLSTATE_INVALID_AUTHORIZATION},
        {"is not permitted to log in", SQLSTATE_INVALID_AUTHORIZATION},
        {"permission denied for database", SQLSTATE_INSUFFICIENT_PRIVILEGE},
    };
    if (strstr(message, "database \"") && strstr(message, "\" does not exist"))
        return SQLSTATE_INVALID_CATALOG_NAME;
    if (strstr(message, "role \"") && strstr(message, "\" does not exist"))
        return SQLSTATE_INVALID_AUTHORIZATION;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strstr(message, known[i].words))
            return known[i].sqlstate;
    }
    return SQLSTATE_CANNOT_CONNECT;
}

static void fail_waiters(struct lane *lane)
{
    struct pool_waiter *waiter;
    while (pool_lane_is_dead(&lane->lane) && !lane->is_full &&
           (waiter = TAILQ_FIRST(&lane->lane.waiters))) {
        pool_wait_end(waiter);
        if (lane->asker)
            asker_upstream_failed(lane->asker);
        else
            client_upstream_failed((struct client *)waiter);
    }
}

/* The words without libpq's trailing newline, and without the password wherever it may stand. */
static char *clean_words(const struct lane *lane, const char *message)
{
    char *words = memory_strdup(message);
    size_t length = strlen(words);
    while (length > 0 && words[length - 1] == '\n')
        words[--length] = '\0';
    size_t secret = lane->password ? strlen(lane->password) : 0;
    for (char *at = words; secret >= 4 && (at = strstr(at, lane->password));)
        memset(at, '*', secret);
    return words;
}

void server_login_failed(struct server *server, const char *message)
{
    struct lane *lane = server->lane;
    struct proxy *proxy = server->proxy;
    char *words = clean_words(lane, message);
    const char *sqlstate = sqlstate_of_text(words);
    if (server->resolving)
        resolve_cancel(server->resolving);
    server->resolving = NULL;
    enum refusal refusal = refusal_of(sqlstate, words);
    lane->is_full = refusal != REFUSAL_OTHER;
    free(lane->error);
    lane->error = words;
    memcpy(lane->error_state, sqlstate, 6);
    log_server(LOG_LEVEL_WARNING, server, "login to upstream failed",
               LOG_FIELD_TEXT("sqlstate", sqlstate), LOG_FIELD_KIND("reason", words),
               LOG_FIELD_SECONDS("took", events_seconds_since(proxy, server->backend.since_us)));
    stats_count(lane->pool->stats.total, POOL_STAT_LOGIN_FAILURES);
    pool_backend_login_failed(&server->backend, proxy->now_us);
    pool_backend_move(&server->backend, BACKEND_CLOSING, proxy->now_us);
    server->close_reason = "login failed";
    server->is_held_for_close = true;
    server->deadline_us = proxy->now_us + LOGIN_FAILED_GRACE_US;
    if (server->has_login_event)
        event_del(&server->login_event);
    server->has_login_event = false;
    hosts_free(&server->hosts);
    probe_free(server);
    upstream_refused(server, refusal);
    fail_waiters(lane);
    proxy_run_pool(lane->pool);
}

/* libpq reads as much as there is, so that it may have the server's last words already, which nobody else will see: it hands
 * them to on_notice when it is made to look. */
static bool has_ended_already(struct server *server)
{
    struct rlimit before = process_may_grow(LOGIN_GUARD_GROWTH_MAX);
    PQfreemem(PQnotifies(server->conn));
    process_may_grow_freely(&before);
    return server->said_fatal;
}

void server_login_probed(struct server *server)
{
    struct proxy *proxy = server->proxy;
    struct lane *lane = server->lane;
    if (has_ended_already(server)) {
        server_login_failed(server, server->fatal_text);
        return;
    }
    SSL *ssl = PQsslInUse(server->conn) ? PQsslStruct(server->conn, "OpenSSL") : NULL;
    if (ssl)
        SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* libpq's own way to the socket claims that what could not be written was written (pqsecure_raw_write) */
    if (ssl && !SSL_set_fd(ssl, PQsocket(server->conn))) {
        server_login_failed(server, "out of memory");
        return;
    }
    if (!stream_open(&server->stream, proxy->base, PQsocket(server->conn), ssl, server_on_stream,
                     server)) {
        server_login_failed(server, "cannot watch the connection's socket");
        return;
    }
    server->is_streaming = true;
    server->stream.may_read = ssl != NULL;
    server->cancel = PQgetCancel(server->conn);
    server->pid = PQbackendPID(server->conn);
    server->connected_wall_us = clock_wall_us();
    server->deadline_us = INT64_MAX;
    server->status = 'I';
    defaults_login(server);
    const char *name = PQparameterStatus(server->conn, "application_name");
    snprintf(server->application_name, sizeof(server->application_name), "%s", name ? name : "");
    free(lane->error);
    lane->error = NULL;
    lane->is_full = false;
    events_connect(server);
    upstream_granted(server);
    stats_count(lane->pool->stats.total, POOL_STAT_LOGINS);
    settle_ask_triggers(server);
    pool_backend_ready(&server->backend, proxy->now_us);
    proxy_run_pool(lane->pool);
}

/* NULL when it is gone: another's server must not get this one's password. */
static const struct config_database *section_of(const struct server *server)
{
    return server->lane->is_gone
               ? NULL
               : config_find_database(server->proxy->config, server->lane->section);
}

/* In the way of target_session_attrs=prefer-standby libpq goes through all of them twice. */
static bool asks_twice(const struct server *server)
{
    const char *attributes = config_url_value(section_of(server), "target_session_attrs");
    return attributes && strcmp(attributes, "prefer-standby") == 0;
}

/* How many hosts may do, should the one that the login is at not. */
static int others_left(const struct server *server)
{
    int count = hosts_count(&server->hosts);
    int passed = server->hosts.at > 0 && !asks_twice(server) ? server->hosts.at : 0;
    return count > 0 ? count - passed - 1 : 0;
}

/* A host that says nothing has the same part of the time that is left as each of the others; one that has spoken all but what
 * the others need, for a login may be slow. */
static void renew_deadline(struct server *server)
{
    const struct config_pool *config = server->lane->pool->config;
    int64_t timeout_us = config ? config->connect_timeout_us : 0;
    int64_t now_us = server->proxy->now_us;
    int64_t left_us = server->backend.since_us + timeout_us - now_us;
    int64_t part_us = left_us;
    int others = others_left(server);
    if (timeout_us <= 0) {
        server->deadline_us = INT64_MAX;
        return;
    }
    if (others > 0)
        part_us = server->hosts.has_spoken ? left_us - left_us / 4 : left_us / (others + 1);
    if (part_us < HOST_LEAST_US)
        part_us = HOST_LEAST_US;
    server->deadline_us = now_us + (part_us < left_us ? part_us : left_us);
}

/* libpq may have gone on to another host, whose time begins now. */
static void note_host(struct server *server)
{
    PGconn *conn = server->conn;
    int host = hosts_find(&server->hosts, PQhost(conn), PQhostaddr(conn), PQport(conn));
    if (host == server->hosts.at)
        return;
    server->hosts.at = host;
    server->hosts.has_spoken = false;
    renew_deadline(server);
}

static void on_login_event(evutil_socket_t fd, short what, void *arg);

/* The socket may be another one after every step: the event is made anew. */
static void watch_login(struct server *server, short what)
{
    if (server->has_login_event)
        event_del(&server->login_event);
    event_assign(&server->login_event, server->proxy->base, PQsocket(server->conn), what,
                 on_login_event, server);
    server->has_login_event = event_add(&server->login_event, NULL) == 0;
    server->awaits_more = (what & EV_ET) != 0;
    if (!server->has_login_event)
        server_login_failed(server, "cannot watch the connection's socket");
}

static void on_login_event(evutil_socket_t fd, short what, void *arg)
{
    struct server *server = arg;
    (void)fd;
    (void)what;
    server->proxy->now_us = clock_now_us();
    char why[256];
    size_t had = server->login_bytes;
    if (!login_guard_is_brief(server)) {
        server_login_failed(server, LOGIN_GUARD_TOO_MUCH);
        return;
    }
    if (server->login_bytes > had && !server->hosts.has_spoken) {
        server->hosts.has_spoken = true;
        renew_deadline(server);
    }
    switch (login_guard_look(server, why, sizeof(why))) {
    case SASL_GUARD_MORE:
        if (!server->awaits_more)
            watch_login(server, EV_READ | EV_ET | EV_PERSIST);
        return;
    case SASL_GUARD_REFUSE:
        server_login_failed(server, why);
        return;
    case SASL_GUARD_PASS:
        break;
    }
    struct rlimit before = process_may_grow(LOGIN_GUARD_GROWTH_MAX);
    PostgresPollingStatusType status = PQconnectPoll(server->conn);
    process_may_grow_freely(&before);
    switch (status) {
    case PGRES_POLLING_READING:
        note_host(server);
        watch_login(server, EV_READ);
        break;
    case PGRES_POLLING_WRITING:
        note_host(server);
        watch_login(server, EV_WRITE);
        break;
    case PGRES_POLLING_OK:
        event_del(&server->login_event);
        server->has_login_event = false;
        hosts_free(&server->hosts); /* this is the one */
        renew_deadline(server);
        if (!probe_start(server))
            server_login_probed(server);
        break;
    default:
        server_login_failed(server, PQerrorMessage(server->conn));
        break;
    }
}

/* libpq would print it to stderr as it stands.  Nothing long may be copied: libpq is at work, and the process has little room to
 * grow (LOGIN_GUARD_GROWTH_MAX). */
static void on_notice(void *arg, const PGresult *result)
{
    static const char none[] = "no reason given";
    struct server *server = arg;
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    if (severity && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0)) {
        server->said_fatal = true;
        free(server->fatal_text);
        server->fatal_text =
            memory_strndup(text ? text : none, text ? strnlen(text, 1000) : sizeof(none) - 1);
        return;
    }
    log_server(LOG_LEVEL_INFO, server, "notice from upstream", LOG_FIELD_KIND("message", text));
}

#define LOGIN_KEYWORDS_MAX 64

struct login_options {
    const char *keywords[LOGIN_KEYWORDS_MAX];
    const char *values[LOGIN_KEYWORDS_MAX];
    size_t count;
};

static bool has_option(const struct login_options *options, const char *keyword)
{
    for (size_t i = 0; i < options->count; i++) {
        if (strcmp(options->keywords[i], keyword) == 0)
            return true;
    }
    return false;
}

static void add_option(struct login_options *options, const char *keyword, const char *value)
{
    if (!value || !*value || options->count + 1 >= LOGIN_KEYWORDS_MAX ||
        has_option(options, keyword))
        return;
    options->keywords[options->count] = keyword;
    options->values[options->count++] = value;
}

/* The url's, which may say where a hosted pooler shall lead, and then ours, which win. */
static char *options_of_asker(const struct config_database *database)
{
    const char *theirs = config_url_value(database, "options");
    return memory_printf("%s%s-c search_path=pg_catalog", theirs ? theirs : "",
                         theirs && *theirs ? " " : "");
}

static void start_login(struct server *server)
{
    const struct config_database *database = section_of(server);
    if (!database) {
        server_login_failed(server, "the configuration says nothing of it any more");
        return;
    }
    server->hosts.at = -1;
    server->hosts.has_spoken = false;
    renew_deadline(server);
    struct login_options options = {.count = 0};
    char *asker_options = NULL;
    if (server->lane->asker) {
        asker_options = options_of_asker(database);
        add_option(&options, "options", asker_options);
        add_option(&options, "application_name", "pgreserve auth_query");
    }
    for (size_t i = 0; database->keywords && database->keywords[i]; i++)
        add_option(&options, database->keywords[i], database->values[i]);
    add_option(&options, "host", server->hosts.names);
    add_option(&options, "hostaddr", server->hosts.addresses);
    add_option(&options, "port", server->hosts.ports);
    add_option(&options, "dbname", server->lane->database);
    add_option(&options, "user", server->lane->user);
    add_option(&options, "password", server->lane->password);
    add_option(&options, "replication", server->lane->replication);
    if (server->lane->is_replication) /* the client's application_name is among these */
        add_option(&options, "options", server->lane->options);
    else
        add_option(&options, "fallback_application_name", "pgreserve");
    add_option(&options, "gssencmode", "disable"); /* its encryption cannot be relayed */
    add_option(&options, "keepalives_idle", "30");
    add_option(&options, "keepalives_interval", "10");
    add_option(&options, "keepalives_count", "3");
    add_option(&options, "tcp_user_timeout", "60000");
    server->conn = PQconnectStartParams(options.keywords, options.values, 0);
    free(asker_options);
    PQsetNoticeReceiver(server->conn, on_notice, server);
    if (!server->conn || PQstatus(server->conn) == CONNECTION_BAD)
        server_login_failed(server, server->conn ? PQerrorMessage(server->conn) : "out of memory");
    else {
        note_host(server);
        watch_login(server, EV_WRITE);
    }
}

static void on_resolved(void *arg, const char *hosts, const char *hostaddrs, const char *ports,
                        const char *error);

static void look_up_hosts(struct server *server)
{
    const struct config_database *database = section_of(server);
    server->backend.generation = server->lane->lane.generation;
    if (database && database->hosts && !database->hostaddrs)
        server->resolving = resolve_start(server->proxy->workers, database->hosts, database->ports,
                                          on_resolved, server);
    else
        on_resolved(server, database ? database->hosts : NULL,
                    database ? database->hostaddrs : NULL, database ? database->ports : NULL, NULL);
}

static void on_resolved(void *arg, const char *hosts, const char *hostaddrs, const char *ports,
                        const char *error)
{
    struct server *server = arg;
    server->resolving = NULL;
    server->proxy->now_us = clock_now_us();
    if (server->backend.generation != server->lane->lane.generation) {
        look_up_hosts(server); /* the old address must not get the new password */
        return;
    }
    if (error) {
        server_login_failed(server, error);
        return;
    }
    hosts_set(&server->hosts, hosts, hostaddrs, ports);
    start_login(server);
}

bool server_login_next_host(struct server *server)
{
    PGconn *conn = server->conn;
    if (!conn || PQstatus(conn) == CONNECTION_OK ||
        server->lane->lane.generation != server->backend.generation)
        return false; /* names are being looked up, or we are asking more, or the url is another by now */
    if (others_left(server) == 0)
        return false;
    log_server(LOG_LEVEL_WARNING, server, "upstream host does not answer",
               LOG_FIELD_TEXT("host", PQhost(conn)), LOG_FIELD_TEXT("port", PQport(conn)),
               LOG_FIELD_NUMBER("others", others_left(server)));
    if (asks_twice(server)) {
        hosts_drop(&server->hosts, server->hosts.at);
    } else {
        for (int passed = server->hosts.at; passed > 0; passed--)
            hosts_drop(&server->hosts, 0);
        hosts_drop(&server->hosts, 0);
    }
    if (server->has_login_event)
        event_del(&server->login_event);
    server->has_login_event = false;
    PQfinish(conn);
    server->conn = NULL;
    server->guard = (struct sasl_guard){0};
    server->login_bytes = 0;
    server->said_fatal = false;
    free(server->fatal_text);
    server->fatal_text = NULL;
    start_login(server);
    return true;
}

void server_open(struct lane *lane)
{
    struct proxy *proxy = lane->pool->proxy;
    struct server *server = memory_alloc(sizeof(*server));
    server->proxy = proxy;
    server->lane = lane;
    server->stream.fd = -1;
    backend_statements_init(&server->statements);
    settle_forget(server);
    server->status = 'I';
    pool_backend_add(&server->backend, &lane->lane, proxy->now_us);
    TAILQ_INSERT_TAIL(&proxy->servers, server, link);
    proxy->open_server_count++;
    upgrade_places_changed(proxy);
    renew_deadline(server);
    look_up_hosts(server);
}
