/*
 * extended.c - the console's extended protocol: Parse, Bind, Describe, Execute, Close, Sync.
 *
 * Drivers that prepare everything they send meet what they expect: named statements and portals, Describe of both,
 * results in text or binary, rows a few at a time (PortalSuspended), and after an error nothing until Sync.  Portals end
 * at Sync, as a transaction would.  Every length comes from the network and is checked as it is read.
 */
#include <stdlib.h>
#include <string.h>

#include "admin/console_inside.h"
#include "base/memory.h"
#include "proto/build.h"
#include "proto/sqlstate.h"

#define NAMES_MAX 256 /* statements, or portals, of one client */

/* ---- statements and portals ---- */

static struct named *find_named(const struct named_list *list, const char *name)
{
    struct named *named;
    TAILQ_FOREACH (named, list, link) {
        if (strcmp(named->name, name) == 0)
            return named;
    }
    return NULL;
}

static void remove_named(struct named_list *list, struct named *named, int *count)
{
    if (!named)
        return;
    TAILQ_REMOVE(list, named, link);
    (*count)--;
    free(named->name);
    free(named->text);
    free(named);
}

static void remove_all(struct named_list *list, int *count)
{
    while (!TAILQ_EMPTY(list))
        remove_named(list, TAILQ_FIRST(list), count);
}

/* In the place of one of the same name.  NULL when there are too many. */
static struct named *add_named(struct named_list *list, const char *name, const char *text,
                               int *count)
{
    remove_named(list, find_named(list, name), count);
    if (*count >= NAMES_MAX)
        return NULL;
    struct named *named = memory_alloc(sizeof(*named));
    named->name = memory_strdup(name);
    named->text = memory_strdup(text);
    TAILQ_INSERT_HEAD(list, named, link);
    (*count)++;
    return named;
}

static void fail(struct console *console, const char *sqlstate, const char *message,
                 struct buffer *out)
{
    build_error(out, 'E', &(struct error_fields){"ERROR", sqlstate, message, NULL, NULL});
    console->is_skipping = true;
}

/* ---- the extended protocol ---- */

/* What is left of a message's body. */
struct body {
    const uint8_t *at;
    size_t left;
    uint32_t message; /* the bytes of all of it, as its length word has them */
    bool is_short;    /* more was asked for than there is */
};

static void fail_protocol(struct console *console, const struct body *body, const char *what,
                          struct buffer *out)
{
    char text[96];
    snprintf(text, sizeof(text), "%s, %u bytes", what, body->message);
    fail(console, SQLSTATE_PROTOCOL_VIOLATION, text, out);
}

static const char *take_text(struct body *body)
{
    const uint8_t *end = body->left > 0 ? memchr(body->at, 0, body->left) : NULL;
    const char *text = (const char *)body->at;
    if (!end) {
        body->is_short = true;
        return "";
    }
    body->left -= (size_t)(end - body->at) + 1;
    body->at = end + 1;
    return text;
}

static uint32_t take_number(struct body *body, size_t bytes)
{
    if (body->left < bytes) {
        body->is_short = true;
        return 0;
    }
    uint32_t number = 0;
    for (size_t i = 0; i < bytes; i++)
        number = number << 8 | body->at[i];
    body->at += bytes;
    body->left -= bytes;
    return number;
}

static void parse_statement(struct console *console, struct body *body, struct buffer *out)
{
    const char *name = take_text(body);
    const char *text = take_text(body);
    if (body->is_short)
        fail_protocol(console, body, "malformed Parse message", out);
    else if (*name && find_named(&console->statements, name))
        fail(console, SQLSTATE_DUPLICATE_STATEMENT, "prepared statement exists already", out);
    else if (!add_named(&console->statements, name, text, &console->statement_count))
        fail(console, SQLSTATE_PROGRAM_LIMIT_EXCEEDED, "too many prepared statements", out);
    else
        build_empty(out, '1');
}

/* The result formats of a Bind: none, one for all, or one a column. */
static void take_formats(struct body *body, struct wire_formats *formats)
{
    uint32_t count = take_number(body, 2);
    for (uint32_t i = 0; i < count && !body->is_short; i++) {
        bool is_binary = take_number(body, 2) == 1;
        if (count == 1)
            formats->all_binary = is_binary;
        else if (i < SHOW_COLUMNS_MAX)
            formats->is_binary[i] = is_binary;
    }
}

