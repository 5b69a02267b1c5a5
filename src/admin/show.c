/*
 * show.c - the SHOW tables: see show.h.
 *
 * Columns, their order and their types are PgBouncer 1.25.2's where it has the table; columns of our own stand
 * last.  Every value travels as text.  Pools are told apart in the database column, `postgres@automation`, because
 * exporters refuse rows that look the same.
 */
#include "admin/show.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "admin/status.h"
#include "base/memory.h"
#include "proto/build.h"

/* ---- rows ---- */

struct row {
    struct buffer *out;
    size_t mark;
    size_t count_at;
    uint16_t count;
};

static void row_begin(struct row *row, struct buffer *out)
{
    *row = (struct row){.out = out};
    row->mark = build_begin(out, 'D');
    row->count_at = buffer_length(out);
    build_u16(out, 0);
}

static void row_text(struct row *row, const char *text)
{
    row->count++;
    if (!text) {
        build_u32(row->out, UINT32_MAX);
        return;
    }
    build_u32(row->out, (uint32_t)strlen(text));
    buffer_append(row->out, text, strlen(text));
}

static void row_format(struct row *row, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void row_format(struct row *row, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    row_text(row, text);
}

static void row_number(struct row *row, int64_t number)
{
    row_format(row, "%lld", (long long)number);
}

static void row_end(struct row *row)
{
    uint8_t *at = buffer_bytes(row->out) + row->count_at;
    at[0] = (uint8_t)(row->count >> 8);
    at[1] = (uint8_t)row->count;
    build_end(row->out, row->mark);
}

static void row_time(struct row *row, int64_t wall_us)
{
    char text[64];
    time_t seconds = (time_t)(wall_us / CLOCK_S);
    struct tm local;
    if (wall_us <= 0) {
        row_text(row, NULL);
        return;
    }
    localtime_r(&seconds, &local);
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %Z", &local);
    row_text(row, text);
}

static int64_t wall_of(const struct proxy *proxy, int64_t then_us)
{
    return then_us > 0 ? clock_wall_us() - (proxy->now_us - then_us) : 0;
}

static const char *mode_name(const struct proxy_pool *pool)
{
    static const char *const names[] = {"session", "transaction", "statement"};
    return pool->config ? names[pool->config->mode] : "transaction";
}

static const char *lane_user(const struct lane *lane)
{
    return lane->user ? lane->user : "";
}

/* ---- POOLS ---- */

static const struct show_column pool_columns[] = {{"database", OID_TEXT},
                                                  {"user", OID_TEXT},
                                                  {"cl_active", OID_INT4},
                                                  {"cl_waiting", OID_INT4},
                                                  {"cl_active_cancel_req", OID_INT4},
                                                  {"cl_waiting_cancel_req", OID_INT4},
                                                  {"sv_active", OID_INT4},
                                                  {"sv_active_cancel", OID_INT4},
                                                  {"sv_being_canceled", OID_INT4},
                                                  {"sv_idle", OID_INT4},
                                                  {"sv_used", OID_INT4},
                                                  {"sv_tested", OID_INT4},
                                                  {"sv_login", OID_INT4},
                                                  {"maxwait", OID_INT4},
                                                  {"maxwait_us", OID_INT4},
                                                  {"pool_mode", OID_TEXT},
                                                  {"load_balance_hosts", OID_TEXT},
                                                  {NULL, 0}};

static int count_clients_of(const struct proxy *proxy, const struct lane *lane)
{
    int count = 0;
    const struct client *client;
    TAILQ_FOREACH (client, &proxy->clients, link)
        count += client->lane == lane && client->state != CLIENT_WAITING &&
                 client->state != CLIENT_CLOSING;
    return count;
}

static int count_cancels_of(const struct proxy *proxy, const struct lane *lane)
{
    int count = 0;
    const struct server *server;
    TAILQ_FOREACH (server, &proxy->servers, link)
        count += server->lane == lane && server->cancels > 0;
    return count;
}

static int show_pools(const struct proxy *proxy, struct buffer *out)
{
    int rows = 0;
    struct row row;
    for (const struct lane *lane = proxy->lanes; lane; lane = lane->hh.next) {
        const int *counts = lane->lane.counts;
        const struct pool_waiter *first = TAILQ_FIRST(&lane->lane.waiters);
        int64_t wait = first ? proxy->now_us - first->since_us : 0;
        int canceled = count_cancels_of(proxy, lane);
        row_begin(&row, out);
        row_format(&row, "%s@%s", lane->database, lane->pool->name);
        row_text(&row, lane_user(lane));
        row_number(&row, count_clients_of(proxy, lane));
        row_number(&row, lane->lane.waiting);
        row_number(&row, 0);
        row_number(&row, 0);
        row_number(&row, counts[BACKEND_BUSY]);
        row_number(&row, canceled);
        row_number(&row, canceled);
        row_number(&row, counts[BACKEND_IDLE]);
        row_number(&row, counts[BACKEND_CLEANING]);
        row_number(&row, counts[BACKEND_CHECKING]);
        row_number(&row, counts[BACKEND_CONNECTING]);
        row_number(&row, wait / CLOCK_S);
        row_number(&row, wait % CLOCK_S);
        row_text(&row, mode_name(lane->pool));
        row_text(&row, NULL);
        row_end(&row);
        rows++;
    }
    int consoles = 0;
    const struct client *client;
    TAILQ_FOREACH (client, &proxy->clients, link)
        consoles += client->state == CLIENT_CONSOLE;
    row_begin(&row, out);
    row_text(&row, "pgbouncer");
    row_text(&row, "pgbouncer");
    row_number(&row, consoles);
    for (int i = 0; i < 12; i++)
        row_number(&row, 0);
    row_text(&row, "statement");
    row_text(&row, NULL);
    row_end(&row);
    return rows + 1;
}

/* ---- CLIENTS and SERVERS ---- */

static const struct show_column socket_columns[] = {{"type", OID_TEXT},
                                                    {"user", OID_TEXT},
                                                    {"database", OID_TEXT},
                                                    {"replication", OID_TEXT},
                                                    {"state", OID_TEXT},
                                                    {"addr", OID_TEXT},
                                                    {"port", OID_INT4},
                                                    {"local_addr", OID_TEXT},
                                                    {"local_port", OID_INT4},
                                                    {"connect_time", OID_TEXT},
                                                    {"request_time", OID_TEXT},
                                                    {"wait", OID_INT4},
                                                    {"wait_us", OID_INT4},
                                                    {"close_needed", OID_INT4},
                                                    {"ptr", OID_TEXT},
                                                    {"link", OID_TEXT},
                                                    {"remote_pid", OID_INT4},
                                                    {"tls", OID_TEXT},
                                                    {"application_name", OID_TEXT},
                                                    {"prepared_statements", OID_INT4},
                                                    {"id", OID_INT4},
                                                    {NULL, 0}};

static void row_address(struct row *row, const struct sockaddr_storage *address)
{
    char text[INET6_ADDRSTRLEN] = "";
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
        row_text(row, text);
        row_number(row, ntohs(in->sin_port));
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
        row_text(row, text);
        row_number(row, ntohs(in6->sin6_port));
    } else {
        row_text(row, "unix");
        row_number(row, 0);
    }
}

