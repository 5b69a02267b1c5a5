/*
 * command_words.c - a console command's text to words, and the rows that it asks for: see command.h.
 *
 * Words are what stands between blanks, quoted or not; `=` is a word of its own.  SHOW finds a table, or a parameter that
 * drivers ask every server for; SELECT does the same, and knows the few calls by which drivers and pools see
 * whether a server lives.
 */
#include "admin/command.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "admin/settings.h"
#include "base/memory.h"

bool command_has_word(const struct command *command, int index, const char *word)
{
    return index < command->count && strcasecmp(command->words[index], word) == 0;
}

/* ---- words ---- */

/* A quoted word from behind its quote: its doubled quotes become one.  Returns where it ends. */
static char *read_quoted(struct command *command, char *at, char quote, char **write)
{
    for (; *at; at++) {
        if (*at == quote && at[1] == quote)
            at++;
        else if (*at == quote)
            return at + 1;
        *(*write)++ = *at;
    }
    command->is_unbalanced = true;
    return at;
}

static char *skip_blanks(char *at)
{
    for (;;) {
        while (isspace((unsigned char)*at))
            at++;
        if (at[0] == '-' && at[1] == '-') {
            at += strcspn(at, "\n");
        } else if (at[0] == '/' && at[1] == '*') {
            char *end = strstr(at + 2, "*/");
            at = end ? end + 2 : at + strlen(at);
        } else {
            return at;
        }
    }
}

/* One word, made in the space from `*write` on, which never overtakes `at`. */
static char *read_word(struct command *command, char *at, char **write)
{
    if (*at == '=') {
        *(*write)++ = *at++;
        return at;
    }
    while (*at && !isspace((unsigned char)*at) && *at != ';' && *at != '=') {
        if (*at == '\'' || *at == '"')
            at = read_quoted(command, at + 1, *at, write);
        else if ((at[0] == '-' && at[1] == '-') || (at[0] == '/' && at[1] == '*'))
            break;
        else
            *(*write)++ = *at++;
    }
    return at;
}

void command_read(struct command *command, char **text)
{
    char *copy = memory_alloc(strlen(*text) * 2 + 2); /* words and their zeroes */
    char *write = copy;
    char *at = skip_blanks(*text);
    while (*at && *at != ';') {
        char *word = write;
        at = skip_blanks(read_word(command, at, &write));
        *write++ = '\0';
        if (command->count < COMMAND_WORDS_MAX)
            command->words[command->count++] = word;
    }
    if (command->count == 0)
        free(copy);
    *text = *at == ';' ? at + 1 : at;
}

/* ---- what returns rows ---- */

static bool one_value(struct command_result *result, const char *name, enum show_type type,
                      const char *value)
{
    result->table = NULL;
    result->columns[0] = (struct show_column){name, type, SHOW_PUBLIC};
    result->columns[1] = (struct show_column){NULL, SHOW_TEXT, SHOW_PUBLIC};
    result->value = value;
    return true;
}

/* What drivers and pools select to see whether a server lives, or to tidy up. */
static bool selected_value(const struct command *command, struct command_result *result)
{
    const struct client *client = command->client;
    const char *word = command->words[1];
    if (strncasecmp(word, "pg_catalog.", 11) == 0)
        word += 11;
    const struct {
        const char *call;
        const char *column;
        enum show_type type;
        const char *value;
    } calls[] = {
        {"version()", "version", SHOW_TEXT, SETTINGS_VERSION},
        {"current_user", "current_user", SHOW_TEXT, client->user},
        {"session_user", "session_user", SHOW_TEXT, client->user},
        {"current_database()", "current_database", SHOW_TEXT, client->database},
        {"current_schema()", "current_schema", SHOW_TEXT, "public"},
        {"pg_is_in_recovery()", "pg_is_in_recovery", SHOW_BOOL, "f"},
        {"pg_advisory_unlock_all()", "pg_advisory_unlock_all", SHOW_TEXT, ""},
    };
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        if (strcasecmp(calls[i].call, word) == 0)
            return one_value(result, calls[i].column, calls[i].type, calls[i].value);
    }
    size_t digits = strspn(word, "0123456789");
    if (digits > 0 && digits < 10 && !word[digits])
        return one_value(result, "?column?", SHOW_INT4, word);
    return false;
}

/* SHOW TIME ZONE and SHOW TRANSACTION ISOLATION LEVEL are written in words. */
static const char *shown_name(const struct command *command)
{
    if (command->count == 3 && command_has_word(command, 1, "time") &&
        command_has_word(command, 2, "zone"))
        return "timezone";
    if (command->count == 4 && command_has_word(command, 1, "transaction") &&
        command_has_word(command, 2, "isolation") && command_has_word(command, 3, "level"))
        return "transaction_isolation";
    return command->count == 2 ? command->words[1] : NULL;
}

bool command_result(const struct command *command, struct command_result *result)
{
    bool is_select = command_has_word(command, 0, "SELECT");
    *result = (struct command_result){0};
    if (!is_select && !command_has_word(command, 0, "SHOW"))
        return false;
    const char *name = shown_name(command);
    if (!name)
        return false;
    result->table = show_find(name);
    if (result->table)
        return true;
    const char *spelling;
    const char *value = settings_session(command->client, name, &spelling);
    if (value)
        return one_value(result, spelling, SHOW_TEXT, value);
    return is_select && selected_value(command, result);
}

const struct show_column *command_columns(const struct command_result *result)
{
    return result->table ? result->table->columns : result->columns;
}

struct sending {
    struct buffer *out;
    const struct show_column *columns;
    const struct wire_formats *formats;
    uint32_t skip;
    uint32_t limit;
    uint32_t sent;
    bool has_more;
};

static bool send_row(void *arg, const char *const *cells, size_t count)
{
    struct sending *sending = arg;
    if (sending->skip > 0) {
        sending->skip--;
        return true;
    }
    if (sending->limit > 0 && sending->sent == sending->limit) {
        sending->has_more = true;
        return false;
    }
    wire_row(sending->columns, cells, count, sending->formats, sending->out);
    sending->sent++;
    return true;
}

uint32_t command_send_rows(const struct command *command, const struct command_result *result,
                           const struct wire_formats *formats, uint32_t skip, uint32_t limit)
{
    struct sending sending = {.out = command->out, .columns = command_columns(result)};
    sending.formats = formats;
    sending.skip = skip;
    sending.limit = limit;
    if (result->table)
        show_walk(result->table, command->client->proxy,
                  command->client->is_administrator ? SHOW_QUERIES : SHOW_ADDRESSES, send_row,
                  &sending);
    else
        send_row(&sending, &result->value, 1);
    return sending.has_more ? UINT32_MAX : sending.sent;
}
