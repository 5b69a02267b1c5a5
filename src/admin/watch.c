/*
 * watch.c - looks at the pools at every tick: see watch.h.
 *
 * Each tick takes one sample of each pool's counts, a few additions a pool and one look at each backend (of which
 * there are as many as the cap says).  About once a second the clients that hold a backend for long are noted.  Nothing
 * here runs for a query.
 */
#include "admin/watch.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

struct watch {
    struct advice *advice[BUDGET_POOLS_MAX];
    struct holders holders;
    int64_t holders_us; /* when they were looked at last */
};

/* ---- one client ---- */

int64_t watch_idle_us(const struct client *client)
{
    if (client_is_running(client) || client->server->status == 'I')
        return 0;
    return client->proxy->now_us - client->answered_us;
}

void watch_key(const struct client *client, struct holder_key *key)
{
    int port;
    char address[64];
    client_address_text(client, address, sizeof(address), &port);
    snprintf(key->pool, sizeof(key->pool), "%s", client->pool->name);
    snprintf(key->user, sizeof(key->user), "%s", client->user);
    snprintf(key->application_name, sizeof(key->application_name), "%s", client->application_name);
    snprintf(key->address, sizeof(key->address), "%s", address);
}

/* ---- ticks ---- */

static void note_holders(struct watch *watch, struct proxy *proxy)
{
    int64_t since_last_us = proxy->now_us - watch->holders_us;
    const struct server *server;
    if (since_last_us < HOLDERS_LEAST_US)
        return;
    watch->holders_us = proxy->now_us;
    holders_expire(&watch->holders, proxy->now_us);
    TAILQ_FOREACH (server, &proxy->servers, link) {
        const struct client *client = server->client;
        struct holder_key key;
        if (!client || !client->pool || proxy->now_us - client->linked_us < HOLDERS_LEAST_US)
            continue;
        int64_t held_us = proxy->now_us - client->linked_us;
        watch_key(client, &key);
        holders_note(&watch->holders, &key, proxy->now_us, held_us, watch_idle_us(client),
                     held_us < HOLDERS_LEAST_US + since_last_us);
    }
}

static void sample_pool(struct watch *watch, struct proxy_pool *pool, int idle_in_transaction)
{
    struct proxy *proxy = pool->proxy;
    const struct pool *rules = &pool->pool;
    struct advice **advice = &watch->advice[pool->index];
    if (!*advice) {
        *advice = memory_alloc(sizeof(**advice));
        advice_begin(*advice, proxy->now_us);
        return;
    }
    struct advice_sample sample = {.in_use = rules->counts[BACKEND_BUSY] +
                                             rules->counts[BACKEND_CLEANING],
                                   .idle_in_transaction = idle_in_transaction,
                                   .waiting = rules->waiting,
                                   .open = pool_open(rules) - rules->counts[BACKEND_CLOSING],
                                   .size = rules->settings.size,
                                   .wait = &pool->stats.wait,
                                   .timeouts = pool->stats.total[POOL_STAT_TIMEOUTS],
                                   .longest_wait_us = pool->stats.longest_wait_us};
    pool->stats.longest_wait_us = 0;
    advice_take(*advice, proxy->now_us, &sample);
}

static void on_tick(struct proxy *proxy)
{
    struct watch *watch = proxy->watch;
    int idle[BUDGET_POOLS_MAX] = {0};
    const struct server *server;
    TAILQ_FOREACH (server, &proxy->servers, link)
        idle[server->lane->pool->index] += server->client && watch_idle_us(server->client) > 0;
    for (size_t i = 0; i < proxy->pool_count; i++)
        sample_pool(watch, proxy->pools[i], idle[i]);
    note_holders(watch, proxy);
}

/* ---- for others ---- */

static void free_watch(struct proxy *proxy)
{
    struct watch *watch = proxy->watch;
    for (size_t i = 0; i < BUDGET_POOLS_MAX; i++)
        free(watch->advice[i]);
    free(watch);
    proxy->watch = NULL;
}

void watch_install(struct proxy *proxy)
{
    proxy->watch = memory_alloc(sizeof(struct watch));
    proxy->watch_tick = on_tick;
    proxy->watch_free = free_watch;
}

const struct holders *watch_holders(const struct proxy *proxy)
{
    return &((const struct watch *)proxy->watch)->holders;
}

const struct advice *watch_advice(const struct proxy *proxy, const struct proxy_pool *pool)
{
    return ((const struct watch *)proxy->watch)->advice[pool->index];
}
