/*
 * show_row.h - inside the SHOW chapters: how a row is filled, and the lists of tables.
 *
 * A row function writes one cell a column, in order, then ends the row; it stops when row_end says so.
 */
#ifndef ADMIN_SHOW_ROW_H
#define ADMIN_SHOW_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "admin/show.h"

#define SHOW_ROW_BYTES 8192

struct show_row {
    const struct show_table *table;
    enum show_privacy allowed;
    show_visitor visitor;
    void *arg;
    bool is_over; /* the visitor wants no more */
    size_t count;
    const char *cells[SHOW_COLUMNS_MAX];
    size_t used;
    char text[SHOW_ROW_BYTES]; /* what was made for this row */
};

/* A text that lives until the row ends; NULL is null. */
void row_text(struct show_row *row, const char *text);
void row_format(struct show_row *row, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void row_number(struct show_row *row, int64_t number);
void row_unsigned(struct show_row *row, uint64_t number);
/* A number, or null below 0. */
void row_natural(struct show_row *row, int64_t number);
/* Microseconds as seconds with three decimals. */
void row_seconds(struct show_row *row, int64_t us);
/* A wall-clock time as `2026-01-31 12:00:00 UTC`; null for 0. */
void row_time(struct show_row *row, int64_t wall_us);
void row_bool(struct show_row *row, bool value);
/* Hands the row out.  False when no more are wanted. */
bool row_end(struct show_row *row);

/* The chapters: each list ends with a NULL name. */
extern const struct show_table show_pool_tables[];
extern const struct show_table show_socket_tables[];
extern const struct show_table show_stats_tables[];
extern const struct show_table show_holder_tables[];
extern const struct show_table show_config_tables[];

/* ---- what several chapters say the same way ---- */

/* A lane's database as clients name it, without the pool: the section's name, or the upstream's under [database:*]. */
const char *lane_database(const struct lane *lane);
const char *lane_user(const struct lane *lane);
/* `database@pool`: how pools are told apart (contract 7). */
void row_lane_name(struct show_row *row, const struct lane *lane);
/* What ties the client to its backend: the names of its pins, "session mode", or "". */
void row_pins(struct show_row *row, const struct client *client);
const char *pool_mode_name(const struct proxy_pool *pool);

/* Every lane, those of one database@pool (and then of one user) side by side; free() it. */
const struct lane **lanes_sorted(const struct proxy *proxy, size_t *count);
bool lanes_same_database(const struct lane *a, const struct lane *b);

#endif
