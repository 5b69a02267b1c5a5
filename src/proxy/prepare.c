/*
 * prepare.c - protocol-level prepared statements over shared backends (contract 5).
 *
 * The names in Parse, Bind, Describe and Close are a client's own; a backend knows the statements by ours.  So those four
 * messages get another head on their way, and the rest of them passes through.  A Parse always goes to the server, which
 * says what it would say on the client's own connection: a statement that is there already is closed first,
 * or, where that might close a portal, prepared under another name.  A Bind or Describe on a backend that lacks the
 * statement has a Parse of ours before it.  A Close closes nothing: others use the statement.
 *
 * What no name is known for passes as it is; so does everything in session mode.  A text too long to be kept ties the
 * client to its backend, as in relay.c.
 */
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "proto/build.h"
#include "proxy/client_query.h"
#include "proxy/events.h"
#include "proxy/prepare_inside.h"
#include "proxy/settle.h"

#define STATEMENT_MAX      32768u /* longer Query and Parse messages are not waited for, nor shared */
#define NAMES_MAX          16384u       /* longer names are not looked at */
#define CLIENT_NAMES_MAX   10000u       /* names of one client; more tie it to its backend */
#define CLIENT_TEXTS_MAX   (8u << 20)   /* bytes of their texts, likewise */
#define ALL_STATEMENTS_MAX (256u << 20) /* bytes of all clients' texts and names, likewise */
/* Bytes of statements on their way, for a server keeps its short answers back until it has 8 kB of them: thousands of
 * statements. */
#define UNNAMED_UNANSWERED_MAX (1u << 20)
#define NAMED_UNANSWERED_MAX   (4u << 20)

/* Where the names of a message stand. */
struct head {
    const char *portal; /* of Bind */
    const char *name;
    size_t portal_length;
    size_t name_length;
    size_t end; /* behind the names, from the message's first byte */
};

static bool read_name(const uint8_t *bytes, size_t length, size_t *at, const char **name,
                      size_t *name_length)
{
    if (*at >= length)
        return false;
    const uint8_t *end =
        bytes[*at] == 0 ? bytes + *at : memchr(bytes + *at, 0, length - *at); /* most have none */
    if (!end)
        return false;
    *name = (const char *)bytes + *at;
    *name_length = (size_t)(end - bytes) - *at;
    *at = (size_t)(end - bytes) + 1;
    return true;
}

static bool read_head(uint8_t type, const uint8_t *bytes, size_t length, struct head *head)
{
    size_t at = PREPARE_HEADER_BYTES;
    *head = (struct head){.portal = ""};
    if (type == 'B' && !read_name(bytes, length, &at, &head->portal, &head->portal_length))
        return false;
    if (type == 'D' || type == 'C')
        at++; /* S or P */
    if (!read_name(bytes, length, &at, &head->name, &head->name_length))
        return false;
    head->end = at;
    return true;
}

/* Describe and Close name a statement when they say S. */
static bool is_of_portal(uint8_t type, const uint8_t *bytes, size_t at_hand)
{
    return (type == 'D' || type == 'C') && at_hand > PREPARE_HEADER_BYTES &&
           bytes[PREPARE_HEADER_BYTES] != 'S';
}

/* How much of the message, its type and length included, is there. */
static size_t part_at_hand(size_t at_hand, uint32_t message)
{
    return at_hand > (size_t)message + 1 ? (size_t)message + 1 : at_hand;
}

bool prepare_is_at_hand(uint8_t type, const uint8_t *bytes, size_t at_hand, uint32_t message)
{
    struct head head;
    bool is_long = (size_t)message + 1 > STATEMENT_MAX;
    switch (type) {
    case 'Q':
        return is_long;
    case 'P':
        return is_long && (at_hand >= NAMES_MAX || read_head(type, bytes, at_hand, &head));
    case 'B':
    case 'D':
    case 'C':
        return at_hand >= NAMES_MAX || read_head(type, bytes, at_hand, &head);
    default:
        return true;
    }
}

/* ---- what goes to the server ---- */

