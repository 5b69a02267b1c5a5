/*
 * show.h - each SHOW table once: its columns and a function that makes its rows.
 *
 * A table knows nothing of who reads it: show_walk() hands out rows as texts, and the console sends them over the
 * PostgreSQL protocol (show_wire.h), HTTP as JSON, the page as it likes.  A column may be private: whoever walks
 * says what the reader may see, and gets NULL for the rest.
 */
#ifndef ADMIN_SHOW_H
#define ADMIN_SHOW_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/proxy.h"

#define SHOW_COLUMNS_MAX 48

enum show_type {
    SHOW_TEXT,
    SHOW_INT4,
    SHOW_INT8,
    SHOW_NUMERIC, /* whole numbers that may exceed int8 */
    SHOW_FLOAT8,
    SHOW_BOOL, /* "t" or "f" */
    SHOW_BYTEA
};

/* What a reader may see; each level holds the ones before it. */
enum show_privacy {
    SHOW_PUBLIC,
    SHOW_ADDRESSES, /* where clients and servers are */
    SHOW_QUERIES    /* statement texts */
};

struct show_column {
    const char *name;
    enum show_type type;
    enum show_privacy privacy;
};

struct show_row;

struct show_table {
    const char *name;                  /* "POOLS" */
    const struct show_column *columns; /* ends with a NULL name */
    /* Fills `row` and ends it, once for each row (show_row.h). */
    void (*rows)(const struct proxy *proxy, struct show_row *row);
    const char *help; /* a line about it; NULL for PgBouncer's own, whose users know them */
};

/* One row: cells[i] belongs to columns[i], NULL is null; they live until the visitor returns.  False: no more rows. */
typedef bool (*show_visitor)(void *arg, const char *const *cells, size_t count);

/* The table of this name (any case), or NULL. */
const struct show_table *show_find(const char *name);
/* All tables, one by one; NULL after the last. */
const struct show_table *show_at(size_t index);
size_t show_column_count(const struct show_table *table);
/* Calls the visitor for each row.  Asks no upstream and changes nothing. */
void show_walk(const struct show_table *table, const struct proxy *proxy, enum show_privacy allowed,
               show_visitor visitor, void *arg);

#endif
