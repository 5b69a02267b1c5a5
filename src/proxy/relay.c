/*
 * relay.c - messages between a client and its backend: the only file that runs for every query.
 *
 * Bytes are read 64 kB at a time, only the five bytes of each message's header are looked at, and whole runs of
 * messages are written on from where they were read.  A message need not be there in whole: its rest passes through when
 * it comes.  Exceptions: ReadyForQuery, ParameterStatus and ErrorResponse are looked into, so they wait
 * until they are complete; statement texts are fed to the scanner of signs as they pass (proto/sql.h).
 *
 * A client gets a backend at the first message of a transaction and gives it up at a ReadyForQuery that says `I` with
 * nothing owed, unless it is pinned.  The backend goes to the next waiter, whose query leaves, before the answer
 * is written to the last client: it works one system call sooner.
 */
#include <string.h>

#include "base/memory.h"
#include "proto/build.h"
#include "proto/sqlstate.h"
#include "proxy/events.h"
#include "proxy/proxy.h"

#define HEADER_BYTES    5
#define MESSAGE_LARGE   0x3fffffffu /* PostgreSQL's PQ_LARGE_MESSAGE_LIMIT */
#define MESSAGE_SMALL   10000u      /* PQ_SMALL_MESSAGE_LIMIT */
#define INSPECTED_BYTES 32768u      /* longer errors and parameters pass unread */
#define BACKLOG_MAX     65536u      /* bytes that a slow reader may leave behind */

/* Where in the passing message its statement's text is. */
enum text_phase { TEXT_NONE, TEXT_QUERY, TEXT_PARSE_NAME, TEXT_PARSE };

/* ---- from the client ---- */

/* The longest message of a type that PostgreSQL takes; 0 for a type that it does not know. */
static uint32_t longest_message(uint8_t type)
{
    switch (type) {
    case 'Q':
    case 'P':
    case 'B':
    case 'F':
    case 'd':
        return MESSAGE_LARGE;
    case 'C':
    case 'D':
    case 'E':
    case 'H':
    case 'S':
    case 'X':
    case 'c':
    case 'f':
        return MESSAGE_SMALL;
    default:
        return 0;
    }
}

static void begin_text(struct client *client, uint8_t type)
{
    client->text_phase = TEXT_NONE;
    if (client->pins != 0 || client->pool->config == NULL ||
        client->pool->config->mode == POOL_MODE_SESSION)
        return;
    if (type == 'Q')
        client->text_phase = TEXT_QUERY;
    else if (type == 'P')
        client->text_phase = TEXT_PARSE_NAME;
    else if (type == 'F')
        client->pins |= SQL_SIGN_CODE;
    else
        return;
    sql_scan_start(&client->scan);
}

static void end_text(struct client *client)
{
    uint32_t signs = sql_scan_finish(&client->scan);
    client->text_phase = TEXT_NONE;
    client->pins |= signs & SQL_SIGNS_PINNING;
}

/* The next piece of a passing Query or Parse: finds the text in it. */
static void feed_text(struct client *client, const uint8_t *bytes, size_t length)
{
    if (client->text_phase == TEXT_PARSE_NAME) {
        const uint8_t *end = memchr(bytes, 0, length);
        if (end != bytes)
            client->pins |= SQL_SIGN_PREPARE; /* a named statement lives on its backend */
        if (!end)
            return;
        length -= (size_t)(end - bytes) + 1;
        bytes = end + 1;
        client->text_phase = TEXT_PARSE;
    }
    const uint8_t *end = memchr(bytes, 0, length);
    sql_scan_feed(&client->scan, bytes, end ? (size_t)(end - bytes) : length);
    if (end)
        end_text(client);
}

enum verdict { VERDICT_FORWARD, VERDICT_DISCARD, VERDICT_WAIT, VERDICT_END };

/* After an error of ours: everything up to the next Sync is thrown away, as PostgreSQL does. */
static enum verdict skip_message(struct client *client, uint8_t type)
{
    if (type == 'X') {
        client_close(client);
        return VERDICT_END;
    }
    if (type == 'S') {
        struct buffer answer = {0};
        client->is_skipping = false;
        build_ready(&answer, 'I');
        stream_write(&client->stream, buffer_bytes(&answer), buffer_length(&answer));
        buffer_free(&answer);
    }
    return VERDICT_DISCARD;
}