void prepare_queue_parse(struct server *server, const char *name, const void *body, size_t length)
{
    struct buffer message = {0};
    size_t mark = build_begin(&message, 'P');
    build_text(&message, name);
    buffer_append(&message, body, length);
    build_end(&message, mark);
    stats_server_parse(server);
    stream_queue_buffer(&server->stream, &message);
}

void prepare_queue_close(struct server *server, const char *name)
{
    struct buffer message = {0};
    build_close(&message, 'S', name);
    stream_queue_buffer(&server->stream, &message);
}

/* A name under which nothing is ever left: closing it does nothing, and is answered. */
void prepare_no_name(const struct client *client, char name[STATEMENT_NAME_BYTES])
{
    snprintf(name, STATEMENT_NAME_BYTES, "%snone", client->proxy->statements.prefix);
}

/* Room for one more: the least recently used one goes, while nothing can be using it. */
static void evict(struct client *client, struct server *server)
{
    int most = client->pool->config->max_prepared_statements;
    if (server->status != 'I' || !outstanding_is_empty(&server->outstanding))
        return;
    while (server->statements.count > 0 && server->statements.count >= most) {
        struct statement *oldest = backend_statement_oldest(&server->statements);
        prepare_queue_close(server, oldest->name);
        outstanding_sent_as(&server->outstanding, OUTSTANDING_INJECTED_CLOSE);
        expect_answer(&server->statements, EXPECT_EVICTION, oldest, NULL, 0);
        backend_statement_remove(prepare_table(client), &server->statements, oldest);
    }
}

/* Whether the statement's Parse is on its way in an earlier batch, which an error may skip. */
static bool is_unsure(const struct server *server, const struct statement *statement)
{
    return outstanding_has_sync(&server->outstanding) &&
           expected_decides_statement(&server->statements, statement);
}

void prepare_queue_sync(struct server *server)
{
    static const uint8_t sync_message[] = {'S', 0, 0, 0, 4};
    stream_queue(&server->stream, sync_message, sizeof(sync_message));
    outstanding_injected(&server->outstanding, INJECTION_CLEAN);
}

void prepare_trim(struct client *client, struct server *server)
{
    if (server->statements.count <= client->pool->config->max_prepared_statements)
        return;
    evict(client, server);
    if (server->outstanding.is_open)
        prepare_queue_sync(server);
}

/* Nothing may stand in the way of a Parse: what an error has skipped is not always known in time. */
static void clear_name(struct server *server, const struct statement *statement)
{
    prepare_queue_close(server, statement->name);
    outstanding_sent_as(&server->outstanding, OUTSTANDING_UNTRACKED_CLOSE);
}

/* A text means what it does by the settings that are in force when it is parsed (a date's order, search_path).  These are told
 * by `settings`, but for what the transaction has set, SET LOCAL before all, and what ties a client: temporary tables hide others.
 * Nobody else may meet what is parsed then. */
static bool reads_its_own_way(const struct client *client)
{
    return client->has_set || ((client->pins | client->asks) &
                               (PIN_BIT(PIN_SETTING) | PIN_BIT(PIN_TEMP) | PIN_BIT(PIN_ROLE)));
}

/* The client's name stands for a statement that nobody else has. */
static struct statement *make_own(struct client *client, const struct head *head,
                                  const struct statement *statement)
{
    struct statement_table *table = prepare_table(client);
    struct statement *own = statement_own(table, statement->body, statement->length);
    own->signs = statement->signs;
    client_statement_remove(table, &client->statements, head->name, head->name_length);
    client_statement_add(table, &client->statements, head->name, head->name_length, own);
    statement_drop(table, own); /* the map has its own reference */
    return own;
}

/* Sees to it that the backend has the statement, or one of the client's own in its place.  Returns which. */
static struct statement *provide(struct client *client, struct server *server,
                                 const struct head *head, struct statement *statement)
{
    const struct statement_table *table = prepare_table(client);
    const struct backend_statement *there = backend_statement_use(&server->statements, statement);
    if (there && backend_statement_is_fresh(there, table) && !is_unsure(server, statement))
        return statement;
    if (!statement->is_own && reads_its_own_way(client)) {
        statement = make_own(client, head, statement);
        there = NULL;
    }
    if (!there)
        evict(client, server);
    clear_name(server, statement);
    prepare_queue_parse(server, statement->name, statement->body, statement->length);
    outstanding_sent_as(&server->outstanding, OUTSTANDING_INJECTED_PARSE);
    expect_answer(&server->statements, EXPECT_PARSE, statement, NULL, 0);
    backend_statement_add(table, &server->statements, statement);
    return statement;
}

