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

/* A text that is not there in whole is scanned as it passes; its signs come too late for what must go before it. */
static void begin_text(struct client *client, uint8_t type, bool is_name_read)
{
    client->text_phase = TEXT_NONE;
    if (type == 'Q')
        client->text_phase = TEXT_QUERY;
    else if (type == 'P')
        client->text_phase = is_name_read ? TEXT_PARSE : TEXT_PARSE_NAME;
    else
        return;
    sql_scan_start(&client->scan);
}

/* The next piece of a passing Query or Parse: finds the text in it. */
static void feed_text(struct client *client, const uint8_t *bytes, size_t length)
{
    if (client->text_phase == TEXT_PARSE_NAME) {
        const uint8_t *end = memchr(bytes, 0, length);
        if (!end)
            return;
        length -= (size_t)(end - bytes) + 1;
        bytes = end + 1;
        client->text_phase = TEXT_PARSE;
    }
    const uint8_t *end = memchr(bytes, 0, length);
    sql_scan_feed(&client->scan, bytes, end ? (size_t)(end - bytes) : length);
    if (end) {
        client->text_phase = TEXT_NONE;
        settle_note_signs(client, sql_scan_finish(&client->scan), NULL, 0);
    }
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

/* What happens to the message: it needs a backend, which may have to be waited for. */
static enum verdict judge_message(struct client *client, uint8_t type)
{
    if (client->is_skipping)
        return skip_message(client, type);
    if (type == 'X') {
        client_close(client);
        return VERDICT_END;
    }
    if (!client->server)
        return want_backend(client, type);
    return VERDICT_FORWARD;
}

/* The text of a whole Query or Parse; NULL when it is another message or not all there. */
static const char *whole_text(uint8_t type, const uint8_t *bytes, size_t at_hand, uint32_t message,
                              size_t *length)
{
    const uint8_t *text = bytes + HEADER_BYTES;
    const uint8_t *end = bytes + message + 1;
    if ((type != 'Q' && type != 'P') || at_hand < (size_t)message + 1)
        return NULL;
    if (type == 'P') {
        const uint8_t *name_end = memchr(text, 0, (size_t)(end - text));
        if (!name_end)
            return NULL;
        text = name_end + 1;
    }
    const uint8_t *text_end = memchr(text, 0, (size_t)(end - text));
    if (!text_end)
        return NULL; /* malformed: the server says so */
    *length = (size_t)(text_end - text);
    return (const char *)text;
}

/* What the text of a statement asks of us before it may go.  Returns its signs. */
static uint32_t prepare_way(struct client *client, const char *text, size_t length,
                            const uint8_t **before, size_t *before_length,
                            struct prepared_head *head)
{
    struct server *server = client->server;
    uint32_t signs = sql_signs(text, length);
    if (signs & SQL_SIGN_DATABASE)
        proxy_clear_database(client, text, length);
    if ((signs & SQL_SIGN_LOOK) && !client->has_private_names) {
        stream_queue(&server->stream, *before, *before_length);
        *before_length = 0;
        head->is_changed = true;
        prepare_make_private(client, server);
    }
    if (signs & SQL_SIGN_CURRVAL) {
        stream_queue(&server->stream, *before, *before_length);
        *before_length = 0;
        head->is_changed = true;
        settle_own_sequences(client, server);
    }
    return signs;
}

/* A message goes to the server: what is remembered of it.  Returns what became of its head. */
static struct prepared_head note_message(struct client *client, uint8_t type, const uint8_t *bytes,
                                         size_t at_hand, uint32_t message, const uint8_t *before,
                                         size_t before_length)
{
    struct server *server = client->server;
    struct prepared_head head = {0};
    if (server->outstanding.count == 0)
        client->request_us = client->proxy->now_us;
    if (server->outstanding.count == 0 && server->status == 'I')
        client->transaction_us = client->proxy->now_us;
    client->last_type = type;
    stats_message(client, type);
    size_t length = 0;
    const char *text = whole_text(type, bytes, at_hand, message, &length);
    uint32_t signs = 0;
    if (!settle_is_shared(client)) {
        if (text && (sql_signs(text, length) & SQL_SIGN_RESET))
            client->saw_reset = true;
        outstanding_sent(&server->outstanding, type);
        return head;
    }
    bool was_changed = false;
    if (text) {
        signs = prepare_way(client, text, length, &before, &before_length, &head);
        was_changed = head.is_changed;
        head = prepare_refusal(client, type, message, signs, before, before_length);
    }
    if (head.taken == 0) {
        if (text && (type == 'Q' || bytes[HEADER_BYTES] == 0))
            settle_note_signs(client, signs, text, length);
        else if (type == 'F')
            settle_note_signs(client, SQL_SIGN_CODE, NULL, 0);
        head =
            prepare_translate(client, type, bytes, at_hand, message, signs, before, before_length);
    }
    head.is_changed |= was_changed;
    if (!head.is_recorded)
        outstanding_sent(&server->outstanding, type);
    if (!text)
        begin_text(client, type, head.taken > 0);
    return head;
}

static bool is_valid(uint8_t type, uint32_t length)
{
    return length >= 4 && longest_message(type) > 0 && length - 4 <= longest_message(type);
}

static void refuse_message(struct client *client, uint8_t type, uint32_t length)
{
    char text[96];
    if (longest_message(type) == 0)
        snprintf(text, sizeof(text), "invalid frontend message type %u", type);
    else
        snprintf(text, sizeof(text), "invalid message length: %u bytes in a message of type %c",
                 length, type);
    client_fatal(client, SQLSTATE_PROTOCOL_VIOLATION, text, NULL, NULL);
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
    if (!client->server)
        return;
    if (length > 0)
        stream_write(&client->server->stream, bytes, length);
    else if (stream_backlog(&client->server->stream) > 0)
        stream_flush(&client->server->stream); /* heads that were changed */
}

/* Whether more of the message, or an answer to an earlier one, must come first. */
static bool must_wait(const struct client *client, uint8_t type, const uint8_t *bytes,
                      size_t at_hand, uint32_t message)
{
    if (client->is_skipping || !settle_is_shared(client) || !is_valid(type, message))
        return false;
    return !prepare_is_at_hand(type, bytes, at_hand, message) ||
           prepare_must_wait(client, type, bytes, at_hand, message);
}

/* A Query or Sync that ends with a RESET before it has passed in whole. */
static bool must_restore(const struct client *client)
{
    return client->saw_reset && client->message_left == 0 && client->server &&
           !client->is_discarding && (client->last_type == 'Q' || client->last_type == 'S');
}

static void restore_behind(struct client *client, const uint8_t *bytes, size_t length)
{
    forward_to_server(client, bytes, length);
    client->saw_reset = false;
    settle_restore(client, client->server);
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
            if (must_restore(client)) {
                restore_behind(client, bytes + run, at - run);
                run = at;
            }
            continue;
        }
        if (length - at < HEADER_BYTES)
            break;
        if (client->server && client->server->outstanding.count >= OUTSTANDING_MAX)
            break;
        uint8_t type = bytes[at];
        uint32_t message = read_u32(bytes + at + 1);
        if (must_wait(client, type, bytes + at, length - at, message))
            break;
        if (type == 'Q' || type == 'P')
            keep_query(client, type, bytes + at + HEADER_BYTES, length - at - HEADER_BYTES,
                       message);
        if (type == 'X' || !is_valid(type, message)) { /* the last thing that is read */
            forward_to_server(client, bytes + run, at - run);
            run = at;
        }
        if (!is_valid(type, message)) {
            refuse_message(client, type, message);
            return length;
        }
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
        size_t head_bytes = HEADER_BYTES;
        if (verdict == VERDICT_FORWARD) {
            struct prepared_head head =
                note_message(client, type, bytes + at, length - at, message, bytes + run, at - run);
            if (head.taken > 0)
                head_bytes = head.taken;
            if (head.is_changed)
                run = at + head.taken;
        }
        client->message_left = message - 4 - (uint32_t)(head_bytes - HEADER_BYTES);
        at += head_bytes;
        if (must_restore(client)) {
            restore_behind(client, bytes + run, at - run);
            run = at;
        }
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

/* ---- from the server ---- */

/* Messages that are looked into: tags only where they may say that prepared statements are gone, rows only of an answer
 * to a question of ours. */
static bool must_be_whole(const struct server *server, uint8_t type, uint32_t message)
{
    if (message > INSPECTED_BYTES)
        return false;
    return type == 'Z' || type == 'S' || type == 'E' || (type == 'C' && server->watches_tags) ||
           (type == 'D' && server->asked &&
            outstanding_injection(&server->outstanding) == INJECTION_QUESTION);
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
        settle_failed(server, injection, sqlstate ? sqlstate : "XX000", message ? message : "");
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

/* Some commands take every prepared statement with them, or what is known of sequences. */
static void read_tag(struct server *server, const uint8_t *body, size_t length)
{
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
        client->timeout_name = NULL;
    }
    if (injection != INJECTION_NONE && server->wants_cancel_again && server->cancels == 0)
        server_cancel_again(server);
    if (injection == INJECTION_QUESTION)
        settle_answered(server);
    if (injection != INJECTION_RESTORE || !client)
        return;
    if (client->restores > 0)
        client->restores--;
    settle_restored(server);
}

/* Looks into one complete message.  Returns whether it goes to the client. */
static bool take_message(struct server *server, uint8_t type, const uint8_t *body, size_t length)
{
    enum outstanding_injection injection = outstanding_injection(&server->outstanding);
    bool for_client = outstanding_answered(&server->outstanding, type) == REPLY_FORWARD;
    if (server->outstanding.events > 0)
        prepare_answered(server);
    switch (type) {
    case 'Z':
        read_ready(server, body, length, injection, for_client);
        break;
    case 'E':
        if (read_error(server, body, length, injection))
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
           settle_is_shared(client);
}

void relay_release(struct client *client, struct server *server)
{
    client->server = NULL;
    server->client = NULL;
    server->watches_tags = false;
    client_set_state(client, CLIENT_READY);
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
        settle_restore(client, server);
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
