/*
 * ini_reader.c - the lines of the INI file, through inih, with what inih leaves out.
 *
 * inih keeps 49 bytes of a section's name and 199 of a line, takes an indented line as the value's continuation, tells its handler
 * no line number, and of lines that are nothing it names the first.  So the text is fed to it by a reader of our own, which
 * counts lines, takes the section's name from the line itself and reports what would go wrong, with what to do.  A line too long
 * for inih's buffer, as a url with certificates may be, is cut for it behind the `=`, and the value taken from the text.
 * `${VAR}` and `${VAR:-default}` are expanded after parsing: what a variable holds is never read as INI.
 */
#include <ctype.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/environment.h"
#include "base/memory.h"
#include "config/config_parse.h"

struct feed {
    struct reading *reading;
    const char *at;
    int line;
    char *section;      /* NULL in one whose header cannot be read: its keys are nobody's */
    char *long_value;   /* of a line that inih gets cut; NULL: it has the whole line */
    bool owes_an_entry; /* the line is to be a `key = value`, and inih has not said so */
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

static void not_a_line(const struct feed *feed)
{
    reading_error(feed->reading, feed->line, "not a [section], a `key = value` or a comment");
}

/* Without the blanks around it, nor the comment behind a blank; free() it. */
static char *trimmed(const char *text, size_t length)
{
    for (size_t i = 1; i < length; i++) {
        if (text[i] == ';' && isspace((unsigned char)text[i - 1]))
            length = i;
    }
    while (length > 0 && isspace((unsigned char)*text)) {
        text++;
        length--;
    }
    while (length > 0 && isspace((unsigned char)text[length - 1]))
        length--;
    return memory_strndup(text, length);
}

static void begin_section(struct feed *feed, const char *line, size_t length)
{
    const char *end = memchr(line, ']', length);
    struct reading *reading = feed->reading;
    free(feed->section);
    feed->section = NULL;
    char *rest = end ? trimmed(end + 1, length - (size_t)(end + 1 - line)) : NULL;
    if (!rest || (*rest && *rest != ';' && *rest != '#')) {
        not_a_line(feed);
        reading->is_incomplete = true;
    } else {
        feed->section = memory_strndup(line + 1, (size_t)(end - line) - 1);
        reading_section(reading, feed->section, feed->line);
    }
    free(rest);
}

/* What inih gets of a line that its buffer cannot hold, and the value aside; without a key it is no line. */
static size_t cut(struct feed *feed, const char *line, size_t length, size_t room)
{
    size_t key = strcspn(line, "=:\n");
    if (key >= room || line[key] == '\n') {
        not_a_line(feed);
        return 0;
    }
    feed->long_value = trimmed(line + key + 1, length - key - 1);
    return key + 1;
}

/* How much of the line inih shall see: what it would misread is nothing to it. */
static size_t take_line(struct feed *feed, const char *line, size_t length, size_t room)
{
    check_indent(feed, line, length);
    if (length == 0 || isspace((unsigned char)*line) || *line == ';' || *line == '#')
        return 0;
    if (*line == '[') {
        begin_section(feed, line, length);
        return 0;
    }
    if (length > room && (length = cut(feed, line, length, room)) == 0)
        return 0;
    feed->owes_an_entry = true;
    return length;
}

static void settle_line(struct feed *feed)
{
    if (feed->owes_an_entry)
        not_a_line(feed);
    feed->owes_an_entry = false;
    memory_free_secret(feed->long_value);
    feed->long_value = NULL;
}

/* inih's fgets: one line at a time. */
static char *next_line(char *out, int size, void *stream)
{
    struct feed *feed = stream;
    settle_line(feed);
    if (!*feed->at)
        return NULL;
    size_t length = strcspn(feed->at, "\n");
    const char *line = feed->at;
    feed->line++;
    feed->at += length + (line[length] == '\n');
    if (length > 0 && line[length - 1] == '\r')
        length--;
    length = take_line(feed, line, length, (size_t)size - 2);
    memcpy(out, line, length);
    out[length] = '\n';
    out[length + 1] = '\0';
    return out;
}

/* Appends the value of the variable whose text `${...}` begins at `*at`; false when it has none. */
static bool expand_one(struct reading *reading, int line, const char **at, char **out)
{
    const char *end = strchr(*at, '}');
    if (!end) {
        reading_error(reading, line, "`${` without `}`");
        *at += strlen(*at);
        return false;
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
    }
    bool is_known = value != NULL;
    char *longer = memory_printf("%s%s", *out, is_known ? value : "");
    free(*out);
    *out = longer;
    free(name);
    *at = end + 1;
    return is_known;
}

static char *expand(struct reading *reading, int line, const char *value, bool *is_known)
{
    char *out = memory_strdup("");
    *is_known = true;
    while (*value) {
        if (value[0] == '$' && value[1] == '{') {
            *is_known &= expand_one(reading, line, &value, &out);
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

static bool is_repeated(struct feed *feed, const char *key)
{
    struct reading *reading = feed->reading;
    for (size_t i = 0; i < reading->count; i++) {
        const struct entry *before = &reading->entries[i];
        if (strcmp(before->section, feed->section) == 0 && strcmp(before->key, key) == 0) {
            reading_error(reading, feed->line, "%s stands twice in [%s], first in line %d", key,
                          feed->section, before->line);
            return true;
        }
    }
    return false;
}

static int on_entry(void *user, const char *section, const char *key, const char *value)
{
    struct feed *feed = user;
    struct reading *reading = feed->reading;
    bool is_known;
    (void)section; /* as much as inih keeps of it */
    feed->owes_an_entry = false;
    value = feed->long_value ? feed->long_value : value ? value : "";
    char *expanded = expand(reading, feed->line, value, &is_known);
    if (feed->section) /* or a key stands before the first */
        reading_section(reading, feed->section, feed->line);
    if (!feed->section || is_repeated(feed, key)) {
        memory_free_secret(expanded);
        return 1;
    }
    reading->entries =
        memory_resize(reading->entries, (reading->count + 1) * sizeof(*reading->entries));
    reading->entries[reading->count++] = (struct entry){.section = memory_strdup(feed->section),
                                                        .key = memory_strdup(key),
                                                        .value = expanded,
                                                        .line = feed->line,
                                                        .is_unknown = !is_known};
    return 1;
}

void reading_section(struct reading *reading, const char *name, int line)
{
    for (size_t i = 0; i < reading->section_count; i++) {
        if (strcmp(reading->sections[i].name, name) == 0)
            return;
    }
    reading->sections =
        memory_resize(reading->sections, (reading->section_count + 1) * sizeof(*reading->sections));
    reading->sections[reading->section_count++] = (struct section){memory_strdup(name), line};
}

void reading_read(struct reading *reading, const char *text)
{
    struct feed feed = {.reading = reading, .at = text, .section = memory_strdup("")};
    if (strncmp(text, "\xEF\xBB\xBF", 3) == 0) /* what editors of Windows begin with */
        feed.at += 3;
    ini_parse_stream(next_line, &feed, on_entry, &feed);
    settle_line(&feed); /* of an inih that was built to stop at the first error */
    free(feed.section);
}

void reading_free(struct reading *reading)
{
    for (size_t i = 0; i < reading->count; i++) {
        free(reading->entries[i].section);
        free(reading->entries[i].key);
        memory_free_secret(reading->entries[i].value);
    }
    free(reading->entries);
    for (size_t i = 0; i < reading->section_count; i++)
        free(reading->sections[i].name);
    free(reading->sections);
}
