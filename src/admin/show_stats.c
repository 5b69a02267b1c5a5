/*
 * show_stats.c - the chapter about what has been done: STATS, STATS_TOTALS, STATS_AVERAGES, TOTALS.
 *
 * One row a database@pool, all its users together, as PgBouncer has it; times are microseconds.  Nothing may be added to
 * these tables: monitors read every column as a number (contract 7).
 */
#include "admin/show_row.h"

#include <stdlib.h>

/* The counters that PgBouncer 1.25 shows are the first ones of enum lane_stat, in its order. */
#define SHOWN (STAT_BINDS + 1)

static const struct show_column stats_columns[] = {
    {"database", SHOW_TEXT, SHOW_PUBLIC},
    {"total_server_assignment_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"total_xact_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"total_query_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"total_received", SHOW_NUMERIC, SHOW_PUBLIC},
    {"total_sent", SHOW_NUMERIC, SHOW_PUBLIC},
    {"total_xact_time", SHOW_NUMERIC, SHOW_PUBLIC},
    {"total_query_time", SHOW_NUMERIC, SHOW_PUBLIC},
    {"total_wait_time", SHOW_NUMERIC, SHOW_PUBLIC},
    {"total_client_parse_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"total_server_parse_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"total_bind_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"avg_server_assignment_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"avg_xact_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"avg_query_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"avg_recv", SHOW_NUMERIC, SHOW_PUBLIC},
    {"avg_sent", SHOW_NUMERIC, SHOW_PUBLIC},
    {"avg_xact_time", SHOW_NUMERIC, SHOW_PUBLIC},
    {"avg_query_time", SHOW_NUMERIC, SHOW_PUBLIC},
    {"avg_wait_time", SHOW_NUMERIC, SHOW_PUBLIC},
    {"avg_client_parse_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"avg_server_parse_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"avg_bind_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

static const struct show_column total_columns[] = {
    {"database", SHOW_TEXT, SHOW_PUBLIC},
    {"server_assignment_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"xact_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"query_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"bytes_received", SHOW_NUMERIC, SHOW_PUBLIC},
    {"bytes_sent", SHOW_NUMERIC, SHOW_PUBLIC},
    {"xact_time", SHOW_NUMERIC, SHOW_PUBLIC},
    {"query_time", SHOW_NUMERIC, SHOW_PUBLIC},
    {"wait_time", SHOW_NUMERIC, SHOW_PUBLIC},
    {"client_parse_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"server_parse_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"bind_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

static const struct show_column average_columns[] = {
    {"database", SHOW_TEXT, SHOW_PUBLIC},
    {"server_assignment_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"xact_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"query_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"bytes_received", SHOW_NUMERIC, SHOW_PUBLIC},
    {"bytes_sent", SHOW_NUMERIC, SHOW_PUBLIC},
    {"xact_time", SHOW_NUMERIC, SHOW_PUBLIC},
    {"query_time", SHOW_NUMERIC, SHOW_PUBLIC},
    {"wait_time", SHOW_NUMERIC, SHOW_PUBLIC},
    {"avg_client_parse_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"avg_server_parse_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {"avg_bind_count", SHOW_NUMERIC, SHOW_PUBLIC},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

/* What follows the name in a row. */
typedef void (*put_numbers)(const struct proxy *proxy, struct show_row *row,
                            const struct stats *stats);

static void put_totals(const struct proxy *proxy, struct show_row *row, const struct stats *stats)
{
    (void)proxy;
    for (int i = 0; i < SHOWN; i++)
        row_unsigned(row, stats->total[i]);
}

static void put_averages(const struct proxy *proxy, struct show_row *row, const struct stats *stats)
{
    for (int i = 0; i < SHOWN; i++)
        row_unsigned(row, stats_average(proxy, stats, (enum lane_stat)i));
}

static void put_both(const struct proxy *proxy, struct show_row *row, const struct stats *stats)
{
    put_totals(proxy, row, stats);
    put_averages(proxy, row, stats);
}

/* A row for each database@pool, and the console's own. */
static void each_database(const struct proxy *proxy, struct show_row *row, put_numbers put)
{
    size_t count;
    const struct lane **lanes = lanes_sorted(proxy, &count);
    for (size_t i = 0, next; i < count; i = next) {
        struct stats sum = {0};
        for (next = i; next < count && lanes_same_database(lanes[i], lanes[next]); next++)
            stats_add(&sum, &lanes[next]->stats);
        row_lane_name(row, lanes[i]);
        put(proxy, row, &sum);
        if (!row_end(row))
            break;
    }
    free(lanes);
    row_text(row, "pgbouncer");
    put(proxy, row, &proxy->console_stats);
    row_end(row);
}

static void stats_rows(const struct proxy *proxy, struct show_row *row)
{
    each_database(proxy, row, put_both);
}

static void total_rows(const struct proxy *proxy, struct show_row *row)
{
    each_database(proxy, row, put_totals);
}

static void average_rows(const struct proxy *proxy, struct show_row *row)
{
    each_database(proxy, row, put_averages);
}

/* ---- TOTALS ---- */

static const struct show_column sum_columns[] = {
    {"name", SHOW_TEXT, SHOW_PUBLIC},
    {"value", SHOW_NUMERIC, SHOW_PUBLIC},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

static void sum_rows(const struct proxy *proxy, struct show_row *row)
{
    static const char *const names[SHOWN] = {"server_assignment_count",
                                             "xact_count",
                                             "query_count",
                                             "client_bytes",
                                             "server_bytes",
                                             "xact_time",
                                             "query_time",
                                             "wait_time",
                                             "client_parse_count",
                                             "server_parse_count",
                                             "bind_count"};
    struct stats sum = proxy->console_stats;
    for (size_t i = 0; i < proxy->pool_count; i++) {
        struct stats pool;
        stats_of_pool(proxy->pools[i], &pool);
        stats_add(&sum, &pool);
    }
    for (int average = 0; average < 2; average++) {
        for (int i = 0; i < SHOWN; i++) {
            row_format(row, "%s_%s", average ? "avg" : "total", names[i]);
            row_unsigned(row,
                         average ? stats_average(proxy, &sum, (enum lane_stat)i) : sum.total[i]);
            if (!row_end(row))
                return;
        }
    }
}

const struct show_table show_stats_tables[] = {
    {"STATS", stats_columns, stats_rows, NULL},
    {"STATS_TOTALS", total_columns, total_rows, NULL},
    {"STATS_AVERAGES", average_columns, average_rows, NULL},
    {"TOTALS", sum_columns, sum_rows, NULL},
    {NULL, NULL, NULL, NULL},
};