/* The first message of a transaction: it needs a backend. */
static enum verdict want_backend(struct client *client, uint8_t type)
{
    if (type == 'd' || type == 'c' || type == 'f' || type == 'H')
        return VERDICT_DISCARD; /* outside of a COPY PostgreSQL ignores them too */
    if (client->proxy->state != PROXY_RUNNING) {
        client_fatal(client, SQLSTATE_ADMIN_SHUTDOWN,
                     "terminating connection due to administrator command", NULL, NULL);
        return VERDICT_END;
    }
    if (!client_acquire(client))
        return VERDICT_WAIT;
    return VERDICT_FORWARD;
}

/* An unnamed statement lives until the next Parse or Query: one that no Bind has used when its Sync comes is meant for
 * later, and keeps its backend. */
static void note_unnamed(struct client *client, uint8_t type)
{
    if (type == 'P')
        client->has_unbound_parse = true;
    else if (type == 'B' || type == 'Q')
        client->has_unbound_parse = false;
    else if (type == 'S' && client->has_unbound_parse)
        client->pins |= SQL_SIGN_PREPARE;
}

/* A transaction that begins with anything but Parse or Query could meet the unnamed statement of the client before it: an
 * empty query drops that (protocol 55.2.3). */
static void drop_unnamed(struct server *server)
{
    static const uint8_t empty_query[] = {'Q', 0, 0, 0, 5, 0};
    outstanding_injected(&server->outstanding);
    stream_queue(&server->stream, empty_query, sizeof(empty_query));
}

static enum verdict judge_message(struct client *client, uint8_t type)
{
    if (client->is_skipping)
        return skip_message(client, type);
    if (type == 'X') {
        client_close(client);
        return VERDICT_END;
    }
    if (!client->server) {
        enum verdict verdict = want_backend(client, type);
        if (verdict != VERDICT_FORWARD)
            return verdict;
    }
    if (client->is_new_link && type != 'P' && type != 'Q')
        drop_unnamed(client->server);
    client->is_new_link = false;
    struct server *server = client->server;
    if (server->outstanding.count == 0)
        client->request_us = client->proxy->now_us;
    if (server->outstanding.count == 0 && server->status == 'I')
        client->transaction_us = client->proxy->now_us;
    client->last_type = type;
    outstanding_sent(&server->outstanding, type);
    stats_message(client, type);
    note_unnamed(client, type);
    begin_text(client, type);
    return VERDICT_FORWARD;
}

static bool check_message(struct client *client, uint8_t type, uint32_t length)
{
    uint32_t longest = longest_message(type);
    char text[96];
    if (longest == 0)
        snprintf(text, sizeof(text), "invalid frontend message type %u", type);
    else if (length < 4 || length - 4 > longest)
        snprintf(text, sizeof(text), "invalid message length: %u bytes in a message of type %c",
                 length, type);
    else
        return true;
    client_fatal(client, SQLSTATE_PROTOCOL_VIOLATION, text, NULL, NULL);
    return false;
}

/* The first bytes of the text, for the one who asks what a connection is held with. */
static void keep_query(struct client *client, uint8_t type, const uint8_t *body, size_t at_hand,
                       uint32_t message)
{
    size_t length = message < 4 ? 0 : message - 4;
    if (length > at_hand)
        length = at_hand;
    if (type == 'P') {
        const uint8_t *end = length > 0 ? memchr(body, 0, length) : NULL;
        size_t name = end ? (size_t)(end - body) + 1 : length;
        body += name;
        length -= name;
    }
    if (length >= CLIENT_QUERY_BYTES)
        length = CLIENT_QUERY_BYTES - 1;
    if (!client->query)
        client->query = memory_alloc(CLIENT_QUERY_BYTES);
    memcpy(client->query, body, length);
    client->query[length] = '\0';
}

static void forward_to_server(struct client *client, const uint8_t *bytes, size_t length)
{
    if (length > 0 && client->server)
        stream_write(&client->server->stream, bytes, length);
}

