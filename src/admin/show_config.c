/*
 * show_config.c - the chapter about the program itself: CONFIG, VERSION, STATE, LISTS, MEM, DNS_HOSTS, DNS_ZONES.
 *
 * SHOW CONFIG has our whole option table, and before it the keys that PgBouncer's monitors look for, each read from the
 * option of ours that means the same (admin/settings.h).  Secrets are never shown.
 */
#include "admin/show_row.h"

#include <string.h>

#include "admin/settings.h"

/* ---- CONFIG ---- */

static const struct show_column config_columns[] = {
    {"key", SHOW_TEXT, SHOW_PUBLIC},     {"value", SHOW_TEXT, SHOW_PUBLIC},
    {"default", SHOW_TEXT, SHOW_PUBLIC}, {"changeable", SHOW_TEXT, SHOW_PUBLIC},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

static bool put_option(void *arg, const char *key, const char *value, const char *def,
                       bool is_changeable)
{
    struct show_row *row = arg;
    row_text(row, key);
    row_text(row, value);
    row_text(row, def);
    row_text(row, is_changeable ? "yes" : "no");
    return row_end(row);
}

static void config_rows(const struct proxy *proxy, struct show_row *row)
{
    settings_visit_pgbouncer(proxy->config, put_option, row);
    if (!row->is_over)
        config_visit(proxy->config, put_option, row);
}

/* ---- VERSION, STATE ---- */

static const struct show_column version_columns[] = {
    {"version", SHOW_TEXT, SHOW_PUBLIC},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

static void version_rows(const struct proxy *proxy, struct show_row *row)
{
    (void)proxy;
    row_text(row, SETTINGS_VERSION);
    row_end(row);
}

static const struct show_column state_columns[] = {
    {"key", SHOW_TEXT, SHOW_PUBLIC},
    {"value", SHOW_TEXT, SHOW_PUBLIC},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

static void put_state(struct show_row *row, const char *key, bool value)
{
    row_text(row, key);
    row_text(row, value ? "yes" : "no");
    row_end(row);
}

/* Paused is said when every pool is: a single one's pause stands in DATABASES and STATUS. */
static void state_rows(const struct proxy *proxy, struct show_row *row)
{
    bool is_paused = proxy->pool_count > 0 && !proxy->is_suspended;
    for (size_t i = 0; i < proxy->pool_count; i++)
        is_paused &= proxy->pools[i]->pool.is_paused;
    put_state(row, "active", !is_paused && !proxy->is_suspended);
    put_state(row, "paused", is_paused);
    put_state(row, "suspended", proxy->is_suspended);
}

/* ---- LISTS ---- */

static const struct show_column list_columns[] = {
    {"list", SHOW_TEXT, SHOW_PUBLIC},
    {"items", SHOW_INT4, SHOW_PUBLIC},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

static bool count_row(void *arg, const char *const *cells, size_t count)
{
    (void)cells;
    (void)count;
    ++*(int64_t *)arg;
    return true;
}

static int64_t rows_of(const struct proxy *proxy, const char *name)
{
    int64_t rows = 0;
    show_walk(show_find(name), proxy, SHOW_PUBLIC, count_row, &rows);
    return rows;
}

static int64_t at_least_zero(int64_t number)
{
    return number > 0 ? number : 0;
}

static void list_rows(const struct proxy *proxy, struct show_row *row)
{
    int64_t logins = 0;
    int64_t serving = 0;
    const struct client *client;
    const struct server *server;
    TAILQ_FOREACH (client, &proxy->clients, link)
        logins += client->state == CLIENT_STARTUP || client->state == CLIENT_AUTHENTICATING ||
                  client->state == CLIENT_LOGIN;
    TAILQ_FOREACH (server, &proxy->servers, link)
        serving += server->backend.state != BACKEND_CLOSING;
    const struct {
        const char *name;
        int64_t items;
    } lists[] = {
        {"databases", rows_of(proxy, "DATABASES")},
        {"users", rows_of(proxy, "USERS")},
        {"peers", 0},
        {"pools", rows_of(proxy, "POOLS")},
        {"peer_pools", 0},
        {"free_clients", at_least_zero(proxy->config->max_clients - proxy->client_count)},
        {"used_clients", proxy->client_count - logins},
        {"login_clients", logins},
        {"free_servers", at_least_zero(proxy->budget.total - budget_open(&proxy->budget))},
        {"used_servers", serving},
        {"dns_names", 0},
        {"dns_zones", 0},
        {"dns_queries", 0},
        {"dns_pending", 0},
    };
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        row_text(row, lists[i].name);
        row_number(row, lists[i].items);
        if (!row_end(row))
            return;
    }
}

/* ---- MEM ---- */

static const struct show_column memory_columns[] = {
    {"name", SHOW_TEXT, SHOW_PUBLIC},     {"size", SHOW_INT4, SHOW_PUBLIC},
    {"used", SHOW_INT4, SHOW_PUBLIC},     {"free", SHOW_INT4, SHOW_PUBLIC},
    {"memtotal", SHOW_INT4, SHOW_PUBLIC}, {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

static int64_t buffered_bytes(const struct proxy *proxy)
{
    int64_t bytes = 0;
    const struct client *client;
    const struct server *server;
    TAILQ_FOREACH (client, &proxy->clients, link)
        bytes += (int64_t)(buffer_capacity(&client->held) + buffer_capacity(&client->stream.out));
    TAILQ_FOREACH (server, &proxy->servers, link)
        bytes += (int64_t)(buffer_capacity(&server->held) + buffer_capacity(&server->stream.out));
    return bytes;
}

static void memory_rows(const struct proxy *proxy, struct show_row *row)
{
    const struct {
        const char *name;
        int64_t size;
        int64_t used;
    } kinds[] = {
        {"client", sizeof(struct client), proxy->client_count},
        {"server", sizeof(struct server), proxy->open_server_count},
        {"lane", sizeof(struct lane), HASH_COUNT(proxy->lanes)},
        {"pool", sizeof(struct proxy_pool), (int64_t)proxy->pool_count},
        {"buffer", 1, buffered_bytes(proxy)},
    };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        int64_t total = kinds[i].size * kinds[i].used;
        row_text(row, kinds[i].name);
        row_number(row, kinds[i].size);
        row_number(row, kinds[i].used > INT32_MAX ? INT32_MAX : kinds[i].used);
        row_number(row, 0); /* the heap keeps what is free */
        row_number(row, total > INT32_MAX ? INT32_MAX : total);
        if (!row_end(row))
            return;
    }
}

/* ---- DNS: names are resolved for each login anew, none is kept ---- */

static const struct show_column dns_host_columns[] = {
    {"hostname", SHOW_TEXT, SHOW_PUBLIC},
    {"ttl", SHOW_INT8, SHOW_PUBLIC},
    {"addrs", SHOW_TEXT, SHOW_PUBLIC},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

static const struct show_column dns_zone_columns[] = {
    {"zonename", SHOW_TEXT, SHOW_PUBLIC},
    {"serial", SHOW_INT8, SHOW_PUBLIC},
    {"count", SHOW_INT4, SHOW_PUBLIC},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

static void no_rows(const struct proxy *proxy, struct show_row *row)
{
    (void)proxy;
    (void)row;
}

const struct show_table show_config_tables[] = {
    {"CONFIG", config_columns, config_rows, NULL},
    {"VERSION", version_columns, version_rows, NULL},
    {"STATE", state_columns, state_rows, NULL},
    {"LISTS", list_columns, list_rows, NULL},
    {"MEM", memory_columns, memory_rows, NULL},
    {"DNS_HOSTS", dns_host_columns, no_rows, NULL},
    {"DNS_ZONES", dns_zone_columns, no_rows, NULL},
    {NULL, NULL, NULL, NULL},
};
