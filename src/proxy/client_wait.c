/*
 * client_wait.c - what a client is told that waits: a notice, that its time is over, that there is no upstream.
 *
 * The texts name the numbers and who holds longest, so that whoever reads them knows what to do (contract 1.4, 6).  Who has
 * not logged in yet is told nothing of that.
 */
#include <netinet/in.h>
#include <stdlib.h>

#include "base/memory.h"
#include "proto/build.h"
#include "proto/sqlstate.h"
#include "proxy/control.h"
#include "proxy/events.h"
#include "proxy/proxy.h"

static bool is_fatal_here(const struct client *client)
{
    return client->state == CLIENT_LOGIN || !client->pool->config ||
           client->pool->config->mode == POOL_MODE_SESSION;
}

/* The client of this pool that has held its backend longest. */
static const struct client *longest_holder(const struct proxy_pool *pool)
{
    const struct client *longest = NULL;
    const struct server *server;
    TAILQ_FOREACH (server, &pool->proxy->servers, link) {
        if (server->client && server->client->pool == pool &&
            (!longest || server->client->linked_us < longest->linked_us))
            longest = server->client;
    }
    return longest;
}

static int connections_in_use(const struct proxy_pool *pool)
{
    return pool->pool.counts[BACKEND_BUSY] + pool->pool.counts[BACKEND_CLEANING];
}

/* Whom to ask to let go; "" when nobody holds any.  free() it. */
static char *describe_longest_holder(const struct proxy_pool *pool)
{
    const struct client *longest = longest_holder(pool);
    char address[INET6_ADDRSTRLEN];
    int port;
    if (!longest)
        return memory_strdup("");
    client_address_text(longest, address, sizeof(address), &port);
    return memory_printf("held longest by user \"%s\" from %s:%d, application \"%s\", for %.1f s",
                         longest->user, address, port, longest->application_name,
                         (double)(pool->proxy->now_us - longest->linked_us) / (double)CLOCK_S);
}

void client_wait_notice(struct client *client, int before)
{
    const struct proxy_pool *pool = client->pool;
    if (client->state != CLIENT_WAITING)
        return; /* during the login drivers do not expect it */
    char *message = memory_printf("still waiting for a connection of pool \"%s\": %d in use, "
                                  "%d clients waiting before you",
                                  pool->name, connections_in_use(pool), before);
    char *holder = describe_longest_holder(pool);
    client_send_error(
        client, 'N',
        &(struct error_fields){"NOTICE", SQLSTATE_SUCCESS, message, *holder ? holder : NULL, NULL});
    free(message);
    free(holder);
}

static char *describe_holders(const struct proxy_pool *pool, int waiting)
{
    char *holder = describe_longest_holder(pool);
    char *text = memory_printf("%d connections in use, %d clients waiting%s%s.",
                               connections_in_use(pool), waiting, *holder ? "; " : "", holder);
    free(holder);
    return text;
}

/* What would have helped.  free() it. */
static char *advise(const struct client *client)
{
    const struct proxy *proxy = client->proxy;
    const struct proxy_pool *pool = client->pool;
    const struct budget_pool *places = &proxy->budget.pools[pool->index];
    if (control_is_paused(proxy, pool, client->database))
        return memory_strdup("An administrator has paused it: RESUME on the admin port ends that.");
    if (client->lane->is_full)
        return memory_strdup("The upstream has no connection left: see pgreserve check for what it "
                             "grants, or who holds ours with SHOW HOLDERS on the admin port.");
    if (budget_used(places) < places->limit && !budget_may_take(&proxy->budget, pool->index))
        return memory_printf(
            "All of total_connections = %d are open or reserved: keep transactions short, give "
            "this "
            "pool more of them or raise it, or see who holds them with SHOW HOLDERS on the admin "
            "port.",
            proxy->budget.total);
    return memory_strdup(
        "Keep transactions short, raise size, max_overflow or timeout, or see who holds the "
        "connections with SHOW HOLDERS on the admin port.");
}

void client_wait_timed_out(struct client *client)
{
    struct proxy_pool *pool = client->pool;
    const struct pool_settings *settings = &pool->pool.settings;
    char *message = memory_printf(
        "pool \"%s\" limit of size %d overflow %d reached, connection timed out, timeout %g s",
        pool->name, settings->size, settings->max_overflow,
        (double)settings->timeout_us / (double)CLOCK_S);
    char *detail = describe_holders(pool, pool->pool.waiting + 1);
    char *hint = advise(client);
    log_client(
        LOG_LEVEL_WARNING, client, "wait timed out", LOG_FIELD_KIND("reason", pool->name),
        LOG_FIELD_SECONDS("waited", events_seconds_since(client->proxy, client->waiter.since_us)),
        LOG_FIELD_NUMBER("in_use", connections_in_use(pool)),
        LOG_FIELD_NUMBER("still_waiting", pool->pool.waiting), LOG_FIELD_TEXT("holder", detail));
    stats_wait_timed_out(client);
    if (is_fatal_here(client))
        client_fatal(client, SQLSTATE_TOO_MANY_CONNECTIONS, message, detail, hint);
    else
        client_error(client, SQLSTATE_TOO_MANY_CONNECTIONS, message, detail, hint);
    free(message);
    free(detail);
    free(hint);
}

void client_upstream_failed(struct client *client)
{
    const struct lane *lane = client->lane;
    char *message = memory_printf("could not connect to upstream: %s",
                                  lane->error ? lane->error : "no connection");
    const char *sqlstate = lane->error_state[0] ? lane->error_state : SQLSTATE_CANNOT_CONNECT;
    if (client->state == CLIENT_LOGIN)
        client_fatal(client, sqlstate, message, NULL, NULL);
    else
        client_error(client, sqlstate, message, NULL, NULL);
    free(message);
}
