/*
 * rule_lines.c - the lines of pg_hba.conf and pg_ident.conf: see rule_lines.h.
 *
 * Physical lines are joined first, so that a quote or a comment goes on behind a backslash, as in PostgreSQL.  What files
 * that include each other could come to is bounded in depth, bytes and words.
 */
#include "config/rule_lines.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

#define ERRORS_ENOUGH 100 /* of files that cannot be read */

struct reader {
    const struct rule_source *source;
    struct config_errors *errors;
    size_t bytes;
    size_t words;
    bool
        is_over; /* an error after which nothing more is read: what would come is as wrong, many times over */
};

/* Where an error is. */
struct place {
    const char *file;
    int line;
    int depth;
};

static void read_file(struct reader *reader, struct rule_lines *lines, const char *path,
                      const struct place *from);

bool rule_error(struct config_errors *errors, const char *file, int line, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    errors->items = memory_resize(errors->items, (errors->count + 1) * sizeof(*errors->items));
    errors->items[errors->count++] = line > 0 ? memory_printf("%s:%d: %s", file, line, text)
                                              : memory_printf("%s: %s", file, text);
    return false;
}

bool rule_word_is(const struct rule_word *word, const char *keyword)
{
    return !word->is_quoted && strcmp(word->text, keyword) == 0;
}

/* ---- memory ---- */

static void field_free(struct rule_field *field)
{
    for (size_t i = 0; i < field->count; i++)
        free(field->words[i].text);
    free(field->words);
}

static void line_free(struct rule_line *line)
{
    for (size_t i = 0; i < line->count; i++)
        field_free(&line->fields[i]);
    free(line->fields);
    free(line->file);
}

void rule_lines_free(struct rule_lines *lines)
{
    for (size_t i = 0; i < lines->count; i++)
        line_free(&lines->items[i]);
    free(lines->items);
    *lines = (struct rule_lines){0};
}

static void add_word(struct rule_field *field, struct rule_word word)
{
    field->words = memory_resize(field->words, (field->count + 1) * sizeof(*field->words));
    field->words[field->count++] = word;
}

static void add_line(struct rule_lines *lines, struct rule_line line)
{
    lines->items = memory_resize(lines->items, (lines->count + 1) * sizeof(*lines->items));
    lines->items[lines->count++] = line;
}

/* ---- words ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

enum next { NEXT_NONE, NEXT_WORD, NEXT_WRONG };

/* The next word; `*at` moves behind it, and behind the comma that says that the field goes on. */
static enum next next_word(struct reader *reader, const struct place *place, const char **at,
                           struct rule_word *word, bool *goes_on)
{
    char text[RULE_WORD_MAX + 1];
    size_t length = 0;
    bool in_quote = false;
    bool saw_quote = false;
    const char *in = *at;
    *goes_on = false;
    if (reader->is_over)
        return NEXT_WRONG;
    while (is_blank(*in) || *in == ',')
        in++;
    word->is_quoted = *in == '"';
    for (; *in && (in_quote || (!is_blank(*in) && *in != ',' && *in != '#')); in++) {
        if (*in == '"') {
            bool is_literal = in_quote && in[1] == '"';
            saw_quote = true;
            if (!is_literal) {
                in_quote = !in_quote;
                continue;
            }
            in++;
        }
        if (length == RULE_WORD_MAX) {
            rule_error(reader->errors, place->file, place->line,
                       "a word is longer than %d bytes: %.20s...", RULE_WORD_MAX, text);
            return NEXT_WRONG;
        }
        text[length++] = *in;
        text[length] = '\0';
    }
    if (in_quote) {
        rule_error(reader->errors, place->file, place->line, "a quote is not closed");
        return NEXT_WRONG;
    }
    if (*in == ',') {
        *goes_on = true;
        in++;
    } else if (*in == '#') {
        in += strlen(in);
    }
    *at = in;
    if (length == 0 && !saw_quote)
        return NEXT_NONE;
    if (++reader->words > RULE_WORDS_MAX) {
        rule_error(reader->errors, place->file, place->line, "more than %d words in all files",
                   RULE_WORDS_MAX);
        reader->is_over = true;
        return NEXT_WRONG;
    }
    word->text = memory_strndup(text, length);
    return NEXT_WORD;
}

/* ---- other files ---- */

static char *path_beside(const char *file, const char *name)
{
    const char *slash = strrchr(file, '/');
    if (*name == '/' || !slash)
        return memory_strdup(name);
    return memory_printf("%.*s/%s", (int)(slash - file), file, name);
}

/* All words of a file, however they stand there. */
static void add_words_of(struct reader *reader, struct rule_field *field, const char *name,
                         const struct place *place)
{
    struct rule_lines lines = {0};
    char *path = path_beside(place->file, name);
    read_file(reader, &lines, path, place);
    for (size_t i = 0; i < lines.count; i++) {
        for (size_t j = 0; j < lines.items[i].count; j++) {
            struct rule_field *from = &lines.items[i].fields[j];
            for (size_t k = 0; k < from->count; k++)
                add_word(field, from->words[k]);
            from->count = 0; /* its words have moved */
        }
    }
    rule_lines_free(&lines);
    free(path);
}

