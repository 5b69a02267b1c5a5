/*
 * startup.c - reads the StartupMessage: see startup.h.
 *
 * `options` is split as the server splits it (pg_split_opts: blanks separate, a backslash takes the next
 * character as it is) and `-c name=value`, `--name=value` become settings like any other parameter, as do `-e` and
 * `-S`.  Other switches of the postgres program are refused by name: honouring half of them would be worse than saying so.
 * What `options` says (the last, if there are two) comes before the packet's other parameters, wherever it stands in it.
 */
#include "proto/startup.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "proto/build.h"

static void replace(char **where, const char *value)
{
    free(*where);
    *where = memory_strdup(value);
}

/* The last value of a name counts, in whichever case of letters it is written. */
static void add_setting(struct startup *startup, const char *name, const char *value)
{
    if (strcasecmp(name, "application_name") == 0) {
        replace(&startup->application_name, value);
        return;
    }
    for (size_t i = 0; i < startup->setting_count; i++) {
        const char *known = startup->settings[i].name;
        if (((*known ^ *name) & 0xdf) == 0 &&
            strcasecmp(known, name) == 0) { /* there may be 1,600 */
            replace(&startup->settings[i].value, value);
            return;
        }
    }
    startup->settings =
        memory_resize(startup->settings, (startup->setting_count + 1) * sizeof(*startup->settings));
    startup->settings[startup->setting_count++] =
        (struct startup_setting){memory_strdup(name), memory_strdup(value)};
}

/* Cuts the next word off `*at` in place; NULL at the end. */
static char *next_word(char **at)
{
    char *in = *at;
    while (isspace((unsigned char)*in))
        in++;
    if (!*in)
        return NULL;
    char *word = in;
    char *out = in;
    while (*in && !isspace((unsigned char)*in)) {
        if (*in == '\\' && !*++in)
            break;
        *out++ = *in++;
    }
    *at = *in ? in + 1 : in;
    *out = '\0';
    return word;
}

/* `dashes` is what stood before it. */
static bool add_assignment(struct startup *startup, const char *dashes, char *text, char *error,
                           size_t error_bytes)
{
    char *equals = strchr(text, '=');
    if (!equals || equals == text) {
        startup->has_unknown_argument = equals || !*text;
        snprintf(error, error_bytes,
                 startup->has_unknown_argument
                     ? "invalid command-line argument for server process: %s%.100s"
                     : "%s%.100s requires a value",
                 dashes, text);
        return false;
    }
    *equals = '\0';
    for (char *c = text; *c; c++) {
        if (*c == '-')
            *c = '_';
    }
    add_setting(startup, text, equals + 1);
    return true;
}

static bool add_options(struct startup *startup, const char *options, char *error,
                        size_t error_bytes)
{
    char *copy = memory_strdup(options);
    char *at = copy;
    bool ok = true;
    const char *value;
    for (char *word; ok && (word = next_word(&at));) {
        if (strcmp(word, "-c") == 0) {
            char *assignment = next_word(&at);
            char none[] = "";
            ok = add_assignment(startup, "-c ", assignment ? assignment : none, error, error_bytes);
        } else if (strncmp(word, "-c", 2) == 0 || strncmp(word, "--", 2) == 0) {
            ok = add_assignment(startup, word[1] == 'c' ? "-c " : "--", word + 2, error,
                                error_bytes);
        } else if (strcmp(word, "-e") == 0) {
            add_setting(startup, "datestyle", "euro");
        } else if (strncmp(word, "-S", 2) == 0 && (value = word[2] ? word + 2 : next_word(&at))) {
            add_setting(startup, "work_mem", value);
        } else {
            snprintf(error, error_bytes, "invalid command-line argument for server process: %.100s",
                     word);
            startup->has_unknown_argument = true;
            ok = false;
        }
    }
    startup->has_bad_options = !ok;
    free(copy);
    return ok;
}

static void add_unknown_option(struct startup *startup, const char *name)
{
    startup->unknown_options =
        memory_resize(startup->unknown_options,
                      (startup->unknown_option_count + 1) * sizeof(*startup->unknown_options));
    startup->unknown_options[startup->unknown_option_count++] = memory_strdup(name);
}

