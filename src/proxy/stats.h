/*
 * stats.h - what has been done: counters of each lane, counters and histograms of each pool.
 *
 * They are kept at the places that run anyway, by additions alone: no clock is read (proxy->now_us is the turn's time),
 * nothing is allocated, nothing is asked of the system.  Bytes are counted by the client's stream straight into its
 * lane.  Whoever shows them (SHOW STATS, /metrics) walks the enums below; counters never go down, and those of
 * a lane that is freed stay in its pool's sum.
 */
#ifndef PROXY_STATS_H
#define PROXY_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/histogram.h"

struct client;
struct lane;
struct proxy;
struct proxy_pool;
struct server;

#define STATS_PERIOD_US (60 * 1000000LL) /* of the averages, as PgBouncer's stats_period */
#define TALLY_NAMES_MAX 32
#define TALLY_NAME      48

/* Counters of a lane, in the order of SHOW STATS; times in microseconds. */
enum lane_stat {
    STAT_ASSIGNMENTS, /* a client got a backend */
    STAT_TRANSACTIONS,
    STAT_QUERIES,        /* answered: one for each ReadyForQuery that a client got */
    STAT_RECEIVED,       /* bytes from clients */
    STAT_SENT,           /* bytes to clients */
    STAT_TRANSACTION_US, /* from the first message, after any wait, to the ReadyForQuery that says `I` */
    STAT_QUERY_US,
    STAT_WAIT_US,       /* clients' time in the queue, of those that timed out too */
    STAT_CLIENT_PARSES, /* Parse messages from clients */
    STAT_SERVER_PARSES, /* Parse messages to backends */
    STAT_BINDS,
    STAT_CLIENT_LOGINS,
    STAT_COUNT
};

/* Totals since the start, and what they were one and two periods ago. */
struct stats {
    uint64_t total[STAT_COUNT];
    uint64_t newer[STAT_COUNT];
    uint64_t older[STAT_COUNT];
};

/* Counters of a pool beside its lanes'. */
enum pool_stat {
    POOL_STAT_TIMEOUTS, /* clients told that no connection came in time */
    POOL_STAT_LOGINS,   /* upstream logins that succeeded */
    POOL_STAT_LOGIN_FAILURES,
    POOL_STAT_PINGS,
    POOL_STAT_PING_FAILURES,
    POOL_STAT_RECYCLES,        /* backends replaced because of their age */
    POOL_STAT_CANCEL_REQUESTS, /* from clients, with a key that fits */
    POOL_STAT_CANCELS,         /* sent upstream, for whatever reason */
    POOL_STAT_LEAK_WARNINGS,
    POOL_STAT_COUNT
};

/* Counts by name, for names that are not known beforehand; what finds no room any more counts as "other". */
struct tally {
    size_t count;
    struct {
        char name[TALLY_NAME];
        uint64_t times;
    } items[TALLY_NAMES_MAX];
};

#define STATS_PINS_MAX 16 /* at least PIN_COUNT */

struct pool_stats {
    uint64_t total[POOL_STAT_COUNT];
    uint64_t
        pins[STATS_PINS_MAX]; /* by enum pin: how often a client became pinned for this reason */
    struct tally errors;      /* ours to clients, by SQLSTATE */
    struct tally closes;      /* of backends, by reason */
    struct histogram wait;    /* seconds in the queue; 0 for who had not to wait */
    struct histogram transaction;
    struct histogram query;
    int64_t longest_wait_us;   /* since whoever looks last has set it to 0 (advice) */
    uint64_t gone[STAT_COUNT]; /* of lanes that are no more */
};

void tally_add(struct tally *tally, const char *name);
/* How often `name` was counted. */
uint64_t tally_times(const struct tally *tally, const char *name);

/* ---- what happened: one call at each place ---- */

/* The client is of this lane from now on: has its bytes counted there. */
void stats_client_login(struct client *client);
/* The same for one that another process has let in. */
void stats_client_carried(struct client *client);
/* It is closing: its lane has one client less. */
void stats_client_closed(const struct client *client);
/* It has got a backend after this time in the queue. */
void stats_assigned(struct client *client, int64_t waited_us);
/* It has left the queue empty-handed because its time was over. */
void stats_wait_timed_out(struct client *client);
/* A message of this type goes from the client to its backend. */
void stats_message(const struct client *client, uint8_t type);
/* A ReadyForQuery of this status for the client; call before `answered_us` is set.  `expects_more`: its pipeline goes on. */
void stats_answered(struct client *client, char status, bool expects_more);
/* It is tied to its backend for these reasons (enum pin) now and was not before. */
void stats_pinned(const struct client *client, uint32_t fresh);
/* A Parse of ours has been sent. */
void stats_server_parse(const struct server *server);
/* An ErrorResponse of ours. */
void stats_error(const struct client *client, const char *sqlstate);
/* A backend is no more; its reason may be NULL. */
void stats_server_gone(const struct server *server, const char *reason);
static inline void stats_count(uint64_t *totals, int which)
{
    totals[which]++;
}
/* The lane is about to be freed. */
void stats_lane_gone(const struct lane *lane);
/* Begins a new period of the averages when it is time; call it at every tick. */
void stats_tick(struct proxy *proxy);

/* ---- reading ---- */

/* Adds a lane's numbers to a sum. */
void stats_add(struct stats *sum, const struct stats *stats);
/* All lanes of the pool and those that are no more. */
void stats_of_pool(const struct proxy_pool *pool, struct stats *sum);
/* PgBouncer's averages over the last one to two periods: counts and bytes a second, times for each transaction, query or
 * assignment. */
uint64_t stats_average(const struct proxy *proxy, const struct stats *stats, enum lane_stat which);

#endif
