/*
 * relay.c - messages from a backend to its client; with relay_client.c, what runs for every query.
 *
 * Bytes are read 64 kB at a time, only the five bytes of each message's header are looked at, and whole runs of
 * messages are written on from where they were read.  A message need not be there in whole: its rest passes through when
 * it comes.  Exceptions: ReadyForQuery, ParameterStatus and ErrorResponse are looked into, and the rows that
 * answer a question of ours, so they wait until they are complete.
 *
 * At a ReadyForQuery that says `I` with nothing owed the client gives its backend up, unless it is pinned or the server
 * must first be asked what its session holds (settle.c).  The backend goes to the next waiter, whose query leaves, before
 * the answer is written to the last client: it works one system call sooner.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "proto/build.h"
#include "proto/sqlstate.h"
#include "proxy/auth_query.h"
#include "proxy/clear.h"
#include "proxy/client_query.h"
#include "proxy/events.h"
#include "proxy/login.h"
#include "proxy/prepare.h"
#include "proxy/proxy.h"
#include "proxy/settle.h"

#define HEADER_BYTES    5
#define INSPECTED_BYTES 32768u /* longer errors and parameters pass unread */
#define BACKLOG_MAX     65536u /* bytes that a slow reader may leave behind */

/* Messages that are looked into: tags only where they may say that prepared statements are gone, rows only of an answer
 * to a question of ours. */
static bool must_be_whole(const struct server *server, uint8_t type, uint32_t message)
{
    if (message > INSPECTED_BYTES)
        return false;
    if (server->asker && (type == 'T' || type == 'D'))
        return true;
    return type == 'Z' || type == 'S' || type == 'E' || (type == 'C' && server->watches_tags) ||
           (type == 'D' && server->asked &&
            outstanding_injection(&server->outstanding) == INJECTION_QUESTION);
}

/* A timeout of ours cancelled the query: its error says which, not "due to user request". */
static bool replace_cancel_error(struct client *client, const char *sqlstate)
{
    if (client->query_timeout_us == 0 || !sqlstate ||
        strcmp(sqlstate, SQLSTATE_QUERY_CANCELED) != 0)
        return false;
    struct buffer answer = {0};
    stats_error(client, SQLSTATE_QUERY_CANCELED);
    char *text = memory_printf("canceling statement due to query_timeout of %g s",
                               (double)client->query_timeout_us / (double)CLOCK_S);
    build_error(&answer, 'E',
                &(struct error_fields){"ERROR", SQLSTATE_QUERY_CANCELED, text, NULL, NULL});
    stream_write_buffer(&client->stream, &answer);
    free(text);
    client->query_timeout_us = 0;
    return true;
}

/* Returns true when the error must not reach the client as it is. */
static bool read_error(struct server *server, const uint8_t *body, size_t length,
                       enum outstanding_injection injection)
{
    const char *severity = error_field(body, length, 'V');
    const char *sqlstate = error_field(body, length, 'C');
    const char *message = error_field(body, length, 'M');
    if (severity && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0)) {
        server->said_fatal = true;
        if (message && !server->client) {
            free(server->fatal_text);
            server->fatal_text = memory_strdup(message);
        }
    }
    if (!server->client) {
        if (injection != INJECTION_NONE && server->backend.state == BACKEND_CLEANING)
            server->is_dirty = true; /* not clean yet: once more, until its time is over */
        return true;
    }
    if (injection != INJECTION_NONE) {
        if (server->said_fatal)
            return false; /* the client hears it */
        settle_failed(server, injection,
                      &(struct error_fields){"ERROR", sqlstate ? sqlstate : "XX000",
                                             message ? message : "", error_field(body, length, 'D'),
                                             error_field(body, length, 'H')});
        return true;
    }
    return replace_cancel_error(server->client, sqlstate) ||
           prepare_translate_error(server->client, body, length);
}

/* Whether it goes to the client. */
static bool read_parameter(struct server *server, const uint8_t *body, size_t length,
                           enum outstanding_injection injection)
{
    const char *name = (const char *)body;
    const uint8_t *end = memchr(body, 0, length);
    if (!end || end + 1 >= body + length || !memchr(end + 1, 0, length - (size_t)(end + 1 - body)))
        return false;
    return settle_parameter(server, injection, name, (const char *)end + 1);
}

