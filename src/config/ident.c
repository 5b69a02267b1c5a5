/*
 * ident.c - pg_ident.conf: see ident.h.
 *
 * Lines are asked in the file's order, and any of them may say yes.  Nothing here does I/O: the lines come from
 * rule_lines.c, and matching is a walk over them.
 */
#include "config/ident.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "config/name_pattern.h"

struct name {
    char *text;
    bool is_all;
    struct name_pattern *pattern; /* NULL: the text itself */
};

struct entry {
    char *map;
    struct name system;
    struct name user;
};

struct ident {
    struct entry *entries;
    size_t count;
};

static void name_free(struct name *name)
{
    free(name->text);
    name_pattern_free(name->pattern);
}

void ident_free(struct ident *ident)
{
    if (!ident)
        return;
    for (size_t i = 0; i < ident->count; i++) {
        free(ident->entries[i].map);
        name_free(&ident->entries[i].system);
        name_free(&ident->entries[i].user);
    }
    free(ident->entries);
    free(ident);
}

static bool take_name(struct name *name, const struct rule_word *word, const struct rule_line *line,
                      struct config_errors *errors)
{
    char why[256];
    name->text = memory_strdup(word->text);
    if (word->text[0] != '/')
        return true;
    name->pattern = name_pattern_new(word->text + 1, why, sizeof(why));
    if (!name->pattern)
        rule_error(errors, line->file, line->number, "the expression %s: %s", word->text, why);
    return name->pattern != NULL;
}

static bool wants_part(const struct entry *entry)
{
    return entry->system.pattern && !entry->user.pattern && strstr(entry->user.text, "\\1");
}

static bool take_line(struct entry *entry, const struct rule_line *line,
                      struct config_errors *errors)
{
    if (line->count < 3) {
        rule_error(errors, line->file, line->number,
                   "a line is MAP SYSTEM-USER DATABASE-USER: %s is missing",
                   line->count < 2 ? "the system user" : "the database user");
        return false;
    }
    for (size_t i = 0; i < 3; i++) {
        if (line->fields[i].count != 1) {
            rule_error(errors, line->file, line->number,
                       "each of the three takes one word: there are %zu", line->fields[i].count);
            return false;
        }
    }
    const struct rule_word *user = &line->fields[2].words[0];
    if (!user->is_quoted && user->text[0] == '+') {
        rule_error(errors, line->file, line->number,
                   "%s: pgreserve does not know who is a member of a role: name the users",
                   user->text);
        return false;
    }
    entry->map = memory_strdup(line->fields[0].words[0].text);
    entry->user.is_all = rule_word_is(user, "all");
    bool ok = take_name(&entry->system, &line->fields[1].words[0], line, errors);
    ok = take_name(&entry->user, user, line, errors) && ok;
    if (ok && wants_part(entry) && !name_pattern_has_parts(entry->system.pattern)) {
        rule_error(errors, line->file, line->number,
                   "%s wants a part in parentheses, and %s has none", entry->user.text,
                   entry->system.text);
        ok = false;
    }
    return ok;
}

struct ident *ident_read(const char *path, const struct rule_source *source,
                         struct config_errors *errors)
{
    struct rule_lines lines;
    size_t before = errors->count;
    rule_lines_read(&lines, path, source, errors);
    struct ident *ident = memory_alloc(sizeof(*ident));
    ident->entries = memory_alloc((lines.count + 1) * sizeof(*ident->entries));
    for (size_t i = 0; i < lines.count; i++)
        take_line(&ident->entries[ident->count++], &lines.items[i], errors);
    rule_lines_free(&lines);
    if (errors->count == before)
        return ident;
    ident_free(ident);
    return NULL;
}

/* ---- matching ---- */

/* The database user with its first \1 replaced by what `part` took; it is a name then, whatever it looks like. */
static bool expanded_is(const char *text, const char *system_user, const struct name_part *part,
                        const char *user)
{
    const char *mark = strstr(text, "\\1");
    size_t before = (size_t)(mark - text);
    size_t length = strlen(user);
    size_t after = strlen(mark + 2);
    return length == before + part->length + after && memcmp(user, text, before) == 0 &&
           memcmp(user + before, system_user + part->start, part->length) == 0 &&
           memcmp(user + before + part->length, mark + 2, after) == 0;
}

static bool is_user(const struct name *name, const char *user)
{
    if (name->is_all)
        return true;
    if (name->pattern)
        return name_pattern_matches(name->pattern, user, NULL);
    return strcmp(name->text, user) == 0;
}

enum answer { ANSWER_NO, ANSWER_YES, ANSWER_END };

/* ANSWER_END: a part that is wanted took nothing of the name, after which PostgreSQL asks no other line either. */
static enum answer ask_entry(const struct entry *entry, const char *system_user, const char *user)
{
    struct name_part part = {0};
    if (!entry->system.pattern)
        return strcmp(entry->system.text, system_user) == 0 && is_user(&entry->user, user)
                   ? ANSWER_YES
                   : ANSWER_NO;
    if (!name_pattern_matches(entry->system.pattern, system_user, &part))
        return ANSWER_NO;
    if (!wants_part(entry))
        return is_user(&entry->user, user) ? ANSWER_YES : ANSWER_NO;
    if (!part.is_there)
        return ANSWER_END;
    return expanded_is(entry->user.text, system_user, &part, user) ? ANSWER_YES : ANSWER_NO;
}

bool ident_allows(const struct ident *ident, const char *map, const char *system_user,
                  const char *user)
{
    enum answer answer = ANSWER_NO;
    if (!map)
        return strcmp(system_user, user) == 0;
    for (size_t i = 0; ident && i < ident->count && answer == ANSWER_NO; i++) {
        if (strcmp(ident->entries[i].map, map) == 0)
            answer = ask_entry(&ident->entries[i], system_user, user);
    }
    return answer == ANSWER_YES;
}
