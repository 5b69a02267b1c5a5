/*
 * record.c - tagged fields with lengths: see record.h.
 */
#include "proto/record.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "proto/build.h"

#define HEAD_BYTES 6

void record_put_bytes(struct buffer *record, uint16_t tag, const void *bytes, size_t length)
{
    build_u16(record, tag);
    build_u32(record, (uint32_t)length);
    if (length > 0)
        buffer_append(record, bytes, length);
}

void record_put_text(struct buffer *record, uint16_t tag, const char *text)
{
    if (text)
        record_put_bytes(record, tag, text, strlen(text));
}

void record_put_number(struct buffer *record, uint16_t tag, int64_t number)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)((uint64_t)number >> (56 - 8 * i));
    record_put_bytes(record, tag, bytes, sizeof(bytes));
}

void record_put_record(struct buffer *record, uint16_t tag, struct buffer *inner)
{
    size_t length = buffer_length(inner);
    record_put_bytes(record, tag, length > 0 ? buffer_bytes(inner) : NULL, length);
    buffer_free(inner);
}

void record_put_pair(struct buffer *record, uint16_t tag, uint16_t name_tag, const char *name,
                     uint16_t value_tag, const char *value)
{
    struct buffer pair = {0};
    record_put_text(&pair, name_tag, name);
    record_put_text(&pair, value_tag, value);
    record_put_record(record, tag, &pair);
}

void record_read(struct record_reader *reader, const void *bytes, size_t length)
{
    *reader = (struct record_reader){.at = bytes, .left = length};
}

bool record_next(struct record_reader *reader, struct record_field *field)
{
    if (reader->is_malformed || reader->left == 0)
        return false;
    if (reader->left < HEAD_BYTES) {
        reader->is_malformed = true;
        return false;
    }
    uint32_t length = read_u32(reader->at + 2);
    if (length > reader->left - HEAD_BYTES) {
        reader->is_malformed = true;
        return false;
    }
    *field = (struct record_field){
        .tag = read_u16(reader->at), .bytes = reader->at + HEAD_BYTES, .length = length};
    reader->at += HEAD_BYTES + length;
    reader->left -= HEAD_BYTES + length;
    return true;
}

int64_t record_number(struct record_reader *reader, const struct record_field *field)
{
    uint64_t number = 0;
    if (field->length != sizeof(number)) {
        reader->is_malformed = true;
        return 0;
    }
    for (size_t i = 0; i < field->length; i++)
        number = number << 8 | field->bytes[i];
    return (int64_t)number;
}

int64_t record_number_within(struct record_reader *reader, const struct record_field *field,
                             int64_t min, int64_t max)
{
    int64_t number = record_number(reader, field);
    if (number >= min && number <= max)
        return number;
    reader->is_malformed = true;
    return min;
}

char *record_text(struct record_reader *reader, const struct record_field *field)
{
    if (field->length > 0 && memchr(field->bytes, 0, field->length)) {
        reader->is_malformed = true;
        return NULL;
    }
    char *text = memory_alloc(field->length + 1);
    memcpy(text, field->bytes, field->length);
    return text;
}

bool record_pair(const struct record_field *whole, uint16_t name_tag, char **name, char **value)
{
    struct record_reader reader;
    struct record_field field;
    *name = *value = NULL;
    record_read(&reader, whole->bytes, whole->length);
    while (record_next(&reader, &field)) {
        char **place = field.tag == name_tag ? name : value;
        free(*place);
        *place = record_text(&reader, &field);
    }
    if (!reader.is_malformed && *name && *value)
        return true;
    free(*name);
    free(*value);
    *name = *value = NULL;
    return false;
}