static bool is_tag(const uint8_t *body, size_t length, const char *tag)
{
    return length == strlen(tag) + 1 && memcmp(body, tag, length) == 0;
}

/* Some commands take every prepared statement with them, or what is known of sequences; some change what logins bring. */
static void read_tag(struct server *server, const uint8_t *body, size_t length)
{
    if (server->client &&
        (is_tag(body, length, "ALTER ROLE") || is_tag(body, length, "ALTER DATABASE")))
        server->client->changes_defaults = true;
    bool is_all = is_tag(body, length, "DISCARD ALL");
    if (is_all || is_tag(body, length, "DEALLOCATE ALL"))
        prepare_all_gone(server);
    if (is_all || is_tag(body, length, "DISCARD SEQUENCES")) {
        server->sequences_by = 0;
        if (server->client)
            settle_set_pins(server->client, server->client->pins & ~PIN_BIT(PIN_SEQUENCE));
    }
}

static void read_ready(struct server *server, const uint8_t *body, size_t length,
                       enum outstanding_injection injection, bool for_client)
{
    struct client *client = server->client;
    server->status = length >= 1 ? (char)body[0] : 'I';
    if (client && for_client) {
        stats_answered(client, server->status, server->outstanding.count > 0);
        client->answered_us = server->proxy->now_us;
        client->query_timeout_us = 0;
    }
    if (injection != INJECTION_NONE && server->wants_cancel_again && server->cancels == 0)
        server_cancel_again(server);
    if (injection == INJECTION_SETTLE && server->must_settle_first) {
        server->must_settle_first = false;
        server->has_settled_first = true;
        if (client)
            proxy_read_later(client);
    }
    if (injection == INJECTION_QUESTION)
        settle_answered(server);
    if ((injection != INJECTION_RESTORE && injection != INJECTION_REPAIR) || !client)
        return;
    if (client->restores > 0)
        client->restores--;
    settle_restored(server);
    if (injection == INJECTION_REPAIR)
        stream_flush(&client->stream);
}

/* Looks into one complete message.  Returns whether it goes to the client. */
static bool take_message(struct server *server, uint8_t type, const uint8_t *body, size_t length)
{
    if (server->asker)
        asker_message(server, type, (uint8_t *)body, length);
    enum outstanding_injection injection = outstanding_injection(&server->outstanding);
    bool is_quiet = type == 'E' && outstanding_is_quiet(&server->outstanding);
    bool for_client = outstanding_answered(&server->outstanding, type) == REPLY_FORWARD;
    if (server->outstanding.events > 0)
        prepare_answered(server);
    switch (type) {
    case 'Z':
        read_ready(server, body, length, injection, for_client);
        break;
    case 'E':
        if (is_quiet || read_error(server, body, length, injection))
            for_client = false;
        else if (server->said_fatal)
            for_client = true;
        break;
    case 'S':
        for_client = read_parameter(server, body, length, injection);
        break;
    case 'C':
        if (server->watches_tags && injection == INJECTION_NONE)
            read_tag(server, body, length);
        break;
    case 'D':
        if (injection == INJECTION_QUESTION)
            settle_row(server, body, length);
        else if (injection == INJECTION_TRIGGERS)
            server->lane->has_triggers = true; /* a row is all the answer there is */
        break;
    default:
        break;
    }
    return for_client && server->client;
}

/* The client is linked and nothing goes on: between two transactions. */
static bool is_at_rest(const struct server *server)
{
    const struct client *client = server->client;
    return client && server->status == 'I' && client->state == CLIENT_LINKED &&
           outstanding_is_empty(&server->outstanding) && server->message_left == 0 &&
           client->message_left == 0 && !server->outstanding.is_confused && !server->said_fatal &&
           !server->has_settled_first && settle_is_shared(client);
}

void relay_release(struct client *client, struct server *server)
{
    client->server = NULL;
    server->client = NULL;
    server->watches_tags = false;
    client_set_state(client, CLIENT_READY);
    if (client->database_step != DATABASE_NO_COMMAND || client->changes_defaults)
        proxy_clear_databases(client);
    client_query_forget(client);
    server_release(server);
}