/* The names that end in .conf and do not begin with a dot, in their order. */
static void include_directory(struct reader *reader, struct rule_lines *lines, const char *path,
                              const struct place *place)
{
    char **names = reader->source->list(reader->source->arg, path);
    if (!names) {
        rule_error(reader->errors, place->file, place->line, "directory %s cannot be read: %s",
                   path, file_reason(errno));
        return;
    }
    for (size_t i = 0; names[i]; i++) {
        size_t length = strlen(names[i]);
        if (names[i][0] != '.' && length > 5 && strcmp(names[i] + length - 5, ".conf") == 0) {
            char *file = memory_printf("%s/%s", path, names[i]);
            read_file(reader, lines, file, place);
            free(file);
        }
        free(names[i]);
    }
    free(names);
}

static bool exists(struct reader *reader, const char *path)
{
    char *text = reader->source->read(reader->source->arg, path);
    bool is_there = text || errno != ENOENT;
    free(text);
    return is_there;
}

/* Whether the line was an include, which has been done. */
static bool include(struct reader *reader, struct rule_lines *lines, const struct rule_line *line,
                    const struct place *place)
{
    if (line->count != 2 || line->fields[0].count != 1 || line->fields[1].count != 1)
        return false;
    const struct rule_word *word = &line->fields[0].words[0];
    char *path = path_beside(place->file, line->fields[1].words[0].text);
    bool is_include = true;
    if (rule_word_is(word, "include")) {
        read_file(reader, lines, path, place);
    } else if (rule_word_is(word, "include_if_exists")) {
        if (exists(reader, path))
            read_file(reader, lines, path, place);
    } else if (rule_word_is(word, "include_dir")) {
        include_directory(reader, lines, path, place);
    } else {
        is_include = false;
    }
    free(path);
    return is_include;
}

/* ---- lines ---- */

/* The next field of a line.  False at its end; `*is_wrong` when it ends in an error. */
static bool next_field(struct reader *reader, const struct place *place, const char **at,
                       struct rule_field *field, bool *is_wrong)
{
    bool goes_on = true;
    bool has_any = false;
    *field = (struct rule_field){0};
    while (goes_on) {
        struct rule_word word;
        enum next next = next_word(reader, place, at, &word, &goes_on);
        if (next == NEXT_WRONG)
            *is_wrong = true;
        if (next != NEXT_WORD)
            break;
        has_any = true;
        if (!word.is_quoted && word.text[0] == '@' && word.text[1]) {
            add_words_of(reader, field, word.text + 1, place);
            free(word.text);
        } else {
            add_word(field, word);
        }
    }
    return has_any;
}

static void read_line(struct reader *reader, struct rule_lines *lines, const char *text,
                      const struct place *place)
{
    struct rule_line line = {0};
    struct rule_field field;
    bool is_wrong = false;
    while (!is_wrong && next_field(reader, place, &text, &field, &is_wrong)) {
        line.fields = memory_resize(line.fields, (line.count + 1) * sizeof(*line.fields));
        line.fields[line.count++] = field;
    }
    if (is_wrong || line.count == 0 || include(reader, lines, &line, place)) {
        line_free(&line);
        return;
    }
    line.file = memory_strdup(place->file);
    line.number = place->line;
    add_line(lines, line);
}

/* Joins the line at `*at` with those that it goes on in, in place; `*at` moves behind them.  How many lines they are. */
static int join_lines(char **at)
{
    char *out = *at;
    char *in = *at;
    int count = 0;
    for (bool goes_on = true; goes_on && *in; count++) {
        size_t length = strcspn(in, "\n");
        char *next = in + length + (in[length] == '\n');
        while (length > 0 && in[length - 1] == '\r')
            length--;
        goes_on = length > 0 && in[length - 1] == '\\';
        length -= goes_on;
        memmove(out, in, length);
        out += length;
        in = next;
    }
    if (out < in)
        *out = '\0';
    *at = in;
    return count;
}

static void read_text(struct reader *reader, struct rule_lines *lines, char *text,
                      struct place *place)
{
    int number = 1;
    for (char *at = text; *at && !reader->is_over;) {
        char *line = at;
        place->line = number;
        number += join_lines(&at);
        read_line(reader, lines, line, place);
    }
}

static void read_file(struct reader *reader, struct rule_lines *lines, const char *path,
                      const struct place *from)
{
    struct place place = {.file = path, .depth = from ? from->depth + 1 : 0};
    const char *file = from ? from->file : path;
    int line = from ? from->line : 0;
    if (reader->is_over)
        return;
    if (place.depth > RULE_DEPTH_MAX) {
        rule_error(reader->errors, file, line, "%s: files name each other more than %d deep", path,
                   RULE_DEPTH_MAX);
        reader->is_over = true;
        return;
    }
    char *text = reader->source->read(reader->source->arg, path);
    if (!text) {
        const char *reason = file_reason(errno);
        if (from)
            rule_error(reader->errors, file, line, "%s cannot be read: %s", path, reason);
        else
            rule_error(reader->errors, file, 0, "cannot be read: %s", reason);
        reader->is_over = reader->errors->count > ERRORS_ENOUGH;
        return;
    }
    reader->bytes += strlen(text) + 1;
    if (reader->bytes > RULE_BYTES_MAX) {
        rule_error(reader->errors, file, line, "more than %u bytes in all files", RULE_BYTES_MAX);
        reader->is_over = true;
    } else {
        read_text(reader, lines, text, &place);
    }
    free(text);
}

void rule_lines_read(struct rule_lines *lines, const char *path, const struct rule_source *source,
                     struct config_errors *errors)
{
    struct reader reader = {.source = source, .errors = errors};
    *lines = (struct rule_lines){0};
    read_file(&reader, lines, path, NULL);
}