static void row_names_of(struct row *row, int fd, bool peer)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof(address);
    if (fd >= 0)
        (void)(peer ? getpeername(fd, (struct sockaddr *)&address, &length)
                    : getsockname(fd, (struct sockaddr *)&address, &length));
    row_address(row, &address);
}

static void row_tls(struct row *row, const SSL *ssl)
{
    if (ssl)
        row_format(row, "%s/%s", SSL_get_version(ssl), SSL_get_cipher_name(ssl));
    else
        row_text(row, "");
}

static int show_clients(const struct proxy *proxy, struct buffer *out)
{
    int rows = 0;
    const struct client *client;
    TAILQ_FOREACH (client, &proxy->clients, link) {
        struct row row;
        int64_t wait = client->waiter.lane ? proxy->now_us - client->waiter.since_us : 0;
        if (!client->startup.user || client->state == CLIENT_CLOSING)
            continue;
        row_begin(&row, out);
        row_text(&row, "C");
        row_text(&row, client->startup.user);
        if (client->pool)
            row_format(&row, "%s@%s", client->startup.database, client->pool->name);
        else
            row_text(&row, "pgbouncer");
        row_text(&row, "none");
        row_text(&row, client_state_name(client));
        row_address(&row, &client->address);
        row_names_of(&row, client->stream.fd, false);
        row_time(&row, client->connected_wall_us);
        row_time(&row, wall_of(proxy, client->request_us));
        row_number(&row, wait / CLOCK_S);
        row_number(&row, wait % CLOCK_S);
        row_number(&row, 0);
        row_format(&row, "%p", (const void *)client);
        if (client->server)
            row_format(&row, "%p", (const void *)client->server);
        else
            row_text(&row, "");
        row_number(&row, 0);
        row_tls(&row, client->stream.ssl);
        row_text(&row, client->application_name);
        row_number(&row, 0);
        row_number(&row, client->key_pid);
        row_end(&row);
        rows++;
    }
    return rows;
}

