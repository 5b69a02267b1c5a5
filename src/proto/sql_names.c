/*
 * sql_names.c - the settings that a statement names: see sql_names.h.
 *
 * A small tokenizer of its own, for the whole text is at hand and only literals, words and marks matter.  What it does not
 * understand (escapes in a name, an expression for a name) counts as unknown.
 */
#include "proto/sql_names.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define CALLS_MAX 100

enum token_kind { TOKEN_END, TOKEN_WORD, TOKEN_LITERAL, TOKEN_OTHER };

struct token {
    enum token_kind kind;
    const char *text; /* of a word or a literal: its inside */
    size_t length;
    char mark;      /* of another */
    bool is_quoted; /* a word in double quotes: never a keyword */
};

struct reader {
    const char *at;
    const char *end;
};

static bool is_word_byte(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$' || (unsigned char)c >= 0x80;
}

/* Comments of this kind nest in PostgreSQL. */
static void skip_comment(struct reader *reader)
{
    int depth = 0;
    do {
        size_t left = (size_t)(reader->end - reader->at);
        bool begins = left >= 2 && memcmp(reader->at, "/*", 2) == 0;
        bool ends = left >= 2 && memcmp(reader->at, "*/", 2) == 0;
        depth += begins - ends;
        reader->at += begins || ends ? 2 : 1;
    } while (depth > 0 && reader->at < reader->end);
}

static void skip_blanks(struct reader *reader)
{
    while (reader->at < reader->end) {
        size_t left = (size_t)(reader->end - reader->at);
        if (isspace((unsigned char)*reader->at)) {
            reader->at++;
        } else if (left >= 2 && memcmp(reader->at, "--", 2) == 0) {
            while (reader->at < reader->end && *reader->at != '\n' && *reader->at != '\r')
                reader->at++;
        } else if (left >= 2 && memcmp(reader->at, "/*", 2) == 0) {
            skip_comment(reader);
        } else {
            return;
        }
    }
}

/* A literal or a quoted name up to its closing quote; a doubled quote or a backslash makes it one that is not read. */
static struct token read_quoted(struct reader *reader, char quote)
{
    const char *start = ++reader->at;
    bool is_plain = true;
    for (; reader->at < reader->end; reader->at++) {
        if (*reader->at == '\\')
            is_plain = false;
        if (*reader->at != quote)
            continue;
        if (reader->at + 1 >= reader->end || reader->at[1] != quote)
            break;
        is_plain = false;
        reader->at++;
    }
    struct token token = {.kind = TOKEN_OTHER, .text = start, .mark = quote};
    token.length = (size_t)(reader->at - start);
    token.is_quoted = quote == '"';
    if (is_plain)
        token.kind = quote == '\'' ? TOKEN_LITERAL : TOKEN_WORD;
    if (reader->at < reader->end)
        reader->at++;
    return token;
}

/* E'...', in which a backslash keeps the next byte from being a quote. */
static struct token read_escaped(struct reader *reader)
{
    const char *at = reader->at + 1;
    for (; at < reader->end; at++) {
        if (*at == '\\' || (*at == '\'' && at + 1 < reader->end && at[1] == '\''))
            at++; /* two bytes that end nothing */
        else if (*at == '\'')
            break;
    }
    reader->at = at < reader->end ? at + 1 : reader->end;
    return (struct token){.kind = TOKEN_OTHER, .mark = '\''};
}

/* $tag$ ... $tag$; false when a dollar is no such thing. */
static bool skip_dollar_quote(struct reader *reader)
{
    const char *at = reader->at + 1;
    while (at < reader->end && is_word_byte(*at) && *at != '$')
        at++;
    if (at >= reader->end || *at != '$' || isdigit((unsigned char)reader->at[1]))
        return false;
    size_t tag = (size_t)(at + 1 - reader->at);
    const char *close = memmem(at + 1, (size_t)(reader->end - at - 1), reader->at, tag);
    reader->at = close ? close + tag : reader->end;
    return true;
}

