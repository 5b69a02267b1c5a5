/*
 * upstream.c - an upstream that is full, and who gives way: see upstream.h.
 *
 * When the upstream grants fewer connections than our cap, budget.c cannot keep the reservation: the automation pool may have
 * taken every place that there was before the reserved pool asked.  So a reserved pool that is refused while it has fewer
 * connections than it reserved is *starved*, and until it has them
 *
 *   - no other pool logs in to that upstream, so that the next free place is not taken from under it;
 *   - others give up one connection at a time as they come free, never one in use;
 *   - it tries again as soon as a place has come free, whatever its back-off says.
 *
 * How much is given up is bounded: where strangers take every place that we let go of, giving more helps nobody.
 */
#include "proxy/upstream.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "proxy/events.h"

#define YIELD_US (2 * CLOCK_S) /* renewed at every tick while it lasts */

static const char reason_given[] = "place needed by a reserved pool";

const char *upstream_kind_name(enum upstream_kind kind)
{
    static const char *const names[] = {"unknown", "server", "pooler", "session pooler",
                                        "transaction pooler"};
    return names[kind];
}

struct upstream *upstream_of(struct proxy *proxy, const char *section)
{
    struct upstream *upstream;
    for (upstream = proxy->upstreams; upstream; upstream = upstream->next) {
        if (strcmp(upstream->section, section) == 0)
            return upstream;
    }
    upstream = memory_alloc(sizeof(*upstream));
    upstream->section = memory_strdup(section);
    upstream->ceiling = UPSTREAM_NO_CEILING;
    upstream->next = proxy->upstreams;
    proxy->upstreams = upstream;
    return upstream;
}

static bool is_of(const struct lane *lane, const struct upstream *upstream)
{
    return strcmp(lane->section, upstream->section) == 0;
}

/* Connections of ours that it has let in and not let go of yet. */
static int count_granted(const struct proxy *proxy, const struct upstream *upstream)
{
    int count = 0;
    const struct server *server;
    TAILQ_FOREACH (server, &proxy->servers, link)
        count += server->is_streaming && is_of(server->lane, upstream);
    return count;
}

int upstream_open(const struct proxy *proxy, const struct upstream *upstream)
{
    int count = 0;
    const struct server *server;
    TAILQ_FOREACH (server, &proxy->servers, link)
        count += is_of(server->lane, upstream) &&
                 (server->is_streaming || server->backend.state == BACKEND_CONNECTING);
    return count;
}

static void set_ceiling(struct proxy *proxy, const struct upstream *upstream, int ceiling)
{
    const struct lane *lane;
    for (lane = proxy->lanes; lane; lane = lane->hh.next) {
        if (is_of(lane, upstream) && (ceiling == UPSTREAM_NO_CEILING || lane->is_full))
            lane->pool->ceiling = ceiling;
    }
}

static int living(const struct proxy_pool *pool)
{
    const int *counts = pool->pool.counts;
    return counts[BACKEND_IDLE] + counts[BACKEND_CHECKING] + counts[BACKEND_BUSY] +
           counts[BACKEND_CLEANING];
}

static int missing(const struct proxy_pool *pool)
{
    int reserved = pool->config ? pool->config->reserved : 0;
    int missing = reserved - living(pool);
    return missing > 0 ? missing : 0;
}

void upstream_refused(struct server *server, enum refusal refusal)
{
    struct proxy *proxy = server->proxy;
    struct lane *lane = server->lane;
    struct upstream *upstream = upstream_of(proxy, lane->section);
    if (refusal == REFUSAL_OTHER) { /* room would not help it */
        if (lane->pool->starved_lane == lane)
            lane->pool->starved_by = REFUSAL_OTHER;
        upstream_settle(proxy);
        return;
    }
    int granted = count_granted(proxy, upstream);
    pool_lane_try_singly(&lane->lane);
    if (upstream->ceiling != granted)
        log_server(LOG_LEVEL_WARNING, server, "upstream is full",
                   LOG_FIELD_NUMBER("granted", granted),
                   LOG_FIELD_NUMBER("total_connections", proxy->config->total_connections),
                   LOG_FIELD_TEXT("hint", "pgreserve check says which cap can hold there"));
    upstream->ceiling = granted;
    set_ceiling(proxy, upstream, granted);
    lane->pool->starved_by = missing(lane->pool) > 0 ? refusal : REFUSAL_OTHER;
    lane->pool->starved_lane = lane;
    upstream_settle(proxy);
}

void upstream_granted(struct server *server)
{
    struct proxy *proxy = server->proxy;
    struct upstream *upstream = upstream_of(proxy, server->lane->section);
    int granted = count_granted(proxy, upstream);
    if (server->lane->pool->starved_by != REFUSAL_OTHER)
        upstream->given = 0;
    if (upstream->ceiling == UPSTREAM_NO_CEILING || granted <= upstream->ceiling)
        return;
    log_server(LOG_LEVEL_INFO, server, "upstream has room again",
               LOG_FIELD_NUMBER("granted", granted),
               LOG_FIELD_NUMBER("was_full_at", upstream->ceiling));
    upstream->ceiling = UPSTREAM_NO_CEILING;
    set_ceiling(proxy, upstream, UPSTREAM_NO_CEILING);
}

