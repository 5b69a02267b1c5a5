/*
 * name_pattern.h - a regular expression over names, as pg_hba.conf and pg_ident.conf have them behind a slash.
 */
#ifndef CONFIG_NAME_PATTERN_H
#define CONFIG_NAME_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#define NAME_PATTERN_MAX  512  /* bytes of an expression */
#define NAME_PATTERN_NAME 1024 /* bytes of a name: a longer one matches nothing */

struct name_pattern;

/* What of a name the first pair of parentheses took. */
struct name_part {
    bool is_there; /* false: the expression has none, or it took no part */
    size_t start;
    size_t length;
};

/* Compiles a POSIX extended expression (without the slash), in bytes; \d and \D are known too.  What PostgreSQL's expressions
 * have beyond that is refused, and so is what would take long or much memory: NULL, and why. */
struct name_pattern *name_pattern_new(const char *text, char *why, size_t why_bytes);
/* Whether there are parentheses in it. */
bool name_pattern_has_parts(const struct name_pattern *pattern);
void name_pattern_free(struct name_pattern *pattern);
/* Whether it is found anywhere in the name; `first` may be NULL. */
bool name_pattern_matches(const struct name_pattern *pattern, const char *name,
                          struct name_part *first);

#endif
