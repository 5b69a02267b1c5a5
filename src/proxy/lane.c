/*
 * lane.c - one (pool, database, upstream user): made when somebody needs it, found again by its key, freed when nobody does.
 *
 * A key is the names with line feeds between them, the pool's first.  The lane on which auth_query runs has none before its first
 * one, and no pool's name is empty: so no client gets there, whatever names it has.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "proxy/auth_query.h"
#include "proxy/control.h"
#include "proxy/defaults.h"
#include "proxy/login.h"
#include "proxy/proxy.h"

/* The lane of this key, which is freed then; its password is what was said last. */
static struct lane *lane_known(const struct proxy *proxy, char *key, const char *password)
{
    struct lane *lane;
    HASH_FIND_STR(proxy->lanes, key, lane);
    if (!lane)
        return NULL;
    free(key);
    if (lane->is_gone || (password && (!lane->password || strcmp(lane->password, password) != 0))) {
        memory_free_secret(lane->password);
        lane->password = memory_strdup(password);
    }
    lane->is_gone = false; /* the file speaks of it again */
    return lane;
}

static struct lane *lane_new(struct proxy_pool *pool, char *key, const char *section,
                             const char *database, const char *user, const char *password)
{
    struct proxy *proxy = pool->proxy;
    struct lane *lane = memory_alloc(sizeof(*lane));
    lane->pool = pool;
    lane->key = key;
    lane->section = memory_strdup(section);
    lane->database = memory_strdup(database);
    lane->user = memory_strdup(user);
    lane->password = memory_strdup(password);
    pool_lane_init(&lane->lane, &pool->pool, lane);
    control_apply(proxy, lane);
    HASH_ADD_KEYPTR(hh, proxy->lanes, lane->key, strlen(lane->key), lane);
    return lane;
}

struct lane *proxy_lane(struct proxy_pool *pool, const struct config_database *database,
                        const char *name, const char *user, const char *password,
                        const struct lane_replication *replication)
{
    const char *upstream = database->dbname_is_forced && database->dbname ? database->dbname : name;
    char *key = memory_printf("%s\n%s\n%s\n%s%s%s%s", pool->name, database->name, upstream,
                              user ? user : "", replication ? "\n" : "",
                              replication ? replication->replication : "",
                              replication ? replication->options : "");
    struct lane *lane = lane_known(pool->proxy, key, password);
    if (lane)
        return lane;
    lane = lane_new(pool, key, database->name, upstream, user, password);
    if (replication) {
        lane->is_replication = true;
        lane->replication = memory_strdup(replication->replication);
        lane->options = memory_strdup(replication->options);
    }
    return lane;
}

struct lane *proxy_asking_lane(struct proxy_pool *pool, const struct config_database *database,
                               const char *name, const char *user, const char *password)
{
    char *key = memory_printf("\n%s\n%s\n%s\n%s", pool->name, database->name, name, user);
    struct lane *lane = lane_known(pool->proxy, key, password);
    if (lane)
        return lane;
    lane = lane_new(pool, key, database->name, name, user, password);
    lane->asker = asker_new(lane);
    return lane;
}

void lane_free(struct proxy *proxy, struct lane *lane)
{
    HASH_DEL(proxy->lanes, lane);
    if (lane->pool->starved_lane == lane)
        lane->pool->starved_by = REFUSAL_OTHER;
    stats_lane_gone(lane);
    asker_free(lane->asker);
    pool_lane_remove(&lane->lane);
    defaults_lane_free(lane);
    open_forget_starts(proxy, lane);
    free(lane->replication);
    free(lane->options);
    free(lane->section);
    free(lane->database);
    free(lane->user);
    memory_free_secret(lane->password);
    free(lane->error);
    free(lane->key);
    free(lane);
}

void lane_sweep(struct proxy *proxy)
{
    struct lane *lane;
    struct lane *next;
    struct client *client;
    HASH_ITER (hh, proxy->lanes, lane, next) {
        if (!lane->error && !lane->is_replication && !lane->asker && !lane->is_gone &&
            lane->parameter_count > 0)
            continue;
        bool is_used = (lane->asker && asker_is_used(lane->asker)) || lane->lane.waiting > 0 ||
                       lane->pool->pool.primary == &lane->lane;
        for (int state = 0; state < BACKEND_STATE_COUNT && !is_used; state++)
            is_used = lane->lane.counts[state] > 0;
        if (is_used || lane->lane.retry_us > proxy->now_us)
            continue;
        TAILQ_FOREACH (client, &proxy->clients, link)
            is_used |= client->lane == lane;
        if (!is_used)
            lane_free(proxy, lane);
    }
}
