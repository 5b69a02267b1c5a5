/*
 * ini_reader.c - the lines of the INI file, through inih, with what inih leaves out.
 *
 * inih cuts a line at its 200-byte buffer without a word, takes an indented line as the value's continuation and
 * tells its handler no line number.  So the text is fed to it by a reader of our own that counts lines and reports what would go
 * wrong, with what to do.  `${VAR}` and `${VAR:-default}` are expanded after parsing: what a variable holds is
 * never read as INI.
 */
#include <ctype.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/environment.h"
#include "base/memory.h"
#include "config/config_parse.h"

#define LINE_BYTES 200 /* INI_MAX_LINE of Debian's libinih */

struct feed {
    struct reading *reading;
    const char *at;
    int line;
};

void reading_error(struct reading *reading, int line, const char *format, ...)
{
    va_list args;
    char *text = NULL;
    struct config_errors *errors = reading->errors;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    errors->items = memory_resize(errors->items, (errors->count + 1) * sizeof(*errors->items));
    errors->items[errors->count++] =
        line > 0 ? memory_printf("%s:%d: %s", reading->name, line, text ? text : "")
                 : memory_printf("%s: %s", reading->name, text ? text : "");
    free(text);
}

static void check_indent(struct feed *feed, const char *line, size_t length)
{
    if (length == 0 || !isspace((unsigned char)line[0]))
        return;
    while (length > 0 && isspace((unsigned char)*line)) {
        line++;
        length--;
    }
    if (length > 0 && *line != ';' && *line != '#')
        reading_error(feed->reading, feed->line,
                      "an indented line continues the value above it: begin it at the margin");
}

/* inih's fgets: one line at a time, too long ones reported and cut. */
static char *next_line(char *out, int size, void *stream)
{
    struct feed *feed = stream;
    if (!*feed->at)
        return NULL;
    size_t length = strcspn(feed->at, "\n");
    const char *line = feed->at;
    feed->line++;
    feed->at += length + (line[length] == '\n');
    if (length > 0 && line[length - 1] == '\r')
        length--;
    check_indent(feed, line, length);
    size_t room = (size_t)size - 2;
    if (length > room) {
        if (line[0] != ';' && line[0] != '#')
            reading_error(feed->reading, feed->line,
                          "the line is longer than %zu bytes: put the value into an environment "
                          "variable and write ${VAR}",
                          room);
        length = 0;
    }
    if (length > 0 && isspace((unsigned char)line[0]))
        length = 0;
    memcpy(out, line, length);
    out[length] = '\n';
    out[length + 1] = '\0';
    return out;
}

/* Appends the value of the variable whose text `${...}` begins at `*at`. */
static void expand_one(struct reading *reading, int line, const char **at, char **out)
{
    const char *end = strchr(*at, '}');
    if (!end) {
        reading_error(reading, line, "`${` without `}`");
        *at += strlen(*at);
        return;
    }
    char *name = memory_strndup(*at + 2, (size_t)(end - *at) - 2);
    char *otherwise = strstr(name, ":-");
    if (otherwise) {
        *otherwise = '\0';
        otherwise += 2;
    }
    const char *value = environment_get(name);
    if ((!value || !*value) && otherwise)
        value = otherwise;
    if (!value) {
        reading_error(reading, line,
                      "the environment variable %s is not set: set it, or write ${%s:-default}",
                      name, name);
        value = "";
    }
    char *longer = memory_printf("%s%s", *out, value);
    free(*out);
    *out = longer;
    free(name);
    *at = end + 1;
}

static char *expand(struct reading *reading, int line, const char *value)
{
    char *out = memory_strdup("");
    while (*value) {
        if (value[0] == '$' && value[1] == '{') {
            expand_one(reading, line, &value, &out);
            continue;
        }
        size_t length = strcspn(value + 1, "$") + 1;
        char *longer = memory_printf("%s%.*s", out, (int)length, value);
        free(out);
        out = longer;
        value += length;
    }
    return out;
}

static int on_entry(void *user, const char *section, const char *key, const char *value)
{
    struct feed *feed = user;
    struct reading *reading = feed->reading;
    for (size_t i = 0; i < reading->count; i++) {
        const struct entry *before = &reading->entries[i];
        if (strcmp(before->section, section) == 0 && strcmp(before->key, key) == 0)
            reading_error(reading, feed->line, "%s stands twice in [%s], first in line %d", key,
                          section, before->line);
    }
    reading->entries =
        memory_resize(reading->entries, (reading->count + 1) * sizeof(*reading->entries));
    reading->entries[reading->count++] =
        (struct entry){memory_strdup(section), memory_strdup(key),
                       expand(reading, feed->line, value ? value : ""), feed->line};
    return 1;
}

void reading_read(struct reading *reading, const char *text)
{
    struct feed feed = {reading, text, 0};
    size_t before = reading->errors->count;
    int bad = ini_parse_stream(next_line, &feed, on_entry, &feed);
    if (bad > 0 && reading->errors->count == before)
        reading_error(reading, bad, "not a [section], a `key = value` or a comment");
}

void reading_free(struct reading *reading)
{
    for (size_t i = 0; i < reading->count; i++) {
        free(reading->entries[i].section);
        free(reading->entries[i].key);
        memory_free_secret(reading->entries[i].value);
    }
    free(reading->entries);
}
