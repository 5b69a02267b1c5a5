/*
 * name_pattern.c - regular expressions over names: see name_pattern.h.
 *
 * PostgreSQL's are "advanced" ones; the C library has POSIX's, which are nearly a part of them.  An expression that the two
 * would read differently must not let in somebody whom PostgreSQL would not: so every escape and quantifier that is not
 * the same in both is refused by name, not tried.  Back references are what makes matching exponential, and nested repetitions
 * what makes compiling so: both are refused too.
 */
#include "config/name_pattern.h"

#include <ctype.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define REPEAT_MAX 255  /* of one {}: PostgreSQL's own */
#define COPIES_MAX 1000 /* of all {} multiplied: so many copies of a part are compiled */

struct name_pattern {
    regex_t compiled;
};

struct translation {
    const char *in;
    char out[NAME_PATTERN_MAX * 12 + 1];
    size_t length;
    long copies;
    const char *why;
};

static void put(struct translation *to, const char *bytes, size_t length)
{
    memcpy(to->out + to->length, bytes, length);
    to->length += length;
}

static bool fail(struct translation *to, const char *why)
{
    to->why = why;
    return false;
}

/* Behind a backslash. */
static bool take_escape(struct translation *to)
{
    char c = *++to->in;
    if (!c)
        return fail(to, "it ends in a backslash");
    if (c == 'd')
        put(to, "[[:digit:]]", 11);
    else if (c == 'D')
        put(to, "[^[:digit:]]", 12);
    else if (c >= '1' && c <= '9')
        return fail(to, "back references are not supported");
    else if (isalnum((unsigned char)c) || (unsigned char)c >= 0x80)
        return fail(to, "of the escapes with a letter only \\d and \\D are supported");
    else if (strchr("<>`'", c))
        put(to, to->in, 1); /* behind a backslash glibc takes them for edges of words and texts */
    else
        put(to, to->in - 1, 2);
    to->in++;
    return true;
}

/* A set in brackets, in which POSIX takes a backslash for itself and PostgreSQL does not. */
static bool take_set(struct translation *to)
{
    const char *at = to->in + 1;
    at += *at == '^';
    at += *at == ']';
    for (; *at && *at != ']'; at++) {
        if (*at == '\\')
            return fail(to, "a backslash within brackets is not supported");
        if (*at == '[' && (at[1] == '.' || at[1] == '='))
            return fail(to, "collating elements are not supported");
        if (*at == '[' && at[1] == ':') {
            const char *end = strstr(at + 2, ":]");
            if (!end)
                return fail(to, "brackets are not closed");
            at = end + 1;
        }
    }
    if (!*at)
        return fail(to, "brackets are not closed");
    put(to, to->in, (size_t)(at + 1 - to->in));
    to->in = at + 1;
    return true;
}

/* {m}, {m,} or {m,n}. */
static bool take_bound(struct translation *to)
{
    const char *start = to->in;
    char *end = (char *)start + 1;
    long least = isdigit((unsigned char)*end) ? strtol(end, &end, 10) : -1;
    long most = least;
    if (least >= 0 && *end == ',')
        most = isdigit((unsigned char)end[1]) ? strtol(end + 1, &end, 10) : (end++, least);
    if (least < 0 || *end != '}')
        return fail(to, "a brace begins no repetition {m}, {m,} or {m,n}");
    if (least > REPEAT_MAX || most > REPEAT_MAX)
        return fail(to, "more than 255 repetitions");
    if (most > 1)
        to->copies *= most;
    if (to->copies > COPIES_MAX)
        return fail(to, "its repetitions multiply to more than 1000");
    put(to, start, (size_t)(end + 1 - start));
    to->in = end + 1;
    return true;
}

static bool is_quantifier(char c)
{
    return c == '*' || c == '+' || c == '?' || c == '{';
}

/* What is repeated, with whatever may stand before a second quantifier: `*?`, `+?`, `**` mean other things in both. */
static bool take_quantifier(struct translation *to)
{
    if (*to->in == '{') {
        if (!take_bound(to))
            return false;
    } else {
        put(to, to->in++, 1);
    }
    return !is_quantifier(*to->in) || fail(to, "two quantifiers in a row are not supported");
}

static bool translate(struct translation *to)
{
    bool may_repeat = false;
    while (*to->in) {
        char c = *to->in;
        bool ok = true;
        if (is_quantifier(c)) {
            ok = may_repeat ? take_quantifier(to) : fail(to, "a quantifier has nothing to repeat");
        } else if (c == '\\') {
            ok = take_escape(to);
        } else if (c == '[') {
            ok = take_set(to);
        } else if (c == '(' && to->in[1] == '?') {
            ok = fail(to, "(? is not supported");
        } else {
            put(to, to->in++, 1);
        }
        if (!ok)
            return false;
        may_repeat = !is_quantifier(c) && c != '(' && c != '|' && c != '^' && c != '$';
    }
    return true;
}

struct name_pattern *name_pattern_new(const char *text, char *why, size_t why_bytes)
{
    struct translation to = {.in = text, .copies = 1};
    if (strlen(text) > NAME_PATTERN_MAX) {
        snprintf(why, why_bytes, "it is longer than %d bytes", NAME_PATTERN_MAX);
        return NULL;
    }
    if (!translate(&to)) {
        snprintf(why, why_bytes, "%s", to.why);
        return NULL;
    }
    struct name_pattern *pattern = memory_alloc(sizeof(*pattern));
    int error = regcomp(&pattern->compiled, to.out, REG_EXTENDED);
    if (error == 0)
        return pattern;
    regerror(error, &pattern->compiled, why, why_bytes);
    free(pattern);
    return NULL;
}

bool name_pattern_has_parts(const struct name_pattern *pattern)
{
    return pattern->compiled.re_nsub > 0;
}

void name_pattern_free(struct name_pattern *pattern)
{
    if (!pattern)
        return;
    regfree(&pattern->compiled);
    free(pattern);
}

bool name_pattern_matches(const struct name_pattern *pattern, const char *name,
                          struct name_part *first)
{
    regmatch_t found[2];
    if (strnlen(name, NAME_PATTERN_NAME + 1) > NAME_PATTERN_NAME ||
        regexec(&pattern->compiled, name, 2, found, 0) != 0)
        return false;
    if (first) {
        *first = (struct name_part){0};
        if (found[1].rm_so >= 0)
            *first = (struct name_part){true, (size_t)found[1].rm_so,
                                        (size_t)(found[1].rm_eo - found[1].rm_so)};
    }
    return true;
}