static struct token next_token(struct reader *reader)
{
    skip_blanks(reader);
    if (reader->at >= reader->end)
        return (struct token){.kind = TOKEN_END};
    if (*reader->at == '\'' || *reader->at == '"')
        return read_quoted(reader, *reader->at);
    if (*reader->at == '$' && skip_dollar_quote(reader))
        return (struct token){.kind = TOKEN_OTHER, .mark = '$'};
    if ((*reader->at | 0x20) == 'e' && reader->end - reader->at > 1 && reader->at[1] == '\'') {
        reader->at++;
        return read_escaped(reader);
    }
    const char *start = reader->at++;
    if (!is_word_byte(*start))
        return (struct token){.kind = TOKEN_OTHER, .text = start, .length = 1, .mark = *start};
    while (reader->at < reader->end && is_word_byte(*reader->at))
        reader->at++;
    return (struct token){
        .kind = TOKEN_WORD, .text = start, .length = (size_t)(reader->at - start)};
}

static bool is_word(const struct token *token, const char *word)
{
    return token->kind == TOKEN_WORD && !token->is_quoted && token->length == strlen(word) &&
           strncasecmp(token->text, word, token->length) == 0;
}

static bool is_mark(const struct token *token, char mark)
{
    return token->kind == TOKEN_OTHER && token->mark == mark;
}

static bool is_ascii(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)text[i] >= 0x80)
            return false;
    }
    return true;
}

/* Tells of a name with a dot, if it is one that can be a setting's.  One that is not ASCII is not told: whoever asks for it
 * may have another encoding, in which it is no name. */
static void tell(const char *name, size_t length, sql_name_callback named, void *arg)
{
    char text[SQL_NAME_MAX];
    if (length >= sizeof(text))
        named(arg, NULL);
    if (length == 0 || length >= sizeof(text) || !memchr(name, '.', length) ||
        name[length - 1] == '.')
        return;
    for (size_t i = 0; i < length; i++) {
        if (!is_word_byte(name[i]) && name[i] != '.')
            return;
        text[i] = (char)tolower((unsigned char)name[i]);
    }
    text[length] = '\0';
    named(arg, is_ascii(text, length) ? text : NULL);
}

/* Behind SET: [SESSION | LOCAL] a.b.  Returns the token that is not part of it. */
static struct token read_set(struct reader *reader, uint32_t *config, sql_name_callback named,
                             void *arg)
{
    char name[SQL_NAME_MAX];
    size_t used = 0;
    struct token token = next_token(reader);
    if (is_word(&token, "session") || is_word(&token, "local")) {
        struct reader ahead = *reader;
        struct token dot = next_token(&ahead);
        if (!is_mark(&dot, '.'))
            token = next_token(reader);
    }
    while (token.kind == TOKEN_WORD) {
        size_t part = token.length > SQL_IDENTIFIER_MAX ? SQL_IDENTIFIER_MAX : token.length;
        if (used + part + 2 >= sizeof(name)) {
            named(arg, NULL);
            used = 0;
            break;
        }
        memcpy(name + used, token.text, part);
        used += part;
        token = next_token(reader);
        if (!is_mark(&token, '.'))
            break;
        name[used++] = '.';
        token = next_token(reader);
    }
    if (!memchr(name, '.', used))
        *config |= SQL_CONFIG_READING;
    tell(name, used, named, arg);
    return token;
}

/* An argument up to its comma or the closing parenthesis; its only token, when it has just one. */
static struct token read_argument(struct reader *reader, struct token *end)
{
    struct token only = next_token(reader);
    struct token token = only;
    int depth = 0;
    int count = 0;
    for (; token.kind != TOKEN_END; token = next_token(reader), count++) {
        if (is_mark(&token, '('))
            depth++;
        else if (depth == 0 && (is_mark(&token, ',') || is_mark(&token, ')')))
            break;
        else if (is_mark(&token, ')'))
            depth--;
    }
    *end = token;
    if (count != 1)
        only.kind = TOKEN_OTHER;
    return only;
}

static bool names(const struct token *token, const char *setting)
{
    return token->length == strlen(setting) &&
           strncasecmp(token->text, setting, token->length) == 0;
}

