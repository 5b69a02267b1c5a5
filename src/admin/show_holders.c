/*
 * show_holders.c - the chapter that answers "who has them all?": HOLDERS, LONGEST, WAITERS, ADVICE.
 *
 * HOLDERS has a row for every backend that is in use now, longest first; LONGEST those of the last hour, let go or
 * not, by pool, user, application and address.  Statement texts are for administrators.
 */
#include "admin/show_row.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "admin/watch.h"
#include "base/memory.h"
#include "policy/pin.h"
#include "proxy/auth_query.h"
#include "proxy/client_query.h"

/* ---- HOLDERS ---- */

static const struct show_column holder_columns[] = {
    {"client", SHOW_INT4, SHOW_PUBLIC}, /* the id that KILL_CLIENT takes */
    {"address", SHOW_TEXT, SHOW_ADDRESSES},
    {"application_name", SHOW_TEXT, SHOW_PUBLIC},
    {"state", SHOW_TEXT, SHOW_PUBLIC},
    {"held_for", SHOW_FLOAT8, SHOW_PUBLIC}, /* seconds, as are all times here */
    {"pinned_by", SHOW_TEXT, SHOW_PUBLIC},
    {"last_query", SHOW_TEXT, SHOW_QUERIES},
    {"pool", SHOW_TEXT, SHOW_PUBLIC},
    {"database", SHOW_TEXT, SHOW_PUBLIC},
    {"user", SHOW_TEXT, SHOW_PUBLIC},
    {"idle_in_transaction_for", SHOW_FLOAT8, SHOW_PUBLIC},
    {"backend_pid", SHOW_INT4, SHOW_PUBLIC},
    {"longest_in_hour", SHOW_FLOAT8, SHOW_PUBLIC}, /* of its user, application and address */
    {"longest_idle_in_hour", SHOW_FLOAT8, SHOW_PUBLIC},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

static int64_t held_since_us(const struct server *server)
{
    return server->client ? server->client->linked_us : server->backend.since_us;
}

static int compare_held(const void *left, const void *right)
{
    int64_t a = held_since_us(*(const struct server *const *)left);
    int64_t b = held_since_us(*(const struct server *const *)right);
    return a < b ? -1 : a > b;
}

static void put_who(struct show_row *row, const struct client *client)
{
    char address[INET6_ADDRSTRLEN];
    int port;
    client_address_text(client, address, sizeof(address), &port);
    row_number(row, client->key_pid);
    if (client->is_unix)
        row_text(row, "unix");
    else if (strchr(address, ':'))
        row_format(row, "[%s]:%d", address, port);
    else
        row_format(row, "%s:%d", address, port);
    row_text(row, client->application_name);
}

static void put_hour(struct show_row *row, const struct client *client)
{
    struct holder_key key;
    int64_t idle_us = 0;
    watch_key(client, &key);
    const struct holder *holder = holders_find(watch_holders(client->proxy), &key);
    row_seconds(row, holder ? holder_longest_us(holder, client->proxy->now_us, &idle_us) : 0);
    row_seconds(row, idle_us);
}

/* A backend that is being cleaned has lost its client, but is in use still. */
static void put_cleaning(struct show_row *row, const struct server *server)
{
    row_text(row, NULL);
    row_text(row, NULL);
    row_text(row, NULL);
    row_text(row, "cleaning up");
    row_seconds(row, server->proxy->now_us - server->backend.since_us);
    row_text(row, "");
    row_text(row, NULL);
    row_text(row, server->lane->pool->name);
    row_text(row, lane_database(server->lane));
    row_text(row, NULL);
    row_seconds(row, 0);
    row_number(row, server->pid);
    row_seconds(row, 0);
    row_seconds(row, 0);
}

static void put_holder(struct show_row *row, const struct server *server)
{
    const struct client *client = server->client;
    char text[CLIENT_QUERY_BYTES];
    put_who(row, client);
    row_text(row, client_doing(client));
    row_seconds(row, client->proxy->now_us - client->linked_us);
    row_pins(row, client);
    const char *query = client_query_text(client, text);
    row_format(row, "%s", query ? query : "");
    row_text(row, client->pool->name);
    row_text(row, client->database);
    row_text(row, client->user);
    row_seconds(row, watch_idle_us(client));
    row_number(row, server->pid);
    put_hour(row, client);
}

static void holder_rows(const struct proxy *proxy, struct show_row *row)
{
    const struct server **held =
        memory_alloc(((size_t)proxy->open_server_count + 1) * sizeof(struct server *));
    const struct server *server;
    size_t count = 0;
    TAILQ_FOREACH (server, &proxy->servers, link) {
        if (server->backend.state == BACKEND_BUSY || server->backend.state == BACKEND_CLEANING)
            held[count++] = server;
    }
    qsort(held, count, sizeof(struct server *), compare_held);
    for (size_t i = 0; i < count; i++) {
        if (held[i]->client)
            put_holder(row, held[i]);
        else
            put_cleaning(row, held[i]);
        if (!row_end(row))
            break;
    }
    free(held);
}

/* ---- LONGEST ---- */

static const struct show_column longest_columns[] = {
    {"pool", SHOW_TEXT, SHOW_PUBLIC},
    {"user", SHOW_TEXT, SHOW_PUBLIC},
    {"application_name", SHOW_TEXT, SHOW_PUBLIC},
    {"address", SHOW_TEXT, SHOW_ADDRESSES},
    {"longest_in_hour", SHOW_FLOAT8, SHOW_PUBLIC},
    {"longest_idle_in_hour", SHOW_FLOAT8, SHOW_PUBLIC}, /* in a transaction, at a stretch */
    {"holds", SHOW_INT8, SHOW_PUBLIC},                  /* of a second or more */
    {"last_seen", SHOW_FLOAT8, SHOW_PUBLIC},            /* seconds ago */
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

struct longest {
    const struct holder *holder;
    int64_t held_us;
    int64_t idle_us;
};

static int compare_longest(const void *left, const void *right)
{
    int64_t a = ((const struct longest *)left)->held_us;
    int64_t b = ((const struct longest *)right)->held_us;
    return a > b ? -1 : a < b;
}

static void longest_rows(const struct proxy *proxy, struct show_row *row)
{
    const struct holders *holders = watch_holders(proxy);
    struct longest sorted[HOLDERS_MAX];
    for (size_t i = 0; i < holders->count; i++) {
        sorted[i].holder = &holders->items[i];
        sorted[i].held_us =
            holder_longest_us(&holders->items[i], proxy->now_us, &sorted[i].idle_us);
    }
    qsort(sorted, holders->count, sizeof(sorted[0]), compare_longest);
    for (size_t i = 0; i < holders->count; i++) {
        const struct holder *holder = sorted[i].holder;
        row_text(row, holder->key.pool);
        row_text(row, holder->key.user);
        row_text(row, holder->key.application_name);
        row_text(row, holder->key.address);
        row_seconds(row, sorted[i].held_us);
        row_seconds(row, sorted[i].idle_us);
        row_unsigned(row, holder->holds);
        row_seconds(row, proxy->now_us - holder->seen_us);
        if (!row_end(row))
            return;
    }
}

/* ---- WAITERS ---- */

static const struct show_column waiter_columns[] = {
    {"client", SHOW_INT4, SHOW_PUBLIC},
    {"address", SHOW_TEXT, SHOW_ADDRESSES},
    {"application_name", SHOW_TEXT, SHOW_PUBLIC},
    {"waiting_for", SHOW_FLOAT8, SHOW_PUBLIC},
    {"since", SHOW_TEXT, SHOW_PUBLIC},
    {"pool", SHOW_TEXT, SHOW_PUBLIC},
    {"database", SHOW_TEXT, SHOW_PUBLIC},
    {"user", SHOW_TEXT, SHOW_PUBLIC},
    {"before", SHOW_INT4, SHOW_PUBLIC},       /* how many stand before it in its pool's queue */
    {"timeout_in", SHOW_FLOAT8, SHOW_PUBLIC}, /* null: it has no limit */
    {"query", SHOW_TEXT, SHOW_QUERIES},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

/* Where auth_query waits for a connection, the first client who waits for what it says. */
static const struct client *client_of(const struct pool_waiter *waiter)
{
    const struct lane *lane = waiter->lane->owner;
    if (!lane->asker)
        return (const struct client *)waiter;
    return auth_query_first_client(lane->asker);
}

static void put_waiter(struct show_row *row, const struct pool_waiter *waiter,
                       const struct client *client, int before)
{
    const struct proxy *proxy = client->proxy;
    int64_t waited_us = proxy->now_us - waiter->since_us;
    char text[CLIENT_QUERY_BYTES];
    put_who(row, client);
    row_seconds(row, waited_us);
    row_time(row, clock_wall_us() - waited_us);
    row_text(row, client->pool->name);
    row_text(row, client->database);
    row_text(row, client->user);
    row_number(row, before);
    if (waiter->deadline_us == INT64_MAX)
        row_text(row, NULL);
    else
        row_seconds(row, waiter->deadline_us - proxy->now_us);
    const char *query = client->state == CLIENT_WAITING ? client_query_text(client, text) : NULL;
    row_format(row, "%s", query ? query : "");
}

static void waiter_rows(const struct proxy *proxy, struct show_row *row)
{
    for (size_t i = 0; i < proxy->pool_count; i++) {
        const struct pool_waiter *waiter;
        int before = 0;
        TAILQ_FOREACH (waiter, &proxy->pools[i]->pool.waiters, pool_link) {
            const struct client *client = client_of(waiter);
            if (!client)
                continue;
            put_waiter(row, waiter, client, before++);
            if (!row_end(row))
                return;
        }
    }
}

/* ---- ADVICE ---- */

static const struct show_column advice_columns[] = {
    {"pool", SHOW_TEXT, SHOW_PUBLIC},     {"window", SHOW_TEXT, SHOW_PUBLIC},
    {"setting", SHOW_TEXT, SHOW_PUBLIC},  {"now", SHOW_TEXT, SHOW_PUBLIC},
    {"advice", SHOW_TEXT, SHOW_PUBLIC}, /* null: too little was seen */
    {"evidence", SHOW_TEXT, SHOW_PUBLIC}, {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

static bool put_advice(struct show_row *row, const char *pool, const char *window,
                       const char *setting, const struct advice_line *line)
{
    row_text(row, pool);
    row_text(row, window);
    row_text(row, setting);
    row_text(row, line->now);
    row_text(row, *line->advice ? line->advice : NULL);
    row_text(row, line->evidence);
    return row_end(row);
}

static bool advise_pool(const struct proxy_pool *pool, enum advice_window window,
                        struct show_row *row)
{
    const struct proxy *proxy = pool->proxy;
    const struct pool_settings *rules = &pool->pool.settings;
    const struct advice *advice = watch_advice(proxy, pool);
    struct advice_seen seen = {0};
    struct advice_answer answer;
    struct advice_settings settings = {.size = rules->size,
                                       .max_overflow = rules->max_overflow,
                                       .reserved = proxy->budget.pools[pool->index].reserved,
                                       .timeout_us = rules->timeout_us};
    const char *name = window == ADVICE_HOUR ? "hour" : "day";
    if (advice)
        advice_sum(advice, window, proxy->now_us, &seen);
    advice_derive(&seen, &settings, &answer);
    return put_advice(row, pool->name, name, "size", &answer.size) &&
           put_advice(row, pool->name, name, "max_overflow", &answer.max_overflow) &&
           put_advice(row, pool->name, name, "timeout", &answer.timeout);
}

static void advice_rows(const struct proxy *proxy, struct show_row *row)
{
    for (size_t i = 0; i < proxy->pool_count; i++) {
        if (proxy->pools[i]->config && (!advise_pool(proxy->pools[i], ADVICE_HOUR, row) ||
                                        !advise_pool(proxy->pools[i], ADVICE_DAY, row)))
            return;
    }
}

const struct show_table show_holder_tables[] = {
    {"HOLDERS", holder_columns, holder_rows, "who holds a connection now, longest first"},
    {"LONGEST", longest_columns, longest_rows,
     "who held one longest in the last hour, by user, application and address"},
    {"WAITERS", waiter_columns, waiter_rows, "who waits for one, since when, for which pool"},
    {"ADVICE", advice_columns, advice_rows,
     "which size, max_overflow and timeout would have sufficed, and why"},
    {NULL, NULL, NULL, NULL},
};