/* The unnamed statement that is there may be another client's: this one's own takes its place, or none. */
static void provide_unnamed(struct client *client, struct server *server)
{
    const struct unnamed *own = unnamed_current(&client->statements);
    client->has_own_unnamed = true;
    client->provided++;
    outstanding_sent_as(&server->outstanding, OUTSTANDING_PROVIDED_UNNAMED);
    if (!own) {
        prepare_queue_close(server, "");
        return;
    }
    prepare_queue_parse(server, "", own->body, own->length);
    settle_note_signs(client, own->signs, (const char *)own->body, strlen((const char *)own->body));
}

/* A Parse of the unnamed statement passes: it is kept, for a Bind may come in another transaction. */
static void keep_unnamed(struct client *client, const uint8_t *bytes, size_t at_hand,
                         uint32_t message, uint32_t signs)
{
    bool was_there = client->has_own_unnamed;
    client->has_own_unnamed = true;
    client->has_set_unnamed = true;
    client->has_unbound_parse =
        at_hand < (size_t)message + 1 || client->statements.pending_bytes >= UNNAMED_UNANSWERED_MAX;
    if (client->has_unbound_parse)
        unnamed_sent(&client->statements, NULL, 0, 0, was_there);
    else
        unnamed_sent(&client->statements, bytes + PREPARE_HEADER_BYTES + 1,
                     at_hand - PREPARE_HEADER_BYTES - 1, signs, was_there);
}

/* The message's head with another name; `kind` is Describe's and Close's S. */
static void queue_head(struct server *server, uint8_t type, uint32_t message,
                       const struct head *head, const char *name)
{
    uint8_t start[PREPARE_HEADER_BYTES];
    uint32_t length = message + (uint32_t)strlen(name) - (uint32_t)head->name_length;
    start[0] = type;
    for (int i = 0; i < 4; i++)
        start[1 + i] = (uint8_t)(length >> (24 - 8 * i));
    stream_queue(&server->stream, start, sizeof(start));
    if (type == 'B')
        stream_queue(&server->stream, head->portal, head->portal_length + 1);
    else if (type != 'P')
        stream_queue(&server->stream, "S", 1);
    stream_queue(&server->stream, name, strlen(name) + 1);
}

/* ---- the four messages ---- */

/* A name that the client has already: the server refuses it, under our name for it. */
static void parse_again(struct client *client, struct server *server, uint32_t message,
                        const struct head *head, struct statement *statement)
{
    statement = provide(client, server, head, statement);
    outstanding_sent_as(&server->outstanding, OUTSTANDING_PARSE);
    expect_answer(&server->statements, EXPECT_ERROR, statement, NULL, 0);
    queue_head(server, 'P', message, head, statement->name);
}

/* The client's settings but for its name: what gives literals their meaning is among them. */
static void settings_under(const struct client *client, struct buffer *out)
{
    const char *value;
    if (client->settings->count < 2)
        return;
    for (const char *name = NULL; (name = settings_next(client->settings, name, &value));) {
        if (strcmp(name, "application_name") == 0)
            continue;
        buffer_append(out, name, strlen(name) + 1);
        buffer_append(out, value, strlen(value) + 1);
    }
}

/* The same body under a name that nobody has used. */
static struct statement *renewed(struct statement_table *table, struct statement *statement)
{
    struct statement *other = statement_renew(table, statement);
    statement_drop(table, statement);
    return other;
}

/* What the client's Parse means now; with a reference for the caller. */
static struct statement *statement_of(const struct client *client, const uint8_t *body,
                                      size_t length)
{
    struct buffer under = {0};
    if (reads_its_own_way(client))
        return statement_own(prepare_table(client), body, length);
    settings_under(client, &under);
    struct statement *statement = statement_intern(prepare_table(client), body, length,
                                                   buffer_bytes(&under), buffer_length(&under));
    buffer_free(&under);
    return statement;
}

