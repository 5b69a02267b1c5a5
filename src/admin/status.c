/*
 * status.c - the figures of contract 8: see status.h.
 *
 * They are counted when somebody asks, from the pools' own counts and one walk over the servers; nothing on the
 * query's way keeps them.
 */
#include "admin/status.h"

#include <stdlib.h>
#include <string.h>

#include "admin/owners.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "proxy/control.h"
#include "proxy/upstream.h"

/* A login over a slow road, or a close, takes no longer while all is well. */
#define ON_THE_WAY_US (2 * CLOCK_S)

const char *status_health_name(enum health health)
{
    static const char *const names[] = {"healthy", "high_load", "exhausted", "down"};
    return names[health];
}

enum health status_health(int in_use, int total_possible, int waiting, int living,
                          bool login_failed)
{
    if (living == 0 && login_failed)
        return HEALTH_DOWN;
    if (waiting > 0 && in_use >= total_possible)
        return HEALTH_EXHAUSTED;
    if (waiting > 0 || (total_possible > 0 && in_use * 10 >= total_possible * 9))
        return HEALTH_HIGH_LOAD;
    return HEALTH_HEALTHY;
}

static bool login_has_failed(const struct proxy_pool *pool)
{
    const struct lane *lane;
    for (lane = pool->proxy->lanes; lane; lane = lane->hh.next) {
        if (lane->pool == pool && lane->error && !lane->is_full)
            return true;
    }
    return false;
}

static int living(const struct pool *pool)
{
    return pool->counts[BACKEND_IDLE] + pool->counts[BACKEND_CHECKING] +
           pool->counts[BACKEND_BUSY] + pool->counts[BACKEND_CLEANING];
}

static double seconds_since(const struct proxy *proxy, int64_t since_us)
{
    return (double)(proxy->now_us - since_us) / (double)CLOCK_S;
}

/* Every connection that the pool can have now is in use: the cap stops it before its own numbers do. */
static bool is_at_the_cap(const struct proxy_pool *pool)
{
    const int *counts = pool->pool.counts;
    return counts[BACKEND_IDLE] + counts[BACKEND_CHECKING] + counts[BACKEND_CONNECTING] +
                   counts[BACKEND_CLOSING] ==
               0 &&
           !budget_may_take(&pool->proxy->budget, pool->index);
}

/* Backends in this state of the pool's that have been in it for no longer than it should take. */
static int on_their_way(const struct proxy_pool *pool, enum backend_state state)
{
    const struct pool_lane *lane;
    int count = 0;
    if (pool->pool.counts[state] == 0)
        return 0;
    TAILQ_FOREACH (lane, &pool->pool.lanes, link) {
        const struct pool_backend *backend;
        TAILQ_FOREACH (backend, &lane->backends[state], link)
            count += pool->proxy->now_us - backend->since_us <= ON_THE_WAY_US;
    }
    return count;
}

static bool is_refused(const struct proxy_pool *pool)
{
    const struct lane *lane;
    for (lane = pool->proxy->lanes; lane; lane = lane->hh.next) {
        if (lane->pool == pool && lane->is_full)
            return true;
    }
    return false;
}

/* Whether every reserved connection is free or in its own pool's use (contract 8).  One that is being opened or replaced is not
 * missed, as long as nothing has gone wrong with it; nor are those of a pool that opens none before somebody asks, until the
 * upstream has refused one. */
static bool reservation_is_whole(const struct proxy_pool *pool)
{
    const struct pool_lane *primary = pool->pool.primary;
    const struct budget_pool *numbers = &pool->proxy->budget.pools[pool->index];
    if (living(&pool->pool) + numbers->elsewhere >= numbers->reserved)
        return true;
    if (!pool->pool.settings.prefill || !primary)
        return !is_refused(pool);
    return primary->failures == 0 &&
           on_their_way(pool, BACKEND_CONNECTING) + on_their_way(pool, BACKEND_CLOSING) > 0;
}

