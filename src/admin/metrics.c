/*
 * metrics.c - /metrics: see metrics.h.
 *
 * Each family is declared once, in a table: its name, its type, what it means, the function that writes its samples and
 * where that finds the number.  Adding one is adding a line.  Names begin with pgreserve_ and count in base units; the
 * process_ ones are those that every Prometheus client library gives.
 *
 * What a pool has done stands under pgreserve_pool_*, what was done for one database and user in it under
 * pgreserve_database_*.  The former includes databases that a reload has dropped, so it never goes down.
 */
#include "admin/metrics.h"

#include <stdlib.h>
#include <string.h>

#include "admin/metrics_text.h"
#include "admin/slots.h"
#include "admin/status.h"
#include "base/memory.h"
#include "base/process.h"
#include "policy/pin.h"
#include "proxy/control.h"

#define GAUGE     "gauge"
#define COUNTER   "counter"
#define HISTOGRAM "histogram"

/* What is read once for all families. */
struct reading {
    const struct proxy *proxy;
    struct buffer *out;
    struct slots slots;
    struct status_figures figures[BUDGET_POOLS_MAX];
    struct stats stats[BUDGET_POOLS_MAX]; /* by pool index */
    struct process_figures process;
};

struct family {
    const char *name;
    const char *type;
    const char *help;
    void (*write)(const struct reading *reading, const struct family *family);
    size_t which; /* an offset or an enum: what `write` makes of it */
};

static struct metrics_labels pool_labels(const struct proxy_pool *pool)
{
    return (struct metrics_labels){.items = {{"pool", pool->name}}, .count = 1};
}

static struct metrics_labels pool_labels_and(const struct proxy_pool *pool, const char *name,
                                             const char *value)
{
    return (struct metrics_labels){.items = {{"pool", pool->name}, {name, value}}, .count = 2};
}

/* The pools that the configuration has, one after the other: NULL after the last. */
static const struct proxy_pool *next_pool(const struct proxy *proxy, size_t *i)
{
    while (*i < proxy->pool_count) {
        const struct proxy_pool *pool = proxy->pools[(*i)++];
        if (pool->config)
            return pool;
    }
    return NULL;
}

#define EACH_POOL(reading, pool)                                                                   \
    size_t each_ = 0;                                                                              \
    for (const struct proxy_pool *pool = next_pool((reading)->proxy, &each_); pool;                \
         pool = next_pool((reading)->proxy, &each_))

/* ---- of a pool now ---- */

/* An int in struct status_figures, at offset `which`. */
static void write_figure(const struct reading *reading, const struct family *family)
{
    EACH_POOL (reading, pool) {
        struct metrics_labels labels = pool_labels(pool);
        const char *figures = (const char *)&reading->figures[pool->index];
        int value;
        memcpy(&value, figures + family->which, sizeof(value));
        metrics_text_number(reading->out, family->name, &labels, value);
    }
}

/* A double there. */
static void write_seconds(const struct reading *reading, const struct family *family)
{
    EACH_POOL (reading, pool) {
        struct metrics_labels labels = pool_labels(pool);
        const char *figures = (const char *)&reading->figures[pool->index];
        double value;
        memcpy(&value, figures + family->which, sizeof(value));
        metrics_text_number(reading->out, family->name, &labels, value);
    }
}

static void write_slots(const struct reading *reading, const struct family *family)
{
    EACH_POOL (reading, pool) {
        for (int i = 0; i < SLOT_COUNT; i++) {
            struct metrics_labels labels = pool_labels_and(pool, "state", slot_name((enum slot)i));
            metrics_text_number(reading->out, family->name, &labels,
                                reading->slots.of_pool[pool->index][i]);
        }
    }
}

static void write_state(const struct reading *reading, const struct family *family)
{
    EACH_POOL (reading, pool) {
        enum health now = reading->figures[pool->index].health;
        for (enum health i = HEALTH_HEALTHY; i <= HEALTH_DOWN; i++) {
            struct metrics_labels labels = pool_labels_and(pool, "state", status_health_name(i));
            metrics_text_count(reading->out, family->name, &labels, i == now);
        }
    }
}

