/*
 * control.c - what an operator does to pools and databases: see control.h.
 *
 * What is paused or disabled is kept as a list of gates, one for each target that a verb named, because lanes come and
 * go: a lane that is made while its database is paused begins paused.  The pools' rules see only two flags a lane
 * and a pool, is_paused (grant nothing) and is_emptying (close what is free), which are set anew from the gates
 * whenever these change.  SUSPEND sets the first without the second, so that it can be taken back at once.
 */
#include "proxy/cancel.h"
#include "proxy/control.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "proto/sqlstate.h"
#include "proxy/listener.h"

struct gate {
    struct proxy_pool *pool; /* NULL: every pool */
    char *database;          /* NULL: every database */
    bool is_paused;
    bool is_disabled;
    struct gate *next;
};

/* ---- targets ---- */

/* A lane's database as clients name it. */
static const char *name_of(const struct lane *lane)
{
    return strcmp(lane->section, "*") == 0 ? lane->database : lane->section;
}

static bool covers(const struct proxy_pool *pool, const char *database,
                   const struct proxy_pool *of_pool, const char *of_database)
{
    return (!pool || pool == of_pool) &&
           (!database || (of_database && strcmp(database, of_database) == 0));
}

static bool is_within(const struct control_target *target, const struct lane *lane)
{
    return covers(target->pool, target->database, lane->pool, name_of(lane));
}

static bool is_known_database(const struct proxy *proxy, const struct proxy_pool *pool,
                              const char *database)
{
    for (const struct lane *lane = proxy->lanes; lane; lane = lane->hh.next) {
        if (covers(pool, database, lane->pool, name_of(lane)))
            return true;
    }
    for (size_t i = 0; i < proxy->config->database_count; i++) {
        if (strcmp(proxy->config->databases[i].name, database) == 0 && strcmp(database, "*") != 0)
            return true;
    }
    return false;
}

bool control_find(struct proxy *proxy, char *word, struct control_target *target)
{
    char *at = strrchr(word, '@');
    *target = (struct control_target){.pool = at ? proxy_find_pool(proxy, at + 1) : NULL};
    if (at && target->pool) {
        *at = '\0';
        target->database = word;
        return is_known_database(proxy, target->pool, word);
    }
    target->pool = proxy_find_pool(proxy, word);
    if (target->pool)
        return true;
    target->database = word;
    return is_known_database(proxy, NULL, word);
}

/* ---- gates ---- */

static struct gate *gate_for(struct proxy *proxy, const struct control_target *target)
{
    struct gate *gate;
    for (gate = proxy->gates; gate; gate = gate->next) {
        bool same_name = gate->database && target->database
                             ? strcmp(gate->database, target->database) == 0
                             : gate->database == target->database;
        if (gate->pool == target->pool && same_name)
            return gate;
    }
    gate = memory_alloc(sizeof(*gate));
    gate->pool = target->pool;
    gate->database = memory_strdup(target->database);
    gate->next = proxy->gates;
    proxy->gates = gate;
    return gate;
}

static void free_open_gates(struct proxy *proxy)
{
    for (struct gate **at = &proxy->gates; *at;) {
        struct gate *gate = *at;
        if (gate->is_paused || gate->is_disabled) {
            at = &gate->next;
            continue;
        }
        *at = gate->next;
        free(gate->database);
        free(gate);
    }
}

void control_free(struct proxy *proxy)
{
    for (struct gate *gate = proxy->gates; gate; gate = gate->next)
        gate->is_paused = gate->is_disabled = false;
    free_open_gates(proxy);
}

bool control_is_paused(const struct proxy *proxy, const struct proxy_pool *pool,
                       const char *database)
{
    for (const struct gate *gate = proxy->gates; gate; gate = gate->next) {
        if (gate->is_paused && covers(gate->pool, gate->database, pool, database))
            return true;
    }
    return false;
}

bool control_is_disabled(const struct proxy *proxy, const struct proxy_pool *pool,
                         const char *database)
{
    for (const struct gate *gate = proxy->gates; gate; gate = gate->next) {
        if (gate->is_disabled && covers(gate->pool, gate->database, pool, database))
            return true;
    }
    return false;
}

static const char *main_database(const struct proxy_pool *pool)
{
    return pool->pool.primary ? name_of(pool->pool.primary->owner) : NULL;
}

bool control_pool_is_paused(const struct proxy_pool *pool)
{
    return pool->pool.is_paused || control_is_paused(pool->proxy, pool, main_database(pool));
}

bool control_pool_is_disabled(const struct proxy_pool *pool)
{
    return control_is_disabled(pool->proxy, pool, main_database(pool));
}

void control_apply(struct proxy *proxy, struct lane *lane)
{
    lane->lane.is_emptying = control_is_paused(proxy, lane->pool, name_of(lane));
    lane->lane.is_paused = lane->lane.is_emptying;
}

static void apply_all(struct proxy *proxy)
{
    for (size_t i = 0; i < proxy->pool_count; i++) {
        struct proxy_pool *pool = proxy->pools[i];
        pool->pool.is_emptying = control_is_paused(proxy, pool, NULL);
        pool->pool.is_paused = pool->pool.is_emptying || proxy->is_suspended;
    }
    for (struct lane *lane = proxy->lanes; lane; lane = lane->hh.next)
        control_apply(proxy, lane);
    free_open_gates(proxy);
}

