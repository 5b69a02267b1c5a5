/*
 * history.c - the last few minutes of every pool: see history.h.
 *
 * A ring of points a pool, filled by a timer every two seconds.  Points have numbers that only grow, so that a page
 * asks for those that it has not got: after a pause too, and without a gap.  A pool that a reload has added has
 * zeros for the time before.
 */
#include "admin/history.h"

#include <stdlib.h>

#include "admin/status.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "net/timer.h"

struct point {
    int in_use;
    int waiting;
    double transactions; /* a second, since the point before */
    double wait;         /* seconds */
};

/* One pool's ring, and its counters at the last point. */
struct series {
    struct point points[HISTORY_POINTS];
    uint64_t transactions;
    uint64_t assignments;
    uint64_t wait_us;
};

struct history {
    struct proxy *proxy;
    struct timer *timer;
    uint64_t latest;                          /* number of the last point; the first is 1 */
    struct series *of_pool[BUDGET_POOLS_MAX]; /* by pool index; NULL before its first point */
};

/* The mean of those who got a connection since the last point, or the time of the one who waits longest now: when
 * nobody gets any, the queue alone tells. */
static double wait_since(const struct series *series, const struct stats *stats,
                         double longest_wait)
{
    uint64_t assignments = stats->total[STAT_ASSIGNMENTS] - series->assignments;
    uint64_t wait_us = stats->total[STAT_WAIT_US] - series->wait_us;
    double mean = assignments > 0 ? (double)wait_us / (double)assignments / (double)CLOCK_S : 0;
    return mean > longest_wait ? mean : longest_wait;
}

static void record_pool(struct history *history, const struct proxy_pool *pool)
{
    struct status_figures figures;
    struct stats stats;
    struct series *series = history->of_pool[pool->index];
    status_of_pool(pool, &figures);
    stats_of_pool(pool, &stats);
    if (!series)
        series = history->of_pool[pool->index] = memory_alloc(sizeof(*series));
    series->points[history->latest % HISTORY_POINTS] = (struct point){
        .in_use = figures.in_use,
        .waiting = figures.waiting,
        .transactions =
            (double)(stats.total[STAT_TRANSACTIONS] - series->transactions) / HISTORY_INTERVAL_S,
        .wait = wait_since(series, &stats, figures.longest_wait),
    };
    series->transactions = stats.total[STAT_TRANSACTIONS];
    series->assignments = stats.total[STAT_ASSIGNMENTS];
    series->wait_us = stats.total[STAT_WAIT_US];
}

static void on_timer(void *arg)
{
    struct history *history = arg;
    struct proxy *proxy = history->proxy;
    timer_set(history->timer, HISTORY_INTERVAL_S * CLOCK_S);
    proxy->now_us = clock_now_us();
    history->latest++;
    for (size_t i = 0; i < proxy->pool_count; i++)
        record_pool(history, proxy->pools[i]);
}

struct history *history_new(struct proxy *proxy)
{
    struct history *history = memory_alloc(sizeof(*history));
    history->proxy = proxy;
    history->timer = timer_new(proxy->base, on_timer, history);
    timer_set(history->timer, HISTORY_INTERVAL_S * CLOCK_S);
    return history;
}

void history_free(struct history *history)
{
    if (!history)
        return;
    timer_free(history->timer);
    for (size_t i = 0; i < BUDGET_POOLS_MAX; i++)
        free(history->of_pool[i]);
    free(history);
}

static json_t *pool_json(const struct history *history, const struct series *series, uint64_t first)
{
    json_t *in_use = json_array();
    json_t *waiting = json_array();
    json_t *transactions = json_array();
    json_t *wait = json_array();
    for (uint64_t number = first; series && number <= history->latest; number++) {
        const struct point *point = &series->points[number % HISTORY_POINTS];
        json_array_append_new(in_use, json_integer(point->in_use));
        json_array_append_new(waiting, json_integer(point->waiting));
        json_array_append_new(transactions, json_real(point->transactions));
        json_array_append_new(wait, json_real(point->wait));
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "in_use", in_use, "waiting", waiting, "transactions",
                     transactions, "wait", wait);
}

json_t *history_json(const struct history *history, uint64_t since)
{
    const struct proxy *proxy = history->proxy;
    uint64_t oldest = history->latest < HISTORY_POINTS ? 1 : history->latest - HISTORY_POINTS + 1;
    uint64_t first = since < oldest || since > history->latest ? oldest : since + 1;
    json_t *pools = json_object();
    for (size_t i = 0; i < proxy->pool_count; i++) {
        struct status_figures figures; /* for the name as it stands there */
        if (!proxy->pools[i]->config)
            continue;
        status_of_pool(proxy->pools[i], &figures);
        char *name = utf8_clean(figures.name, sizeof(figures.name));
        json_object_set_new(pools, name, pool_json(history, history->of_pool[i], first));
        free(name);
    }
    return json_pack("{s:i, s:I, s:I, s:o}", "interval_seconds", HISTORY_INTERVAL_S, "first",
                     (json_int_t)first, "latest", (json_int_t)history->latest, "pools", pools);
}