void status_of_pool(const struct proxy_pool *pool, struct status_figures *figures)
{
    const struct pool *rules = &pool->pool;
    const struct proxy *proxy = pool->proxy;
    const struct server *server;
    *figures = (struct status_figures){.clients = pool->clients, .ceiling = (int)pool->ceiling};
    snprintf(figures->name, sizeof(figures->name), "%s", pool->name);
    figures->in_use = rules->counts[BACKEND_BUSY] + rules->counts[BACKEND_CLEANING];
    figures->available = rules->counts[BACKEND_IDLE] + rules->counts[BACKEND_CHECKING];
    figures->closing = rules->counts[BACKEND_CLOSING];
    int over = pool_open(rules) - figures->closing - rules->settings.size;
    figures->overflow = over > 0 ? over : 0;
    figures->total_possible = rules->settings.size + rules->settings.max_overflow;
    figures->reserved = proxy->budget.pools[pool->index].reserved;
    figures->waiting = rules->waiting;
    if (!TAILQ_EMPTY(&rules->waiters))
        figures->longest_wait = seconds_since(proxy, TAILQ_FIRST(&rules->waiters)->since_us);
    TAILQ_FOREACH (server, &proxy->servers, link) {
        const struct client *client = server->client;
        if (!client || client->pool != pool)
            continue;
        double held = seconds_since(proxy, client->linked_us);
        if (held > figures->longest_hold)
            figures->longest_hold = held;
        figures->pinned += client->pins != 0;
    }
    figures->health = status_health(figures->in_use, figures->total_possible, figures->waiting,
                                    living(rules), login_has_failed(pool));
    if (figures->health == HEALTH_HIGH_LOAD && figures->waiting > 0 && is_at_the_cap(pool))
        figures->health = HEALTH_EXHAUSTED;
    bool is_whole = reservation_is_whole(pool);
    if (figures->health == HEALTH_HEALTHY && !is_whole)
        figures->health = HEALTH_HIGH_LOAD;
    figures->is_healthy = figures->health < HEALTH_EXHAUSTED && is_whole;
}

int status_lower_ceiling(int one, int other)
{
    if (one == UPSTREAM_NO_CEILING || other == UPSTREAM_NO_CEILING)
        return one == UPSTREAM_NO_CEILING ? other : one;
    return one < other ? one : other;
}

/* null: the upstream has not said that it is full. */
static json_t *ceiling_json(int ceiling)
{
    return ceiling == UPSTREAM_NO_CEILING ? json_null() : json_integer(ceiling);
}

void status_total(const struct proxy *proxy, struct status_figures *total)
{
    *total = (struct status_figures){
        .name = "total", .is_healthy = true, .ceiling = UPSTREAM_NO_CEILING};
    for (size_t i = 0; i < proxy->pool_count; i++) {
        struct status_figures each;
        status_of_pool(proxy->pools[i], &each);
        total->in_use += each.in_use;
        total->available += each.available;
        total->overflow += each.overflow;
        total->reserved += each.reserved;
        total->is_healthy &= each.is_healthy;
        total->waiting += each.waiting;
        total->pinned += each.pinned;
        total->closing += each.closing;
        total->clients += each.clients;
        total->ceiling = status_lower_ceiling(total->ceiling, each.ceiling);
        if (each.longest_wait > total->longest_wait)
            total->longest_wait = each.longest_wait;
        if (each.longest_hold > total->longest_hold)
            total->longest_hold = each.longest_hold;
        if (each.health > total->health)
            total->health = each.health;
    }
    total->total_possible = proxy->budget.total;
}

json_t *status_figures_json(const struct status_figures *figures)
{
    char *name = utf8_clean(figures->name, sizeof(figures->name));
    json_t *root = json_pack(
        "{s:s, s:i, s:i, s:i, s:i, s:i, s:b, s:i, s:f, s:f, s:i, s:i, s:i, s:o, s:s}", "name", name,
        "in_use", figures->in_use, "available", figures->available, "overflow", figures->overflow,
        "total_possible", figures->total_possible, "reserved", figures->reserved, "is_healthy",
        figures->is_healthy, "waiting", figures->waiting, "longest_wait", figures->longest_wait,
        "longest_hold", figures->longest_hold, "pinned", figures->pinned, "closing",
        figures->closing, "clients", figures->clients, "ceiling", ceiling_json(figures->ceiling),
        "state", status_health_name(figures->health));
    free(name);
    return root;
}

json_t *status_pool_json(const struct proxy_pool *pool)
{
    struct status_figures figures;
    char owners[OWNERS_BYTES];
    status_of_pool(pool, &figures);
    owners_of_pool(pool, owners, sizeof(owners));
    json_t *root = status_figures_json(&figures);
    json_object_set_new(root, "held_by", json_string(owners));
    return root;
}