/* ---- giving way ---- */

/* Whether a connection of this lane takes the place that the starved pool needs. */
static bool stands_in_the_way(const struct lane *lane, const struct proxy_pool *starved)
{
    const struct lane *theirs = starved->starved_lane;
    bool same_user = strcmp(lane->user ? lane->user : "", theirs->user ? theirs->user : "") == 0;
    bool same_database = strcmp(lane->database, theirs->database) == 0;
    if (lane->pool == starved || strcmp(lane->section, theirs->section) != 0)
        return false;
    if (missing(lane->pool) > 0 ||
        living(lane->pool) <= (lane->pool->config ? lane->pool->config->reserved : 0))
        return false; /* what it has is its own reservation */
    switch (starved->starved_by) {
    case REFUSAL_FULL_ROLE:
        return same_user;
    case REFUSAL_FULL_DATABASE:
        return same_database;
    case REFUSAL_FULL_POOLER:
        return same_user && same_database;
    case REFUSAL_FULL_SERVER:
        return true;
    case REFUSAL_OTHER:
        break;
    }
    return false;
}

/* The lane that gives next: one with something free, else the one that has most. */
static struct lane *choose_giver(struct proxy *proxy, const struct proxy_pool *starved)
{
    struct lane *best = NULL;
    struct lane *lane;
    for (lane = proxy->lanes; lane; lane = lane->hh.next) {
        if (!stands_in_the_way(lane, starved) || pool_lane_living(&lane->lane) == 0)
            continue;
        int better = best ? lane->lane.counts[BACKEND_IDLE] - best->lane.counts[BACKEND_IDLE] : 1;
        if (best && better == 0)
            better = pool_lane_living(&lane->lane) - pool_lane_living(&best->lane);
        if (better > 0)
            best = lane;
    }
    return best;
}

/* Places on their way to the starved pool: its own attempts, and what the others' closing will set free. */
static int coming(const struct proxy *proxy, const struct proxy_pool *starved)
{
    int count = starved->pool.counts[BACKEND_CONNECTING];
    const struct server *server;
    TAILQ_FOREACH (server, &proxy->servers, link)
        count += server->close_reason == reason_given;
    return count;
}

static void feed(struct proxy *proxy, struct proxy_pool *starved)
{
    struct upstream *upstream = upstream_of(proxy, starved->starved_lane->section);
    struct lane *lane;
    bool wants_any = starved->pool.settings.prefill || starved->pool.waiting > 0;
    if (missing(starved) == 0 || !wants_any) {
        starved->starved_by = REFUSAL_OTHER;
        return;
    }
    for (lane = proxy->lanes; lane; lane = lane->hh.next) {
        if (stands_in_the_way(lane, starved))
            pool_lane_yield(&lane->lane, proxy->now_us + YIELD_US);
    }
    if (upstream->given < 2 * starved->config->reserved &&
        coming(proxy, starved) < missing(starved)) {
        lane = choose_giver(proxy, starved);
        if (lane)
            pool_lane_give_up(&lane->lane, reason_given);
    }
}

void upstream_settle(struct proxy *proxy)
{
    struct lane *lane;
    bool anyone_starves = false;
    for (size_t i = 0; i < proxy->pool_count; i++)
        anyone_starves |= proxy->pools[i]->starved_by != REFUSAL_OTHER;
    if (!anyone_starves && !proxy->someone_starved)
        return;
    proxy->someone_starved = anyone_starves;
    for (lane = proxy->lanes; lane; lane = lane->hh.next) {
        pool_lane_yield(&lane->lane, 0);
        pool_lane_give_up(&lane->lane, NULL);
    }
    for (size_t i = 0; i < proxy->pool_count; i++) {
        if (proxy->pools[i]->starved_by != REFUSAL_OTHER)
            feed(proxy, proxy->pools[i]);
    }
}

void upstream_let_go(struct server *server)
{
    struct proxy *proxy = server->proxy;
    struct upstream *upstream = upstream_of(proxy, server->lane->section);
    if (!server->is_streaming)
        return; /* it never had a place */
    upstream->given += server->close_reason == reason_given;
    for (size_t i = 0; i < proxy->pool_count; i++) {
        struct proxy_pool *pool = proxy->pools[i];
        if (pool->starved_by != REFUSAL_OTHER && is_of(pool->starved_lane, upstream))
            pool_lane_retry_now(&pool->starved_lane->lane, proxy->now_us);
    }
    upstream_settle(proxy);
}

/* ---- the end ---- */

void upstream_changed(struct proxy *proxy, const char *section)
{
    struct upstream *upstream = upstream_of(proxy, section);
    set_ceiling(proxy, upstream, UPSTREAM_NO_CEILING);
    upstream->ceiling = UPSTREAM_NO_CEILING;
    upstream->given = 0;
    upstream->probes = 0;
    upstream->kind = UPSTREAM_UNKNOWN;
}

void upstream_free_all(struct proxy *proxy)
{
    struct upstream *upstream;
    while ((upstream = proxy->upstreams)) {
        proxy->upstreams = upstream->next;
        free(upstream->section);
        free(upstream);
    }
}