static void write_is_healthy(const struct reading *reading, const struct family *family)
{
    EACH_POOL (reading, pool) {
        struct metrics_labels labels = pool_labels(pool);
        metrics_text_count(reading->out, family->name, &labels,
                           reading->figures[pool->index].is_healthy);
    }
}

static void write_is_paused(const struct reading *reading, const struct family *family)
{
    EACH_POOL (reading, pool) {
        struct metrics_labels labels = pool_labels(pool);
        metrics_text_count(reading->out, family->name, &labels, control_pool_is_paused(pool));
    }
}

static void write_ceiling(const struct reading *reading, const struct family *family)
{
    EACH_POOL (reading, pool) {
        struct metrics_labels labels = pool_labels(pool);
        metrics_text_number(reading->out, family->name, &labels, (double)pool->ceiling);
    }
}

static void write_timeout(const struct reading *reading, const struct family *family)
{
    EACH_POOL (reading, pool) {
        struct metrics_labels labels = pool_labels(pool);
        metrics_text_number(reading->out, family->name, &labels,
                            (double)pool->config->timeout_us / (double)CLOCK_S);
    }
}

/* ---- what a pool has done ---- */

/* enum pool_stat `which`. */
static void write_pool_stat(const struct reading *reading, const struct family *family)
{
    EACH_POOL (reading, pool) {
        struct metrics_labels labels = pool_labels(pool);
        metrics_text_count(reading->out, family->name, &labels, pool->stats.total[family->which]);
    }
}

static void write_pins(const struct reading *reading, const struct family *family)
{
    EACH_POOL (reading, pool) {
        for (int i = 0; i < PIN_COUNT; i++) {
            struct metrics_labels labels = pool_labels_and(pool, "reason", pin_name((enum pin)i));
            metrics_text_count(reading->out, family->name, &labels, pool->stats.pins[i]);
        }
    }
}

static void write_tally(const struct reading *reading, const struct family *family,
                        const struct proxy_pool *pool, const struct tally *tally, const char *label)
{
    for (size_t i = 0; i < tally->count; i++) {
        struct metrics_labels labels = pool_labels_and(pool, label, tally->items[i].name);
        metrics_text_count(reading->out, family->name, &labels, tally->items[i].times);
    }
}

static void write_errors(const struct reading *reading, const struct family *family)
{
    EACH_POOL (reading, pool)
        write_tally(reading, family, pool, &pool->stats.errors, "sqlstate");
}

static void write_closes(const struct reading *reading, const struct family *family)
{
    EACH_POOL (reading, pool)
        write_tally(reading, family, pool, &pool->stats.closes, "reason");
}

/* A struct histogram in struct pool_stats, at offset `which`. */
static void write_histogram(const struct reading *reading, const struct family *family)
{
    EACH_POOL (reading, pool) {
        struct metrics_labels labels = pool_labels(pool);
        const char *stats = (const char *)&pool->stats;
        metrics_text_histogram(reading->out, family->name, &labels,
                               (const struct histogram *)(stats + family->which));
    }
}

/* ---- of the whole ---- */

static const struct metrics_labels no_labels = {.count = 0};

static void write_info(const struct reading *reading, const struct family *family)
{
    struct metrics_labels labels = {.items = {{"version", PGRESERVE_VERSION}}, .count = 1};
    metrics_text_count(reading->out, family->name, &labels, 1);
}

enum whole {
    WHOLE_LIMIT,
    WHOLE_OPEN,
    WHOLE_FREE,
    WHOLE_CLIENTS,
    WHOLE_CLIENTS_LIMIT,
    WHOLE_GATHERED,
    WHOLE_CPU,
    WHOLE_RESIDENT,
    WHOLE_VIRTUAL,
    WHOLE_OPEN_FDS,
    WHOLE_MAX_FDS,
    WHOLE_STARTED
};

