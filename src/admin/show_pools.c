/*
 * show_pools.c - the chapter about pools: POOLS, DATABASES, USERS, STATUS, and PgBouncer's PEERS and PEER_POOLS.
 *
 * PgBouncer's pool is our lane: a (database, user) of one [pool:NAME], so its database column reads `database@pool`.
 * After a reload two lanes may bear one name; they are shown as one row.  DATABASES shows what the configuration
 * names, used or not, and beside it whatever clients have come for.
 */
#include "admin/show_row.h"

#include <stdlib.h>
#include <string.h>

#include "admin/owners.h"
#include "admin/status.h"
#include "base/memory.h"
#include "proxy/control.h"

/* ---- POOLS ---- */

static const struct show_column pool_columns[] = {
    {"database", SHOW_TEXT, SHOW_PUBLIC},
    {"user", SHOW_TEXT, SHOW_PUBLIC},
    {"cl_active", SHOW_INT4, SHOW_PUBLIC},
    {"cl_waiting", SHOW_INT4, SHOW_PUBLIC},
    {"cl_active_cancel_req", SHOW_INT4, SHOW_PUBLIC},
    {"cl_waiting_cancel_req", SHOW_INT4, SHOW_PUBLIC},
    {"sv_active", SHOW_INT4, SHOW_PUBLIC},
    {"sv_active_cancel", SHOW_INT4, SHOW_PUBLIC},
    {"sv_being_canceled", SHOW_INT4, SHOW_PUBLIC},
    {"sv_idle", SHOW_INT4, SHOW_PUBLIC},
    {"sv_used", SHOW_INT4, SHOW_PUBLIC},
    {"sv_tested", SHOW_INT4, SHOW_PUBLIC},
    {"sv_login", SHOW_INT4, SHOW_PUBLIC},
    {"maxwait", SHOW_INT4, SHOW_PUBLIC},
    {"maxwait_us", SHOW_INT4, SHOW_PUBLIC},
    {"pool_mode", SHOW_TEXT, SHOW_PUBLIC},
    {"load_balance_hosts", SHOW_TEXT, SHOW_PUBLIC},
    {"sv_closing", SHOW_INT4, SHOW_PUBLIC},
    {"pool", SHOW_TEXT, SHOW_PUBLIC},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

/* What one row sums up. */
struct pool_row {
    int clients;
    int waiting;
    int canceled;
    int counts[BACKEND_STATE_COUNT];
    int64_t longest_wait_us;
};

static void add_lane(struct pool_row *sum, const struct proxy *proxy, const struct lane *lane)
{
    const struct pool_waiter *first = TAILQ_FIRST(&lane->lane.waiters);
    const struct pool_backend *backend;
    sum->clients += lane->clients;
    if (!lane->asker) /* what waits there is no client of the lane */
        sum->waiting += lane->lane.waiting;
    for (int state = 0; state < BACKEND_STATE_COUNT; state++) {
        sum->counts[state] += lane->lane.counts[state];
        TAILQ_FOREACH (backend, &lane->lane.backends[state], link)
            sum->canceled += ((const struct server *)backend)->cancels > 0;
    }
    if (first && proxy->now_us - first->since_us > sum->longest_wait_us)
        sum->longest_wait_us = proxy->now_us - first->since_us;
}

static void put_pool_row(struct show_row *row, const struct pool_row *sum, const char *mode)
{
    row_number(row, sum->clients - sum->waiting);
    row_number(row, sum->waiting);
    row_number(row, 0);
    row_number(row, 0);
    row_number(row, sum->counts[BACKEND_BUSY]);
    row_number(row, sum->canceled);
    row_number(row, sum->canceled);
    row_number(row, sum->counts[BACKEND_IDLE]);
    row_number(row, 0);
    row_number(row, sum->counts[BACKEND_CHECKING] + sum->counts[BACKEND_CLEANING]);
    row_number(row, sum->counts[BACKEND_CONNECTING]);
    row_number(row, sum->longest_wait_us / CLOCK_S);
    row_number(row, sum->longest_wait_us % CLOCK_S);
    row_text(row, mode);
    row_text(row, NULL);
    row_number(row, sum->counts[BACKEND_CLOSING]);
}

static int count_consoles(const struct proxy *proxy)
{
    int consoles = 0;
    const struct client *client;
    TAILQ_FOREACH (client, &proxy->clients, link)
        consoles += client->state == CLIENT_CONSOLE;
    return consoles;
}

static void pool_rows(const struct proxy *proxy, struct show_row *row)
{
    size_t count;
    const struct lane **lanes = lanes_sorted(proxy, &count);
    for (size_t i = 0, next; i < count; i = next) {
        struct pool_row sum = {0};
        for (next = i; next < count && lanes_same_database(lanes[i], lanes[next]) &&
                       strcmp(lane_user(lanes[i]), lane_user(lanes[next])) == 0;
             next++)
            add_lane(&sum, proxy, lanes[next]);
        row_lane_name(row, lanes[i]);
        row_text(row, lane_user(lanes[i]));
        put_pool_row(row, &sum, pool_mode_name(lanes[i]->pool));
        row_text(row, lanes[i]->pool->name);
        if (!row_end(row))
            break;
    }
    free(lanes);
    struct pool_row consoles = {.clients = count_consoles(proxy)};
    row_text(row, "pgbouncer");
    row_text(row, "pgbouncer");
    put_pool_row(row, &consoles, "statement");
    row_text(row, NULL);
    row_end(row);
}

/* ---- DATABASES ---- */

static const struct show_column database_columns[] = {
    {"name", SHOW_TEXT, SHOW_PUBLIC},
    {"host", SHOW_TEXT, SHOW_ADDRESSES},
    {"port", SHOW_INT4, SHOW_ADDRESSES},
    {"database", SHOW_TEXT, SHOW_PUBLIC},
    {"force_user", SHOW_TEXT, SHOW_PUBLIC},
    {"pool_size", SHOW_INT4, SHOW_PUBLIC},
    {"min_pool_size", SHOW_INT4, SHOW_PUBLIC},
    {"reserve_pool_size", SHOW_INT4, SHOW_PUBLIC},
    {"server_lifetime", SHOW_INT4, SHOW_PUBLIC},
    {"pool_mode", SHOW_TEXT, SHOW_PUBLIC},
    {"load_balance_hosts", SHOW_TEXT, SHOW_PUBLIC},
    {"max_connections", SHOW_INT4, SHOW_PUBLIC},
    {"current_connections", SHOW_INT4, SHOW_PUBLIC},
    {"max_client_connections", SHOW_INT4, SHOW_PUBLIC},
    {"current_client_connections", SHOW_INT4, SHOW_PUBLIC},
    {"paused", SHOW_INT4, SHOW_PUBLIC},
    {"disabled", SHOW_INT4, SHOW_PUBLIC},
    {"pool", SHOW_TEXT, SHOW_PUBLIC},
    {"reserved", SHOW_INT4, SHOW_PUBLIC},
    {"reserve_pool", SHOW_INT4, SHOW_PUBLIC}, /* what older monitors call reserve_pool_size */
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

/* One database of one pool, used or only named by the configuration. */
struct database_row {
    const struct proxy_pool *pool;
    const char *name;
    const char *upstream; /* its name there; NULL: not known yet */
    const struct config_database *config;
    int servers;
    int clients;
};

static bool put_database(struct show_row *row, const struct database_row *database)
{
    const struct proxy_pool *pool = database->pool;
    const struct pool_settings *settings = &pool->pool.settings;
    const struct config_database *config = database->config;
    row_format(row, "%s@%s", database->name, pool->name);
    row_text(row, config ? config->hosts : NULL);
    row_number(row, config && config->ports ? strtol(config->ports, NULL, 10) : 5432);
    row_text(row, database->upstream);
    row_text(row, config ? config->user : NULL);
    row_number(row, settings->size);
    row_number(row, settings->prefill ? settings->size : 0);
    row_number(row, settings->max_overflow);
    row_number(row, settings->recycle_us / CLOCK_S);
    row_text(row, pool_mode_name(pool));
    row_text(row, NULL);
    row_number(row, settings->size + settings->max_overflow);
    row_number(row, database->servers);
    row_number(row, pool->config ? pool->config->max_clients : 0);
    row_number(row, database->clients);
    row_number(row, control_is_paused(pool->proxy, pool, database->name));
    row_number(row, control_is_disabled(pool->proxy, pool, database->name));
    row_text(row, pool->name);
    row_number(row, pool->proxy->budget.pools[pool->index].reserved);
    row_number(row, settings->max_overflow);
    return row_end(row);
}

/* Databases that have a section of their own and that nobody has come for yet. */
static void put_unused_databases(const struct proxy *proxy, struct show_row *row,
                                 const struct lane *const *lanes, size_t count)
{
    for (size_t i = 0; i < proxy->pool_count; i++) {
        for (size_t j = 0; j < proxy->config->database_count; j++) {
            const struct config_database *config = &proxy->config->databases[j];
            bool is_used = strcmp(config->name, "*") == 0 || !proxy->pools[i]->config;
            for (size_t k = 0; k < count && !is_used; k++)
                is_used = lanes[k]->pool == proxy->pools[i] &&
                          strcmp(lane_database(lanes[k]), config->name) == 0;
            struct database_row database = {.pool = proxy->pools[i],
                                            .name = config->name,
                                            .upstream = config->dbname,
                                            .config = config};
            if (!is_used && !put_database(row, &database))
                return;
        }
    }
}

static void database_rows(const struct proxy *proxy, struct show_row *row)
{
    size_t count;
    const struct lane **lanes = lanes_sorted(proxy, &count);
    for (size_t i = 0, next; i < count && !row->is_over; i = next) {
        struct database_row database = {.pool = lanes[i]->pool,
                                        .name = lane_database(lanes[i]),
                                        .upstream = lanes[i]->database};
        database.config = config_find_database(proxy->config, lanes[i]->section);
        for (next = i; next < count && lanes_same_database(lanes[i], lanes[next]); next++) {
            database.clients += lanes[next]->clients;
            for (int state = 0; state < BACKEND_STATE_COUNT; state++)
                database.servers += lanes[next]->lane.counts[state];
        }
        put_database(row, &database);
    }
    put_unused_databases(proxy, row, lanes, count);
    free(lanes);
    row_text(row, "pgbouncer");
    row_text(row, NULL);
    row_number(
        row, proxy->config->admin_listen.count > 0 ? proxy->config->admin_listen.items[0].port : 0);
    row_text(row, "pgbouncer");
    row_text(row, "pgbouncer");
    row_number(row, 2); /* as PgBouncer says of its own */
    for (int i = 0; i < 3; i++)
        row_number(row, 0);
    row_text(row, "statement");
    row_text(row, NULL);
    for (int i = 0; i < 3; i++)
        row_number(row, 0);
    row_number(row, count_consoles(proxy));
    row_number(row, 0);
    row_number(row, 0);
    row_text(row, NULL);
    row_number(row, 0);
    row_number(row, 0);
    row_end(row);
}

/* ---- USERS ---- */

static const struct show_column user_columns[] = {
    {"name", SHOW_TEXT, SHOW_PUBLIC},
    {"pool_size", SHOW_TEXT, SHOW_PUBLIC},
    {"reserve_pool_size", SHOW_TEXT, SHOW_PUBLIC},
    {"pool_mode", SHOW_TEXT, SHOW_PUBLIC},
    {"max_user_connections", SHOW_INT4, SHOW_PUBLIC},
    {"current_connections", SHOW_INT4, SHOW_PUBLIC},
    {"max_user_client_connections", SHOW_INT4, SHOW_PUBLIC},
    {"current_client_connections", SHOW_INT4, SHOW_PUBLIC},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

/* One sighting of a user: of a client, or of a lane with its servers. */
struct sighting {
    const char *name;
    int servers;
    int clients;
};

static int compare_sightings(const void *a, const void *b)
{
    return strcmp(((const struct sighting *)a)->name, ((const struct sighting *)b)->name);
}

static size_t see_users(const struct proxy *proxy, struct sighting *seen)
{
    const struct client *client;
    size_t count = 0;
    TAILQ_FOREACH (client, &proxy->clients, link) {
        if (client->user)
            seen[count++] = (struct sighting){client->user, 0, 1};
    }
    for (const struct lane *lane = proxy->lanes; lane; lane = lane->hh.next) {
        struct sighting *sighting = &seen[count++];
        *sighting = (struct sighting){lane_user(lane), 0, 0};
        for (int state = 0; state < BACKEND_STATE_COUNT; state++)
            sighting->servers += lane->lane.counts[state];
    }
    return count;
}

static void user_rows(const struct proxy *proxy, struct show_row *row)
{
    size_t room = (size_t)proxy->client_count + HASH_COUNT(proxy->lanes) + 1;
    struct sighting *seen = memory_alloc(room * sizeof(*seen));
    size_t count = see_users(proxy, seen);
    qsort(seen, count, sizeof(*seen), compare_sightings);
    for (size_t i = 0, next; i < count; i = next) {
        struct sighting sum = {seen[i].name, 0, 0};
        for (next = i; next < count && strcmp(seen[i].name, seen[next].name) == 0; next++) {
            sum.servers += seen[next].servers;
            sum.clients += seen[next].clients;
        }
        row_text(row, sum.name);
        row_text(row, NULL);
        row_text(row, NULL);
        row_text(row, NULL);
        row_number(row, 0);
        row_number(row, sum.servers);
        row_number(row, 0);
        row_number(row, sum.clients);
        if (!row_end(row))
            break;
    }
    free(seen);
}

/* ---- STATUS ---- */

static const struct show_column status_columns[] = {
    {"pool", SHOW_TEXT, SHOW_PUBLIC},
    {"in_use", SHOW_INT4, SHOW_PUBLIC},
    {"available", SHOW_INT4, SHOW_PUBLIC},
    {"overflow", SHOW_INT4, SHOW_PUBLIC},
    {"total_possible", SHOW_INT4, SHOW_PUBLIC},
    {"reserved", SHOW_INT4, SHOW_PUBLIC},
    {"is_healthy", SHOW_BOOL, SHOW_PUBLIC},
    {"waiting", SHOW_INT4, SHOW_PUBLIC},
    {"longest_wait", SHOW_FLOAT8, SHOW_PUBLIC},
    {"longest_hold", SHOW_FLOAT8, SHOW_PUBLIC},
    {"pinned", SHOW_INT4, SHOW_PUBLIC},
    {"closing", SHOW_INT4, SHOW_PUBLIC},
    {"clients", SHOW_INT4, SHOW_PUBLIC},
    {"state", SHOW_TEXT, SHOW_PUBLIC},
    {"connecting", SHOW_INT4, SHOW_PUBLIC},
    {"paused", SHOW_BOOL, SHOW_PUBLIC},
    {"ceiling", SHOW_INT4,
     SHOW_PUBLIC}, /* connections open when the upstream said "full"; null: never */
    {"error", SHOW_TEXT, SHOW_ADDRESSES}, /* of the last upstream login, while it fails */
    {"held_by", SHOW_TEXT, SHOW_PUBLIC},  /* the applications that hold most: owners.h */
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

static void put_figures(struct show_row *row, const struct status_figures *figures)
{
    row_text(row, figures->name);
    row_number(row, figures->in_use);
    row_number(row, figures->available);
    row_number(row, figures->overflow);
    row_number(row, figures->total_possible);
    row_number(row, figures->reserved);
    row_bool(row, figures->is_healthy);
    row_number(row, figures->waiting);
    row_format(row, "%.3f", figures->longest_wait);
    row_format(row, "%.3f", figures->longest_hold);
    row_number(row, figures->pinned);
    row_number(row, figures->closing);
    row_number(row, figures->clients);
    row_text(row, status_health_name(figures->health));
}

static const char *login_error(const struct proxy_pool *pool)
{
    for (const struct lane *lane = pool->proxy->lanes; lane; lane = lane->hh.next) {
        if (lane->pool == pool && lane->error)
            return lane->error;
    }
    return NULL;
}

static void status_rows(const struct proxy *proxy, struct show_row *row)
{
    struct status_figures figures;
    char owners[OWNERS_BYTES];
    int connecting = 0;
    bool is_paused = false;
    for (size_t i = 0; i < proxy->pool_count; i++) {
        const struct proxy_pool *pool = proxy->pools[i];
        status_of_pool(pool, &figures);
        put_figures(row, &figures);
        row_number(row, pool->pool.counts[BACKEND_CONNECTING]);
        row_bool(row, control_pool_is_paused(pool));
        row_natural(row, figures.ceiling);
        row_text(row, login_error(pool));
        owners_of_pool(pool, owners, sizeof(owners));
        row_format(row, "%s", owners);
        connecting += pool->pool.counts[BACKEND_CONNECTING];
        is_paused |= control_pool_is_paused(pool);
        if (!row_end(row))
            return;
    }
    status_total(proxy, &figures);
    put_figures(row, &figures);
    row_number(row, connecting);
    row_bool(row, is_paused);
    row_natural(row, figures.ceiling);
    row_text(row, NULL);
    row_text(row, NULL);
    row_end(row);
}

/* ---- PEERS: there are none ---- */

static const struct show_column peer_columns[] = {
    {"peer_id", SHOW_INT4, SHOW_PUBLIC}, {"host", SHOW_TEXT, SHOW_PUBLIC},
    {"port", SHOW_INT4, SHOW_PUBLIC},    {"pool_size", SHOW_INT4, SHOW_PUBLIC},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

static const struct show_column peer_pool_columns[] = {
    {"peer_id", SHOW_INT4, SHOW_PUBLIC},
    {"cl_active_cancel_req", SHOW_INT4, SHOW_PUBLIC},
    {"cl_waiting_cancel_req", SHOW_INT4, SHOW_PUBLIC},
    {"sv_active_cancel", SHOW_INT4, SHOW_PUBLIC},
    {"sv_login", SHOW_INT4, SHOW_PUBLIC},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

static void no_rows(const struct proxy *proxy, struct show_row *row)
{
    (void)proxy;
    (void)row;
}

const struct show_table show_pool_tables[] = {
    {"POOLS", pool_columns, pool_rows, NULL},
    {"DATABASES", database_columns, database_rows, NULL},
    {"USERS", user_columns, user_rows, NULL},
    {"STATUS", status_columns, status_rows, "how it stands with every pool, and with all together"},
    {"PEERS", peer_columns, no_rows, NULL},
    {"PEER_POOLS", peer_pool_columns, no_rows, NULL},
    {NULL, NULL, NULL, NULL},
};