static void parse_new(struct client *client, struct server *server, uint32_t message,
                      uint32_t signs, const struct head *head, const uint8_t *body, size_t length)
{
    struct statement_table *table = prepare_table(client);
    struct statement *statement = statement_of(client, body, length);
    if (statement->references > 1 &&
        client_statement_name(&client->statements, statement->name, strlen(statement->name)))
        statement = renewed(table, statement); /* two names of one client are two statements */
    if (!backend_statement_use(&server->statements, statement))
        evict(client, server);
    else if (server->status != 'I' || !outstanding_is_empty(&server->outstanding))
        statement = renewed(table, statement);
    clear_name(server, statement);
    statement->signs = signs;
    statement->wanted = ++table->last_parse;
    outstanding_sent_as(&server->outstanding, OUTSTANDING_PARSE);
    expect_answer(&server->statements, EXPECT_CLIENT_PARSE, statement, head->name,
                  head->name_length);
    backend_statement_add(table, &server->statements, statement);
    client_statement_add(table, &client->statements, head->name, head->name_length, statement);
    queue_head(server, 'P', message, head, statement->name);
    statement_drop(table, statement); /* the maps have their own references */
}

void prepare_carry(struct client *client, const char *name, size_t name_length, const uint8_t *body,
                   size_t length, const uint8_t *under, size_t under_length, uint32_t signs)
{
    struct statement_table *table = prepare_table(client);
    if (client_statement_find(&client->statements, name, name_length))
        return;
    struct statement *statement = statement_intern(table, body, length, under, under_length);
    if (statement->references > 1 &&
        client_statement_name(&client->statements, statement->name, strlen(statement->name)))
        statement = renewed(table, statement);
    statement->signs = signs;
    client_statement_add(table, &client->statements, name, name_length, statement);
    statement_drop(table, statement);
}

/* One client's bound times all clients is too much. */
static bool no_more_are_kept(struct client *client)
{
    if (prepare_table(client)->bytes < ALL_STATEMENTS_MAX)
        return false;
    log_client(
        LOG_LEVEL_WARNING, client, "a client keeps its connection",
        LOG_FIELD_TEXT("reason", "all clients' prepared statements together take more than 256 MB"),
        LOG_FIELD_TEXT("hint",
                       "have drivers keep fewer of them, and close those that are used once"));
    return true;
}

static struct prepared_head translate_parse(struct client *client, struct server *server,
                                            const uint8_t *bytes, size_t at_hand, uint32_t message,
                                            uint32_t signs, const uint8_t *before,
                                            size_t before_length)
{
    struct head head;
    if (!read_head('P', bytes, at_hand, &head)) { /* it is the server's to know */
        settle_pin(client, PIN_BIT(PIN_STATEMENTS));
        return prepare_passes();
    }
    if (head.name_length == 0)
        return prepare_passes();
    struct statement *known =
        client_statement_find(&client->statements, head.name, head.name_length);
    if (!known &&
        (at_hand < (size_t)message + 1 || message > STATEMENT_MAX ||
         client->pool->config->max_prepared_statements == 0 ||
         HASH_COUNT(client->statements.by_name) >= CLIENT_NAMES_MAX ||
         client->statements.bytes >= CLIENT_TEXTS_MAX ||
         server->statements.parse_bytes >= NAMED_UNANSWERED_MAX || no_more_are_kept(client))) {
        settle_pin(client, PIN_BIT(PIN_STATEMENTS));
        return prepare_passes();
    }
    stream_queue(&server->stream, before, before_length);
    if (!known &&
        ((client->pins | client->asks) & (PIN_BIT(PIN_PREPARE) | PIN_BIT(PIN_STATEMENTS))))
        prepare_queue_probe(client, head.name);
    if (known)
        parse_again(client, server, message, &head, known);
    else
        parse_new(client, server, message, signs, &head, bytes + head.end, at_hand - head.end);
    return (struct prepared_head){.taken = head.end, .is_changed = true, .is_recorded = true};
}