static double whole_value(const struct reading *reading, enum whole which)
{
    const struct proxy *proxy = reading->proxy;
    switch (which) {
    case WHOLE_LIMIT:
        return proxy->budget.total;
    case WHOLE_OPEN:
        return budget_open(&proxy->budget);
    case WHOLE_FREE:
        return reading->slots.free;
    case WHOLE_CLIENTS:
        return proxy->client_count;
    case WHOLE_CLIENTS_LIMIT:
        return proxy->config->max_clients;
    case WHOLE_GATHERED:
        return (double)proxy->gather.rested_us / (double)CLOCK_S;
    case WHOLE_CPU:
        return reading->process.cpu_seconds;
    case WHOLE_RESIDENT:
        return (double)reading->process.resident_bytes;
    case WHOLE_VIRTUAL:
        return (double)reading->process.virtual_bytes;
    case WHOLE_OPEN_FDS:
        return (double)reading->process.open_fds;
    case WHOLE_MAX_FDS:
        return (double)reading->process.max_fds;
    case WHOLE_STARTED:
        return (double)proxy->started_wall_us / (double)CLOCK_S;
    }
    return 0;
}

static void write_whole(const struct reading *reading, const struct family *family)
{
    metrics_text_number(reading->out, family->name, &no_labels,
                        whole_value(reading, (enum whole)family->which));
}

/* ---- the tables ---- */

#define FIGURE(field)    write_figure, offsetof(struct status_figures, field)
#define SECONDS(field)   write_seconds, offsetof(struct status_figures, field)
#define DISTRIBUTION(of) write_histogram, offsetof(struct pool_stats, of)