/* What is known of each upstream; no address, for this may be read by anybody who reaches the port. */
static json_t *upstreams_json(const struct proxy *proxy)
{
    const struct upstream *upstream;
    json_t *all = json_array();
    for (upstream = proxy->upstreams; upstream; upstream = upstream->next) {
        char *section = utf8_clean(upstream->section, SIZE_MAX);
        json_array_append_new(all, json_pack("{s:s, s:s, s:i, s:o}", "database", section, "kind",
                                             upstream_kind_name(upstream->kind), "open",
                                             upstream_open(proxy, upstream), "ceiling",
                                             ceiling_json(upstream->ceiling)));
        free(section);
    }
    return all;
}

char *status_json(const struct proxy *proxy)
{
    struct status_figures figures;
    json_t *pools = json_array();
    for (size_t i = 0; i < proxy->pool_count; i++)
        json_array_append_new(pools, status_pool_json(proxy->pools[i]));
    status_total(proxy, &figures);
    json_t *root =
        json_pack("{s:s, s:s, s:f, s:i, s:o, s:o, s:o}", "version", PGRESERVE_VERSION, "state",
                  status_health_name(figures.health), "uptime_seconds",
                  (double)(clock_wall_us() - proxy->started_wall_us) / (double)CLOCK_S, "open",
                  budget_open(&proxy->budget), "upstreams", upstreams_json(proxy), "pools", pools,
                  "total", status_figures_json(&figures));
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    json_decref(root);
    return text ? text : memory_strdup("{}");
}

static char *add_owners(char *text, const struct proxy_pool *pool)
{
    char owners[OWNERS_BYTES];
    owners_of_pool(pool, owners, sizeof(owners));
    if (!*owners)
        return text;
    char *longer = memory_printf("%s%-14s held by %s\n", text, "", owners);
    free(text);
    return longer;
}

static char *add_line(char *text, const struct status_figures *figures)
{
    char *longer = memory_printf(
        "%s%-14s %-9s in_use %d, available %d, overflow %d, total_possible %d, reserved %d, "
        "is_healthy %s, waiting %d, longest_wait %.1f s, longest_hold %.1f s, pinned %d, closing "
        "%d, clients %d\n",
        text, figures->name, status_health_name(figures->health), figures->in_use,
        figures->available, figures->overflow, figures->total_possible, figures->reserved,
        figures->is_healthy ? "true" : "false", figures->waiting, figures->longest_wait,
        figures->longest_hold, figures->pinned, figures->closing, figures->clients);
    free(text);
    return longer;
}

char *status_text(const struct proxy *proxy)
{
    struct status_figures figures;
    status_total(proxy, &figures);
    char *text =
        memory_printf("pgreserve %s: %s\n", PGRESERVE_VERSION, status_health_name(figures.health));
    for (size_t i = 0; i < proxy->pool_count; i++) {
        struct status_figures each;
        status_of_pool(proxy->pools[i], &each);
        text = add_owners(add_line(text, &each), proxy->pools[i]);
    }
    return add_line(text, &figures);
}

/* NULL: the pool can. */
static const char *why_not_ready(const struct proxy_pool *pool)
{
    const struct proxy *proxy = pool->proxy;
    struct status_figures figures;
    /* a pool that is filled on demand has nothing open before the first demand */
    bool has_connections =
        living(&pool->pool) > 0 ||
        (!pool->pool.settings.prefill && !login_has_failed(pool) && !is_refused(pool));
    if (proxy->is_draining || proxy->state != PROXY_RUNNING)
        return "shutting down";
    if (control_pool_is_paused(pool))
        return "paused";
    if (control_pool_is_disabled(pool))
        return "disabled";
    if (!has_connections)
        return login_has_failed(pool) || is_refused(pool)
                   ? "the upstream refuses or cannot be reached"
                   : "no connection to the upstream yet";
    status_of_pool(pool, &figures);
    return figures.health == HEALTH_EXHAUSTED ? "every connection is in use, and clients wait"
                                              : NULL;
}

char *status_not_ready(const struct proxy *proxy)
{
    char *text = NULL;
    for (size_t i = 0; i < proxy->pool_count; i++) {
        const struct proxy_pool *pool = proxy->pools[i];
        const char *why = pool->config ? why_not_ready(pool) : NULL;
        if (!why)
            continue;
        char *longer = memory_printf("%spool %s: %s\n", text ? text : "", pool->name, why);
        free(text);
        text = longer;
    }
    return text;
}