static const char *server_state_name(const struct server *server)
{
    static const char *const names[BACKEND_STATE_COUNT] = {"new",    "idle", "tested",
                                                           "active", "used", "closing"};
    return server->cancels > 0 ? "being_canceled" : names[server->backend.state];
}

static int show_servers(const struct proxy *proxy, struct buffer *out)
{
    int rows = 0;
    const struct server *server;
    TAILQ_FOREACH (server, &proxy->servers, link) {
        struct row row;
        const struct lane *lane = server->lane;
        row_begin(&row, out);
        row_text(&row, "S");
        row_text(&row, lane_user(lane));
        row_format(&row, "%s@%s", lane->database, lane->pool->name);
        row_text(&row, "none");
        row_text(&row, server_state_name(server));
        row_names_of(&row, server->stream.fd, true);
        row_names_of(&row, server->stream.fd, false);
        row_time(&row, server->connected_wall_us);
        row_time(&row, wall_of(proxy, server->request_us));
        row_number(&row, 0);
        row_number(&row, 0);
        row_number(&row, server->backend.generation != lane->lane.generation);
        row_format(&row, "%p", (const void *)server);
        if (server->client)
            row_format(&row, "%p", (const void *)server->client);
        else
            row_text(&row, "");
        row_number(&row, server->pid);
        row_tls(&row, server->stream.ssl);
        row_text(&row, server->application_name);
        row_number(&row, 0);
        row_number(&row, server->pid);
        row_end(&row);
        rows++;
    }
    return rows;
}

/* ---- STATUS, CONFIG, VERSION ---- */

static const struct show_column status_columns[] = {
    {"pool", OID_TEXT},           {"in_use", OID_INT4},         {"available", OID_INT4},
    {"overflow", OID_INT4},       {"total_possible", OID_INT4}, {"reserved", OID_INT4},
    {"is_healthy", OID_BOOL},     {"waiting", OID_INT4},        {"longest_wait", OID_FLOAT8},
    {"longest_hold", OID_FLOAT8}, {"pinned", OID_INT4},         {"closing", OID_INT4},
    {"clients", OID_INT4},        {"state", OID_TEXT},          {NULL, 0}};