static const struct family families[] = {
    {"pgreserve_info", GAUGE, "Always 1; the version is a label.", write_info, 0},
    {"pgreserve_connections_limit", GAUGE, "The hard cap: total_connections.", write_whole,
     WHOLE_LIMIT},
    {"pgreserve_connections_open", GAUGE,
     "Upstream connections that the server may count, attempts and closing ones included.",
     write_whole, WHOLE_OPEN},
    {"pgreserve_connections_free", GAUGE,
     "Places of the cap that are neither open nor reserved for a pool.", write_whole, WHOLE_FREE},
    {"pgreserve_clients", GAUGE, "Clients connected, to the console too.", write_whole,
     WHOLE_CLIENTS},
    {"pgreserve_clients_limit", GAUGE, "max_clients.", write_whole, WHOLE_CLIENTS_LIMIT},
    {"pgreserve_gather_seconds_total", COUNTER,
     "Time for which messages have been left lying, to be dealt with together.", write_whole,
     WHOLE_GATHERED},

    {"pgreserve_pool_in_use", GAUGE, "Connections that clients have.", FIGURE(in_use)},
    {"pgreserve_pool_available", GAUGE, "Connections open and ready.", FIGURE(available)},
    {"pgreserve_pool_overflow", GAUGE, "Connections open beyond size.", FIGURE(overflow)},
    {"pgreserve_pool_possible", GAUGE, "The pool's limit: size + max_overflow.",
     FIGURE(total_possible)},
    {"pgreserve_pool_reserved", GAUGE, "Connections that no other pool may use.", FIGURE(reserved)},
    {"pgreserve_pool_waiting", GAUGE, "Clients that wait for a connection.", FIGURE(waiting)},
    {"pgreserve_pool_pinned", GAUGE, "Connections that session state ties to a client.",
     FIGURE(pinned)},
    {"pgreserve_pool_closing", GAUGE, "Connections told to go that the server may still count.",
     FIGURE(closing)},
    {"pgreserve_pool_clients", GAUGE, "Clients of the pool.", FIGURE(clients)},
    {"pgreserve_pool_longest_wait_seconds", GAUGE, "How long the first in the queue has waited.",
     SECONDS(longest_wait)},
    {"pgreserve_pool_longest_hold_seconds", GAUGE,
     "How long the longest holder has had its connection.", SECONDS(longest_hold)},
    {"pgreserve_pool_timeout_seconds", GAUGE, "The longest that a client may wait.", write_timeout,
     0},
    {"pgreserve_pool_healthy", GAUGE, "1 while every reserved connection is free or in use here.",
     write_is_healthy, 0},
    {"pgreserve_pool_paused", GAUGE, "1 while the pool is paused.", write_is_paused, 0},
    {"pgreserve_pool_state", GAUGE, "1 for the state that the pool is in, 0 for the others.",
     write_state, 0},
    {"pgreserve_pool_slots", GAUGE, "The pool's places in the cap by what they are doing.",
     write_slots, 0},
    {"pgreserve_pool_upstream_ceiling", GAUGE,
     "Connections open when the upstream last said that it is full; -1: it never did.",
     write_ceiling, 0},

    {"pgreserve_pool_timeouts_total", COUNTER, "Clients told that no connection came in time.",
     write_pool_stat, POOL_STAT_TIMEOUTS},
    {"pgreserve_pool_upstream_logins_total", COUNTER, "Upstream logins that succeeded.",
     write_pool_stat, POOL_STAT_LOGINS},
    {"pgreserve_pool_upstream_login_failures_total", COUNTER, "Upstream logins that failed.",
     write_pool_stat, POOL_STAT_LOGIN_FAILURES},
    {"pgreserve_pool_pings_total", COUNTER, "Pings of free connections.", write_pool_stat,
     POOL_STAT_PINGS},
    {"pgreserve_pool_ping_failures_total", COUNTER, "Pings that found a dead connection.",
     write_pool_stat, POOL_STAT_PING_FAILURES},
    {"pgreserve_pool_recycles_total", COUNTER, "Connections replaced because of their age.",
     write_pool_stat, POOL_STAT_RECYCLES},
    {"pgreserve_pool_cancel_requests_total", COUNTER, "Cancel requests of clients.",
     write_pool_stat, POOL_STAT_CANCEL_REQUESTS},
    {"pgreserve_pool_cancels_total", COUNTER, "Cancels sent upstream, for whatever reason.",
     write_pool_stat, POOL_STAT_CANCELS},
    {"pgreserve_pool_leak_warnings_total", COUNTER, "Connections held longer than leak_warning.",
     write_pool_stat, POOL_STAT_LEAK_WARNINGS},
    {"pgreserve_pool_pins_total", COUNTER, "Times that a client was pinned, by reason.", write_pins,
     0},
    {"pgreserve_pool_errors_total", COUNTER, "Errors that pgreserve itself raised, by SQLSTATE.",
     write_errors, 0},
    {"pgreserve_pool_closes_total", COUNTER, "Upstream connections that ended, by reason.",
     write_closes, 0},

    {"pgreserve_pool_wait_seconds", HISTOGRAM,
     "Time that clients waited for a connection; 0 for who had not to.", DISTRIBUTION(wait)},
    {"pgreserve_pool_transaction_seconds", HISTOGRAM,
     "Time of transactions, without the wait before.", DISTRIBUTION(transaction)},
    {"pgreserve_pool_query_seconds", HISTOGRAM, "Time of queries, without the wait before.",
     DISTRIBUTION(query)},

    {"pgreserve_process_cpu_seconds_total", COUNTER, "User and system CPU time.", write_whole,
     WHOLE_CPU},
    {"pgreserve_process_resident_memory_bytes", GAUGE, "Resident memory.", write_whole,
     WHOLE_RESIDENT},
    {"pgreserve_process_virtual_memory_bytes", GAUGE, "Virtual memory.", write_whole,
     WHOLE_VIRTUAL},
    {"pgreserve_process_open_fds", GAUGE, "Open file descriptors.", write_whole, WHOLE_OPEN_FDS},
    {"pgreserve_process_max_fds", GAUGE, "The limit of open file descriptors.", write_whole,
     WHOLE_MAX_FDS},
    {"pgreserve_process_start_time_seconds", GAUGE, "When the process started, seconds since 1970.",
     write_whole, WHOLE_STARTED},
};

/* What is counted for each database is counted for its pool too: both families come from one line.  Times of a pool are
 * the sums of its histograms already. */
