/*
 * show.h - each SHOW table once: its columns and a function that makes its rows.
 */
#ifndef ADMIN_SHOW_H
#define ADMIN_SHOW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "proxy/proxy.h"

#define OID_TEXT   25
#define OID_INT4   23
#define OID_INT8   20
#define OID_FLOAT8 701
#define OID_BOOL   16

struct show_column {
    const char *name;
    uint32_t oid;
};

struct show_table {
    const char *name;                  /* "POOLS" */
    const struct show_column *columns; /* ends with a NULL name */
    /* Appends a DataRow for each row and returns how many. */
    int (*rows)(const struct proxy *proxy, struct buffer *out);
};

/* The table of this name (any case), or NULL. */
const struct show_table *show_find(const char *name);
/* Appends its RowDescription. */
void show_describe(const struct show_table *table, struct buffer *out);
/* The names of all tables, for messages and HELP; ends with NULL. */
const char *show_name(size_t index);

#endif
