/*
 * build.h - protocol messages, written into a buffer (protocol 55.7).
 */
#ifndef PROTO_BUILD_H
#define PROTO_BUILD_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/* Begins a message of this type; returns a mark for build_end, which fills the length in. */
size_t build_begin(struct buffer *buffer, char type);
void build_end(struct buffer *buffer, size_t mark);
void build_u8(struct buffer *buffer, uint8_t value);
void build_u16(struct buffer *buffer, uint16_t value);
void build_u32(struct buffer *buffer, uint32_t value);
void build_text(struct buffer *buffer, const char *text); /* with its terminating zero */

/* What an ErrorResponse or NoticeResponse says; detail and hint may be NULL. */
struct error_fields {
    const char *severity; /* "ERROR", "FATAL", "NOTICE", ... */
    const char *sqlstate;
    const char *message;
    const char *detail;
    const char *hint;
};
/* type 'E' or 'N' */
void build_error(struct buffer *buffer, char type, const struct error_fields *fields);
void build_ready(struct buffer *buffer, char transaction_status);
void build_parameter_status(struct buffer *buffer, const char *name, const char *value);
void build_authentication(struct buffer *buffer, uint32_t code, const void *data, size_t length);
/* A simple Query message. */
void build_query(struct buffer *buffer, const char *sql);
/* The messages that run a statement of ours beside others: Parse of a text without parameters; Bind of the statement of that name to a
 * portal of the same, with text results; Execute of the portal, all of it; Close of either, `kind` P or S. */
void build_parse(struct buffer *buffer, const char *name, const char *sql);
void build_bind(struct buffer *buffer, const char *name);
void build_execute(struct buffer *buffer, const char *name);
void build_close(struct buffer *buffer, char kind, const char *name);
/* A message of a type without a body: Sync, Flush, Terminate, CopyDone ... */
void build_empty(struct buffer *buffer, char type);
void build_command_complete(struct buffer *buffer, const char *tag);

/* A string literal that means the same under every standard_conforming_strings: E'...'.  free() it. */
char *build_quote_literal(const char *text);

/* Reads a big-endian number; the caller has checked that the bytes are there. */
static inline uint32_t read_u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}
static inline uint16_t read_u16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

/* Finds a field ('C' SQLSTATE, 'M' message, 'S' severity, ...) in the body of an Error- or
 * NoticeResponse; NULL when it is missing or runs over the end. */
const char *error_field(const uint8_t *body, size_t length, char code);

#endif
