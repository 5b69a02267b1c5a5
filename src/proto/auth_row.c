/*
 * auth_row.c - the answer to auth_query: see auth_row.h.
 */
#include "proto/auth_row.h"

#include <string.h>

#include "proto/build.h"

#define COLUMN_REST   18     /* of a RowDescription's column, behind its name */
#define FIRST_OWN_OID 16384u /* types that are not PostgreSQL's own: citext is one */
#define NULL_LENGTH   0xffffffffu

void auth_row_question(struct buffer *message, const char *sql, const char *name)
{
    size_t mark = build_begin(message, 'P');
    build_text(message, "");
    build_text(message, sql);
    build_u16(message, 0); /* the parameter's type is what the query makes of it, as in PgBouncer */
    build_end(message, mark);
    mark = build_begin(message, 'B');
    build_text(message, "");
    build_text(message, "");
    build_u16(message, 0); /* all in text */
    build_u16(message, 1);
    build_u32(message, (uint32_t)strlen(name));
    buffer_append(message, name, strlen(name));
    build_u16(message, 0);
    build_end(message, mark);
    mark = build_begin(message, 'D');
    build_u8(message, 'P');
    build_text(message, "");
    build_end(message, mark);
    mark = build_begin(message, 'E');
    build_text(message, "");
    build_u32(message, 2); /* one too many is enough to know */
    build_end(message, mark);
    build_empty(message, 'S');
}

static bool is_text(uint32_t type)
{
    static const uint32_t types[] = {19, 25, 705, 1042,
                                     1043}; /* name, text, unknown, char, varchar */
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (types[i] == type)
            return true;
    }
    return type >= FIRST_OWN_OID;
}

const char *auth_row_columns(const uint8_t *body, size_t length)
{
    size_t at = 2;
    if (length < 2 || read_u16(body) != 2)
        return "it does not give two columns, a name and a password";
    for (int i = 0; i < 2; i++) {
        const uint8_t *end = memchr(body + at, 0, length - at);
        if (!end || length - (size_t)(end + 1 - body) < COLUMN_REST)
            return "its columns cannot be read";
        at = (size_t)(end + 1 - body);
        if (!is_text(read_u32(body + at + 6)) || read_u16(body + at + 16) != 0)
            return "its columns, a name and a password, are not both text";
        at += COLUMN_REST;
    }
    return NULL;
}

/* The value at `*at`: false when it is not there in whole; `*value` is NULL for a null. */
static bool take_value(const uint8_t *body, size_t length, size_t *at, const uint8_t **value,
                       size_t *value_bytes)
{
    if (length - *at < 4)
        return false;
    uint32_t bytes = read_u32(body + *at);
    *at += 4;
    *value = NULL;
    *value_bytes = 0;
    if (bytes == NULL_LENGTH)
        return true;
    if (bytes > length - *at)
        return false;
    *value = body + *at;
    *value_bytes = bytes;
    *at += bytes;
    return memchr(*value, 0, bytes) == NULL;
}

enum auth_row_kind auth_row_take(const uint8_t *body, size_t length, const char *name,
                                 char secret[AUTH_ROW_SECRET_MAX + 1])
{
    size_t at = 2;
    const uint8_t *first;
    const uint8_t *second;
    size_t first_bytes;
    size_t second_bytes;
    if (length < 2 || read_u16(body) != 2 || !take_value(body, length, &at, &first, &first_bytes) ||
        !take_value(body, length, &at, &second, &second_bytes) || at != length ||
        second_bytes > AUTH_ROW_SECRET_MAX)
        return AUTH_ROW_BAD;
    if (!first || first_bytes != strlen(name) || memcmp(first, name, first_bytes) != 0)
        return AUTH_ROW_OTHER;
    if (!second || second_bytes == 0)
        return AUTH_ROW_NULL;
    memcpy(secret, second, second_bytes);
    secret[second_bytes] = '\0';
    return AUTH_ROW_SECRET;
}
