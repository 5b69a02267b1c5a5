/*
 * relay_client.c - messages from a client to its backend; with relay.c, what runs for every query.
 *
 * A client gets a backend at the first message of a transaction.  Each message is judged by its header and passes as it
 * comes, in runs.  Those that name prepared statements get another head (prepare.c); statement texts are read for signs
 * of session state (proto/sql.h) before they go, so a Query or Parse is waited for until it is whole, when it is not
 * too long: longer ones are scanned as they pass.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "proto/build.h"
#include "proto/sqlstate.h"
#include "proxy/clear.h"
#include "proxy/client_query.h"
#include "proxy/held.h"
#include "proxy/login.h"
#include "proxy/prepare.h"
#include "proxy/proxy.h"
#include "proxy/settle.h"

#define HEADER_BYTES  5
#define MESSAGE_LARGE 0x3fffffffu /* PostgreSQL's PQ_LARGE_MESSAGE_LIMIT */
#define MESSAGE_SMALL 10000u      /* PQ_SMALL_MESSAGE_LIMIT */
#define QUEUED_MAX                                                                                 \
    262144u /* bytes on their way to the server: a Bind may have its statement sent before it */

/* Where in the passing message its statement's text is. */
enum text_phase { TEXT_NONE, TEXT_QUERY, TEXT_PARSE_NAME, TEXT_PARSE };

/* The longest message of a type that PostgreSQL takes, its length word not counted; 0 for a type that it does not know. */
static const uint32_t longest_message[256] = {
    ['Q'] = MESSAGE_LARGE, ['P'] = MESSAGE_LARGE, ['B'] = MESSAGE_LARGE, ['F'] = MESSAGE_LARGE,
    ['d'] = MESSAGE_LARGE, ['C'] = MESSAGE_SMALL, ['D'] = MESSAGE_SMALL, ['E'] = MESSAGE_SMALL,
    ['H'] = MESSAGE_SMALL, ['S'] = MESSAGE_SMALL, ['X'] = MESSAGE_SMALL, ['c'] = MESSAGE_SMALL,
    ['f'] = MESSAGE_SMALL,
};

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
    if (!client->scan)
        client->scan = memory_alloc(sizeof(*client->scan));
    sql_scan_start(client->scan);
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
    sql_scan_feed(client->scan, bytes, end ? (size_t)(end - bytes) : length);
    if (end) {
        client->text_phase = TEXT_NONE;
        uint32_t signs = sql_scan_finish(client->scan);
        settle_note_signs(client, signs, NULL, 0);
        if (client->last_type == 'P')
            settle_note_prepared(client, signs);
        free(client->scan);
        client->scan = NULL;
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
        client->answered_us = client->proxy->now_us;
        build_ready(&answer, 'I');
        stream_write_buffer(&client->stream, &answer);
    }
    return VERDICT_DISCARD;
}