size_t relay_from_client(struct client *client, const uint8_t *bytes, size_t length)
{
    size_t at = 0;
    size_t run = 0; /* from here on nothing has been forwarded yet */
    while (at < length) {
        if (client->message_left > 0) {
            size_t piece = length - at;
            if (piece > client->message_left)
                piece = client->message_left;
            if (client->text_phase != TEXT_NONE && !client->is_discarding)
                feed_text(client, bytes + at, piece);
            at += piece;
            client->message_left -= (uint32_t)piece;
            if (client->is_discarding)
                run = at;
            continue;
        }
        if (length - at < HEADER_BYTES)
            break;
        if (client->server && client->server->outstanding.count >= OUTSTANDING_MAX)
            break;
        uint8_t type = bytes[at];
        uint32_t message = read_u32(bytes + at + 1);
        if (type == 'Q' || type == 'P')
            keep_query(client, type, bytes + at + HEADER_BYTES, length - at - HEADER_BYTES,
                       message);
        if (type == 'X' || longest_message(type) == 0) { /* the last thing that is read */
            forward_to_server(client, bytes + run, at - run);
            run = at;
        }
        if (!check_message(client, type, message))
            return length;
        enum verdict verdict = judge_message(client, type);
        if (verdict == VERDICT_END)
            return length;
        if (verdict == VERDICT_WAIT)
            return at;
        client->is_discarding = verdict == VERDICT_DISCARD;
        if (client->is_discarding) {
            forward_to_server(client, bytes + run, at - run);
            client->text_phase = TEXT_NONE;
            run = at + HEADER_BYTES;
        }
        client->message_left = message - 4;
        at += HEADER_BYTES;
    }
    if (!client->is_discarding)
        forward_to_server(client, bytes + run, at - run);
    return at;
}

bool relay_awaits_more(const struct client *client)
{
    return client->state == CLIENT_LINKED &&
           (client->message_left > 0 || buffer_length(&client->held) > 0 ||
            (client->last_type != 'Q' && client->last_type != 'S'));
}

/* ---- what the client's session differs in from the backend's ---- */

void relay_settle(struct client *client, struct server *server)
{
    if (strcmp(client->application_name, server->application_name) == 0)
        return;
    char *literal = build_quote_literal(client->application_name);
    char *sql = memory_printf("SET application_name TO%s", literal);
    struct buffer message = {0};
    build_query(&message, sql);
    stream_queue(&server->stream, buffer_bytes(&message), buffer_length(&message));
    outstanding_injected(&server->outstanding);
    memcpy(server->application_name, client->application_name, sizeof(server->application_name));
    buffer_free(&message);
    free(sql);
    free(literal);
}

/* ---- from the server ---- */

static bool must_be_whole(uint8_t type, uint32_t message)
{
    return (type == 'Z' || type == 'S' || type == 'E') && message <= INSPECTED_BYTES;
}

/* A timeout of ours cancelled the query: its error says which, not "due to user request". */
static bool replace_cancel_error(struct client *client, const char *sqlstate)
{
    if (!client->timeout_name || !sqlstate || strcmp(sqlstate, SQLSTATE_QUERY_CANCELED) != 0)
        return false;
    struct buffer answer = {0};
    stats_error(client, SQLSTATE_QUERY_CANCELED);
    char *text = memory_printf("canceling statement due to %s of %g s", client->timeout_name,
                               (double)client->timeout_us / (double)CLOCK_S);
    build_error(&answer, 'E',
                &(struct error_fields){"ERROR", SQLSTATE_QUERY_CANCELED, text, NULL, NULL});
    stream_write(&client->stream, buffer_bytes(&answer), buffer_length(&answer));
    buffer_free(&answer);
    free(text);
    client->timeout_name = NULL;
    return true;
}

/* Returns true when the error must not reach the client as it is. */
static bool read_error(struct server *server, const uint8_t *body, size_t length, bool is_injected)
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
        if (is_injected && server->backend.state == BACKEND_CLEANING)
            server->is_dirty = true; /* not clean yet: once more, until its time is over */
        return true;
    }
    if (is_injected) {
        if (server->client->state == CLIENT_LOGIN)
            auth_settled(server->client, sqlstate ? sqlstate : "XX000", message ? message : "");
        else
            server->application_name[0] = '\0';
        return !server->said_fatal;
    }
    return replace_cancel_error(server->client, sqlstate);
}

static bool read_parameter(struct server *server, const uint8_t *body, size_t length,
                           bool is_injected)
{
    const char *name = (const char *)body;
    const uint8_t *end = memchr(body, 0, length);
    if (!end || end + 1 >= body + length || !memchr(end + 1, 0, length - (size_t)(end + 1 - body)))
        return false;
    server_note_parameter(server, name, (const char *)end + 1);
    struct client *client = server->client;
    if (is_injected && client && client->state == CLIENT_LOGIN)
        return true; /* the client's own start-up setting: it wants to know */
    if (!is_injected && client && client->pool->config &&
        client->pool->config->mode != POOL_MODE_SESSION)
        client->pins |= SQL_SIGN_SET;
    return false;
}