static void bind_portal(struct console *console, struct body *body, struct buffer *out)
{
    struct wire_formats formats = {0};
    struct wire_formats ignored = {0};
    const char *portal = take_text(body);
    const char *name = take_text(body);
    take_formats(body, &ignored); /* of parameters */
    uint32_t parameters = take_number(body, 2);
    const struct named *statement = find_named(&console->statements, name);
    if (!body->is_short && parameters > 0) {
        fail_protocol(console, body,
                      "Bind message with parameters, of which the admin console takes none", out);
        return;
    }
    take_formats(body, &formats);
    if (body->is_short) {
        fail_protocol(console, body, "malformed Bind message", out);
        return;
    }
    if (!statement) {
        fail(console, SQLSTATE_INVALID_STATEMENT_NAME, "prepared statement does not exist", out);
        return;
    }
    struct named *named =
        add_named(&console->portals, portal, statement->text, &console->portal_count);
    if (!named) {
        fail(console, SQLSTATE_PROGRAM_LIMIT_EXCEEDED, "too many portals", out);
        return;
    }
    named->formats = formats;
    build_empty(out, '2');
}

static const struct named *named_of(struct console *console, struct body *body, bool *is_statement,
                                    struct buffer *out)
{
    *is_statement = take_number(body, 1) == 'S';
    const char *name = take_text(body);
    const struct named *named =
        find_named(*is_statement ? &console->statements : &console->portals, name);
    if (body->is_short)
        fail_protocol(console, body, "malformed Describe message", out);
    else if (!named)
        fail(console,
             *is_statement ? SQLSTATE_INVALID_STATEMENT_NAME : SQLSTATE_INVALID_CURSOR_NAME,
             *is_statement ? "prepared statement does not exist" : "portal does not exist", out);
    return body->is_short ? NULL : named;
}

static void describe(struct console *console, struct body *body, struct buffer *out)
{
    struct command_result result;
    bool is_statement;
    const struct named *named = named_of(console, body, &is_statement, out);
    if (!named)
        return;
    struct command command = {.client = console->client, .out = out};
    char *text = memory_strdup(named->text);
    char *at = text;
    command_read(&command, &at);
    if (is_statement) {
        size_t mark = build_begin(out, 't');
        build_u16(out, 0);
        build_end(out, mark);
    }
    if (!command.is_unbalanced && command_result(&command, &result))
        wire_describe(command_columns(&result), is_statement ? NULL : &named->formats, out);
    else
        build_empty(out, 'n');
    console_forget_words(&command);
    free(text);
}

/* Rows of a portal that were not fetched yet, then its end. */
static void run_portal(struct console *console, struct named *portal, uint32_t limit,
                       struct command *command)
{
    console_count_command(console->client->proxy);
    uint32_t sent = command_run(command, &portal->formats, portal->sent, limit);
    if (command->has_failed) {
        console->is_skipping = true;
    } else if (sent == UINT32_MAX) {
        portal->sent += limit;
        build_empty(command->out, 's');
    } else if (command->wait == WAIT_NOTHING) {
        build_command_complete(command->out, command->tag);
    }
}

static void execute(struct console *console, struct body *body, struct buffer *out)
{
    const char *name = take_text(body);
    uint32_t limit = take_number(body, 4);
    struct named *portal = find_named(&console->portals, name);
    if (body->is_short) {
        fail_protocol(console, body, "malformed Execute message", out);
        return;
    }
    if (!portal) {
        fail(console, SQLSTATE_INVALID_CURSOR_NAME, "portal does not exist", out);
        return;
    }
    struct command command = {.client = console->client, .out = out};
    char *text = memory_strdup(portal->text);
    char *at = text;
    command_read(&command, &at);
    if (command.count == 0)
        build_empty(out, 'I');
    else
        run_portal(console, portal, limit, &command);
    if (command.wait != WAIT_NOTHING) {
        console_send(console->client, out);
        console_wait(console, &command, false);
    }
    console_forget_words(&command);
    free(text);
}

static void close_named(struct console *console, struct body *body, struct buffer *out)
{
    bool is_statement = take_number(body, 1) == 'S';
    const char *name = take_text(body);
    if (body->is_short) {
        fail_protocol(console, body, "malformed Close message", out);
        return;
    }
    if (is_statement)
        remove_named(&console->statements, find_named(&console->statements, name),
                     &console->statement_count);
    else
        remove_named(&console->portals, find_named(&console->portals, name),
                     &console->portal_count);
    build_empty(out, '3');
}

static void synchronize(struct console *console, struct body *body, struct buffer *out)
{
    (void)body;
    console->is_skipping = false;
    remove_all(&console->portals, &console->portal_count);
    build_ready(out, 'I');
}

bool extended_message(struct console *console, uint8_t type, const uint8_t *bytes, size_t length,
                      struct buffer *out)
{
    static const struct {
        uint8_t type;
        void (*handle)(struct console *console, struct body *body, struct buffer *out);
    } handlers[] = {{'P', parse_statement}, {'B', bind_portal}, {'D', describe},
                    {'E', execute},         {'C', close_named}, {'S', synchronize}};
    struct body body = {.at = bytes, .left = length, .message = (uint32_t)length + 4};
    for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
        if (handlers[i].type == type) {
            handlers[i].handle(console, &body, out);
            return true;
        }
    }
    return false;
}

void extended_free(struct console *console)
{
    remove_all(&console->statements, &console->statement_count);
    remove_all(&console->portals, &console->portal_count);
}