/* ---- verbs ---- */

void control_pause(struct proxy *proxy, const struct control_target *target)
{
    gate_for(proxy, target)->is_paused = true;
    apply_all(proxy);
}

/* Takes `paused` or `disabled` from every gate within the target; whether another one still holds a part of it. */
static bool open_gates(struct proxy *proxy, const struct control_target *target, bool paused)
{
    bool is_held = false;
    for (struct gate *gate = proxy->gates; gate; gate = gate->next) {
        if (covers(target->pool, target->database, gate->pool, gate->database)) {
            if (paused)
                gate->is_paused = false;
            else
                gate->is_disabled = false;
        } else if ((paused ? gate->is_paused : gate->is_disabled) &&
                   covers(gate->pool, gate->database, target->pool, target->database)) {
            is_held = true;
        }
    }
    return is_held;
}

/* Input that was left unread while everything stood still. */
static void read_again(struct proxy *proxy)
{
    struct client *client;
    TAILQ_FOREACH (client, &proxy->clients, link)
        proxy_read_later(client);
}

bool control_resume(struct proxy *proxy, const struct control_target *target)
{
    bool is_held = open_gates(proxy, target, true);
    if (!target->pool && !target->database && proxy->is_suspended) {
        proxy->is_suspended = false;
        read_again(proxy);
    }
    apply_all(proxy);
    proxy_run_pools(proxy);
    return !is_held && !proxy->is_suspended;
}

bool control_disable(struct proxy *proxy, const struct control_target *target, bool disabled)
{
    bool is_held = false;
    if (disabled)
        gate_for(proxy, target)->is_disabled = true;
    else
        is_held = open_gates(proxy, target, false);
    free_open_gates(proxy);
    return !is_held;
}

void control_dispose(struct proxy *proxy, const struct control_target *target)
{
    for (struct lane *lane = proxy->lanes; lane; lane = lane->hh.next) {
        if (is_within(target, lane))
            pool_lane_dispose(&lane->lane);
    }
}

void control_kill(struct proxy *proxy, const struct control_target *target)
{
    control_pause(proxy, target);
    for (struct client *next, *client = TAILQ_FIRST(&proxy->clients); client; client = next) {
        next = TAILQ_NEXT(client, link);
        if (client->pool && client->database &&
            covers(target->pool, target->database, client->pool, client->database))
            client_shut_down(client, NULL);
    }
    for (struct server *next, *server = TAILQ_FIRST(&proxy->servers); server; server = next) {
        next = TAILQ_NEXT(server, link);
        if (!is_within(target, server->lane) || server->backend.state == BACKEND_CLOSING ||
            server->backend.state == BACKEND_CONNECTING)
            continue; /* a login is closed when it is complete: only then will the server tell us */
        server_close(server, "killed");
    }
}

bool control_kill_client(struct proxy *proxy, uint32_t id)
{
    struct client *client = cancel_key_find(proxy, id);
    if (!client || client->state == CLIENT_CLOSING)
        return false;
    client_shut_down(client, NULL);
    return true;
}

void control_suspend(struct proxy *proxy)
{
    proxy->is_suspended = true;
    apply_all(proxy);
}

void control_drain(struct proxy *proxy)
{
    if (proxy->is_draining)
        return;
    log_event(LOG_LEVEL_INFO, "no new clients: stopping when the last one has gone",
              LOG_FIELD_NUMBER("clients", proxy->client_count));
    proxy->is_draining = true;
    listener_close_pools(proxy);
}

void control_tick(struct proxy *proxy)
{
    const struct client *client;
    if (!proxy->is_draining || proxy->state != PROXY_RUNNING)
        return;
    TAILQ_FOREACH (client, &proxy->clients, link) {
        if (client->pool)
            return;
    }
    proxy_stop(proxy, false);
}

/* ---- is it done? ---- */

bool control_is_empty(const struct proxy *proxy, const struct control_target *target)
{
    const struct server *server;
    TAILQ_FOREACH (server, &proxy->servers, link) {
        if (is_within(target, server->lane))
            return false;
    }
    return true;
}

bool control_is_renewed(const struct proxy *proxy, const struct control_target *target)
{
    const struct server *server;
    TAILQ_FOREACH (server, &proxy->servers, link) {
        if (is_within(target, server->lane) &&
            server->backend.generation != server->lane->lane.generation)
            return false;
    }
    return true;
}

bool control_is_flushed(const struct proxy *proxy)
{
    const struct client *client;
    const struct server *server;
    TAILQ_FOREACH (client, &proxy->clients, link) {
        if (client->pool && client->state == CLIENT_LINKED && stream_backlog(&client->stream) > 0)
            return false;
    }
    TAILQ_FOREACH (server, &proxy->servers, link) {
        if (server->is_streaming && server->backend.state == BACKEND_BUSY &&
            stream_backlog(&server->stream) > 0)
            return false;
    }
    return true;
}
