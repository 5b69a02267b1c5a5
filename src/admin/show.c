/*
 * show.c - the list of SHOW tables: see show.h.
 *
 * The tables stand in chapters of their own: show_pools.c, show_sockets.c, show_stats.c, show_holders.c,
 * show_config.c.  Columns, their order and their types are PgBouncer 1.25.2's where it has the table; columns of our
 * own stand last.  Pools are told apart in the database column, `postgres@automation`, because exporters refuse rows
 * that look the same.
 */
#include "admin/show.h"

#include <strings.h>

#include "admin/show_row.h"

static const struct show_table *const chapters[] = {show_pool_tables, show_socket_tables,
                                                    show_stats_tables, show_holder_tables,
                                                    show_config_tables};

const struct show_table *show_at(size_t index)
{
    for (size_t i = 0; i < sizeof(chapters) / sizeof(chapters[0]); i++) {
        for (const struct show_table *table = chapters[i]; table->name; table++) {
            if (index-- == 0)
                return table;
        }
    }
    return NULL;
}

const struct show_table *show_find(const char *name)
{
    const struct show_table *table;
    for (size_t i = 0; (table = show_at(i)); i++) {
        if (strcasecmp(table->name, name) == 0)
            return table;
    }
    return NULL;
}

size_t show_column_count(const struct show_table *table)
{
    size_t count = 0;
    while (table->columns[count].name)
        count++;
    return count;
}

void show_walk(const struct show_table *table, const struct proxy *proxy, enum show_privacy allowed,
               show_visitor visitor, void *arg)
{
    struct show_row row;
    row.table = table;
    row.allowed = allowed;
    row.visitor = visitor;
    row.arg = arg;
    row.is_over = false;
    row.count = 0;
    row.used = 0;
    table->rows(proxy, &row);
}
