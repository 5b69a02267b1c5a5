/*
 * log_line.c - one event as one line of text: see log_line.h.
 *
 * Nothing here fails: a value that does not fit is cut between two characters, a field for which no room is left is dropped,
 * and the room for the closing quote is kept back from the beginning.
 */
#include "base/log_line.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

#define KEPT_FOR_END  8  /* a quote and a zero */
#define KEPT_FOR_KEY  64 /* ,"key": */
#define ESCAPED_BYTES 12 /* the longest form of one character */

static size_t room(const struct log_line *line)
{
    size_t most = sizeof(line->bytes) - KEPT_FOR_END;
    return line->used < most ? most - line->used : 0;
}

static void put(struct log_line *line, const char *text, size_t length)
{
    memcpy(line->bytes + line->used, text, length);
    line->used += length;
    line->bytes[line->used] = '\0';
}

void log_line_begin(struct log_line *line, bool is_json)
{
    line->is_json = is_json;
    line->used = 0;
    line->bytes[0] = '\0';
}

/* ---- characters ---- */

/* One character of UTF-8: its length, and its code point; 0 when the bytes are none. */
static size_t decode(const char *text, size_t left, uint32_t *point)
{
    size_t length = utf8_character_bytes(text);
    if (length == 0 || length > left)
        return 0;
    *point = (uint8_t)text[0] & (length == 1 ? 0x7fu : 0x7fu >> length);
    for (size_t i = 1; i < length; i++)
        *point = *point << 6 | ((uint8_t)text[i] & 0x3f);
    return length;
}

/* What a terminal would obey, or what would make a reader see another line or another order than there is. */
static bool is_dangerous(uint32_t point)
{
    return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x061c || point == 0xfeff ||
           (point >= 0x200b && point <= 0x200f) || (point >= 0x2028 && point <= 0x202e) ||
           (point >= 0x2060 && point <= 0x206f) || (point >= 0xfff9 && point <= 0xfffb);
}

static size_t escape(char *out, const struct log_line *line, const char *text, size_t left,
                     size_t *length)
{
    static const char shorts[] = "\n\r\t\"\\";
    static const char names[] = "nrt\"\\";
    uint32_t point;
    *length = decode(text, left, &point);
    if (*length == 0) {
        *length = 1;
        return (size_t)snprintf(out, ESCAPED_BYTES, line->is_json ? "\\ufffd" : "\\x%02x",
                                (unsigned)(uint8_t)*text);
    }
    const char *known = point ? memchr(shorts, (int)point, point < 0x80 ? 5 : 0) : NULL;
    if (known) {
        out[0] = '\\';
        out[1] = names[known - shorts];
        return 2;
    }
    if (is_dangerous(point))
        return (size_t)snprintf(out, ESCAPED_BYTES, "\\u%04x", point);
    memcpy(out, text, *length);
    return *length;
}

static void put_escaped(struct log_line *line, const char *text, size_t length)
{
    char piece[ESCAPED_BYTES];
    size_t step;
    for (size_t at = 0; at < length; at += step) {
        size_t bytes = escape(piece, line, text + at, length - at, &step);
        if (bytes > room(line))
            return;
        put(line, piece, bytes);
    }
}

/* The length of what is shown: cut between two characters. */
static size_t shown_bytes(const char *text)
{
    size_t length = strnlen(text, LOG_VALUE_BYTES + 1);
    if (length <= LOG_VALUE_BYTES)
        return length;
    length = LOG_VALUE_BYTES;
    while (length > LOG_VALUE_BYTES - 4 && ((uint8_t)text[length] & 0xc0) == 0x80)
        length--;
    return length;
}

/* logfmt leaves a plain word without quotes. */
static bool is_plain(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        uint8_t c = (uint8_t)text[i];
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
            return false;
    }
    return length > 0;
}

/* ---- fields ---- */

static void put_key(struct log_line *line, const char *key)
{
    char text[KEPT_FOR_KEY];
    bool is_first = line->used == 0;
    int length = line->is_json
                     ? snprintf(text, sizeof(text), "%s\"%.50s\":", is_first ? "" : ",", key)
                     : snprintf(text, sizeof(text), "%s%.50s=", is_first ? "" : " ", key);
    put(line, text, (size_t)length);
}

static void put_text(struct log_line *line, const char *text)
{
    size_t length = shown_bytes(text);
    bool has_quotes = line->is_json || !is_plain(text, length);
    if (has_quotes)
        put(line, "\"", 1);
    put_escaped(line, text, length);
    if (has_quotes)
        put(line, "\"", 1);
}

void log_line_add(struct log_line *line, const struct log_field *field)
{
    char number[32];
    bool is_empty = field->type == LOG_FIELD_IS_TEXT && (!field->text || !*field->text);
    if (is_empty || room(line) < KEPT_FOR_KEY + sizeof(number))
        return;
    put_key(line, field->key);
    switch (field->type) {
    case LOG_FIELD_IS_TEXT:
        put_text(line, field->text);
        break;
    case LOG_FIELD_IS_NUMBER:
        put(line, number,
            (size_t)snprintf(number, sizeof(number), "%lld", (long long)field->number));
        break;
    case LOG_FIELD_IS_SECONDS: {
        double seconds =
            isfinite(field->seconds) && fabs(field->seconds) < 1e15 ? field->seconds : 0;
        put(line, number, (size_t)snprintf(number, sizeof(number), "%.3f", seconds));
        break;
    }
    case LOG_FIELD_END:
        break;
    }
}
