/*
 * pool_lane.c - a lane's beginning and end, and what it is told from outside: see pool.h.
 *
 * Each of these notes a wish; pool.c heeds it the next time that somebody asks what to do.
 */
#include "policy/pool.h"

void pool_lane_init(struct pool_lane *lane, struct pool *pool, void *owner)
{
    *lane = (struct pool_lane){.pool = pool, .owner = owner};
    for (int i = 0; i < BACKEND_STATE_COUNT; i++)
        TAILQ_INIT(&lane->backends[i]);
    TAILQ_INIT(&lane->waiters);
    TAILQ_INSERT_TAIL(&pool->lanes, lane, link);
}

void pool_lane_remove(struct pool_lane *lane)
{
    if (lane->pool->primary == lane)
        lane->pool->primary = NULL;
    TAILQ_REMOVE(&lane->pool->lanes, lane, link);
}

int pool_lane_living(const struct pool_lane *lane)
{
    return lane->counts[BACKEND_IDLE] + lane->counts[BACKEND_CHECKING] +
           lane->counts[BACKEND_BUSY] + lane->counts[BACKEND_CLEANING];
}

bool pool_lane_is_dead(const struct pool_lane *lane)
{
    return pool_lane_living(lane) == 0 && lane->counts[BACKEND_CONNECTING] == 0;
}

void pool_lane_dispose(struct pool_lane *lane)
{
    lane->generation++;
}

void pool_lane_suspect(struct pool_lane *lane, int64_t now_us)
{
    lane->suspect_before_us = now_us;
}

void pool_lane_hold_off(struct pool_lane *lane, int64_t until_us)
{
    if (lane->retry_us < until_us)
        lane->retry_us = until_us;
}

void pool_lane_yield(struct pool_lane *lane, int64_t until_us)
{
    lane->yield_us = until_us;
}

void pool_lane_try_singly(struct pool_lane *lane)
{
    lane->tries_singly = true;
}

void pool_lane_give_up(struct pool_lane *lane, const char *reason)
{
    lane->gives_up = reason;
}

void pool_lane_retry_now(struct pool_lane *lane, int64_t now_us)
{
    if (lane->retry_us > now_us)
        lane->retry_us = now_us;
}
