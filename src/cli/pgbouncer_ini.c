/*
 * pgbouncer_ini.c - a pgbouncer.ini as PgBouncer reads it: see pgbouncer_ini.h.
 *
 * Its INI is not ours: `;` and `#` begin a comment only at the beginning of a line, a value goes to the end of its line
 * whatever is in it, a database's name may stand in double quotes, and `%include FILE` reads another file there.  PgBouncer
 * takes that name as relative to where it was started, which is seldom where this command is: so the including file's
 * own folder is tried as well.  A key that comes twice counts as it came last.
 */
#include "cli/pgbouncer_ini.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"

#define INCLUDE_DEPTH_MAX 10
#define FILE_BYTES_MAX    (8u << 20)

struct place {
    const char *file;
    int line;
    int depth;
    char *section; /* in force; owned */
};

static bool read_one(struct pgbouncer_file *file, FILE *in, const char *path, int depth);

static bool fail(struct pgbouncer_file *file, const struct place *place, const char *what,
                 const char *detail)
{
    if (!file->error)
        file->error = memory_printf("%s:%d: %s%s%s", place->file, place->line, what,
                                    *detail ? ": " : "", detail);
    return false;
}

static char *trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    size_t length = strlen(text);
    while (length > 0 && isspace((unsigned char)text[length - 1]))
        text[--length] = '\0';
    return text;
}

/* The path by which an included file can be opened; free() it. */
static char *included_path(const char *name, const char *from)
{
    const char *slash = strrchr(from, '/');
    if (*name == '/' || !slash || access(name, F_OK) == 0)
        return memory_strdup(name);
    return memory_printf("%.*s/%s", (int)(slash - from), from, name);
}

static bool include(struct pgbouncer_file *file, const struct place *place, const char *name)
{
    if (place->depth >= INCLUDE_DEPTH_MAX)
        return fail(file, place, "files include each other too deeply", name);
    char *path = included_path(name, place->file);
    FILE *in = fopen(path, "re");
    bool ok =
        in ? read_one(file, in, path, place->depth + 1) : fail(file, place, name, strerror(errno));
    if (in)
        fclose(in);
    free(path);
    return ok;
}

/* The key at the beginning of a line, quoted or not; `*at` moves behind it.  NULL when a quote is not closed. */
static char *take_key(char **at)
{
    char *in = *at;
    if (*in != '"') {
        size_t length = strcspn(in, "=");
        char *key = memory_strndup(in, length);
        *at = in + length;
        memmove(key, trim(key), strlen(trim(key)) + 1);
        return key;
    }
    char *key = memory_alloc(strlen(in) + 1);
    char *out = key;
    for (in++; *in; in++) {
        if (*in == '"' && in[1] != '"')
            break;
        if (*in == '"')
            in++;
        *out++ = *in;
    }
    if (*in != '"') {
        free(key);
        return NULL;
    }
    *at = in + 1;
    return key;
}

static bool take_setting(struct pgbouncer_file *file, const struct place *place, char *line)
{
    char *at = line;
    char *key = take_key(&at);
    char *value = key ? trim(at) : NULL;
    if (!key || !*key || *value != '=') {
        free(key);
        return fail(file, place, "not a [section], a `key = value`, an %include or a comment", "");
    }
    if (!place->section) {
        bool failed = fail(file, place, "stands before the first [section]", key);
        free(key);
        return failed;
    }
    file->settings = memory_resize(file->settings, (file->count + 1) * sizeof(*file->settings));
    file->settings[file->count++] = (struct pgbouncer_setting){
        memory_strdup(place->section), key, memory_strdup(trim(value + 1)),
        memory_strdup(place->file), place->line};
    return true;
}

static bool take_line(struct pgbouncer_file *file, struct place *place, char *text)
{
    char *line = trim(text);
    if (!*line || *line == ';' || *line == '#')
        return true;
    if (strncmp(line, "%include", 8) == 0 && isspace((unsigned char)line[8]))
        return include(file, place, trim(line + 8));
    if (*line != '[')
        return take_setting(file, place, line);
    char *end = strchr(line, ']');
    if (!end)
        return fail(file, place, "a [section] without its ]", "");
    free(place->section);
    place->section = memory_strndup(line + 1, (size_t)(end - line) - 1);
    return true;
}

static bool read_one(struct pgbouncer_file *file, FILE *in, const char *path, int depth)
{
    struct place place = {.file = path, .depth = depth};
    char *line = NULL;
    size_t capacity = 0;
    size_t total = 0;
    ssize_t got;
    bool ok = true;
    while (ok && (got = getline(&line, &capacity, in)) > 0) {
        place.line++;
        total += (size_t)got;
        ok = total <= FILE_BYTES_MAX ? take_line(file, &place, line)
                                     : fail(file, &place, "the file is longer than 8 MiB", "");
    }
    if (ok && ferror(in))
        ok = fail(file, &place, "cannot be read", strerror(errno));
    free(place.section);
    free(line);
    return ok;
}

bool pgbouncer_file_read(struct pgbouncer_file *file, const char *path)
{
    FILE *in = fopen(path, "re");
    if (!in) {
        file->error = memory_printf("%s: %s", path, strerror(errno));
        return false;
    }
    bool ok = read_one(file, in, path, 0);
    fclose(in);
    return ok;
}

void pgbouncer_file_free(struct pgbouncer_file *file)
{
    for (size_t i = 0; i < file->count; i++) {
        struct pgbouncer_setting *setting = &file->settings[i];
        free(setting->section);
        free(setting->key);
        memory_free_secret(setting->value); /* a database's may hold a password */
        free(setting->file);
    }
    free(file->settings);
    free(file->error);
    *file = (struct pgbouncer_file){0};
}

const char *pgbouncer_file_find(const struct pgbouncer_file *file, const char *section,
                                const char *key)
{
    for (size_t i = file->count; i-- > 0;) {
        if (strcmp(file->settings[i].section, section) == 0 &&
            strcmp(file->settings[i].key, key) == 0)
            return file->settings[i].value;
    }
    return NULL;
}

/* ---- connection strings ---- */

static const char *skip_blanks(const char *at)
{
    while (isspace((unsigned char)*at))
        at++;
    return at;
}

/* A value in quotes, `*at` behind the first one; NULL when it is not closed. */
static char *quoted_value(const char **at)
{
    char *value = memory_alloc(strlen(*at) + 1);
    char *out = value;
    for (; **at; (*at)++) {
        if (**at == '\'' && (*at)[1] != '\'') {
            (*at)++;
            return value;
        }
        if (**at == '\'')
            (*at)++;
        *out++ = **at;
    }
    memory_free_secret(value);
    return NULL;
}

bool pgbouncer_next_pair(const char **at, char **key, char **value)
{
    const char *in = skip_blanks(*at);
    size_t length = strcspn(in, "= \t");
    *at = in;
    if (!*in)
        return false;
    const char *equals = skip_blanks(in + length);
    if (length == 0 || *equals != '=') {
        *at = NULL;
        return false;
    }
    *key = memory_strndup(in, length);
    in = skip_blanks(equals + 1);
    if (*in == '\'') {
        in++;
        *value = quoted_value(&in);
    } else {
        size_t end = strcspn(in, " \t");
        *value = memory_strndup(in, end);
        in += end;
    }
    *at = *value ? in : NULL;
    if (!*value)
        free(*key);
    return *value != NULL;
}