/* The end of a transaction: the backend is free for others, unless the client is tied to it or must be asked about. */
static void end_transaction(struct server *server)
{
    struct client *client = server->client;
    if (client->statements.former)
        client_statements_forget_former(&client->proxy->statements, &client->statements);
    if (client->must_restore_again) {
        client->must_restore_again = false;
        settle_restore(client, server, INJECTION_REPAIR);
        stream_flush(&server->stream);
    } else if (client->asks != 0) {
        settle_ask(client, server, client->asks);
        stream_flush(&server->stream);
    } else if (client->pins == 0) {
        relay_release(client, server);
    }
}

static void refuse_transaction_block(struct client *client)
{
    client_fatal(client, SQLSTATE_FEATURE_NOT_SUPPORTED,
                 "transaction blocks not allowed in statement pooling mode", NULL,
                 "Use autocommit, or a pool with mode = transaction.");
}

static void leave_when_stopping(struct server *server, struct client *client)
{
    if (client->proxy->state != PROXY_RUNNING &&
        (client->state == CLIENT_READY || (client->server == server && server->status == 'I' &&
                                           outstanding_is_empty(&server->outstanding))))
        client_shut_down(client, NULL);
}

void relay_message_ended(struct server *server)
{
    struct client *client = server->client;
    if (!is_at_rest(server))
        return;
    end_transaction(server);
    leave_when_stopping(server, client);
}

/* What must happen after bytes have been taken, the last of them not yet written to the client. */
static void after_messages(struct server *server, bool saw_ready, struct client *client,
                           const uint8_t *bytes, size_t length)
{
    if (saw_ready && is_at_rest(server))
        end_transaction(server);
    if (length > 0 && client)
        stream_write(&client->stream, bytes, length);
    if (!client || !saw_ready)
        return;
    if (client->server == server && client->state == CLIENT_LOGIN &&
        outstanding_is_empty(&server->outstanding)) {
        open_settled(client, NULL);
        return;
    }
    if (client->server == server && server->status != 'I' && client->pool->config &&
        client->pool->config->mode == POOL_MODE_STATEMENT)
        refuse_transaction_block(client);
    else
        leave_when_stopping(server, client);
}

static bool is_row(uint8_t type)
{
    return type == 'D' || type == 'd';
}

/* What a Query's results are made of, besides rows. */
static bool is_of_result(uint8_t type)
{
    return type == 'T' || type == 'C' || type == 'I';
}

/* Which messages pass to the client unseen, because they are nobody else's and change nothing. */
enum unseen { UNSEEN_NONE, UNSEEN_ROWS, UNSEEN_RESULTS };

/* Rows, of a result or of a COPY; and all of a Query's results, for only its end counts, and now and then its tags. */
static enum unseen passes_unseen(const struct server *server, uint8_t type)
{
    bool is_in_query = !server->watches_tags && outstanding_is_in_query(&server->outstanding);
    if (!is_row(type) && !(is_in_query && is_of_result(type)))
        return UNSEEN_NONE;
    if (!server->client || server->asked ||
        outstanding_injection(&server->outstanding) != INJECTION_NONE)
        return UNSEEN_NONE;
    return is_in_query ? UNSEEN_RESULTS : UNSEEN_ROWS;
}

/* Those that are there in whole: most of what a server ever says.  Only their lengths matter: a GB of rows of 25 bytes
 * takes 2.5 s of CPU in place of 3.3.  Returns where something else begins. */
static size_t skip_unseen(enum unseen unseen, const uint8_t *bytes, size_t at, size_t length)
{
    while (length - at >= HEADER_BYTES &&
           (is_row(bytes[at]) || (unseen == UNSEEN_RESULTS && is_of_result(bytes[at])))) {
        uint32_t message = read_u32(bytes + at + 1);
        if (message < 4 || length - at <= message)
            break;
        at += (size_t)message + 1;
    }
    return at;
}