static void add_parameter(struct startup *startup, const char *name, const char *value,
                          const char **options)
{
    if (strcmp(name, "user") == 0)
        replace(&startup->user, value);
    else if (strcmp(name, "database") == 0)
        replace(&startup->database, value);
    else if (strcmp(name, "replication") == 0)
        replace(&startup->replication, value);
    else if (strcmp(name, "options") == 0)
        *options = value;
    else if (strncmp(name, "_pq_.", 5) == 0)
        add_unknown_option(startup, name);
    else
        add_setting(startup, name, value);
}

/* The other parameters have been read, and count more. */
static bool add_options_before(struct startup *startup, const char *options, char *error,
                               size_t error_bytes)
{
    struct startup_setting *others = startup->settings;
    size_t count = startup->setting_count;
    char *application_name = startup->application_name;
    startup->settings = NULL;
    startup->setting_count = 0;
    startup->application_name = NULL;
    bool ok = add_options(startup, options, error, error_bytes);
    if (application_name)
        replace(&startup->application_name, application_name);
    free(application_name);
    for (size_t i = 0; i < count; i++) {
        add_setting(startup, others[i].name, others[i].value);
        free(others[i].name);
        free(others[i].value);
    }
    free(others);
    return ok;
}

/* As PostgreSQL does before it looks at its rules: what is behind is not seen by the server, so no rule may see it. */
static void cut_name(char *name)
{
    if (strlen(name) > STARTUP_NAME_MAX)
        name[STARTUP_NAME_MAX] = '\0';
}

bool startup_parse(struct startup *startup, const uint8_t *body, size_t length, char *error,
                   size_t error_bytes)
{
    *startup = (struct startup){0};
    if (length < 5) {
        snprintf(error, error_bytes, "invalid length of startup packet");
        return false;
    }
    startup->minor = read_u16(body + 2);
    const char *options = NULL;
    size_t at = 4;
    while (at < length && body[at] != 0) {
        const char *name = (const char *)body + at;
        const uint8_t *end = memchr(body + at, 0, length - at);
        if (!end)
            break;
        at = (size_t)(end - body) + 1;
        const char *value = (const char *)body + at;
        end = at < length ? memchr(body + at, 0, length - at) : NULL;
        if (!end)
            break;
        at = (size_t)(end - body) + 1;
        add_parameter(startup, name, value, &options);
    }
    if (at + 1 != length || body[at] != 0) {
        snprintf(error, error_bytes,
                 "invalid startup packet layout: expected terminator as last byte");
        return false;
    }
    if (!startup->user || !*startup->user) {
        snprintf(error, error_bytes, "no PostgreSQL user name specified in startup packet");
        startup->has_no_user = true;
        return false;
    }
    if (options && !add_options_before(startup, options, error, error_bytes))
        return false;
    if (!startup->database || !*startup->database)
        replace(&startup->database, startup->user);
    cut_name(startup->user);
    cut_name(startup->database);
    return true;
}

/* PostgreSQL's parse_bool(): the beginning of a word is enough while it is no other's. */
static bool is_word_of_truth(const char *value, bool *is_true)
{
    static const struct {
        const char *word;
        size_t least;
        bool is_true;
    } words[] = {{"true", 1, true}, {"false", 1, false}, {"yes", 1, true}, {"no", 1, false},
                 {"on", 2, true},   {"off", 2, false},   {"1", 1, true},   {"0", 1, false}};
    size_t length = strlen(value);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        *is_true = words[i].is_true;
        if (length >= words[i].least && length <= strlen(words[i].word) &&
            strncasecmp(value, words[i].word, length) == 0)
            return true;
    }
    return false;
}

enum startup_replication startup_replication(const char *value)
{
    bool is_true;
    if (!value)
        return STARTUP_REPLICATION_NONE;
    if (strcmp(value, "database") == 0)
        return STARTUP_REPLICATION_DATABASE;
    if (!is_word_of_truth(value, &is_true))
        return STARTUP_REPLICATION_INVALID;
    return is_true ? STARTUP_REPLICATION_PHYSICAL : STARTUP_REPLICATION_NONE;
}

void startup_free(struct startup *startup)
{
    free(startup->user);
    free(startup->database);
    free(startup->application_name);
    free(startup->replication);
    for (size_t i = 0; i < startup->setting_count; i++) {
        free(startup->settings[i].name);
        free(startup->settings[i].value);
    }
    free(startup->settings);
    for (size_t i = 0; i < startup->unknown_option_count; i++)
        free(startup->unknown_options[i]);
    free(startup->unknown_options);
    *startup = (struct startup){0};
}