/* Behind set_config. */
static uint32_t read_config(struct reader *reader, sql_name_callback named, void *arg)
{
    struct token token = next_token(reader);
    struct token end;
    if (!is_mark(&token, '('))
        return SQL_CONFIG_UNKNOWN | SQL_CONFIG_READING;
    struct token name = read_argument(reader, &end);
    if (!is_mark(&end, ','))
        return SQL_CONFIG_UNKNOWN | SQL_CONFIG_READING;
    bool is_custom = name.kind == TOKEN_LITERAL && memchr(name.text, '.', name.length);
    uint32_t reading = is_custom ? 0 : SQL_CONFIG_READING;
    struct reader inside = *reader; /* the value may hold further calls */
    read_argument(reader, &end);
    if (!is_mark(&end, ','))
        return SQL_CONFIG_UNKNOWN | reading;
    struct token is_local = read_argument(reader, &end);
    *reader = inside;
    if (name.kind == TOKEN_LITERAL && names(&name, "seed"))
        return SQL_CONFIG_SEED;
    if (is_word(&is_local, "true") ||
        (is_local.kind == TOKEN_LITERAL && (names(&is_local, "true") || names(&is_local, "t"))))
        return reading;
    if (name.kind != TOKEN_LITERAL)
        return SQL_CONFIG_UNKNOWN | reading;
    if (names(&name, "role") || names(&name, "session_authorization"))
        return SQL_CONFIG_ROLE | reading;
    tell(name.text, name.length, named, arg);
    return SQL_CONFIG_SETTING | reading;
}

static void read_look(struct reader *reader, sql_name_callback named, void *arg)
{
    struct token token = next_token(reader);
    if (!is_mark(&token, '('))
        return;
    token = next_token(reader);
    if (token.kind == TOKEN_LITERAL)
        tell(token.text, token.length, named, arg);
}

uint32_t sql_names(const char *text, size_t length, sql_name_callback named, void *arg)
{
    struct reader reader = {text, text + length};
    uint32_t config = 0;
    int calls = 0;
    struct token token = next_token(&reader);
    while (token.kind != TOKEN_END) {
        if (is_word(&token, "set")) {
            token = read_set(&reader, &config, named, arg);
            continue;
        }
        bool is_call = token.kind == TOKEN_WORD && names(&token, "set_config");
        if (is_call && ++calls > CALLS_MAX)
            return config | SQL_CONFIG_UNKNOWN | SQL_CONFIG_READING |
                   SQL_CONFIG_SEEN; /* each looks ahead, so many would cost much */
        if (is_call)
            config |= SQL_CONFIG_SEEN | read_config(&reader, named, arg);
        else if (token.kind == TOKEN_WORD && names(&token, "current_setting"))
            read_look(&reader, named, arg);
        token = next_token(&reader);
    }
    return config;
}

/* ---- prepared statements ---- */

static void tell_statement(const struct token *token, sql_statement_callback named, void *arg)
{
    char name[SQL_IDENTIFIER_MAX];
    size_t length = token->length > SQL_IDENTIFIER_MAX ? SQL_IDENTIFIER_MAX : token->length;
    if (token->kind == TOKEN_OTHER && token->mark == '"')
        named(arg, NULL, 0);
    if (token->kind != TOKEN_WORD)
        return;
    for (size_t i = 0; i < length; i++) {
        bool is_upper = token->text[i] >= 'A' && token->text[i] <= 'Z' && !token->is_quoted;
        name[i] = (char)(token->text[i] | (is_upper ? 0x20 : 0));
    }
    named(arg, name, length);
}

void sql_statement_names(const char *text, size_t length, sql_statement_callback named, void *arg)
{
    struct reader reader = {text, text + length};
    struct token token = next_token(&reader);
    while (token.kind != TOKEN_END) {
        bool is_deallocate = is_word(&token, "deallocate");
        bool begins = is_deallocate || is_word(&token, "prepare") || is_word(&token, "execute");
        token = next_token(&reader);
        if (!begins)
            continue;
        struct reader ahead = reader;
        struct token next = next_token(&ahead);
        bool is_name = next.kind == TOKEN_WORD || is_mark(&next, '"');
        if (is_deallocate && is_word(&token, "prepare") && is_name) {
            token = next;
            reader = ahead;
            next = next_token(&ahead);
        }
        if (is_word(&token, "u") && is_mark(&next, '&')) /* U&"..." */
            named(arg, NULL, 0);
        else
            tell_statement(&token, named, arg);
    }
}
