/*
 * stats.c - what has been done: see stats.h.
 *
 * The averages are PgBouncer's: every 60 s the totals are set down, and an average is taken from the totals now to
 * those set down last but one, so that it covers 60 to 120 s and does not jump when a period begins.
 */
#include "proxy/stats.h"

#include <stdio.h>
#include <string.h>

#include "policy/pin.h"
#include "proxy/proxy.h"

_Static_assert(STAT_SENT == STAT_RECEIVED + 1, "a stream counts into both");
_Static_assert(STATS_PINS_MAX >= PIN_COUNT, "room for every pin");

/* ---- counts by name ---- */

void tally_add(struct tally *tally, const char *name)
{
    for (size_t i = 0; i < tally->count; i++) {
        if (strncmp(tally->items[i].name, name, TALLY_NAME - 1) == 0) {
            tally->items[i].times++;
            return;
        }
    }
    if (tally->count >= TALLY_NAMES_MAX - 1 && strcmp(name, "other") != 0) {
        tally_add(tally, "other");
        return;
    }
    snprintf(tally->items[tally->count].name, TALLY_NAME, "%s", name);
    tally->items[tally->count++].times = 1;
}

uint64_t tally_times(const struct tally *tally, const char *name)
{
    for (size_t i = 0; i < tally->count; i++) {
        if (strcmp(tally->items[i].name, name) == 0)
            return tally->items[i].times;
    }
    return 0;
}

/* ---- what happened ---- */

void stats_client_login(struct client *client)
{
    client->lane->stats.total[STAT_CLIENT_LOGINS]++;
    stats_client_carried(client);
}

void stats_client_carried(struct client *client)
{
    uint64_t *total = client->lane->stats.total;
    client->lane->clients++;
    client->stream.counts = &total[STAT_RECEIVED];
}

void stats_client_closed(const struct client *client)
{
    if (client->lane)
        client->lane->clients--;
}

static void count_wait(struct client *client, int64_t waited_us)
{
    struct pool_stats *stats = &client->pool->stats;
    client->lane->stats.total[STAT_WAIT_US] += (uint64_t)waited_us;
    histogram_add(&stats->wait, waited_us);
    if (waited_us > stats->longest_wait_us)
        stats->longest_wait_us = waited_us;
}

void stats_assigned(struct client *client, int64_t waited_us)
{
    client->lane->stats.total[STAT_ASSIGNMENTS]++;
    gather_waited(&client->proxy->gather, waited_us);
    count_wait(client, waited_us);
}

void stats_wait_timed_out(struct client *client)
{
    client->pool->stats.total[POOL_STAT_TIMEOUTS]++;
    count_wait(client, client->proxy->now_us - client->waiter.since_us);
}

void stats_message(const struct client *client, uint8_t type)
{
    uint64_t *total = client->lane->stats.total;
    if (type == 'B') {
        total[STAT_BINDS]++;
    } else if (type == 'P') {
        total[STAT_CLIENT_PARSES]++;
        total[STAT_SERVER_PARSES]++;
    }
}

void stats_pinned(const struct client *client, uint32_t fresh)
{
    for (unsigned pin = 0; fresh && pin < PIN_COUNT; pin++)
        client->pool->stats.pins[pin] += fresh >> pin & 1u;
}

void stats_server_parse(const struct server *server)
{
    server->lane->stats.total[STAT_SERVER_PARSES]++;
}

void stats_answered(struct client *client, char status, bool expects_more)
{
    struct pool_stats *pool = &client->pool->stats;
    uint64_t *total = client->lane->stats.total;
    int64_t now_us = client->proxy->now_us;
    int64_t query_us = now_us - client->request_us;
    gather_answered(&client->proxy->gather, query_us);
    total[STAT_QUERIES]++;
    total[STAT_QUERY_US] += (uint64_t)query_us;
    histogram_add(&pool->query, query_us);
    if (status == 'I') {
        int64_t transaction_us = now_us - client->transaction_us;
        total[STAT_TRANSACTIONS]++;
        total[STAT_TRANSACTION_US] += (uint64_t)transaction_us;
        histogram_add(&pool->transaction, transaction_us);
    }
    if (expects_more) { /* the next one of the pipeline runs from now on */
        client->request_us = now_us;
        if (status == 'I')
            client->transaction_us = now_us;
    }
}

void stats_error(const struct client *client, const char *sqlstate)
{
    if (client->pool)
        tally_add(&client->pool->stats.errors, sqlstate);
}

void stats_server_gone(const struct server *server, const char *reason)
{
    struct pool_stats *stats = &server->lane->pool->stats;
    if (!reason)
        reason = "other";
    tally_add(&stats->closes, reason);
    stats->total[POOL_STAT_RECYCLES] += strcmp(reason, "recycle") == 0;
}

void stats_lane_gone(const struct lane *lane)
{
    for (int i = 0; i < STAT_COUNT; i++)
        lane->pool->stats.gone[i] += lane->stats.total[i];
}

static void set_down(struct stats *stats)
{
    memcpy(stats->older, stats->newer, sizeof(stats->older));
    memcpy(stats->newer, stats->total, sizeof(stats->newer));
}

void stats_tick(struct proxy *proxy)
{
    if (proxy->now_us - proxy->stats_newer_us < STATS_PERIOD_US)
        return;
    for (struct lane *lane = proxy->lanes; lane; lane = lane->hh.next)
        set_down(&lane->stats);
    set_down(&proxy->console_stats);
    proxy->stats_older_us = proxy->stats_newer_us;
    proxy->stats_newer_us = proxy->now_us;
}

/* ---- reading ---- */

void stats_add(struct stats *sum, const struct stats *stats)
{
    for (int i = 0; i < STAT_COUNT; i++) {
        sum->total[i] += stats->total[i];
        sum->newer[i] += stats->newer[i];
        sum->older[i] += stats->older[i];
    }
}

void stats_of_pool(const struct proxy_pool *pool, struct stats *sum)
{
    *sum = (struct stats){0};
    for (int i = 0; i < STAT_COUNT; i++)
        sum->total[i] = sum->newer[i] = sum->older[i] = pool->stats.gone[i];
    for (const struct lane *lane = pool->proxy->lanes; lane; lane = lane->hh.next) {
        if (lane->pool == pool)
            stats_add(sum, &lane->stats);
    }
}

uint64_t stats_average(const struct proxy *proxy, const struct stats *stats, enum lane_stat which)
{
    static const enum lane_stat per[STAT_COUNT] = {[STAT_TRANSACTION_US] = STAT_TRANSACTIONS,
                                                   [STAT_QUERY_US] = STAT_QUERIES,
                                                   [STAT_WAIT_US] = STAT_ASSIGNMENTS};
    uint64_t difference = stats->total[which] - stats->older[which];
    uint64_t elapsed_us = (uint64_t)(proxy->now_us - proxy->stats_older_us);
    bool is_time = which == STAT_TRANSACTION_US || which == STAT_QUERY_US || which == STAT_WAIT_US;
    if (is_time) {
        uint64_t times = stats->total[per[which]] - stats->older[per[which]];
        return times > 0 ? difference / times : 0;
    }
    return elapsed_us > 0 ? difference * (uint64_t)CLOCK_S / elapsed_us : 0;
}
