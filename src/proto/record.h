/*
 * record.h - what one process tells another of our kind: tagged fields with lengths.
 *
 * An upgrade hands clients from one version of pgreserve to another (proxy/carry.h), so the other side is neither a stranger
 * nor quite ourselves: every length is checked, and a field that is not known is left to the caller to judge.  A field is
 * its tag (2 bytes), its length (4 bytes) and its bytes, in network order; a field may hold a record.
 *
 * Pure: no I/O, no clock.
 */
#ifndef PROTO_RECORD_H
#define PROTO_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/* ---- writing ---- */

void record_put_bytes(struct buffer *record, uint16_t tag, const void *bytes, size_t length);
/* Nothing for NULL. */
void record_put_text(struct buffer *record, uint16_t tag, const char *text);
void record_put_number(struct buffer *record, uint16_t tag, int64_t number);
/* Puts the inner record into this one and frees it. */
void record_put_record(struct buffer *record, uint16_t tag, struct buffer *inner);

/* A record of two texts, a name and its value. */
void record_put_pair(struct buffer *record, uint16_t tag, uint16_t name_tag, const char *name,
                     uint16_t value_tag, const char *value);

/* ---- reading ---- */

struct record_field {
    uint16_t tag;
    const uint8_t *bytes;
    size_t length;
};

struct record_reader {
    const uint8_t *at;
    size_t left;
    bool is_malformed; /* a field reached beyond the end, or had not the form that was asked for */
};

void record_read(struct record_reader *reader, const void *bytes, size_t length);
/* The next field; false at the end, or when what follows is malformed. */
bool record_next(struct record_reader *reader, struct record_field *field);
/* The field as a number; 0 when it is not one, and the reader is malformed then. */
int64_t record_number(struct record_reader *reader, const struct record_field *field);
/* A number from `min` to `max`; `min` when it is not, and the reader is malformed then. */
int64_t record_number_within(struct record_reader *reader, const struct record_field *field,
                             int64_t min, int64_t max);
/* A copy of the field as text, to be freed; NULL when there is a zero byte in it, and the reader is malformed then. */
char *record_text(struct record_reader *reader, const struct record_field *field);
/* The two texts of record_put_pair(), to be freed.  False when one is missing or malformed: then both are NULL. */
bool record_pair(const struct record_field *whole, uint16_t name_tag, char **name, char **value);

#endif