/* Bind, and Describe of a statement. */
static struct prepared_head translate_use(struct client *client, struct server *server,
                                          uint8_t type, const uint8_t *bytes, size_t at_hand,
                                          uint32_t message, const uint8_t *before,
                                          size_t before_length)
{
    struct head head;
    if (is_of_portal(type, bytes, at_hand) || !read_head(type, bytes, at_hand, &head))
        return prepare_passes();
    if (head.name_length == 0) {
        const struct unnamed *own = unnamed_current(&client->statements);
        if (type == 'B' && own && !client->has_set_unnamed) { /* run again, from an earlier batch */
            size_t length = strlen((const char *)own->body);
            settle_note_signs(client, own->signs, (const char *)own->body, length);
            client_query_keep(client, own->body, length);
        } else if (type == 'B' && (client->pins & PIN_BIT(PIN_STATEMENTS))) { /* it was not kept */
            settle_note_executed(client);
        }
        if (type == 'B' && own && (own->signs & SQL_SIGN_DEALLOCATE) &&
            prepare_bind_deallocate(client, own, before, before_length))
            return (struct prepared_head){.is_changed = true};
        bool may_be_skipped = client->provided > 0 && outstanding_has_sync(&server->outstanding);
        if (client->has_own_unnamed && !may_be_skipped)
            return prepare_passes();
        stream_queue(&server->stream, before, before_length);
        provide_unnamed(client, server);
        return (struct prepared_head){.is_changed = true};
    }
    struct statement *statement =
        client_statement_find(&client->statements, head.name, head.name_length);
    if (!statement) {
        if (type == 'B')
            settle_note_executed(client);
        return prepare_passes();
    }
    stream_queue(&server->stream, before, before_length);
    statement = provide(client, server, &head, statement);
    queue_head(server, type, message, &head, statement->name);
    if (type == 'B') {
        settle_note_signs(client, statement->signs, (const char *)statement->body,
                          strlen((const char *)statement->body));
        client_query_bound(client, statement);
    }
    return (struct prepared_head){.taken = head.end, .is_changed = true};
}

/* The same of a client whose backend has its statements under its own names: nothing is translated. */
static struct prepared_head pass_private(struct client *client, uint8_t type, const uint8_t *bytes,
                                         size_t at_hand)
{
    struct head head;
    if (type == 'B')
        settle_note_executed(client);
    if (type == 'B' && read_head(type, bytes, at_hand, &head)) {
        struct statement *statement =
            client_statement_find(&client->statements, head.name, head.name_length);
        if (statement)
            client_query_bound(client, statement);
    }
    return prepare_passes();
}

const char *prepare_bound_text(const struct client *client, const uint8_t *bytes, size_t length)
{
    struct head head;
    if (length == 0 || bytes[0] != 'B' || !read_head('B', bytes, length, &head))
        return NULL;
    if (head.name_length == 0) {
        const struct unnamed *own = unnamed_current(&client->statements);
        return own ? (const char *)own->body : NULL;
    }
    const struct statement *statement =
        client_statement_find(&client->statements, head.name, head.name_length);
    return statement ? (const char *)statement->body : NULL;
}

static struct prepared_head translate_close(struct client *client, struct server *server,
                                            const uint8_t *bytes, size_t at_hand, uint32_t message,
                                            const uint8_t *before, size_t before_length)
{
    struct head head;
    char none[STATEMENT_NAME_BYTES];
    if (is_of_portal('C', bytes, at_hand) || !read_head('C', bytes, at_hand, &head))
        return prepare_passes();
    if (head.name_length == 0) {
        unnamed_sent(&client->statements, NULL, 0, 0, client->has_own_unnamed);
        outstanding_sent_as(&server->outstanding, OUTSTANDING_UNNAMED_CLOSE);
        client->has_own_unnamed = true;
        client->has_set_unnamed = true;
        return (struct prepared_head){.is_recorded = true};
    }
    struct statement *statement =
        client_statement_find(&client->statements, head.name, head.name_length);
    if (!statement)
        return prepare_passes();
    stream_queue(&server->stream, before, before_length);
    outstanding_sent_as(&server->outstanding, OUTSTANDING_CLOSE);
    expect_answer(&server->statements, EXPECT_CLIENT_CLOSE, statement, head.name, head.name_length);
    prepare_no_name(client, none);
    bool is_crowded = server->statements.count > client->pool->config->max_prepared_statements;
    queue_head(server, 'C', message, &head, is_crowded ? statement->name : none);
    if (is_crowded) /* as when a transaction prepares without end */
        backend_statement_remove(prepare_table(client), &server->statements, statement);
    client_statement_remove(prepare_table(client), &client->statements, head.name,
                            head.name_length);
    return (struct prepared_head){.taken = head.end, .is_changed = true, .is_recorded = true};
}

