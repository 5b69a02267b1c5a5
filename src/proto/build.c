/*
 * build.c - protocol messages out: see build.h.
 *
 * A message is begun, filled and ended; only the end knows its length, so it goes back and fills it in.
 * Nothing here knows who reads it.
 */
#include "proto/build.h"

#include <string.h>

#include "base/memory.h"

size_t build_begin(struct buffer *buffer, char type)
{
    build_u8(buffer, (uint8_t)type);
    size_t mark = buffer_length(buffer);
    build_u32(buffer, 0);
    return mark;
}

void build_end(struct buffer *buffer, size_t mark)
{
    uint32_t length = (uint32_t)(buffer_length(buffer) - mark);
    uint8_t *at = buffer_bytes(buffer) + mark;
    at[0] = (uint8_t)(length >> 24);
    at[1] = (uint8_t)(length >> 16);
    at[2] = (uint8_t)(length >> 8);
    at[3] = (uint8_t)length;
}

void build_u8(struct buffer *buffer, uint8_t value)
{
    buffer_append(buffer, &value, 1);
}

void build_u16(struct buffer *buffer, uint16_t value)
{
    uint8_t bytes[2] = {(uint8_t)(value >> 8), (uint8_t)value};
    buffer_append(buffer, bytes, sizeof(bytes));
}

void build_u32(struct buffer *buffer, uint32_t value)
{
    uint8_t bytes[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8),
                        (uint8_t)value};
    buffer_append(buffer, bytes, sizeof(bytes));
}

void build_text(struct buffer *buffer, const char *text)
{
    buffer_append(buffer, text, strlen(text) + 1);
}

static void build_field(struct buffer *buffer, char code, const char *text)
{
    if (!text)
        return;
    build_u8(buffer, (uint8_t)code);
    build_text(buffer, text);
}

void build_error(struct buffer *buffer, char type, const struct error_fields *fields)
{
    size_t mark = build_begin(buffer, type);
    build_field(buffer, 'S', fields->severity);
    build_field(buffer, 'V', fields->severity);
    build_field(buffer, 'C', fields->sqlstate);
    build_field(buffer, 'M', fields->message);
    build_field(buffer, 'D', fields->detail);
    build_field(buffer, 'H', fields->hint);
    build_u8(buffer, 0);
    build_end(buffer, mark);
}

void build_ready(struct buffer *buffer, char transaction_status)
{
    size_t mark = build_begin(buffer, 'Z');
    build_u8(buffer, (uint8_t)transaction_status);
    build_end(buffer, mark);
}

void build_parameter_status(struct buffer *buffer, const char *name, const char *value)
{
    size_t mark = build_begin(buffer, 'S');
    build_text(buffer, name);
    build_text(buffer, value);
    build_end(buffer, mark);
}

void build_authentication(struct buffer *buffer, uint32_t code, const void *data, size_t length)
{
    size_t mark = build_begin(buffer, 'R');
    build_u32(buffer, code);
    buffer_append(buffer, data, length);
    build_end(buffer, mark);
}

void build_query(struct buffer *buffer, const char *sql)
{
    size_t mark = build_begin(buffer, 'Q');
    build_text(buffer, sql);
    build_end(buffer, mark);
}

void build_empty(struct buffer *buffer, char type)
{
    build_end(buffer, build_begin(buffer, type));
}

void build_parse(struct buffer *buffer, const char *name, const char *sql)
{
    size_t mark = build_begin(buffer, 'P');
    build_text(buffer, name);
    build_text(buffer, sql);
    build_u16(buffer, 0);
    build_end(buffer, mark);
}

void build_bind(struct buffer *buffer, const char *name)
{
    size_t mark = build_begin(buffer, 'B');
    build_text(buffer, name); /* of the portal */
    build_text(buffer, name);
    for (int i = 0; i < 3; i++)
        build_u16(buffer, 0); /* no formats, no parameters, text results */
    build_end(buffer, mark);
}

void build_execute(struct buffer *buffer, const char *name)
{
    size_t mark = build_begin(buffer, 'E');
    build_text(buffer, name);
    build_u32(buffer, 0);
    build_end(buffer, mark);
}

void build_close(struct buffer *buffer, char kind, const char *name)
{
    size_t mark = build_begin(buffer, 'C');
    build_u8(buffer, (uint8_t)kind);
    build_text(buffer, name);
    build_end(buffer, mark);
}

void build_command_complete(struct buffer *buffer, const char *tag)
{
    size_t mark = build_begin(buffer, 'C');
    build_text(buffer, tag);
    build_end(buffer, mark);
}

char *build_quote_literal(const char *text)
{
    char *quoted = memory_alloc(2 * strlen(text) + 5);
    char *out = quoted;
    *out++ = ' ';
    *out++ = 'E';
    *out++ = '\'';
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            *out++ = *text;
        *out++ = *text;
    }
    *out++ = '\'';
    *out = '\0';
    return quoted;
}

const char *error_field(const uint8_t *body, size_t length, char code)
{
    size_t at = 0;
    while (at < length && body[at] != 0) {
        const uint8_t *end = memchr(body + at + 1, 0, length - at - 1);
        if (!end)
            return NULL;
        if (body[at] == (uint8_t)code)
            return (const char *)body + at + 1;
        at = (size_t)(end - body) + 1;
    }
    return NULL;
}