/* The first message of a transaction: it needs a backend. */
static enum verdict want_backend(struct client *client, uint8_t type)
{
    if (type == 'd' || type == 'c' || type == 'f' || type == 'H')
        return VERDICT_DISCARD; /* outside of a COPY PostgreSQL ignores them too */
    if (client->proxy->state != PROXY_RUNNING) {
        client_shut_down(client, NULL);
        return VERDICT_END;
    }
    if (client->lane->is_gone) {
        session_end_without_section(client);
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

/* Where the text of a Parse begins, behind the statement's name; NULL when that has no end.  Most have no name. */
static const uint8_t *behind_name(const uint8_t *body, size_t length)
{
    const uint8_t *end = length == 0 || body[0] == 0 ? body : memchr(body, 0, length);
    return end && length > 0 ? end + 1 : NULL;
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
        text = behind_name(text, (size_t)(end - text));
        if (!text)
            return NULL;
    }
    const uint8_t *text_end = memchr(text, 0, (size_t)(end - text));
    if (!text_end)
        return NULL; /* malformed: the server says so */
    *length = (size_t)(text_end - text);
    return (const char *)text;
}

/* What the text of a statement asks of us before it may go.  Returns its signs. */
static uint32_t prepare_way(struct client *client, bool is_kept, const char *text, size_t length,
                            const uint8_t **before, size_t *before_length,
                            struct prepared_head *head)
{
    struct server *server = client->server;
    uint32_t signs = sql_memo_signs(&client->proxy->memo, text, length);
    if (signs & SQL_SIGN_DATABASE)
        client->database_step = DATABASE_COMMAND_SENT;
    bool needs_names =
        (signs & SQL_SIGN_LOOK) ||
        ((signs & SQL_SIGN_STATEMENT) && prepare_is_named_in(client, is_kept, text, length));
    if (needs_names && !client->has_private_names) {
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

/* Functions of the server's own, by the numbers that FunctionCall names them with, after which nothing cleans a session:
 * setseed, pg_backup_start, the slots that may be temporary, pg_replication_origin_session_setup. */
static uint32_t call_signs(const uint8_t *body, size_t length)
{
    static const uint32_t spoiling[] = {1599, 2172, 3779, 3786, 4220, 4221, 4222, 4223, 4224, 6006};
    if (length < 4)
        return SQL_SIGN_CODE | SQL_SIGN_SPOIL; /* it has yet to come */
    for (size_t i = 0; i < sizeof(spoiling) / sizeof(spoiling[0]); i++) {
        if (read_u32(body) == spoiling[i])
            return SQL_SIGN_CODE | SQL_SIGN_SPOIL;
    }
    return SQL_SIGN_CODE;
}

/* A Parse that has passed as it was: its Binds will, too. */
static void note_passed_parse(struct client *client, bool is_named, uint32_t signs,
                              const char *text, size_t length)
{
    if (client->server->outstanding.is_skipping)
        return;
    if (is_named)
        settle_note_signs(client, signs, text, length);
    settle_note_prepared(client, signs);
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
    if (outstanding_is_empty(&server->outstanding) && server->status == 'I') {
        client->transaction_us = client->proxy->now_us;
        client->has_set = false;
    }
    client->last_type = type;
    server->has_settled_first = false;
    stats_message(client, type);
    size_t length = 0;
    const char *text = whole_text(type, bytes, at_hand, message, &length);
    uint32_t signs = 0;
    if (!settle_is_shared(client)) {
        if (text)
            settle_note_own(client, sql_signs(text, length), text, length);
        else if (type == 'F')
            settle_note_own(client, call_signs(bytes + HEADER_BYTES, at_hand - HEADER_BYTES), NULL,
                            0);
        outstanding_sent(&server->outstanding, type);
        return head;
    }
    bool was_changed = false;
    if (text) {
        bool is_kept = type == 'P' && bytes[HEADER_BYTES] != 0;
        signs = prepare_way(client, is_kept, text, length, &before, &before_length, &head);
        was_changed = head.is_changed;
        head = prepare_refusal(client, type, message, signs, before, before_length);
    }
    if (head.taken == 0) {
        if (text && (type == 'Q' || bytes[HEADER_BYTES] == 0))
            settle_note_signs(client, signs, text, length);
        else if (type == 'F')
            settle_note_signs(client, call_signs(bytes + HEADER_BYTES, at_hand - HEADER_BYTES),
                              NULL, 0);
        head =
            prepare_translate(client, type, bytes, at_hand, message, signs, before, before_length);
        if (text && type == 'P' && head.taken == 0 && !head.is_recorded)
            note_passed_parse(client, bytes[HEADER_BYTES] != 0, signs, text, length);
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
    return length >= 4 && longest_message[type] > 0 && length - 4 <= longest_message[type];
}

static void refuse_message(struct client *client, uint8_t type, uint32_t length)
{
    char text[96];
    if (longest_message[type] == 0)
        snprintf(text, sizeof(text), "invalid frontend message type %u", type);
    else
        snprintf(text, sizeof(text), "invalid length of a message of type %c", type);
    client_protocol_error(client, text, length);
}

/* The first bytes of the text, for the one who asks what a connection is held with. */
static void keep_query(struct client *client, uint8_t type, const uint8_t *body, size_t at_hand,
                       uint32_t message)
{
    size_t length = message < 4 ? 0 : message - 4;
    if (length > at_hand)
        length = at_hand;
    if (type == 'P') {
        const uint8_t *text = behind_name(body, length);
        size_t name = text ? (size_t)(text - body) : length;
        body += name;
        length -= name;
    }
    client_query_keep(client, body, length);
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
static bool must_wait(const struct client *client, bool is_sound, uint8_t type,
                      const uint8_t *bytes, size_t at_hand, uint32_t message)
{
    const struct server *server = client->server;
    if (server && server->must_settle_first)
        return true;
    if (server && server->cancels > 0 && server->outstanding.count == 0)
        return true; /* what was cancelled has ended; the signal, which comes twice, must not hit the next */
    if (!is_sound || client->is_skipping || !settle_is_shared(client))
        return false;
    if (at_hand < (size_t)message + 1 && !prepare_is_at_hand(type, bytes, at_hand, message))
        return true;
    return prepare_must_wait(client, type, bytes, at_hand, message);
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
    if (client->saw_copy) /* what follows it would be taken for its data */
        client->must_restore_again = true;
    else
        settle_restore(client, client->server, INJECTION_RESTORE);
    client->saw_copy = false;
}

/* Execute, Sync, Flush, and what concerns a portal alone: no text is in them, and no statement's name. */
static bool is_plain(const uint8_t *bytes, size_t length)
{
    switch (bytes[0]) {
    case 'E':
    case 'S':
    case 'H':
        return true;
    case 'D':
    case 'C':
        return length > HEADER_BYTES && bytes[HEADER_BYTES] == 'P';
    default:
        return false;
    }
}

/* Those of a batch that has begun, as far as they are there in whole: more than half of the extended protocol's messages.
 * They ask for nothing but to be remembered: what note_message() and prepare_translate() do for these types stands here too.  Returns
 * where something else begins. */
static size_t note_plain(struct client *client, const uint8_t *bytes, size_t at, size_t length)
{
    struct server *server = client->server;
    if (!server || server->outstanding.count == 0 || server->must_settle_first ||
        server->outstanding.is_skipping || server->outstanding.is_copying_in ||
        client->is_skipping || client->has_private_names || client->has_unbound_parse ||
        client->saw_reset || !settle_is_shared(client) ||
        stream_backlog(&server->stream) >= QUEUED_MAX)
        return at;
    while (length - at >= HEADER_BYTES && is_plain(bytes + at, length - at) &&
           server->outstanding.count < OUTSTANDING_MAX) {
        uint8_t type = bytes[at];
        uint32_t message = read_u32(bytes + at + 1);
        if (!is_valid(type, message) || length - at <= message)
            break;
        if (type == 'S')
            client->has_set_unnamed = false;
        client->last_type = type;
        client->is_discarding = false;
        client->text_phase = TEXT_NONE;
        server->has_settled_first = false;
        outstanding_sent(&server->outstanding, type);
        at += (size_t)message + 1;
    }
    return at;
}

size_t relay_from_client(struct client *client, const uint8_t *bytes, size_t length)
{
    size_t at = 0;
    size_t run = 0; /* from here on nothing has been forwarded yet */
    bool has_ended = false;
    while (at < length) {
        if (client->message_left > 0) {
            size_t piece = length - at;
            if (piece > client->message_left)
                piece = client->message_left;
            if (client->text_phase != TEXT_NONE && !client->is_discarding)
                feed_text(client, bytes + at, piece);
            at += piece;
            client->message_left -= (uint32_t)piece;
            has_ended |= client->message_left == 0;
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
        if (is_plain(bytes + at, length - at)) {
            size_t next = note_plain(client, bytes, at, length);
            if (next > at) {
                at = next;
                continue;
            }
        }
        if (client->server && (client->server->outstanding.count >= OUTSTANDING_MAX ||
                               stream_backlog(&client->server->stream) >= QUEUED_MAX))
            break;
        uint8_t type = bytes[at];
        uint32_t message = read_u32(bytes + at + 1);
        bool is_sound = is_valid(type, message);
        if (must_wait(client, is_sound, type, bytes + at, length - at, message)) {
            if (!client->server && held_wants_backend(client, length - at))
                (void)judge_message(client, type);
            break;
        }
        if (type == 'Q' || type == 'P')
            keep_query(client, type, bytes + at + HEADER_BYTES, length - at - HEADER_BYTES,
                       message);
        if (type == 'X' || !is_sound) { /* the last thing that is read, and its turn comes last */
            forward_to_server(client, bytes + run, at - run);
            run = at;
            client->has_terminated = type == 'X' && is_sound;
            if (client->server && outstanding_ends_by_itself(&client->server->outstanding))
                return at;
        }
        if (!is_sound) {
            refuse_message(client, type, message);
            return length;
        }
        enum verdict verdict = judge_message(client, type);
        if (verdict == VERDICT_END)
            return length;
        if (verdict == VERDICT_WAIT)
            return at;
        if (verdict == VERDICT_FORWARD && client->server->must_settle_first) { /* just linked */
            stream_flush(&client->server->stream);
            return at;
        }
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
    if (has_ended && client->server && client->server->outstanding.count == 0)
        relay_message_ended(client->server);
    return at;
}

bool relay_awaits_more(const struct client *client)
{
    return client->state == CLIENT_LINKED &&
           (client->message_left > 0 || buffer_length(&client->held) > 0 ||
            (client->last_type != 'Q' && client->last_type != 'S'));
}