static void status_row(const struct status_figures *figures, struct buffer *out)
{
    struct row row;
    row_begin(&row, out);
    row_text(&row, figures->name);
    row_number(&row, figures->in_use);
    row_number(&row, figures->available);
    row_number(&row, figures->overflow);
    row_number(&row, figures->total_possible);
    row_number(&row, figures->reserved);
    row_text(&row, figures->is_healthy ? "t" : "f");
    row_number(&row, figures->waiting);
    row_format(&row, "%.3f", figures->longest_wait);
    row_format(&row, "%.3f", figures->longest_hold);
    row_number(&row, figures->pinned);
    row_number(&row, figures->closing);
    row_number(&row, figures->clients);
    row_text(&row, status_health_name(figures->health));
    row_end(&row);
}

static int show_status(const struct proxy *proxy, struct buffer *out)
{
    struct status_figures figures;
    for (size_t i = 0; i < proxy->pool_count; i++) {
        status_of_pool(proxy->pools[i], &figures);
        status_row(&figures, out);
    }
    status_total(proxy, &figures);
    status_row(&figures, out);
    return (int)proxy->pool_count + 1;
}

static const struct show_column config_columns[] = {{"key", OID_TEXT},
                                                    {"value", OID_TEXT},
                                                    {"default", OID_TEXT},
                                                    {"changeable", OID_TEXT},
                                                    {NULL, 0}};

struct config_walk {
    struct buffer *out;
    int rows;
};

static bool config_row(void *arg, const char *key, const char *value, const char *def,
                       bool is_changeable)
{
    struct config_walk *walk = arg;
    struct row row;
    row_begin(&row, walk->out);
    row_text(&row, key);
    row_text(&row, value);
    row_text(&row, def);
    row_text(&row, is_changeable ? "yes" : "no");
    row_end(&row);
    walk->rows++;
    return true;
}

static int show_config(const struct proxy *proxy, struct buffer *out)
{
    struct config_walk walk = {out, 0};
    config_visit(proxy->config, config_row, &walk);
    return walk.rows;
}

static const struct show_column version_columns[] = {{"version", OID_TEXT}, {NULL, 0}};

static int show_version(const struct proxy *proxy, struct buffer *out)
{
    struct row row;
    (void)proxy;
    row_begin(&row, out);
    row_text(&row, "PgBouncer 1.25.2 compatible (pgreserve " PGRESERVE_VERSION ")");
    row_end(&row);
    return 1;
}

/* ---- the list of them ---- */

static const struct show_table tables[] = {
    {"POOLS", pool_columns, show_pools},       {"CLIENTS", socket_columns, show_clients},
    {"SERVERS", socket_columns, show_servers}, {"STATUS", status_columns, show_status},
    {"CONFIG", config_columns, show_config},   {"VERSION", version_columns, show_version},
};

const struct show_table *show_find(const char *name)
{
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        if (strcasecmp(tables[i].name, name) == 0)
            return &tables[i];
    }
    return NULL;
}

const char *show_name(size_t index)
{
    return index < sizeof(tables) / sizeof(tables[0]) ? tables[index].name : NULL;
}

static uint16_t size_of(uint32_t oid)
{
    switch (oid) {
    case OID_INT4:
        return 4;
    case OID_INT8:
    case OID_FLOAT8:
        return 8;
    case OID_BOOL:
        return 1;
    default:
        return UINT16_MAX; /* -1: of any length */
    }
}

void show_describe(const struct show_table *table, struct buffer *out)
{
    uint16_t count = 0;
    while (table->columns[count].name)
        count++;
    size_t mark = build_begin(out, 'T');
    build_u16(out, count);
    for (uint16_t i = 0; i < count; i++) {
        build_text(out, table->columns[i].name);
        build_u32(out, 0);
        build_u16(out, 0);
        build_u32(out, table->columns[i].oid);
        build_u16(out, size_of(table->columns[i].oid));
        build_u32(out, UINT32_MAX);
        build_u16(out, 0);
    }
    build_end(out, mark);
}
