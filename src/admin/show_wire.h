/*
 * show_wire.h - rows as the PostgreSQL protocol wants them.
 */
#ifndef ADMIN_SHOW_WIRE_H
#define ADMIN_SHOW_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "admin/show.h"
#include "base/buffer.h"

/* Which result columns a Bind asked for in binary: none, all, or by their place. */
struct wire_formats {
    bool is_binary[SHOW_COLUMNS_MAX];
    bool all_binary;
};

/* Appends a RowDescription of the columns (ended by a NULL name). */
void wire_describe(const struct show_column *columns, const struct wire_formats *formats,
                   struct buffer *out);
/* Appends one DataRow.  `formats` NULL: all text. */
void wire_row(const struct show_column *columns, const char *const *cells, size_t count,
              const struct wire_formats *formats, struct buffer *out);

#endif
