/*
 * log_line.h - one event as one line of text: the event's name and its fields, in logfmt or JSON.
 *
 * Values may come from anybody who can reach a port: whatever they hold, a line stays one line, its quotes close, and no byte
 * reaches the terminal that it would obey (control characters, C1, bidirectional overrides).  What is not UTF-8 is shown
 * as `\xNN` in logfmt and as U+FFFD in JSON, which has no other way.
 */
#ifndef BASE_LOG_LINE_H
#define BASE_LOG_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_LINE_BYTES  12288 /* holds a statement's first 1,024 bytes, each escaped */
#define LOG_VALUE_BYTES 1100  /* of a text that are shown */

enum log_field_type { LOG_FIELD_END, LOG_FIELD_IS_TEXT, LOG_FIELD_IS_NUMBER, LOG_FIELD_IS_SECONDS };

struct log_field {
    const char *key; /* from our own code: lower case, underscores */
    enum log_field_type type;
    bool is_kind; /* tells kinds of one event apart when repeats are folded (log_fold.h) */
    const char *text;
    int64_t number;
    double seconds;
};

/* A text; a field whose text is NULL or empty is left out. */
#define LOG_FIELD_TEXT(name, value)                                                                \
    (struct log_field)                                                                             \
    {                                                                                              \
        .key = (name), .type = LOG_FIELD_IS_TEXT, .text = (value)                                  \
    }
/* The same, of a small set of texts that name what happened: events that differ in it are never folded into one. */
#define LOG_FIELD_KIND(name, value)                                                                \
    (struct log_field)                                                                             \
    {                                                                                              \
        .key = (name), .type = LOG_FIELD_IS_TEXT, .is_kind = true, .text = (value)                 \
    }
#define LOG_FIELD_NUMBER(name, value)                                                              \
    (struct log_field)                                                                             \
    {                                                                                              \
        .key = (name), .type = LOG_FIELD_IS_NUMBER, .number = (int64_t)(value)                     \
    }
/* A time span, in seconds to the millisecond. */
#define LOG_FIELD_SECONDS(name, value)                                                             \
    (struct log_field)                                                                             \
    {                                                                                              \
        .key = (name), .type = LOG_FIELD_IS_SECONDS, .seconds = (double)(value)                    \
    }
#define LOG_FIELD_LAST                                                                             \
    (struct log_field)                                                                             \
    {                                                                                              \
        .key = NULL                                                                                \
    }

struct log_line {
    bool is_json;
    size_t used;
    char bytes[LOG_LINE_BYTES]; /* always ends in a zero */
};

/* Begins an empty one. */
void log_line_begin(struct log_line *line, bool is_json);
/* Adds `key=value` or `"key":value`, with what stands between two of them; JSON's braces are the caller's. */
void log_line_add(struct log_line *line, const struct log_field *field);

#endif
