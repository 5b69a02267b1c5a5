/*
 * prepare_answer.c - what the server's answers say about prepared statements.
 *
 * What was assumed when a message was sent is confirmed or taken back here, in the order of the answers; and where an
 * error speaks of a statement by our name, the client hears its own.
 */
#include <string.h>

#include "proto/build.h"
#include "proto/sqlstate.h"
#include "proxy/prepare_inside.h"
#include "proxy/settle.h"

/* Whatever of the unnamed statement was skipped stands behind what was answered or has failed. */
static void unnamed_events(struct client *client, const struct outstanding *outstanding)
{
    struct client_statements *statements = &client->statements;
    for (uint32_t i = 0; i < outstanding->unnamed_answered; i++)
        unnamed_answered(statements, false);
    for (uint32_t i = 0; i < outstanding->unnamed_failed; i++)
        unnamed_answered(statements, true);
    uint32_t provided = outstanding->provided_answered + outstanding->provided_undone;
    client->provided -= (uint16_t)(provided < client->provided ? provided : client->provided);
    bool is_first = true;
    for (uint32_t i = 0; i < outstanding->unnamed_undone; i++) {
        bool was_there = unnamed_undone(statements);
        if (is_first)
            client->has_own_unnamed = was_there;
        is_first = false;
    }
    if (outstanding->provided_undone > 0) /* what was skipped behind it took it for done */
        client->has_own_unnamed = false;
}

void prepare_answered(struct server *server)
{
    struct outstanding *outstanding = &server->outstanding;
    struct statement_table *table = &server->proxy->statements;
    if (server->client)
        unnamed_events(server->client, outstanding);
    if (outstanding->undone > 0)
        expected_undo(table, &server->statements,
                      server->client ? &server->client->statements : NULL, (int)outstanding->undone,
                      outstanding->first_has_failed);
    for (; outstanding->confirmed > 0; outstanding->confirmed--)
        expected_confirm(table, &server->statements);
    outstanding->undone = 0;
    outstanding->unnamed_answered = outstanding->unnamed_failed = outstanding->unnamed_undone = 0;
    outstanding->provided_answered = outstanding->provided_undone = 0;
    outstanding->events = 0;
}

void prepare_all_gone(struct server *server)
{
    struct statement_table *table = &server->proxy->statements;
    if (!server->client) {
        backend_statements_clear(table, &server->statements);
        return;
    }
    backend_statements_deallocated(table, &server->statements);
    client_statements_deallocated(table, &server->client->statements, &server->statements);
}

/* The client's name where the server says ours; what is nobody's (a sacrifice of a DEALLOCATE) must not show how ours begin. */
static void append_with_own_names(struct buffer *out, const struct client *client, const char *text)
{
    const char *prefix = client->proxy->statements.prefix;
    const char *found;
    while ((found = strstr(text, prefix))) {
        size_t length =
            strlen(prefix) + strspn(found + strlen(prefix), "0123456789abcdefghijklmnopqrstuvwxyz");
        const char *name = client_statement_name(&client->statements, found, length);
        buffer_append(out, text, (size_t)(found - text));
        if (name)
            buffer_append(out, name, strlen(name));
        else
            buffer_append(out, "pgreserve", strlen("pgreserve"));
        text = found + length;
    }
    buffer_append(out, text, strlen(text) + 1);
}

/* A table has changed under a prepared statement: what backends prepared before is not trusted any more. */
static void note_stale_plan(struct client *client, const uint8_t *body, size_t length)
{
    struct statement_table *table = prepare_table(client);
    const char *sqlstate = error_field(body, length, 'C');
    const char *message = error_field(body, length, 'M');
    if (sqlstate && message && strcmp(sqlstate, SQLSTATE_FEATURE_NOT_SUPPORTED) == 0 &&
        strstr(message, "cached plan"))
        table->last_stale = ++table->last_parse;
    /* code that we did not see has deallocated what was there */
    if (sqlstate && message && client->server && strcmp(sqlstate, "26000") == 0 &&
        strstr(message, table->prefix))
        backend_statements_deallocated(table, &client->server->statements);
}

/* A Bind with a format for each column that there were, of a statement that we have prepared anew since its table was
 * changed: on the client's own connection its plan could not be used, which is what drivers know how to heal. */
static bool translate_changed_result(struct client *client, const uint8_t *body, size_t length)
{
    const char *routine = error_field(body, length, 'R');
    if (!routine || strcmp(routine, "PortalSetResultFormat") != 0 || !client->statements.by_name)
        return false;
    struct buffer message = {0};
    size_t mark = build_begin(&message, 'E');
    build_text(&message, "SERROR");
    build_text(&message, "VERROR");
    build_text(&message, "C" SQLSTATE_FEATURE_NOT_SUPPORTED);
    build_text(&message, "Mcached plan must not change result type");
    build_text(&message, "RRevalidateCachedQuery");
    build_u8(&message, 0);
    build_end(&message, mark);
    stream_write_buffer(&client->stream, &message);
    return true;
}

bool prepare_translate_error(struct client *client, const uint8_t *body, size_t length)
{
    note_stale_plan(client, body, length);
    if (settle_is_shared(client) && translate_changed_result(client, body, length))
        return true;
    const char *prefix = client->proxy->statements.prefix;
    if (length == 0 || body[length - 1] != 0 || !memmem(body, length, prefix, strlen(prefix)))
        return false;
    struct buffer message = {0};
    size_t mark = build_begin(&message, 'E');
    for (size_t at = 0; at < length && body[at] != 0;) {
        const char *text = (const char *)body + at + 1;
        build_u8(&message, body[at]);
        append_with_own_names(&message, client, text);
        at += strlen(text) + 2;
    }
    build_u8(&message, 0);
    build_end(&message, mark);
    stream_write_buffer(&client->stream, &message);
    return true;
}