static const struct {
    const char *name;
    const char *help;
    bool is_time; /* kept in microseconds, shown in seconds */
} work[STAT_COUNT] = {
    [STAT_ASSIGNMENTS] = {"assignments_total", "Times that a client got a connection.", false},
    [STAT_TRANSACTIONS] = {"transactions_total", "Transactions.", false},
    [STAT_QUERIES] = {"queries_total", "Queries.", false},
    [STAT_RECEIVED] = {"received_bytes_total", "Bytes from clients.", false},
    [STAT_SENT] = {"sent_bytes_total", "Bytes to clients.", false},
    [STAT_TRANSACTION_US] = {"transactions_duration_seconds_total", "Time in transactions.", true},
    [STAT_QUERY_US] = {"queries_duration_seconds_total", "Time in queries.", true},
    [STAT_WAIT_US] = {"clients_wait_seconds_total", "Time that clients waited.", true},
    [STAT_CLIENT_PARSES] = {"client_parses_total", "Parse messages from clients.", false},
    [STAT_SERVER_PARSES] = {"server_parses_total", "Parse messages sent upstream.", false},
    [STAT_BINDS] = {"binds_total", "Bind messages from clients.", false},
    [STAT_CLIENT_LOGINS] = {"client_logins_total", "Clients' logins.", false},
};

static void write_work(const struct reading *reading, const char *name,
                       const struct metrics_labels *labels, const struct stats *stats,
                       enum lane_stat which)
{
    if (work[which].is_time)
        metrics_text_number(reading->out, name, labels,
                            (double)stats->total[which] / (double)CLOCK_S);
    else
        metrics_text_count(reading->out, name, labels, stats->total[which]);
}

static void write_work_of_pools(const struct reading *reading, enum lane_stat which)
{
    char name[80];
    if (work[which].is_time)
        return;
    snprintf(name, sizeof(name), "pgreserve_pool_%s", work[which].name);
    metrics_text_family(reading->out, name, COUNTER, work[which].help);
    EACH_POOL (reading, pool) {
        struct metrics_labels labels = pool_labels(pool);
        write_work(reading, name, &labels, &reading->stats[pool->index], which);
    }
}

static void write_work_of_databases(const struct reading *reading, enum lane_stat which)
{
    char name[80];
    snprintf(name, sizeof(name), "pgreserve_database_%s", work[which].name);
    metrics_text_family(reading->out, name, COUNTER, work[which].help);
    for (const struct lane *lane = reading->proxy->lanes; lane; lane = lane->hh.next) {
        struct metrics_labels labels = {.items = {{"pool", lane->pool->name},
                                                  {"database", lane->database},
                                                  {"user", lane->user ? lane->user : ""},
                                                  {"section", lane->section}},
                                        .count = 4};
        write_work(reading, name, &labels, &lane->stats, which);
    }
}

static struct reading *read_all(const struct proxy *proxy, struct buffer *out)
{
    struct reading *reading = memory_alloc(sizeof(*reading));
    reading->proxy = proxy;
    reading->out = out;
    slots_count(proxy, &reading->slots);
    process_figures_read(&reading->process);
    for (size_t i = 0; i < proxy->pool_count; i++) {
        status_of_pool(proxy->pools[i], &reading->figures[i]);
        stats_of_pool(proxy->pools[i], &reading->stats[i]);
    }
    return reading;
}

char *metrics_text(const struct proxy *proxy)
{
    struct buffer out = {0};
    struct reading *reading = read_all(proxy, &out);
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        metrics_text_family(&out, families[i].name, families[i].type, families[i].help);
        families[i].write(reading, &families[i]);
    }
    for (int i = 0; i < STAT_COUNT; i++) {
        write_work_of_pools(reading, (enum lane_stat)i);
        write_work_of_databases(reading, (enum lane_stat)i);
    }
    char *text = memory_strndup((const char *)buffer_bytes(&out), buffer_length(&out));
    buffer_free(&out);
    free(reading);
    return text;
}
