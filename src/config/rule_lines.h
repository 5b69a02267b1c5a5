/*
 * rule_lines.h - the lines of pg_hba.conf and pg_ident.conf, as fields of words.
 *
 * A line is fields between blanks, a field is words between commas.  A word in double quotes may hold blanks, commas and
 * `#`, two quotes in it are one, and it is never a keyword; `#` begins a comment; a backslash at a line's end joins it with
 * the next; `@FILE` stands for all words of that file; `include`, `include_if_exists` and `include_dir` put other files in
 * the place of their line (PostgreSQL 17, 20.1 and 20.2).  Other files' names are relative to the file that names them.
 */
#ifndef CONFIG_RULE_LINES_H
#define CONFIG_RULE_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include "config/config.h"

#define RULE_WORD_MAX  1024       /* bytes of a word */
#define RULE_WORDS_MAX 200000     /* of all files */
#define RULE_BYTES_MAX (8u << 20) /* of all files */
#define RULE_DEPTH_MAX 10         /* files within files */

/* Where files come from: the reading itself does no I/O. */
struct rule_source {
    /* The whole file as text, to be freed; NULL with errno set. */
    char *(*read)(void *arg, const char *path);
    /* The names in a directory, sorted, NULL-terminated, all to be freed; NULL with errno set. */
    char **(*list)(void *arg, const char *path);
    void *arg;
};

struct rule_word {
    char *text;
    bool is_quoted; /* it began with a quote: no keyword */
};

struct rule_field {
    struct rule_word *words;
    size_t count;
};

struct rule_line {
    char *file;
    int number; /* of its first line, when it was continued */
    struct rule_field *fields;
    size_t count;
};

struct rule_lines {
    struct rule_line *items;
    size_t count;
};

/* Reads `path` and what it includes; what is wrong goes to `errors`, as "FILE:LINE: text".  To be freed either way. */
void rule_lines_read(struct rule_lines *lines, const char *path, const struct rule_source *source,
                     struct config_errors *errors);
void rule_lines_free(struct rule_lines *lines);
/* Adds "FILE:LINE: text" (or "FILE: text" for line 0); false, always. */
bool rule_error(struct config_errors *errors, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Whether the word is this keyword: spelt so, and not quoted. */
bool rule_word_is(const struct rule_word *word, const char *keyword);

#endif