struct prepared_head prepare_translate(struct client *client, uint8_t type, const uint8_t *bytes,
                                       size_t at_hand, uint32_t message, uint32_t signs,
                                       const uint8_t *before, size_t before_length)
{
    struct server *server = client->server;
    at_hand = part_at_hand(at_hand, message);
    if (type == 'S') { /* the batch ends here, skipped or not */
        client->has_set_unnamed = false;
        settle_pin(client, client->has_unbound_parse ? PIN_BIT(PIN_STATEMENTS) : 0);
    }
    if (server->outstanding.is_skipping || server->outstanding.is_copying_in)
        return prepare_passes(); /* the server will not look at it */
    if (client->has_private_names)
        return pass_private(client, type, bytes, at_hand);
    if (type == 'B' || type == 'Q')
        client->has_unbound_parse = false;
    switch (type) {
    case 'Q': /* it drops the unnamed statement */
        client->has_own_unnamed = true;
        unnamed_dropped(&client->statements);
        if (!(signs & SQL_SIGN_DEALLOCATE))
            return prepare_passes();
        return prepare_query_deallocate(client, bytes, at_hand, message, before, before_length);
    case 'P':
        if (at_hand > PREPARE_HEADER_BYTES && bytes[PREPARE_HEADER_BYTES] == 0) {
            keep_unnamed(client, bytes, at_hand, message, signs);
            outstanding_sent_as(&server->outstanding, OUTSTANDING_UNNAMED_PARSE);
            return (struct prepared_head){.is_recorded = true};
        }
        return translate_parse(client, server, bytes, at_hand, message, signs, before,
                               before_length);
    case 'B':
    case 'D':
        return translate_use(client, server, type, bytes, at_hand, message, before, before_length);
    case 'C':
        return translate_close(client, server, bytes, at_hand, message, before, before_length);
    default:
        return prepare_passes();
    }
}

/* More statements are on their way than are kept, and a Sync among them has the server answer: that is waited for.  Without
 * one it may not answer, and what comes then is not kept. */
static bool awaits_too_many(const struct client *client, const struct server *server)
{
    return outstanding_has_sync(&server->outstanding) &&
           (client->statements.pending_bytes >= UNNAMED_UNANSWERED_MAX ||
            server->statements.parse_bytes >= NAMED_UNANSWERED_MAX);
}

/* A name whose fate is not known yet (prepared again behind a Sync, or used where a Close of it may have been skipped): the
 * server decides first. */
bool prepare_must_wait(const struct client *client, uint8_t type, const uint8_t *bytes,
                       size_t at_hand, uint32_t message)
{
    struct head head;
    const struct server *server = client->server;
    if (!server || (type != 'P' && type != 'B' && type != 'D' && type != 'C'))
        return false;
    if (server->outstanding.is_confused)
        return false; /* the answer that would decide may have come, or may never come */
    bool has_expected = !TAILQ_EMPTY(&server->statements.expected);
    bool has_pending = !TAILQ_EMPTY(&client->statements.pending);
    if (!has_expected && !has_pending)
        return false;
    if (type == 'P' && awaits_too_many(client, server))
        return true;
    if (!has_expected && (type == 'P' || client->has_set_unnamed))
        return false; /* of the unnamed one this batch knows */
    if (is_of_portal(type, bytes, at_hand) ||
        !read_head(type, bytes, part_at_hand(at_hand, message), &head))
        return false;
    if (head.name_length == 0)
        return type != 'P' && !client->has_set_unnamed && has_pending;
    return outstanding_has_sync(&server->outstanding) &&
           expected_decides(&server->statements, head.name, head.name_length, type != 'P');
}