/* Looks into one complete message.  Returns whether it goes to the client. */
static bool take_message(struct server *server, uint8_t type, const uint8_t *body, size_t length)
{
    bool is_injected = outstanding_is_injected(&server->outstanding);
    bool for_client = outstanding_answered(&server->outstanding, type) == REPLY_FORWARD;
    if (type == 'Z') {
        server->status = length >= 1 ? (char)body[0] : 'I';
        if (server->client && for_client) {
            stats_answered(server->client, server->status, server->outstanding.count > 0);
            server->client->answered_us = server->proxy->now_us;
            server->client->timeout_name = NULL;
        }
    } else if (type == 'E') {
        if (read_error(server, body, length, is_injected))
            for_client = false;
        else if (server->said_fatal)
            for_client = true;
    } else if (type == 'S') {
        if (read_parameter(server, body, length, is_injected))
            for_client = true;
    }
    return for_client && server->client;
}

/* The end of a transaction: the backend is free for others. */
static bool may_release(const struct server *server)
{
    const struct client *client = server->client;
    return client && server->status == 'I' && client->state == CLIENT_LINKED && client->pins == 0 &&
           outstanding_is_empty(&server->outstanding) && server->message_left == 0 &&
           client->message_left == 0 && !server->outstanding.is_confused && !server->said_fatal &&
           client->pool->config && client->pool->config->mode != POOL_MODE_SESSION;
}

static void refuse_transaction_block(struct client *client)
{
    client_fatal(client, SQLSTATE_FEATURE_NOT_SUPPORTED,
                 "transaction blocks not allowed in statement pooling mode", NULL,
                 "Use autocommit, or a pool with mode = transaction.");
}

/* What must happen after bytes have been taken, the last of them not yet written to the client. */
static void after_messages(struct server *server, bool saw_ready, struct client *client,
                           const uint8_t *bytes, size_t length)
{
    if (saw_ready && may_release(server)) {
        client->server = NULL;
        server->client = NULL;
        client_set_state(client, CLIENT_READY);
        server_release(server);
    }
    if (length > 0 && client)
        stream_write(&client->stream, bytes, length);
    if (!client || !saw_ready)
        return;
    if (client->server == server && client->state == CLIENT_LOGIN &&
        outstanding_is_empty(&server->outstanding)) {
        auth_settled(client, NULL, NULL);
        return;
    }
    if (client->server == server && server->status != 'I' && client->pool->config &&
        client->pool->config->mode == POOL_MODE_STATEMENT)
        refuse_transaction_block(client);
    else if (client->proxy->state != PROXY_RUNNING &&
             (client->state == CLIENT_READY || (client->server == server && server->status == 'I' &&
                                                outstanding_is_empty(&server->outstanding))))
        client_fatal(client, SQLSTATE_ADMIN_SHUTDOWN,
                     "terminating connection due to administrator command", NULL, NULL);
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
        if (message < 4 || message > 0x7fffffffu) {
            log_server(LOG_LEVEL_ERROR, server, "upstream sent a malformed message",
                       LOG_FIELD_NUMBER("type", type), LOG_FIELD_NUMBER("bytes", message));
            server->stream.is_broken = true;
            return length;
        }
        bool is_whole = length - at >= (size_t)message + 1;
        bool is_inspected = must_be_whole(type, message);
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

void relay_server_pump(struct server *server)
{
    struct proxy *proxy = server->proxy;
    struct client *client = server->client;
    while (server->stream.may_read && client_takes_more(server)) {
        size_t held = buffer_length(&server->held);
        uint8_t *bytes = proxy->server_bytes;
        ssize_t got = stream_read(&server->stream, bytes + held, PROXY_READ_BYTES);
        if (got == STREAM_AGAIN)
            break;
        if (got == STREAM_END)
            break;
        server->backend.alive_us = proxy->now_us;
        size_t length = (size_t)got;
        if (held > 0) {
            memcpy(bytes, buffer_bytes(&server->held), held);
            buffer_free(&server->held);
            length += held;
        }
        size_t taken = relay_from_server(server, bytes, length);
        if (taken < length)
            buffer_append(&server->held, bytes + taken, length - taken);
        if (!server->client && server->outstanding.count == 0)
            server_settled(server);
        if (server->said_fatal || !outstanding_is_empty(&server->outstanding))
            stream_look_again(&server->stream);
        if (server->backend.state == BACKEND_CLOSING && !server->stream.may_read)
            break;
    }
    if (server->stream.is_broken) {
        server_lost(server);
        return;
    }
    if (client && client->server == server && client->state == CLIENT_LINKED &&
        (client->stream.may_read || buffer_length(&client->held) > 0))
        proxy_read_later(client);
    else if (client && client->state == CLIENT_READY &&
             (client->stream.may_read || buffer_length(&client->held) > 0))
        proxy_read_later(client);
}
