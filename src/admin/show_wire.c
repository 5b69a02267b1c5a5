/*
 * show_wire.c - rows as the PostgreSQL protocol wants them: see show_wire.h.
 *
 * Text is what cells are made of.  A driver that asks for binary results (asyncpg does for every type that it knows) gets
 * them converted here: integers and floats big-endian, numeric in digits of base 10000 (src/backend/utils/adt of
 * PostgreSQL: numeric_send), everything else as its bytes.
 */
#include "admin/show_wire.h"

#include <stdlib.h>
#include <string.h>

#include "proto/build.h"

static const struct {
    uint32_t oid;
    uint16_t size; /* UINT16_MAX is -1: of any length */
} types[] = {
    [SHOW_TEXT] = {25, UINT16_MAX},      [SHOW_INT4] = {23, 4},    [SHOW_INT8] = {20, 8},
    [SHOW_NUMERIC] = {1700, UINT16_MAX}, [SHOW_FLOAT8] = {701, 8}, [SHOW_BOOL] = {16, 1},
    [SHOW_BYTEA] = {17, UINT16_MAX},
};

static bool is_binary(const struct wire_formats *formats, size_t column)
{
    return formats && (formats->all_binary || formats->is_binary[column]);
}

void wire_describe(const struct show_column *columns, const struct wire_formats *formats,
                   struct buffer *out)
{
    uint16_t count = 0;
    while (columns[count].name)
        count++;
    size_t mark = build_begin(out, 'T');
    build_u16(out, count);
    for (uint16_t i = 0; i < count; i++) {
        build_text(out, columns[i].name);
        build_u32(out, 0);
        build_u16(out, 0);
        build_u32(out, types[columns[i].type].oid);
        build_u16(out, types[columns[i].type].size);
        build_u32(out, UINT32_MAX);
        build_u16(out, is_binary(formats, i));
    }
    build_end(out, mark);
}

static void put_u64(struct buffer *out, uint64_t value)
{
    build_u32(out, (uint32_t)(value >> 32));
    build_u32(out, (uint32_t)value);
}

/* A whole number, never negative. */
static void put_numeric(struct buffer *out, uint64_t value)
{
    uint16_t digits[8];
    uint16_t count = 0;
    uint16_t weight = 0;
    for (uint64_t rest = value; rest > 0; rest /= 10000)
        digits[count++] = (uint16_t)(rest % 10000);
    if (count > 0)
        weight = (uint16_t)(count - 1);
    uint16_t last = 0; /* trailing zeroes are not sent */
    while (last < count && digits[last] == 0)
        last++;
    build_u32(out, 8u + 2u * (uint32_t)(count - last));
    build_u16(out, (uint16_t)(count - last));
    build_u16(out, weight);
    build_u16(out, 0); /* positive */
    build_u16(out, 0); /* no decimals */
    for (uint16_t i = count; i > last; i--)
        build_u16(out, digits[i - 1]);
}

static void put_binary(struct buffer *out, enum show_type type, const char *text)
{
    uint64_t bits;
    double real;
    switch (type) {
    case SHOW_INT4:
        build_u32(out, 4);
        build_u32(out, (uint32_t)strtoll(text, NULL, 10));
        break;
    case SHOW_INT8:
        build_u32(out, 8);
        put_u64(out, (uint64_t)strtoll(text, NULL, 10));
        break;
    case SHOW_FLOAT8:
        real = strtod(text, NULL);
        memcpy(&bits, &real, sizeof(bits));
        build_u32(out, 8);
        put_u64(out, bits);
        break;
    case SHOW_BOOL:
        build_u32(out, 1);
        build_u8(out, *text == 't');
        break;
    case SHOW_NUMERIC:
        put_numeric(out, strtoull(text, NULL, 10));
        break;
    case SHOW_TEXT:
    case SHOW_BYTEA:
        build_u32(out, (uint32_t)strlen(text));
        buffer_append(out, text, strlen(text));
        break;
    }
}

void wire_row(const struct show_column *columns, const char *const *cells, size_t count,
              const struct wire_formats *formats, struct buffer *out)
{
    size_t mark = build_begin(out, 'D');
    build_u16(out, (uint16_t)count);
    for (size_t i = 0; i < count; i++) {
        if (!cells[i])
            build_u32(out, UINT32_MAX);
        else
            put_binary(out, is_binary(formats, i) ? columns[i].type : SHOW_TEXT, cells[i]);
    }
    build_end(out, mark);
}