/* Takes messages from `bytes`, passes them on; returns how many bytes were taken. */
static size_t relay_from_server(struct server *server, const uint8_t *bytes, size_t length)
{
    struct client *client = server->client;
    size_t at = 0;
    size_t run = 0;
    bool saw_ready = false;
    while (at < length) {
        if (server->message_left > 0) {
            size_t piece = length - at;
            if (piece > server->message_left)
                piece = server->message_left;
            at += piece;
            server->message_left -= (uint32_t)piece;
            if (server->is_swallowing)
                run = at;
            continue;
        }
        if (length - at < HEADER_BYTES)
            break;
        uint8_t type = bytes[at];
        uint32_t message = read_u32(bytes + at + 1);
        enum unseen unseen = passes_unseen(server, type);
        if (unseen != UNSEEN_NONE) {
            size_t next = skip_unseen(unseen, bytes, at, length);
            if (next > at) {
                server->is_swallowing = false;
                at = next;
                continue;
            }
        }
        if (message < 4 || message > 0x7fffffffu) {
            log_server(LOG_LEVEL_ERROR, server, "upstream sent a malformed message",
                       LOG_FIELD_NUMBER("type", type), LOG_FIELD_NUMBER("bytes", message));
            server->stream.is_broken = true;
            server->stream.error = EPROTO;
            return length;
        }
        bool is_whole = length - at >= (size_t)message + 1;
        bool is_inspected = must_be_whole(server, type, message);
        if (is_inspected && !is_whole)
            break;
        if (type == 'E' && client && at > run) { /* our own words may take its place */
            stream_write(&client->stream, bytes + run, at - run);
            run = at;
        }
        server->is_swallowing =
            !take_message(server, type, is_inspected ? bytes + at + HEADER_BYTES : bytes,
                          is_inspected ? message - 4 : 0);
        if (server->client != client)
            client = server->client; /* it was closed by what this message said */
        saw_ready |= type == 'Z';
        if (server->is_swallowing) {
            if (client && at > run)
                stream_write(&client->stream, bytes + run, at - run);
            run = at + HEADER_BYTES;
        }
        server->message_left = message - 4;
        at += HEADER_BYTES;
    }
    after_messages(server, saw_ready, client, bytes + run, server->is_swallowing ? 0 : at - run);
    return at;
}

static bool client_takes_more(const struct server *server)
{
    return !server->client || stream_backlog(&server->client->stream) < BACKLOG_MAX;
}

/* What the client has sent, and what was held until the server had decided, may now have somewhere to go. */
static void read_on(struct client *client)
{
    if (client && (client->state == CLIENT_LINKED || client->state == CLIENT_READY) &&
        (client->stream.may_read || buffer_length(&client->held) > 0))
        proxy_read_later(client);
}

void relay_server_pump(struct server *server)
{
    struct proxy *proxy = server->proxy;
    for (int reads = 0; server->stream.may_read && client_takes_more(server); reads++) {
        struct client *client = server->client; /* may be another in each round */
        if (reads == STREAM_READS_AT_ONCE) {
            stream_yield(&server->stream);
            break;
        }
        size_t held = buffer_length(&server->held);
        uint8_t *bytes = proxy->server_bytes;
        ssize_t got = stream_read(&server->stream, bytes + held, PROXY_READ_BYTES);
        if (got == STREAM_AGAIN)
            break;
        if (got == STREAM_END)
            break;
        server->backend.alive_us = proxy->now_us;
        proxy->gather.bytes += got;
        if (!client)
            server_unheard(server, (size_t)got);
        size_t length = (size_t)got;
        if (held > 0) {
            memcpy(bytes, buffer_bytes(&server->held), held);
            buffer_free(&server->held);
            length += held;
        }
        size_t taken = relay_from_server(server, bytes, length);
        if (taken < length)
            buffer_append(&server->held, bytes + taken, length - taken);
        if (!server->client && server->outstanding.count == 0 &&
            (!server->said_fatal || server->asker))
            server_settled(server);
        if (server->client != client)
            read_on(client);
        if (server->said_fatal || !client ||
            (server->client == client && !outstanding_is_empty(&server->outstanding)))
            stream_look_again(&server->stream);
        if (server->backend.state == BACKEND_CLOSING && !server->stream.may_read)
            break;
    }
    if (server->stream.is_broken)
        server_lost(server);
    else if (server->said_fatal && !server->client && !server->asker)
        server_dismissed(server);
    else
        read_on(server->client);
}
